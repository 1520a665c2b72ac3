/* JSON Lines, plain text and zstd, as documents. */
#include "fuzz.h"
#include "token/document.h"

#include <zstd.h>

static void one(const uint8_t *bytes, size_t n)
{
    static const struct dlm_document_options ways[] = {{.field = "text", .strict = true}, {.by = DLM_BY_BLANK, .part_bytes = 100}, {.by = DLM_BY_NUL}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const char *path = as_file(bytes, n);
        struct dlm_documents *d;
        struct dlm_document_part part;
        struct dlm_error err = {{0}};
        int rc = dlm_documents_open(&d, &path, 1, &ways[i], &err);
        if (rc) {
            must_say(rc, &err);
            continue;
        }
        volatile uint8_t sum = 0;
        while ((rc = dlm_documents_next(d, &part, &err)) > 0)
            for (size_t k = 0; k < part.len; k++)
                sum = (uint8_t)(sum + part.text[k]);
        must_say(rc, &err);
        dlm_documents_close(d);
    }
}

static uint8_t *seeds(int i, size_t *n)
{
    static const char text[] = "{\"text\":\"one\\n\\u00e9\\ud83d\\ude00\",\"id\":1}\n{\"id\":[1,{\"text\":2}],\"text\":\"two\"}\r\n\n{\"text\":\"\"}";
    if (i == 0)
        return text_seed(text, n);
    if (i == 1)
        return text_seed("a line\n\nanother \xf0\x9f\x98\x80\n \t\r\n\nthe last", n);
    if (i > 2)
        return NULL;
    uint8_t *b = malloc(ZSTD_compressBound(sizeof text));
    *n = b ? ZSTD_compress(b, ZSTD_compressBound(sizeof text), text, sizeof text - 1, 3) : 0;
    return b;
}
