/* The bias of iso-FLOP parabolas; see gridbias.h. */
#include "law/gridbias.h"

#include "law/fit.h"
#include "law/horizons.h"
#include "law/parabola.h"

#include <math.h>
#include <stdlib.h>

enum { HORIZONS = 20 };

int dlm_gridbias_surface(const struct dlm_group *g, double huber, double *value, struct dlm_error *err)
{
    struct dlm_horizons h;
    int rc = dlm_horizons_fill(&h, g, HORIZONS, err);
    if (rc)
        return rc;
    const size_t n = h.group.n_points;
    double *room = malloc((4 * n + 1) * sizeof *room);
    struct dlm_sample s = {.n = n, .lx = {room, room + n}, .ly = room + 2 * n, .w = room + 3 * n};
    struct dlm_minima minima;
    struct dlm_fit fit;
    if (!room)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        s.lx[0][i] = log(h.points[i].flops_tok);
        s.lx[1][i] = log(h.points[i].tokens);
        s.ly[i] = log(h.points[i].y);
        s.w[i] = 1;
    }
    if (!rc)
        rc = dlm_fit_points(&dlm_form_surface, &s, huber, &minima, &fit, err);
    for (int i = 0; i < 5 && !rc; i++)
        value[i] = fit.value[i];
    if (!rc && (fit.degenerate || fit.at_bound[2] || fit.at_bound[4] || !(value[1] > 0) || !(value[3] > 0)))
        rc = dlm_fail(err, DLM_EDATA, "the points do not tell the terms of a surface apart");
    free(room);
    dlm_horizons_release(&h);
    return rc;
}

double dlm_gridbias_size(const double *v, double c)
{
    return exp((log(v[2] * v[1] / (v[4] * v[3])) + v[4] * log(c)) / (v[2] + v[4]));
}

double dlm_gridbias_at(const double *v, const double *lm, double *ly, size_t n, double c)
{
    struct dlm_parabola p;
    for (size_t i = 0; i < n; i++)
        ly[i] = log(dlm_form_at(&dlm_form_surface, v, exp(lm[i]), c / exp(lm[i])));
    if (!dlm_parabola_fit(&p, lm, ly, NULL, n))
        return NAN;
    const double best = log(dlm_gridbias_size(v, c)), far = log(10);
    return best > lm[0] - far && best < lm[n - 1] + far && p.x > lm[0] - far && p.x < lm[n - 1] + far ? exp(p.x - best) : NAN;
}
