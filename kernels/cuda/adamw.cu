/* AdamW: plain moments, corrected by c = 1 - bᵗ: θ ← θ - lr·(m/c₁/(√(v/c₂) + ε) + wd·θ). Contracted as laprop.cu; and
 * adamw_split as laprop_split there. */
#include "split.cuh"

template <unsigned W>
static __global__ void adamw(float *theta, float *first, float *second, const float *grad, size_t n, float lr, float b1, float b2, float i1, float i2,
                             float eps, float weight_decay, float grad_scale)
{
    const size_t i = element<W>();
    const float d1 = 1.0f - b1, d2 = 1.0f - b2;
    float t[W], m[W], v[W], g[W];
    load_some(g, grad, i, n);
    load_some(m, first, i, n);
    load_some(v, second, i, n);
    load_some(t, theta, i, n);
#pragma unroll
    for (unsigned j = 0; j < W; j++) {
        g[j] *= grad_scale;
        m[j] = b1 * m[j] + d1 * g[j];
        v[j] = b2 * v[j] + d2 * (g[j] * g[j]);
        t[j] -= lr * (m[j] * i1 / (sqrtf(v[j] * i2) + eps) + weight_decay * t[j]);
    }
    store_some(first, m, i, n);
    store_some(second, v, i, n);
    store_some(theta, t, i, n);
}

void dlm_cuda_adamw(struct dlm_device *dev, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2, float c1,
                    float c2, float eps, float weight_decay, float grad_scale)
{
    const bool wide = (theta.at | m.at | v.at | grad.at) % 16 == 0;
    dlm_launch(dev, "adamw", wide ? adamw<4> : adamw<1>, elements_blocks(n, wide ? 4 : 1), ELEMENTS_THREADS, 0, dlm_at<float>(theta), dlm_at<float>(m),
               dlm_at<float>(v), dlm_at<float>(grad), n, lr, b1, b2, 1.0f / c1, 1.0f / c2, eps, weight_decay, grad_scale);
}

template <unsigned W>
static __global__ void adamw_split(uint16_t *high, uint16_t *low, uint16_t *first_, uint16_t *second_, const uint16_t *grad, size_t n, float lr, float b1,
                                   float b2, float i1, float i2, float eps, float weight_decay, float grad_scale, uint64_t seed, uint32_t step,
                                   size_t number)
{
    const size_t i = element<W>();
    const float d1 = 1.0f - b1, d2 = 1.0f - b2;
    uint32_t t[W], l[W], m[W], v[W], g[W], r[W];
    halves_load(g, grad, i, n);
    halves_load(m, first_, i, n);
    halves_load(v, second_, i, n);
    halves_load(t, high, i, n);
    halves_load(l, low, i, n);
    moment_words(r, seed, number + i, step);
#pragma unroll
    for (unsigned j = 0; j < W; j++) {
        const float whole = halves_join(t[j], l[j]), pull = grad_scale * half_value(g[j]);
        const float first = b1 * half_value(m[j]) + d1 * pull, second = b2 * half_value(v[j]) + d2 * (pull * pull);
        const float now = whole - lr * (first * i1 / (sqrtf(second * i2) + eps) + weight_decay * whole);
        m[j] = bf16_at_random(first, r[j] & 0xffffu);
        v[j] = bf16_at_random(second, r[j] >> 16);
        t[j] = halves_high(now);
        l[j] = __float_as_uint(now);
    }
    halves_store(first_, m, i, n);
    halves_store(second_, v, i, n);
    halves_store(high, t, i, n);
    halves_store(low, l, i, n);
}

void dlm_cuda_adamw_split(struct dlm_device *dev, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2, float c1,
                          float c2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves)
{
    const bool wide = (theta.at | m.at | v.at | grad.at | halves.low.at) % 16 == 0;
    dlm_launch(dev, "adamw_split", wide ? adamw_split<8> : adamw_split<1>, elements_blocks(n, wide ? 8 : 1), ELEMENTS_THREADS, 0,
               dlm_at<uint16_t>(theta), dlm_at<uint16_t>(halves.low), dlm_at<uint16_t>(m), dlm_at<uint16_t>(v), dlm_at<uint16_t>(grad), n, lr, b1, b2,
               1.0f / c1, 1.0f / c2, eps, weight_decay, grad_scale, halves.seed, halves.step, halves.first);
}
