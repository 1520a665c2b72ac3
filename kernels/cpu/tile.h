/* The product of small dense matrices that lie in cache, C (+)= A·B in float32: registers hold a block of C while k runs.
 *
 * B has rows of whole vectors; A is read an element at a time by any two strides, so that a transposed A costs nothing.
 * attention.c and linear_plain.c are made of this.
 */
#ifndef DLM_CPU_TILE_H
#define DLM_CPU_TILE_H

#include "device.h"

#if defined(__AVX512F__)
#define DLM_LANES 16
#define DLM_TILE_ACCUMULATORS 16
#else
#define DLM_LANES 8
#define DLM_TILE_ACCUMULATORS 8
#endif

/* Left alone, a compiler reads a row of B again for every row of A, and loads become the limit. */
#if defined(__AVX512F__)
#define DLM_IN_REGISTER(x) __asm__("" : "+v"(x))
#elif defined(__AVX__)
#define DLM_IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define DLM_IN_REGISTER(x) ((void)0)
#endif

typedef float dlm_vec __attribute__((vector_size(DLM_LANES * 4), aligned(4), may_alias));

/* Rows of A, and columns of B, that dlm_tile_mul takes are multiples of this. */
#define DLM_TILE_STEP 16

DLM_INLINE void dlm_tile_block(float *c, size_t ldc, const float *a, size_t ar, size_t ak, const float *b, size_t ldb, size_t K,
                               const int rows, const int vecs, bool add)
{
    dlm_vec sum[DLM_TILE_ACCUMULATORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            sum[r * vecs + v] = (dlm_vec){0};
    for (size_t k = 0; k < K; k++) {
        dlm_vec right[4];
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) {
            right[v] = *(const dlm_vec *)(b + k * ldb + (size_t)v * DLM_LANES);
            DLM_IN_REGISTER(right[v]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            float left = a[(size_t)r * ar + k * ak];
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++)
                sum[r * vecs + v] += left * right[v];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) {
            dlm_vec *to = (dlm_vec *)(c + (size_t)r * ldc + (size_t)v * DLM_LANES);
            if (add)
                *to += sum[r * vecs + v];
            else
                *to = sum[r * vecs + v];
        }
}

/* C (M, N) = A·B, or += with `add`. A (M, K) has element (r, k) at r·ar + k·ak; B (K, N); M and N multiples of DLM_TILE_STEP. */
__attribute__((unused)) static void dlm_tile_mul(float *c, size_t ldc, const float *a, size_t ar, size_t ak, const float *b,
                                                 size_t ldb, size_t M, size_t N, size_t K, bool add)
{
    enum { FOUR = DLM_TILE_ACCUMULATORS / 4, TWO = DLM_TILE_ACCUMULATORS / 2, ONE = DLM_TILE_ACCUMULATORS };
    for (size_t n = 0; n < N;) {
        size_t left = (N - n) / DLM_LANES;
        if (left >= 4) {
            for (size_t m = 0; m < M; m += FOUR)
                dlm_tile_block(c + m * ldc + n, ldc, a + m * ar, ar, ak, b + n, ldb, K, FOUR, 4, add);
            n += 4 * DLM_LANES;
        } else if (left >= 2) {
            for (size_t m = 0; m < M; m += TWO)
                dlm_tile_block(c + m * ldc + n, ldc, a + m * ar, ar, ak, b + n, ldb, K, TWO, 2, add);
            n += 2 * DLM_LANES;
        } else {
            for (size_t m = 0; m < M; m += ONE)
                dlm_tile_block(c + m * ldc + n, ldc, a + m * ar, ar, ak, b + n, ldb, K, ONE, 1, add);
            n += DLM_LANES;
        }
    }
}

#endif
