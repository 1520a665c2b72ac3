/* Token embedding: x = E[ids], and its gradient (method.md §4). */
#include "device.h"

void dlm_cpu_embed(struct dlm_device *dev, dlm_ptr x_, dlm_ptr ids_, dlm_ptr E_, size_t T, size_t d)
{
    if (dlm_device_failed(dev))
        return;
    float *x = dlm_at(x_);
    const float *E = dlm_at(E_);
    const uint32_t *ids = dlm_at(ids_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < T; t++)
        memcpy(x + t * d, E + ids[t] * d, d * sizeof *x);
}

void dlm_cpu_embed_bf16(struct dlm_device *dev, dlm_ptr x_, dlm_ptr ids_, dlm_ptr E_, size_t T, size_t d)
{
    if (dlm_device_failed(dev))
        return;
    float *x = dlm_at(x_);
    const uint16_t *E = dlm_at(E_);
    const uint32_t *ids = dlm_at(ids_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t t = 0; t < T; t++) {
        const uint16_t *restrict from = E + ids[t] * d;
        float *restrict to = x + t * d;
#pragma omp simd
        for (size_t i = 0; i < d; i++)
            to[i] = dlm_bf16_to_f32(from[i]);
    }
}

/* Threads share the width, not the ids: text is so uneven (half of all ids may be the mask) that shares of ids would be too, and
 * each column is then summed in order of position whatever the number of threads. */
void dlm_cpu_embed_backward(struct dlm_device *dev, dlm_ptr dE_, dlm_ptr dx_, dlm_ptr ids_, size_t T, size_t d, size_t V)
{
    if (dlm_device_failed(dev))
        return;
    (void)V;
    float *dE = dlm_at(dE_);
    const float *dx = dlm_at(dx_);
    const uint32_t *ids = dlm_at(ids_);
    size_t blocks = dlm_round_up(d, 16) / 16;
    int parts = (size_t)dev->threads < blocks ? dev->threads : (int)blocks;
    if (parts < 1)
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int p = 0; p < parts; p++) {
        size_t from = 16 * dlm_slice(blocks, p, parts), to = 16 * dlm_slice(blocks, p + 1, parts);
        to = to < d ? to : d;
        for (size_t t = 0; t < T; t++) {
            float *restrict to_row = dE + ids[t] * d;
            const float *restrict row = dx + t * d;
#pragma omp simd
            for (size_t i = from; i < to; i++)
                to_row[i] += row[i];
        }
    }
}
