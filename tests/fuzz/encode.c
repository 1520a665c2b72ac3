/* Text through a vocabulary that is as hostile as the text: tokenizer.json (JSON), a NUL, the text. What is encoded comes back. */
#include "text/encode.h"
#include "text/vocab_body.h"
#include "tokenizer_seeds.h"

static void one(const uint8_t *bytes, size_t n)
{
    const uint8_t *nul = memchr(bytes, 0, n), *text = nul ? nul + 1 : bytes + n;
    size_t n_text = (size_t)(bytes + n - text), at = 0;
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    int rc = dlm_vocab_parse(&v, bytes, nul ? (size_t)(nul - bytes) : n, "input", &err);
    must_say(rc, &err);
    for (int special = 0; special < 2 && !rc; special++) {
        struct dlm_encoder *e = NULL;
        struct dlm_ids ids = {0};
        must_say(rc = dlm_encoder_new(&e, v, special, &err), &err);
        if (rc)
            break;
        must_say(rc = dlm_encoder_run(e, text, n_text, &ids, &err), &err);
        bool same = !special && !dlm_split_normalizes(v->split) && !v->n_before && !v->n_after;
        at = 0;
        for (size_t i = 0; i < ids.n && !rc && same; i++) {
            size_t len;
            const uint8_t *piece = dlm_vocab_bytes(v, ids.at[i], &len);
            if (len > n_text - at || memcmp(text + at, piece, len))
                abort();
            at += len;
        }
        if (!rc && same && at != n_text)
            abort();
        free(ids.at);
        dlm_encoder_free(e);
    }
    dlm_vocab_free(v);
}

static uint8_t *seeds(int i, size_t *n)
{
    static const char text[] = "ab aab  <s>ba1 12\n\xc3\xa9\xff" "abababababababababababababababababababababababaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    uint8_t *b = tokenizer_seed(i, n), *both = b ? malloc(*n + 1 + sizeof text) : NULL;
    if (both) {
        memcpy(both, b, *n);
        both[*n] = 0;
        memcpy(both + *n + 1, text, sizeof text - 1);
        *n += sizeof text;
    }
    free(b);
    return both;
}
