/* What annealing does to the loss; see annealing.h. */
#include "law/annealing.h"

#include "law/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const axis_names[DLM_ANNEALING_AXES] = {"flops_tok", "tokens", "batch_tok", "lr"};
static const double same = 1e-6;

/* One annealed run: log of its loss over that of its partners, and where it lies. */
struct pair {
    double ratio, x[DLM_ANNEALING_AXES];
};

struct source {
    const struct dlm_estimate *how;
    const struct pair *pairs;
    size_t n;
};

/* Two figures agree; unknown ones (NAN) do not speak against it. */
static bool agree(double a, double b) { return isnan(a) || isnan(b) || fabs(log(a / b)) <= same; }

/* The lowest Σ w·h(y - c), h Huber's function: reweighted means from the median, which the sorted `room` gives. */
static double centre(const double *y, const double *w, size_t n, double huber, double *room)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        for (double times = w[i]; times > 0; times--)
            room[k++] = y[i];
    qsort(room, k, sizeof *room, dlm_order_rising);
    double c = 0.5 * (room[(k - 1) / 2] + room[k / 2]);
    for (int step = 0; step < 200; step++) {
        double sum = 0, weight = 0;
        for (size_t i = 0; i < n; i++) {
            const double r = fabs(y[i] - c), v = w[i] * (r > huber ? huber / r : 1);
            sum += v * y[i];
            weight += v;
        }
        const double next = sum / weight;
        if (fabs(next - c) <= 1e-14)
            break;
        c = next;
    }
    return c;
}

/* Slopes of the ratio on the axes that vary, all at once, by least squares; NAN for others. */
static void slopes(const struct pair *p, const double *w, size_t n, double *slope)
{
    double mean[DLM_ANNEALING_AXES + 1] = {0}, a[DLM_ANNEALING_AXES][DLM_ANNEALING_AXES + 1] = {{0}}, weight = 0;
    int at[DLM_ANNEALING_AXES], axes = 0;
    for (size_t i = 0; i < n; i++)
        weight += w[i];
    for (int k = 0; k < DLM_ANNEALING_AXES; k++)
        slope[k] = NAN;
    for (int k = 0; k < DLM_ANNEALING_AXES; k++) {
        double m = 0, v = 0;
        for (size_t i = 0; i < n; i++)
            m += w[i] * p[i].x[k] / weight;
        for (size_t i = 0; i < n; i++)
            v += w[i] * (p[i].x[k] - m) * (p[i].x[k] - m) / weight;
        if (!(v > 1e-4)) /* hardly or not at all, or not known of every pair */
            continue;
        mean[axes] = m;
        at[axes++] = k;
    }
    for (size_t i = 0; i < n; i++)
        mean[DLM_ANNEALING_AXES] += w[i] * p[i].ratio / weight;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < axes; k++) {
            const double d = w[i] * (p[i].x[at[k]] - mean[k]);
            for (int l = 0; l < axes; l++)
                a[k][l] += d * (p[i].x[at[l]] - mean[l]);
            a[k][axes] += d * (p[i].ratio - mean[DLM_ANNEALING_AXES]);
        }
    for (int k = 0; k < axes; k++) { /* axes that others determine have no slope of their own: all are left open */
        const double diagonal = a[k][k];
        double pivot = diagonal;
        if (!(pivot > 0))
            return;
        for (int l = 0; l < axes; l++)
            if (l != k) {
                const double f = a[l][k] / pivot;
                for (int m = k; m <= axes; m++)
                    a[l][m] -= f * a[k][m];
            }
        for (int l = k + 1; l < axes; l++)
            if (!(a[l][l] > 1e-6 * weight * 1e-2))
                return;
    }
    for (int k = 0; k < axes; k++)
        slope[at[k]] = a[k][axes] / a[k][k];
}

enum { WIDTH = 1 + DLM_ANNEALING_AXES };

static size_t scratch_size(const struct source *s) { return 3 * s->n * sizeof(double) + s->n * sizeof(uint32_t); }

static void estimate(const struct source *s, const double *w, double *y, double *room, double *out)
{
    for (size_t i = 0; i < s->n; i++)
        y[i] = s->pairs[i].ratio;
    out[0] = exp(centre(y, w, s->n, s->how->huber, room));
    slopes(s->pairs, w, s->n, out + 1);
}

static bool draw(void *ctx, struct dlm_rng *rng, void *memory, double *out)
{
    const struct source *s = ctx;
    double *w = memory, *y = w + s->n, *room = y + s->n;
    uint32_t *counts = (uint32_t *)(room + s->n);
    if (dlm_bootstrap_pick(rng, s->n, counts) < 2)
        return false;
    for (size_t i = 0; i < s->n; i++)
        w[i] = counts[i];
    estimate(s, w, y, room, out);
    return true;
}

static bool leave_out(void *ctx, size_t first, size_t last, void *memory, double *out)
{
    const struct source *s = ctx;
    double *w = memory;
    for (size_t i = 0; i < s->n; i++)
        w[i] = i < first || i >= last;
    estimate(s, w, w + s->n, w + 2 * s->n, out);
    return true;
}

static int find_row(const struct source *s, const struct dlm_group *g, size_t lone, const char *by,
                    struct dlm_annealing_row *row, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    static const char *const optima[DLM_ANNEALING_AXES] = {"the best size", NULL, "the best batch", "the best learning rate"};
    const struct dlm_bootstrap *b = &s->how->bootstrap;
    const struct dlm_interval none = {NAN, NAN, NAN};
    const char *name = g ? g->name : "pooled";
    double value[WIDTH], *memory = malloc(scratch_size(s) + 1);
    struct dlm_draws draws = {0};
    if (!memory)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->n; i++)
        memory[i] = 1;
    estimate(s, memory, memory + s->n, memory + 2 * s->n, value);
    free(memory);
    int rc = 0;
    if (b->n && s->n >= 5) {
        rc = dlm_draws_fill(&draws, b, &(struct dlm_resampler){draw, (void *)s, scratch_size(s), WIDTH}, leave_out, name, s->n,
                            value, err);
    } else if (b->n) {
        rc = dlm_notes_add(notes, err, "%s: %zu pair%s of annealed and constant runs: no interval; at least 5 are needed", name,
                           s->n, s->n == 1 ? "" : "s");
    }
    *row = (struct dlm_annealing_row){.group = g, .name = name, .pairs = s->n, .lone = lone, .factor = value[0], .in = none};
    for (int k = 0; k < WIDTH && !rc; k++) {
        struct dlm_interval in = none;
        char term[32];
        if (draws.at)
            rc = dlm_draws_interval(b, &draws, (size_t)k, &in, err);
        if (k) {
            row->slope[k - 1] = value[k];
            row->slope_in[k - 1] = in;
        } else {
            row->in = in;
        }
        snprintf(term, sizeof term, "%s%s", k ? "k_" : "factor", k ? axis_names[k - 1] : "");
        if (!rc && isfinite(value[k]))
            rc = dlm_laws_add(laws,
                              &(struct dlm_law_row){(char *)"annealing", (char *)name, term, (char *)"loss", (char *)"loss",
                                                    (char *)by, value[k], in.lo, in.hi, in.se, (double)s->n, NAN, NAN},
                              err);
        if (rc || !k || !optima[k - 1])
            continue;
        const char *what = optima[k - 1];
        if (isnan(value[k]) || isnan(in.lo))
            rc = dlm_notes_add(notes, err, "%s: whether annealing moves %s is not determined by these runs: %s", name, what,
                               isnan(value[k]) ? "the pairs do not vary in it by itself" : "too few pairs");
        else if (in.lo <= 0 && in.hi >= 0)
            rc = dlm_notes_add(
                notes, err,
                "%s: annealing does not move %s as far as these runs tell: the factor's slope is %.2g, from %.2g to %.2g", name,
                what, value[k], in.lo, in.hi);
        else
            rc = dlm_notes_add(notes, err, "%s: annealing moves %s %s: the factor's slope is %.2g, from %.2g to %.2g", name,
                               what, value[k] < 0 ? "up" : "down", value[k], in.lo, in.hi);
    }
    dlm_draws_release(&draws);
    return rc;
}

/* The pairs of a group to `pairs` (room for its runs); how many annealed runs have no partner. */
static int find_pairs(const struct dlm_study *s, const struct dlm_group *g, enum dlm_smooth smooth, struct pair *pairs,
                      size_t *n, size_t *lone, struct dlm_error *err)
{
    size_t seed = 0;
    while (seed < s->n_kept && strcmp(s->kept[seed], "seed"))
        seed++;
    for (size_t i = 0; i < g->n; i++) {
        const struct dlm_run *r = &g->runs[i];
        const struct dlm_point *last = &r->points[r->n - 1];
        double sum = 0;
        size_t partners = 0;
        if (!last->marked)
            continue;
        for (size_t k = 0; k < g->n; k++) {
            const struct dlm_run *c = &g->runs[k];
            if (c->points[c->n - 1].marked || !agree(c->flops_tok, r->flops_tok) || !agree(c->params, r->params) ||
                !agree(c->batch_tok, r->batch_tok) || !agree(c->lr, r->lr))
                continue;
            if (seed < s->n_kept && c->kept[seed] && r->kept[seed] && strcmp(c->kept[seed], r->kept[seed]))
                continue;
            struct dlm_curve curve;
            int rc = dlm_curve_init(&curve, c, smooth, err);
            if (rc == DLM_EDATA)
                continue;
            if (rc)
                return rc;
            const double ly = dlm_curve_loss(&curve, log(last->x), NULL, NULL);
            dlm_curve_release(&curve);
            if (isnan(ly))
                continue;
            sum += ly;
            partners++;
        }
        if (!partners) {
            ++*lone;
            continue;
        }
        pairs[(*n)++] = (struct pair){log(last->y) - sum / (double)partners,
                                      {log(r->flops_tok), log(last->tokens), log(r->batch_tok), log(r->lr)}};
    }
    return 0;
}

int dlm_annealing_find(const struct dlm_study *s, const struct dlm_estimate *how, enum dlm_smooth smooth,
                       struct dlm_annealing *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    *out = (struct dlm_annealing){.rows = calloc(s->n + 2, sizeof *out->rows)};
    struct pair *pairs = malloc((s->n_runs + 1) * sizeof *pairs);
    size_t n = 0, all_lone = 0;
    int rc = out->rows && pairs ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->n && !rc; i++) {
        const struct dlm_group *g = &s->groups[i];
        size_t first = n, lone = 0;
        rc = find_pairs(s, g, smooth, pairs, &n, &lone, err);
        all_lone += lone;
        if (!rc && lone)
            rc = dlm_notes_add(
                notes, err,
                "%s: %zu annealed run%s left out: no constant-rate run agrees in size, batch, rate and seed and gets as far",
                g->name, lone, lone == 1 ? " is" : "s are");
        if (!rc && n > first)
            rc = find_row(&(struct source){how, pairs + first, n - first}, g, lone, s->by, &out->rows[out->n++], laws, notes,
                          err);
    }
    if (!rc && !n)
        rc = dlm_fail(err, DLM_EDATA,
                      all_lone ? "none of the annealed runs has a partner at a constant rate"
                               : "no run ends in a row that meets --annealed");
    if (!rc && out->n > 1)
        rc = find_row(&(struct source){how, pairs, n}, NULL, all_lone, s->by, &out->rows[out->n++], laws, notes, err);
    free(pairs);
    if (rc)
        dlm_annealing_release(out);
    return rc;
}

void dlm_annealing_release(struct dlm_annealing *a)
{
    free(a->rows);
    *a = (struct dlm_annealing){0};
}
