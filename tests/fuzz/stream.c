/* Token streams, read in order and by index. */
#include "ranks_seed.h"
#include "token/stream.h"

static void one(const uint8_t *bytes, size_t n)
{
    const char *path = as_file(bytes, n);
    uint32_t ids[500];
    struct dlm_error err = {{0}};
    struct dlm_stream_reader *r;
    int rc = dlm_stream_reader_open(&r, path, &err);
    must_say(rc, &err);
    for (size_t got = 1; !rc && got;)
        rc = dlm_stream_read(r, ids, 500, &got, &err);
    must_say(rc, &err);
    dlm_stream_reader_close(r);
    struct dlm_stream_index *x;
    rc = dlm_stream_index_open(&x, path, &err);
    must_say(rc, &err);
    if (rc)
        return;
    for (uint64_t id = 0; id < dlm_stream_index_totals(x).tokens;) {
        uint64_t first;
        size_t many;
        uint64_t frame = dlm_stream_index_find(x, id, &first, &many);
        uint32_t *all = malloc(many * sizeof *all);
        if (all)
            must_say(dlm_stream_index_read(x, frame, all, &err), &err);
        free(all);
        id = first + many;
    }
    dlm_stream_index_close(x);
}

static uint8_t *seeds(int i, size_t *n)
{
    struct dlm_error err;
    if (i > 2)
        return NULL;
    struct dlm_vocab *v = small_vocab();
    struct dlm_stream_info info = dlm_stream_info_of(v);
    char *b = NULL;
    FILE *f = open_memstream(&b, n);
    struct dlm_stream_writer *w;
    uint32_t ids[300];
    for (uint32_t k = 0; k < 300; k++)
        ids[k] = k * 7919 % info.vocab_size;
    if (i == 2) { /* a shard */
        info.json = NULL;
        info.json_len = 0;
        info.seq_len = 10;
        info.split = 1;
    }
    if (!f || dlm_stream_writer_new(&w, f, "seed", &info, 3, 1, i ? 50 : 0, &err) || dlm_stream_write(w, ids, i == 1 ? 0 : 300, &err) ||
        dlm_stream_finish(w, &err))
        exit(2);
    dlm_stream_writer_free(w);
    fclose(f);
    dlm_vocab_free(v);
    return (uint8_t *)b;
}
