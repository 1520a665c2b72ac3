/* The CUDA execution model on the host, as far as kernels/cuda uses it.
 *
 * What is queued on a stream runs when the host waits for it, streams among each other in an order that is drawn (streams.cc). A launch runs its blocks
 * one after the other, in an order drawn anew, on the calling thread. Each thread of a block is a fiber that
 * runs until it meets others (a barrier, a shuffle, a tensor core product) or ends; which one runs next is drawn, too, so that threads that
 * share memory without a barrier see each other's work too early or too late. Shared memory is NaN when a block begins, device memory when it is
 * allocated, and both end at a page that cannot be touched. Copies to shared memory by copy_async arrive at the wait and no sooner. Lanes of
 * a warp that meet in different places, a barrier that some threads never reach, and a launch that asks for more than a block of
 * sm_80 has, end the program with a word on standard error.
 *
 * Order: seed 0, or DLM_EMULATE_SEED. The machine has one GPU of capability 8.0 with a driver of this version and as much memory as the host, but
 * where DLM_EMULATE_DEVICES, DLM_EMULATE_CAPABILITY, DLM_EMULATE_DRIVER and DLM_EMULATE_MEMORY (bytes) say otherwise. At its end the process appends to
 * the file DLM_EMULATE_REPORT what it took of it (streams.cc). Not emulated: time, two pieces of work at the same
 * moment, memory caches and their orders, textures.
 */
#ifndef DLM_TESTS_EMULATE_CUDA_H
#define DLM_TESTS_EMULATE_CUDA_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct emulated_places {
    dim3 thread, block, threads, blocks;
};
extern emulated_places emulated_here; /* of the fiber that runs */
#define threadIdx emulated_here.thread
#define blockIdx emulated_here.block
#define blockDim emulated_here.threads
#define gridDim emulated_here.blocks

/* --- meeting ----------------------------------------------------------------------------------------------------------------------- */

void *emulated_shared(void);
void __syncthreads(void);
int __syncthreads_or(int predicate);
/* What every lane of the warp brought to this meeting; `kind` must be the same for all. Valid until the lane's next meeting. */
struct emulated_meeting {
    unsigned char (*lane)[64];
    int self;
};
emulated_meeting emulated_meet(const char *kind, const void *bring, size_t bytes);
void emulated_fault(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

static inline void __syncwarp(unsigned = 0xffffffffu)
{
    emulated_meet("__syncwarp", "", 0);
}

static inline void emulated_whole(unsigned mask)
{
    if (mask != 0xffffffffu)
        emulated_fault("a warp meets with mask %08x: only whole warps do", mask);
}

template <typename T> static inline T emulated_lane(const emulated_meeting &m, int lane)
{
    T v;
    memcpy(&v, m.lane[lane & 31], sizeof v);
    return v;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int lanes)
{
    emulated_whole(mask);
    emulated_meeting m = emulated_meet("__shfl_xor_sync", &v, sizeof v);
    return emulated_lane<T>(m, m.self ^ lanes);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T v, int lane)
{
    emulated_whole(mask);
    return emulated_lane<T>(emulated_meet("__shfl_sync", &v, sizeof v), lane);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned lanes)
{
    emulated_whole(mask);
    emulated_meeting m = emulated_meet("__shfl_up_sync", &v, sizeof v);
    return m.self < (int)lanes ? v : emulated_lane<T>(m, m.self - (int)lanes);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned lanes)
{
    emulated_whole(mask);
    emulated_meeting m = emulated_meet("__shfl_down_sync", &v, sizeof v);
    return m.self + (int)lanes > 31 ? v : emulated_lane<T>(m, m.self + (int)lanes);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    emulated_whole(mask);
    int set = predicate != 0;
    emulated_meeting m = emulated_meet("__ballot_sync", &set, sizeof set);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (unsigned)emulated_lane<int>(m, i) << i;
    return bits;
}

static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) == 0xffffffffu;
}

/* --- tensor cores and copies: see kernels/cuda/target.cuh ---------------------------------------------------------------------------- */

void emulated_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void emulated_load_matrices(uint32_t (&r)[4], const void *row, bool transposed);
void emulated_copy_async(void *shared, const void *global, bool valid);
void emulated_copy_commit(void);
void emulated_copy_wait(int left);

/* --- arithmetic ------------------------------------------------------------------------------------------------------------------------ */

static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}

static inline int __popc(unsigned u)
{
    return __builtin_popcount(u);
}

static inline int __ffs(int u)
{
    return __builtin_ffs(u);
}

#define __expf(x) expf(x) /* the C library keeps these two names for itself */
#define __logf(x) logf(x)

static inline float __fdividef(float a, float b)
{
    return a / b;
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct uint2 {
    unsigned x, y;
};

static inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}

template <typename T> static inline T atomicAdd(T *to, T v)
{
    static_assert(!(T(0.5) != T(0)), "sums of floating-point numbers by atomics depend on their order");
    T before = *to;
    *to = before + v;
    return before;
}

/* --- the runtime's calls that device.cu makes ------------------------------------------------------------------------------------------- */

typedef int cudaError_t;
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_exec *cudaGraphExec_t;
enum {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaRuntimeGetVersion(int *);
cudaError_t cudaDriverGetVersion(int *);
cudaError_t cudaMemGetInfo(size_t *free_, size_t *total);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaMallocHost(void **, size_t);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *, unsigned flags, int priority);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);
template <typename F> static inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

/* --- for the emulation itself, and the libraries it stands in for ------------------------------------------------------------------------ */

/* kernel<<<blocks, threads, shared, stream>>>(…); the closure owns the arguments. */
void emulated_launch(cudaStream_t stream, dim3 blocks, dim3 threads, size_t shared, const std::function<void()> &kernel);
/* Work: true when it is done, false where it must be asked again later, others having gone on. */
typedef std::function<bool()> emulated_poll;
void emulated_queue(cudaStream_t, const emulated_poll &);
/* Until every stream has ended. */
void emulated_wait_all(void);
/* So many bytes are allocated now, by one more allocation. */
void emulated_count_allocation(size_t allocated);
/* Some stream records a graph: what would wait, or allocate, is an error. */
bool emulated_recording(void);
uint32_t emulated_draw(uint32_t below);
/* The thread waits until `so` is so: asked in between, by any thread. */
void emulated_wait_until(const char *what, const std::function<bool()> &so);
size_t emulated_shared_size(void);
extern void (*emulated_block_begins)(void), (*emulated_block_ends)(void); /* hopper.cc */

#endif
