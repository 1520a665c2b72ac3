/* Neighbours in memory, several at once: 16 bytes a thread are what device memory is fastest at.
 *
 * Kernels are made for W elements a thread, W·sizeof a multiple of 16 for the widest type they touch, and for W = 1, which rows take whose
 * length or address is not a multiple of 16 bytes. Arithmetic is in float32 whatever the type.
 */
#ifndef DLM_CUDA_VECTOR_CUH
#define DLM_CUDA_VECTOR_CUH

#include "device.cuh"

/* The bytes at p, which is a multiple of them. */
template <typename Word> DLM_DEVICE Word word_at(const void *p)
{
#ifndef __CUDACC__
    if ((uintptr_t)p % sizeof(Word))
        emulated_fault("a read of %zu bytes from an address that is no multiple of that", sizeof(Word));
#endif
    return *static_cast<const Word *>(p);
}

/* To device memory, by one instruction: in unrolled loops the compiler has been seen to take a plain assignment apart. */
template <typename Word> DLM_DEVICE void word_put(void *p, Word w)
{
#ifdef __CUDACC__
    __stwb(static_cast<Word *>(p), w);
#else
    if ((uintptr_t)p % sizeof(Word))
        emulated_fault("a write of %zu bytes to an address that is no multiple of that", sizeof(Word));
    *static_cast<Word *>(p) = w;
#endif
}

DLM_DEVICE float low_bf16(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

DLM_DEVICE float high_bf16(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

template <unsigned W> DLM_DEVICE void load(float (&v)[W], const float *p)
{
    if constexpr (W == 1) {
        v[0] = *p;
    } else {
#pragma unroll
        for (unsigned i = 0; i < W; i += 4) {
            const float4 f = word_at<float4>(p + i);
            v[i] = f.x, v[i + 1] = f.y, v[i + 2] = f.z, v[i + 3] = f.w;
        }
    }
}

template <unsigned W> DLM_DEVICE void load(float (&v)[W], const bf16 *p)
{
    if constexpr (W == 1) {
        v[0] = to_f32(*p);
    } else if constexpr (W == 4) {
        const uint2 u = word_at<uint2>(p);
        v[0] = low_bf16(u.x), v[1] = high_bf16(u.x), v[2] = low_bf16(u.y), v[3] = high_bf16(u.y);
    } else {
        const uint4 u = word_at<uint4>(p);
        v[0] = low_bf16(u.x), v[1] = high_bf16(u.x), v[2] = low_bf16(u.y), v[3] = high_bf16(u.y);
        v[4] = low_bf16(u.z), v[5] = high_bf16(u.z), v[6] = low_bf16(u.w), v[7] = high_bf16(u.w);
    }
}

template <unsigned W> DLM_DEVICE void store(float *p, const float (&v)[W])
{
    if constexpr (W == 1) {
        *p = v[0];
    } else {
#pragma unroll
        for (unsigned i = 0; i < W; i += 4)
            word_put(p + i, make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]));
    }
}

template <unsigned W> DLM_DEVICE void store(bf16 *p, const float (&v)[W])
{
    if constexpr (W == 1)
        *p = to_bf16(v[0]);
    else if constexpr (W == 4)
        word_put(p, uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])});
    else
        word_put(p, make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])));
}

/* To shared or device memory. */
template <unsigned W> DLM_DEVICE void store_either(float *p, const float (&v)[W])
{
    if constexpr (W == 1) {
        *p = v[0];
    } else {
#pragma unroll
        for (unsigned i = 0; i < W; i += 4)
            *reinterpret_cast<float4 *>(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
    }
}

/* A row of n items into shared memory, n and the addresses good for 16 bytes where W > 1. Others see it after copy_wait and __syncthreads. */
template <unsigned W, typename A> DLM_DEVICE void row_fetch(A *to, const A *from, size_t n)
{
    constexpr unsigned each = W > 1 ? 16 / sizeof(A) : 1;
    for (size_t i = threadIdx.x * each; i < n; i += blockDim.x * each) {
        if constexpr (W > 1)
            copy_async(to + i, from + i, true);
        else
            to[i] = from[i];
    }
}

/* Whether rows of n items of `size` bytes at p all begin at multiples of 16 bytes. */
static inline bool wide_rows(dlm_ptr p, size_t n, size_t size)
{
    return p.at % 16 == 0 && n * size % 16 == 0;
}

/* Threads for a row of `vectors`: whole warps, `each` vectors a thread as far as that goes. */
static inline unsigned row_threads(size_t vectors, size_t each, size_t most)
{
    const size_t warps = ceil_div(vectors, each * 32);
    return (unsigned)(32 * (warps < 1 ? 1 : warps > most / 32 ? most / 32 : warps));
}

#endif
