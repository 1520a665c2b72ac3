/* What a launcher (Open MPI's or MPICH's mpirun, Slurm's srun) tells the processes that it starts, by the variables it sets. */
#ifndef DLM_RUN_LAUNCH_H
#define DLM_RUN_LAUNCH_H

/* How many were started; 1 where nobody says more. */
int dlm_launch_processes(void);
/* How many of them on this machine, as far as that is told; else 1. */
int dlm_launch_neighbours(void);
/* Which of this machine's processes this is, from 0; -1: nobody says. */
int dlm_launch_local(void);

#endif
