/* Matrix products by cuBLASLt.
 *
 * It thinks in columns: a row-major (T, I) is its (I, T) with columns I apart. So with W (O, I) row-major,
 *
 *     yᵀ (O, T) = scale·Wᵀ'·xᵀ     dxᵀ (I, T) = scale·W'·dyᵀ     dwᵀ (I, O) += scale·xᵀ·dyᵀ'     (' transposes what it sees)
 *
 * Sums are float32 (CUBLAS_COMPUTE_32F) for both types; float32 inputs keep all their bits, since the faster TF32 would keep ten. The same
 * call gives the same bits: a shape's algorithm is the library's first suggestion, never one found by timing, and parts of a sum that are
 * computed side by side may be added only in a step of their own, in float32 (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE). Any sizes: the
 * addresses' real alignment is told, and the library takes slower kernels where it is little. What a shape needs is made at its
 * first call and kept.
 */
#include "device.cuh"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

enum direction { FORWARD, BACK_X, BACK_W };

/* A product of one direction and shape, and how to do it. */
struct plan {
    enum direction way;
    enum dlm_dtype in, out;
    size_t T, O, I;
    uint32_t align_a, align_b, align_c; /* bytes, a power of two up to 256 */
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
};

struct dlm_gemm {
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_size;
    struct plan *plans;
    size_t n, room;
};

static bool good(struct dlm_device *dev, cublasStatus_t s, const char *what)
{
    if (s != CUBLAS_STATUS_SUCCESS)
        dlm_device_fail(dev, "cuBLASLt, %s: %s", what, cublasLtGetStatusName(s));
    return s == CUBLAS_STATUS_SUCCESS;
}

bool dlm_gemm_open(struct dlm_device *dev)
{
    struct dlm_gemm *g = static_cast<struct dlm_gemm *>(calloc(1, sizeof *g));
    int major = 0;
    dev->gemm = g;
    if (!g) {
        dlm_device_fail(dev, "out of memory");
        return false;
    }
    if (!good(dev, cublasLtCreate(&g->handle), "opening") ||
        !dlm_device_good(dev, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, dev->index), "asking for the GPU's properties"))
        return false;
    g->workspace_size = (size_t)(major >= 9 ? 64 : 32) << 20;
    return dlm_device_good(dev, cudaMalloc(&g->workspace, g->workspace_size), "room for matrix products");
}

void dlm_gemm_close(struct dlm_device *dev)
{
    struct dlm_gemm *g = dev->gemm;
    cudaFree(g->workspace);
    if (g->handle)
        cublasLtDestroy(g->handle);
    free(g->plans);
    free(g);
    dev->gemm = NULL;
}

void dlm_gemm_describe(struct dlm_device *dev, char *to, size_t size)
{
    const size_t v = cublasLtGetVersion();
    snprintf(to, size, "cuBLASLt %zu.%zu.%zu with %zu MiB", v / 10000, v / 100 % 100, v % 100, dev->gemm->workspace_size >> 20);
}

static uint32_t alignment(dlm_ptr p)
{
    const uint64_t lowest = p.at & (~p.at + 1);
    return lowest && lowest < 256 ? (uint32_t)lowest : 256;
}

static cudaDataType type_of(enum dlm_dtype t)
{
    return t == DLM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* Descriptors and algorithm of a plan whose shape is set. */
static bool plan_make(struct dlm_device *dev, struct plan *p)
{
    struct dlm_gemm *g = dev->gemm;
    const size_t T = p->T, O = p->O, I = p->I;
    const bool forward = p->way == FORWARD, weights = p->way == BACK_W;
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    bool ok = good(dev, cublasLtMatmulDescInit(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    if (ok && forward)
        ok = good(dev, cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "transposing");
    if (ok && weights)
        ok = good(dev, cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose), "transposing");
    /* a: W, or x where the weights' gradient is wanted; b: x, dy, dy */
    ok = ok && good(dev, cublasLtMatrixLayoutInit(&p->a, type_of(p->in), I, weights ? T : O, (int64_t)I), "describing a matrix");
    ok = ok && good(dev, cublasLtMatrixLayoutInit(&p->b, type_of(p->in), forward ? I : O, T, (int64_t)(forward ? I : O)), "describing a matrix");
    ok = ok && good(dev, cublasLtMatrixLayoutInit(&p->c, type_of(p->out), forward ? O : I, weights ? O : T, (int64_t)(forward ? O : I)),
                    "describing a matrix");
    ok = ok && good(dev, cublasLtMatmulPreferenceInit(&wish), "asking for an algorithm");
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &g->workspace_size, sizeof g->workspace_size},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p->align_a, sizeof p->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p->align_b, sizeof p->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p->align_c, sizeof p->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p->align_c, sizeof p->align_c},
    };
    for (size_t i = 0; ok && i < sizeof wishes / sizeof *wishes; i++)
        ok = good(dev, cublasLtMatmulPreferenceSetAttribute(&wish, wishes[i].name, wishes[i].value, wishes[i].size), "asking for an algorithm");
    if (!ok)
        return false;
    cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(g->handle, &p->product, &p->a, &p->b, &p->c, &p->c, &wish, 1, &found, &n);
    if (s == CUBLAS_STATUS_SUCCESS && n > 0)
        s = found.state;
    if (s != CUBLAS_STATUS_SUCCESS || n < 1) {
        dlm_device_fail(dev, "cuBLASLt has no algorithm for a product of %zu rows, %zu outputs and %zu inputs in %s: %s", T, O, I,
                        p->in == DLM_BF16 ? "bf16" : "float32", cublasLtGetStatusName(s));
        return false;
    }
    p->algo = found.algo;
    return true;
}

/* The plan for this shape, made where it is new; NULL when the device failed. */
static struct plan *plan_for(struct dlm_device *dev, const struct plan *shape)
{
    struct dlm_gemm *g = dev->gemm;
    for (size_t i = 0; i < g->n; i++) {
        struct plan *p = &g->plans[i];
        if (p->way == shape->way && p->in == shape->in && p->out == shape->out && p->T == shape->T && p->O == shape->O && p->I == shape->I &&
            p->align_a == shape->align_a && p->align_b == shape->align_b && p->align_c == shape->align_c)
            return p;
    }
    if (g->n == g->room) {
        const size_t room = g->room ? 2 * g->room : 64;
        struct plan *more = static_cast<struct plan *>(realloc(g->plans, room * sizeof *more));
        if (!more) {
            dlm_device_fail(dev, "out of memory");
            return NULL;
        }
        g->plans = more;
        g->room = room;
    }
    struct plan *p = &g->plans[g->n];
    *p = *shape;
    if (!plan_make(dev, p))
        return NULL;
    g->n++;
    return p;
}

static void multiply(struct dlm_device *dev, enum direction way, dlm_ptr c, dlm_ptr a, dlm_ptr b, size_t T, size_t O, size_t I, enum dlm_dtype in,
                     enum dlm_dtype out, float scale)
{
    if (dlm_device_failed(dev) || !T || !O || !I)
        return;
    struct plan shape = {};
    shape.way = way, shape.in = in, shape.out = out;
    shape.T = T, shape.O = O, shape.I = I;
    shape.align_a = alignment(a), shape.align_b = alignment(b), shape.align_c = alignment(c);
    struct plan *p = plan_for(dev, &shape);
    const float beta = way == BACK_W ? 1.0f : 0.0f;
    if (p)
        good(dev, cublasLtMatmul(dev->gemm->handle, &p->product, &scale, dlm_at<void>(a), &p->a, dlm_at<void>(b), &p->b, &beta, dlm_at<void>(c), &p->c,
                                 dlm_at<void>(c), &p->c, &p->algo, dev->gemm->workspace, dev->gemm->workspace_size, dev->stream),
             "multiplying");
}

void dlm_cuda_linear(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                     enum dlm_dtype y_type, float scale)
{
    multiply(dev, FORWARD, y, pack, x, T, O, I, act, act == DLM_F32 ? DLM_F32 : y_type, scale);
}

void dlm_cuda_linear_dx(struct dlm_device *dev, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                        enum dlm_dtype dx_type, float scale)
{
    multiply(dev, BACK_X, dx, pack, dy, T, O, I, act, act == DLM_F32 ? DLM_F32 : dx_type, scale);
}

void dlm_cuda_linear_dw(struct dlm_device *dev, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I, enum dlm_dtype act, float scale)
{
    multiply(dev, BACK_W, dw, x, dy, T, O, I, act, DLM_F32, scale);
}
