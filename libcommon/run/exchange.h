/* Moving numbers between processes: the table that a module fills (libcommon/run/mpi), as kernels.h is for devices.
 *
 * Modules are loaded only where a launcher has started several processes, so that a machine without MPI runs one. All processes make the same calls in
 * the same order. Results are the same bits on every rank. Buffers are the host's. On failure a call returns false and `word` says why, in one line that
 * stays valid.
 */
#ifndef DLM_RUN_EXCHANGE_H
#define DLM_RUN_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

struct dlm_exchange {
    const char *name;                               /* "Open MPI v4.1.4", once joined */
    bool (*join)(int *rank, int *size, char *word, size_t word_size);
    bool (*sum_f32)(float *x, size_t n);            /* in place, over ranks */
    bool (*sum_f64)(double *x, size_t n);
    bool (*reduce_f32)(float *x, size_t n, int root); /* the sum in order of rank, on root alone; elsewhere x may be spoilt */
    bool (*broadcast)(void *x, size_t bytes, int root);
    void (*leave)(void);                            /* after the last call, by every rank */
    const char *(*word)(void);
};

/* The one symbol of a module. */
typedef const struct dlm_exchange *dlm_exchange_entry(void);
#define DLM_EXCHANGE_ENTRY "dlm_exchange"

#endif
