/* Cross-entropy of a row of logits without the mask id, and its gradient softmax - one-hot (method.md §4, the autoregressive baseline).
 * The sum leaves the target out, so that 1 - s(target) is exact to rounding. */
#include "softmax.cuh"

/* Shared: SOFTMAX_REDUCE, and the factor of the gradient. Grid: rows. dl may be l. */
template <typename A, unsigned W>
static __global__ void __launch_bounds__(SOFTMAX_THREADS, 2)
    cross_entropy(float *nll, A *dl, const float *l, const uint32_t *target, unsigned V, uint32_t mask)
{
    DLM_SHARED(double, shared);
    double *factor = shared + SOFTMAX_REDUCE / sizeof(double);
    const uint32_t own_id = target[blockIdx.x];
    l += (size_t)blockIdx.x * V;
    const softmax_sum s = softmax_pass<W>(l, V, own_id, mask, 1.0f, shared);
    if (threadIdx.x == 0) {
        const float at = l[own_id];
        const double own = exp((double)at - (double)s.most), all = s.others + own;
        /* own may be 0 in double only when it is e⁻⁷⁰⁰ of the sum */
        nll[blockIdx.x] = (float)(s.others < own ? log1p(s.others / own) : log(all) + ((double)s.most - (double)at));
        *factor = 1.0 / all;
    }
    if (!dl)
        return;
    __syncthreads();
    dl += (size_t)blockIdx.x * V;
    const float share = (float)*factor, own_share = (float)(-s.others * *factor);
    for (softmax_walk<W> walk(V, true); walk.more(); walk.next()) {
        float v[SOFTMAX_GROUP][W];
        softmax_group(v, l, walk.at, V, mask, mask, 1.0f);
#pragma unroll
        for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
            const unsigned i = walk.at + g * blockDim.x * W;
            if (i >= V)
                break;
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                v[g][j] = exp_quick(v[g][j] - s.most) * share;
            if (own_id - i < W)
#pragma unroll
                for (unsigned j = 0; j < W; j++)
                    v[g][j] = i + j == own_id ? own_share : v[g][j];
            store(dl + i, v[g]);
        }
    }
}

template <typename A>
static void loss(struct dlm_device *dev, dlm_ptr nll, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr target, size_t n, size_t V, uint32_t mask)
{
    const bool wide = wide_rows(logits, V, 4) && wide_rows(dlogits, V, sizeof(A));
    dlm_launch(dev, "cross_entropy", wide ? cross_entropy<A, 4> : cross_entropy<A, 1>, dim3((unsigned)n), softmax_threads(V, wide ? 4 : 1),
               SOFTMAX_REDUCE + sizeof(double), dlm_at<float>(nll), dlm_at<A>(dlogits), dlm_at<float>(logits), dlm_at<uint32_t>(target),
               (unsigned)V, mask);
}

void dlm_cuda_cross_entropy(struct dlm_device *dev, dlm_ptr nll, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr target, size_t n, size_t V, uint32_t mask,
                            enum dlm_dtype act)
{
    DLM_BY_ACT(act, loss, dev, nll, dlogits, logits, target, n, V, mask);
}
