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

enum { DLM_GROUP_STAGE = 1 << 20 }; /* floats on their way at a time */

struct dlm_group {
    int rank, size;
    int local;                            /* processes of the group on this machine */
    bool speaks;                          /* for this machine: one of those does */
    struct dlm_backend backend;           /* the device whose buffers the collectives move */
    const struct dlm_exchange *exchange;  /* NULL alone */
    void *module;
    bool direct;                          /* devices speak with each other, and nothing of theirs goes through the host */
    float *stage;                         /* host memory for device buffers on their way */
};

/* Join the group this process was launched in. DLM_EIO where there is one and the module cannot be had. */
int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err);
/* `well`: every rank gets here. After a failure the others may wait in a call for ever, so a rank that failed does not wait for them: it is for the
 * launcher to end the job when this process has ended. */
void dlm_group_close(struct dlm_group *g, bool well);

/* Rank r's share of n things: the first, and how many. */
uint64_t dlm_group_share(const struct dlm_group *g, uint64_t n, uint64_t *first);

/* x on the device, f32 or bf16, is elements [first, first + n) of an array that the ranks own in stripes (kernels/stripes.h), first and n multiples of 16: every
 * rank's own become the sum over ranks, the rest is spoilt. The sum is in f32, in order of rank, and rounded to the nearest even where x is bf16: the same bits
 * by any transport. Where devices speak with each other this begins when what is queued has ended, and goes on beside what is queued later, which does not
 * touch x before dlm_group_wait; errors are then the device's. */
int dlm_group_reduce_scatter(struct dlm_group *g, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, const struct dlm_stripes *s, struct dlm_error *err);
/* Likewise: every rank gets what the others own. */
int dlm_group_all_gather(struct dlm_group *g, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, const struct dlm_stripes *s, struct dlm_error *err);
/* What is queued from here on finds them done. */
void dlm_group_wait(struct dlm_group *g);
/* x (n) on the host becomes the sum over ranks on every one. */
int dlm_group_sum(struct dlm_group *g, double *x, size_t n, struct dlm_error *err);
/* Every rank gets root's bytes, on the host. */
int dlm_group_tell(struct dlm_group *g, void *x, size_t bytes, int root, struct dlm_error *err);
#endif
