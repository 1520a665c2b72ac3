/* A group of one, or of those that a launcher started. */
#include "run/group.h"

#include "model/split.h"
#include "run/exchange.h"
#include "run/launch.h"
#include "run/module.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGE = DLM_GROUP_STAGE };

static int failed(const struct dlm_group *g, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EIO, "rank %d of %d: %s", g->rank, g->size, g->exchange->word());
}

/* Where devices speak with each other, let them: all ranks or none. */
static int join_devices(struct dlm_group *g, struct dlm_error *err)
{
    const struct dlm_kernels *k = g->backend.k;
    struct dlm_device *dev = g->backend.dev;
    unsigned char id[DLM_GROUP_ID] = {0};
    double able = k->group_id != NULL;
    if (!g->exchange->sum_f64(&able, 1))
        return failed(g, err);
    if (able < g->size)
        return 0;
    double made = g->rank || k->group_id(dev, id);
    if (!g->exchange->broadcast(id, sizeof id, 0) || !g->exchange->sum_f64(&made, 1))
        return failed(g, err);
    if (made < g->size)
        return dlm_fail(err, DLM_EIO, "rank 0 of %d: %s", g->size, g->rank ? "it could not make a group of GPUs" : k->sync(dev));
    if (!k->group_join(dev, id, g->rank, g->size))
        return dlm_fail(err, DLM_EIO, "rank %d of %d: %s", g->rank, g->size, k->sync(dev));
    g->direct = true;
    return 0;
}

int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err)
{
    *g = (struct dlm_group){.rank = 0, .size = 1, .local = 1, .speaks = true, .backend = *b};
    int n = dlm_launch_processes();
    char word[600] = "";
    if (n <= 1)
        return 0;
    bool absent;
    if (!(g->module = dlm_module_open("dlm-mpi.so", true, &absent, word, sizeof word))) /* Open MPI's own modules look for its symbols */
        return dlm_fail(err, DLM_EIO, "launched as one of %d processes, but the module dlm-mpi.so cannot be loaded: %s", n, word);
    void *symbol = dlsym(g->module, DLM_EXCHANGE_ENTRY);
    dlm_exchange_entry *entry;
    memcpy(&entry, &symbol, sizeof entry); /* a pointer to a function from one to data, as POSIX has it */
    const struct dlm_exchange *e = entry ? entry() : NULL;
    if (!e)
        return dlm_fail(err, DLM_EIO, "the module dlm-mpi.so is none of this program's");
    if (!e->join(&g->rank, &g->size, word, sizeof word))
        return dlm_fail(err, DLM_EIO, "cannot join the %d processes: %s", n, word);
    if (g->size != n) /* a launcher of another MPI starts as many strangers, each alone */
        return dlm_fail(err, DLM_EIO, "launched as one of %d processes, but %s finds %d: launcher and module are of different MPIs", n, e->name, g->size);
    if (!(g->stage = malloc(STAGE * sizeof *g->stage)))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    g->exchange = e;
    g->local = dlm_launch_neighbours();
    const int own = dlm_launch_local();
    g->speaks = (own < 0 ? g->rank : own) == 0;
    return join_devices(g, err);
}

void dlm_group_close(struct dlm_group *g, bool well)
{
    if (g->exchange && well)
        g->exchange->leave();
    free(g->stage); /* the module stays: its threads may still be there */
    *g = (struct dlm_group){.size = 1, .local = 1};
}

uint64_t dlm_group_share(const struct dlm_group *g, uint64_t n, uint64_t *first)
{
    const uint64_t size = (uint64_t)g->size, rank = (uint64_t)g->rank, each = n / size, more = n % size;
    *first = rank * each + (rank < more ? rank : more);
    return each + (rank < more);
}

/* n places of rank r's from `place` on, of x, which begins at element `first`: from the device into `host`, or back. */
static void carry(const struct dlm_group *g, dlm_ptr x, size_t item, size_t first, const struct dlm_stripes *s, int r, size_t place, size_t n, void *host,
                  bool back)
{
    for (size_t done = 0, some; done < n; done += some) {
        const size_t e = dlm_stripes_element(s, r, place + done, &some);
        some = some < n - done ? some : n - done;
        dlm_ptr p = dlm_ptr_at(x, (e - first) * item);
        void *at = (char *)host + done * item;
        if (back)
            g->backend.k->upload(g->backend.dev, p, at, some * item);
        else
            g->backend.k->download(g->backend.dev, at, p, some * item);
    }
}

/* f32 in `stage` becomes bf16 in its first half. */
static void narrow(float *stage, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &stage[i], 4);
        const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        const uint16_t half = (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16); /* the nearest, even of two */
        memcpy((unsigned char *)stage + 2 * i, &half, 2);
    }
}

int dlm_group_reduce_scatter(struct dlm_group *g, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, const struct dlm_stripes *s, struct dlm_error *err)
{
    const size_t item = dlm_dtype_size(type);
    assert(s->size == g->size && first % 16 == 0 && n % 16 == 0);
    if (g->direct)
        g->backend.k->group_reduce_scatter(g->backend.dev, x, type, first, n, *s);
    for (int r = 0; r < g->size && g->size > 1 && !g->direct; r++) {
        const size_t end = dlm_stripes_before(s, r, first + n);
        for (size_t at = dlm_stripes_before(s, r, first), some; at < end; at += some) {
            some = end - at < STAGE ? end - at : STAGE;
            carry(g, x, item, first, s, r, at, some, type == DLM_BF16 ? (void *)dlm_split_half(g->stage, some) : g->stage, false);
            if (type == DLM_BF16)
                dlm_split_widen(g->stage, some);
            if (!g->exchange->reduce_f32(g->stage, some, r))
                return failed(g, err);
            if (g->rank != r)
                continue;
            if (type == DLM_BF16)
                narrow(g->stage, some);
            carry(g, x, item, first, s, r, at, some, g->stage, true);
        }
    }
    return 0;
}

int dlm_group_all_gather(struct dlm_group *g, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, const struct dlm_stripes *s, struct dlm_error *err)
{
    const size_t item = dlm_dtype_size(type), most = STAGE * sizeof(float) / item;
    assert(s->size == g->size && first % 16 == 0 && n % 16 == 0);
    if (g->direct)
        g->backend.k->group_all_gather(g->backend.dev, x, type, first, n, *s);
    for (int r = 0; r < g->size && g->size > 1 && !g->direct; r++) {
        const size_t end = dlm_stripes_before(s, r, first + n);
        for (size_t at = dlm_stripes_before(s, r, first), some; at < end; at += some) {
            some = end - at < most ? end - at : most;
            if (g->rank == r)
                carry(g, x, item, first, s, r, at, some, g->stage, false);
            if (!g->exchange->broadcast(g->stage, some * item, r))
                return failed(g, err);
            if (g->rank != r)
                carry(g, x, item, first, s, r, at, some, g->stage, true);
        }
    }
    return 0;
}

void dlm_group_wait(struct dlm_group *g)
{
    if (g->direct)
        g->backend.k->group_wait(g->backend.dev);
}

int dlm_group_tell(struct dlm_group *g, void *x, size_t bytes, int root, struct dlm_error *err)
{
    return g->size == 1 || g->exchange->broadcast(x, bytes, root) ? 0 : failed(g, err);
}

int dlm_group_sum(struct dlm_group *g, double *x, size_t n, struct dlm_error *err)
{
    return g->size == 1 || g->exchange->sum_f64(x, n) ? 0 : failed(g, err);
}
