/* Local linear regression of a curve (method.md §7, step 1): a line of y on x by least squares, with tricube weights in a
 * window about the place asked for: 0.15 to each side, or what holds three points. Points with rising x; nothing outside of
 * them. */
#ifndef DLM_LAW_SMOOTH_H
#define DLM_LAW_SMOOTH_H

#include <stddef.h>

/* y at `at`; NAN outside. *slope is that of the line, *spread the root of the sum of squares of the points' weights in the
 * result: times the scatter of a point, its standard error. Both may be NULL. */
double dlm_smooth_at(const double *x, const double *y, size_t n, double at, double *slope, double *spread);

/* The standard deviation of a point about a smooth curve, from how far each lies from the line through its neighbours. NAN with
 * fewer than three points. */
double dlm_smooth_scatter(const double *x, const double *y, size_t n);

#endif
