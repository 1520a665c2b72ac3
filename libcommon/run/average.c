/* The running average of the weights. */
#include "run/average.h"

#include <assert.h>
#include <math.h>

int dlm_average_new_part(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, const struct dlm_stripes *s, int rank,
                         struct dlm_error *err)
{
    const size_t n = dlm_stripes_own(s, rank);
    *a = (struct dlm_average){.b = *b, .beta = beta, .stripes = *s, .rank = rank};
    if (beta <= 0 || !n)
        return 0;
    assert(!dlm_network_short(m));
    a->at = dlm_backend_alloc(b, n * sizeof(float));
    return a->at.at ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for the average of the weights: %.1f MB", 4e-6 * (double)n);
}

int dlm_average_new(struct dlm_average *a, const struct dlm_backend *b, struct dlm_network *m, double beta, struct dlm_error *err)
{
    const struct dlm_stripes all = dlm_stripes_of(dlm_network_layout(m)->total, 1);
    return dlm_average_new_part(a, b, m, beta, &all, 0, err);
}

void dlm_average_release(struct dlm_average *a)
{
    if (a->at.at)
        dlm_backend_free(&a->b, a->at);
    *a = (struct dlm_average){0};
}

static dlm_ptr place(const struct dlm_average *a, size_t element)
{
    return dlm_ptr_at(a->at, dlm_stripes_before(&a->stripes, a->rank, element) * sizeof(float));
}

/* The next of its stripes; none where there is no average. */
static bool next(const struct dlm_average *a, struct dlm_stretch *own)
{
    return a->beta > 0 && dlm_stripes_next(&a->stripes, a->rank, a->stripes.total, own);
}

void dlm_average_step(struct dlm_average *a, struct dlm_network *m, uint64_t k)
{
    const double share = (1 - a->beta) / -expm1((double)k * log(a->beta));
    for (struct dlm_stretch own = {0}; next(a, &own);)
        a->b.k->average(a->b.dev, place(a, own.from), dlm_network_weight_at(m, own.from), own.to - own.from, (float)share);
}

void dlm_average_begin(struct dlm_average *a, struct dlm_network *m)
{
    for (struct dlm_stretch own = {0}; next(a, &own);)
        a->b.k->copy(a->b.dev, place(a, own.from), dlm_network_weight_at(m, own.from), (own.to - own.from) * sizeof(float));
}

void dlm_average_exchange(struct dlm_average *a, struct dlm_network *m, float *x, float *y)
{
    const struct dlm_kernels *k = a->b.k;
    for (struct dlm_stretch own = {0}; next(a, &own);)
        for (size_t at = own.from; at < own.to; at += DLM_AVERAGE_PIECE) {
            const size_t some = own.to - at < DLM_AVERAGE_PIECE ? own.to - at : DLM_AVERAGE_PIECE, bytes = some * sizeof(float);
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
