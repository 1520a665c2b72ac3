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

int dlm_optimizer_new_part(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, size_t from, size_t to, struct dlm_error *err)
{
    const struct dlm_layout *l = dlm_network_layout(m);
    const size_t s = dlm_network_short(m), n = to - from;
    *o = (struct dlm_optimizer){.b = *b, .total = l->total, .bulk = l->bulk_total, .width = dlm_network_config(m)->width, .from = from, .to = to};
    o->n_short = from < s ? smaller(to, s) - from : 0;
    o->nu = moment_bytes(n, o->n_short);
    o->low = 2 * o->nu;
    const size_t bytes = dlm_optimizer_bytes(n, o->n_short);
    if (!bytes) /* more processes than ranges */
        return 0;
    o->at = dlm_backend_alloc(b, bytes);
    return o->at.at ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for the optimizer's moments: %.1f MB", 1e-6 * (double)bytes);
}

int dlm_optimizer_new(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, struct dlm_error *err)
{
    return dlm_optimizer_new_part(o, b, m, 0, dlm_network_layout(m)->total, err);
}

void dlm_optimizer_release(struct dlm_optimizer *o)
{
    if (o->at.at)
        dlm_backend_free(&o->b, o->at);
    *o = (struct dlm_optimizer){0};
}

/* Where element `e` of the range lies in the moment that begins at `moment`. */
static dlm_ptr moment_at(const struct dlm_optimizer *o, size_t moment, size_t e)
{
    const size_t i = e - o->from, s = o->n_short;
    return dlm_ptr_at(o->at, moment + (i < s ? 2 * i : round_up(2 * s) + 4 * (i - s)));
}

static dlm_ptr low_at(const struct dlm_optimizer *o, size_t e)
{
    return dlm_ptr_at(o->at, o->low + 2 * (e - o->from));
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
    const size_t at = run->from, n = run->to - at;
    dlm_ptr w = dlm_network_weight_at(m, at), g = dlm_network_gradient_at(m, at), mu = moment_at(o, o->mu, at), nu = moment_at(o, o->nu, at);
    const struct dlm_halves halves = {.low = run->type == DLM_BF16 ? low_at(o, at) : (dlm_ptr){0}, .seed = r->seed, .step = r->step, .first = at};
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
        const size_t from = larger(o->from, bulk ? 0 : o->bulk), to = smaller(o->to, bulk ? o->bulk : o->total);
        r.lr = (float)(bulk ? lr / (double)o->width : lr * s->aux_lr);
        struct dlm_run run[2];
        for (int i = 0, n = dlm_network_runs(m, from, to, run); i < n; i++)
            apply(o, m, &run[i], &r);
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
    const size_t base = moment ? o->nu : o->mu, end = o->from + o->n_short;
    for (size_t e = at, some; e < at + n && e < end; e += some) {
        uint16_t high[SOME];
        some = smaller(SOME, smaller(at + n, end) - e);
        o->b.k->download(o->b.dev, high, moment_at(o, base, e), some * sizeof *high);
        for (size_t i = 0; i < some; i++)
            to[e - at + i] = dlm_split_join(high[i], 0);
    }
    if (at + n > end) {
        const size_t e = larger(at, end);
        o->b.k->download(o->b.dev, to + (e - at), moment_at(o, base, e), (at + n - e) * sizeof *to);
    }
}

void dlm_optimizer_write(struct dlm_optimizer *o, int moment, size_t at, size_t n, const float *from)
{
    const size_t base = moment ? o->nu : o->mu, end = o->from + o->n_short;
    for (size_t e = at, some; e < at + n && e < end; e += some) {
        uint16_t high[SOME];
        some = smaller(SOME, smaller(at + n, end) - e);
        for (size_t i = 0; i < some; i++)
            high[i] = dlm_split_high(from[e - at + i]);
        o->b.k->upload(o->b.dev, moment_at(o, base, e), high, some * sizeof *high);
    }
    if (at + n > end) {
        const size_t e = larger(at, end);
        o->b.k->upload(o->b.dev, moment_at(o, base, e), from + (e - at), (at + n - e) * sizeof *from);
    }
}

void dlm_optimizer_read_weights(const struct dlm_optimizer *o, const struct dlm_network *m, size_t at, size_t n, float *to)
{
    dlm_network_read(m, at, n, to);
    const size_t from = larger(at, o->from), end = smaller(at + n, o->from + o->n_short);
    for (size_t e = from, some; e < end; e += some) {
        uint16_t low[SOME];
        some = smaller(SOME, end - e);
        o->b.k->download(o->b.dev, low, low_at(o, e), some * sizeof *low);
        for (size_t i = 0; i < some; i++)
            to[e - at + i] = dlm_split_join(dlm_split_high(to[e - at + i]), low[i]);
    }
}

void dlm_optimizer_write_weights(struct dlm_optimizer *o, struct dlm_network *m, size_t at, size_t n, const float *from)
{
    dlm_network_write(m, at, n, from);
    const size_t first = larger(at, o->from), end = smaller(at + n, o->from + o->n_short);
    for (size_t e = first, some; e < end; e += some) {
        uint16_t low[SOME];
        some = smaller(SOME, end - e);
        for (size_t i = 0; i < some; i++)
            low[i] = dlm_split_low(from[e - at + i]);
        o->b.k->upload(o->b.dev, low_at(o, e), low, some * sizeof *low);
    }
}
