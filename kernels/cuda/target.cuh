/* What a CUDA kernel of ours may use, on a GPU and on the host.
 *
 * Compiled by nvcc this is CUDA itself. Compiled by a C++ compiler it is the emulation in tests/emulate, on which the same kernels run
 * thread by thread, so that their indices, barriers and fragments are checked where there is no GPU. Kernels use CUDA's own names for
 * what is plain (threadIdx, __syncthreads, __shfl_xor_sync, __fmaf_rn …) and the names below for what needs PTX or has no spelling
 * common to both. All shared memory is dynamic, got by DLM_SHARED and sized at the launch: that is what lets the emulation fill it with
 * NaN before each block and put a wall behind it. Warps are whole: block sizes are multiples of 32 and masks are DLM_WARP.
 *
 * PTX: mma.sync.m16n8k16, ldmatrix, cp.async and their fragment layouts are those of the PTX ISA manual, version 8.
 */
#ifndef DLM_CUDA_TARGET_CUH
#define DLM_CUDA_TARGET_CUH

#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#else
#include "cuda.h"
#endif

#define DLM_WARP 0xffffffffu
#define DLM_DEVICE static __device__ __forceinline__

/* The block's shared memory as an array of `type`. */
#ifdef __CUDACC__
extern __shared__ __align__(128) unsigned char dlm_shared_bytes[];
#define DLM_SHARED(type, name) type *name = reinterpret_cast<type *>(dlm_shared_bytes)
#else
#define DLM_SHARED(type, name) type *name = static_cast<type *>(emulated_shared())
#endif

/* --- bf16: the upper half of a float32, rounded to nearest even ------------------------------------------------------------------ */

struct bf16 {
    uint16_t bits;
};

DLM_DEVICE float to_f32(float f)
{
    return f;
}

DLM_DEVICE float to_f32(bf16 b)
{
    return __uint_as_float((unsigned)b.bits << 16);
}

#ifdef __CUDACC__
DLM_DEVICE bf16 to_bf16(float f)
{
    return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(f))};
}
#else
DLM_DEVICE bf16 to_bf16(float f)
{
    const unsigned u = __float_as_uint(f), near = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return bf16{(uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : near)};
}
#endif

template <typename A> DLM_DEVICE A to_act(float f);
template <> __device__ __forceinline__ float to_act<float>(float f)
{
    return f;
}
template <> __device__ __forceinline__ bf16 to_act<bf16>(float f)
{
    return to_bf16(f);
}

/* Two neighbours in one register, the first in the low half, as fragments hold them. */
DLM_DEVICE uint32_t pack_bf16(float first, float second)
{
    return (uint32_t)to_bf16(first).bits | (uint32_t)to_bf16(second).bits << 16;
}

/* --- 16 bytes from device memory to shared memory, while the thread goes on ------------------------------------------------------ */

/* `shared` and `global` are multiples of 16; where `valid` is false the 16 bytes become zero and `global` is not read. */
DLM_DEVICE void copy_async(void *shared, const void *global, bool valid)
{
#ifdef __CUDACC__
    const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid ? 16 : 0) : "memory");
#else
    emulated_copy_async(shared, global, valid);
#endif
}

/* Closes the group of copies since the last one. */
DLM_DEVICE void copy_commit(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulated_copy_commit();
#endif
}

/* Until at most `Left` of this thread's groups are on their way; others see what arrived after a __syncthreads. */
template <int Left> DLM_DEVICE void copy_wait(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#else
    emulated_copy_wait(Left);
#endif
}

/* --- tensor cores: d (16, 8) += a (16, 16) · b (16, 8), bf16 in, float32 sums ---------------------------------------------------- */

/* Lane l, g = l / 4, t = l % 4. a: rows g and g + 8 (registers 0, 1), columns 2t, 2t + 1; registers 2, 3 the same 8 columns on.
 * b: column g, rows 2t, 2t + 1, register 1 eight rows on. d: row g columns 2t, 2t + 1, then row g + 8. */
DLM_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulated_mma(d, a, b);
#endif
}

/* Four 8 × 8 matrices of 16-bit items from shared memory: lane 8·j + r gives the address (a multiple of 16) of row r of matrix j.
 * Lane l gets in register j, of matrix j, row l / 4, columns 2(l % 4) and one more; transposed: column l / 4, those rows. */
DLM_DEVICE void load_matrices(uint32_t (&r)[4], const void *row)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#else
    emulated_load_matrices(r, row, false);
#endif
}

DLM_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void *row)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#else
    emulated_load_matrices(r, row, true);
#endif
}

/* --- sums in a fixed order -------------------------------------------------------------------------------------------------------- */

struct sum_op {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a + b;
    }
};

struct max_op {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a > b ? a : b;
    }
};

/* Of the warp's values, in every lane. */
template <typename Op, typename T> DLM_DEVICE T warp_reduce(T v)
{
    for (int lane = 16; lane; lane /= 2)
        v = Op()(v, __shfl_xor_sync(DLM_WARP, v, lane));
    return v;
}

/* Of the block's values, in every thread; `shared` has room for blockDim.x / 32 of them and may be used again at once. All threads call. */
template <typename Op, typename T> DLM_DEVICE T block_reduce(T v, T *shared)
{
    v = warp_reduce<Op>(v);
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = shared[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++)
        v = Op()(v, shared[w]);
    __syncthreads();
    return v;
}

#endif
