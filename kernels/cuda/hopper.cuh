/* What a kernel for Hopper (sm_90a) uses beyond target.cuh, on a GPU and on the host: barriers in shared memory that count bytes, copies of
 * boxes of a tensor by the copy engine (TMA), and products of a warpgroup that read shared memory (wgmma).
 *
 * All three go on while the threads do. On the host (tests/emulate/hopper.h) a copy arrives when its barrier is waited for, and not before; a
 * product reads its operands at any time up to its wait, and its sums are NaN until then.
 *
 * A matrix in shared memory is made of panels: rows of 128 bytes (64 bf16) one after the other, eight of which are a pattern of 1024 bytes that
 * begins at a multiple of 1024; within a row the eight pieces of 16 bytes are permuted by the row: piece c of row r lies where c ^ r % 8 would.
 * So eight rows at one column, and one row, lie in different banks. Copies write that order and products read it.
 *
 * PTX: mbarrier, cp.async.bulk.tensor, wgmma and the matrix descriptor are those of the PTX ISA manual, version 8 and later. A file that
 * includes this compiles its kernels' bodies only #if DLM_HOPPER: the other architectures' are empty and never launched.
 */
#ifndef DLM_CUDA_HOPPER_CUH
#define DLM_CUDA_HOPPER_CUH

#include "target.cuh"

#ifdef __CUDACC__
#include <cuda.h>
#else
#include "hopper.h"
#endif

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DLM_HOPPER 1
#else
#define DLM_HOPPER 0
#endif

static const unsigned PANEL_ROW = 128, PANEL_PATTERN = 1024; /* bytes */

#if DLM_HOPPER

/* Where something lies in the block's shared memory, in bytes. */
DLM_DEVICE uint32_t shared_address(const void *p)
{
#ifdef __CUDACC__
    return (uint32_t)__cvta_generic_to_shared(p);
#else
    return emulated_shared_address(p);
#endif
}

/* Byte `at` (0 … 127) of row `row` of a panel. */
DLM_DEVICE uint32_t panel_at(uint32_t row, uint32_t at)
{
    return row * PANEL_ROW + (at ^ row % 8 * 16);
}

/* --- barriers ---------------------------------------------------------------------------------------------------------------------- */

/* One turn of a barrier ends when so many have arrived and as many bytes as they expected; it begins the next. Turns are told apart by the
 * parity of their number, the first being 0. */
DLM_DEVICE void barrier_init(uint64_t *bar, unsigned arrivals)
{
#ifdef __CUDACC__
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(arrivals) : "memory");
#else
    emulated_barrier_init(bar, arrivals);
#endif
}

/* By the thread that made the barriers, before a __syncthreads: copies see them, too. */
DLM_DEVICE void barrier_made(void)
{
#ifdef __CUDACC__
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
#else
    emulated_barrier_made();
#endif
}

DLM_DEVICE void barrier_arrive(uint64_t *bar)
{
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
#else
    emulated_barrier_arrive(bar, 0);
#endif
}

/* Arrives, and has the turn wait for so many bytes more. */
DLM_DEVICE void barrier_expect(uint64_t *bar, unsigned bytes)
{
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)), "r"(bytes) : "memory");
#else
    emulated_barrier_arrive(bar, bytes);
#endif
}

/* Until the turn of this parity has ended: what those who arrived did before, and what was copied, is seen. By whole warps, which go on together: a
 * lane that looked a turn later than one that had gone on would wait for ever. */
DLM_DEVICE void barrier_wait(uint64_t *bar, unsigned parity)
{
#ifdef __CUDACC__
    asm volatile("{\n\t.reg .pred done;\n"
                 "again:\n\t"
                 "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again;\n\t}" ::"r"(shared_address(bar)),
                 "r"(parity)
                 : "memory");
#else
    emulated_barrier_wait(bar, parity);
#endif
    __syncwarp();
}

/* A barrier of the hardware, `id` of 1 … 15, that so many threads come to, whole warps: those that wait there, and those that only say that they
 * were there. */
DLM_DEVICE void meeting_wait(unsigned id, unsigned threads)
{
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    emulated_meeting_point(id, threads, true);
#endif
}

DLM_DEVICE void meeting_arrive(unsigned id, unsigned threads)
{
#ifdef __CUDACC__
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
    emulated_meeting_point(id, threads, false);
#endif
}

/* --- copies ------------------------------------------------------------------------------------------------------------------------ */

/* The box at (c0, c1, c2, c3) of a tensor, innermost first, to a panel; what lies outside of the tensor becomes zero. By one thread; the
 * bytes of the whole box arrive at the barrier. */
DLM_DEVICE void copy_box(void *to, const CUtensorMap *map, uint64_t *bar, unsigned c0, unsigned c1, unsigned c2, unsigned c3)
{
#ifdef __CUDACC__
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(shared_address(bar))
                 : "memory");
#else
    emulated_copy_box(to, map, bar, c0, c1, c2, c3);
#endif
}

/* --- registers ---------------------------------------------------------------------------------------------------------------------- */

/* A warpgroup's threads have so many registers from here on: fewer, or, when others have given theirs up, more. Multiples of 8. */
template <unsigned R> DLM_DEVICE void registers_fewer(void)
{
#ifdef __CUDACC__
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(R));
#else
    emulated_registers(R, false);
#endif
}

template <unsigned R> DLM_DEVICE void registers_more(void)
{
#ifdef __CUDACC__
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(R));
#else
    emulated_registers(R, true);
#endif
}

/* --- products ---------------------------------------------------------------------------------------------------------------------- */

/* A matrix in shared memory, as products take it: the address of its first item; of bytes between eights of rows (of columns where it is read
 * across), and between panels, which only a matrix that is read across has several of. */
DLM_DEVICE uint64_t matrix_at(uint32_t address, unsigned between_panels)
{
    return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(between_panels >> 4 & 0x3fff) << 16 | (uint64_t)(PANEL_PATTERN >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* Before the first product, and before one whose registers were written or read since: those are done with. */
DLM_DEVICE void wgmma_begin(void)
{
#ifdef __CUDACC__
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    emulated_wgmma_begin();
#endif
}

/* Closes the group of products since the last one. */
DLM_DEVICE void wgmma_commit(void)
{
#ifdef __CUDACC__
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    emulated_wgmma_commit();
#endif
}

/* Until at most `Left` of the warp's groups go on. `d` are sums of one that has ended: the compiler is told that they change here. */
template <int Left, unsigned R> DLM_DEVICE void wgmma_wait(float (&d)[R])
{
#ifdef __CUDACC__
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
#pragma unroll
    for (unsigned i = 0; i < R; i++)
        asm volatile("" : "+f"(d[i])::"memory");
#else
    (void)d;
    emulated_wgmma_wait(Left);
#endif
}

#ifdef __CUDACC__
#define WGMMA_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_16(d, i) WGMMA_4(d, i), WGMMA_4(d, i + 4), WGMMA_4(d, i + 8), WGMMA_4(d, i + 12)
#define WGMMA_32(d) WGMMA_16(d, 0), WGMMA_16(d, 16)
#define WGMMA_64(d) WGMMA_32(d), WGMMA_16(d, 32), WGMMA_16(d, 48)
#define WGMMA_NAMES_32                                                                                                                       \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_NAMES_64                                                                                                                       \
    WGMMA_NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"  \
                   "%61,%62,%63"
#endif

/* d (64, 2R) = or += a (64, 16) · b (16, 2R). Thread 32w + l of the warpgroup, g = l / 4, t = l % 4, has in d[4j …] row 16w + g, columns
 * 8j + 2t and one more, then those of row 16w + g + 8. a: rows of K in a panel. b: rows of K, 2R of them, or, `Across`, 16 rows of 2R. */
template <bool Across, unsigned R> DLM_DEVICE void wgmma(float (&d)[R], uint64_t a, uint64_t b, bool add)
{
    static_assert(R == 32 || R == 64, "64 or 128 columns");
#ifdef __CUDACC__
    if constexpr (R == 32)
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %34, 0;\n\t"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_NAMES_32 "}, %32, %33, p, 1, 1, 0, %35;\n\t}"
                     : WGMMA_32(d)
                     : "l"(a), "l"(b), "r"((int)add), "n"(Across ? 1 : 0));
    else
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %66, 0;\n\t"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_NAMES_64 "}, %64, %65, p, 1, 1, 0, %67;\n\t}"
                     : WGMMA_64(d)
                     : "l"(a), "l"(b), "r"((int)add), "n"(Across ? 1 : 0));
#else
    emulated_wgmma(d, R, nullptr, a, b, Across, add);
#endif
}

/* The same, a in registers as mma_bf16 has them, for each warp 16 rows; d += only. They may not change until the wait. */
template <bool Across, unsigned R> DLM_DEVICE void wgmma(float (&d)[R], const uint32_t (&a)[4], uint64_t b)
{
    static_assert(R == 32 || R == 64, "64 or 128 columns");
#ifdef __CUDACC__
    if constexpr (R == 32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_NAMES_32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, %37;"
                     : WGMMA_32(d)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(Across ? 1 : 0));
    else
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_NAMES_64 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, %69;"
                     : WGMMA_64(d)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(Across ? 1 : 0));
#else
    emulated_wgmma(d, R, a, 0, b, Across, true);
#endif
}

#endif

/* --- host: whether the module has a kernel's body, which depends on the architectures it was compiled for --------------------------------- */

template <typename F> static inline bool hopper_compiled(F *kernel)
{
    cudaFuncAttributes a;
    if (cudaFuncGetAttributes(&a, kernel) == cudaSuccess)
        return a.numRegs > 64; /* an empty one takes a handful */
    cudaGetLastError();
    return false;
}

/* --- host: tensors that boxes are copied of ----------------------------------------------------------------------------------------- */

typedef CUresult (*tensor_map_encode)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                                      const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                      CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's, which the module does not link; NULL where it has none. */
static inline tensor_map_encode tensor_map_entry(void)
{
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
    if (e != cudaSuccess)
        cudaGetLastError();
    return e == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<tensor_map_encode>(entry) : NULL;
}

/* bf16 items, four axes of `size`, innermost first; `between`: bytes from one of the outer axes to the next, multiples of 16. Boxes are 64
 * items by one by `rows` by one. False where there is no such map, or a driver that does not make it. */
static inline bool tensor_map(CUtensorMap *map, const void *at, const uint64_t (&size)[4], const uint64_t (&between)[3], unsigned rows)
{
    static const tensor_map_encode encode = tensor_map_entry();
    const cuuint64_t dims[4] = {size[0], size[1], size[2], size[3]}, strides[3] = {between[0], between[1], between[2]};
    const cuuint32_t box[4] = {64, 1, rows, 1}, steps[4] = {1, 1, 1, 1};
    return encode && encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void *>(at), dims, strides, box, steps,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

#endif
