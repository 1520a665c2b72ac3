/* Streams whose ids their vocabulary has not: an error that says where, and nothing of them is written. */
#include "tap.h"

#include "base/rng.h"
#include "text_bytepair.h"
#include "token/corpus.h"
#include "token/stream.h"

#include <stdbool.h>
#include <unistd.h>

static struct bytepair b;

/* A stream that says that its vocabulary has 1,000 ids more than the one it carries. */
static bool stream(const char *path, const struct dlm_vocab *v, const uint32_t *ids, size_t n)
{
    struct dlm_stream_info info = dlm_stream_info_of(v);
    struct dlm_stream_writer *w = NULL;
    struct dlm_error err;
    FILE *f = fopen(path, "wb");
    info.vocab_size += 1000;
    bool good = f && !dlm_stream_writer_new(&w, f, path, &info, 3, 1, 1000, &err) && !dlm_stream_write(w, ids, n, &err) && !dlm_stream_finish(w, &err);
    dlm_stream_writer_free(w);
    return f && !fclose(f) && good;
}

static void unknown(size_t at, uint32_t id, bool known)
{
    enum { N = 200000 };
    static uint32_t ids[N];
    static char path[] = "/tmp/dlm-text-decode-XXXXXX";
    struct dlm_vocab *v = bytepair_vocab(&b, NULL, false);
    struct dlm_stream_reader *r = NULL;
    struct dlm_error err = {{0}};
    char *text = NULL, want[300];
    size_t len = 0;
    int fd = mkstemp(path);
    for (size_t i = 0; i < N; i++)
        ids[i] = 4 + (uint32_t)(i % 256);
    ids[at] = id;
    FILE *to = open_memstream(&text, &len);
    bool good = fd >= 0 && stream(path, v, ids, N) && to && !dlm_stream_reader_open(&r, path, &err);
    int rc = good ? dlm_corpus_decode(r, v, -1, to, "x", &err) : 0;
    if (to)
        fclose(to);
    snprintf(want, sizeof want, "'%s' has the id %u at token %zu, which its vocabulary of %u has not", path, id, at, dlm_vocab_size(v));
    bool same = good && len <= N;
    for (size_t i = 0; i < len && same; i++)
        same = (uint8_t)text[i] == ids[i] - 4;
    if (known)
        tap_ok(good && !rc && len == N && same, "the last id of a vocabulary is one of its own");
    else
        tap_ok(good && rc == DLM_EDATA && !strcmp(err.msg, want) && same && len <= at, "the id %u at token %zu is none: %s", id, at, err.msg);
    uint64_t bytes;
    dlm_stream_reader_close(r);
    r = NULL;
    good = good && !dlm_stream_reader_open(&r, path, &err);
    rc = good ? dlm_corpus_measure(r, v, &bytes, &err) : 0;
    tap_ok(good && (known ? !rc && bytes == N : rc == DLM_EDATA && !strcmp(err.msg, want)), "counting its bytes says the same");
    dlm_stream_reader_close(r);
    free(text);
    dlm_vocab_free(v);
    close(fd);
    unlink(path);
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
}

int main(void)
{
    bytepair_bytes(&b);
    uint32_t size = 260;
    unknown(0, size, false);
    unknown(123456, size + 5, false);
    unknown(199999, size + 999, false);
    unknown(777, size - 1, true);
    return tap_end();
}
