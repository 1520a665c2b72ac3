/* The lowest point of a parabola through points, by least squares. Pure arithmetic on logs that others took. */
#ifndef DLM_LAW_PARABOLA_H
#define DLM_LAW_PARABOLA_H

#include <stdbool.h>
#include <stddef.h>

struct dlm_parabola {
    double x, y; /* the lowest point */
    double bend; /* y = y0 + bend·(x - x0)², > 0 */
};

/* Points (n), weights w (n) or NULL. False: fewer than three different x, or no lowest point. */
bool dlm_parabola_fit(struct dlm_parabola *p, const double *x, const double *y, const double *w, size_t n);

/* How well points at x (n) tell where the lowest point is, were it at `at`: its variance is (σ/(2·bend))² over this, σ² that of
 * a point's y. Less the further `at` lies from their middle. 0: they cannot. */
double dlm_parabola_precision(const double *x, size_t n, double at);

/* Where the lowest point may lie, by Fieller's theorem: the x at which the slope of the least squares differs from 0 by no more
 * than t of its standard errors, the variances of y being v (n). Of normal errors this holds as often as t says, for any number of
 * points; it need not be symmetric, and has no end where the bend itself is not larger than t of its errors: false. `low_se` is the
 * standard error of the fitted y at the lowest point, se that of its x by the usual expansion. */
struct dlm_parabola_limits {
    double low, high, se, low_se;
};
bool dlm_parabola_limit(const double *x, const double *y, const double *v, size_t n, double t, struct dlm_parabola_limits *out);

/* y at x. */
double dlm_parabola_at(const struct dlm_parabola *p, double x);

#endif
