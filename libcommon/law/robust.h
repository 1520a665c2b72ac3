/* Robust least squares of a few parameters: the lowest Σ w·h(r), h Huber's function, for residuals that a callback computes
 * with their derivatives. For forms that fit.h does not know. Iteratively reweighted Levenberg-Marquardt within bounds; a local
 * search, so callers start it in several places. Keeps no state: threads may share everything but `scratch` and q. */
#ifndef DLM_LAW_ROBUST_H
#define DLM_LAW_ROBUST_H

#include <stdbool.h>
#include <stddef.h>

enum { DLM_ROBUST_TERMS = 8 };

struct dlm_robust {
    int n;           /* parameters */
    size_t m;        /* residuals */
    const double *w; /* (m) weights; NULL: 1 */
    double huber;
    bool warm; /* q is near already, as for a resample: fewer steps, and less exactly */
    double low[DLM_ROBUST_TERMS], high[DLM_ROBUST_TERMS];
    /* r (m) and, where not NULL, jacobian (m, n) at q. False: q has no residuals. */
    bool (*residuals)(const void *ctx, const double *q, double *r, double *jacobian);
    const void *ctx;
};

/* Bytes of scratch memory. */
size_t dlm_robust_scratch(int n, size_t m);

/* From q (within its bounds) to the lowest point near; the objective there, INFINITY where q has none. */
double dlm_robust_descend(const struct dlm_robust *p, double *q, void *scratch);
/* The same from `start`, which moves; q takes what is lower than *best. */
void dlm_robust_try(const struct dlm_robust *p, double *start, double *q, double *best, void *scratch);

#endif
