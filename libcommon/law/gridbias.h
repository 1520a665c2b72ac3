/* How far iso-FLOP parabolas are off.
 *
 * Log loss over log size is no parabola: far from its lowest point it is steeper on one side, so that sizes which do not lie
 * evenly about the optimum draw the parabola's lowest point to one side, further with every budget. The estimate: on the
 * surface L = E + a·M^-alpha + b·D^-beta that fits the same runs the optimum is known, M* = G·C^(beta/(alpha+beta)); parabolas
 * through its values on the same grid tell how far they miss it.
 */
#ifndef DLM_LAW_GRIDBIAS_H
#define DLM_LAW_GRIDBIAS_H

#include "law/study.h"

/* The surface in FLOPs per token that fits the group: value (5) is E a alpha b beta. DLM_EDATA where there is none that is
 * determined. */
int dlm_gridbias_surface(const struct dlm_group *g, double huber, double *value, struct dlm_error *err);

/* The surface's own optimum at budget c, in FLOPs per token. */
double dlm_gridbias_size(const double *value, double c);

/* The parabola's size over the surface's, on the log sizes lm (n) at budget c; ly (n) is scratch. NAN: the parabola has no
 * lowest point, or that or the surface's lies more than ten times beyond the sizes. */
double dlm_gridbias_at(const double *value, const double *lm, double *ly, size_t n, double c);

#endif
