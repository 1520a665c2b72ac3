/* One pass of corrupted sequences through a network: what training and evaluation share.
 *
 * It has two halves. First the caller fills the host side (clean ids, levels, which positions are noisy, the example's number), and the pass is made
 * ready: thresholds, corruption, and the rows whose weight is not zero with the scalars their loss needs (diffuse/noise.h). For the autoregressive
 * baseline the input is the first id shifted in, and every row is scored. Nothing that the device does meanwhile is touched or waited for: the next
 * pass is made ready while the device is at backward of this one, as soon as the caller has its terms. Then the pass runs. One allocation each, made once
 * for the largest batch.
 */
#ifndef DLM_RUN_PASS_H
#define DLM_RUN_PASS_H

#include "diffuse/noise.h"
#include "model/network.h"

struct dlm_pass {
    struct dlm_backend b;
    size_t max_batch, N, V;
    uint32_t mask, first; /* mask id; the id in front of an autoregressive input */
    /* Filled by the caller, (B, N) unless told. */
    uint32_t *x;          /* clean ids */
    double *log_snr;
    uint8_t *noisy;
    uint64_t *example;    /* (B) the keys of the corruption */
    struct dlm_noise *noise; /* (B) */
    /* What making it ready leaves. */
    uint32_t *z;
    struct dlm_scored scored; /* points into the arrays below */
    /* What running it leaves. */
    float *terms;         /* (B·N, DLM_TERMS): the loss's result, row i for scored row i; ar uses one column */
    /* Private. */
    uint32_t *at, *target, *zs;
    struct dlm_row *row;
    struct dlm_shares *level;
    uint64_t *keep, *uniform;
    dlm_ptr d_z, d_noisy;
};

int dlm_pass_new(struct dlm_pass *p, const struct dlm_backend *b, const struct dlm_config *c, size_t max_batch, size_t N, struct dlm_error *err);
/* Bytes that one takes on the host, and of an arena on the device. */
double dlm_pass_host_bytes(size_t max_batch, size_t N);
double dlm_pass_device_bytes(size_t max_batch, size_t N);
void dlm_pass_release(struct dlm_pass *p);
/* Make the first B sequences ready: corrupt them; rows that carry no loss are left out of `scored`. DLM_EDATA when an id is the mask or out of range. */
int dlm_pass_corrupt(struct dlm_pass *p, size_t B, uint64_t seed, uint32_t purpose, struct dlm_error *err);
/* The same; `any`: uniform noise draws from all V ids, as the released code trains, not from those other than the mask (method.md §1). The loss stays
 * that of the exact q, under which a mask that it cannot produce weighs nothing. */
int dlm_pass_corrupt_drawn(struct dlm_pass *p, size_t B, uint64_t seed, uint32_t purpose, bool any, struct dlm_error *err);
/* The same for the autoregressive baseline: every row is scored. */
int dlm_pass_shift(struct dlm_pass *p, size_t B, struct dlm_error *err);
/* Run the network forward on what is ready and fill terms; gradients are added when asked, and then backward is queued: dlm_network_sync tells how it went. */
int dlm_pass_diffusion(struct dlm_pass *p, struct dlm_network *m, size_t B, bool gradient, struct dlm_error *err);
/* The same for the autoregressive baseline: terms holds one number a row. */
int dlm_pass_autoregressive(struct dlm_pass *p, struct dlm_network *m, size_t B, bool gradient, struct dlm_error *err);

#endif
