/* Data-bound laws; see epochs.h. */
#include "law/epochs.h"

#include "law/fit.h"
#include "law/horizons.h"
#include "law/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HORIZONS = 12, TERMS = DLM_EPOCHS_TERMS, E = 0, A, ALPHA, B, BETA, R, P, Q };

const char *const dlm_epochs_terms[TERMS] = {"E", "a", "alpha", "b", "beta", "R", "p", "q"};

int dlm_epochs_count(enum dlm_epochs_form form) { return form == DLM_EPOCHS_SATURATING ? 6 : 8; }

/* The published exponents of R; only R itself is fitted. */
static const double unique_power = 0.39, params_power = 0.55;

/* log D'/U, and its derivatives by log R, p and q (3; NULL: not wanted), at x = e - 1 > 0 epochs beyond the first. */
static double log_worth(enum dlm_epochs_form form, const double *v, double log_unique, double log_params, double x, double *by)
{
    if (form == DLM_EPOCHS_SATURATING) {
        const double t = x / v[R], gain = -v[R] * expm1(-t);
        if (by)
            by[0] = (gain - x * exp(-t)) / (1 + gain);
        return log1p(gain);
    }
    const double scale = v[R] * exp(unique_power * log_unique - params_power * log_params), t = pow(x / scale, v[Q]);
    if (by) {
        by[0] = v[Q] * t;
        by[1] = log1p(x);
        by[2] = -t * log(x / scale);
    }
    return v[P] * log1p(x) - t;
}

double dlm_epochs_worth(enum dlm_epochs_form form, const double *v, double params, double unique, double tokens)
{
    const double x = tokens / unique - 1;
    return x > 0 ? unique * exp(log_worth(form, v, log(unique), log(params), x, NULL)) : tokens;
}

double dlm_epochs_loss(enum dlm_epochs_form form, const double *v, double params, double unique, double tokens)
{
    return v[E] + v[A] * pow(params, -v[ALPHA]) + v[B] * pow(dlm_epochs_worth(form, v, params, unique, tokens), -v[BETA]);
}

/* The least over epochs at a size, for the stretched form: its worth rises to one highest point. */
static double bound_at_size(const double *v, double log_params, double log_unique)
{
    double low = -12, high = 25, best = 0; /* log of the epochs beyond the first */
    for (int i = 0; i < 60; i++) {
        const double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (log_worth(DLM_EPOCHS_STRETCHED, v, log_unique, log_params, exp(a), NULL) <
            log_worth(DLM_EPOCHS_STRETCHED, v, log_unique, log_params, exp(b), NULL))
            low = a;
        else
            high = b;
    }
    best = fmax(log_worth(DLM_EPOCHS_STRETCHED, v, log_unique, log_params, exp(0.5 * (low + high)), NULL), 0);
    return v[E] + v[A] * exp(-v[ALPHA] * log_params) + v[B] * exp(-v[BETA] * (log_unique + best));
}

double dlm_epochs_bound(enum dlm_epochs_form form, const double *v, double unique)
{
    if (form == DLM_EPOCHS_SATURATING)
        return v[E] + v[B] * pow(unique * (1 + v[R]), -v[BETA]);
    double best = INFINITY;
    for (double p = log(1e5); p < log(1e14); p += 0.1) /* a larger model bears fewer epochs */
        best = fmin(best, bound_at_size(v, p, log(unique)));
    return best;
}

/* --- the fit --------------------------------------------------------------------------------------------------------------- */

/* Coordinates of the search: E, log a and log b about the centres of size and tokens, alpha, beta, log R, p, q. */
struct problem {
    enum dlm_epochs_form form;
    size_t n;
    const double *lp, *lu, *lt, *ly; /* (n) logs of params, unique tokens, tokens, loss */
    double centre_p, centre_t;
};

static void to_values(const struct problem *p, const double *q, double *v)
{
    v[E] = q[E];
    v[ALPHA] = q[ALPHA];
    v[BETA] = q[BETA];
    v[A] = exp(q[A] + q[ALPHA] * p->centre_p);
    v[B] = exp(q[B] + q[BETA] * p->centre_t);
    v[R] = exp(q[R]);
    v[P] = q[P];
    v[Q] = q[Q];
}

static bool residuals(const void *ctx, const double *q, double *r, double *jacobian)
{
    const struct problem *p = ctx;
    const int n = dlm_epochs_count(p->form);
    double v[TERMS] = {0};
    v[R] = exp(q[R]);
    if (n > P) {
        v[P] = q[P];
        v[Q] = q[Q];
    }
    for (size_t i = 0; i < p->n; i++) {
        double by[3] = {0}, lw = p->lt[i];
        const double x = expm1(p->lt[i] - p->lu[i]);
        if (x > 1e-9)
            lw = p->lu[i] + log_worth(p->form, v, p->lu[i], p->lp[i], x, jacobian ? by : NULL);
        const double dp = p->lp[i] - p->centre_p, dt = lw - p->centre_t;
        const double size = exp(q[A] - q[ALPHA] * dp), data = exp(q[B] - q[BETA] * dt), y = q[E] + size + data;
        if (!(y > 0) || !isfinite(y))
            return false;
        r[i] = log(y) - p->ly[i];
        if (!jacobian)
            continue;
        double *j = jacobian + i * (size_t)n;
        j[E] = 1 / y;
        j[A] = size / y;
        j[ALPHA] = -dp * size / y;
        j[B] = data / y;
        j[BETA] = -dt * data / y;
        for (int k = R; k < n; k++)
            j[k] = -q[BETA] * data / y * by[k - R];
    }
    return true;
}

static struct dlm_robust search(const struct problem *p, const double *w, double huber)
{
    return (struct dlm_robust){.n = dlm_epochs_count(p->form),
                               .m = p->n,
                               .w = w,
                               .huber = huber,
                               .low = {0, -30, 1e-4, -30, 1e-4, p->form == DLM_EPOCHS_SATURATING ? -3 : -15, 0.05, 0.05},
                               .high = {100, 10, 5, 10, 5, p->form == DLM_EPOCHS_SATURATING ? 14 : 30, 4, 3},
                               .residuals = residuals,
                               .ctx = p};
}

struct source {
    const struct dlm_estimate *how;
    const struct dlm_group *group; /* thinned */
    struct problem all;
    const size_t *run; /* (n) of each point */
    bool by_run;
    double q[TERMS];
};

static size_t scratch_size(const struct source *s)
{
    return 2 * s->all.n * sizeof(double) + dlm_robust_scratch(TERMS, s->all.n) + s->group->n * sizeof(uint32_t);
}

static bool draw(void *ctx, struct dlm_rng *rng, void *memory, double *out)
{
    const struct source *s = ctx;
    const size_t n = s->all.n;
    double *w = memory, *ly = w + n, q[TERMS];
    char *scratch = (char *)(ly + n);
    uint32_t *counts = (uint32_t *)(scratch + dlm_robust_scratch(TERMS, n));
    struct problem p = s->all;
    if (s->by_run && dlm_bootstrap_pick(rng, s->group->n, counts) < (size_t)dlm_epochs_count(p.form))
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct dlm_point *at = &s->group->runs[0].points[i];
        w[i] = s->by_run ? counts[s->run[i]] : 1;
        ly[i] = s->by_run ? p.ly[i] : log(fmax(at->y + at->se * dlm_rng_normal(rng), 1e-3 * at->y));
    }
    p.ly = ly;
    struct dlm_robust f = search(&p, w, s->how->huber);
    f.warm = true;
    memcpy(q, s->q, sizeof q);
    if (!(dlm_robust_descend(&f, q, scratch) < INFINITY))
        return false;
    to_values(&p, q, out);
    return true;
}

static bool leave_out(void *ctx, size_t first, size_t last, void *memory, double *out)
{
    const struct source *s = ctx;
    double *w = memory, q[TERMS];
    const struct dlm_robust f = search(&s->all, w, s->how->huber);
    for (size_t i = 0; i < s->all.n; i++)
        w[i] = s->run[i] < first || s->run[i] >= last;
    memcpy(q, s->q, sizeof q);
    if (!(dlm_robust_descend(&f, q, w + 2 * s->all.n) < INFINITY))
        return false;
    to_values(&s->all, q, out);
    return true;
}

/* What the unique tokens alone allow, of a draw: L = E + b·(U·(1 + R))^-beta, as A, beta, B. */
static double loss_term(const void *ctx, const double *v, size_t i)
{
    (void)ctx;
    return i == 0 ? v[B] * pow(1 + v[R], -v[BETA]) : i == 1 ? v[BETA] : v[E];
}

struct places {
    enum dlm_epochs_form form;
    const double *unique;
};

static double bound_of(const void *ctx, const double *v, size_t i)
{
    const struct places *p = ctx;
    return dlm_epochs_bound(p->form, v, p->unique[i]);
}

static int add(struct dlm_laws *to, const char *law, const struct dlm_group *g, const char *by, const char *term, const char *y,
               const char *x, double value, const struct dlm_interval *in, double n, double r2, double objective,
               struct dlm_error *err)
{
    return dlm_laws_add(to,
                        &(struct dlm_law_row){(char *)law, g->name, (char *)term, (char *)y, (char *)x, (char *)by, value,
                                              in->lo, in->hi, in->se, n, r2, objective},
                        err);
}

/* The rows of a group: the terms, their ranges, and what the unique tokens alone allow. */
static int add_rows(const struct source *s, const char *by, const double *v, const struct dlm_draws *draws, double low, double high,
                    double r2, double objective, struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes,
                    struct dlm_error *err)
{
    const struct dlm_bootstrap *b = &s->how->bootstrap;
    const enum dlm_epochs_form form = s->all.form;
    const char *law = form == DLM_EPOCHS_SATURATING ? "epochs.saturating" : "epochs.stretched", *name = s->group->name;
    const struct dlm_interval none = {NAN, NAN, NAN};
    const double n = (double)s->all.n, most = form == DLM_EPOCHS_SATURATING ? exp(13.9) : INFINITY;
    struct dlm_interval in = none;
    int rc = 0;
    for (int k = 0; k < dlm_epochs_count(form) && !rc; k++) {
        in = none;
        if (draws->at)
            rc = dlm_draws_interval(b, draws, (size_t)k, &in, err);
        if (!rc)
            rc = add(laws, law, s->group, by, dlm_epochs_terms[k], "loss", "tokens", v[k], &in, n, r2, objective, err);
        if (!rc && k == R && (v[R] >= most || in.hi >= most || in.hi > 30 * in.lo))
            rc = dlm_notes_add(
                notes, err,
                "%s: R, what repeated tokens are worth, is not determined by these runs: %.3g, from %.3g to %.3g; runs of "
                "more epochs are needed, up to where the loss no longer falls",
                name, v[R], in.lo, in.hi);
        if (!rc && k == E && draws->at && in.lo <= 1e-6)
            rc = dlm_notes_add(notes, err, "%s: E is not determined by these runs: its interval reaches 0", name);
    }
    if (!rc)
        rc = add(laws, law, s->group, by, "x_min", "loss", "tokens", low, &none, NAN, NAN, NAN, err);
    if (!rc)
        rc = add(laws, law, s->group, by, "x_max", "loss", "tokens", high, &none, NAN, NAN, NAN, err);
    if (form == DLM_EPOCHS_SATURATING) {
        static const char *const terms[] = {"A", "beta", "B"};
        struct dlm_interval of[3] = {none, none, none};
        if (!rc && draws->at)
            rc = dlm_draws_intervals_of(b, draws, loss_term, NULL, 3, of, err);
        for (size_t k = 0; k < 3 && !rc; k++)
            rc = add(laws, "loss", s->group, by, terms[k], "loss", "unique_tokens", loss_term(NULL, v, k), &of[k], n, r2, objective,
                     err);
        if (!rc)
            rc = add(laws, "loss", s->group, by, "x_min", "loss", "unique_tokens", low, &none, NAN, NAN, NAN, err);
        if (!rc)
            rc = add(laws, "loss", s->group, by, "x_max", "loss", "unique_tokens", high, &none, NAN, NAN, NAN, err);
    }
    /* the stretched form's bound is searched for: fewer places, and none far beyond the data */
    const int places = form == DLM_EPOCHS_SATURATING ? 17 : 5;
    char term[17][32];
    double unique[17];
    struct dlm_interval band[17];
    for (int i = 0; i < places; i++) {
        snprintf(term[i], sizeof *term, "%.9g",
                 low * pow(high / low * (form == DLM_EPOCHS_SATURATING ? 1e4 : 1), (double)i / (places - 1)));
        unique[i] = strtod(term[i], NULL);
    }
    if (!rc && draws->at)
        rc = dlm_draws_intervals_of(b, draws, bound_of, &(struct places){form, unique}, (size_t)places, band, err);
    for (int i = 0; i < places && draws->at && !rc; i++)
        if (isfinite(band[i].lo))
            rc = add(bands, "loss.band", s->group, by, term[i], "loss", "unique_tokens", dlm_epochs_bound(form, v, unique[i]),
                     &band[i], NAN, NAN, NAN, err);
    return rc;
}

/* From a surface's terms and a few R; the best. */
static double fit_from_starts(const struct problem *p, double huber, double *q, void *scratch)
{
    static const double alpha[] = {0.25, 0.4}, beta[] = {0.15, 0.35}, worth[] = {1, 3, 6}, level[] = {0.05, 0.6};
    const struct dlm_robust f = search(p, NULL, huber);
    double best = INFINITY, mean = 0, start[TERMS];
    for (size_t i = 0; i < p->n; i++)
        mean += exp(p->ly[i]) / (double)p->n;
    for (int i = 0; i < 24; i++) {
        const double share = level[i / 12];
        memset(start, 0, sizeof start);
        start[E] = share * mean;
        start[A] = start[B] = log(0.5 * (1 - share) * mean);
        start[ALPHA] = alpha[i % 2];
        start[BETA] = beta[i / 2 % 2];
        start[R] = worth[i / 4 % 3];
        if (p->form == DLM_EPOCHS_STRETCHED) {
            start[P] = 1;
            start[Q] = 0.5;
            start[R] += params_power * p->centre_p - unique_power * p->centre_t;
        }
        dlm_robust_try(&f, start, q, &best, scratch);
    }
    return best;
}

static int fit_group(const struct dlm_group *g, const char *by, const struct dlm_estimate *how, struct dlm_epochs *out,
                     size_t at, struct dlm_draws *draws, struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes,
                     struct dlm_error *err)
{
    const struct dlm_bootstrap *b = &how->bootstrap;
    struct dlm_horizons h;
    int rc = dlm_horizons_fill(&h, g, HORIZONS, err);
    if (rc)
        return rc;
    const size_t n = h.group.n_points;
    const int terms = dlm_epochs_count(out->form);
    double *room = malloc((4 * n + 1) * sizeof *room);
    size_t *run = malloc((n + 1) * sizeof *run), epochs = 0;
    struct source s = {.how = how, .group = &h.group, .run = run, .all = {.form = out->form, .n = n}};
    void *scratch = malloc(dlm_robust_scratch(TERMS, n) + 1);
    bool has_se = true;
    double most = 0;
    if (!room || !run || !scratch)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    out->low[at] = INFINITY;
    for (size_t i = 0, k = 0; i < h.group.n && !rc; i++)
        for (size_t j = 0; j < h.runs[i].n; j++, k++) {
            const struct dlm_point *p = &h.points[k];
            room[k] = log(p->params);
            room[n + k] = log(p->unique_tokens);
            room[2 * n + k] = log(p->tokens);
            room[3 * n + k] = log(p->y);
            run[k] = i;
            s.all.centre_p += room[k] / (double)n;
            s.all.centre_t += room[2 * n + k] / (double)n;
            has_se &= p->se > 0;
            epochs += p->tokens > 1.5 * p->unique_tokens;
            most = fmax(most, p->tokens / p->unique_tokens);
            out->low[at] = fmin(out->low[at], p->unique_tokens);
            out->high[at] = fmax(out->high[at], p->unique_tokens);
        }
    s.all.lp = room;
    s.all.lu = room + n;
    s.all.lt = room + 2 * n;
    s.all.ly = room + 3 * n;
    if (!rc && n < (size_t)terms + 1)
        rc = dlm_fail(err, DLM_EDATA, "group '%s': %zu points: the form has %d terms and needs at least %d", g->name, n, terms,
                      terms + 1);
    if (!rc && !epochs)
        rc = dlm_fail(err, DLM_EDATA,
                      "group '%s': no run sees its tokens again (%.3g epochs at most): nothing tells what repeated tokens "
                      "are worth",
                      g->name, most);
    double objective = rc ? NAN : fit_from_starts(&s.all, how->huber, s.q, scratch);
    if (!rc && !(objective < INFINITY))
        rc = dlm_fail(err, DLM_EDATA, "group '%s': the form cannot be fitted to these %zu points", g->name, n);
    if (!rc) {
        double mean = 0, total = 0, left = 0;
        to_values(&s.all, s.q, out->value[at]);
        for (size_t i = 0; i < n; i++)
            mean += s.all.ly[i] / (double)n;
        for (size_t i = 0; i < n; i++) {
            const double y = dlm_epochs_loss(out->form, out->value[at], exp(s.all.lp[i]), exp(s.all.lu[i]), exp(s.all.lt[i]));
            left += (log(y) - s.all.ly[i]) * (log(y) - s.all.ly[i]);
            total += (s.all.ly[i] - mean) * (s.all.ly[i] - mean);
        }
        s.by_run = dlm_bootstrap_by_run(h.group.n, terms);
        if (b->n && !s.by_run && !has_se)
            rc = dlm_notes_add(
                notes, err,
                "%s: no interval: %zu runs for %d terms are too few to resample, and the points have no standard errors",
                g->name, h.group.n, terms);
        else if (b->n && !s.by_run)
            rc = dlm_notes_add(notes, err,
                               "%s: %zu runs for %d terms are too few to resample: intervals are of measurement only", g->name,
                               h.group.n, terms);
        if (!rc && b->n && (s.by_run || has_se)) {
            rc = dlm_draws_fill(draws, b, &(struct dlm_resampler){draw, &s, scratch_size(&s), TERMS}, s.by_run ? leave_out : NULL,
                                g->name, h.group.n, out->value[at], err);
            draws->freedom = s.by_run ? h.group.n - (size_t)terms : 0;
        }
        if (!rc)
            rc = add_rows(&s, by, out->value[at], draws, out->low[at], out->high[at], 1 - left / total, objective, laws, bands,
                          notes, err);
    }
    free(scratch);
    free(room);
    free(run);
    dlm_horizons_release(&h);
    return rc;
}

/* --- crossovers ------------------------------------------------------------------------------------------------------------ */

static double ahead(enum dlm_epochs_form form, const double *a, const double *b, double lu)
{
    return log(dlm_epochs_bound(form, a, exp(lu)) / dlm_epochs_bound(form, b, exp(lu)));
}

/* Where a stops being the better one, or begins to be; log. NAN: nowhere. The first such place of an even grid, refined. */
static double cross(enum dlm_epochs_form form, const double *a, const double *b, double low, double high, bool *a_first)
{
    const int places = form == DLM_EPOCHS_SATURATING ? 60 : 12;
    double before = ahead(form, a, b, low), at = low;
    for (int i = 1; i <= places; i++) {
        const double next = low + (high - low) * i / places, after = ahead(form, a, b, next);
        if (before * after <= 0 && before != after) {
            double x = at, y = next;
            *a_first = before < 0;
            for (int k = 0; k < (form == DLM_EPOCHS_SATURATING ? 40 : 12); k++) {
                const double mid = 0.5 * (x + y);
                if (before * ahead(form, a, b, mid) > 0)
                    x = mid;
                else
                    y = mid;
            }
            return 0.5 * (x + y);
        }
        before = after;
        at = next;
    }
    return NAN;
}

static int find_crossover(const struct dlm_epochs *e, size_t i, size_t j, const struct dlm_bootstrap *b,
                          const struct dlm_draws *di, const struct dlm_draws *dj, struct dlm_crossover *c,
                          struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_group *first = e->group[i], *second = e->group[j];
    const double range = log(100), low = log(fmin(e->low[i], e->low[j])) - range,
                 high = log(fmax(e->high[i], e->high[j])) + range;
    bool i_first = true;
    double at = cross(e->form, e->value[i], e->value[j], low, high, &i_first);
    *c = (struct dlm_crossover){.first = first, .second = second, .at = exp(at), .in = {NAN, NAN, NAN}};
    if (isnan(at)) {
        c->better = ahead(e->form, e->value[i], e->value[j], 0.5 * (low + high)) < 0 ? first : second;
    } else if (!i_first) {
        c->first = second;
        c->second = first;
    }
    if (!di->at || !dj->at) {
        if (isnan(at))
            return dlm_notes_add(notes, err, "%s is bound lower than %s at all unique tokens from %.3g to %.3g; no interval",
                                 c->better->name, c->better == first ? second->name : first->name, exp(low), exp(high));
        return dlm_notes_add(notes, err, "%s is bound lower than %s up to %.3g unique tokens; no interval", c->first->name,
                             c->second->name, c->at);
    }
    /* each group's runs are left out by themselves: the rows of both jackknifes are those of the pair */
    const size_t n_left = di->n_left + dj->n_left;
    double *x = malloc((b->n + n_left + 1) * sizeof *x);
    if (!x)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    uint64_t same = 0, none = 0;
    for (uint64_t k = 0; k < b->n + n_left; k++) {
        const uint64_t l = k - b->n; /* of the jackknifes */
        const double *vi = k < b->n ? di->at + k * TERMS : l < di->n_left ? di->left + l * TERMS : e->value[i];
        const double *vj = k < b->n         ? dj->at + k * TERMS
                           : l < di->n_left ? e->value[j]
                                            : dj->left + (l - di->n_left) * TERMS;
        bool a_first;
        const bool there = !isnan(vi[0]) && !isnan(vj[0]);
        const double v = there ? cross(e->form, vi, vj, low, high, &a_first) : NAN;
        x[k] = !isnan(v) && a_first == i_first && !isnan(at) ? exp(v) : NAN;
        if (k >= b->n)
            continue;
        same += !isnan(x[k]);
        none += there && isnan(v) && isnan(at) && (ahead(e->form, vi, vj, 0.5 * (low + high)) < 0) == (c->better == first);
    }
    c->share = (double)(isnan(at) ? none : same) / (double)b->n;
    c->determined = c->share >= b->level;
    const struct dlm_draws pair = {.n = b->n,
                                   .width = 1,
                                   .at = x,
                                   .n_left = n_left,
                                   .left = x + b->n,
                                   .estimate = &c->at,
                                   .freedom = di->freedom < dj->freedom ? di->freedom : dj->freedom};
    int rc = c->determined && !isnan(at) ? dlm_draws_interval(b, &pair, 0, &c->in, err) : 0;
    free(x);
    if (rc)
        return rc;
    if (isnan(at))
        return dlm_notes_add(
            notes, err,
            c->determined ? "%s is bound lower than %s at all unique tokens from %.3g to %.3g"
                          : "%s and %s: which is bound lower is not determined by these runs (unique tokens from %.3g to %.3g)",
            c->better->name, c->better == first ? second->name : first->name, exp(low), exp(high));
    if (c->determined)
        return dlm_notes_add(notes, err,
                             "%s is bound lower than %s up to %.3g unique tokens, from %.3g to %.3g; beyond, the other is",
                             c->first->name, c->second->name, c->at, c->in.lo, c->in.hi);
    return dlm_notes_add(
        notes, err,
        "%s and %s: where one overtakes the other, in unique tokens, is not determined by these runs: the best fits cross at "
        "%.3g, but only %.0f%% of the resamples cross in this direction",
        c->first->name, c->second->name, c->at, 100 * c->share);
}

int dlm_epochs_find(const struct dlm_study *s, const struct dlm_estimate *asked, enum dlm_epochs_form form,
                    struct dlm_epochs *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_laws bands = {0};
    struct dlm_estimate kind = *asked, *how = &kind;
    kind.bootstrap = dlm_bootstrap_rather(&asked->bootstrap, DLM_INTERVAL_STUDENT);
    *out = (struct dlm_epochs){.form = form, .n = s->n};
    out->group = malloc((s->n + 1) * sizeof *out->group);
    out->value = malloc((s->n + 1) * sizeof *out->value);
    out->low = calloc(s->n + 1, sizeof *out->low);
    out->high = calloc(s->n + 1, sizeof *out->high);
    out->crossovers = calloc(s->n * s->n + 1, sizeof *out->crossovers);
    struct dlm_draws *draws = calloc(s->n + 1, sizeof *draws);
    size_t fitted = 0;
    int rc = out->group && out->value && out->low && out->high && out->crossovers && draws
                 ? 0
                 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->n && !rc; i++) {
        struct dlm_error why = {{0}};
        out->group[i] = &s->groups[i];
        for (int k = 0; k < TERMS; k++)
            out->value[i][k] = NAN;
        rc = fit_group(&s->groups[i], s->by, how, out, i, &draws[i], laws, &bands, notes, &why);
        fitted += !rc;
        if (rc == DLM_EDATA) /* another group may have what this one lacks */
            rc = dlm_notes_add(notes, err, "%s", why.msg);
        else if (rc)
            *err = why;
        if (!rc && i + 1 == s->n && !fitted)
            rc = dlm_fail(err, DLM_EDATA, "%s", why.msg);
    }
    for (size_t i = 0; i < s->n && !rc; i++)
        for (size_t j = i + 1; j < s->n && !rc; j++)
            if (!isnan(out->value[i][0]) && !isnan(out->value[j][0]))
                rc = find_crossover(out, i, j, &how->bootstrap, &draws[i], &draws[j], &out->crossovers[out->n_crossovers++],
                                    notes, err);
    for (size_t i = 0; i < s->n && draws; i++)
        dlm_draws_release(&draws[i]);
    free(draws);
    rc = dlm_laws_append(laws, &bands, rc, err);
    if (rc)
        dlm_epochs_release(out);
    return rc;
}

void dlm_epochs_release(struct dlm_epochs *e)
{
    free(e->group);
    free(e->value);
    free(e->low);
    free(e->high);
    free(e->crossovers);
    *e = (struct dlm_epochs){0};
}
