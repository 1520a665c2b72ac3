/* Scores of single texts on tiny random networks: their mean over seeds against the bound enumerated exactly, and what must not matter.
 *
 * Enumeration: of four positions over five ids those that are noisy have at most 5³ states. The network's logits are tabled for each; at a level the bound
 * is the sum over states of q(state)·Σ terms, in double (diffuse/bound.h), with positions that are not scored at the prior; the integral over t is the
 * midpoint rule. The scorer shares with this the network alone. Single draws are made again from their keys, too, and each score computed in double. */
#include "base/rng.h"
#include "diffuse/bound.h"
#include "diffuse/example.h"
#include "run/device.h"
#include "run/score.h"
#include "tap.h"

#include <string.h>
#include <xxhash.h>

enum { V = 5, N = 4, MASK = 3, BEGIN = 0, END = 1, STATES = V * V * V * V };

static struct dlm_backend backend;

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
    struct dlm_network_plan p = {.batch = dlm_score_batch(length), .seq_len = length, .act = DLM_F32, .head_rows = dlm_score_head_rows()};
    if (dlm_network_new(&m, &backend, &c, &p, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    const struct dlm_layout *l = dlm_network_layout(m);
    float *w = calloc(l->total, sizeof *w);
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 78, DLM_RNG_TEST);
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

static struct dlm_score score(struct dlm_network *m, const struct dlm_score_plan *p, const struct dlm_piece *piece)
{
    struct dlm_error err = {{0}};
    struct dlm_scorer *s;
    struct dlm_score out;
    if (dlm_scorer_new(&s, &backend, m, p, &err) || dlm_scorer_run(s, piece, &out, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    dlm_scorer_free(s);
    return out;
}

/* --- enumeration ------------------------------------------------------------------------------------------------------------ */

static double table[STATES][N][V]; /* logits */

static void ids_of(int state, uint32_t z[N])
{
    for (int i = 0; i < N; i++, state /= V)
        z[i] = (uint32_t)(state % V);
}

static bool is_scored(const struct dlm_piece *piece, size_t i)
{
    return i >= piece->before && i < piece->n - piece->after;
}

static bool is_known(const struct dlm_piece *piece, size_t i)
{
    return i < piece->n && !is_scored(piece, i);
}

/* A state has the known ids where they are known. */
static bool possible(const struct dlm_piece *piece, const uint32_t z[N])
{
    for (size_t i = 0; i < N; i++)
        if (is_known(piece, i) && z[i] != piece->ids[i])
            return false;
    return true;
}

static void tabulate(struct dlm_network *m, const struct dlm_piece *piece)
{
    uint8_t noisy[N];
    const uint32_t at[N] = {0, 1, 2, 3};
    float logits[N * V];
    dlm_ptr d_z = backend.k->alloc(backend.dev, N * 4), d_noisy = backend.k->alloc(backend.dev, N);
    for (size_t i = 0; i < N; i++)
        noisy[i] = !is_known(piece, i);
    backend.k->upload(backend.dev, d_noisy, noisy, N);
    for (int s = 0; s < STATES; s++) {
        struct dlm_error err = {{0}};
        uint32_t z[N];
        ids_of(s, z);
        if (!possible(piece, z))
            continue;
        backend.k->upload(backend.dev, d_z, z, sizeof z);
        dlm_network_forward_of(m, d_z, d_noisy, DLM_ATTEND_PREFIX, 1, N);
        if (dlm_network_logits(m, at, N, logits, &err))
            exit(1);
        for (int i = 0; i < N * V; i++)
            table[s][i / V][i % V] = logits[i];
    }
    backend.k->free(backend.dev, d_z);
    backend.k->free(backend.dev, d_noisy);
}

/* q(z | x) of method.md §1 at α; x < 0: the prior's π alone. */
static double q(const struct dlm_noise *n, double log_snr, int x, uint32_t z)
{
    double pi = dlm_noise_pi(n, log_snr, z == MASK, V), alpha = x < 0 ? 0 : dlm_noise_alpha(log_snr);
    return alpha * ((int)z == x) + (1 - alpha) * pi;
}

/* Σ over states at one level; `release`: the loss's level is that of the share of scored tokens left as they were. */
static double at_level(const struct dlm_noise *n, double log_snr, const struct dlm_piece *piece, bool release)
{
    double sum = 0, scratch[V];
    for (int s = 0; s < STATES; s++) {
        uint32_t z[N];
        double p = 1, terms = 0, kept = 0, seen_as = log_snr;
        ids_of(s, z);
        if (!possible(piece, z))
            continue;
        for (size_t i = 0; i < N; i++) {
            if (is_scored(piece, i))
                p *= q(n, log_snr, (int)piece->ids[i], z[i]);
            else if (i >= piece->n)
                p *= q(n, -DLM_LOG_SNR_MAX, -1, z[i]);
            kept += is_scored(piece, i) && z[i] == piece->ids[i];
        }
        if (p == 0)
            continue;
        if (release) {
            double alpha = kept / (double)(piece->n - piece->before - piece->after);
            seen_as = fmin(fmax(log(alpha / (1 - alpha)), -DLM_LOG_SNR_MAX), DLM_LOG_SNR_MAX);
        }
        for (size_t i = piece->before; i < piece->n - piece->after; i++)
            terms += dlm_bound_token(n, seen_as, piece->ids[i], z[i], MASK, table[s][i], V, NULL, scratch).elbo;
        sum += p * terms;
    }
    return sum;
}

static double exact(const struct dlm_noise *n, const struct dlm_piece *piece)
{
    const int points = 300;
    double sum = 0, t0 = dlm_example_t_min(), t1 = dlm_example_t_max();
    for (int j = 0; j < points; j++) /* midpoints, closer together at both ends, where the terms of some noise types change fastest */
        for (int side = 0; side < 2; side++) {
            double u0 = pow((double)j / points, 3) / 2, u1 = pow((double)(j + 1) / points, 3) / 2, u = (u0 + u1) / 2;
            u = side ? 1 - u : u;
            sum += (u1 - u0) * at_level(n, dlm_example_log_snr(t0 + (t1 - t0) * u), piece, false);
        }
    return sum;
}

static double exact_release(const struct dlm_noise *n, const struct dlm_piece *piece, int T)
{
    double sum = 0;
    for (int j = 0; j < T; j++) {
        double alpha = 1e-4 + 0.9998 * j / T;
        sum += at_level(n, fmax(log(alpha / (1 - alpha)), -DLM_LOG_SNR_MAX), piece, true) / T;
    }
    return sum;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------ */

static const uint32_t text[N] = {2, 4, 0, 1};

static const struct {
    const char *name;
    struct dlm_piece piece;
} pieces[] = {
    {"a whole text", {text, 3, 0, 0}},
    {"two tokens behind one", {text, 3, 1, 0}},
    {"one token behind one, nothing left", {text, 4, 3, 0}},
    {"a gap", {text, 4, 1, 1}},
    {"a gap with room behind", {text, 3, 1, 1}},
};

static const char *const types[] = {"masked", "balanced", "uniform"};

/* Mean of many seeds against `want`; also whether the standard errors that are told are those that are seen. */
static void against(struct dlm_network *m, struct dlm_score_plan plan, const struct dlm_piece *piece, double want, int seeds, bool calibrated,
                    const char *name)
{
    double sum = 0, squares = 0, told = 0;
    for (int k = 0; k < seeds; k++) {
        plan.seed = 1000 + (uint64_t)k;
        struct dlm_score s = score(m, &plan, piece);
        sum += s.nats;
        squares += s.nats * s.nats;
        told += s.se * s.se;
    }
    double mean = sum / seeds, variance = fmax(0, squares / seeds - mean * mean);
    tap_near(mean, want, 4.5 * sqrt(variance / (seeds - 1)) + 1e-4 * fabs(want), "%s", name);
    if (calibrated)
        tap_near(sqrt(told / seeds / variance), 1, 0.25, "%s: the standard error is the one that is seen", name);
}

static void test_bound(struct dlm_network *m)
{
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            char name[128];
            snprintf(name, sizeof name, "%s, %s: the mean over seeds is the bound", types[t], pieces[p].name);
            tabulate(m, &pieces[p].piece);
            struct dlm_score_plan plan = {.noise = noise(types[t]), .levels = 64, .length = N};
            against(m, plan, &pieces[p].piece, exact(&plan.noise, &pieces[p].piece), 300, true, name);
        }
}

/* A score of K levels from the keys of its draws: the words of the corrupt kernel at (seed, hash of level and text, position). */
static struct dlm_score redraw(const struct dlm_score_plan *plan, const struct dlm_piece *piece)
{
    const uint64_t hash = dlm_piece_hash(piece);
    double y[64], sum = 0, squares = 0, scratch[V];
    for (uint32_t j = 0; j < plan->levels; j++) {
        const uint64_t number = j, key = XXH64(&number, sizeof number, hash);
        const double log_snr = dlm_example_eval_log_snr(plan->seed, hash, j, plan->levels);
        int state = 0, scale = 1;
        uint32_t z[N];
        for (size_t p = 0; p < N; p++, scale *= V) {
            const bool scored = is_scored(piece, p);
            const dlm_philox_t w = dlm_philox_at(plan->seed, key, (uint32_t)p, DLM_RNG_EVAL_CORRUPT);
            const double rho = dlm_noise_rho(&plan->noise, scored ? log_snr : -DLM_LOG_SNR_MAX);
            const uint32_t any = (uint32_t)((uint64_t)w.v[2] * (V - 1) >> 32);
            const bool kept = scored && w.v[0] < dlm_noise_alpha(log_snr) * 0x1p32;
            z[p] = is_known(piece, p) || kept ? piece->ids[p] : w.v[1] < rho * 0x1p32 ? any + (any >= MASK) : MASK;
            state += scale * (int)z[p];
        }
        y[j] = 0;
        for (size_t p = piece->before; p < piece->n - piece->after; p++)
            y[j] += dlm_bound_token(&plan->noise, log_snr, piece->ids[p], z[p], MASK, table[state][p], V, NULL, scratch).elbo;
        sum += y[j];
        squares += j % 2 ? (y[j] - y[j - 1]) * (y[j] - y[j - 1]) : 0;
    }
    return (struct dlm_score){.nats = sum / plan->levels, .se = sqrt(squares) / plan->levels};
}

static void test_draws(struct dlm_network *m)
{
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            double worst = 0;
            tabulate(m, &pieces[p].piece);
            for (uint64_t seed = 0; seed < 8; seed++) {
                struct dlm_score_plan plan = {.noise = noise(types[t]), .levels = 4 << seed % 4, .seed = seed, .length = N};
                struct dlm_score got = score(m, &plan, &pieces[p].piece), want = redraw(&plan, &pieces[p].piece);
                worst = tap_worst(worst, fabs(got.nats - want.nats) / (want.nats + 1e-3));
                worst = tap_worst(worst, fabs(got.se - want.se) / (want.se + 1e-3));
            }
            tap_ok(worst <= 1e-4, "%s, %s: each score is that of its draws (off by %.2g of it)", types[t], pieces[p].name, worst);
        }
}

static void test_strata(struct dlm_network *m)
{
    struct dlm_error err = {{0}};
    struct dlm_scorer *s;
    struct dlm_score out;
    const double t0 = dlm_example_t_min(), range = dlm_example_t_max() - t0;
    bool good = true;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct dlm_score_plan plan = {.noise = noise("masked"), .levels = 128, .target_se = 1e-9, .seed = seed, .length = N};
        if (dlm_scorer_new(&s, &backend, m, &plan, &err) || dlm_scorer_run(s, &pieces[0].piece, &out, &err))
            exit(1);
        for (uint32_t j = 0; j < 128; j++)
            good = good && floor((dlm_noise_alpha(-dlm_scorer_log_snr(s, j)) - t0) / range * 128) == j;
        dlm_scorer_free(s);
    }
    tap_ok(good, "doubled levels are stratified: one in each of the 128th parts of t, in order");
}

/* Levels closer together where terms vary most: the same bound, and less variance. */
static void test_cosine(struct dlm_network *m)
{
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t p = 0; p < 4; p += 3) {
            char name[128];
            double se[2] = {0};
            snprintf(name, sizeof name, "%s, %s: the mean over a cosine grid is the bound", types[t], pieces[p].name);
            tabulate(m, &pieces[p].piece);
            struct dlm_score_plan plan = {.noise = noise(types[t]), .levels = 64, .cosine = true, .length = N};
            against(m, plan, &pieces[p].piece, exact(&plan.noise, &pieces[p].piece), 300, true, name);
            for (int k = 0; k < 400; k++) {
                plan.cosine = k % 2;
                plan.seed = (uint64_t)k;
                struct dlm_score s = score(m, &plan, &pieces[p].piece);
                se[k % 2] += s.se * s.se;
            }
            tap_ok(se[1] < se[0], "%s, %s: with %.2g of the variance", types[t], pieces[p].name, se[1] / se[0]);
        }
    tabulate(m, &pieces[1].piece);
    struct dlm_score_plan plan = {.noise = noise("uniform"), .levels = 64, .target_se = 1e-9, .cosine = true, .length = N};
    against(m, plan, &pieces[1].piece, exact(&plan.noise, &pieces[1].piece), 300, true, "a cosine grid with its levels doubled");
}

static void test_target(struct dlm_network *m)
{
    const struct dlm_piece *piece = &pieces[1].piece;
    tabulate(m, piece);
    struct dlm_score_plan plan = {.noise = noise("balanced"), .levels = 64, .target_se = 1e-9, .length = N};
    double want = exact(&plan.noise, piece);
    against(m, plan, piece, want, 300, true, "levels doubled to a target that is never reached: still the bound");
    struct dlm_score s = score(m, &plan, piece);
    tap_ok(s.levels == 64 && s.draws == 64 + 64, "it stops at the most levels, none computed twice (%u levels, %llu draws)", s.levels, (unsigned long long)s.draws);
    plan.target_se = 1e9;
    s = score(m, &plan, piece);
    tap_ok(s.levels == 16, "a wide target takes the fewest");
    plan.target_se = 0.3;
    plan.levels = 1 << 16;
    s = score(m, &plan, piece);
    tap_ok(s.se <= 0.3 && s.levels > 16, "a target is reached (%u levels, se %g)", s.levels, s.se);
    tap_near(s.nats, want, 4 * s.se, "and is the error of the score");
    /* More levels of a target are the same draws and more. */
    plan.target_se = 0;
    plan.levels = 16;
    struct dlm_score few = score(m, &plan, piece);
    plan.target_se = 1e9;
    plan.levels = 4096;
    s = score(m, &plan, piece);
    tap_ok(s.nats == few.nats && s.se == few.se, "the first levels are those of a fixed number");
}

static void test_release(struct dlm_network *m)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t p = 0; p < 4; p += 3) {
            char name[128];
            snprintf(name, sizeof name, "%s, %s: the released code's score", types[t], pieces[p].name);
            tabulate(m, &pieces[p].piece);
            struct dlm_score_plan plan = {.noise = noise(types[t]), .levels = 8, .release = true, .length = N};
            against(m, plan, &pieces[p].piece, exact_release(&plan.noise, &pieces[p].piece, 8), 2000, false, name);
        }
}

static void test_autoregressive(void)
{
    struct dlm_network *m = network(N, true, 5);
    struct dlm_score_plan plan = {.levels = 128, .length = N};
    const uint32_t input[N] = {BEGIN, text[0], text[1], text[2]}, at[N] = {0, 1, 2, 3};
    float logits[N * V];
    double nll[N];
    struct dlm_error err = {{0}};
    dlm_ptr d = backend.k->alloc(backend.dev, sizeof input);
    backend.k->upload(backend.dev, d, input, sizeof input);
    dlm_network_forward_of(m, d, (dlm_ptr){0}, DLM_ATTEND_CAUSAL, 1, N);
    if (dlm_network_logits(m, at, N, logits, &err))
        exit(1);
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += v == MASK ? 0 : exp(logits[i * V + v]);
        nll[i] = log(sum) - logits[i * V + (int)text[i]];
    }
    struct dlm_score whole = score(m, &plan, &(struct dlm_piece){text, 4, 0, 0}), end = score(m, &plan, &(struct dlm_piece){text, 4, 2, 0});
    struct dlm_score gap = score(m, &plan, &(struct dlm_piece){text, 4, 1, 1});
    tap_near(whole.nats, nll[0] + nll[1] + nll[2] + nll[3], 1e-5, "autoregressive: the whole text's cross-entropy");
    tap_near(end.nats, nll[2] + nll[3], 1e-5, "autoregressive: a completion's");
    tap_near(gap.nats, nll[1] + nll[2], 1e-5, "autoregressive: what comes after is not seen");
    tap_ok(whole.se == 0 && whole.levels == 1 && whole.draws == 1, "autoregressive: exact");
    backend.k->free(backend.dev, d);
    dlm_network_free(m);
}

/* The same scorer for all texts in one order, in another, and one for each: the same bits. Short calls, cached and not. */
static void test_alone(void)
{
    enum { LONG = 40, TEXTS = 12 };
    struct dlm_network *m = network(LONG, false, 9);
    struct dlm_score_plan plan = {.noise = noise("low-uniform"), .levels = 120, .seed = 3, .length = LONG};
    uint32_t ids[TEXTS][LONG];
    struct dlm_piece piece[TEXTS];
    struct dlm_score alone[TEXTS], there[TEXTS], back[TEXTS];
    struct dlm_rng r;
    struct dlm_error err = {{0}};
    struct dlm_scorer *s;
    dlm_rng_init(&r, 1, 2, DLM_RNG_TEST);
    for (int i = 0; i < TEXTS; i++) {
        size_t n = 2 + dlm_rng_below(&r, LONG - 1), before = dlm_rng_below(&r, n);
        for (size_t p = 0; p < LONG; p++) {
            ids[i][p] = (uint32_t)dlm_rng_below(&r, V - 1);
            ids[i][p] += ids[i][p] >= MASK;
        }
        piece[i] = (struct dlm_piece){ids[i], n, before, i % 3 ? 0 : dlm_rng_below(&r, n - before)};
        alone[i] = score(m, &plan, &piece[i]);
    }
    if (dlm_scorer_new(&s, &backend, m, &plan, &err))
        exit(1);
    for (int i = 0; i < 2 * TEXTS; i++) {
        int k = i < TEXTS ? i : 2 * TEXTS - 1 - i;
        if (dlm_scorer_run(s, &piece[k], i < TEXTS ? &there[k] : &back[k], &err))
            exit(1);
    }
    dlm_scorer_free(s);
    bool same = true;
    for (int i = 0; i < TEXTS; i++)
        same = same && alone[i].nats == there[i].nats && alone[i].nats == back[i].nats && alone[i].se == back[i].se;
    tap_ok(same, "a score has the same bits whatever was scored before it");
    plan.seed = 4;
    tap_ok(score(m, &plan, &piece[0]).nats != alone[0].nats, "another seed, another draw");
    tap_ok(dlm_piece_hash(&(struct dlm_piece){text, 3, 1, 0}) != dlm_piece_hash(&(struct dlm_piece){text, 3, 2, 0}), "what is known is part of a text's key");
    dlm_network_free(m);
}

static void test_refused(struct dlm_network *m)
{
    struct dlm_error err = {{0}};
    struct dlm_scorer *s;
    struct dlm_score out;
    struct dlm_score_plan plan = {.noise = noise("masked"), .levels = 2, .length = N};
    const uint32_t mask[] = {1, MASK}, beyond[] = {V, 1};
    if (dlm_scorer_new(&s, &backend, m, &plan, &err))
        exit(1);
    tap_ok(dlm_scorer_run(s, &(struct dlm_piece){mask, 2, 0, 0}, &out, &err) == DLM_EDATA && strstr(err.msg, "the mask"), "a mask in a text: %s", err.msg);
    tap_ok(dlm_scorer_run(s, &(struct dlm_piece){beyond, 2, 1, 0}, &out, &err) == DLM_EDATA && strstr(err.msg, "outside"), "an unknown id: %s", err.msg);
    dlm_scorer_free(s);
}

int main(void)
{
    struct dlm_error err = {{0}};
    if (dlm_device_open(&backend, "cpu", 1, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    struct dlm_network *m = network(N, false, 4);
    test_bound(m);
    test_draws(m);
    test_strata(m);
    test_cosine(m);
    test_target(m);
    test_release(m);
    test_refused(m);
    dlm_network_free(m);
    test_autoregressive();
    test_alone();
    dlm_device_close(&backend);
    return tap_end();
}
