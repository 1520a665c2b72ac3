/* A float32 as the nearest bf16, halves away from zero, and the 16 bits that this leaves: as bit patterns f32 = (high << 16) + (int16)low, exactly.
 *
 * The rule of checkpoints (model/safetensors.h), and that of the optimizers of the compact state (kernels.h). Rounding halves to even would leave 17 bits.
 */
#ifndef DLM_MODEL_SPLIT_H
#define DLM_MODEL_SPLIT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t dlm_split_high(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* rounding could turn a NaN into an infinity */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x8000u) >> 16);
}

static inline uint16_t dlm_split_low(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return (uint16_t)bits;
}

static inline float dlm_split_join(uint16_t high, uint16_t low)
{
    uint32_t bits = ((uint32_t)high << 16) + (uint32_t)(int16_t)low;
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

/* Where n bf16 go to be widened in the room of n float32: its second half. */
static inline void *dlm_split_half(float *room, size_t n)
{
    return (unsigned char *)room + 2 * n;
}

/* They become float32 in all of it, from the front: element i is written over bytes that were used before. */
static inline void dlm_split_widen(float *room, size_t n)
{
    const unsigned char *half = dlm_split_half(room, n);
    for (size_t i = 0; i < n; i++) {
        uint16_t high;
        memcpy(&high, half + 2 * i, 2);
        room[i] = dlm_split_join(high, 0);
    }
}

#endif
