/* Choosing by a histogram.
 *
 * Each document has a random number; a source gives those whose numbers are smallest. Where the line runs is found without holding the
 * documents: their tokens are summed in bins of the number. Bins below the line are taken whole and bins above are not; in the one bin
 * that the line cuts, documents are taken as they come while they fit. There alone the choice follows the order: of at most one document
 * in BINS.
 */
#include "token/mix.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { BIN_BITS = 14, BINS = 1 << BIN_BITS, POSITION = 2 /* 0 and 1 order the documents, see token/pack.c */ };

struct part {
    struct dlm_mix_share share;
    uint64_t *bins; /* (BINS) tokens */
    uint32_t line;  /* the bin that is cut */
    uint64_t left;  /* tokens still to be taken from it */
};

struct dlm_mix {
    uint64_t seed;
    size_t n;
    struct part *parts; /* (n, 2) */
};

int dlm_mix_new(struct dlm_mix **out, const double *weights, size_t n, uint64_t seed, struct dlm_error *err)
{
    struct dlm_mix *m = calloc(1, sizeof *m);
    double sum = 0;
    *out = NULL;
    for (size_t i = 0; i < n; i++) {
        assert(weights[i] > 0);
        sum += weights[i];
    }
    if (m) {
        m->seed = seed;
        m->parts = calloc(n ? n : 1, 2 * sizeof *m->parts);
    }
    if (!m || !m->parts) {
        dlm_mix_free(m);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    m->n = n;
    for (size_t i = 0; i < 2 * n; i++) {
        m->parts[i].share.weight = weights[i / 2] / sum;
        m->parts[i].bins = calloc(BINS, sizeof *m->parts[i].bins);
        if (!m->parts[i].bins) {
            dlm_mix_free(m);
            return dlm_fail(err, DLM_ENOMEM, "out of memory for a mixture of %zu sources", n);
        }
    }
    *out = m;
    return 0;
}

void dlm_mix_free(struct dlm_mix *m)
{
    if (!m)
        return;
    for (size_t i = 0; m->parts && i < 2 * m->n; i++)
        free(m->parts[i].bins);
    free(m->parts);
    free(m);
}

size_t dlm_mix_bytes(const struct dlm_mix *m)
{
    return 2 * m->n * (sizeof *m->parts + BINS * sizeof *m->parts->bins);
}

static struct part *part(const struct dlm_mix *m, size_t source, int split)
{
    assert(source < m->n);
    return &m->parts[2 * source + (size_t)split];
}

static uint32_t bin(const struct dlm_mix *m, uint64_t ordinal)
{
    return dlm_philox_at(m->seed, ordinal, POSITION, DLM_RNG_SHUFFLE).v[0] >> (32 - BIN_BITS);
}

void dlm_mix_count(struct dlm_mix *m, size_t source, int split, uint64_t ordinal, uint64_t tokens)
{
    struct part *p = part(m, source, split);
    p->share.had_documents++;
    p->share.had_tokens += tokens;
    p->bins[bin(m, ordinal)] += tokens;
}

int dlm_mix_settle(struct dlm_mix *m, int split)
{
    double total = HUGE_VAL;
    uint64_t any = 0;
    size_t scarce = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct dlm_mix_share *s = &part(m, i, split)->share;
        any += s->had_documents;
        if ((double)s->had_tokens / s->weight < total) {
            total = (double)s->had_tokens / s->weight;
            scarce = i;
        }
    }
    if (any && m->n && !part(m, scarce, split)->share.had_tokens)
        return (int)scarce;
    for (size_t i = 0; i < m->n; i++) {
        struct part *p = part(m, i, split);
        double want = total * p->share.weight;
        /* The scarcest gives all, whatever was lost to rounding; so does one that is as scarce. */
        uint64_t left = i == scarce || want >= (double)p->share.had_tokens ? p->share.had_tokens : (uint64_t)llround(want);
        for (p->line = 0; p->line < BINS && left >= p->bins[p->line]; p->line++)
            left -= p->bins[p->line];
        p->left = left;
    }
    return -1;
}

bool dlm_mix_take(struct dlm_mix *m, size_t source, int split, uint64_t ordinal, uint64_t tokens)
{
    struct part *p = part(m, source, split);
    uint32_t b = bin(m, ordinal);
    if (b > p->line || (b == p->line && p->left < tokens - tokens / 2))
        return false;
    if (b == p->line)
        p->left -= tokens < p->left ? tokens : p->left;
    p->share.documents++;
    p->share.tokens += tokens;
    return true;
}

struct dlm_mix_share dlm_mix_share(const struct dlm_mix *m, size_t source, int split)
{
    return part(m, source, split)->share;
}
