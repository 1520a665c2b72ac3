/* Σ x² in double, in an order that n alone decides: a block a slice, its threads by strides, and the slices in order on the host. */
#include "elements.cuh"

static const size_t SLICES = 1024, THREADS = 256, FLIGHT = 4; /* vectors on their way at once */

template <typename A, unsigned W> static __global__ void sum_squares(double *part, const A *x, size_t n, size_t each)
{
    DLM_SHARED(double, shared);
    const size_t from = blockIdx.x * each, to = from + each < n ? from + each : n;
    double sum = 0;
    for (size_t at = from + threadIdx.x * W; at < to; at += FLIGHT * THREADS * W) {
        float v[FLIGHT][W];
#pragma unroll
        for (unsigned f = 0; f < FLIGHT; f++)
            load_some(v[f], x, at + f * THREADS * W, to);
#pragma unroll
        for (unsigned f = 0; f < FLIGHT; f++)
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                sum += (double)v[f][j] * (double)v[f][j];
    }
    sum = block_reduce<sum_op>(sum, shared);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

size_t dlm_sum_squares_scratch(void)
{
    return SLICES * sizeof(double);
}

template <typename A> static double sum_of(struct dlm_device *dev, dlm_ptr x, size_t n)
{
    constexpr unsigned W = 16 / sizeof(A);
    const bool wide = x.at % 16 == 0;
    const size_t least = FLIGHT * THREADS * W, share = ceil_div(ceil_div(n, SLICES), (size_t)W) * W, each = share < least ? least : share,
                 slices = ceil_div(n, each);
    double *part = static_cast<double *>(dlm_device_scratch(dev, dlm_sum_squares_scratch())), host[SLICES], total = 0;
    if (!part || !n)
        return 0;
    dlm_launch(dev, "sum_squares", wide ? sum_squares<A, W> : sum_squares<A, 1>, dim3((unsigned)slices), THREADS, THREADS / 32 * sizeof(double), part,
               dlm_at<A>(x), n, each);
    if (dlm_device_failed(dev) ||
        !dlm_device_good(dev, cudaMemcpyAsync(host, part, slices * sizeof(double), cudaMemcpyDeviceToHost, dev->stream), "sum_squares") ||
        !dlm_device_good(dev, cudaStreamSynchronize(dev->stream), "sum_squares"))
        return 0;
    for (size_t s = 0; s < slices; s++)
        total += host[s];
    return total;
}

double dlm_cuda_sum_squares(struct dlm_device *dev, dlm_ptr x, size_t n)
{
    return sum_of<float>(dev, x, n);
}

double dlm_cuda_sum_squares_bf16(struct dlm_device *dev, dlm_ptr x, size_t n)
{
    return sum_of<bf16>(dev, x, n);
}
