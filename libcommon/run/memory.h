/* What training takes, by kind, in bytes: the one sum that --plan prints, that a run checks before it allocates, and that its arena is cut to. */
#ifndef DLM_RUN_MEMORY_H
#define DLM_RUN_MEMORY_H

#include "model/network.h"

/* Of one process of several. */
struct dlm_memory_ask {
    struct dlm_network_plan plan; /* of the network that trains */
    bool average;                 /* --ema */
    int processes, rank;          /* that share the optimizer's state */
};

struct dlm_memory {
    double weights, gradients, optimizer, average, packed, activations, head; /* on the device; average: of --ema */
    double batch;       /* ids, levels, rows of a pass, on the device and on the host */
    double checkpoint;  /* a piece of a checkpoint on its way, on the host */
    double total;       /* of all, since a CPU's memory is the host's */
    double device;      /* of all on the device: the arena */
};

/* INFINITY where a size cannot be counted. */
struct dlm_memory dlm_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask);

#endif
