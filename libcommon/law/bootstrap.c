/* Bootstrap intervals; see bootstrap.h. */
#include "law/bootstrap.h"

#include "base/stop.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, TRIES = 1000 };

static uint64_t hash_text(const char *s)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3;
    return h ^ h >> 32;
}

int dlm_bootstrap_run(const struct dlm_bootstrap *b, const struct dlm_resampler *r, const char *group, double *draws,
                      size_t *good, struct dlm_error *err)
{
    const uint64_t key = hash_text(group) << 32; /* the item of Philox: group above, resample below */
    const int threads = b->threads > 0 ? b->threads : 1;
    const size_t stride = (r->scratch_size + 127) / 64 * 64; /* threads do not share cache lines */
    char *scratch = malloc(stride * (size_t)threads);
    *good = 0;
    if (!scratch)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (uint64_t block = 0; block < b->n; block += BLOCK) {
        const int64_t end = (int64_t)(b->n - block < BLOCK ? b->n - block : BLOCK);
#pragma omp parallel num_threads(threads)
        {
            char *own = scratch + stride * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 8)
            for (int64_t i = 0; i < end; i++) {
                double *out = draws + (block + (uint64_t)i) * r->width;
                struct dlm_rng rng;
                dlm_rng_init(&rng, b->seed, key | (block + (uint64_t)i), DLM_RNG_BOOTSTRAP);
                bool done = false;
                for (int t = 0; t < TRIES && !done; t++)
                    done = r->draw(r->ctx, &rng, own, out);
                for (size_t k = 0; k < r->width && !done; k++)
                    out[k] = NAN;
            }
        }
        if (b->tick)
            b->tick(b->tick_ctx, block + (uint64_t)end);
        if (dlm_stop_signal()) {
            free(scratch);
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        }
    }
    free(scratch);
    for (uint64_t i = 0; i < b->n; i++)
        *good += !isnan(draws[i * r->width]);
    return 0;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Linear between order statistics. */
static double quantile(const double *sorted, size_t n, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

int dlm_bootstrap_interval(const struct dlm_bootstrap *b, const double *draws, size_t width, size_t at, struct dlm_interval *out,
                           struct dlm_error *err)
{
    *out = (struct dlm_interval){NAN, NAN, NAN};
    if (b->n < 2)
        return 0;
    double *v = malloc(b->n * sizeof *v);
    if (!v)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    size_t n = 0;
    double mean = 0, square = 0;
    for (uint64_t i = 0; i < b->n; i++)
        if (isfinite(draws[i * width + at]))
            v[n++] = draws[i * width + at];
    if (n >= 2 && 2 * n >= b->n) {
        qsort(v, n, sizeof *v, order);
        for (size_t i = 0; i < n; i++)
            mean += v[i] / (double)n;
        for (size_t i = 0; i < n; i++)
            square += (v[i] - mean) * (v[i] - mean);
        *out = (struct dlm_interval){quantile(v, n, 0.5 * (1 - b->level)), quantile(v, n, 0.5 * (1 + b->level)),
                                     sqrt(square / (double)(n - 1))};
    }
    free(v);
    return 0;
}

size_t dlm_bootstrap_pick(struct dlm_rng *rng, size_t n, uint32_t *counts)
{
    size_t distinct = 0;
    memset(counts, 0, n * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        distinct += !counts[dlm_rng_below(rng, n)]++;
    return distinct;
}

bool dlm_bootstrap_by_run(size_t runs, int parameters)
{
    return runs >= 5 && runs > (size_t)parameters;
}
