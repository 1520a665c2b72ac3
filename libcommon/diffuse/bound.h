/* The loss of one token in double precision: the definition, against which every kernel is tested (method.md §3).
 *
 * Not the fast path: kernels/…/diffusion_loss. Also what `dlm-eval --loss` and the oracles are checked with.
 */
#ifndef DLM_DIFFUSE_BOUND_H
#define DLM_DIFFUSE_BOUND_H

#include "diffuse/noise.h"

#include <stddef.h>

struct dlm_bound {
    double loss, elbo, kl, is; /* nats; kl and is are the two parts of loss, weighted */
};

/* logits (V); grad (V) = d loss / d logits, or NULL. scratch: V doubles. */
struct dlm_bound dlm_bound_token(const struct dlm_noise *n, double log_snr, uint32_t x, uint32_t z, uint32_t mask, const double *logits,
                                 size_t V, double *grad, double *scratch);

#endif
