/* The paper's choice of points; see filter.h. */
#include "law/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool wanted(const struct dlm_point *p, double seq_len)
{
    const double steps = p->tokens / p->batch_tok;
    return p->flops >= 5e17 && p->flops <= 2e20 && steps > 5000 && steps <= 80000 && p->y < 4 && p->batch_tok / seq_len < 1024;
}

static void release_run(const struct dlm_study *s, struct dlm_run *r)
{
    for (size_t k = 0; k < s->n_kept && r->kept; k++)
        free(r->kept[k]);
    free(r->kept);
    free(r->name);
}

int dlm_filter_paper(struct dlm_study *s, struct dlm_notes *notes, struct dlm_error *err)
{
    size_t column = 0, left = 0, runs = 0, groups = 0;
    const size_t had = s->n_points;
    while (column < s->n_kept && strcmp(s->kept[column], "seq_len"))
        column++;
    for (size_t i = 0; i < s->n_runs; i++) {
        const char *text = column < s->n_kept ? s->runs[i].kept[column] : NULL;
        if (!text || !(strtod(text, NULL) > 0))
            return dlm_fail(err, DLM_EDATA, "--paper-filter counts batches in sequences: run '%s' has no one seq_len",
                            s->runs[i].name);
    }
    for (size_t g = 0; g < s->n; g++) {
        struct dlm_group group = s->groups[g];
        struct dlm_run *first = &s->runs[runs];
        size_t n = 0, points = 0;
        for (size_t i = 0; i < group.n; i++) {
            struct dlm_run run = group.runs[i];
            const double seq_len = strtod(run.kept[column], NULL);
            struct dlm_point *to = &s->points[left];
            size_t k = 0;
            for (size_t j = 0; j < run.n; j++) /* never before the place it is read from */
                if (wanted(&run.points[j], seq_len))
                    to[k++] = run.points[j];
            if (!k) {
                s->n_val -= run.on_val;
                s->n_train -= !run.on_val;
                release_run(s, &run);
                continue;
            }
            run.points = to;
            run.n = k;
            first[n++] = run;
            left += k;
            points += k;
        }
        runs += n;
        if (!n) {
            free(group.name);
            continue;
        }
        s->groups[groups++] = (struct dlm_group){group.name, first, n, points};
    }
    s->n = groups;
    s->n_runs = runs;
    s->n_points = left;
    if (!left)
        return dlm_fail(err, DLM_EDATA,
                        "no point passes --paper-filter: 5e17 to 2e20 FLOPs, more than 5,000 and up to 80,000 "
                        "steps, loss below 4, batch below 1024 sequences");
    return dlm_notes_add(notes, err, "--paper-filter keeps %zu of %zu points", left, had);
}
