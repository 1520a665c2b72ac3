/* Whole corpora: a ring of batches between the reader, the pool and the caller. */
#include "token/corpus.h"

#include "base/stop.h"
#include "text/decode.h"
#include "text/encode.h"
#include "token/field.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PART_BYTES = 256 << 10,  /* a longer document comes in parts */
    BATCH_BYTES = 256 << 10, /* of text; a batch is full when it has so much */
    RING = 4,                /* batches a lane: evens out slow ones */
    DECODE_IDS = 64 << 10,
    DECODE_BYTES = 256 << 10,
};

/* A part in a batch; its text is copied, for the reader's window moves on. */
struct part {
    size_t at, len, context;
    bool first, last;
    uint64_t line;
    const char *name;
};

struct batch {
    struct dlm_task task;
    const struct work *work;
    uint8_t *text;
    size_t n_text, cap_text;
    struct part *parts;
    size_t n_parts, cap_parts;
    struct dlm_ids ids;
    size_t *ends;
    size_t n_ends;
    uint64_t bytes;
    uint64_t position; /* of the reader, for progress */
    int rc;            /* of the work */
    struct dlm_error err;
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

static int add_part(struct batch *b, const struct dlm_document_part *p, struct dlm_error *err)
{
    size_t need = b->n_text + p->len + p->context;
    if (need > b->cap_text) {
        size_t cap = need + need / 4 + BATCH_BYTES;
        uint8_t *more = realloc(b->text, cap);
        if (!more)
            return no_memory(err);
        b->text = more;
        b->cap_text = cap;
    }
    if (b->n_parts == b->cap_parts) {
        size_t cap = b->cap_parts ? 2 * b->cap_parts : 64;
        struct part *parts = realloc(b->parts, cap * sizeof *parts);
        if (parts)
            b->parts = parts;
        size_t *ends = realloc(b->ends, cap * sizeof *ends);
        if (ends)
            b->ends = ends;
        if (!parts || !ends)
            return no_memory(err);
        b->cap_parts = cap;
    }
    b->parts[b->n_parts++] = (struct part){b->n_text, p->len, p->context, p->first, p->last, p->line, p->name};
    if (need > b->n_text)
        memcpy(b->text + b->n_text, p->text, p->len + p->context);
    b->n_text = need;
    return 0;
}

/* Fill a batch; *more = false at the end of the text. A batch holds at most BATCH_BYTES / 64 documents, so that empty ones fill it,
 * too. What was read before an error stands in the batch. */
static int fill(struct batch *b, struct dlm_documents *d, bool *more, struct dlm_error *err)
{
    uint64_t total;
    int rc = 0;
    b->n_text = b->n_parts = b->n_ends = b->ids.n = 0;
    b->bytes = 0;
    b->rc = 0;
    *more = true;
    while (!rc && b->n_text < BATCH_BYTES && b->n_parts < BATCH_BYTES / 64) {
        struct dlm_document_part p;
        int got = dlm_documents_next(d, &p, err);
        if (got == 1) {
            rc = add_part(b, &p, err);
        } else {
            *more = false;
            rc = got;
            break;
        }
    }
    b->position = dlm_documents_position(d, &total);
    return rc;
}

/* What is done to a batch in a lane, and with it afterwards in order. */
struct work {
    int (*batch)(const struct work *w, size_t lane, struct batch *b);
    int (*after)(const struct work *w, struct batch *b, struct dlm_error *err);
    struct dlm_trainer *trainer;
    struct dlm_encoder **encoders; /* one a lane */
    struct dlm_field **fields;     /* one a lane, of JSON Lines; else NULL */
    const struct dlm_vocab *vocab;
    bool end_ids;
    dlm_corpus_fn *take;
    void *to;
};

static void run_batch(struct dlm_task *t, int lane)
{
    struct batch *b = (struct batch *)(void *)t; /* its first member */
    b->rc = b->work->batch(b->work, (size_t)lane, b);
}

/* The ring and what its two ends tell each other. Batch k stands in batches[k % n]. */
struct line {
    const struct dlm_corpus *c;
    struct dlm_documents *documents;
    struct batch *batches;
    size_t n;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t filled, taken; /* filled: handed to the pool, too */
    bool ended;             /* none will be filled any more */
    int rc;                 /* of reading, behind the batches that are filled */
    struct dlm_error err;
    atomic_bool quit;       /* the calling thread wants no more */
};

/* The next batch, into the pool; true when there may be another. */
static bool read_batch(struct line *l)
{
    struct batch *b = &l->batches[l->filled % l->n]; /* only this end of the ring changes `filled` */
    bool more;
    int rc = fill(b, l->documents, &more, &l->err);
    if (b->n_parts)
        dlm_pool_submit(l->c->pool, &b->task, false);
    pthread_mutex_lock(&l->lock);
    l->filled += b->n_parts > 0;
    l->rc = rc;
    l->ended = rc || !more;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return !rc && more;
}

static void *read_batches(void *arg)
{
    struct line *l = arg;
    bool more = true;
    while (more) {
        pthread_mutex_lock(&l->lock);
        while (!l->quit && l->filled - l->taken == l->n)
            pthread_cond_wait(&l->changed, &l->lock);
        bool quit = l->quit;
        pthread_mutex_unlock(&l->lock);
        more = !quit && read_batch(l);
    }
    return NULL;
}

/* The next batch in order when it is there, or NULL when there is none to come. */
static struct batch *next_batch(struct line *l, bool alone)
{
    if (alone && !l->ended && l->filled == l->taken)
        read_batch(l);
    pthread_mutex_lock(&l->lock);
    while (l->filled == l->taken && !l->ended)
        pthread_cond_wait(&l->changed, &l->lock);
    struct batch *b = l->filled > l->taken ? &l->batches[l->taken % l->n] : NULL;
    pthread_mutex_unlock(&l->lock);
    if (b)
        dlm_pool_wait(l->c->pool, &b->task);
    return b;
}

static void batch_taken(struct line *l)
{
    pthread_mutex_lock(&l->lock);
    l->taken++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static int take_batches(struct line *l, const struct work *w, bool alone, struct dlm_error *err)
{
    for (struct batch *b; (b = next_batch(l, alone)); batch_taken(l)) {
        int rc = b->rc;
        if (rc)
            *err = b->err;
        else if (w->after)
            rc = w->after(w, b, err);
        if (l->c->progress)
            dlm_progress_update(l->c->progress, b->position, NULL);
        if (!rc && dlm_stop_signal())
            rc = dlm_fail(err, DLM_ESTOPPED, "interrupted");
        if (rc)
            return rc;
    }
    if (l->rc)
        *err = l->err;
    return l->rc;
}

static int run_line(const struct dlm_corpus *c, struct work *w, bool may_cut, struct dlm_error *err)
{
    size_t lanes = (size_t)dlm_pool_lanes(c->pool);
    bool alone = lanes == 1;
    struct line l = {.c = c, .n = alone ? 1 : RING * lanes, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct dlm_document_options options = c->options;
    options.part_bytes = may_cut ? PART_BYTES : 0;
    options.quit = &l.quit;
    options.unparsed = true;
    int rc = dlm_documents_open(&l.documents, c->paths, c->n_paths, &options, err);
    if (rc)
        return rc;
    l.batches = calloc(l.n, sizeof *l.batches);
    w->fields = options.field ? calloc(lanes, sizeof *w->fields) : NULL;
    if (!l.batches || (options.field && !w->fields))
        rc = no_memory(err);
    for (size_t i = 0; w->fields && i < lanes && !rc; i++)
        rc = dlm_field_new(&w->fields[i], options.field, err);
    for (size_t i = 0; l.batches && i < l.n; i++) {
        l.batches[i].task.run = run_batch;
        l.batches[i].work = w;
    }
    if (c->progress)
        dlm_documents_position(l.documents, &c->progress->total);
    pthread_t reader;
    bool reads = !rc && !alone && !(rc = dlm_pool_thread(&reader, read_batches, &l, err));
    if (!rc)
        rc = take_batches(&l, w, alone, err);
    if (reads) {
        pthread_mutex_lock(&l.lock);
        l.quit = true;
        pthread_cond_broadcast(&l.changed);
        pthread_mutex_unlock(&l.lock);
        pthread_join(reader, NULL);
        for (; l.taken < l.filled; l.taken++)
            dlm_pool_wait(c->pool, &l.batches[l.taken % l.n].task);
    }
    for (size_t i = 0; l.batches && i < l.n; i++) {
        free(l.batches[i].text);
        free(l.batches[i].parts);
        free(l.batches[i].ids.at);
        free(l.batches[i].ends);
    }
    free(l.batches);
    for (size_t i = 0; w->fields && i < lanes; i++)
        dlm_field_free(w->fields[i]);
    free(w->fields);
    dlm_documents_close(l.documents);
    return rc;
}

/* The text of a part: of JSON Lines, a field of it. */
static int part_text(const struct work *w, size_t lane, struct batch *b, const struct part *p, const uint8_t **text, size_t *len)
{
    *text = b->text + p->at;
    *len = p->len;
    return w->fields ? dlm_field_text(w->fields[lane], *text, *len, p->name, p->line, text, len, &b->err) : 0;
}

static int count_batch(const struct work *w, size_t lane, struct batch *b)
{
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct part *p = &b->parts[i];
        const uint8_t *text;
        size_t len;
        int rc = part_text(w, lane, b, p, &text, &len);
        if (rc)
            return rc;
        rc = dlm_trainer_count(w->trainer, lane, text, len, p->context, &b->err);
        if (rc)
            return dlm_fail_in(&b->err, rc, "'%s'", p->name);
    }
    return 0;
}

int dlm_corpus_count(const struct dlm_corpus *c, struct dlm_trainer *t, struct dlm_error *err)
{
    struct work w = {.batch = count_batch, .trainer = t};
    return run_line(c, &w, dlm_trainer_may_cut(t), err);
}

static int encode_batch(const struct work *w, size_t lane, struct batch *b)
{
    uint32_t end = dlm_vocab_specials(w->vocab).end;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct part *p = &b->parts[i];
        size_t from = b->ids.n, len;
        const uint8_t *text;
        int rc = part_text(w, lane, b, p, &text, &len);
        if (rc)
            return rc;
        rc = dlm_encoder_run_part(w->encoders[lane], text, len, p->context, p->first, p->last, &b->ids, &b->err);
        if (!rc && p->last && w->end_ids && (b->ids.n == from || b->ids.at[b->ids.n - 1] != end))
            rc = dlm_ids_push(&b->ids, end, &b->err);
        if (rc)
            return dlm_fail_in(&b->err, rc, "'%s'", p->name);
        if (p->last)
            b->ends[b->n_ends++] = b->ids.n;
    }
    b->bytes = dlm_vocab_count_bytes(w->vocab, b->ids.at, b->ids.n);
    return 0;
}

static int hand_on(const struct work *w, struct batch *b, struct dlm_error *err)
{
    struct dlm_corpus_ids ids = {b->ids.at, b->ids.n, b->ends, b->n_ends, b->bytes};
    return w->take(w->to, &ids, err);
}

int dlm_corpus_encode(const struct dlm_corpus *c, const struct dlm_vocab *v, bool parse_special, bool end_ids,
                      dlm_corpus_fn *take, void *to, struct dlm_error *err)
{
    struct work w = {.batch = encode_batch, .after = hand_on, .vocab = v, .end_ids = end_ids, .take = take, .to = to};
    int lanes = dlm_pool_lanes(c->pool);
    w.encoders = calloc((size_t)lanes, sizeof *w.encoders);
    int rc = w.encoders ? 0 : no_memory(err);
    for (int i = 0; i < lanes && !rc; i++)
        rc = dlm_encoder_new(&w.encoders[i], v, parse_special, err);
    if (!rc)
        rc = run_line(c, &w, dlm_encoder_may_cut(w.encoders[0]), err);
    for (int i = 0; w.encoders && i < lanes; i++)
        dlm_encoder_free(w.encoders[i]);
    free(w.encoders);
    return rc;
}

/* `before`: ids of the stream in front of these; they are added to it. */
static int check_ids(const struct dlm_stream_reader *r, const struct dlm_vocab *v, const uint32_t *ids, size_t n,
                     uint64_t *before, struct dlm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= dlm_vocab_size(v))
            return dlm_fail(err, DLM_EDATA, "%s has the id %u at token %llu, which its vocabulary of %u has not",
                            dlm_stream_reader_name(r), ids[i], (unsigned long long)(*before + i), dlm_vocab_size(v));
    *before += n;
    return 0;
}

/* Decode into `to` and write it out whenever it is full. */
static void write_text(const struct dlm_vocab *v, const uint32_t *ids, size_t n, uint8_t *to, FILE *file)
{
    for (size_t i = 0; i < n && !ferror(file);) {
        size_t len, got = dlm_vocab_decode(v, ids + i, n - i, to, DECODE_BYTES, &len);
        fwrite_unlocked(to, 1, len, file);
        i += got;
        if (i < n && !got) { /* a token longer than the room */
            const uint8_t *bytes = dlm_vocab_bytes(v, ids[i++], &len);
            fwrite_unlocked(bytes, 1, len, file);
        }
    }
}

int dlm_corpus_decode(struct dlm_stream_reader *r, const struct dlm_vocab *v, int terminator, FILE *file, const char *name,
                      struct dlm_error *err)
{
    uint32_t *ids = malloc(DECODE_IDS * sizeof *ids), end = dlm_vocab_specials(v).end;
    uint8_t *text = malloc(DECODE_BYTES);
    uint64_t before = 0;
    size_t n = 0;
    int rc = ids && text ? 0 : no_memory(err);
    while (!rc && !(rc = dlm_stream_read(r, ids, DECODE_IDS, &n, err)) && n && !(rc = check_ids(r, v, ids, n, &before, err))) {
        for (size_t i = 0; i < n;) {
            size_t from = i;
            while (i < n && (terminator < 0 || ids[i] != end))
                i++;
            write_text(v, ids + from, i - from, text, file);
            if (i++ < n) { /* an end id may be text of its own */
                write_text(v, &end, 1, text, file);
                putc_unlocked(terminator, file);
            }
        }
        if (ferror(file))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write %s", name);
        else if (dlm_stop_signal())
            rc = dlm_fail(err, DLM_ESTOPPED, "interrupted");
    }
    free(ids);
    free(text);
    return rc;
}

int dlm_corpus_measure(struct dlm_stream_reader *r, const struct dlm_vocab *v, uint64_t *bytes, struct dlm_error *err)
{
    uint32_t *ids = malloc(DECODE_IDS * sizeof *ids);
    uint64_t before = 0;
    size_t n = 0;
    int rc = ids ? 0 : no_memory(err);
    *bytes = 0;
    while (!rc && !(rc = dlm_stream_read(r, ids, DECODE_IDS, &n, err)) && n && !(rc = check_ids(r, v, ids, n, &before, err))) {
        *bytes += dlm_vocab_count_bytes(v, ids, n);
        if (dlm_stop_signal())
            rc = dlm_fail(err, DLM_ESTOPPED, "interrupted");
    }
    free(ids);
    return rc;
}
