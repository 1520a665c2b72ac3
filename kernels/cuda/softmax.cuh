/* The first pass over a row of logits, which both losses and the shares have in common: the largest of every id but two, and the sum of
 * e^(ℓ - largest). A block a row.
 *
 * A thread does not wait for the largest: it counts from a logit of its own, and begins anew only where one is AHEAD above that, which
 * float32 has room for and which costs no digits. Sums are float32 over GROUP vectors and double beyond, in an order of the shape's.
 */
#ifndef DLM_CUDA_SOFTMAX_CUH
#define DLM_CUDA_SOFTMAX_CUH

#include "vector.cuh"

static const unsigned SOFTMAX_GROUP = 4;
static const size_t SOFTMAX_REDUCE = 32 * sizeof(double); /* bytes at the head of shared memory for block_reduce */

struct softmax_sum {
    float most;    /* of all but `without`, times the scale */
    double others; /* Σ e^(scale·ℓ - most) without `low` and `without` */
};

static inline unsigned softmax_threads(size_t V, unsigned W)
{
    return row_threads(V / W, SOFTMAX_GROUP, 512);
}

/* What a thread reads of a row at once, times the scale: vectors at `at`, blockDim.x·W apart. -∞ beyond the row and at the ids `low` and
 * `without`. */
template <unsigned W>
DLM_DEVICE void softmax_group(float (&v)[SOFTMAX_GROUP][W], const float *l, size_t at, size_t V, uint32_t low, uint32_t without, float scale)
{
#pragma unroll
    for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
        const size_t i = at + (size_t)g * blockDim.x * W;
        if (i < V)
            load(v[g], l + i);
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            v[g][j] = i + j >= V || i + j == low || i + j == without ? -INFINITY : scale * v[g][j];
    }
}

/* In every thread. `low` is an id that is counted elsewhere; `without` is another left out, V or more for none. */
template <unsigned W>
DLM_DEVICE softmax_sum softmax_pass(const float *l, size_t V, uint32_t low, uint32_t without, float scale, double *shared)
{
    const float AHEAD = 40;
    float most = scale * l[low], from = most;
    double sum = 0;
    for (size_t at = threadIdx.x * W; at < V; at += (size_t)SOFTMAX_GROUP * blockDim.x * W) {
        float v[SOFTMAX_GROUP][W], here = -INFINITY, part = 0;
        softmax_group(v, l, at, V, low, without, scale);
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
                part += expf(v[g][j] - from);
        sum += (double)part;
    }
    softmax_sum r;
    r.most = block_reduce<max_op>(most, reinterpret_cast<float *>(shared));
    r.others = block_reduce<sum_op>(sum * exp((double)from - (double)r.most), shared);
    return r;
}

#endif
