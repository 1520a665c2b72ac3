/* Energy that the machine's own counters have counted since a meter was opened, joules (method.md §10).
 *
 * The counters are the machine's, not the process's: other work on it is counted too, and several processes on one machine each see the whole of it.
 * Today they are RAPL's, one a processor package, as Linux shows them under /sys/class/powercap (DLM_POWERCAP names another directory): package zones
 * alone, so that nothing is counted twice through the cores and memory within a package, the platform around it, or a second path to the same counter.
 * The figure is of all packages or there is none (NAN), since a part would pass for the whole: no counter, or one that may not be read (the kernel
 * shows them to root alone unless told otherwise), or that went away, from then on.
 *
 * A counter starts again at 0 past its range, after some ten minutes to an hour of a busy package. A reading below the last one is taken for one such
 * turn; two between readings cannot be told from one, so ask at least every few minutes.
 */
#ifndef DLM_RUN_ENERGY_H
#define DLM_RUN_ENERGY_H

#include <stddef.h>
#include <stdint.h>

struct dlm_energy_counter;

/* Not for sharing between threads. */
struct dlm_energy {
    char *root;                          /* the directory of the zones; NULL: no meter */
    struct dlm_energy_counter *counters; /* (n) */
    size_t n;
    uint64_t counted;                    /* µJ since opened */
};

/* Begin to count. Never fails: where there is nothing to read there is no meter. */
void dlm_energy_open(struct dlm_energy *e);
/* Joules since opened, never less than the last time; NAN: no meter, or a counter was lost. */
double dlm_energy_joules(struct dlm_energy *e);
/* Nothing is left; what is closed, or zero, may be closed again and counts nothing. */
void dlm_energy_close(struct dlm_energy *e);

#endif
