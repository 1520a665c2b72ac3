/* Rows of tab-separated text, read by column name; see table.h. */
#include "metric/table.h"

#include "base/number.h"
#include "base/stop.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A row seen before, found by hash: its key is `run NUL kind NUL step NUL`. */
struct seen {
    uint64_t hash;
    char *key; /* NULL: a free place */
    size_t path;
    uint64_t line;
    double loss;
};

struct dlm_table {
    const char *const *paths;
    size_t n_paths, at_path;
    FILE *file;
    uint64_t line;
    char *text, *header; /* the present line, its fields cut apart by NULs; the header likewise */
    size_t size, length, header_length;
    char **field, **name;
    int n_fields, n_names;
    struct column column[MAX_SLOTS];
    int n_columns, run, kind, step, loss;
    bool all; /* columns are asked for as headers name them */
    struct seen *seen;
    size_t n_seen, room_seen;
    uint64_t rows, repeats;
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
    t->size = 4096;
    t->text = malloc(t->size);
    t->field = malloc(MAX_FIELDS * sizeof *t->field);
    t->name = malloc(MAX_FIELDS * sizeof *t->name);
    if (!t->text || !t->field || !t->name) {
        dlm_table_free(t);
        *out = NULL;
        return no_memory(err);
    }
    int rc = 0;
    if ((rc = t->run = dlm_table_want(t, "run", false, err)) < 0 || (rc = t->kind = dlm_table_want(t, "kind", false, err)) < 0 ||
        (rc = t->step = dlm_table_want(t, "step", false, err)) < 0 ||
        (rc = t->loss = dlm_table_want(t, "loss", false, err)) < 0) {
        dlm_table_free(t);
        *out = NULL;
        return rc;
    }
    return 0;
}

void dlm_table_free(struct dlm_table *t)
{
    if (!t)
        return;
    if (t->file && t->file != stdin)
        fclose(t->file);
    for (int i = 0; i < t->n_columns; i++)
        free(t->column[i].name);
    for (size_t i = 0; i < t->room_seen; i++)
        free(t->seen[i].key);
    free(t->seen);
    free(t->text);
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

/* The next line without its newline (and carriage return): 1, 0 at the end, < 0. */
static int read_line(struct dlm_table *t, struct dlm_error *err)
{
    const char *path = path_name(t->paths[t->at_path]);
    size_t n = 0;
    int c;
    errno = 0;
    while ((c = getc_unlocked(t->file)) != EOF && c != '\n') {
        if (n + 2 > t->size) {
            if (t->size >= MAX_LINE)
                return dlm_fail(err, DLM_EDATA, "'%s': line %llu is longer than %d bytes: not tab-separated text", path,
                                (unsigned long long)t->line + 1, MAX_LINE);
            char *more = realloc(t->text, 2 * t->size);
            if (!more)
                return no_memory(err);
            t->text = more;
            t->size *= 2;
        }
        t->text[n++] = (char)c;
    }
    if (c == EOF && ferror(t->file)) {
        if (errno == EINTR && dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
    }
    if (c == EOF && !n)
        return 0;
    t->line++;
    if (n && t->text[n - 1] == '\r')
        n--;
    t->text[n] = 0;
    t->length = n;
    if (memchr(t->text, 0, n))
        return dlm_table_fail(t, -1, err, "a NUL byte: not tab-separated text");
    return 1;
}

/* Cut the present line at its tabs. */
static int split(struct dlm_table *t, struct dlm_error *err)
{
    char *p = t->text;
    for (t->n_fields = 0;; p++) {
        if (t->n_fields == MAX_FIELDS)
            return dlm_table_fail(t, -1, err, "more than %d fields", MAX_FIELDS);
        t->field[t->n_fields++] = p;
        p += strcspn(p, "\t");
        if (!*p)
            return 0;
        *p = 0;
    }
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
    for (int i = 0; i < t->n_fields; i++)
        t->name[i] = copy + (t->field[i] - t->text);
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
    if (strcmp(t->field[0], t->name[0]) && t->n_fields < 2)
        return false;
    int same = 0;
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

static uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

static int grow_seen(struct dlm_table *t, struct dlm_error *err)
{
    size_t room = t->room_seen ? 2 * t->room_seen : 1024;
    struct seen *more = calloc(room, sizeof *more);
    if (!more)
        return no_memory(err);
    for (size_t i = 0; i < t->room_seen; i++)
        if (t->seen[i].key) {
            size_t at = t->seen[i].hash & (room - 1);
            while (more[at].key)
                at = (at + 1) & (room - 1);
            more[at] = t->seen[i];
        }
    free(t->seen);
    t->seen = more;
    t->room_seen = room;
    return 0;
}

/* The rule of repeated rows: 1 the row is new, 0 it was there before, < 0 it contradicts one that was. */
static int check_repeat(struct dlm_table *t, struct dlm_error *err)
{
    const int slot[] = {t->run, t->kind, t->step};
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        const char *s = dlm_table_text(t, slot[i]);
        if (!dlm_table_has(t, slot[i]) || !strcmp(s, "NA"))
            return 1;
        n += strlen(s) + 1;
    }
    if (!dlm_table_has(t, t->loss))
        return 1;
    double loss;
    int rc = dlm_table_number(t, t->loss, &loss, err);
    if (rc)
        return rc;
    if (4 * (t->n_seen + 1) > 3 * t->room_seen && (rc = grow_seen(t, err)))
        return rc;
    char *key = malloc(n), *p = key;
    if (!key)
        return no_memory(err);
    for (int i = 0; i < 3; i++)
        p = stpcpy(p, dlm_table_text(t, slot[i])) + 1;
    uint64_t hash = hash_bytes(key, n);
    size_t at = hash & (t->room_seen - 1);
    for (; t->seen[at].key; at = (at + 1) & (t->room_seen - 1)) {
        struct seen *s = &t->seen[at];
        if (s->hash != hash)
            continue;
        const char *a = s->key, *b = key;
        int i = 0;
        for (; i < 3 && !strcmp(a, b); i++) {
            a += strlen(a) + 1;
            b += strlen(b) + 1;
        }
        if (i < 3)
            continue;
        free(key);
        if (s->loss == loss || (isnan(s->loss) && isnan(loss)))
            return 0;
        return dlm_table_fail(t, t->loss, err, "%s, but line %llu of '%s' has %.9g for the same run, kind and step",
                              dlm_table_text(t, t->loss), (unsigned long long)s->line, path_name(t->paths[s->path]), s->loss);
    }
    t->seen[at] = (struct seen){hash, key, t->at_path, t->line, loss};
    t->n_seen++;
    return 1;
}

int dlm_table_next(struct dlm_table *t, struct dlm_error *err)
{
    for (;;) {
        if (t->at_path == t->n_paths)
            return 0;
        const char *path = t->paths[t->at_path];
        int rc;
        if (!t->file) {
            t->file = strcmp(path, "-") ? fopen(path, "r") : stdin;
            if (!t->file)
                return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
            t->line = 0;
            if ((rc = read_line(t, err)) < 0)
                return rc;
            if (!rc)
                return dlm_fail(err, DLM_EDATA, "'%s' is empty", path_name(path));
            if ((rc = split(t, err)) || (rc = take_header(t, err)))
                return rc;
            continue;
        }
        if ((rc = read_line(t, err)) < 0)
            return rc;
        if (!rc) {
            if (t->file != stdin)
                fclose(t->file);
            t->file = NULL;
            t->at_path++;
            continue;
        }
        if ((rc = split(t, err)))
            return rc;
        if (is_header(t)) {
            if ((rc = take_header(t, err)))
                return rc;
            continue;
        }
        if (t->n_fields != t->n_names)
            return dlm_table_fail(t, -1, err, "%d field%s where the header has %d", t->n_fields, t->n_fields == 1 ? "" : "s",
                                  t->n_names);
        if ((rc = check_repeat(t, err)) < 0)
            return rc;
        if (!rc) {
            t->repeats++;
            continue;
        }
        t->rows++;
        return 1;
    }
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
    const char *s = dlm_table_text(t, slot);
    *out = NAN;
    if (!strcmp(s, "NA") || dlm_number_field(s, strlen(s), out))
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
