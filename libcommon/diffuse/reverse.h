/* The reverse process on the host, in double: one step of ancestral sampling, and the scores of adaptive sampling (method.md §9).
 *
 * Pure arithmetic on one position; the loops are run/sample.
 */
#ifndef DLM_DIFFUSE_REVERSE_H
#define DLM_DIFFUSE_REVERSE_H

#include "diffuse/noise.h"

#include <stddef.h>

/* s (V) = softmax of logits (V) with the mask id excluded (s(m) = 0). */
void dlm_reverse_softmax(double *s, const float *logits, size_t V, uint32_t mask);

/* p (V) = p(z_s | z_t): ∝ q_s(z_s)·q_{t|s}(z_t|z_s)/q_t(z_t) with q_s = α_s·s + β_s·π_s. log_snr_s = INFINITY means α_s = 1.
 * Sums to 1. */
void dlm_reverse_step(double *p, const struct dlm_noise *n, double log_snr_t, double log_snr_s, uint32_t z_t, const double *s, size_t V,
                      uint32_t mask);

/* An id drawn from that distribution at u in (0, 1), without writing it down: shares s f32 (V) with s(m) = 0, which sum to about 1. Which id a u gives
 * differs from dlm_choose_draw of dlm_reverse_step; how often an id is drawn does not. */
uint32_t dlm_reverse_draw(const struct dlm_noise *n, double log_snr_t, double log_snr_s, uint32_t z_t, const float *s, size_t V, uint32_t mask, double u);
/* The id at share u of s f32 (V); never one with s = 0 where another has more. */
uint32_t dlm_reverse_pick(const float *s, size_t V, double u);

/* Confidence of replacing z: p_prior(z)·(max_v s(v) - s(z)), p_prior = π at λ_min. *best is the likeliest id. */
double dlm_reverse_confidence(const struct dlm_noise *n, uint32_t z, const float *s, size_t V, uint32_t mask, uint32_t *best);

#endif
