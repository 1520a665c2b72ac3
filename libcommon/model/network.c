/* Forward and backward of the transformer over the kernel table, and the head in chunks of rows (method.md §4).
 *
 *     x₀ = E[z];  x ← x + (R/L)·Attn(norm(x));  x ← x + (R/L)·MLP(norm(x));  logits = (512/d)·norm(x) Wᵀ
 *
 * All places in the arenas are planned before anything is allocated, by one function that both dlm_network_memory_of and dlm_network_new
 * follow. A training pass keeps of every layer what backward reads and does not compute again; the rest, and all of an evaluation pass, has one layer's
 * buffers for all. The squared relu is always computed again: it costs one pass over u and saves 4d of 14d activations a token and layer.
 * In the compact state a matrix's gradient of one pass is summed in float32 in a place that all matrices share, and added to what earlier passes
 * left with one rounding at random. Not here: noise, optimizer, files.
 */
#include "model/network.h"

#include "model/split.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of logits at a time when nobody asks for gradients. Every such product has this many rows, the last ones repeated, so that a row's result does not
 * hang on how many others were scored with it. */
#define EVAL_ROWS ((size_t)256)

/* Kinds of pass that are remembered for replaying: in training a whole and a last micro-batch, and as many of evaluation. */
#define KINDS 8

_Static_assert(sizeof(struct dlm_drawn) == DLM_TERMS * sizeof(float), "what is drawn lies where a loss's terms do");

/* --- memory of a device ------------------------------------------------------------------------------------------------------ */

size_t dlm_arena_part(size_t bytes)
{
    return bytes > SIZE_MAX - 255 ? SIZE_MAX : (bytes + 255) & ~(size_t)255; /* a device's widest accesses, and more */
}

dlm_ptr dlm_backend_alloc(const struct dlm_backend *b, size_t bytes)
{
    struct dlm_arena *a = b->arena;
    if (!a)
        return b->k->alloc(b->dev, bytes);
    const size_t part = dlm_arena_part(bytes);
    if (part > a->size - a->used)
        return (dlm_ptr){0};
    dlm_ptr p = dlm_ptr_at(a->at, a->used);
    a->used += part;
    return p;
}

void dlm_backend_free(const struct dlm_backend *b, dlm_ptr p)
{
    if (!b->arena)
        b->k->free(b->dev, p);
}

/* --- plan of the arenas ------------------------------------------------------------------------------------------------------ */

struct arena {
    size_t size;
    bool overflow;
};

/* The place of rows × columns items; every place is a multiple of 64 bytes. */
static size_t take(struct arena *a, size_t rows, size_t columns, size_t item)
{
    size_t bytes, at = a->size;
    if (__builtin_mul_overflow(rows, columns, &bytes) || __builtin_mul_overflow(bytes, item, &bytes) || bytes > SIZE_MAX / 2 - a->size) {
        a->overflow = true;
        return 0;
    }
    a->size = (at + bytes + 63) & ~(size_t)63;
    return at;
}

/* A buffer of a layer, in the activations: one of its own for every layer, or one for all. */
struct place {
    size_t at;
    bool kept;
};

/* T = batch·seq_len rows. */
struct layer_plan {
    struct place x_attn, rstd_attn, y_attn; /* f32 (T, d), f32 (T), act (T, d): the sublayer's input and its norm */
    struct place qkv, qh, kh, rstd_qk;      /* act (T, 3d), act (T, d) twice, f32 (T, 2) */
    struct place lse, o;                    /* f32 (B, H, N), act (T, d) */
    struct place x_mlp, rstd_mlp, y_mlp;    /* as for attention */
    struct place u;                         /* act (T, m) */
};

struct plan {
    size_t B, N, T, d, m, H, h, L, V;
    size_t item; /* bytes of act */
    size_t head_rows, eval_rows; /* rows of a chunk with and without gradient */
    struct layer_plan layer;
    size_t kept_at, kept_stride;    /* what every layer has for itself: (L, stride) */
    size_t work_at;                 /* what all share */
    size_t rope;                    /* f32 (N, h/2, 2) */
    size_t x_final, rstd_final, hidden; /* f32 (T, d), f32 (T), act (T, d) */
    size_t wide, wide_half;         /* act (T, m): relu² of u; in backward also dq and, wide_half bytes on, dk, each act (T, d) */
    size_t branch;                  /* act (T, d): what a sublayer adds; in backward its gradient */
    /* training only */
    size_t wide2;                   /* act (T, max(m, 3d)): da, du; dqkv */
    size_t branch2;                 /* act (T, d): d(attention output) */
    size_t dx, dhidden;             /* f32 (T, d), act (T, d) */
    size_t activations;
    /* head */
    size_t index, x, z, row, terms; /* u32 (R) three times, rows (R), f32 (T + R, 4) or what was drawn (T) */
    size_t draw;                    /* draws (R) */
    size_t picked, logits, dlogits, dpicked; /* act (R, d), f32 (R, V), act (R, V), act (R, d) */
    size_t head;
    /* packed weights */
    size_t pack_qkv, pack_o, pack_up, pack_down; /* from a layer's start */
    size_t pack_layer, pack_head, packs;
    size_t weights, gradients; /* bytes */
    size_t gradient_sum;       /* from the gradients' start: f32, the largest matrix; compact only */
    bool overflow;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Of n bf16 elements before float32 ones. */
static size_t short_bytes(size_t n)
{
    return (2 * n + 63) & ~(size_t)63;
}

/* A buffer of each layer, kept for backward where `kept`. */
static struct place take_of(struct arena *kept_arena, struct arena *work, bool kept, size_t rows, size_t columns, size_t item)
{
    return (struct place){take(kept ? kept_arena : work, rows, columns, item), kept};
}

static void plan_activations(struct plan *p, const struct dlm_network_plan *want)
{
    struct arena k = {0}, w = {0};
    const size_t T = p->T, d = p->d;
    const bool train = want->train;
    /* What backward finds in place; the rest it computes again. */
    const bool all = train && want->recompute < DLM_RECOMPUTE_NORMS, up = train && want->recompute < DLM_RECOMPUTE_MLP;
    const bool attention = train && want->recompute < DLM_RECOMPUTE_LAYER;
    struct layer_plan *s = &p->layer;
    s->x_attn = take_of(&k, &w, train, T, d, 4);
    s->rstd_attn = take_of(&k, &w, all, T, 1, 4);
    s->y_attn = take_of(&k, &w, all, T, d, p->item);
    s->qkv = take_of(&k, &w, attention, T, 3 * d, p->item);
    s->qh = take_of(&k, &w, all, T, d, p->item);
    s->kh = take_of(&k, &w, all, T, d, p->item);
    s->rstd_qk = take_of(&k, &w, all, T, 2, 4);
    s->lse = take_of(&k, &w, attention, T, p->H, 4);
    s->o = take_of(&k, &w, attention, T, d, p->item);
    /* Without backward the residual stream is one buffer, and the MLP may write over what attention has left. */
    s->x_mlp = train ? take_of(&k, &w, attention, T, d, 4) : s->x_attn;
    s->rstd_mlp = train ? take_of(&k, &w, all, T, 1, 4) : s->rstd_attn;
    s->y_mlp = train ? take_of(&k, &w, all, T, d, p->item) : s->y_attn;
    s->u = train || p->m > 3 * d ? take_of(&k, &w, up, T, p->m, p->item) : s->qkv;

    struct arena a = {0};
    p->rope = take(&a, p->N, p->h, 4); /* first, so that it is in the same place for every batch */
    p->kept_stride = k.size;
    p->kept_at = take(&a, p->L, k.size, 1);
    p->work_at = take(&a, w.size, 1, 1);
    p->x_final = train ? take(&a, T, d, 4) : p->work_at + s->x_attn.at;
    p->rstd_final = take(&a, T, 1, 4);
    p->hidden = take(&a, T, d, p->item);
    struct arena wide = {0}, pair = {0};
    (void)take(&wide, T, p->m, p->item);
    (void)take(&pair, T, d, p->item);
    p->wide_half = take(&pair, T, d, p->item);
    p->wide = take(&a, larger(wide.size, train ? pair.size : 0), 1, 1);
    p->branch = take(&a, T, d, p->item);
    if (train) {
        p->wide2 = take(&a, T, larger(p->m, 3 * d), p->item);
        p->branch2 = take(&a, T, d, p->item);
        p->dx = take(&a, T, d, 4);
        p->dhidden = take(&a, T, d, p->item);
    }
    p->activations = a.size;
    p->overflow |= k.overflow | w.overflow | a.overflow | wide.overflow | pair.overflow;
}

static void plan_head(struct plan *p, const struct dlm_kernels *k, const struct dlm_network_plan *want)
{
    size_t rows = want->head_rows;
    if (!rows) {
        rows = k->logit_bytes / (4 * p->V);
        rows = k->logit_rows ? smaller(rows, larger(256, k->logit_rows * p->d)) : rows;
        rows = larger(rows & ~(size_t)63, 64);
    }
    p->eval_rows = smaller(rows, EVAL_ROWS);
    p->head_rows = smaller(rows, p->T);
    const size_t R = want->train ? larger(p->head_rows, p->eval_rows) : p->eval_rows;
    struct arena a = {0};
    p->index = take(&a, R, 1, 4);
    p->x = take(&a, R, 1, 4);
    p->z = take(&a, R, 1, 4);
    p->row = take(&a, R, 1, sizeof(struct dlm_row));
    p->terms = take(&a, p->T + R, DLM_TERMS, 4);
    p->draw = take(&a, R, sizeof(struct dlm_draw), 1);
    p->picked = take(&a, R, p->d, p->item);
    p->logits = take(&a, R, p->V, 4);
    if (want->train) {
        p->dlogits = want->act == DLM_F32 ? p->logits : take(&a, p->head_rows, p->V, p->item);
        p->dpicked = take(&a, p->head_rows, p->d, p->item);
    }
    p->head = a.size;
    p->overflow |= a.overflow;
}

static void plan_packs(struct plan *p, const struct dlm_backend *b, enum dlm_dtype act)
{
    struct arena l = {0}, a = {0};
    const size_t d = p->d, m = p->m;
    p->pack_qkv = take(&l, b->k->linear_pack_size(b->dev, 3 * d, d, act), 1, 1);
    p->pack_o = take(&l, b->k->linear_pack_size(b->dev, d, d, act), 1, 1);
    p->pack_up = take(&l, b->k->linear_pack_size(b->dev, m, d, act), 1, 1);
    p->pack_down = take(&l, b->k->linear_pack_size(b->dev, d, m, act), 1, 1);
    p->pack_layer = l.size;
    (void)take(&a, p->L, l.size, 1);
    p->pack_head = take(&a, b->k->linear_pack_size(b->dev, p->V, d, act), 1, 1);
    p->packs = a.size;
    p->overflow |= l.overflow | a.overflow;
}

/* `c` has passed dlm_config_check. */
static struct plan make_plan(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *want, const struct dlm_layout *l)
{
    struct plan p = {.B = want->batch, .N = want->seq_len, .d = c->width, .m = c->mlp, .H = c->heads, .h = c->width / c->heads,
                     .L = c->layers, .V = c->vocab_size, .item = dlm_dtype_size(want->act)};
    p.overflow = __builtin_mul_overflow(p.B, p.N, &p.T);
    plan_activations(&p, want);
    plan_head(&p, b->k, want);
    if (!want->compact) /* else the weights are multiplied as they lie */
        plan_packs(&p, b, want->act);
    const size_t n_short = dlm_network_short_of(l, want);
    struct arena a = {0};
    (void)take(&a, short_bytes(n_short), 1, 1);
    (void)take(&a, l->total - n_short, 1, 4);
    p.weights = a.size;
    if (want->train && want->compact)
        p.gradient_sum = take(&a, larger(larger(p.V, p.m), 3 * p.d), p.d, 4);
    p.gradients = want->train ? a.size : 0;
    p.overflow |= a.overflow;
    return p;
}

/* Passes without gradient of more sequences than train: they have a plan of their own in the same arena. */
static struct plan make_eval_plan(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *want, const struct dlm_layout *l)
{
    struct dlm_network_plan eval = *want;
    eval.train = false;
    eval.batch = larger(want->eval_batch, 1);
    return make_plan(b, c, &eval, l);
}

/* What the device's calls work in, in passes with and without gradient. */
static size_t scratch_of(const struct dlm_backend *b, const struct plan *p, const struct plan *e, const struct dlm_network_plan *want)
{
    const struct plan *of[] = {p, e};
    size_t most = 0;
    for (int i = 0; b->k->scratch_of && i < 2; i++) {
        const struct dlm_shape s = {.B = of[i]->B, .N = of[i]->N, .d = of[i]->d, .m = of[i]->m, .H = of[i]->H, .h = of[i]->h, .V = of[i]->V,
                                    .head_rows = larger(of[i]->head_rows, of[i]->eval_rows), .act = want->act, .train = !i && want->train};
        most = larger(most, b->k->scratch_of(b->dev, &s));
    }
    return most;
}

struct dlm_network_memory dlm_network_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *want)
{
    struct dlm_layout l;
    struct dlm_error ignored;
    struct dlm_network_memory m = {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
    if (dlm_layout_init(&l, c, &ignored))
        return m;
    struct plan p = make_plan(b, c, want, &l), e = make_eval_plan(b, c, want, &l);
    dlm_layout_release(&l);
    if (!p.overflow && !e.overflow)
        m = (struct dlm_network_memory){p.weights, p.gradients, p.packs, larger(p.activations, e.activations), larger(p.head, e.head),
                                        scratch_of(b, &p, &e, want)};
    return m;
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

/* All that the calls of a pass depend on but the contents of memory, and the calls as the device has recorded them. */
struct kind {
    const struct plan *p; /* NULL: none yet */
    dlm_ptr ids, noisy;
    enum dlm_attend rule;
    size_t batch, seq_len;
    uint64_t used;               /* passes of the network when it last came */
    bool forward_done, backward_done; /* once, plainly: the device has made itself ready for these calls */
    bool plain;                  /* what it does cannot be recorded */
    struct dlm_recording *forward, **backward; /* backward: (L), of each layer */
};

struct dlm_network {
    struct dlm_backend b;
    struct dlm_config config;
    struct dlm_layout layout;
    struct plan plans[2]; /* of passes that may have a backward, and of those with more sequences than these may have */
    const struct plan *p; /* the last forward's */
    enum dlm_dtype act;
    bool train, compact;
    enum dlm_recompute recompute;
    void (*linear)(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act, enum dlm_dtype y_type,
                   float scale);
    void (*linear_dx)(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                      enum dlm_dtype dx_type, float scale);
    uint64_t seed; /* of rounding at random */
    uint32_t pass;
    size_t n_short; /* elements of the layout that are bf16 */
    void (*done)(void *of); /* told of each piece of the gradients; may be NULL */
    void *done_of;
    dlm_ptr weights, gradients, packs, activations, head;
    size_t stage;               /* R: rows of the largest chunk */
    uint32_t *stage_ids;        /* (3, R): index, x, z of a chunk, repeated rows included */
    struct dlm_row *stage_rows; /* (R) */
    /* the last forward */
    dlm_ptr ids, noisy;
    enum dlm_attend rule;
    size_t batch, seq_len;
    struct kind kinds[KINDS], *kind; /* kind: NULL where it is none that is recorded */
    uint64_t passes;
    bool pack_done, pack_plain; /* as a kind's: packing after every step is a call a matrix */
    struct dlm_recording *pack;
    struct dlm_cache *cache; /* NULL: rows are whole sequences */
    size_t cache_first;      /* its sequence of the first row */
    const size_t *at;        /* (batch) where rows stand, with a cache */
};

struct dlm_cache {
    struct dlm_backend b;
    size_t sequences, positions, row; /* row: bytes of a key, or value */
    dlm_ptr at;                       /* (L, sequences, 2, positions, row): keys, then values */
};

static int upload_rope(struct dlm_network *m, struct dlm_error *err)
{
    const size_t N = m->p->N, half = m->p->h / 2;
    float *t = malloc(N * half * 2 * sizeof *t);
    if (!t)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a table of %zu positions", N);
    for (size_t i = 0; i < half; i++) {
        double frequency = pow(m->config.rope_theta, -2.0 * (double)i / (double)m->p->h);
        for (size_t n = 0; n < N; n++) {
            double angle = (double)n * frequency;
            t[(n * half + i) * 2] = (float)cos(angle);
            t[(n * half + i) * 2 + 1] = (float)sin(angle);
        }
    }
    m->b.k->upload(m->b.dev, dlm_ptr_at(m->activations, m->p->rope), t, N * half * 2 * sizeof *t);
    const char *word = m->b.k->sync(m->b.dev); /* the table is ours to free only once it has arrived */
    free(t);
    return word ? dlm_fail(err, DLM_EIO, "%s: %s", m->b.k->name, word) : 0;
}

static int allocate(struct dlm_network *m, size_t scratch, struct dlm_error *err)
{
    const struct plan *p = &m->plans[0], *e = &m->plans[1];
    const size_t activations = larger(p->activations, e->activations), head = larger(p->head, e->head);
    const struct {
        dlm_ptr *to;
        size_t size;
    } wants[] = {{&m->weights, p->weights}, {&m->gradients, p->gradients}, {&m->packs, p->packs}, {&m->activations, activations}, {&m->head, head}};
    double all = (double)scratch;
    for (int i = 0; i < 5; i++)
        all += (double)wants[i].size;
    const bool overflow = p->overflow || e->overflow;
    bool good = !overflow;
    for (int i = 0; good && i < 5; i++)
        if (wants[i].size) {
            *wants[i].to = dlm_backend_alloc(&m->b, wants[i].size);
            good = wants[i].to->at != 0;
        }
    good = good && (!scratch || m->b.k->scratch_reserve(m->b.dev, scratch));
    const size_t R = m->stage = larger(larger(p->head_rows, e->head_rows), p->eval_rows);
    if (good) {
        m->stage_ids = calloc(3 * R, sizeof *m->stage_ids);
        m->stage_rows = calloc(R, sizeof *m->stage_rows);
        good = m->stage_ids && m->stage_rows;
    }
    if (good)
        return 0;
    if (overflow)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the model: %zu sequences of %zu tokens need more than can be counted", p->B, p->N);
    return dlm_fail(err, DLM_ENOMEM,
                    "no memory for the model: %.3g GB needed (weights %.3g, gradients %.3g, packed weights %.3g, activations %.3g, head %.3g, scratch %.3g)", all / 1e9,
                    (double)p->weights / 1e9, (double)p->gradients / 1e9, (double)p->packs / 1e9, (double)activations / 1e9, (double)head / 1e9,
                    (double)scratch / 1e9);
}

int dlm_network_new(struct dlm_network **out, const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *want,
                    struct dlm_error *err)
{
    *out = NULL;
    if (!want->batch || !want->seq_len || want->seq_len > c->context)
        return dlm_fail(err, DLM_EUSAGE, "%zu sequences of %zu tokens do not fit a context of %zu", want->batch, want->seq_len, c->context);
    struct dlm_network *m = calloc(1, sizeof *m);
    if (!m)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the model");
    m->b = *b;
    m->config = *c;
    m->act = want->act;
    m->train = want->train;
    m->compact = want->compact;
    m->recompute = want->recompute;
    m->linear = want->compact ? b->k->linear_bf16 : b->k->linear;
    m->linear_dx = want->compact ? b->k->linear_bf16_dx : b->k->linear_dx;
    int rc = dlm_layout_init(&m->layout, c, err);
    if (!rc && want->compact && (want->act != DLM_BF16 || !m->linear || !b->k->accumulate))
        rc = dlm_fail(err, DLM_EUSAGE, want->act != DLM_BF16 ? "the compact state computes in bf16" : "%s has no compact state", b->k->name);
    if (!rc) {
        m->n_short = dlm_network_short_of(&m->layout, want);
        m->plans[0] = make_plan(b, c, want, &m->layout);
        m->plans[1] = make_eval_plan(b, c, want, &m->layout);
        m->p = &m->plans[0];
        rc = allocate(m, m->plans[0].overflow || m->plans[1].overflow ? 0 : scratch_of(b, &m->plans[0], &m->plans[1], want), err);
    }
    if (!rc)
        rc = upload_rope(m, err);
    for (size_t i = 0; !rc && b->k->record && want->train && !want->compact && i < KINDS; i++)
        if (!(m->kinds[i].backward = calloc(c->layers, sizeof *m->kinds[i].backward)))
            rc = dlm_fail(err, DLM_ENOMEM, "no memory for the model");
    if (rc) {
        dlm_network_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

static void kind_clear(struct dlm_network *m, struct kind *kind)
{
    struct dlm_recording **backward = kind->backward;
    if (kind->forward)
        m->b.k->forget(m->b.dev, kind->forward);
    for (size_t i = 0; backward && i < m->plans[0].L; i++)
        if (backward[i]) {
            m->b.k->forget(m->b.dev, backward[i]);
            backward[i] = NULL;
        }
    *kind = (struct kind){.backward = backward};
}

void dlm_network_free(struct dlm_network *m)
{
    if (!m)
        return;
    const dlm_ptr all[] = {m->weights, m->gradients, m->packs, m->activations, m->head};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].at)
            dlm_backend_free(&m->b, all[i]);
    for (size_t i = 0; i < KINDS; i++) {
        kind_clear(m, &m->kinds[i]);
        free(m->kinds[i].backward);
    }
    if (m->pack)
        m->b.k->forget(m->b.dev, m->pack);
    free(m->stage_ids);
    free(m->stage_rows);
    dlm_layout_release(&m->layout);
    free(m);
}

const struct dlm_config *dlm_network_config(const struct dlm_network *m)
{
    return &m->config;
}

const struct dlm_layout *dlm_network_layout(const struct dlm_network *m)
{
    return &m->layout;
}

dlm_ptr dlm_network_weights(struct dlm_network *m)
{
    return m->weights;
}

dlm_ptr dlm_network_gradients(struct dlm_network *m)
{
    return m->gradients;
}

size_t dlm_network_short_of(const struct dlm_layout *l, const struct dlm_network_plan *p)
{
    return p->compact ? dlm_layout_find(l, DLM_TENSOR_FINAL_NORM, 0)->offset : 0; /* what stands before it are matrices */
}

size_t dlm_network_short(const struct dlm_network *m)
{
    return m->n_short;
}

/* Elements of the layout in an array whose first n_short are two bytes long. */
static dlm_ptr element_of(const struct dlm_network *m, dlm_ptr array, size_t element)
{
    const size_t s = m->n_short;
    return dlm_ptr_at(array, element < s ? element * 2 : short_bytes(s) + (element - s) * sizeof(float));
}

dlm_ptr dlm_network_weight_at(const struct dlm_network *m, size_t element)
{
    return element_of(m, m->weights, element);
}

dlm_ptr dlm_network_gradient_at(const struct dlm_network *m, size_t element)
{
    return element_of(m, m->gradients, element);
}

int dlm_network_runs(const struct dlm_network *m, size_t from, size_t to, struct dlm_run run[2])
{
    const size_t s = m->n_short;
    int n = 0;
    if (from < s && from < to)
        run[n++] = (struct dlm_run){from, smaller(to, s), DLM_BF16};
    if (to > s && from < to)
        run[n++] = (struct dlm_run){larger(from, s), to, DLM_F32};
    return n;
}

size_t dlm_network_pieces(const struct dlm_network *m)
{
    return m->plans[0].L + 3;
}

struct dlm_run dlm_network_piece(const struct dlm_network *m, size_t i)
{
    const struct dlm_layout *l = &m->layout;
    const size_t L = m->plans[0].L, embed = dlm_layout_find(l, DLM_TENSOR_EMBED, 0)->offset, head = dlm_layout_find(l, DLM_TENSOR_HEAD, 0)->offset;
    const size_t small = dlm_layout_find(l, DLM_TENSOR_FINAL_NORM, 0)->offset, layer = L - i;
    const enum dlm_dtype type = m->compact ? DLM_BF16 : DLM_F32; /* of matrices */
    if (i == 0)
        return (struct dlm_run){head, small, type};
    if (i <= L)
        return (struct dlm_run){dlm_layout_find(l, DLM_TENSOR_Q, layer)->offset, layer + 1 < L ? dlm_layout_find(l, DLM_TENSOR_Q, layer + 1)->offset : embed, type};
    return i == L + 1 ? (struct dlm_run){embed, head, type} : (struct dlm_run){small, l->total, DLM_F32};
}

void dlm_network_tell(struct dlm_network *m, void (*done)(void *of), void *of)
{
    m->done = done;
    m->done_of = of;
}

static void tell(const struct dlm_network *m)
{
    if (m->done)
        m->done(m->done_of);
}

void dlm_network_read(const struct dlm_network *m, size_t at, size_t n, float *to)
{
    struct dlm_run run[2];
    for (int i = 0, k = dlm_network_runs(m, at, at + n, run); i < k; i++) {
        const size_t some = run[i].to - run[i].from;
        float *into = to + (run[i].from - at);
        const bool widen = run[i].type == DLM_BF16;
        m->b.k->download(m->b.dev, widen ? dlm_split_half(into, some) : into, dlm_network_weight_at(m, run[i].from), some * dlm_dtype_size(run[i].type));
        if (widen)
            dlm_split_widen(into, some);
    }
}

void dlm_network_write(struct dlm_network *m, size_t at, size_t n, const float *from)
{
    struct dlm_run run[2];
    for (int i = 0, k = dlm_network_runs(m, at, at + n, run); i < k; i++) {
        if (run[i].type == DLM_F32) {
            m->b.k->upload(m->b.dev, dlm_network_weight_at(m, run[i].from), from + (run[i].from - at), (run[i].to - run[i].from) * sizeof *from);
            continue;
        }
        uint16_t high[16384];
        for (size_t j = run[i].from; j < run[i].to; j += 16384) {
            const size_t some = smaller(16384, run[i].to - j);
            for (size_t e = 0; e < some; e++)
                high[e] = dlm_split_high(from[j - at + e]);
            m->b.k->upload(m->b.dev, dlm_network_weight_at(m, j), high, some * sizeof *high);
        }
    }
}

void dlm_network_rounding(struct dlm_network *m, uint64_t seed, uint32_t pass)
{
    m->seed = seed;
    m->pass = pass;
}

void dlm_network_zero_gradients(struct dlm_network *m)
{
    assert(m->train);
    m->b.k->zero(m->b.dev, m->gradients, m->p->weights); /* as large: what all matrices share is zeroed when it is used */
}

int dlm_network_sync(struct dlm_network *m, struct dlm_error *err)
{
    const char *word = m->b.k->sync(m->b.dev);
    return word ? dlm_fail(err, DLM_EIO, "%s: %s", m->b.k->name, word) : 0;
}

/* --- places ------------------------------------------------------------------------------------------------------------------ */

static dlm_ptr weight(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer)
{
    return element_of(m, m->weights, dlm_layout_find(&m->layout, kind, layer)->offset);
}

/* Of a tensor that is no matrix. */
static dlm_ptr gradient_of(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer)
{
    return element_of(m, m->gradients, dlm_layout_find(&m->layout, kind, layer)->offset);
}

/* Where the gradient of a matrix of n elements is summed by one pass, float32; then what it has summed is the gradient's. */
static dlm_ptr matrix_gradient(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer, size_t n)
{
    if (!m->compact)
        return gradient_of(m, kind, layer);
    dlm_ptr sum = dlm_ptr_at(m->gradients, m->p->gradient_sum);
    m->b.k->zero(m->b.dev, sum, n * sizeof(float));
    return sum;
}

static void matrix_gradient_end(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer, size_t n)
{
    if (m->compact)
        m->b.k->accumulate(m->b.dev, gradient_of(m, kind, layer), dlm_ptr_at(m->gradients, m->p->gradient_sum), n, m->seed, m->pass,
                           dlm_layout_find(&m->layout, kind, layer)->offset);
}

/* The gradient of W (O, I), which begins with tensor `kind`, from y = scale·x·Wᵀ. */
static void weight_gradient(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I)
{
    m->b.k->linear_dw(m->b.dev, matrix_gradient(m, kind, layer, O * I), dy, x, T, O, I, m->act, (float)m->config.weight_scaling);
    matrix_gradient_end(m, kind, layer, O * I);
}

/* The matrix that begins with this tensor, as products take it. */
static dlm_ptr matrix(const struct dlm_network *m, enum dlm_tensor_kind kind, size_t layer)
{
    const struct plan *p = m->p;
    if (m->compact)
        return weight(m, kind, layer);
    if (kind == DLM_TENSOR_HEAD)
        return dlm_ptr_at(m->packs, p->pack_head);
    const size_t at = kind == DLM_TENSOR_Q ? p->pack_qkv : kind == DLM_TENSOR_O ? p->pack_o : kind == DLM_TENSOR_UP ? p->pack_up : p->pack_down;
    return dlm_ptr_at(m->packs, layer * p->pack_layer + at);
}

static dlm_ptr of_layer(const struct dlm_network *m, size_t layer, struct place which)
{
    return dlm_ptr_at(m->activations, which.kept ? m->p->kept_at + layer * m->p->kept_stride + which.at : m->p->work_at + which.at);
}

static dlm_ptr shared(const struct dlm_network *m, size_t which)
{
    return dlm_ptr_at(m->activations, which);
}

static dlm_ptr in_head(const struct dlm_network *m, size_t which)
{
    return dlm_ptr_at(m->head, which);
}

/* The input of the norm after `layer`'s MLP: the next layer's, or the last norm's. */
static dlm_ptr x_after(const struct dlm_network *m, size_t layer)
{
    return layer + 1 < m->p->L ? of_layer(m, layer + 1, m->p->layer.x_attn) : shared(m, m->p->x_final);
}

/* --- recordings -------------------------------------------------------------------------------------------------------------- */

/* The kind of the pass that begins, or NULL. The state that rounds at random names its passes by number, and its models are large enough to do without. */
static struct kind *kind_of(struct dlm_network *m)
{
    if (!m->b.k->record || m->compact || m->cache)
        return NULL;
    struct kind *oldest = &m->kinds[0];
    m->passes++;
    for (size_t i = 0; i < KINDS; i++) {
        struct kind *k = &m->kinds[i];
        if (k->p == m->p && k->batch == m->batch && k->seq_len == m->seq_len && k->rule == m->rule && k->ids.at == m->ids.at && k->noisy.at == m->noisy.at) {
            k->used = m->passes;
            return k;
        }
        oldest = k->used < oldest->used ? k : oldest;
    }
    kind_clear(m, oldest);
    oldest->p = m->p;
    oldest->ids = m->ids;
    oldest->noisy = m->noisy;
    oldest->rule = m->rule;
    oldest->batch = m->batch;
    oldest->seq_len = m->seq_len;
    oldest->used = m->passes;
    return oldest;
}

/* part(m, i), from a recording where it was done plainly before and is not `plain`. */
static void replay(struct dlm_network *m, void (*part)(struct dlm_network *, size_t), size_t i, bool done, bool *plain, struct dlm_recording **r)
{
    const struct dlm_kernels *k = m->b.k;
    if (done && *r && k->replay(m->b.dev, *r))
        return;
    if (done && !*plain) {
        k->forget(m->b.dev, *r);
        *r = NULL;
        if (k->record(m->b.dev)) {
            part(m, i);
            *r = k->recorded(m->b.dev);
        }
        if (*r && k->replay(m->b.dev, *r))
            return;
        *plain = true;
    }
    part(m, i);
}

static void pack_all(struct dlm_network *m, size_t unused)
{
    const struct dlm_kernels *k = m->b.k;
    const struct plan *p = m->p;
    const struct {
        enum dlm_tensor_kind kind;
        size_t O, I;
    } of[] = {{DLM_TENSOR_Q, 3 * p->d, p->d}, {DLM_TENSOR_O, p->d, p->d}, {DLM_TENSOR_UP, p->m, p->d}, {DLM_TENSOR_DOWN, p->d, p->m}};
    (void)unused;
    for (size_t i = 0; i < p->L; i++)
        for (int j = 0; j < 4; j++)
            k->linear_pack(m->b.dev, matrix(m, of[j].kind, i), weight(m, of[j].kind, i), of[j].O, of[j].I, m->act);
    k->linear_pack(m->b.dev, matrix(m, DLM_TENSOR_HEAD, 0), weight(m, DLM_TENSOR_HEAD, 0), p->V, p->d, m->act);
}

void dlm_network_refresh(struct dlm_network *m)
{
    if (m->compact)
        return;
    m->p = &m->plans[0];
    if (m->b.k->record)
        replay(m, pack_all, 0, m->pack_done, &m->pack_plain, &m->pack);
    else
        pack_all(m, 0);
    m->pack_done = true;
}

/* --- forward ----------------------------------------------------------------------------------------------------------------- */

/* The residual stream goes on in another buffer where the old one is kept. */
static void carry(const struct dlm_network *m, dlm_ptr to, dlm_ptr from, size_t T)
{
    if (to.at != from.at)
        m->b.k->copy(m->b.dev, to, from, T * m->p->d * sizeof(float));
}

/* Attention of new rows on the cache: sequence by sequence, since each stands at a position of its own. */
static void look_back(struct dlm_network *m, size_t i, dlm_ptr o, dlm_ptr qh, dlm_ptr kh, dlm_ptr qkv)
{
    const struct dlm_kernels *k = m->b.k;
    const struct plan *p = m->p;
    const struct dlm_cache *c = m->cache;
    const size_t n = m->seq_len, half = c->positions * c->row;
    for (size_t b = 0; b < m->batch; b++) {
        const size_t rows = b * n * c->row;
        dlm_ptr q = dlm_ptr_at(qh, rows), key = dlm_ptr_at(kh, rows), mine = dlm_ptr_at(qkv, 3 * rows);
        dlm_ptr keys = dlm_ptr_at(c->at, (i * c->sequences + m->cache_first + b) * 2 * half), rope = shared(m, p->rope + m->at[b] * p->h * sizeof(float));
        k->qk_rotary(m->b.dev, q, key, of_layer(m, i, p->layer.rstd_qk), mine, weight(m, DLM_TENSOR_Q_NORM, i), weight(m, DLM_TENSOR_K_NORM, i), rope, 1,
                     n, p->H, p->h, (float)m->config.norm_eps, m->act);
        k->attention_cached(m->b.dev, dlm_ptr_at(o, rows), keys, dlm_ptr_at(keys, half), q, key, dlm_ptr_at(mine, 2 * c->row), 3 * p->d,
                            weight(m, DLM_TENSOR_K_BIAS, i), weight(m, DLM_TENSOR_V_BIAS, i), m->rule, m->at[b], n, p->H, p->h,
                            (float)m->config.soft_cap, m->act);
    }
}

static void norm_attention(struct dlm_network *m, size_t i, size_t T)
{
    const struct layer_plan *s = &m->p->layer;
    m->b.k->norm(m->b.dev, of_layer(m, i, s->y_attn), of_layer(m, i, s->rstd_attn), of_layer(m, i, s->x_attn), weight(m, DLM_TENSOR_ATTN_NORM, i), T,
                 m->p->d, (float)m->config.norm_eps, m->act);
}

static void rotate(struct dlm_network *m, size_t i)
{
    const struct plan *p = m->p;
    const struct layer_plan *s = &p->layer;
    m->b.k->qk_rotary(m->b.dev, of_layer(m, i, s->qh), of_layer(m, i, s->kh), of_layer(m, i, s->rstd_qk), of_layer(m, i, s->qkv),
                      weight(m, DLM_TENSOR_Q_NORM, i), weight(m, DLM_TENSOR_K_NORM, i), shared(m, p->rope), m->batch, m->seq_len, p->H, p->h,
                      (float)m->config.norm_eps, m->act);
}

static void forward_attention(struct dlm_network *m, size_t i, size_t T)
{
    const struct dlm_kernels *k = m->b.k;
    struct dlm_device *dev = m->b.dev;
    const struct plan *p = m->p;
    const struct layer_plan *s = &p->layer;
    const float scale = (float)m->config.weight_scaling;
    const size_t d = p->d;
    dlm_ptr x = of_layer(m, i, s->x_attn), y = of_layer(m, i, s->y_attn), qkv = of_layer(m, i, s->qkv), qh = of_layer(m, i, s->qh);
    dlm_ptr kh = of_layer(m, i, s->kh), o = of_layer(m, i, s->o), branch = shared(m, p->branch), next = of_layer(m, i, s->x_mlp);
    norm_attention(m, i, T);
    m->linear(dev, qkv, y, matrix(m, DLM_TENSOR_Q, i), T, 3 * d, d, m->act, m->act, scale);
    if (m->cache) {
        look_back(m, i, o, qh, kh, qkv);
    } else {
        rotate(m, i);
        k->attention(dev, o, of_layer(m, i, s->lse), qh, kh, dlm_ptr_at(qkv, 2 * d * p->item), 3 * d, weight(m, DLM_TENSOR_K_BIAS, i),
                     weight(m, DLM_TENSOR_V_BIAS, i), m->noisy, m->rule, m->batch, m->seq_len, p->H, p->h, (float)m->config.soft_cap, m->act);
    }
    m->linear(dev, branch, o, matrix(m, DLM_TENSOR_O, i), T, d, d, m->act, m->act, scale);
    carry(m, next, x, T);
    k->residual(dev, next, branch, (dlm_ptr){0}, T, d, (float)(m->config.resid_scale / (double)p->L), m->act);
}

static void norm_mlp(struct dlm_network *m, size_t i, size_t T)
{
    const struct layer_plan *s = &m->p->layer;
    m->b.k->norm(m->b.dev, of_layer(m, i, s->y_mlp), of_layer(m, i, s->rstd_mlp), of_layer(m, i, s->x_mlp), weight(m, DLM_TENSOR_MLP_NORM, i), T, m->p->d,
                 (float)m->config.norm_eps, m->act);
}

static void multiply_up(struct dlm_network *m, size_t i, size_t T)
{
    const struct layer_plan *s = &m->p->layer;
    m->linear(m->b.dev, of_layer(m, i, s->u), of_layer(m, i, s->y_mlp), matrix(m, DLM_TENSOR_UP, i), T, m->p->m, m->p->d, m->act, m->act,
              (float)m->config.weight_scaling);
}

static void forward_mlp(struct dlm_network *m, size_t i, size_t T)
{
    const struct dlm_kernels *k = m->b.k;
    struct dlm_device *dev = m->b.dev;
    const struct plan *p = m->p;
    const float scale = (float)m->config.weight_scaling;
    dlm_ptr x = of_layer(m, i, p->layer.x_mlp), u = of_layer(m, i, p->layer.u), a = shared(m, p->wide);
    dlm_ptr branch = shared(m, p->branch), next = x_after(m, i);
    norm_mlp(m, i, T);
    multiply_up(m, i, T);
    k->bias_relu2(dev, a, u, weight(m, DLM_TENSOR_UP_BIAS, i), T, p->m, m->act);
    m->linear(dev, branch, a, matrix(m, DLM_TENSOR_DOWN, i), T, p->d, p->m, m->act, m->act, scale);
    carry(m, next, x, T);
    k->residual(dev, next, branch, weight(m, DLM_TENSOR_DOWN_BIAS, i), T, p->d, (float)(m->config.resid_scale / (double)p->L), m->act);
}

void dlm_network_forward(struct dlm_network *m, dlm_ptr ids, dlm_ptr noisy, enum dlm_attend rule, size_t B)
{
    dlm_network_forward_of(m, ids, noisy, rule, B, m->plans[0].N);
}

static void forward_all(struct dlm_network *m, size_t unused)
{
    const struct plan *p = m->p;
    const size_t T = m->batch * m->seq_len;
    (void)unused;
    (m->compact ? m->b.k->embed_bf16 : m->b.k->embed)(m->b.dev, of_layer(m, 0, p->layer.x_attn), m->ids, weight(m, DLM_TENSOR_EMBED, 0), T, p->d);
    for (size_t i = 0; i < p->L; i++) {
        forward_attention(m, i, T);
        forward_mlp(m, i, T);
    }
    m->b.k->norm(m->b.dev, shared(m, p->hidden), shared(m, p->rstd_final), shared(m, p->x_final), weight(m, DLM_TENSOR_FINAL_NORM, 0), T, p->d,
                 (float)m->config.norm_eps, m->act);
}

static void forward(struct dlm_network *m)
{
    struct kind *kind = m->kind = kind_of(m);
    if (!kind) {
        forward_all(m, 0);
        return;
    }
    replay(m, forward_all, 0, kind->forward_done, &kind->plain, &kind->forward);
    kind->forward_done = true;
}

void dlm_network_forward_of(struct dlm_network *m, dlm_ptr ids, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N)
{
    m->p = &m->plans[B > m->plans[0].B];
    assert(B >= 1 && B <= m->p->B && N >= 1 && N <= m->p->N && (noisy.at || rule != DLM_ATTEND_PREFIX));
    m->ids = ids;
    m->noisy = rule == DLM_ATTEND_PREFIX ? noisy : (dlm_ptr){0}; /* else it is not read */
    m->rule = rule;
    m->batch = B;
    m->seq_len = N;
    m->cache = NULL;
    forward(m);
}

/* --- cache ------------------------------------------------------------------------------------------------------------------- */

int dlm_cache_new(struct dlm_cache **out, struct dlm_network *m, size_t sequences, size_t positions, struct dlm_error *err)
{
    struct dlm_cache *c = calloc(1, sizeof *c);
    struct arena a = {0};
    *out = NULL;
    assert(sequences && positions && positions <= m->p->N);
    if (!c)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    *c = (struct dlm_cache){.b = m->b, .sequences = sequences, .positions = positions, .row = m->p->d * m->p->item};
    bool fits = !__builtin_mul_overflow(2 * sequences, positions, &positions);
    (void)take(&a, m->p->L, positions, c->row);
    if (fits && !a.overflow)
        c->at = c->b.k->alloc(c->b.dev, a.size);
    if (!c->at.at) {
        free(c);
        return dlm_fail(err, DLM_ENOMEM, "no memory for the keys and values of %zu sequences", sequences);
    }
    *out = c;
    return 0;
}

void dlm_cache_free(struct dlm_cache *c)
{
    if (c)
        c->b.k->free(c->b.dev, c->at);
    free(c);
}

void dlm_network_forward_cached(struct dlm_network *m, struct dlm_cache *c, size_t first, dlm_ptr ids, const size_t *at, enum dlm_attend rule, size_t B,
                                size_t n)
{
    m->p = &m->plans[0];
    assert(rule != DLM_ATTEND_PREFIX && B >= 1 && first + B <= c->sequences && n >= 1 && B * n <= m->p->T);
    for (size_t b = 0; b < B; b++)
        assert(at[b] + n <= c->positions);
    m->ids = ids;
    m->noisy = (dlm_ptr){0};
    m->rule = rule;
    m->batch = B;
    m->seq_len = n;
    m->cache = c;
    m->cache_first = first;
    m->at = at;
    forward(m);
}

/* --- head and loss ----------------------------------------------------------------------------------------------------------- */

/* Rows [at, at + n) of `s` on the device, with the last repeated up to `rows`. */
static void upload_chunk(struct dlm_network *m, const uint32_t *index, const uint32_t *x, const uint32_t *z, const struct dlm_row *row, size_t n,
                         size_t rows)
{
    const struct dlm_kernels *k = m->b.k;
    const uint32_t *const from[] = {index, x, z};
    const size_t to[] = {m->p->index, m->p->x, m->p->z}, R = m->stage;
    for (int j = 0; j < 3; j++) {
        if (!from[j])
            continue;
        uint32_t *stage = m->stage_ids + (size_t)j * R;
        for (size_t i = 0; i < rows; i++)
            stage[i] = from[j][i < n ? i : n - 1];
        k->upload(m->b.dev, in_head(m, to[j]), stage, rows * sizeof *stage);
    }
    if (row) {
        for (size_t i = 0; i < rows; i++)
            m->stage_rows[i] = row[i < n ? i : n - 1];
        k->upload(m->b.dev, in_head(m, m->p->row), m->stage_rows, rows * sizeof *row);
    }
}

/* logits f32 (rows, V) of the chunk whose index was uploaded. */
static void head_forward(struct dlm_network *m, size_t rows)
{
    const struct plan *p = m->p;
    m->b.k->gather_rows(m->b.dev, in_head(m, p->picked), shared(m, p->hidden), in_head(m, p->index), rows, p->d, m->act);
    m->linear(m->b.dev, in_head(m, p->logits), in_head(m, p->picked), matrix(m, DLM_TENSOR_HEAD, 0), rows, p->V, p->d, m->act, DLM_F32,
                   (float)m->config.head_scaling);
}

static void head_backward(struct dlm_network *m, dlm_ptr dhead, size_t rows)
{
    const struct dlm_kernels *k = m->b.k;
    const struct plan *p = m->p;
    const float scale = (float)m->config.head_scaling;
    dlm_ptr dlogits = in_head(m, p->dlogits), dpicked = in_head(m, p->dpicked);
    k->linear_dw(m->b.dev, dhead, dlogits, in_head(m, p->picked), rows, p->V, p->d, m->act, scale);
    m->linear_dx(m->b.dev, dpicked, dlogits, matrix(m, DLM_TENSOR_HEAD, 0), rows, p->V, p->d, m->act, m->act, scale);
    k->scatter_rows(m->b.dev, shared(m, p->dhidden), dpicked, in_head(m, p->index), rows, p->d, m->act);
}

/* Both losses: `columns` figures a row into `out`. */
static int score(struct dlm_network *m, const struct dlm_scored *s, bool diffusion, bool gradient, float *out, struct dlm_error *err)
{
    const struct dlm_kernels *k = m->b.k;
    struct dlm_device *dev = m->b.dev;
    const struct plan *p = m->p;
    const size_t columns = diffusion ? DLM_TERMS : 1, most = gradient ? p->head_rows : p->eval_rows;
    const uint32_t mask = m->config.mask;
    assert(((m->train && p == &m->plans[0]) || !gradient) && s->n <= p->T);
    dlm_ptr dhead = {0};
    if (gradient) {
        k->zero(dev, shared(m, p->dhidden), m->batch * m->seq_len * p->d * p->item); /* rows not scored have no gradient */
        dhead = matrix_gradient(m, DLM_TENSOR_HEAD, 0, p->V * p->d);
    }
    for (size_t at = 0; at < s->n; at += most) {
        const size_t n = smaller(most, s->n - at), rows = gradient ? n : most;
        upload_chunk(m, s->at + at, s->target + at, diffusion ? s->z + at : NULL, diffusion ? s->row + at : NULL, n, rows);
        head_forward(m, rows);
        dlm_ptr dlogits = gradient ? in_head(m, p->dlogits) : (dlm_ptr){0}, terms = in_head(m, p->terms + at * columns * sizeof *out);
        if (diffusion)
            k->diffusion_loss(dev, terms, dlogits, in_head(m, p->logits), in_head(m, p->x), in_head(m, p->z), in_head(m, p->row),
                              rows, p->V, mask, m->act);
        else
            k->cross_entropy(dev, terms, dlogits, in_head(m, p->logits), in_head(m, p->x), rows, p->V, mask, m->act);
        if (gradient)
            head_backward(m, dhead, rows);
    }
    if (gradient) {
        matrix_gradient_end(m, DLM_TENSOR_HEAD, 0, p->V * p->d);
        tell(m);
    }
    k->download(dev, out, in_head(m, p->terms), s->n * columns * sizeof *out); /* once: it waits for the device */
    return dlm_network_sync(m, err);
}

int dlm_network_diffusion_loss(struct dlm_network *m, const struct dlm_scored *s, bool gradient, float *terms, struct dlm_error *err)
{
    return score(m, s, true, gradient, terms, err);
}

int dlm_network_cross_entropy(struct dlm_network *m, const struct dlm_scored *s, bool gradient, float *nll, struct dlm_error *err)
{
    return score(m, s, false, gradient, nll, err);
}

int dlm_network_logits(struct dlm_network *m, const uint32_t *at, size_t n, float *logits, struct dlm_error *err)
{
    const struct plan *p = m->p;
    for (size_t done = 0; done < n; done += p->eval_rows) {
        const size_t k = smaller(p->eval_rows, n - done);
        upload_chunk(m, at + done, NULL, NULL, NULL, k, p->eval_rows);
        head_forward(m, p->eval_rows);
        m->b.k->download(m->b.dev, logits + done * p->V, in_head(m, p->logits), k * p->V * sizeof *logits);
    }
    return dlm_network_sync(m, err);
}

void dlm_network_draw(struct dlm_network *m, const uint32_t *at, size_t n, float scale, const struct dlm_draw *draw, size_t first)
{
    const struct plan *p = m->p;
    const dlm_ptr logits = in_head(m, p->logits);
    assert(first + n <= p->T);
    for (size_t done = 0; done < n; done += p->eval_rows) {
        const size_t k = smaller(p->eval_rows, n - done);
        upload_chunk(m, at + done, NULL, NULL, NULL, k, p->eval_rows);
        head_forward(m, p->eval_rows);
        m->b.k->shares(m->b.dev, logits, logits, k, p->V, m->config.mask, scale);
        m->b.k->upload(m->b.dev, in_head(m, p->draw), draw + done, k * sizeof *draw);
        m->b.k->draw(m->b.dev, in_head(m, p->terms + (first + done) * sizeof(struct dlm_drawn)), logits, in_head(m, p->draw), k, p->V, m->config.mask);
    }
}

int dlm_network_drawn(struct dlm_network *m, struct dlm_drawn *drawn, size_t n, struct dlm_error *err)
{
    m->b.k->download(m->b.dev, drawn, in_head(m, m->p->terms), n * sizeof *drawn);
    return dlm_network_sync(m, err);
}

/* --- backward ---------------------------------------------------------------------------------------------------------------- */

/* dx enters as the gradient after the MLP and leaves as the gradient before it; the path around the sublayer is in place already. */
static void backward_mlp(struct dlm_network *m, size_t i, size_t T)
{
    const struct dlm_kernels *k = m->b.k;
    struct dlm_device *dev = m->b.dev;
    const struct plan *p = m->p;
    const struct layer_plan *s = &p->layer;
    const float scale = (float)m->config.weight_scaling;
    const size_t d = p->d, w = p->m;
    dlm_ptr dx = shared(m, p->dx), dy = shared(m, p->branch), a = shared(m, p->wide), du = shared(m, p->wide2);
    dlm_ptr u = of_layer(m, i, s->u), y = of_layer(m, i, s->y_mlp), bias = weight(m, DLM_TENSOR_UP_BIAS, i);
    k->residual_backward(dev, dy, gradient_of(m, DLM_TENSOR_DOWN_BIAS, i), dx, T, d, (float)(m->config.resid_scale / (double)p->L), m->act);
    k->bias_relu2(dev, a, u, bias, T, w, m->act);
    weight_gradient(m, DLM_TENSOR_DOWN, i, dy, a, T, d, w);
    m->linear_dx(dev, du, dy, matrix(m, DLM_TENSOR_DOWN, i), T, d, w, m->act, m->act, scale);
    k->bias_relu2_backward(dev, du, gradient_of(m, DLM_TENSOR_UP_BIAS, i), du, u, bias, T, w, m->act);
    weight_gradient(m, DLM_TENSOR_UP, i, du, y, T, w, d);
    m->linear_dx(dev, dy, du, matrix(m, DLM_TENSOR_UP, i), T, w, d, m->act, m->act, scale);
    k->norm_backward(dev, dx, gradient_of(m, DLM_TENSOR_MLP_NORM, i), dy, of_layer(m, i, s->x_mlp), of_layer(m, i, s->rstd_mlp),
                     weight(m, DLM_TENSOR_MLP_NORM, i), T, d, m->act);
}

static void backward_attention(struct dlm_network *m, size_t i, size_t T)
{
    const struct dlm_kernels *k = m->b.k;
    struct dlm_device *dev = m->b.dev;
    const struct plan *p = m->p;
    const struct layer_plan *s = &p->layer;
    const float scale = (float)m->config.weight_scaling;
    const size_t d = p->d;
    dlm_ptr dx = shared(m, p->dx), dy = shared(m, p->branch), d_o = shared(m, p->branch2), dqkv = shared(m, p->wide2);
    dlm_ptr dqh = shared(m, p->wide), dkh = dlm_ptr_at(dqh, p->wide_half);
    dlm_ptr qkv = of_layer(m, i, s->qkv), qh = of_layer(m, i, s->qh), kh = of_layer(m, i, s->kh), o = of_layer(m, i, s->o);
    dlm_ptr y = of_layer(m, i, s->y_attn), third = dlm_ptr_at(qkv, 2 * d * p->item), dv = dlm_ptr_at(dqkv, 2 * d * p->item);
    k->residual_backward(dev, dy, (dlm_ptr){0}, dx, T, d, (float)(m->config.resid_scale / (double)p->L), m->act);
    weight_gradient(m, DLM_TENSOR_O, i, dy, o, T, d, d);
    m->linear_dx(dev, d_o, dy, matrix(m, DLM_TENSOR_O, i), T, d, d, m->act, m->act, scale);
    k->attention_backward(dev, dqh, dkh, dv, 3 * d, gradient_of(m, DLM_TENSOR_K_BIAS, i), gradient_of(m, DLM_TENSOR_V_BIAS, i), d_o, o,
                          of_layer(m, i, s->lse), qh, kh, third, 3 * d, weight(m, DLM_TENSOR_K_BIAS, i), weight(m, DLM_TENSOR_V_BIAS, i), m->noisy,
                          m->rule, m->batch, m->seq_len, p->H, p->h, (float)m->config.soft_cap, m->act);
    k->qk_rotary_backward(dev, dqkv, gradient_of(m, DLM_TENSOR_Q_NORM, i), gradient_of(m, DLM_TENSOR_K_NORM, i), dqh, dkh, qkv,
                          of_layer(m, i, s->rstd_qk), weight(m, DLM_TENSOR_Q_NORM, i), weight(m, DLM_TENSOR_K_NORM, i), shared(m, p->rope), m->batch,
                          m->seq_len, p->H, p->h, m->act);
    weight_gradient(m, DLM_TENSOR_Q, i, dqkv, y, T, 3 * d, d);
    m->linear_dx(dev, dy, dqkv, matrix(m, DLM_TENSOR_Q, i), T, 3 * d, d, m->act, m->act, scale);
    k->norm_backward(dev, dx, gradient_of(m, DLM_TENSOR_ATTN_NORM, i), dy, of_layer(m, i, s->x_attn), of_layer(m, i, s->rstd_attn),
                     weight(m, DLM_TENSOR_ATTN_NORM, i), T, d, m->act);
}

/* What was not kept of layer i, by the calls that made it: the same bits. */
static void compute_again(struct dlm_network *m, size_t i, size_t T)
{
    if (m->recompute >= DLM_RECOMPUTE_LAYER) {
        forward_attention(m, i, T);
    } else if (m->recompute >= DLM_RECOMPUTE_NORMS) {
        norm_attention(m, i, T);
        rotate(m, i);
    }
    if (m->recompute >= DLM_RECOMPUTE_NORMS)
        norm_mlp(m, i, T);
    if (m->recompute >= DLM_RECOMPUTE_MLP)
        multiply_up(m, i, T);
}

/* Layer i; before the last one the last norm. */
static void backward_layer(struct dlm_network *m, size_t i)
{
    const struct plan *p = m->p;
    const size_t T = m->batch * m->seq_len;
    if (i + 1 == p->L) {
        m->b.k->zero(m->b.dev, shared(m, p->dx), T * p->d * sizeof(float));
        m->b.k->norm_backward(m->b.dev, shared(m, p->dx), gradient_of(m, DLM_TENSOR_FINAL_NORM, 0), shared(m, p->dhidden), shared(m, p->x_final),
                              shared(m, p->rstd_final), weight(m, DLM_TENSOR_FINAL_NORM, 0), T, p->d, m->act);
    }
    compute_again(m, i, T);
    backward_mlp(m, i, T);
    backward_attention(m, i, T);
}

void dlm_network_backward(struct dlm_network *m)
{
    const struct plan *p = m->p;
    const size_t T = m->batch * m->seq_len;
    struct kind *kind = m->kind;
    assert(m->train && p == &m->plans[0] && m->batch && !m->cache);
    for (size_t i = p->L; i-- > 0;) { /* a recording each, so that what a layer's gradients are for can begin when they are there */
        if (kind)
            replay(m, backward_layer, i, kind->backward_done, &kind->plain, &kind->backward[i]);
        else
            backward_layer(m, i);
        tell(m);
    }
    if (kind)
        kind->backward_done = true;
    m->b.k->embed_backward(m->b.dev, matrix_gradient(m, DLM_TENSOR_EMBED, 0, p->V * p->d), shared(m, p->dx), m->ids, T, p->d, p->V);
    matrix_gradient_end(m, DLM_TENSOR_EMBED, 0, p->V * p->d);
    tell(m); /* the embedding */
    tell(m); /* what is small */
}
