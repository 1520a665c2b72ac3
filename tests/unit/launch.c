/* Who a process is among those that a launcher started, for each of the launchers by its variables. */
#include "run/launch.h"
#include "tap.h"

static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "PMI_SIZE", "MPI_LOCALNRANKS",
                                        "MPI_LOCALRANKID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"};

static void clear(void)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
}

static void launcher(const char *name, int first, const char *neighbours)
{
    clear();
    setenv(variables[first], "12", 1);
    setenv(variables[first + 1], neighbours, 1);
    setenv(variables[first + 2], "3", 1);
    tap_ok(dlm_launch_processes() == 12 && dlm_launch_neighbours() == 4 && dlm_launch_local() == 3, "%s", name);
    setenv(variables[first + 2], "0", 1);
    tap_ok(dlm_launch_local() == 0, "%s: the first of a machine", name);
}

int main(void)
{
    clear();
    tap_ok(dlm_launch_processes() == 1 && dlm_launch_neighbours() == 1 && dlm_launch_local() == -1, "started by nobody");
    launcher("Open MPI", 0, "4");
    launcher("MPICH", 3, "4");
    launcher("Slurm", 6, "4(x2),2(x2)");
    clear();
    setenv("SLURM_STEP_NUM_TASKS", "1", 1); /* a job step of one */
    setenv("PMI_SIZE", "many", 1);
    tap_ok(dlm_launch_processes() == 1, "one task is no group, nor is what is no number");
    return tap_end();
}
