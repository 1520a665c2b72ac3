/* The table of tensors: names, shapes and places (method.md §4), and their initial values.
 *
 * Not here: what the numbers mean (network.c) and where they are stored (checkpoint.c).
 */
#include "model/layout.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Order in the table: the six matrices of every layer, then the model's own three, then the eight small tensors of every layer. */
enum { MATRICES = 6, MODEL = 3, SMALL = 8 };

static const char *const layer_name[DLM_TENSOR_KINDS] = {
    [DLM_TENSOR_Q] = "self_attn.q_proj.weight",      [DLM_TENSOR_K] = "self_attn.k_proj.weight",
    [DLM_TENSOR_V] = "self_attn.v_proj.weight",      [DLM_TENSOR_O] = "self_attn.o_proj.weight",
    [DLM_TENSOR_UP] = "mlp.up_proj.weight",          [DLM_TENSOR_DOWN] = "mlp.down_proj.weight",
    [DLM_TENSOR_ATTN_NORM] = "attn_layernorm.weight", [DLM_TENSOR_MLP_NORM] = "mlp_layernorm.weight",
    [DLM_TENSOR_Q_NORM] = "self_attn.q_norm.weight", [DLM_TENSOR_K_NORM] = "self_attn.k_norm.weight",
    [DLM_TENSOR_K_BIAS] = "self_attn.k_bias",        [DLM_TENSOR_V_BIAS] = "self_attn.v_bias",
    [DLM_TENSOR_UP_BIAS] = "mlp.up_proj.bias",       [DLM_TENSOR_DOWN_BIAS] = "mlp.down_proj.bias",
};

static size_t place(size_t layers, enum dlm_tensor_kind kind, size_t layer)
{
    if (kind < DLM_TENSOR_Q)
        return layers * MATRICES + kind;
    if (kind < DLM_TENSOR_ATTN_NORM)
        return layer * MATRICES + (kind - DLM_TENSOR_Q);
    return layers * MATRICES + MODEL + layer * SMALL + (kind - DLM_TENSOR_ATTN_NORM);
}

static void describe(struct dlm_tensor *t, const struct dlm_config *c, enum dlm_tensor_kind kind, size_t layer)
{
    size_t d = c->width, m = c->mlp, V = c->vocab_size, H = c->heads;
    *t = (struct dlm_tensor){.kind = kind, .layer = layer, .rank = 1, .shape = {d, 1}};
    switch (kind) {
    case DLM_TENSOR_EMBED:
    case DLM_TENSOR_HEAD:
        t->rank = 2;
        t->shape[0] = V;
        t->shape[1] = d;
        t->init = kind == DLM_TENSOR_EMBED ? c->emb_init_scale : c->head_init_scale;
        break;
    case DLM_TENSOR_Q: case DLM_TENSOR_K: case DLM_TENSOR_V: case DLM_TENSOR_O: case DLM_TENSOR_UP: case DLM_TENSOR_DOWN:
        t->rank = 2;
        t->shape[0] = kind == DLM_TENSOR_UP ? m : d;
        t->shape[1] = kind == DLM_TENSOR_DOWN ? m : d;
        t->init = c->init_scale;
        t->bulk = true;
        break;
    case DLM_TENSOR_K_BIAS: case DLM_TENSOR_V_BIAS:
        t->rank = 2;
        t->shape[0] = H;
        t->shape[1] = d / H;
        break;
    case DLM_TENSOR_UP_BIAS:
        t->shape[0] = m;
        break;
    default:
        break;
    }
    t->n = t->shape[0] * t->shape[1];
    if (kind >= DLM_TENSOR_Q)
        snprintf(t->name, sizeof t->name, "model.layers.%zu.%s", layer, layer_name[kind]);
    else
        strcpy(t->name, kind == DLM_TENSOR_EMBED ? "model.embed_tokens.weight" : kind == DLM_TENSOR_HEAD ? "lm_head.weight" : "model.norm.weight");
}

int dlm_layout_init(struct dlm_layout *l, const struct dlm_config *c, struct dlm_error *err)
{
    *l = (struct dlm_layout){0};
    int rc = dlm_config_check(c, err); /* bounds every size, so that no product below overflows */
    if (rc)
        return rc;
    size_t n = MODEL + c->layers * (MATRICES + SMALL);
    l->tensors = calloc(n, sizeof *l->tensors);
    if (!l->tensors)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a table of %zu tensors", n);
    l->n = n;
    for (int kind = 0; kind < DLM_TENSOR_KINDS; kind++)
        for (size_t layer = 0; layer < (kind < DLM_TENSOR_Q ? 1 : c->layers); layer++)
            describe(&l->tensors[place(c->layers, (enum dlm_tensor_kind)kind, layer)], c, (enum dlm_tensor_kind)kind, layer);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        struct dlm_tensor *t = &l->tensors[i];
        if (t->kind != DLM_TENSOR_K && t->kind != DLM_TENSOR_V) /* these two continue the matrix that q begins */
            at = (at + 15) & ~(size_t)15;
        if (!t->bulk && !l->bulk_total)
            l->bulk_total = at;
        t->offset = at;
        at += t->n;
    }
    l->total = (at + 15) & ~(size_t)15;
    return 0;
}

void dlm_layout_release(struct dlm_layout *l)
{
    free(l->tensors);
    *l = (struct dlm_layout){0};
}

const struct dlm_tensor *dlm_layout_find(const struct dlm_layout *l, enum dlm_tensor_kind kind, size_t layer)
{
    size_t layers = (l->n - MODEL) / (MATRICES + SMALL);
    assert(kind < DLM_TENSOR_KINDS && layer < layers);
    return &l->tensors[place(layers, kind, layer)];
}

/* Elements [from, to) of a tensor, 4q … 4q+3 from one Philox block: two Box-Muller pairs. A tensor's number is the same in a model of any depth. */
static void fill(const struct dlm_tensor *t, uint64_t seed, size_t from, size_t to, float *w)
{
    const uint64_t item = (uint64_t)t->layer * DLM_TENSOR_KINDS + t->kind;
#pragma omp parallel for schedule(static)
    for (size_t q = from / 4; q < (to + 3) / 4; q++) {
        dlm_philox_t r = dlm_philox_at(seed, item | (uint64_t)(q >> 32) << 32, (uint32_t)q, DLM_RNG_INIT);
        double z[4];
        for (int i = 0; i < 4; i += 2) {
            double radius = t->init * sqrt(-2 * log(dlm_rng_unit(r.v[i]))), angle = 6.283185307179586 * dlm_rng_unit(r.v[i + 1]);
            z[i] = radius * cos(angle);
            z[i + 1] = radius * sin(angle);
        }
        for (size_t i = 0; i < 4; i++)
            if (4 * q + i >= from && 4 * q + i < to)
                w[4 * q + i - from] = (float)z[i];
    }
}

void dlm_layout_fill_part(const struct dlm_layout *l, uint64_t seed, size_t at, size_t n, float *w)
{
    memset(w, 0, n * sizeof *w);
    for (size_t i = 0; i < l->n; i++) {
        const struct dlm_tensor *t = &l->tensors[i];
        size_t from = t->offset > at ? t->offset : at, to = t->offset + t->n < at + n ? t->offset + t->n : at + n;
        if (t->init > 0 && from < to)
            fill(t, seed, from - t->offset, to - t->offset, w + (from - at));
    }
}

void dlm_layout_fill(const struct dlm_layout *l, uint64_t seed, float *w)
{
    dlm_layout_fill_part(l, seed, 0, l->total, w);
}
