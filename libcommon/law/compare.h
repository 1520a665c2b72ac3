/* Two groups of a study compared by their laws.
 *
 * Two groups are different runs, so their errors are independent: the interval of a difference d = a - b is
 *   d - √((a - a_lo)² + (b_hi - b)²)  to  d + √((a_hi - a)² + (b - b_lo)²)
 * (Zou and Donner 2008), and that of a ratio the same of logarithms.
 */
#ifndef DLM_LAW_COMPARE_H
#define DLM_LAW_COMPARE_H

#include "law/predict.h"

/* a - b, and a/b for positive ones, with the intervals above; NAN limits where one of them has none. */
struct dlm_prediction dlm_compare_difference(const struct dlm_prediction *a, const struct dlm_prediction *b);
struct dlm_prediction dlm_compare_ratio(const struct dlm_prediction *a, const struct dlm_prediction *b);

/* The highest compute that the laws of both groups were fitted at; NAN where one has none. `y` NULL: whatever it is of. */
double dlm_compare_compute(const struct dlm_laws *l, const char *law, const char *y, const char *a, const char *b);
/* What the group's law says at that compute. False: it has none. */
bool dlm_compare_at(const struct dlm_laws *l, const char *law, const char *group, const char *y, double c,
                    struct dlm_prediction *p);

/* What each of two groups needs for one loss: that of the worse one at the highest compute that both were fitted at, so that the
 * laws are asked within their data. On the surfaces where both have one, since a power law of the loss has no level that it comes
 * down to; else by the power laws of the optima. False: not both laws come down to it within ten times of their data. */
struct dlm_equal_loss {
    double loss;
    bool on_surfaces, has_tokens;
    struct dlm_prediction compute[2], tokens[2]; /* tokens: of the best split there */
};
bool dlm_compare_equal_loss(const struct dlm_laws *surfaces, const struct dlm_laws *sizes, const char *a, const char *b,
                            struct dlm_equal_loss *e);

#endif
