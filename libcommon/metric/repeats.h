/* Which steps of which curve were read before, and with what loss: for rows that a resumed run repeats.
 *
 * A curve is a small number, its rows come mostly with rising steps. Those are kept in chunks, in memory up to 32 MiB and beyond that
 * in an unlinked temporary file (TMPDIR, /var/tmp or /tmp; where none can be written, in memory), so that memory grows by a tenth
 * of a byte a row. Only steps that come late, below the highest of their curve and not read before, stay in memory one by one. Not
 * thread-safe.
 */
#ifndef DLM_METRIC_REPEATS_H
#define DLM_METRIC_REPEATS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct dlm_repeats;

struct dlm_seen {
    double step, loss;
    uint64_t place; /* of the caller's choice */
};

struct dlm_repeats *dlm_repeats_new(void); /* NULL: no memory */
void dlm_repeats_free(struct dlm_repeats *r);

/* 1: the curve's step is new, and remembered. 0: it was read before, as *before. < 0: an error. */
int dlm_repeats_row(struct dlm_repeats *r, size_t curve, const struct dlm_seen *row, struct dlm_seen *before, struct dlm_error *err);

#endif
