/* Which steps of which curve were read before; see repeats.h. */
#include "metric/repeats.h"

#include "metric/grow.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 256, IN_MEMORY = 32 << 20 };

struct chunk {
    double first, last; /* steps */
    struct dlm_seen *at; /* NULL: in the file */
    int64_t offset;
};

/* The rows of a curve with rising steps: full chunks, and the one being filled. */
struct curve {
    struct chunk *chunks;
    size_t n_chunks, room, n; /* n: rows in `open` */
    struct dlm_seen *open;
    size_t room_open;
};

struct late {
    size_t curve; /* 1 + its number; 0: a free place */
    struct dlm_seen seen;
};

struct dlm_repeats {
    struct curve *curves;
    size_t n_curves;
    struct late *late;
    size_t n_late, room_late;
    int file; /* -1: none yet, -2: none can be had */
    int64_t end;
    size_t in_memory;
    struct dlm_seen read[CHUNK]; /* the chunk read last from the file */
    int64_t read_offset;
};

struct dlm_repeats *dlm_repeats_new(void)
{
    struct dlm_repeats *r = calloc(1, sizeof *r);
    if (r)
        r->file = r->read_offset = -1;
    return r;
}

void dlm_repeats_free(struct dlm_repeats *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_curves; i++) {
        for (size_t k = 0; k < r->curves[i].n_chunks; k++)
            free(r->curves[i].chunks[k].at);
        free(r->curves[i].chunks);
        free(r->curves[i].open);
    }
    free(r->curves);
    free(r->late);
    if (r->file >= 0)
        close(r->file);
    free(r);
}

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

static int open_file(void)
{
    const char *dirs[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
    for (int i = 0; i < 3; i++) {
        char path[4096];
        if (!dirs[i] || !*dirs[i] || strlen(dirs[i]) > sizeof path - 32)
            continue;
        strcpy(stpcpy(path, dirs[i]), "/dlm-steps-XXXXXX");
        int fd = mkstemp(path);
        if (fd >= 0) {
            unlink(path);
            return fd;
        }
    }
    return -2;
}

/* Put the full chunk away. */
static int close_chunk(struct dlm_repeats *r, struct curve *c, struct dlm_error *err)
{
    struct chunk *more = dlm_grow(c->chunks, sizeof *more, &c->room, c->n_chunks + 1);
    if (!more)
        return no_memory(err);
    c->chunks = more;
    struct chunk *to = &c->chunks[c->n_chunks];
    *to = (struct chunk){c->open[0].step, c->open[CHUNK - 1].step, NULL, r->end};
    const size_t size = CHUNK * sizeof *c->open;
    if (r->in_memory + size > IN_MEMORY && r->file == -1)
        r->file = open_file();
    if (r->in_memory + size > IN_MEMORY && r->file >= 0) {
        if (pwrite(r->file, c->open, size, r->end) == (ssize_t)size) {
            r->end += (int64_t)size;
            c->n_chunks++;
            c->n = 0;
            return 0;
        }
    }
    to->at = c->open;
    c->n_chunks++;
    c->open = NULL;
    c->n = c->room_open = 0;
    r->in_memory += size;
    return 0;
}

static const struct dlm_seen *search(const struct dlm_seen *s, size_t n, double step)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s[mid].step < step)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && s[low].step == step ? &s[low] : NULL;
}

/* Among the rows that came in order: 1 found, 0 not. */
static int find(struct dlm_repeats *r, const struct curve *c, double step, struct dlm_seen *before, struct dlm_error *err)
{
    const struct dlm_seen *s = NULL;
    if (c->n && step >= c->open[0].step) {
        s = search(c->open, c->n, step);
    } else {
        size_t low = 0, high = c->n_chunks;
        while (low < high) { /* the first chunk that ends at or after the step */
            size_t mid = (low + high) / 2;
            if (c->chunks[mid].last < step)
                low = mid + 1;
            else
                high = mid;
        }
        if (low == c->n_chunks || c->chunks[low].first > step)
            return 0;
        const struct chunk *k = &c->chunks[low];
        if (!k->at && r->read_offset != k->offset) {
            r->read_offset = -1;
            if (pread(r->file, r->read, sizeof r->read, k->offset) != (ssize_t)sizeof r->read)
                return dlm_fail_errno(err, DLM_EIO, "cannot read back a temporary file");
            r->read_offset = k->offset;
        }
        s = search(k->at ? k->at : r->read, CHUNK, step);
    }
    if (s)
        *before = *s;
    return s != NULL;
}

static size_t place_of(const struct dlm_repeats *r, size_t curve, double step)
{
    uint64_t bits;
    memcpy(&bits, &step, sizeof bits);
    bits = (bits ^ (uint64_t)(curve + 1) * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd;
    size_t at = (bits ^ bits >> 32) & (r->room_late - 1);
    while (r->late[at].curve && (r->late[at].curve != curve + 1 || r->late[at].seen.step != step))
        at = (at + 1) & (r->room_late - 1);
    return at;
}

/* A step below the highest of its curve. */
static int find_late(struct dlm_repeats *r, size_t curve, const struct dlm_seen *row, struct dlm_seen *before,
                     struct dlm_error *err)
{
    if (4 * (r->n_late + 1) > 3 * r->room_late) {
        struct dlm_repeats old = *r;
        r->room_late = old.room_late ? 2 * old.room_late : 1024;
        r->late = calloc(r->room_late, sizeof *r->late);
        if (!r->late) {
            r->late = old.late;
            r->room_late = old.room_late;
            return no_memory(err);
        }
        for (size_t i = 0; i < old.room_late; i++)
            if (old.late[i].curve)
                r->late[place_of(r, old.late[i].curve - 1, old.late[i].seen.step)] = old.late[i];
        free(old.late);
    }
    size_t at = place_of(r, curve, row->step);
    if (r->late[at].curve) {
        *before = r->late[at].seen;
        return 0;
    }
    r->late[at] = (struct late){curve + 1, *row};
    r->n_late++;
    return 1;
}

int dlm_repeats_row(struct dlm_repeats *r, size_t curve, const struct dlm_seen *row, struct dlm_seen *before, struct dlm_error *err)
{
    int rc;
    struct curve *more = dlm_grow_zeroed(r->curves, sizeof *more, &r->n_curves, curve + 1);
    if (!more)
        return no_memory(err);
    r->curves = more;
    struct curve *c = &r->curves[curve];
    const double highest = c->n ? c->open[c->n - 1].step : c->n_chunks ? c->chunks[c->n_chunks - 1].last : -INFINITY;
    if (row->step <= highest) {
        if ((rc = find(r, c, row->step, before, err)))
            return rc < 0 ? rc : 0;
        return find_late(r, curve, row, before, err);
    }
    struct dlm_seen *open = dlm_grow(c->open, sizeof *open, &c->room_open, c->n + 1);
    if (!open)
        return no_memory(err);
    c->open = open;
    c->open[c->n++] = *row;
    return c->n == CHUNK && (rc = close_chunk(r, c, err)) ? rc : 1;
}
