/* AdamW: plain moments, corrected by c = 1 - bᵗ: θ ← θ - lr·(m/c₁/(√(v/c₂) + ε) + wd·θ). Contracted as laprop.cu. */
#include "elements.cuh"

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
