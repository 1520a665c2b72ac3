/* Parameters and FLOPs (method.md §6): exact counts, and the published convention beside them. */
#ifndef DLM_MODEL_COUNT_H
#define DLM_MODEL_COUNT_H

#include "model/config.h"

struct dlm_count {
    uint64_t params;           /* non-embedding: everything but E and W, exact */
    uint64_t params_published; /* numbers.md: MLP biases twice, sink left out */
    uint64_t params_embedding; /* E and W */
    double flops_tok;          /* forward and backward per token, method 1: 6P + 12·L·d·N */
    double flops_tok_6p;       /* method 2: 6P */
    double flops_tok_head;     /* 6·d·V, the head's product, in neither */
};

struct dlm_count dlm_count_of(const struct dlm_config *c, size_t seq_len);

#endif
