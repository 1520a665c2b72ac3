/* Attention on the tensor cores, for bf16 heads of up to 128: formulas in attention_sight.cuh, products in attention_tile.cuh,
 * passes and orders in attention.cu.
 *
 * A block takes 64 or 128 rows of one side, whose operands and sums stay in registers, and walks over the other side in tiles of 64,
 * the next of which is on its way to shared memory while one is worked on: one barrier a tile. Within a tile a warp takes 16 rows at
 * a time from scores to sums, so that beside the sums little is kept. Tiles of which the block sees nothing are not read, and a warp
 * passes over those it sees nothing of itself; to go through such a tile would leave the same bits. What a row comes to depends on
 * no other row of its block.
 *
 * Registers by ptxas 13.0 for sm_80 / sm_90a, nothing spilled, and KiB of shared memory:
 *
 *     h up to                           32          64          96         128
 *     mma_forward, 128 queries     121/121     157/164     221/221     255/253
 *     mma_forward, 64 queries       89/85      127/124     141/137     166/167
 *     mma_forward, running          90/86      124/122     134/128     150/146
 *     mma_backward_keys            172/173     255/255     227/226     248/254
 *     mma_backward_queries         149/149     214/207     162/161     195/195
 *     shared memory                     20          36          52          68     one more in mma_backward_keys
 *
 * What bounds it at h = 128, counted and not measured, in cycles of a multiprocessor of sm_90 for 16 × 16 scores, of which mma.sync is
 * taken to do 0.62 of the tensor cores' peak: forward takes 52 of the tensor cores, 48 of the special function unit (three results a
 * score) and 32 of shared memory; the two backward kernels 180, 96 and 224, since a warp of 16 rows reads a tile once for each product.
 * At the peak forward's two products are 32 cycles, backward's five 80.
 */
#include "attention_tile.cuh"

static const unsigned TILE = SIGHT_TILE;

/* M sixteens of rows a warp: four warps in forward; in backward, where two operands or two sums of HP columns are kept, as many as make
 * 128 rows. Two sixteens share what is read of the tile, which is else the limit: shared memory gives a warp the operands of one
 * product of 16 rows in the time it takes. */
static const unsigned FORWARD_THREADS = 128, BACKWARD_ROWS = 128;

template <unsigned HP> struct two_sides {
    static const unsigned M = HP <= 64 ? 2 : 1, THREADS = BACKWARD_ROWS / (16 * M) * 32;
};

/* Where a block is: its first row, head and sequence. */
struct place {
    unsigned first, head, b;
};

DLM_DEVICE struct place place_of(const attention_problem &p, unsigned rows)
{
    return place{blockIdx.x * rows, blockIdx.y, p.sequence + blockIdx.z};
}

/* The last rows first: under CAUSAL they see most, and none of them is left to the end. */
DLM_DEVICE struct place place_from_end(const attention_problem &p, unsigned rows)
{
    return place{(gridDim.x - 1 - blockIdx.x) * rows, blockIdx.y, p.sequence + blockIdx.z};
}

/* In pairs, the head's part of row i of its sequence, of which sequences have N. Loops make it anew for each tile rather than keep it. */
DLM_DEVICE const uint32_t *head_of(const void *x, unsigned N, unsigned i, size_t ld, const struct place &at, const attention_problem &p)
{
    return static_cast<const uint32_t *>(x) + (((size_t)at.b * N + i) * ld + at.head * p.h) / 2;
}

DLM_DEVICE uint32_t *head_of(void *x, unsigned N, unsigned i, size_t ld, const struct place &at, const attention_problem &p)
{
    return static_cast<uint32_t *>(x) + (((size_t)at.b * N + i) * ld + at.head * p.h) / 2;
}

/* Where row i's lse, D and du are. */
DLM_DEVICE size_t row_of(unsigned N, unsigned i, const struct place &at, const attention_problem &p)
{
    return ((size_t)at.b * p.H + at.head) * N + i;
}

/* What the rows of a warp see of a tile: nothing, or some of it. */
struct gaze {
    bool dark, mixed;
};

template <unsigned M>
DLM_DEVICE struct gaze gaze_of(uint64_t (*sees)(enum dlm_attend, struct sight, unsigned, unsigned, bool), bool all, enum dlm_attend rule,
                               const uint8_t *noisy, unsigned row0, unsigned first, unsigned N, unsigned loud)
{
    if (all)
        return gaze{false, false};
    const struct sight seen = sight_of(noisy, first, N);
    uint64_t every = ~0ull, any = 0;
#pragma unroll
    for (unsigned i = 0; i < 2 * M; i++) {
        const uint64_t one = sees(rule, seen, row0 + threadIdx.x % 32 / 4 + 8 * i, first, loud >> i & 1);
        every &= one;
        any |= one;
    }
    return gaze{!__any_sync(DLM_WARP, any != 0), __any_sync(DLM_WARP, ~every != 0) != 0};
}

/* Of a thread's rows and the columns of a group of 16, as they lie in its sums: bit 4·row + column. Made before the sums are, to need fewer
 * registers beside them. */
template <unsigned M>
DLM_DEVICE unsigned bits_of(uint64_t (*sees)(enum dlm_attend, struct sight, unsigned, unsigned, bool), enum dlm_attend rule,
                            const uint8_t *noisy, unsigned row0, unsigned first, unsigned N, unsigned loud, unsigned group)
{
    const struct sight seen = sight_of(noisy, first, N);
    unsigned bits = 0;
#pragma unroll
    for (unsigned i = 0; i < 2 * M; i++) {
        const uint64_t one = sees(rule, seen, row0 + threadIdx.x % 32 / 4 + 8 * i, first, loud >> i & 1);
        const unsigned pairs = (unsigned)(one >> (group + 2 * (threadIdx.x % 4)));
        bits |= ((pairs & 3) | (pairs >> 6 & 12)) << (4 * i);
    }
    return bits;
}

/* A block 64·M queries, over the keys that they see. */
template <unsigned HP, unsigned M, bool RUNNING>
static __global__ void __launch_bounds__(FORWARD_THREADS, 2) mma_forward(const attention_problem p)
{
    const unsigned THREADS = FORWARD_THREADS, ROWS = THREADS / 32 * 16 * M;
    DLM_SHARED(uint32_t, shared);
    const struct place at = place_from_end(p, ROWS);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const unsigned rows = p.n - at.first < ROWS ? p.n - at.first : ROWS, row0 = threadIdx.x / 32 * 16 * M;
    const float *sink_k = p.sink_k + at.head * p.h, *sink_v = p.sink_v + at.head * p.h;
    const uint8_t *noisy = p.noisy ? p.noisy + (size_t)at.b * p.N : nullptr;
    const unsigned loud = noisy_rows<M>(noisy, at.first + row0, p.N);
    const bool clean = noisy && !__syncthreads_or(loud);
    const unsigned end = p.rule == DLM_ATTEND_CAUSAL ? p.at + at.first + rows : p.N;
    const auto fetch = [&](unsigned j, unsigned stage) {
        uint32_t *to = shared + stage * 2 * tile<HP>::PAIRS;
        tile_fetch<HP, THREADS>(to, head_of(p.k, p.N, j, p.d, at, p), p.d / 2, p.N - j, p.h, p.wide);
        tile_fetch<HP, THREADS>(to + tile<HP>::PAIRS, head_of(p.v, p.N, j, p.ldv, at, p), p.ldv / 2, p.N - j, p.h, p.wide);
    };
    unsigned j0 = sight_next_keys(noisy, 0, end, clean);
    if (j0 < end)
        fetch(j0, 0);
    copy_commit();

    uint32_t q[M][HP / 16][4];
    float o[M][HP / 8][4], total[M][2], most[M][2];
#pragma unroll
    for (unsigned m = 0; m < M; m++) {
        tile_own<HP>(q[m], head_of(p.q, p.n, at.first, p.d, at, p), p.d / 2, row0 + m * 16, rows, p.h);
        float x[2] = {0, 0};
#pragma unroll
        for (unsigned i = 0; i < HP / 4; i++) { /* a thread's columns of 16, two by two */
            const unsigned e = i / 4 * 16 + i / 2 % 2 * 8 + 2 * t + i % 2;
            const float key = e < p.h ? sink_k[e] : 0;
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                const uint32_t pair = q[m][i / 4][i / 2 % 2 * 2 + half];
                x[half] = fmaf(__uint_as_float(i % 2 ? pair & 0xffff0000u : pair << 16), key, x[half]);
            }
        }
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const float r = cap_rest(tile_across<sum_op>(x[half]), p);
            most[m][half] = RUNNING ? cap_score(r, 0, p) : 0;
            const float w = RUNNING ? 1 : power_of_two(cap_score(r, 0, p));
            total[m][half] = t ? 0 : w;
#pragma unroll
            for (unsigned i = 0; i < HP / 4; i++) {
                const unsigned e = i / 2 * 8 + 2 * t + i % 2;
                o[m][i / 2][half * 2 + i % 2] = e < p.h ? w * sink_v[e] : 0;
            }
        }
    }

    for (unsigned stage = 0; j0 < end; stage ^= 1) {
        const unsigned next = sight_next_keys(noisy, j0 + TILE, end, clean);
        const bool all = sight_all_keys(p.rule, p.at + at.first + row0, j0, p.N);
        const struct gaze gaze = gaze_of<M>(sight_keys, all, p.rule, noisy, p.at + at.first + row0, j0, p.N, loud);
        copy_wait<0>();
        __syncthreads();
        if (next < end)
            fetch(next, stage ^ 1);
        copy_commit();
        const uint32_t *keys = shared + stage * 2 * tile<HP>::PAIRS, *values = keys + tile<HP>::PAIRS;
#pragma unroll 1
        for (unsigned group = gaze.dark || row0 >= rows ? TILE : 0; group < TILE; group += 16) {
            const unsigned bits = gaze.mixed ? bits_of<M>(sight_keys, p.rule, noisy, p.at + at.first + row0, j0, p.N, loud, group) : 0;
            float s[M][2][4];
            tile_scores<HP, M>(s, q, keys + group * tile<HP>::LD);
#pragma unroll
            for (unsigned m = 0; m < M; m++)
#pragma unroll
                for (unsigned i = 0; i < 8; i++)
                    s[m][i / 4][i % 4] = cap_rest(s[m][i / 4][i % 4], p);
            if (gaze.mixed) {
#pragma unroll
                for (unsigned i = 0; i < 2 * M; i++) {
#pragma unroll
                    for (unsigned c = 0; c < 4; c++)
                        if (!(bits >> (4 * i + c) & 1))
                            s[i / 2][c / 2][i % 2 * 2 + c % 2] = INFINITY;
                }
            }
            if (RUNNING) {
#pragma unroll
                for (unsigned i = 0; i < 2 * M; i++) {
                    float &peak = most[i / 2][i % 2], before = peak;
#pragma unroll
                    for (unsigned c = 0; c < 4; c++)
                        peak = fmaxf(peak, cap_score(s[i / 2][c / 2][i % 2 * 2 + c % 2], 0, p));
                    peak = tile_across<max_op>(peak);
                    const float shrink = power_of_two(before - peak);
                    total[i / 2][i % 2] *= shrink;
#pragma unroll
                    for (unsigned c = 0; c < HP / 8; c++) {
                        o[i / 2][c][i % 2 * 2] *= shrink;
                        o[i / 2][c][i % 2 * 2 + 1] *= shrink;
                    }
                }
            }
#pragma unroll
            for (unsigned m = 0; m < M; m++)
#pragma unroll
                for (unsigned i = 0; i < 8; i++) {
                    float &w = s[m][i / 4][i % 4];
                    w = power_of_two(cap_score(w, RUNNING ? most[m][i / 2 % 2] : 0, p));
                    total[m][i / 2 % 2] += w;
                }
            uint32_t w[M][4];
            tile_pack<M>(w, s);
            tile_weigh<HP, M>(o, w, values + group * tile<HP>::LD);
        }
        j0 = next;
    }
    copy_wait<0>();

#pragma unroll
    for (unsigned m = 0; m < M; m++)
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const float all = tile_across<sum_op>(total[m][half]);
            const unsigned row = row0 + m * 16 + half * 8 + g;
            if (row >= rows)
                continue;
            if (p.lse && !t)
                p.lse[row_of(p.n, at.first + row, at, p)] = logf(all) + most[m][half] * LN_2;
            tile_store<HP>(head_of(p.o, p.n, at.first + row, p.d, at, p), o[m], half, p.h, 1.0f / all);
        }
}

/* A block 128 keys, over the queries that see them. Shared: two tiles of q and do, and of each query lse·log₂e and D. */
template <unsigned HP>
static __global__ void __launch_bounds__(two_sides<HP>::THREADS, 256 / two_sides<HP>::THREADS)
    mma_backward_keys(const attention_problem p)
{
    const unsigned M = two_sides<HP>::M, THREADS = two_sides<HP>::THREADS, ROWS = BACKWARD_ROWS;
    DLM_SHARED(uint32_t, shared);
    const unsigned STAGE = 2 * tile<HP>::PAIRS + 2 * TILE; /* q, do, lse·log₂e, D */
    const struct place at = place_of(p, ROWS);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, rows = p.N - at.first < ROWS ? p.N - at.first : ROWS;
    const unsigned row0 = threadIdx.x / 32 * 16 * M;
    const uint8_t *noisy = p.noisy ? p.noisy + (size_t)at.b * p.N : nullptr;
    const unsigned loud = noisy_rows<M>(noisy, at.first + row0, p.N);
    bool hidden = false;
    if (noisy)
        hidden = !__syncthreads_or(threadIdx.x < rows && !noisy[at.first + threadIdx.x]);
    const auto fetch = [&](unsigned i, unsigned stage) {
        uint32_t *to = shared + stage * STAGE;
        float *beside = reinterpret_cast<float *>(to + 2 * tile<HP>::PAIRS);
        tile_fetch<HP, THREADS>(to, head_of(p.q, p.N, i, p.d, at, p), p.d / 2, p.N - i, p.h, p.wide);
        tile_fetch<HP, THREADS>(to + tile<HP>::PAIRS, head_of(p.dout, p.N, i, p.d, at, p), p.d / 2, p.N - i, p.h, p.wide);
        if (threadIdx.x < TILE) {
            const bool there = i + threadIdx.x < p.N;
            const size_t of = row_of(p.N, i + threadIdx.x, at, p);
            beside[threadIdx.x] = there ? p.lse[of] * LOG2_E : 0;
            beside[TILE + threadIdx.x] = there ? p.D[of] : 0;
        }
    };
    unsigned i0 = sight_next_queries(noisy, p.rule == DLM_ATTEND_CAUSAL ? at.first : 0, p.N, hidden);
    if (i0 < p.N)
        fetch(i0, 0);
    copy_commit();

    uint32_t k[M][HP / 16][4], v[M][HP / 16][4];
    float dk[M][HP / 8][4], dv[M][HP / 8][4];
#pragma unroll
    for (unsigned m = 0; m < M; m++) {
        tile_own<HP>(k[m], head_of(p.k, p.N, at.first, p.d, at, p), p.d / 2, row0 + m * 16, rows, p.h);
        tile_own<HP>(v[m], head_of(p.v, p.N, at.first, p.ldv, at, p), p.ldv / 2, row0 + m * 16, rows, p.h);
#pragma unroll
        for (unsigned i = 0; i < HP / 2; i++)
            dk[m][i / 4][i % 4] = dv[m][i / 4][i % 4] = 0;
    }

    for (unsigned stage = 0; i0 < p.N; stage ^= 1) {
        const unsigned next = sight_next_queries(noisy, i0 + TILE, p.N, hidden);
        const bool all = sight_all_queries(p.rule, at.first + row0 + 16 * M - 1, i0, p.N);
        const struct gaze gaze = gaze_of<M>(sight_queries, all, p.rule, noisy, at.first + row0, i0, p.N, loud);
        copy_wait<0>();
        __syncthreads();
        if (next < p.N)
            fetch(next, stage ^ 1);
        copy_commit();
        const uint32_t *queries = shared + stage * STAGE, *outs = queries + tile<HP>::PAIRS;
        const float *lse_at = reinterpret_cast<const float *>(outs + tile<HP>::PAIRS) + 2 * t, *D_at = lse_at + TILE;
#pragma unroll 1
        for (unsigned group = gaze.dark || row0 >= rows ? TILE : 0; group < TILE; group += 16) {
            const unsigned bits = gaze.mixed ? bits_of<M>(sight_queries, p.rule, noisy, at.first + row0, i0, p.N, loud, group) : 0;
            uint32_t w[M][4], du[M][4];
#pragma unroll
            for (unsigned c = 0; c < 2; c++) { /* eight queries at a time, for want of registers */
                const unsigned column = group + c * 8;
                float s[M][4], dp[M][4];
                tile_scores_of_eight<HP, M>(s, k, queries + column * tile<HP>::LD);
                tile_scores_of_eight<HP, M>(dp, v, outs + column * tile<HP>::LD);
#pragma unroll
                for (unsigned e = 0; e < 2; e++) {
                    const float minus = lse_at[column + e], D_column = D_at[column + e];
#pragma unroll
                    for (unsigned i = 0; i < 2 * M; i++) {
                        float &weight = s[i / 2][i % 2 * 2 + e], &slope = dp[i / 2][i % 2 * 2 + e];
                        const float r = cap_rest(weight, p);
                        weight = power_of_two(cap_score(r, minus, p));
                        slope = weight * (slope - D_column) * (r - r * r);
                    }
                }
#pragma unroll
                for (unsigned i = 0; i < 2 * M; i++) {
                    w[i / 2][c * 2 + i % 2] = pack_bf16(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
                    du[i / 2][c * 2 + i % 2] = pack_bf16(dp[i / 2][i % 2 * 2], dp[i / 2][i % 2 * 2 + 1]);
                }
            }
            if (gaze.mixed) {
#pragma unroll
                for (unsigned i = 0; i < 4 * M; i++) {
                    const unsigned pair = bits >> (i / 4 * 8 + i % 2 * 4 + i / 2 % 2 * 2);
                    const uint32_t kept = (pair & 1 ? 0xffffu : 0) | (pair & 2 ? 0xffff0000u : 0);
                    w[i / 4][i % 4] &= kept;
                    du[i / 4][i % 4] &= kept;
                }
            }
            tile_weigh<HP, M>(dv, w, outs + group * tile<HP>::LD);
            tile_weigh<HP, M>(dk, du, queries + group * tile<HP>::LD);
        }
        i0 = next;
    }
    copy_wait<0>();

#pragma unroll
    for (unsigned i = 0; i < 2 * M; i++) {
        const unsigned row = row0 + i * 8 + g;
        if (row >= rows)
            continue;
        tile_store<HP>(head_of(p.dk, p.N, at.first + row, p.d, at, p), dk[i / 2], i % 2, p.h, p.factor);
        tile_store<HP>(head_of(p.dv, p.N, at.first + row, p.lddv, at, p), dv[i / 2], i % 2, p.h, 1);
    }
}

/* A block 128 queries, over the keys that they see. */
template <unsigned HP>
static __global__ void __launch_bounds__(two_sides<HP>::THREADS, 256 / two_sides<HP>::THREADS)
    mma_backward_queries(const attention_problem p)
{
    const unsigned M = two_sides<HP>::M, THREADS = two_sides<HP>::THREADS, ROWS = BACKWARD_ROWS;
    DLM_SHARED(uint32_t, shared);
    const struct place at = place_from_end(p, ROWS);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, rows = p.N - at.first < ROWS ? p.N - at.first : ROWS;
    const unsigned row0 = threadIdx.x / 32 * 16 * M;
    const uint8_t *noisy = p.noisy ? p.noisy + (size_t)at.b * p.N : nullptr;
    const unsigned loud = noisy_rows<M>(noisy, at.first + row0, p.N);
    const bool clean = noisy && !__syncthreads_or(loud);
    const unsigned end = p.rule == DLM_ATTEND_CAUSAL ? at.first + rows : p.N;
    const auto fetch = [&](unsigned j, unsigned stage) {
        uint32_t *to = shared + stage * 2 * tile<HP>::PAIRS;
        tile_fetch<HP, THREADS>(to, head_of(p.k, p.N, j, p.d, at, p), p.d / 2, p.N - j, p.h, p.wide);
        tile_fetch<HP, THREADS>(to + tile<HP>::PAIRS, head_of(p.v, p.N, j, p.ldv, at, p), p.ldv / 2, p.N - j, p.h, p.wide);
    };
    unsigned j0 = sight_next_keys(noisy, 0, end, clean);
    if (j0 < end)
        fetch(j0, 0);
    copy_commit();

    uint32_t q[M][HP / 16][4], dout[M][HP / 16][4];
    float dq[M][HP / 8][4], lse[2 * M], D[2 * M];
#pragma unroll
    for (unsigned m = 0; m < M; m++) {
        tile_own<HP>(q[m], head_of(p.q, p.N, at.first, p.d, at, p), p.d / 2, row0 + m * 16, rows, p.h);
        tile_own<HP>(dout[m], head_of(p.dout, p.N, at.first, p.d, at, p), p.d / 2, row0 + m * 16, rows, p.h);
    }
#pragma unroll
    for (unsigned i = 0; i < 2 * M; i++) {
        const unsigned row = row0 + i * 8 + g;
        const size_t of = row_of(p.N, at.first + row, at, p);
        const float du = row < rows ? p.du[of] : 0;
        lse[i] = row < rows ? p.lse[of] * LOG2_E : 0;
        D[i] = row < rows ? p.D[of] : 0;
#pragma unroll
        for (unsigned c = 0; c < HP / 4; c++) {
            const unsigned e = c / 2 * 8 + 2 * t + c % 2;
            dq[i / 2][c / 2][i % 2 * 2 + c % 2] = e < p.h ? du * p.sink_k[at.head * p.h + e] : 0;
        }
    }

    for (unsigned stage = 0; j0 < end; stage ^= 1) {
        const unsigned next = sight_next_keys(noisy, j0 + TILE, end, clean);
        const bool all = sight_all_keys(p.rule, at.first + row0, j0, p.N);
        const struct gaze gaze = gaze_of<M>(sight_keys, all, p.rule, noisy, at.first + row0, j0, p.N, loud);
        copy_wait<0>();
        __syncthreads();
        if (next < end)
            fetch(next, stage ^ 1);
        copy_commit();
        const uint32_t *keys = shared + stage * 2 * tile<HP>::PAIRS, *values = keys + tile<HP>::PAIRS;
#pragma unroll 1
        for (unsigned group = gaze.dark || row0 >= rows ? TILE : 0; group < TILE; group += 16) {
            const unsigned bits = gaze.mixed ? bits_of<M>(sight_keys, p.rule, noisy, at.first + row0, j0, p.N, loud, group) : 0;
            float s[M][2][4], dp[M][2][4];
            tile_scores<HP, M>(s, q, keys + group * tile<HP>::LD);
            tile_scores<HP, M>(dp, dout, values + group * tile<HP>::LD);
#pragma unroll
            for (unsigned m = 0; m < M; m++)
#pragma unroll
                for (unsigned i = 0; i < 8; i++) {
                    const unsigned half = i / 2 % 2;
                    const float r = cap_rest(s[m][i / 4][i % 4], p), w = power_of_two(cap_score(r, lse[2 * m + half], p));
                    dp[m][i / 4][i % 4] = w * (dp[m][i / 4][i % 4] - D[2 * m + half]) * (r - r * r);
                }
            if (gaze.mixed) {
#pragma unroll
                for (unsigned i = 0; i < 2 * M; i++) {
#pragma unroll
                    for (unsigned c = 0; c < 4; c++)
                        if (!(bits >> (4 * i + c) & 1))
                            dp[i / 2][c / 2][i % 2 * 2 + c % 2] = 0;
                }
            }
            uint32_t w[M][4];
            tile_pack<M>(w, dp);
            tile_weigh<HP, M>(dq, w, keys + group * tile<HP>::LD);
        }
        j0 = next;
    }
    copy_wait<0>();

#pragma unroll
    for (unsigned i = 0; i < 2 * M; i++) {
        const unsigned row = row0 + i * 8 + g;
        if (row < rows)
            tile_store<HP>(head_of(p.dq, p.N, at.first + row, p.d, at, p), dq[i / 2], i % 2, p.h, p.factor);
    }
}

/* --- launches ---------------------------------------------------------------------------------------------------------------------- */

template <unsigned HP> static size_t shared_size()
{
    return 4 * tile<HP>::PAIRS * sizeof(uint32_t);
}

/* The grid has a block each tile, head and sequence, of which it takes so many. */
static const size_t SEQUENCES = 65535;

static dim3 blocks_of(struct attention_problem *p, unsigned tiles, size_t B, size_t b)
{
    p->sequence = (unsigned)b;
    return dim3(tiles, p->H, (unsigned)(B - b < SEQUENCES ? B - b : SEQUENCES));
}

template <unsigned HP> static void forward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    const unsigned M = p.running || p.n <= 64 ? 1 : 2; /* the same bits */
    void (*kernel)(attention_problem) = p.running ? mma_forward<HP, 1, true>
                                        : M == 1  ? mma_forward<HP, 1, false>
                                                  : mma_forward<HP, 2, false>;
    for (size_t b = 0; b < B; b += SEQUENCES) {
        const dim3 blocks = blocks_of(&p, ceil_div(p.n, 64 * M), B, b);
        dlm_launch(dev, "attention", kernel, blocks, FORWARD_THREADS, shared_size<HP>(), p);
    }
}

template <unsigned HP> static void backward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    const size_t beside = 4 * TILE * sizeof(float);
    for (size_t b = 0; b < B; b += SEQUENCES) {
        const dim3 blocks = blocks_of(&p, ceil_div(p.N, BACKWARD_ROWS), B, b);
        dlm_launch(dev, "attention_backward", mma_backward_keys<HP>, blocks, two_sides<HP>::THREADS, shared_size<HP>() + beside, p);
        dlm_launch(dev, "attention_backward", mma_backward_queries<HP>, blocks, two_sides<HP>::THREADS, shared_size<HP>(), p);
    }
}

static bool at_multiple(size_t bytes, const struct attention_problem &p)
{
    size_t all = (p.h | p.d | p.ldv | p.lddv) * 2;
    for (const void *each : {p.q, p.k, p.v, p.dout, (const void *)p.o, (const void *)p.dq, (const void *)p.dk, (const void *)p.dv})
        all |= (size_t)(uintptr_t)each;
    return all % bytes == 0;
}

bool dlm_attention_mma_takes(const struct attention_problem &p)
{
    return p.h <= 128 && at_multiple(4, p);
}

void dlm_attention_mma(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    p.wide = at_multiple(16, p);
    (p.h <= 32 ? forward<32> : p.h <= 64 ? forward<64> : p.h <= 96 ? forward<96> : forward<128>)(dev, p, B);
}

void dlm_attention_mma_backward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    p.wide = at_multiple(16, p);
    (p.h <= 32 ? backward<32> : p.h <= 64 ? backward<64> : p.h <= 96 ? backward<96> : backward<128>)(dev, p, B);
}
