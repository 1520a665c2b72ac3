/* A launcher's variables. */
#include "run/launch.h"

#include <stdlib.h>

/* The first of these variables that says more than one. */
static int several(const char *const *names)
{
    for (; *names; names++) {
        const char *v = getenv(*names);
        if (v && atoi(v) > 1)
            return atoi(v);
    }
    return 1;
}

int dlm_launch_processes(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", NULL};
    return several(names);
}

int dlm_launch_neighbours(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE" /* "4(x2),3" */, NULL};
    return several(names);
}

int dlm_launch_local(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            return atoi(getenv(names[i]));
    return -1;
}
