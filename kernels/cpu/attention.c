/* Soft-capped attention with a sink (method.md §4), by tiles: no N×N matrix is ever stored.
 *
 *     u = q·k/(√h·cap)   s = cap·tanh u   p = eˢ/Σ eˢ over the visible keys and the sink   o = Σ p·v
 *     D = do·o   du = p·(do·v - D)·cap·(1 - tanh²u)   dq = Σ du·k/(√h·cap)   dk = Σ du·q/(√h·cap)   dv = Σ p·do
 *
 * Because |s| ≤ cap, sums of eˢ need no running maximum while e^cap is far from the end of float32; a larger cap costs one more
 * pass over the scores to find each row's maximum. Backward computes scores again. A task is one head of one sequence: its keys
 * and values are laid out once, in float32 and transposed where a product wants them so. Tasks are independent, so their order is
 * free; the sink's gradients are kept a task and added up in order of sequence.
 */
#include "device.h"
#include "tile.h"
#include "vmath.h"

#include <math.h>
#include <omp.h>

enum { TILE = 64, LANES = DLM_TILE_STEP }; /* queries, and keys, of a tile; columns of a tile come in this many */
static const float PLAIN_CAP = 40.0f; /* e⁴⁰·N fits in float32, and so does e⁻⁴⁰ */

struct shape {
    size_t N, d, h;
    size_t n, at; /* queries, and the position of the first: N and 0 but where keys come from a cache */
    size_t np, hp; /* N in whole tiles and h in whole vectors; what is beyond N or h is zero */
    float scale, cap;
    enum dlm_attend rule;
    enum dlm_dtype act;
};

/* to (N, hp) = factor · rows of `from`, h wide and ld apart, with zeros beyond. */
static void rows_load(float *restrict to, const void *from, size_t ld, size_t n, size_t padded, const struct shape *s,
                      float factor)
{
    for (size_t i = 0; i < padded; i++) {
        float *restrict row = to + i * s->hp;
        if (i >= n) {
            memset(row, 0, s->hp * sizeof *row);
            continue;
        }
        if (s->act == DLM_BF16) {
            const uint16_t *in = (const uint16_t *)from + i * ld;
#pragma omp simd
            for (size_t j = 0; j < s->h; j++)
                row[j] = factor * dlm_bf16_to_f32(in[j]);
        } else {
            const float *in = (const float *)from + i * ld;
#pragma omp simd
            for (size_t j = 0; j < s->h; j++)
                row[j] = factor * in[j];
        }
        for (size_t j = s->h; j < s->hp; j++)
            row[j] = 0;
    }
}

/* Rows (n, hp) of float32 into `to`, h wide and ld apart. */
static void rows_store(void *to, size_t ld, const float *from, size_t n, const struct shape *s, float factor)
{
    for (size_t i = 0; i < n; i++) {
        const float *row = from + i * s->hp;
        if (s->act == DLM_BF16) {
            uint16_t *out = (uint16_t *)to + i * ld;
#pragma omp simd
            for (size_t j = 0; j < s->h; j++)
                out[j] = dlm_bf16_from_f32(factor * row[j]);
        } else {
            float *out = (float *)to + i * ld;
#pragma omp simd
            for (size_t j = 0; j < s->h; j++)
                out[j] = factor * row[j];
        }
    }
}

/* to (np/TILE, hp, TILE): tile by tile the transpose of from (np, hp). Rows of a whole transpose would lie a power of two apart,
 * all in the same few sets of the cache. */
static void transpose(float *restrict to, const float *restrict from, const struct shape *s)
{
    for (size_t i0 = 0; i0 < s->np; i0 += 16)
        for (size_t j0 = 0; j0 < s->hp; j0 += 16)
            for (size_t j = j0; j < j0 + 16; j++)
                for (size_t i = i0; i < i0 + 16; i++)
                    to[(i / TILE * s->hp + j) * TILE + i % TILE] = from[i * s->hp + j];
}

DLM_INLINE float dot(const float *restrict a, const float *restrict b, size_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* What the keys of a row may be: 1 or 0 each. `open` is everything up to N, `clean` what clean queries see under PREFIX. */
static void visibility(float *open, float *clean, const uint8_t *noisy, const struct shape *s)
{
    for (size_t j = 0; j < s->np; j++) {
        open[j] = j < s->N ? 1.0f : 0.0f;
        clean[j] = j < s->N && !(noisy && noisy[j]) ? 1.0f : 0.0f;
    }
}

/* Nothing of this tile is visible. */
static bool tile_dark(size_t i0, size_t rows, size_t j0, size_t cols, const uint8_t *noisy, const struct shape *s)
{
    if (s->rule == DLM_ATTEND_CAUSAL)
        return j0 > i0 + rows - 1;
    if (s->rule != DLM_ATTEND_PREFIX)
        return false;
    for (size_t i = i0; i < i0 + rows; i++)
        if (noisy[i])
            return false;
    for (size_t j = j0; j < j0 + cols && j < s->N; j++)
        if (!noisy[j])
            return false;
    return true;
}

/* Keys of the tile that row i looks at: the first `*n`, under a mask. */
DLM_INLINE const float *row_sight(size_t i, size_t j0, size_t cols, const float *open, const float *clean, const uint8_t *noisy,
                                  const struct shape *s, size_t *n)
{
    *n = cols;
    if (s->rule == DLM_ATTEND_CAUSAL) {
        size_t until = i + 1 > j0 ? i + 1 - j0 : 0;
        *n = until < cols ? until : cols;
    }
    return s->rule == DLM_ATTEND_PREFIX && !noisy[i] ? clean + j0 : open + j0;
}

/* --- forward ----------------------------------------------------------------------------------------------------------- */

/* u becomes p = e^(cap·tanh u - shift) where visible, else 0. Sums are kept in LANES columns, since adding up a vector takes
 * longer than making it. */
DLM_INLINE void weights_row(float *restrict u, float *restrict sums, const float *restrict sight, size_t n, size_t cols,
                            float cap, float shift)
{
    for (size_t j0 = 0; j0 < cols; j0 += LANES) {
#pragma omp simd
        for (size_t l = 0; l < LANES; l++) {
            size_t j = j0 + l;
            float p = dlm_exp_weight(cap * dlm_tanhf(u[j]) - shift);
            p = j < n && sight[j] > 0 ? p : 0;
            u[j] = p;
            sums[l] += p;
        }
    }
}

DLM_INLINE float largest_row(const float *restrict u, const float *restrict sight, size_t n, float most)
{
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++) {
        float v = sight[j] > 0 ? u[j] : -INFINITY;
        most = v > most ? v : most;
    }
    return most;
}

static size_t forward_floats(const struct shape *s)
{
    return 3 * s->np * s->hp + 2 * s->np + 2 * TILE * s->hp + TILE * TILE + TILE * LANES + TILE + 2 * s->hp;
}

/* One head of one sequence; pointers are to its first row. lse may be NULL. */
static void forward_task(float *work, void *o, float *lse, const void *q, const void *k, const void *v, size_t ldv,
                         const float *sink_k, const float *sink_v, const uint8_t *noisy, const struct shape *s)
{
    size_t area = s->np * s->hp;
    float *kt = work, *vr = kt + area, *rows = vr + area, *open = rows + area, *clean = open + s->np, *qt = clean + s->np;
    float *ot = qt + TILE * s->hp, *score = ot + TILE * s->hp, *sums = score + TILE * TILE, *shift = sums + TILE * LANES;
    float *sk = shift + TILE, *sv = sk + s->hp;
    rows_load(rows, k, s->d, s->N, s->np, s, 1.0f);
    transpose(kt, rows, s);
    rows_load(vr, v, ldv, s->N, s->np, s, 1.0f);
    visibility(open, clean, s->rule == DLM_ATTEND_PREFIX ? noisy : NULL, s);
    memset(sk, 0, 2 * s->hp * sizeof *sk);
    memcpy(sk, sink_k, s->h * sizeof *sk);
    memcpy(sv, sink_v, s->h * sizeof *sv);

    size_t element = dlm_dtype_size(s->act);
    for (size_t i0 = 0; i0 < s->n; i0 += TILE) {
        size_t many = s->n - i0 < TILE ? s->n - i0 : TILE, padded = dlm_round_up(many, DLM_TILE_STEP), at = s->at + i0;
        rows_load(qt, (const char *)q + i0 * s->d * element, s->d, many, padded, s, s->scale);
        for (size_t r = 0; r < many; r++)
            shift[r] = 0;
        if (s->cap > PLAIN_CAP) {
            for (size_t r = 0; r < many; r++)
                shift[r] = dot(qt + r * s->hp, sk, s->hp);
            for (size_t j0 = 0; j0 < s->N; j0 += TILE) {
                size_t cols = s->N - j0 < TILE ? dlm_round_up(s->N - j0, DLM_TILE_STEP) : TILE;
                if (tile_dark(at, many, j0, cols, noisy, s))
                    continue;
                dlm_tile_mul(score, TILE, qt, s->hp, 1, kt + j0 * s->hp, TILE, padded, cols, s->hp, false);
                for (size_t r = 0; r < many; r++) {
                    size_t n;
                    const float *sight = row_sight(at + r, j0, cols, open, clean, noisy, s, &n);
                    shift[r] = largest_row(score + r * TILE, sight, n, shift[r]);
                }
            }
            for (size_t r = 0; r < many; r++)
                shift[r] = s->cap * dlm_tanhf(shift[r]);
        }
        for (size_t r = 0; r < many; r++) {
            float p = dlm_exp_weight(s->cap * dlm_tanhf(dot(qt + r * s->hp, sk, s->hp)) - shift[r]);
            memset(sums + r * LANES, 0, LANES * sizeof *sums);
            sums[r * LANES] = p;
#pragma omp simd
            for (size_t e = 0; e < s->hp; e++)
                ot[r * s->hp + e] = p * sv[e];
        }
        memset(ot + many * s->hp, 0, (padded - many) * s->hp * sizeof *ot);
        for (size_t j0 = 0; j0 < s->N; j0 += TILE) {
            size_t cols = s->N - j0 < TILE ? dlm_round_up(s->N - j0, DLM_TILE_STEP) : TILE;
            if (tile_dark(at, many, j0, cols, noisy, s))
                continue;
            dlm_tile_mul(score, TILE, qt, s->hp, 1, kt + j0 * s->hp, TILE, padded, cols, s->hp, false);
            for (size_t r = 0; r < many; r++) {
                size_t n;
                const float *sight = row_sight(at + r, j0, cols, open, clean, noisy, s, &n);
                weights_row(score + r * TILE, sums + r * LANES, sight, n, cols, s->cap, shift[r]);
            }
            dlm_tile_mul(ot, s->hp, score, TILE, 1, vr + j0 * s->hp, s->hp, padded, s->hp, cols, true);
        }
        for (size_t r = 0; r < many; r++) {
            float total = 0;
            for (size_t l = 0; l < LANES; l++)
                total += sums[r * LANES + l];
            if (lse)
                lse[i0 + r] = dlm_logf(total) + shift[r];
            rows_store((char *)o + (i0 + r) * s->d * element, s->d, ot + r * s->hp, 1, s, 1.0f / total);
        }
    }
}

/* --- backward ---------------------------------------------------------------------------------------------------------- */

/* u becomes p, and dp = do·v becomes du. */
DLM_INLINE void gradient_row(float *restrict u, float *restrict dp, const float *restrict sight, size_t n, size_t cols, float cap,
                             float lse, float D)
{
#pragma omp simd
    for (size_t j = 0; j < cols; j++) {
        float th = dlm_tanhf(u[j]);
        float p = dlm_exp_weight(cap * th - lse);
        p = j < n && sight[j] > 0 ? p : 0;
        u[j] = p;
        dp[j] = p * (dp[j] - D) * (cap * (1.0f - th * th));
    }
}

static size_t backward_floats(const struct shape *s)
{
    return 6 * s->np * s->hp + 2 * s->np + 4 * TILE * s->hp + 2 * TILE * TILE + TILE + 2 * s->hp;
}

static void backward_task(float *work, void *dq, void *dk, void *dv, size_t lddv, float *dsink_k, float *dsink_v, const void *do_,
                          const void *o, const float *lse, const void *q, const void *k, const void *v, size_t ldv,
                          const float *sink_k, const float *sink_v, const uint8_t *noisy, const struct shape *s)
{
    size_t area = s->np * s->hp, tile = TILE * s->hp;
    float *kr = work, *kt = kr + area, *vr = kt + area, *vt = vr + area, *dks = vt + area, *dvs = dks + area;
    float *open = dvs + area, *clean = open + s->np, *qt = clean + s->np, *dot_ = qt + tile, *ot = dot_ + tile, *dqt = ot + tile;
    float *score = dqt + tile, *dscore = score + TILE * TILE, *D = dscore + TILE * TILE, *sk = D + TILE, *sv = sk + s->hp;
    rows_load(kr, k, s->d, s->N, s->np, s, 1.0f);
    transpose(kt, kr, s);
    rows_load(vr, v, ldv, s->N, s->np, s, 1.0f);
    transpose(vt, vr, s);
    memset(dks, 0, 2 * area * sizeof *dks);
    visibility(open, clean, s->rule == DLM_ATTEND_PREFIX ? noisy : NULL, s);
    memset(sk, 0, 2 * s->hp * sizeof *sk);
    memcpy(sk, sink_k, s->h * sizeof *sk);
    memcpy(sv, sink_v, s->h * sizeof *sv);
    memset(dsink_k, 0, s->h * sizeof *dsink_k);
    memset(dsink_v, 0, s->h * sizeof *dsink_v);

    size_t element = dlm_dtype_size(s->act);
    for (size_t i0 = 0; i0 < s->N; i0 += TILE) {
        size_t many = s->N - i0 < TILE ? s->N - i0 : TILE, padded = dlm_round_up(many, DLM_TILE_STEP);
        size_t at = i0 * s->d * element;
        rows_load(qt, (const char *)q + at, s->d, many, padded, s, s->scale);
        rows_load(dot_, (const char *)do_ + at, s->d, many, padded, s, 1.0f);
        rows_load(ot, (const char *)o + at, s->d, many, padded, s, 1.0f);
        for (size_t r = 0; r < padded; r++) {
            const float *qr = qt + r * s->hp, *dor = dot_ + r * s->hp;
            float *dqr = dqt + r * s->hp;
            if (r >= many) {
                memset(dqr, 0, s->hp * sizeof *dqr);
                memset(score + r * TILE, 0, TILE * sizeof *score);
                memset(dscore + r * TILE, 0, TILE * sizeof *dscore);
                continue;
            }
            D[r] = dot(dor, ot + r * s->hp, s->hp);
            float th = dlm_tanhf(dot(qr, sk, s->hp)), p = dlm_exp_weight(s->cap * th - lse[i0 + r]);
            float du = p * (dot(dor, sv, s->hp) - D[r]) * (s->cap * (1.0f - th * th));
#pragma omp simd
            for (size_t e = 0; e < s->hp; e++)
                dqr[e] = du * sk[e];
#pragma omp simd
            for (size_t e = 0; e < s->h; e++) {
                dsink_k[e] += du * qr[e];
                dsink_v[e] += p * dor[e];
            }
        }
        for (size_t j0 = 0; j0 < s->N; j0 += TILE) {
            size_t cols = s->N - j0 < TILE ? dlm_round_up(s->N - j0, DLM_TILE_STEP) : TILE;
            if (tile_dark(i0, many, j0, cols, noisy, s))
                continue;
            dlm_tile_mul(score, TILE, qt, s->hp, 1, kt + j0 * s->hp, TILE, padded, cols, s->hp, false);
            dlm_tile_mul(dscore, TILE, dot_, s->hp, 1, vt + j0 * s->hp, TILE, padded, cols, s->hp, false);
            for (size_t r = 0; r < many; r++) {
                size_t n;
                const float *sight = row_sight(i0 + r, j0, cols, open, clean, noisy, s, &n);
                gradient_row(score + r * TILE, dscore + r * TILE, sight, n, cols, s->cap, lse[i0 + r], D[r]);
            }
            dlm_tile_mul(dvs + j0 * s->hp, s->hp, score, 1, TILE, dot_, s->hp, cols, s->hp, many, true);
            dlm_tile_mul(dks + j0 * s->hp, s->hp, dscore, 1, TILE, qt, s->hp, cols, s->hp, many, true);
            dlm_tile_mul(dqt, s->hp, dscore, TILE, 1, kr + j0 * s->hp, s->hp, padded, s->hp, cols, true);
        }
        rows_store((char *)dq + at, s->d, dqt, many, s, s->scale);
    }
    rows_store(dk, s->d, dks, s->N, s, 1.0f);
    rows_store(dv, lddv, dvs, s->N, s, 1.0f);
}

/* --- over all heads ---------------------------------------------------------------------------------------------------- */

static struct shape shape_of(size_t N, size_t H, size_t h, float cap, enum dlm_attend rule, enum dlm_dtype act)
{
    struct shape s = {.N = N,
                      .n = N,
                      .d = H * h,
                      .h = h,
                      .np = dlm_round_up(N, TILE),
                      .hp = dlm_round_up(h, DLM_TILE_STEP),
                      .scale = 1.0f / (sqrtf((float)h) * cap),
                      .cap = cap,
                      .rule = rule,
                      .act = act};
    return s;
}

void dlm_cpu_attention(struct dlm_device *dev, dlm_ptr o_, dlm_ptr lse_, dlm_ptr q_, dlm_ptr k_, dlm_ptr v_, size_t ldv,
                       dlm_ptr sink_k_, dlm_ptr sink_v_, dlm_ptr noisy_, enum dlm_attend rule, size_t B, size_t N, size_t H,
                       size_t h, float cap, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    struct shape s = shape_of(N, H, h, cap, rule, act);
    size_t each = dlm_round_up(forward_floats(&s), 16);
    float *work = dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work);
    if (!work)
        return;
    void *o = dlm_at(o_);
    float *lse = dlm_at(lse_);
    const void *q = dlm_at(q_), *k = dlm_at(k_), *v = dlm_at(v_);
    const float *sink_k = dlm_at(sink_k_), *sink_v = dlm_at(sink_v_);
    const uint8_t *noisy = dlm_at(noisy_);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (size_t task = 0; task < B * H; task++) {
        size_t b = task / H, head = task % H, at = b * N * s.d + head * h;
        forward_task(work + (size_t)omp_get_thread_num() * each, dlm_act_at(o, at, act), lse + task * N, dlm_act_at(q, at, act),
                     dlm_act_at(k, at, act), dlm_act_at(v, b * N * ldv + head * h, act), ldv, sink_k + head * h,
                     sink_v + head * h, rule == DLM_ATTEND_PREFIX ? noisy + b * N : NULL, &s);
    }
}

void dlm_cpu_attention_cached(struct dlm_device *dev, dlm_ptr o_, dlm_ptr keys_, dlm_ptr values_, dlm_ptr q_, dlm_ptr k_, dlm_ptr v_,
                              size_t ldv, dlm_ptr sink_k_, dlm_ptr sink_v_, enum dlm_attend rule, size_t at, size_t n, size_t H,
                              size_t h, float cap, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    struct shape s = shape_of(at + n, H, h, cap, rule, act);
    s.n = n;
    s.at = at;
    size_t each = dlm_round_up(forward_floats(&s), 16), bytes = s.d * dlm_dtype_size(act);
    float *work = dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work);
    if (!work)
        return;
    void *o = dlm_at(o_), *keys = dlm_at(keys_), *values = dlm_at(values_);
    const void *q = dlm_at(q_), *k = dlm_at(k_), *v = dlm_at(v_);
    const float *sink_k = dlm_at(sink_k_), *sink_v = dlm_at(sink_v_);
    memcpy((char *)keys + at * bytes, k, n * bytes);
    for (size_t i = 0; i < n; i++)
        memcpy((char *)values + (at + i) * bytes, dlm_act_at(v, i * ldv, act), bytes);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (size_t head = 0; head < H; head++)
        forward_task(work + (size_t)omp_get_thread_num() * each, dlm_act_at(o, head * h, act), NULL, dlm_act_at(q, head * h, act),
                     dlm_act_at(keys, head * h, act), dlm_act_at(values, head * h, act), s.d, sink_k + head * h, sink_v + head * h,
                     NULL, &s);
}

void dlm_cpu_attention_backward(struct dlm_device *dev, dlm_ptr dq_, dlm_ptr dk_, dlm_ptr dv_, size_t lddv, dlm_ptr dsink_k_,
                                dlm_ptr dsink_v_, dlm_ptr do__, dlm_ptr o_, dlm_ptr lse_, dlm_ptr q_, dlm_ptr k_, dlm_ptr v_,
                                size_t ldv, dlm_ptr sink_k_, dlm_ptr sink_v_, dlm_ptr noisy_, enum dlm_attend rule, size_t B,
                                size_t N, size_t H, size_t h, float cap, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    struct shape s = shape_of(N, H, h, cap, rule, act);
    size_t each = dlm_round_up(backward_floats(&s), 16), sinks = dlm_round_up(2 * h, 16);
    float *work = dlm_device_scratch(dev, ((size_t)dev->threads * each + B * H * sinks) * sizeof *work);
    if (!work)
        return;
    float *sink = work + (size_t)dev->threads * each;
    void *dq = dlm_at(dq_), *dk = dlm_at(dk_), *dv = dlm_at(dv_);
    const void *do_ = dlm_at(do__), *o = dlm_at(o_), *q = dlm_at(q_), *k = dlm_at(k_), *v = dlm_at(v_);
    const float *lse = dlm_at(lse_), *sink_k = dlm_at(sink_k_), *sink_v = dlm_at(sink_v_);
    const uint8_t *noisy = dlm_at(noisy_);
#pragma omp parallel for num_threads(dev->threads) schedule(dynamic, 1)
    for (size_t task = 0; task < B * H; task++) {
        size_t b = task / H, head = task % H, at = b * N * s.d + head * h;
        backward_task(work + (size_t)omp_get_thread_num() * each, dlm_act_at(dq, at, act), dlm_act_at(dk, at, act),
                      dlm_act_at(dv, b * N * lddv + head * h, act), lddv, sink + task * sinks, sink + task * sinks + h,
                      dlm_act_at(do_, at, act), dlm_act_at(o, at, act), lse + task * N, dlm_act_at(q, at, act),
                      dlm_act_at(k, at, act), dlm_act_at(v, b * N * ldv + head * h, act), ldv, sink_k + head * h,
                      sink_v + head * h, rule == DLM_ATTEND_PREFIX ? noisy + b * N : NULL, &s);
    }
    float *dsink_k = dlm_at(dsink_k_), *dsink_v = dlm_at(dsink_v_);
    for (size_t task = 0; task < B * H; task++)
        for (size_t e = 0; e < h; e++) {
            dsink_k[task % H * h + e] += sink[task * sinks + e];
            dsink_v[task % H * h + e] += sink[task * sinks + h + e];
        }
}
