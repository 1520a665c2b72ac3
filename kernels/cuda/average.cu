/* A running mean of arrays: each moves by a share of what it is away. */
#include "elements.cuh"

template <unsigned W> static __global__ void average(float *mean, const float *x, size_t n, float share)
{
    const size_t i = element<W>();
    float m[W], v[W];
    load_some(v, x, i, n);
    load_some(m, mean, i, n);
#pragma unroll
    for (unsigned j = 0; j < W; j++)
        m[j] += share * (v[j] - m[j]);
    store_some(mean, m, i, n);
}

void dlm_cuda_average(struct dlm_device *dev, dlm_ptr mean, dlm_ptr x, size_t n, float share)
{
    const bool wide = (mean.at | x.at) % 16 == 0;
    dlm_launch(dev, "average", wide ? average<4> : average<1>, elements_blocks(n, wide ? 4 : 1), ELEMENTS_THREADS, 0, dlm_at<float>(mean),
               dlm_at<float>(x), n, share);
}
