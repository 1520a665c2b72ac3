/* A power law and its rows; see powerlaw.h. */
#include "law/powerlaw.h"

#include <math.h>
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

static int add_band(const struct dlm_powerlaw *p, double low, double high, struct dlm_laws *bands, struct dlm_error *err)
{
    const uint64_t n = p->bootstrap->n;
    double *v = malloc((n + 1) * sizeof *v);
    int rc = v ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    const int inner = (int)fmin(ceil(4 * log10(high / low)), 200) + 1;
    for (int i = 0; i < inner + 8 && !rc; i++) { /* about four a decade within the data, two beyond */
        char term[32];
        struct dlm_interval in;
        const double part = inner > 1 ? fmin((double)i / (inner - 1), 1) : 1;
        snprintf(term, sizeof term, "%.9g", low * pow(high / low, part) * pow(10, i < inner ? 0 : 0.5 * (i - inner + 1)));
        const double x = strtod(term, NULL);
        for (uint64_t k = 0; k < n; k++)
            v[k] = p->draws[k * p->stride] * pow(x, p->draws[k * p->stride + 1]);
        rc = dlm_bootstrap_interval(p->bootstrap, v, 1, 0, &in, err);
        if (!rc && isfinite(in.lo))
            rc = add(bands, p, "power.band", term, dlm_form_at(&dlm_form_power, p->fit->value, x, 1), &in, false, err);
    }
    free(v);
    return rc;
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
            rc = dlm_bootstrap_interval(p->bootstrap, p->draws, p->stride, (size_t)i, &in[i], err);
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
        rc = add_band(p, low, high, bands, err);
    const double k = p->fit->value[1];
    if (!rc && in[1].lo < 0 && in[1].hi > 0)
        rc = dlm_notes_add(notes, err,
                           "%s: %s against %s: the exponent is not determined by these runs: %.3g, from %.3g to %.3g", p->group,
                           p->y, p->x, k, in[1].lo, in[1].hi);
    else if (!rc && in[1].hi - in[1].lo > fabs(k))
        rc = dlm_notes_add(notes, err, "%s: %s against %s: the exponent is weakly determined: %.3g, from %.3g to %.3g",
                           p->group, p->y, p->x, k, in[1].lo, in[1].hi);
    return rc;
}

int dlm_powerlaw_append(struct dlm_laws *laws, struct dlm_laws *bands, int rc, struct dlm_error *err)
{
    for (size_t i = 0; i < bands->n && !rc; i++)
        rc = dlm_laws_add(laws, &bands->at[i], err);
    dlm_laws_release(bands);
    return rc;
}
