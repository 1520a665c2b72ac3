/* The tokens that each size needs to reach a loss with each of its batches: what the best batch and iso-loss curves are read
 * from (method.md §7, step 5).
 *
 * A batch stands for its runs: the one that gets there first, at whatever learning rate, counts. Levels of loss that were not
 * asked for lie evenly in log: from what half of a size's batches have reached after a thirtieth of their course, to what all
 * but the fewest batches that suffice do not reach.
 */
#ifndef DLM_LAW_REACH_H
#define DLM_LAW_REACH_H

#include "law/curve.h"

struct dlm_reach_size {
    const struct dlm_group *group; /* borrowed, as the runs are */
    double params, flops_tok;
    size_t n, n_levels;
    double *batch;              /* (n) log tokens per step, rising */
    double *loss;               /* (n_levels) log, falling */
    double *tokens;             /* (n_levels, n) log; NAN where not reached */
    double *steep;              /* (n_levels, n) how fast log loss falls with log tokens there */
    const struct dlm_run **run; /* (n_levels, n) the one that counts */
};

struct dlm_reach {
    struct dlm_reach_size *sizes; /* by group, size */
    size_t n;
};

/* The study must have been read against x = "tokens", with sizes and batch. Sizes with fewer than `least` batches are left out.
 */
int dlm_reach_find(const struct dlm_study *s, const struct dlm_levels *levels, enum dlm_smooth smooth, size_t least,
                   struct dlm_reach *out, struct dlm_notes *notes, struct dlm_error *err);
void dlm_reach_release(struct dlm_reach *r);

#endif
