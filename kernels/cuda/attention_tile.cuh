/* Tiles of a head's rows in shared memory, and their products on the tensor cores (mma.sync, sm_80 on).
 *
 * A tile is 64 rows of HP bf16, the head's width h in whole sixteens, as pairs; 16 bytes more lie between rows, so that eight rows at one
 * column lie in different banks. What is beyond h or beyond the last row is zero. A warp keeps 16·M rows of its own side in registers, as
 * left operands, and takes the tile 16 rows at a time:
 *
 *     tile_scores     s (16M, 16)  += own (16M, HP) · rows (16, HP)ᵀ
 *     tile_weigh      o (16M, HP)  += w (16M, 16) · rows (16, HP)
 *
 * The sums of the first are, packed, the left operand of the second (tile_pack): weights never leave the registers. This file is what
 * another kind of tensor core instruction replaces.
 */
#ifndef DLM_CUDA_ATTENTION_TILE_CUH
#define DLM_CUDA_ATTENTION_TILE_CUH

#include "attention_sight.cuh"

template <unsigned HP> struct tile {
    static const unsigned LD = HP / 2 + 4, PAIRS = SIGHT_TILE * LD; /* of a row, and of all: pairs */
};

/* 64 rows, `many` of them there, ld pairs apart. By copy_async where `wide`; otherwise they are there at the next barrier. A thread
 * keeps to one column, so that a whole tile is a few additions and copies. */
template <unsigned HP, unsigned THREADS>
DLM_DEVICE void tile_fetch(uint32_t *to, const uint32_t *from, size_t ld, unsigned many, unsigned h, bool wide)
{
    const unsigned LD = tile<HP>::LD;
    if (wide) {
        const unsigned PIECES = HP == 96 ? 16 : HP / 8, STEP = THREADS / PIECES; /* of 16 bytes a row; rows a turn */
        const unsigned piece = threadIdx.x % PIECES, row0 = threadIdx.x / PIECES;
        const bool inside = piece * 8 < h;
        to += row0 * LD + piece * 4;
        if (piece * 8 >= HP)
            return;
        if (!inside)
            many = 0;
        const uint32_t *at = from + row0 * ld + piece * 4;
        const size_t further = STEP * ld;
        if (many >= SIGHT_TILE) {
#pragma unroll
            for (unsigned i = 0; i < SIGHT_TILE; i += STEP, at += further)
                copy_async(to + i * LD, at, true);
        } else {
            for (unsigned i = 0; i < SIGHT_TILE; i += STEP, at += further)
                copy_async(to + i * LD, row0 + i < many ? at : from, row0 + i < many);
        }
        return;
    }
    for (unsigned i = threadIdx.x; i < SIGHT_TILE * HP / 2; i += THREADS) {
        const unsigned row = i / (HP / 2), pair = i % (HP / 2);
        to[row * LD + pair] = row < many && pair * 2 < h ? from[row * ld + pair] : 0;
    }
}

/* Rows first … first + 15 of a head as a left operand, straight from device memory, ld pairs apart; those from `many` on are zero. */
template <unsigned HP>
DLM_DEVICE void tile_own(uint32_t (&a)[HP / 16][4], const uint32_t *from, size_t ld, unsigned first, unsigned many, unsigned h)
{
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned k = 0; k < HP / 16; k++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned row = first + g + i % 2 * 8, pair = k * 8 + t + i / 2 * 4;
            a[k][i] = row < many && pair * 2 < h ? from[row * ld + pair] : 0;
        }
}

template <unsigned HP, unsigned M>
DLM_DEVICE void tile_scores(float (&s)[M][2][4], const uint32_t (&own)[M][HP / 16][4], const uint32_t *rows)
{
    const unsigned lane = threadIdx.x % 32;
    const uint32_t *at = rows + (lane / 16 * 8 + lane % 8) * tile<HP>::LD + lane / 8 % 2 * 4;
#pragma unroll
    for (unsigned m = 0; m < M; m++)
#pragma unroll
        for (unsigned i = 0; i < 8; i++)
            s[m][i / 4][i % 4] = 0;
#pragma unroll
    for (unsigned k = 0; k < HP / 16; k++) {
        uint32_t r[4];
        load_matrices(r, at + k * 8);
        const uint32_t b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (unsigned m = 0; m < M; m++) {
            mma_bf16(s[m][0], own[m][k], b[0]);
            mma_bf16(s[m][1], own[m][k], b[1]);
        }
    }
}

/* The same by eight rows: s (16M, 8). */
template <unsigned HP, unsigned M>
DLM_DEVICE void tile_scores_of_eight(float (&s)[M][4], const uint32_t (&own)[M][HP / 16][4], const uint32_t *rows)
{
    const unsigned lane = threadIdx.x % 32;
    const uint32_t *at = rows + lane % 8 * tile<HP>::LD + lane / 8 * 4;
#pragma unroll
    for (unsigned m = 0; m < M; m++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
            s[m][i] = 0;
#pragma unroll
    for (unsigned k = 0; k < HP / 16; k += 2) {
        uint32_t r[4];
        load_matrices(r, at + k * 8);
        const uint32_t b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (unsigned m = 0; m < M; m++) {
            mma_bf16(s[m], own[m][k], b[0]);
            mma_bf16(s[m], own[m][k + 1], b[1]);
        }
    }
}

template <unsigned HP, unsigned M>
DLM_DEVICE void tile_weigh(float (&o)[M][HP / 8][4], const uint32_t (&w)[M][4], const uint32_t *rows)
{
    const unsigned lane = threadIdx.x % 32;
    const uint32_t *at = rows + (lane / 8 % 2 * 8 + lane % 8) * tile<HP>::LD + lane / 16 * 4;
#pragma unroll
    for (unsigned c = 0; c < HP / 16; c++) {
        uint32_t r[4];
        load_matrices_transposed(r, at + c * 8);
        const uint32_t b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (unsigned m = 0; m < M; m++) {
            mma_bf16(o[m][2 * c], w[m], b[0]);
            mma_bf16(o[m][2 * c + 1], w[m], b[1]);
        }
    }
}

template <unsigned M> DLM_DEVICE void tile_pack(uint32_t (&w)[M][4], const float (&s)[M][2][4])
{
#pragma unroll
    for (unsigned m = 0; m < M; m++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
            w[m][i] = pack_bf16(s[m][i / 2][i % 2 * 2], s[m][i / 2][i % 2 * 2 + 1]);
}

/* Row g (half 0) or g + 8 of 16 rows of sums, times `factor`, to a row of device memory. */
template <unsigned HP> DLM_DEVICE void tile_store(uint32_t *row, const float (&o)[HP / 8][4], unsigned half, unsigned h, float factor)
{
    const unsigned t = threadIdx.x % 4;
#pragma unroll
    for (unsigned c = 0; c < HP / 8; c++)
        if (c * 8 + t * 2 < h)
            row[c * 4 + t] = pack_bf16(o[c][half * 2] * factor, o[c][half * 2 + 1] * factor);
}

/* Over the four lanes that share a row. */
template <typename Op> DLM_DEVICE float tile_across(float v)
{
    v = Op()(v, __shfl_xor_sync(DLM_WARP, v, 1));
    return Op()(v, __shfl_xor_sync(DLM_WARP, v, 2));
}

#endif
