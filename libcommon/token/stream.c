/* Token streams: the writer, the reader of one or several in sequence, and random access to one.
 *
 * Bytes are laid out by token/frame.c; here they meet files. The reader holds one frame at a time, whole, so that no id leaves before
 * zstd's checksum over its frame held; the hashes of all frames wait for the closing frame, which also covers what zstd's own
 * checksum does not (some bits of a frame header). The writer's frames are compressed by a pool, several at a time and each by itself, and
 * written in order, so bytes do not depend on threads.
 */
#include "token/stream.h"

#include "base/stop.h"
#include "text/split.h"
#include "token/frame.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

enum {
    DEFAULT_FRAME_BYTES = 1 << 20, /* of ids */
    SOURCE_BYTES = 256 << 10,
    HEAD_BYTES = 4096, /* read of a file where only its head is wanted; shards' are 72 bytes */
    DATA_HEADER_MAX = 14,
    BLOCK_MAX = 128 << 10 /* zstd's Block_Maximum_Size */
};

struct dlm_stream_info dlm_stream_info_of(const struct dlm_vocab *v)
{
    struct dlm_stream_info i = {
        .id_bytes = dlm_vocab_size(v) <= 65536 ? 2 : 4,
        .vocab_size = dlm_vocab_size(v),
        .specials = dlm_vocab_specials(v),
        .fingerprint = dlm_vocab_fingerprint(v),
    };
    i.json = dlm_vocab_json(v, &i.json_len);
    return i;
}

/* One more entry; *cap doubles. */
static int entries_push(struct dlm_frame_entry **at, size_t *n, size_t *cap, struct dlm_frame_entry e, struct dlm_error *err)
{
    if (*n == *cap) {
        size_t more = *cap ? 2 * *cap : 64;
        struct dlm_frame_entry *p = realloc(*at, more * sizeof *p);
        if (!p)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        *at = p;
        *cap = more;
    }
    (*at)[(*n)++] = e;
    return 0;
}

/* --- writer --------------------------------------------------------------------------------------------------------------- */

/* A frame on its way: filled by the caller, compressed by a lane of the pool, written by the caller in its turn. */
struct job {
    struct dlm_task task;
    struct dlm_stream_writer *writer;
    uint8_t *raw, *packed;
    size_t ids, packed_bytes; /* packed_bytes: or a zstd error */
    uint64_t hash;            /* of the packed bytes */
};

struct dlm_stream_writer {
    FILE *file;
    char *name; /* as errors say it */
    unsigned id_bytes;
    uint32_t vocab_size;
    int level;
    struct dlm_pool *pool;
    bool own_pool;
    size_t frame_ids, packed_room;
    /* A ring: jobs[oldest % jobs_n] … were handed to the pool, jobs[filling % jobs_n] is being filled. */
    size_t jobs_n;
    uint64_t oldest, filling;
    struct job *jobs;
    struct dlm_frame_entry *entries;
    size_t n, cap;
    uint64_t tokens, documents, text_bytes, head_bytes, head_hash;
    bool text_counted;
    XXH64_state_t *hash;
};

static int put(struct dlm_stream_writer *w, const void *bytes, size_t n, struct dlm_error *err)
{
    XXH64_update(w->hash, bytes, n);
    if (fwrite(bytes, 1, n, w->file) != n)
        return dlm_fail_errno(err, DLM_EIO, "cannot write %s", w->name);
    return 0;
}

static void compress(struct dlm_task *t, int lane)
{
    struct job *j = (struct job *)(void *)t; /* its first member */
    const struct dlm_stream_writer *w = j->writer;
    ZSTD_CCtx *zstd = dlm_pool_zstd(w->pool, lane);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, w->level);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    j->packed_bytes = ZSTD_compress2(zstd, j->packed, w->packed_room, j->raw, j->ids * w->id_bytes);
    if (!ZSTD_isError(j->packed_bytes))
        j->hash = XXH64(j->packed, j->packed_bytes, 0);
}

/* Frames on their way at once. */
static size_t ring(int lanes)
{
    return lanes == 1 ? 1 : 2 * (size_t)lanes + 1;
}

int dlm_stream_writer_needs(struct dlm_stream_needs *out, int level, int lanes, size_t frame_bytes, struct dlm_error *err)
{
    enum { FILE_BYTES = 16 << 10, STACK_BYTES = 64 << 10 };
    size_t room = ZSTD_compressBound(frame_bytes);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    uint8_t *raw = calloc(1, frame_bytes), *packed = malloc(room);
    int rc = zstd && raw && packed ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc) { /* a context says what it takes only when it has worked */
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
        ZSTD_compress2(zstd, packed, room, raw, frame_bytes);
        *out = (struct dlm_stream_needs){ring(lanes) * (frame_bytes + room) + FILE_BYTES, ZSTD_sizeof_CCtx(zstd) + STACK_BYTES};
    }
    ZSTD_freeCCtx(zstd);
    free(raw);
    free(packed);
    return rc;
}

int dlm_stream_writer_new_in(struct dlm_stream_writer **out, FILE *file, const char *name, const struct dlm_stream_info *info,
                             int level, struct dlm_pool *pool, size_t frame_ids, struct dlm_error *err)
{
    *out = NULL;
    uint8_t *head;
    size_t head_bytes;
    int rc = dlm_frame_head_encode(&head, &head_bytes, info, err);
    if (rc)
        return rc;
    if (!frame_ids)
        frame_ids = DEFAULT_FRAME_BYTES / info->id_bytes;
    if (frame_ids > DLM_FRAME_MAX_CONTENT / info->id_bytes || level < ZSTD_minCLevel() || level > ZSTD_maxCLevel()) {
        free(head);
        return dlm_fail(err, DLM_EUSAGE, "cannot begin a token stream: a frame of %zu ids at level %d", frame_ids, level);
    }
    struct dlm_stream_writer *w = calloc(1, sizeof *w);
    if (!w) {
        free(head);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    w->file = file;
    w->id_bytes = info->id_bytes;
    w->vocab_size = info->vocab_size;
    w->level = level;
    w->pool = pool;
    w->frame_ids = frame_ids;
    w->packed_room = ZSTD_compressBound(frame_ids * info->id_bytes);
    w->jobs_n = ring(dlm_pool_lanes(pool));
    w->head_bytes = head_bytes;
    w->head_hash = dlm_frame_get64(head + head_bytes - 8);
    w->hash = XXH64_createState();
    w->jobs = calloc(w->jobs_n, sizeof *w->jobs);
    bool good = w->hash && w->jobs && asprintf(&w->name, !strcmp(name, "standard output") ? "%s" : "'%s'", name) >= 0;
    for (size_t i = 0; good && i < w->jobs_n; i++) {
        struct job *j = &w->jobs[i];
        j->task.run = compress;
        j->writer = w;
        j->raw = malloc(frame_ids * info->id_bytes);
        j->packed = malloc(w->packed_room);
        good = j->raw && j->packed;
    }
    if (good) {
        XXH64_reset(w->hash, 0);
        rc = put(w, head, head_bytes, err);
    } else {
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    free(head);
    if (rc)
        dlm_stream_writer_free(w);
    else
        *out = w;
    return rc;
}

int dlm_stream_writer_new(struct dlm_stream_writer **out, FILE *file, const char *name, const struct dlm_stream_info *info, int level,
                          int threads, size_t frame_ids, struct dlm_error *err)
{
    struct dlm_pool *pool;
    *out = NULL;
    int rc = dlm_pool_new(&pool, threads, err);
    if (rc)
        return rc;
    rc = dlm_stream_writer_new_in(out, file, name, info, level, pool, frame_ids, err);
    if (rc)
        dlm_pool_free(pool);
    else
        (*out)->own_pool = true;
    return rc;
}

/* Write the frames that are compressed, in order; the first `wait` of them are waited for. */
static int retire(struct dlm_stream_writer *w, uint64_t wait, struct dlm_error *err)
{
    for (; w->oldest < w->filling; w->oldest++) {
        struct job *j = &w->jobs[w->oldest % w->jobs_n];
        if (wait) {
            dlm_pool_wait(w->pool, &j->task);
            wait--;
        } else if (!dlm_pool_done(w->pool, &j->task)) {
            return 0;
        }
        if (ZSTD_isError(j->packed_bytes))
            return dlm_fail(err, DLM_ENOMEM, "cannot compress %s: %s", w->name, ZSTD_getErrorName(j->packed_bytes));
        int rc = put(w, j->packed, j->packed_bytes, err);
        if (!rc)
            rc = entries_push(&w->entries, &w->n, &w->cap,
                              (struct dlm_frame_entry){(uint32_t)j->packed_bytes, (uint32_t)(j->ids * w->id_bytes), j->hash}, err);
        if (rc)
            return rc;
        j->ids = 0;
    }
    return 0;
}

/* Hand on the frame that was filled, and see that there is room for the next. */
static int send(struct dlm_stream_writer *w, struct dlm_error *err)
{
    dlm_pool_submit(w->pool, &w->jobs[w->filling++ % w->jobs_n].task, true);
    return retire(w, w->filling - w->oldest == w->jobs_n, err);
}

int dlm_stream_write(struct dlm_stream_writer *w, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    size_t good = dlm_frame_check(ids, n, w->vocab_size);
    if (good < n)
        return dlm_fail(err, DLM_EDATA, "cannot write %s: id %u is not in the vocabulary of %u", w->name, ids[good], w->vocab_size);
    w->tokens += n;
    while (n) {
        struct job *j = &w->jobs[w->filling % w->jobs_n];
        size_t take = w->frame_ids - j->ids < n ? w->frame_ids - j->ids : n;
        dlm_frame_narrow(j->raw + j->ids * w->id_bytes, ids, take, w->id_bytes);
        j->ids += take;
        ids += take;
        n -= take;
        int rc = j->ids == w->frame_ids ? send(w, err) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

void dlm_stream_count_documents(struct dlm_stream_writer *w, uint64_t n)
{
    w->documents += n;
}

void dlm_stream_count_bytes(struct dlm_stream_writer *w, uint64_t n)
{
    w->text_bytes += n;
    w->text_counted = true;
}

int dlm_stream_finish(struct dlm_stream_writer *w, struct dlm_error *err)
{
    int rc = w->jobs[w->filling % w->jobs_n].ids ? send(w, err) : 0;
    rc = rc ? rc : retire(w, w->filling - w->oldest, err);
    if (rc)
        return rc;
    struct dlm_frame_closing c = {w->tokens,     w->documents, w->text_counted ? w->text_bytes : DLM_NOT_COUNTED,
                                  w->head_bytes, w->head_hash, w->entries,
                                  w->n};
    uint8_t *bytes;
    size_t closing, seek;
    rc = dlm_frame_closing_encode(&bytes, &closing, &seek, &c, err);
    if (rc)
        return rc;
    rc = put(w, bytes, closing + seek, err);
    free(bytes);
    if (!rc && fflush(w->file))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write %s", w->name);
    return rc;
}

uint64_t dlm_stream_writer_hash(const struct dlm_stream_writer *w)
{
    return XXH64_digest(w->hash);
}

void dlm_stream_writer_free(struct dlm_stream_writer *w)
{
    if (!w)
        return;
    for (; w->oldest < w->filling; w->oldest++)
        dlm_pool_wait(w->pool, &w->jobs[w->oldest % w->jobs_n].task);
    if (w->own_pool)
        dlm_pool_free(w->pool);
    for (size_t i = 0; w->jobs && i < w->jobs_n; i++) {
        free(w->jobs[i].raw);
        free(w->jobs[i].packed);
    }
    free(w->jobs);
    free(w->entries);
    free(w->name);
    XXH64_freeState(w->hash);
    free(w);
}

/* --- a file read with its offset known ------------------------------------------------------------------------------------ */

struct source {
    int fd;
    char *name;    /* as errors say it */
    uint64_t at;   /* offset of buf[pos] */
    uint8_t *buf;  /* (room) */
    size_t room;
    size_t pos, len;
    bool regular;
    uint64_t size; /* of a regular file */
};

/* room: bytes that are read at once. */
static int source_open(struct source *s, const char *path, size_t room, struct dlm_error *err)
{
    *s = (struct source){.fd = -1, .room = room};
    bool standard = !strcmp(path, "-");
    if (asprintf(&s->name, standard ? "standard input" : "'%s'", path) < 0)
        s->name = NULL;
    s->buf = malloc(room);
    if (!s->name || !s->buf)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open %s", s->name);
    struct stat st;
    if (!fstat(s->fd, &st)) {
        if (S_ISDIR(st.st_mode)) {
            errno = EISDIR;
            return dlm_fail_errno(err, DLM_EIO, "cannot read %s", s->name);
        }
        s->regular = S_ISREG(st.st_mode);
        s->size = (uint64_t)st.st_size;
    }
    return 0;
}

static void source_close(struct source *s)
{
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    free(s->name);
    free(s->buf);
    *s = (struct source){.fd = -1};
}

/* Have n ≤ s->room bytes at buf + pos, or fewer at the end of the file: *have. */
static int source_peek(struct source *s, size_t n, size_t *have, struct dlm_error *err)
{
    if (s->len - s->pos < n && s->pos) {
        memmove(s->buf, s->buf + s->pos, s->len - s->pos);
        s->len -= s->pos;
        s->pos = 0;
    }
    while (s->len - s->pos < n) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        ssize_t got = read(s->fd, s->buf + s->len, s->room - s->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot read %s", s->name);
        if (!got)
            break;
        s->len += (size_t)got;
    }
    *have = s->len - s->pos < n ? s->len - s->pos : n;
    return 0;
}

static int truncated(const struct source *s, uint64_t end, const char *where, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %llu, %s", s->name, (unsigned long long)end, where);
}

static int corrupt(const struct source *s, uint64_t at, const char *why, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %llu: %s", s->name, (unsigned long long)at, why);
}

/* Exactly n bytes, or the file is truncated. */
static int source_need(struct source *s, uint8_t *to, size_t n, const char *where, struct dlm_error *err)
{
    while (n) {
        size_t have;
        int rc = source_peek(s, n < s->room ? n : s->room, &have, err);
        if (rc)
            return rc;
        if (!have)
            return truncated(s, s->at, where, err);
        memcpy(to, s->buf + s->pos, have);
        s->pos += have;
        s->at += have;
        to += have;
        n -= have;
    }
    return 0;
}

/* A buffer that holds `need` bytes, grown as bytes arrive and never from a size that was merely claimed. */
struct bytes {
    uint8_t *at;
    size_t n, cap;
};

static int bytes_append(struct bytes *b, struct source *s, size_t n, const char *where, struct dlm_error *err)
{
    while (n) {
        size_t step = n < SOURCE_BYTES ? n : SOURCE_BYTES;
        if (b->cap - b->n < step) {
            size_t more = 2 * b->cap > b->n + step ? 2 * b->cap : b->n + step;
            uint8_t *p = realloc(b->at, more);
            if (!p)
                return dlm_fail(err, DLM_ENOMEM, "out of memory reading %s", s->name);
            b->at = p;
            b->cap = more;
        }
        int rc = source_need(s, b->at + b->n, step, where, err);
        if (rc)
            return rc;
        b->n += step;
        n -= step;
    }
    return 0;
}

/* Read a head that begins here into info (json malloc'ed), its length and hash. `first`: of the file. */
static int read_head(struct source *s, bool first, struct dlm_stream_info *info, uint64_t *head_bytes, uint64_t *head_hash,
                     struct dlm_error *err)
{
    static const uint8_t begins[16] = {0x5d, 0x2a, 0x4d, 0x18}; /* the magic, little endian */
    size_t have;
    int rc = source_peek(s, DLM_FRAME_HEAD_FIXED, &have, err);
    if (rc)
        return rc;
    const uint8_t *p = s->buf + s->pos;
    if (!have)
        return dlm_fail(err, DLM_EDATA, "%s is empty: it holds no token stream", s->name);
    bool like = !memcmp(p, begins, have < 4 ? have : 4) && (have <= 8 || !memcmp(p + 8, "dlmtoken", have < 16 ? have - 8 : 8));
    if (!like && first)
        return dlm_fail(err, DLM_EDATA, "%s is not a token stream (offset 0)", s->name);
    if (!like)
        return corrupt(s, s->at, "neither another token stream nor the end of the file", err);
    if (have < DLM_FRAME_HEAD_FIXED)
        return truncated(s, s->at + have, "inside its head", err);
    const char *why = NULL;
    uint64_t at = s->at;
    size_t n = dlm_frame_head_length(p, &why);
    if (!n)
        return corrupt(s, at, why, err);
    struct bytes head = {0};
    rc = bytes_append(&head, s, n, "inside its head", err);
    if (!rc && (why = dlm_frame_head_decode(head.at, n, info)))
        rc = corrupt(s, at, why, err);
    if (!rc) {
        *head_bytes = n;
        *head_hash = dlm_frame_get64(head.at + n - 8);
    }
    free(head.at);
    return rc;
}

/* --- reader --------------------------------------------------------------------------------------------------------------- */

struct dlm_stream_reader {
    struct source from;
    struct dlm_stream_info info;
    struct dlm_stream_totals totals; /* of the streams closed so far */
    ZSTD_DCtx *zstd;
    bool open; /* inside a stream: its closing frames are to come */
    /* The stream being read. */
    uint64_t head_at, head_bytes, head_hash, tokens;
    struct dlm_frame_entry *entries;
    size_t n, cap;
    /* The frame being delivered. */
    struct bytes frame, ids;
    size_t next, ids_n; /* in ids */
    uint64_t frame_at;
};

static int begin_stream(struct dlm_stream_reader *r, bool first, struct dlm_error *err)
{
    struct dlm_stream_info info = {0};
    r->head_at = r->from.at;
    int rc = read_head(&r->from, first, &info, &r->head_bytes, &r->head_hash, err);
    if (rc)
        return rc;
    if (first) {
        r->info = info;
    } else {
        const struct dlm_stream_info *a = &r->info;
        if (info.fingerprint != a->fingerprint)
            rc = dlm_fail(err, DLM_EDATA,
                          "%s joins streams of two vocabularies: fingerprint %016llx, from offset %llu on %016llx", r->from.name,
                          (unsigned long long)a->fingerprint, (unsigned long long)r->head_at, (unsigned long long)info.fingerprint);
        else if (info.id_bytes != a->id_bytes || info.vocab_size != a->vocab_size ||
                 memcmp(&info.specials, &a->specials, sizeof info.specials))
            rc = corrupt(&r->from, r->head_at, "the same fingerprint with another vocabulary size or other special ids", err);
        else if (info.seq_len != a->seq_len)
            rc = corrupt(&r->from, r->head_at, "sequences of another length than before", err);
        free((char *)info.json);
        if (rc)
            return rc;
    }
    r->open = true;
    r->n = 0;
    r->tokens = 0;
    return 0;
}

/* Measure one zstd frame by its block headers, read it whole, and decompress it. */
static int read_data(struct dlm_stream_reader *r, struct dlm_error *err)
{
    static const char where[] = "inside a data frame";
    struct source *s = &r->from;
    uint64_t at = s->at, content = 0;
    size_t have;
    int rc = source_peek(s, DATA_HEADER_MAX, &have, err);
    if (rc)
        return rc;
    int header = dlm_frame_data_header(s->buf + s->pos, have, &content);
    if (!header)
        return truncated(s, at + have, where, err);
    if (header < 0)
        return corrupt(s, at, "a data frame begins in an unknown way", err);
    if (!content || content > DLM_FRAME_MAX_CONTENT || content % r->info.id_bytes)
        return corrupt(s, at, "a data frame has no sound length", err);
    size_t limit = ZSTD_compressBound(content) + 64; /* so that a frame of nothing but empty blocks cannot grow */
    r->frame.n = 0;
    rc = bytes_append(&r->frame, s, (size_t)header, where, err);
    for (bool last = false; !rc && !last;) {
        rc = bytes_append(&r->frame, s, 3, where, err);
        if (rc)
            break;
        const uint8_t *b = r->frame.at + r->frame.n - 3;
        uint32_t v = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16, type = v >> 1 & 3, size = v >> 3;
        last = v & 1;
        size_t stored = type == 1 ? 1 : size;
        if (type == 3 || size > BLOCK_MAX || r->frame.n + stored > limit)
            return corrupt(s, at, "a data frame has an unsound block", err);
        rc = bytes_append(&r->frame, s, stored, where, err);
    }
    if (!rc)
        rc = bytes_append(&r->frame, s, 4, where, err);
    if (rc)
        return rc;
    if (r->ids.cap < content) {
        free(r->ids.at);
        r->ids.cap = 0;
        r->ids.at = malloc(content);
        if (!r->ids.at)
            return dlm_fail(err, DLM_ENOMEM, "out of memory reading %s", s->name);
        r->ids.cap = content;
    }
    size_t got = ZSTD_decompressDCtx(r->zstd, r->ids.at, content, r->frame.at, r->frame.n);
    if (ZSTD_isError(got) || got != content)
        return corrupt(s, at, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "a data frame is shorter than it says", err);
    rc = entries_push(&r->entries, &r->n, &r->cap,
                      (struct dlm_frame_entry){(uint32_t)r->frame.n, (uint32_t)content, XXH64(r->frame.at, r->frame.n, 0)}, err);
    r->frame_at = at;
    r->next = 0;
    r->ids_n = content / r->info.id_bytes;
    r->tokens += r->ids_n;
    return rc;
}

/* The two closing frames must be, byte for byte, those of what was read. */
static int read_closing(struct dlm_stream_reader *r, struct dlm_error *err)
{
    static const char where[] = "inside its closing frames";
    struct source *s = &r->from;
    uint64_t at = s->at;
    size_t have;
    int rc = source_peek(s, DLM_FRAME_CLOSE_FIXED, &have, err);
    if (rc)
        return rc;
    if (have < DLM_FRAME_CLOSE_FIXED)
        return truncated(s, at + have, where, err);
    const uint8_t *p = s->buf + s->pos;
    uint64_t documents = dlm_frame_get64(p + 24), text_bytes = dlm_frame_get64(p + 32);
    struct dlm_frame_closing c = {r->tokens, documents, text_bytes, r->head_bytes, r->head_hash, r->entries, r->n};
    uint8_t *want;
    size_t closing, seek;
    rc = dlm_frame_closing_encode(&want, &closing, &seek, &c, err);
    if (rc)
        return rc;
    /* The counts first, for a message that says more than "differs". */
    if (dlm_frame_get64(p + 48) != r->n && !memcmp(p, want, 4) && !memcmp(p + 8, want + 8, 8)) {
        rc = dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %llu: the closing frame tells of %llu data frames, %zu are there", s->name,
                      (unsigned long long)at, (unsigned long long)dlm_frame_get64(p + 48), r->n);
        free(want);
        return rc;
    }
    for (size_t done = 0; !rc && done < closing + seek; done += have) {
        size_t step = closing + seek - done < SOURCE_BYTES ? closing + seek - done : SOURCE_BYTES;
        rc = source_peek(s, step, &have, err);
        if (rc)
            break;
        if (!have) {
            rc = truncated(s, s->at, where, err);
            break;
        }
        const uint8_t *b = s->buf + s->pos;
        for (size_t i = 0; i < have && !rc; i++) {
            size_t k = done + i;
            if (b[i] == want[k])
                continue;
            if (k >= DLM_FRAME_CLOSE_FIXED && k < closing - 8) {
                size_t bad = (k - DLM_FRAME_CLOSE_FIXED) / 8;
                uint64_t bad_at = r->head_at + r->head_bytes;
                for (size_t f = 0; f < bad; f++)
                    bad_at += r->entries[f].bytes;
                rc = corrupt(s, bad_at, "a data frame fails its hash", err);
            } else {
                rc = corrupt(s, s->at + i, k < closing ? "the closing frame differs from the stream before it"
                                                       : "the seek table differs from the stream before it", err);
            }
        }
        s->pos += have;
        s->at += have;
    }
    free(want);
    if (rc)
        return rc;
    struct dlm_stream_totals *t = &r->totals;
    t->tokens += r->tokens;
    t->documents += documents;
    t->frames += r->n;
    t->bytes = t->bytes == DLM_NOT_COUNTED || text_bytes == DLM_NOT_COUNTED ? DLM_NOT_COUNTED : t->bytes + text_bytes;
    r->open = false;
    return 0;
}

int dlm_stream_reader_open(struct dlm_stream_reader **out, const char *path, struct dlm_error *err)
{
    *out = NULL;
    struct dlm_stream_reader *r = calloc(1, sizeof *r);
    if (!r)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = source_open(&r->from, path, SOURCE_BYTES, err);
    if (!rc && !(r->zstd = ZSTD_createDCtx()))
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc)
        rc = begin_stream(r, true, err);
    if (rc) {
        dlm_stream_reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

const struct dlm_stream_info *dlm_stream_reader_info(const struct dlm_stream_reader *r)
{
    return &r->info;
}

/* The next data frame into r->ids; ids_n == 0 at the true end. */
static int next_frame(struct dlm_stream_reader *r, struct dlm_error *err)
{
    struct source *s = &r->from;
    r->next = r->ids_n = 0;
    for (;;) {
        size_t have;
        int rc = source_peek(s, 4, &have, err);
        if (rc)
            return rc;
        r->frame_at = s->at;
        if (!r->open) {
            if (!have)
                return 0;
            rc = begin_stream(r, false, err);
        } else if (have < 4) {
            return truncated(s, s->at + have, "before its closing frames", err);
        } else {
            uint32_t magic = dlm_frame_get32(s->buf + s->pos);
            if (magic == (uint32_t)DLM_FRAME_DATA)
                return read_data(r, err);
            if (magic != DLM_FRAME_SKIPPABLE)
                return corrupt(s, s->at, "neither a data frame nor a closing frame", err);
            rc = read_closing(r, err);
        }
        if (rc)
            return rc;
    }
}

int dlm_stream_read(struct dlm_stream_reader *r, uint32_t *ids, size_t max, size_t *got, struct dlm_error *err)
{
    *got = 0;
    if (r->next == r->ids_n) {
        int rc = next_frame(r, err);
        if (rc) {
            r->ids_n = r->next = 0;
            return rc;
        }
    }
    size_t n = r->ids_n - r->next < max ? r->ids_n - r->next : max;
    if (!n) /* there may be no memory of any ids */
        return 0;
    size_t good = dlm_frame_widen(ids, r->ids.at + r->next * r->info.id_bytes, n, r->info.id_bytes, r->info.vocab_size);
    if (good < n)
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %llu: id %u is not in the vocabulary of %u", r->from.name,
                        (unsigned long long)r->frame_at, ids[good], r->info.vocab_size);
    r->next += n;
    *got = n;
    return 0;
}

struct dlm_stream_totals dlm_stream_reader_totals(const struct dlm_stream_reader *r)
{
    return r->totals;
}

const char *dlm_stream_reader_name(const struct dlm_stream_reader *r)
{
    return r->from.name;
}

void dlm_stream_reader_close(struct dlm_stream_reader *r)
{
    if (!r)
        return;
    source_close(&r->from);
    ZSTD_freeDCtx(r->zstd);
    free((char *)r->info.json);
    free(r->entries);
    free(r->frame.at);
    free(r->ids.at);
    free(r);
}

/* --- random access -------------------------------------------------------------------------------------------------------- */

struct place {
    uint64_t at, first; /* offset in the file, number of the frame's first id */
};

struct dlm_stream_index {
    struct source from;
    struct dlm_stream_info info;
    struct dlm_stream_totals totals;
    struct dlm_frame_entry *entries;
    struct place *places; /* one more than entries: the end */
    size_t n;
    ZSTD_DCtx *zstd;
    uint8_t *packed, *raw;
    size_t packed_room, raw_room;
};

static int read_at(struct dlm_stream_index *x, void *to, size_t n, uint64_t at, struct dlm_error *err)
{
    for (uint8_t *p = to; n;) {
        ssize_t got = pread(x->from.fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) {
            if (dlm_stop_signal())
                return dlm_fail(err, DLM_ESTOPPED, "stopped");
            continue;
        }
        if (got < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot read %s", x->from.name);
        if (!got)
            return truncated(&x->from, at, "and was longer when it was opened", err);
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

/* From the seek table and the closing frame in `tail` to entries and places, everything compared with everything. */
static int index_check(struct dlm_stream_index *x, const uint8_t *tail, size_t closing, size_t seek, uint64_t head_bytes,
                       uint64_t head_hash, struct dlm_error *err)
{
    uint64_t tail_at = x->from.size - closing - seek, at = head_bytes, ids = 0;
    const uint8_t *table = tail + closing + 8, *hashes = tail + DLM_FRAME_CLOSE_FIXED;
    for (size_t i = 0; i < x->n; i++) {
        struct dlm_frame_entry e = {dlm_frame_get32(table + 8 * (i + 1)), dlm_frame_get32(table + 8 * (i + 1) + 4),
                                    dlm_frame_get64(hashes + 8 * i)};
        if (!e.content || e.content > DLM_FRAME_MAX_CONTENT || e.content % x->info.id_bytes ||
            e.bytes > ZSTD_compressBound(e.content) + 64)
            return corrupt(&x->from, tail_at + closing + 8 + 8 * (i + 1), "the seek table has a frame of no sound length", err);
        x->entries[i] = e;
        x->places[i] = (struct place){at, ids};
        at += e.bytes;
        ids += e.content / x->info.id_bytes;
        x->packed_room = e.bytes > x->packed_room ? e.bytes : x->packed_room;
        x->raw_room = e.content > x->raw_room ? e.content : x->raw_room;
    }
    x->places[x->n] = (struct place){at, ids};
    x->totals = (struct dlm_stream_totals){ids, dlm_frame_get64(tail + 24), x->n, dlm_frame_get64(tail + 32)};
    struct dlm_frame_closing c = {ids, x->totals.documents, x->totals.bytes, head_bytes, head_hash, x->entries, x->n};
    uint8_t *want;
    size_t want_closing, want_seek;
    int rc = dlm_frame_closing_encode(&want, &want_closing, &want_seek, &c, err);
    if (rc)
        return rc;
    assert(want_closing == closing && want_seek == seek);
    size_t i = 0;
    while (i < closing + seek && tail[i] == want[i])
        i++;
    free(want);
    if (i < closing + seek)
        return corrupt(&x->from, tail_at + i, i < closing ? "the closing frame contradicts the head or the seek table"
                                                          : "the seek table contradicts the closing frame", err);
    if (at != tail_at)
        return corrupt(&x->from, at, "the seek table does not account for the whole file (several streams in one file?)", err);
    return 0;
}

static int index_load(struct dlm_stream_index *x, struct dlm_error *err)
{
    struct source *s = &x->from;
    uint64_t head_bytes, head_hash;
    int rc = read_head(s, true, &x->info, &head_bytes, &head_hash, err);
    if (rc)
        return rc;
    uint8_t foot[DLM_FRAME_SEEK_FOOT_BYTES];
    uint64_t foot_at = s->size - sizeof foot; /* a head is longer */
    if (s->size < head_bytes + DLM_FRAME_CLOSE_FIXED + 8 + 8 + 16 + sizeof foot)
        return truncated(s, s->size, "before its closing frames", err);
    rc = read_at(x, foot, sizeof foot, foot_at, err);
    if (rc)
        return rc;
    if (dlm_frame_get32(foot + 5) != (uint32_t)DLM_FRAME_SEEK_FOOT)
        return truncated(s, s->size, "without its seek table, or that is corrupt", err);
    uint64_t frames = dlm_frame_get32(foot);
    uint64_t seek = 8 + 8 * frames + sizeof foot, closing = DLM_FRAME_CLOSE_FIXED + 8 * (frames - 2) + 8;
    if (frames < 2 || frames > DLM_FRAME_MAX_FRAMES || head_bytes + closing + seek > s->size)
        return corrupt(s, foot_at, "the seek table has more frames than the file has room for", err);
    x->n = (size_t)frames - 2;
    uint8_t *tail = malloc(closing + seek);
    x->entries = malloc((x->n + 1) * sizeof *x->entries);
    x->places = malloc((x->n + 1) * sizeof *x->places);
    if (tail && x->entries && x->places) {
        rc = read_at(x, tail, closing + seek, s->size - closing - seek, err);
        if (!rc)
            rc = index_check(x, tail, closing, seek, head_bytes, head_hash, err);
    } else {
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    free(tail);
    if (rc)
        return rc;
    x->packed = malloc(x->packed_room + 1);
    x->raw = malloc(x->raw_room + 1);
    x->zstd = ZSTD_createDCtx();
    return x->packed && x->raw && x->zstd ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
}

int dlm_stream_index_open(struct dlm_stream_index **out, const char *path, struct dlm_error *err)
{
    *out = NULL;
    struct dlm_stream_index *x = calloc(1, sizeof *x);
    if (!x)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = source_open(&x->from, path, HEAD_BYTES, err);
    if (!rc && !x->from.regular)
        rc = dlm_fail(err, DLM_EIO, "cannot read %s: not a regular file", x->from.name);
    if (!rc)
        rc = index_load(x, err);
    if (rc) {
        dlm_stream_index_close(x);
        return rc;
    }
    free(x->from.buf); /* the head was all that is read in sequence */
    x->from.buf = NULL;
    *out = x;
    return 0;
}

const struct dlm_stream_info *dlm_stream_index_info(const struct dlm_stream_index *x)
{
    return &x->info;
}

struct dlm_stream_totals dlm_stream_index_totals(const struct dlm_stream_index *x)
{
    return x->totals;
}

uint64_t dlm_stream_index_find(const struct dlm_stream_index *x, uint64_t id, uint64_t *first, size_t *n)
{
    assert(id < x->totals.tokens);
    size_t lo = 0, hi = x->n; /* places[lo].first ≤ id < places[hi].first */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (x->places[mid].first <= id)
            lo = mid;
        else
            hi = mid;
    }
    *first = x->places[lo].first;
    *n = (size_t)(x->places[lo + 1].first - *first);
    return lo;
}

int dlm_stream_index_read(struct dlm_stream_index *x, uint64_t frame, uint32_t *ids, struct dlm_error *err)
{
    assert(frame < x->n);
    struct dlm_frame_entry e = x->entries[frame];
    uint64_t at = x->places[frame].at;
    int rc = read_at(x, x->packed, e.bytes, at, err);
    if (rc)
        return rc;
    if (XXH64(x->packed, e.bytes, 0) != e.hash)
        return corrupt(&x->from, at, "a data frame fails its hash", err);
    size_t got = ZSTD_decompressDCtx(x->zstd, x->raw, e.content, x->packed, e.bytes);
    if (ZSTD_isError(got) || got != e.content)
        return corrupt(&x->from, at, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "a data frame is shorter than it says", err);
    size_t n = e.content / x->info.id_bytes, good = dlm_frame_widen(ids, x->raw, n, x->info.id_bytes, x->info.vocab_size);
    if (good < n)
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %llu: id %u is not in the vocabulary of %u", x->from.name,
                        (unsigned long long)at, ids[good], x->info.vocab_size);
    return 0;
}

void dlm_stream_index_close(struct dlm_stream_index *x)
{
    if (!x)
        return;
    source_close(&x->from);
    ZSTD_freeDCtx(x->zstd);
    free((char *)x->info.json);
    free(x->entries);
    free(x->places);
    free(x->packed);
    free(x->raw);
    free(x);
}

void dlm_stream_libraries(char *to, size_t size)
{
    char text[128];
    dlm_split_libraries(text, sizeof text);
    snprintf(to, size, "zstd %s, %s", ZSTD_versionString(), text);
}
