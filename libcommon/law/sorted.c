/* Runs and numbers in order; see sorted.h. */
#include "law/sorted.h"

#include <math.h>
#include <stdlib.h>

static int order_curves(const void *pa, const void *pb)
{
    const struct dlm_sorted_curve *a = pa, *b = pb;
    if (fabs(a->size - b->size) > DLM_SAME)
        return a->size < b->size ? -1 : 1;
    if (fabs(a->batch - b->batch) > DLM_SAME)
        return a->batch < b->batch ? -1 : 1;
    if (fabs(a->rate - b->rate) > DLM_SAME)
        return a->rate < b->rate ? -1 : 1;
    return a->curve < b->curve ? -1 : a->curve > b->curve;
}

int dlm_sorted_fill(struct dlm_sorted *s, const struct dlm_group *g, enum dlm_smooth smooth, struct dlm_error *err)
{
    *s = (struct dlm_sorted){.at = malloc(g->n * sizeof *s->at), .curves = calloc(g->n, sizeof *s->curves)};
    int rc = s->at && s->curves ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n && !rc; i++) {
        const struct dlm_run *r = &g->runs[i];
        struct dlm_curve *c = &s->curves[s->n];
        rc = dlm_curve_init(c, r, smooth, err);
        if (!rc)
            s->at[s->n++] = (struct dlm_sorted_curve){log(r->flops_tok), log(r->batch_tok), r->lr > 0 ? log(r->lr) : 0, c};
        else if (rc == DLM_EDATA) /* too short for a power curve */
            rc = 0;
    }
    if (rc)
        dlm_sorted_release(s);
    else
        qsort(s->at, s->n, sizeof *s->at, order_curves);
    return rc;
}

void dlm_sorted_release(struct dlm_sorted *s)
{
    for (size_t i = 0; i < s->n; i++)
        dlm_curve_release(&s->curves[i]);
    free(s->curves);
    free(s->at);
    *s = (struct dlm_sorted){0};
}

int dlm_order_rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int dlm_order_falling(const void *a, const void *b)
{
    return dlm_order_rising(b, a);
}
