/* RMSNorm: y = (1 + γ)·x·rstd, rstd = 1/√(mean x² + ε) (method.md §4), and its gradient:
 *
 *     g = (1 + γ)·dy    dx += rstd·(g - x·rstd²·mean(g·x))    dγ += Σ_t dy·x·rstd
 */
#include "columns.h"

#include <math.h>

DLM_INLINE void forward_row(void *y, float *rstd, const float *restrict x, const float *restrict gamma, size_t d, float eps,
                            enum dlm_dtype act)
{
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < d; i++)
        squares += x[i] * x[i];
    float r = 1.0f / sqrtf(squares / (float)d + eps);
    *rstd = r;
#pragma omp simd
    for (size_t i = 0; i < d; i++)
        dlm_act_put(y, i, (1.0f + gamma[i]) * (x[i] * r), act);
}

DLM_INLINE void backward_row(float *restrict dx, float *restrict dgamma, const void *dy, const float *restrict x, float r,
                             const float *restrict gamma, size_t d, enum dlm_dtype act)
{
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (size_t i = 0; i < d; i++)
        dot += (1.0f + gamma[i]) * dlm_act_get(dy, i, act) * x[i];
    float pull = dot / (float)d * r * r * r;
#pragma omp simd
    for (size_t i = 0; i < d; i++) {
        float g = dlm_act_get(dy, i, act);
        dgamma[i] += g * (x[i] * r);
        dx[i] += (1.0f + gamma[i]) * g * r - x[i] * pull;
    }
}

void dlm_cpu_norm(struct dlm_device *dev, dlm_ptr y_, dlm_ptr rstd_, dlm_ptr x_, dlm_ptr gamma_, size_t T, size_t d, float eps,
                  enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *y = dlm_at(y_);
    float *rstd = dlm_at(rstd_);
    const float *x = dlm_at(x_), *gamma = dlm_at(gamma_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < T; t++) {
        if (act == DLM_BF16)
            forward_row(dlm_act_at(y, t * d, DLM_BF16), rstd + t, x + t * d, gamma, d, eps, DLM_BF16);
        else
            forward_row(dlm_act_at(y, t * d, DLM_F32), rstd + t, x + t * d, gamma, d, eps, DLM_F32);
    }
}

void dlm_cpu_norm_backward(struct dlm_device *dev, dlm_ptr dx_, dlm_ptr dgamma_, dlm_ptr dy_, dlm_ptr x_, dlm_ptr rstd_,
                           dlm_ptr gamma_, size_t T, size_t d, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    float *dx = dlm_at(dx_), *dgamma = dlm_at(dgamma_);
    const void *dy = dlm_at(dy_);
    const float *x = dlm_at(x_), *rstd = dlm_at(rstd_), *gamma = dlm_at(gamma_);
    int parts = dlm_columns_parts(dev, T);
    size_t stride = dlm_columns_stride(d);
    float *partial = dlm_device_scratch(dev, (size_t)parts * stride * sizeof *partial);
    if (!partial)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int p = 0; p < parts; p++) {
        float *sum = partial + (size_t)p * stride;
        memset(sum, 0, d * sizeof *sum);
        for (size_t t = dlm_slice(T, p, parts); t < dlm_slice(T, p + 1, parts); t++) {
            if (act == DLM_BF16)
                backward_row(dx + t * d, sum, dlm_act_at(dy, t * d, DLM_BF16), x + t * d, rstd[t], gamma, d, DLM_BF16);
            else
                backward_row(dx + t * d, sum, dlm_act_at(dy, t * d, DLM_F32), x + t * d, rstd[t], gamma, d, DLM_F32);
        }
    }
    dlm_columns_add(dgamma, partial, parts, d);
}
