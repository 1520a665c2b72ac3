/* The CUDA device: opening, memory, copies, and the table itself. Not the arithmetic: that is one file an entry. */
#include "device.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t STAGE = (size_t)16 << 20; /* bytes of pinned memory */

void dlm_device_fail(struct dlm_device *dev, const char *fmt, ...)
{
    if (dlm_device_failed(dev))
        return;
    if (dev->records) {
        dev->spoilt = true;
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(dev->failure, sizeof dev->failure, fmt, ap);
    va_end(ap);
}

bool dlm_device_good(struct dlm_device *dev, cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        dlm_device_fail(dev, "%s: %s", what, cudaGetErrorString(e));
    return e == cudaSuccess;
}

static void say_no_memory(struct dlm_device *dev, const char *what, size_t bytes)
{
    size_t left = 0, all = 0;
    cudaMemGetInfo(&left, &all);
    dlm_device_fail(dev, "out of memory: %s needs %.3g GB, %.3g of %.3g GB are free", what, (double)bytes / 1e9, (double)left / 1e9,
                    (double)all / 1e9);
}

/* False: there is no memory, or the device has failed. */
static bool scratch_reserve(struct dlm_device *dev, size_t bytes)
{
    if (dlm_device_failed(dev))
        return false;
    if (bytes <= dev->scratch_size)
        return true;
    if (dev->records) {
        dev->spoilt = true;
        return false;
    }
    if (!dlm_device_good(dev, cudaStreamSynchronize(dev->stream), "waiting for the device"))
        return false;
    cudaFree(dev->scratch);
    dev->scratch = NULL;
    dev->scratch_size = 0;
    dev->moves++;
    if (cudaMalloc(&dev->scratch, bytes) != cudaSuccess) {
        cudaGetLastError(); /* it is told here, and is no later launch's */
        dev->scratch = NULL;
        return false;
    }
    dev->scratch_size = bytes;
    return true;
}

void *dlm_device_scratch(struct dlm_device *dev, size_t bytes)
{
    if (scratch_reserve(dev, bytes ? bytes : 1))
        return dev->scratch;
    if (!dlm_device_failed(dev) && !dev->records)
        say_no_memory(dev, "scratch", bytes);
    return NULL;
}

static size_t scratch_of(struct dlm_device *, const struct dlm_shape *s)
{
    const size_t T = s->B * s->N;
    const size_t needs[] = {dlm_norm_scratch(T, s->d),          dlm_qk_rotary_scratch(T, s->d), dlm_attention_scratch(s->B, s->N, s->H, s->h),
                            dlm_bias_relu2_scratch(T, s->m), dlm_residual_scratch(T, s->d),  dlm_sum_squares_scratch()};
    size_t most = 0; /* a call has all of it while it runs */
    for (size_t i = 0; s->train && i < sizeof needs / sizeof *needs; i++) /* forward works in place */
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static void device_close(struct dlm_device *dev)
{
    if (!dev)
        return;
    dlm_collective_close(dev);
    dlm_aside_close(dev);
    if (dev->gemm)
        dlm_gemm_close(dev);
    cudaFree(dev->scratch);
    cudaFreeHost(dev->stage);
    if (dev->stream)
        cudaStreamDestroy(dev->stream);
    free(dev);
}

/* The first thing that does not hold, in one line, or NULL. */
static const char *hindrance(int index, int count, cudaError_t e, char *room, size_t size)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver && e != cudaSuccess)
        snprintf(room, size, "no NVIDIA driver is installed");
    else if (driver < runtime)
        snprintf(room, size, "the NVIDIA driver is too old: it serves CUDA %d.%d, and this build needs %d.%d", driver / 1000, driver % 1000 / 10,
                 runtime / 1000, runtime % 1000 / 10);
    else if (e == cudaErrorNoDevice || (e == cudaSuccess && count < 1))
        snprintf(room, size, "there is no GPU");
    else if (e != cudaSuccess)
        snprintf(room, size, "%s", cudaGetErrorString(e));
    else if (index < 0 || index >= count)
        snprintf(room, size, "there is no GPU %d: there are %d, from 0 on", index, count);
    else
        return NULL;
    return room;
}

static int device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

static struct dlm_device *device_open(int index, int threads, char *msg, size_t msg_size)
{
    (void)threads;
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (hindrance(index, count, e, msg, msg_size))
        return NULL;
    cudaDeviceProp p;
    struct dlm_device *dev = static_cast<struct dlm_device *>(calloc(1, sizeof *dev));
    if (!dev) {
        snprintf(msg, msg_size, "out of memory");
        return NULL;
    }
    const char *graphs = getenv("DLM_CUDA_GRAPHS");
    dev->graphs = !graphs || strcmp(graphs, "0");
    dev->index = index;
    bool good = dlm_device_good(dev, cudaGetDeviceProperties(&p, index), "asking for the GPU's properties");
    if (good && p.major < 8) {
        dlm_device_fail(dev, "GPU %d, %s, has compute capability %d.%d: 8.0 or later is needed", index, p.name, p.major, p.minor);
        good = false;
    }
    good = good && dlm_device_good(dev, cudaSetDevice(index), "taking the GPU");
    good = good && dlm_device_good(dev, cudaStreamCreateWithFlags(&dev->stream, cudaStreamNonBlocking), "making a stream");
    good = good && dlm_device_good(dev, cudaMallocHost(reinterpret_cast<void **>(&dev->stage), STAGE), "getting pinned memory");
    good = good && dlm_gemm_open(dev);
    if (!good) {
        snprintf(msg, msg_size, "%s", dev->failure);
        device_close(dev);
        return NULL;
    }
    char gemm[64];
    dlm_gemm_describe(dev, gemm, sizeof gemm);
    dev->capability = p.major * 10 + p.minor;
    dev->multiprocessors = p.multiProcessorCount;
    dev->shared_most = p.sharedMemPerBlockOptin;
    snprintf(dev->description, sizeof dev->description, "cuda:%d, %.100s, sm_%d, %.1f GB, %s", index, p.name, dev->capability,
             (double)p.totalGlobalMem / 1e9, gemm);
    return dev;
}

static const char *device_describe(struct dlm_device *dev)
{
    return dev->description;
}

static bool device_native(struct dlm_device *, enum dlm_dtype)
{
    return true; /* sm_80 has bf16 */
}

static dlm_ptr device_alloc(struct dlm_device *dev, size_t bytes)
{
    void *p = NULL;
    dlm_ptr none = {0};
    dev->spoilt = true; /* a recording, where one is made */
    if (dlm_device_failed(dev) || dev->records)
        return none;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); /* the caller is told by the address */
        return none;
    }
    if (!dlm_device_good(dev, cudaMemsetAsync(p, 0, bytes, dev->stream), "clearing memory")) {
        cudaFree(p);
        return none;
    }
    dlm_ptr r = {(uint64_t)(uintptr_t)p};
    return r;
}

static void device_free(struct dlm_device *dev, dlm_ptr p)
{
    if (!p.at)
        return;
    cudaStreamSynchronize(dev->stream);
    cudaFree(dlm_at<void>(p));
}

static void copy(struct dlm_device *dev, void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    if (!dlm_device_failed(dev) && bytes)
        dlm_device_good(dev, cudaMemcpyAsync(to, from, bytes, kind, dev->stream), "copying");
}

/* The runtime would wait for the whole queue before it reads memory that is not pinned, as the caller's is. So small things are put aside in
 * memory that is, and the queue goes on; large ones wait. */
static void device_upload(struct dlm_device *dev, dlm_ptr dst, const void *src, size_t bytes)
{
    const size_t room = (bytes + 255) / 256 * 256;
    dev->spoilt = true; /* a recording would take the bytes that are there when it is replayed */
    if (dlm_device_failed(dev) || dev->records || !bytes)
        return;
    if (room <= STAGE / 4) {
        if (room > STAGE - dev->stage_used && !dlm_device_good(dev, cudaStreamSynchronize(dev->stream), "copying to the device"))
            return;
        if (room > STAGE - dev->stage_used)
            dev->stage_used = 0;
        memcpy(dev->stage + dev->stage_used, src, bytes);
        src = dev->stage + dev->stage_used;
        dev->stage_used += room;
    }
    copy(dev, dlm_at<void>(dst), src, bytes, cudaMemcpyHostToDevice);
}

static void device_download(struct dlm_device *dev, void *dst, dlm_ptr src, size_t bytes)
{
    dev->spoilt = true;
    if (dev->records)
        return;
    copy(dev, dst, dlm_at<void>(src), bytes, cudaMemcpyDeviceToHost);
    if (!dlm_device_failed(dev))
        dlm_device_good(dev, cudaStreamSynchronize(dev->stream), "copying to the host");
}

static void device_copy(struct dlm_device *dev, dlm_ptr dst, dlm_ptr src, size_t bytes)
{
    copy(dev, dlm_at<void>(dst), dlm_at<void>(src), bytes, cudaMemcpyDeviceToDevice);
}

static void device_zero(struct dlm_device *dev, dlm_ptr dst, size_t bytes)
{
    if (!dlm_device_failed(dev) && bytes)
        dlm_device_good(dev, cudaMemsetAsync(dlm_at<void>(dst), 0, bytes, dev->stream), "clearing memory");
}

static size_t device_available(struct dlm_device *dev)
{
    size_t left = 0, all = 0;
    if (!dlm_device_failed(dev))
        dlm_device_good(dev, cudaMemGetInfo(&left, &all), "asking for free memory");
    return left;
}

static const char *device_sync(struct dlm_device *dev)
{
    if (!dlm_device_failed(dev))
        dlm_device_good(dev, cudaStreamSynchronize(dev->stream), "computing");
    return dlm_device_failed(dev) ? dev->failure : NULL;
}

static struct dlm_kernels table()
{
    struct dlm_kernels k = {};
    k.name = "cuda";
    k.logit_bytes = (size_t)512 << 20; /* with the gradient of as many in bf16, 0.8 GB */
    k.count = device_count;
    k.open = device_open;
    k.close = device_close;
    k.describe = device_describe;
    k.joules = dlm_cuda_joules;
    k.native = device_native;
    k.alloc = device_alloc;
    k.free = device_free;
    k.upload = device_upload;
    k.download = device_download;
    k.copy = device_copy;
    k.zero = device_zero;
    k.available = device_available;
    k.sync = device_sync;
    k.record = dlm_cuda_record;
    k.recorded = dlm_cuda_recorded;
    k.replay = dlm_cuda_replay;
    k.forget = dlm_cuda_forget;
    k.scratch_of = scratch_of;
    k.scratch_reserve = scratch_reserve;
    k.stage_bytes = STAGE + dlm_aside_bytes();
    k.group_id = dlm_cuda_group_id;
    k.group_join = dlm_cuda_group_join;
    k.group_bytes = dlm_cuda_group_bytes;
    k.group_reduce_scatter = dlm_cuda_group_reduce_scatter;
    k.group_all_gather = dlm_cuda_group_all_gather;
    k.group_wait = dlm_cuda_group_wait;
    k.group_squares = dlm_cuda_group_squares;
    k.linear_pack_size = dlm_cuda_linear_pack_size;
    k.linear_pack = dlm_cuda_linear_pack;
    k.linear = dlm_cuda_linear;
    k.linear_dx = dlm_cuda_linear_dx;
    k.linear_dw = dlm_cuda_linear_dw;
    k.linear_bf16 = dlm_cuda_linear; /* a pack is the matrix as it lies */
    k.linear_bf16_dx = dlm_cuda_linear_dx;
    k.embed = dlm_cuda_embed;
    k.embed_bf16 = dlm_cuda_embed_bf16;
    k.embed_backward = dlm_cuda_embed_backward;
    k.norm = dlm_cuda_norm;
    k.norm_backward = dlm_cuda_norm_backward;
    k.qk_rotary = dlm_cuda_qk_rotary;
    k.qk_rotary_backward = dlm_cuda_qk_rotary_backward;
    k.attention = dlm_cuda_attention;
    k.attention_cached = dlm_cuda_attention_cached;
    k.attention_backward = dlm_cuda_attention_backward;
    k.bias_relu2 = dlm_cuda_bias_relu2;
    k.bias_relu2_backward = dlm_cuda_bias_relu2_backward;
    k.residual = dlm_cuda_residual;
    k.residual_backward = dlm_cuda_residual_backward;
    k.gather_rows = dlm_cuda_gather_rows;
    k.scatter_rows = dlm_cuda_scatter_rows;
    k.diffusion_loss = dlm_cuda_diffusion_loss;
    k.cross_entropy = dlm_cuda_cross_entropy;
    k.shares = dlm_cuda_shares;
    k.draw = dlm_cuda_draw;
    k.corrupt = dlm_cuda_corrupt;
    k.laprop = dlm_cuda_laprop;
    k.adamw = dlm_cuda_adamw;
    k.laprop_split = dlm_cuda_laprop_split;
    k.adamw_split = dlm_cuda_adamw_split;
    k.accumulate = dlm_cuda_accumulate;
    k.average = dlm_cuda_average;
    k.sum_squares = dlm_cuda_sum_squares;
    k.sum_squares_bf16 = dlm_cuda_sum_squares_bf16;
    return k;
}

extern "C" __attribute__((visibility("default"))) dlm_kernels_entry dlm_kernels_cuda;

const struct dlm_kernels *dlm_kernels_cuda(size_t size)
{
    static const struct dlm_kernels k = table();
    return size == sizeof k ? &k : NULL;
}
