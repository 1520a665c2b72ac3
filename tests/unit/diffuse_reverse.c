/* The reverse step against Bayes' rule written out, and marginals carried through many steps. */
#include "base/rng.h"
#include "chances.h"
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
                reverse_of(p, &n, lt, ls, zt, s, V, mask);
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
                reverse_of(p, &n, lt, ls, z, s, V, mask);
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
    reverse_of(p, &masked, 0, 1, 4, s, V, 3);
    bool good = p[4] == 1 && p[1] == 0;
    reverse_of(p, &uniform, 0, INFINITY, 3, s, V, 3);
    good = good && p[3] == 0 && p[1] == 0.5;
    tap_ok(good, "an id that neither model nor noise explains stays, a mask gives way");

    struct dlm_noise balanced = noise("balanced");
    tap_ok(dlm_reverse_prior(&masked, true, V) == 1 && dlm_reverse_prior(&masked, false, V) == 0 &&
               dlm_reverse_prior(&balanced, false, V) == dlm_noise_pi(&balanced, -9, false, V),
           "confidence is weighed with the prior: ids that noise cannot have put never change");
}

int main(void)
{
    uint64_t seed = tap_seed();
    bayes(seed);
    marginals(seed);
    denied();
    return tap_end();
}
