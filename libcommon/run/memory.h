/* What training takes, by kind, in bytes: the one sum that --plan prints, that a run checks before it allocates, and that its arena is cut to. What a
 * device takes when it is opened is not in it: its context, and room for matrix products, which is no longer free. */
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
    double scratch;     /* that the device's calls work in */
    double group;       /* what comes from other processes' devices, where that is not on the device already */
    double batch;       /* ids, levels, rows of a pass, on the device and on the host */
    double checkpoint;  /* a piece of a checkpoint on its way, on the host */
    double total;       /* of all, since a CPU's memory is the host's */
    double device;      /* of all on the device */
    double arena;       /* of it, what the run allocates at once and shares out itself: all but scratch and group */
};

/* INFINITY where a size cannot be counted. */
struct dlm_memory dlm_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask);

/* Memory that a run may take. */
struct dlm_room {
    double bytes;
    bool device; /* of the device alone; else of the host, where the whole process lies */
};

/* What is free here for one of `sharers` processes. */
struct dlm_room dlm_room_here(const struct dlm_backend *b, int sharers);
bool dlm_memory_fits(const struct dlm_memory *m, struct dlm_room room);
/* Set ask->plan.recompute as `recompute` says, a setting: for auto to the first level that fits, or the last. Returns what the run then takes. */
struct dlm_memory dlm_memory_choose(const struct dlm_backend *b, const struct dlm_config *c, struct dlm_memory_ask *ask, int recompute,
                                    struct dlm_room room);
/* The most sequences in a pass that fit, evaluation included, at most `limit`; 0: not even one. */
size_t dlm_memory_most(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask, int recompute, struct dlm_room room,
                       size_t limit);
const char *dlm_recompute_name(enum dlm_recompute level);

#endif
