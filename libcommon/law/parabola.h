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

/* y at x. */
double dlm_parabola_at(const struct dlm_parabola *p, double x);

#endif
