/* From thresholds to corrupted ids to the ELBO: the device's draws follow q(z|x), and their average weighted loss is the
 * integral that method.md §3 states. The kernel's own check is elsewhere; here the whole chain is held against probabilities. */
#include "base/rng.h"
#include "diffuse/bound.h"
#include "diffuse/example.h"
#include "kernels.h"
#include "tap.h"

#include <string.h>

static const struct dlm_kernels *k;
static struct dlm_device *dev;

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

/* z (B) of B sequences of one token, each with a level of its own. */
static void corrupt(const struct dlm_noise *n, const uint32_t *x, const double *log_snr, size_t B, uint32_t V, uint32_t mask, uint64_t seed, uint32_t *z)
{
    uint64_t *words = calloc(3 * B, sizeof *words), *keep = words, *uniform = words + B, *example = words + 2 * B;
    if (!words)
        exit(1);
    for (size_t b = 0; b < B; b++) {
        dlm_noise_thresholds(n, log_snr[b], &keep[b], &uniform[b]);
        example[b] = b;
    }
    k->corrupt(dev, z, x, keep, uniform, example, B, 1, seed, DLM_RNG_TEST, V - 1, mask, mask);
    free(words);
}

static void frequencies(uint64_t seed)
{
    static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform", "mix:0.3"};
    enum { V = 7, B = 30000, MASK = 3, X = 5 };
    static uint32_t x[B], z[B];
    static double l[B];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct dlm_noise n = noise(kinds[i]);
        double worst = 0;
        bool possible = true;
        for (int j = 0; j < 5; j++) {
            double level = -4 + 2 * j, chi = 0;
            size_t seen[V] = {0};
            for (size_t b = 0; b < B; b++) {
                x[b] = X;
                l[b] = level;
            }
            corrupt(&n, x, l, B, V, MASK, seed + 10 * i + (uint64_t)j, z);
            for (size_t b = 0; b < B; b++)
                seen[z[b] < V ? z[b] : MASK]++;
            for (uint32_t v = 0; v < V; v++) {
                double q = (v == X) * dlm_noise_alpha(level) + dlm_noise_alpha(-level) * dlm_noise_pi(&n, level, v == MASK, V), want = q * B;
                possible = possible && (q > 0 || !seen[v]);
                if (want > 0)
                    chi += (seen[v] - want) * (seen[v] - want) / want;
            }
            worst = fmax(worst, chi);
        }
        tap_ok(possible && worst < 35, "%s: corrupted ids follow q(z|x) (worst χ² of 6 degrees: %.1f)", kinds[i], worst);
    }
}

/* Constant logits: the mean of ELBO terms over stratified levels is the integral over [-9, 9] divided by t_max - t_min. */
static void elbo(uint64_t seed)
{
    static const char *kinds[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform"};
    static const double integral[] = {3.890860, 3.889711, 3.889820, 3.889984, 3.890141};
    enum { V = 50, B = 40000, MASK = 3 };
    static uint32_t x[B], z[B];
    static double l[B];
    double logits[V] = {0}, scratch[V];
    for (int i = 0; i < 5; i++) {
        struct dlm_noise n = noise(kinds[i]);
        double sum = 0, squares = 0, span = dlm_example_t_max() - dlm_example_t_min();
        for (size_t b = 0; b < B; b++) {
            x[b] = (uint32_t)(b % V);
            x[b] += x[b] == MASK;
            l[b] = dlm_example_eval_log_snr(seed, b / 4, (uint32_t)(b % 4), 4);
        }
        corrupt(&n, x, l, B, V, MASK, seed + 99 + (uint64_t)i, z);
        for (size_t b = 0; b < B; b++) {
            double e = dlm_bound_token(&n, l[b], x[b], z[b], MASK, logits, V, NULL, scratch).elbo;
            sum += e;
            squares += e * e;
        }
        double mean = sum / B, se = sqrt((squares / B - mean * mean) / B);
        tap_near(mean, integral[i] / span, 4.5 * se, "%s: the mean ELBO of constant logits over drawn levels and ids", kinds[i]);
    }
}

int main(void)
{
    char msg[256];
    uint64_t seed = tap_seed();
    k = dlm_kernels_cpu();
    dev = k->open(0, 1, msg, sizeof msg);
    if (!dev) {
        printf("Bail out! %s\n", msg);
        return 1;
    }
    frequencies(seed);
    elbo(seed);
    k->close(dev);
    return tap_end();
}
