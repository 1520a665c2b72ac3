/* From a law and a budget to a run that can be made: `dlm-fitlaw plan` (method.md §7, step 8).
 *
 * The law's size becomes a shape (shape.h), its tokens what the budget leaves at that shape, its batch a number of sequences that
 * divides: devices times a power of two or three times one, the nearest in logarithms. The learning rate is the law's for that
 * batch. The schedule is the one of the paper's laws, 2000 steps of warm-up (a fifth of a run shorter than 10,000), then constant,
 * with its annealing: a cool-down over the last fifth, which moves no optimum.
 *
 * With limited unique tokens the size is the law's times what the limit does to the best size on the group's surface (databound.h),
 * and the loss likewise, so that a limit beyond the law's tokens changes nothing.
 */
#ifndef DLM_LAW_CONFIGURATION_H
#define DLM_LAW_CONFIGURATION_H

#include "law/notes.h"
#include "law/predict.h"
#include "law/shape.h"

#include <stdio.h>

struct dlm_configure {
    uint64_t seq_len, vocab_size, devices;
    uint64_t batch; /* sequences; 0: by the law */
    double lr;      /* NAN: by the law */
    double peak, mfu; /* FLOP/s of a device, and the share of it that is reached */
    double unique;    /* tokens at hand; INFINITY: enough */
    const char *noise; /* plan this noise type or group alone; NULL: all */
};

struct dlm_configuration {
    const char *group; /* borrowed from the laws */
    char noise[64];
    bool autoregressive, by_params;
    double budget;
    struct dlm_prediction law[DLM_QUANTITIES]; /* what the laws say, before anything is realised */
    struct dlm_shape shape;
    uint64_t seq_len, vocab_size, devices, batch, steps, warmup, micro_batch; /* batch 0, steps 0: no law says */
    double lr;                                                                /* NAN: no law says */
    double tokens, flops, flops_6p, flops_head;
    struct dlm_prediction loss, annealed;
    double seconds, device_hours;
    double weights, gradients, moments;        /* bytes in float32 of one replica */
    double unique, epochs, worth;              /* worth: in unique tokens; NAN where no law says */
    char assumes[192];                         /* about repeated data; empty where none is repeated */
};

struct dlm_configurations {
    struct dlm_configuration *at; /* owned; by group, then budget */
    size_t n;
};

/* Plan every group of the laws that has a size. DLM_EDATA where none has, or where a budget is too small to realise. */
int dlm_configure_all(const struct dlm_laws *l, const double *flops, size_t n, const struct dlm_configure *how,
                      struct dlm_configurations *out, struct dlm_notes *notes, struct dlm_error *err);
void dlm_configurations_release(struct dlm_configurations *c);

#endif
