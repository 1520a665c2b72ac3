/* Noise types: spelling, the process and its derivative, weights against the formula of method.md §3, curricula. */
#include "base/rng.h"
#include "diffuse/noise.h"
#include "tap.h"

#include <string.h>

static const char *kinds[] = {"masked",      "low-uniform", "balanced",      "high-uniform",  "uniform",  "shift:1.3,0.5",
                              "shift:-3,-1", "mix:0.3",     "mix:0",         "mix:1",         "shift:16", "shift:-16"};
enum { KINDS = sizeof kinds / sizeof *kinds };

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

static void spelling(void)
{
    static const char *pairs[][2] = {
        {"masked", "masked"},           {"shift:-1000", "masked"},       {"low-uniform", "low-uniform"},  {"shift:-2", "low-uniform"},
        {"shift:0", "balanced"},        {"shift:-0", "balanced"},        {"shift:0,1", "balanced"},       {"shift:2.0", "high-uniform"},
        {"shift:1e3", "uniform"},       {"uniform", "uniform"},          {"shift:0.1", "shift:0.1"},      {"shift:+1.5,-.5", "shift:1.5,-0.5"},
        {"shift:2,0", "shift:2,0"},     {"shift:2,-0", "shift:2,0"},     {"mix:0.25", "mix:0.25"},        {"mix:0", "mix:0"},
        {"mix:-0", "mix:0"},            {"mix:1", "mix:1"},              {"shift:0.30000000000000004", "shift:0.30000000000000004"},
        {"masked..uniform@0.2:0.8", "masked..uniform@0.2:0.8"},          {"masked>uniform@0.2:0.8", "masked..uniform@0.2:0.8"},
        {"shift:1.5..shift:2@0:1", "shift:1.5..high-uniform@0:1"},       {"mix:0..mix:1@0.5:0.5", "mix:0..mix:1@0.5:0.5"},
    };
    bool good = true;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct dlm_error err = {{0}};
        struct dlm_curriculum c;
        char text[160] = "";
        if (!dlm_curriculum_parse(&c, pairs[i][0], &err))
            dlm_curriculum_print(&c, text, sizeof text);
        if (strcmp(text, pairs[i][1])) {
            printf("# %s became '%s' (%s)\n", pairs[i][0], text, err.msg);
            good = false;
        }
    }
    tap_ok(good, "noise types and curricula print canonically");

    static const char *bad[] = {"",           "mask",         "shift",           "shift:",          "shift:1,",           "shift:,1",
                                "shift:1,2",  "shift:1,1.01", "shift:1,-1.01",   "shift:nan",       "shift:inf",          "shift:0x1",
                                "shift: 1",   "shift:1 ",     "shift:1,1,1",     "mix:",            "mix:1.01",           "mix:-0.1",
                                "mix:0.5,1",  "Masked",       "masked..uniform", "masked..uniform@",
                                "masked..uniform@0.2",        "masked..uniform@0.8:0.2",            "masked..uniform@-0.1:0.5",
                                "masked..uniform@0.2:1.1",    "masked..mix:0.5@0:1",                "mix:0.5..uniform@0:1",
                                "masked..@0:1",               "..uniform@0:1",                      "a..b@0:1",
                                "masked..uniform@0.2:0.8x",   "masked@0.2:0.8",                     "masked..uniform..balanced@0:1"};
    good = true;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dlm_error err = {{0}};
        struct dlm_curriculum c;
        int rc = dlm_curriculum_parse(&c, bad[i], &err);
        if (rc != DLM_EUSAGE || !err.msg[0] || (bad[i][0] && !strstr(err.msg, "'"))) {
            printf("# '%s' gave %d '%s'\n", bad[i], rc, err.msg);
            good = false;
        }
    }
    tap_ok(good, "what is no noise type is misuse, and says which");
}

static void process(uint64_t seed)
{
    uint32_t V = 11;
    double worst_sum = 0, worst_d = 0, worst_dsum = 0;
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 1, DLM_RNG_TEST);
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (int i = 0; i < 200; i++) {
            double l = -9 + 18 * dlm_rng_uniform(&r), h = 1e-4;
            double other = dlm_noise_pi(&n, l, false, V), mask = dlm_noise_pi(&n, l, true, V);
            worst_sum = fmax(worst_sum, fabs(other * (V - 1) + mask - 1));
            for (int m = 0; m < 2; m++) {
                double d = (dlm_noise_pi(&n, l + h, m, V) - dlm_noise_pi(&n, l - h, m, V)) / (2 * h);
                worst_d = fmax(worst_d, fabs(d - dlm_noise_dpi(&n, l, m, V)));
            }
            worst_dsum = fmax(worst_dsum, fabs(dlm_noise_dpi(&n, l, false, V) * (V - 1) + dlm_noise_dpi(&n, l, true, V)));
        }
    }
    tap_near(worst_sum, 0, 1e-15 * 4, "π sums to 1");
    tap_near(worst_d, 0, 1e-8, "dπ/dλ against differences");
    tap_near(worst_dsum, 0, 1e-15, "dπ/dλ sums to 0");

    struct dlm_noise masked = noise("masked"), uniform = noise("uniform");
    bool exact = true;
    for (double l = -9; l <= 9; l += 0.5)
        exact = exact && dlm_noise_rho(&masked, l) == 0 && dlm_noise_pi(&masked, l, true, V) == 1 && dlm_noise_drho(&masked, l) == 0 &&
                dlm_noise_rho(&uniform, l) == 1 && dlm_noise_pi(&uniform, l, true, V) == 0 && dlm_noise_drho(&uniform, l) == 0;
    tap_ok(exact, "masked and uniform noise have ρ of exactly 0 and 1");

    uint64_t keep, flat;
    dlm_noise_thresholds(&uniform, 0, &keep, &flat);
    bool good = keep == UINT64_C(1) << 31 && flat == UINT64_C(1) << 32;
    dlm_noise_thresholds(&masked, INFINITY, &keep, &flat);
    good = good && keep == UINT64_C(1) << 32;
    struct dlm_noise still = noise("shift:2,0");
    dlm_noise_thresholds(&still, INFINITY, &keep, &flat);
    good = good && flat == (uint64_t)(dlm_noise_rho(&still, 0) * 0x1p32);
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (double l = -9; l <= 9; l += 0.25) {
            dlm_noise_thresholds(&n, l, &keep, &flat);
            good = good && fabs((double)keep - dlm_noise_alpha(l) * 0x1p32) < 1 && fabs((double)flat - dlm_noise_rho(&n, l) * 0x1p32) < 1;
        }
    }
    tap_ok(good, "thresholds are ⌊α·2³²⌋ and ⌊ρ·2³²⌋");
}

/* The definition of w in long double, as method.md §3 prints it. *scale is what it would be without π': the measure of what is
 * lost to the subtraction there. */
static long double weight(const struct dlm_noise *n, double l, bool at_mask, bool at_x, uint32_t V, long double *scale)
{
    long double e = expl(l), a = n->mix ? 0 : n->slope, u = n->mix ? 0 : (long double)n->slope * l + n->shift;
    long double rho = n->mix ? n->share : 1 / (1 + expl(-u)), rest = n->mix ? 1 - (long double)n->share : 1 / (1 + expl(u));
    long double pi = at_mask ? rest : rho / (V - 1), dpi = at_mask ? -a * rho * rest : a * rho * rest / (V - 1);
    *scale = pi / (pi + (at_x ? e : 0));
    return (pi - dpi) / (pi + (at_x ? e : 0));
}

static void weights(uint64_t seed)
{
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 2, DLM_RNG_TEST);
    double worst_w = 0, worst_e = 0, worst_c = 0;
    bool zero = true, positive = true;
    uint32_t sizes[] = {3, 50, 131072};
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (int i = 0; i < 300; i++) {
            uint32_t V = sizes[i % 3], mask = (uint32_t)dlm_rng_below(&r, V), x = (mask + 1) % V, other = (mask + 2) % V;
            double l = i < 6 ? (i & 1 ? 9 : -9) : -9 + 18 * dlm_rng_uniform(&r), alpha = 1 / (1 + exp(-l)), p = alpha / (1 + exp(l));
            uint32_t zs[] = {x, mask, other};
            for (int j = 0; j < 3; j++) {
                struct dlm_token_noise t = dlm_noise_token(&n, l, x, zs[j], mask, V);
                long double scale, want = weight(&n, l, j == 1, j == 0, V, &scale);
                bool possible = j == 0 || dlm_noise_pi(&n, l, j == 1, V) > 0;
                if (!possible || (dlm_noise_rho(&n, l) == 0 && j == 0)) {
                    zero = zero && t.weight == 0 && t.elbo_weight == 0;
                    continue;
                }
                positive = positive && t.weight > 0;
                worst_w = fmax(worst_w, (double)(fabsl(t.weight - want) / scale));
                worst_e = fmax(worst_e, (double)(fabsl(t.elbo_weight * p - want) / scale));
                worst_c = fmax(worst_c, fabs(t.c * (1 + exp(l)) - dlm_noise_pi(&n, l, false, V)));
            }
        }
    }
    tap_near(worst_w, 0, 2e-14, "weight against the definition in long double, relative, λ = ±9 included");
    tap_near(worst_e, 0, 2e-13, "ELBO weight likewise");
    tap_near(worst_c, 0, 1e-13, "c = βρ/(V-1)");
    tap_ok(zero, "weights are exactly 0 where masked noise kept the token, and where no noise leads");
    tap_ok(positive, "all other weights are positive");
}

/* What the shares of a level are computed for at once is what each function says alone, to the bit. */
static void shares(uint64_t seed)
{
    struct dlm_rng g;
    dlm_rng_init(&g, seed, 3, DLM_RNG_TEST);
    bool good = true;
    for (int k = 0; k < KINDS; k++) {
        struct dlm_noise n = noise(kinds[k]);
        for (int i = 0; i < 500; i++) {
            double l = i == 0 ? 0 : i == 1 ? INFINITY : i == 2 ? -DLM_LOG_SNR_MAX : (2 * dlm_rng_uniform(&g) - 1) * DLM_LOG_SNR_MAX;
            struct dlm_shares s = dlm_noise_shares(&n, l);
            good = good && s.alpha == dlm_noise_alpha(l) && s.beta == dlm_noise_alpha(-l) && s.rho == dlm_noise_rho(&n, l) &&
                   s.rest == dlm_noise_pi(&n, l, true, 50) && s.rho / 49 == dlm_noise_pi(&n, l, false, 50);
        }
    }
    tap_ok(good, "all shares of a level at once are those asked for one by one");
}

static void curricula(void)
{
    struct dlm_error err = {{0}};
    struct dlm_curriculum c;
    dlm_curriculum_parse(&c, "masked..uniform@0.2:0.8", &err);
    struct dlm_noise n = dlm_curriculum_at(&c, 0.1999);
    bool good = n.shift == -1000;
    n = dlm_curriculum_at(&c, 0.2);
    good = good && n.shift == -1000;
    n = dlm_curriculum_at(&c, 0.2 + 0.6 / 4);
    good = good && fabs(n.shift + 8) < 1e-12 && n.slope == 1;
    n = dlm_curriculum_at(&c, 0.5);
    good = good && fabs(n.shift) < 1e-12;
    n = dlm_curriculum_at(&c, 0.8);
    good = good && n.shift == 1000;
    n = dlm_curriculum_at(&c, 1);
    good = good && n.shift == 1000;
    dlm_curriculum_parse(&c, "mix:0.1>mix:0.5@0:1", &err);
    n = dlm_curriculum_at(&c, 0.25);
    good = good && n.mix && fabs(n.share - 0.2) < 1e-12;
    dlm_curriculum_parse(&c, "balanced..uniform@0.5:0.5", &err);
    good = good && dlm_curriculum_at(&c, 0.49999).shift == 0 && dlm_curriculum_at(&c, 0.5).shift == 1000;
    dlm_curriculum_parse(&c, "low-uniform", &err);
    good = good && !c.moves && dlm_curriculum_at(&c, 0).shift == -2 && dlm_curriculum_at(&c, 1).shift == -2;
    tap_ok(good, "curricula stand, move between clamped shifts, and end exactly");
}

int main(void)
{
    uint64_t seed = tap_seed();
    spelling();
    process(seed);
    weights(seed);
    shares(seed);
    curricula();
    return tap_end();
}
