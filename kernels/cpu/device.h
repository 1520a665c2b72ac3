/* The CPU device: threads, scratch and the sticky failure, and the small things every kernel file needs.
 *
 * Not for anything outside kernels/cpu and the tests of it. A dlm_ptr is here an ordinary address. Kernels run at once, on
 * `threads` OpenMP threads, and return when done. Work is cut into slices that depend on sizes and on the number of threads
 * alone, never on which thread comes first: that is what makes results bit-reproducible.
 */
#ifndef DLM_CPU_DEVICE_H
#define DLM_CPU_DEVICE_H

#include "../kernels.h"

#include <string.h>

#define DLM_INLINE static inline __attribute__((always_inline))

struct dlm_gemm; /* linear_onednn.c */

struct dlm_device {
    int threads;
    char description[128];
    char failure[200]; /* "" while all is well */
    void *scratch;     /* grows to what the largest call needs, and stays */
    size_t scratch_size;
    struct dlm_gemm *gemm;
};

/* At least `bytes`, 64-byte aligned, contents undefined, until the next call of this; NULL, and the device failed, when there is
 * no memory. */
void *dlm_device_scratch(struct dlm_device *dev, size_t bytes);
/* Keep the first message. */
void dlm_device_fail(struct dlm_device *dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

DLM_INLINE bool dlm_device_failed(const struct dlm_device *dev)
{
    return dev->failure[0] != 0;
}

DLM_INLINE void *dlm_at(dlm_ptr p)
{
    return (void *)(uintptr_t)p.at;
}

/* Where slice i of `parts` begins among n; slice i ends where i + 1 begins. */
DLM_INLINE size_t dlm_slice(size_t n, int i, int parts)
{
    size_t rest = n % (size_t)parts, at = (size_t)i;
    return n / (size_t)parts * at + (at < rest ? at : rest);
}

DLM_INLINE size_t dlm_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* --- bf16: the upper half of a float32, rounded to nearest even -------------------------------------------------------- */

DLM_INLINE float dlm_bf16_to_f32(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

DLM_INLINE uint16_t dlm_bf16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t near = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : near);
}

/* Element i of an array of type `t`; with t a constant these are plain loads and stores. */
DLM_INLINE float dlm_act_get(const void *p, size_t i, enum dlm_dtype t)
{
    return t == DLM_BF16 ? dlm_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

DLM_INLINE void dlm_act_put(void *p, size_t i, float f, enum dlm_dtype t)
{
    if (t == DLM_BF16)
        ((uint16_t *)p)[i] = dlm_bf16_from_f32(f);
    else
        ((float *)p)[i] = f;
}

DLM_INLINE void *dlm_act_at(const void *p, size_t i, enum dlm_dtype t)
{
    return (char *)(uintptr_t)p + i * dlm_dtype_size(t);
}

/* --- the entries of the table, under the names it gives them ----------------------------------------------------------- */

void dlm_cpu_embed(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
void dlm_cpu_embed_bf16(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
void dlm_cpu_embed_backward(struct dlm_device *, dlm_ptr dE, dlm_ptr dx, dlm_ptr ids, size_t T, size_t d, size_t V);
void dlm_cpu_norm(struct dlm_device *, dlm_ptr y, dlm_ptr rstd, dlm_ptr x, dlm_ptr gamma, size_t T, size_t d, float eps,
                  enum dlm_dtype act);
void dlm_cpu_norm_backward(struct dlm_device *, dlm_ptr dx, dlm_ptr dgamma, dlm_ptr dy, dlm_ptr x, dlm_ptr rstd, dlm_ptr gamma,
                           size_t T, size_t d, enum dlm_dtype act);
void dlm_cpu_qk_rotary(struct dlm_device *, dlm_ptr qh, dlm_ptr kh, dlm_ptr rstd, dlm_ptr qkv, dlm_ptr gamma_q, dlm_ptr gamma_k,
                       dlm_ptr rope, size_t B, size_t N, size_t H, size_t h, float eps, enum dlm_dtype act);
void dlm_cpu_qk_rotary_backward(struct dlm_device *, dlm_ptr dqkv, dlm_ptr dgamma_q, dlm_ptr dgamma_k, dlm_ptr dqh, dlm_ptr dkh,
                                dlm_ptr qkv, dlm_ptr rstd, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope, size_t B, size_t N,
                                size_t H, size_t h, enum dlm_dtype act);
void dlm_cpu_attention(struct dlm_device *, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k,
                       dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H, size_t h, float cap,
                       enum dlm_dtype act);
void dlm_cpu_attention_cached(struct dlm_device *, dlm_ptr o, dlm_ptr keys, dlm_ptr values, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                              dlm_ptr sink_k, dlm_ptr sink_v, enum dlm_attend rule, size_t at, size_t n, size_t H, size_t h,
                              float cap, enum dlm_dtype act);
void dlm_cpu_attention_backward(struct dlm_device *, dlm_ptr dq, dlm_ptr dk, dlm_ptr dv, size_t lddv, dlm_ptr dsink_k,
                                dlm_ptr dsink_v, dlm_ptr do_, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                                dlm_ptr sink_k, dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H,
                                size_t h, float cap, enum dlm_dtype act);
void dlm_cpu_bias_relu2(struct dlm_device *, dlm_ptr a, dlm_ptr u, dlm_ptr b, size_t T, size_t m, enum dlm_dtype act);
void dlm_cpu_bias_relu2_backward(struct dlm_device *, dlm_ptr du, dlm_ptr db, dlm_ptr da, dlm_ptr u, dlm_ptr b, size_t T,
                                 size_t m, enum dlm_dtype act);
void dlm_cpu_residual(struct dlm_device *, dlm_ptr x, dlm_ptr y, dlm_ptr b, size_t T, size_t d, float scale, enum dlm_dtype act);
void dlm_cpu_residual_backward(struct dlm_device *, dlm_ptr dy, dlm_ptr db, dlm_ptr dx, size_t T, size_t d, float scale,
                               enum dlm_dtype act);
void dlm_cpu_gather_rows(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);
void dlm_cpu_scatter_rows(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);
void dlm_cpu_diffusion_loss(struct dlm_device *, dlm_ptr terms, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr x, dlm_ptr z,
                            dlm_ptr row, size_t n, size_t V, uint32_t mask, enum dlm_dtype act);
void dlm_cpu_cross_entropy(struct dlm_device *, dlm_ptr nll, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr target, size_t n, size_t V,
                           uint32_t mask, enum dlm_dtype act);
void dlm_cpu_shares(struct dlm_device *, dlm_ptr p, dlm_ptr logits, size_t n, size_t V, uint32_t mask, float scale);
void dlm_cpu_draw(struct dlm_device *, dlm_ptr drawn, dlm_ptr p, dlm_ptr draw, size_t n, size_t V, uint32_t mask);
void dlm_cpu_corrupt(struct dlm_device *, uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example,
                     size_t B, size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask);
void dlm_cpu_laprop(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1,
                    float b2, float eps, float weight_decay, float grad_scale);
void dlm_cpu_adamw(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                   float c1, float c2, float eps, float weight_decay, float grad_scale);
void dlm_cpu_laprop_split(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1,
                          float b2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
void dlm_cpu_adamw_split(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                         float c1, float c2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
void dlm_cpu_accumulate(struct dlm_device *, dlm_ptr sum, dlm_ptr x, size_t n, uint64_t seed, uint32_t pass, size_t first);
void dlm_cpu_average(struct dlm_device *, dlm_ptr mean, dlm_ptr x, size_t n, float share);
double dlm_cpu_sum_squares(struct dlm_device *, dlm_ptr x, size_t n);
double dlm_cpu_sum_squares_bf16(struct dlm_device *, dlm_ptr x, size_t n);

#endif
