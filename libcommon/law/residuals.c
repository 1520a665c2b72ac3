/* Errors of runs; see residuals.h. */
#include "law/residuals.h"

#include <math.h>
#include <stdlib.h>

enum { KNOWN = 200 }; /* free residuals from which on the factor is 1 */

int dlm_residuals_init(struct dlm_residuals *r, size_t most, size_t levels, struct dlm_error *err)
{
    *r = (struct dlm_residuals){.levels = levels};
    if (most + 1 <= (size_t)-1 / sizeof *r->at / (levels + 1))
        r->at = malloc((most + 1) * (levels + 1) * sizeof *r->at); /* one more: the row that is being filled */
    return r->at ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
}

void dlm_residuals_release(struct dlm_residuals *r)
{
    free(r->at);
    *r = (struct dlm_residuals){0};
}

double *dlm_residuals_next(struct dlm_residuals *r)
{
    double *row = r->at + r->n * r->levels;
    for (size_t l = 0; l < r->levels; l++)
        row[l] = NAN;
    return row;
}

void dlm_residuals_add(struct dlm_residuals *r)
{
    double *row = r->at + r->n * r->levels, sum = 0;
    size_t n = 0;
    for (size_t l = 0; l < r->levels; l++)
        if (isfinite(row[l])) {
            sum += row[l];
            n++;
        }
    for (size_t l = 0; l < r->levels && n; l++)
        if (!isfinite(row[l]))
            row[l] = sum / (double)n;
    r->n += n > 0;
}

double dlm_residuals_factor(const struct dlm_residuals *r, struct dlm_rng *rng)
{
    double square = 0;
    if (!r->freedom || r->freedom > KNOWN)
        return 1;
    for (size_t i = 0; i < r->freedom; i++) {
        const double z = dlm_rng_normal(rng);
        square += z * z;
    }
    return sqrt((double)r->freedom / square);
}

size_t dlm_residuals_pick(const struct dlm_residuals *r, struct dlm_rng *rng) { return (size_t)dlm_rng_below(rng, 2 * r->n); }

double dlm_residuals_at(const struct dlm_residuals *r, size_t pick, size_t level)
{
    const double e = r->at[pick / 2 * r->levels + level];
    return pick & 1 ? -e : e;
}
