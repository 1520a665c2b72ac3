/* Rounding at random to bf16, and float32 numbers in halves: what the kernels of the compact state share (kernels.h). Whole numbers only,
 * so that the bits are the CPU's.
 *
 * Arrays of halves are taken as u16, W of them a thread: 8, which are 16 bytes, or 1. What of float32 goes with them is read 8 at a time.
 */
#ifndef DLM_CUDA_SPLIT_CUH
#define DLM_CUDA_SPLIT_CUH

#include "elements.cuh"

#include "../philox.h"

template <unsigned W> DLM_DEVICE void halves_load(uint32_t (&u)[W], const uint16_t *p, size_t i, size_t n)
{
    if (W == 8 && i + W <= n) {
        const uint4 w = word_at<uint4>(p + i);
        const uint32_t pair[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            u[j] = pair[j / 2] >> 16 * (j % 2) & 0xffffu;
    } else {
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            u[j] = i + j < n ? p[i + j] : 0;
    }
}

/* The lower half of each u. */
template <unsigned W> DLM_DEVICE void halves_store(uint16_t *p, const uint32_t (&u)[W], size_t i, size_t n)
{
    if (W == 8 && i + W <= n) {
        uint32_t pair[4] = {};
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            pair[j / 2] |= (u[j] & 0xffffu) << 16 * (j % 2);
        word_put(p + i, make_uint4(pair[0], pair[1], pair[2], pair[3]));
    } else {
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            if (i + j < n)
                p[i + j] = (uint16_t)u[j];
    }
}

/* The bits of f plus r, 0 ≤ r < 2¹⁶, cut to the upper half; what is not finite stays so. */
DLM_DEVICE uint32_t bf16_at_random(float f, uint32_t r)
{
    const uint32_t u = __float_as_uint(f);
    return (u + ((u & 0x7f800000u) == 0x7f800000u ? 0 : r)) >> 16;
}

DLM_DEVICE float half_value(uint32_t high)
{
    return __uint_as_float(high << 16);
}

DLM_DEVICE float halves_join(uint32_t high, uint32_t low)
{
    return __uint_as_float((high << 16) + (uint32_t)(int16_t)low);
}

/* The nearest bf16, halves away from zero; the low half is the lower bits of f as they are. */
DLM_DEVICE uint32_t halves_high(float f)
{
    return (__float_as_uint(f) + 0x8000u) >> 16;
}

/* Word i of a block, without indexing registers. */
DLM_DEVICE uint32_t philox_word(const dlm_philox_t &r, unsigned i)
{
    return i == 0 ? r.v[0] : i == 1 ? r.v[1] : i == 2 ? r.v[2] : r.v[3];
}

/* A word for each of the elements from e on: word e%4 of block e/4. */
template <unsigned W> DLM_DEVICE void moment_words(uint32_t (&r)[W], uint64_t seed, uint64_t e, uint32_t step)
{
    if constexpr (W == 8) {
#pragma unroll
        for (unsigned b = 0; b < 2; b++) {
            const dlm_philox_t w = dlm_philox_at(seed, e / 4 + b, step, DLM_RNG_MOMENT);
            r[4 * b] = w.v[0], r[4 * b + 1] = w.v[1], r[4 * b + 2] = w.v[2], r[4 * b + 3] = w.v[3];
        }
    } else {
        r[0] = philox_word(dlm_philox_at(seed, e / 4, step, DLM_RNG_MOMENT), (unsigned)(e % 4));
    }
}

#endif
