/* The exact oracles of method.md §3 from the code that computes the loss, and its gradient against differences. */
#include "base/rng.h"
#include "diffuse/bound.h"
#include "tap.h"

#include <string.h>

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

static double q_of(const struct dlm_noise *n, double l, uint32_t x, uint32_t z, uint32_t mask, uint32_t V)
{
    return (z == x) * dlm_noise_alpha(l) + dlm_noise_alpha(-l) * dlm_noise_pi(n, l, z == mask, V);
}

/* Oracle 1: for fixed logits the integral over all λ of the expected training loss is -log s(x). */
static void oracle_integral(uint64_t seed)
{
    static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform", "mix:0.3", "shift:1.3,0.5", "shift:0.7,-0.8"};
    enum { V = 6, POINTS = 40000 };
    double logits[V], scratch[V];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct dlm_noise n = noise(kinds[k]);
        struct dlm_rng r;
        dlm_rng_init(&r, seed, k, DLM_RNG_TEST);
        uint32_t mask = (uint32_t)dlm_rng_below(&r, V), x = (mask + 1 + (uint32_t)dlm_rng_below(&r, V - 1)) % V;
        double norm = 0, sum = 0;
        for (int v = 0; v < V; v++) {
            logits[v] = 2 * dlm_rng_normal(&r);
            norm += (uint32_t)v == mask ? 0 : exp(logits[v]);
        }
        for (int i = 0; i < POINTS; i++) {
            double l = -30 + 60 * (i + 0.5) / POINTS;
            for (uint32_t z = 0; z < V; z++) {
                double q = q_of(&n, l, x, z, mask, V);
                if (q > 0)
                    sum += q * dlm_bound_token(&n, l, x, z, mask, logits, V, NULL, scratch).loss;
            }
        }
        tap_near(sum * 60 / POINTS, log(norm) - logits[x], 1e-9, "%s: the integral of the loss is -log s(x)", kinds[k]);
    }
}

/* The loss of constant logits in closed form: the sum over v has one term. KL and IS as method.md §3 prints them. */
static double constant_loss(const struct dlm_noise *n, double l, bool at_x, bool at_mask, uint32_t V)
{
    uint32_t mask = 0, x = 1, z = at_x ? x : at_mask ? mask : 2;
    struct dlm_token_noise t = dlm_noise_token(n, l, x, z, mask, V);
    if (t.weight == 0)
        return 0;
    double s = 1 / (V - 1.0), c = t.c, a = t.alpha, q = at_x ? a + c : c, p = a * s + c;
    double kl = (a + c) * log((a + c) / (a * s + c)) - (c > 0 ? c * (V - 2.0) * log1p(a * s / c) : 0);
    return t.weight * (kl + (at_mask ? 0 : q / p - log(q / p) - 1));
}

/* Oracle 2: published constants for constant logits over [-9, 9]. */
static void oracle_constants(void)
{
    static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform"};
    static const double want50[] = {3.890860, 3.889711, 3.889820, 3.889984, 3.890141};
    static const double want131072[] = {11.780586, 11.779405, 11.779524, 11.779730, 11.780557};
    enum { POINTS = 256, SMALL = 50, LARGE = 131072 };
    double *logits = calloc(LARGE, sizeof *logits), *scratch = calloc(LARGE, sizeof *scratch), worst = 0;
    if (!logits || !scratch)
        exit(1);
    for (int k = 0; k < 5; k++) {
        struct dlm_noise n = noise(kinds[k]);
        double small = 0, large = 0;
        for (int i = 0; i < POINTS; i++) {
            double l = -9 + 18 * (i + 0.5) / POINTS;
            for (uint32_t z = 0; z < 3; z++) { /* mask, x, and any of the others, which are all alike */
                double q = q_of(&n, l, 1, z, 0, SMALL) * (z == 2 ? SMALL - 2.0 : 1);
                if (q > 0)
                    small += q * dlm_bound_token(&n, l, 1, z, 0, logits, SMALL, NULL, scratch).loss;
                q = q_of(&n, l, 1, z, 0, LARGE) * (z == 2 ? LARGE - 2.0 : 1);
                if (q > 0)
                    large += q * constant_loss(&n, l, z == 1, z == 0, LARGE);
            }
        }
        tap_near(small * 18 / POINTS, want50[k], 1e-5, "constant logits, V = 50, %s", kinds[k]);
        tap_near(large * 18 / POINTS, want131072[k], 1e-5, "constant logits, V = 131072, %s", kinds[k]);
        for (int i = 0; i < 3; i++)
            for (uint32_t z = 0; z < 3; z++) {
                double l = 9.0 * (i - 1), closed = constant_loss(&n, l, z == 1, z == 0, LARGE);
                double plain = dlm_bound_token(&n, l, 1, z, 0, logits, LARGE, NULL, scratch).loss;
                worst = fmax(worst, fabs(plain - closed) / (fabs(closed) + 1e-6));
            }
    }
    tap_near(worst, 0, 1e-9, "V = 131072 summed term by term agrees with the closed sum at λ = -9, 0, 9, relative");
    free(logits);
    free(scratch);
}

/* Oracle 3: masked noise is the MDLM bound. */
static void oracle_masked(uint64_t seed)
{
    enum { V = 19 };
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 100, DLM_RNG_TEST);
    double logits[V], scratch[V], grad[V], worst = 0;
    bool zero = true;
    for (int k = 0; k < 2; k++) {
        struct dlm_noise n = noise(k ? "mix:0" : "masked");
        for (int i = 0; i < 300; i++) {
            double l = i < 2 ? (i ? 9 : -9) : -9 + 18 * dlm_rng_uniform(&r), norm = 0;
            uint32_t mask = 3, x = 4 + (uint32_t)dlm_rng_below(&r, V - 4);
            for (int v = 0; v < V; v++) {
                logits[v] = 4 * dlm_rng_normal(&r);
                norm += v == 3 ? 0 : exp(logits[v]);
            }
            double want = (log(norm) - logits[x]) / dlm_noise_alpha(-l);
            worst = fmax(worst, fabs(dlm_bound_token(&n, l, x, mask, mask, logits, V, NULL, scratch).elbo / want - 1));
            struct dlm_bound b = dlm_bound_token(&n, l, x, x, mask, logits, V, grad, scratch);
            zero = zero && b.elbo == 0 && b.loss == 0 && b.kl == 0 && b.is == 0;
            for (int v = 0; v < V; v++)
                zero = zero && grad[v] == 0;
        }
    }
    tap_near(worst, 0, 1e-9, "masked: -log s(x)/(1-α) at the mask, relative");
    tap_ok(zero, "masked: nothing where the token was kept, not even a gradient");
}

/* Oracle 4 and differences. */
static void gradient(uint64_t seed)
{
    static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform", "mix:0.3", "shift:1.3,0.5"};
    enum { V = 9 };
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 200, DLM_RNG_TEST);
    double logits[V], moved[V], scratch[V], grad[V], worst = 0, worst_sum = 0, worst_hot = 0;
    bool mask_zero = true, parts = true;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (int i = 0; i < 300; i++) {
            double l = -9 + 18 * dlm_rng_uniform(&r), largest = 0, sum = 0;
            uint32_t mask = (uint32_t)dlm_rng_below(&r, V), x = (mask + 1 + (uint32_t)dlm_rng_below(&r, V - 1)) % V;
            uint32_t z = (uint32_t)dlm_rng_below(&r, V);
            if (i % 3 == 0)
                z = x;
            for (int v = 0; v < V; v++)
                logits[v] = 1.5 * dlm_rng_normal(&r);
            struct dlm_bound b = dlm_bound_token(&n, l, x, z, mask, logits, V, grad, scratch);
            parts = parts && fabs(b.kl + b.is - b.loss) <= 1e-12 * fabs(b.loss) && b.kl >= 0 && b.is >= 0;
            for (int v = 0; v < V; v++) {
                largest = fmax(largest, fabs(grad[v]));
                sum += grad[v];
            }
            mask_zero = mask_zero && grad[mask] == 0;
            worst_sum = fmax(worst_sum, fabs(sum) / (largest + 1e-9));
            for (int v = 0; v < V; v++) {
                double h = 1e-5, up, down;
                memcpy(moved, logits, sizeof moved);
                moved[v] = logits[v] + h;
                up = dlm_bound_token(&n, l, x, z, mask, moved, V, NULL, scratch).loss;
                moved[v] = logits[v] - h;
                down = dlm_bound_token(&n, l, x, z, mask, moved, V, NULL, scratch).loss;
                worst = fmax(worst, fabs((up - down) / (2 * h) - grad[v]) / (largest + 1e-3));
            }
            logits[x] = 2000; /* s is one-hot at x to the last bit */
            dlm_bound_token(&n, l, x, z, mask, logits, V, grad, scratch);
            for (int v = 0; v < V; v++)
                worst_hot = fmax(worst_hot, fabs(grad[v]));
        }
    }
    tap_near(worst, 0, 1e-6, "gradient against differences, of its largest entry");
    tap_near(worst_sum, 0, 1e-11, "a row of the gradient sums to 0, of its largest entry");
    tap_near(worst_hot, 0, 1e-300, "the gradient vanishes where s is one-hot at x");
    tap_ok(mask_zero, "nothing flows into the mask's logit");
    tap_ok(parts, "loss = kl + is, neither negative");
}

int main(void)
{
    uint64_t seed = tap_seed();
    oracle_integral(seed);
    oracle_constants();
    oracle_masked(seed);
    gradient(seed);
    return tap_end();
}
