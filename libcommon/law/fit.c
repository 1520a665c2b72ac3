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
#include "law/positive.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { N = DLM_FIT_TERMS, RANDOM_STARTS = 24, MAX_STARTS = 100, BEST_STARTS = 14 };

/* clang-format off */
const struct dlm_form dlm_form_power        = {"power",   2, 1, false,  1, -50, 50, {"A", "k"}};
const struct dlm_form dlm_form_power_offset = {"power",   3, 1, true,   1, -10, 10, {"A", "k", "E"}};
const struct dlm_form dlm_form_loss         = {"loss",    3, 1, true,  -1, 1e-4, 10, {"A", "beta", "B"}};
const struct dlm_form dlm_form_surface      = {"surface", 5, 2, true,  -1, 1e-4, 10, {"E", "a", "alpha", "b", "beta"}};
/* clang-format on */

/* --- the objective, eight points at a time ---------------------------------------------------------------------------------------
 *
 * Bootstraps spend their time here, in exponentials and logarithms. Eight lanes are added up apart and joined in a fixed order, and
 * products are not fused with sums, so every machine gets the same bits whatever vectors it has. */

enum { LANES = 8 };
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t whole __attribute__((vector_size(LANES * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(LANES * sizeof(double)), aligned(sizeof(double)), may_alias)); /* anywhere */

#define INLINE static inline __attribute__((always_inline))

/* Where the mask is set (all bits), else. */
#define CHOOSE(mask, yes, no) ((lanes)(((mask) & (whole)(yes)) | (~(mask) & (whole)(no))))

/* e^x for |x| ≤ 700, to about an ulp: x = k·log 2 + r, Taylor's series of e^r to r^12. */
INLINE void exp_lanes(lanes *x)
{
    const double shift = 0x1.8p52; /* adding it rounds to a whole number and leaves that in the low bits */
    const lanes zero = {0};
    lanes k = *x * 1.4426950408889634 + shift;
    whole bits = (whole)k;
    k -= shift;
    lanes r = *x - k * 0x1.62e42fefa3800p-1; /* log 2 in two parts: k times the first is exact */
    r -= k * 0x1.ef35793c76730p-45;
    lanes r2 = r * r, r4 = r2 * r2;
    lanes a = (zero + 1.0) + r, b = 1.0 / 2 + r * (1.0 / 6), c = 1.0 / 24 + r * (1.0 / 120), d = 1.0 / 720 + r * (1.0 / 5040);
    lanes e = 1.0 / 40320 + r * (1.0 / 362880), f = 1.0 / 3628800 + r * (1.0 / 39916800) + r2 * (1.0 / 479001600);
    lanes p = (a + r2 * b) + r4 * ((c + r2 * d) + r4 * (e + r2 * f));
    *x = (lanes)((whole)p + (bits << 52));
}

/* log y for normal y > 0: y = 2^k·m, m about 1, log m = 2·artanh((m - 1)/(m + 1)). */
INLINE void log_lanes(lanes *y)
{
    const int64_t root_half = 0x3fe6a09e667f3bcd;
    whole bits = (whole)*y, k = (bits - root_half) >> 52;
    lanes m = (lanes)(bits - (k << 52)) - 1.0;
    lanes kd = (lanes)(k + 0x4338000000000000) - 0x1.8p52; /* a whole number as a double */
    lanes s = m / (m + 2.0), z = s * s, z2 = z * z, z4 = z2 * z2;
    lanes a = 1.0 / 3 + z * (1.0 / 5), b = 1.0 / 7 + z * (1.0 / 9), c = 1.0 / 11 + z * (1.0 / 13), d = 1.0 / 15 + z * (1.0 / 17);
    lanes p = (a + z2 * b) + z4 * ((c + z2 * d) + z4 * (z * 0 + 1.0 / 19));
    *y = kd * 0x1.62e42fefa3800p-1 + (2.0 * s + (2.0 * s * z * p + kd * 0x1.ef35793c76730p-45));
}

INLINE double sum_lanes(const lanes *v)
{
    return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) + (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
}

struct sums {
    double f, g[N], h[N * N], maj[N * N];
};

/* False where ŷ is too large. `powers`, `offset` and `derive` are constants wherever this is inlined. */
INLINE bool add_up(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                   const double *q, const int powers, const bool offset, const bool derive, struct sums *out)
{
    const int n = 2 * powers + offset;
    const bool straight = powers == 1 && !offset;
    const lanes zero = {0};
    lanes f = zero, gs[N] = {{0}}, hs[N * (N + 1) / 2] = {{0}}, ms[N * (N + 1) / 2] = {{0}}, most = zero - 1000.0;
    for (size_t i = 0; i < s->n; i += LANES) {
        lanes dx[2], t[2], j[N], y, r, w, ly;
        double last[4][LANES] = {{0}};
        const double *lx0 = s->lx[0] + i, *lx1 = powers > 1 ? s->lx[1] + i : NULL, *at_y = s->ly + i, *at_w = s->w + i;
        if (s->n - i < LANES) { /* the last ones: filled up with points that weigh nothing */
            for (size_t k = 0; k < LANES; k++) {
                size_t from = i + k < s->n ? k : 0;
                last[0][k] = lx0[from];
                last[1][k] = powers > 1 ? lx1[from] : 0;
                last[2][k] = at_y[from];
                last[3][k] = i + k < s->n ? at_w[k] : 0;
            }
            lx0 = last[0];
            lx1 = last[1];
            at_y = last[2];
            at_w = last[3];
        }
        w = *(const lanes_at *)at_w;
        ly = *(const lanes_at *)at_y - m->centre_y;
        const whole counts = w > 0;
        for (int p = 0; p < powers; p++) {
            dx[p] = form->sign * (*(const lanes_at *)(p ? lx1 : lx0) - m->centre[p]);
            t[p] = q[2 * p] + q[2 * p + 1] * dx[p];
        }
        if (straight) {
            r = t[0] - ly;
            y = t[0] = zero + 1.0; /* log ŷ is linear: derivatives 1 and dx */
        } else {
            y = zero + (offset ? q[n - 1] : 0.0);
            for (int p = 0; p < powers; p++) {
                t[p] = CHOOSE(counts, t[p], zero);
                most = CHOOSE(t[p] > most, t[p], most);
                t[p] = CHOOSE(t[p] > -700.0, t[p], zero - 700.0);
                t[p] = CHOOSE(t[p] < 700.0, t[p], zero + 700.0);
                exp_lanes(&t[p]);
                y += t[p];
            }
            r = y;
            log_lanes(&r);
            r -= ly;
        }
        const lanes size = CHOOSE(r > 0.0, r, -r);
        const whole inside = size <= delta;
        const lanes slope = CHOOSE(inside, r, CHOOSE(r > 0.0, zero + delta, zero - delta));
        f += w * CHOOSE(inside, 0.5 * r * r, delta * (size - 0.5 * delta));
        if (!derive)
            continue;
        const lanes inverse = 1.0 / y, ws = w * slope, wm = CHOOSE(inside, w, w * (delta / size));
        const lanes within = (lanes)(inside & (whole)w), curve = straight ? within : within - ws;
        for (int p = 0; p < powers; p++) {
            j[2 * p] = t[p] * inverse;
            j[2 * p + 1] = j[2 * p] * dx[p];
        }
        if (offset)
            j[n - 1] = inverse;
        for (int a = 0, k = 0; a < n; a++) {
            const lanes ca = curve * j[a], ma = wm * j[a];
            gs[a] += ws * j[a];
            for (int b = 0; b <= a; b++, k++) {
                hs[k] += ca * j[b];
                ms[k] += ma * j[b];
            }
        }
        if (!straight) /* second derivatives of ŷ, within each power term */
            for (int p = 0; p < powers; p++) {
                const int a = 2 * p, at = a * (a + 1) / 2 + a, below = (a + 1) * (a + 2) / 2 + a;
                const lanes d0 = ws * j[a], d1 = ws * j[a + 1];
                hs[at] += d0;
                hs[below] += d1;
                hs[below + 1] += d1 * dx[p];
            }
    }
    for (int k = 0; k < LANES; k++)
        if (most[k] > 700)
            return false;
    out->f = sum_lanes(&f);
    for (int a = 0, k = 0; derive && a < n; a++) {
        out->g[a] = sum_lanes(&gs[a]);
        for (int b = 0; b <= a; b++, k++) {
            out->h[a * n + b] = out->h[b * n + a] = sum_lanes(&hs[k]);
            out->maj[a * n + b] = out->maj[b * n + a] = sum_lanes(&ms[k]);
        }
    }
    return true;
}

INLINE bool add_up_any(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                       const double *q, bool derive, struct sums *out)
{
    if (form->powers == 2)
        return derive ? add_up(form, s, delta, m, q, 2, true, true, out) : add_up(form, s, delta, m, q, 2, true, false, out);
    if (form->offset)
        return derive ? add_up(form, s, delta, m, q, 1, true, true, out) : add_up(form, s, delta, m, q, 1, true, false, out);
    return add_up(form, s, delta, m, q, 1, false, true, out);
}

typedef bool adder(const struct dlm_form *, const struct dlm_sample *, double, const struct dlm_minima *, const double *, bool,
                   struct sums *);

static bool add_up_plain(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                         const double *q, bool derive, struct sums *out)
{
    return add_up_any(form, s, delta, m, q, derive, out);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool add_up_avx2(const struct dlm_form *form, const struct dlm_sample *s, double delta,
                                                        const struct dlm_minima *m, const double *q, bool derive,
                                                        struct sums *out)
{
    return add_up_any(form, s, delta, m, q, derive, out);
}

__attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))) static bool
add_up_avx512(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m, const double *q,
              bool derive, struct sums *out)
{
    return add_up_any(form, s, delta, m, q, derive, out);
}
#endif

static adder *choose_adder(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return add_up_avx512;
    if (__builtin_cpu_supports("avx2"))
        return add_up_avx2;
#endif
    return add_up_plain;
}

double dlm_fit_objective(const struct dlm_form *form, const struct dlm_sample *s, double delta, const struct dlm_minima *m,
                         const double *q, double *g, double *h, double *maj)
{
    const size_t n = (size_t)form->n;
    struct sums sums;
    if (!choose_adder()(form, s, delta, m, q, g != NULL, &sums))
        return INFINITY;
    if (g)
        memcpy(g, sums.g, n * sizeof *g);
    if (g && h)
        memcpy(h, sums.h, n * n * sizeof *h);
    if (g && maj)
        memcpy(maj, sums.maj, n * n * sizeof *maj);
    return sums.f;
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
            if (dlm_positive_solve(n_free, a, b) <= 1e-14) {
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
        if (dlm_positive_solve(n, sa, sb) <= 1e-12)
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
    for (int i = 1; i < m->n && i < DLM_FIT_MINIMA; i++) /* there are no more; the second bound tells the compiler */
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
static void finish(const struct dlm_form *form, const struct dlm_minima *m, const double *q, double f, struct dlm_fit *fit)
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
    fit->objective = f;
    fit->degenerate = false;
    fit->r2 = NAN;
}

/* The share of the variance of log y that the law explains. */
static double explained(const struct dlm_form *form, const struct dlm_sample *s, const struct dlm_fit *fit)
{
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
    return total > 0 ? 1 - left / total : NAN;
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
    return dlm_positive_solve(n, a, b) < 1e-10;
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
    finish(form, m, m->at[0], value[0], fit);
    fit->r2 = explained(form, s, fit);
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
    finish(form, m, best, value, fit);
}

double dlm_form_at(const struct dlm_form *form, const double *v, double x, double x2)
{
    if (form->powers == 2)
        return v[0] + v[1] * pow(x, -v[2]) + v[3] * pow(x2, -v[4]);
    return v[0] * pow(x, form->sign * v[1]) + (form->offset ? v[2] : 0);
}
