/* Rows of tab-separated text, read by column name; see table.h. */
#include "metric/table.h"

#include "base/number.h"
#include "base/stop.h"
#include "metric/grow.h"
#include "metric/names.h"
#include "metric/repeats.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_LINE = 1 << 20, /* bytes: a file that is no TSV may have no newline at all */
    MAX_FIELDS = 4096,
    MAX_SLOTS = 256
};

struct column {
    char *name;
    bool required;
    int field; /* in the present header; -1 when absent */
};

enum { FACTS = 7, BLOCK = 256 << 10 };
static const char *const fact_names[FACTS] = {"noise", "objective", "params", "batch_tok", "lr", "seed", "seq_len"};

/* A run of the input: what every row of it says, and where it was said first. */
struct facts {
    char *fact[FACTS]; /* owned; NULL: not said yet */
    uint64_t place[FACTS];
    char **kind; /* owned: the kinds of rows it has, each a curve of repeats.h */
    size_t *curve;
    int n_kinds;
};

/* Where a row stood, in one number: the input above, the line below. */
enum { LINE_BITS = 44 };

struct dlm_table {
    const char *const *paths;
    size_t n_paths, at_path;
    int fd; /* -1: none is open */
    uint64_t line;
    char *buffer; /* [at, end) is what was read and not yet used */
    size_t size, at, end;
    bool ended;
    char *text, *header; /* the present line, in the buffer, its fields cut apart by NULs; the header, a copy */
    size_t length, header_length;
    char **field, **name;
    int n_fields, n_names;
    uint32_t shape[256]; /* which lengths (31: that and more) the header's names have, by first byte */
    struct column column[MAX_SLOTS];
    int n_columns, run, kind, step, loss;
    int fact[FACTS]; /* their fields in the present header, -1: absent; slots are the caller's */
    bool all;        /* columns are asked for as headers name them */
    struct dlm_names run_names;
    struct facts *runs; /* (room_runs) by the number of their name; unused ones are zero */
    size_t room_runs, n_curves, last_run;
    struct dlm_repeats *repeated;
    uint64_t rows, repeats, skipped;
    bool skip_bad;
    char first_skipped[256];
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

int dlm_table_new(struct dlm_table **out, const char *const *paths, size_t n, struct dlm_error *err)
{
    static const char *const standard_input[] = {"-"};
    struct dlm_table *t = calloc(1, sizeof *t);
    *out = t;
    if (!t)
        return no_memory(err);
    t->paths = n ? paths : standard_input;
    t->n_paths = n ? n : 1;
    t->fd = -1;
    t->size = 2 * BLOCK;
    t->buffer = malloc(t->size + 1);
    t->field = malloc((MAX_FIELDS + 1) * sizeof *t->field);
    t->name = malloc(MAX_FIELDS * sizeof *t->name);
    t->repeated = dlm_repeats_new();
    if (!t->buffer || !t->field || !t->name || !t->repeated) {
        dlm_table_free(t);
        *out = NULL;
        return no_memory(err);
    }
    static const char *const own[] = {"run", "kind", "step", "loss"};
    int *const slot[] = {&t->run, &t->kind, &t->step, &t->loss};
    int rc = 0;
    for (int i = 0; i < 4 && rc >= 0; i++)
        rc = *slot[i] = dlm_table_want(t, own[i], false, err);
    if (rc < 0) {
        dlm_table_free(t);
        *out = NULL;
        return rc;
    }
    return 0;
}

static void close_input(struct dlm_table *t)
{
    if (t->fd > 0)
        close(t->fd);
    t->fd = -1;
}

void dlm_table_free(struct dlm_table *t)
{
    if (!t)
        return;
    close_input(t);
    for (int i = 0; i < t->n_columns; i++)
        free(t->column[i].name);
    for (size_t i = 0; i < t->room_runs; i++) {
        for (int k = 0; k < FACTS; k++)
            free(t->runs[i].fact[k]);
        for (int k = 0; k < t->runs[i].n_kinds; k++)
            free(t->runs[i].kind[k]);
        free(t->runs[i].kind);
        free(t->runs[i].curve);
    }
    free(t->runs);
    dlm_names_release(&t->run_names);
    dlm_repeats_free(t->repeated);
    free(t->buffer);
    free(t->header);
    free(t->field);
    free(t->name);
    free(t);
}

int dlm_table_want(struct dlm_table *t, const char *name, bool required, struct dlm_error *err)
{
    for (int i = 0; i < t->n_columns; i++)
        if (!strcmp(t->column[i].name, name)) {
            t->column[i].required |= required;
            return i;
        }
    if (t->n_columns == MAX_SLOTS)
        return dlm_fail(err, DLM_EUSAGE, "more than %d columns named", MAX_SLOTS);
    struct column *c = &t->column[t->n_columns];
    *c = (struct column){.name = strdup(name), .required = required, .field = -1};
    return c->name ? t->n_columns++ : no_memory(err);
}

void dlm_table_want_all(struct dlm_table *t)
{
    t->all = true;
}

int dlm_table_slots(const struct dlm_table *t)
{
    return t->n_columns;
}

static const char *path_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

int dlm_table_fail(const struct dlm_table *t, int slot, struct dlm_error *err, const char *fmt, ...)
{
    va_list ap;
    char message[512];
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    const char *path = path_name(t->paths[t->at_path]);
    if (slot < 0)
        return dlm_fail(err, DLM_EDATA, "'%s': line %llu: %s", path, (unsigned long long)t->line, message);
    return dlm_fail(err, DLM_EDATA, "'%s': line %llu, column '%s': %s", path, (unsigned long long)t->line, t->column[slot].name,
                    message);
}

/* More of the input behind what is there: 1, 0 at the end, < 0. */
static int fill(struct dlm_table *t, struct dlm_error *err)
{
    if (t->at) { /* the rest of a line is short beside a block */
        memmove(t->buffer, t->buffer + t->at, t->end - t->at);
        t->end -= t->at;
        t->at = 0;
    }
    if (t->size - t->end < BLOCK) {
        char *more = realloc(t->buffer, 2 * t->size + 1);
        if (!more)
            return no_memory(err);
        t->buffer = more;
        t->size *= 2;
    }
    ssize_t n;
    while ((n = read(t->fd, t->buffer + t->end, t->size - t->end)) < 0 && errno == EINTR)
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
    if (n < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path_name(t->paths[t->at_path]));
    t->end += (size_t)n;
    t->ended = n == 0;
    return n > 0;
}

/* The next line without its newline (and carriage return): 1, 0 at the end, < 0. */
static int read_line(struct dlm_table *t, struct dlm_error *err)
{
    size_t seen = t->at;
    char *stop;
    while (!(stop = memchr(t->buffer + seen, '\n', t->end - seen)) && !t->ended) {
        if (t->end - t->at > MAX_LINE)
            break;
        size_t had = t->end - t->at;
        int rc = fill(t, err);
        if (rc < 0)
            return rc;
        seen = t->at + had;
    }
    if ((stop ? (size_t)(stop - t->buffer) : t->end) - t->at > MAX_LINE)
        return dlm_fail(err, DLM_EDATA, "'%s': line %llu is longer than %d bytes: not tab-separated text",
                        path_name(t->paths[t->at_path]), (unsigned long long)t->line + 1, MAX_LINE);
    if (!stop && t->at == t->end)
        return 0;
    t->text = t->buffer + t->at;
    size_t n = (stop ? (size_t)(stop - t->buffer) : t->end) - t->at;
    t->at += n + (stop != NULL);
    t->line++;
    if (n && t->text[n - 1] == '\r')
        n--;
    t->text[n] = 0;
    t->length = n;
    return 1;
}

/* Cut the present line at its tabs. */
static int split(struct dlm_table *t, struct dlm_error *err)
{
    char *p = t->text, *end = p + t->length, *tab;
    if (memchr(p, 0, t->length))
        return dlm_table_fail(t, -1, err, "a NUL byte: not tab-separated text");
    for (t->n_fields = 0;; p = tab + 1) {
        if (t->n_fields == MAX_FIELDS)
            return dlm_table_fail(t, -1, err, "more than %d fields", MAX_FIELDS);
        t->field[t->n_fields++] = p;
        if (!(tab = memchr(p, '\t', (size_t)(end - p))))
            break;
        *tab = 0;
    }
    t->field[t->n_fields] = end + 1; /* so that a field's length is the distance to the next, less one */
    return 0;
}

static size_t field_length(const struct dlm_table *t, int i)
{
    return (size_t)(t->field[i + 1] - t->field[i]) - 1;
}

static uint32_t shape_of(size_t length)
{
    return UINT32_C(1) << (length < 31 ? length : 31);
}

/* Take the present line, already cut, as the header of what follows. */
static int take_header(struct dlm_table *t, struct dlm_error *err)
{
    char *copy = malloc(t->length + 1);
    if (!copy)
        return no_memory(err);
    memcpy(copy, t->text, t->length + 1);
    free(t->header);
    t->header = copy;
    t->header_length = t->length;
    t->n_names = t->n_fields;
    memset(t->shape, 0, sizeof t->shape);
    for (int i = 0; i < t->n_fields; i++) {
        t->name[i] = copy + (t->field[i] - t->text);
        t->shape[(unsigned char)*t->name[i]] |= shape_of(field_length(t, i));
    }
    for (int i = 0; i < FACTS; i++) {
        t->fact[i] = -1;
        for (int j = 0; j < t->n_names; j++)
            if (!strcmp(t->name[j], fact_names[i]))
                t->fact[i] = j;
    }
    for (int i = 0; i < t->n_names && t->all; i++) {
        int slot = dlm_table_want(t, t->name[i], false, err);
        if (slot < 0)
            return slot;
    }
    for (int i = 0; i < t->n_columns; i++) {
        struct column *c = &t->column[i];
        c->field = -1;
        for (int j = 0; j < t->n_names; j++)
            if (!strcmp(t->name[j], c->name)) {
                if (c->field >= 0)
                    return dlm_table_fail(t, -1, err, "column '%s' is named twice", c->name);
                c->field = j;
            }
        if (c->required && c->field < 0)
            return dlm_fail(err, DLM_EDATA, "'%s': line %llu: the header has no column '%s'", path_name(t->paths[t->at_path]),
                            (unsigned long long)t->line, c->name);
    }
    return 0;
}

/* Is the present line, cut, a header again? Where at least half of the names (and two) stand as fields, it is: no row of values
 * does that. */
static bool is_header(const struct dlm_table *t)
{
    if (t->length == t->header_length && t->n_fields == t->n_names && !memcmp(t->text, t->header, t->length))
        return true;
    int same = 0;
    for (int i = 0; i < t->n_fields; i++) /* could any be a name? hardly ever half of them */
        same += (t->shape[(unsigned char)*t->field[i]] & shape_of(field_length(t, i))) != 0;
    if (same < 2 || same < (t->n_names + 1) / 2)
        return false;
    same = 0;
    for (int i = 0; i < t->n_names; i++) {
        bool found = false;
        for (int j = 0; j < t->n_fields && !found; j++)
            found = !strcmp(t->name[i], t->field[j]);
        same += found;
        if (same + t->n_names - i - 1 < (t->n_names + 1) / 2)
            return false;
    }
    return same >= 2;
}

static uint64_t place_now(const struct dlm_table *t)
{
    return (uint64_t)t->at_path << LINE_BITS | t->line;
}

static unsigned long long line_of(uint64_t place)
{
    return place & ((UINT64_C(1) << LINE_BITS) - 1);
}

static const char *path_of(const struct dlm_table *t, uint64_t place)
{
    return path_name(t->paths[place >> LINE_BITS]);
}

/* The run of the present row, made where it is new; NULL: no memory. */
static struct facts *run_of(struct dlm_table *t, const char *run, struct dlm_error *err)
{
    if (t->run_names.n && !strcmp(t->run_names.at[t->last_run], run))
        return &t->runs[t->last_run];
    if (dlm_names_number(&t->run_names, run, &t->last_run, err))
        return NULL;
    struct facts *more = dlm_grow_zeroed(t->runs, sizeof *more, &t->room_runs, t->last_run + 1);
    if (!more) {
        no_memory(err);
        return NULL;
    }
    t->runs = more;
    return &t->runs[t->last_run];
}

/* Two spellings of one number are one fact. */
static bool same_fact(const char *a, const char *b)
{
    double x, y;
    return !strcmp(a, b) || (dlm_number_field(a, strlen(a), &x) && dlm_number_field(b, strlen(b), &y) && x == y);
}

static int check_facts(struct dlm_table *t, struct facts *f, struct dlm_error *err)
{
    for (int i = 0; i < FACTS; i++) {
        const char *s = t->fact[i] < 0 ? "" : t->field[t->fact[i]];
        if (!*s || (s[0] == 'N' && !strcmp(s, "NA")) || (f->fact[i] && same_fact(s, f->fact[i])))
            continue;
        if (f->fact[i])
            return dlm_fail(err, DLM_EDATA,
                            "'%s': line %llu, column '%s': %.60s, but line %llu of '%s' has %.60s for the same run '%.60s'",
                            path_name(t->paths[t->at_path]), (unsigned long long)t->line, fact_names[i], s,
                            line_of(f->place[i]), path_of(t, f->place[i]), f->fact[i], t->run_names.at[t->last_run]);
        if (!(f->fact[i] = strdup(s)))
            return no_memory(err);
        f->place[i] = place_now(t);
    }
    return 0;
}

static int curve_of(struct dlm_table *t, struct facts *f, const char *kind, size_t *curve, struct dlm_error *err)
{
    for (int i = 0; i < f->n_kinds; i++)
        if (!strcmp(f->kind[i], kind)) {
            *curve = f->curve[i];
            return 0;
        }
    char **kinds = realloc(f->kind, ((size_t)f->n_kinds + 1) * sizeof *kinds);
    if (kinds)
        f->kind = kinds;
    size_t *curves = realloc(f->curve, ((size_t)f->n_kinds + 1) * sizeof *curves);
    if (curves)
        f->curve = curves;
    if (!kinds || !curves || !(kinds[f->n_kinds] = strdup(kind)))
        return no_memory(err);
    *curve = curves[f->n_kinds++] = t->n_curves++;
    return 0;
}

/* The rules of runs: 1 the row is new, 0 it was there before, < 0 it contradicts one that was; *bad: the row itself cannot be read.
 */
static int check_row(struct dlm_table *t, bool *bad, struct dlm_error *err)
{
    const char *run = dlm_table_text(t, t->run), *kind = dlm_table_text(t, t->kind);
    int rc;
    if (!strcmp(run, "NA"))
        return 1;
    bool curve = dlm_table_has(t, t->loss) && strcmp(kind, "NA") && strcmp(dlm_table_text(t, t->step), "NA");
    struct dlm_seen seen = {.place = place_now(t)}, before;
    *bad = true; /* before anything is remembered of it */
    if (curve && ((rc = dlm_table_number(t, t->step, &seen.step, err)) || (rc = dlm_table_number(t, t->loss, &seen.loss, err))))
        return rc;
    *bad = false;
    struct facts *f = run_of(t, run, err);
    size_t number = 0;
    if (!f)
        return DLM_ENOMEM;
    if ((rc = check_facts(t, f, err)))
        return rc;
    if (!curve)
        return 1;
    if ((rc = curve_of(t, f, kind, &number, err)) || (rc = dlm_repeats_row(t->repeated, number, &seen, &before, err)))
        return rc;
    if (before.loss == seen.loss || (isnan(before.loss) && isnan(seen.loss)))
        return 0;
    return dlm_table_fail(t, t->loss, err, "%s, but line %llu of '%s' has %.9g for the same run, kind and step",
                          dlm_table_text(t, t->loss), line_of(before.place), path_of(t, before.place), before.loss);
}

static int open_input(struct dlm_table *t, struct dlm_error *err)
{
    const char *path = t->paths[t->at_path];
    int rc;
    t->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (t->fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    t->line = 0;
    t->at = t->end = 0;
    t->ended = false;
    if ((rc = read_line(t, err)) < 0)
        return rc;
    if (!rc)
        return dlm_fail(err, DLM_EDATA, "'%s' is empty", path_name(path));
    return (rc = split(t, err)) ? rc : take_header(t, err);
}

int dlm_table_next(struct dlm_table *t, struct dlm_error *err)
{
    for (;;) {
        int rc;
        if (t->at_path == t->n_paths)
            return 0;
        if (t->fd < 0) {
            if ((rc = open_input(t, err)))
                return rc;
            continue;
        }
        if ((rc = read_line(t, err)) < 0)
            return rc;
        if (!rc) {
            close_input(t);
            t->at_path++;
            continue;
        }
        bool bad = true;
        if (!(rc = split(t, err))) {
            if (is_header(t)) {
                if ((rc = take_header(t, err)))
                    return rc;
                continue;
            }
            if (t->n_fields != t->n_names)
                rc = dlm_table_fail(t, -1, err, "%d field%s where the header has %d", t->n_fields, t->n_fields == 1 ? "" : "s",
                                    t->n_names);
            else
                rc = check_row(t, &bad, err);
        }
        if (rc < 0 && bad && !dlm_table_skip(t, rc, err))
            continue;
        if (rc < 0)
            return rc;
        if (!rc) {
            t->repeats++;
            continue;
        }
        t->rows++;
        return 1;
    }
}

void dlm_table_skip_bad(struct dlm_table *t)
{
    t->skip_bad = true;
}

int dlm_table_skip(struct dlm_table *t, int rc, struct dlm_error *err)
{
    if (rc != DLM_EDATA || !t->skip_bad)
        return rc;
    if (!t->skipped++)
        snprintf(t->first_skipped, sizeof t->first_skipped, "%.255s", err->msg);
    return 0;
}

uint64_t dlm_table_skipped(const struct dlm_table *t, const char **first)
{
    *first = t->first_skipped;
    return t->skipped;
}

bool dlm_table_has(const struct dlm_table *t, int slot)
{
    assert(slot >= 0 && slot < t->n_columns);
    return t->column[slot].field >= 0;
}

const char *dlm_table_text(const struct dlm_table *t, int slot)
{
    const char *s = dlm_table_has(t, slot) ? t->field[t->column[slot].field] : "NA";
    return *s ? s : "NA";
}

int dlm_table_number(const struct dlm_table *t, int slot, double *out, struct dlm_error *err)
{
    *out = NAN;
    if (!dlm_table_has(t, slot))
        return 0;
    const int at = t->column[slot].field;
    const char *s = t->field[at];
    if (dlm_number_field(s, field_length(t, at), out) || !*s || !strcmp(s, "NA"))
        return 0;
    return dlm_table_fail(t, slot, err, "'%.60s' is not a number", s);
}

const char *dlm_table_column(const struct dlm_table *t, int slot)
{
    return t->column[slot].name;
}

uint64_t dlm_table_rows(const struct dlm_table *t)
{
    return t->rows;
}

uint64_t dlm_table_repeats(const struct dlm_table *t)
{
    return t->repeats;
}
