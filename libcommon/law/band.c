/* The band of a law; see band.h. */
#include "law/band.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { INNER_MAX = 201, BEYOND = 8 };

struct places {
    const struct dlm_band *b;
    double x[INNER_MAX + BEYOND];
};

static double at_place(const void *ctx, const double *row, size_t i)
{
    const struct places *p = ctx;
    return p->b->at(p->b->ctx, row, p->x[i]);
}

int dlm_band_add(const struct dlm_band *b, double low, double high, struct dlm_laws *bands, struct dlm_error *err)
{
    char law[64], term[INNER_MAX + BEYOND][32];
    struct dlm_interval in[INNER_MAX + BEYOND];
    struct places places = {.b = b};
    const int inner = (int)fmin(ceil(4 * log10(high / low)), INNER_MAX - 1) + 1, n = inner + BEYOND;
    snprintf(law, sizeof law, "%s.band", b->law);
    for (int i = 0; i < n; i++) { /* about four a decade within the data, two beyond */
        const double part = inner > 1 ? fmin((double)i / (inner - 1), 1) : 1;
        snprintf(term[i], sizeof *term, "%.9g", low * pow(high / low, part) * pow(10, i < inner ? 0 : 0.5 * (i - inner + 1)));
        places.x[i] = strtod(term[i], NULL);
    }
    int rc = dlm_draws_intervals_of(b->bootstrap, b->draws, at_place, &places, (size_t)n, in, err);
    for (int i = 0; i < n && !rc; i++)
        if (isfinite(in[i].lo))
            rc = dlm_laws_add(bands,
                              &(struct dlm_law_row){.law = law,
                                                    .group = (char *)b->group,
                                                    .term = term[i],
                                                    .y = (char *)b->y,
                                                    .x = (char *)b->x,
                                                    .by = (char *)b->by,
                                                    .value = b->at(b->ctx, NULL, places.x[i]),
                                                    .lo = in[i].lo,
                                                    .hi = in[i].hi,
                                                    .se = in[i].se,
                                                    .n = NAN,
                                                    .r2 = NAN,
                                                    .objective = NAN},
                              err);
    return rc;
}
