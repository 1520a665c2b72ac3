/* Megatron's indexes, over data of a few ids. */
#include "fuzz.h"
#include "token/foreign.h"

static char prefix[64], path[80];

static void clean(void)
{
    snprintf(path, sizeof path, "%s.bin", prefix);
    unlink(path);
}

static void one(const uint8_t *bytes, size_t n)
{
    if (!prefix[0]) {
        snprintf(prefix, sizeof prefix, "/tmp/dlm-fuzz-megatron-%d", (int)getpid());
        snprintf(path, sizeof path, "%s.bin", prefix);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite("\5\0\6\0\1\0\7\0\1\0", 1, 10, f) != 10 || fclose(f))
            exit(2);
        atexit(clean);
        snprintf(path, sizeof path, "%s.idx", prefix);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
        exit(2);
    struct dlm_foreign_reader *r;
    struct dlm_error err = {{0}};
    uint32_t ids[3];
    int rc = dlm_foreign_reader_open(&r, DLM_FOREIGN_MEGATRON, prefix, 10, 1, &err);
    must_say(rc, &err);
    for (size_t got = 1; !rc && got;)
        rc = dlm_foreign_read(r, ids, 3, &got, &err);
    must_say(rc, &err);
    dlm_foreign_reader_close(r);
    unlink(path);
}

static uint8_t *seeds(int i, size_t *n)
{
    if (i)
        return NULL;
    static const uint8_t idx[] = "MMIDIDX\0\0\1\0\0\0\0\0\0\0\10\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\3\0\0\0\2\0\0\0"
                                 "\0\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0";
    uint8_t *b = malloc(sizeof idx);
    *n = sizeof idx;
    return b ? memcpy(b, idx, sizeof idx) : NULL;
}
