/* A group of one. */
#include "run/group.h"

#include <stdlib.h>

static int launched_size(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = getenv(names[i]);
        if (v && atoi(v) > 1)
            return atoi(v);
    }
    return 1;
}

int dlm_group_open(struct dlm_group *g, const struct dlm_backend *b, struct dlm_error *err)
{
    *g = (struct dlm_group){.rank = 0, .size = 1, .backend = *b};
    int n = launched_size();
    if (n > 1)
        return dlm_fail(err, DLM_EIO, "launched as one of %d processes: training with several processes is not available in this version", n);
    return 0;
}

void dlm_group_close(struct dlm_group *g)
{
    (void)g;
}

int dlm_group_all_reduce(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err)
{
    (void)g, (void)x, (void)n, (void)err; /* the sum over one member is there already */
    return 0;
}

int dlm_group_reduce_scatter(struct dlm_group *g, dlm_ptr x, size_t n, struct dlm_error *err)
{
    (void)g, (void)x, (void)n, (void)err;
    return 0;
}

int dlm_group_broadcast(struct dlm_group *g, dlm_ptr x, size_t n, int root, struct dlm_error *err)
{
    (void)g, (void)x, (void)n, (void)root, (void)err;
    return 0;
}
