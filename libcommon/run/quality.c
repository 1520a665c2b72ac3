/* Figures of sampled texts; see quality.h. N-grams are kept as 64-bit hashes: two of a million are taken for one with a chance of 3·10⁻⁸. */
#include "run/quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct dlm_grams {
    uint64_t *at; /* 0: free */
    size_t n, room;
};

static int remember(struct dlm_grams *g, uint64_t hash, struct dlm_error *err)
{
    hash += !hash;
    if (2 * (g->n + 1) > g->room) {
        size_t room = g->room ? 2 * g->room : 1024;
        uint64_t *at = calloc(room, sizeof *at);
        if (!at)
            return dlm_fail(err, DLM_ENOMEM, "no memory to count n-grams");
        for (size_t i = 0; i < g->room; i++)
            if (g->at[i]) {
                size_t k = g->at[i] & (room - 1);
                while (at[k])
                    k = (k + 1) & (room - 1);
                at[k] = g->at[i];
            }
        free(g->at);
        g->at = at;
        g->room = room;
    }
    size_t k = hash & (g->room - 1);
    while (g->at[k] && g->at[k] != hash)
        k = (k + 1) & (g->room - 1);
    g->n += !g->at[k];
    g->at[k] = hash;
    return 0;
}

static int order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Entropy of the text's own distribution: -Σ c/n·log(c/n). */
static int own_entropy(struct dlm_quality *q, const uint32_t *ids, size_t n, double *out, struct dlm_error *err)
{
    if (n > q->room) {
        uint32_t *more = realloc(q->sorted, n * sizeof *more);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "no memory for a text of %zu tokens", n);
        q->sorted = more;
        q->room = n;
    }
    memcpy(q->sorted, ids, n * sizeof *ids);
    qsort(q->sorted, n, sizeof *ids, order);
    *out = 0;
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && q->sorted[k] == q->sorted[i];)
            k++;
        double p = (double)(k - i) / (double)n;
        *out -= p * log(p);
    }
    return 0;
}

int dlm_quality_add(struct dlm_quality *q, const uint32_t *ids, size_t n, size_t before, struct dlm_error *err)
{
    q->texts++;
    if (n <= before)
        return 0;
    ids += before;
    n -= before;
    double entropy = 0;
    int rc = own_entropy(q, ids, n, &entropy, err);
    for (size_t g = 0; g < DLM_QUALITY_GRAMS && !rc; g++) {
        if (!q->seen[g] && !(q->seen[g] = calloc(1, sizeof *q->seen[g])))
            rc = dlm_fail(err, DLM_ENOMEM, "no memory to count n-grams");
        for (size_t i = 0; i + g < n && !rc; i++) {
            q->grams[g]++;
            rc = remember(q->seen[g], XXH3_64bits(ids + i, (g + 1) * sizeof *ids), err);
        }
    }
    if (rc)
        return rc;
    q->entropy += entropy;
    q->tokens += n;
    q->filled++;
    return 0;
}

void dlm_quality_release(struct dlm_quality *q)
{
    for (int g = 0; g < DLM_QUALITY_GRAMS; g++) {
        if (q->seen[g])
            free(q->seen[g]->at);
        free(q->seen[g]);
    }
    free(q->sorted);
    *q = (struct dlm_quality){0};
}

double dlm_quality_entropy(const struct dlm_quality *q)
{
    return q->filled ? q->entropy / (double)q->filled : NAN;
}

double dlm_quality_distinct(const struct dlm_quality *q, int n)
{
    return q->grams[n - 1] ? (double)q->seen[n - 1]->n / (double)q->grams[n - 1] : NAN;
}

void dlm_mean_nats_add(struct dlm_mean_nats *m, double nats, size_t tokens)
{
    const double n = (double)tokens;
    m->texts++;
    m->nats += nats;
    m->tokens += n;
    m->nats2 += nats * nats;
    m->tokens2 += n * n;
    m->both += nats * n;
}

double dlm_mean_nats_value(const struct dlm_mean_nats *m)
{
    return m->tokens > 0 ? m->nats / m->tokens : NAN;
}

double dlm_mean_nats_se(const struct dlm_mean_nats *m)
{
    const double r = dlm_mean_nats_value(m), k = (double)m->texts;
    if (m->texts < 2)
        return NAN;
    return sqrt(fmax(0, m->nats2 - 2 * r * m->both + r * r * m->tokens2) * k / (k - 1)) / m->tokens;
}
