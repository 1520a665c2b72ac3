/* Attention on Hopper's tensor cores, for bf16 heads of up to 128 in whole eights: formulas in attention_sight.cuh, products, copies and
 * barriers in hopper.cuh, passes and orders in attention.cu.
 *
 * A block takes 128 rows of one side, 64 for each of two warpgroups, whose sums stay in registers, and walks over the other side in tiles of
 * 128 rows (forward) or 64 (backward). A third warpgroup gives up its registers; a warp of it has the copy engine bring the tiles, two on their
 * way or in use, permuted as products read them and filled up with zeros beyond the last row and beyond h. Tensor maps were chosen over copies by
 * the threads: they need one thread, no registers and no addresses, and do the tails. Weights go from one product's sums to the next one's left
 * operand in registers, so that no thread writes what a product reads. The two warpgroups ask for products in turns: while one makes weights,
 * products of the other, or of its own tile before, go on. Forward's blocks stay, one a multiprocessor, and take task after task. A tile of which
 * the block sees nothing is not read; to go through it would leave the same bits. What a row comes to depends on no other row of its block, nor
 * on who does it.
 *
 * By ptxas 13.0 for sm_90a: 168 registers at the launch, 240 where there are products, nothing spilled, no products serialized. KiB of shared
 * memory at h up to 64 and 128: forward 81 and 161, backward 66 and 130.
 *
 * What bounds it at h = 128: ESTIMATED, not measured; the file has not run on a GPU. In cycles of a multiprocessor for 16 × 16 scores, products at
 * the peak (2048 multiplications a cycle), 16 special functions and 128 instructions' lanes a cycle, 128 bytes of shared memory:
 *
 *                     tensor cores   special functions   instructions   shared memory
 *     forward                   32                  32             29              20
 *     backward, keys            64                  32             36              48
 *     backward, queries         48                  32             35              40
 *
 * Forward would spend 48 on special functions (two powers and a reciprocal a score), which would bound it to two thirds of the peak; so one of the
 * powers is made of multiplications (power_by_series), and if all overlapped, the bound would be the peak; 65 to 75 % of it is what one may hope
 * for. Backward's seven products instead of five bound it to 71 % of the peak in the usual count of five; 50 to 55 % is what one may hope for.
 */
#include "attention_sight.cuh"

#include "hopper.cuh"

/* Of cap·log₂e. Weights then lie in 2^±(2·50 + log₂N), which power_by_series makes. */
static const float MOST_TOP = 50;

/* Rows of a block; of the other side, in forward and in backward. Threads: two warpgroups that multiply, and one of which a warp has tiles brought
 * and that gives the others its registers, of the 168 that each of 384 threads may have. */
static const unsigned ROWS = 128, TILE = 128, STEP = 64, MULTIPLIERS = 256, THREADS = MULTIPLIERS + 128, STAGES = 2;

/* So many rows of a head in panels of 64 columns: their number, and the bytes of one and of all. */
template <unsigned HP, unsigned N = TILE> struct panels {
    static const unsigned MANY = HP / 64, ONE = N * PANEL_ROW, ALL = MANY * ONE;
};

/* Where a block is: its first row, head and sequence. */
struct place {
    unsigned first, head, b;
};

#if DLM_HOPPER

static const unsigned MORE_REGISTERS = 240, FEWER_REGISTERS = 24;

DLM_DEVICE struct place place_of(const attention_problem &p)
{
    return place{blockIdx.x * ROWS, blockIdx.y, p.sequence + blockIdx.z};
}

/* The last rows first: under CAUSAL they see most, and none of them is left to the end. */
DLM_DEVICE struct place place_from_end(const attention_problem &p)
{
    return place{(gridDim.x - 1 - blockIdx.x) * ROWS, blockIdx.y, p.sequence + blockIdx.z};
}

/* The block's shared memory from the first multiple of 1024 on. */
DLM_DEVICE unsigned char *shared_patterns(void)
{
    DLM_SHARED(unsigned char, all);
    return all + (PANEL_PATTERN - shared_address(all) % PANEL_PATTERN) % PANEL_PATTERN;
}

/* Rows of a head from `row` on, as many as the map's boxes have, to panels that lie `one` bytes apart. By one thread; `bar` expects them. */
template <unsigned HP>
DLM_DEVICE void bring(unsigned char *to, unsigned one, const CUtensorMap *map, uint64_t *bar, unsigned row, const struct place &at)
{
#pragma unroll
    for (unsigned i = 0; i < HP / 64; i++)
        copy_box(to + i * one, map, bar, i * 64, at.head, row, at.b);
}

/* A ring's next place: which, and the parity of its turn. */
struct turn {
    unsigned stage, parity;
};

DLM_DEVICE struct turn turn_after(struct turn t)
{
    return turn{(t.stage + 1) % STAGES, t.parity ^ (t.stage + 1 == STAGES ? 1u : 0u)};
}

/* The first tile of keys from j on that a block of queries sees something of, or `end` or more: as sight_next_keys, by 128. */
DLM_DEVICE unsigned next_keys(const uint8_t *noisy, unsigned j, unsigned end, bool clean)
{
    for (; clean && j < end; j += TILE) {
        const struct sight low = sight_of(noisy, j, end), high = sight_of(noisy, j + 64, end);
        if ((low.open & ~low.noisy) | (high.open & ~high.noisy))
            break;
    }
    return j;
}

/* 2^x, |x| < 126, in additions and multiplications, which have time to spare where the special function unit has not: an error of 2⁻¹⁸, where
 * the tensor cores take the result in 2⁻⁹. */
DLM_DEVICE float power_by_series(float x)
{
    const float shift = 12582912.0f; /* 1.5·2²³: the sum's last bits are the nearest whole number */
    const float whole = x + shift, f = x - (whole - shift);
    float y = fmaf(0.009570102207362652f, f, 0.05591785907745361f);
    y = fmaf(y, f, 0.240247443318367f);
    y = fmaf(y, f, 0.6931217908859253f);
    y = fmaf(y, f, 0.9999992847442627f);
    return __uint_as_float(__float_as_uint(y) + (__float_as_uint(whole) << 23));
}

/* What a thread's two rows see of N times 64 positions, from its own first column on: bit 8j + i of column 8j + 2t + i. */
template <unsigned N> struct view {
    uint64_t part[2][N];
    bool mixed; /* the warp's rows do not see all */
};

template <unsigned N>
DLM_DEVICE struct view<N> view_of(uint64_t (*sees)(enum dlm_attend, struct sight, unsigned, unsigned, bool), enum dlm_attend rule,
                                  const uint8_t *noisy, unsigned row, unsigned first, unsigned end, unsigned loud)
{
    struct view<N> v;
    uint64_t every = ~0ull;
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const struct sight seen = sight_of(noisy, first + 64 * i, end);
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const uint64_t one = sees(rule, seen, row + 8 * half, first + 64 * i, loud >> half & 1);
            every &= one;
            v.part[half][i] = one >> (threadIdx.x % 4 * 2);
        }
    }
    v.mixed = __any_sync(DLM_WARP, ~every != 0);
    return v;
}

/* The weights of what is not seen become 0. */
template <unsigned N> DLM_DEVICE void hide(float (&s)[32 * N], const struct view<N> &v)
{
#pragma unroll
    for (unsigned i = 0; i < 32 * N; i++)
        if (!(v.part[i / 2 % 2][i / 32] >> (i % 32 / 4 * 8 + i % 2) & 1))
            s[i] = 0;
}

/* The same of 64 columns in pairs, as weights_pack leaves them. */
DLM_DEVICE void hide(uint32_t (&w)[4][4], const struct view<1> &v)
{
#pragma unroll
    for (unsigned i = 0; i < 16; i++) {
        const uint32_t two = (uint32_t)(v.part[i % 2][0] >> (i / 2 * 8));
        w[i / 4][i % 4] &= (two & 1 ? 0xffffu : 0) | (two & 2 ? 0xffff0000u : 0);
    }
}

/* Scores (64, 128) to weights, and their sums over the thread's columns. */
DLM_DEVICE void weights_of(float (&s)[64], float (&total)[2], const struct view<2> &v, const attention_problem &p)
{
#pragma unroll
    for (unsigned i = 0; i < 64; i++)
        s[i] = power_by_series(cap_score(cap_rest(s[i], p), 0, p));
    if (v.mixed)
        hide(s, v);
#pragma unroll
    for (unsigned i = 0; i < 64; i++)
        total[i / 2 % 2] += s[i];
}

/* As the left operands of products over 16 columns each. */
template <unsigned R> DLM_DEVICE void weights_pack(uint32_t (&w)[R / 8][4], const float (&s)[R])
{
#pragma unroll
    for (unsigned i = 0; i < R / 2; i++)
        w[i / 4][i % 4] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

/* s (64, 2R) = a (64, HP) · b (2R, HP)ᵀ: `a` and `b` at rows of panels that lie a_one and b_one bytes apart. */
template <unsigned HP, unsigned R> DLM_DEVICE void scores(float (&s)[R], uint32_t a, unsigned a_one, uint32_t b, unsigned b_one)
{
#pragma unroll
    for (unsigned k = 0; k < HP / 16; k++)
        wgmma<false>(s, matrix_at(a + k / 4 * a_one + k % 4 * 32, 0), matrix_at(b + k / 4 * b_one + k % 4 * 32, 0), k > 0);
}

/* o (64, HP) += w (64, 16·K) · b (16·K, HP) */
template <unsigned K, unsigned R> DLM_DEVICE void weigh(float (&o)[R], const uint32_t (&w)[K][4], uint32_t b, unsigned b_one)
{
#pragma unroll
    for (unsigned k = 0; k < K; k++)
        wgmma<true>(o, w[k], matrix_at(b + k * 16 * PANEL_ROW, b_one));
}

/* The warpgroups ask for products in turns: else they would wait for products, and then for special functions, together. The first one's turn is
 * meeting 1, the second one's 2. */
DLM_DEVICE void ask_begin(unsigned group)
{
    if (group == 1)
        meeting_arrive(1, MULTIPLIERS);
}

DLM_DEVICE void ask_in_turn(unsigned group)
{
    meeting_wait(1 + group, MULTIPLIERS);
}

DLM_DEVICE void ask_next(unsigned group)
{
    meeting_arrive(2 - group, MULTIPLIERS);
}

/* After equally many turns: the last was passed on, too. */
DLM_DEVICE void ask_end(unsigned group)
{
    if (group == 0)
        meeting_wait(1, MULTIPLIERS);
}

/* What a warpgroup that has no rows does of a turn: it lets the others go on. */
DLM_DEVICE void ask_nothing(unsigned group, uint64_t *here, uint64_t *free, unsigned parity)
{
    barrier_wait(here, parity);
    if (threadIdx.x % 32 == 0)
        barrier_arrive(free);
    ask_in_turn(group);
    ask_next(group);
}

/* Row g (half 0) or g + 8 of a warp's 16, times `factor`, to a row of device memory. */
template <unsigned R> DLM_DEVICE void row_store(uint32_t *row, const float (&o)[R], unsigned half, unsigned h, float factor)
{
    const unsigned t = threadIdx.x % 4;
#pragma unroll
    for (unsigned c = 0; c < R / 4; c++)
        if (c * 8 + t * 2 < h)
            row[c * 4 + t] = pack_bf16(o[c * 4 + half * 2] * factor, o[c * 4 + half * 2 + 1] * factor);
}

#endif

/* --- forward ------------------------------------------------------------------------------------------------------------------------ */

#if DLM_HOPPER

/* 128 queries of a head and sequence, and the keys that they see. */
struct task {
    struct place at;
    unsigned rows, end; /* queries; past the last key */
    bool clean;         /* under PREFIX, none of them is noisy */
    const uint8_t *noisy;
};

/* The last rows first: under CAUSAL they see most, and none of them is left to the end. All lanes of a warp call. */
DLM_DEVICE struct task task_of(const attention_problem &p, unsigned i)
{
    struct task task;
    task.at = place{(p.tiles - 1 - i % p.tiles) * ROWS, i / p.tiles % p.H, i / p.tiles / p.H};
    task.rows = p.n - task.at.first < ROWS ? p.n - task.at.first : ROWS;
    task.end = p.rule == DLM_ATTEND_CAUSAL ? p.at + task.at.first + task.rows : p.N;
    task.noisy = p.noisy ? p.noisy + (size_t)task.at.b * p.N : nullptr;
    task.clean = task.noisy && !(sight_of(task.noisy, task.at.first, p.N).noisy | sight_of(task.noisy, task.at.first + 64, p.N).noisy);
    return task;
}

DLM_DEVICE unsigned next_keys(const struct task &task, unsigned j)
{
    return next_keys(task.noisy, j, task.end, task.clean);
}

#endif

/* A block has every so many-th task, so that what the next one needs is brought while one ends. Shared: the queries of each warpgroup, two tiles
 * of keys and two of values, and the barriers. */
template <unsigned HP>
static __global__ void __launch_bounds__(THREADS, 1)
    wgmma_forward(const attention_problem p, const unsigned tasks, const __grid_constant__ CUtensorMap q_map,
                  const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap v_map)
{
#if DLM_HOPPER
    const unsigned ALL = panels<HP>::ALL, ONE = panels<HP>::ONE, OWN = panels<HP, 64>::ALL, OWN_ONE = panels<HP, 64>::ONE;
    unsigned char *queries = shared_patterns(), *keys = queries + 2 * OWN, *values = keys + STAGES * ALL;
    uint64_t *q_here = reinterpret_cast<uint64_t *>(values + STAGES * ALL), *q_free = q_here + 2;
    uint64_t *k_here = q_free + 2, *v_here = k_here + STAGES, *k_free = v_here + STAGES, *v_free = k_free + STAGES;
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < 2; i++) {
            barrier_init(q_here + i, 1);
            barrier_init(q_free + i, 4);
        }
        for (unsigned i = 0; i < STAGES; i++) {
            barrier_init(k_here + i, 1);
            barrier_init(v_here + i, 1);
            barrier_init(k_free + i, 8);
            barrier_init(v_free + i, 8);
        }
        barrier_made();
    }
    __syncthreads();
    struct turn turn = {0, 0};

    if (threadIdx.x >= MULTIPLIERS) {
        registers_fewer<FEWER_REGISTERS>();
        if (threadIdx.x >= MULTIPLIERS + 32)
            return;
        unsigned parity[2] = {1, 1};
        for (unsigned i = blockIdx.x; i < tasks; i += gridDim.x) {
            const struct task task = task_of(p, i);
            unsigned j0 = next_keys(task, 0);
            for (bool first = true; first || j0 < task.end; first = false) {
                if (j0 < task.end) {
                    barrier_wait(k_free + turn.stage, turn.parity ^ 1);
                    if (lane == 0) {
                        barrier_expect(k_here + turn.stage, ALL);
                        bring<HP>(keys + turn.stage * ALL, ONE, &k_map, k_here + turn.stage, j0, task.at);
                    }
                }
                for (unsigned group = 0; first && group * 64 < task.rows; group++) {
                    barrier_wait(q_free + group, parity[group]);
                    parity[group] ^= 1;
                    if (lane == 0) {
                        barrier_expect(q_here + group, OWN);
                        bring<HP>(queries + group * OWN, OWN_ONE, &q_map, q_here + group, task.at.first + group * 64, task.at);
                    }
                }
                if (j0 < task.end) {
                    barrier_wait(v_free + turn.stage, turn.parity ^ 1);
                    if (lane == 0) {
                        barrier_expect(v_here + turn.stage, ALL);
                        bring<HP>(values + turn.stage * ALL, ONE, &v_map, v_here + turn.stage, j0, task.at);
                    }
                    turn = turn_after(turn);
                    j0 = next_keys(task, j0 + TILE);
                }
            }
        }
        return;
    }
    registers_more<MORE_REGISTERS>();

    const unsigned group = threadIdx.x / 128, own_row = threadIdx.x / 32 % 4 * 16 + g; /* and own_row + 8 */
    const unsigned char *mine = queries + group * OWN;
    const uint32_t own = shared_address(mine), k_at = shared_address(keys), v_at = shared_address(values);
    unsigned parity = 0;
    ask_begin(group);
    for (unsigned number = blockIdx.x; number < tasks; number += gridDim.x) {
        const struct task task = task_of(p, number);
        unsigned j0 = next_keys(task, 0);
        if (group * 64 >= task.rows) {
            for (; j0 < task.end; j0 = next_keys(task, j0 + TILE), turn = turn_after(turn)) {
                ask_nothing(group, k_here + turn.stage, k_free + turn.stage, turn.parity);
                barrier_wait(v_here + turn.stage, turn.parity);
                if (lane == 0)
                    barrier_arrive(v_free + turn.stage);
            }
            continue;
        }
        const float *sink_k = p.sink_k + task.at.head * p.h, *sink_v = p.sink_v + task.at.head * p.h;
        const unsigned row0 = group * 64 + own_row, i0 = p.at + task.at.first + row0;
        const unsigned loud = noisy_rows<1>(task.noisy, task.at.first + row0 - g, p.N);
        float s[64], o[HP / 2], total[2];
        uint32_t w[8][4];
        barrier_wait(q_here + group, parity);
        parity ^= 1;
        float x[2] = {0, 0};
        for (unsigned e = 2 * t; e < p.h; e += 8) {
            const float key[2] = {sink_k[e], sink_k[e + 1]};
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                const uint32_t pair = *reinterpret_cast<const uint32_t *>(mine + e / 64 * OWN_ONE + panel_at(own_row + 8 * half, e % 64 * 2));
                x[half] = fmaf(__uint_as_float(pair << 16), key[0], x[half]);
                x[half] = fmaf(__uint_as_float(pair & 0xffff0000u), key[1], x[half]);
            }
        }
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            x[half] += __shfl_xor_sync(DLM_WARP, x[half], 1);
            x[half] += __shfl_xor_sync(DLM_WARP, x[half], 2);
            const float weight = power_of_two(cap_score(cap_rest(x[half], p), 0, p));
            total[half] = t ? 0 : weight;
#pragma unroll
            for (unsigned c = 0; c < HP / 8; c++)
#pragma unroll
                for (unsigned i = 0; i < 2; i++)
                    o[c * 4 + half * 2 + i] = c * 8 + 2 * t < p.h ? weight * sink_v[c * 8 + 2 * t + i] : 0;
        }

        const bool any = j0 < task.end;
        if (any) {
            struct view<2> view = view_of<2>(sight_keys, p.rule, task.noisy, i0, j0, p.N, loud);
            barrier_wait(k_here + turn.stage, turn.parity);
            ask_in_turn(group);
            wgmma_begin();
            scores<HP>(s, own, OWN_ONE, k_at + turn.stage * ALL, ONE);
            wgmma_commit();
            ask_next(group);
            wgmma_wait<0>(s);
            if (lane == 0)
                barrier_arrive(k_free + turn.stage);
            weights_of(s, total, view, p);
            weights_pack(w, s);
            for (j0 = next_keys(task, j0 + TILE); j0 < task.end; j0 = next_keys(task, j0 + TILE)) {
                const struct turn next = turn_after(turn);
                barrier_wait(k_here + next.stage, next.parity);
                ask_in_turn(group);
                wgmma_begin();
                scores<HP>(s, own, OWN_ONE, k_at + next.stage * ALL, ONE);
                wgmma_commit();
                barrier_wait(v_here + turn.stage, turn.parity);
                wgmma_begin();
                weigh(o, w, v_at + turn.stage * ALL, ONE);
                wgmma_commit();
                ask_next(group);
                view = view_of<2>(sight_keys, p.rule, task.noisy, i0, j0, p.N, loud);
                wgmma_wait<1>(s);
                if (lane == 0)
                    barrier_arrive(k_free + next.stage);
                weights_of(s, total, view, p);
                wgmma_wait<0>(o);
                if (lane == 0)
                    barrier_arrive(v_free + turn.stage);
                weights_pack(w, s);
                turn = next;
            }
        }
        __syncwarp();
        if (lane == 0)
            barrier_arrive(q_free + group);
        if (any) {
            barrier_wait(v_here + turn.stage, turn.parity);
            wgmma_begin();
            weigh(o, w, v_at + turn.stage * ALL, ONE);
            wgmma_commit();
            wgmma_wait<0>(o);
            if (lane == 0)
                barrier_arrive(v_free + turn.stage);
            turn = turn_after(turn);
        }

#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            total[half] += __shfl_xor_sync(DLM_WARP, total[half], 1);
            total[half] += __shfl_xor_sync(DLM_WARP, total[half], 2);
            const unsigned row = row0 + half * 8, i = task.at.first + row;
            if (row >= task.rows)
                continue;
            if (p.lse && !t)
                p.lse[((size_t)task.at.b * p.H + task.at.head) * p.n + i] = logf(total[half]);
            row_store(static_cast<uint32_t *>(p.o) + (((size_t)task.at.b * p.n + i) * p.d + task.at.head * p.h) / 2, o, half, p.h,
                      1.0f / total[half]);
        }
    }
    ask_end(group);
#endif
}

/* --- backward ----------------------------------------------------------------------------------------------------------------------- */

#if DLM_HOPPER

/* The block's shared memory in backward: two operands of its own 128 rows, a ring of steps of the other side's two, what goes `beside` them,
 * and the barriers. */
template <unsigned HP> struct backward_shared {
    static const unsigned OWN = panels<HP>::ALL, OWN_ONE = panels<HP>::ONE, STEP_ALL = panels<HP, STEP>::ALL, STEP_ONE = panels<HP, STEP>::ONE;
    unsigned char *own, *steps;
    float *beside; /* lse·log₂e and D of each query of a step */
    uint64_t *own_here, *here, *free;
    __device__ backward_shared()
        : own(shared_patterns()), steps(own + 2 * OWN), beside(reinterpret_cast<float *>(steps + STAGES * 2 * STEP_ALL)),
          own_here(reinterpret_cast<uint64_t *>(beside + STAGES * 2 * STEP)), here(own_here + 1), free(here + STAGES)
    {
    }

    /* By thread 0, before a barrier. */
    __device__ void begin(unsigned arrivals) const
    {
        barrier_init(own_here, 1);
        for (unsigned i = 0; i < STAGES; i++) {
            barrier_init(here + i, arrivals);
            barrier_init(free + i, 8);
        }
        barrier_made();
    }

    __device__ void bring_own(const CUtensorMap *x, const CUtensorMap *y, const struct place &at) const
    {
        barrier_expect(own_here, 2 * OWN);
        for (unsigned i = 0; i < ROWS; i += STEP) {
            bring<HP>(own + i * PANEL_ROW, OWN_ONE, x, own_here, at.first + i, at);
            bring<HP>(own + OWN + i * PANEL_ROW, OWN_ONE, y, own_here, at.first + i, at);
        }
    }

    __device__ void bring_step(unsigned stage, const CUtensorMap *x, const CUtensorMap *y, unsigned row, const struct place &at) const
    {
        unsigned char *to = steps + stage * 2 * STEP_ALL;
        barrier_expect(here + stage, 2 * STEP_ALL);
        bring<HP>(to, STEP_ONE, x, here + stage, row, at);
        bring<HP>(to + STEP_ALL, STEP_ONE, y, here + stage, row, at);
    }
};

#endif

/* A block 128 keys, over the queries that see them. */
template <unsigned HP>
static __global__ void __launch_bounds__(THREADS, 1)
    wgmma_backward_keys(const attention_problem p, const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                        const __grid_constant__ CUtensorMap v_map, const __grid_constant__ CUtensorMap dout_map)
{
#if DLM_HOPPER
    typedef backward_shared<HP> layout;
    const layout shared;
    const struct place at = place_of(p);
    const unsigned rows = p.N - at.first < ROWS ? p.N - at.first : ROWS, group = threadIdx.x / 128;
    const uint8_t *noisy = p.noisy ? p.noisy + (size_t)at.b * p.N : nullptr;
    if (threadIdx.x == 0)
        shared.begin(32);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, row0 = threadIdx.x / 32 * 16 + g; /* and row0 + 8 */
    const unsigned loud = threadIdx.x < MULTIPLIERS ? noisy_rows<1>(noisy, at.first + row0 - g, p.N) : 0;
    const bool hidden = !__syncthreads_or(threadIdx.x < rows && !(noisy && noisy[at.first + threadIdx.x]));
    unsigned i0 = sight_next_queries(noisy, p.rule == DLM_ATTEND_CAUSAL ? at.first : 0, p.N, hidden);

    if (threadIdx.x >= MULTIPLIERS) {
        registers_fewer<FEWER_REGISTERS>();
        if (threadIdx.x >= MULTIPLIERS + 32)
            return;
        if (lane == 0)
            shared.bring_own(&k_map, &v_map, at);
        for (struct turn turn = {0, 0}; i0 < p.N; turn = turn_after(turn)) {
            barrier_wait(shared.free + turn.stage, turn.parity ^ 1);
            for (unsigned i = lane; i < STEP; i += 32) {
                const bool there = i0 + i < p.N;
                const size_t of = ((size_t)at.b * p.H + at.head) * p.N + i0 + i;
                float *beside = shared.beside + turn.stage * 2 * STEP + i;
                beside[0] = there ? p.lse[of] * LOG2_E : 0;
                beside[STEP] = there ? p.D[of] : 0;
            }
            if (lane == 0)
                shared.bring_step(turn.stage, &q_map, &dout_map, i0, at);
            else
                barrier_arrive(shared.here + turn.stage);
            i0 = sight_next_queries(noisy, i0 + STEP, p.N, hidden);
        }
        return;
    }
    registers_more<MORE_REGISTERS>();
    struct turn turn = {0, 0};
    ask_begin(group);
    if (group * 64 >= rows) {
        for (; i0 < p.N; i0 = sight_next_queries(noisy, i0 + STEP, p.N, hidden), turn = turn_after(turn))
            ask_nothing(group, shared.here + turn.stage, shared.free + turn.stage, turn.parity);
        return;
    }

    const uint32_t k_at = shared_address(shared.own) + group * 64 * PANEL_ROW, v_at = k_at + layout::OWN;
    const unsigned j0 = at.first + row0;
    float dk[HP / 2], dv[HP / 2];
#pragma unroll
    for (unsigned i = 0; i < HP / 2; i++)
        dk[i] = dv[i] = 0;
    barrier_wait(shared.own_here, 0);
    if (p.rule == DLM_ATTEND_CAUSAL && i0 + STEP <= at.first + group * 64) { /* all of the step is before the warpgroup's keys */
        ask_nothing(group, shared.here, shared.free, 0);
        i0 += STEP;
        turn = turn_after(turn);
    }
    while (i0 < p.N) {
        const uint32_t queries = shared_address(shared.steps) + turn.stage * 2 * layout::STEP_ALL, outs = queries + layout::STEP_ALL;
        const float2 *lse = reinterpret_cast<const float2 *>(shared.beside + turn.stage * 2 * STEP) + t, *D = lse + STEP / 2;
        float s[32], dp[32];
        uint32_t w[4][4], ds[4][4];
        const struct view<1> view = view_of<1>(sight_queries, p.rule, noisy, j0, i0, p.N, loud);
        barrier_wait(shared.here + turn.stage, turn.parity);
        ask_in_turn(group);
        wgmma_begin();
        scores<HP>(s, k_at, layout::OWN_ONE, queries, layout::STEP_ONE);
        wgmma_commit();
        scores<HP>(dp, v_at, layout::OWN_ONE, outs, layout::STEP_ONE);
        wgmma_commit();
        ask_next(group);
        wgmma_wait<1>(s);
#pragma unroll
        for (unsigned i = 0; i < 32; i += 2) { /* s becomes the weights' slopes; two by two, for want of registers */
            const float r[2] = {cap_rest(s[i], p), cap_rest(s[i + 1], p)};
            const float2 minus = lse[i / 4 * 4];
            const float w0 = power_by_series(cap_score(r[0], minus.x, p)), w1 = power_by_series(cap_score(r[1], minus.y, p));
            s[i] = w0 * (r[0] - r[0] * r[0]);
            s[i + 1] = w1 * (r[1] - r[1] * r[1]);
            w[i / 8][i / 2 % 4] = pack_bf16(w0, w1);
        }
        if (view.mixed)
            hide(w, view);
        wgmma_begin();
        weigh(dv, w, outs, layout::STEP_ONE);
        wgmma_commit();
        wgmma_wait<1>(dp);
#pragma unroll
        for (unsigned i = 0; i < 32; i += 2) {
            const float2 less = D[i / 4 * 4];
            dp[i] = s[i] * (dp[i] - less.x);
            dp[i + 1] = s[i + 1] * (dp[i + 1] - less.y);
        }
        weights_pack(ds, dp);
        if (view.mixed)
            hide(ds, view);
        wgmma_begin();
        weigh(dk, ds, queries, layout::STEP_ONE);
        wgmma_commit();
        wgmma_wait<0>(dv); /* with the next scores already asked for, the compiler would let no two products overlap */
        wgmma_wait<0>(dk);
        if (lane == 0)
            barrier_arrive(shared.free + turn.stage);
        turn = turn_after(turn);
        i0 = sight_next_queries(noisy, i0 + STEP, p.N, hidden);
    }
    ask_end(group);

#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        const unsigned row = row0 + half * 8;
        if (row >= rows)
            continue;
        const size_t i = (size_t)at.b * p.N + at.first + row;
        row_store(static_cast<uint32_t *>(p.dk) + (i * p.d + at.head * p.h) / 2, dk, half, p.h, p.factor);
        row_store(static_cast<uint32_t *>(p.dv) + (i * p.lddv + at.head * p.h) / 2, dv, half, p.h, 1);
    }
#endif
}

/* A block 128 queries, over the keys that they see. */
template <unsigned HP>
static __global__ void __launch_bounds__(THREADS, 1)
    wgmma_backward_queries(const attention_problem p, const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                           const __grid_constant__ CUtensorMap v_map, const __grid_constant__ CUtensorMap dout_map)
{
#if DLM_HOPPER
    typedef backward_shared<HP> layout;
    const layout shared;
    const struct place at = place_from_end(p);
    const unsigned rows = p.N - at.first < ROWS ? p.N - at.first : ROWS, group = threadIdx.x / 128;
    const uint8_t *noisy = p.noisy ? p.noisy + (size_t)at.b * p.N : nullptr;
    if (threadIdx.x == 0)
        shared.begin(1);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, row0 = threadIdx.x / 32 * 16 + g; /* and row0 + 8 */
    const unsigned loud = threadIdx.x < MULTIPLIERS ? noisy_rows<1>(noisy, at.first + row0 - g, p.N) : 0;
    const bool clean = !__syncthreads_or((int)loud) && noisy;
    const unsigned end = p.rule == DLM_ATTEND_CAUSAL ? at.first + rows : p.N;
    unsigned j0 = sight_next_keys(noisy, 0, end, clean);

    if (threadIdx.x >= MULTIPLIERS) {
        registers_fewer<FEWER_REGISTERS>();
        if (threadIdx.x >= MULTIPLIERS + 32)
            return;
        if (lane == 0)
            shared.bring_own(&q_map, &dout_map, at);
        for (struct turn turn = {0, 0}; j0 < end; turn = turn_after(turn)) {
            barrier_wait(shared.free + turn.stage, turn.parity ^ 1);
            if (lane == 0)
                shared.bring_step(turn.stage, &k_map, &v_map, j0, at);
            j0 = sight_next_keys(noisy, j0 + STEP, end, clean);
        }
        return;
    }
    registers_more<MORE_REGISTERS>();
    struct turn turn = {0, 0}, before = {0, 0};
    ask_begin(group);
    if (group * 64 >= rows) {
        for (; j0 < end; j0 = sight_next_keys(noisy, j0 + STEP, end, clean), turn = turn_after(turn))
            ask_nothing(group, shared.here + turn.stage, shared.free + turn.stage, turn.parity);
        return;
    }

    const uint32_t q_at = shared_address(shared.own) + group * 64 * PANEL_ROW, dout_at = q_at + layout::OWN;
    const unsigned i0 = at.first + row0;
    float dq[HP / 2], s[32], dp[32], lse[2], D[2];
    uint32_t ds[4][4] = {};
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        const unsigned row = row0 + half * 8;
        const size_t of = ((size_t)at.b * p.H + at.head) * p.N + at.first + row;
        const float du = row < rows ? p.du[of] : 0;
        lse[half] = row < rows ? p.lse[of] * LOG2_E : 0;
        D[half] = row < rows ? p.D[of] : 0;
#pragma unroll
        for (unsigned c = 0; c < HP / 8; c++)
#pragma unroll
            for (unsigned i = 0; i < 2; i++)
                dq[c * 4 + half * 2 + i] = c * 8 + 2 * t < p.h ? du * p.sink_k[at.head * p.h + c * 8 + 2 * t + i] : 0;
    }
    const uint32_t steps = shared_address(shared.steps);
    const bool any = j0 < end;
    barrier_wait(shared.own_here, 0);
    for (bool first = true; j0 < end; first = false) {
        const uint32_t keys = steps + turn.stage * 2 * layout::STEP_ALL, values = keys + layout::STEP_ALL;
        const struct view<1> view = view_of<1>(sight_keys, p.rule, noisy, i0, j0, p.N, loud);
        barrier_wait(shared.here + turn.stage, turn.parity);
        ask_in_turn(group);
        wgmma_begin();
        scores<HP>(s, q_at, layout::OWN_ONE, keys, layout::STEP_ONE);
        wgmma_commit();
        scores<HP>(dp, dout_at, layout::OWN_ONE, values, layout::STEP_ONE);
        wgmma_commit();
        weigh(dq, ds, steps + before.stage * 2 * layout::STEP_ALL, layout::STEP_ONE); /* of the step before; at first of zeros */
        wgmma_commit();
        ask_next(group);
        wgmma_wait<2>(s);
#pragma unroll
        for (unsigned i = 0; i < 32; i++) {
            const float r = cap_rest(s[i], p);
            s[i] = (r - r * r) * power_by_series(cap_score(r, lse[i / 2 % 2], p));
        }
        if (view.mixed)
            hide(s, view);
        wgmma_wait<0>(dp);
        if (lane == 0 && !first)
            barrier_arrive(shared.free + before.stage);
#pragma unroll
        for (unsigned i = 0; i < 32; i++)
            dp[i] = s[i] * (dp[i] - D[i / 2 % 2]);
        weights_pack(ds, dp);
        before = turn;
        turn = turn_after(turn);
        j0 = sight_next_keys(noisy, j0 + STEP, end, clean);
    }
    ask_end(group);
    if (any) {
        wgmma_begin();
        weigh(dq, ds, steps + before.stage * 2 * layout::STEP_ALL, layout::STEP_ONE);
        wgmma_commit();
        wgmma_wait<0>(dq);
    }

#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        const unsigned row = row0 + half * 8;
        if (row < rows)
            row_store(static_cast<uint32_t *>(p.dq) + (((size_t)at.b * p.N + at.first + row) * p.d + at.head * p.h) / 2, dq, half, p.h,
                      p.factor);
    }
#endif
}

/* --- launches ----------------------------------------------------------------------------------------------------------------------- */

/* What the first multiple of 1024 may cost, operands, and the barriers. */
template <unsigned HP> static size_t forward_shared_size()
{
    return PANEL_PATTERN + (1 + 2 * STAGES) * panels<HP>::ALL + (4 + 4 * STAGES) * sizeof(uint64_t);
}

template <unsigned HP> static size_t backward_shared_size()
{
    return PANEL_PATTERN + 2 * panels<HP>::ALL + STAGES * (2 * panels<HP, STEP>::ALL + 2 * STEP * sizeof(float)) +
           (1 + 2 * STAGES) * sizeof(uint64_t);
}

/* Rows of a head of (B, n, H, h), ld apart, `rows` at once. */
static bool map_of(struct dlm_device *dev, CUtensorMap *map, const void *x, size_t ld, size_t n, unsigned rows, size_t B,
                   const struct attention_problem &p)
{
    if (tensor_map(map, x, {p.h, p.H, n, B}, {p.h * 2, ld * 2, n * ld * 2}, rows))
        return true;
    dlm_device_fail(dev, "attention: the driver makes no tensor map of %zu sequences of %zu rows, %zu apart", B, n, ld);
    return false;
}

/* The grid has a block each tile, head and sequence, of which it takes so many. */
static const size_t SEQUENCES = 65535;

static dim3 blocks_of(struct attention_problem *p, unsigned n, size_t B, size_t b)
{
    p->sequence = (unsigned)b;
    return dim3(ceil_div(n, ROWS), p->H, (unsigned)(B - b < SEQUENCES ? B - b : SEQUENCES));
}

template <unsigned HP> static void forward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    CUtensorMap q, k, v;
    if (!map_of(dev, &q, p.q, p.d, p.n, 64, B, p) || !map_of(dev, &k, p.k, p.d, p.N, TILE, B, p) ||
        !map_of(dev, &v, p.v, p.ldv, p.N, TILE, B, p))
        return;
    p.tiles = ceil_div(p.n, ROWS);
    const size_t tasks = B * p.H * p.tiles, blocks = (size_t)dev->multiprocessors < tasks ? (size_t)dev->multiprocessors : tasks;
    dlm_launch(dev, "attention", wgmma_forward<HP>, dim3((unsigned)blocks), THREADS, forward_shared_size<HP>(), p, (unsigned)tasks, q, k, v);
}

template <unsigned HP> static void backward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    CUtensorMap q, k, v, dout;
    if (!map_of(dev, &q, p.q, p.d, p.N, STEP, B, p) || !map_of(dev, &k, p.k, p.d, p.N, STEP, B, p) ||
        !map_of(dev, &v, p.v, p.ldv, p.N, STEP, B, p) || !map_of(dev, &dout, p.dout, p.d, p.N, STEP, B, p))
        return;
    const size_t size = backward_shared_size<HP>();
    for (size_t b = 0; b < B; b += SEQUENCES) {
        const dim3 blocks = blocks_of(&p, p.N, B, b);
        dlm_launch(dev, "attention_backward", wgmma_backward_keys<HP>, blocks, THREADS, size, p, q, k, v, dout);
        dlm_launch(dev, "attention_backward", wgmma_backward_queries<HP>, blocks, THREADS, size, p, q, k, v, dout);
    }
}

/* Rows of a head are whole pieces of 16 bytes; the capped scores need no running maximum, and leave power_by_series its range; the body for
 * this GPU is in the module, which depends on CUDA_ARCH. */
bool dlm_attention_wgmma_takes(const struct dlm_device *dev, const struct attention_problem &p)
{
    static const bool compiled = hopper_compiled(wgmma_forward<64>);
    size_t all = (p.h | p.d | p.ldv | p.lddv) * 2;
    for (const void *each : {p.q, p.k, p.v, p.dout, (const void *)p.o, (const void *)p.dq, (const void *)p.dk, (const void *)p.dv})
        all |= (size_t)(uintptr_t)each;
    return dev->capability == 90 && compiled && p.h <= 128 && p.top < MOST_TOP && all % 16 == 0;
}

void dlm_attention_wgmma(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    (p.h <= 64 ? forward<64> : forward<128>)(dev, p, B);
}

void dlm_attention_wgmma_backward(struct dlm_device *dev, struct attention_problem p, size_t B)
{
    (p.h <= 64 ? backward<64> : backward<128>)(dev, p, B);
}
