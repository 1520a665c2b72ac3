/* One step of the optimizer over the two learning-rate groups (method.md §4): bulk matrices at η/d, everything else at aux·η.
 *
 * Owns the two moments on the device; weights and gradients belong to the network. Stateless but for the moments: step number and rates are given.
 */
#ifndef DLM_RUN_OPTIMIZER_H
#define DLM_RUN_OPTIMIZER_H

#include "model/network.h"
#include "run/settings.h"

struct dlm_optimizer {
    struct dlm_backend b;
    dlm_ptr mu, nu; /* f32 (layout total) */
    size_t total, bulk, width;
};

int dlm_optimizer_new(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, struct dlm_error *err);
void dlm_optimizer_release(struct dlm_optimizer *o);
/* Apply the network's gradients, times grad_scale, as step k = 1, 2, … at rate lr = η; packs the new weights. */
void dlm_optimizer_step(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale);

#endif
