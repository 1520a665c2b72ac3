/* Query and key: RMSNorm over the full width, then rotary embedding in halves (pairs i, i + h/2 of each head), method.md §4:
 *
 *     n = (1 + γ)·x·rstd    (n₁, n₂) → (n₁ cos - n₂ sin, n₂ cos + n₁ sin)
 *
 * Backward turns the gradient back by the same angle and goes through the norm as norm.c does.
 */
#include "columns.h"

#include <math.h>
#include <omp.h>

/* Pairs of each head by the angles of a position, or back by them, in place. In float32 whatever the type outside: half a head of
 * bf16 is less than a vector. */
DLM_INLINE void turn(float *restrict row, const float *restrict rope, size_t H, size_t h, float way)
{
    size_t half = h / 2;
    for (float *head = row; head < row + H * h; head += h) {
        float *low = head, *high = head + half;
#pragma omp simd
        for (size_t i = 0; i < half; i++) {
            float c = rope[2 * i], s = way * rope[2 * i + 1], a = low[i], b = high[i];
            low[i] = a * c - b * s;
            high[i] = b * c + a * s;
        }
    }
}

/* `row` (d) is scratch. Returns rstd. */
DLM_INLINE float forward_row(void *out, float *restrict row, const void *in, const float *restrict gamma,
                             const float *restrict rope, size_t H, size_t h, float eps, enum dlm_dtype act)
{
    size_t d = H * h;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < d; i++) {
        float x = dlm_act_get(in, i, act);
        squares += x * x;
    }
    float r = 1.0f / sqrtf(squares / (float)d + eps);
#pragma omp simd
    for (size_t i = 0; i < d; i++)
        row[i] = (1.0f + gamma[i]) * (dlm_act_get(in, i, act) * r);
    turn(row, rope, H, h, 1.0f);
#pragma omp simd
    for (size_t i = 0; i < d; i++)
        dlm_act_put(out, i, row[i], act);
    return r;
}

/* `row` (d) is scratch; it holds the gradient at the norm's output. */
DLM_INLINE void backward_row(void *dx, float *restrict dgamma, float *restrict row, const void *dout, const void *in, float r,
                             const float *restrict gamma, const float *restrict rope, size_t H, size_t h, enum dlm_dtype act)
{
    size_t d = H * h;
#pragma omp simd
    for (size_t i = 0; i < d; i++)
        row[i] = dlm_act_get(dout, i, act);
    turn(row, rope, H, h, -1.0f);
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (size_t i = 0; i < d; i++)
        dot += (1.0f + gamma[i]) * row[i] * dlm_act_get(in, i, act);
    float pull = dot / (float)d * r * r * r;
#pragma omp simd
    for (size_t i = 0; i < d; i++) {
        float g = row[i], x = dlm_act_get(in, i, act);
        dgamma[i] += g * (x * r);
        dlm_act_put(dx, i, (1.0f + gamma[i]) * g * r - x * pull, act);
    }
}

void dlm_cpu_qk_rotary(struct dlm_device *dev, dlm_ptr qh_, dlm_ptr kh_, dlm_ptr rstd_, dlm_ptr qkv_, dlm_ptr gamma_q_,
                       dlm_ptr gamma_k_, dlm_ptr rope_, size_t B, size_t N, size_t H, size_t h, float eps, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *out[2] = {dlm_at(qh_), dlm_at(kh_)};
    float *rstd = dlm_at(rstd_);
    const void *qkv = dlm_at(qkv_);
    const float *gamma[2] = {dlm_at(gamma_q_), dlm_at(gamma_k_)}, *rope = dlm_at(rope_);
    size_t d = H * h, stride = dlm_columns_stride(d);
    float *rows = dlm_device_scratch(dev, (size_t)dev->threads * stride * sizeof *rows);
    if (!rows)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < B * N; t++) {
        const float *angle = rope + t % N * h;
        float *row = rows + (size_t)omp_get_thread_num() * stride;
        for (size_t w = 0; w < 2; w++) {
            size_t from = t * 3 * d + w * d, to = t * d;
            if (act == DLM_BF16)
                rstd[2 * t + w] = forward_row(dlm_act_at(out[w], to, DLM_BF16), row, dlm_act_at(qkv, from, DLM_BF16), gamma[w],
                                              angle, H, h, eps, DLM_BF16);
            else
                rstd[2 * t + w] = forward_row(dlm_act_at(out[w], to, DLM_F32), row, dlm_act_at(qkv, from, DLM_F32), gamma[w],
                                              angle, H, h, eps, DLM_F32);
        }
    }
}

void dlm_cpu_qk_rotary_backward(struct dlm_device *dev, dlm_ptr dqkv_, dlm_ptr dgamma_q_, dlm_ptr dgamma_k_, dlm_ptr dqh_,
                                dlm_ptr dkh_, dlm_ptr qkv_, dlm_ptr rstd_, dlm_ptr gamma_q_, dlm_ptr gamma_k_, dlm_ptr rope_,
                                size_t B, size_t N, size_t H, size_t h, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *dqkv = dlm_at(dqkv_);
    const void *dout[2] = {dlm_at(dqh_), dlm_at(dkh_)}, *qkv = dlm_at(qkv_);
    const float *rstd = dlm_at(rstd_), *gamma[2] = {dlm_at(gamma_q_), dlm_at(gamma_k_)}, *rope = dlm_at(rope_);
    size_t d = H * h, T = B * N, stride = dlm_columns_stride(d);
    int parts = dlm_columns_parts(dev, T);
    size_t area = (size_t)parts * stride;
    float *partial = dlm_device_scratch(dev, 3 * area * sizeof *partial); /* γq, γk, and a row of scratch */
    if (!partial)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int p = 0; p < parts; p++) {
        float *sum[2] = {partial + (size_t)p * stride, partial + area + (size_t)p * stride};
        float *row = partial + 2 * area + (size_t)p * stride;
        memset(sum[0], 0, d * sizeof *sum[0]);
        memset(sum[1], 0, d * sizeof *sum[1]);
        for (size_t t = dlm_slice(T, p, parts); t < dlm_slice(T, p + 1, parts); t++) {
            const float *angle = rope + t % N * h;
            for (size_t w = 0; w < 2; w++) {
                size_t wide = t * 3 * d + w * d;
                if (act == DLM_BF16)
                    backward_row(dlm_act_at(dqkv, wide, DLM_BF16), sum[w], row, dlm_act_at(dout[w], t * d, DLM_BF16),
                                 dlm_act_at(qkv, wide, DLM_BF16), rstd[2 * t + w], gamma[w], angle, H, h, DLM_BF16);
                else
                    backward_row(dlm_act_at(dqkv, wide, DLM_F32), sum[w], row, dlm_act_at(dout[w], t * d, DLM_F32),
                                 dlm_act_at(qkv, wide, DLM_F32), rstd[2 * t + w], gamma[w], angle, H, h, DLM_F32);
            }
        }
    }
    dlm_columns_add(dlm_at(dgamma_q_), partial, parts, d);
    dlm_columns_add(dlm_at(dgamma_k_), partial + area, parts, d);
}
