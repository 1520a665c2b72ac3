/* The best batch and the best learning rate; see optimum.h. */
#include "law/optimum.h"

#include "law/columns.h"
#include "law/powerlaw.h"
#include "law/reach.h"
#include "law/residuals.h"
#include "law/sorted.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARABOLA = 3, SETS = 10 };

/* The runs that share parabolas: those of a size, or of a size and batch. All in logs. */
struct set {
    const struct dlm_group *group;
    double params, flops_tok, batch; /* batch in natural units like the others; rates only */
    size_t n, n_levels, first_row;
    double *x;                  /* (n) batches or rates, rising */
    double *y;                  /* (n_levels, n) tokens or losses; NAN where there is none */
    double *steep;              /* (n_levels, n) of a y how far log loss moves with it */
    double *residual;           /* (n_levels, n) in log loss, widened; NAN where there is no parabola or nothing left of it */
    double *level;              /* (n_levels) the loss or the tokens */
    struct dlm_parabola *curve; /* (n_levels) */
    bool *bent;                 /* (n_levels) it has a lowest point */
    double *weight;             /* (n_levels) in the law */
    double *rate;               /* (n_levels, n) rates of the runs behind y; batch only */
};

/* Sets [first, end) as one law: a group, or all of them. */
struct source {
    const struct dlm_optimum_how *how;
    enum dlm_optimum_of of;
    struct set *sets;
    size_t n, n_rows, widest;
    struct dlm_residuals errors; /* of runs */
    bool by_set, fitted;
    struct dlm_minima minima;
};

static void free_sets(struct set *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(s[i].x);
        free(s[i].y);
        free(s[i].steep);
        free(s[i].residual);
        free(s[i].level);
        free(s[i].curve);
        free(s[i].bent);
        free(s[i].rate);
        free(s[i].weight);
    }
    free(s);
}

static int allocate(struct set *s, struct dlm_error *err)
{
    const size_t cells = s->n * s->n_levels;
    s->x = malloc(s->n * sizeof *s->x);
    s->y = malloc(cells * sizeof *s->y);
    s->steep = malloc(cells * sizeof *s->steep);
    s->residual = malloc(cells * sizeof *s->residual);
    s->level = malloc(s->n_levels * sizeof *s->level);
    s->curve = calloc(s->n_levels, sizeof *s->curve);
    s->bent = calloc(s->n_levels, sizeof *s->bent);
    s->rate = malloc(cells * sizeof *s->rate);
    s->weight = malloc(s->n_levels * sizeof *s->weight);
    if (!s->weight || !s->x || !s->y || !s->steep || !s->residual || !s->level || !s->curve || !s->bent || !s->rate)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t l = 0; l < s->n_levels; l++)
        s->weight[l] = 1;
    for (size_t i = 0; i < cells; i++) {
        s->y[i] = s->residual[i] = s->rate[i] = NAN;
        s->steep[i] = 1;
    }
    return 0;
}

/* Room for one set more. */
static struct set *next_set(struct set **sets, size_t *n, struct dlm_error *err)
{
    struct set *more = realloc(*sets, (*n + 1) * sizeof *more);
    if (!more) {
        dlm_fail(err, DLM_ENOMEM, "out of memory");
        return NULL;
    }
    *sets = more;
    memset(&more[*n], 0, sizeof *more);
    return &more[(*n)++];
}

/* --- what goes into the parabolas ------------------------------------------------------------------------------------------ */

static int batch_sets(const struct dlm_study *s, const struct dlm_optimum_how *how, struct set **sets, size_t *n,
                      struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_reach reach;
    int rc = dlm_reach_find(s, &how->levels, how->smooth, PARABOLA, &reach, notes, err);
    for (size_t i = 0; !rc && i < reach.n; i++) {
        const struct dlm_reach_size *size = &reach.sizes[i];
        struct set *set = next_set(sets, n, err);
        if (!set) {
            rc = DLM_ENOMEM;
            break;
        }
        *set = (struct set){.group = size->group,
                            .params = size->params,
                            .flops_tok = size->flops_tok,
                            .batch = NAN,
                            .n = size->n,
                            .n_levels = size->n_levels};
        if ((rc = allocate(set, err)))
            break;
        memcpy(set->x, size->batch, size->n * sizeof *set->x);
        memcpy(set->level, size->loss, size->n_levels * sizeof *set->level);
        memcpy(set->y, size->tokens, size->n * size->n_levels * sizeof *set->y);
        memcpy(set->steep, size->steep, size->n * size->n_levels * sizeof *set->steep);
        for (size_t k = 0; k < size->n * size->n_levels; k++)
            set->rate[k] = size->run[k] ? size->run[k]->lr : NAN;
    }
    dlm_reach_release(&reach);
    return rc;
}

/* Is another batch of the size lower than `loss` at these tokens? */
static bool beaten(const struct dlm_sorted_curve *e, size_t n, const struct dlm_sorted_curve *own, double tokens, double loss)
{
    for (size_t i = 0; i < n; i++)
        if (fabs(e[i].size - own->size) <= DLM_SAME && fabs(e[i].batch - own->batch) > DLM_SAME &&
            dlm_curve_loss(e[i].curve, tokens, NULL, NULL) < loss)
            return true;
    return false;
}

/* One set: the runs e[0, n_own) of a size and batch, among e_all of the group. Horizons that were not asked for lie evenly in
 * log over the last decade that three rates have in common. */
static int fill_rates(struct set *set, const struct dlm_sorted_curve *e, size_t n_own, const struct dlm_sorted_curve *all, size_t n_all,
                      const struct dlm_optimum_how *how, struct dlm_error *err)
{
    const struct dlm_budgets *b = &how->estimate.budgets;
    double *end = malloc(set->n * sizeof *end), *count = calloc(set->n, sizeof *count);
    if (!end || !count) {
        free(end);
        free(count);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    for (size_t i = 0, r = 0; i < n_own; i++) {
        const struct dlm_curve *c = e[i].curve;
        bool first = !i || e[i].rate - e[i - 1].rate > DLM_SAME;
        r += first && i;
        end[r] = first ? c->kx[c->n_knots - 1] : fmax(end[r], c->kx[c->n_knots - 1]);
        set->x[r] = first ? e[i].rate : set->x[r];
    }
    qsort(end, set->n, sizeof *end, dlm_order_falling);
    const double high = b->low > 0 ? log(b->high) : end[PARABOLA - 1], low = b->low > 0 ? log(b->low) : high - log(10);
    for (size_t l = 0; l < set->n_levels; l++) {
        const double t = set->level[l] = low + (high - low) * (double)l / (double)(set->n_levels - 1);
        double *y = &set->y[l * set->n], least = INFINITY;
        memset(count, 0, set->n * sizeof *count);
        for (size_t i = 0, r = 0; i < n_own; i++) { /* runs of equal rate, as seeds make them, count by their mean */
            r += i && e[i].rate - e[i - 1].rate > DLM_SAME;
            const double v = dlm_curve_loss(e[i].curve, t, NULL, NULL);
            if (isnan(v))
                continue;
            y[r] = count[r] > 0 ? y[r] + (v - y[r]) / (count[r] + 1) : v;
            count[r]++;
        }
        for (size_t r = 0; r < set->n; r++)
            least = fmin(least, y[r]);
        if (how->best_batch && beaten(all, n_all, e, t, least))
            for (size_t r = 0; r < set->n; r++)
                y[r] = NAN;
    }
    free(end);
    free(count);
    return 0;
}

static int rate_sets_of_group(const struct dlm_group *g, const struct dlm_optimum_how *how, struct set **sets, size_t *n,
                              struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_sorted sorted;
    size_t few = 0;
    int rc = dlm_sorted_fill(&sorted, g, how->smooth, err);
    const struct dlm_sorted_curve *e = sorted.at;
    const size_t n_curves = sorted.n;
    for (size_t i = 0, end; i < n_curves && !rc; i = end) {
        size_t rates = 1;
        for (end = i + 1; end < n_curves && e[end].size - e[i].size <= DLM_SAME && e[end].batch - e[i].batch <= DLM_SAME; end++)
            rates += e[end].rate - e[end - 1].rate > DLM_SAME;
        if (rates < PARABOLA) {
            few++;
            continue;
        }
        struct set *set = next_set(sets, n, err);
        if (!set) {
            rc = DLM_ENOMEM;
            break;
        }
        const struct dlm_run *r = e[i].curve->run;
        *set = (struct set){.group = g,
                            .params = r->params,
                            .flops_tok = r->flops_tok,
                            .batch = r->batch_tok,
                            .n = rates,
                            .n_levels = how->estimate.budgets.n};
        rc = allocate(set, err);
        if (!rc)
            rc = fill_rates(set, &e[i], end - i, e, n_curves, how, err);
    }
    if (!rc && few)
        rc = dlm_notes_add(notes, err, "%s: %zu pair%s of size and batch left out: fewer than %d learning rates", g->name, few,
                           few == 1 ? "" : "s", PARABOLA);
    dlm_sorted_release(&sorted);
    return rc;
}

/* --- parabolas ------------------------------------------------------------------------------------------------------------- */

/* Through the finite values of a level; how many. x and y (n) are scratch. */
static size_t finite_values(const struct set *s, const double *from, double *x, double *y)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (isfinite(from[i])) {
            x[n] = s->x[i];
            y[n++] = from[i];
        }
    return n;
}

static void fit_set(struct set *s, double *x, double *y)
{
    for (size_t l = 0; l < s->n_levels; l++) {
        const size_t n = finite_values(s, &s->y[l * s->n], x, y);
        if (n < PARABOLA || !(s->bent[l] = dlm_parabola_fit(&s->curve[l], x, y, NULL, n)) || n == PARABOLA)
            continue;
        const double widened = sqrt((double)n / (double)(n - PARABOLA));
        for (size_t i = 0, k = l * s->n; i < s->n; i++, k++)
            s->residual[k] = widened * s->steep[k] * (s->y[k] - dlm_parabola_at(&s->curve[l], s->x[i]));
    }
}

/* The errors of all runs. A set leaves as many of them free as its widest level has more than a parabola's terms. */
static int fill_errors(struct source *s, size_t runs, size_t levels, struct dlm_error *err)
{
    int rc = dlm_residuals_init(&s->errors, runs, levels, err);
    for (size_t i = 0; i < s->n && !rc; i++) {
        const struct set *set = &s->sets[i];
        size_t most = PARABOLA;
        for (size_t k = 0; k < set->n; k++) {
            double *row = dlm_residuals_next(&s->errors);
            for (size_t l = 0; l < set->n_levels; l++)
                row[l] = set->residual[l * set->n + k];
            dlm_residuals_add(&s->errors);
        }
        for (size_t l = 0; l < set->n_levels; l++) {
            size_t n = 0;
            for (size_t k = 0; k < set->n; k++)
                n += isfinite(set->residual[l * set->n + k]);
            most = n > most ? n : most;
        }
        s->errors.freedom += most - PARABOLA;
    }
    return rc;
}

static bool is_inside(const struct set *s, const double *y, double at)
{
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < s->n; i++)
        if (isfinite(y[i])) {
            low = fmin(low, s->x[i]);
            high = fmax(high, s->x[i]);
        }
    return at >= low && at <= high;
}

/* A point of the law: log x, log y of `curve`. */
static void law_point(const struct source *s, const struct set *set, const struct dlm_parabola *curve, double *lx, double *ly)
{
    *lx = s->of == DLM_OPTIMUM_BATCH ? curve->y : log(set->batch);
    *ly = curve->x;
}

/* --- laws and intervals ---------------------------------------------------------------------------------------------------- */

struct scratch {
    double *x, *y, *perturbed; /* (widest) */
    size_t *pick;              /* (widest) */
    struct dlm_sample sample;  /* (n_rows) */
    uint32_t *counts;          /* (n) */
};

static size_t scratch_size(const struct source *s)
{
    return (3 * s->widest + 3 * s->n_rows) * sizeof(double) + s->widest * sizeof(size_t) + s->n * sizeof(uint32_t);
}

static struct scratch lay_out(const struct source *s, void *memory)
{
    struct scratch t = {.x = memory};
    t.y = t.x + s->widest;
    t.perturbed = t.y + s->widest;
    t.sample.lx[0] = t.perturbed + s->widest;
    t.sample.ly = t.sample.lx[0] + s->n_rows;
    t.sample.w = t.sample.ly + s->n_rows;
    t.pick = (size_t *)(t.sample.w + s->n_rows);
    t.counts = (uint32_t *)(t.pick + s->widest);
    return t;
}

static bool two_x(const struct dlm_sample *s)
{
    for (size_t i = 1; i < s->n; i++)
        if (fabs(s->lx[0][i] - s->lx[0][0]) > DLM_SAME)
            return true;
    return false;
}

/* The law's points as they are, those of set i as often as counts say (NULL: once). */
static void points(const struct source *s, const uint32_t *counts, struct dlm_sample *sample)
{
    sample->n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct set *set = &s->sets[i];
        for (size_t l = 0; l < set->n_levels && (!counts || counts[i]); l++)
            if (set->bent[l] && is_inside(set, &set->y[l * set->n], set->curve[l].x)) {
                law_point(s, set, &set->curve[l], &sample->lx[0][sample->n], &sample->ly[sample->n]);
                sample->w[sample->n++] = set->weight[l] * (counts ? counts[i] : 1);
            }
    }
}

/* Optima weigh by how well their parabolas tell them: less towards the ends of the sampled values. How far towards, the law
 * itself says, not the single optimum: that would favour those that err towards the middle. */
static void weigh(struct source *s, const struct dlm_fit *fit, struct scratch *t)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        for (size_t l = 0; l < s->sets[i].n_levels; l++) {
            struct set *set = &s->sets[i];
            double lx, ly;
            if (!set->bent[l])
                continue;
            law_point(s, set, &set->curve[l], &lx, &ly);
            const size_t k = finite_values(set, &set->y[l * set->n], t->x, t->y);
            const double at = fmin(fmax(log(fit->value[0]) + fit->value[1] * lx, t->x[0]), t->x[k - 1]);
            set->weight[l] = dlm_parabola_precision(t->x, k, at);
            sum += set->weight[l];
            n++;
        }
    for (size_t i = 0; i < s->n; i++)
        for (size_t l = 0; l < s->sets[i].n_levels; l++)
            s->sets[i].weight[l] *= (double)n / sum;
}

static bool fit_again(const struct source *s, const struct dlm_sample *sample, double *out)
{
    struct dlm_fit fit;
    if (sample->n < 2 || !two_x(sample))
        return false;
    dlm_fit_again(&dlm_form_power, sample, s->how->estimate.huber, &s->minima, &fit);
    out[0] = fit.value[0];
    out[1] = fit.value[1];
    return isfinite(out[0]);
}

static bool draw_sets(void *ctx, struct dlm_rng *rng, void *memory, double *out)
{
    const struct source *s = ctx;
    struct scratch t = lay_out(s, memory);
    dlm_bootstrap_pick(rng, s->n, t.counts);
    points(s, t.counts, &t.sample);
    return fit_again(s, &t.sample, out);
}

static bool draw_residuals(void *ctx, struct dlm_rng *rng, void *memory, double *out)
{
    const struct source *s = ctx;
    struct scratch t = lay_out(s, memory);
    const double factor = dlm_residuals_factor(&s->errors, rng);
    t.sample.n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct set *set = &s->sets[i];
        for (size_t k = 0; k < set->n; k++)
            t.pick[k] = dlm_residuals_pick(&s->errors, rng);
        for (size_t l = 0; l < set->n_levels; l++) {
            if (!set->bent[l])
                continue;
            for (size_t k = 0, cell = l * set->n; k < set->n; k++, cell++) {
                const double e = factor * dlm_residuals_at(&s->errors, t.pick[k], l) / set->steep[cell];
                t.perturbed[k] =
                    isfinite(set->y[cell]) ? dlm_parabola_at(&set->curve[l], set->x[k]) + (isfinite(e) ? e : 0) : NAN;
            }
            struct dlm_parabola p;
            if (dlm_parabola_fit(&p, t.x, t.y, NULL, finite_values(set, t.perturbed, t.x, t.y)) &&
                is_inside(set, t.perturbed, p.x)) {
                law_point(s, set, &p, &t.sample.lx[0][t.sample.n], &t.sample.ly[t.sample.n]);
                t.sample.w[t.sample.n++] = set->weight[l];
            }
        }
    }
    if (!fit_again(s, &t.sample, out))
        out[0] = out[1] = NAN;
    return true;
}

/* The size of a run's error in log loss, from the residuals of all sets. NAN: none is left. */
static double error_of_runs(const struct source *s)
{
    double square = 0;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) /* they are widened: their mean square is that of the errors */
        for (size_t k = 0; k < s->sets[i].n * s->sets[i].n_levels; k++)
            if (isfinite(s->sets[i].residual[k])) {
                square += s->sets[i].residual[k] * s->sets[i].residual[k];
                n++;
            }
    return n ? sqrt(square / (double)n) : NAN;
}

/* The intervals of a group's rows; how many have none although there are errors to go by. */
static size_t limit_rows(const struct source *s, struct dlm_optimum_row *rows, struct scratch *t)
{
    const double error = error_of_runs(s), p = 0.5 * (1 + s->how->estimate.bootstrap.level);
    const double wide = isnan(error) ? NAN : dlm_student_quantile(p, s->errors.freedom);
    size_t vague = 0;
    for (size_t i = 0; i < s->n && !isnan(error); i++)
        for (size_t l = 0; l < s->sets[i].n_levels; l++) {
            const struct set *set = &s->sets[i];
            struct dlm_parabola_limits in;
            if (!set->bent[l])
                continue;
            struct dlm_optimum_row *row = rows++;
            const size_t n = finite_values(set, &set->y[l * set->n], t->x, t->y);
            for (size_t k = 0, m = 0; k < set->n; k++)
                if (isfinite(set->y[l * set->n + k])) {
                    const double e = error / set->steep[l * set->n + k];
                    t->perturbed[m++] = isfinite(e) ? e * e : 0;
                }
            const bool ends = dlm_parabola_limit(t->x, t->y, t->perturbed, n, wide, &in);
            const double best = set->curve[l].x, value = set->curve[l].y;
            vague += !ends;
            if (ends)
                row->best = (struct dlm_interval){exp(in.low), exp(in.high), exp(best) * in.se};
            row->value_in = (struct dlm_interval){exp(value - wide * in.low_se), exp(value + wide * in.low_se),
                                                  exp(value) * in.low_se};
        }
    return vague;
}

static double *room_for_draws(const struct dlm_bootstrap *b, size_t width, struct dlm_error *err)
{
    double *draws = b->n <= (size_t)-1 / sizeof *draws / width ? malloc(b->n * width * sizeof *draws) : NULL;
    if (!draws)
        dlm_fail(err, DLM_ENOMEM, "out of memory for %llu resamples", (unsigned long long)b->n);
    return draws;
}

static const char *what_of(enum dlm_optimum_of of) { return of == DLM_OPTIMUM_BATCH ? "best batch" : "best learning rate"; }

/* The law of one group (or all) and, where `rows` is there, the intervals of its rows. */
static int find_law(struct source *s, const char *name, const char *by, struct dlm_optimum_row *rows, struct dlm_laws *laws,
                    struct dlm_laws *bands, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_bootstrap *b = &s->how->estimate.bootstrap;
    size_t room = 0, levels = 0, good, sets = 0;
    double *draws = NULL;
    for (size_t i = 0; i < s->n; i++) {
        bool any = false;
        s->widest = s->sets[i].n > s->widest ? s->sets[i].n : s->widest;
        room += s->sets[i].n;
        levels = s->sets[i].n_levels > levels ? s->sets[i].n_levels : levels;
        for (size_t l = 0; l < s->sets[i].n_levels && !any; l++)
            any = s->sets[i].bent[l] && is_inside(&s->sets[i], &s->sets[i].y[l * s->sets[i].n], s->sets[i].curve[l].x);
        sets += any;
    }
    void *memory = malloc(scratch_size(s) + 1);
    int rc = memory ? fill_errors(s, room, levels, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    struct scratch t = {0};
    struct dlm_fit fit;
    const char *y = s->of == DLM_OPTIMUM_BATCH ? "batch_tok" : "lr", *x = s->of == DLM_OPTIMUM_BATCH ? "tokens" : "batch_tok";
    if (!rc) {
        t = lay_out(s, memory);
        points(s, NULL, &t.sample);
        s->fitted = t.sample.n >= 2 && two_x(&t.sample);
        if (!s->fitted)
            rc = dlm_notes_add(
                notes, err,
                "%s: no law of the %s: %zu optim%s within the sampled values; it needs at least 2 at different %s "
                "and should have five",
                name, what_of(s->of), t.sample.n, t.sample.n == 1 ? "um lies" : "a lie", x);
    }
    if (!rc && s->fitted)
        rc = dlm_fit_points(&dlm_form_power, &t.sample, s->how->estimate.huber, &s->minima, &fit, err);
    for (int pass = 0; pass < 2 && !rc && s->fitted; pass++) {
        weigh(s, &fit, &t);
        points(s, NULL, &t.sample);
        rc = dlm_fit_points(&dlm_form_power, &t.sample, s->how->estimate.huber, &s->minima, &fit, err);
    }
    s->by_set = sets >= SETS;
    if (!rc && rows && b->n) {
        const size_t vague = limit_rows(s, rows, &t);
        if (vague)
            rc = dlm_notes_add(notes, err,
                               "%s: %zu of %zu optima have no interval: the bend of their parabola is no larger than its errors", name,
                               vague, s->n_rows);
    }
    size_t bent = 0;
    for (size_t i = 0; i < s->n; i++)
        for (size_t l = 0; l < s->sets[i].n_levels; l++)
            bent += s->sets[i].bent[l];
    const size_t outside = bent - t.sample.n;
    const bool chosen = s->fitted && 4 * outside > bent, possible = !chosen && (s->by_set || s->errors.n);
    if (!rc && chosen && b->n)
        rc = dlm_notes_add(notes, err,
                           "%s: %s: no interval: %zu of %zu optima lie outside of the sampled values, and the others are there by "
                           "their errors: the exponent leans towards 0",
                           name, what_of(s->of), outside, bent);
    if (!rc && b->n && s->fitted && possible) {
        draws = room_for_draws(b, 2, err);
        rc = !draws ? DLM_ENOMEM
                    : dlm_bootstrap_run(b, &(struct dlm_resampler){s->by_set ? draw_sets : draw_residuals, s, scratch_size(s), 2},
                                        name, draws, &good, err);
        const double widened = s->by_set ? sqrt((double)sets / (double)(sets - 2)) : 1; /* a law has two terms */
        for (uint64_t i = 0; i < b->n && !rc; i++) {
            draws[2 * i] = fit.value[0] * pow(draws[2 * i] / fit.value[0], widened);
            draws[2 * i + 1] = fit.value[1] + widened * (draws[2 * i + 1] - fit.value[1]);
        }
    } else if (!rc && b->n && s->fitted && !chosen) {
        rc = dlm_notes_add(
            notes, err,
            "%s: %s: no interval: every parabola goes through three values and leaves no residual, and %zu sets of "
            "runs are too few to draw again (%d are needed)",
            name, what_of(s->of), sets, SETS);
    }
    if (!rc && s->fitted) {
        struct dlm_bootstrap about = *b;
        about.kind = DLM_INTERVAL_STUDENT;
        const struct dlm_draws all = {.n = b->n,
                                      .width = 2,
                                      .at = draws,
                                      .estimate = fit.value,
                                      .freedom = s->by_set ? sets - 2 : 0}; /* draws of errors are Student's already */
        rc = dlm_powerlaw_rows(&(struct dlm_powerlaw){.group = name,
                                                      .y = y,
                                                      .x = x,
                                                      .by = by,
                                                      .sample = &t.sample,
                                                      .fit = &fit,
                                                      .bootstrap = &about,
                                                      .draws = all.at ? &all : NULL},
                               laws, bands, notes, err);
    }
    dlm_residuals_release(&s->errors);
    free(memory);
    free(draws);
    return rc;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------ */

static struct dlm_optimum_row make_row(enum dlm_optimum_of of, const struct set *s, size_t l)
{
    const struct dlm_parabola *c = &s->curve[l];
    struct dlm_optimum_row row = {.group = s->group,
                                  .params = s->params,
                                  .flops_tok = s->flops_tok,
                                  .low = INFINITY,
                                  .best = {NAN, NAN, NAN},
                                  .value_in = {NAN, NAN, NAN}};
    double nearest = INFINITY;
    row.lr = NAN;
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[l * s->n + i]))
            continue;
        row.values++;
        row.low = fmin(row.low, exp(s->x[i]));
        row.high = fmax(row.high, exp(s->x[i]));
        if (fabs(s->x[i] - c->x) < nearest) {
            nearest = fabs(s->x[i] - c->x);
            row.lr = s->rate[l * s->n + i];
        }
    }
    row.inside = is_inside(s, &s->y[l * s->n], c->x);
    if (of == DLM_OPTIMUM_BATCH) {
        row.batch_tok = exp(c->x);
        row.tokens = exp(c->y);
        row.loss = exp(s->level[l]);
    } else {
        row.batch_tok = s->batch;
        row.lr = exp(c->x);
        row.loss = exp(c->y);
        row.tokens = exp(s->level[l]);
    }
    return row;
}

/* One group: its rows and its law. */
static int find_group(const struct dlm_optimum_how *how, struct dlm_optima *out, struct set *sets, size_t n, const char *by,
                      struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes, struct dlm_error *err)
{
    const char *name = sets[0].group->name;
    size_t levels = 0, widest = 0, flat = 0, few = 0, outside[2] = {0, 0}, first = out->n;
    for (size_t i = 0; i < n; i++) {
        levels += sets[i].n_levels;
        widest = sets[i].n > widest ? sets[i].n : widest;
    }
    double *x = malloc(2 * widest * sizeof *x);
    struct dlm_optimum_row *more = realloc(out->rows, (out->n + levels + 1) * sizeof *more);
    if (more)
        out->rows = more;
    struct dlm_optimum_point *at = realloc(out->points, (out->n_points + levels * widest + 1) * sizeof *at);
    if (at)
        out->points = at;
    if (!x || !more || !at) {
        free(x);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        fit_set(&sets[i], x, x + widest);
        for (size_t l = 0; l < sets[i].n_levels; l++) {
            if (!sets[i].bent[l]) {
                bool enough = finite_values(&sets[i], &sets[i].y[l * sets[i].n], x, x + widest) >= PARABOLA;
                flat += enough;
                few += !enough;
                continue;
            }
            struct dlm_optimum_row row = make_row(out->of, &sets[i], l);
            row.curve = sets[i].curve[l];
            row.first = out->n_points;
            for (size_t k = 0; k < sets[i].n; k++)
                if (isfinite(sets[i].y[l * sets[i].n + k]))
                    out->points[out->n_points++] =
                        (struct dlm_optimum_point){exp(sets[i].x[k]), exp(sets[i].y[l * sets[i].n + k])};
            outside[sets[i].curve[l].x > log(row.low)] += !row.inside;
            out->rows[out->n++] = row;
        }
    }
    free(x);
    const char *values = out->of == DLM_OPTIMUM_BATCH ? "batches" : "learning rates";
    int rc = 0;
    for (int high = 0; high < 2 && !rc; high++)
        if (outside[high])
            rc =
                dlm_notes_add(notes, err, "%s: %zu of %zu optima lie outside of the sampled %s, %s, and are no part of the law",
                              name, outside[high], out->n - first, values, high ? "beyond the largest" : "below the smallest");
    if (!rc && flat)
        rc = dlm_notes_add(notes, err, "%s: %zu of %zu levels are left out: their parabola has no lowest point", name, flat,
                           levels);
    if (!rc && few && !how->best_batch)
        rc = dlm_notes_add(notes, err, "%s: %zu of %zu levels are left out: fewer than %d %s get there", name, few, levels,
                           PARABOLA, values);
    struct source s = {.how = how, .of = out->of, .sets = sets, .n = n, .n_rows = out->n - first};
    return rc ? rc : find_law(&s, name, by, &out->rows[first], laws, bands, notes, err);
}

int dlm_optimum_find(const struct dlm_study *s, const struct dlm_optimum_how *how, enum dlm_optimum_of of,
                     struct dlm_optima *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    struct set *sets = NULL;
    size_t n = 0, groups = 0;
    struct dlm_laws bands = {0};
    *out = (struct dlm_optima){.of = of};
    int rc = 0;
    if (of == DLM_OPTIMUM_BATCH)
        rc = batch_sets(s, how, &sets, &n, notes, err);
    else
        for (size_t i = 0; i < s->n && !rc; i++)
            rc = rate_sets_of_group(&s->groups[i], how, &sets, &n, notes, err);
    for (size_t i = 0, end; i < n && !rc; i = end, groups++) {
        for (end = i; end < n && sets[end].group == sets[i].group; end++)
            continue;
        rc = find_group(how, out, &sets[i], end - i, s->by, laws, &bands, notes, err);
    }
    if (!rc && !out->n)
        rc = dlm_fail(err, DLM_EDATA,
                      of == DLM_OPTIMUM_BATCH
                          ? "no parabola of tokens over batch: at least 3 batches of one size must reach a loss"
                          : "no parabola of loss over learning rate: at least 3 rates of one size and batch "
                            "must reach the same tokens");
    if (!rc && groups > 1) {
        struct source all = {.how = how, .of = of, .sets = sets, .n = n, .n_rows = out->n};
        rc = find_law(&all, "pooled", s->by, NULL, laws, &bands, notes, err);
    }
    free_sets(sets, n);
    rc = dlm_laws_append(laws, &bands, rc, err);
    if (rc)
        dlm_optimum_release(out);
    return rc;
}

static void put_interval(FILE *f, double value, const struct dlm_interval *in)
{
    dlm_columns_number(f, value, 9);
    dlm_columns_number(f, in->lo, 6);
    dlm_columns_number(f, in->hi, 6);
    dlm_columns_number(f, in->se, 6);
}

int dlm_optimum_write(const struct dlm_optima *o, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err)
{
    const bool batch = o->of == DLM_OPTIMUM_BATCH;
    errno = 0;
    dlm_columns_names(f, s->by);
    fprintf(f, "params\tflops_tok\t%s\tvalues\tleast\tmost\tinside\n",
            batch ? "loss\ttokens\ttokens_lo\ttokens_hi\ttokens_se\tbatch_tok\tbatch_tok_lo\tbatch_tok_hi\tbatch_tok_se\tlr"
                  : "tokens\tbatch_tok\tloss\tloss_lo\tloss_hi\tloss_se\tlr\tlr_lo\tlr_hi\tlr_se");
    for (size_t i = 0; i < o->n; i++) {
        const struct dlm_optimum_row *r = &o->rows[i];
        dlm_columns_group(f, s->by, r->group->name);
        fprintf(f, isfinite(r->params) ? "%.9g" : "NA", r->params);
        dlm_columns_number(f, r->flops_tok, 9);
        if (batch) {
            dlm_columns_number(f, r->loss, 9);
            put_interval(f, r->tokens, &r->value_in);
            put_interval(f, r->batch_tok, &r->best);
            dlm_columns_number(f, r->lr, 9);
        } else {
            dlm_columns_number(f, r->tokens, 9);
            dlm_columns_number(f, r->batch_tok, 9);
            put_interval(f, r->loss, &r->value_in);
            put_interval(f, r->lr, &r->best);
        }
        fprintf(f, "\t%zu", r->values);
        dlm_columns_number(f, r->low, 9);
        dlm_columns_number(f, r->high, 9);
        fprintf(f, "\t%d\n", r->inside);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}

void dlm_optimum_release(struct dlm_optima *o)
{
    free(o->rows);
    free(o->points);
    *o = (struct dlm_optima){.of = o->of};
}
