/* See cublasLt.h. Matrices lie by columns. */
#include "cublasLt.h"

#include <vector>

size_t cublasLtGetVersion(void)
{
    return 0;
}

const char *cublasLtGetStatusName(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : s == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_INVALID_VALUE";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDescOpaque_t *d, cublasComputeType_t compute, cudaDataType scale)
{
    *d = cublasLtMatmulDescOpaque_t{CUBLAS_OP_N, CUBLAS_OP_N};
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t set(void *to, size_t room, const void *from, size_t size)
{
    if (room != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDescOpaque_t *d, cublasLtMatmulDescAttributes_t which, const void *value, size_t size)
{
    cublasOperation_t *to = which == CUBLASLT_MATMUL_DESC_TRANSA ? &d->a : &d->b;
    return set(to, sizeof *to, value, size);
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayoutOpaque_t *l, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    *l = cublasLtMatrixLayoutOpaque_t{type, rows, columns, ld};
    return rows && columns && ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreferenceOpaque_t *p)
{
    *p = cublasLtMatmulPreferenceOpaque_t{0, 7, 256, 256, 256, 256};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreferenceOpaque_t *p, cublasLtMatmulPreferenceAttributes_t which, const void *value,
                                                    size_t size)
{
    switch (which) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&p->workspace, sizeof p->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&p->reduction, sizeof p->reduction, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(&p->align_a, sizeof p->align_a, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(&p->align_b, sizeof p->align_b, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(&p->align_c, sizeof p->align_c, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&p->align_d, sizeof p->align_d, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

struct shape {
    uint64_t m, n, k;
};

static bool fit(shape *s, const cublasLtMatmulDescOpaque_t *d, const cublasLtMatrixLayoutOpaque_t *a, const cublasLtMatrixLayoutOpaque_t *b,
                const cublasLtMatrixLayoutOpaque_t *c)
{
    *s = d->a ? shape{a->columns, 0, a->rows} : shape{a->rows, 0, a->columns};
    s->n = d->b ? b->rows : b->columns;
    return (d->b ? b->columns : b->rows) == s->k && c->rows == s->m && c->columns == s->n && a->type == b->type &&
           (c->type == a->type || c->type == CUDA_R_32F);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDescOpaque_t *d, cublasLtMatrixLayoutOpaque_t *a,
                                              cublasLtMatrixLayoutOpaque_t *b, cublasLtMatrixLayoutOpaque_t *c, cublasLtMatrixLayoutOpaque_t *,
                                              cublasLtMatmulPreferenceOpaque_t *p, int most, cublasLtMatmulHeuristicResult_t *r, int *found)
{
    shape s;
    if (!fit(&s, d, a, b, c) || most < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (p->reduction & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        emulated_fault("cuBLASLt may add parts of sums in the order of their arrival");
    r->algo = cublasLtMatmulAlgo_t{p->workspace, p->align_a, p->align_b, p->align_c < p->align_d ? p->align_c : p->align_d, a->type, c->type};
    r->state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* op(matrix) in float32, by columns. */
static std::vector<float> widen(const void *p, const cublasLtMatrixLayoutOpaque_t *l, bool transpose)
{
    const uint64_t inner = transpose ? l->columns : l->rows, outer = transpose ? l->rows : l->columns;
    std::vector<float> v(inner * outer);
    for (uint64_t o = 0; o < outer; o++)
        for (uint64_t i = 0; i < inner; i++) {
            const uint64_t at = transpose ? i * (uint64_t)l->ld + o : o * (uint64_t)l->ld + i;
            v[o * inner + i] = l->type == CUDA_R_32F ? ((const float *)p)[at] : __uint_as_float((unsigned)((const uint16_t *)p)[at] << 16);
        }
    return v;
}

static uint16_t narrow(float f)
{
    const unsigned u = __float_as_uint(f);
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

__attribute__((optimize("O3"))) static void add_column(float *__restrict to, const float *__restrict column, float by, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        to[i] += column[i] * by;
}

struct product {
    cublasLtMatmulDescOpaque_t d;
    cublasLtMatrixLayoutOpaque_t la, lb, lc;
    const void *a, *b, *c;
    void *to;
    float scale, keep;
    shape s;
};

static void multiply(const product &p)
{
    const shape &s = p.s;
    const std::vector<float> left = widen(p.a, &p.la, p.d.a), right = widen(p.b, &p.lb, p.d.b); /* (m, k) and (k, n) by columns */
    std::vector<float> sum(s.m);
    for (uint64_t j = 0; j < s.n; j++) {
        sum.assign(s.m, 0);
        for (uint64_t q = 0; q < s.k; q++)
            add_column(sum.data(), &left[q * s.m], right[j * s.k + q], s.m);
        for (uint64_t i = 0; i < s.m; i++) {
            const uint64_t at = j * (uint64_t)p.lc.ld + i;
            if (p.lc.type == CUDA_R_32F)
                ((float *)p.to)[at] = p.scale * sum[i] + (p.keep != 0 ? p.keep * ((const float *)p.c)[at] : 0);
            else
                ((uint16_t *)p.to)[at] = narrow(p.scale * sum[i]);
        }
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDescOpaque_t *d, const void *alpha, const void *a, cublasLtMatrixLayoutOpaque_t *la,
                              const void *b, cublasLtMatrixLayoutOpaque_t *lb, const void *beta, const void *c, cublasLtMatrixLayoutOpaque_t *lc, void *to,
                              cublasLtMatrixLayoutOpaque_t *, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_size,
                              cudaStream_t stream)
{
    shape s;
    if (!fit(&s, d, la, lb, lc) || algo->in != la->type || algo->out != lc->type || !workspace || workspace_size < algo->workspace)
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((uintptr_t)a % algo->align_a || (uintptr_t)b % algo->align_b || (uintptr_t)c % algo->align_c || (uintptr_t)to % algo->align_c)
        emulated_fault("a product of matrices that are less aligned than was said");
    const product p = {*d, *la, *lb, *lc, a, b, c, to, *(const float *)alpha, *(const float *)beta, s};
    emulated_queue(stream, [=] { return multiply(p), true; });
    return CUBLAS_STATUS_SUCCESS;
}
