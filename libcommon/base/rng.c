/* A sequential stream over Philox words. */
#include "base/rng.h"

#include <math.h>

void dlm_rng_init(struct dlm_rng *r, uint64_t seed, uint64_t item, uint32_t purpose)
{
    *r = (struct dlm_rng){.seed = seed, .item = item, .purpose = purpose};
}

uint32_t dlm_rng_next(struct dlm_rng *r)
{
    if (!r->left) {
        dlm_philox_t w = dlm_philox_at(r->seed, r->item, r->at++, r->purpose);
        for (int i = 0; i < 4; i++)
            r->word[i] = w.v[i];
        r->left = 4;
    }
    return r->word[4 - r->left--];
}

double dlm_rng_uniform(struct dlm_rng *r)
{
    return dlm_rng_unit(dlm_rng_next(r));
}

uint64_t dlm_rng_below(struct dlm_rng *r, uint64_t n)
{
    uint64_t limit = -n % n; /* 2^64 mod n: reject the low remainder */
    for (;;) {
        uint64_t v = (uint64_t)dlm_rng_next(r) << 32;
        v |= dlm_rng_next(r);
        if (v >= limit)
            return v % n;
    }
}

double dlm_rng_normal(struct dlm_rng *r)
{
    double u = dlm_rng_uniform(r), v = dlm_rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
