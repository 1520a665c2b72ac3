/* Text to train on: a byte for the pattern, one for the size of the vocabulary, the text. Where it is cut and who counts it makes no
 * difference, and what comes of it can be read. */
#include "fuzz.h"

#include "text/split.h"
#include "text/trainer.h"
#include "text/vocab.h"

static char *train(const char *pattern, const uint8_t *text, size_t n, size_t lanes, size_t size)
{
    static const char *const names[] = {"<|begin_of_text|>", "<|end_of_text|>", "ab", "aba"};
    struct dlm_trainer *t = NULL;
    struct dlm_trained made = {0};
    struct dlm_error err = {{0}};
    int rc = dlm_trainer_new(&t, pattern, lanes, &err);
    for (size_t at = 0, lane = 0, end; at < n && !rc; at = end, lane = (lane + 1) % lanes) {
        end = lanes > 1 ? dlm_split_cut(text, at, at + 50 < n ? at + 50 : n) : n;
        end = end ? end : n;
        rc = dlm_trainer_count(t, lane, text + at, end - at, end < n, &err);
    }
    rc = rc ? rc : dlm_trainer_finish(t, names, 4, size, 1, NULL, NULL, &made, &err);
    must_say(rc, &err);
    dlm_trainer_free(t);
    return rc ? NULL : made.json;
}

static void one(const uint8_t *bytes, size_t n)
{
    static const char *const patterns[] = {"gpt2", "cl100k", "o200k"};
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    if (n < 3)
        return;
    const char *pattern = dlm_split_pattern(patterns[bytes[0] % 3]);
    size_t size = 260 + 8 * (size_t)bytes[1];
    char *json = train(pattern, bytes + 2, n - 2, 1, size), *again = train(pattern, bytes + 2, n - 2, 3, size);
    if (!json || !again || strcmp(json, again) || dlm_vocab_parse(&v, json, strlen(json), "trained", &err))
        abort();
    dlm_vocab_free(v);
    free(json);
    free(again);
}

static uint8_t *seeds(int i, size_t *n)
{
    static const char *const texts[] = {
        "a~one two three\none two\nthree two one\n\nIt's 12345 d\xc3\xa9j\xc3\xa0 DON'T\r\n\t=[];\n",
        ("b\xff" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab aaaab aab ababababababababa abaababaabaab\nba\xff\xfe\xcc\x81\n"),
        "c~\xe4\xb8\x80\xe4\xb8\x81\xe4\xb8\x80\xe4\xb8\x81   \n\n  \n\nx\n\ny/z//\n'll'LL\n",
    };
    return i < 3 ? text_seed(texts[i], n) : NULL;
}
