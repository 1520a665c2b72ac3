/* The running average of the weights. */
#include "run/average.h"

#include <math.h>

int dlm_average_new(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, struct dlm_error *err)
{
    *a = (struct dlm_average){.b = *b, .beta = beta, .total = dlm_network_layout(m)->total};
    if (beta <= 0)
        return 0;
    a->at = b->k->alloc(b->dev, a->total * 4);
    return a->at.at ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for the average of the weights: %.1f MB", 4e-6 * (double)a->total);
}

void dlm_average_release(struct dlm_average *a)
{
    if (a->at.at)
        a->b.k->free(a->b.dev, a->at);
    *a = (struct dlm_average){0};
}

void dlm_average_step(struct dlm_average *a, struct dlm_network *m, uint64_t k)
{
    if (a->beta <= 0)
        return;
    double share = (1 - a->beta) / -expm1((double)k * log(a->beta));
    a->b.k->average(a->b.dev, a->at, dlm_network_weights(m), a->total, (float)share);
}

void dlm_average_swap(struct dlm_average *a, struct dlm_network *m, float *x, float *y)
{
    if (a->beta <= 0)
        return;
    const struct dlm_kernels *k = a->b.k;
    size_t bytes = a->total * 4;
    k->download(a->b.dev, x, a->at, bytes);
    k->download(a->b.dev, y, dlm_network_weights(m), bytes);
    k->upload(a->b.dev, a->at, y, bytes);
    k->upload(a->b.dev, dlm_network_weights(m), x, bytes);
    dlm_network_refresh(m);
}
