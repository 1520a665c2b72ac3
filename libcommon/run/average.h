/* The running average of the weights (--ema): what is scored and published while training goes on from the weights themselves.
 *
 *     a_k = a_{k-1} + (1-β)/(1-β^k)·(θ_k - a_{k-1}),   k = 1, 2, …
 *
 * which is Σ β^(k-i)·θ_i / Σ β^(k-i): the exponential average with its bias corrected, in place, with no state but the step number. At a constant
 * learning rate it does part of what a cool-down does. Owns one array on the device; the weights belong to the network.
 */
#ifndef DLM_RUN_AVERAGE_H
#define DLM_RUN_AVERAGE_H

#include "model/network.h"

struct dlm_average {
    struct dlm_backend b;
    double beta;  /* 0: there is none, and every call does nothing */
    dlm_ptr at;   /* f32 (layout total) */
    size_t total;
};

int dlm_average_new(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, struct dlm_error *err);
void dlm_average_release(struct dlm_average *a);
/* Take in the weights after step k = 1, 2, … */
void dlm_average_step(struct dlm_average *a, struct dlm_network *m, uint64_t k);
/* Exchange the average and the network's weights, to the bit, and pack the new ones: twice is nothing. x and y (layout total) are scratch. */
void dlm_average_swap(struct dlm_average *a, struct dlm_network *m, float *x, float *y);

#endif
