/* Smoothed training curves; see curve.h. */
#include "law/curve.h"

#include "law/columns.h"
#include "law/fit.h"
#include "law/smooth.h"
#include "law/sorted.h"
#include "metric/grow.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { KNOTS = 256, TERMS = 3 };
static const double huber = 1e-3; /* of the power curve */

/* --- one curve ------------------------------------------------------------------------------------------------------------- */

/* d log ŷ / d (log A at the centre, beta, B) at log x. */
static void slopes(const struct dlm_curve *c, double lx, double *j)
{
    const double t = c->value[0] * exp(-c->value[1] * lx), y = t + c->value[2];
    j[0] = t / y;
    j[1] = -t * (lx - c->centre) / y;
    j[2] = 1 / y;
}

/* Invert the symmetric a (n, n), n ≤ 3, in place by Gauss-Jordan without pivoting, which positive definite matrices allow. */
static bool invert(double *a, int n)
{
    for (int k = 0; k < n; k++) {
        const double pivot = a[k * n + k];
        if (!(pivot > 0))
            return false;
        a[k * n + k] = 1;
        for (int i = 0; i < n; i++)
            a[k * n + i] /= pivot;
        for (int i = 0; i < n; i++) {
            const double f = a[i * n + k];
            if (i == k)
                continue;
            a[i * n + k] = 0;
            for (int j = 0; j < n; j++)
                a[i * n + j] -= f * a[k * n + j];
        }
    }
    return true;
}

static int fit_power(struct dlm_curve *c, struct dlm_error *err)
{
    double *w = malloc(c->n * sizeof *w);
    if (!w)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < c->n; i++)
        w[i] = 1;
    struct dlm_minima minima;
    struct dlm_fit fit;
    int rc =
        c->n > TERMS
            ? dlm_fit_points(&dlm_form_loss, &(struct dlm_sample){c->n, {c->lx, NULL}, c->ly, w}, huber, &minima, &fit, err)
            : dlm_fail(err, DLM_EDATA, "%zu point%s: a power curve needs at least %d", c->n, c->n == 1 ? "" : "s", TERMS + 1);
    free(w);
    if (rc)
        return rc == DLM_EDATA ? dlm_fail_in(err, rc, "run '%s'", c->run->name) : rc;
    memcpy(c->value, fit.value, sizeof c->value);
    c->centre = minima.centre[0];
    double a[TERMS * TERMS] = {0}, square = 0, scale[TERMS];
    const int n = c->value[2] > 0 ? TERMS : TERMS - 1; /* at its bound B does not vary */
    for (size_t i = 0; i < c->n; i++) {
        double j[TERMS], r = log(dlm_form_at(&dlm_form_loss, c->value, exp(c->lx[i]), 1)) - c->ly[i];
        slopes(c, c->lx[i], j);
        square += r * r;
        for (int p = 0; p < n; p++)
            for (int q = 0; q < n; q++)
                a[p * n + q] += j[p] * j[q];
    }
    for (int p = 0; p < n; p++)
        scale[p] = sqrt(a[p * n + p]);
    for (int p = 0; p < n; p++)
        for (int q = 0; q < n; q++)
            a[p * n + q] /= scale[p] * scale[q];
    c->scatter = sqrt(square / (double)(c->n - TERMS));
    if (!invert(a, n))
        for (int i = 0; i < n * n; i++)
            a[i] = NAN;
    for (int p = 0; p < n; p++)
        for (int q = 0; q < n; q++)
            c->covariance[p * TERMS + q] = a[p * n + q] / (scale[p] * scale[q]);
    return 0;
}

int dlm_curve_init(struct dlm_curve *c, const struct dlm_run *run, enum dlm_smooth smooth, struct dlm_error *err)
{
    const size_t n = run->n;
    *c = (struct dlm_curve){.run = run, .n = n, .smooth = smooth, .n_knots = n < KNOTS ? n : KNOTS};
    c->lx = malloc(n * sizeof *c->lx);
    c->ly = malloc(n * sizeof *c->ly);
    c->kx = malloc(c->n_knots * sizeof *c->kx);
    c->ky = malloc(c->n_knots * sizeof *c->ky);
    int rc = c->lx && c->ly && c->kx && c->ky ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        c->lx[i] = log(run->points[i].x);
        c->ly[i] = log(run->points[i].y);
        if (run->on_val)
            c->level += run->points[i].se / run->points[i].y / (double)n;
    }
    if (!rc && isnan(c->level))
        c->level = 0;
    if (!rc && smooth == DLM_SMOOTH_POWER)
        rc = fit_power(c, err);
    else if (!rc)
        c->scatter = dlm_smooth_scatter(c->lx, c->ly, n);
    for (size_t i = 0; i < c->n_knots && !rc; i++) {
        c->kx[i] = n <= KNOTS ? c->lx[i] : c->lx[0] + (c->lx[n - 1] - c->lx[0]) * (double)i / (KNOTS - 1);
        c->ky[i] = dlm_curve_loss(c, c->kx[i], NULL, NULL);
    }
    if (rc)
        dlm_curve_release(c);
    return rc;
}

int dlm_curve_sharpen(struct dlm_curve *c, struct dlm_error *err)
{
    if (c->smooth != DLM_SMOOTH_LOCAL)
        return 0;
    double *once = malloc(c->n * sizeof *once);
    if (!once)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < c->n; i++)
        once[i] = dlm_curve_loss(c, c->lx[i], NULL, NULL);
    for (size_t i = 0; i < c->n; i++)
        c->ly[i] += c->ly[i] - once[i];
    free(once);
    for (size_t i = 0; i < c->n_knots; i++)
        c->ky[i] = dlm_curve_loss(c, c->kx[i], NULL, NULL);
    return 0;
}

void dlm_curve_release(struct dlm_curve *c)
{
    free(c->lx);
    free(c->ly);
    free(c->kx);
    free(c->ky);
    *c = (struct dlm_curve){0};
}

double dlm_curve_loss(const struct dlm_curve *c, double lx, double *se, double *slope)
{
    double spread, v;
    if (c->smooth == DLM_SMOOTH_LOCAL) {
        v = dlm_smooth_at(c->lx, c->ly, c->n, lx, slope, &spread);
        if (se && isnan(c->scatter)) /* of two points or one: each as sure as it was measured */
            *se = c->run->points[0].se / c->run->points[0].y;
        else if (se)
            *se = hypot(c->scatter * spread, c->level);
        return v;
    }
    if (slope)
        *slope = NAN;
    if (se)
        *se = NAN;
    if (!(lx >= c->lx[0] - 1e-6) || !(lx <= c->lx[c->n - 1] + 1e-6))
        return NAN;
    double j[TERMS], variance = 0;
    slopes(c, lx, j);
    for (int p = 0; p < TERMS; p++)
        for (int q = 0; q < TERMS; q++)
            variance += j[p] * c->covariance[p * TERMS + q] * j[q];
    if (se)
        *se = hypot(c->scatter * sqrt(variance), c->level);
    if (slope)
        *slope = -c->value[1] * j[0];
    return log(dlm_form_at(&dlm_form_loss, c->value, exp(lx), 1));
}

double dlm_curve_reach(const struct dlm_curve *c, double ly)
{
    size_t i = 0;
    while (i < c->n_knots && !(c->ky[i] <= ly))
        i++;
    if (i == c->n_knots)
        return NAN;
    if (!i)
        return c->ky[0] >= ly - 1e-9 ? c->kx[0] : NAN;
    double low = c->kx[i - 1], high = c->kx[i];
    for (int k = 0; k < 50 && high - low > 1e-12; k++) {
        double mid = 0.5 * (low + high);
        if (dlm_curve_loss(c, mid, NULL, NULL) <= ly)
            high = mid;
        else
            low = mid;
    }
    return 0.5 * (low + high);
}

/* --- horizons -------------------------------------------------------------------------------------------------------------- */

/* A quantity that grows along the run, at x: on the line between the rows about it. */
static double between(const struct dlm_run *r, size_t offset, double x)
{
#define OF(p) (*(const double *)((const char *)(p) + offset))
    size_t i = 0;
    while (i + 1 < r->n && r->points[i].x < x)
        i++;
    const struct dlm_point *b = &r->points[i], *a = i ? b - 1 : b;
    if (!i || b->x <= a->x)
        return OF(b);
    return OF(a) + (OF(b) - OF(a)) * fmin(fmax((x - a->x) / (b->x - a->x), 0), 1);
#undef OF
}

static int add_row(struct dlm_curves *out, size_t *room, const struct dlm_curve_row *row, struct dlm_error *err)
{
    struct dlm_curve_row *more = dlm_grow(out->rows, sizeof *more, room, out->n + 1);
    if (!more)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    out->rows = more;
    out->rows[out->n++] = *row;
    return 0;
}

/* What the curve says at log x; `at_loss`: the level asked for, else NAN. */
static struct dlm_curve_row row_at(const struct dlm_group *g, const struct dlm_curve *c, double lx, double at_loss, bool tokens)
{
    double se, slope, ly = dlm_curve_loss(c, lx, &se, &slope), x = exp(lx), per = c->run->flops_tok;
    const bool by_loss = !isnan(at_loss);
    double x_se = by_loss ? x * se / fabs(slope) : 0;
    struct dlm_curve_row row = {
        .group = g, .run = c->run, .loss = by_loss ? at_loss : exp(ly), .loss_se = by_loss ? 0 : exp(ly) * se};
    row.tokens = tokens ? x : x / per;
    row.tokens_se = tokens ? x_se : x_se / per;
    row.flops = tokens ? x * per : x;
    row.flops_se = tokens ? x_se * per : x_se;
    row.unique_tokens = between(c->run, offsetof(struct dlm_point, unique_tokens), x);
    row.joules = between(c->run, offsetof(struct dlm_point, joules), x);
    return row;
}

/* Levels of a group where none are asked for: evenly in log, from where half of the runs have a thirtieth of their course
 * behind them to the lowest end of a run. */
static int group_levels(const struct dlm_curve *c, size_t n, size_t wanted, double *level, struct dlm_error *err)
{
    double *early = malloc(n * sizeof *early), low = INFINITY;
    if (!early)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const size_t last = c[i].n_knots - 1;
        early[i] = dlm_curve_loss(&c[i], fmax(c[i].kx[last] - log(30), c[i].kx[0]), NULL, NULL);
        low = fmin(low, c[i].ky[last]);
    }
    qsort(early, n, sizeof *early, dlm_order_rising);
    const double high = early[n / 2];
    free(early);
    for (size_t i = 0; i < wanted; i++)
        level[i] = exp(wanted > 1 ? high + (low - high) * (double)i / (double)(wanted - 1) : low);
    return 0;
}

static int find_in_group(const struct dlm_group *g, bool tokens, const struct dlm_budgets *budgets,
                         const struct dlm_levels *levels, struct dlm_curves *out, size_t *room, struct dlm_notes *notes,
                         struct dlm_error *err)
{
    struct dlm_curve *c = calloc(g->n, sizeof *c);
    double *level = levels ? malloc(levels->n * sizeof *level) : NULL;
    size_t n = 0, before = out->n, short_runs = 0;
    int rc = c && (level || !levels) ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    struct dlm_frontier f = {0};
    for (size_t i = 0; i < g->n && !rc; i++) {
        rc = dlm_curve_init(&c[n], &g->runs[i], out->smooth, err);
        if (rc == DLM_EDATA) {
            short_runs++;
            rc = 0;
        } else if (!rc) {
            n++;
        }
    }
    if (!rc && short_runs)
        rc = dlm_notes_add(notes, err, "%s: %zu of %zu runs are left out: a power curve needs at least %d points", g->name,
                           short_runs, g->n, TERMS + 1);
    if (!rc && !n)
        rc = dlm_fail(err, DLM_EDATA, "group '%s': no run has the %d points that a power curve needs", g->name, TERMS + 1);
    if (!rc && levels && levels->at)
        memcpy(level, levels->at, levels->n * sizeof *level);
    else if (!rc && levels)
        rc = group_levels(c, n, levels->n, level, err);
    else if (!rc && (rc = dlm_frontier_fill(&f, g, budgets, 2, err)) == DLM_EDATA)
        rc = dlm_fail_in(err, rc, "group '%s'", g->name);
    for (size_t i = 0; i < n && !rc; i++)
        if (f.direct) { /* each run is a single point: there is nothing between */
            struct dlm_curve_row row = row_at(g, &c[i], c[i].lx[0], NAN, tokens);
            rc = add_row(out, room, &row, err);
        } else {
            for (size_t j = 0; j < (levels ? levels->n : f.n) && !rc; j++) {
                const double lx = levels ? dlm_curve_reach(&c[i], log(level[j])) : log(f.budget[j]);
                if (isnan(dlm_curve_loss(&c[i], lx, NULL, NULL)))
                    continue;
                struct dlm_curve_row row = row_at(g, &c[i], lx, levels ? level[j] : NAN, tokens);
                rc = add_row(out, room, &row, err);
            }
        }
    if (!rc && out->n == before)
        rc = dlm_notes_add(notes, err, "%s: no run reaches any of the levels of loss", g->name);
    dlm_frontier_release(&f);
    for (size_t i = 0; i < n; i++)
        dlm_curve_release(&c[i]);
    free(c);
    free(level);
    return rc;
}

int dlm_curve_find(const struct dlm_study *s, enum dlm_smooth smooth, const char *x, const struct dlm_budgets *budgets,
                   const struct dlm_levels *levels, struct dlm_curves *out, struct dlm_notes *notes, struct dlm_error *err)
{
    *out = (struct dlm_curves){.smooth = smooth};
    size_t room = 0;
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++)
        rc = find_in_group(&s->groups[i], !strcmp(x, "tokens"), budgets, levels, out, &room, notes, err);
    if (!rc && !out->n)
        rc = dlm_fail(err, DLM_EDATA, "no run reaches any of the levels of loss");
    if (rc)
        dlm_curves_release(out);
    return rc;
}

void dlm_curves_release(struct dlm_curves *c)
{
    free(c->rows);
    *c = (struct dlm_curves){0};
}

/* --- the table ------------------------------------------------------------------------------------------------------------- */

struct fact {
    const char *name;
    double (*of)(const struct dlm_curve_row *);
};

static double params_of(const struct dlm_curve_row *r) { return r->run->params; }
static double flops_tok_of(const struct dlm_curve_row *r) { return r->run->flops_tok; }
static double batch_of(const struct dlm_curve_row *r) { return r->run->batch_tok; }
static double lr_of(const struct dlm_curve_row *r) { return r->run->lr; }
static double step_of(const struct dlm_curve_row *r) { return r->tokens / r->run->batch_tok; }
static double unique_of(const struct dlm_curve_row *r) { return r->unique_tokens; }
static double joules_of(const struct dlm_curve_row *r) { return r->joules; }
static double flops_of(const struct dlm_curve_row *r) { return r->flops; }
static double flops_se_of(const struct dlm_curve_row *r) { return r->flops_se; }
static double tokens_of(const struct dlm_curve_row *r) { return r->tokens; }
static double tokens_se_of(const struct dlm_curve_row *r) { return r->tokens_se; }
static double loss_of(const struct dlm_curve_row *r) { return r->loss; }
static double loss_se_of(const struct dlm_curve_row *r) { return r->loss_se; }

static const struct fact facts[] = {
    {"params", params_of},       {"flops_tok", flops_tok_of}, {"batch_tok", batch_of},   {"lr", lr_of},
    {"step", step_of},           {"flops", flops_of},         {"flops_se", flops_se_of}, {"tokens", tokens_of},
    {"tokens_se", tokens_se_of}, {"loss", loss_of},           {"loss_se", loss_se_of},   {"unique_tokens", unique_of},
    {"joules", joules_of},
};

/* Columns that are the study's own in some other way, or mean nothing at a horizon. */
static bool passed_on(const struct dlm_study *s, size_t column)
{
    static const char *const own[] = {"run", "kind", "elbo", "elbo_se", "seconds"};
    const char *name = s->kept[column];
    if (dlm_columns_has(s->by, name))
        return false;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strcmp(own[i], name))
            return false;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!strcmp(facts[i].name, name))
            return false;
    for (size_t i = 0; i < s->n_runs; i++)
        if (s->runs[i].kept && s->runs[i].kept[column])
            return true;
    return false;
}

int dlm_curve_write(const struct dlm_curves *c, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err)
{
    bool *on = calloc(s->n_kept + 1, sizeof *on);
    if (!on)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t k = 0; k < s->n_kept; k++)
        on[k] = passed_on(s, k);
    errno = 0;
    fputs("run\t", f);
    dlm_columns_names(f, s->by);
    const char *tab = "";
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!dlm_columns_has(s->by, facts[i].name)) {
            fprintf(f, "%s%s", tab, facts[i].name);
            tab = "\t";
        }
    for (size_t k = 0; k < s->n_kept; k++)
        if (on[k])
            fprintf(f, "\t%s", s->kept[k]);
    fputc('\n', f);
    for (size_t i = 0; i < c->n; i++) {
        const struct dlm_curve_row *r = &c->rows[i];
        fprintf(f, "%s\t", s->has_runs ? r->run->name : "NA");
        dlm_columns_group(f, s->by, r->group->name);
        tab = "";
        for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
            const double v = facts[k].of(r);
            if (dlm_columns_has(s->by, facts[k].name))
                continue;
            if (isfinite(v))
                fprintf(f, "%s%.9g", tab, v);
            else
                fprintf(f, "%sNA", tab);
            tab = "\t";
        }
        for (size_t k = 0; k < s->n_kept; k++)
            if (on[k])
                fprintf(f, "\t%s", r->run->kept && r->run->kept[k] ? r->run->kept[k] : "NA");
        fputc('\n', f);
    }
    free(on);
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}
