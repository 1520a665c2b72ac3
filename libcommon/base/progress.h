/* One line of progress on standard error: rate, share, time left.
 *
 * Shown when standard error is a terminal (or always/never, as asked), redrawn at most five times a second, erased at the
 * end; printed once as a whole line on SIGUSR1 whatever the mode. Not for other output: results go to standard output.
 */
#ifndef DLM_BASE_PROGRESS_H
#define DLM_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum dlm_progress_mode { DLM_PROGRESS_AUTO, DLM_PROGRESS_ALWAYS, DLM_PROGRESS_NEVER };

struct dlm_progress {
    const char *name, *unit; /* borrowed: "dlm-train", "tokens" */
    uint64_t total;          /* 0: not known */
    uint64_t begun_at;       /* count at start, so that a resumed run shows its own rate */
    double t0, t_last;       /* s */
    bool terminal, shown, on;
};

void dlm_progress_init(struct dlm_progress *p, const char *name, const char *unit, uint64_t total, uint64_t done,
                       enum dlm_progress_mode mode);
/* `note` is appended when not NULL: "loss 3.21". Cheap; call it once per unit of work. */
void dlm_progress_update(struct dlm_progress *p, uint64_t done, const char *note);
/* Erase the line. */
void dlm_progress_release(struct dlm_progress *p);

/* Monotonic time, s. */
double dlm_progress_now(void);

#endif
