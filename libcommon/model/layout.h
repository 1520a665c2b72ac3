/* The one table of tensors: name, shape, place, group, initial value (method.md §4).
 *
 * All parameters live in one float32 array of `total` elements; gradients and optimizer moments are arrays of the same layout. The bulk
 * matrices come first, then the auxiliary tensors, so that each learning-rate group is one contiguous range. Within a layer q, k and v
 * projections are adjacent, so that they multiply as one (3d, d) matrix. Tensors start at multiples of 16 elements (k and v,
 * which continue q, wherever q ends); the gaps are zero.
 */
#ifndef DLM_MODEL_LAYOUT_H
#define DLM_MODEL_LAYOUT_H

#include "model/config.h"

enum dlm_tensor_kind {
    DLM_TENSOR_EMBED, DLM_TENSOR_HEAD, DLM_TENSOR_FINAL_NORM, /* of the model */
    DLM_TENSOR_Q, DLM_TENSOR_K, DLM_TENSOR_V, DLM_TENSOR_O, DLM_TENSOR_UP, DLM_TENSOR_DOWN, /* of a layer: matrices */
    DLM_TENSOR_ATTN_NORM, DLM_TENSOR_MLP_NORM, DLM_TENSOR_Q_NORM, DLM_TENSOR_K_NORM, DLM_TENSOR_K_BIAS, DLM_TENSOR_V_BIAS,
    DLM_TENSOR_UP_BIAS, DLM_TENSOR_DOWN_BIAS,
    DLM_TENSOR_KINDS
};

struct dlm_tensor {
    char name[80];
    enum dlm_tensor_kind kind;
    size_t layer;
    unsigned rank;    /* 1 or 2 */
    size_t shape[2];  /* elements */
    size_t offset, n; /* elements into the array */
    bool bulk;        /* learning rate η/d, else aux_lr·η */
    double init;      /* standard deviation of N(0, ·); 0 means zeros */
};

struct dlm_layout {
    struct dlm_tensor *tensors; /* owned */
    size_t n;
    size_t bulk_total; /* elements of the bulk range, from 0 */
    size_t total;      /* elements in all */
};

int dlm_layout_init(struct dlm_layout *l, const struct dlm_config *c, struct dlm_error *err);
void dlm_layout_release(struct dlm_layout *l);
/* The tensor of this kind (and layer); always there. */
const struct dlm_tensor *dlm_layout_find(const struct dlm_layout *l, enum dlm_tensor_kind kind, size_t layer);
/* Initial values of every tensor into w (total), keyed by (seed, tensor, element): independent of everything else. */
void dlm_layout_fill(const struct dlm_layout *l, uint64_t seed, float *w);
/* Elements [at, at + n) of the same into w (n). */
void dlm_layout_fill_part(const struct dlm_layout *l, uint64_t seed, size_t at, size_t n, float *w);

#endif
