/* What training takes, by kind, in bytes: the one sum that --plan prints and that a run checks before it allocates. */
#ifndef DLM_RUN_MEMORY_H
#define DLM_RUN_MEMORY_H

#include "model/network.h"

struct dlm_memory {
    double weights, gradients, optimizer, average, packed, activations, head; /* on the device; average: of --ema */
    double batch;       /* ids, levels, rows of a pass, on the device and on the host */
    double checkpoint;  /* copies of weights, moments and average on their way to and from the disk, on the host */
    double total;       /* of all, since a CPU's memory is the host's */
};

/* `plan` is that of the network that trains; INFINITY where a size cannot be counted. */
struct dlm_memory dlm_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *plan, bool average);

#endif
