/* Bootstrap intervals: runs are drawn again with replacement, the points follow, the fit is repeated (method.md §7).
 *
 * Resample i of a group is a pure function of (seed, group, i), so neither the number of threads nor the other groups change it,
 * and different quantities of one group see the same runs. A resample with fewer distinct runs than parameters is drawn again.
 * Where runs are too few for that (under five, or no more than parameters), points are moved by their standard errors instead:
 * such intervals hold the error of measurement only.
 *
 * Three kinds of intervals. `percentile`: quantiles of the resamples. `student`: as wide as those, but about the estimate, and
 * widened by Student's t over the normal z, for runs less parameters degrees of freedom; in logs where all resamples are
 * positive. `bca`: bias-corrected and accelerated (Efron 1987), the
 * quantiles at Φ(z0 + (z0 ± z)/(1 - a(z0 ± z))), z0 from the share of resamples below the estimate, the acceleration
 * a = Σd³/(6(Σd²)^1.5) from the jackknife over runs, d the mean of the estimates that each leave runs out, less each of them. With
 * more than DLM_JACKKNIFE_MAX runs blocks of them are left out (a is the same to first order). Where a tenth of the resamples or more
 * give the estimate again, as a minimum over few runs does, there is nothing to correct by, and the interval is the percentiles'.
 * Where the estimate stands at an end of its interval all the same there is none: what was drawn does not tell that side.
 *
 * The standard error is the resamples' standard deviation, where it means something: not without an interval, nor where it is more
 * than twice that of normal errors with the same limits, since then a few resamples far beyond them make it.
 */
#ifndef DLM_LAW_BOOTSTRAP_H
#define DLM_LAW_BOOTSTRAP_H

#include "base/error.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dlm_interval_kind { DLM_INTERVAL_PERCENTILE, DLM_INTERVAL_BCA, DLM_INTERVAL_STUDENT };

enum { DLM_JACKKNIFE_MAX = 200 };

struct dlm_bootstrap {
    uint64_t n, seed; /* resamples (0: none) */
    double level;     /* of the interval: 0.95 */
    int threads;
    void (*tick)(void *ctx, uint64_t done); /* from one thread, between blocks of resamples; may be NULL */
    void *tick_ctx;
    enum dlm_interval_kind kind; /* of dlm_draws_interval; dlm_bootstrap_interval knows percentiles only */
    bool asked;                  /* kind was asked for: no analysis takes another that holds better */
};

/* The same with percentiles: where no runs are drawn but residuals or sets, there are none to leave out. Or with the kind that
 * holds better in an analysis, unless one was asked for. */
struct dlm_bootstrap dlm_bootstrap_percentiles(const struct dlm_bootstrap *b);
struct dlm_bootstrap dlm_bootstrap_rather(const struct dlm_bootstrap *b, enum dlm_interval_kind kind);

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

/* Percentile interval of column `at` of `draws` (n, width); all NAN where fewer than half of the rows are there. */
struct dlm_interval {
    double lo, hi, se; /* NAN: not told, see above */
};
int dlm_bootstrap_interval(const struct dlm_bootstrap *b, const double *draws, size_t width, size_t at, struct dlm_interval *out,
                           struct dlm_error *err);

/* As draw, with runs [first, last) left out and every other run once, for the jackknife. False: cannot be. */
typedef bool dlm_leave_out(void *ctx, size_t first, size_t last, void *scratch, double *out);

/* Everything that intervals of one fit are made of: its resamples, and for `bca` the estimate and the jackknife. Read-only once
 * filled; threads may share it. */
struct dlm_draws {
    size_t n, width, good;    /* resamples, numbers of each, resamples that came to something */
    double *at;               /* (n, width) */
    size_t n_left;            /* rows of the jackknife */
    double *left;             /* (n_left, width) */
    double *estimate;         /* (width) */
    size_t freedom;           /* runs less parameters, for `student`; 0: many */
};

/* Student's t of this probability, 0.5 ≤ p < 1. */
double dlm_student_quantile(double p, size_t freedom);

/* Resample, and leave runs out where the kind of interval asks for it (`leave_out` NULL: no acceleration). `estimate` (width) is
 * copied. Released where it fails. */
int dlm_draws_fill(struct dlm_draws *d, const struct dlm_bootstrap *b, const struct dlm_resampler *r, dlm_leave_out *leave_out,
                   const char *group, size_t runs, const double *estimate, struct dlm_error *err);
void dlm_draws_release(struct dlm_draws *d);

/* The interval of column `at`, of the kind that b asks for. */
int dlm_draws_interval(const struct dlm_bootstrap *b, const struct dlm_draws *d, size_t at, struct dlm_interval *out,
                       struct dlm_error *err);
/* The intervals of n quantities f(ctx, row, i) of a resample's numbers, such as the law's value at x_i; threads share f and ctx. */
int dlm_draws_intervals_of(const struct dlm_bootstrap *b, const struct dlm_draws *d,
                           double (*f)(const void *ctx, const double *row, size_t i), const void *ctx, size_t n,
                           struct dlm_interval *out, struct dlm_error *err);

/* How many of n runs each was drawn: counts (n); the number of distinct runs. */
size_t dlm_bootstrap_pick(struct dlm_rng *rng, size_t n, uint32_t *counts);

/* Resampling runs can tell something: at least five runs, and more than parameters. */
bool dlm_bootstrap_by_run(size_t runs, int parameters);

#endif
