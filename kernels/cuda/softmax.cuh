/* The first pass over a row of logits, which both losses and the shares have in common: the largest of every id but two, and the sum of
 * e^(ℓ - largest). A block a row.
 *
 * A thread does not wait for the largest: it counts from a logit of its own, and begins anew only where one is AHEAD above that, which
 * float32 has room for and which costs no digits. Sums are float32 over GROUP vectors and double beyond, in an order of the shape's.
 */
#ifndef DLM_CUDA_SOFTMAX_CUH
#define DLM_CUDA_SOFTMAX_CUH

#include "vector.cuh"
#include "vmath.cuh"

static const unsigned SOFTMAX_GROUP = 4, SOFTMAX_THREADS = 512;
static const size_t SOFTMAX_REDUCE = 32 * sizeof(double); /* bytes at the head of shared memory for block_reduce */

struct softmax_sum {
    float most;    /* of all but `without`, times the scale */
    double others; /* Σ e^(scale·ℓ - most) without `low` and `without` */
};

static inline unsigned softmax_threads(size_t V, unsigned W)
{
    return row_threads(V / W, SOFTMAX_GROUP, SOFTMAX_THREADS);
}

/* A block's passes over a row go to and fro, so that what one reads last and a cache still has the next reads first. Ids fit in 32 bits. */
template <unsigned W> struct softmax_walk {
    unsigned at, left, step;
    bool back;

    __device__ __forceinline__ softmax_walk(unsigned V, bool back_) : step(SOFTMAX_GROUP * blockDim.x * W), back(back_)
    {
        left = (V + step - 1) / step;
        at = (back ? (left - 1) * step : 0) + threadIdx.x * W;
    }
    __device__ __forceinline__ bool more() const
    {
        return left != 0;
    }
    __device__ __forceinline__ void next()
    {
        left--;
        at = back ? at - step : at + step;
    }
};

/* What a thread reads of a row at once, times the scale: vectors at `at`, blockDim.x·W apart. -∞ beyond the row and at the ids `low` and
 * `without`. */
template <unsigned W>
DLM_DEVICE void softmax_group(float (&v)[SOFTMAX_GROUP][W], const float *l, unsigned at, unsigned V, unsigned low, unsigned without, float scale)
{
#pragma unroll
    for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
        const unsigned i = at + g * blockDim.x * W;
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            v[g][j] = -INFINITY;
        if (i < V)
            load(v[g], l + i);
    }
#pragma unroll
    for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
        const unsigned i = at + g * blockDim.x * W;
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            v[g][j] *= scale;
        if (low - i < W || without - i < W) /* one of them is among these */
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                v[g][j] = i + j == low || i + j == without ? -INFINITY : v[g][j];
    }
}

/* In every thread. `low` is an id that is counted elsewhere; `without` is another left out, V or more for none. */
template <unsigned W>
DLM_DEVICE softmax_sum softmax_pass(const float *l, unsigned V, uint32_t low, uint32_t without, float scale, double *shared)
{
    const float AHEAD = 40;
    float most = scale * l[low], from = most;
    double sum = 0;
    for (softmax_walk<W> walk(V, false); walk.more(); walk.next()) {
        float v[SOFTMAX_GROUP][W], here = -INFINITY, part = 0;
        softmax_group(v, l, walk.at, V, low, without, scale);
#pragma unroll
        for (unsigned g = 0; g < SOFTMAX_GROUP; g++)
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                here = v[g][j] > here ? v[g][j] : here;
        most = here > most ? here : most;
        if (here > from + AHEAD) {
            sum *= exp((double)from - (double)here);
            from = here;
        }
#pragma unroll
        for (unsigned g = 0; g < SOFTMAX_GROUP; g++)
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                part += exp_quick(v[g][j] - from);
        sum += (double)part;
    }
    softmax_sum r;
    r.most = block_reduce<max_op>(most, reinterpret_cast<float *>(shared));
    r.others = block_reduce<sum_op>(sum * exp((double)from - (double)r.most), shared);
    return r;
}

#endif
