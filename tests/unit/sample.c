/* The sampling loops on tiny random networks: histograms of samples against the reverse process enumerated exactly, and what
 * must not matter.
 *
 * Enumeration: N positions over V ids are Vᴺ states. The network's shares are tabled for every state, a step's transition is
 * the product of the positions' reverse steps, and T steps carry the prior's distribution to that of the finished texts. χ² is
 * taken at fixed seeds against a quantile that a right program passes all but once in 10⁵. */
#include "diffuse/reverse.h"
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
        if (dlm_sampler_run(s, k, some, ids + (k - first) * length, given, &stats, NULL, &err)) {
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

static void tabulate(struct dlm_network *m, bool causal)
{
    size_t C = dlm_sample_chunk(N);
    uint32_t *z = calloc(C * N, sizeof *z), *at = calloc(C * N, sizeof *at);
    uint8_t *noisy = calloc(C * N, 1);
    float *logits = calloc(C * N * V, sizeof *logits);
    if (!z || !at || !noisy || !logits)
        exit(1);
    dlm_ptr d_z = backend.k->alloc(backend.dev, C * N * 4), d_noisy = backend.k->alloc(backend.dev, C * N);
    memset(noisy, 1, C * N);
    for (size_t i = 0; i < C * N; i++)
        at[i] = (uint32_t)i;
    backend.k->upload(backend.dev, d_noisy, noisy, C * N);
    for (size_t first = 0; first < STATES; first += C) {
        struct dlm_error err = {{0}};
        for (size_t b = 0; b < C; b++) {
            uint32_t ids[N];
            ids_of((int)((first + b) % STATES), ids);
            for (int i = 0; i < N; i++)
                z[b * N + i] = causal ? (i ? ids[i - 1] : BEGIN) : ids[i];
        }
        backend.k->upload(backend.dev, d_z, z, C * N * 4);
        dlm_network_forward(m, d_z, causal ? (dlm_ptr){0} : d_noisy, causal ? DLM_ATTEND_CAUSAL : DLM_ATTEND_PREFIX, C);
        if (dlm_network_logits(m, at, C * N, logits, &err))
            exit(1);
        for (size_t b = 0; b < C && first + b < STATES; b++)
            memcpy(table[first + b], logits + b * N * V, sizeof table[0]);
    }
    backend.k->free(backend.dev, d_z);
    backend.k->free(backend.dev, d_noisy);
    free(z);
    free(at);
    free(noisy);
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

static void enumerate_ancestral(const struct dlm_sample_plan *p, double *now)
{
    static double next[STATES], step[N][V], shares[V];
    struct dlm_choose_rank rank[V];
    prior(&p->noise, now);
    for (uint32_t j = 1; j <= p->steps; j++) {
        memset(next, 0, sizeof next);
        for (int s = 0; s < STATES; s++) {
            uint32_t z[N], to[N];
            if (now[s] == 0)
                continue;
            ids_of(s, z);
            for (int i = 0; i < N; i++) {
                dlm_choose_shares(shares, &p->choose, table[s][i], V, MASK, rank);
                dlm_reverse_step(step[i], &p->noise, dlm_sample_log_snr(p, j - 1), dlm_sample_log_snr(p, j), z[i], shares, V, MASK);
            }
            for (int t = 0; t < STATES; t++) {
                ids_of(t, to);
                next[t] += now[s] * step[0][to[0]] * step[1][to[1]] * step[2][to[2]];
            }
        }
        memcpy(now, next, sizeof next);
    }
}

/* Greedy adaptive sampling is a map of states. */
static void enumerate_adaptive(const struct dlm_sample_plan *p, double *out)
{
    double start[STATES], s[V];
    prior(&p->noise, start);
    memset(out, 0, STATES * sizeof *out);
    for (int from = 0; from < STATES; from++) {
        uint32_t z[N], best[N];
        ids_of(from, z);
        for (uint32_t j = 1; j <= p->steps; j++) {
            double score[N];
            int state = state_of(z);
            for (int i = 0; i < N; i++) {
                dlm_reverse_softmax(s, table[state][i], V, MASK);
                best[i] = 0;
                for (uint32_t v = 0; v < V; v++)
                    if (s[v] > s[best[i]])
                        best[i] = v;
                score[i] = dlm_noise_pi(&p->noise, -9, z[i] == MASK, V) * (s[best[i]] - s[z[i]]);
            }
            for (size_t k = (N + p->steps - 1) / p->steps; k > 0; k--) {
                int top = 0;
                for (int i = 1; i < N; i++)
                    top = score[i] > score[top] ? i : top;
                if (score[top] > 0)
                    z[top] = best[top];
                score[top] = 0;
            }
        }
        int state = state_of(z);
        for (int i = 0; i < N; i++)
            if (z[i] == MASK) {
                dlm_reverse_softmax(s, table[state][i], V, MASK);
                for (uint32_t v = 0; v < V; v++)
                    if (z[i] == MASK || s[v] > s[z[i]])
                        z[i] = v == MASK ? z[i] : v;
            }
        out[state_of(z)] += start[from];
    }
}

static void enumerate_autoregressive(const struct dlm_sample_plan *p, double *out)
{
    struct dlm_choose_rank rank[V];
    double s[V];
    for (int t = 0; t < STATES; t++) {
        uint32_t z[N];
        bool ended = false;
        ids_of(t, z);
        out[t] = 1;
        for (int i = 0; i < N; i++) {
            dlm_choose_shares(s, &p->choose, table[t][i], V, MASK, rank);
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
        {"uniform", "adaptive, uniform", DLM_SAMPLE_ADAPTIVE, 2, false, {0, 0, 1}},
        {"mix:0.5", "adaptive, mix, more steps than positions", DLM_SAMPLE_ADAPTIVE, 5, false, {0, 0, 1}},
        {"mix:0.5", "adaptive, mix, closing step", DLM_SAMPLE_ADAPTIVE, 3, false, {0, 0, 1}},
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
                                       .cosine = runs[i].cosine, .choose = runs[i].choose, .seed = seed + 100 + i, .threads = 1};
        struct dlm_sampler *s = sampler(m, &plan);
        tabulate(m, causal);
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

/* --- what must not matter, and what must ------------------------------------------------------------------------------------ */

static void independence(uint64_t seed)
{
    enum { LONG = 40, ITEMS = 23 };
    static const enum dlm_sample_order orders[] = {DLM_SAMPLE_ANCESTRAL, DLM_SAMPLE_ADAPTIVE, DLM_SAMPLE_ADAPTIVE, DLM_SAMPLE_AUTOREGRESSIVE};
    for (int o = 0; o < 4; o++) {
        bool causal = orders[o] == DLM_SAMPLE_AUTOREGRESSIVE, same = true, kept = true, masks = false;
        struct dlm_network *m = network(LONG, causal, seed + 9);
        struct dlm_sample_plan plan = {.order = orders[o], .noise = noise("mix:0.5"), .length = LONG, .steps = 7, .seed = seed, .threads = 1,
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

        plan.threads = 3;
        s = sampler(m, &plan);
        texts(s, LONG, 0, 7, 7, &again[0][0], prompt);
        plan.threads = 1;
        bool threads = !memcmp(all, again, sizeof all);
        dlm_sampler_free(s);
        plan.seed++;
        s = sampler(m, &plan);
        texts(s, LONG, 0, ITEMS, ITEMS, &again[0][0], prompt);
        size_t differ = 0;
        for (int k = 0; k < ITEMS; k++)
            differ += memcmp(all[k], again[k], sizeof all[k]) != 0;
        tap_ok(threads, "%s: threads do not matter", names[o]);
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
    struct dlm_sample_plan plan = {.order = DLM_SAMPLE_ADAPTIVE, .noise = noise("masked"), .length = N, .steps = 50, .seed = seed, .threads = 1,
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
    struct dlm_sample_plan plan = {.noise = noise("balanced"), .length = N, .steps = 2, .threads = 1, .choose = {.temperature = 1, .top_p = 1}};
    struct dlm_sampler *s = sampler(m, &plan);
    struct dlm_sample_stats stats = {0};
    uint32_t ids[N] = {0, MASK, 0};
    static const uint8_t two[N] = {1, 1, 0}, none[N];
    tap_ok(dlm_sampler_run(s, 0, 1, ids, two, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "mask"), "a given mask is refused");
    ids[1] = V;
    tap_ok(dlm_sampler_run(s, 0, 1, ids, two, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "outside"), "so is an id beyond the vocabulary");

    const struct dlm_tensor *head = dlm_layout_find(dlm_network_layout(m), DLM_TENSOR_HEAD, 0);
    float bad = NAN;
    for (int i = 0; i < N; i++)
        ids[i] = DLM_SAMPLE_PRIOR;
    backend.k->upload(backend.dev, dlm_ptr_at(dlm_network_weights(m), head->offset * sizeof bad), &bad, sizeof bad);
    dlm_network_refresh(m);
    tap_ok(dlm_sampler_run(s, 0, 1, ids, none, &stats, NULL, &err) == DLM_EDATA && strstr(err.msg, "not finite"), "numbers that are none are told");
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
    independence(seed);
    economy(seed);
    refusals(seed);
    dlm_device_close(&backend);
    return tap_end();
}
