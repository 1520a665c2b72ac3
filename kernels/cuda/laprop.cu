/* LaProp (method.md §4), with b̂ given:
 *
 *     ν ← b̂₂ν + (1-b̂₂)g²    μ ← b̂₁μ + (1-b̂₁)·g/(√ν + ε)    θ ← θ - lr·(μ + wd·θ)
 *
 * Products and sums are contracted as the compiler likes, here as on the CPU: the two agree to rounding. laprop_split is the same on a θ in
 * halves, with moments and gradient in bf16 (kernels.h).
 */
#include "split.cuh"

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

template <unsigned W>
static __global__ void laprop_split(uint16_t *high, uint16_t *low, uint16_t *mu, uint16_t *nu, const uint16_t *grad, size_t n, float lr, float b1,
                                    float b2, float eps, float weight_decay, float grad_scale, uint64_t seed, uint32_t step, size_t first)
{
    const size_t i = element<W>();
    const float c1 = 1.0f - b1, c2 = 1.0f - b2;
    uint32_t t[W], l[W], m[W], v[W], g[W], r[W];
    halves_load(g, grad, i, n);
    halves_load(v, nu, i, n);
    halves_load(m, mu, i, n);
    halves_load(t, high, i, n);
    halves_load(l, low, i, n);
    moment_words(r, seed, first + i, step);
#pragma unroll
    for (unsigned j = 0; j < W; j++) {
        const float whole = halves_join(t[j], l[j]), pull = grad_scale * half_value(g[j]);
        const float second = b2 * half_value(v[j]) + c2 * (pull * pull);
        const float moment = b1 * half_value(m[j]) + c1 * (pull / (sqrtf(second) + eps));
        const float now = whole - lr * (moment + weight_decay * whole);
        v[j] = bf16_at_random(second, r[j] >> 16);
        m[j] = bf16_at_random(moment, r[j] & 0xffffu);
        t[j] = halves_high(now);
        l[j] = __float_as_uint(now);
    }
    halves_store(nu, v, i, n);
    halves_store(mu, m, i, n);
    halves_store(high, t, i, n);
    halves_store(low, l, i, n);
}

void dlm_cuda_laprop_split(struct dlm_device *dev, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                           float eps, float weight_decay, float grad_scale, struct dlm_halves halves)
{
    const bool wide = (theta.at | mu.at | nu.at | grad.at | halves.low.at) % 16 == 0;
    dlm_launch(dev, "laprop_split", wide ? laprop_split<8> : laprop_split<1>, elements_blocks(n, wide ? 8 : 1), ELEMENTS_THREADS, 0,
               dlm_at<uint16_t>(theta), dlm_at<uint16_t>(halves.low), dlm_at<uint16_t>(mu), dlm_at<uint16_t>(nu), dlm_at<uint16_t>(grad), n, lr, b1, b2,
               eps, weight_decay, grad_scale, halves.seed, halves.step, halves.first);
}
