/* Data order: a permutation in O(1) memory, method.md §2.
 *
 * A Feistel network on the bits that hold unique - 1, its halves as equal as can be and changed in turn, each round's function a Philox
 * word of (seed, epoch, round, other half). Values that fall at or above `unique` walk on along their cycle until one falls below,
 * which leaves a permutation of [0, unique). Not a cipher. Twelve rounds on so few bits as n ≤ 16 needs are measurably uneven, so these
 * n are shuffled outright (Fisher and Yates), which is exact and as cheap there.
 */
#include "batch/order.h"

#include "base/rng.h"

#include <assert.h>

enum { ROUNDS = 12, OUTRIGHT = 16 };

static uint64_t feistel(uint64_t seed, uint64_t epoch, unsigned left_bits, unsigned right_bits, uint64_t x)
{
    uint32_t left_mask = (uint32_t)(((uint64_t)1 << left_bits) - 1), right_mask = (uint32_t)(((uint64_t)1 << right_bits) - 1);
    uint32_t left = (uint32_t)(x >> right_bits), right = (uint32_t)x & right_mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t item = epoch * 16 + round; /* epochs stay below 2^60 */
        if (round & 1)
            left ^= dlm_philox_at(seed, item, right, DLM_RNG_EPOCH).v[0] & left_mask;
        else
            right ^= dlm_philox_at(seed, item, left, DLM_RNG_EPOCH).v[0] & right_mask;
    }
    return (uint64_t)left << right_bits | right;
}

static uint64_t fisher_yates(uint64_t seed, uint64_t epoch, unsigned n, uint64_t x)
{
    struct dlm_rng g;
    uint8_t at[OUTRIGHT];
    dlm_rng_init(&g, seed, epoch * 16 + 15, DLM_RNG_EPOCH); /* no round has number 15 */
    for (unsigned i = 0; i < n; i++) {
        uint64_t j = dlm_rng_below(&g, i + 1);
        if (j < i)
            at[i] = at[j];
        at[j] = (uint8_t)i;
    }
    return at[x];
}

uint64_t dlm_order_at(uint64_t seed, uint64_t unique, uint64_t i)
{
    assert(unique >= 1);
    uint64_t epoch = i / unique, x = i % unique;
    if (epoch == 0 || unique == 1)
        return x;
    if (unique <= OUTRIGHT)
        return fisher_yates(seed, epoch, (unsigned)unique, x);
    unsigned bits = 64 - (unsigned)__builtin_clzll(unique - 1);
    do
        x = feistel(seed, epoch, bits / 2, bits - bits / 2, x);
    while (x >= unique);
    return x;
}
