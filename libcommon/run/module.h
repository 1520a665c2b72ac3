/* Modules: what a program takes in at run time, so that one installation serves machines with and without a GPU, or MPI.
 *
 * They lie in DLM_LIBDIR where that is set, else in ../lib/dlm or lib/dlm beside the program's directory.
 */
#ifndef DLM_RUN_MODULE_H
#define DLM_RUN_MODULE_H

#include <stdbool.h>
#include <stddef.h>

/* The module of this file name; it stays loaded until dlclose. On failure NULL: *absent says whether there is no such file, and `why` says so or what
 * hindered, in one line. `global`: its libraries' symbols are for modules of theirs, too. */
void *dlm_module_open(const char *name, bool global, bool *absent, char *why, size_t why_size);

#endif
