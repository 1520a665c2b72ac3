/* Robust least squares; see robust.h. */
#include "law/robust.h"

#include "law/positive.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { N = DLM_ROBUST_TERMS, STEPS = 200, WARM_STEPS = 40 };

size_t dlm_robust_scratch(int n, size_t m) { return m * (size_t)(2 * n + 2) * sizeof(double); }

static double objective(const struct dlm_robust *p, const double *r, double delta)
{
    double f = 0;
    for (size_t i = 0; i < p->m; i++) {
        const double a = fabs(r[i]), w = p->w ? p->w[i] : 1;
        if (w > 0)
            f += w * (a <= delta ? 0.5 * a * a : delta * (a - 0.5 * delta));
    }
    return isfinite(f) ? f : INFINITY;
}

/* The buffers are r and its jacobian, then those of a trial; a trial that is taken changes places with them. */
static double descend(const struct dlm_robust *p, double delta, double *q, double *const *buffers)
{
    double *r = buffers[0], *jacobian = buffers[1], *trial_r = buffers[2], *trial_jacobian = buffers[3];
    const int n = p->n;
    double lambda = 1e-2, f;
    if (!p->residuals(p->ctx, q, r, jacobian) || (f = objective(p, r, delta)) == INFINITY)
        return INFINITY;
    const double enough = p->warm ? 1e-6 : 1e-10;
    for (int step = 0; step < (p->warm ? WARM_STEPS : STEPS) && f > 0; step++) {
        double a[N * N] = {0}, g[N] = {0};
        for (size_t i = 0; i < p->m; i++) {
            double w = p->w ? p->w[i] : 1;
            const double *j = jacobian + i * (size_t)n;
            if (!(w > 0))
                continue;
            if (fabs(r[i]) > delta) /* the least squares that lie above and touch */
                w *= delta / fabs(r[i]);
            for (int k = 0; k < n; k++) {
                g[k] += w * j[k] * r[i];
                for (int l = 0; l <= k; l++)
                    a[k * n + l] += w * j[k] * j[l];
            }
        }
        int at[N], free = 0;
        for (int k = 0; k < n; k++)
            if (!((q[k] <= p->low[k] && g[k] > 0) || (q[k] >= p->high[k] && g[k] < 0)))
                at[free++] = k;
        bool moved = false;
        for (; free && lambda < 1e10 && !moved; lambda *= 4) {
            double b[N * N], s[N], trial[N];
            for (int k = 0; k < free; k++) {
                s[k] = -g[at[k]];
                for (int l = 0; l < free; l++)
                    b[k * free + l] = at[k] >= at[l] ? a[at[k] * n + at[l]] : a[at[l] * n + at[k]];
                b[k * free + k] += lambda * b[k * free + k] + DBL_MIN;
            }
            if (dlm_positive_solve(free, b, s) <= 1e-14)
                continue;
            memcpy(trial, q, (size_t)n * sizeof *q);
            for (int k = 0; k < free; k++)
                trial[at[k]] = fmin(fmax(q[at[k]] + s[k], p->low[at[k]]), p->high[at[k]]);
            if (!p->residuals(p->ctx, trial, trial_r, trial_jacobian))
                continue;
            const double ft = objective(p, trial_r, delta);
            if (!(ft < f))
                continue;
            moved = f - ft > enough * f;
            f = ft;
            memcpy(q, trial, (size_t)n * sizeof *q);
            double *t = r;
            r = trial_r;
            trial_r = t;
            t = jacobian;
            jacobian = trial_jacobian;
            trial_jacobian = t;
            lambda = fmax(lambda * 0.02, 1e-9);
            if (!moved)
                return f;
        }
        if (!moved)
            return f;
    }
    return f;
}

double dlm_robust_descend(const struct dlm_robust *p, double *q, void *scratch)
{
    double *r = scratch, *jacobian = r + p->m, *trial = jacobian + p->m * (size_t)p->n;
    double *const buffers[] = {r, jacobian, trial, trial + p->m};
    for (double wide = 64; wide > 1 && !p->warm; wide /= 8) /* the threshold lowered in stages leads past most creases */
        descend(p, wide * p->huber, q, buffers);
    return descend(p, p->huber, q, buffers);
}

void dlm_robust_try(const struct dlm_robust *p, double *start, double *q, double *best, void *scratch)
{
    const double v = dlm_robust_descend(p, start, scratch);
    if (!(v < *best))
        return;
    *best = v;
    memcpy(q, start, (size_t)p->n * sizeof *q);
}
