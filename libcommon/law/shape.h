/* Networks that can be built: from a size that a law asks for to layers, width and heads (method.md §4, §6).
 *
 * The proportions are the paper's: width over layers as in its published models, heads of 64 up to a width of 1024 and of 128
 * above. Counts are exact, by the same formula as the network's own: nothing here knows the network.
 */
#ifndef DLM_LAW_SHAPE_H
#define DLM_LAW_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

struct dlm_shape {
    uint64_t layers, width, heads;
    double params, embedding;             /* non-embedding, and E with W */
    double flops_tok, flops_6p, flops_head; /* per token, forward and backward: 6P + 12·L·d·N, 6P, and the head's product 6·d·V */
};

/* The counts of a network with MLP 4·width and `heads` by the rule above. */
struct dlm_shape dlm_shape_of(uint64_t layers, uint64_t width, uint64_t seq_len, uint64_t vocab_size);

/* The shape nearest to a size, which is params or flops_tok: the one with the least |log(size/wanted)| + 0.1·|log(proportion over
 * the paper's)|. A tenth, because a wrong size costs loss and the proportion hardly does. */
struct dlm_shape dlm_shape_nearest(double wanted, bool params, uint64_t seq_len, uint64_t vocab_size);

#endif
