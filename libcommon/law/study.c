/* The points of a scaling study; see study.h. */
#include "law/study.h"

#include "law/where.h"
#include "metric/grow.h"
#include "metric/names.h"
#include "metric/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BY = 16 };

struct row {
    struct dlm_point point;
    size_t group, run;
    bool val;
};

/* What the other columns have said of a run so far. */
struct kept {
    char **text; /* (n) */
    bool *varies;
    size_t n;
};

/* Rows of one stretch of x. */
struct bin {
    int64_t key;
    double n;
    struct dlm_point sum; /* of one row, the row itself */
};

/* The rows of a run of one kind. More than DLM_STUDY_ROWS of them become bins; those that came before stand among `rows` until room is
 * needed there. */
struct curve {
    struct bin *at; /* (n) by rising key */
    size_t n, room;
    size_t count, group;
};

struct reader {
    struct curve *curves; /* (2·run + val) */
    size_t n_curves, serial;
    bool fatal; /* an error that is not of one row */
    struct dlm_table *table;
    struct dlm_where *where, *mark;
    struct kept *kept; /* (n_kept) by number of the run */
    size_t n_kept;
    int known; /* slots below are columns of the study itself */
    struct dlm_names groups, runs; /* a run's name begins with its group's number */
    struct row *rows;
    size_t n, room;
    int by[MAX_BY], n_by;
    bool by_named;
    int x, y, elbo, loss, se, elbo_se, loss_se, flops, tokens, params, flops_tok, batch, lr, unique, joules, run, kind;
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

static int ask(struct dlm_table *t, const char *name, bool required, int *slot, struct dlm_error *err)
{
    *slot = dlm_table_want(t, name, required, err);
    return *slot < 0 ? *slot : 0;
}

static int ask_groups(struct reader *r, const char *group, struct dlm_error *err)
{
    r->by_named = group != NULL;
    const char *p = group ? group : "noise,objective";
    while (*p) {
        size_t n = strcspn(p, ",");
        char name[128];
        if (!n || n >= sizeof name || r->n_by == MAX_BY)
            return dlm_fail(err, DLM_EUSAGE, "--group takes up to %d column names with commas between, not '%s'", MAX_BY, group);
        memcpy(name, p, n);
        name[n] = 0;
        int rc = ask(r->table, name, r->by_named, &r->by[r->n_by++], err);
        if (rc)
            return rc;
        p += n + (p[n] == ',');
    }
    return 0;
}

static int ask_columns(struct reader *r, const struct dlm_study_request *q, struct dlm_error *err)
{
    struct dlm_table *t = r->table;
    int rc;
    char se[160];
    if ((rc = ask(t, q->x, true, &r->x, err)) || (rc = ask(t, "elbo", false, &r->elbo, err)) ||
        (rc = ask(t, "loss", false, &r->loss, err)) || (rc = ask(t, "elbo_se", false, &r->elbo_se, err)) ||
        (rc = ask(t, "loss_se", false, &r->loss_se, err)) || (rc = ask(t, "flops", q->need_sizes, &r->flops, err)) ||
        (rc = ask(t, "tokens", q->need_sizes, &r->tokens, err)) || (rc = ask(t, "params", q->need_params, &r->params, err)) ||
        (rc = ask(t, "batch_tok", q->need_batch, &r->batch, err)) || (rc = ask(t, "lr", q->need_lr, &r->lr, err)) ||
        (rc = ask(t, "unique_tokens", q->need_unique, &r->unique, err)) || (rc = ask(t, "joules", false, &r->joules, err)) ||
        (rc = ask(t, "flops_tok", false, &r->flops_tok, err)) || (rc = ask(t, "run", false, &r->run, err)) ||
        (rc = ask(t, "kind", false, &r->kind, err)))
        return rc;
    r->y = -1;
    if (q->y) {
        snprintf(se, sizeof se, "%.150s_se", q->y);
        if ((rc = ask(t, q->y, true, &r->y, err)) || (rc = ask(t, se, false, &r->se, err)))
            return rc;
    }
    return ask_groups(r, q->group, err);
}

/* A number that must be positive to stand on a logarithmic axis; 0 is left to the caller. */
static int read_positive(struct reader *r, int slot, double *out, struct dlm_error *err)
{
    int rc = dlm_table_number(r->table, slot, out, err);
    if (!rc && *out < 0)
        rc = dlm_table_fail(r->table, slot, err, "%s is negative", dlm_table_text(r->table, slot));
    return rc;
}

/* The other columns of the present row, of a run: each is kept while it says the same. */
static int keep_row(struct reader *r, size_t run, struct dlm_error *err)
{
    struct dlm_table *t = r->table;
    const size_t n = (size_t)(dlm_table_slots(t) - r->known);
    struct kept *more = dlm_grow_zeroed(r->kept, sizeof *more, &r->n_kept, run + 1);
    if (!more)
        return no_memory(err);
    r->kept = more;
    struct kept *k = &r->kept[run];
    if (k->n < n) {
        char **text = realloc(k->text, n * sizeof *text);
        if (text)
            k->text = text;
        bool *varies = realloc(k->varies, n * sizeof *varies);
        if (varies)
            k->varies = varies;
        if (!text || !varies)
            return no_memory(err);
        for (; k->n < n; k->n++) {
            k->text[k->n] = NULL;
            k->varies[k->n] = false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const char *s = dlm_table_text(t, r->known + (int)i);
        if (k->varies[i] || !strcmp(s, "NA"))
            continue;
        if (!k->text[i] && !(k->text[i] = strdup(s)))
            return no_memory(err);
        k->varies[i] = strcmp(k->text[i], s) != 0;
    }
    return 0;
}

static void add_point(struct dlm_point *to, const struct dlm_point *p)
{
    to->x += p->x;
    to->y += p->y;
    to->se += p->se;
    to->flops += p->flops;
    to->tokens += p->tokens;
    to->params += p->params;
    to->flops_tok += p->flops_tok;
    to->batch_tok += p->batch_tok;
    to->lr += p->lr;
    to->unique_tokens += p->unique_tokens;
    to->joules += p->joules;
    to->marked |= p->marked;
}

/* The mean of a bin. Means of x and tokens, which are proportional, stay so; the standard error falls with the root of n. */
static struct dlm_point mean_of(const struct bin *b)
{
    const double n = b->n, root = sqrt(n);
    const struct dlm_point *p = &b->sum;
    return (struct dlm_point){p->x / n,         p->y / n,         p->se / n / root, p->flops / n,         p->tokens / n, p->params / n,
                              p->flops_tok / n, p->batch_tok / n, p->lr / n,        p->unique_tokens / n, p->joules / n, p->marked};
}

static int add_to_bins(struct curve *c, const struct dlm_point *p, struct dlm_error *err)
{
    const int64_t key = (int64_t)floor(DLM_STUDY_STEPS * log(p->x));
    size_t low = 0, high = c->n;
    if (c->n && c->at[c->n - 1].key <= key) /* nearly always */
        low = c->at[c->n - 1].key < key ? c->n : c->n - 1;
    else
        while (low < high) {
            size_t mid = (low + high) / 2;
            if (c->at[mid].key < key)
                low = mid + 1;
            else
                high = mid;
        }
    if (low < c->n && c->at[low].key == key) {
        c->at[low].n++;
        add_point(&c->at[low].sum, p);
        return 0;
    }
    struct bin *more = dlm_grow(c->at, sizeof *more, &c->room, c->n + 1);
    if (!more)
        return no_memory(err);
    c->at = more;
    memmove(&c->at[low + 1], &c->at[low], (c->n++ - low) * sizeof *c->at);
    c->at[low] = (struct bin){key, 1, *p};
    return 0;
}

/* Rows of curves that have become bins leave `rows`. */
static int absorb(struct reader *r, struct dlm_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct curve *c = &r->curves[2 * r->rows[i].run + r->rows[i].val];
        int rc = c->count > DLM_STUDY_ROWS ? add_to_bins(c, &r->rows[i].point, err) : 0;
        if (rc)
            return rc;
        if (c->count <= DLM_STUDY_ROWS)
            r->rows[n++] = r->rows[i];
    }
    r->n = n;
    return 0;
}

static int push_row(struct reader *r, const struct row *row, struct dlm_error *err)
{
    int rc;
    if (r->n == r->room) {
        if ((rc = absorb(r, err)))
            return rc;
        struct row *more = 2 * r->n >= r->room ? dlm_grow(r->rows, sizeof *more, &r->room, r->room + 1) : r->rows;
        if (!more)
            return no_memory(err);
        r->rows = more;
    }
    r->rows[r->n++] = *row;
    return 0;
}

/* Keep a row, by itself or in a bin. */
static int keep_point(struct reader *r, const struct row *row, struct dlm_error *err)
{
    const size_t at = 2 * row->run + row->val;
    struct curve *more = dlm_grow_zeroed(r->curves, sizeof *more, &r->n_curves, at + 1);
    if (!more)
        return no_memory(err);
    r->curves = more;
    struct curve *c = &r->curves[at];
    c->group = row->group;
    return ++c->count > DLM_STUDY_ROWS ? add_to_bins(c, &row->point, err) : push_row(r, row, err);
}

/* Bins become rows again, when all were read. */
static int take_bins(struct reader *r, size_t *averaged, struct dlm_error *err)
{
    int rc = absorb(r, err);
    for (size_t i = 0; i < r->n_curves && !rc; i++) {
        struct curve *c = &r->curves[i];
        *averaged += c->n > 0;
        c->count = 0; /* so that its rows stay */
        for (size_t k = 0; k < c->n && !rc; k++)
            rc = push_row(r, &(struct row){mean_of(&c->at[k]), c->group, i / 2, i % 2}, err);
    }
    return rc;
}

/* Text behind the n characters in `to`, up to `most` of it. */
static size_t put_text(char *to, size_t n, const char *text, size_t most)
{
    size_t len = strnlen(text, most);
    memcpy(to + n, text, len);
    to[n + len] = 0;
    return n + len;
}

static int read_row(struct reader *r, const struct dlm_study_request *q, struct dlm_study *s, struct dlm_error *err)
{
    struct dlm_table *t = r->table;
    struct row row = {.val = false};
    struct dlm_point *p = &row.point;
    int rc, y = r->y, se = r->se;
    if (y < 0) {
        bool elbo = dlm_table_has(t, r->elbo);
        r->fatal = !elbo && !dlm_table_has(t, r->loss);
        if (r->fatal)
            return dlm_table_fail(t, -1, err, "the header has neither a column 'elbo' nor 'loss'");
        y = elbo ? r->elbo : r->loss;
        se = elbo ? r->elbo_se : r->loss_se;
        s->fitted = s->fitted && strcmp(s->fitted, elbo ? "elbo" : "loss") ? "elbo or loss" : elbo ? "elbo" : "loss";
    }
    if ((rc = read_positive(r, r->x, &p->x, err)) || (rc = read_positive(r, y, &p->y, err)) ||
        (rc = read_positive(r, se, &p->se, err)) || (rc = read_positive(r, r->flops, &p->flops, err)) ||
        (rc = read_positive(r, r->tokens, &p->tokens, err)) || (rc = read_positive(r, r->params, &p->params, err)) ||
        (rc = read_positive(r, r->flops_tok, &p->flops_tok, err)) || (rc = read_positive(r, r->batch, &p->batch_tok, err)) ||
        (rc = read_positive(r, r->lr, &p->lr, err)) || (rc = read_positive(r, r->unique, &p->unique_tokens, err)) ||
        (rc = read_positive(r, r->joules, &p->joules, err)))
        return rc;
    const char *kind = dlm_table_text(t, r->kind);
    row.val = !strcmp(kind, "val");
    bool other = dlm_table_has(t, r->kind) && !row.val && strcmp(kind, "train") && strcmp(kind, "NA");
    if (other || p->x == 0) /* neither kind of metrics; the start of a run */
        return 0;
    if (p->y == 0)
        return dlm_table_fail(t, y, err, "0 has no logarithm");
    if (!(p->flops_tok > 0))
        p->flops_tok = p->flops > 0 && p->tokens > 0 ? p->flops / p->tokens : NAN;
    if (!(p->x > 0) || !(p->y > 0) || (q->need_sizes && !(p->flops_tok > 0 && p->flops > 0 && p->tokens > 0)) ||
        (q->need_params && !(p->params > 0)) || (q->need_batch && !(p->batch_tok > 0)) || (q->need_lr && !(p->lr > 0)) ||
        (q->need_unique && !(p->unique_tokens > 0))) {
        s->dropped++;
        return 0;
    }
    char name[2048] = "", run[1200];
    size_t n = 0;
    for (int i = 0; i < r->n_by; i++)
        if (dlm_table_has(t, r->by[i]) || r->by_named)
            n = put_text(name, n ? put_text(name, n, "/", 1) : 0, dlm_table_text(t, r->by[i]), 120);
    if (!n)
        strcpy(name, "all");
    if ((rc = dlm_names_number(&r->groups, name, &row.group, err)))
        return rc;
    bool named = dlm_table_has(t, r->run) && strcmp(dlm_table_text(t, r->run), "NA");
    char number[24], *digit = number + sizeof number - 1;
    *digit = 0;
    for (size_t g = row.group, i = 0; g || !i; g /= 10, i++)
        *--digit = (char)('0' + g % 10);
    if (named)
        put_text(run, put_text(run, put_text(run, 0, digit, sizeof number), " ", 1), dlm_table_text(t, r->run), 1000);
    else /* each row is its own run; zeros in front sort them as they came */
        snprintf(run, sizeof run, "%zu %020zu", row.group, r->serial++);
    s->has_runs |= named;
    if ((rc = dlm_names_number(&r->runs, run, &row.run, err)))
        return rc;
    if (r->mark) {
        if ((rc = dlm_where_test(r->mark, err)) < 0)
            return rc;
        p->marked = rc;
    }
    if (q->keep && (rc = keep_row(r, row.run, err)))
        return rc;
    return keep_point(r, &row, err);
}

static void free_kept(struct reader *r)
{
    for (size_t i = 0; i < r->n_kept; i++) {
        for (size_t j = 0; j < r->kept[i].n; j++)
            free(r->kept[i].text[j]);
        free(r->kept[i].text);
        free(r->kept[i].varies);
    }
    free(r->kept);
}

/* The names of the other columns. */
static int name_kept(struct dlm_study *s, const struct reader *r, struct dlm_error *err)
{
    const int n = dlm_table_slots(r->table) - r->known;
    if (!(s->kept = calloc((size_t)n + 1, sizeof *s->kept)))
        return no_memory(err);
    for (int i = 0; i < n; i++, s->n_kept++)
        if (!(s->kept[i] = strdup(dlm_table_column(r->table, r->known + i))))
            return no_memory(err);
    return 0;
}

static int take_kept(struct dlm_run *run, size_t n, struct kept *k, struct dlm_error *err)
{
    if (!(run->kept = calloc(n + 1, sizeof *run->kept)))
        return no_memory(err);
    for (size_t i = 0; i < k->n; i++)
        if (!k->varies[i]) {
            run->kept[i] = k->text[i];
            k->text[i] = NULL;
        }
    return 0;
}

static int order_number(double a, double b)
{
    return isnan(a) || isnan(b) ? isnan(a) - isnan(b) : a < b ? -1 : a > b;
}

static int order_rows(const void *pa, const void *pb, void *ctx)
{
    const struct row *a = pa, *b = pb;
    const struct reader *r = ctx;
    int d;
    if (a->group != b->group)
        return strcmp(r->groups.at[a->group], r->groups.at[b->group]);
    if (a->run != b->run)
        return strcmp(r->runs.at[a->run], r->runs.at[b->run]);
    if ((d = order_number(a->point.x, b->point.x)) || (d = order_number(a->point.y, b->point.y)))
        return d;
    return order_number(a->point.se, b->point.se);
}

/* Runs with val rows lose their train rows; then rows become groups, runs and points. */
static int build(struct dlm_study *s, struct reader *r, struct dlm_error *err)
{
    bool *on_val = calloc(r->runs.n + 1, sizeof *on_val);
    if (!on_val)
        return no_memory(err);
    for (size_t i = 0; i < r->n; i++)
        on_val[r->rows[i].run] |= r->rows[i].val;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->rows[i].val == on_val[r->rows[i].run])
            r->rows[n++] = r->rows[i];
    free(on_val);
    qsort_r(r->rows, n, sizeof *r->rows, order_rows, r);
    s->points = malloc((n + 1) * sizeof *s->points);
    s->runs = calloc(r->runs.n + 1, sizeof *s->runs);
    s->groups = calloc(r->groups.n + 1, sizeof *s->groups);
    if (!s->points || !s->runs || !s->groups)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const struct row *row = &r->rows[i];
        bool new_group = !i || row->group != row[-1].group;
        if (new_group) {
            struct dlm_group *g = &s->groups[s->n++];
            g->runs = &s->runs[s->n_runs];
            if (!(g->name = strdup(r->groups.at[row->group])))
                return no_memory(err);
        }
        struct dlm_group *g = &s->groups[s->n - 1];
        if (new_group || row->run != row[-1].run) {
            struct dlm_run *run = &s->runs[s->n_runs++];
            g->n++;
            run->points = &s->points[i];
            run->on_val = row->val;
            if (!(run->name = strdup(strchr(r->runs.at[row->run], ' ') + 1)))
                return no_memory(err);
            int rc = s->kept ? take_kept(run, s->n_kept, &r->kept[row->run], err) : 0;
            if (rc)
                return rc;
            s->n_val += row->val;
            s->n_train += !row->val;
        }
        struct dlm_run *run = &s->runs[s->n_runs - 1];
        s->points[i] = row->point;
        run->n++;
        g->n_points++;
        run->params = row->point.params;
        run->flops_tok = row->point.flops_tok;
        run->batch_tok = row->point.batch_tok;
        run->lr = row->point.lr;
        s->n_points++;
    }
    return 0;
}

/* The group columns in use, for the law file. */
static int name_groups(struct dlm_study *s, const struct reader *r, struct dlm_error *err)
{
    size_t size = 1;
    for (int i = 0; i < r->n_by; i++)
        size += strlen(dlm_table_column(r->table, r->by[i])) + 1;
    if (!(s->by = calloc(size, 1)))
        return no_memory(err);
    for (int i = 0; i < r->n_by; i++)
        if (dlm_table_has(r->table, r->by[i]) || r->by_named) {
            if (*s->by)
                strcat(s->by, ",");
            strcat(s->by, dlm_table_column(r->table, r->by[i]));
        }
    return 0;
}

int dlm_study_read(struct dlm_study *s, const struct dlm_study_request *q, struct dlm_error *err)
{
    *s = (struct dlm_study){.fitted = q->y};
    struct reader r = {0};
    uint64_t passed = 0;
    int rc = dlm_table_new(&r.table, q->paths, q->n_paths, err);
    if (!rc && q->skip_bad)
        dlm_table_skip_bad(r.table);
    if (!rc)
        rc = ask_columns(&r, q, err);
    if (!rc) {
        r.known = dlm_table_slots(r.table);
        if (q->keep)
            dlm_table_want_all(r.table);
    }
    if (!rc && q->where)
        rc = dlm_where_new(&r.where, q->where, r.table, err);
    if (!rc && q->mark)
        rc = dlm_where_new(&r.mark, q->mark, r.table, err);
    while (!rc && (rc = dlm_table_next(r.table, err)) == 1) {
        rc = r.where ? dlm_where_test(r.where, err) : 1;
        passed += rc == 1;
        if (rc == 1)
            rc = read_row(&r, q, s, err);
        if (rc && !r.fatal)
            rc = dlm_table_skip(r.table, rc, err);
    }
    if (!rc)
        rc = take_bins(&r, &s->averaged, err);
    if (!rc && !r.n) {
        const char *what = q->n_paths == 1 && strcmp(q->paths[0], "-") ? q->paths[0]
                           : q->n_paths > 1                            ? "the inputs"
                                                                       : "standard input";
        if (!dlm_table_rows(r.table))
            rc = dlm_fail(err, DLM_EDATA, "'%s': no rows", what);
        else if (!passed)
            rc = dlm_fail(err, DLM_EDATA, "no row meets --where '%s'", q->where);
        else
            rc = dlm_fail(err, DLM_EDATA, "'%s': no row has all that is fitted: %s against %s%s", what, s->fitted, q->x,
                          q->need_params ? " with params" : "");
    }
    if (!rc) {
        const char *first;
        s->repeats = dlm_table_repeats(r.table);
        s->skipped = dlm_table_skipped(r.table, &first);
        if (s->skipped && !(s->first_skipped = strdup(first)))
            rc = no_memory(err);
    }
    if (!rc) {
        rc = name_groups(s, &r, err);
    }
    if (!rc && q->keep)
        rc = name_kept(s, &r, err);
    if (!rc)
        rc = build(s, &r, err);
    dlm_where_free(r.where);
    dlm_where_free(r.mark);
    free_kept(&r);
    dlm_table_free(r.table);
    dlm_names_release(&r.groups);
    dlm_names_release(&r.runs);
    free(r.rows);
    for (size_t i = 0; i < r.n_curves; i++)
        free(r.curves[i].at);
    free(r.curves);
    if (rc)
        dlm_study_release(s);
    return rc;
}

void dlm_study_release(struct dlm_study *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->groups[i].name);
    for (size_t i = 0; i < s->n_runs; i++) {
        for (size_t j = 0; j < s->n_kept && s->runs[i].kept; j++)
            free(s->runs[i].kept[j]);
        free(s->runs[i].kept);
        free(s->runs[i].name);
    }
    for (size_t i = 0; i < s->n_kept; i++)
        free(s->kept[i]);
    free(s->kept);
    free(s->groups);
    free(s->runs);
    free(s->points);
    free(s->by);
    free(s->first_skipped);
    *s = (struct dlm_study){0};
}
