/* The profile of one budget; see profile.h. */
#include "law/profile.h"

#include <math.h>
#include <stdlib.h>

/* Sizes written in two ways are the same to this. */
static const double same = 1e-6;

const char *const dlm_profile_names[DLM_ISOFLOP_VALUES] = {"params", "tokens", "flops_tok", "loss"};

static int order_size(const void *a, const void *b)
{
    const struct dlm_profile_size *x = a, *y = b;
    return x->m != y->m ? (x->m < y->m ? -1 : 1) : x->ly < y->ly ? -1 : x->ly > y->ly;
}

size_t dlm_profile_sizes(const struct dlm_frontier *f, const uint32_t *counts, const double *value, size_t j,
                         struct dlm_profile_size *s)
{
    size_t n = 0, k = 0;
    for (size_t e = f->start[j]; e < f->start[j + 1]; e++)
        if (!counts || counts[f->run[e]]) {
            const struct dlm_run *run = &f->group->runs[f->run[e]];
            s[n++] = (struct dlm_profile_size){log(run->flops_tok), log(run->params), value[e]};
        }
    qsort(s, n, sizeof *s, order_size);
    for (size_t i = 0; i < n; i++)
        if (!k || s[i].m - s[k - 1].m > same)
            s[k++] = s[i];
    return k;
}

void dlm_profile_values(const struct dlm_profile_size *s, size_t n, double c, double m, double ly, double *out)
{
    size_t i = 1;
    while (i + 1 < n && s[i].m < m)
        i++;
    out[DLM_ISOFLOP_PARAMS] = n < 2 ? s[0].p : s[i - 1].p + (s[i].p - s[i - 1].p) * (m - s[i - 1].m) / (s[i].m - s[i - 1].m);
    out[DLM_ISOFLOP_TOKENS] = c - m;
    out[DLM_ISOFLOP_SIZE] = m;
    out[DLM_ISOFLOP_LOSS] = ly;
}

bool dlm_profile_parabola(const struct dlm_profile_size *s, size_t n, double *x, double *y, struct dlm_parabola *p, bool *inside)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = s[i].m;
        y[i] = s[i].ly;
    }
    if (n < 3 || !dlm_parabola_fit(p, x, y, NULL, n))
        return false;
    *inside = p->x >= x[0] && p->x <= x[n - 1];
    return true;
}
