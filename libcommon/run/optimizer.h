/* One step of the optimizer over the two learning-rate groups (method.md §4): bulk matrices at η/d, everything else at aux·η.
 *
 * Owns the two moments on the device, and in the compact state the 16 bits that the network's bf16 weights lack of the float32 weights that are trained; of
 * the whole layout, or, where several processes share it (ZeRO stage 1), of the stripes that one of them owns (kernels/stripes.h). Weights and gradients belong
 * to the network. Stateless but for that: step number and rates are given. What becomes of an element hangs on its own numbers and on (seed, step, element)
 * alone, not on stripes.
 */
#ifndef DLM_RUN_OPTIMIZER_H
#define DLM_RUN_OPTIMIZER_H

#include "model/network.h"
#include "run/settings.h"

struct dlm_optimizer {
    struct dlm_backend b;
    dlm_ptr at;          /* one allocation: μ, ν, and the low halves */
    size_t mu, nu, low;  /* where they begin in it, bytes */
    size_t total, bulk, width;
    struct dlm_stripes stripes;
    int rank;            /* whose stripes these are */
    size_t n_short;      /* of its elements, the first ones, whose moments are bf16 and whose weights are split */
};

int dlm_optimizer_new(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, struct dlm_error *err);
/* The state of one rank's stripes alone. */
int dlm_optimizer_new_part(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_stripes *s, int rank,
                           struct dlm_error *err);
/* Bytes of that on the device, n_short of the elements being bf16. */
size_t dlm_optimizer_bytes(size_t elements, size_t n_short);
void dlm_optimizer_release(struct dlm_optimizer *o);
/* Apply the network's gradients, times grad_scale, as step k = 1, 2, … at rate lr = η, to the weights of its stripes. */
void dlm_optimizer_update(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale);
/* The same, and pack the new weights. */
void dlm_optimizer_step(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale);

/* Elements [at, at + n) from and to the host, as float32: a moment, 0 for μ and 1 for ν, of elements of one stripe of its own; or the weights, the network's
 * among them, of which those of its stripes alone have all their bits. */
void dlm_optimizer_read(const struct dlm_optimizer *o, int moment, size_t at, size_t n, float *to);
void dlm_optimizer_write(struct dlm_optimizer *o, int moment, size_t at, size_t n, const float *from);
void dlm_optimizer_read_weights(const struct dlm_optimizer *o, const struct dlm_network *m, size_t at, size_t n, float *to);
void dlm_optimizer_write_weights(struct dlm_optimizer *o, struct dlm_network *m, size_t at, size_t n, const float *from);

#endif
