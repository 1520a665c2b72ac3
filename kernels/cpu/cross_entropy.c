/* Cross-entropy of a row of logits without the mask id, and its gradient softmax - one-hot (method.md §4, the autoregressive
 * baseline). */
#include "softmax.h"

#include <omp.h>

/* The sum leaves the target out, so that 1 - s(target) is exact to rounding. */
static void loss_row(float *work, float *nll, void *dl, const float *l, uint32_t target, size_t V, uint32_t mask,
                     enum dlm_dtype act)
{
    float *e = work, *mark = e + 2 * dlm_softmax_padded(V), at = l[target];
    double total;
    float most = dlm_softmax_pass(e, mark, &total, l, V, target, mask);
    double own = exp((double)at - (double)most), all = total + own;
    /* own may be 0 in double only when it is e⁻⁷⁰⁰ of the sum */
    *nll = (float)(total < own ? log1p(total / own) : log(all) + ((double)most - (double)at));
    if (!dl)
        return;
    for (size_t b = 0; b < dlm_softmax_blocks(V); b++) {
        size_t from = b * DLM_BLOCK, to = V - from < DLM_BLOCK ? V : from + DLM_BLOCK;
        float factor = (float)(exp((double)mark[b] - (double)most) / all);
        if (act == DLM_BF16) {
#pragma omp simd
            for (size_t v = from; v < to; v++)
                dlm_act_put(dl, v, e[v] * factor, DLM_BF16);
        } else {
#pragma omp simd
            for (size_t v = from; v < to; v++)
                dlm_act_put(dl, v, e[v] * factor, DLM_F32);
        }
    }
    if (mask < V)
        dlm_act_put(dl, mask, 0, act);
    dlm_act_put(dl, target, (float)(-total / all), act);
}

void dlm_cpu_cross_entropy(struct dlm_device *dev, dlm_ptr nll_, dlm_ptr dlogits_, dlm_ptr logits_, dlm_ptr target_, size_t n,
                           size_t V, uint32_t mask, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    float *nll = dlm_at(nll_);
    void *dlogits = dlm_at(dlogits_);
    const float *logits = dlm_at(logits_);
    const uint32_t *target = dlm_at(target_);
    size_t each = dlm_softmax_floats(V);
    float *work = n ? dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work) : NULL;
    if (!work)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        loss_row(work + (size_t)omp_get_thread_num() * each, nll + i, dlogits ? dlm_act_at(dlogits, i * V, act) : NULL,
                 logits + i * V, target[i], V, mask, act);
}
