/* Stop signals.
 *
 * SIGINT, SIGTERM and SIGHUP only set a flag; loops ask for it at clean points, return DLM_ESTOPPED, and cmd/ removes
 * partial outputs and re-raises. A second signal of the kind kills at once. Signals ignored by the parent stay ignored.
 * SIGPIPE keeps its default action (quiet death) unless a command says otherwise. SIGUSR1 asks for one line of progress.
 */
#ifndef DLM_BASE_STOP_H
#define DLM_BASE_STOP_H

#include <stdbool.h>

void dlm_stop_install(void);

/* The signal that asked for an end, or 0. */
int dlm_stop_signal(void);

/* Restore the default action and raise the signal that stopped us; returns only if none did. */
void dlm_stop_reraise(void);

/* True once after each SIGUSR1. */
bool dlm_stop_take_usr1(void);

#endif
