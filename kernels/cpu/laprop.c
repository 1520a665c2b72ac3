/* LaProp (method.md §4), with b̂ given:
 *
 *     ν ← b̂₂ν + (1-b̂₂)g²    μ ← b̂₁μ + (1-b̂₁)·g/(√ν + ε)    θ ← θ - lr·(μ + wd·θ)
 *
 * laprop_split is the same on a θ in halves, with moments and gradient in bf16 (kernels.h).
 */
#include "split.h"

#include <math.h>

void dlm_cpu_laprop(struct dlm_device *dev, dlm_ptr theta_, dlm_ptr mu_, dlm_ptr nu_, dlm_ptr grad_, size_t n, float lr, float b1,
                    float b2, float eps, float weight_decay, float grad_scale)
{
    if (dlm_device_failed(dev))
        return;
    float *restrict theta = dlm_at(theta_), *restrict mu = dlm_at(mu_), *restrict nu = dlm_at(nu_);
    const float *restrict grad = dlm_at(grad_);
    float c1 = 1.0f - b1, c2 = 1.0f - b2;
#pragma omp parallel for simd num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        float g = grad_scale * grad[i];
        float v = b2 * nu[i] + c2 * (g * g);
        float m = b1 * mu[i] + c1 * (g / (sqrtf(v) + eps));
        nu[i] = v;
        mu[i] = m;
        theta[i] -= lr * (m + weight_decay * theta[i]);
    }
}

void dlm_cpu_laprop_split(struct dlm_device *dev, dlm_ptr theta_, dlm_ptr mu_, dlm_ptr nu_, dlm_ptr grad_, size_t n, float lr, float b1,
                          float b2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves)
{
    if (dlm_device_failed(dev))
        return;
    uint16_t *high = dlm_at(theta_), *low = dlm_at(halves.low), *mu = dlm_at(mu_), *nu = dlm_at(nu_);
    const uint16_t *grad = dlm_at(grad_);
    float c1 = 1.0f - b1, c2 = 1.0f - b2;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t at = 0; at < n; at += DLM_SPLIT_BLOCK) {
        uint32_t words[DLM_SPLIT_BLOCK];
        const size_t some = n - at < DLM_SPLIT_BLOCK ? n - at : DLM_SPLIT_BLOCK;
        dlm_split_words(words, DLM_SPLIT_BLOCK / 4, halves.seed, (halves.first + at) / 4, halves.step, DLM_RNG_MOMENT);
#pragma omp simd
        for (size_t i = 0; i < some; i++) {
            const size_t e = at + i;
            float t = dlm_split_join(high[e], low[e]), g = grad_scale * dlm_bf16_to_f32(grad[e]);
            float v = b2 * dlm_bf16_to_f32(nu[e]) + c2 * (g * g);
            float m = b1 * dlm_bf16_to_f32(mu[e]) + c1 * (g / (sqrtf(v) + eps));
            nu[e] = dlm_bf16_at_random(v, words[i] >> 16);
            mu[e] = dlm_bf16_at_random(m, words[i] & 0xffff);
            t -= lr * (m + weight_decay * t);
            high[e] = dlm_split_high(t, &low[e]);
        }
    }
}
