/* The processes that train one model together.
 *
 * The training loop is written over this interface: each rank takes its share of every batch's sequences, gradients are summed, and rank 0 writes. Alone,
 * a process is a group of one, and nothing is loaded. Started by mpirun or srun with more, it loads the module dlm-mpi.so: from DLM_LIBDIR, else from
 * ../lib/dlm or lib/dlm beside the program's directory. Every rank makes the same calls in the same order; what they return is the same everywhere.
 */
#ifndef DLM_RUN_GROUP_H
#define DLM_RUN_GROUP_H

#include "base/error.h"
#include "model/network.h"

struct dlm_exchange;

struct dlm_group {
    int rank, size;
    int local;                            /* processes of the group on this machine */
    bool speaks;                          /* for this machine: one of those does */
    struct dlm_backend backend;           /* the device whose buffers the collectives move */
    const struct dlm_exchange *exchange;  /* NULL alone */
    void *module;
    float *stage;                         /* host memory for device buffers on their way */
};

/* Join the group this process was launched in. DLM_EIO where there is one and the module cannot be had. */
int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err);
/* `well`: every rank gets here. After a failure the others may wait in a call for ever, so a rank that failed does not wait for them: it is for the
 * launcher to end the job when this process has ended. */
void dlm_group_close(struct dlm_group *g, bool well);

/* Rank r's share of n things: the first, and how many. */
uint64_t dlm_group_share(const struct dlm_group *g, uint64_t n, uint64_t *first);

/* x f32 (n) on the device: the sum over ranks. */
int dlm_group_all_reduce(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err);
/* x (n) on the host, likewise. */
int dlm_group_sum(struct dlm_group *g, double *x, size_t n, struct dlm_error *err);
/* Every rank gets root's x f32 (n) on the device. */
int dlm_group_broadcast(struct dlm_group *g, dlm_ptr x, size_t n, int root, struct dlm_error *err);
#endif
