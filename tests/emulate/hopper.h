/* What kernels/cuda/hopper.cuh needs of the host: barriers that count bytes, box copies and warpgroup products, as strict as can be.
 *
 * A barrier's turn is kept in its own eight bytes, so that one that was not made, or was written over, is told. A copy fills its place with
 * NaN when it is asked for, and brings the data when somebody waits for its barrier; one that nobody waits for until the block ends is told.
 * A product decodes its descriptors and reads shared memory, with the 128-byte permutation by address, at once or at the wait, as is drawn;
 * registers likewise. Its sums are NaN until the wait, and to write them before is told; so is a product without wgmma_begin since the last wait.
 * The four warps of a warpgroup must ask for the same products in the same order. The block's shared memory begins at a multiple of 128 that is
 * drawn, not at one of 1024. Threads that use barriers are late now and then, by up to thousands of steps of the others.
 *
 * Not told: shared memory written by plain stores and read by a product without a fence between (no kernel does that), and registers written
 * after wgmma_begin. */
#ifndef DLM_TESTS_EMULATE_HOPPER_H
#define DLM_TESTS_EMULATE_HOPPER_H

#include "cuda.h"

struct cudaFuncAttributes {
    int numRegs;
};
template <typename F> static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, F *)
{
    a->numRegs = 168;
    return cudaSuccess;
}

/* --- the driver's tensor maps ------------------------------------------------------------------------------------------------------------ */

typedef uint64_t cuuint64_t;
typedef uint32_t cuuint32_t;
enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE = 0, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum { cudaEnableDefault = 0 };
struct alignas(64) CUtensorMap {
    uint64_t made, at, size[4], between[3];
    uint32_t box[4];
    bool permuted;
};
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **entry, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *found);

/* --- see hopper.cuh ------------------------------------------------------------------------------------------------------------------------ */

uint32_t emulated_shared_address(const void *);
void emulated_barrier_init(uint64_t *bar, unsigned arrivals);
void emulated_barrier_made(void);
void emulated_barrier_arrive(uint64_t *bar, unsigned bytes);
void emulated_barrier_wait(uint64_t *bar, unsigned parity);
void emulated_meeting_point(unsigned id, unsigned threads, bool wait);
void emulated_copy_box(void *to, const CUtensorMap *map, uint64_t *bar, unsigned c0, unsigned c1, unsigned c2, unsigned c3);
void emulated_registers(unsigned many, bool more);
void emulated_wgmma_begin(void);
void emulated_wgmma_commit(void);
void emulated_wgmma_wait(unsigned left);
void emulated_wgmma(float *d, unsigned registers, const uint32_t *a_registers, uint64_t a, uint64_t b, bool across, bool add);

#endif
