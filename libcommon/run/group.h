/* The processes that train one model together.
 *
 * The training loop is written over this interface: each rank takes its share of every batch's sequences, gradients are summed, and rank 0 writes.
 * In this version a group has one member; a launch by mpirun or srun with more is refused by name rather than run as so many strangers.
 */
#ifndef DLM_RUN_GROUP_H
#define DLM_RUN_GROUP_H

#include "base/error.h"
#include "model/network.h"

struct dlm_group {
    int rank, size;
    struct dlm_backend backend; /* the device whose buffers the collectives move */
};

/* Join the group this process was launched in. */
int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err);
void dlm_group_close(struct dlm_group *g);

/* x f32 (n) on every rank becomes the sum over ranks, the same bits everywhere. */
int dlm_group_all_reduce(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err);
/* Rank r's part, [r·n/size, (r+1)·n/size), becomes the sum over ranks; the rest is undefined. */
int dlm_group_reduce_scatter(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err);
/* Every rank gets root's x f32 (n). */
int dlm_group_broadcast(struct dlm_group *g, dlm_ptr x, size_t n, int root, struct dlm_error *err);
#endif
