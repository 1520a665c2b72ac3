/* The CUDA device: one stream, scratch and the sticky failure, and the launch that every kernel file goes through.
 *
 * Not for anything outside kernels/cuda. A dlm_ptr is an address of device memory. Everything is queued on one stream but the
 * corruption, which waits for itself alone, and what is sent between GPUs; only download, sync, sum_squares, alloc and a growing scratch wait for that. Results depend on sizes alone, never on the number of multiprocessors: sums
 * over rows are cut into slices by shape, written to scratch and added in order, and no floating-point number is ever summed by atomics.
 */
#ifndef DLM_CUDA_DEVICE_CUH
#define DLM_CUDA_DEVICE_CUH

#include "../kernels.h"
#include "target.cuh"

#include <stddef.h>

struct dlm_gemm; /* linear_cublas.cu */

struct dlm_device {
    int index;
    cudaStream_t stream;
    int multiprocessors;
    int capability; /* 80, 90 … */
    size_t shared_most; /* bytes of shared memory that a block may ask for */
    char description[200];
    char failure[300]; /* "" while all is well */
    void *scratch;     /* what was reserved, or what the largest call needed, and stays */
    size_t scratch_size;
    unsigned moves;    /* of the scratch: what was recorded before the last one is stale */
    bool graphs;       /* calls may be recorded; graph.cu */
    bool records;      /* they are now */
    bool spoilt;       /* and one of them cannot be */
    char *stage;       /* pinned host memory that uploads go through */
    size_t stage_used; /* of it, by copies that may still be queued */
    struct dlm_gemm *gemm;
    struct dlm_aside *aside; /* what the corruption has of its own; corrupt.cu */
    bool meter_known; /* whether there is a meter: energy.cu */
    void *meter;
    int (*meter_read)(void *meter, unsigned long long *millijoules);
    struct dlm_collective *collective; /* among several processes; collective.cu */
};

/* At least `bytes` of device memory, 256-byte aligned, contents undefined, until the next call of this; NULL, and the device failed, when
 * there is no memory. Queued kernels that use the old scratch end first. */
void *dlm_device_scratch(struct dlm_device *dev, size_t bytes);
/* What calls ask of it, which grows with every argument: scratch_of counts with these, too. */
size_t dlm_norm_scratch(size_t T, size_t d);
size_t dlm_qk_rotary_scratch(size_t T, size_t d);
size_t dlm_attention_scratch(size_t B, size_t N, size_t H, size_t h);
size_t dlm_bias_relu2_scratch(size_t T, size_t m);
size_t dlm_residual_scratch(size_t T, size_t d);
size_t dlm_sum_squares_scratch(void);
/* Keep the first message; or while calls are recorded, spoil the recording. */
void dlm_device_fail(struct dlm_device *dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* False, and the device failed, where e is an error; `what` says of what. */
bool dlm_device_good(struct dlm_device *dev, cudaError_t e, const char *what);

static inline bool dlm_device_failed(const struct dlm_device *dev)
{
    return dev->failure[0] != 0;
}

template <typename T> static inline T *dlm_at(dlm_ptr p)
{
    return reinterpret_cast<T *>(static_cast<uintptr_t>(p.at));
}

template <typename T> static __host__ __device__ inline T ceil_div(T n, T by)
{
    return (n + by - 1) / by;
}

/* kernel<<<blocks, threads, shared>>>(args) on a stream. Does nothing on a failed device or with no blocks. Kernels that want
 * more than 48 KB of shared memory say so by asking for it. */
template <typename... P, typename... A>
static inline void dlm_launch_on(struct dlm_device *dev, cudaStream_t stream, const char *name, void (*kernel)(P...), dim3 blocks, unsigned threads,
                                 size_t shared, A... args)
{
    if (dlm_device_failed(dev) || !blocks.x || !blocks.y || !blocks.z)
        return;
    if (shared > (size_t)48 << 10 &&
        !dlm_device_good(dev, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared), name))
        return;
#ifdef __CUDACC__
    kernel<<<blocks, threads, shared, stream>>>(static_cast<P>(args)...);
#else
    emulated_launch(stream, blocks, dim3(threads), shared, [=] { kernel(static_cast<P>(args)...); });
#endif
    dlm_device_good(dev, cudaGetLastError(), name);
}

/* On the device's stream. */
template <typename... P, typename... A>
static inline void dlm_launch(struct dlm_device *dev, const char *name, void (*kernel)(P...), dim3 blocks, unsigned threads, size_t shared,
                              A... args)
{
    dlm_launch_on(dev, dev->stream, name, kernel, blocks, threads, shared, args...);
}

/* Call `f<float>` or `f<bf16>`. */
#define DLM_BY_ACT(act, f, ...) ((act) == DLM_BF16 ? f<bf16>(__VA_ARGS__) : f<float>(__VA_ARGS__))

/* --- the entries of the table, under the names it gives them --------------------------------------------------------------------- */

void dlm_cuda_embed(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
void dlm_cuda_embed_bf16(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
void dlm_cuda_embed_backward(struct dlm_device *, dlm_ptr dE, dlm_ptr dx, dlm_ptr ids, size_t T, size_t d, size_t V);
void dlm_cuda_norm(struct dlm_device *, dlm_ptr y, dlm_ptr rstd, dlm_ptr x, dlm_ptr gamma, size_t T, size_t d, float eps,
                  enum dlm_dtype act);
void dlm_cuda_norm_backward(struct dlm_device *, dlm_ptr dx, dlm_ptr dgamma, dlm_ptr dy, dlm_ptr x, dlm_ptr rstd, dlm_ptr gamma,
                           size_t T, size_t d, enum dlm_dtype act);
void dlm_cuda_qk_rotary(struct dlm_device *, dlm_ptr qh, dlm_ptr kh, dlm_ptr rstd, dlm_ptr qkv, dlm_ptr gamma_q, dlm_ptr gamma_k,
                       dlm_ptr rope, size_t B, size_t N, size_t H, size_t h, float eps, enum dlm_dtype act);
void dlm_cuda_qk_rotary_backward(struct dlm_device *, dlm_ptr dqkv, dlm_ptr dgamma_q, dlm_ptr dgamma_k, dlm_ptr dqh, dlm_ptr dkh,
                                dlm_ptr qkv, dlm_ptr rstd, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope, size_t B, size_t N,
                                size_t H, size_t h, enum dlm_dtype act);
void dlm_cuda_attention(struct dlm_device *, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k,
                       dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H, size_t h, float cap,
                       enum dlm_dtype act);
void dlm_cuda_attention_cached(struct dlm_device *, dlm_ptr o, dlm_ptr keys, dlm_ptr values, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                              dlm_ptr sink_k, dlm_ptr sink_v, enum dlm_attend rule, size_t at, size_t n, size_t H, size_t h,
                              float cap, enum dlm_dtype act);
void dlm_cuda_attention_backward(struct dlm_device *, dlm_ptr dq, dlm_ptr dk, dlm_ptr dv, size_t lddv, dlm_ptr dsink_k,
                                dlm_ptr dsink_v, dlm_ptr do_, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                                dlm_ptr sink_k, dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H,
                                size_t h, float cap, enum dlm_dtype act);
void dlm_cuda_bias_relu2(struct dlm_device *, dlm_ptr a, dlm_ptr u, dlm_ptr b, size_t T, size_t m, enum dlm_dtype act);
void dlm_cuda_bias_relu2_backward(struct dlm_device *, dlm_ptr du, dlm_ptr db, dlm_ptr da, dlm_ptr u, dlm_ptr b, size_t T,
                                 size_t m, enum dlm_dtype act);
void dlm_cuda_residual(struct dlm_device *, dlm_ptr x, dlm_ptr y, dlm_ptr b, size_t T, size_t d, float scale, enum dlm_dtype act);
void dlm_cuda_residual_backward(struct dlm_device *, dlm_ptr dy, dlm_ptr db, dlm_ptr dx, size_t T, size_t d, float scale,
                               enum dlm_dtype act);
void dlm_cuda_gather_rows(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);
void dlm_cuda_scatter_rows(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);
void dlm_cuda_diffusion_loss(struct dlm_device *, dlm_ptr terms, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr x, dlm_ptr z,
                            dlm_ptr row, size_t n, size_t V, uint32_t mask, enum dlm_dtype act);
void dlm_cuda_cross_entropy(struct dlm_device *, dlm_ptr nll, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr target, size_t n, size_t V,
                           uint32_t mask, enum dlm_dtype act);
void dlm_cuda_shares(struct dlm_device *, dlm_ptr p, dlm_ptr logits, size_t n, size_t V, uint32_t mask, float scale);
void dlm_cuda_draw(struct dlm_device *, dlm_ptr drawn, dlm_ptr p, dlm_ptr draw, size_t n, size_t V, uint32_t mask);
void dlm_cuda_corrupt(struct dlm_device *, uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example,
                      size_t B, size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask);
void dlm_cuda_laprop(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1,
                    float b2, float eps, float weight_decay, float grad_scale);
void dlm_cuda_adamw(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                   float c1, float c2, float eps, float weight_decay, float grad_scale);
void dlm_cuda_laprop_split(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1,
                          float b2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
void dlm_cuda_adamw_split(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                         float c1, float c2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
void dlm_cuda_accumulate(struct dlm_device *, dlm_ptr sum, dlm_ptr x, size_t n, uint64_t seed, uint32_t pass, size_t first);
void dlm_cuda_average(struct dlm_device *, dlm_ptr mean, dlm_ptr x, size_t n, float share);
double dlm_cuda_sum_squares(struct dlm_device *, dlm_ptr x, size_t n);
double dlm_cuda_sum_squares_bf16(struct dlm_device *, dlm_ptr x, size_t n);

double dlm_cuda_joules(struct dlm_device *);
bool dlm_cuda_record(struct dlm_device *);
struct dlm_recording *dlm_cuda_recorded(struct dlm_device *);
bool dlm_cuda_replay(struct dlm_device *, struct dlm_recording *);
void dlm_cuda_forget(struct dlm_device *, struct dlm_recording *);
bool dlm_cuda_group_id(struct dlm_device *, unsigned char *id);
bool dlm_cuda_group_join(struct dlm_device *, const unsigned char *id, int rank, int size);
size_t dlm_cuda_group_bytes(struct dlm_device *, int size);
void dlm_cuda_group_reduce_scatter(struct dlm_device *, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes);
void dlm_cuda_group_all_gather(struct dlm_device *, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes);
void dlm_cuda_group_wait(struct dlm_device *);
double dlm_cuda_group_squares(struct dlm_device *);
void dlm_collective_close(struct dlm_device *);
void dlm_aside_close(struct dlm_device *);
/* Pinned memory of the host that it takes at its first call. */
size_t dlm_aside_bytes(void);

/* linear_pack.cu */
size_t dlm_cuda_linear_pack_size(struct dlm_device *, size_t O, size_t I, enum dlm_dtype act);
void dlm_cuda_linear_pack(struct dlm_device *, dlm_ptr pack, dlm_ptr w, size_t O, size_t I, enum dlm_dtype act);
/* linear_cublas.cu */
void dlm_cuda_linear(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                      enum dlm_dtype y_type, float scale);
void dlm_cuda_linear_dx(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I,
                         enum dlm_dtype act, enum dlm_dtype dx_type, float scale);
void dlm_cuda_linear_dw(struct dlm_device *, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I, enum dlm_dtype act,
                         float scale);

/* False, and the device failed, when the library gives no handle. */
bool dlm_gemm_open(struct dlm_device *);
void dlm_gemm_close(struct dlm_device *);
/* "cuBLASLt 13.0.2" */
void dlm_gemm_describe(struct dlm_device *, char *to, size_t size);

#endif
