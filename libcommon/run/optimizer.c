/* One step of the optimizer. */
#include "run/optimizer.h"

#include <math.h>

int dlm_optimizer_new(struct dlm_optimizer *o, const struct dlm_backend *b, struct dlm_network *m, struct dlm_error *err)
{
    const struct dlm_layout *l = dlm_network_layout(m);
    *o = (struct dlm_optimizer){.b = *b, .total = l->total, .bulk = l->bulk_total, .width = dlm_network_config(m)->width};
    o->mu = b->k->alloc(b->dev, l->total * 4);
    o->nu = b->k->alloc(b->dev, l->total * 4);
    if (!o->mu.at || !o->nu.at) {
        dlm_optimizer_release(o);
        return dlm_fail(err, DLM_ENOMEM, "no memory for the optimizer's moments: %.1f MB", 8e-6 * (double)l->total);
    }
    return 0;
}

void dlm_optimizer_release(struct dlm_optimizer *o)
{
    if (o->mu.at)
        o->b.k->free(o->b.dev, o->mu);
    if (o->nu.at)
        o->b.k->free(o->b.dev, o->nu);
    *o = (struct dlm_optimizer){0};
}

void dlm_optimizer_step(struct dlm_optimizer *o, struct dlm_network *m, const struct dlm_settings *s, uint64_t k, double lr, double grad_scale)
{
    const struct dlm_kernels *f = o->b.k;
    double c1 = 1 - pow(s->beta1, (double)k), c2 = 1 - pow(s->beta2, (double)k);
    struct {
        size_t from, n;
        double lr;
    } groups[2] = {{0, o->bulk, lr / (double)o->width}, {o->bulk, o->total - o->bulk, lr * s->aux_lr}};
    for (int g = 0; g < 2; g++) {
        size_t at = groups[g].from * 4;
        dlm_ptr w = dlm_ptr_at(dlm_network_weights(m), at), d = dlm_ptr_at(dlm_network_gradients(m), at);
        dlm_ptr mu = dlm_ptr_at(o->mu, at), nu = dlm_ptr_at(o->nu, at);
        float rate = (float)groups[g].lr, eps = (float)s->eps, wd = (float)s->weight_decay, scale = (float)grad_scale;
        if (s->optimizer == DLM_OPTIMIZER_LAPROP)
            f->laprop(o->b.dev, w, mu, nu, d, groups[g].n, rate, (float)(1 - (1 - s->beta1) / c1), (float)(1 - (1 - s->beta2) / c2), eps, wd, scale);
        else
            f->adamw(o->b.dev, w, mu, nu, d, groups[g].n, rate, (float)s->beta1, (float)s->beta2, (float)c1, (float)c2, eps, wd, scale);
    }
    dlm_network_refresh(m);
}
