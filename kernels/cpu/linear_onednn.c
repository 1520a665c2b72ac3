/* Matrix products by oneDNN; the one file that knows it. C API of major versions 2 and 3.
 *
 * A packed weight is W in the two layouts that oneDNN asks for, for y = x·Wᵀ and for dx = dy·W. Primitives cost a millisecond or
 * so to make and are kept, the least recently used going first. So that a run whose number of scored rows changes with every step
 * does not make one for each number, rows beyond a multiple of 64 go through a buffer of 64 rows, padded with zeros.
 */
#include "linear.h"

#if DLM_ONEDNN

#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#if DNNL_VERSION_MAJOR != 2 && DNNL_VERSION_MAJOR != 3
#error "oneDNN 2 or 3 is needed"
#endif

enum { ROWS = 64, KEPT = 256 };
enum { NOMINAL_ROWS = 1024 }; /* for which layouts of weights are asked; what oneDNN answers does not change from a few rows on */

/* Does a product take W as it lies, or in the layout that oneDNN likes best? */
enum form { PACKED, AS_IT_LIES };

/* A memory descriptor is a struct in version 2 and a handle in version 3. */
typedef dnnl_memory_desc_t layout_t;
#if DNNL_VERSION_MAJOR == 2
#define LAYOUT(l) (&(l))
#else
#define LAYOUT(l) (l)
#endif

enum direction { FORWARD, BACKWARD_X, BACKWARD_W };

/* The layouts of one shape of weight, and the primitives that fill them from W f32. */
struct weight {
    size_t O, I;
    enum dlm_dtype act;
    layout_t layout[2]; /* FORWARD, BACKWARD_X */
    size_t size[2];     /* bytes, a multiple of 64 */
    dnnl_primitive_t reorder[2];
    dnnl_memory_t from[2], to[2];
};

struct product {
    enum direction direction;
    enum form form;
    size_t T, O, I;
    enum dlm_dtype act, out;
    float scale;
    uint64_t used;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

struct dlm_gemm {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    uint64_t clock;
    struct weight **weights;
    size_t n_weights;
    struct product *products[KEPT];
    size_t n_products;
};

static dnnl_data_type_t type_of(enum dlm_dtype t)
{
    return t == DLM_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* --- the two versions -------------------------------------------------------------------------------------------------- */

static dnnl_status_t layout_strided(layout_t *l, size_t rows, size_t cols, size_t row_stride, size_t col_stride,
                                    dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols}, strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)col_stride};
#if DNNL_VERSION_MAJOR == 2
    return dnnl_memory_desc_init_by_strides(l, 2, dims, t, strides);
#else
    return dnnl_memory_desc_create_with_strides(l, 2, dims, t, strides);
#endif
}

static dnnl_status_t layout_any(layout_t *l, size_t rows, size_t cols, dnnl_data_type_t t)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
#if DNNL_VERSION_MAJOR == 2
    return dnnl_memory_desc_init_by_tag(l, 2, dims, t, dnnl_format_tag_any);
#else
    return dnnl_memory_desc_create_with_tag(l, 2, dims, t, dnnl_format_tag_any);
#endif
}

static void layout_free(layout_t *l)
{
#if DNNL_VERSION_MAJOR == 3
    if (*l)
        dnnl_memory_desc_destroy(*l);
#endif
    memset(l, 0, sizeof *l);
}

static dnnl_status_t layout_of_weights(layout_t *l, const_dnnl_primitive_desc_t pd)
{
#if DNNL_VERSION_MAJOR == 2
    const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    if (!found)
        return dnnl_runtime_error;
    *l = *found;
    return dnnl_success;
#else
    const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    return found ? dnnl_memory_desc_clone(l, found) : dnnl_runtime_error;
#endif
}

static dnnl_status_t product_describe(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, layout_t *a, layout_t *b, layout_t *c,
                                      const_dnnl_primitive_attr_t attr)
{
#if DNNL_VERSION_MAJOR == 2
    dnnl_matmul_desc_t d;
    dnnl_status_t s = dnnl_matmul_desc_init(&d, a, b, NULL, c);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : s;
#else
    return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, NULL, *c, attr);
#endif
}

static dnnl_status_t append_scale(dnnl_post_ops_t ops, float scale)
{
#if DNNL_VERSION_MAJOR == 2
    return dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_linear, scale, 0.0f);
#else
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, scale, 0.0f);
#endif
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR == 2
    return dnnl_post_ops_append_sum(ops, 1.0f);
#else
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#endif
}

/* --- weights ----------------------------------------------------------------------------------------------------------- */

static void weight_free(struct weight *w)
{
    if (!w)
        return;
    for (int i = 0; i < 2; i++) {
        layout_free(&w->layout[i]);
        if (w->reorder[i])
            dnnl_primitive_destroy(w->reorder[i]);
        if (w->from[i])
            dnnl_memory_destroy(w->from[i]);
        if (w->to[i])
            dnnl_memory_destroy(w->to[i]);
    }
    free(w);
}

static dnnl_status_t weight_direction(struct dlm_gemm *g, struct weight *w, int i)
{
    /* as a matrix to multiply by: (deep, wide), element (k, n) of it in W row-major */
    size_t deep = i == FORWARD ? w->I : w->O, wide = i == FORWARD ? w->O : w->I;
    size_t sk = i == FORWARD ? 1 : w->I, sn = i == FORWARD ? w->I : 1;
    dnnl_data_type_t t = type_of(w->act);
    layout_t a = {0}, b = {0}, c = {0}, plain = {0};
    dnnl_primitive_desc_t pd = NULL, rd = NULL;
    dnnl_status_t s = layout_strided(&a, NOMINAL_ROWS, deep, deep, 1, t);
    if (!s)
        s = layout_any(&b, deep, wide, t);
    if (!s)
        s = layout_strided(&c, NOMINAL_ROWS, wide, wide, 1, t);
    if (!s)
        s = product_describe(&pd, g->engine, &a, &b, &c, NULL);
    if (!s)
        s = layout_of_weights(&w->layout[i], pd);
    if (!s)
        s = layout_strided(&plain, deep, wide, sk, sn, dnnl_f32);
    if (!s)
        s = dnnl_reorder_primitive_desc_create(&rd, LAYOUT(plain), g->engine, LAYOUT(w->layout[i]), g->engine, NULL);
    if (!s)
        s = dnnl_primitive_create(&w->reorder[i], rd);
    if (!s)
        s = dnnl_memory_create(&w->from[i], LAYOUT(plain), g->engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&w->to[i], LAYOUT(w->layout[i]), g->engine, DNNL_MEMORY_NONE);
    if (!s)
        w->size[i] = dlm_round_up(dnnl_memory_desc_get_size(LAYOUT(w->layout[i])), 64);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (rd)
        dnnl_primitive_desc_destroy(rd);
    layout_free(&a);
    layout_free(&b);
    layout_free(&c);
    layout_free(&plain);
    return s;
}

static struct weight *weight_find(struct dlm_device *dev, size_t O, size_t I, enum dlm_dtype act)
{
    struct dlm_gemm *g = dev->gemm;
    for (size_t i = 0; i < g->n_weights; i++)
        if (g->weights[i]->O == O && g->weights[i]->I == I && g->weights[i]->act == act)
            return g->weights[i];
    struct weight **grown = realloc(g->weights, (g->n_weights + 1) * sizeof *grown);
    struct weight *w = calloc(1, sizeof *w);
    if (grown)
        g->weights = grown;
    if (!grown || !w) {
        free(w);
        dlm_device_fail(dev, "out of memory for the layout of a weight");
        return NULL;
    }
    w->O = O;
    w->I = I;
    w->act = act;
    dnnl_status_t s = weight_direction(g, w, FORWARD);
    if (!s)
        s = weight_direction(g, w, BACKWARD_X);
    if (s) {
        weight_free(w);
        dlm_device_fail(dev, "oneDNN has no layout for a weight of %zu x %zu (status %d)", O, I, (int)s);
        return NULL;
    }
    return g->weights[g->n_weights++] = w;
}

size_t dlm_linear_onednn_pack_size(struct dlm_device *dev, size_t O, size_t I, enum dlm_dtype act)
{
    struct weight *w = dlm_device_failed(dev) ? NULL : weight_find(dev, O, I, act);
    return w ? w->size[FORWARD] + w->size[BACKWARD_X] : 0;
}

static void use_threads(const struct dlm_device *dev)
{
    if (omp_get_max_threads() != dev->threads)
        omp_set_num_threads(dev->threads);
}

void dlm_linear_onednn_pack(struct dlm_device *dev, dlm_ptr pack, dlm_ptr from, size_t O, size_t I, enum dlm_dtype act)
{
    struct weight *w = dlm_device_failed(dev) ? NULL : weight_find(dev, O, I, act);
    if (!w)
        return;
    use_threads(dev);
    char *to = dlm_at(pack);
    for (int i = 0; i < 2; i++) {
        dnnl_status_t s = dnnl_memory_set_data_handle(w->from[i], dlm_at(from));
        if (!s)
            s = dnnl_memory_set_data_handle(w->to[i], to);
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, w->from[i]}, {DNNL_ARG_TO, w->to[i]}};
        if (!s)
            s = dnnl_primitive_execute(w->reorder[i], dev->gemm->stream, 2, args);
        if (!s)
            s = dnnl_stream_wait(dev->gemm->stream);
        if (s)
            dlm_device_fail(dev, "oneDNN cannot pack a weight of %zu x %zu (status %d)", O, I, (int)s);
        to += w->size[i];
    }
}

/* --- products ---------------------------------------------------------------------------------------------------------- */

static void product_free(struct product *p)
{
    if (!p)
        return;
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    if (p->a)
        dnnl_memory_destroy(p->a);
    if (p->b)
        dnnl_memory_destroy(p->b);
    if (p->c)
        dnnl_memory_destroy(p->c);
    free(p);
}

/* `w` is of no use where W is taken as it lies, or where there is none. */
static dnnl_status_t product_make(struct dlm_gemm *g, struct product *p, struct weight *w)
{
    dnnl_data_type_t in = type_of(p->act), out = type_of(p->out);
    layout_t a = {0}, b = {0}, c = {0};
    layout_t *right = &b;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s;
    if (p->direction == BACKWARD_W) {
        s = layout_strided(&a, p->O, p->T, 1, p->O, in);
        if (!s)
            s = layout_strided(&b, p->T, p->I, p->I, 1, in);
        if (!s)
            s = layout_strided(&c, p->O, p->I, p->I, 1, out);
    } else {
        size_t deep = p->direction == FORWARD ? p->I : p->O, wide = p->direction == FORWARD ? p->O : p->I;
        s = layout_strided(&a, p->T, deep, deep, 1, in);
        if (p->form == PACKED)
            right = &w->layout[p->direction];
        else if (!s)
            s = p->direction == FORWARD ? layout_strided(&b, deep, wide, 1, deep, in) : layout_strided(&b, deep, wide, wide, 1, in);
        if (!s)
            s = layout_strided(&c, p->T, wide, wide, 1, out);
    }
    if (!s)
        s = dnnl_primitive_attr_create(&attr);
    if (!s)
        s = dnnl_post_ops_create(&ops);
    if (!s && p->scale != 1.0f)
        s = append_scale(ops, p->scale);
    if (!s && p->direction == BACKWARD_W)
        s = append_sum(ops);
    if (!s)
        s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (!s)
        s = product_describe(&pd, g->engine, &a, right, &c, attr);
    if (!s)
        s = dnnl_primitive_create(&p->primitive, pd);
    if (!s)
        s = dnnl_memory_create(&p->a, LAYOUT(a), g->engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&p->b, LAYOUT(*right), g->engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&p->c, LAYOUT(c), g->engine, DNNL_MEMORY_NONE);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    layout_free(&a);
    layout_free(&b);
    layout_free(&c);
    return s;
}

static struct product *product_find(struct dlm_device *dev, struct weight *w, enum form form, enum direction direction, size_t T, size_t O,
                                    size_t I, enum dlm_dtype act, enum dlm_dtype out, float scale)
{
    struct dlm_gemm *g = dev->gemm;
    size_t oldest = 0;
    for (size_t i = 0; i < g->n_products; i++) {
        struct product *p = g->products[i];
        if (p->direction == direction && p->form == form && p->T == T && p->O == O && p->I == I && p->act == act && p->out == out &&
            p->scale == scale) {
            p->used = ++g->clock;
            return p;
        }
        if (p->used < g->products[oldest]->used)
            oldest = i;
    }
    struct product *p = calloc(1, sizeof *p);
    if (!p) {
        dlm_device_fail(dev, "out of memory for a matrix product");
        return NULL;
    }
    *p = (struct product){
        .direction = direction, .form = form, .T = T, .O = O, .I = I, .act = act, .out = out, .scale = scale, .used = ++g->clock};
    use_threads(dev);
    dnnl_status_t s = product_make(g, p, w);
    if (s) {
        product_free(p);
        dlm_device_fail(dev, "oneDNN has no product of %zu rows with %zu x %zu (status %d)", T, O, I, (int)s);
        return NULL;
    }
    if (g->n_products < KEPT)
        oldest = g->n_products++;
    else
        product_free(g->products[oldest]);
    return g->products[oldest] = p;
}

static void product_run(struct dlm_device *dev, struct product *p, const void *a, const void *b, void *c)
{
    if (!p)
        return;
    use_threads(dev);
    dnnl_status_t s = dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a);
    if (!s)
        s = dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b);
    if (!s)
        s = dnnl_memory_set_data_handle(p->c, c);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    if (!s)
        s = dnnl_primitive_execute(p->primitive, dev->gemm->stream, 3, args);
    if (!s)
        s = dnnl_stream_wait(dev->gemm->stream);
    if (s)
        dlm_device_fail(dev, "oneDNN failed in a product of %zu rows with %zu x %zu (status %d)", p->T, p->O, p->I, (int)s);
}

/* How many of T rows are multiplied where they lie; the rest, under ROWS, go through a padded copy. */
static size_t rows_in_place(size_t T)
{
    return T < ROWS ? T : T / ROWS * ROWS;
}

/* y (T, wide) = scale · x (T, deep) · layout[direction], or W as it lies. */
static void multiply(struct dlm_device *dev, void *y, const void *x, const void *pack, enum form form, enum direction direction, size_t T,
                     size_t O, size_t I, enum dlm_dtype act, enum dlm_dtype out, float scale)
{
    if (dlm_device_failed(dev) || !T)
        return;
    struct weight *w = form == PACKED ? weight_find(dev, O, I, act) : NULL;
    if (form == PACKED && !w)
        return;
    size_t deep = direction == FORWARD ? I : O, wide = direction == FORWARD ? O : I;
    const char *right = (const char *)pack + (form == AS_IT_LIES || direction == FORWARD ? 0 : w->size[FORWARD]);
    size_t whole = rows_in_place(T), rest = T - whole;
    product_run(dev, product_find(dev, w, form, direction, whole, O, I, act, out, scale), x, right, y);
    if (!rest)
        return;
    size_t in = deep * dlm_dtype_size(act), made = wide * dlm_dtype_size(out);
    char *a = dlm_device_scratch(dev, ROWS * (in + made) + 64), *c = a + dlm_round_up(ROWS * in, 64);
    if (!a)
        return;
    memcpy(a, (const char *)x + whole * in, rest * in);
    memset(a + rest * in, 0, (ROWS - rest) * in);
    product_run(dev, product_find(dev, w, form, direction, ROWS, O, I, act, out, scale), a, right, c);
    memcpy((char *)y + whole * made, c, rest * made);
}

void dlm_linear_onednn(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I,
                       enum dlm_dtype act, enum dlm_dtype y_type, float scale)
{
    multiply(dev, dlm_at(y), dlm_at(x), dlm_at(pack), PACKED, FORWARD, T, O, I, act, y_type, scale);
}

void dlm_linear_onednn_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I,
                          enum dlm_dtype act, enum dlm_dtype dx_type, float scale)
{
    multiply(dev, dlm_at(dx), dlm_at(dy), dlm_at(pack), PACKED, BACKWARD_X, T, O, I, act, dx_type, scale);
}

void dlm_linear_onednn_bf16(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                            enum dlm_dtype y_type, float scale)
{
    multiply(dev, dlm_at(y), dlm_at(x), dlm_at(w), AS_IT_LIES, FORWARD, T, O, I, act, y_type, scale);
}

void dlm_linear_onednn_bf16_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I,
                               enum dlm_dtype act, enum dlm_dtype dx_type, float scale)
{
    multiply(dev, dlm_at(dx), dlm_at(dy), dlm_at(w), AS_IT_LIES, BACKWARD_X, T, O, I, act, dx_type, scale);
}

void dlm_linear_onednn_dw(struct dlm_device *dev, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I,
                          enum dlm_dtype act, float scale)
{
    if (dlm_device_failed(dev) || !T)
        return;
    size_t whole = rows_in_place(T), rest = T - whole;
    product_run(dev, product_find(dev, NULL, AS_IT_LIES, BACKWARD_W, whole, O, I, act, DLM_F32, scale), dlm_at(dy), dlm_at(x), dlm_at(dw));
    if (!rest)
        return;
    size_t left = O * dlm_dtype_size(act), right = I * dlm_dtype_size(act);
    char *a = dlm_device_scratch(dev, ROWS * (left + right) + 64), *b = a + dlm_round_up(ROWS * left, 64);
    if (!a)
        return;
    memcpy(a, (const char *)dlm_at(dy) + whole * left, rest * left);
    memset(a + rest * left, 0, (ROWS - rest) * left);
    memcpy(b, (const char *)dlm_at(x) + whole * right, rest * right);
    memset(b + rest * right, 0, (ROWS - rest) * right);
    product_run(dev, product_find(dev, NULL, AS_IT_LIES, BACKWARD_W, ROWS, O, I, act, DLM_F32, scale), a, b, dlm_at(dw));
}

/* --- the engine -------------------------------------------------------------------------------------------------------- */

bool dlm_gemm_open(struct dlm_device *dev)
{
    struct dlm_gemm *g = calloc(1, sizeof *g);
    if (!g) {
        dlm_device_fail(dev, "out of memory for oneDNN's engine");
        return false;
    }
    dnnl_status_t s = dnnl_engine_create(&g->engine, dnnl_cpu, 0);
    if (!s)
        s = dnnl_stream_create(&g->stream, g->engine, dnnl_stream_default_flags);
    if (s) {
        if (g->engine)
            dnnl_engine_destroy(g->engine);
        free(g);
        dlm_device_fail(dev, "oneDNN has no cpu engine (status %d)", (int)s);
        return false;
    }
    dev->gemm = g;
    return true;
}

void dlm_gemm_close(struct dlm_device *dev)
{
    struct dlm_gemm *g = dev->gemm;
    if (!g)
        return;
    for (size_t i = 0; i < g->n_products; i++)
        product_free(g->products[i]);
    for (size_t i = 0; i < g->n_weights; i++)
        weight_free(g->weights[i]);
    free(g->weights);
    dnnl_stream_destroy(g->stream);
    dnnl_engine_destroy(g->engine);
    free(g);
    dev->gemm = NULL;
}

void dlm_gemm_describe(char *to, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(to, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

#endif
