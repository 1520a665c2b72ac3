/* The lowest point of a parabola through points, by least squares. Pure arithmetic on logs that others took. */
#ifndef DLM_LAW_PARABOLA_H
#define DLM_LAW_PARABOLA_H

#include <stdbool.h>
#include <stddef.h>

struct dlm_parabola {
    double x, y;   /* the lowest point */
    double bend;   /* y = y0 + bend·(x - x0)², > 0 */
    double spread; /* the points' standard deviation in x */
};

/* Points (n), weights w (n) or NULL. False: fewer than three different x, or no lowest point. */
bool dlm_parabola_fit(struct dlm_parabola *p, const double *x, const double *y, const double *w, size_t n);

/* y at x. */
double dlm_parabola_at(const struct dlm_parabola *p, double x);

#endif
