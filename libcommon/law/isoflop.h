/* Iso-FLOP profiles (method.md §7, step 3): at each budget, the loss of every size, and the size where it is lowest.
 *
 * At a budget C each size has its best run's smoothed loss; through these goes a parabola of log loss over log FLOPs per token.
 * Its lowest point is L* and M*; D* = C/M*, and P* lies on the line between the sizes about M*. Or, raw, the best size as it is.
 */
#ifndef DLM_LAW_ISOFLOP_H
#define DLM_LAW_ISOFLOP_H

#include "law/estimate.h"
#include "law/profile.h"

#include <stdio.h>

struct dlm_isoflop_row {
    const struct dlm_group *group; /* of the study */
    double flops, value[DLM_ISOFLOP_VALUES];
    struct dlm_interval interval[DLM_ISOFLOP_VALUES];
    double bias; /* of the parabola on this grid: its size over the true one, on the surface fitted to the group; NAN: unknown */
    size_t sizes;
    bool inside; /* the optimum lies between the sizes */
};

struct dlm_isoflop {
    struct dlm_isoflop_row *rows;
    size_t n;
};

/* The kind of intervals for optima, unless one was asked for. Where sizes have several runs the loss of a size is the lowest of
 * them, and of a minimum the bootstrap's bias says nothing: corrected intervals of 95 % held 830 to 850
 * of 1000 times, percentiles 956 to 958 (tests/unit/law_sizes.c). With one run a size corrected ones held 965 to 967 times,
 * percentiles 959 to 977. */
struct dlm_bootstrap dlm_isoflop_bootstrap(const struct dlm_bootstrap *b, const struct dlm_group *g, bool raw);

int dlm_isoflop_find(const struct dlm_study *s, const struct dlm_estimate *how, bool raw, struct dlm_isoflop *out,
                     struct dlm_notes *notes, struct dlm_error *err);
int dlm_isoflop_write(const struct dlm_isoflop *i, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err);
void dlm_isoflop_release(struct dlm_isoflop *i);

#endif
