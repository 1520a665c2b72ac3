/* a = relu(u + b)², and its gradient du = da·2·relu(u + b), db += Σ_t du (method.md §4).
 *
 * A block has a strip of columns, as wide as its threads, and some rows; a thread keeps its columns' biases and sums, and has ROWS rows of
 * loads on their way at once.
 */
#include "columns.cuh"
#include "vector.cuh"

static const unsigned THREADS = 128, ROWS = 4;
static const size_t LEAST = 64, MOST = 256; /* rows of a slice, slices */

/* Grid: groups of ROWS rows, strips. */
template <typename A, unsigned W> static __global__ void bias_relu2(A *a, const A *u, const float *b, size_t T, size_t m)
{
    const size_t i = ((size_t)blockIdx.y * THREADS + threadIdx.x) * W, t0 = (size_t)blockIdx.x * ROWS;
    if (i >= m)
        return;
    float v[ROWS][W], bias[W];
    load(bias, b + i);
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++)
        if (t0 + r < T)
            load(v[r], u + (t0 + r) * m + i);
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++) {
        if (t0 + r >= T)
            break;
#pragma unroll
        for (unsigned j = 0; j < W; j++) {
            const float p = v[r][j] + bias[j], q = p > 0 ? p : 0;
            v[r][j] = q * q;
        }
        store(a + (t0 + r) * m + i, v[r]);
    }
}

/* Grid: slices of `rows` rows, strips. */
template <typename A, unsigned W>
static __global__ void bias_relu2_backward(A *du, float *partial, const A *da, const A *u, const float *b, size_t T, size_t m, size_t rows)
{
    const size_t i = ((size_t)blockIdx.y * THREADS + threadIdx.x) * W, from = blockIdx.x * rows, to = from + rows < T ? from + rows : T;
    if (i >= m)
        return;
    float bias[W], sum[W] = {};
    load(bias, b + i);
    for (size_t t0 = from; t0 < to; t0 += ROWS) {
        float v[ROWS][W], g[ROWS][W];
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++)
            if (t0 + r < to) {
                load(v[r], u + (t0 + r) * m + i);
                load(g[r], da + (t0 + r) * m + i);
            }
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++) {
            if (t0 + r >= to)
                break;
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                const float p = v[r][j] + bias[j];
                g[r][j] *= 2.0f * (p > 0 ? p : 0);
                sum[j] += g[r][j];
            }
            store(du + (t0 + r) * m + i, g[r]);
        }
    }
    store(partial + blockIdx.x * m + i, sum);
}

template <typename A> static void forward(struct dlm_device *dev, dlm_ptr a, dlm_ptr u, dlm_ptr b, size_t T, size_t m)
{
    constexpr unsigned W = 16 / sizeof(A);
    const bool wide = wide_rows(a, m, sizeof(A)) && wide_rows(u, m, sizeof(A)) && b.at % 16 == 0;
    const dim3 blocks((unsigned)ceil_div(T, (size_t)ROWS), (unsigned)ceil_div(m, (size_t)THREADS * (wide ? W : 1)));
    dlm_launch(dev, "bias_relu2", wide ? bias_relu2<A, W> : bias_relu2<A, 1>, blocks, THREADS, 0, dlm_at<A>(a), dlm_at<A>(u), dlm_at<float>(b),
               T, m);
}

size_t dlm_bias_relu2_scratch(size_t T, size_t m)
{
    return columns_bytes(T, LEAST, MOST, m);
}

template <typename A>
static void backward(struct dlm_device *dev, dlm_ptr du, dlm_ptr db, dlm_ptr da, dlm_ptr u, dlm_ptr b, size_t T, size_t m)
{
    constexpr unsigned W = 16 / sizeof(A);
    const bool wide = wide_rows(du, m, sizeof(A)) && wide_rows(da, m, sizeof(A)) && wide_rows(u, m, sizeof(A)) && b.at % 16 == 0;
    const struct columns c = columns_of(T, LEAST, MOST);
    float *partial = static_cast<float *>(dlm_device_scratch(dev, dlm_bias_relu2_scratch(T, m)));
    if (!partial)
        return;
    const dim3 blocks(c.slices, (unsigned)ceil_div(m, (size_t)THREADS * (wide ? W : 1)));
    dlm_launch(dev, "bias_relu2_backward", wide ? bias_relu2_backward<A, W> : bias_relu2_backward<A, 1>, blocks, THREADS, 0, dlm_at<A>(du),
               partial, dlm_at<A>(da), dlm_at<A>(u), dlm_at<float>(b), T, m, c.rows);
    columns_add(dev, db, partial, c.slices, m);
}

void dlm_cuda_bias_relu2(struct dlm_device *dev, dlm_ptr a, dlm_ptr u, dlm_ptr b, size_t T, size_t m, enum dlm_dtype act)
{
    DLM_BY_ACT(act, forward, dev, a, u, b, T, m);
}

void dlm_cuda_bias_relu2_backward(struct dlm_device *dev, dlm_ptr du, dlm_ptr db, dlm_ptr da, dlm_ptr u, dlm_ptr b, size_t T, size_t m,
                                  enum dlm_dtype act)
{
    DLM_BY_ACT(act, backward, dev, du, db, da, u, b, T, m);
}
