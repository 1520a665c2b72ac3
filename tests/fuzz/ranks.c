/* tiktoken rank files. */
#include "ranks_seed.h"

static void one(const uint8_t *bytes, size_t n)
{
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    must_say(dlm_vocab_load_ranks(&v, as_file(bytes, n), dlm_split_pattern("gpt2"), &err), &err);
    dlm_vocab_free(v);
}

static uint8_t *seeds(int i, size_t *n)
{
    return i == 0 ? ranks_seed(n) : i == 1 ? text_seed("YQ== 0\nYg== 1\nYWI= 2\n", n) : NULL;
}
