/* The residual stream: x += scale·(y + b) with x in float32 (scale = R/L, method.md §4), and its gradient. */
#include "columns.h"

DLM_INLINE void forward_row(float *restrict x, const void *y, const float *restrict b, size_t d, float scale, enum dlm_dtype act)
{
    if (b) {
#pragma omp simd
        for (size_t i = 0; i < d; i++)
            x[i] += scale * (dlm_act_get(y, i, act) + b[i]);
    } else {
#pragma omp simd
        for (size_t i = 0; i < d; i++)
            x[i] += scale * dlm_act_get(y, i, act);
    }
}

DLM_INLINE void backward_row(void *dy, float *restrict db, const float *restrict dx, size_t d, float scale, enum dlm_dtype act)
{
#pragma omp simd
    for (size_t i = 0; i < d; i++)
        dlm_act_put(dy, i, scale * dx[i], act);
    if (db) {
#pragma omp simd
        for (size_t i = 0; i < d; i++)
            db[i] += scale * dx[i];
    }
}

void dlm_cpu_residual(struct dlm_device *dev, dlm_ptr x_, dlm_ptr y_, dlm_ptr b_, size_t T, size_t d, float scale,
                      enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    float *x = dlm_at(x_);
    const void *y = dlm_at(y_);
    const float *b = dlm_at(b_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < T; t++) {
        if (act == DLM_BF16)
            forward_row(x + t * d, dlm_act_at(y, t * d, DLM_BF16), b, d, scale, DLM_BF16);
        else
            forward_row(x + t * d, dlm_act_at(y, t * d, DLM_F32), b, d, scale, DLM_F32);
    }
}

void dlm_cpu_residual_backward(struct dlm_device *dev, dlm_ptr dy_, dlm_ptr db_, dlm_ptr dx_, size_t T, size_t d, float scale,
                               enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *dy = dlm_at(dy_);
    const float *dx = dlm_at(dx_);
    float *db = dlm_at(db_);
    int parts = dlm_columns_parts(dev, T);
    size_t stride = dlm_columns_stride(d);
    float *partial = dlm_device_scratch(dev, (size_t)parts * stride * sizeof *partial);
    if (!partial)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int p = 0; p < parts; p++) {
        float *sum = db ? partial + (size_t)p * stride : NULL;
        if (sum)
            memset(sum, 0, d * sizeof *sum);
        for (size_t t = dlm_slice(T, p, parts); t < dlm_slice(T, p + 1, parts); t++) {
            if (act == DLM_BF16)
                backward_row(dlm_act_at(dy, t * d, DLM_BF16), sum, dx + t * d, d, scale, DLM_BF16);
            else
                backward_row(dlm_act_at(dy, t * d, DLM_F32), sum, dx + t * d, d, scale, DLM_F32);
        }
    }
    if (db)
        dlm_columns_add(db, partial, parts, d);
}
