/* A command of the user's that says whether an answer is right: code is run by who asked for it, not by us.
 *
 * The command runs once an item, by `sh -c`, in a process group of its own, with the item as one line of JSON on its standard input, nothing on its output
 * (both outputs go to /dev/null unless `loud`), and limits on time, memory and file size. Exit status 0 is right, any other wrong, except 126 and 127, by
 * which the shell says that there is no such command. When the time is over, and when the command has ended, its whole group is killed.
 * The limits keep accidents small; they are no sandbox.
 */
#ifndef DLM_RUN_JUDGE_H
#define DLM_RUN_JUDGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_judge {
    const char *command;
    double seconds;  /* of wall time, and of processor time, rounded up */
    uint64_t memory; /* bytes of address space of each of its processes */
    bool loud;       /* its standard error is ours */
};

enum dlm_verdict { DLM_JUDGE_RIGHT, DLM_JUDGE_WRONG, DLM_JUDGE_LATE, DLM_JUDGE_KILLED };

/* "right", "wrong", "timeout", "killed" */
const char *dlm_verdict_name(enum dlm_verdict v);

/* DLM_EIO when the command cannot be run, DLM_ESTOPPED when a signal came. */
int dlm_judge_run(const struct dlm_judge *j, const char *item, size_t n, enum dlm_verdict *out, struct dlm_error *err);

#endif
