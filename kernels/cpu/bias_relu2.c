/* a = relu(u + b)², and its gradient du = da·2·relu(u + b), db += Σ_t du (method.md §4). */
#include "columns.h"

DLM_INLINE void forward_row(void *a, const void *u, const float *restrict b, size_t m, enum dlm_dtype act)
{
#pragma omp simd
    for (size_t i = 0; i < m; i++) {
        float v = dlm_act_get(u, i, act) + b[i];
        v = v > 0 ? v : 0;
        dlm_act_put(a, i, v * v, act);
    }
}

DLM_INLINE void backward_row(void *du, float *restrict db, const void *da, const void *u, const float *restrict b, size_t m,
                             enum dlm_dtype act)
{
#pragma omp simd
    for (size_t i = 0; i < m; i++) {
        float v = dlm_act_get(u, i, act) + b[i];
        v = v > 0 ? v : 0;
        float g = dlm_act_get(da, i, act) * 2.0f * v;
        db[i] += g;
        dlm_act_put(du, i, g, act);
    }
}

void dlm_cpu_bias_relu2(struct dlm_device *dev, dlm_ptr a_, dlm_ptr u_, dlm_ptr b_, size_t T, size_t m, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *a = dlm_at(a_);
    const void *u = dlm_at(u_);
    const float *b = dlm_at(b_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < T; t++) {
        if (act == DLM_BF16)
            forward_row(dlm_act_at(a, t * m, DLM_BF16), dlm_act_at(u, t * m, DLM_BF16), b, m, DLM_BF16);
        else
            forward_row(dlm_act_at(a, t * m, DLM_F32), dlm_act_at(u, t * m, DLM_F32), b, m, DLM_F32);
    }
}

void dlm_cpu_bias_relu2_backward(struct dlm_device *dev, dlm_ptr du_, dlm_ptr db_, dlm_ptr da_, dlm_ptr u_, dlm_ptr b_, size_t T,
                                 size_t m, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    void *du = dlm_at(du_);
    const void *da = dlm_at(da_), *u = dlm_at(u_);
    const float *b = dlm_at(b_);
    int parts = dlm_columns_parts(dev, T);
    size_t stride = dlm_columns_stride(m);
    float *partial = dlm_device_scratch(dev, (size_t)parts * stride * sizeof *partial);
    if (!partial)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int p = 0; p < parts; p++) {
        float *sum = partial + (size_t)p * stride;
        memset(sum, 0, m * sizeof *sum);
        for (size_t t = dlm_slice(T, p, parts); t < dlm_slice(T, p + 1, parts); t++) {
            if (act == DLM_BF16)
                backward_row(dlm_act_at(du, t * m, DLM_BF16), sum, dlm_act_at(da, t * m, DLM_BF16),
                             dlm_act_at(u, t * m, DLM_BF16), b, m, DLM_BF16);
            else
                backward_row(dlm_act_at(du, t * m, DLM_F32), sum, dlm_act_at(da, t * m, DLM_F32), dlm_act_at(u, t * m, DLM_F32),
                             b, m, DLM_F32);
        }
    }
    dlm_columns_add(dlm_at(db_), partial, parts, m);
}
