/* One step of the optimizer. */
#include "run/optimizer.h"

#include "model/split.h"

#include <math.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Of one moment. */
static size_t moment_bytes(size_t elements, size_t n_short)
{
    return round_up(2 * n_short) + round_up(4 * (elements - n_short));
}

size_t dlm_optimizer_bytes(size_t elements, size_t n_short)
{
    return 2 * moment_bytes(elements, n_short) + round_up(2 * n_short);
}

int dlm_optimizer_new_part(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_stripes *s, int rank,
                           struct dlm_error *err)
{
    const struct dlm_layout *l = dlm_network_layout(m);
    const size_t n = dlm_stripes_own(s, rank);
    *o = (struct dlm_optimizer){.b = *b, .total = l->total, .bulk = l->bulk_total, .width = dlm_network_config(m)->width, .stripes = *s, .rank = rank};
    o->n_short = dlm_stripes_before(s, rank, dlm_network_short(m));
    o->nu = moment_bytes(n, o->n_short);
    o->low = 2 * o->nu;
    const size_t bytes = dlm_optimizer_bytes(n, o->n_short);
    if (!bytes) /* more processes than stripes */
        return 0;
    o->at = dlm_backend_alloc(b, bytes);
    return o->at.at ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for the optimizer's moments: %.1f MB", 1e-6 * (double)bytes);
}

int dlm_optimizer_new(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, struct dlm_error *err)
{
    const struct dlm_stripes all = dlm_stripes_of(dlm_network_layout(m)->total, 1);
    return dlm_optimizer_new_part(o, b, m, &all, 0, err);
}

void dlm_optimizer_release(struct dlm_optimizer *o)
{
    if (o->at.at)
        dlm_backend_free(&o->b, o->at);
    *o = (struct dlm_optimizer){0};
}

/* Where the element at place i lies in the moment that begins at `moment`. */
static dlm_ptr moment_at(const struct dlm_optimizer *o, size_t moment, size_t i)
{
    const size_t s = o->n_short;
    return dlm_ptr_at(o->at, moment + (i < s ? 2 * i : round_up(2 * s) + 4 * (i - s)));
}

static dlm_ptr low_at(const struct dlm_optimizer *o, size_t i)
{
    return dlm_ptr_at(o->at, o->low + 2 * i);
}

static size_t place_of(const struct dlm_optimizer *o, size_t e)
{
    return dlm_stripes_before(&o->stripes, o->rank, e);
}

/* --- the step -------------------------------------------------------------------------------------------------------------- */

/* What all elements of a learning-rate group share. */
struct rates {
    float lr, b1, b2, c1, c2, eps, decay, scale;
    bool laprop;
    uint64_t seed;
    uint32_t step;
};

static void apply(const struct dlm_optimizer *o, const struct dlm_network *m, const struct dlm_run *run, const struct rates *r)
{
    const struct dlm_kernels *f = o->b.k;
    const size_t at = run->from, n = run->to - at, i = place_of(o, at);
    dlm_ptr w = dlm_network_weight_at(m, at), g = dlm_network_gradient_at(m, at), mu = moment_at(o, o->mu, i), nu = moment_at(o, o->nu, i);
    const struct dlm_halves halves = {.low = run->type == DLM_BF16 ? low_at(o, i) : (dlm_ptr){0}, .seed = r->seed, .step = r->step, .first = at};
    if (r->laprop && run->type == DLM_BF16)
        f->laprop_split(o->b.dev, w, mu, nu, g, n, r->lr, r->b1, r->b2, r->eps, r->decay, r->scale, halves);
    else if (r->laprop)
        f->laprop(o->b.dev, w, mu, nu, g, n, r->lr, r->b1, r->b2, r->eps, r->decay, r->scale);
    else if (run->type == DLM_BF16)
        f->adamw_split(o->b.dev, w, mu, nu, g, n, r->lr, r->b1, r->b2, r->c1, r->c2, r->eps, r->decay, r->scale, halves);
    else
        f->adamw(o->b.dev, w, mu, nu, g, n, r->lr, r->b1, r->b2, r->c1, r->c2, r->eps, r->decay, r->scale);
}

void dlm_optimizer_update(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale)
{
    double c1 = 1 - pow(s->beta1, (double)k), c2 = 1 - pow(s->beta2, (double)k);
    const bool laprop = s->optimizer == DLM_OPTIMIZER_LAPROP;
    struct rates r = {.b1 = (float)(laprop ? 1 - (1 - s->beta1) / c1 : s->beta1), .b2 = (float)(laprop ? 1 - (1 - s->beta2) / c2 : s->beta2),
                      .c1 = (float)c1, .c2 = (float)c2, .eps = (float)s->eps, .decay = (float)s->weight_decay, .scale = (float)grad_scale,
                      .laprop = laprop, .seed = s->seed, .step = (uint32_t)k};
    for (int bulk = 1; bulk >= 0; bulk--) {
        r.lr = (float)(bulk ? lr / (double)o->width : lr * s->aux_lr);
        for (struct dlm_stretch own = {.to = bulk ? 0 : o->bulk}; dlm_stripes_next(&o->stripes, o->rank, bulk ? o->bulk : o->total, &own);) {
            struct dlm_run run[2];
            for (int i = 0, n = dlm_network_runs(m, own.from, own.to, run); i < n; i++)
                apply(o, m, &run[i], &r);
        }
    }
}

void dlm_optimizer_step(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale)
{
    dlm_optimizer_update(o, m, s, k, lr, grad_scale);
    dlm_network_refresh(m);
}

/* --- from and to the host ---------------------------------------------------------------------------------------------------- */

enum { SOME = 16384 }; /* elements on the stack */

void dlm_optimizer_read(const struct dlm_optimizer *o, int moment, size_t at, size_t n, float *to)
{
    const size_t base = moment ? o->nu : o->mu, first = place_of(o, at), end = first + n, border = smaller(end, o->n_short);
    for (size_t i = first, some; i < border; i += some) {
        uint16_t high[SOME];
        some = smaller(SOME, border - i);
        o->b.k->download(o->b.dev, high, moment_at(o, base, i), some * sizeof *high);
        for (size_t j = 0; j < some; j++)
            to[i - first + j] = dlm_split_join(high[j], 0);
    }
    if (end > o->n_short) {
        const size_t i = larger(first, o->n_short);
        o->b.k->download(o->b.dev, to + (i - first), moment_at(o, base, i), (end - i) * sizeof *to);
    }
}

void dlm_optimizer_write(struct dlm_optimizer *o, int moment, size_t at, size_t n, const float *from)
{
    const size_t base = moment ? o->nu : o->mu, first = place_of(o, at), end = first + n, border = smaller(end, o->n_short);
    for (size_t i = first, some; i < border; i += some) {
        uint16_t high[SOME];
        some = smaller(SOME, border - i);
        for (size_t j = 0; j < some; j++)
            high[j] = dlm_split_high(from[i - first + j]);
        o->b.k->upload(o->b.dev, moment_at(o, base, i), high, some * sizeof *high);
    }
    if (end > o->n_short) {
        const size_t i = larger(first, o->n_short);
        o->b.k->upload(o->b.dev, moment_at(o, base, i), from + (i - first), (end - i) * sizeof *from);
    }
}

void dlm_optimizer_read_weights(const struct dlm_optimizer *o, const struct dlm_network *m, size_t at, size_t n, float *to)
{
    dlm_network_read(m, at, n, to);
    for (struct dlm_stretch own = {.to = at}; dlm_stripes_next(&o->stripes, o->rank, smaller(at + n, dlm_network_short(m)), &own);)
        for (size_t e = own.from, some; e < own.to; e += some) {
            uint16_t low[SOME];
            some = smaller(SOME, own.to - e);
            o->b.k->download(o->b.dev, low, low_at(o, place_of(o, e)), some * sizeof *low);
            for (size_t i = 0; i < some; i++)
                to[e - at + i] = dlm_split_join(dlm_split_high(to[e - at + i]), low[i]);
        }
}

void dlm_optimizer_write_weights(struct dlm_optimizer *o, struct dlm_network *m, size_t at, size_t n, const float *from)
{
    dlm_network_write(m, at, n, from);
    for (struct dlm_stretch own = {.to = at}; dlm_stripes_next(&o->stripes, o->rank, smaller(at + n, dlm_network_short(m)), &own);)
        for (size_t e = own.from, some; e < own.to; e += some) {
            uint16_t low[SOME];
            some = smaller(SOME, own.to - e);
            for (size_t i = 0; i < some; i++)
                low[i] = dlm_split_low(from[e - at + i]);
            o->b.k->upload(o->b.dev, low_at(o, place_of(o, e)), low, some * sizeof *low);
        }
}
