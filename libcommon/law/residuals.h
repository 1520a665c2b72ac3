/* Errors of runs, for intervals where runs cannot be drawn again: the values of a grid were chosen (optimum.h, isoloss.h), or few
 * runs are the lowest of a frontier (estimate.h), and a resample without them would be another study.
 *
 * What a fit left of each run, at all its levels, is one error. In a resample every run gets the error of a run drawn at random,
 * with a random sign, and all are multiplied by √(f/χ²(f)): with f residuals free, the size of the errors is itself known only as
 * well as that, and of normal errors the quantiles then are Student's. With the few runs of a study this is what intervals need to
 * hold as often as they say: with f = 3 they are 1.6 times as wide as those of a size that is known.
 * Fill once; then threads share it.
 */
#ifndef DLM_LAW_RESIDUALS_H
#define DLM_LAW_RESIDUALS_H

#include "base/error.h"
#include "base/rng.h"

#include <stddef.h>

struct dlm_residuals {
    size_t n, levels; /* errors */
    size_t freedom;   /* f; the caller counts them */
    double *at;       /* (n, levels) */
};

/* Room for `most` errors of `levels` values. */
int dlm_residuals_init(struct dlm_residuals *r, size_t most, size_t levels, struct dlm_error *err);
void dlm_residuals_release(struct dlm_residuals *r);

/* Fill the row of the next error, NAN where the run has none; then add it: a row without any is dropped, and where single levels
 * lack one it holds the mean of the others. Residuals of a fit of p terms to n runs are to be widened by √(n/(n - p)). */
double *dlm_residuals_next(struct dlm_residuals *r);
void dlm_residuals_add(struct dlm_residuals *r);

/* For a resample: √(f/χ²). For a run in it: which error, and its sign. Then its value at a level. */
double dlm_residuals_factor(const struct dlm_residuals *r, struct dlm_rng *rng);
size_t dlm_residuals_pick(const struct dlm_residuals *r, struct dlm_rng *rng);
double dlm_residuals_at(const struct dlm_residuals *r, size_t pick, size_t level);

#endif
