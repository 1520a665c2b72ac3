/* Scores of single texts, method.md §8. Not held-out data (run/evaluate.c), whose sequences are whole; reading lines is run/item.c.
 *
 * A text that is known up to a point is computed once: its keys and values depend on clean tokens alone, so levels only compute what comes after. That
 * pays where enough is known (a text with examples before it), and is the same function either way.
 */
#include "run/score.h"

#include "base/rng.h"
#include "base/stop.h"
#include "diffuse/example.h"

#include <xxhash.h>

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CALL_TOKENS 4096 /* of a call, about */
#define HEAD_ROWS 64
#define TARGET_BEGINS 16
/* Known tokens before the scored ones are computed once where they are at least this share of a call. */
#define CACHE_SHARE 8

struct level {
    double share;   /* its place in [0, 1), of which each stratum has an equal part */
    double log_snr, weight;
    uint64_t key; /* of the corruption */
    double nats;
};

struct dlm_scorer {
    struct dlm_backend b;
    struct dlm_network *m;
    struct dlm_score_plan p;
    size_t L, C, V;
    uint32_t mask, first; /* mask id; the id in front of an autoregressive input */
    bool causal;
    struct dlm_cache *cache;     /* (C, L); NULL when autoregressive */
    uint32_t *z;                 /* (C, L) input */
    uint8_t *noisy;              /* (C, L) */
    uint32_t *at, *target, *zs;  /* (C·L) scored rows */
    struct dlm_row *row;
    float *terms;                /* (C·L, DLM_TERMS) */
    size_t *from;                /* (C) positions that cached calls start at */
    struct level *level;         /* (room) the grid, in order of t */
    size_t room;
    dlm_ptr d_ids, d_noisy;
};

size_t dlm_score_batch(size_t length)
{
    size_t n = CALL_TOKENS / length;
    return n < 1 ? 1 : n;
}

size_t dlm_score_head_rows(void)
{
    return HEAD_ROWS;
}

void dlm_scorer_free(struct dlm_scorer *s)
{
    if (!s)
        return;
    dlm_cache_free(s->cache);
    void *host[] = {s->z, s->noisy, s->at, s->target, s->zs, s->row, s->terms, s->from, s->level};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    if (s->d_ids.at)
        s->b.k->free(s->b.dev, s->d_ids);
    if (s->d_noisy.at)
        s->b.k->free(s->b.dev, s->d_noisy);
    free(s);
}

int dlm_scorer_new(struct dlm_scorer **out, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_score_plan *p, struct dlm_error *err)
{
    const struct dlm_config *c = dlm_network_config(m);
    struct dlm_scorer *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a scorer");
    *s = (struct dlm_scorer){.b = *b, .m = m, .p = *p, .L = p->length, .C = dlm_score_batch(p->length), .V = c->vocab_size, .mask = c->mask, .causal = c->causal};
    s->first = c->begin < s->V ? c->begin : c->end;
    if (s->causal && s->first >= s->V) {
        free(s);
        return dlm_fail(err, DLM_EDATA, "the autoregressive model has neither a begin id nor an end id to start from");
    }
    const size_t T = s->C * s->L;
    s->z = calloc(T, sizeof *s->z);
    s->noisy = calloc(T, 1);
    s->at = calloc(T, sizeof *s->at);
    s->target = calloc(T, sizeof *s->target);
    s->zs = calloc(T, sizeof *s->zs);
    s->row = calloc(T, sizeof *s->row);
    s->terms = calloc(T, DLM_TERMS * sizeof *s->terms);
    s->from = calloc(s->C, sizeof *s->from);
    s->d_ids = b->k->alloc(b->dev, T * sizeof *s->z);
    s->d_noisy = b->k->alloc(b->dev, T);
    int rc = s->z && s->noisy && s->at && s->target && s->zs && s->row && s->terms && s->from && s->d_ids.at && s->d_noisy.at
                 ? 0
                 : dlm_fail(err, DLM_ENOMEM, "no memory to score %zu sequences of %zu tokens at a time", s->C, s->L);
    if (!rc && !s->causal)
        rc = dlm_cache_new(&s->cache, m, s->C, s->L, err);
    if (rc)
        dlm_scorer_free(s);
    else
        *out = s;
    return rc;
}

uint64_t dlm_piece_hash(const struct dlm_piece *piece)
{
    const uint64_t shape[] = {piece->before, piece->n, piece->after};
    return XXH64(piece->ids, piece->n * sizeof *piece->ids, XXH64(shape, sizeof shape, 0));
}

double dlm_scorer_log_snr(const struct dlm_scorer *s, uint32_t level)
{
    return s->level[level].log_snr;
}

static bool is_scored(const struct dlm_piece *piece, size_t p)
{
    return p >= piece->before && p < piece->n - piece->after;
}

/* --- levels ------------------------------------------------------------------------------------------------------------------ */

/* Level i of K, of the round that `hash` names. */
static struct level level_of(const struct dlm_scorer *s, uint64_t hash, uint32_t i, uint32_t K)
{
    const uint64_t number = i;
    const double t0 = dlm_example_t_min(), range = dlm_example_t_max() - t0;
    struct level l = {.key = XXH64(&number, sizeof number, hash), .weight = 1};
    if (s->p.release) {
        const double alpha = 1e-4 + (0.9999 - 1e-4) * i / K, log_snr = log(alpha) - log1p(-alpha);
        l.log_snr = fmin(fmax(log_snr, -DLM_LOG_SNR_MAX), DLM_LOG_SNR_MAX);
        return l;
    }
    l.log_snr = dlm_example_eval_log_snr(s->p.seed, hash, i, K);
    l.share = (dlm_noise_alpha(-l.log_snr) - t0) / range;
    if (s->p.cosine) {
        const double sine = sin(M_PI / 2 * l.share);
        l.log_snr = dlm_example_log_snr(t0 + range * sine * sine);
        l.weight = M_PI / 2 * sin(M_PI * l.share);
    }
    return l;
}

/* What stands at a position that keeps its id with probability keep/2³², by the words of the corrupt kernel. */
static uint32_t draw(const struct dlm_scorer *s, uint64_t key, size_t position, uint64_t keep, uint64_t uniform, uint32_t x)
{
    const dlm_philox_t w = dlm_philox_at(s->p.seed, key, (uint32_t)position, DLM_RNG_EVAL_CORRUPT);
    const uint32_t u = (uint32_t)((uint64_t)w.v[2] * (s->V - 1) >> 32);
    return w.v[0] < keep ? x : w.v[1] < uniform ? u + (u >= s->mask) : s->mask;
}

/* Positions lo … L-1 of one level into z, and its rows, which stand from row0 on, behind the n that are there. Returns how many there are now. */
static size_t corrupt(struct dlm_scorer *s, const struct dlm_piece *piece, const struct level *l, size_t lo, uint32_t *z, size_t row0, size_t n)
{
    const struct dlm_noise *noise = &s->p.noise;
    uint64_t keep, uniform, unused, prior;
    size_t kept = 0;
    dlm_noise_thresholds(noise, l->log_snr, &keep, &uniform);
    dlm_noise_thresholds(noise, -DLM_LOG_SNR_MAX, &unused, &prior);
    for (size_t p = lo; p < s->L; p++) {
        const bool scored = is_scored(piece, p);
        z[p - lo] = scored ? draw(s, l->key, p, keep, uniform, piece->ids[p]) : p < piece->n ? piece->ids[p] : draw(s, l->key, p, 0, prior, 0);
        kept += scored && z[p - lo] == piece->ids[p];
    }
    double log_snr = l->log_snr; /* that the loss takes it for */
    if (s->p.release) {
        const double alpha = (double)kept / (double)(piece->n - piece->before - piece->after);
        log_snr = fmin(fmax(log(alpha) - log1p(-alpha), -DLM_LOG_SNR_MAX), DLM_LOG_SNR_MAX);
    }
    for (size_t p = piece->before; p < piece->n - piece->after; p++) {
        const uint32_t x = piece->ids[p], here = z[p - lo];
        const struct dlm_token_noise t = dlm_noise_token(noise, log_snr, x, here, s->mask, (uint32_t)s->V);
        if (t.elbo_weight == 0)
            continue;
        s->at[n] = (uint32_t)(row0 + p - lo);
        s->target[n] = x;
        s->zs[n] = here;
        s->row[n++] = (struct dlm_row){(float)t.alpha, (float)t.c, (float)t.weight, (float)t.elbo_weight};
    }
    return n;
}

/* One call: B levels. The known prefix is in the cache when lo > 0. */
static int score_call(struct dlm_scorer *s, const struct dlm_piece *piece, size_t lo, struct level *level, size_t B, struct dlm_error *err)
{
    const struct dlm_kernels *k = s->b.k;
    const size_t width = s->L - lo;
    size_t n = 0;
    for (size_t b = 0; b < B; b++) {
        n = corrupt(s, piece, &level[b], lo, s->z + b * width, b * width, n);
        level[b].nats = 0;
    }
    if (!n) /* nothing that weighs: masked noise has masked nothing */
        return 0;
    k->upload(s->b.dev, s->d_ids, s->z, B * width * sizeof *s->z);
    if (lo)
        dlm_network_forward_cached(s->m, s->cache, 0, s->d_ids, s->from, DLM_ATTEND_FULL, B, width);
    else
        dlm_network_forward_of(s->m, s->d_ids, s->d_noisy, DLM_ATTEND_PREFIX, B, width);
    const struct dlm_scored scored = {.n = n, .at = s->at, .target = s->target, .z = s->zs, .row = s->row};
    int rc = dlm_network_diffusion_loss(s->m, &scored, false, s->terms, err);
    for (size_t r = 0; !rc && r < n; r++)
        level[s->at[r] / width].nats += s->terms[r * DLM_TERMS + DLM_TERM_ELBO];
    for (size_t b = 0; b < B; b++)
        level[b].nats *= level[b].weight;
    return rc;
}

/* Keys and values of the known prefix, for as many sequences as a call holds. Returns where calls begin. */
static size_t prepare(struct dlm_scorer *s, const struct dlm_piece *piece, size_t most, struct dlm_score *out)
{
    const struct dlm_kernels *k = s->b.k;
    const bool cached = !piece->after && piece->before * CACHE_SHARE >= s->L;
    const size_t lo = cached ? piece->before : 0, B = most < s->C ? most : s->C;
    if (cached) {
        memset(s->from, 0, B * sizeof *s->from);
        for (size_t b = 0; b < B; b++)
            memcpy(s->z + b * lo, piece->ids, lo * sizeof *s->z);
        k->upload(s->b.dev, s->d_ids, s->z, B * lo * sizeof *s->z);
        dlm_network_forward_cached(s->m, s->cache, 0, s->d_ids, s->from, DLM_ATTEND_FULL, B, lo);
        out->draws += B;
        for (size_t b = 0; b < B; b++)
            s->from[b] = lo;
    } else {
        for (size_t i = 0; i < s->C * s->L; i++) {
            const size_t p = i % s->L;
            s->noisy[i] = is_scored(piece, p) || p >= piece->n;
        }
        k->upload(s->b.dev, s->d_noisy, s->noisy, s->C * s->L);
    }
    return lo;
}

static int score_levels(struct dlm_scorer *s, const struct dlm_piece *piece, size_t lo, struct level *level, size_t n, struct dlm_score *out,
                        struct dlm_error *err)
{
    for (size_t first = 0; first < n; first += s->C) {
        const size_t B = n - first < s->C ? n - first : s->C;
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        int rc = score_call(s, piece, lo, level + first, B, err);
        if (rc)
            return rc;
        out->draws += B;
    }
    return 0;
}

/* Room for n levels. */
static int reserve(struct dlm_scorer *s, size_t n, struct dlm_error *err)
{
    if (n <= s->room)
        return 0;
    struct level *at = reallocarray(s->level, n, sizeof *at);
    if (!at)
        return dlm_fail(err, DLM_ENOMEM, "no memory for %zu levels", n);
    s->level = at;
    s->room = n;
    return 0;
}

/* From K levels to 2K: each stratum is halved, and the half without a draw gets one. The new draws are computed behind the old ones, then put in order. */
static int refine(struct dlm_scorer *s, const struct dlm_piece *piece, uint64_t hash, size_t lo, uint32_t K, struct dlm_score *out, struct dlm_error *err)
{
    const uint64_t round[] = {hash, K};
    const uint64_t named = XXH64(round, sizeof round, 1);
    int rc = reserve(s, 4 * (size_t)K, err);
    if (rc)
        return rc;
    struct level *old = s->level, *fresh = s->level + K, *both = s->level + 2 * (size_t)K;
    for (uint32_t j = 0; j < K; j++) {
        const bool upper = old[j].share * K - j >= 0.5;
        fresh[j] = level_of(s, named, 2 * j + !upper, 2 * K);
    }
    rc = score_levels(s, piece, lo, fresh, K, out, err);
    if (rc)
        return rc;
    for (uint32_t j = 0; j < K; j++) {
        const bool swap = fresh[j].share < old[j].share;
        both[2 * j] = swap ? fresh[j] : old[j];
        both[2 * j + 1] = swap ? old[j] : fresh[j];
    }
    memcpy(s->level, both, 2 * (size_t)K * sizeof *both);
    return 0;
}

/* Mean over the levels, and its standard error. Neighbouring strata differ little in mean, so the square of the difference of their draws stands for the sum
 * of their variances: in pairs, for the first strata (t near 0) vary most, and overlapping differences would count them half. */
static void sum_up(const struct level *level, uint32_t K, struct dlm_score *out)
{
    double sum = 0, squares = 0;
    for (uint32_t j = 0; j < K; j++) {
        const double off = j ? level[j].nats - level[j - 1].nats : 0;
        sum += level[j].nats;
        if (j % 2 || j + 1 == K) /* an odd last one is paired with the one before it once more */
            squares += off * off;
    }
    out->nats = sum / K;
    out->se = K > 1 ? sqrt(squares) / K : NAN;
    out->levels = K;
}

static int score_diffusion(struct dlm_scorer *s, const struct dlm_piece *piece, struct dlm_score *out, struct dlm_error *err)
{
    const uint64_t hash = dlm_piece_hash(piece);
    uint32_t K = s->p.target_se > 0 && s->p.levels > TARGET_BEGINS ? TARGET_BEGINS : s->p.levels;
    int rc = reserve(s, K, err);
    if (rc)
        return rc;
    const size_t lo = prepare(s, piece, s->p.target_se > 0 ? s->p.levels : K, out);
    for (uint32_t j = 0; j < K; j++)
        s->level[j] = level_of(s, hash, j, K);
    rc = score_levels(s, piece, lo, s->level, K, out, err);
    if (rc)
        return rc;
    sum_up(s->level, K, out);
    while (s->p.target_se > 0 && !(out->se <= s->p.target_se) && K <= s->p.levels / 2) {
        if ((rc = refine(s, piece, hash, lo, K, out, err)))
            return rc;
        K *= 2;
        sum_up(s->level, K, out);
    }
    return 0;
}

static int score_autoregressive(struct dlm_scorer *s, const struct dlm_piece *piece, struct dlm_score *out, struct dlm_error *err)
{
    const size_t n = piece->n - piece->after, scored_n = n - piece->before;
    for (size_t p = 0; p < n; p++)
        s->z[p] = p ? piece->ids[p - 1] : s->first;
    for (size_t i = 0; i < scored_n; i++) {
        s->at[i] = (uint32_t)(piece->before + i);
        s->target[i] = piece->ids[piece->before + i];
    }
    s->b.k->upload(s->b.dev, s->d_ids, s->z, n * sizeof *s->z);
    dlm_network_forward_of(s->m, s->d_ids, (dlm_ptr){0}, DLM_ATTEND_CAUSAL, 1, n);
    const struct dlm_scored scored = {.n = scored_n, .at = s->at, .target = s->target};
    int rc = dlm_network_cross_entropy(s->m, &scored, false, s->terms, err);
    for (size_t i = 0; !rc && i < scored_n; i++)
        out->nats += s->terms[i];
    out->levels = 1;
    out->draws = 1;
    return rc;
}

int dlm_scorer_run(struct dlm_scorer *s, const struct dlm_piece *piece, struct dlm_score *out, struct dlm_error *err)
{
    *out = (struct dlm_score){0};
    assert(piece->n <= s->L && piece->before + piece->after < piece->n);
    for (size_t p = 0; p < piece->n; p++)
        if (piece->ids[p] >= s->V || piece->ids[p] == s->mask)
            return dlm_fail(err, DLM_EDATA, "id %u of the text is %s", piece->ids[p], piece->ids[p] == s->mask ? "the mask" : "outside the model's vocabulary");
    int rc = s->causal ? score_autoregressive(s, piece, out, err) : score_diffusion(s, piece, out, err);
    if (!rc && !isfinite(out->nats))
        rc = dlm_fail(err, DLM_EDIVERGED, "the score is not finite: the model has diverged");
    return rc;
}
