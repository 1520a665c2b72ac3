/* A rank file of the 256 bytes and a few longer tokens, as a seed and as the way to a small vocabulary. */
#ifndef DLM_TESTS_FUZZ_RANKS_SEED_H
#define DLM_TESTS_FUZZ_RANKS_SEED_H

#include "fuzz.h"
#include "text/ranks.h"
#include "text/split.h"

static uint8_t *ranks_seed(size_t *n)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char *const longer[] = {"dGg=", "dGhl", "IHRoZQ==", "IHQ=", "aGU="};
    char *b = malloc(8192), *p = b;
    for (unsigned i = 0; b && i < 256; i++)
        p += sprintf(p, "%c%c== %u\n", set[i >> 2], set[(i & 3) << 4], i);
    for (unsigned i = 0; b && i < 5; i++)
        p += sprintf(p, "%s %u\n", longer[i], 256 + i);
    *n = (size_t)(p - b);
    return (uint8_t *)b;
}

/* A vocabulary that has every special id. */
__attribute__((unused)) static struct dlm_vocab *small_vocab(void)
{
    struct dlm_vocab *v = NULL;
    struct dlm_error err;
    char told[256];
    size_t n;
    uint8_t *b = ranks_seed(&n);
    if (!b || dlm_vocab_load_ranks(&v, as_file(b, n), dlm_split_pattern("cl100k"), &err) || dlm_vocab_complete(&v, "seed", told, sizeof told, &err))
        exit(2);
    free(b);
    return v;
}

#endif
