/* Attention in float32 multiplications: for float32, and for heads in bf16 that the tensor cores' tiles do not take (h beyond 128, rows
 * not aligned to pairs). Any h: scores are summed over slices of 32 columns, and a block makes C columns of the output, so that a wide
 * head costs its scores again for every C of its columns. 64 queries by 64 keys a step, a thread 4 × 4 scores and 4 × C/16 sums.
 * Formulas: attention_sight.cuh; passes and orders as in attention.cu.
 *
 * By ptxas 13.0 for sm_80 and sm_90a, nothing spilled: at most 128 registers (forward) and 168 (backward). Shared memory: 50 KB (C = 64),
 * 66 KB (C = 128).
 */
#include "attention_sight.cuh"

static const unsigned TILE = SIGHT_TILE, THREADS = 256, SLICE = 32, SLICE_LD = SLICE + 1, WEIGHT_LD = TILE + 1;

template <unsigned C> static size_t shared_size()
{
    return (2 * TILE * SLICE_LD + TILE * WEIGHT_LD + TILE * C) * sizeof(float);
}

/* Where a block is: its tile of rows, head and sequence, and the first of its columns. */
struct place {
    unsigned first, head;
    size_t b;
    unsigned column;
};

template <unsigned C> DLM_DEVICE struct place place_of(const attention_problem &p)
{
    const unsigned tile = blockIdx.x % p.tiles, task = blockIdx.x / p.tiles;
    return place{tile * TILE, task % p.H, task / p.H, blockIdx.y * C};
}

/* s[a][b] = x[4·ty + a] · y[tx + 16·b], rows h wide; those from nx, ny on are zero. Begins with a barrier. */
template <typename A>
DLM_DEVICE void product(float (&s)[4][4], const A *x, size_t ldx, unsigned nx, const A *y, size_t ldy, unsigned ny, unsigned h,
                        float *shared)
{
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float *xs = shared, *ys = shared + TILE * SLICE_LD;
#pragma unroll
    for (int a = 0; a < 4; a++)
#pragma unroll
        for (int b = 0; b < 4; b++)
            s[a][b] = 0;
    for (unsigned e0 = 0; e0 < h; e0 += SLICE) {
        __syncthreads();
        for (unsigned i = threadIdx.x; i < TILE * SLICE; i += THREADS) {
            const unsigned row = i / SLICE, e = i % SLICE;
            const bool inside = e0 + e < h;
            xs[row * SLICE_LD + e] = inside && row < nx ? to_f32(x[row * ldx + e0 + e]) : 0;
            ys[row * SLICE_LD + e] = inside && row < ny ? to_f32(y[row * ldy + e0 + e]) : 0;
        }
        __syncthreads();
#pragma unroll 8
        for (unsigned e = 0; e < SLICE; e++)
#pragma unroll
            for (int a = 0; a < 4; a++)
#pragma unroll
                for (int b = 0; b < 4; b++)
                    s[a][b] = fmaf(xs[(4 * ty + a) * SLICE_LD + e], ys[(tx + 16 * b) * SLICE_LD + e], s[a][b]);
    }
}

/* Columns of a tile's rows, beside the weights: zero beyond `many` and h. */
template <unsigned C, typename A>
DLM_DEVICE void columns_load(float *shared, const A *from, size_t ld, unsigned many, unsigned column, unsigned h)
{
    float *rows = shared + 2 * TILE * SLICE_LD + TILE * WEIGHT_LD;
    for (unsigned i = threadIdx.x; i < TILE * C; i += THREADS) {
        const unsigned row = i / C, e = column + i % C;
        rows[i] = row < many && e < h ? to_f32(from[row * ld + e]) : 0;
    }
}

DLM_DEVICE void weights_store(float *shared, const float (&w)[4][4])
{
    float *weights = shared + 2 * TILE * SLICE_LD;
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int a = 0; a < 4; a++)
#pragma unroll
        for (int b = 0; b < 4; b++)
            weights[(4 * ty + a) * WEIGHT_LD + tx + 16 * b] = w[a][b];
}

/* sum[a][c] += Σ weights[4·ty + a][j] · rows[j][tx + 16·c] */
template <unsigned C> DLM_DEVICE void weigh(float (&sum)[4][C / 16], const float *shared)
{
    const float *weights = shared + 2 * TILE * SLICE_LD, *rows = weights + TILE * WEIGHT_LD;
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 4
    for (unsigned j = 0; j < TILE; j++) {
        float w[4];
#pragma unroll
        for (int a = 0; a < 4; a++)
            w[a] = weights[(4 * ty + a) * WEIGHT_LD + j];
#pragma unroll
        for (unsigned c = 0; c < C / 16; c++) {
            const float v = rows[j * C + tx + 16 * c];
#pragma unroll
            for (int a = 0; a < 4; a++)
                sum[a][c] = fmaf(w[a], v, sum[a][c]);
        }
    }
}

template <typename A, unsigned C>
DLM_DEVICE void columns_store(A *to, size_t ld, unsigned many, const struct place &at, unsigned h, const float (&sum)[4][C / 16],
                              const float (&factor)[4])
{
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int a = 0; a < 4; a++)
#pragma unroll
        for (unsigned c = 0; c < C / 16; c++) {
            const unsigned row = 4 * ty + a, e = at.column + tx + 16 * c;
            if (row < many && e < h)
                to[row * ld + e] = to_act<A>(sum[a][c] * factor[a]);
        }
}

/* Over the 16 threads that share rows, which are half a warp. */
template <typename Op> DLM_DEVICE float across(float v)
{
    for (int lane = 8; lane; lane /= 2)
        v = Op()(v, __shfl_xor_sync(DLM_WARP, v, lane));
    return v;
}

/* Whether any of the rows that begin at `first` is noisy. */
DLM_DEVICE bool any_noisy(const uint8_t *noisy, unsigned first, unsigned rows, unsigned N)
{
    return __syncthreads_or(threadIdx.x < rows && first + threadIdx.x < N && noisy[first + threadIdx.x]);
}

template <typename A, unsigned C> static __global__ void __launch_bounds__(THREADS, 2) plain_forward(const attention_problem p)
{
    DLM_SHARED(float, shared);
    const struct place at = place_of<C>(p);
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16, i0 = at.first, many = p.n - i0 < TILE ? p.n - i0 : TILE;
    const A *q = static_cast<const A *>(p.q) + (at.b * p.n + i0) * p.d + at.head * p.h;
    const A *k = static_cast<const A *>(p.k) + at.b * p.N * p.d + at.head * p.h;
    const A *v = static_cast<const A *>(p.v) + at.b * p.N * p.ldv + at.head * p.h;
    A *o = static_cast<A *>(p.o) + (at.b * p.n + i0) * p.d + at.head * p.h;
    const float *sink_k = p.sink_k + at.head * p.h, *sink_v = p.sink_v + at.head * p.h;
    const uint8_t *noisy = p.noisy ? p.noisy + at.b * p.N : nullptr;
    const bool clean = noisy && !any_noisy(noisy, i0, TILE, p.N);
    float sum[4][C / 16], total[4], most[4];
    bool loud[4];
#pragma unroll
    for (int a = 0; a < 4; a++) {
        const unsigned row = 4 * ty + a;
        float x = 0;
        for (unsigned e = tx; e < p.h && row < many; e += 16)
            x = fmaf(to_f32(q[row * p.d + e]), sink_k[e], x);
        const float r = cap_rest(across<sum_op>(x), p);
        most[a] = p.running ? cap_score(r, 0, p) : 0;
        const float w = power_of_two(cap_score(r, most[a], p));
        total[a] = tx ? 0 : w;
#pragma unroll
        for (unsigned c = 0; c < C / 16; c++) {
            const unsigned e = at.column + tx + 16 * c;
            sum[a][c] = e < p.h ? w * sink_v[e] : 0;
        }
        loud[a] = noisy && row < many && noisy[i0 + row];
    }
    const unsigned end = p.rule == DLM_ATTEND_CAUSAL ? p.at + i0 + many : p.N;
    for (unsigned j0 = sight_next_keys(noisy, 0, end, clean); j0 < end; j0 = sight_next_keys(noisy, j0 + TILE, end, clean)) {
        const unsigned keys = p.N - j0 < TILE ? p.N - j0 : TILE;
        const struct sight seen = sight_of(noisy, j0, p.N);
        float s[4][4];
        product(s, q, p.d, many, k + j0 * p.d, p.d, keys, p.h, shared);
#pragma unroll
        for (int a = 0; a < 4; a++) {
            const uint64_t sight = sight_keys(p.rule, seen, p.at + i0 + 4 * ty + a, j0, loud[a]);
            float peak = -INFINITY;
#pragma unroll
            for (int b = 0; b < 4; b++) {
                s[a][b] = sight >> (tx + 16 * b) & 1 ? cap_rest(s[a][b], p) : INFINITY;
                if (p.running)
                    peak = fmaxf(peak, cap_score(s[a][b], 0, p));
            }
            if (p.running) {
                peak = fmaxf(most[a], across<max_op>(peak));
                const float shrink = power_of_two(most[a] - peak);
                most[a] = peak;
                total[a] *= shrink;
#pragma unroll
                for (unsigned c = 0; c < C / 16; c++)
                    sum[a][c] *= shrink;
            }
#pragma unroll
            for (int b = 0; b < 4; b++) {
                s[a][b] = power_of_two(cap_score(s[a][b], most[a], p));
                total[a] += s[a][b];
            }
        }
        weights_store(shared, s);
        columns_load<C>(shared, v + j0 * p.ldv, p.ldv, keys, at.column, p.h);
        __syncthreads();
        weigh<C>(sum, shared);
    }
#pragma unroll
    for (int a = 0; a < 4; a++) {
        const unsigned row = 4 * ty + a;
        const float all = across<sum_op>(total[a]);
        if (p.lse && !blockIdx.y && !tx && row < many)
            p.lse[(at.b * p.H + at.head) * p.n + i0 + row] = logf(all) + most[a] * LN_2;
        total[a] = 1.0f / all;
    }
    columns_store<A, C>(o, p.d, many, at, p.h, sum, total);
}

/* A block a tile of keys, over the queries that see it. */
template <typename A, unsigned C> static __global__ void __launch_bounds__(THREADS, 1) plain_backward_keys(const attention_problem p)
{
    DLM_SHARED(float, shared);
    const struct place at = place_of<C>(p);
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16, j0 = at.first, keys = p.N - j0 < TILE ? p.N - j0 : TILE;
    const size_t rows = at.b * p.N * p.d + at.head * p.h, task = (at.b * p.H + at.head) * p.N;
    const A *q = static_cast<const A *>(p.q) + rows, *dout = static_cast<const A *>(p.dout) + rows;
    const A *k = static_cast<const A *>(p.k) + rows + j0 * p.d;
    const A *v = static_cast<const A *>(p.v) + (at.b * p.N + j0) * p.ldv + at.head * p.h;
    const uint8_t *noisy = p.noisy ? p.noisy + at.b * p.N : nullptr;
    bool loud[4], hidden = false;
#pragma unroll
    for (int a = 0; a < 4; a++)
        loud[a] = noisy && 4 * ty + a < keys && noisy[j0 + 4 * ty + a];
    if (noisy)
        hidden = !__syncthreads_or(threadIdx.x < keys && !noisy[j0 + threadIdx.x]);
    float dk[4][C / 16] = {}, dv[4][C / 16] = {};
    const unsigned from = p.rule == DLM_ATTEND_CAUSAL ? j0 : 0;
    for (unsigned i0 = sight_next_queries(noisy, from, p.N, hidden); i0 < p.N; i0 = sight_next_queries(noisy, i0 + TILE, p.N, hidden)) {
        const unsigned many = p.N - i0 < TILE ? p.N - i0 : TILE;
        const struct sight seen = sight_of(noisy, i0, p.N);
        float s[4][4], dp[4][4];
        product(s, k, p.d, keys, q + i0 * p.d, p.d, many, p.h, shared);
        product(dp, v, p.ldv, keys, dout + i0 * p.d, p.d, many, p.h, shared);
#pragma unroll
        for (int a = 0; a < 4; a++) {
            const uint64_t sight = sight_queries(p.rule, seen, j0 + 4 * ty + a, i0, loud[a]);
#pragma unroll
            for (int b = 0; b < 4; b++) {
                const unsigned i = tx + 16 * b;
                float w = 0, du = 0;
                if (sight >> i & 1) {
                    const float r = cap_rest(s[a][b], p);
                    w = power_of_two(cap_score(r, p.lse[task + i0 + i] * LOG2_E, p));
                    du = w * (dp[a][b] - p.D[task + i0 + i]) * (r - r * r);
                }
                s[a][b] = w;
                dp[a][b] = du;
            }
        }
        weights_store(shared, s);
        columns_load<C>(shared, dout + i0 * p.d, p.d, many, at.column, p.h);
        __syncthreads();
        weigh<C>(dv, shared);
        __syncthreads();
        weights_store(shared, dp);
        columns_load<C>(shared, q + i0 * p.d, p.d, many, at.column, p.h);
        __syncthreads();
        weigh<C>(dk, shared);
    }
    const float one[4] = {1, 1, 1, 1}, factor[4] = {p.factor, p.factor, p.factor, p.factor};
    columns_store<A, C>(static_cast<A *>(p.dk) + rows + j0 * p.d, p.d, keys, at, p.h, dk, factor);
    columns_store<A, C>(static_cast<A *>(p.dv) + (at.b * p.N + j0) * p.lddv + at.head * p.h, p.lddv, keys, at, p.h, dv, one);
}

/* A block a tile of queries. */
template <typename A, unsigned C> static __global__ void __launch_bounds__(THREADS, 1) plain_backward_queries(const attention_problem p)
{
    DLM_SHARED(float, shared);
    const struct place at = place_of<C>(p);
    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16, i0 = at.first, many = p.N - i0 < TILE ? p.N - i0 : TILE;
    const size_t rows = at.b * p.N * p.d + at.head * p.h, task = (at.b * p.H + at.head) * p.N;
    const A *q = static_cast<const A *>(p.q) + rows + i0 * p.d, *dout = static_cast<const A *>(p.dout) + rows + i0 * p.d;
    const A *k = static_cast<const A *>(p.k) + rows, *v = static_cast<const A *>(p.v) + at.b * p.N * p.ldv + at.head * p.h;
    const uint8_t *noisy = p.noisy ? p.noisy + at.b * p.N : nullptr;
    const bool clean = noisy && !any_noisy(noisy, i0, TILE, p.N);
    float dq[4][C / 16], lse[4], D[4];
    bool loud[4];
#pragma unroll
    for (int a = 0; a < 4; a++) {
        const unsigned row = 4 * ty + a;
        loud[a] = noisy && row < many && noisy[i0 + row];
        lse[a] = row < many ? p.lse[task + i0 + row] * LOG2_E : 0;
        D[a] = row < many ? p.D[task + i0 + row] : 0;
#pragma unroll
        for (unsigned c = 0; c < C / 16; c++) {
            const unsigned e = at.column + tx + 16 * c;
            dq[a][c] = row < many && e < p.h ? p.du[task + i0 + row] * p.sink_k[at.head * p.h + e] : 0;
        }
    }
    const unsigned end = p.rule == DLM_ATTEND_CAUSAL ? i0 + many : p.N;
    for (unsigned j0 = sight_next_keys(noisy, 0, end, clean); j0 < end; j0 = sight_next_keys(noisy, j0 + TILE, end, clean)) {
        const unsigned keys = p.N - j0 < TILE ? p.N - j0 : TILE;
        const struct sight seen = sight_of(noisy, j0, p.N);
        float s[4][4], dp[4][4];
        product(s, q, p.d, many, k + j0 * p.d, p.d, keys, p.h, shared);
        product(dp, dout, p.d, many, v + j0 * p.ldv, p.ldv, keys, p.h, shared);
#pragma unroll
        for (int a = 0; a < 4; a++) {
            const uint64_t sight = sight_keys(p.rule, seen, i0 + 4 * ty + a, j0, loud[a]);
#pragma unroll
            for (int b = 0; b < 4; b++) {
                const float r = cap_rest(s[a][b], p), w = power_of_two(cap_score(r, lse[a], p));
                s[a][b] = sight >> (tx + 16 * b) & 1 ? w * (dp[a][b] - D[a]) * (r - r * r) : 0;
            }
        }
        weights_store(shared, s);
        columns_load<C>(shared, k + j0 * p.d, p.d, keys, at.column, p.h);
        __syncthreads();
        weigh<C>(dq, shared);
    }
    const float factor[4] = {p.factor, p.factor, p.factor, p.factor};
    columns_store<A, C>(static_cast<A *>(p.dq) + rows + i0 * p.d, p.d, many, at, p.h, dq, factor);
}

template <typename A, unsigned C> static void forward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    p.tiles = ceil_div(p.n, TILE);
    dlm_launch(dev, "attention", plain_forward<A, C>, dim3((unsigned)(p.tiles * B * p.H), ceil_div(p.h, C)), THREADS, shared_size<C>(), p);
}

template <typename A, unsigned C> static void backward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    p.tiles = ceil_div(p.N, TILE);
    const dim3 blocks((unsigned)(p.tiles * B * p.H), ceil_div(p.h, C));
    dlm_launch(dev, "attention_backward", plain_backward_keys<A, C>, blocks, THREADS, shared_size<C>(), p);
    dlm_launch(dev, "attention_backward", plain_backward_queries<A, C>, blocks, THREADS, shared_size<C>(), p);
}

void dlm_attention_plain(struct dlm_device *dev, struct attention_problem p, size_t B, enum dlm_dtype act)
{
    if (act == DLM_BF16)
        p.h <= 64 ? forward<bf16, 64>(dev, p, B) : forward<bf16, 128>(dev, p, B);
    else
        p.h <= 64 ? forward<float, 64>(dev, p, B) : forward<float, 128>(dev, p, B);
}

void dlm_attention_plain_backward(struct dlm_device *dev, struct attention_problem p, size_t B, enum dlm_dtype act)
{
    if (act == DLM_BF16)
        p.h <= 64 ? backward<bf16, 64>(dev, p, B) : backward<bf16, 128>(dev, p, B);
    else
        p.h <= 64 ? backward<float, 64>(dev, p, B) : backward<float, 128>(dev, p, B);
}
