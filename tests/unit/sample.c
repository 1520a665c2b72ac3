/* The sampling loops on tiny random networks: histograms of samples against the reverse process enumerated exactly, and what
 * must not matter.
 *
 * Enumeration: N positions over V ids are Vᴺ states. The network's shares are tabled for every state, a step's transition is
 * the product of the positions' reverse steps, and T steps carry the prior's distribution to that of the finished texts. χ² is
 * taken at fixed seeds against a quantile that a right program passes all but once in 10⁵. */
#include "chances.h"
#include "run/device.h"
#include "run/sample.h"
#include "tap.h"

#include "base/rng.h"

#include <string.h>

enum { V = 5, N = 3, STATES = V * V * V, MASK = 3, BEGIN = 0, END = 1 };

static struct dlm_backend backend;

/* A network with random weights, large enough to have opinions. */
static struct dlm_network *network(size_t length, bool causal, uint64_t seed)
{
    struct dlm_error err = {{0}};
    struct dlm_config c;
    struct dlm_network *m;
    dlm_config_default(&c, 16, 2, 2, 32, V, length);
    c.mask = MASK;
    c.begin = BEGIN;
    c.end = END;
    c.pad = 2;
    c.causal = causal;
    struct dlm_network_plan p = {.batch = dlm_sample_chunk(length), .seq_len = length, .act = DLM_F32};
    if (dlm_network_new(&m, &backend, &c, &p, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    const struct dlm_layout *l = dlm_network_layout(m);
    float *w = calloc(l->total, sizeof *w);
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 77, DLM_RNG_TEST);
    for (size_t i = 0; w && i < l->n; i++)
        for (size_t k = 0; k < l->tensors[i].n; k++) {
            bool wide = l->tensors[i].kind == DLM_TENSOR_EMBED || l->tensors[i].bulk;
            w[l->tensors[i].offset + k] = (float)(dlm_rng_normal(&r) * (l->tensors[i].kind == DLM_TENSOR_HEAD ? 0.012 : wide ? 0.5 : 0.1));
        }
    backend.k->upload(backend.dev, dlm_network_weights(m), w, l->total * sizeof *w);
    dlm_network_refresh(m);
    free(w);
    return m;
}

static struct dlm_noise noise(const char *text)
{
    struct dlm_error err = {{0}};
    struct dlm_noise n;
    if (dlm_noise_parse(&n, text, &err))
        exit(1);
    return n;
}

static struct dlm_sampler *sampler(struct dlm_network *m, const struct dlm_sample_plan *p)
{
    struct dlm_error err = {{0}};
    struct dlm_sampler *s;
    if (dlm_sampler_new(&s, &backend, m, p, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return s;
}

/* Texts of items first … first + n - 1 in groups of at most `at_once`. Every item has the same prompt length. */
static struct dlm_sample_stats texts(struct dlm_sampler *s, size_t length, uint64_t first, size_t n, size_t at_once, uint32_t *ids, const size_t *prompt)
{
    struct dlm_sample_stats stats = {0};
    size_t chunk = dlm_sample_chunk(length);
    static uint8_t given[1 << 16];
    for (uint64_t k = first, some; k < first + n; k += some) {
        struct dlm_error err = {{0}};
        some = chunk - k % chunk < at_once ? chunk - k % chunk : at_once;
        some = some < first + n - k ? some : first + n - k;
        for (size_t i = 0; i < some * length; i++) {
            given[i] = prompt && i % length < prompt[k - first + i / length];
            if (!given[i])
                ids[(k - first) * length + i] = DLM_SAMPLE_PRIOR;
        }
        if (dlm_sampler_run(s, k, some, ids + (k - first) * length, given, NULL, &stats, NULL, &err)) {
            printf("Bail out! %s\n", err.msg);
            exit(1);
        }
    }
    return stats;
}

/* --- enumeration ------------------------------------------------------------------------------------------------------------ */

static void ids_of(int state, uint32_t z[N])
{
    for (int i = 0; i < N; i++, state /= V)
        z[i] = (uint32_t)(state % V);
}

static int state_of(const uint32_t z[N])
{
    return (int)(z[0] + V * z[1] + V * V * z[2]);
}

static float table[STATES][N][V]; /* logits */

/* s (V): what the logits give under c. */
static void chosen(double *s, const struct dlm_choose *c, const float *logits)
{
    double kept[V];
    softmax_of(s, logits, c->temperature ? c->temperature : 1, V, MASK);
    cut_of(s, c->temperature ? c->top_k : 1, c->top_p, V, MASK, kept);
}

/* The network of the first `length` positions, of which `noisy` says which are. */
static void tabulate(struct dlm_network *m, bool causal, const uint8_t *noisy, size_t length)
{
    size_t C = dlm_sample_chunk(N);
    uint32_t *z = calloc(C * length, sizeof *z), *at = calloc(C * length, sizeof *at);
    uint8_t *flags = calloc(C * length, 1);
    float *logits = calloc(C * length * V, sizeof *logits);
    if (!z || !at || !flags || !logits)
        exit(1);
    dlm_ptr d_z = backend.k->alloc(backend.dev, C * length * 4), d_noisy = backend.k->alloc(backend.dev, C * length);
    for (size_t i = 0; i < C * length; i++) {
        flags[i] = noisy[i % length];
        at[i] = (uint32_t)i;
    }
    backend.k->upload(backend.dev, d_noisy, flags, C * length);
    for (size_t first = 0; first < STATES; first += C) {
        struct dlm_error err = {{0}};
        for (size_t b = 0; b < C; b++) {
            uint32_t ids[N];
            ids_of((int)((first + b) % STATES), ids);
            for (size_t i = 0; i < length; i++)
                z[b * length + i] = causal ? (i ? ids[i - 1] : BEGIN) : ids[i];
        }
        backend.k->upload(backend.dev, d_z, z, C * length * 4);
        dlm_network_forward_of(m, d_z, causal ? (dlm_ptr){0} : d_noisy, causal ? DLM_ATTEND_CAUSAL : DLM_ATTEND_PREFIX, C, length);
        if (dlm_network_logits(m, at, C * length, logits, &err))
            exit(1);
        for (size_t b = 0; b < C && first + b < STATES; b++)
            memcpy(table[first + b], logits + b * length * V, length * sizeof table[0][0]);
    }
    backend.k->free(backend.dev, d_z);
    backend.k->free(backend.dev, d_noisy);
    free(z);
    free(at);
    free(flags);
    free(logits);
}

static void prior(const struct dlm_noise *n, double *p)
{
    for (int s = 0; s < STATES; s++) {
        uint32_t z[N];
        ids_of(s, z);
        p[s] = 1;
        for (int i = 0; i < N; i++)
            p[s] *= dlm_noise_pi(n, -9, z[i] == MASK, V);
    }
}

/* `steps` steps on the positions in [lo, hi) that are noisy, by the table. */
static void carry(const struct dlm_sample_plan *plan, uint32_t steps, const uint8_t *noisy, size_t lo, size_t hi, double *now)
{
    static double next[STATES], step[N][V], shares[V];
    struct dlm_sample_plan p = *plan;
    p.steps = steps;
    for (uint32_t j = 1; j <= steps; j++) {
        memset(next, 0, sizeof next);
        for (int s = 0; s < STATES; s++) {
            uint32_t z[N], to[N];
            if (now[s] == 0)
                continue;
            ids_of(s, z);
            for (size_t i = 0; i < N; i++) {
                memset(step[i], 0, sizeof step[i]);
                step[i][z[i]] = 1;
                if (i < lo || i >= hi || !noisy[i])
                    continue;
                chosen(shares, &p.choose, table[s][i]);
                reverse_of(step[i], &p.noise, dlm_sample_log_snr(&p, j - 1), dlm_sample_log_snr(&p, j), z[i], shares, V, MASK);
            }
            for (int t = 0; t < STATES; t++) {
                ids_of(t, to);
                next[t] += now[s] * step[0][to[0]] * step[1][to[1]] * step[2][to[2]];
            }
        }
        memcpy(now, next, sizeof next);
    }
}

static const uint8_t all_noisy[N] = {1, 1, 1};

static void enumerate_ancestral(const struct dlm_sample_plan *p, double *now)
{
    prior(&p->noise, now);
    carry(p, p->steps, all_noisy, 0, N, now);
}

/* Block by block behind what is clean; a block with the end id is followed by ends. Texts begin with `ids` where they are given. */
static void enumerate_blocks(struct dlm_network *m, const struct dlm_sample_plan *p, size_t prefix, const uint32_t *ids, double *now)
{
    static double shut[STATES], open[STATES];
    memset(shut, 0, sizeof shut);
    for (int s = 0; s < STATES; s++) { /* the prior where nothing is given */
        uint32_t z[N];
        ids_of(s, z);
        now[s] = 1;
        for (size_t i = 0; i < N; i++)
            now[s] *= i < prefix ? z[i] == ids[i] : dlm_noise_pi(&p->noise, -9, z[i] == MASK, V);
    }
    for (size_t lo = prefix; lo < N; lo += p->block) {
        size_t hi = lo + p->block < N ? lo + p->block : N;
        uint8_t noisy[N];
        for (size_t i = 0; i < N; i++)
            noisy[i] = i >= lo;
        tabulate(m, false, noisy, hi + p->ahead < N ? hi + p->ahead : N);
        carry(p, (uint32_t)((p->steps * (hi - lo) + N - prefix - 1) / (N - prefix)), noisy, lo, hi, now);
        memset(open, 0, sizeof open);
        for (int s = 0; s < STATES; s++) {
            uint32_t z[N];
            bool ends = false;
            ids_of(s, z);
            for (size_t i = lo; i < hi; i++)
                ends = ends || z[i] == END;
            for (size_t i = hi; i < N && ends; i++)
                z[i] = END;
            *(ends ? &shut[state_of(z)] : &open[s]) += now[s];
        }
        memcpy(now, open, sizeof open);
    }
    for (int s = 0; s < STATES; s++)
        now[s] += shut[s];
}

static double confidence(const struct dlm_noise *n, uint32_t z, const double *shares, uint32_t *best)
{
    *best = likeliest(shares, V, MASK);
    return dlm_reverse_prior(n, z == MASK, V) * (shares[*best] - shares[z]);
}

/* One step of adaptive sampling on all positions: the surest ones change to what is drawn, or in the closing step what is still masked. */
static void surest(const struct dlm_sample_plan *p, bool closing, double *now)
{
    static double next[STATES];
    memset(next, 0, sizeof next);
    for (int s = 0; s < STATES; s++) {
        double score[N], step[N][V] = {{0}};
        uint32_t z[N], to[N], best;
        ids_of(s, z);
        for (int i = 0; i < N; i++) {
            softmax_of(step[i], table[s][i], 1, V, MASK);
            score[i] = closing ? z[i] == MASK : confidence(&p->noise, z[i], step[i], &best);
            memset(step[i], 0, sizeof step[i]);
            step[i][z[i]] = 1;
        }
        for (size_t k = closing ? N : (N + p->steps - 1) / p->steps; k > 0; k--) {
            int top = 0;
            for (int i = 1; i < N; i++)
                top = score[i] > score[top] ? i : top;
            if (score[top] > 0)
                chosen(step[top], &p->choose, table[s][top]);
            score[top] = 0;
        }
        for (int t = 0; t < STATES && now[s] > 0; t++) {
            ids_of(t, to);
            next[t] += now[s] * step[0][to[0]] * step[1][to[1]] * step[2][to[2]];
        }
    }
    memcpy(now, next, sizeof next);
}

static void enumerate_adaptive(const struct dlm_sample_plan *p, double *now)
{
    prior(&p->noise, now);
    for (uint32_t j = 1; j <= p->steps + 1; j++)
        surest(p, j > p->steps, now);
}

static void enumerate_autoregressive(const struct dlm_sample_plan *p, double *out)
{
    double s[V];
    for (int t = 0; t < STATES; t++) {
        uint32_t z[N];
        bool ended = false;
        ids_of(t, z);
        out[t] = 1;
        for (int i = 0; i < N; i++) {
            chosen(s, &p->choose, table[t][i]);
            out[t] *= ended ? z[i] == END : s[z[i]];
            ended = ended || z[i] == END;
        }
    }
}

/* χ² of `count` draws against p, cells of under 5 pooled; below its 1 - 10⁻⁵ quantile (Wilson and Hilferty)? */
static void compare(const uint32_t *ids, size_t count, const double *p, const char *what)
{
    size_t seen[STATES] = {0}, cells = 0, pool_seen = 0;
    double chi = 0, pool = 0, sum = 0, entropy = 0;
    for (size_t k = 0; k < count; k++)
        seen[state_of(ids + k * N)]++;
    for (int s = 0; s < STATES; s++) {
        double want = p[s] * count;
        sum += p[s];
        entropy -= p[s] > 0 ? p[s] * log2(p[s]) : 0;
        if (want < 5) {
            pool += want;
            pool_seen += seen[s];
            continue;
        }
        chi += (seen[s] - want) * (seen[s] - want) / want;
        cells++;
    }
    if (pool > 0.5) {
        chi += (pool_seen - pool) * (pool_seen - pool) / pool;
        cells++;
    } else if (pool_seen > 8) {
        chi = INFINITY;
    }
    double k = cells > 1 ? cells - 1.0 : 1, limit = k * pow(1 - 2 / (9 * k) + 4.27 * sqrt(2 / (9 * k)), 3);
    tap_ok(chi <= limit && fabs(sum - 1) < 1e-9, "%s: χ² %.1f of %zu cells (limit %.1f; entropy %.2f bits)", what, chi, cells, limit, entropy);
}

static bool any_mask(const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == MASK || ids[i] >= V)
            return true;
    return false;
}

static void histograms(uint64_t seed)
{
    static const struct {
        const char *noise, *what;
        enum dlm_sample_order order;
        uint32_t steps;
        bool cosine;
        struct dlm_choose choose;
    } runs[] = {
        {"masked", "ancestral, masked", DLM_SAMPLE_ANCESTRAL, 4, false, {1, 0, 1}},
        {"balanced", "ancestral, balanced", DLM_SAMPLE_ANCESTRAL, 4, false, {1, 0, 1}},
        {"uniform", "ancestral, uniform", DLM_SAMPLE_ANCESTRAL, 4, false, {1, 0, 1}},
        {"mix:0.4", "ancestral, mix, cosine", DLM_SAMPLE_ANCESTRAL, 3, true, {1, 0, 1}},
        {"balanced", "ancestral, one step", DLM_SAMPLE_ANCESTRAL, 1, false, {1, 0, 1}},
        {"masked", "ancestral, masked, temperature and cuts", DLM_SAMPLE_ANCESTRAL, 4, false, {0.7, 3, 0.9}},
        {"uniform", "ancestral, uniform, top 2", DLM_SAMPLE_ANCESTRAL, 4, false, {1, 2, 1}},
        {"balanced", "ancestral, of the likeliest ids alone", DLM_SAMPLE_ANCESTRAL, 3, false, {0, 0, 1}},
        {"uniform", "adaptive, uniform", DLM_SAMPLE_ADAPTIVE, 2, false, {0, 0, 1}},
        {"mix:0.5", "adaptive, mix, more steps than positions", DLM_SAMPLE_ADAPTIVE, 5, false, {0, 0, 1}},
        {"mix:0.5", "adaptive, mix, closing step", DLM_SAMPLE_ADAPTIVE, 3, false, {0, 0, 1}},
        {"uniform", "adaptive, drawn", DLM_SAMPLE_ADAPTIVE, 3, false, {1, 0, 1}},
        {"mix:0.5", "adaptive, drawn, top 2", DLM_SAMPLE_ADAPTIVE, 3, false, {1, 2, 1}},
        {"mix:0.5", "adaptive, drawn at a temperature of its own and cut", DLM_SAMPLE_ADAPTIVE, 2, false, {1.6, 3, 0.9}},
        {"masked", "autoregressive", DLM_SAMPLE_AUTOREGRESSIVE, 1, false, {1, 0, 1}},
        {"masked", "autoregressive, temperature and cuts", DLM_SAMPLE_AUTOREGRESSIVE, 1, false, {1.3, 3, 0.95}},
    };
    enum { COUNT = 6000 };
    uint32_t *ids = calloc(COUNT * N, sizeof *ids);
    static double p[STATES];
    bool masks = false;
    for (size_t i = 0; ids && i < sizeof runs / sizeof *runs; i++) {
        bool causal = runs[i].order == DLM_SAMPLE_AUTOREGRESSIVE;
        struct dlm_network *m = network(N, causal, seed + i % 3);
        struct dlm_sample_plan plan = {.order = runs[i].order, .noise = noise(runs[i].noise), .length = N, .steps = runs[i].steps,
                                       .cosine = runs[i].cosine, .choose = runs[i].choose, .seed = seed + 100 + i};
        struct dlm_sampler *s = sampler(m, &plan);
        tabulate(m, causal, all_noisy, N);
        if (causal)
            enumerate_autoregressive(&plan, p);
        else if (plan.order == DLM_SAMPLE_ADAPTIVE)
            enumerate_adaptive(&plan, p);
        else
            enumerate_ancestral(&plan, p);
        texts(s, N, 0, COUNT, COUNT, ids, NULL);
        masks = masks || any_mask(ids, COUNT * N);
        compare(ids, COUNT, p, runs[i].what);
        dlm_sampler_free(s);
        dlm_network_free(m);
    }
    tap_ok(!masks, "no finished text holds the mask");
    free(ids);
}

/* Blocks, prompts, gaps: the distribution is the enumerated one, and given ids stay. */
static void windows(uint64_t seed)
{
    enum { COUNT = 6000 };
    static const struct {
        const char *noise;
        size_t block, prefix;
        uint32_t steps;
        size_t ahead;
    } runs[] = {{"masked", 1, 0, 6, 0}, {"balanced", 2, 0, 5, 0}, {"uniform", 1, 1, 4, 0}, {"mix:0.4", 2, 1, 3, 0}, {"balanced", 7, 1, 3, 0}, {"balanced", 1, 0, 4, 1}, {"uniform", 1, 0, 3, 9}};
    uint32_t *ids = calloc(COUNT * N, sizeof *ids);
    uint8_t *given = calloc(COUNT * N, 1);
    static double p[STATES];
    if (!ids || !given)
        exit(1);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct dlm_network *m = network(N, false, seed + i);
        struct dlm_sample_plan plan = {.noise = noise(runs[i].noise), .length = N, .block = runs[i].block, .ahead = runs[i].ahead, .steps = runs[i].steps,
                                       .choose = {1, 0, 1}, .seed = seed + 200 + i};
        struct dlm_sampler *s = sampler(m, &plan);
        size_t prompt[COUNT];
        uint32_t front[N] = {2, 0, 0};
        for (size_t k = 0; k < COUNT; k++) {
            prompt[k] = runs[i].prefix;
            ids[k * N] = front[0];
        }
        struct dlm_sample_stats stats = texts(s, N, 0, COUNT, COUNT, ids, prompt);
        char what[80];
        snprintf(what, sizeof what, "blocks of %zu behind %zu, %zu ahead, %s", runs[i].block, runs[i].prefix, runs[i].ahead, runs[i].noise);
        enumerate_blocks(m, &plan, runs[i].prefix, front, p);
        compare(ids, COUNT, p, what);
        tap_ok(!any_mask(ids, COUNT * N) && stats.tokens <= COUNT * (N - runs[i].prefix), "%s: no mask remains, tokens are counted", what);
        dlm_sampler_free(s);

        /* a gap between given ids */
        plan.block = 0;
        plan.seed++;
        s = sampler(m, &plan);
        static const uint8_t gap[N] = {0, 1, 0};
        for (size_t k = 0; k < COUNT * N; k++) {
            given[k] = gap[k % N];
            ids[k] = gap[k % N] ? 4 : DLM_SAMPLE_PRIOR;
        }
        struct dlm_error err = {{0}};
        size_t chunk = dlm_sample_chunk(N);
        for (size_t k = 0; k < COUNT; k += chunk)
            if (dlm_sampler_run(s, k, COUNT - k < chunk ? COUNT - k : chunk, ids + k * N, given + k * N, NULL, &stats, NULL, &err))
                tap_ok(false, "%s", err.msg);
        static const uint8_t noisy[N] = {1, 0, 1};
        tabulate(m, false, noisy, N);
        for (int k = 0; k < STATES; k++) {
            uint32_t z[N];
            ids_of(k, z);
            p[k] = z[1] == 4;
            for (size_t q = 0; q < N; q += 2)
                p[k] *= dlm_noise_pi(&plan.noise, -9, z[q] == MASK, V);
        }
        carry(&plan, plan.steps, noisy, 0, N, p);
        snprintf(what, sizeof what, "gaps, %s", runs[i].noise);
        compare(ids, COUNT, p, what);
        dlm_sampler_free(s);
        dlm_network_free(m);
    }
    free(ids);
    free(given);
}

/* Behind a prompt whose keys and values are kept, and block by block, greedy steps are those of whole calls in which every position is computed. */
static void kept_prefix(uint64_t seed)
{
    enum { LONG = 300, FRONT = 289, BLOCK = 4 };
    struct dlm_network *m = network(LONG, false, seed + 3);
    for (size_t block = 0; block <= BLOCK; block += BLOCK) {
        struct dlm_sample_plan plan = {.order = DLM_SAMPLE_ADAPTIVE, .noise = noise("mix:0.5"), .length = LONG, .block = block,
                                       .steps = LONG - FRONT, .seed = seed, .choose = {.temperature = 0, .top_p = 1}};
        static uint32_t ids[LONG], want[LONG];
        static uint8_t given[LONG], noisy[LONG];
        struct dlm_error err = {{0}};
        struct dlm_sample_stats stats = {0};
        for (uint32_t i = 0; i < LONG; i++) {
            given[i] = i < FRONT;
            ids[i] = want[i] = i < FRONT ? i * i % 3 : i % 2 ? MASK : 4;
        }
        struct dlm_sampler *s = sampler(m, &plan);
        bool good = !dlm_sampler_run(s, 0, 1, ids, given, NULL, &stats, NULL, &err);
        dlm_sampler_free(s);

        dlm_ptr d_ids = backend.k->alloc(backend.dev, sizeof want), d_noisy = backend.k->alloc(backend.dev, LONG);
        size_t calls = 0, step = block ? block : LONG - FRONT;
        bool ended = false;
        for (size_t lo = FRONT; lo < LONG && !ended; lo += step) {
            size_t hi = lo + step < LONG ? lo + step : LONG;
            for (size_t k = 0; k <= hi - lo; k++) { /* one position a step, the one most surely wrong; then what is still masked */
                static float logits[LONG * V];
                uint32_t at[LONG], best[LONG];
                double shares[V], most = 0;
                int top = -1;
                for (size_t i = 0; i < hi; i++) {
                    noisy[i] = i >= lo;
                    at[i] = (uint32_t)i;
                }
                backend.k->upload(backend.dev, d_ids, want, hi * 4);
                backend.k->upload(backend.dev, d_noisy, noisy, hi);
                dlm_network_forward_of(m, d_ids, d_noisy, DLM_ATTEND_PREFIX, 1, hi);
                good = good && !dlm_network_logits(m, at, hi, logits, &err);
                calls++;
                for (size_t i = lo; i < hi; i++) {
                    softmax_of(shares, logits + i * V, 1, V, MASK);
                    double score = confidence(&plan.noise, want[i], shares, &best[i]);
                    if (k == hi - lo && want[i] == MASK)
                        want[i] = best[i];
                    else if (score > most) {
                        most = score;
                        top = (int)i;
                    }
                }
                if (top >= 0 && k < hi - lo)
                    want[top] = best[top];
            }
            for (size_t i = lo; i < hi && block; i++)
                ended = ended || want[i] == END;
            for (size_t i = hi; i < LONG && ended; i++)
                want[i] = END;
        }
        tap_ok(good && !memcmp(ids, want, sizeof ids), "a kept prefix, blocks of %zu: the texts of %zu whole calls", block, calls);
        backend.k->free(backend.dev, d_ids);
        backend.k->free(backend.dev, d_noisy);
    }
    dlm_network_free(m);
}

/* A text to be corrected begins as it is: what the network is sure of stays, and its draws are those of adaptive steps. */
static void revision(uint64_t seed)
{
    struct dlm_network *m = network(N, false, seed);
    struct dlm_sample_plan plan = {.order = DLM_SAMPLE_ADAPTIVE, .noise = noise("uniform"), .length = N, .steps = N, .seed = seed,
                                   .choose = {.temperature = 0, .top_p = 1}};
    struct dlm_sampler *s = sampler(m, &plan);
    static const uint8_t none[N];
    tabulate(m, false, all_noisy, N);
    bool good = true;
    for (int from = 0; from < STATES && good; from++) {
        uint32_t ids[N], want[N];
        struct dlm_error err = {{0}};
        struct dlm_sample_stats stats = {0};
        double shares[V];
        ids_of(from, ids);
        memcpy(want, ids, sizeof want);
        for (uint32_t j = 0; j < plan.steps; j++) { /* one position a step, the one most surely wrong */
            uint32_t best[N];
            int top = -1;
            double most = 0;
            for (int i = 0; i < N; i++) {
                softmax_of(shares, table[state_of(want)][i], 1, V, MASK);
                double score = confidence(&plan.noise, want[i], shares, &best[i]);
                if (score > most) {
                    most = score;
                    top = i;
                }
            }
            if (top >= 0)
                want[top] = best[top];
        }
        bool masks = any_mask(want, N);
        good = !dlm_sampler_run(s, 0, 1, ids, none, NULL, &stats, NULL, &err) && (masks || !memcmp(ids, want, sizeof want)) && !any_mask(ids, N);
        if (!good)
            printf("# from state %d: %s\n", from, err.msg);
    }
    tap_ok(good, "self-correction from every text is the map of adaptive steps");
    dlm_sampler_free(s);
    dlm_network_free(m);
}

/* --- many steps -------------------------------------------------------------------------------------------------------------- */

/* Under masked noise a position leaves the mask at a time that is uniform in α and independent of the others', and stays as it is. With ever shorter steps
 * no two leave together, so the order is any of the N! alike, and each position is drawn given those before it: what remains is the any-order
 * autoregressive model of the network, averaged over orders. By induction: the next position is any masked one alike. */
static void enumerate_orders(const struct dlm_sample_plan *p, double *now)
{
    static double next[STATES];
    double shares[V];
    static const uint32_t nothing[N] = {MASK, MASK, MASK};
    memset(now, 0, STATES * sizeof *now);
    now[state_of(nothing)] = 1;
    for (int known = 0; known < N; known++) {
        memset(next, 0, sizeof next);
        for (int s = 0; s < STATES; s++) {
            uint32_t z[N];
            ids_of(s, z);
            for (int i = 0; i < N && now[s] > 0; i++) {
                if (z[i] != MASK)
                    continue;
                chosen(shares, &p->choose, table[s][i]);
                for (uint32_t v = 0; v < V; v++) {
                    z[i] = v;
                    next[state_of(z)] += now[s] / (N - known) * shares[v];
                }
                z[i] = MASK;
            }
        }
        memcpy(now, next, sizeof next);
    }
}

static double total_variation(const double *p, const double *q)
{
    double sum = 0;
    for (int s = 0; s < STATES; s++)
        sum += fabs(p[s] - q[s]) / 2;
    return sum;
}

/* The table of a network that knows the joint distribution p: what each position is given those that are not masked. */
static void tabulate_joint(const double *p)
{
    memset(table, 0, sizeof table);
    for (int s = 0; s < STATES; s++) {
        uint32_t z[N], x[N];
        double share[N][V] = {{0}};
        ids_of(s, z);
        for (int t = 0; t < STATES; t++) {
            bool fits = true;
            ids_of(t, x);
            for (int i = 0; i < N; i++)
                fits = fits && (z[i] == MASK || z[i] == x[i]);
            for (int i = 0; i < N && fits; i++)
                share[i][x[i]] += p[t];
        }
        for (int i = 0; i < N; i++)
            for (int v = 0; v < V; v++)
                table[s][i][v] = share[i][v] > 0 ? (float)log(share[i][v]) : -100;
    }
}

/* Two positions leave the mask in one step, and then do not see each other, with a probability that falls as 1/T: so does the distance to the limit. It is
 * told at T = 16, 64, 256; each must be a quarter of the one before. */
static void falls(const struct dlm_sample_plan *plan, const double *limit, double tolerance, const char *what)
{
    static double p[STATES];
    double off[3];
    struct dlm_sample_plan many = *plan;
    many.steps = 16;
    for (int k = 0; k < 3; k++, many.steps *= 4) {
        enumerate_ancestral(&many, p);
        off[k] = total_variation(p, limit);
    }
    tap_ok(off[0] > 1e-4 && fabs(off[1] / off[0] - 0.25) < tolerance && fabs(off[2] / off[1] - 0.25) < tolerance,
           "%s: the distance to the limit falls as 1/T (%.2g, %.2g, %.2g at 16, 64, 256 steps)", what, off[0], off[1], off[2]);
}

static bool rejected(const uint32_t *ids, size_t count, const double *p)
{
    size_t seen[STATES] = {0};
    double chi = 0;
    int cells = 0;
    for (size_t k = 0; k < count; k++)
        seen[state_of(ids + k * N)]++;
    for (int s = 0; s < STATES; s++) {
        double want = p[s] * (double)count;
        if (want < 5)
            continue;
        chi += ((double)seen[s] - want) * ((double)seen[s] - want) / want;
        cells++;
    }
    return chi > cells + 10 * sqrt(2.0 * cells);
}

static void many_steps(uint64_t seed)
{
    enum { COUNT = 6000, FEWER = 2000 };
    static double limit[STATES], joint[STATES];
    uint32_t *ids = calloc(COUNT * N, sizeof *ids);
    if (!ids)
        exit(1);
    struct dlm_network *m = network(N, false, seed + 5);
    struct dlm_sample_plan plan = {.noise = noise("masked"), .length = N, .choose = {1, 0, 1}, .seed = seed + 300};
    tabulate(m, false, all_noisy, N);
    enumerate_orders(&plan, limit);
    falls(&plan, limit, 0.02, "masked");
    plan.cosine = true;
    falls(&plan, limit, 0.02, "masked, cosine");
    plan.cosine = false;
    for (plan.steps = 64; plan.steps <= 256; plan.steps *= 4, plan.seed++) {
        struct dlm_sampler *s = sampler(m, &plan);
        char what[80];
        const size_t n = plan.steps == 64 ? COUNT : FEWER;
        texts(s, N, 0, n, n, ids, NULL);
        snprintf(what, sizeof what, "masked, %u steps, against any order alike", plan.steps);
        compare(ids, n, limit, what);
        dlm_sampler_free(s);
    }
    plan.steps = 1;
    struct dlm_sampler *s = sampler(m, &plan);
    texts(s, N, 0, COUNT, COUNT, ids, NULL);
    tap_ok(rejected(ids, COUNT, limit), "a single step is another distribution, and so many texts tell");
    dlm_sampler_free(s);
    dlm_network_free(m);

    /* Exact conditionals: every order gives the joint distribution, which the steps therefore approach. */
    struct dlm_rng r;
    double sum = 0;
    dlm_rng_init(&r, seed, 78, DLM_RNG_TEST);
    for (int t = 0; t < STATES; t++) {
        uint32_t x[N];
        ids_of(t, x);
        joint[t] = any_mask(x, N) ? 0 : exp(2 * dlm_rng_normal(&r));
        sum += joint[t];
    }
    for (int t = 0; t < STATES; t++)
        joint[t] /= sum;
    tabulate_joint(joint);
    enumerate_orders(&plan, limit);
    tap_ok(total_variation(limit, joint) < 1e-6, "of exact conditionals the limit is their joint distribution (off by %.1g)", total_variation(limit, joint));
    falls(&plan, joint, 0.02, "exact conditionals");

    /* Where ids change more than once there is no such short form: the limit is extrapolated from 256 and 512 steps, whose distances to it are as 2 to 1. */
    static const char *const others[] = {"uniform", "balanced"};
    for (int k = 0; k < 2; k++) {
        m = network(N, false, seed + 6);
        plan.noise = noise(others[k]);
        tabulate(m, false, all_noisy, N);
        plan.steps = 256;
        enumerate_ancestral(&plan, joint);
        plan.steps = 512;
        enumerate_ancestral(&plan, limit);
        for (int t = 0; t < STATES; t++)
            limit[t] = 2 * limit[t] - joint[t];
        falls(&plan, limit, 0.03, others[k]);
        plan.steps = 64;
        plan.seed++;
        s = sampler(m, &plan);
        texts(s, N, 0, FEWER, FEWER, ids, NULL);
        char what[80];
        snprintf(what, sizeof what, "%s, 64 steps, against the limit", others[k]);
        compare(ids, FEWER, limit, what);
        dlm_sampler_free(s);
        dlm_network_free(m);
    }
    free(ids);
}

/* --- what must not matter, and what must ------------------------------------------------------------------------------------ */

static void independence(uint64_t seed)
{
    enum { LONG = 40, ITEMS = 23 };
    static const enum dlm_sample_order orders[] = {DLM_SAMPLE_ANCESTRAL, DLM_SAMPLE_ADAPTIVE, DLM_SAMPLE_ADAPTIVE, DLM_SAMPLE_AUTOREGRESSIVE};
    for (int o = 0; o < 4; o++) {
        bool causal = orders[o] == DLM_SAMPLE_AUTOREGRESSIVE, same = true, kept = true, masks = false;
        struct dlm_network *m = network(LONG, causal, seed + 9);
        struct dlm_sample_plan plan = {.order = orders[o], .noise = noise("mix:0.5"), .length = LONG, .steps = 7, .seed = seed,
                                       .choose = {.temperature = orders[o] == DLM_SAMPLE_ADAPTIVE && o == 1 ? 0 : 1, .top_p = 1}};
        struct dlm_sampler *s = sampler(m, &plan);
        uint32_t all[ITEMS][LONG], again[ITEMS][LONG];
        size_t prompt[ITEMS];
        for (uint32_t k = 0; k < ITEMS; k++) {
            prompt[k] = k % 5 == 4 ? LONG : k % 5 * 3;
            for (uint32_t i = 0; i < LONG; i++)
                all[k][i] = again[k][i] = (k + i) % 3; /* ids 0, 1, 2 */
        }
        texts(s, LONG, 0, ITEMS, ITEMS, &all[0][0], prompt);
        for (size_t at_once = 1; at_once <= 3; at_once += 2) {
            texts(s, LONG, 0, ITEMS, at_once, &again[0][0], prompt);
            same = same && !memcmp(all, again, sizeof all);
        }
        texts(s, LONG, 17, 1, 1, again[17], prompt + 17);
        same = same && !memcmp(all, again, sizeof all);
        for (uint32_t k = 0; k < ITEMS; k++)
            for (uint32_t i = 0; i < prompt[k]; i++)
                kept = kept && all[k][i] == (k + i) % 3;
        masks = any_mask(&all[0][0], ITEMS * LONG);
        static const char *names[] = {"ancestral", "adaptive", "adaptive, tempered", "autoregressive"};
        tap_ok(same, "%s: a text depends on no other text and on no batch", names[o]);
        tap_ok(kept && !masks, "%s: prompts of any length are kept, no mask remains", names[o]);
        dlm_sampler_free(s);

        plan.seed++;
        s = sampler(m, &plan);
        texts(s, LONG, 0, ITEMS, ITEMS, &again[0][0], prompt);
        size_t differ = 0;
        for (int k = 0; k < ITEMS; k++)
            differ += memcmp(all[k], again[k], sizeof all[k]) != 0;
        /* greedy steps may lead from every start to the same text */
        tap_ok(differ > 0 || plan.choose.temperature == 0, "%s: seeds do (%zu of %d texts)", names[o], differ, ITEMS);
        dlm_sampler_free(s);
        dlm_network_free(m);
    }
}

static void economy(uint64_t seed)
{
    uint32_t ids[N];
    struct dlm_network *m = network(N, false, seed);
    struct dlm_sample_plan plan = {.order = DLM_SAMPLE_ADAPTIVE, .noise = noise("masked"), .length = N, .steps = 50, .seed = seed,
                                   .choose = {.temperature = 0, .top_p = 1}};
    struct dlm_sampler *s = sampler(m, &plan);
    struct dlm_sample_stats a = texts(s, N, 0, 1, 1, ids, NULL);
    dlm_sampler_free(s);
    tap_ok((a.model_calls == N + 1 || a.model_calls == N) && a.steps <= N + 1, "adaptive: %d calls fill %d masks in 50 steps", (int)a.model_calls, N);
    plan.order = DLM_SAMPLE_ANCESTRAL;
    plan.choose.temperature = 1;
    plan.steps = 200;
    s = sampler(m, &plan);
    a = texts(s, N, 0, 1, 1, ids, NULL);
    dlm_sampler_free(s);
    tap_ok(a.steps == 200 && a.model_calls <= N + 1 && a.tokens == N, "ancestral: %d calls in 200 steps that change %d ids", (int)a.model_calls, N);

    plan.steps = 8;
    double alpha = 0;
    bool good = fabs(dlm_sample_log_snr(&plan, 0) + 9) < 1e-12 && isinf(dlm_sample_log_snr(&plan, 8));
    for (uint32_t j = 0; j < 8; j++) {
        double next = dlm_noise_alpha(dlm_sample_log_snr(&plan, j));
        good = good && (j < 2 || fabs(next - alpha - 0.99975321 / 8) < 1e-8);
        alpha = next;
    }
    tap_ok(good, "a linear schedule rises in equal steps of α from λ_min, and ends clean");
    dlm_network_free(m);
}

static void refusals(uint64_t seed)
{
    struct dlm_error err = {{0}};
    struct dlm_network *m = network(N, false, seed);
    struct dlm_sample_plan plan = {.noise = noise("balanced"), .length = N, .steps = 2, .choose = {.temperature = 1, .top_p = 1}};
    struct dlm_sampler *s = sampler(m, &plan);
    struct dlm_sample_stats stats = {0};
    uint32_t ids[N] = {0, MASK, 0};
    static const uint8_t two[N] = {1, 1, 0}, none[N];
    tap_ok(dlm_sampler_run(s, 0, 1, ids, two, NULL, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "mask"), "a given mask is refused");
    ids[1] = V;
    tap_ok(dlm_sampler_run(s, 0, 1, ids, two, NULL, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "outside"), "so is an id beyond the vocabulary");

    const struct dlm_tensor *head = dlm_layout_find(dlm_network_layout(m), DLM_TENSOR_HEAD, 0);
    float bad = NAN;
    for (int i = 0; i < N; i++)
        ids[i] = DLM_SAMPLE_PRIOR;
    backend.k->upload(backend.dev, dlm_ptr_at(dlm_network_weights(m), head->offset * sizeof bad), &bad, sizeof bad);
    dlm_network_refresh(m);
    tap_ok(dlm_sampler_run(s, 0, 1, ids, none, NULL, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "not finite"), "numbers that are none are told");
    dlm_sampler_free(s);
    dlm_network_free(m);

    struct dlm_config c;
    dlm_config_default(&c, 16, 1, 2, 32, V, N);
    c.mask = MASK;
    c.begin = c.end = UINT32_MAX;
    c.causal = true;
    struct dlm_network_plan p = {.batch = dlm_sample_chunk(N), .seq_len = N, .act = DLM_F32};
    plan.order = DLM_SAMPLE_AUTOREGRESSIVE;
    bool refused = !dlm_network_new(&m, &backend, &c, &p, &err) && dlm_sampler_new(&s, &backend, m, &plan, &err) == DLM_EDATA && !s;
    tap_ok(refused, "an autoregressive network with nothing to begin from is refused");
    dlm_network_free(m);
}

int main(void)
{
    uint64_t seed = tap_seed();
    struct dlm_error err = {{0}};
    if (dlm_device_open(&backend, "cpu", 1, &err)) { /* the networks are far too small for more threads */
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    histograms(seed);
    windows(seed);
    many_steps(seed);
    kept_prefix(seed);
    revision(seed);
    independence(seed);
    economy(seed);
    refusals(seed);
    dlm_device_close(&backend);
    return tap_end();
}
