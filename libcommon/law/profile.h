/* The profile of one budget: the lowest loss of each size, and the lowest point of a parabola through them. All in logarithms. */
#ifndef DLM_LAW_PROFILE_H
#define DLM_LAW_PROFILE_H

#include "law/frontier.h"
#include "law/parabola.h"

#include <stdint.h>

struct dlm_profile_size {
    double m, p, ly; /* FLOPs per token, params, loss */
};

/* What is best: names (the columns of a study) and places. */
enum { DLM_ISOFLOP_PARAMS, DLM_ISOFLOP_TOKENS, DLM_ISOFLOP_SIZE, DLM_ISOFLOP_LOSS, DLM_ISOFLOP_VALUES };
extern const char *const dlm_profile_names[DLM_ISOFLOP_VALUES];

/* The sizes that reach budget j among the runs drawn (NULL: all), with their losses `value`, by rising size: fills s (runs of the
 * group); how many. */
size_t dlm_profile_sizes(const struct dlm_frontier *f, const uint32_t *counts, const double *value, size_t j,
                         struct dlm_profile_size *s);

/* Of the size m with the loss ly at the compute c: params lie on the line between the sizes about m, or through the outermost
 * two. `n` ≥ 1 sizes. */
void dlm_profile_values(const struct dlm_profile_size *s, size_t n, double c, double m, double ly, double *out);

/* The parabola through n sizes; x and y (n) are scratch. False: fewer than three sizes, or no lowest point. *inside: it lies
 * between the sizes. */
bool dlm_profile_parabola(const struct dlm_profile_size *s, size_t n, double *x, double *y, struct dlm_parabola *p, bool *inside);

#endif
