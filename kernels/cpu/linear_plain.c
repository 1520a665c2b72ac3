/* Matrix products without a library: blocks of 64 × 64 over 256 of k, float32 throughout.
 *
 * Built always: the table's when oneDNN is left out, and the reference in tests. bf16 inputs are widened as blocks are copied,
 * weights are rounded to bf16 when packed, so that the sums are over the same products as in hardware.
 */
#include "linear.h"
#include "tile.h"

#include <omp.h>

enum { BLOCK = 64, DEPTH = 256, WORK = BLOCK * DEPTH + BLOCK * BLOCK };

/* A pack is two copies of W in panels 64 wide: (O/64, I, 64) for y = x·Wᵀ, then (I/64, O, 64) for dx = dy·W. */
static size_t panels_floats(size_t wide, size_t deep)
{
    return dlm_round_up(wide, BLOCK) * deep;
}

size_t dlm_linear_plain_pack_size(struct dlm_device *dev, size_t O, size_t I, enum dlm_dtype act)
{
    (void)dev;
    (void)act;
    return (panels_floats(O, I) + panels_floats(I, O)) * sizeof(float);
}

/* Panels of columns of a matrix whose element (k, n) is w[k·sk + n·sn]. */
static void pack_panels(float *to, const float *w, size_t sk, size_t sn, size_t deep, size_t wide, bool round, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t n0 = 0; n0 < wide; n0 += BLOCK)
        for (size_t k = 0; k < deep; k++)
            for (size_t n = 0; n < BLOCK; n++) {
                float v = n0 + n < wide ? w[k * sk + (n0 + n) * sn] : 0;
                to[n0 * deep + k * BLOCK + n] = round ? dlm_bf16_to_f32(dlm_bf16_from_f32(v)) : v;
            }
}

void dlm_linear_plain_pack(struct dlm_device *dev, dlm_ptr pack, dlm_ptr w, size_t O, size_t I, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    float *to = dlm_at(pack);
    pack_panels(to, dlm_at(w), 1, I, I, O, act == DLM_BF16, dev->threads);
    pack_panels(to + panels_floats(O, I), dlm_at(w), I, 1, O, I, act == DLM_BF16, dev->threads);
}

/* A block of `rows` × `cols` out of a matrix with rows ld apart, into rows 64 or DEPTH apart, zeros beyond. */
static void block_load(float *restrict to, size_t ldt, size_t rows_padded, size_t cols_padded, const void *from, size_t ld,
                       size_t rows, size_t cols, enum dlm_dtype act)
{
    for (size_t r = 0; r < rows_padded; r++) {
        size_t n = r < rows ? cols : 0;
        if (act == DLM_BF16)
            for (size_t c = 0; c < n; c++)
                to[r * ldt + c] = dlm_bf16_to_f32(((const uint16_t *)from)[r * ld + c]);
        else
            for (size_t c = 0; c < n; c++)
                to[r * ldt + c] = ((const float *)from)[r * ld + c];
        for (size_t c = n; c < cols_padded; c++)
            to[r * ldt + c] = 0;
    }
}

/* y (T, wide) = scale · x (T, deep) · panels; `work` holds WORK floats a thread. */
static void product(struct dlm_device *dev, void *y, const void *x, const float *panels, float *work, size_t T, size_t wide, size_t deep,
                    enum dlm_dtype act, enum dlm_dtype y_type, float scale)
{
    const size_t each = WORK;
#pragma omp parallel for collapse(2) num_threads(dev->threads) schedule(static)
    for (size_t n0 = 0; n0 < wide; n0 += BLOCK)
        for (size_t t0 = 0; t0 < T; t0 += BLOCK) {
            float *a = work + (size_t)omp_get_thread_num() * each, *c = a + BLOCK * DEPTH;
            size_t rows = T - t0 < BLOCK ? T - t0 : BLOCK, cols = wide - n0 < BLOCK ? wide - n0 : BLOCK;
            size_t padded = dlm_round_up(rows, DLM_TILE_STEP);
            memset(c, 0, BLOCK * BLOCK * sizeof *c);
            for (size_t k0 = 0; k0 < deep; k0 += DEPTH) {
                size_t k = deep - k0 < DEPTH ? deep - k0 : DEPTH;
                block_load(a, DEPTH, padded, k, dlm_act_at(x, t0 * deep + k0, act), deep, rows, k, act);
                dlm_tile_mul(c, BLOCK, a, DEPTH, 1, panels + n0 * deep + k0 * BLOCK, BLOCK, padded, BLOCK, k, true);
            }
            for (size_t r = 0; r < rows; r++)
                for (size_t n = 0; n < cols; n++)
                    dlm_act_put(y, (t0 + r) * wide + n0 + n, scale * c[r * BLOCK + n], y_type);
        }
}

void dlm_linear_plain(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I,
                      enum dlm_dtype act, enum dlm_dtype y_type, float scale)
{
    float *work = dlm_device_failed(dev) ? NULL : dlm_device_scratch(dev, (size_t)dev->threads * WORK * sizeof *work);
    if (work)
        product(dev, dlm_at(y), dlm_at(x), dlm_at(pack), work, T, O, I, act, y_type, scale);
}

void dlm_linear_plain_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I,
                         enum dlm_dtype act, enum dlm_dtype dx_type, float scale)
{
    float *work = dlm_device_failed(dev) ? NULL : dlm_device_scratch(dev, (size_t)dev->threads * WORK * sizeof *work);
    if (work)
        product(dev, dlm_at(dx), dlm_at(dy), (const float *)dlm_at(pack) + panels_floats(O, I), work, T, I, O, act, dx_type, scale);
}

/* Panels of W bf16 in scratch, made anew for every product: this back end is for comparison, not for speed. */
static void product_of_bf16(struct dlm_device *dev, void *y, const void *x, const uint16_t *w, size_t sk, size_t sn, size_t T, size_t wide, size_t deep,
                            enum dlm_dtype act, enum dlm_dtype y_type, float scale)
{
    if (dlm_device_failed(dev))
        return;
    float *panels = dlm_device_scratch(dev, (panels_floats(wide, deep) + (size_t)dev->threads * WORK) * sizeof *panels);
    if (!panels)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t n0 = 0; n0 < wide; n0 += BLOCK)
        for (size_t k = 0; k < deep; k++)
            for (size_t n = 0; n < BLOCK; n++)
                panels[n0 * deep + k * BLOCK + n] = n0 + n < wide ? dlm_bf16_to_f32(w[k * sk + (n0 + n) * sn]) : 0;
    product(dev, y, x, panels, panels + panels_floats(wide, deep), T, wide, deep, act, y_type, scale);
}

void dlm_linear_plain_bf16(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                           enum dlm_dtype y_type, float scale)
{
    product_of_bf16(dev, dlm_at(y), dlm_at(x), dlm_at(w), 1, I, T, O, I, act, y_type, scale);
}

void dlm_linear_plain_bf16_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I,
                              enum dlm_dtype act, enum dlm_dtype dx_type, float scale)
{
    product_of_bf16(dev, dlm_at(dx), dlm_at(dy), dlm_at(w), I, 1, T, I, O, act, dx_type, scale);
}

void dlm_linear_plain_dw(struct dlm_device *dev, dlm_ptr dw_, dlm_ptr dy_, dlm_ptr x_, size_t T, size_t O, size_t I,
                         enum dlm_dtype act, float scale)
{
    if (dlm_device_failed(dev))
        return;
    size_t each = 2 * BLOCK * DEPTH + BLOCK * BLOCK;
    float *work = dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work);
    if (!work)
        return;
    float *dw = dlm_at(dw_);
    const void *dy = dlm_at(dy_), *x = dlm_at(x_);
#pragma omp parallel for collapse(2) num_threads(dev->threads) schedule(static)
    for (size_t o0 = 0; o0 < O; o0 += BLOCK)
        for (size_t i0 = 0; i0 < I; i0 += BLOCK) {
            float *a = work + (size_t)omp_get_thread_num() * each, *b = a + BLOCK * DEPTH, *c = b + BLOCK * DEPTH;
            size_t rows = O - o0 < BLOCK ? O - o0 : BLOCK, cols = I - i0 < BLOCK ? I - i0 : BLOCK;
            memset(c, 0, BLOCK * BLOCK * sizeof *c);
            for (size_t t0 = 0; t0 < T; t0 += DEPTH) {
                size_t k = T - t0 < DEPTH ? T - t0 : DEPTH;
                block_load(a, BLOCK, k, BLOCK, dlm_act_at(dy, t0 * O + o0, act), O, k, rows, act);
                block_load(b, BLOCK, k, BLOCK, dlm_act_at(x, t0 * I + i0, act), I, k, cols, act);
                dlm_tile_mul(c, BLOCK, a, 1, BLOCK, b, BLOCK, BLOCK, BLOCK, k, true);
            }
            for (size_t r = 0; r < rows; r++)
                for (size_t n = 0; n < cols; n++)
                    dw[(o0 + r) * I + i0 + n] += scale * c[r * BLOCK + n];
        }
}
