/* What training takes; see memory.h. */
#include "run/memory.h"

#include "run/pass.h"

struct dlm_memory dlm_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *plan, bool average)
{
    const struct dlm_network_memory n = dlm_network_memory_of(b, c, plan);
    const double w = (double)n.weights;
    struct dlm_memory m = {.weights = w,
                           .gradients = (double)n.gradients,
                           .optimizer = 2 * w,
                           .average = average ? w : 0,
                           .packed = (double)n.packs,
                           .activations = (double)n.activations,
                           .head = (double)n.head,
                           .batch = dlm_pass_bytes(plan->batch, plan->seq_len),
                           .checkpoint = (average ? 4 : 3) * w};
    m.total = m.weights + m.gradients + m.optimizer + m.average + m.packed + m.activations + m.head + m.batch + m.checkpoint;
    return m;
}
