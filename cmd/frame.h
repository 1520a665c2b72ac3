/* The frame of every main(): parse, run, finish. The one place that prints messages and exits.
 *
 * main() reads: frame = the command's table; first = dlm_frame_begin(…); library calls, each followed by
 * dlm_frame_fail on error; return dlm_frame_end(…).
 */
#ifndef DLM_CMD_FRAME_H
#define DLM_CMD_FRAME_H

#include "base/error.h"
#include "base/options.h"

/* Parse the options (printing --help or --version and exiting where asked, or the misuse and exit 2), install the stop
 * signals, and return the index of the first operand. */
int dlm_frame_begin(const struct dlm_command *cmd, int argc, char **argv);

/* Print "NAME: message", remove unfinished outputs, and exit with the status of `code`; DLM_ESTOPPED re-raises the signal,
 * DLM_EPIPE dies as SIGPIPE does. */
_Noreturn void dlm_frame_fail(const struct dlm_command *cmd, int code, const struct dlm_error *err);

/* Misuse: one line naming the option; exit 2. */
_Noreturn void dlm_frame_misuse(const struct dlm_command *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A note for the person on standard error. */
void dlm_frame_say(const struct dlm_command *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Check standard output and return the exit status. */
int dlm_frame_end(const struct dlm_command *cmd);

#endif
