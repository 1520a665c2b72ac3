/* The band of a law: what it and its resamples say at places from the low end of its data up to 10^4 times the high end, as rows
 * whose law ends in `.band` (lawfile.h). */
#ifndef DLM_LAW_BAND_H
#define DLM_LAW_BAND_H

#include "law/bootstrap.h"
#include "law/lawfile.h"

struct dlm_band {
    const char *law, *group, *y, *x, *by;
    const struct dlm_bootstrap *bootstrap;
    const struct dlm_draws *draws;
    double (*at)(const void *ctx, const double *row, double x); /* what a resample says at x; row NULL: the law itself */
    const void *ctx;
};

int dlm_band_add(const struct dlm_band *b, double low, double high, struct dlm_laws *bands, struct dlm_error *err);

#endif
