/* From the points of a study to laws with intervals; see estimate.h. */
#include "law/estimate.h"

#include "law/band.h"
#include "law/fit.h"
#include "law/horizons.h"
#include "law/residuals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What of a point or of the frontier is fitted. */
enum what { WHAT_Y, WHAT_SIZE, WHAT_PARAMS, WHAT_TOKENS };

enum { HORIZONS = 50, MANY_RUNS = 20 };

/* One law of one group: where its points come from. */
struct source {
    const struct dlm_form *form;
    const struct dlm_estimate *how;
    const struct dlm_group *group;
    const struct dlm_frontier *frontier; /* NULL: the points of the group as they are */
    enum what what;
    bool params; /* a surface over params, not FLOPs per token */
    bool by_run;
    bool by_error;               /* the lowest of a frontier: what is drawn again are errors of its runs */
    struct dlm_residuals errors; /* of those */
    double *fitted;              /* (room) what the law says at each budget, in logs */
    size_t *best;                /* (room) the run that is lowest there */
    struct dlm_minima minima;
    size_t room;     /* points at most */
    double *logs[3]; /* (n_points) of x or size, tokens, y: a resample takes no logarithm */
};

/* The logarithms of the group's points; free logs[0]. */
static int take_logs(struct source *s, struct dlm_error *err)
{
    const struct dlm_group *g = s->group;
    const bool surface = s->form->powers == 2;
    s->logs[0] = malloc(3 * (g->n_points + 1) * sizeof *s->logs[0]);
    if (!s->logs[0])
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->logs[1] = s->logs[0] + g->n_points;
    s->logs[2] = s->logs[1] + g->n_points;
    for (size_t i = 0; i < g->n_points; i++) {
        const struct dlm_point *p = &g->runs[0].points[i];
        s->logs[0][i] = log(surface ? (s->params ? p->params : p->flops_tok) : p->x);
        s->logs[1][i] = surface ? log(p->tokens) : 0;
        s->logs[2][i] = log(p->y);
    }
    return 0;
}

static size_t scratch_size(const struct source *s)
{
    size_t n = s->room * 4 + s->group->n_points + (s->frontier ? s->frontier->start[s->frontier->n] : 0);
    return n * sizeof(double) + s->group->n * sizeof(uint32_t);
}

/* Lay the arrays of a resample out in scratch memory. */
static uint32_t *lay_out(const struct source *s, void *scratch, struct dlm_sample *sample, double **ly, double **value)
{
    double *p = scratch;
    *sample = (struct dlm_sample){.lx = {p, p + s->room}, .ly = p + 2 * s->room, .w = p + 3 * s->room};
    *ly = p += 4 * s->room;
    *value = p += s->group->n_points;
    return (uint32_t *)(p + (s->frontier ? s->frontier->start[s->frontier->n] : 0));
}

/* The points of the group: those of run i weigh counts[i] (NULL: 1); `noise` moves them by their standard errors. */
static void points_of_group(const struct source *s, const uint32_t *counts, struct dlm_rng *noise, struct dlm_sample *sample)
{
    const struct dlm_group *g = s->group;
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        const size_t first = (size_t)(g->runs[i].points - g->runs[0].points), each = g->runs[i].n;
        const uint32_t w = counts ? counts[i] : 1;
        if (!w)
            continue;
        memcpy(sample->lx[0] + n, s->logs[0] + first, each * sizeof(double));
        memcpy(sample->lx[1] + n, s->logs[1] + first, each * sizeof(double));
        memcpy(sample->ly + n, s->logs[2] + first, each * sizeof(double));
        for (size_t k = 0; k < each; k++) {
            const struct dlm_point *p = &g->runs[i].points[k];
            if (noise)
                sample->ly[n + k] = log(fmax(p->y + p->se * dlm_rng_normal(noise), 1e-3 * p->y));
            sample->w[n + k] = w;
        }
        n += each;
    }
    sample->n = n;
}

/* The lowest curve at each budget among the runs drawn; `of` (room; may be NULL) which run each is of. */
static void points_of_frontier(const struct source *s, const uint32_t *counts, const double *value, struct dlm_sample *sample,
                               size_t *of)
{
    const struct dlm_frontier *f = s->frontier;
    size_t n = 0;
    for (size_t j = 0; j < f->n; j++) {
        size_t best = (size_t)-1;
        for (size_t e = f->start[j]; e < f->start[j + 1]; e++)
            if ((!counts || counts[f->run[e]]) && (best == (size_t)-1 || value[e] < value[best]))
                best = e;
        if (best == (size_t)-1)
            continue;
        const struct dlm_run *run = &s->group->runs[f->run[best]];
        double v = s->what == WHAT_Y        ? value[best]
                   : s->what == WHAT_SIZE   ? log(run->flops_tok)
                   : s->what == WHAT_PARAMS ? log(run->params)
                                            : log(f->budget[j] / run->flops_tok);
        if (!isfinite(v))
            continue;
        if (of)
            of[n] = f->run[best];
        sample->lx[0][n] = log(f->budget[j]);
        sample->ly[n] = v;
        sample->w[n++] = counts && f->counted[j] ? counts[f->run[best]] : 1;
    }
    sample->n = n;
}

static bool distinct_enough(const struct dlm_sample *s, size_t need)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n && n < need; i++) {
        bool again = false;
        for (size_t k = 0; k < i && !again; k++)
            again = s->lx[0][k] == s->lx[0][i];
        n += !again;
    }
    return n >= need;
}

/* The fit of a resample. False: it is none. */
static bool fit_sample(const struct source *s, const struct dlm_sample *sample, double *out)
{
    if (sample->n < (size_t)s->form->n || !distinct_enough(sample, s->form->powers == 2 ? 2 : (size_t)s->form->n))
        return false;
    struct dlm_fit fit;
    dlm_fit_again(s->form, sample, s->how->huber, &s->minima, &fit);
    memcpy(out, fit.value, (size_t)s->form->n * sizeof *out);
    return isfinite(out[0]);
}

/* Is a minimum taken over runs? A resample without the lowest one would be another frontier, and one with it the same. */
static bool is_minimum(const struct dlm_frontier *f)
{
    bool any = false;
    for (size_t j = 0; f && j < f->n; j++)
        any |= !f->counted[j];
    return any;
}

/* What the law leaves of the runs along the frontier. Each residual stands for the error of a run, which moves all its budgets
 * alike; the runs leave as many free as they are more than the law's terms. */
static int take_errors(struct source *s, const struct dlm_sample *sample, const struct dlm_fit *fit, size_t *runs,
                       struct dlm_error *err)
{
    const size_t n = sample->n, terms = (size_t)s->form->n;
    int rc = dlm_residuals_init(&s->errors, n, 1, err);
    for (size_t j = 0; j < n && !rc; j++) {
        bool again = false;
        for (size_t i = 0; i < j && !again; i++)
            again = s->best[i] == s->best[j];
        *runs += !again;
        s->fitted[j] = log(dlm_form_at(s->form, fit->value, exp(sample->lx[0][j]), 1));
        *dlm_residuals_next(&s->errors) =
            n > terms ? sqrt((double)n / (double)(n - terms)) * (sample->ly[j] - s->fitted[j]) : NAN;
        dlm_residuals_add(&s->errors);
    }
    s->errors.freedom = *runs > terms ? *runs - terms : 0;
    return rc;
}

/* The frontier, moved by errors of its runs; `pick` (runs) is scratch. */
static void move_frontier(const struct source *s, struct dlm_rng *rng, uint32_t *pick, struct dlm_sample *sample)
{
    const double factor = dlm_residuals_factor(&s->errors, rng);
    for (size_t i = 0; i < s->group->n; i++)
        pick[i] = (uint32_t)dlm_residuals_pick(&s->errors, rng);
    points_of_frontier(s, NULL, s->frontier->value, sample, NULL);
    for (size_t j = 0; j < sample->n; j++)
        sample->ly[j] = s->fitted[j] + factor * dlm_residuals_at(&s->errors, pick[s->best[j]], 0);
}

static bool draw(void *ctx, struct dlm_rng *rng, void *scratch, double *out)
{
    const struct source *s = ctx;
    struct dlm_sample sample;
    double *ly, *value;
    uint32_t *counts = lay_out(s, scratch, &sample, &ly, &value);
    if (s->by_error) {
        move_frontier(s, rng, counts, &sample);
        return fit_sample(s, &sample, out);
    }
    if (s->by_run && dlm_bootstrap_pick(rng, s->group->n, counts) < (size_t)s->form->n)
        return false;
    if (!s->frontier) {
        points_of_group(s, s->by_run ? counts : NULL, s->by_run ? NULL : rng, &sample);
    } else if (s->by_run) {
        points_of_frontier(s, counts, s->frontier->value, &sample, NULL);
    } else {
        dlm_frontier_perturb(s->frontier, rng, ly, value);
        points_of_frontier(s, NULL, value, &sample, NULL);
    }
    return fit_sample(s, &sample, out);
}

static bool leave_out(void *ctx, size_t first, size_t last, void *scratch, double *out)
{
    const struct source *s = ctx;
    struct dlm_sample sample;
    double *ly, *value;
    uint32_t *counts = lay_out(s, scratch, &sample, &ly, &value);
    for (size_t i = 0; i < s->group->n; i++)
        counts[i] = i < first || i >= last;
    if (s->frontier)
        points_of_frontier(s, counts, s->frontier->value, &sample, NULL);
    else
        points_of_group(s, counts, NULL, &sample);
    return fit_sample(s, &sample, out);
}

/* What the intervals say about a term, in words. An amplitude is y at x = 1, far outside, and goes where its exponent goes. */
static int note_term(const struct source *s, const struct dlm_fit *fit, const struct dlm_interval *intervals, int i,
                     const char *what, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_form *form = s->form;
    const struct dlm_interval *in = &intervals[i];
    const char *term = form->term[i], *group = s->group->name;
    const bool offset = form->offset && i == (form->powers == 2 ? 0 : form->n - 1);
    const bool exponent = form->powers == 2 ? i == 2 || i == 4 : i == 1;
    double scale = exp(s->minima.centre_y), low = form->lowest, high = form->highest;
    double v = fit->value[i], lo = isnan(in->lo) ? v : in->lo, hi = isnan(in->hi) ? v : in->hi;
    char with[32] = "";
    if (offset && v <= 1e-9 * scale && hi <= 1e-9 * scale)
        return dlm_notes_add(notes, err, "%s: %s: %s is 0: within these points no level is seen where the law flattens", group,
                             what, term);
    if (offset && lo <= 1e-9 * scale)
        return dlm_notes_add(notes, err, "%s: %s: %s is not determined by these runs: %s 0", group, what, term,
                             v <= 1e-9 * scale ? "the best fit has it at" : "its interval reaches");
    if (exponent && in[-1].hi > 10 * in[-1].lo)
        snprintf(with, sizeof with, ", and %s goes with it", form->term[i - 1]);
    if (exponent && (lo <= low * 1.0001 + 1e-12 || hi >= high * 0.9999) && low > -50)
        return dlm_notes_add(notes, err, "%s: %s: %s is not determined by these runs: its %s reaches the bound %g%s", group, what,
                             term, isnan(in->lo) ? "best fit" : "interval", hi >= high * 0.9999 ? high : low, with);
    if ((exponent || offset) && isfinite(in->lo) && in->hi - in->lo > fabs(v))
        return dlm_notes_add(notes, err, "%s: %s: %s is weakly determined: %.3g, from %.3g to %.3g%s", group, what, term, v, in->lo,
                             in->hi, with);
    if (*with && in[-1].hi > 1e6 * in[-1].lo)
        return dlm_notes_add(notes, err,
                             "%s: %s: %s is not determined by these runs: its interval spans more than six orders of magnitude, since "
                             "it moves with %s; go by the band",
                             group, what, form->term[i - 1], term);
    if (*with)
        return dlm_notes_add(notes, err, "%s: %s: %s is barely determined, from %.3g to %.3g: it moves with %s%s; go by the band",
                             group, what, form->term[i - 1], in[-1].lo, in[-1].hi, term,
                             isnan(in[-1].se) ? "" : ", and its standard error says little");
    return 0;
}

struct naming {
    const char *y, *x, *by, *what; /* what: how notes call the law */
};

static int add_row(struct dlm_laws *laws, const struct source *s, const struct naming *name, const char *law, const char *term,
                   double value, const struct dlm_interval *in, double n, double r2, double objective, struct dlm_error *err)
{
    struct dlm_interval none = {NAN, NAN, NAN};
    if (!in)
        in = &none;
    return dlm_laws_add(laws,
                        &(struct dlm_law_row){(char *)law, s->group->name, (char *)term, (char *)name->y, (char *)name->x,
                                              (char *)name->by, value, in->lo, in->hi, in->se, n, r2, objective},
                        err);
}

/* The best split of C = M·D on a surface, in closed form: M* = G·C^(beta/(alpha+beta)), G = (alpha·a/(beta·b))^(1/(alpha+beta)).
 */
static double surface_size(const double *v, double c)
{
    return pow(v[2] * v[1] / (v[4] * v[3]), 1 / (v[2] + v[4])) * pow(c, v[4] / (v[2] + v[4]));
}

static double surface_loss(const double *v, double c)
{
    double m = surface_size(v, c);
    return dlm_form_at(&dlm_form_surface, v, m, c / m);
}

/* A band of the form over x·scale. */
struct scaled {
    const struct dlm_form *form;
    const double *value; /* of the law */
    double (*at)(const struct dlm_form *, const double *, double);
    double scale;
};

static double scaled_at(const void *ctx, const double *row, double x)
{
    const struct scaled *s = ctx;
    return s->at(s->form, row ? row : s->value, x * s->scale);
}

static int add_band(struct dlm_laws *bands, const struct source *s, const struct naming *name, const double *value,
                    const struct dlm_draws *draws, double (*at)(const struct dlm_form *, const double *, double), double scale,
                    double low, double high, struct dlm_error *err)
{
    struct dlm_bootstrap b = s->how->bootstrap;
    const struct scaled scaled = {s->form, value, at, scale};
    if (!b.n || !draws->at)
        return 0;
    if (is_minimum(s->frontier))
        b.kind = s->by_error ? DLM_INTERVAL_STUDENT : DLM_INTERVAL_PERCENTILE;
    return dlm_band_add(&(struct dlm_band){s->form->law, s->group->name, name->y, name->x, name->by, &b, draws, scaled_at, &scaled},
                        low, high, bands, err);
}

static double band_curve(const struct dlm_form *form, const double *v, double x)
{
    return dlm_form_at(form, v, x, 1);
}

static double band_surface_size(const struct dlm_form *form, const double *v, double x)
{
    (void)form;
    return surface_size(v, x);
}

static double band_surface_loss(const struct dlm_form *form, const double *v, double x)
{
    (void)form;
    return surface_loss(v, x);
}

static void range(const double *l, size_t n, double *low, double *high)
{
    *low = INFINITY;
    *high = 0;
    for (size_t i = 0; i < n; i++) {
        *low = fmin(*low, exp(l[i]));
        *high = fmax(*high, exp(l[i]));
    }
}

static void release(struct source *s, void *scratch)
{
    dlm_residuals_release(&s->errors);
    free(s->fitted);
    free(s->best);
    free(s->logs[0]);
    free(scratch);
}

/* Fit one law of one group and write its rows. */
static int estimate(struct source *s, const struct naming *name, struct dlm_laws *laws, struct dlm_laws *bands,
                    struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_form *form = s->form;
    const struct dlm_bootstrap *b = &s->how->bootstrap;
    const size_t width = (size_t)form->n;
    struct dlm_sample sample;
    double *ly, *value;
    struct dlm_draws draws = {0};
    s->room = s->frontier ? s->frontier->n : s->group->n_points;
    void *scratch = malloc(scratch_size(s));
    s->fitted = malloc((s->room + 1) * sizeof *s->fitted);
    s->best = malloc((s->room + 1) * sizeof *s->best);
    int rc = scratch && s->fitted && s->best ? take_logs(s, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (rc) {
        release(s, scratch);
        return rc;
    }
    lay_out(s, scratch, &sample, &ly, &value);
    if (s->frontier)
        points_of_frontier(s, NULL, s->frontier->value, &sample, s->best);
    else
        points_of_group(s, NULL, NULL, &sample);
    struct dlm_fit fit;
    rc = dlm_fit_points(form, &sample, s->how->huber, &s->minima, &fit, err);
    if (rc) {
        release(s, scratch);
        return rc == DLM_EDATA ? dlm_fail_in(err, rc, "group '%s'", s->group->name) : rc;
    }
    bool has_se = true;
    for (size_t i = 0; i < s->group->n_points; i++)
        has_se &= s->group->runs[0].points[i].se > 0;
    s->by_run = dlm_bootstrap_by_run(s->group->n, form->n);
    const bool lowest = is_minimum(s->frontier);
    struct dlm_bootstrap about = *b;
    if (lowest && b->n) {
        size_t runs = 0;
        rc = take_errors(s, &sample, &fit, &runs, err);
        s->by_run = s->what == WHAT_Y && s->group->n >= MANY_RUNS && runs >= (size_t)form->n;
        s->by_error = !s->by_run && s->errors.freedom > 0;
        about.kind = s->by_error ? DLM_INTERVAL_STUDENT : DLM_INTERVAL_PERCENTILE; /* draws of errors are Student's already */
    }
    bool possible = b->n > 0 && (s->by_run || s->by_error || (has_se && s->what == WHAT_Y));
    if (!rc && b->n && !s->by_run && !s->by_error) {
        const char *group = s->group->name;
        char why[160];
        if (lowest)
            snprintf(why, sizeof why, "the lowest are too few runs to tell their errors from the %d terms", form->n);
        else
            snprintf(why, sizeof why, "%zu run%s for %d parameters are too few to resample", s->group->n,
                     s->group->n == 1 ? "" : "s", form->n);
        /* sizes are what they are: errors of measurement would hardly ever move them, and no width would look like certainty */
        if (s->what != WHAT_Y)
            rc = s->what != WHAT_SIZE ? 0
                                      : dlm_notes_add(notes, err, "%s: sizes along the frontier: no interval: %s", group, why);
        else if (possible)
            rc = dlm_notes_add(notes, err, "%s: %s: %s: intervals are of measurement only", group, name->what, why);
        else
            rc = dlm_notes_add(notes, err, "%s: %s: no interval: %s, and the points have no standard errors", group, name->what,
                               why);
    }
    if (!rc && possible) {
        rc = dlm_draws_fill(&draws, &about, &(struct dlm_resampler){draw, s, scratch_size(s), width}, s->by_run ? leave_out : NULL,
                            s->group->name, s->group->n, fit.value, err);
        if (!rc && 2 * draws.good < b->n)
            rc = dlm_notes_add(notes, err, "%s: %s: no interval: more than half of the resamples cannot be fitted",
                               s->group->name, name->what);
    }
    if (!rc && fit.degenerate)
        rc = dlm_notes_add(notes, err, "%s: %s: not determined by these runs: the points do not tell its terms apart",
                           s->group->name, name->what);
    if (!rc && sample.n == (size_t)form->n && s->what == WHAT_Y)
        rc = dlm_notes_add(notes, err,
                           "%s: %s: as many points as parameters (%d): the law passes through them and nothing checks it",
                           s->group->name, name->what, form->n);
    struct dlm_interval in[DLM_FIT_TERMS];
    for (int i = 0; i < form->n && !rc; i++) {
        in[i] = (struct dlm_interval){NAN, NAN, NAN};
        if (draws.at)
            rc = dlm_draws_interval(&about, &draws, (size_t)i, &in[i], err);
        if (!rc && isnan(in[i].lo) && 2 * draws.good >= b->n && draws.good && (s->what == WHAT_Y || s->what == WHAT_SIZE))
            rc = dlm_notes_add(notes, err, "%s: %s: %s has no interval: resamples hardly ever fall to one side of it", s->group->name,
                               name->what, form->term[i]);
        if (!rc)
            rc = add_row(laws, s, name, form->law, form->term[i], fit.value[i], &in[i], (double)sample.n, fit.r2, fit.objective,
                         err);
        if (!rc)
            /* the others say the same */
            rc = s->what == WHAT_Y || s->what == WHAT_SIZE ? note_term(s, &fit, in, i, name->what, notes, err) : 0;
    }
    double low, high;
    for (int p = 0; p < form->powers && !rc; p++) {
        range(sample.lx[p], sample.n, &low, &high);
        rc = add_row(laws, s, name, form->law, p ? "D_min" : "x_min", low, NULL, (double)sample.n, NAN, NAN, err);
        if (!rc)
            rc = add_row(laws, s, name, form->law, p ? "D_max" : "x_max", high, NULL, (double)sample.n, NAN, NAN, err);
    }
    if (!rc && form->powers == 1)
        rc = add_band(bands, s, name, fit.value, &draws, band_curve, 1, low, high, err);
    if (!rc && form->powers == 2) {
        const double per = s->params ? 6 : 1; /* method 2: C = 6·P·D */
        for (size_t i = 0; i < sample.n; i++)
            sample.lx[0][i] += sample.lx[1][i] + log(per);
        range(sample.lx[0], sample.n, &low, &high);
        rc = add_row(laws, s, name, form->law, "C_min", low, NULL, (double)sample.n, NAN, NAN, err);
        if (!rc)
            rc = add_row(laws, s, name, form->law, "C_max", high, NULL, (double)sample.n, NAN, NAN, err);
        struct naming loss = {name->y, "flops", name->by, name->what}, size = {name->x, "flops", name->by, name->what};
        if (!rc)
            rc = add_band(bands, s, &loss, fit.value, &draws, band_surface_loss, 1 / per, low, high, err);
        if (!rc)
            rc = add_band(bands, s, &size, fit.value, &draws, band_surface_size, 1 / per, low, high, err);
    }
    dlm_draws_release(&draws);
    release(s, scratch);
    return rc;
}

int dlm_estimate_power(const struct dlm_study *s, const struct dlm_estimate *how, const char *x, const char *y, bool offset,
                       struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_laws bands = {0};
    char what[300];
    snprintf(what, sizeof what, "power law of %s against %s", y, x);
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        struct source from = {.form = offset ? &dlm_form_power_offset : &dlm_form_power, .how = how, .group = &s->groups[i]};
        rc = estimate(&from, &(struct naming){y, x, s->by, what}, laws, &bands, notes, err);
    }
    return dlm_laws_append(laws, &bands, rc, err);
}

int dlm_estimate_surface(const struct dlm_study *s, const struct dlm_estimate *how, bool params, struct dlm_laws *laws,
                         struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_laws bands = {0};
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        struct dlm_horizons h;
        rc = dlm_horizons_fill(&h, &s->groups[i], HORIZONS, err);
        if (rc)
            break;
        if (h.group.n_points < s->groups[i].n_points)
            rc = dlm_notes_add(notes, err, "%s: runs of more than %d points are smoothed to %d", h.group.name,
                               DLM_HORIZONS_SPARED * HORIZONS, HORIZONS);
        struct source from = {.form = &dlm_form_surface, .how = how, .group = &h.group, .params = params};
        if (!rc)
            rc = estimate(&from, &(struct naming){"loss", params ? "params" : "flops_tok", s->by, "surface"}, laws, &bands, notes,
                          err);
        dlm_horizons_release(&h);
    }
    return dlm_laws_append(laws, &bands, rc, err);
}

/* Do the best runs of the frontier have several sizes, and several in the quantity asked for? */
static size_t sizes_on_frontier(const struct source *s)
{
    double seen[16];
    size_t n = 0;
    const struct dlm_frontier *f = s->frontier;
    for (size_t j = 0; j < f->n; j++) {
        size_t best = f->start[j];
        for (size_t e = best; e < f->start[j + 1]; e++)
            if (f->value[e] < f->value[best])
                best = e;
        const struct dlm_run *run = &s->group->runs[f->run[best]];
        double v = s->what == WHAT_PARAMS ? run->params : run->flops_tok;
        bool again = !(v > 0);
        for (size_t i = 0; i < n && !again; i++)
            again = fabs(log(v / seen[i])) < 1e-9;
        if (!again && n < 16)
            seen[n++] = v;
    }
    return n;
}

int dlm_estimate_loss(const struct dlm_study *s, const struct dlm_estimate *how, bool by_tokens, struct dlm_laws *laws,
                      struct dlm_notes *notes, struct dlm_error *err)
{
    static const struct {
        enum what what;
        const char *y, *name;
    } sizes[] = {{WHAT_PARAMS, "params", "frontier's params"},
                 {WHAT_SIZE, "flops_tok", "frontier's flops_tok"},
                 {WHAT_TOKENS, "tokens", "frontier's tokens"}};
    struct dlm_laws bands = {0}, more = {0};
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        struct dlm_frontier f;
        struct dlm_group *g = &s->groups[i];
        rc = dlm_frontier_fill(&f, g, &how->budgets, 2, err);
        if (rc == DLM_EDATA)
            rc = dlm_fail_in(err, rc, "group '%s'", g->name);
        if (!rc && f.direct && how->budgets.low > 0)
            rc = dlm_notes_add(notes, err, "%s: each run is a single point, fitted as it stands: the budgets do not matter", g->name);
        struct source from = {.form = &dlm_form_loss, .how = how, .group = g, .frontier = &f};
        if (!rc)
            rc = estimate(&from, &(struct naming){"loss", by_tokens ? "tokens" : "flops", s->by,
                                            by_tokens ? "loss law by tokens" : "loss law"}, laws, &bands, notes,
                          err);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes && !rc && !by_tokens; k++) {
            struct source size = {.form = &dlm_form_power, .how = how, .group = g, .frontier = &f, .what = sizes[k].what};
            size_t n = sizes_on_frontier(&size);
            if (n == 2)
                rc = dlm_notes_add(
                    notes, err, "%s: the frontier has only two sizes: how size grows with compute is weakly determined", g->name);
            if (!rc && n >= 2)
                rc = estimate(&size, &(struct naming){sizes[k].y, "flops", s->by, sizes[k].name}, &more, &bands, notes, err);
        }
        dlm_frontier_release(&f);
    }
    rc = dlm_laws_append(laws, &more, rc, err);
    return dlm_laws_append(laws, &bands, rc, err);
}
