/* The metrics of one run as text: what went out, what belongs into the checkpoint, and the --metrics file.
 *
 * Every row is flushed as it comes. The whole text up to now is kept, because each checkpoint holds every row up to its step and a resumed --metrics
 * file is rewritten from it, so that it reads as one uninterrupted run.
 */
#ifndef DLM_RUN_JOURNAL_H
#define DLM_RUN_JOURNAL_H

#include "metric/metric.h"

#include <stddef.h>

struct dlm_journal {
    char *text; /* header and rows so far; owned */
    size_t len, cap;
    FILE *out;        /* standard output or the --metrics file */
    const char *name; /* of out, for errors; borrowed */
};

/* Begin with `earlier` (the checkpoint's metrics.tsv, NULL for a new run). metrics NULL: rows go to standard output, header first, earlier rows not
 * repeated; else that file is written anew with the earlier rows. */
int dlm_journal_open(struct dlm_journal *j, const char *metrics, const char *earlier, size_t earlier_len, struct dlm_error *err);
int dlm_journal_add(struct dlm_journal *j, const struct dlm_metric *m, struct dlm_error *err);
/* Close the file (checked) or flush standard output. */
int dlm_journal_close(struct dlm_journal *j, struct dlm_error *err);

#endif
