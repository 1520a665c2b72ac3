/* Iso-loss curves (method.md §7, step 5): the steps S that a batch B needs for one loss at one size: `dlm-fitlaw isoloss`.
 *
 *   (S/S_min - 1)·(B/B_min - 1) = κ      S = S_min·(1 + κ·B_min/(B - B_min)),  B > B_min
 *
 * No run is shorter than S_min steps, whatever its batch, and no batch below B_min gets there. Tokens S·B are least at
 * B_best = B_min·(1 + √κ); at B_crit = B_min·(1 + κ) twice S_min steps are needed: the critical batch. (McCandlish et al. write
 * examples S·B in place of B, with κ = 1: that is the limit B_min → 0, κ·B_min → B_crit.)
 */
#ifndef DLM_LAW_ISOLOSS_H
#define DLM_LAW_ISOLOSS_H

#include "law/curve.h"
#include "law/estimate.h"

#include <stdio.h>

enum { DLM_ISOLOSS_SMIN, DLM_ISOLOSS_BMIN, DLM_ISOLOSS_KAPPA, DLM_ISOLOSS_BCRIT, DLM_ISOLOSS_BBEST, DLM_ISOLOSS_VALUES };
extern const char *const dlm_isoloss_names[DLM_ISOLOSS_VALUES]; /* steps_min batch_min kappa batch_crit batch_best */

struct dlm_isoloss_point {
    double batch_tok, steps; /* the fewest over the learning rates */
};

struct dlm_isoloss_row {
    const struct dlm_group *group;
    double params, flops_tok, loss;
    double value[DLM_ISOLOSS_VALUES];
    struct dlm_interval interval[DLM_ISOLOSS_VALUES];
    size_t first, n; /* its points */
    bool determined; /* S_min, B_min and κ are all told apart from their bounds */
};

struct dlm_isoloss {
    struct dlm_isoloss_row *rows; /* by group, size, falling loss */
    struct dlm_isoloss_point *points;
    size_t n, n_points;
};

/* The study must have been read against x = "tokens", with sizes and batch. The laws: per group batch_crit = A·loss^k, and the
 * one κ of all its curves (law `isoloss`, term kappa). */
int dlm_isoloss_find(const struct dlm_study *s, const struct dlm_estimate *how, const struct dlm_levels *levels,
                     enum dlm_smooth smooth, struct dlm_isoloss *out, struct dlm_laws *laws, struct dlm_notes *notes,
                     struct dlm_error *err);
int dlm_isoloss_write(const struct dlm_isoloss *i, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err);
void dlm_isoloss_release(struct dlm_isoloss *i);

/* S at B of a row's curve. */
double dlm_isoloss_steps(const double *value, double batch_tok);

#endif
