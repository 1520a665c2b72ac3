/* What annealing the learning rate does to the loss (method.md §7, step 6): `dlm-fitlaw annealing`.
 *
 * Each annealed run is compared, at its last point, with the constant-rate runs of its group that agree with it in size, batch,
 * learning rate and, where the rows have one, seed: their smoothed curve at the same number of tokens. The factor is annealed
 * loss over constant loss. It moves an optimum only as far as it depends on what is optimised: so its slopes against size,
 * batch, rate and tokens are fitted too.
 */
#ifndef DLM_LAW_ANNEALING_H
#define DLM_LAW_ANNEALING_H

#include "law/curve.h"
#include "law/estimate.h"

enum { DLM_ANNEALING_SIZE, DLM_ANNEALING_TOKENS, DLM_ANNEALING_BATCH, DLM_ANNEALING_LR, DLM_ANNEALING_AXES };

struct dlm_annealing_row {
    const struct dlm_group *group; /* NULL: all of them, pooled */
    const char *name;              /* that of the group, or `pooled` */
    size_t pairs, lone;            /* annealed runs with and without a partner */
    double factor;
    struct dlm_interval in;
    double slope[DLM_ANNEALING_AXES]; /* of log factor on the log of flops_tok, tokens, batch_tok, lr; NAN: does not vary */
    struct dlm_interval slope_in[DLM_ANNEALING_AXES];
};

struct dlm_annealing {
    struct dlm_annealing_row *rows;
    size_t n;
};

/* The study must have been read against x = "tokens" with sizes and with its request's `mark`: marked runs are the annealed.
 * The laws: `annealing`, terms factor and k_flops_tok k_tokens k_batch_tok k_lr. */
int dlm_annealing_find(const struct dlm_study *s, const struct dlm_estimate *how, enum dlm_smooth smooth,
                       struct dlm_annealing *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err);
void dlm_annealing_release(struct dlm_annealing *a);

#endif
