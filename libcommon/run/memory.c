/* What training takes; see memory.h. */
#include "run/memory.h"

#include "base/build.h"
#include "model/layout.h"
#include "model/safetensors.h"
#include "run/group.h"
#include "run/optimizer.h"
#include "run/pass.h"
#include "run/settings.h"

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
    struct dlm_memory m = {.total = INFINITY, .device = INFINITY, .arena = INFINITY};
    if (n.weights == SIZE_MAX || dlm_layout_init(&l, c, &ignored))
        return m;
    const size_t n_short = dlm_network_short_of(&l, plan);
    const struct dlm_stripes stripes = dlm_stripes_of(l.total, ask->processes);
    const size_t own = dlm_stripes_own(&stripes, ask->rank), own_short = dlm_stripes_before(&stripes, ask->rank, n_short);
    dlm_layout_release(&l);
    m = (struct dlm_memory){.weights = part(n.weights),
                            .gradients = part(n.gradients),
                            .optimizer = part(dlm_optimizer_bytes(own, own_short)),
                            .average = ask->average ? part(own * sizeof(float)) : 0,
                            .packed = part(n.packs),
                            .activations = part(n.activations),
                            .head = part(n.head),
                            .scratch = part(n.scratch),
                            .group = ask->processes > 1 && b->k->group_bytes ? part(b->k->group_bytes(b->dev, ask->processes)) : 0};
    const size_t most = plan->batch > plan->eval_batch ? plan->batch : plan->eval_batch; /* of a pass, training or not */
    const double pass = dlm_pass_device_bytes(most, plan->seq_len);
    m.arena = m.weights + m.gradients + m.optimizer + m.average + m.packed + m.activations + m.head + pass;
    m.device = m.arena + m.scratch + m.group;
    m.batch = dlm_pass_host_bytes(most, plan->seq_len) + (double)b->k->stage_bytes + pass;
    m.checkpoint = 2.0 * DLM_ST_PIECE * sizeof(float) + (ask->processes > 1 ? DLM_GROUP_STAGE * sizeof(float) : 0);
    m.total = m.device + (m.batch - pass) + m.checkpoint;
    return m;
}

struct dlm_room dlm_room_here(const struct dlm_backend *b, int sharers)
{
    const double own = b->k->available ? (double)b->k->available(b->dev) : 0;
    /* For what has no size before it is there: CUDA loads a kernel's code, its libraries' too, when it is first launched, keeps recordings, and rounds what
     * it gives; a group's library connects at the first exchange. */
    if (own > 0)
        return (struct dlm_room){0.99 * own, true};
    return (struct dlm_room){(double)dlm_build_memory() / sharers, false};
}

bool dlm_memory_fits(const struct dlm_memory *m, struct dlm_room room)
{
    return (room.device ? m->device : m->total) <= room.bytes;
}

struct dlm_memory dlm_memory_choose(const struct dlm_backend *b, const struct dlm_config *c, struct dlm_memory_ask *ask, int recompute,
                                    struct dlm_room room)
{
    int level = recompute == DLM_SETTING_RECOMPUTE_AUTO ? DLM_RECOMPUTE_NONE : recompute - 1;
    for (;;) {
        ask->plan.recompute = (enum dlm_recompute)level;
        const struct dlm_memory m = dlm_memory_of(b, c, ask);
        if (recompute != DLM_SETTING_RECOMPUTE_AUTO || level == DLM_RECOMPUTE_LAYER || dlm_memory_fits(&m, room))
            return m;
        level++;
    }
}

static bool batch_fits(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask, int recompute, struct dlm_room room,
                       size_t batch)
{
    struct dlm_memory_ask one = *ask;
    one.plan.batch = batch;
    const struct dlm_memory m = dlm_memory_choose(b, c, &one, recompute, room);
    return dlm_memory_fits(&m, room);
}

size_t dlm_memory_most(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_memory_ask *ask, int recompute, struct dlm_room room,
                       size_t limit)
{
    size_t fits = 0, beyond = limit + 1;
    while (beyond - fits > 1) {
        const size_t middle = fits + (beyond - fits) / 2;
        if (batch_fits(b, c, ask, recompute, room, middle))
            fits = middle;
        else
            beyond = middle;
    }
    return fits;
}

const char *dlm_recompute_name(enum dlm_recompute level)
{
    static const char *const names[] = {"none", "norms", "mlp", "layer"};
    return names[level];
}
