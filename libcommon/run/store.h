/* A training state as checkpoints see it: whole arrays of float32, wherever they lie and whoever owns them.
 *
 * Rank 0 reads and writes checkpoints. What it gives to a file comes from the ranks that own it, what it takes from one goes to all, a piece of a million
 * elements at a time; so no process holds more than its own state, and files do not tell how many there were. The other ranks answer it: each call of
 * rank 0 between two ends has an answer in dlm_store_serve.
 */
#ifndef DLM_RUN_STORE_H
#define DLM_RUN_STORE_H

#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "run/average.h"
#include "run/group.h"
#include "run/optimizer.h"

struct dlm_store {
    struct dlm_group *group; /* borrowed, as are the others */
    struct dlm_network *network;
    struct dlm_optimizer *optimizer;
    struct dlm_average *average;
    float *piece;            /* (DLM_ST_PIECE) */
    bool averaged;           /* the checkpoint's weights are the average; else they are those that are trained */
    struct dlm_checkpoint_store pieces; /* for rank 0: what checkpoints are written from and read into */
};

int dlm_store_new(struct dlm_store *s, struct dlm_group *group, struct dlm_network *m, struct dlm_optimizer *o, struct dlm_average *a,
                  struct dlm_error *err);
void dlm_store_release(struct dlm_store *s);
/* On rank 0, when it has ended with `rc`: the others go on, or fail if it did. Returns rc, or why they could not be told. */
int dlm_store_end(struct dlm_store *s, int rc, struct dlm_error *err);
/* On the other ranks: answer until rank 0 has ended. */
int dlm_store_serve(struct dlm_store *s, struct dlm_error *err);

#endif
