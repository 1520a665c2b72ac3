/* Heads of safetensors files, and the tensors they tell of. */
#include "fuzz.h"
#include "model/safetensors.h"

static void one(const uint8_t *bytes, size_t n)
{
    struct dlm_st_file f;
    struct dlm_error err = {{0}};
    int rc = dlm_st_open(&f, as_file(bytes, n), &err);
    must_say(rc, &err);
    if (rc)
        return;
    for (size_t i = 0; i < f.n; i++) {
        uint8_t *to = malloc(f.entries[i].bytes ? f.entries[i].bytes : 1);
        if (to)
            must_say(dlm_st_read(&f, &f.entries[i], to, &err), &err);
        free(to);
    }
    dlm_st_close(&f);
}

static uint8_t *seeds(int i, size_t *n)
{
    static const char *const head[] = {
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}   ", "{}"};
    if (i > 1)
        return NULL;
    size_t len = strlen(head[i]);
    uint8_t *b = calloc(1, 8 + len + 32);
    if (!b)
        exit(2);
    memcpy(b, &(uint64_t){len}, 8);
    memcpy(b + 8, head[i], len);
    *n = 8 + len + (i ? 0 : 32);
    return b;
}
