/* Tokens needed to reach a loss; see reach.h. */
#include "law/reach.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes and batches written in two ways are the same to this. */
static const double same = 1e-6;

struct entry {
    double size, batch; /* logs */
    const struct dlm_curve *curve;
};

static int order_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (fabs(a->size - b->size) > same)
        return a->size < b->size ? -1 : 1;
    if (fabs(a->batch - b->batch) > same)
        return a->batch < b->batch ? -1 : 1;
    return a->curve < b->curve ? -1 : a->curve > b->curve;
}

static int order_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Where the levels of a size lie: `early` and `end` (n) are the least losses of each batch a thirtieth of its course and at its
 * end. */
static void choose_levels(struct dlm_reach_size *size, double *early, double *end, size_t least)
{
    const size_t n = size->n;
    qsort(early, n, sizeof *early, order_number);
    qsort(end, n, sizeof *end, order_number);
    const double high = early[n / 2], low = end[n > least ? least : least - 1];
    for (size_t l = 0; l < size->n_levels; l++)
        size->loss[l] = size->n_levels > 1 ? high + (low - high) * (double)l / (double)(size->n_levels - 1) : low;
}

/* Over a stretch that is long against the noise of single points. */
static double steepness(const struct dlm_curve *c, double lx)
{
    const double a = fmax(lx - 0.3, c->kx[0]), b = fmin(lx + 0.3, c->kx[c->n_knots - 1]);
    const double fall = dlm_curve_loss(c, a, NULL, NULL) - dlm_curve_loss(c, b, NULL, NULL);
    return b > a && fall > 0 ? fall / (b - a) : NAN;
}

static int fill_size(struct dlm_reach_size *size, const struct entry *e, size_t n_entries, const struct dlm_levels *levels,
                     size_t least, struct dlm_error *err)
{
    size->n_levels = levels->n;
    size->batch = malloc(size->n * sizeof *size->batch);
    size->loss = malloc(levels->n * sizeof *size->loss);
    size->tokens = malloc(levels->n * size->n * sizeof *size->tokens);
    size->steep = malloc(levels->n * size->n * sizeof *size->steep);
    size->run = calloc(levels->n * size->n, sizeof *size->run);
    double *early = malloc(2 * size->n * sizeof *early), *end = early + size->n;
    if (!size->batch || !size->loss || !size->tokens || !size->steep || !size->run || !early) {
        free(early);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    for (size_t i = 0, b = 0; i < n_entries; i++) {
        const struct dlm_curve *c = e[i].curve;
        const size_t last = c->n_knots - 1;
        bool first = !i || e[i].batch - e[i - 1].batch > same;
        b += first && i;
        double at_early = dlm_curve_loss(c, fmax(c->kx[0], c->kx[last] - log(30)), NULL, NULL);
        early[b] = first ? at_early : fmin(early[b], at_early);
        end[b] = first ? c->ky[last] : fmin(end[b], c->ky[last]);
        size->batch[b] = first ? e[i].batch : size->batch[b];
    }
    if (levels->at)
        for (size_t l = 0; l < levels->n; l++)
            size->loss[l] = log(levels->at[l]);
    else
        choose_levels(size, early, end, least);
    free(early);
    for (size_t k = 0; k < levels->n * size->n; k++)
        size->tokens[k] = size->steep[k] = NAN;
    for (size_t i = 0, b = 0; i < n_entries; i++) {
        b += i && e[i].batch - e[i - 1].batch > same;
        for (size_t l = 0; l < levels->n; l++) {
            double t = dlm_curve_reach(e[i].curve, size->loss[l]), *best = &size->tokens[l * size->n + b];
            if (!isnan(t) && !(*best <= t)) {
                *best = t;
                size->steep[l * size->n + b] = steepness(e[i].curve, t);
                size->run[l * size->n + b] = e[i].curve->run;
            }
        }
    }
    return 0;
}

static int find_in_group(const struct dlm_group *g, const struct dlm_levels *levels, enum dlm_smooth smooth, size_t least,
                         struct dlm_reach *out, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_curve *curve = calloc(g->n, sizeof *curve);
    struct entry *e = malloc(g->n * sizeof *e);
    size_t n = 0, few = 0, single = 0;
    int rc = curve && e ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n && !rc; i++) {
        const struct dlm_run *r = &g->runs[i];
        single += r->n == 1;
        rc = dlm_curve_init(&curve[n], r, smooth, err);
        if (rc == DLM_EDATA) /* too short for a power curve */
            rc = 0;
        else if (!rc && !(rc = dlm_curve_sharpen(&curve[n], err)))
            e[n] = (struct entry){log(r->flops_tok), log(r->batch_tok), &curve[n]}, n++;
    }
    if (!rc && single == g->n)
        rc = dlm_notes_add(notes, err, "%s: each run is a single point: a loss is only ever reached where it was measured",
                           g->name);
    if (!rc)
        qsort(e, n, sizeof *e, order_entries);
    for (size_t i = 0, end; i < n && !rc; i = end) {
        struct dlm_reach_size size = {
            .group = g, .flops_tok = e[i].curve->run->flops_tok, .params = e[i].curve->run->params, .n = 1};
        for (end = i + 1; end < n && e[end].size - e[i].size <= same; end++)
            size.n += e[end].batch - e[end - 1].batch > same;
        if (size.n < least) {
            few++;
            continue;
        }
        struct dlm_reach_size *more = realloc(out->sizes, (out->n + 1) * sizeof *more);
        if (!more) {
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
            break;
        }
        out->sizes = more;
        out->sizes[out->n] = size;
        rc = fill_size(&out->sizes[out->n++], &e[i], end - i, levels, least, err);
    }
    if (!rc && few)
        rc = dlm_notes_add(notes, err, "%s: %zu size%s left out: fewer than %zu batches", g->name, few,
                           few == 1 ? " is" : "s are", least);
    for (size_t i = 0; i < g->n && curve; i++)
        dlm_curve_release(&curve[i]);
    free(curve);
    free(e);
    return rc;
}

int dlm_reach_find(const struct dlm_study *s, const struct dlm_levels *levels, enum dlm_smooth smooth, size_t least,
                   struct dlm_reach *out, struct dlm_notes *notes, struct dlm_error *err)
{
    *out = (struct dlm_reach){0};
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++)
        rc = find_in_group(&s->groups[i], levels, smooth, least, out, notes, err);
    if (rc)
        dlm_reach_release(out);
    return rc;
}

void dlm_reach_release(struct dlm_reach *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->sizes[i].batch);
        free(r->sizes[i].loss);
        free(r->sizes[i].tokens);
        free(r->sizes[i].steep);
        free(r->sizes[i].run);
    }
    free(r->sizes);
    *r = (struct dlm_reach){0};
}
