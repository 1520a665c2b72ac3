/* Rounding at random to bf16, and float32 numbers in halves: what the kernels of the compact state share (kernels.h).
 *
 * Not the nearest-even rounding of activations: that is dlm_bf16_from_f32.
 */
#ifndef DLM_CPU_SPLIT_H
#define DLM_CPU_SPLIT_H

#include "device.h"

#include "../philox.h"

enum { DLM_SPLIT_BLOCK = 64 }; /* elements at a time: their random words first, in a loop of whole numbers, then their arithmetic */

/* The bits of f plus r, 0 ≤ r < 2¹⁶, cut to the upper half; what is not finite stays so. */
DLM_INLINE uint16_t dlm_bf16_at_random(float f, uint32_t r)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    u += (u & 0x7f800000u) == 0x7f800000u ? 0 : r;
    return (uint16_t)(u >> 16);
}

DLM_INLINE float dlm_split_join(uint16_t high, uint16_t low)
{
    uint32_t u = ((uint32_t)high << 16) + (uint32_t)(int16_t)low;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* The nearest bf16, halves away from zero; the low half is then the lower bits as they are. */
DLM_INLINE uint16_t dlm_split_high(float f, uint16_t *low)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    *low = (uint16_t)u;
    return (uint16_t)((u + 0x8000u) >> 16);
}

/* Words of `blocks` Philox blocks from number q on, 4 a block. */
DLM_INLINE void dlm_split_words(uint32_t *restrict words, size_t blocks, uint64_t seed, uint64_t q, uint32_t position, uint32_t purpose)
{
#pragma omp simd
    for (size_t b = 0; b < blocks; b++) {
        dlm_philox_t r = dlm_philox_at(seed, q + b, position, purpose);
        words[4 * b] = r.v[0];
        words[4 * b + 1] = r.v[1];
        words[4 * b + 2] = r.v[2];
        words[4 * b + 3] = r.v[3];
    }
}

#endif
