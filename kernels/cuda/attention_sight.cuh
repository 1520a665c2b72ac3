/* What the kernels of attention have in common: the problem, who sees whom, and the soft cap.
 *
 * Positions are looked at in tiles of 64, so what a row may see of a tile is one word, a bit a position: the three rules, the end of the
 * sequence and tiles of which nothing is seen are all that word.
 *
 *     r = 1/(1 + e^(2u))   u = q·k/(√h·cap)   s = cap·tanh u = cap·(1 - 2r)   1 - tanh²u = 4·r·(1 - r)
 *
 * so that p = 2^(c - 2c·r - m) with c = cap·log₂e: two exponentials and a reciprocal a score, with an error of s of about cap·2⁻²²
 * (tanh.approx alone would leave cap·2⁻¹¹, some of what p is rounded to for the tensor cores, and more near the cap). Gradients leave
 * out the 4/√h that belongs to the scores; it is put on dq and dk at the end.
 */
#ifndef DLM_CUDA_ATTENTION_SIGHT_CUH
#define DLM_CUDA_ATTENTION_SIGHT_CUH

#include "device.cuh"

enum { SIGHT_TILE = 64 };

/* One call: pointers are to the first head of the first sequence; rows of o, q, k, do, dq, dk are d apart. */
struct attention_problem {
    const void *q, *k, *v;
    void *o;    /* backward reads it */
    float *lse; /* (B, H, n) or none */
    const float *sink_k, *sink_v;
    const uint8_t *noisy; /* none but under PREFIX */
    size_t d, ldv;
    unsigned N, n, at; /* keys and queries of a sequence; the first query's position */
    unsigned H, h;
    enum dlm_attend rule;
    bool running; /* e^cap is too near the end of float32: softmax with a running maximum */
    /* set by the launches: blocks a head and sequence; the grid's first sequence; rows of a head begin at multiples of 16 bytes and are
     * whole such */
    unsigned tiles, sequence;
    bool wide;
    float slope, top, twice; /* 2·log₂e/(√h·cap), cap·log₂e, 2·cap·log₂e */
    /* backward */
    const void *dout;
    void *dq, *dk, *dv;
    size_t lddv;
    float *D, *du;      /* (B, H, N): do·o, and the sink's du as above */
    float factor;       /* 4/√h */
};

/* In float32 multiplications, for any h and any alignment: attention_plain.cu. */
void dlm_attention_plain(struct dlm_device *, struct attention_problem p, size_t B, enum dlm_dtype act);
void dlm_attention_plain_backward(struct dlm_device *, struct attention_problem p, size_t B, enum dlm_dtype act);
/* In bf16 on the tensor cores, where h and the alignment are such: attention_mma.cu. */
bool dlm_attention_mma_takes(const struct attention_problem &p);
void dlm_attention_mma(struct dlm_device *, struct attention_problem p, size_t B);
void dlm_attention_mma_backward(struct dlm_device *, struct attention_problem p, size_t B);
/* The same on Hopper's: attention_wgmma.cu. */
bool dlm_attention_wgmma_takes(const struct dlm_device *, const struct attention_problem &p);
void dlm_attention_wgmma(struct dlm_device *, struct attention_problem p, size_t B);
void dlm_attention_wgmma_backward(struct dlm_device *, struct attention_problem p, size_t B);

/* Of 64 positions from `first` on: which there are, and which are noisy. */
struct sight {
    uint64_t open, noisy;
};

/* All lanes of a warp call. */
DLM_DEVICE struct sight sight_of(const uint8_t *noisy, unsigned first, unsigned N)
{
    const unsigned lane = threadIdx.x % 32, left = first < N ? N - first : 0;
    struct sight s = {left >= 64 ? ~0ull : (1ull << left) - 1, 0};
    if (noisy) {
        const unsigned low = __ballot_sync(DLM_WARP, lane < left && noisy[first + lane]);
        const unsigned high = __ballot_sync(DLM_WARP, 32 + lane < left && noisy[first + 32 + lane]);
        s.noisy = (uint64_t)high << 32 | low;
    }
    return s;
}

/* The keys of a tile from j on that the query at i sees; `noisy`: that it is. */
DLM_DEVICE uint64_t sight_keys(enum dlm_attend rule, struct sight keys, unsigned i, unsigned j, bool noisy)
{
    if (rule == DLM_ATTEND_CAUSAL)
        return i < j ? 0 : i - j >= 63 ? keys.open : keys.open & ((2ull << (i - j)) - 1);
    return rule == DLM_ATTEND_PREFIX && !noisy ? keys.open & ~keys.noisy : keys.open;
}

/* The queries of a tile from i on that see the key at j. */
DLM_DEVICE uint64_t sight_queries(enum dlm_attend rule, struct sight queries, unsigned j, unsigned i, bool noisy)
{
    if (rule == DLM_ATTEND_CAUSAL)
        return j <= i ? queries.open : j - i >= 64 ? 0 : queries.open & ~((1ull << (j - i)) - 1);
    return rule == DLM_ATTEND_PREFIX && noisy ? queries.noisy : queries.open;
}

/* A warp sees all of a tile of keys, or of queries, as far as positions alone tell: no look at each row is needed. */
DLM_DEVICE bool sight_all_keys(enum dlm_attend rule, unsigned first_query, unsigned j, unsigned N)
{
    return j + SIGHT_TILE <= N && (rule == DLM_ATTEND_FULL || (rule == DLM_ATTEND_CAUSAL && j + SIGHT_TILE - 1 <= first_query));
}

DLM_DEVICE bool sight_all_queries(enum dlm_attend rule, unsigned last_key, unsigned i, unsigned N)
{
    return i + SIGHT_TILE <= N && (rule == DLM_ATTEND_FULL || (rule == DLM_ATTEND_CAUSAL && last_key <= i));
}

/* The first tile of keys from j on that a block of queries sees something of, or `end` or more. `clean`: under PREFIX no query is noisy. */
DLM_DEVICE unsigned sight_next_keys(const uint8_t *noisy, unsigned j, unsigned end, bool clean)
{
    for (; clean && j < end; j += SIGHT_TILE) {
        const struct sight s = sight_of(noisy, j, end);
        if (s.open & ~s.noisy)
            break;
    }
    return j;
}

/* The same of queries, for a block of keys. `hidden`: under PREFIX every key is noisy. */
DLM_DEVICE unsigned sight_next_queries(const uint8_t *noisy, unsigned i, unsigned end, bool hidden)
{
    for (; hidden && i < end; i += SIGHT_TILE)
        if (sight_of(noisy, i, end).noisy)
            break;
    return i;
}

/* --- the soft cap ----------------------------------------------------------------------------------------------------------------- */

DLM_DEVICE float power_of_two(float x)
{
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

DLM_DEVICE float reciprocal(float x)
{
#ifdef __CUDACC__
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

/* Which of this thread's rows are noisy, of the warp's from row0 on, M times 16 of them, as products lay them out: bit 2m + half. */
template <unsigned M> DLM_DEVICE unsigned noisy_rows(const uint8_t *noisy, unsigned row0, unsigned N)
{
    unsigned bits = 0;
    for (unsigned i = 0; noisy && i < 2 * M; i++) {
        const unsigned row = row0 + threadIdx.x % 32 / 4 + i * 8;
        bits |= (row < N && noisy[row] ? 1u : 0u) << i;
    }
    return bits;
}

/* r of x = q·k */
DLM_DEVICE float cap_rest(float x, const attention_problem &p)
{
    return reciprocal(1.0f + power_of_two(x * p.slope));
}

/* s·log₂e - m */
DLM_DEVICE float cap_score(float r, float m, const attention_problem &p)
{
    return fmaf(-p.twice, r, p.top - m);
}

static const float LOG2_E = 1.44269504088896341f, LN_2 = 0.693147180559945309f;

#endif
