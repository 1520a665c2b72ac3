/* Arithmetic on each of n elements of some arrays: a thread has four neighbours, so that as many 16-byte accesses as there are arrays are
 * on their way at once. */
#ifndef DLM_CUDA_ELEMENTS_CUH
#define DLM_CUDA_ELEMENTS_CUH

#include "vector.cuh"

static const unsigned ELEMENTS_THREADS = 256;

/* Blocks for n elements, W a thread. */
static inline dim3 elements_blocks(size_t n, unsigned W)
{
    return dim3((unsigned)ceil_div(n, (size_t)ELEMENTS_THREADS * W));
}

/* The first of this thread's elements. */
template <unsigned W> DLM_DEVICE size_t element(void)
{
    return ((size_t)blockIdx.x * ELEMENTS_THREADS + threadIdx.x) * W;
}

/* As load and store, for the end of an array too, where fewer than W are left. */
template <unsigned W, typename A> DLM_DEVICE void load_some(float (&v)[W], const A *p, size_t i, size_t n)
{
    if (i + W <= n) {
        load(v, p + i);
    } else {
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            v[j] = i + j < n ? to_f32(p[i + j]) : 0;
    }
}

template <unsigned W, typename A> DLM_DEVICE void store_some(A *p, const float (&v)[W], size_t i, size_t n)
{
    if (i + W <= n) {
        store(p + i, v);
    } else {
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            if (i + j < n)
                p[i + j] = to_act<A>(v[j]);
    }
}

#endif
