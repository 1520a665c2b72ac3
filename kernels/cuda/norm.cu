/* RMSNorm: y = (1 + γ)·x·rstd, rstd = 1/√(mean x² + ε) (method.md §4), and its gradient:
 *
 *     g = (1 + γ)·dy    dx += rstd·(g - x·rstd²·mean(g·x))    dγ += Σ_t dy·x·rstd
 *
 * A block a row, which waits in shared memory for its sum; rows too wide for that are read twice. Backward a block has a slice of rows, fetches
 * one while it works on the one before, and keeps the slice's part of dγ.
 */
#include "columns.cuh"
#include "vector.cuh"

static const unsigned THREADS = 1024; /* at most */
static const size_t REDUCE = 128;     /* bytes at the head of shared memory for block_reduce */
static const size_t LEAST = 16, MOST = 1024; /* rows of a slice, slices */

template <typename A, unsigned W>
static __global__ void __launch_bounds__(THREADS, 1) norm(A *y, float *rstd, const float *x, const float *gamma, size_t d, float eps, bool kept)
{
    DLM_SHARED(unsigned char, shared);
    float *room = reinterpret_cast<float *>(shared + REDUCE);
    const float *row = x + blockIdx.x * d;
    y += blockIdx.x * d;
    if (kept) {
        row_fetch<W>(room, row, d);
        copy_commit();
        copy_wait<0>(); /* and no barrier: with four float32 a time a thread reads what it fetched */
        row = room;
    }
    float squares = 0;
    for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
        float v[W];
        load(v, row + i);
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            squares += v[j] * v[j];
    }
    squares = block_reduce<sum_op>(squares, reinterpret_cast<float *>(shared));
    const float r = 1.0f / sqrtf(squares / (float)d + eps);
    if (threadIdx.x == 0)
        rstd[blockIdx.x] = r;
    for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
        float v[W], g[W];
        load(v, row + i);
        load(g, gamma + i);
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            v[j] = (1.0f + g[j]) * (v[j] * r);
        store(y + i, v);
    }
}

/* Shared: REDUCE, the part of dγ (d), and `stages` (1 or 2) of x (d), dx (d), dy (d); or with `stages` 0 the reduction's alone, and all
 * is read where it is. Grid: slices. */
template <typename A, unsigned W>
static __global__ void __launch_bounds__(THREADS, 1)
    norm_backward(float *dx, float *partial, const A *dy, const float *x, const float *rstd, const float *gamma, size_t T, size_t d, size_t rows,
                  unsigned stages)
{
    DLM_SHARED(unsigned char, shared);
    float *reduce = reinterpret_cast<float *>(shared), *room = reinterpret_cast<float *>(shared + REDUCE);
    float *out = partial + blockIdx.x * d, *sum = stages ? room : out;
    unsigned char *stage0 = reinterpret_cast<unsigned char *>(room + d);
    const size_t stage_bytes = d * (2 * sizeof(float) + sizeof(A)), from = blockIdx.x * rows, to = from + rows < T ? from + rows : T;
    const auto fetch = [&](size_t t) {
        if (stages && t < to) {
            float *at = reinterpret_cast<float *>(stage0 + (stages == 2 ? (t - from) % 2 : 0) * stage_bytes);
            row_fetch<W>(at, x + t * d, d);
            row_fetch<W>(at + d, dx + t * d, d);
            row_fetch<W>(reinterpret_cast<A *>(at + 2 * d), dy + t * d, d);
        }
        copy_commit();
    };
    for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
        const float none[W] = {};
        store_either(sum + i, none);
    }
    fetch(from);
    for (size_t t = from; t < to; t++) {
        const float *xr = x + t * d, *dxr = dx + t * d;
        const A *dyr = dy + t * d;
        const float r = rstd[t]; /* on its way while others are waited for */
        if (stages == 2)
            fetch(t + 1);
        if (stages) {
            if (stages == 2)
                copy_wait<1>();
            else
                copy_wait<0>();
            __syncthreads();
            xr = reinterpret_cast<float *>(stage0 + (stages == 2 ? (t - from) % 2 : 0) * stage_bytes);
            dxr = xr + d;
            dyr = reinterpret_cast<const A *>(xr + 2 * d);
        }
        float dot = 0;
        for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
            float v[W], g[W], gm[W];
            load(v, xr + i), load(g, dyr + i), load(gm, gamma + i);
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                dot += (1.0f + gm[j]) * g[j] * v[j];
        }
        dot = block_reduce<sum_op>(dot, reduce);
        const float pull = dot / (float)d * r * r * r;
        for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
            float v[W], g[W], gm[W], old[W], s[W];
            load(v, xr + i), load(g, dyr + i), load(gm, gamma + i), load(old, dxr + i), load(s, sum + i);
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                s[j] += g[j] * (v[j] * r);
                old[j] += (1.0f + gm[j]) * g[j] * r - v[j] * pull;
            }
            store_either(sum + i, s);
            store(dx + t * d + i, old);
        }
        if (stages) {
            __syncthreads(); /* before the next fetch into this stage */
            if (stages == 1)
                fetch(t + 1);
        }
    }
    copy_wait<0>();
    if (stages)
        for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
            float s[W];
            load(s, sum + i);
            store(out + i, s);
        }
}

template <typename A>
static void forward(struct dlm_device *dev, dlm_ptr y, dlm_ptr rstd, dlm_ptr x, dlm_ptr gamma, size_t T, size_t d, float eps)
{
    const bool wide = wide_rows(x, d, 4) && wide_rows(y, d, sizeof(A)) && gamma.at % 16 == 0;
    const size_t room = REDUCE + d * sizeof(float);
    const bool kept = room <= dev->shared_most;
    dlm_launch(dev, "norm", wide ? norm<A, 4> : norm<A, 1>, dim3((unsigned)T), row_threads(d / (wide ? 4 : 1), 4, THREADS), kept ? room : REDUCE,
               dlm_at<A>(y), dlm_at<float>(rstd), dlm_at<float>(x), dlm_at<float>(gamma), d, eps, kept);
}

size_t dlm_norm_scratch(size_t T, size_t d)
{
    return columns_bytes(T, LEAST, MOST, d);
}

template <typename A>
static void backward(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dgamma, dlm_ptr dy, dlm_ptr x, dlm_ptr rstd, dlm_ptr gamma, size_t T, size_t d)
{
    const bool wide = wide_rows(x, d, 4) && wide_rows(dx, d, 4) && wide_rows(dy, d, sizeof(A)) && gamma.at % 16 == 0;
    const struct columns c = columns_of(T, LEAST, MOST);
    float *partial = static_cast<float *>(dlm_device_scratch(dev, dlm_norm_scratch(T, d)));
    if (!partial)
        return;
    const size_t stage = d * (2 * sizeof(float) + sizeof(A)), room = REDUCE + d * sizeof(float);
    const unsigned stages = room + 2 * stage <= dev->shared_most ? 2 : room + stage <= dev->shared_most ? 1 : 0;
    dlm_launch(dev, "norm_backward", wide ? norm_backward<A, 4> : norm_backward<A, 1>, dim3(c.slices), row_threads(d / (wide ? 4 : 1), 4, THREADS),
               stages ? room + stages * stage : REDUCE, dlm_at<float>(dx), partial, dlm_at<A>(dy), dlm_at<float>(x), dlm_at<float>(rstd),
               dlm_at<float>(gamma), T, d, c.rows, stages);
    columns_add(dev, dgamma, partial, c.slices, d);
}

void dlm_cuda_norm(struct dlm_device *dev, dlm_ptr y, dlm_ptr rstd, dlm_ptr x, dlm_ptr gamma, size_t T, size_t d, float eps, enum dlm_dtype act)
{
    DLM_BY_ACT(act, forward, dev, y, rstd, x, gamma, T, d, eps);
}

void dlm_cuda_norm_backward(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dgamma, dlm_ptr dy, dlm_ptr x, dlm_ptr rstd, dlm_ptr gamma, size_t T,
                            size_t d, enum dlm_dtype act)
{
    DLM_BY_ACT(act, backward, dev, dx, dgamma, dy, x, rstd, gamma, T, d);
}
