/* The residual stream: x += scale·(y + b) with x in float32 (scale = R/L, method.md §4), and its gradient. Strips and rows as in
 * bias_relu2.cu; four columns a thread, since half of what moves is float32. */
#include "columns.cuh"
#include "vector.cuh"

static const unsigned THREADS = 128, ROWS = 4;
static const size_t LEAST = 64, MOST = 256; /* rows of a slice, slices */

/* Grid: groups of ROWS rows, strips. */
template <typename A, unsigned W> static __global__ void residual(float *x, const A *y, const float *b, size_t T, size_t d, float scale)
{
    const size_t i = ((size_t)blockIdx.y * THREADS + threadIdx.x) * W, t0 = (size_t)blockIdx.x * ROWS;
    if (i >= d)
        return;
    float v[ROWS][W], to[ROWS][W], bias[W] = {};
    if (b)
        load(bias, b + i);
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++)
        if (t0 + r < T) {
            load(v[r], y + (t0 + r) * d + i);
            load(to[r], x + (t0 + r) * d + i);
        }
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++) {
        if (t0 + r >= T)
            break;
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            to[r][j] += scale * (v[r][j] + bias[j]);
        store(x + (t0 + r) * d + i, to[r]);
    }
}

/* Grid: slices of `rows` rows, strips. */
template <typename A, unsigned W>
static __global__ void residual_backward(A *dy, float *partial, const float *dx, size_t T, size_t d, float scale, size_t rows)
{
    const size_t i = ((size_t)blockIdx.y * THREADS + threadIdx.x) * W, from = blockIdx.x * rows, to = from + rows < T ? from + rows : T;
    if (i >= d)
        return;
    float sum[W] = {};
    for (size_t t0 = from; t0 < to; t0 += ROWS) {
        float g[ROWS][W];
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++)
            if (t0 + r < to)
                load(g[r], dx + (t0 + r) * d + i);
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++) {
            if (t0 + r >= to)
                break;
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                g[r][j] *= scale;
                sum[j] += g[r][j];
            }
            store(dy + (t0 + r) * d + i, g[r]);
        }
    }
    if (partial)
        store(partial + blockIdx.x * d + i, sum);
}

template <typename A> static void forward(struct dlm_device *dev, dlm_ptr x, dlm_ptr y, dlm_ptr b, size_t T, size_t d, float scale)
{
    const bool wide = wide_rows(x, d, 4) && wide_rows(y, d, sizeof(A)) && b.at % 16 == 0;
    const dim3 blocks((unsigned)ceil_div(T, (size_t)ROWS), (unsigned)ceil_div(d, (size_t)THREADS * (wide ? 4 : 1)));
    dlm_launch(dev, "residual", wide ? residual<A, 4> : residual<A, 1>, blocks, THREADS, 0, dlm_at<float>(x), dlm_at<A>(y), dlm_at<float>(b), T, d,
               scale);
}

size_t dlm_residual_scratch(size_t T, size_t d)
{
    return columns_bytes(T, LEAST, MOST, d);
}

template <typename A> static void backward(struct dlm_device *dev, dlm_ptr dy, dlm_ptr db, dlm_ptr dx, size_t T, size_t d, float scale)
{
    const bool wide = wide_rows(dx, d, 4) && wide_rows(dy, d, sizeof(A));
    const struct columns c = columns_of(T, LEAST, MOST);
    float *partial = NULL;
    if (db.at && !(partial = static_cast<float *>(dlm_device_scratch(dev, dlm_residual_scratch(T, d)))))
        return;
    const dim3 blocks(c.slices, (unsigned)ceil_div(d, (size_t)THREADS * (wide ? 4 : 1)));
    dlm_launch(dev, "residual_backward", wide ? residual_backward<A, 4> : residual_backward<A, 1>, blocks, THREADS, 0, dlm_at<A>(dy), partial,
               dlm_at<float>(dx), T, d, scale, c.rows);
    if (db.at)
        columns_add(dev, db, partial, c.slices, d);
}

void dlm_cuda_residual(struct dlm_device *dev, dlm_ptr x, dlm_ptr y, dlm_ptr b, size_t T, size_t d, float scale, enum dlm_dtype act)
{
    DLM_BY_ACT(act, forward, dev, x, y, b, T, d, scale);
}

void dlm_cuda_residual_backward(struct dlm_device *dev, dlm_ptr dy, dlm_ptr db, dlm_ptr dx, size_t T, size_t d, float scale, enum dlm_dtype act)
{
    DLM_BY_ACT(act, backward, dev, dy, db, dx, T, d, scale);
}
