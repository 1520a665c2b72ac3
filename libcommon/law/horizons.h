/* A group's points thinned: of a run with far more points than wanted, its smoothed curve at so many horizons, evenly in log x;
 * other runs as they are. Thousands of points of one curve say no more about a law in sizes and tokens, and the bootstrap draws
 * runs. Runs of up to DLM_HORIZONS_SPARED times as many stay as they are: where points are sparse, a line through three of them
 * lies above a curve that bends, and a law fitted to such lines is off by more than its errors. */
#ifndef DLM_LAW_HORIZONS_H
#define DLM_LAW_HORIZONS_H

#include "law/study.h"

enum { DLM_HORIZONS_SPARED = 4 };

struct dlm_horizons {
    struct dlm_group group;   /* runs and points are those below; its name and theirs are borrowed */
    struct dlm_run *runs;     /* owned */
    struct dlm_point *points; /* owned; of smoothed ones se, unique_tokens and joules hold what the nearest row says */
};

/* `most` at least 2. */
int dlm_horizons_fill(struct dlm_horizons *h, const struct dlm_group *g, size_t most, struct dlm_error *err);
void dlm_horizons_release(struct dlm_horizons *h);

#endif
