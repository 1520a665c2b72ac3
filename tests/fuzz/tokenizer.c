/* tokenizer.json, that is JSON; what is accepted is completed, too. */
#include "tokenizer_seeds.h"

static void one(const uint8_t *bytes, size_t n)
{
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    char told[256];
    int rc = dlm_vocab_parse(&v, bytes, n, "input", &err);
    must_say(rc, &err);
    if (!rc)
        must_say(dlm_vocab_complete(&v, "input", told, sizeof told, &err), &err);
    dlm_vocab_free(v);
}

static uint8_t *seeds(int i, size_t *n)
{
    return tokenizer_seed(i, n);
}
