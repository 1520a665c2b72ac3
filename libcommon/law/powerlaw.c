/* A power law and its rows; see powerlaw.h. */
#include "law/powerlaw.h"

#include "law/band.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int add(struct dlm_laws *to, const struct dlm_powerlaw *p, const char *law, const char *term, double value,
               const struct dlm_interval *in, bool whole, struct dlm_error *err)
{
    return dlm_laws_add(to,
                        &(struct dlm_law_row){.law = (char *)law,
                                              .group = (char *)p->group,
                                              .term = (char *)term,
                                              .y = (char *)p->y,
                                              .x = (char *)p->x,
                                              .by = (char *)p->by,
                                              .value = value,
                                              .lo = in->lo,
                                              .hi = in->hi,
                                              .se = in->se,
                                              .n = whole ? (double)p->sample->n : NAN,
                                              .r2 = whole ? p->fit->r2 : NAN,
                                              .objective = whole ? p->fit->objective : NAN},
                        err);
}

static double value_at(const void *ctx, const double *row, double x)
{
    const struct dlm_powerlaw *p = ctx;
    const double *v = row ? row + p->at : p->fit->value;
    return v[0] * pow(x, v[1]);
}

int dlm_powerlaw_rows(const struct dlm_powerlaw *p, struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes,
                      struct dlm_error *err)
{
    const struct dlm_interval none = {NAN, NAN, NAN};
    struct dlm_interval in[2] = {none, none};
    double low = INFINITY, high = 0;
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) {
        if (p->draws)
            rc = dlm_draws_interval(p->bootstrap, p->draws, p->at + (size_t)i, &in[i], err);
        if (!rc)
            rc = add(laws, p, "power", dlm_form_power.term[i], p->fit->value[i], &in[i], true, err);
    }
    for (size_t i = 0; i < p->sample->n; i++) {
        low = fmin(low, exp(p->sample->lx[0][i]));
        high = fmax(high, exp(p->sample->lx[0][i]));
    }
    if (!rc)
        rc = add(laws, p, "power", "x_min", low, &none, false, err);
    if (!rc)
        rc = add(laws, p, "power", "x_max", high, &none, false, err);
    if (!rc && p->draws)
        rc = dlm_band_add(&(struct dlm_band){"power", p->group, p->y, p->x, p->by, p->bootstrap, p->draws, value_at, p}, low,
                          high, bands, err);
    const double k = p->fit->value[1];
    if (!rc && p->draws && isnan(in[1].lo))
        rc = dlm_notes_add(notes, err,
                           "%s: %s against %s: the exponent has no interval: resamples hardly ever fall to one side of it, as of a "
                           "minimum over runs that were chosen, not drawn",
                           p->group, p->y, p->x);
    if (!rc && in[1].lo < 0 && in[1].hi > 0)
        rc = dlm_notes_add(notes, err,
                           "%s: %s against %s: the exponent is not determined by these runs: %.3g, from %.3g to %.3g", p->group,
                           p->y, p->x, k, in[1].lo, in[1].hi);
    else if (!rc && in[1].hi - in[1].lo > fabs(k))
        rc = dlm_notes_add(notes, err, "%s: %s against %s: the exponent is weakly determined: %.3g, from %.3g to %.3g",
                           p->group, p->y, p->x, k, in[1].lo, in[1].hi);
    return rc;
}
