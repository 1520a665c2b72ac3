/* Matrix products by cuBLASLt.
 *
 * It thinks in columns: a row-major (T, I) is its (I, T) with columns I apart. So with W (O, I) row-major,
 *
 *     yᵀ (O, T) = scale·Wᵀ'·xᵀ     dxᵀ (I, T) = scale·W'·dyᵀ     dwᵀ (I, O) += scale·xᵀ·dyᵀ'     (' transposes what it sees)
 *
 * Sums are float32 (CUBLAS_COMPUTE_32F) for both types; float32 inputs keep all their bits, since the faster TF32 would keep ten. The same
 * call gives the same bits: a shape's algorithm is the library's first suggestion, never one found by timing, and parts of a sum that are
 * computed side by side may be added only in a step of their own, in float32 (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE). Any sizes: the
 * addresses' real alignment is told, and the library takes slower kernels where it is little. Suggestions are kept; they are asked for a
 * number of rows rounded up, since rows that are scored differ in number every time, and T is nobody's leading dimension.
 */
#include "device.cuh"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

enum direction { FORWARD, BACK_X, BACK_W };
enum { ROWS = 64, KEPT = 512 };

/* What a suggestion depends on. */
struct shape {
    uint64_t T, O, I;
    uint32_t way, in, out, align_a, align_b, align_c; /* bytes, a power of two up to 256 */
};

struct plan {
    struct shape of; /* T 0: none yet */
    cublasLtMatmulAlgo_t algo;
};

struct dlm_gemm {
    cublasLtHandle_t handle;
    cublasLtMatmulDescOpaque_t product[3]; /* by direction */
    void *workspace;
    size_t workspace_size;
    struct plan plans[KEPT]; /* each shape has one place, where the latest stays */
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
    cudaDeviceProp gpu;
    dev->gemm = g;
    if (!g) {
        dlm_device_fail(dev, "out of memory");
        return false;
    }
    if (!good(dev, cublasLtCreate(&g->handle), "opening") ||
        !dlm_device_good(dev, cudaGetDeviceProperties(&gpu, dev->index), "asking for the GPU's properties"))
        return false;
    const cublasOperation_t transpose = CUBLAS_OP_T;
    for (int way = 0; way < 3; way++)
        if (!good(dev, cublasLtMatmulDescInit(&g->product[way], CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product"))
            return false;
    if (!good(dev, cublasLtMatmulDescSetAttribute(&g->product[FORWARD], CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "transposing") ||
        !good(dev, cublasLtMatmulDescSetAttribute(&g->product[BACK_W], CUBLASLT_MATMUL_DESC_TRANSB, &transpose, sizeof transpose), "transposing"))
        return false;
    g->workspace_size = (size_t)(gpu.major >= 9 ? 64 : 32) << 20;
    return dlm_device_good(dev, cudaMalloc(&g->workspace, g->workspace_size), "room for matrix products");
}

void dlm_gemm_close(struct dlm_device *dev)
{
    struct dlm_gemm *g = dev->gemm;
    cudaFree(g->workspace);
    if (g->handle)
        cublasLtDestroy(g->handle);
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

/* Matrices of a product: a is W, or x where the weights' gradient is wanted; b is x, dy, dy; c the result. */
struct matrices {
    cublasLtMatrixLayoutOpaque_t a, b, c;
};

static bool describe(struct dlm_device *dev, struct matrices *m, const struct shape *s)
{
    const bool forward = s->way == FORWARD, weights = s->way == BACK_W;
    const cudaDataType in = type_of((enum dlm_dtype)s->in), out = type_of((enum dlm_dtype)s->out);
    const uint64_t b_rows = forward ? s->I : s->O, c_rows = forward ? s->O : s->I;
    return good(dev, cublasLtMatrixLayoutInit(&m->a, in, s->I, weights ? s->T : s->O, (int64_t)s->I), "describing a matrix") &&
           good(dev, cublasLtMatrixLayoutInit(&m->b, in, b_rows, s->T, (int64_t)b_rows), "describing a matrix") &&
           good(dev, cublasLtMatrixLayoutInit(&m->c, out, c_rows, weights ? s->O : s->T, (int64_t)c_rows), "describing a matrix");
}

/* The library's first suggestion for the shape. */
static bool suggest(struct dlm_device *dev, cublasLtMatmulAlgo_t *algo, const struct shape *s)
{
    struct dlm_gemm *g = dev->gemm;
    struct matrices m;
    cublasLtMatmulPreferenceOpaque_t wish;
    if (!describe(dev, &m, s) || !good(dev, cublasLtMatmulPreferenceInit(&wish), "asking for an algorithm"))
        return false;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &g->workspace_size, sizeof g->workspace_size},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &s->align_a, sizeof s->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &s->align_b, sizeof s->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &s->align_c, sizeof s->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &s->align_c, sizeof s->align_c},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (!good(dev, cublasLtMatmulPreferenceSetAttribute(&wish, wishes[i].name, wishes[i].value, wishes[i].size), "asking for an algorithm"))
            return false;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    cublasStatus_t e = cublasLtMatmulAlgoGetHeuristic(g->handle, &g->product[s->way], &m.a, &m.b, &m.c, &m.c, &wish, 1, &found, &n);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = n > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED;
    if (e != CUBLAS_STATUS_SUCCESS) {
        dlm_device_fail(dev, "cuBLASLt has no algorithm for a product of %llu rows, %llu outputs and %llu inputs in %s: %s", (unsigned long long)s->T,
                        (unsigned long long)s->O, (unsigned long long)s->I, s->in == DLM_BF16 ? "bf16" : "float32", cublasLtGetStatusName(e));
        return false;
    }
    *algo = found.algo;
    return true;
}

/* FNV-1a over the words of the shape. */
static size_t place_of(const struct shape *s)
{
    const uint64_t words[] = {s->T, s->O, s->I, s->way, s->in, s->out, s->align_a, s->align_b, s->align_c};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = (h ^ words[i]) * 0x100000001b3u;
    return (size_t)((h ^ h >> 32) % KEPT);
}

static bool same(const struct shape *a, const struct shape *b)
{
    return a->T == b->T && a->O == b->O && a->I == b->I && a->way == b->way && a->in == b->in && a->out == b->out && a->align_a == b->align_a &&
           a->align_b == b->align_b && a->align_c == b->align_c;
}

static void multiply(struct dlm_device *dev, enum direction way, dlm_ptr c, dlm_ptr a, dlm_ptr b, size_t T, size_t O, size_t I, enum dlm_dtype in,
                     enum dlm_dtype out, float scale)
{
    if (dlm_device_failed(dev) || !T || !O || !I)
        return;
    struct dlm_gemm *g = dev->gemm;
    struct shape s = {ceil_div(T, (size_t)ROWS) * ROWS, O, I, (uint32_t)way, (uint32_t)in, (uint32_t)out, alignment(a), alignment(b), alignment(c)};
    if (T < ROWS) /* where little more is another problem */
        for (s.T = 1; s.T < T;)
            s.T *= 2;
    struct plan *p = &g->plans[place_of(&s)];
    if (!same(&p->of, &s)) {
        p->of.T = 0;
        if (!suggest(dev, &p->algo, &s))
            return;
        p->of = s;
    }
    struct matrices m;
    s.T = T;
    if (!describe(dev, &m, &s))
        return;
    const float beta = way == BACK_W ? 1.0f : 0.0f;
    const auto run = [&](const cublasLtMatmulAlgo_t *algo) {
        return cublasLtMatmul(g->handle, &g->product[way], &scale, dlm_at<void>(a), &m.a, dlm_at<void>(b), &m.b, &beta, dlm_at<void>(c), &m.c,
                              dlm_at<void>(c), &m.c, algo, g->workspace, g->workspace_size, dev->stream);
    };
    cublasStatus_t e = run(&p->algo);
    if ((e == CUBLAS_STATUS_NOT_SUPPORTED || e == CUBLAS_STATUS_INVALID_VALUE) && p->of.T != T) { /* it will not do for these very rows */
        cublasLtMatmulAlgo_t exact;
        if (!suggest(dev, &exact, &s))
            return;
        e = run(&exact);
    }
    good(dev, e, "multiplying");
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
