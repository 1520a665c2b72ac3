/* AdamW: plain moments, corrected by c = 1 - bᵗ: θ ← θ - lr·(m/c₁/(√(v/c₂) + ε) + wd·θ).
 *
 * adamw_split is the same on a θ in halves, with moments and gradient in bf16 (kernels.h).
 */
#include "split.h"

#include <math.h>

void dlm_cpu_adamw(struct dlm_device *dev, dlm_ptr theta_, dlm_ptr m_, dlm_ptr v_, dlm_ptr grad_, size_t n, float lr, float b1,
                   float b2, float c1, float c2, float eps, float weight_decay, float grad_scale)
{
    if (dlm_device_failed(dev))
        return;
    float *restrict theta = dlm_at(theta_), *restrict m = dlm_at(m_), *restrict v = dlm_at(v_);
    const float *restrict grad = dlm_at(grad_);
    float d1 = 1.0f - b1, d2 = 1.0f - b2, i1 = 1.0f / c1, i2 = 1.0f / c2;
#pragma omp parallel for simd num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        float g = grad_scale * grad[i];
        float first = b1 * m[i] + d1 * g;
        float second = b2 * v[i] + d2 * (g * g);
        m[i] = first;
        v[i] = second;
        theta[i] -= lr * (first * i1 / (sqrtf(second * i2) + eps) + weight_decay * theta[i]);
    }
}

void dlm_cpu_adamw_split(struct dlm_device *dev, dlm_ptr theta_, dlm_ptr m_, dlm_ptr v_, dlm_ptr grad_, size_t n, float lr, float b1, float b2,
                         float c1, float c2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves)
{
    if (dlm_device_failed(dev))
        return;
    uint16_t *high = dlm_at(theta_), *low = dlm_at(halves.low), *m = dlm_at(m_), *v = dlm_at(v_);
    const uint16_t *grad = dlm_at(grad_);
    float d1 = 1.0f - b1, d2 = 1.0f - b2, i1 = 1.0f / c1, i2 = 1.0f / c2;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t at = 0; at < n; at += DLM_SPLIT_BLOCK) {
        uint32_t words[DLM_SPLIT_BLOCK];
        const size_t some = n - at < DLM_SPLIT_BLOCK ? n - at : DLM_SPLIT_BLOCK;
        dlm_split_words(words, DLM_SPLIT_BLOCK / 4, halves.seed, (halves.first + at) / 4, halves.step, DLM_RNG_MOMENT);
#pragma omp simd
        for (size_t i = 0; i < some; i++) {
            const size_t e = at + i;
            float t = dlm_split_join(high[e], low[e]), g = grad_scale * dlm_bf16_to_f32(grad[e]);
            float first = b1 * dlm_bf16_to_f32(m[e]) + d1 * g;
            float second = b2 * dlm_bf16_to_f32(v[e]) + d2 * (g * g);
            v[e] = dlm_bf16_at_random(second, words[i] >> 16);
            m[e] = dlm_bf16_at_random(first, words[i] & 0xffff);
            t -= lr * (first * i1 / (sqrtf(second * i2) + eps) + weight_decay * t);
            high[e] = dlm_split_high(t, &low[e]);
        }
    }
}
