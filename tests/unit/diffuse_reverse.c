/* The reverse step against Bayes' rule written out, marginals carried through many steps, the cuts and the draw. */
#include "base/rng.h"
#include "diffuse/choose.h"
#include "diffuse/reverse.h"
#include "tap.h"

#include <string.h>

static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform", "mix:0.3", "mix:0", "mix:1", "shift:1.3,0.5",
                              "shift:0.5,-1"};
enum { KINDS = sizeof kinds / sizeof *kinds, V = 5 };

static struct dlm_noise noise(const char *text)
{
    struct dlm_error err = {{0}};
    struct dlm_noise n;
    if (dlm_noise_parse(&n, text, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return n;
}

/* q_t(z|x) with α and β as given. */
static double q_of(const struct dlm_noise *n, double l, uint32_t x, uint32_t z, uint32_t mask)
{
    if (isinf(l))
        return z == x;
    return (z == x) * dlm_noise_alpha(l) + dlm_noise_alpha(-l) * dlm_noise_pi(n, l, z == mask, V);
}

/* The transition that carries q_s to q_t, from its definition: what is missing of q_t after keeping α_t/α_s. */
static double transition(const struct dlm_noise *n, double lt, double ls, uint32_t zs, uint32_t zt, uint32_t mask)
{
    double as = isinf(ls) ? 1 : dlm_noise_alpha(ls), keep = dlm_noise_alpha(lt) / as;
    double noise_t = dlm_noise_alpha(-lt) * dlm_noise_pi(n, lt, zt == mask, V);
    double noise_s = isinf(ls) ? 0 : dlm_noise_alpha(-ls) * dlm_noise_pi(n, ls, zt == mask, V);
    return (zs == zt) * keep + noise_t - keep * noise_s;
}

static void random_shares(double *s, uint32_t mask, struct dlm_rng *r)
{
    double sum = 0;
    for (uint32_t v = 0; v < V; v++)
        sum += s[v] = v == mask ? 0 : exp(2 * dlm_rng_normal(r));
    for (uint32_t v = 0; v < V; v++)
        s[v] /= sum;
}

static void bayes(uint64_t seed)
{
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 1, DLM_RNG_TEST);
    double worst = 0, worst_sum = 0, worst_kolmogorov = 0;
    bool no_mask = true, positive = true;
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (int i = 0; i < 400; i++) {
            uint32_t mask = (uint32_t)dlm_rng_below(&r, V);
            double s[V], p[V], lt = -9 + 17 * dlm_rng_uniform(&r), ls = lt + (9 - lt) * dlm_rng_uniform(&r);
            if (i % 4 == 0)
                ls = INFINITY;
            if (i % 16 == 1)
                ls = lt + 1e-7;
            random_shares(s, mask, &r);
            for (uint32_t zt = 0; zt < V; zt++) {
                double evidence = 0, sum = 0;
                for (uint32_t x = 0; x < V; x++)
                    evidence += s[x] * q_of(&n, lt, x, zt, mask);
                if (evidence < 1e-200)
                    continue;
                dlm_reverse_step(p, &n, lt, ls, zt, s, V, mask);
                for (uint32_t zs = 0; zs < V; zs++) {
                    double joint = 0;
                    for (uint32_t x = 0; x < V; x++)
                        joint += s[x] * q_of(&n, ls, x, zs, mask) * transition(&n, lt, ls, zs, zt, mask);
                    worst = fmax(worst, fabs(joint / evidence - p[zs]));
                    sum += p[zs];
                    positive = positive && p[zs] >= 0;
                }
                worst_sum = fmax(worst_sum, fabs(sum - 1));
                no_mask = no_mask && !(isinf(ls) && p[mask] != 0);
                for (uint32_t x = 0; x < V; x++) {
                    double carried = 0;
                    for (uint32_t zs = 0; zs < V; zs++)
                        carried += q_of(&n, ls, x, zs, mask) * transition(&n, lt, ls, zs, zt, mask);
                    worst_kolmogorov = fmax(worst_kolmogorov, fabs(carried - q_of(&n, lt, x, zt, mask)));
                }
            }
        }
    }
    tap_near(worst_kolmogorov, 0, 1e-14, "the written-out transition carries q_s to q_t");
    tap_near(worst, 0, 1e-9, "a reverse step is Bayes' rule");
    tap_near(worst_sum, 0, 1e-15 * 4, "its probabilities sum to 1");
    tap_ok(positive, "none is negative");
    tap_ok(no_mask, "the last step never leaves the mask");
}

/* With the true s the steps carry q_t to q_s: T steps from the corrupted marginal end exactly at the data's distribution. */
static void marginals(uint64_t seed)
{
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 2, DLM_RNG_TEST);
    double worst = 0;
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        uint32_t mask = (uint32_t)dlm_rng_below(&r, V);
        double s[V], now[V], next[V], p[V];
        random_shares(s, mask, &r);
        enum { T = 24 };
        for (uint32_t v = 0; v < V; v++)
            now[v] = dlm_noise_alpha(-9) * s[v] + dlm_noise_alpha(9) * dlm_noise_pi(&n, -9, v == mask, V);
        for (int j = 0; j < T; j++) {
            double lt = -9 + 18.0 * j / T, ls = j == T - 1 ? INFINITY : -9 + 18.0 * (j + 1) / T;
            memset(next, 0, sizeof next);
            for (uint32_t z = 0; z < V; z++) {
                dlm_reverse_step(p, &n, lt, ls, z, s, V, mask);
                for (uint32_t v = 0; v < V; v++)
                    next[v] += now[z] * p[v];
            }
            memcpy(now, next, sizeof now);
            for (uint32_t v = 0; v < V; v++) {
                double want = isinf(ls) ? s[v] : dlm_noise_alpha(ls) * s[v] + dlm_noise_alpha(-ls) * dlm_noise_pi(&n, ls, v == mask, V);
                worst = fmax(worst, fabs(now[v] - want));
            }
        }
    }
    tap_near(worst, 0, 1e-12, "composed steps reproduce the marginal at every level, and the data at the end");
}

static void denied(void)
{
    double s[V] = {0, 0.5, 0.5, 0, 0}, p[V];
    struct dlm_noise masked = noise("masked"), uniform = noise("uniform");
    dlm_reverse_step(p, &masked, 0, 1, 4, s, V, 3);
    bool good = p[4] == 1 && p[1] == 0;
    dlm_reverse_step(p, &uniform, 0, INFINITY, 3, s, V, 3);
    good = good && p[3] == 0 && p[1] == 0.5;
    tap_ok(good, "an id that neither model nor noise explains stays, a mask gives way");

    uint32_t best;
    const double t[V] = {0, 0.5, 0.5, 0, 0};
    double at_mask = dlm_reverse_confidence(&masked, 3, t, V, 3, &best), at_id = dlm_reverse_confidence(&masked, 1, t, V, 3, &best);
    tap_ok(best == 1 && at_mask == 0.5 && at_id == 0, "confidence: masks by the largest share, ids that noise cannot have put never");
    struct dlm_noise balanced = noise("balanced");
    double want = dlm_noise_pi(&balanced, -9, false, V) * 0.5;
    tap_near(dlm_reverse_confidence(&balanced, 0, t, V, 3, &best), want, 1e-18, "confidence of an id is weighed with the prior");
}

/* The four parts, put together again, are what dlm_reverse_step says. */
static void odds(uint64_t seed)
{
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 9, DLM_RNG_TEST);
    double worst = 0;
    for (int i = 0; i < 400; i++) {
        struct dlm_noise n = noise(kinds[i % KINDS]);
        uint32_t mask = (uint32_t)dlm_rng_below(&r, V), z = i % 4 ? (uint32_t)dlm_rng_below(&r, V) : mask;
        double lt = -9 + 17 * dlm_rng_uniform(&r), ls = i % 5 ? lt + (9 - lt) * dlm_rng_uniform(&r) : INFINITY, s[V], p[V], q[V], all = 0;
        random_shares(s, mask, &r);
        dlm_reverse_step(p, &n, lt, ls, z, s, V, mask);
        struct dlm_reverse_odds o = dlm_reverse_odds_of(&n, lt, ls, z == mask, V);
        for (uint32_t v = 0; v < V; v++)
            all += q[v] = v == z ? o.stay_share * s[v] + o.stay : (v == mask ? o.to_mask : o.noise / (V - 1 - (z != mask))) + o.predicted * s[v];
        for (uint32_t v = 0; v < V; v++)
            worst = fmax(worst, fabs((all > 0 ? q[v] / all : v == z) - p[v]));
    }
    tap_near(worst, 0, 1e-13, "the odds of a draw are the reverse step's");
}

static int falling(const void *a, const void *b)
{
    double l = *(const double *)a, r = *(const double *)b;
    return (l < r) - (l > r);
}

static void cuts(uint64_t seed)
{
    enum { M = 300 };
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 3, DLM_RNG_TEST);
    float logits[M];
    double s[M], full[M], sorted[M], shares_off = 0;
    struct dlm_choose_rank rank[M];
    bool same_set = true, tempered = true;
    for (int i = 0; i < 200; i++) {
        uint32_t mask = (uint32_t)dlm_rng_below(&r, M);
        for (int v = 0; v < M; v++)
            logits[v] = (float)(2 * dlm_rng_normal(&r));
        logits[mask] = 50; /* must not matter */
        struct dlm_choose plain = {.temperature = 1, .top_p = 1}, c = plain;
        dlm_choose_shares(full, &plain, logits, M, mask, NULL);
        double again[M];
        dlm_reverse_softmax(again, logits, M, mask);
        for (int v = 0; v < M; v++)
            shares_off = fmax(shares_off, fabs(again[v] - full[v]));
        c.top_k = i % 3 == 1 ? 0 : 1 + dlm_rng_below(&r, M + 20);
        c.top_p = i % 3 == 0 ? 1 : 0.02 + 0.97 * dlm_rng_uniform(&r);
        dlm_choose_shares(s, &c, logits, M, mask, rank);
        memcpy(sorted, full, sizeof sorted);
        qsort(sorted, M, sizeof *sorted, falling);
        size_t kept = 0;
        double held = 0;
        while (kept < M - 1 && (!c.top_k || kept < c.top_k) && (!kept || held < c.top_p))
            held += sorted[kept++];
        for (int v = 0; v < M; v++) {
            bool in = full[v] >= sorted[kept - 1] && full[v] > 0;
            same_set = same_set && in == (s[v] > 0) && (!in || fabs(s[v] - full[v] / held) < 1e-12);
        }
        struct dlm_choose half = {.temperature = 0.5, .top_p = 1}, none = {.temperature = 0, .top_p = 1};
        dlm_choose_shares(s, &half, logits, M, mask, rank);
        double norm = 0;
        for (int v = 0; v < M; v++)
            norm += full[v] * full[v];
        for (int v = 0; v < M; v++)
            tempered = tempered && fabs(s[v] - full[v] * full[v] / norm) < 1e-12;
        dlm_choose_shares(s, &none, logits, M, mask, rank);
        for (int v = 0; v < M; v++)
            tempered = tempered && s[v] == (full[v] == sorted[0]);
    }
    tap_near(shares_off, 0, 1e-15, "shares without a cut are the softmax");
    tap_ok(same_set, "top-k and top-p keep the likeliest, renormalised");
    tap_ok(tempered, "temperature 1/2 squares the shares, 0 keeps the likeliest");

    double p[V] = {0, 0.2, 0, 0.5, 0.3};
    tap_ok(dlm_choose_draw(p, V, 1e-300) == 1 && dlm_choose_draw(p, V, 0.1999) == 1 && dlm_choose_draw(p, V, 0.2001) == 3 &&
               dlm_choose_draw(p, V, 0.6999) == 3 && dlm_choose_draw(p, V, 0.7001) == 4 && dlm_choose_draw(p, V, 1) == 4,
           "a draw finds the id at its share, never one with none");
}

int main(void)
{
    uint64_t seed = tap_seed();
    bayes(seed);
    marginals(seed);
    denied();
    odds(seed);
    cuts(seed);
    return tap_end();
}
