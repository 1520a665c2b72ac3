/* Softmax of rows of logits without the mask id, at a temperature: what sampling draws from (method.md §9). */
#include "softmax.h"

#include <omp.h>

static void shares_row(float *work, float *p, const float *l, size_t V, uint32_t mask, float scale)
{
    float *e = work, *scaled = e + dlm_softmax_padded(V), *mark = e + 2 * dlm_softmax_padded(V);
    uint32_t low = mask == 0 && V > 1 ? 1 : 0; /* counted by itself, as the losses count their target */
#pragma omp simd
    for (size_t v = 0; v < V; v++)
        scaled[v] = scale * l[v];
    double total;
    float most = dlm_softmax_pass(e, mark, &total, scaled, V, low, mask);
    double own = exp((double)scaled[low] - (double)most), all = total + own;
    for (size_t b = 0; b < dlm_softmax_blocks(V); b++) {
        size_t from = b * DLM_BLOCK, to = V - from < DLM_BLOCK ? V : from + DLM_BLOCK;
        float factor = (float)(exp((double)mark[b] - (double)most) / all);
#pragma omp simd
        for (size_t v = from; v < to; v++)
            p[v] = e[v] * factor;
    }
    if (mask < V)
        p[mask] = 0;
    p[low] = (float)(own / all);
}

void dlm_cpu_shares(struct dlm_device *dev, dlm_ptr p_, dlm_ptr logits_, size_t n, size_t V, uint32_t mask, float scale)
{
    if (dlm_device_failed(dev))
        return;
    float *p = dlm_at(p_);
    const float *logits = dlm_at(logits_);
    size_t each = dlm_softmax_floats(V);
    float *work = n ? dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work) : NULL;
    if (!work)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        shares_row(work + (size_t)omp_get_thread_num() * each, p + i * V, logits + i * V, V, mask, scale);
}
