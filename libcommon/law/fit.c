/* The forms of the laws and their robust fit; see fit.h.
 *
 * The minimiser is our own. With Huber's threshold at 1e-3 and residuals of a per cent the objective is close to a sum of
 * absolute values, full of creases, and a bootstrap repeats the fit thousands of times. With at most five parameters the exact
 * Hessian H costs little more than the value, and the least-squares problem with weights min(1, δ/|r|), matrix G, majorises the
 * objective: the step solves (H + λG) s = -g on the coordinates that no bound holds, λ rising until the objective falls. λ → 0 is
 * Newton's method, λ about 1 is iteratively reweighted least squares, a large λ a short step downhill. The threshold is lowered
 * in stages, which leads past most creases. NLopt's SLSQP and L-BFGS find the same minima with about twice the evaluations (a
 * surface over 240 points: 72 and 65 against 38 from cold starts, 29 and 30 against 16 from warm ones) and an allocation for each
 * fit; tests/unit/law_fit.c keeps them as the independent check.
 */
#include "law/fit.h"

#include "base/rng.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = DLM_FIT_TERMS, RANDOM_STARTS = 24, MAX_STARTS = 100, BEST_STARTS = 14 };

/* clang-format off */
const struct dlm_form dlm_form_power        = {"power",   2, 1, false,  1, -50, 50, {"A", "k"}};
const struct dlm_form dlm_form_power_offset = {"power",   3, 1, true,   1, -10, 10, {"A", "k", "E"}};
const struct dlm_form dlm_form_loss         = {"loss",    3, 1, true,  -1, 1e-4, 10, {"A", "beta", "B"}};
const struct dlm_form dlm_form_surface      = {"surface", 5, 2, true,  -1, 1e-4, 10, {"E", "a", "alpha", "b", "beta"}};
/* clang-format on */

static double huber_sum(double r, double delta, double *slope, double *weight)
{
    double a = fabs(r);
    if (a <= delta) {
        *slope = r;
        *weight = 1;
        return 0.5 * r * r;
    }
    *slope = r > 0 ? delta : -delta;
    *weight = delta / a;
    return delta * (a - 0.5 * delta);
}

double dlm_fit_objective(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                         const double *q, double *g, double *h, double *maj)
{
    const int n = form->n, powers = form->powers;
    double f = 0, gs[N] = {0}, hs[N * N] = {0}, ms[N * N] = {0};
    for (size_t i = 0; i < s->n; i++) {
        const double w = s->w[i];
        if (w == 0)
            continue;
        double dx[2], t[2], j[N], y = form->offset ? q[n - 1] : 0, r;
        for (int p = 0; p < powers; p++) {
            dx[p] = form->sign * (s->lx[p][i] - m->centre[p]);
            t[p] = q[2 * p] + q[2 * p + 1] * dx[p];
        }
        bool straight = powers == 1 && !form->offset;
        if (straight) {
            r = t[0] - (s->ly[i] - m->centre_y);
            y = t[0] = 1; /* log ŷ is linear: derivatives 1 and dx */
        } else {
            for (int p = 0; p < powers; p++)
                y += t[p] = exp(t[p]);
            if (!(y > 0 && y < INFINITY))
                return INFINITY;
            r = log(y) - (s->ly[i] - m->centre_y);
        }
        double slope, weight;
        f += w * huber_sum(r, delta, &slope, &weight);
        if (!g)
            continue;
        const double inverse = 1 / y;
        for (int p = 0; p < powers; p++) {
            j[2 * p] = t[p] * inverse;
            j[2 * p + 1] = j[2 * p] * dx[p];
        }
        if (form->offset)
            j[n - 1] = inverse;
        const double curve = (fabs(r) <= delta ? w : 0) - (straight ? 0 : w * slope), wm = w * weight;
        for (int a = 0; a < n; a++) {
            gs[a] += w * slope * j[a];
            for (int b = 0; b <= a; b++) {
                double jj = j[a] * j[b];
                hs[a * N + b] += curve * jj;
                ms[a * N + b] += wm * jj;
            }
        }
        if (!straight) /* second derivatives of ŷ, within each power term */
            for (int p = 0; p < powers; p++) {
                double *d = &hs[2 * p * N + 2 * p], ws = w * slope;
                d[0] += ws * j[2 * p];
                d[N] += ws * j[2 * p + 1];
                d[N + 1] += ws * j[2 * p + 1] * dx[p];
            }
    }
    for (int a = 0; a < n && g; a++) {
        g[a] = gs[a];
        for (int b = 0; b <= a; b++) {
            if (h)
                h[a * n + b] = h[b * n + a] = hs[a * N + b];
            if (maj)
                maj[a * n + b] = maj[b * n + a] = ms[a * N + b];
        }
    }
    return f;
}

/* Solve a·x = b for the symmetric positive definite a (n, n) in place; the smallest pivot, relative to its diagonal element; ≤ 0:
 * it is not. */
static double solve(int n, double *a, double *b)
{
    double least = INFINITY;
    for (int j = 0; j < n; j++) {
        double diagonal = a[j * n + j], d = diagonal;
        for (int k = 0; k < j; k++)
            d -= a[j * n + k] * a[j * n + k];
        if (!(d > 0) || !(diagonal > 0))
            return 0;
        least = fmin(least, d / diagonal);
        d = sqrt(d);
        a[j * n + j] = d;
        for (int i = j + 1; i < n; i++) {
            double v = a[i * n + j];
            for (int k = 0; k < j; k++)
                v -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = v / d;
        }
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            b[i] -= a[i * n + k] * b[k];
        b[i] /= a[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            b[i] -= a[k * n + i] * b[k];
        b[i] /= a[i * n + i];
    }
    return least;
}

static void bounds(const struct dlm_form *form, double *low, double *high)
{
    for (int p = 0; p < form->powers; p++) {
        low[2 * p] = -60;
        high[2 * p] = 60;
        low[2 * p + 1] = form->lowest;
        high[2 * p + 1] = form->highest;
    }
    if (form->offset) {
        low[form->n - 1] = 0;
        high[form->n - 1] = 1e6;
    }
}

/* Minimise from q; the objective there. */
static double descend(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                      double *q, int steps)
{
    const int n = form->n;
    double low[N], high[N], g[N], h[N * N], maj[N * N], lambda = 0.1;
    bounds(form, low, high);
    double f = dlm_fit_objective(form, s, delta, m, q, g, h, maj);
    for (int step = 0; step < steps && f < INFINITY && f > 0; step++) {
        int free[N], n_free = 0;
        for (int i = 0; i < n; i++)
            if (!((q[i] <= low[i] && g[i] > 0) || (q[i] >= high[i] && g[i] < 0)))
                free[n_free++] = i;
        bool moved = false;
        while (n_free && lambda < 1e12) {
            double a[N * N], b[N], trial[N], tg[N], th[N * N], tm[N * N];
            for (int i = 0; i < n_free; i++) {
                b[i] = -g[free[i]];
                for (int j = 0; j < n_free; j++)
                    a[i * n_free + j] = h[free[i] * n + free[j]] + lambda * maj[free[i] * n + free[j]];
                a[i * n_free + i] += lambda * (1e-9 * maj[free[i] * n + free[i]] + DBL_MIN);
            }
            if (solve(n_free, a, b) <= 1e-14) {
                lambda *= lambda < 1e-3 ? 100 : 4;
                continue;
            }
            memcpy(trial, q, (size_t)n * sizeof *q);
            double expected = 0;
            for (int i = 0; i < n_free; i++) {
                int k = free[i];
                trial[k] = fmin(fmax(q[k] + b[i], low[k]), high[k]);
                expected -= g[k] * (trial[k] - q[k]);
            }
            if (!(expected > 1e-15 * f)) /* nothing to gain at this size of step, to rounding */
                break;
            double ft = dlm_fit_objective(form, s, delta, m, trial, tg, th, tm);
            if (ft < f) {
                bool done = f - ft <= 1e-14 * f;
                memcpy(q, trial, (size_t)n * sizeof *q);
                memcpy(g, tg, sizeof g);
                memcpy(h, th, sizeof h);
                memcpy(maj, tm, sizeof maj);
                lambda = f - ft > 0.5 * 0.5 * expected ? lambda * 0.1 : f - ft < 0.1 * expected ? lambda * 2 : lambda * 0.5;
                if (lambda < 1e-12)
                    lambda = 1e-12;
                f = ft;
                moved = !done;
                break;
            }
            lambda *= lambda < 1e-3 ? 100 : 4;
        }
        if (!moved)
            break;
    }
    return f;
}

/* With the threshold lowered in stages. */
static double minimise(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                       double *q)
{
    if (form->offset || form->powers > 1) {
        descend(form, s, 64 * delta, m, q, 30);
        descend(form, s, 8 * delta, m, q, 30);
    }
    return descend(form, s, delta, m, q, 300);
}

/* Amplitudes and offset for the exponents in q: least squares of ŷ/y - 1, where negative ones are left out; which leaving-out
 * fits best is tried. */
static void start_from_exponents(const struct dlm_form *form, const struct dlm_sample *s, const struct dlm_minima *m, double *q)
{
    const int terms = form->powers + form->offset;
    double a[9] = {0}, b[3] = {0};
    for (size_t i = 0; i < s->n; i++) {
        double phi[3] = {0}, y = exp(s->ly[i] - m->centre_y);
        for (int p = 0; p < form->powers; p++)
            phi[p] = exp(form->sign * q[2 * p + 1] * (s->lx[p][i] - m->centre[p])) / y;
        if (form->offset)
            phi[form->powers] = 1 / y;
        for (int j = 0; j < terms; j++) {
            b[j] += s->w[i] * phi[j];
            for (int k = 0; k < terms; k++)
                a[j * terms + k] += s->w[i] * phi[j] * phi[k];
        }
    }
    double best = 0, c[3] = {0};
    for (int set = 1; set < 1 << terms; set++) {
        int at[3], n = 0;
        for (int j = 0; j < terms; j++)
            if (set >> j & 1)
                at[n++] = j;
        double sa[9], sb[3], gain = 0;
        for (int j = 0; j < n; j++) {
            sb[j] = b[at[j]];
            for (int k = 0; k < n; k++)
                sa[j * n + k] = a[at[j] * terms + at[k]];
        }
        if (solve(n, sa, sb) <= 1e-12)
            continue;
        bool negative = false;
        for (int j = 0; j < n; j++) {
            negative |= sb[j] < 0;
            gain += sb[j] * b[at[j]];
        }
        if (negative || gain <= best)
            continue;
        best = gain;
        memset(c, 0, sizeof c);
        for (int j = 0; j < n; j++)
            c[at[j]] = sb[j];
    }
    for (int p = 0; p < form->powers; p++)
        q[2 * p] = c[p] > 1e-8 ? log(c[p]) : log(1e-8);
    if (form->offset)
        q[form->n - 1] = c[form->powers];
}

static void keep(const struct dlm_form *form, struct dlm_minima *m, double *value, const double *q, double f)
{
    for (int i = 0; i < m->n; i++) { /* the same minimum again, however flat */
        double d = 0;
        for (int k = 0; k < form->n; k++)
            d = fmax(d, fabs(q[k] - m->at[i][k]) / (0.01 + fabs(q[k])));
        if (d < 1e-3) {
            if (f < value[i]) {
                value[i] = f;
                memcpy(m->at[i], q, sizeof m->at[i]);
            }
            return;
        }
    }
    int at = m->n < DLM_FIT_MINIMA ? m->n++ : DLM_FIT_MINIMA - 1;
    if (at == DLM_FIT_MINIMA - 1 && m->n == DLM_FIT_MINIMA && value[at] < f && value[at] > 0)
        return;
    value[at] = f;
    memcpy(m->at[at], q, sizeof m->at[at]);
}

static void sort_minima(struct dlm_minima *m, double *value)
{
    for (int i = 1; i < m->n; i++)
        for (int j = i; j > 0 && value[j] < value[j - 1]; j--) {
            double v = value[j], q[N];
            value[j] = value[j - 1];
            value[j - 1] = v;
            memcpy(q, m->at[j], sizeof q);
            memcpy(m->at[j], m->at[j - 1], sizeof q);
            memcpy(m->at[j - 1], q, sizeof q);
        }
}

/* From the coordinates of the search to the terms of the law. */
static void finish(const struct dlm_form *form, const struct dlm_sample *s, const struct dlm_minima *m, const double *q, double f,
                   struct dlm_fit *fit)
{
    double low[N], high[N], v[N];
    bool at[N];
    bounds(form, low, high);
    for (int i = 0; i < form->n; i++)
        at[i] = q[i] <= low[i] || q[i] >= high[i];
    for (int p = 0; p < form->powers; p++) {
        v[2 * p] = exp(q[2 * p] + m->centre_y - form->sign * q[2 * p + 1] * m->centre[p]);
        v[2 * p + 1] = q[2 * p + 1];
    }
    if (form->offset)
        v[form->n - 1] = q[form->n - 1] * exp(m->centre_y);
    for (int i = 0; i < form->n; i++) { /* a surface names its offset first */
        int k = form->powers == 2 ? (i + form->n - 1) % form->n : i;
        fit->value[i] = v[k];
        fit->at_bound[i] = at[k];
    }
    double w = 0, mean = 0, total = 0, left = 0;
    for (size_t i = 0; i < s->n; i++) {
        w += s->w[i];
        mean += s->w[i] * s->ly[i];
    }
    mean /= w;
    for (size_t i = 0; i < s->n; i++) {
        double y = dlm_form_at(form, fit->value, exp(s->lx[0][i]), form->powers == 2 ? exp(s->lx[1][i]) : 1);
        double r = s->w[i] > 0 ? log(y) - s->ly[i] : 0;
        left += s->w[i] * r * r;
        total += s->w[i] * (s->ly[i] - mean) * (s->ly[i] - mean);
    }
    fit->objective = f;
    fit->r2 = total > 0 ? 1 - left / total : NAN;
    fit->degenerate = false;
}

/* Do the points tell the parameters apart? The least-squares matrix, scaled to a unit diagonal, must be well away from singular.
 */
static bool is_degenerate(const struct dlm_form *form, const struct dlm_sample *s, const struct dlm_minima *m, const double *q)
{
    double g[N], a[N * N], b[N] = {0};
    const int n = form->n;
    if (!(dlm_fit_objective(form, s, 1e6, m, q, g, NULL, a) < INFINITY))
        return true;
    double d[N];
    for (int i = 0; i < n; i++)
        d[i] = a[i * n + i] > 0 ? sqrt(a[i * n + i]) : 1;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            a[i * n + j] /= d[i] * d[j];
    return solve(n, a, b) < 1e-10;
}

static size_t distinct(const double *x, const double *w, size_t n, size_t enough)
{
    double seen[2 * N];
    size_t k = 0;
    for (size_t i = 0; i < n && k < enough; i++) {
        bool found = w[i] == 0;
        for (size_t j = 0; j < k && !found; j++)
            found = fabs(x[i] - seen[j]) < 1e-9;
        if (!found)
            seen[k++] = x[i];
    }
    return k;
}

struct start {
    double q[N], value;
};

static int order_starts(const void *a, const void *b)
{
    double x = ((const struct start *)a)->value, y = ((const struct start *)b)->value;
    return x < y ? -1 : x > y;
}

int dlm_fit_points(const struct dlm_form *form, const struct dlm_sample *s, double huber, struct dlm_minima *m,
                   struct dlm_fit *fit, struct dlm_error *err)
{
    *m = (struct dlm_minima){0};
    double w = 0, value[DLM_FIT_MINIMA] = {0};
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        n += s->w[i] > 0;
        w += s->w[i];
        for (int p = 0; p < form->powers; p++)
            m->centre[p] += s->w[i] * s->lx[p][i];
        m->centre_y += s->w[i] * s->ly[i];
    }
    if (n < (size_t)form->n)
        return dlm_fail(err, DLM_EDATA, "%zu point%s: %s %s %d parameters and needs at least as many points", n,
                        n == 1 ? "" : "s", form->law, form->offset && form->sign > 0 ? "with --offset has" : "has", form->n);
    size_t need = form->powers == 2 ? 3 : (size_t)form->n;
    for (int p = 0; p < form->powers; p++) {
        size_t have = distinct(s->lx[p], s->w, s->n, need);
        if (have < need)
            return dlm_fail(err, DLM_EDATA, "%zu point%s differ in %s: %s needs at least %zu", have, have == 1 ? "" : "s",
                            form->powers == 1 ? "x"
                            : p               ? "tokens"
                                              : "size",
                            form->law, need);
        m->centre[p] /= w;
    }
    m->centre_y /= w;
    static const double falling[] = {0.01, 0.03, 0.08, 0.15, 0.25, 0.4, 0.7, 1.2, 2.5};
    static const double any[] = {-2, -1, -0.6, -0.35, -0.2, -0.1, -0.03, 0.03, 0.1, 0.2, 0.35, 0.6, 1, 2};
    const double *grid = form->sign < 0 ? falling : any;
    const int n_grid = form->sign < 0 ? sizeof falling / sizeof *falling : sizeof any / sizeof *any;
    double q[N] = {0};
    struct dlm_minima kept = *m;
    const int n_starts = !form->offset ? 1 : form->powers == 2 ? n_grid * n_grid : n_grid; /* without an offset it is convex */
    struct start starts[MAX_STARTS];
    assert(n_starts <= MAX_STARTS);
    for (int i = 0; i < n_starts; i++) {
        struct start *start = &starts[i];
        memset(start, 0, sizeof *start);
        start->q[1] = grid[i % n_grid];
        if (form->powers == 2)
            start->q[3] = grid[i / n_grid];
        start_from_exponents(form, s, m, start->q);
        start->value = dlm_fit_objective(form, s, huber, m, start->q, NULL, NULL, NULL);
    }
    qsort(starts, (size_t)n_starts, sizeof *starts, order_starts);
    for (int i = 0; i < n_starts && i < BEST_STARTS; i++) {
        double f = minimise(form, s, huber, m, starts[i].q);
        if (f < INFINITY)
            keep(form, &kept, value, starts[i].q, f);
        sort_minima(&kept, value);
    }
    double low[N], high[N];
    bounds(form, low, high);
    struct dlm_rng rng;
    for (int i = 0; i < RANDOM_STARTS && form->offset && kept.n; i++) {
        dlm_rng_init(&rng, 0, (uint64_t)i, DLM_RNG_START);
        double spread = i % 2 ? 0.5 : 0.1;
        for (int k = 0; k < form->n; k++)
            q[k] = kept.at[0][k] * exp(spread * dlm_rng_normal(&rng)) + 0.02 * spread * dlm_rng_normal(&rng);
        for (int k = 0; k < form->n; k++)
            q[k] = fmin(fmax(q[k], low[k]), high[k]);
        if (i % 4 < 2)
            start_from_exponents(form, s, m, q);
        double f = i % 3 ? minimise(form, s, huber, m, q) : descend(form, s, huber, m, q, 300);
        if (f < INFINITY)
            keep(form, &kept, value, q, f);
        sort_minima(&kept, value);
    }
    if (!kept.n)
        return dlm_fail(err, DLM_EDATA, "%s cannot be fitted to these %zu points", form->law, n);
    while (kept.n > 1 && value[kept.n - 1] > 2 * value[0]) /* too far above the best for any resample to exchange them */
        kept.n--;
    *m = kept;
    finish(form, s, m, m->at[0], value[0], fit);
    fit->degenerate = is_degenerate(form, s, m, m->at[0]);
    return 0;
}

void dlm_fit_again(const struct dlm_form *form, const struct dlm_sample *s, double huber, const struct dlm_minima *m,
                   struct dlm_fit *fit)
{
    double best[N], value = INFINITY;
    memcpy(best, m->at[0], sizeof best);
    for (int i = 0; i < m->n; i++) {
        double q[N];
        memcpy(q, m->at[i], sizeof q);
        double f = minimise(form, s, huber, m, q);
        if (f < value) {
            value = f;
            memcpy(best, q, sizeof best);
        }
    }
    finish(form, s, m, best, value, fit);
}

double dlm_form_at(const struct dlm_form *form, const double *v, double x, double x2)
{
    if (form->powers == 2)
        return v[0] + v[1] * pow(x, -v[2]) + v[3] * pow(x2, -v[4]);
    return v[0] * pow(x, form->sign * v[1]) + (form->offset ? v[2] : 0);
}
