/* Iso-loss curves; see isoloss.h. */
#include "law/isoloss.h"

#include "law/columns.h"
#include "law/powerlaw.h"
#include "law/reach.h"
#include "law/residuals.h"
#include "law/robust.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE = 3, LEAST = 4 }; /* parameters of a curve; batches it needs */

const char *const dlm_isoloss_names[DLM_ISOLOSS_VALUES] = {"steps_min", "batch_min", "kappa", "batch_crit", "batch_best"};

/* The search goes over log S_min, log B_min and log κ·B_min: the last stays where it is when B_min vanishes. B_min is below the
 * smallest batch, by a factor of e^-14 at most, the product within e^14 of it. */
enum { LOG_S, LOG_B, LOG_C };
static const double nearest = 1e-6, range = 14;
/* log κ of curves that share it */
static const double kappa_low = -6, kappa_high = 12;

double dlm_isoloss_steps(const double *v, double b)
{
    return v[DLM_ISOLOSS_SMIN] * (1 + v[DLM_ISOLOSS_KAPPA] * v[DLM_ISOLOSS_BMIN] / (b - v[DLM_ISOLOSS_BMIN]));
}

/* One curve: log batches and log steps. */
struct cell {
    size_t size, level, n, row;
    double *lb, *b, *ls, *steep; /* (n) b: batches, not their logs */
    double *residual;           /* (n) of log loss, widened */
    double q[CURVE], shared[2]; /* alone; log S_min and log B_min with the κ of its group */
    size_t *value;              /* (n) which of its size's batches */
};

/* Residuals are counted in log loss: an error of a run's loss makes one of its steps that is larger the flatter its curve is,
 * and near B_min by far. */
struct points {
    const double *lb, *b, *ls, *steep; /* b: of lb's logs */
    size_t n;
    double log_kappa; /* where it is given */
};

static bool residuals_alone(const void *ctx, const double *q, double *r, double *jacobian)
{
    const struct points *p = ctx;
    const double b_min = exp(q[LOG_B]), c = exp(q[LOG_C]);
    for (size_t i = 0; i < p->n; i++) {
        const double over = p->b[i] - b_min, v = c / over, share = v / (1 + v);
        if (!(over > 0))
            return false;
        r[i] = p->steep[i] * (q[LOG_S] + log1p(v) - p->ls[i]);
        if (jacobian) {
            jacobian[CURVE * i + LOG_S] = p->steep[i];
            jacobian[CURVE * i + LOG_B] = p->steep[i] * share * b_min / over;
            jacobian[CURVE * i + LOG_C] = p->steep[i] * share;
        }
    }
    return true;
}

/* κ given: c = κ·B_min. */
static bool residuals_shared(const void *ctx, const double *q, double *r, double *jacobian)
{
    const struct points *p = ctx;
    const double b_min = exp(q[LOG_B]), c = exp(p->log_kappa) * b_min;
    for (size_t i = 0; i < p->n; i++) {
        const double over = p->b[i] - b_min, v = c / over;
        if (!(over > 0))
            return false;
        r[i] = p->steep[i] * (q[LOG_S] + log1p(v) - p->ls[i]);
        if (jacobian) {
            jacobian[2 * i + LOG_S] = p->steep[i];
            jacobian[2 * i + LOG_B] = p->steep[i] * v / (1 + v) * (1 + b_min / over);
        }
    }
    return true;
}

static struct dlm_robust problem(const struct points *p, double huber, bool shared)
{
    const double b = p->lb[0], s = p->ls[p->n - 1]; /* batches rise */
    return (struct dlm_robust){.n = shared ? 2 : CURVE,
                               .m = p->n,
                               .huber = huber,
                               .low = {s - range, b - range, b - range},
                               .high = {p->ls[0], b - nearest, b + range},
                               .residuals = shared ? residuals_shared : residuals_alone,
                               .ctx = p};
}

/* From several places; `again`: from q alone. */
static double fit_alone(const struct points *p, double huber, double *q, bool again, void *scratch)
{
    static const double below[] = {0.05, 0.5, 2, 6}, c[] = {-1, 1, 2.5};
    struct dlm_robust f = problem(p, huber, false);
    double best = INFINITY, start[CURVE];
    f.warm = again;
    if (again)
        return dlm_robust_descend(&f, q, scratch);
    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
            start[LOG_S] = p->ls[p->n - 1];
            start[LOG_B] = p->lb[0] - below[i];
            start[LOG_C] = p->lb[0] + c[k];
            dlm_robust_try(&f, start, q, &best, scratch);
        }
    return best;
}

/* Are the terms away from their bounds? */
static bool within(const struct points *p, const double *q)
{
    return q[LOG_B] > p->lb[0] - range + 0.1 && q[LOG_C] > p->lb[0] - range + 0.1 && q[LOG_C] < p->lb[0] + range - 0.1 &&
           q[LOG_S] > p->ls[p->n - 1] - range + 0.1;
}

static void values_of(const double *q, double *v)
{
    v[DLM_ISOLOSS_SMIN] = exp(q[LOG_S]);
    v[DLM_ISOLOSS_BMIN] = exp(q[LOG_B]);
    v[DLM_ISOLOSS_KAPPA] = exp(q[LOG_C] - q[LOG_B]);
    v[DLM_ISOLOSS_BCRIT] = v[DLM_ISOLOSS_BMIN] * (1 + v[DLM_ISOLOSS_KAPPA]);
    v[DLM_ISOLOSS_BBEST] = v[DLM_ISOLOSS_BMIN] * (1 + sqrt(v[DLM_ISOLOSS_KAPPA]));
}

/* --- a group --------------------------------------------------------------------------------------------------------------- */

struct source {
    const struct dlm_estimate *how;
    const struct dlm_reach_size *sizes; /* of all groups; cells name theirs */
    struct cell *cells;
    size_t n, most;              /* most: batches of a size */
    struct dlm_residuals errors; /* of runs, in log loss */
    double log_kappa;
    struct dlm_minima minima;
    bool law;
};

/* Σ over the cells at this κ; their S_min and B_min in `shared` (n, 2), from where they are. ls (n, most): the cells' steps,
 * NULL: as they are. `slope`: by log κ, which at the lowest point of each cell is that of its residuals alone. */
static double at_kappa(const struct source *s, double log_kappa, const double *ls, double *shared, void *scratch, double *slope)
{
    const double huber = s->how->huber;
    double sum = 0;
    *slope = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct cell *c = &s->cells[i];
        const struct points p = {c->lb, c->b, ls ? ls + i * s->most : c->ls, c->steep, c->n, log_kappa};
        struct dlm_robust f = problem(&p, huber, true);
        double *q = &shared[2 * i];
        f.warm = ls != NULL;
        for (int k = 0; k < 2; k++)
            q[k] = fmin(fmax(q[k], f.low[k]), f.high[k]);
        sum += dlm_robust_descend(&f, q, scratch);
        const double b_min = exp(q[LOG_B]), cb = exp(log_kappa) * b_min;
        for (size_t k = 0; k < p.n; k++) {
            const double v = cb / (p.b[k] - b_min), r = p.steep[k] * (q[LOG_S] + log1p(v) - p.ls[k]);
            *slope += fmin(fmax(r, -huber), huber) * p.steep[k] * v / (1 + v);
        }
    }
    return sum;
}

/* The κ between low and high that fits all cells best: where the slope changes its sign, by false position (Illinois). */
static double best_kappa(const struct source *s, double low, double high, const double *ls, double *shared, void *scratch)
{
    const double enough = ls ? 0.01 : 1e-4;
    double at = 0.5 * (low + high), step = 0.25 * (high - low), slope, below = NAN, above = NAN;
    /* outwards from the middle, downhill, until the lowest point lies between */
    at_kappa(s, at, ls, shared, scratch, &slope);
    while (isnan(below) || isnan(above)) {
        if (slope < 0) {
            low = at;
            below = slope;
        } else {
            high = at;
            above = slope;
        }
        if (!isnan(below) && !isnan(above))
            break;
        const double next = slope < 0 ? fmin(at + step, high) : fmax(at - step, low);
        if (next == at)
            return at;
        at = next;
        step *= 2;
        at_kappa(s, at, ls, shared, scratch, &slope);
    }
    for (int i = 0, side = 0; i < 60 && high - low > enough; i++) {
        const double next = above > below ? (low * above - high * below) / (above - below) : 0.5 * (low + high);
        const bool near = fabs(next - at) < 0.1 * enough;
        at = i % 4 == 3 ? 0.5 * (low + high) : next; /* a crease holds false position up */
        at_kappa(s, at, ls, shared, scratch, &slope);
        if (slope < 0) {
            low = at;
            below = slope;
            above *= side < 0 ? 0.5 : 1;
            side = -1;
        } else {
            high = at;
            above = slope;
            below *= side > 0 ? 0.5 : 1;
            side = 1;
        }
        if (near && i % 4 != 3)
            break;
    }
    return at;
}

/* The law's points: log loss, log critical batch at the shared κ. */
static void law_points(const struct source *s, double log_kappa, const double *shared, struct dlm_sample *sample)
{
    for (size_t i = 0; i < s->n; i++) {
        sample->lx[0][i] = s->sizes[s->cells[i].size].loss[s->cells[i].level];
        sample->ly[i] = shared[2 * i + LOG_B] + log1p(exp(log_kappa));
        sample->w[i] = 1;
    }
    sample->n = s->n;
}

enum { LAW = 3 }; /* columns of a draw: A and k of the law, κ, then the values of each cell */

static size_t scratch_size(const struct source *s)
{
    return (s->n * s->most + 2 * s->n + 3 * s->n) * sizeof(double) + dlm_robust_scratch(CURVE, s->most) +
           s->most * sizeof(size_t);
}

/* What the fits left of runs. An error of a run moves all its levels alike, but what is left of it differs from level to level, as
 * different batches reach them: so each residual stands for a run by itself, and what is drawn moves all levels of a run. A size
 * leaves as many free as it has batches more than a curve has terms. */
static int fill_errors(struct source *s, struct dlm_error *err)
{
    int rc = dlm_residuals_init(&s->errors, s->n * s->most, 1, err);
    for (size_t i = 0, end; i < s->n && !rc; i = end) {
        const size_t batches = s->sizes[s->cells[i].size].n;
        size_t seen = 0;
        for (end = i; end < s->n && s->cells[end].size == s->cells[i].size; end++)
            for (size_t k = 0; k < s->cells[end].n && s->cells[end].n > CURVE; k++) {
                *dlm_residuals_next(&s->errors) = s->cells[end].residual[k];
                dlm_residuals_add(&s->errors);
            }
        for (size_t batch = 0; batch < batches; batch++) {
            bool any = false;
            for (size_t c = i; c < end && !any; c++)
                for (size_t k = 0; k < s->cells[c].n && s->cells[c].n > CURVE && !any; k++)
                    any = s->cells[c].value[k] == batch;
            seen += any;
        }
        s->errors.freedom += seen > CURVE ? seen - CURVE : 0;
    }
    return rc;
}

/* The steps that a curve says, moved by the errors of the runs that were picked. */
static void move_steps(const struct cell *c, const struct source *s, const double *q, const size_t *pick, double factor, double *ls)
{
    double v[DLM_ISOLOSS_VALUES];
    values_of(q, v);
    for (size_t k = 0; k < c->n; k++)
        ls[k] = log(dlm_isoloss_steps(v, c->b[k])) +
                factor * dlm_residuals_at(&s->errors, pick[c->value[k]], 0) / c->steep[k];
}

static bool draw(void *ctx, struct dlm_rng *rng, void *memory, double *out)
{
    const struct source *s = ctx;
    double *ls = memory, *shared = ls + s->n * s->most, *law = shared + 2 * s->n;
    void *scratch = law + 3 * s->n;
    size_t *pick = (size_t *)((char *)scratch + dlm_robust_scratch(CURVE, s->most)); /* (most) */
    const double factor = dlm_residuals_factor(&s->errors, rng);
    for (size_t i = 0; i < s->n; i++) {
        const struct cell *c = &s->cells[i];
        if (!i || c->size != s->cells[i - 1].size)
            for (size_t k = 0; k < s->sizes[c->size].n; k++)
                pick[k] = dlm_residuals_pick(&s->errors, rng);
        double q[CURVE], *own = ls + i * s->most;
        memcpy(q, c->q, sizeof q);
        memcpy(&shared[2 * i], c->shared, sizeof c->shared);
        move_steps(c, s, q, pick, factor, own);
        const struct points p = {c->lb, c->b, own, c->steep, c->n, 0};
        const struct dlm_robust f = problem(&p, s->how->huber, false);
        for (int k = 0; k < CURVE; k++)
            q[k] = fmin(fmax(q[k], f.low[k]), f.high[k]);
        fit_alone(&p, s->how->huber, q, true, scratch);
        values_of(q, out + LAW + i * DLM_ISOLOSS_VALUES);
        /* and the curve with the κ of all, moved by the same errors */
        move_steps(c, s, (double[]){c->shared[LOG_S], c->shared[LOG_B], s->log_kappa + c->shared[LOG_B]}, pick, factor, own);
    }
    const double log_kappa =
        best_kappa(s, fmax(s->log_kappa - 3, kappa_low), fmin(s->log_kappa + 3, kappa_high), ls, shared, scratch);
    struct dlm_sample sample = {.lx = {law, NULL}, .ly = law + s->n, .w = law + 2 * s->n};
    out[0] = out[1] = NAN;
    out[2] = exp(log_kappa);
    if (s->law) {
        struct dlm_fit fit;
        law_points(s, log_kappa, shared, &sample);
        dlm_fit_again(&dlm_form_power, &sample, s->how->huber, &s->minima, &fit);
        out[0] = fit.value[0];
        out[1] = fit.value[1];
    }
    return true;
}

static int fill_cell(struct cell *c, const struct dlm_reach_size *size, double huber, void *scratch, struct dlm_error *err)
{
    c->lb = malloc(size->n * sizeof *c->lb);
    c->b = malloc(size->n * sizeof *c->b);
    c->ls = malloc(size->n * sizeof *c->ls);
    c->steep = malloc(size->n * sizeof *c->steep);
    c->residual = malloc(size->n * sizeof *c->residual);
    c->value = malloc(size->n * sizeof *c->value);
    if (!c->lb || !c->b || !c->ls || !c->steep || !c->residual || !c->value)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < size->n; i++) {
        const double t = size->tokens[c->level * size->n + i];
        if (!isfinite(t) || !isfinite(size->steep[c->level * size->n + i]))
            continue;
        c->steep[c->n] = size->steep[c->level * size->n + i];
        c->lb[c->n] = size->batch[i];
        c->b[c->n] = exp(size->batch[i]);
        c->ls[c->n] = t - size->batch[i];
        c->value[c->n++] = i;
    }
    if (c->n < LEAST)
        return 0;
    const struct points p = {c->lb, c->b, c->ls, c->steep, c->n, 0};
    fit_alone(&p, huber, c->q, false, scratch);
    /* What is drawn again are residuals of least squares: the robust curve passes through three of its points, and resamples
     * with so many zeros would pass through them too. */
    double v[DLM_ISOLOSS_VALUES], q[CURVE];
    memcpy(q, c->q, sizeof q);
    fit_alone(&p, 1e3, q, true, scratch); /* no creases: a few steps do */
    values_of(q, v);
    const double widened = sqrt((double)c->n / (double)(c->n - CURVE)); /* for the three terms that were fitted */
    for (size_t i = 0; i < c->n; i++)
        c->residual[i] = widened * c->steep[i] * (c->ls[i] - log(dlm_isoloss_steps(v, exp(c->lb[i]))));
    return 0;
}

static void free_cell(struct cell *c)
{
    free(c->lb);
    free(c->b);
    free(c->ls);
    free(c->steep);
    free(c->residual);
    free(c->value);
}

/* Rows and points of the cells of one group. */
static int add_rows(const struct source *s, struct dlm_isoloss *out, struct dlm_error *err)
{
    size_t points = 0;
    for (size_t i = 0; i < s->n; i++)
        points += s->cells[i].n;
    struct dlm_isoloss_row *rows = realloc(out->rows, (out->n + s->n + 1) * sizeof *rows);
    if (rows)
        out->rows = rows;
    struct dlm_isoloss_point *at = realloc(out->points, (out->n_points + points + 1) * sizeof *at);
    if (at)
        out->points = at;
    if (!rows || !at)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->n; i++) {
        struct cell *c = &s->cells[i];
        const struct dlm_reach_size *size = &s->sizes[c->size];
        struct dlm_isoloss_row *r = &out->rows[c->row = out->n++];
        *r = (struct dlm_isoloss_row){.group = size->group,
                                      .params = size->params,
                                      .flops_tok = size->flops_tok,
                                      .loss = exp(size->loss[c->level]),
                                      .first = out->n_points,
                                      .n = c->n};
        values_of(c->q, r->value);
        r->determined = within(&(struct points){c->lb, c->b, c->ls, c->steep, c->n, 0}, c->q);
        for (int k = 0; k < DLM_ISOLOSS_VALUES; k++)
            r->interval[k] = (struct dlm_interval){NAN, NAN, NAN};
        for (size_t k = 0; k < c->n; k++)
            out->points[out->n_points++] = (struct dlm_isoloss_point){exp(c->lb[k]), exp(c->ls[k])};
    }
    return 0;
}

/* Intervals of the rows, the κ of all, the law; notes. */
static int finish_group(struct source *s, const char *by, struct dlm_isoloss *out, double *draws, struct dlm_sample *sample,
                        const struct dlm_fit *fit, struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes,
                        struct dlm_error *err)
{
    const struct dlm_bootstrap *b = &s->how->bootstrap;
    const char *name = s->sizes[s->cells[0].size].group->name;
    const size_t width = LAW + s->n * DLM_ISOLOSS_VALUES;
    const struct dlm_bootstrap percentiles = dlm_bootstrap_percentiles(b);
    struct dlm_draws all = {.n = b->n, .width = width, .at = draws};
    size_t vague = 0;
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        struct dlm_isoloss_row *r = &out->rows[s->cells[i].row];
        for (int k = 0; k < DLM_ISOLOSS_VALUES && draws && !rc; k++)
            rc = dlm_bootstrap_interval(b, draws, width, LAW + i * DLM_ISOLOSS_VALUES + (size_t)k, &r->interval[k], err);
        const struct dlm_interval *kappa = &r->interval[DLM_ISOLOSS_KAPPA];
        if (kappa->hi > 100 * kappa->lo)
            r->determined = false;
        vague += !r->determined;
    }
    if (!rc && vague)
        rc = dlm_notes_add(notes, err,
                           "%s: kappa and batch_min of %zu of %zu curves are not determined by these runs: more batches, and "
                           "smaller ones, are needed",
                           name, vague, s->n);
    struct dlm_interval in = {NAN, NAN, NAN};
    if (!rc && draws)
        rc = dlm_bootstrap_interval(b, draws, width, 2, &in, err);
    if (!rc)
        rc = dlm_laws_add(laws,
                          &(struct dlm_law_row){(char *)"isoloss", (char *)name, (char *)"kappa", (char *)"steps",
                                                (char *)"batch_tok", (char *)by, exp(s->log_kappa), in.lo, in.hi, in.se,
                                                (double)s->n, NAN, NAN},
                          err);
    if (!rc && (s->log_kappa < kappa_low + 0.1 || s->log_kappa > kappa_high - 0.1 || in.hi > 100 * in.lo))
        rc = dlm_notes_add(notes, err, "%s: kappa, shared by %zu curves, is not determined by these runs", name, s->n);
    if (!rc && s->law)
        rc = dlm_powerlaw_rows(&(struct dlm_powerlaw){.group = name,
                                                      .y = "batch_crit",
                                                      .x = "loss",
                                                      .by = by,
                                                      .sample = sample,
                                                      .fit = fit,
                                                      .bootstrap = &percentiles,
                                                      .draws = draws ? &all : NULL},
                               laws, bands, notes, err);
    return rc;
}

static int find_group(struct source *s, const char *by, struct dlm_isoloss *out, struct dlm_laws *laws, struct dlm_laws *bands,
                      struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_bootstrap *b = &s->how->bootstrap;
    const char *name = s->sizes[s->cells[0].size].group->name;
    const size_t width = LAW + s->n * DLM_ISOLOSS_VALUES;
    int rc = add_rows(s, out, err);
    if (rc)
        return rc;
    size_t good;
    void *memory = malloc(scratch_size(s));
    double *draws = NULL;
    rc = memory ? fill_errors(s, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    struct dlm_fit fit = {.r2 = NAN};
    struct dlm_sample sample = {0};
    if (!rc) {
        double *shared = (double *)memory + s->n * s->most, *law = shared + 2 * s->n;
        double best = INFINITY;
        for (size_t i = 0; i < s->n; i++) {
            shared[2 * i] = s->cells[i].q[LOG_S];
            shared[2 * i + 1] = s->cells[i].q[LOG_B];
        }
        for (double at = kappa_low; at <= kappa_high; at += 1) { /* where the search begins */
            double slope;
            const double f = at_kappa(s, at, NULL, shared, law + 3 * s->n, &slope);
            if (f < best) {
                best = f;
                s->log_kappa = at;
            }
        }
        s->log_kappa =
            best_kappa(s, fmax(s->log_kappa - 1, kappa_low), fmin(s->log_kappa + 1, kappa_high), NULL, shared, law + 3 * s->n);
        for (size_t i = 0; i < s->n; i++)
            memcpy(s->cells[i].shared, &shared[2 * i], sizeof s->cells[i].shared);
        sample = (struct dlm_sample){.lx = {law, NULL}, .ly = law + s->n, .w = law + 2 * s->n};
        law_points(s, s->log_kappa, shared, &sample);
        for (size_t i = 1; i < s->n; i++)
            s->law |= fabs(sample.lx[0][i] - sample.lx[0][0]) > 1e-6;
        if (s->law)
            rc = dlm_fit_points(&dlm_form_power, &sample, s->how->huber, &s->minima, &fit, err);
        else
            rc = dlm_notes_add(
                notes, err, "%s: one level of loss tells nothing of how the critical batch moves: at least 2 are needed", name);
    }
    if (!rc && b->n && s->errors.n) {
        draws = b->n <= (size_t)-1 / sizeof *draws / width ? malloc(b->n * width * sizeof *draws) : NULL;
        rc = draws ? dlm_bootstrap_run(b, &(struct dlm_resampler){draw, s, scratch_size(s), width}, name, draws, &good, err)
                   : dlm_fail(err, DLM_ENOMEM, "out of memory for %llu resamples", (unsigned long long)b->n);
    }
    if (!rc)
        rc = finish_group(s, by, out, draws, &sample, &fit, laws, bands, notes, err);
    free(draws);
    dlm_residuals_release(&s->errors);
    free(memory);
    return rc;
}

int dlm_isoloss_find(const struct dlm_study *s, const struct dlm_estimate *how, const struct dlm_levels *levels,
                     enum dlm_smooth smooth, struct dlm_isoloss *out, struct dlm_laws *laws, struct dlm_notes *notes,
                     struct dlm_error *err)
{
    *out = (struct dlm_isoloss){0};
    struct dlm_reach reach;
    struct dlm_laws bands = {0};
    int rc = dlm_reach_find(s, levels, smooth, LEAST, &reach, notes, err);
    for (size_t i = 0, end; !rc && i < reach.n; i = end) {
        size_t most = 0, n = 0, few = 0;
        for (end = i; end < reach.n && reach.sizes[end].group == reach.sizes[i].group; end++)
            most = reach.sizes[end].n > most ? reach.sizes[end].n : most;
        struct cell *cells = calloc((end - i) * levels->n, sizeof *cells);
        void *scratch = malloc(dlm_robust_scratch(CURVE, most));
        if (!cells || !scratch)
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
        for (size_t k = i; k < end && !rc; k++)
            for (size_t l = 0; l < levels->n && !rc; l++) {
                cells[n] = (struct cell){.size = k, .level = l};
                rc = fill_cell(&cells[n], &reach.sizes[k], how->huber, scratch, err);
                if (!rc && cells[n].n < LEAST) {
                    free_cell(&cells[n]);
                    few++;
                } else {
                    n++;
                }
            }
        free(scratch);
        if (!rc && few)
            rc = dlm_notes_add(notes, err, "%s: %zu of %zu levels are left out: fewer than %d batches get there",
                               reach.sizes[i].group->name, few, (end - i) * levels->n, LEAST);
        struct source group = {.how = how, .sizes = reach.sizes, .cells = cells, .n = n, .most = most};
        if (!rc && n)
            rc = find_group(&group, s->by, out, laws, &bands, notes, err);
        for (size_t k = 0; k < n; k++)
            free_cell(&cells[k]);
        free(cells);
    }
    if (!rc && !out->n)
        rc = dlm_fail(err, DLM_EDATA, "no iso-loss curve: at least %d batches of one size must reach a loss", LEAST);
    dlm_reach_release(&reach);
    rc = dlm_laws_append(laws, &bands, rc, err);
    if (rc)
        dlm_isoloss_release(out);
    return rc;
}

int dlm_isoloss_write(const struct dlm_isoloss *o, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err)
{
    errno = 0;
    dlm_columns_names(f, s->by);
    fputs("params\tflops_tok\tloss", f);
    for (int k = 0; k < DLM_ISOLOSS_VALUES; k++)
        fprintf(f, "\t%s\t%s_lo\t%s_hi\t%s_se", dlm_isoloss_names[k], dlm_isoloss_names[k], dlm_isoloss_names[k],
                dlm_isoloss_names[k]);
    fputs("\tbatches\tdetermined\n", f);
    for (size_t i = 0; i < o->n; i++) {
        const struct dlm_isoloss_row *r = &o->rows[i];
        dlm_columns_group(f, s->by, r->group->name);
        fprintf(f, isfinite(r->params) ? "%.9g" : "NA", r->params);
        dlm_columns_number(f, r->flops_tok, 9);
        dlm_columns_number(f, r->loss, 9);
        for (int k = 0; k < DLM_ISOLOSS_VALUES; k++) {
            dlm_columns_number(f, r->value[k], 9);
            dlm_columns_number(f, r->interval[k].lo, 6);
            dlm_columns_number(f, r->interval[k].hi, 6);
            dlm_columns_number(f, r->interval[k].se, 6);
        }
        fprintf(f, "\t%zu\t%d\n", r->n, r->determined);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}

void dlm_isoloss_release(struct dlm_isoloss *o)
{
    free(o->rows);
    free(o->points);
    *o = (struct dlm_isoloss){0};
}
