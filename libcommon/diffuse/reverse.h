/* The reverse process on one position, in double: one step of ancestral sampling, and what weighs the scores of adaptive sampling (method.md §9).
 *
 * The draw is the device's, the loops are run/sample.
 */
#ifndef DLM_DIFFUSE_REVERSE_H
#define DLM_DIFFUSE_REVERSE_H

#include "diffuse/noise.h"

#include <stdbool.h>
#include <stddef.h>

/* p(z_s | z_t) ∝ q_s(z_s)·q_{t|s}(z_t|z_s)/q_t(z_t) with q_s = α_s·s + β_s·π_s, in four parts, of which none needs a look at all ids: with s(z_t) and
 * rest = Σ s - s(z_t), z_t itself has stay_share·s(z_t) + stay, the mask to_mask, all other ids together noise, and the predictor predicted·rest by the shares
 * of the ids but z_t. They do not sum to 1; where all are 0, z_t stays. log_snr_s = INFINITY means α_s = 1. */
struct dlm_reverse_odds {
    double stay_share, stay, to_mask, noise, predicted;
};
struct dlm_reverse_odds dlm_reverse_odds_of(const struct dlm_noise *n, double log_snr_t, double log_snr_s, bool at_mask, size_t V);

/* π at λ_min of the mask, or of any other id: what weighs max_v s(v) - s(z), the confidence of replacing it. */
double dlm_reverse_prior(const struct dlm_noise *n, bool is_mask, size_t V);

#endif
