/* The running average of the weights (--ema): what is scored and published while training goes on from the weights themselves.
 *
 *     a_k = a_{k-1} + (1-β)/(1-β^k)·(θ_k - a_{k-1}),   k = 1, 2, …
 *
 * which is Σ β^(k-i)·θ_i / Σ β^(k-i): the exponential average with its bias corrected, in place, with no state but the step number. At a constant
 * learning rate it does part of what a cool-down does. Owns one array on the device, of the whole layout or, where several processes share it, of the stripes
 * that one of them owns; the weights belong to the network and are float32 (not in the compact state).
 */
#ifndef DLM_RUN_AVERAGE_H
#define DLM_RUN_AVERAGE_H

#include "model/network.h"

struct dlm_average {
    struct dlm_backend b;
    double beta; /* 0: there is none, and every call does nothing */
    dlm_ptr at;  /* f32, as many as are owned */
    struct dlm_stripes stripes;
    int rank;    /* whose stripes these are */
};

int dlm_average_new(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, struct dlm_error *err);
/* Of one rank's stripes alone. */
int dlm_average_new_part(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, const struct dlm_stripes *s, int rank,
                         struct dlm_error *err);
void dlm_average_release(struct dlm_average *a);
/* Take in the weights after step k = 1, 2, … */
void dlm_average_step(struct dlm_average *a, struct dlm_network *m, uint64_t k);
/* The network's weights, as they are. */
void dlm_average_begin(struct dlm_average *a, struct dlm_network *m);
/* Exchange the average and the network's weights of these stripes, to the bit: twice is nothing. x and y, each (DLM_AVERAGE_PIECE) or all, are scratch.
 * The network is to be refreshed. */
enum { DLM_AVERAGE_PIECE = 1 << 19 };
void dlm_average_exchange(struct dlm_average *a, struct dlm_network *m, float *x, float *y);
/* The same, and pack the new weights. */
void dlm_average_swap(struct dlm_average *a, struct dlm_network *m, float *x, float *y);
/* Elements [at, at + n) of one stripe of its own, from and to the host. */
void dlm_average_read(const struct dlm_average *a, size_t at, size_t n, float *to);
void dlm_average_write(struct dlm_average *a, size_t at, size_t n, const float *from);

#endif
