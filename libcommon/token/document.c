/* Documents out of text: a window over the (decompressed) bytes of one file after the other.
 *
 * Offsets in messages count the text's bytes, after decompression. JSON is read by token/field.c, one line at a time.
 */
#include "token/document.h"

#include "base/stop.h"
#include "text/split.h"
#include "text/utf8.h"
#include "token/field.h"
#include "token/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { RAW_BYTES = 128 << 10, WINDOW_START = 256 << 10, WAIT_MS = 100 };

struct dlm_documents {
    struct dlm_document_options options;
    const char *const *paths;
    size_t n_paths, next_path;
    uint64_t raw_total, raw_done;
    /* the file that is open */
    const char *name; /* as errors say it, without quotes */
    int fd;           /* -1: none */
    bool regular;     /* a file that is always ready */
    uint8_t *raw;     /* (RAW_BYTES) as stored */
    size_t raw_at, raw_n;
    bool raw_end, compressed;
    ZSTD_DCtx *zstd;
    size_t zstd_wants; /* what the last call returned: 0 between frames */
    /* its text: buf[start..end) was read and not yet given */
    uint8_t *buf;
    size_t cap, start, scan, end; /* the end of a document was looked for up to scan */
    size_t uncut;                 /* no line feed before it parts the document */
    size_t found, terminator;     /* where it ends, once that is known */
    bool ended;
    uint64_t base;                /* offset of buf[0] in the text */
    uint64_t line;                /* of the document being read, from 1 */
    bool at_end, inside;          /* inside: a part of this document was given */
    /* by blank lines */
    size_t line_start;
    bool line_text, document_text, blank_seen;
    struct dlm_field *field;      /* holds the text of the part given last */
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

int dlm_documents_open(struct dlm_documents **out, const char *const *paths, size_t n, const struct dlm_document_options *options,
                       struct dlm_error *err)
{
    static const char *const standard_input[] = {"-"};
    struct dlm_documents *d = calloc(1, sizeof *d);
    if (!d)
        return no_memory(err);
    d->options = *options;
    d->paths = n ? paths : standard_input;
    d->n_paths = n ? n : 1;
    d->fd = -1;
    d->raw = malloc(RAW_BYTES);
    d->cap = WINDOW_START;
    d->buf = malloc(d->cap);
    if (!d->raw || !d->buf) {
        dlm_documents_close(d);
        return no_memory(err);
    }
    for (size_t i = 0; i < d->n_paths; i++) {
        struct stat st;
        int bad = strcmp(d->paths[i], "-") ? stat(d->paths[i], &st) : fstat(STDIN_FILENO, &st);
        if (bad || !S_ISREG(st.st_mode)) {
            d->raw_total = 0;
            break;
        }
        d->raw_total += (uint64_t)st.st_size;
    }
    *out = d;
    return 0;
}

static void close_file(struct dlm_documents *d)
{
    if (d->fd > STDIN_FILENO)
        close(d->fd);
    d->fd = -1;
}

void dlm_documents_close(struct dlm_documents *d)
{
    if (!d)
        return;
    close_file(d);
    dlm_field_free(d->field);
    ZSTD_freeDCtx(d->zstd);
    free(d->raw);
    free(d->buf);
    free(d);
}

uint64_t dlm_documents_position(const struct dlm_documents *d, uint64_t *total)
{
    *total = d->raw_total;
    return d->raw_done;
}

/* --- bytes ------------------------------------------------------------------------------------------------------------------ */

/* Wait where reading might: for a pipe or terminal, which may stay silent while a signal comes to another thread. Short enough
 * that a person does not notice, long enough to cost nothing. */
static bool wants_to_stop(const struct dlm_documents *d)
{
    int ready = 0;
    while (!ready) {
        if (dlm_stop_signal() || (d->options.quit && *d->options.quit))
            return true;
        ready = d->regular ? 1 : poll(&(struct pollfd){.fd = d->fd, .events = POLLIN}, 1, WAIT_MS);
        if (ready < 0 && errno == EINTR) /* by a signal, perhaps one to stop */
            ready = 0;
    }
    return false;
}

/* More stored bytes behind those that are there. */
static int read_raw(struct dlm_documents *d, struct dlm_error *err)
{
    if (d->raw_at == d->raw_n)
        d->raw_at = d->raw_n = 0;
    for (;;) {
        if (wants_to_stop(d))
            return dlm_fail(err, DLM_ESTOPPED, "interrupted");
        ssize_t got = read(d->fd, d->raw + d->raw_n, RAW_BYTES - d->raw_n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", d->name);
        d->raw_end = got == 0;
        d->raw_n += (size_t)got;
        d->raw_done += (uint64_t)got;
        return 0;
    }
}

static uint32_t little32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int open_next(struct dlm_documents *d, struct dlm_error *err)
{
    const char *path = d->paths[d->next_path++];
    bool standard = !strcmp(path, "-");
    d->name = standard ? "standard input" : path;
    d->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (d->fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    struct stat st;
    d->regular = !fstat(d->fd, &st) && S_ISREG(st.st_mode);
    d->raw_at = d->raw_n = d->start = d->scan = d->end = d->uncut = d->line_start = 0;
    d->base = 0;
    d->line = 1;
    d->raw_end = d->compressed = d->at_end = d->inside = d->ended = d->line_text = d->document_text = d->blank_seen = false;
    while (d->raw_n < 4 && !d->raw_end) {
        int rc = read_raw(d, err);
        if (rc)
            return rc;
    }
    uint32_t magic = d->raw_n >= 4 ? little32(d->raw) : 0;
    if (magic == DLM_FRAME_SKIPPABLE)
        return dlm_fail(err, DLM_EDATA, "'%s' is a token stream, not text", d->name);
    d->compressed = magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
    if (d->compressed) {
        if (!d->zstd && !(d->zstd = ZSTD_createDCtx()))
            return no_memory(err);
        ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only);
        d->zstd_wants = 0;
    }
    return 0;
}

/* Some more text behind buf[end), or at_end. */
static int read_text(struct dlm_documents *d, struct dlm_error *err)
{
    if (d->start && d->cap - d->end < d->cap / 2) { /* move what is left to the front */
        memmove(d->buf, d->buf + d->start, d->end - d->start);
        d->base += d->start;
        d->end -= d->start;
        d->scan -= d->start;
        d->line_start -= d->line_start < d->start ? d->line_start : d->start;
        d->uncut -= d->uncut < d->start ? d->uncut : d->start;
        d->start = 0;
    }
    if (d->cap - d->end < d->cap / 4) {
        uint8_t *more = realloc(d->buf, 2 * d->cap);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "'%s': no memory for a document of more than %zu bytes", d->name, d->end - d->start);
        d->buf = more;
        d->cap *= 2;
    }
    for (;;) {
        if (d->raw_at == d->raw_n && !d->raw_end) {
            int rc = read_raw(d, err);
            if (rc)
                return rc;
        }
        size_t have = d->raw_n - d->raw_at;
        if (!d->compressed) {
            size_t n = have < d->cap - d->end ? have : d->cap - d->end;
            memcpy(d->buf + d->end, d->raw + d->raw_at, n);
            d->raw_at += n;
            d->end += n;
            d->at_end = !n;
            return 0;
        }
        if (!have && d->zstd_wants == 0) {
            d->at_end = true;
            return 0;
        }
        ZSTD_inBuffer in = {d->raw, d->raw_n, d->raw_at};
        ZSTD_outBuffer to = {d->buf, d->cap, d->end};
        size_t wants = ZSTD_decompressStream(d->zstd, &to, &in);
        if (ZSTD_isError(wants))
            return dlm_fail(err, DLM_EDATA, "'%s' is corrupt: zstd near byte %llu: %s", d->name,
                            (unsigned long long)(d->raw_done - d->raw_n + d->raw_at), ZSTD_getErrorName(wants));
        if (!have && to.pos == d->end) /* the decoder has given all it had and still wants more */
            return dlm_fail(err, DLM_EDATA, "'%s' is truncated: its zstd data ends at byte %llu within a frame", d->name,
                            (unsigned long long)d->raw_done);
        bool gave = to.pos > d->end;
        d->raw_at = in.pos;
        d->end = to.pos;
        d->zstd_wants = wants;
        if (gave)
            return 0;
    }
}

/* --- documents ------------------------------------------------------------------------------------------------------------- */

/* Look for the end of the document that begins at `start`: the place, and how many bytes of terminator follow it. */
static bool find_end(struct dlm_documents *d, size_t *at, size_t *terminator)
{
    if (d->options.by == DLM_BY_FILE && !d->options.field) {
        d->scan = d->end;
        return false;
    }
    if (d->options.by != DLM_BY_BLANK || d->options.field) {
        int c = d->options.by == DLM_BY_NUL && !d->options.field ? 0 : '\n';
        const uint8_t *p = memchr(d->buf + d->scan, c, d->end - d->scan);
        d->scan = p ? (size_t)(p - d->buf) + 1 : d->end;
        *at = d->scan - 1;
        *terminator = 1;
        return p != NULL;
    }
    while (d->scan < d->end) {
        if (d->line_text) {
            const uint8_t *p = memchr(d->buf + d->scan, '\n', d->end - d->scan);
            d->scan = p ? (size_t)(p - d->buf) + 1 : d->end;
            if (p) {
                d->line_start = d->scan;
                d->line_text = false;
            }
            continue;
        }
        uint8_t c = d->buf[d->scan];
        if (c == '\n') {
            d->blank_seen = d->document_text; /* blank lines before any text belong to the document that follows */
            d->line_start = ++d->scan;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            d->scan++;
        } else {
            bool ends = d->blank_seen;
            d->line_text = d->document_text = true;
            d->blank_seen = false;
            if (ends) {
                *at = d->line_start;
                *terminator = 0;
                return true;
            }
        }
    }
    return false;
}

/* A line of JSON Lines. */
static int give_line(struct dlm_documents *d, const uint8_t *text, size_t len, struct dlm_document_part *part, struct dlm_error *err)
{
    int rc = 0;
    if (!d->options.unparsed && !d->field)
        rc = dlm_field_new(&d->field, d->options.field, err);
    if (!rc && !d->options.unparsed)
        rc = dlm_field_text(d->field, text, len, d->name, d->line, &text, &len, err);
    if (rc)
        return rc;
    *part = (struct dlm_document_part){text, len, 0, true, true, d->line, d->name};
    return 1;
}

/* Give buf[start..at), which ends the document unless it ends in a cut. Blank lines of JSON Lines are 0: nothing to give. */
static int give(struct dlm_documents *d, size_t at, size_t terminator, bool last, struct dlm_document_part *part,
                struct dlm_error *err)
{
    const uint8_t *text = d->buf + d->start;
    size_t len = at - d->start;
    if (d->options.strict) {
        size_t good = dlm_utf8_prefix(text, len);
        if (good < len)
            return dlm_fail(err, DLM_EDATA, "'%s' is not UTF-8 at byte %llu", d->name,
                            (unsigned long long)(d->base + d->start + good));
    }
    int rc = 1;
    if (d->options.field) {
        size_t i = 0;
        while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
            i++;
        rc = i < len ? give_line(d, text, len, part, err) : 0;
    } else {
        *part = (struct dlm_document_part){text, len, !last, !d->inside, last, 0, d->name};
    }
    d->inside = !last;
    d->start = at + terminator;
    d->uncut = d->start;
    d->line++;
    return rc;
}

static bool letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* The first place where a document may be cut (dlm_split_cut) that is part_bytes or more behind `start` and before `limit`, 0
 * when there is none. The first, so that parts do not depend on how much was read at a time. */
static size_t first_cut(struct dlm_documents *d, size_t limit)
{
    size_t from = d->start + d->options.part_bytes - 1;
    from = d->uncut > from ? d->uncut : from;
    while (from + 1 < limit) {
        const uint8_t *lf = memchr(d->buf + from, '\n', limit - 1 - from);
        if (!lf)
            break;
        size_t p = (size_t)(lf - d->buf) + 1;
        if (letter(d->buf[p]))
            return p;
        from = p;
    }
    if (limit > d->start + d->options.part_bytes)
        d->uncut = limit - 1;
    return 0;
}

int dlm_documents_next(struct dlm_documents *d, struct dlm_document_part *part, struct dlm_error *err)
{
    bool cuts = d->options.part_bytes && !d->options.field && d->options.by != DLM_BY_LINE;
    for (;;) {
        if (d->fd < 0) {
            if (d->next_path == d->n_paths)
                return 0;
            int rc = open_next(d, err);
            if (rc)
                return rc;
        }
        int rc = 0;
        d->ended = d->ended || find_end(d, &d->found, &d->terminator);
        size_t at = cuts ? first_cut(d, d->ended ? d->found : d->end) : 0;
        if (at) {
            rc = give(d, at, 0, false, part, err);
        } else if (d->ended) {
            d->ended = false;
            rc = give(d, d->found, d->terminator, true, part, err);
        } else if (d->at_end) {
            close_file(d);
            if (d->end > d->start || (d->options.by == DLM_BY_FILE && !d->options.field))
                rc = give(d, d->end, 0, true, part, err);
        } else {
            rc = read_text(d, err);
        }
        if (rc)
            return rc;
    }
}
