/* Random numbers for host code: views of Philox words (kernels/philox.h), and a small sequential stream over them.
 *
 * Uniform reals are (word + 0.5)·2^-32, never 0 or 1. A stream is named by (seed, item, purpose) and never shared.
 */
#ifndef DLM_BASE_RNG_H
#define DLM_BASE_RNG_H

#include "../../kernels/philox.h"

#include <stdint.h>

/* (0, 1) from one word. */
static inline double dlm_rng_unit(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32;
}

struct dlm_rng {
    uint64_t seed, item;
    uint32_t purpose, at; /* words taken so far / 4 */
    uint32_t word[4];
    int left;
};

void dlm_rng_init(struct dlm_rng *r, uint64_t seed, uint64_t item, uint32_t purpose);
uint32_t dlm_rng_next(struct dlm_rng *r);
double dlm_rng_uniform(struct dlm_rng *r);
/* Unbiased in [0, n), n ≥ 1. */
uint64_t dlm_rng_below(struct dlm_rng *r, uint64_t n);
/* Standard normal, Box-Muller, one of the pair. */
double dlm_rng_normal(struct dlm_rng *r);

#endif
