/* Megatron's indexed data sets and raw ids, read and written.
 *
 * Lengths, offsets and bounds of an index are three columns of one file; each is read in order through a small window of its own, so
 * an index of any size takes no memory.
 */
#include "token/foreign.h"

#include "base/output.h"
#include "base/stop.h"
#include "token/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 34,
    WINDOW_BYTES = 64 << 10,
    U16_BELOW = 65500 /* Megatron's bound */
};

static const char magic[9] = "MMIDIDX\0";

/* A stretch of a file that is read in order. */
struct window {
    int fd;
    const char *name;  /* as errors say it; borrowed */
    bool pipe;         /* read as it comes, whatever the offset */
    uint64_t at;       /* offset of buf[pos] */
    size_t pos, len;
    uint8_t buf[WINDOW_BYTES];
};

struct dlm_foreign_reader {
    enum dlm_foreign_format format;
    uint32_t vocab_size, end;
    uint64_t added;
    char *bin_name, *idx_name; /* as errors say them */
    int bin, idx;
    unsigned id_bytes;
    bool negative;       /* ids have a sign */
    uint64_t bin_bytes;
    uint64_t sequences, bounds, sequence, bound; /* in all, and read so far */
    uint64_t document_end;  /* its last sequence + 1 */
    uint64_t left;          /* ids to come of the open sequence */
    bool ended, finished;   /* the last id was the end id; all is read */
    struct window ids, lengths, offsets, documents;
};

/* --- reading -------------------------------------------------------------------------------------------------------------- */

/* Have at least n bytes at buf + pos, or fewer at the end of the file. */
static int peek(struct window *w, size_t n, size_t *have, struct dlm_error *err)
{
    if (w->len - w->pos < n) {
        memmove(w->buf, w->buf + w->pos, w->len - w->pos);
        w->len -= w->pos;
        w->pos = 0;
    }
    while (w->len - w->pos < n) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        ssize_t got = w->pipe ? read(w->fd, w->buf + w->len, sizeof w->buf - w->len)
                              : pread(w->fd, w->buf + w->len, sizeof w->buf - w->len, (off_t)(w->at + w->len));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot read %s", w->name);
        if (!got)
            break;
        w->len += (size_t)got;
    }
    *have = w->len - w->pos;
    return 0;
}

static void skip(struct window *w, size_t n)
{
    w->pos += n;
    w->at += n;
}

/* The next number of a column of an index whose length was checked. */
static int column(struct window *w, size_t bytes, int64_t *v, struct dlm_error *err)
{
    size_t have;
    int rc = peek(w, bytes, &have, err);
    if (rc)
        return rc;
    if (have < bytes)
        return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %" PRIu64 " while it is read", w->name, w->at + have);
    *v = bytes == 4 ? (int32_t)dlm_frame_get32(w->buf + w->pos) : (int64_t)dlm_frame_get64(w->buf + w->pos);
    skip(w, bytes);
    return 0;
}

static int open_file(int *fd, const char *path, const char *name, uint64_t *size, bool *pipe, struct dlm_error *err)
{
    struct stat st;
    *fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (*fd < 0 || fstat(*fd, &st))
        return dlm_fail_errno(err, DLM_EIO, "cannot open %s", name);
    if (S_ISDIR(st.st_mode))
        return dlm_fail(err, DLM_EIO, "cannot read %s: Is a directory", name);
    *pipe = !S_ISREG(st.st_mode) || *fd == STDIN_FILENO;
    *size = (uint64_t)st.st_size;
    return 0;
}

static void window_init(struct window *w, int fd, const char *name, uint64_t at)
{
    w->fd = fd;
    w->name = name;
    w->at = at;
}

/* The head of the index against the lengths of both files. */
static int read_head(struct dlm_foreign_reader *r, uint64_t idx_bytes, struct dlm_error *err)
{
    /* The size of an id of each type; 6 and 7 are floating point. */
    static const unsigned char sizes[] = {0, 1, 1, 2, 4, 8, 0, 0, 2};
    struct window *w = &r->lengths;
    size_t have;
    int rc = peek(w, HEAD_BYTES, &have, err);
    if (rc)
        return rc;
    const uint8_t *h = w->buf;
    if (have >= sizeof magic && memcmp(h, magic, sizeof magic))
        return dlm_fail(err, DLM_EDATA, "%s is not an index of Megatron: wrong magic at offset 0", r->idx_name);
    if (have < HEAD_BYTES)
        return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %zu, inside its head of %d bytes", r->idx_name, have,
                        (int)HEAD_BYTES);
    if (dlm_frame_get64(h + 9) != 1)
        return dlm_fail(err, DLM_EDATA, "%s has version %" PRIu64 " at offset 9, not 1", r->idx_name, dlm_frame_get64(h + 9));
    unsigned type = h[17];
    r->id_bytes = type < sizeof sizes ? sizes[type] : 0;
    if (!r->id_bytes)
        return dlm_fail(err, DLM_EDATA, "%s has ids of type %u at offset 17, which are no whole numbers", r->idx_name, type);
    r->negative = type >= 2 && type <= 5;
    r->sequences = dlm_frame_get64(h + 18);
    r->bounds = dlm_frame_get64(h + 26);
    uint64_t body = idx_bytes - HEAD_BYTES;
    if (r->sequences > body / 12 || r->bounds > (body - 12 * r->sequences) / 8)
        return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %" PRIu64 ", its head tells of %" PRIu64 " sequences and %" PRIu64
                                        " bounds of documents", r->idx_name, idx_bytes, r->sequences, r->bounds);
    uint64_t end = HEAD_BYTES + 12 * r->sequences + 8 * r->bounds;
    if (end != idx_bytes)
        return dlm_fail(err, DLM_EDATA, "%s goes on at offset %" PRIu64 ", where it should end%s", r->idx_name, end,
                        idx_bytes - end == r->sequences ? ": sequences with modes are of no use to text" : "");
    if (!r->bounds)
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset 26: no bounds of documents", r->idx_name);
    skip(w, HEAD_BYTES);
    window_init(&r->offsets, r->idx, r->idx_name, HEAD_BYTES + 4 * r->sequences);
    window_init(&r->documents, r->idx, r->idx_name, HEAD_BYTES + 12 * r->sequences);
    return 0;
}

/* The next bound of documents, which may not be before the last one. */
static int next_bound(struct dlm_foreign_reader *r, struct dlm_error *err)
{
    uint64_t at = r->documents.at;
    int64_t v;
    int rc = column(&r->documents, 8, &v, err);
    if (rc)
        return rc;
    r->bound++;
    if (v < (int64_t)r->document_end || v > (int64_t)r->sequences || (r->bound == 1 && v) ||
        (r->bound == r->bounds && v != (int64_t)r->sequences))
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %" PRIu64 ": bound %" PRId64 " of documents among %" PRIu64 " sequences",
                        r->idx_name, at, v, r->sequences);
    r->document_end = (uint64_t)v;
    return 0;
}

static int open_megatron(struct dlm_foreign_reader *r, const char *path, struct dlm_error *err)
{
    size_t n = strlen(path);
    if (n > 4 && (!strcmp(path + n - 4, ".bin") || !strcmp(path + n - 4, ".idx")))
        n -= 4;
    char *bin = NULL, *idx = NULL;
    uint64_t idx_bytes = 0;
    bool pipe = false;
    int rc = 0;
    if (asprintf(&bin, "%.*s.bin", (int)n, path) < 0 || asprintf(&idx, "%.*s.idx", (int)n, path) < 0 ||
        asprintf(&r->bin_name, "'%s'", bin) < 0 || asprintf(&r->idx_name, "'%s'", idx) < 0)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc)
        rc = open_file(&r->idx, idx, r->idx_name, &idx_bytes, &pipe, err);
    if (!rc && pipe)
        rc = dlm_fail(err, DLM_EIO, "cannot read %s: not a regular file", r->idx_name);
    if (!rc)
        rc = open_file(&r->bin, bin, r->bin_name, &r->bin_bytes, &pipe, err);
    if (!rc && pipe)
        rc = dlm_fail(err, DLM_EIO, "cannot read %s: not a regular file", r->bin_name);
    free(bin);
    free(idx);
    if (rc)
        return rc;
    window_init(&r->ids, r->bin, r->bin_name, 0);
    window_init(&r->lengths, r->idx, r->idx_name, 0);
    rc = read_head(r, idx_bytes, err);
    return rc ? rc : next_bound(r, err);
}

int dlm_foreign_reader_open(struct dlm_foreign_reader **out, enum dlm_foreign_format format, const char *path, uint32_t vocab_size,
                            uint32_t end, struct dlm_error *err)
{
    *out = NULL;
    struct dlm_foreign_reader *r = calloc(1, sizeof *r);
    if (!r)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    r->format = format;
    r->vocab_size = vocab_size;
    r->end = end;
    r->bin = r->idx = -1;
    r->ended = true; /* what holds nothing needs no end */
    int rc;
    if (format == DLM_FOREIGN_MEGATRON) {
        rc = open_megatron(r, path, err);
    } else {
        r->id_bytes = format == DLM_FOREIGN_RAW16 ? 2 : 4;
        bool pipe = false;
        if (asprintf(&r->bin_name, strcmp(path, "-") ? "'%s'" : "standard input", path) < 0)
            r->bin_name = NULL;
        rc = r->bin_name ? open_file(&r->bin, path, r->bin_name, &r->bin_bytes, &pipe, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
        window_init(&r->ids, r->bin, r->bin_name, 0);
        r->ids.pipe = pipe;
    }
    if (rc) {
        dlm_foreign_reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void dlm_foreign_reader_close(struct dlm_foreign_reader *r)
{
    if (!r)
        return;
    if (r->bin > STDIN_FILENO)
        close(r->bin);
    if (r->idx >= 0)
        close(r->idx);
    free(r->bin_name);
    free(r->idx_name);
    free(r);
}

uint64_t dlm_foreign_added(const struct dlm_foreign_reader *r)
{
    return r->added;
}

/* Up to max ids from where the file of ids stands. */
static int take(struct dlm_foreign_reader *r, uint32_t *ids, size_t max, size_t *got, struct dlm_error *err)
{
    struct window *w = &r->ids;
    size_t have, n = r->id_bytes;
    int rc = peek(w, n, &have, err);
    *got = 0;
    if (rc || !have)
        return rc;
    if (have < n)
        return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %" PRIu64 ", inside an id of %zu bytes", r->bin_name, w->at + have, n);
    for (; *got < max && w->len - w->pos >= n; ++*got) {
        const uint8_t *p = w->buf + w->pos;
        uint64_t v = 0;
        for (size_t i = 0; i < n; i++)
            v |= (uint64_t)p[i] << 8 * i;
        bool below = r->negative && p[n - 1] >> 7;
        if (below || v >= r->vocab_size) {
            int64_t shown = (int64_t)(below && n < 8 ? v | UINT64_MAX << 8 * n : v);
            return dlm_fail(err, DLM_EDATA, "%s has id %" PRId64 " at offset %" PRIu64 ", but the vocabulary has ids below %u", r->bin_name, shown,
                            w->at, r->vocab_size);
        }
        ids[*got] = (uint32_t)v;
        skip(w, n);
    }
    return 0;
}

/* Ends the document that has no end id. */
static size_t add_end(struct dlm_foreign_reader *r, uint32_t *ids)
{
    ids[0] = r->end;
    r->ended = true;
    r->added++;
    return 1;
}

/* Begin the next sequence. */
static int next_sequence(struct dlm_foreign_reader *r, struct dlm_error *err)
{
    int64_t n, at;
    uint64_t length_at = r->lengths.at, offset_at = r->offsets.at;
    int rc = column(&r->lengths, 4, &n, err);
    if (!rc)
        rc = column(&r->offsets, 8, &at, err);
    if (rc)
        return rc;
    if (n < 0)
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %" PRIu64 ": a sequence of %" PRId64 " ids", r->idx_name, length_at, n);
    if (at != (int64_t)r->ids.at)
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset %" PRIu64 ": sequence %" PRIu64 " begins at %" PRId64 " of %s, where %" PRIu64
                                        " follows", r->idx_name, offset_at, r->sequence, at, r->bin_name, r->ids.at);
    if ((uint64_t)n * r->id_bytes > r->bin_bytes - r->ids.at)
        return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %" PRIu64 ", sequence %" PRIu64 " reaches to %" PRIu64, r->bin_name,
                        r->bin_bytes, r->sequence, r->ids.at + (uint64_t)n * r->id_bytes);
    r->left = (uint64_t)n;
    r->sequence++;
    return 0;
}

int dlm_foreign_read(struct dlm_foreign_reader *r, uint32_t *ids, size_t max, size_t *got, struct dlm_error *err)
{
    bool indexed = r->format == DLM_FOREIGN_MEGATRON;
    *got = 0;
    while (!*got && max && !r->finished) {
        int rc = 0;
        if (!indexed || r->left) {
            size_t want = indexed && r->left < max ? (size_t)r->left : max;
            rc = take(r, ids, want, got, err);
            if (!rc && *got)
                r->ended = ids[*got - 1] == r->end;
            if (!rc && !*got && indexed)
                return dlm_fail(err, DLM_EDATA, "%s is truncated: it ends at offset %" PRIu64 " while it is read", r->bin_name, r->ids.at);
            r->left -= indexed ? *got : 0;
            r->finished = !rc && !*got;
            if (r->finished && !r->ended)
                *got = add_end(r, ids);
        } else if (r->sequence < r->document_end) {
            rc = next_sequence(r, err);
        } else if (!r->ended) {
            *got = add_end(r, ids);
        } else if (r->bound < r->bounds) {
            rc = next_bound(r, err);
            r->ended = false; /* of a document that begins, be it empty */
        } else if (r->ids.at != r->bin_bytes) {
            rc = dlm_fail(err, DLM_EDATA, "%s goes on at offset %" PRIu64 ", where its index ends", r->bin_name, r->ids.at);
        } else {
            r->finished = true;
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */

struct dlm_foreign_writer {
    enum dlm_foreign_format format;
    uint32_t end;
    unsigned id_bytes;
    char *idx_path;
    struct dlm_output bin, idx;
    uint32_t *lengths; /* of the documents so far */
    size_t n, cap;
    uint64_t length;   /* of the open one */
    uint8_t buf[WINDOW_BYTES];
};

static int must_not_exist(const char *path, struct dlm_error *err)
{
    struct stat st;
    return lstat(path, &st) ? 0 : dlm_fail(err, DLM_EDATA, "'%s' exists already: two files cannot be replaced in one step", path);
}

int dlm_foreign_writer_new(struct dlm_foreign_writer **out, enum dlm_foreign_format format, const char *path, uint32_t vocab_size,
                           uint32_t end, struct dlm_error *err)
{
    *out = NULL;
    struct dlm_foreign_writer *w = calloc(1, sizeof *w);
    if (!w)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    w->format = format;
    w->end = end;
    int rc = 0;
    if (format != DLM_FOREIGN_MEGATRON) {
        w->id_bytes = format == DLM_FOREIGN_RAW16 ? 2 : 4;
        if (format == DLM_FOREIGN_RAW16 && vocab_size > 1 << 16)
            rc = dlm_fail(err, DLM_EUSAGE, "a vocabulary of %u ids does not fit 16 bits: use raw32", vocab_size);
        else
            rc = dlm_output_open_binary(&w->bin, path, err);
    } else {
        char *bin = NULL;
        w->id_bytes = vocab_size < U16_BELOW ? 2 : 4;
        if (!path || !strcmp(path, "-") || !*path)
            rc = dlm_fail(err, DLM_EUSAGE, "megatron is two files: name their prefix with --output");
        else if (asprintf(&bin, "%s.bin", path) < 0 || asprintf(&w->idx_path, "%s.idx", path) < 0)
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
        if (!rc)
            rc = must_not_exist(bin, err);
        if (!rc)
            rc = must_not_exist(w->idx_path, err);
        if (!rc)
            rc = dlm_output_open(&w->bin, bin, err);
        free(bin);
    }
    if (rc) {
        dlm_foreign_writer_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void dlm_foreign_writer_free(struct dlm_foreign_writer *w)
{
    if (!w)
        return;
    dlm_output_abort(&w->bin);
    dlm_output_abort(&w->idx);
    free(w->idx_path);
    free(w->lengths);
    free(w);
}

static int end_document(struct dlm_foreign_writer *w, struct dlm_error *err)
{
    if (w->length > INT32_MAX)
        return dlm_fail(err, DLM_EDATA, "document %zu has %" PRIu64 " ids, more than an index of Megatron can say", w->n, w->length);
    if (w->n == w->cap) {
        size_t more = w->cap ? 2 * w->cap : 1024;
        uint32_t *p = realloc(w->lengths, more * sizeof *p);
        if (!p)
            return dlm_fail(err, DLM_ENOMEM, "out of memory for an index of %zu documents", w->n);
        w->lengths = p;
        w->cap = more;
    }
    w->lengths[w->n++] = (uint32_t)w->length;
    w->length = 0;
    return 0;
}

int dlm_foreign_write(struct dlm_foreign_writer *w, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    while (n) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        size_t some = n < sizeof w->buf / w->id_bytes ? n : sizeof w->buf / w->id_bytes;
        dlm_frame_narrow(w->buf, ids, some, w->id_bytes);
        if (fwrite(w->buf, w->id_bytes, some, w->bin.file) != some)
            return w->bin.path ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", w->bin.path)
                               : dlm_fail_errno(err, DLM_EIO, "cannot write standard output");
        for (size_t i = 0; w->format == DLM_FOREIGN_MEGATRON && i < some; i++) {
            w->length++;
            if (ids[i] == w->end) {
                int rc = end_document(w, err);
                if (rc)
                    return rc;
            }
        }
        ids += some;
        n -= some;
    }
    return 0;
}

static int write_index(struct dlm_foreign_writer *w, struct dlm_error *err)
{
    uint8_t head[HEAD_BYTES], b[8];
    int rc = dlm_output_open(&w->idx, w->idx_path, err);
    if (rc)
        return rc;
    FILE *f = w->idx.file;
    memcpy(head, magic, sizeof magic);
    dlm_frame_put64(head + 9, 1);
    head[17] = w->id_bytes == 2 ? 8 : 4;
    dlm_frame_put64(head + 18, w->n);
    dlm_frame_put64(head + 26, w->n + 1);
    fwrite(head, 1, sizeof head, f);
    for (size_t i = 0; i < w->n; i++) {
        dlm_frame_put32(b, w->lengths[i]);
        fwrite(b, 1, 4, f);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        dlm_frame_put64(b, at);
        fwrite(b, 1, 8, f);
        at += (uint64_t)w->lengths[i] * w->id_bytes;
    }
    for (size_t i = 0; i <= w->n; i++) {
        dlm_frame_put64(b, i);
        fwrite(b, 1, 8, f);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", w->idx_path) : 0;
}

int dlm_foreign_finish(struct dlm_foreign_writer *w, struct dlm_error *err)
{
    int rc = 0;
    if (w->format == DLM_FOREIGN_MEGATRON) {
        if (w->length)
            rc = end_document(w, err);
        if (!rc)
            rc = write_index(w, err);
    }
    if (!rc)
        rc = dlm_output_commit(&w->bin, err);
    if (!rc && w->format == DLM_FOREIGN_MEGATRON)
        rc = dlm_output_commit(&w->idx, err);
    return rc;
}
