/* The rows that an analysis can use; see subset.h. */
#include "law/subset.h"

#include <stdlib.h>

void dlm_subset_release(struct dlm_study *o)
{
    free(o->groups);
    free(o->runs);
    free(o->points);
}

int dlm_subset_take(const struct dlm_study *s, unsigned need, struct dlm_study *o, struct dlm_error *err)
{
    *o = *s;
    o->n = o->n_runs = o->n_points = 0;
    o->groups = calloc(s->n + 1, sizeof *o->groups);
    o->runs = calloc(s->n_runs + 1, sizeof *o->runs);
    o->points = malloc((s->n_points + 1) * sizeof *o->points);
    if (!o->groups || !o->runs || !o->points)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    const char *lacks = NULL;
    for (size_t g = 0; g < s->n; g++) {
        struct dlm_group *og = &o->groups[o->n];
        *og = (struct dlm_group){s->groups[g].name, &o->runs[o->n_runs], 0, 0};
        for (size_t i = 0; i < s->groups[g].n; i++) {
            const struct dlm_run *from = &s->groups[g].runs[i];
            struct dlm_run *to = &o->runs[o->n_runs];
            if (from->points[from->n - 1].marked && !(need & DLM_ANNEALED))
                continue;
            *to = *from;
            to->points = &o->points[o->n_points];
            to->n = 0;
            for (size_t k = 0; k < from->n; k++) {
                struct dlm_point p = from->points[k];
                const char *bad = (need & (DLM_NEED_SIZES | DLM_BY_TOKENS)) && !(p.tokens > 0) ? "tokens"
                                  : (need & DLM_NEED_SIZES) && !(p.flops_tok > 0)              ? "flops_tok"
                                  : (need & DLM_NEED_PARAMS) && !(p.params > 0)                ? "params"
                                  : (need & DLM_NEED_BATCH) && !(p.batch_tok > 0)              ? "batch_tok"
                                  : (need & DLM_NEED_LR) && !(p.lr > 0)                        ? "lr"
                                  : (need & DLM_NEED_UNIQUE) && !(p.unique_tokens > 0)         ? "unique_tokens"
                                                                                               : NULL;
                if (bad) {
                    lacks = bad;
                    continue;
                }
                if (need & DLM_BY_TOKENS)
                    p.x = p.tokens;
                to->points[to->n++] = p;
            }
            if (!to->n)
                continue;
            o->n_points += to->n;
            og->n_points += to->n;
            og->n++;
            o->n_runs++;
        }
        o->n += og->n > 0;
    }
    return o->n ? 0 : dlm_fail(err, DLM_EDATA, "no row has %s", lacks ? lacks : "what is needed");
}

struct dlm_study dlm_subset_group(const struct dlm_study *s, size_t g)
{
    struct dlm_study one = *s;
    one.groups = &s->groups[g];
    one.n = 1;
    return one;
}
