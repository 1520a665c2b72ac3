/* An external merge sort of documents.
 *
 * The arena holds records from below (a header, then the ids, padded to 8 bytes) and one entry a record from above; where they meet,
 * the records are written in order as a run. Runs hold records as the arena does. Merging reads as many runs at once as leave each
 * a buffer worth a disk's while, in several passes if it must; passes alternate between two files so that space is given back.
 */
#include "token/shuffle.h"

#include "base/stop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 64 << 10, /* at least, for each run that is merged */
    PIECE_IDS = 4096,        /* handed to a sink at once */
    MAX_WIDTH = 1 << 14,     /* runs merged at once */
    AHEAD = 12               /* records that are on their way from memory */
};

struct entry {
    uint64_t key, at; /* of the record in the arena */
};

struct run {
    uint64_t at, bytes; /* in the file */
};

struct spill {
    int fd;
    uint64_t end;
    struct run *runs;
    size_t n, cap;
};

struct dlm_shuffle {
    uint8_t *arena;
    size_t memory;
    size_t low, start;     /* bytes used from below; where the record being put in begins */
    size_t entries;        /* from above */
    unsigned id_bytes;
    const char *dir;
    struct spill spill;
    uint64_t runs_made;
    bool large;            /* the document being put in is a run of its own already: its header stands at large_at */
    uint64_t large_at;
    uint64_t n;            /* its ids so far */
};

static size_t padded(uint64_t bytes)
{
    return (size_t)((bytes + 7) & ~(uint64_t)7);
}

int dlm_shuffle_new(struct dlm_shuffle **out, size_t memory, unsigned id_bytes, const char *dir, struct dlm_error *err)
{
    *out = NULL;
    assert(id_bytes == 2 || id_bytes == 4);
    struct dlm_shuffle *s = calloc(1, sizeof *s);
    if (!s)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->memory = (memory < DLM_SHUFFLE_MIN_MEMORY ? DLM_SHUFFLE_MIN_MEMORY : memory) & ~(size_t)15;
    s->id_bytes = id_bytes;
    s->dir = dir;
    s->spill.fd = -1;
    s->low = sizeof(struct dlm_shuffle_document);
    s->arena = malloc(s->memory); /* what is not touched costs nothing */
    if (!s->arena) {
        free(s);
        return dlm_fail(err, DLM_ENOMEM, "out of memory: no %zu bytes for shuffling (see --memory)", memory);
    }
    uintptr_t page = 4096, from = ((uintptr_t)s->arena + page - 1) & ~(page - 1), end = ((uintptr_t)s->arena + s->memory) & ~(page - 1);
    if (end > from)
        (void)madvise((void *)from, end - from, MADV_HUGEPAGE); /* records are met in random order; where it is refused it is slower */
    *out = s;
    return 0;
}

static void spill_close(struct spill *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->runs);
    *p = (struct spill){.fd = -1};
}

void dlm_shuffle_free(struct dlm_shuffle *s)
{
    if (!s)
        return;
    spill_close(&s->spill);
    free(s->arena);
    free(s);
}

uint64_t dlm_shuffle_runs(const struct dlm_shuffle *s)
{
    return s->runs_made;
}

/* --- the arena ------------------------------------------------------------------------------------------------------------ */

static struct entry *entry(const struct dlm_shuffle *s, size_t i)
{
    return (struct entry *)(void *)(s->arena + s->memory) - 1 - i;
}

static const struct dlm_shuffle_document *record(const struct dlm_shuffle *s, uint64_t at)
{
    return (const struct dlm_shuffle_document *)(const void *)(s->arena + at);
}

/* Entry i will soon be wanted: in sorted order records lie anywhere, and waiting for each would take longer than copying it. */
static void expect(const struct dlm_shuffle *s, size_t i)
{
    enum { LINE = 64, LINES = 4 };
    if (i >= s->entries)
        return;
    const uint8_t *r = s->arena + entry(s, i)->at;
    for (int k = 0; k < LINES; k++)
        __builtin_prefetch(r + k * LINE);
}

static bool before(const struct dlm_shuffle_document *a, const struct dlm_shuffle_document *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    if (a->hash[0] != b->hash[0])
        return a->hash[0] < b->hash[0];
    if (a->hash[1] != b->hash[1])
        return a->hash[1] < b->hash[1];
    return a->ordinal < b->ordinal;
}

static bool entry_before(const struct dlm_shuffle *s, struct entry a, struct entry b)
{
    return a.key != b.key ? a.key < b.key : before(record(s, a.at), record(s, b.at));
}

/* Sort entries lo … hi-1 in place: a library's sort may take as much again. Keys are random, so quicksort's worst case is not met. */
static void sort(const struct dlm_shuffle *s, size_t lo, size_t hi)
{
    while (hi - lo > 16) {
        struct entry a = *entry(s, lo), b = *entry(s, lo + (hi - lo) / 2), c = *entry(s, hi - 1);
        struct entry pivot = entry_before(s, a, b) ? (entry_before(s, b, c) ? b : entry_before(s, a, c) ? c : a)
                                                   : (entry_before(s, a, c) ? a : entry_before(s, b, c) ? c : b);
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (entry_before(s, *entry(s, i), pivot))
                i++;
            while (entry_before(s, pivot, *entry(s, j)))
                j--;
            if (i >= j)
                break;
            struct entry t = *entry(s, i);
            *entry(s, i++) = *entry(s, j);
            *entry(s, j--) = t;
        }
        /* Everything below i is ≤ pivot, everything above j is ≥ pivot. */
        if (j + 1 - lo < hi - j - 1) {
            sort(s, lo, j + 1);
            lo = j + 1;
        } else {
            sort(s, j + 1, hi);
            hi = j + 1;
        }
    }
    for (size_t i = lo + 1; i < hi; i++) {
        struct entry t = *entry(s, i);
        size_t j = i;
        for (; j > lo && entry_before(s, t, *entry(s, j - 1)); j--)
            *entry(s, j) = *entry(s, j - 1);
        *entry(s, j) = t;
    }
}

/* --- the temporary file --------------------------------------------------------------------------------------------------- */

static int spill_open(struct spill *p, const char *dir, struct dlm_error *err)
{
    p->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (p->fd < 0) { /* a file system without nameless files */
        char *name;
        if (asprintf(&name, "%s/run-XXXXXX", dir) < 0)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        p->fd = mkostemp(name, O_CLOEXEC);
        if (p->fd >= 0)
            unlink(name);
        free(name);
    }
    return p->fd < 0 ? dlm_fail_errno(err, DLM_EIO, "cannot make a temporary file in '%s'", dir) : 0;
}

static int spill_write(struct spill *p, const void *bytes, size_t n, const char *dir, struct dlm_error *err)
{
    for (const uint8_t *b = bytes; n;) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        ssize_t put = pwrite(p->fd, b, n < 1 << 30 ? n : 1 << 30, (off_t)p->end);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot write a temporary file in '%s'", dir);
        b += put;
        n -= (size_t)put;
        p->end += (uint64_t)put;
    }
    return 0;
}

static int run_begin(struct spill *p, const char *dir, struct dlm_error *err)
{
    if (p->fd < 0) {
        int rc = spill_open(p, dir, err);
        if (rc)
            return rc;
    }
    if (p->n == p->cap) {
        size_t more = p->cap ? 2 * p->cap : 64;
        struct run *r = realloc(p->runs, more * sizeof *r);
        if (!r)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        p->runs = r;
        p->cap = more;
    }
    p->runs[p->n++] = (struct run){p->end, 0};
    return 0;
}

static void run_end(struct spill *p)
{
    p->runs[p->n - 1].bytes = p->end - p->runs[p->n - 1].at;
}

/* Collects small writes; the buffer is the caller's. */
struct buffered {
    struct spill *to;
    uint8_t *at;
    size_t n, room;
    const char *dir;
};

static int buffered_flush(struct buffered *b, struct dlm_error *err)
{
    int rc = spill_write(b->to, b->at, b->n, b->dir, err);
    b->n = 0;
    return rc;
}

static int buffered_put(struct buffered *b, const void *bytes, size_t n, struct dlm_error *err)
{
    const uint8_t *p = bytes;
    while (n) {
        size_t take = b->room - b->n < n ? b->room - b->n : n;
        memcpy(b->at + b->n, p, take);
        b->n += take;
        p += take;
        n -= take;
        if (b->n == b->room) {
            int rc = buffered_flush(b, err);
            if (rc)
                return rc;
        }
    }
    return 0;
}

/* Write all whole documents of the arena as one run and move the unfinished one to the bottom. */
static int spill_arena(struct dlm_shuffle *s, struct dlm_error *err)
{
    struct buffered b = {.to = &s->spill, .room = 1 << 16, .dir = s->dir};
    int rc = run_begin(&s->spill, s->dir, err);
    if (rc)
        return rc;
    b.at = malloc(b.room);
    if (!b.at)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    sort(s, 0, s->entries);
    for (size_t i = 0; i < s->entries && !rc; i++) {
        const struct dlm_shuffle_document *d = record(s, entry(s, i)->at);
        expect(s, i + AHEAD);
        rc = buffered_put(&b, d, sizeof *d + padded(d->n * s->id_bytes), err);
    }
    if (!rc)
        rc = buffered_flush(&b, err);
    free(b.at);
    if (rc)
        return rc;
    run_end(&s->spill);
    s->runs_made++;
    memmove(s->arena, s->arena + s->start, s->low - s->start);
    s->low -= s->start;
    s->start = 0;
    s->entries = 0;
    return 0;
}

/* --- putting documents in ------------------------------------------------------------------------------------------------- */

static size_t room_left(const struct dlm_shuffle *s)
{
    /* Kept free: this document's padding and entry, and the next one's header. */
    size_t kept = 8 + sizeof(struct entry) + sizeof(struct dlm_shuffle_document), top = s->memory - s->entries * sizeof(struct entry);
    return top > s->low + kept ? top - s->low - kept : 0;
}

int dlm_shuffle_add(struct dlm_shuffle *s, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    while (n) {
        size_t room = room_left(s) / s->id_bytes;
        if (!room) {
            int rc;
            if (s->entries) {
                rc = spill_arena(s, err);
            } else {
                /* One document fills the arena: from here on it is written as it comes, the header's place kept. */
                if (!s->large) {
                    rc = run_begin(&s->spill, s->dir, err);
                    if (rc)
                        return rc;
                    s->large = true;
                    s->large_at = s->spill.end;
                    memset(s->arena, 0, sizeof(struct dlm_shuffle_document));
                }
                rc = spill_write(&s->spill, s->arena, s->low, s->dir, err);
                s->low = 0;
            }
            if (rc)
                return rc;
            continue;
        }
        size_t take = n < room ? n : room;
        if (s->id_bytes == 2) {
            for (size_t i = 0; i < take; i++) {
                uint16_t v = (uint16_t)ids[i];
                memcpy(s->arena + s->low + 2 * i, &v, 2);
            }
        } else {
            memcpy(s->arena + s->low, ids, 4 * take);
        }
        s->low += take * s->id_bytes;
        s->n += take;
        ids += take;
        n -= take;
    }
    return 0;
}

int dlm_shuffle_end(struct dlm_shuffle *s, const struct dlm_shuffle_document *d, struct dlm_error *err)
{
    struct dlm_shuffle_document h = *d;
    h.n = s->n;
    size_t pad = padded(s->n * s->id_bytes) - (size_t)(s->n * s->id_bytes);
    memset(s->arena + s->low, 0, pad);
    s->low += pad;
    s->n = 0;
    if (s->large) {
        int rc = spill_write(&s->spill, s->arena, s->low, s->dir, err);
        if (rc)
            return rc;
        run_end(&s->spill);
        s->runs_made++;
        uint64_t end = s->spill.end;
        s->spill.end = s->large_at;
        rc = spill_write(&s->spill, &h, sizeof h, s->dir, err);
        if (rc)
            return rc;
        s->spill.end = end;
        s->large = false;
        s->start = 0;
        s->low = sizeof h;
        return 0;
    }
    memcpy(s->arena + s->start, &h, sizeof h);
    *entry(s, s->entries++) = (struct entry){h.key, s->start};
    s->start = s->low;
    s->low += sizeof h; /* fits: room_left kept it */
    return room_left(s) ? 0 : spill_arena(s, err);
}

/* --- handing them out ----------------------------------------------------------------------------------------------------- */

static int deliver_ids(const struct dlm_shuffle_sink *sink, const uint8_t *at, uint64_t n, unsigned id_bytes, struct dlm_error *err)
{
    uint32_t ids[PIECE_IDS];
    while (n) {
        size_t take = n < PIECE_IDS ? (size_t)n : PIECE_IDS;
        if (id_bytes == 2) {
            for (size_t i = 0; i < take; i++) {
                uint16_t v;
                memcpy(&v, at + 2 * i, 2);
                ids[i] = v;
            }
        } else {
            memcpy(ids, at, 4 * take);
        }
        int rc = sink->ids(sink->to, ids, take, err);
        if (rc)
            return rc;
        at += take * id_bytes;
        n -= take;
    }
    return 0;
}

/* A run that is being read. */
struct cursor {
    struct run left; /* not yet in the buffer */
    uint8_t *buf;
    size_t pos, len, room;
    struct dlm_shuffle_document head;
};

static int cursor_fill(struct cursor *c, const struct dlm_shuffle *s, struct dlm_error *err)
{
    size_t want = c->left.bytes < c->room ? (size_t)c->left.bytes : c->room;
    c->pos = c->len = 0;
    while (c->len < want) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        ssize_t got = pread(s->spill.fd, c->buf + c->len, want - c->len, (off_t)c->left.at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dlm_fail_errno(err, DLM_EIO, "cannot read a temporary file in '%s'", s->dir);
        if (!got)
            return dlm_fail(err, DLM_EIO, "a temporary file in '%s' is shorter than it was written", s->dir);
        c->len += (size_t)got;
        c->left.at += (uint64_t)got;
        c->left.bytes -= (uint64_t)got;
    }
    return 0;
}

/* The next record's header; *more = false at the end of the run. */
static int cursor_next(struct cursor *c, const struct dlm_shuffle *s, bool *more, struct dlm_error *err)
{
    uint8_t *to = (uint8_t *)&c->head;
    size_t n = sizeof c->head;
    *more = c->pos < c->len || c->left.bytes;
    while (*more && n) {
        if (c->pos == c->len) {
            int rc = c->left.bytes ? cursor_fill(c, s, err) : dlm_fail(err, DLM_EIO, "a temporary file in '%s' changed", s->dir);
            if (rc)
                return rc;
        }
        size_t take = c->len - c->pos < n ? c->len - c->pos : n;
        memcpy(to, c->buf + c->pos, take);
        c->pos += take;
        to += take;
        n -= take;
    }
    if (*more && (c->head.n > UINT64_MAX / 8 || padded(c->head.n * s->id_bytes) > c->left.bytes + (c->len - c->pos)))
        return dlm_fail(err, DLM_EIO, "a temporary file in '%s' changed", s->dir);
    return 0;
}

/* Its body to a sink, or as it is to a run. */
static int cursor_body(struct cursor *c, const struct dlm_shuffle *s, const struct dlm_shuffle_sink *sink, struct buffered *out,
                       struct dlm_error *err)
{
    uint64_t ids = c->head.n, bytes = padded(ids * s->id_bytes);
    int rc = sink ? sink->begin(sink->to, &c->head, err) : buffered_put(out, &c->head, sizeof c->head, err);
    while (!rc && bytes) {
        if (c->pos == c->len && (rc = cursor_fill(c, s, err)))
            break;
        size_t take = c->len - c->pos < bytes ? c->len - c->pos : (size_t)bytes;
        if (sink) { /* records, buffers and headers are multiples of 8: a piece never cuts an id */
            uint64_t n = take / s->id_bytes < ids ? take / s->id_bytes : ids;
            rc = deliver_ids(sink, c->buf + c->pos, n, s->id_bytes, err);
            ids -= n;
        } else {
            rc = buffered_put(out, c->buf + c->pos, take, err);
        }
        c->pos += take;
        bytes -= take;
    }
    return rc;
}

static void sift(struct cursor *cursors, uint32_t *heap, size_t n, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < n; k++)
            if (before(&cursors[heap[k]].head, &cursors[heap[least]].head))
                least = k;
        if (least == i)
            return;
        uint32_t t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

/* Merge `n` runs; the arena, one part a run, is the buffers. */
static int merge(struct dlm_shuffle *s, const struct run *runs, size_t n, size_t part, const struct dlm_shuffle_sink *sink,
                 struct buffered *out, struct dlm_error *err)
{
    struct cursor *cursors = calloc(n, sizeof *cursors);
    uint32_t *heap = malloc(n * sizeof *heap);
    int rc = cursors && heap ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    size_t live = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        bool more;
        cursors[i] = (struct cursor){.left = runs[i], .buf = s->arena + i * part, .room = part};
        rc = cursor_next(&cursors[i], s, &more, err);
        if (!rc && more)
            heap[live++] = (uint32_t)i;
    }
    for (size_t i = live / 2; !rc && i-- > 0;)
        sift(cursors, heap, live, i);
    while (!rc && live) {
        struct cursor *c = &cursors[heap[0]];
        bool more = false;
        rc = cursor_body(c, s, sink, out, err);
        if (!rc)
            rc = cursor_next(c, s, &more, err);
        if (!rc && !more)
            heap[0] = heap[--live];
        sift(cursors, heap, live, 0);
    }
    free(cursors);
    free(heap);
    return rc;
}

/* Passes over all runs until at most `width` are left. */
static int narrow(struct dlm_shuffle *s, size_t width, size_t part, struct dlm_error *err)
{
    while (s->spill.n > width) {
        struct spill next = {.fd = -1};
        struct buffered out = {.to = &next, .at = s->arena + width * part, .room = part, .dir = s->dir};
        int rc = 0;
        for (size_t i = 0; i < s->spill.n && !rc; i += width) {
            rc = run_begin(&next, s->dir, err);
            if (!rc)
                rc = merge(s, s->spill.runs + i, s->spill.n - i < width ? s->spill.n - i : width, part, NULL, &out, err);
            if (!rc)
                rc = buffered_flush(&out, err);
            if (!rc)
                run_end(&next);
        }
        if (rc) {
            spill_close(&next);
            return rc;
        }
        spill_close(&s->spill);
        s->spill = next;
    }
    return 0;
}

int dlm_shuffle_deliver(struct dlm_shuffle *s, const struct dlm_shuffle_sink *sink, struct dlm_error *err)
{
    assert(!s->n && !s->large);
    int rc = 0;
    if (!s->spill.n) {
        sort(s, 0, s->entries);
        for (size_t i = 0; i < s->entries && !rc; i++) {
            const struct dlm_shuffle_document *d = record(s, entry(s, i)->at);
            expect(s, i + AHEAD);
            if (dlm_stop_signal())
                return dlm_fail(err, DLM_ESTOPPED, "stopped");
            rc = sink->begin(sink->to, d, err);
            if (!rc)
                rc = deliver_ids(sink, (const uint8_t *)(d + 1), d->n, s->id_bytes, err);
        }
        return rc;
    }
    if (s->entries && (rc = spill_arena(s, err)))
        return rc;
    /* One part more than runs: an intermediate pass writes through the last. */
    size_t width = s->memory / BUFFER_BYTES - 1;
    width = width > MAX_WIDTH ? MAX_WIDTH : width;
    size_t used = s->spill.n < width ? s->spill.n : width, part = s->memory / (used + 1) & ~(size_t)7;
    rc = narrow(s, width, part, err);
    return rc ? rc : merge(s, s->spill.runs, s->spill.n, part, sink, NULL, err);
}
