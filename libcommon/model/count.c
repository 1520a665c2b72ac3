/* Parameters and FLOPs from the shape alone (method.md §6); tests hold them against the layout table. */
#include "model/count.h"

struct dlm_count dlm_count_of(const struct dlm_config *c, size_t seq_len)
{
    const uint64_t L = c->layers, d = c->width, m = c->mlp, V = c->vocab_size;
    const uint64_t matrices = 4 * d * d + 2 * d * m, norms = 4 * d, biases = m + d, sink = 2 * d;
    struct dlm_count n = {
        .params = L * (matrices + norms + biases + sink) + d,
        .params_published = L * (matrices + norms + 2 * biases) + d,
        .params_embedding = 2 * V * d,
        .flops_tok_head = 6.0 * (double)d * (double)V,
    };
    n.flops_tok_6p = 6.0 * (double)n.params;
    n.flops_tok = n.flops_tok_6p + 12.0 * (double)L * (double)d * (double)seq_len;
    return n;
}
