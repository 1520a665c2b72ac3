/* AdamW: plain moments, corrected by c = 1 - bᵗ: θ ← θ - lr·(m/c₁/(√(v/c₂) + ε) + wd·θ). */
#include "device.h"

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
