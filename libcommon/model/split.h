/* A float32 as the nearest bf16, halves away from zero, and the 16 bits that this leaves: as bit patterns f32 = (high << 16) + (int16)low, exactly.
 *
 * The same rule as in checkpoints (model/safetensors.h) and in the optimizers of the compact state (kernels.h). Rounding halves to even would leave 17 bits.
 */
#ifndef DLM_MODEL_SPLIT_H
#define DLM_MODEL_SPLIT_H

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

#endif
