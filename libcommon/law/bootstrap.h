/* Bootstrap intervals: runs are drawn again with replacement, the points follow, the fit is repeated (method.md §7).
 *
 * Resample i of a group is a pure function of (seed, group, i), so neither the number of threads nor the other groups change it,
 * and different quantities of one group see the same runs. A resample with fewer distinct runs than parameters is drawn again.
 * Where runs are too few for that (under five, or no more than parameters), points are moved by their standard errors instead:
 * such intervals hold the error of measurement only. Intervals are percentiles.
 */
#ifndef DLM_LAW_BOOTSTRAP_H
#define DLM_LAW_BOOTSTRAP_H

#include "base/error.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_bootstrap {
    uint64_t n, seed; /* resamples (0: none) */
    double level;     /* of the interval: 0.95 */
    int threads;
    void (*tick)(void *ctx, uint64_t done); /* from one thread, between blocks of resamples; may be NULL */
    void *tick_ctx;
};

/* One resample: write `width` numbers for it to `out`, using `scratch` (thread's own, `scratch_size` bytes). False: cannot be,
 * draw again. */
struct dlm_resampler {
    bool (*draw)(void *ctx, struct dlm_rng *rng, void *scratch, double *out);
    void *ctx; /* read only while drawing */
    size_t scratch_size, width;
};

/* Fill `draws` (n, width), rows that came to nothing with NAN; *good is how many did not. */
int dlm_bootstrap_run(const struct dlm_bootstrap *b, const struct dlm_resampler *r, const char *group, double *draws,
                      size_t *good, struct dlm_error *err);

/* Percentile interval and standard deviation of column `at` of `draws` (n, width); all NAN where fewer than half of the rows are
 * there. */
struct dlm_interval {
    double lo, hi, se;
};
int dlm_bootstrap_interval(const struct dlm_bootstrap *b, const double *draws, size_t width, size_t at, struct dlm_interval *out,
                           struct dlm_error *err);

/* How many of n runs each was drawn: counts (n); the number of distinct runs. */
size_t dlm_bootstrap_pick(struct dlm_rng *rng, size_t n, uint32_t *counts);

/* Resampling runs can tell something: at least five runs, and more than parameters. */
bool dlm_bootstrap_by_run(size_t runs, int parameters);

#endif
