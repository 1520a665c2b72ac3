/* The running average of the weights. */
#include "run/average.h"

#include <assert.h>
#include <math.h>

int dlm_average_new_part(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, size_t from, size_t to,
                         struct dlm_error *err)
{
    *a = (struct dlm_average){.b = *b, .beta = beta, .from = from, .to = to};
    if (beta <= 0 || from == to)
        return 0;
    assert(!dlm_network_short(m));
    a->at = dlm_backend_alloc(b, (to - from) * sizeof(float));
    return a->at.at ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for the average of the weights: %.1f MB", 4e-6 * (double)(to - from));
}

int dlm_average_new(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, struct dlm_error *err)
{
    return dlm_average_new_part(a, b, m, beta, 0, dlm_network_layout(m)->total, err);
}

void dlm_average_release(struct dlm_average *a)
{
    if (a->at.at)
        dlm_backend_free(&a->b, a->at);
    *a = (struct dlm_average){0};
}

static dlm_ptr place(const struct dlm_average *a, size_t element)
{
    return dlm_ptr_at(a->at, (element - a->from) * sizeof(float));
}

void dlm_average_step(struct dlm_average *a, struct dlm_network *m, uint64_t k)
{
    if (a->beta <= 0)
        return;
    double share = (1 - a->beta) / -expm1((double)k * log(a->beta));
    a->b.k->average(a->b.dev, a->at, dlm_network_weight_at(m, a->from), a->to - a->from, (float)share);
}

void dlm_average_begin(struct dlm_average *a, struct dlm_network *m)
{
    if (a->beta > 0)
        a->b.k->copy(a->b.dev, a->at, dlm_network_weight_at(m, a->from), (a->to - a->from) * sizeof(float));
}

void dlm_average_exchange(struct dlm_average *a, struct dlm_network *m, float *x, float *y)
{
    const struct dlm_kernels *k = a->b.k;
    if (a->beta <= 0)
        return;
    for (size_t at = a->from; at < a->to; at += DLM_AVERAGE_PIECE) {
        const size_t some = a->to - at < DLM_AVERAGE_PIECE ? a->to - at : DLM_AVERAGE_PIECE, bytes = some * sizeof(float);
        dlm_ptr w = dlm_network_weight_at(m, at);
        k->download(a->b.dev, x, place(a, at), bytes);
        k->download(a->b.dev, y, w, bytes);
        k->upload(a->b.dev, place(a, at), y, bytes);
        k->upload(a->b.dev, w, x, bytes);
    }
}

void dlm_average_swap(struct dlm_average *a, struct dlm_network *m, float *x, float *y)
{
    if (a->beta <= 0)
        return;
    dlm_average_exchange(a, m, x, y);
    dlm_network_refresh(m);
}

void dlm_average_read(const struct dlm_average *a, size_t at, size_t n, float *to)
{
    a->b.k->download(a->b.dev, to, place(a, at), n * sizeof *to);
}

void dlm_average_write(struct dlm_average *a, size_t at, size_t n, const float *from)
{
    a->b.k->upload(a->b.dev, place(a, at), from, n * sizeof *from);
}
