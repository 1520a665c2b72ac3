/* tokenizer.json; what is accepted is completed, too. */
#include "ranks_seed.h"

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
    if (i == 1)
        return text_seed("{\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", n);
    if (i)
        return NULL;
    struct dlm_vocab *v = small_vocab();
    const char *json = dlm_vocab_json(v, n);
    uint8_t *b = malloc(*n);
    if (b)
        memcpy(b, json, *n);
    dlm_vocab_free(v);
    return b;
}
