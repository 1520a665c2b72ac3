/* Cross-entropy of a row of logits without the mask id, and its gradient softmax - one-hot (method.md §4, the autoregressive baseline). */
#include "exclude.h"
#include "vmath.h"

#include <math.h>

enum { BLOCK = 512 };

/* The sum leaves the target out, so that 1 - s(target) is exact to rounding. */
static void loss_row(float *nll, void *dl, const float *l, uint32_t target, size_t V, uint32_t mask, enum dlm_dtype act)
{
    struct dlm_runs others = dlm_runs_without(V, target, mask);
    float at = l[target], most = at;
    double total = 0;
    for (int r = 0; r < 3; r++)
        for (size_t from = others.from[r]; from < others.to[r]; from += BLOCK) {
            size_t to = others.to[r] - from < BLOCK ? others.to[r] : from + BLOCK;
            float here = -INFINITY, part = 0;
#pragma omp simd reduction(max : here)
            for (size_t v = from; v < to; v++)
                here = l[v] > here ? l[v] : here;
            if (here > most) {
                total *= exp((double)most - (double)here);
                most = here;
            }
#pragma omp simd reduction(+ : part)
            for (size_t v = from; v < to; v++)
                part += dlm_expf(l[v] - most);
            total += (double)part;
        }
    double own = exp((double)at - (double)most), all = total + own;
    /* own may be 0 in double only when it is e⁻⁷⁰⁰ of the sum */
    *nll = (float)(total < own ? log1p(total / own) : log(all) + ((double)most - (double)at));
    if (!dl)
        return;
    struct dlm_runs runs = dlm_runs_without(V, mask, V);
    float inverse = (float)(1.0 / all);
    for (int r = 0; r < 3; r++) {
        if (act == DLM_BF16) {
#pragma omp simd
            for (size_t v = runs.from[r]; v < runs.to[r]; v++)
                dlm_act_put(dl, v, dlm_expf(l[v] - most) * inverse, DLM_BF16);
        } else {
#pragma omp simd
            for (size_t v = runs.from[r]; v < runs.to[r]; v++)
                dlm_act_put(dl, v, dlm_expf(l[v] - most) * inverse, DLM_F32);
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
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        loss_row(nll + i, dlogits ? dlm_act_at(dlogits, i * V, act) : NULL, logits + i * V, target[i], V, mask, act);
}
