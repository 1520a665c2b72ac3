/* LaProp (method.md §4), with b̂ given:
 *
 *     ν ← b̂₂ν + (1-b̂₂)g²    μ ← b̂₁μ + (1-b̂₁)·g/(√ν + ε)    θ ← θ - lr·(μ + wd·θ)
 */
#include "device.h"

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
