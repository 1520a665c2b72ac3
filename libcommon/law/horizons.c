/* A group's points thinned; see horizons.h. */
#include "law/horizons.h"

#include "law/smooth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void thin_run(const struct dlm_run *r, struct dlm_run *to, size_t most, double *lx, double *ly)
{
    for (size_t k = 0; k < r->n; k++) {
        lx[k] = log(r->points[k].x);
        ly[k] = log(r->points[k].y);
    }
    to->n = most;
    for (size_t k = 0, near = 0; k < most; k++) {
        const double l = lx[0] + (lx[r->n - 1] - lx[0]) * (double)k / (double)(most - 1);
        while (near + 1 < r->n && fabs(lx[near + 1] - l) <= fabs(lx[near] - l))
            near++;
        struct dlm_point *p = &to->points[k];
        *p = r->points[near];
        const double part = exp(l - lx[near]); /* compute and tokens grow together */
        p->x = exp(l);
        p->y = exp(dlm_smooth_at(lx, ly, r->n, l, NULL, NULL));
        p->flops *= part;
        p->tokens *= part;
        p->unique_tokens = fmin(p->unique_tokens, p->tokens); /* NAN stays: the row may lie a little beyond */
        if (isnan(r->points[near].unique_tokens))
            p->unique_tokens = NAN;
    }
}

int dlm_horizons_fill(struct dlm_horizons *h, const struct dlm_group *g, size_t most, struct dlm_error *err)
{
    size_t total = 0, longest = 0, at = 0;
    for (size_t i = 0; i < g->n; i++) {
        total += g->runs[i].n > DLM_HORIZONS_SPARED * most ? most : g->runs[i].n;
        longest = g->runs[i].n > longest ? g->runs[i].n : longest;
    }
    double *lx = malloc((longest + 1) * sizeof *lx), *ly = malloc((longest + 1) * sizeof *ly);
    *h = (struct dlm_horizons){.runs = malloc((g->n + 1) * sizeof *h->runs), .points = malloc((total + 1) * sizeof *h->points)};
    int rc = lx && ly && h->runs && h->points ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n && !rc; i++) {
        const struct dlm_run *r = &g->runs[i];
        struct dlm_run *to = &h->runs[i];
        *to = *r;
        to->points = h->points + at;
        if (r->n > DLM_HORIZONS_SPARED * most)
            thin_run(r, to, most, lx, ly);
        else
            memcpy(to->points, r->points, r->n * sizeof *r->points);
        at += to->n;
    }
    h->group = *g;
    h->group.runs = h->runs;
    h->group.n_points = total;
    free(lx);
    free(ly);
    if (rc)
        dlm_horizons_release(h);
    return rc;
}

void dlm_horizons_release(struct dlm_horizons *h)
{
    free(h->runs);
    free(h->points);
    *h = (struct dlm_horizons){0};
}
