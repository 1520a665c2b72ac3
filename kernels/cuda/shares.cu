/* Softmax of rows of logits without the mask id, at a temperature: what sampling draws from (method.md §9). */
#include "softmax.cuh"

/* Grid: rows. p may be l. */
template <unsigned W>
static __global__ void __launch_bounds__(SOFTMAX_THREADS, 2) shares(float *p, const float *l, unsigned V, uint32_t mask, float scale)
{
    DLM_SHARED(double, shared);
    const uint32_t low = mask == 0 && V > 1 ? 1 : 0; /* counted by itself, as the losses count their target */
    l += (size_t)blockIdx.x * V;
    p += (size_t)blockIdx.x * V;
    const softmax_sum s = softmax_pass<W>(l, V, low, mask, scale, shared);
    const double own = exp((double)(scale * l[low]) - (double)s.most), all = s.others + own;
    const float share = (float)(1.0 / all), own_share = (float)(own / all);
    __syncthreads(); /* everyone has read l[low] */
    for (softmax_walk<W> walk(V, true); walk.more(); walk.next()) {
        float v[SOFTMAX_GROUP][W];
        softmax_group(v, l, walk.at, V, mask, mask, scale);
#pragma unroll
        for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
            const unsigned i = walk.at + g * blockDim.x * W;
            if (i >= V)
                break;
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                v[g][j] = i + j == low ? own_share : exp_quick(v[g][j] - s.most) * share;
            store(p + i, v[g]);
        }
    }
}

void dlm_cuda_shares(struct dlm_device *dev, dlm_ptr p, dlm_ptr logits, size_t n, size_t V, uint32_t mask, float scale)
{
    const bool wide = wide_rows(logits, V, 4) && wide_rows(p, V, 4);
    dlm_launch(dev, "shares", wide ? shares<4> : shares<1>, dim3((unsigned)n), softmax_threads(V, wide ? 4 : 1), SOFTMAX_REDUCE, dlm_at<float>(p),
               dlm_at<float>(logits), (unsigned)V, mask, scale);
}
