/* Matrix products without a library, float32 throughout and the smallest code that does them: the emulation's, and the reference.
 *
 *     c (m, n) (=|+=) scale·Σ_k a[i·ai + k·ak]·b[k·bk + j·bj]
 *
 * A block has 32 × 32 of c, a thread four of them, and goes through k by 32.
 */
#include "device.cuh"

#include <stdio.h>

static const unsigned TILE = 32, THREADS = 256, EACH = TILE * TILE / THREADS;

template <typename A, typename C, bool Add>
static __global__ void product(C *c, const A *a, size_t ai, size_t ak, const A *b, size_t bk, size_t bj, size_t m, size_t n, size_t deep, float scale)
{
    DLM_SHARED(float, shared);
    float *left = shared, *right = shared + TILE * TILE; /* [k][i], [k][j] */
    const size_t i0 = (size_t)blockIdx.y * TILE, j0 = (size_t)blockIdx.x * TILE;
    const unsigned column = threadIdx.x % TILE, row = threadIdx.x / TILE * EACH;
    float sum[EACH] = {};
    for (size_t k0 = 0; k0 < deep; k0 += TILE) {
        for (unsigned f = threadIdx.x; f < TILE * TILE; f += THREADS) {
            const unsigned across = f % TILE, along = f / TILE;
            left[f] = i0 + across < m && k0 + along < deep ? to_f32(a[(i0 + across) * ai + (k0 + along) * ak]) : 0;
            right[f] = j0 + across < n && k0 + along < deep ? to_f32(b[(k0 + along) * bk + (j0 + across) * bj]) : 0;
        }
        __syncthreads();
        for (unsigned k = 0; k < TILE; k++)
#pragma unroll
            for (unsigned e = 0; e < EACH; e++)
                sum[e] += left[k * TILE + row + e] * right[k * TILE + column];
        __syncthreads();
    }
    for (unsigned e = 0; e < EACH; e++)
        if (i0 + row + e < m && j0 + column < n) {
            C *at = c + (i0 + row + e) * n + j0 + column;
            if constexpr (Add)
                *at += scale * sum[e];
            else
                *at = to_act<C>(scale * sum[e]);
        }
}

template <typename A, typename C, bool Add>
static void multiply(struct dlm_device *dev, dlm_ptr c, dlm_ptr a, size_t ai, size_t ak, dlm_ptr b, size_t bk, size_t bj, size_t m, size_t n,
                     size_t deep, float scale)
{
    dlm_launch(dev, "linear_plain", product<A, C, Add>, dim3((unsigned)ceil_div(n, (size_t)TILE), (unsigned)ceil_div(m, (size_t)TILE)), THREADS,
               2 * TILE * TILE * sizeof(float), dlm_at<C>(c), dlm_at<A>(a), ai, ak, dlm_at<A>(b), bk, bj, m, n, deep, scale);
}

/* To act or float32. */
static void multiply_to(struct dlm_device *dev, dlm_ptr c, dlm_ptr a, size_t ai, size_t ak, dlm_ptr b, size_t bk, size_t bj, size_t m, size_t n,
                        size_t deep, enum dlm_dtype act, enum dlm_dtype type, float scale)
{
    if (act == DLM_F32)
        multiply<float, float, false>(dev, c, a, ai, ak, b, bk, bj, m, n, deep, scale);
    else if (type == DLM_F32)
        multiply<bf16, float, false>(dev, c, a, ai, ak, b, bk, bj, m, n, deep, scale);
    else
        multiply<bf16, bf16, false>(dev, c, a, ai, ak, b, bk, bj, m, n, deep, scale);
}

void dlm_cuda_linear(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                     enum dlm_dtype y_type, float scale)
{
    multiply_to(dev, y, x, I, 1, pack, 1, I, T, O, I, act, y_type, scale);
}

void dlm_cuda_linear_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                        enum dlm_dtype dx_type, float scale)
{
    multiply_to(dev, dx, dy, O, 1, pack, I, 1, T, I, O, act, dx_type, scale);
}

void dlm_cuda_linear_dw(struct dlm_device *dev, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I, enum dlm_dtype act, float scale)
{
    if (act == DLM_F32)
        multiply<float, float, true>(dev, dw, dy, 1, O, x, I, 1, O, I, T, scale);
    else
        multiply<bf16, float, true>(dev, dw, dy, 1, O, x, I, 1, O, I, T, scale);
}

bool dlm_gemm_open(struct dlm_device *)
{
    return true;
}

void dlm_gemm_close(struct dlm_device *)
{
}

void dlm_gemm_describe(struct dlm_device *, char *to, size_t size)
{
    snprintf(to, size, "plain products");
}
