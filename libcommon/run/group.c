/* A group of one, or of those that a launcher started. */
#include "run/group.h"

#include "run/exchange.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STAGE = 1 << 20 }; /* floats */

/* The first of these variables that says more than one; launchers set them. */
static int launched(const char *const *names)
{
    for (; *names; names++) {
        const char *v = getenv(*names);
        if (v && atoi(v) > 1)
            return atoi(v);
    }
    return 1;
}

/* The module, wherever it is; the places tried are in `tried`. */
static void *open_module(char *tried, size_t size)
{
    static const char *const beside[] = {"../lib/dlm", "lib/dlm"};
    const char *dir = getenv("DLM_LIBDIR");
    char self[4096], path[4200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    if (slash)
        *slash = 0;
    for (int i = 0; i < (dir ? 1 : slash ? 2 : 0); i++) {
        if (dir)
            snprintf(path, sizeof path, "%s/dlm-mpi.so", dir);
        else
            snprintf(path, sizeof path, "%s/%s/dlm-mpi.so", self, beside[i]);
        void *m = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own modules look for its symbols */
        if (m)
            return m;
        snprintf(tried, size, "%s", access(path, F_OK) ? "there is none beside the program, nor in DLM_LIBDIR" : dlerror());
        if (!access(path, F_OK))
            return NULL;
    }
    return NULL;
}

int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", NULL};
    static const char *const locals[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", NULL};
    *g = (struct dlm_group){.rank = 0, .size = 1, .local = 1, .speaks = true, .backend = *b};
    int n = launched(sizes);
    char word[600] = "";
    if (n <= 1)
        return 0;
    if (!(g->module = open_module(word, sizeof word)))
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
    g->local = launched(locals);
    const char *own = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    g->speaks = (own ? atoi(own) : g->rank) == 0;
    return 0;
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

static int failed(const struct dlm_group *g, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EIO, "rank %d of %d: %s", g->rank, g->size, g->exchange->word());
}

/* Through the host, piece by piece. root < 0: sum. */
static int move(struct dlm_group *g, dlm_ptr x, size_t n, int root, struct dlm_error *err)
{
    const struct dlm_kernels *k = g->backend.k;
    if (g->size == 1)
        return 0;
    for (size_t at = 0; at < n; at += STAGE) {
        size_t some = n - at < STAGE ? n - at : STAGE;
        dlm_ptr p = dlm_ptr_at(x, at * sizeof(float));
        k->download(g->backend.dev, g->stage, p, some * sizeof(float));
        if (root < 0 ? !g->exchange->sum_f32(g->stage, some) : !g->exchange->broadcast(g->stage, some * sizeof(float), root))
            return failed(g, err);
        k->upload(g->backend.dev, p, g->stage, some * sizeof(float));
    }
    return 0;
}

int dlm_group_all_reduce(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err)
{
    return move(g, x, n, -1, err);
}

int dlm_group_broadcast(struct dlm_group *g, dlm_ptr x, size_t n, int root, struct dlm_error *err)
{
    return move(g, x, n, root, err);
}

int dlm_group_sum(struct dlm_group *g, double *x, size_t n, struct dlm_error *err)
{
    return g->size == 1 || g->exchange->sum_f64(x, n) ? 0 : failed(g, err);
}
