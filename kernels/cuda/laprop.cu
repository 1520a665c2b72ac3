/* LaProp (method.md §4), with b̂ given:
 *
 *     ν ← b̂₂ν + (1-b̂₂)g²    μ ← b̂₁μ + (1-b̂₁)·g/(√ν + ε)    θ ← θ - lr·(μ + wd·θ)
 *
 * Products and sums are contracted as the compiler likes, here as on the CPU: the two agree to rounding.
 */
#include "elements.cuh"

template <unsigned W>
static __global__ void laprop(float *theta, float *mu, float *nu, const float *grad, size_t n, float lr, float b1, float b2, float eps,
                              float weight_decay, float grad_scale)
{
    const size_t i = element<W>();
    const float c1 = 1.0f - b1, c2 = 1.0f - b2;
    float t[W], m[W], v[W], g[W];
    load_some(g, grad, i, n);
    load_some(v, nu, i, n);
    load_some(m, mu, i, n);
    load_some(t, theta, i, n);
#pragma unroll
    for (unsigned j = 0; j < W; j++) {
        g[j] *= grad_scale;
        v[j] = b2 * v[j] + c2 * (g[j] * g[j]);
        m[j] = b1 * m[j] + c1 * (g[j] / (sqrtf(v[j]) + eps));
        t[j] -= lr * (m[j] + weight_decay * t[j]);
    }
    store_some(nu, v, i, n);
    store_some(mu, m, i, n);
    store_some(theta, t, i, n);
}

void dlm_cuda_laprop(struct dlm_device *dev, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1, float b2, float eps,
                     float weight_decay, float grad_scale)
{
    const bool wide = (theta.at | mu.at | nu.at | grad.at) % 16 == 0;
    dlm_launch(dev, "laprop", wide ? laprop<4> : laprop<1>, elements_blocks(n, wide ? 4 : 1), ELEMENTS_THREADS, 0, dlm_at<float>(theta),
               dlm_at<float>(mu), dlm_at<float>(nu), dlm_at<float>(grad), n, lr, b1, b2, eps, weight_decay, grad_scale);
}
