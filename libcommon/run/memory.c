/* What training takes; see memory.h. */
#include "run/memory.h"

#include "model/layout.h"
#include "model/safetensors.h"
#include "run/group.h"
#include "run/optimizer.h"
#include "run/pass.h"

#include <math.h>

/* An area of the arena. */
static double part(size_t bytes)
{
    return bytes ? (double)dlm_arena_part(bytes) : 0;
}

struct dlm_memory dlm_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask)
{
    const struct dlm_network_plan *plan = &ask->plan;
    const struct dlm_network_memory n = dlm_network_memory_of(b, c, plan);
    struct dlm_layout l;
    struct dlm_error ignored;
    struct dlm_memory m = {.total = INFINITY, .device = INFINITY};
    if (n.weights == SIZE_MAX || dlm_layout_init(&l, c, &ignored))
        return m;
    const size_t n_short = dlm_network_short_of(&l, plan);
    const struct dlm_group group = {.size = ask->processes, .rank = ask->rank};
    size_t from, to;
    dlm_group_range(&group, l.total, ask->rank, &from, &to);
    const size_t own_short = from < n_short ? (to < n_short ? to : n_short) - from : 0;
    dlm_layout_release(&l);
    m = (struct dlm_memory){.weights = part(n.weights),
                            .gradients = part(n.gradients),
                            .optimizer = part(dlm_optimizer_bytes(to - from, own_short)),
                            .average = ask->average ? part((to - from) * sizeof(float)) : 0,
                            .packed = part(n.packs),
                            .activations = part(n.activations),
                            .head = part(n.head)};
    const double pass = dlm_pass_device_bytes(plan->batch, plan->seq_len);
    m.device = m.weights + m.gradients + m.optimizer + m.average + m.packed + m.activations + m.head + pass;
    m.batch = dlm_pass_host_bytes(plan->batch, plan->seq_len) + pass;
    m.checkpoint = 2.0 * DLM_ST_PIECE * sizeof(float) + (ask->processes > 1 ? DLM_GROUP_STAGE * sizeof(float) : 0);
    m.total = m.device + (m.batch - pass) + m.checkpoint;
    return m;
}
