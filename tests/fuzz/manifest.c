/* Manifests: what parses prints again as it was. */
#include "fuzz.h"
#include "token/manifest.h"

static void one(const uint8_t *bytes, size_t n)
{
    struct dlm_manifest m = {0};
    struct dlm_error err = {{0}};
    int rc = dlm_manifest_parse(&m, (const char *)bytes, n, "input", &err);
    must_say(rc, &err);
    char *text = NULL;
    size_t len;
    if (!rc && (dlm_manifest_print(&m, &text, &len, &err) || len != n || memcmp(text, bytes, n)))
        abort();
    free(text);
    dlm_manifest_release(&m);
}

static uint8_t *seeds(int i, size_t *n)
{
    return i ? NULL
             : text_seed(DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t160\t10240\t50000\t0123456789abcdef\n"
                                              "train\ttrain-00001.tok.zst\t1\t64\t5\tfedcba9876543210\nval\tval-00000.tok.zst\t2\t128\t0\t0000000000000000\n",
                         n);
}
