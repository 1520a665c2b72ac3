/* Tokens needed to reach a loss; see reach.h. */
#include "law/reach.h"

#include "law/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the levels of a size lie: `early` and `end` (n) are the least losses of each batch a thirtieth of its course and at its
 * end. */
static void choose_levels(struct dlm_reach_size *size, double *early, double *end, size_t least)
{
    const size_t n = size->n;
    qsort(early, n, sizeof *early, dlm_order_rising);
    qsort(end, n, sizeof *end, dlm_order_rising);
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

static int fill_size(struct dlm_reach_size *size, const struct dlm_sorted_curve *e, size_t n_entries, const struct dlm_levels *levels,
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
        bool first = !i || e[i].batch - e[i - 1].batch > DLM_SAME;
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
        b += i && e[i].batch - e[i - 1].batch > DLM_SAME;
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
    struct dlm_sorted sorted;
    size_t few = 0, single = 0;
    int rc = dlm_sorted_fill(&sorted, g, smooth, err);
    const struct dlm_sorted_curve *e = sorted.at;
    const size_t n = sorted.n;
    for (size_t i = 0; i < n && !rc; i++)
        rc = dlm_curve_sharpen(&sorted.curves[i], err);
    for (size_t i = 0; i < g->n; i++)
        single += g->runs[i].n == 1;
    if (!rc && single == g->n)
        rc = dlm_notes_add(notes, err, "%s: each run is a single point: a loss is only ever reached where it was measured",
                           g->name);
    for (size_t i = 0, end; i < n && !rc; i = end) {
        struct dlm_reach_size size = {
            .group = g, .flops_tok = e[i].curve->run->flops_tok, .params = e[i].curve->run->params, .n = 1};
        for (end = i + 1; end < n && e[end].size - e[i].size <= DLM_SAME; end++)
            size.n += e[end].batch - e[end - 1].batch > DLM_SAME;
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
    dlm_sorted_release(&sorted);
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
