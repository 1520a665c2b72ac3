/* The keyed draws of an example: shares, distributions, stratification, purity. Bands are five standard errors or a fixed
 * quantile of the statistic, so that a right program fails about once in a million seeds. */
#include "base/rng.h"
#include "diffuse/example.h"
#include "tap.h"

#include <string.h>

enum { N = 37, PAD = 2 };

struct drawn {
    uint32_t x[N];
    double log_snr[N];
    uint8_t noisy[N];
    bool prompted;
};

static struct drawn draw(const struct dlm_example_options *o, uint64_t seed, uint64_t i)
{
    struct drawn d;
    uint64_t scratch[N];
    for (uint32_t p = 0; p < N; p++)
        d.x[p] = 100 + p;
    dlm_example_draw(o, seed, i, d.x, N, PAD, d.log_snr, d.noisy, &d.prompted, scratch);
    return d;
}

static double level(double log_snr) /* its place in [t_min, t_max], 0 to 1 */
{
    return (1 / (1 + exp(log_snr)) - dlm_example_t_min()) / (dlm_example_t_max() - dlm_example_t_min());
}

static int rising(const void *a, const void *b)
{
    double l = *(const double *)a, r = *(const double *)b;
    return (l > r) - (l < r);
}

/* Largest distance between the empirical distribution of u (sorted in place) and the uniform one. */
static double kolmogorov(double *u, size_t n)
{
    double worst = 0;
    qsort(u, n, sizeof *u, rising);
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fmax(fabs(u[i] - (double)i / n), fabs(u[i] - (double)(i + 1) / n)));
    return worst;
}

/* f = 2·arccos(r)/π: P(clean ≤ k) = P(f(N-1) < k) = P(r > cos(πk/2(N-1))), and nothing but the prefix changes. */
static void prefix_paper(uint64_t seed, const struct dlm_example_options *o)
{
    enum { RUNS = 20000 };
    struct dlm_example_options paper = *o;
    paper.prompt_density = DLM_PROMPT_PAPER;
    size_t n = 0, at_most[N + 1] = {0}, longer = 0, release = 0;
    bool rest = true, all_or_none = true;
    for (uint64_t i = 0; i < RUNS; i++) {
        struct drawn a = draw(o, seed, i), b = draw(&paper, seed, i);
        rest = rest && a.prompted == b.prompted && !memcmp(a.x, b.x, sizeof a.x) && !memcmp(a.log_snr, b.log_snr, sizeof a.log_snr);
        all_or_none = all_or_none && (a.prompted || !memcmp(a.noisy, b.noisy, sizeof a.noisy));
        if (!b.prompted)
            continue;
        size_t clean = 0, before = 0;
        for (size_t p = 0; p < N; p++) {
            clean += !b.noisy[p];
            before += !a.noisy[p];
        }
        for (size_t k = clean; k <= N; k++)
            at_most[k]++;
        n++;
        longer += clean > N / 2;
        release += before > N / 2;
    }
    double worst = 0;
    for (size_t k = 1; k < N; k++)
        worst = fmax(worst, fabs((double)at_most[k] / (double)n - (1 - cos(M_PI_2 * (double)k / (N - 1)))));
    tap_near(worst, 0, 2.6 / sqrt((double)n), "the paper's prefix fraction follows 2·arccos(r)/π");
    tap_ok(rest && all_or_none, "the density of prefixes changes nothing else");
    tap_ok(longer > release + n / 10, "and prefixes of more than half are likelier (%zu and %zu of %zu)", longer, release, n);
}

static void shares(uint64_t seed)
{
    const struct dlm_example_options o = {.p_independent = 0.5, .p_prompt = 0.2, .max_empty = 0.2, .stratified = true};
    enum { RUNS = 20000 };
    static double fraction[RUNS], token[RUNS];
    size_t independent = 0, prompted = 0, both = 0, pads_at[N] = {0}, pads_of[N + 1] = {0}, tokens = 0;
    bool order = true, prefix = true, one_level = true, range = true;
    for (uint64_t i = 0; i < RUNS; i++) {
        struct drawn d = draw(&o, seed, i);
        bool own = d.log_snr[0] != d.log_snr[1];
        independent += own;
        both += own && d.prompted;
        size_t clean = 0, pads = 0;
        for (size_t p = 0; p < N; p++) {
            range = range && fabs(d.log_snr[p]) <= DLM_LOG_SNR_MAX;
            one_level = one_level && (own || d.log_snr[p] == d.log_snr[0]);
            prefix = prefix && (!p || d.noisy[p] >= d.noisy[p - 1]) && d.noisy[p] <= 1;
            clean += !d.noisy[p];
            if (d.x[p] == PAD) {
                pads_at[p]++;
                pads++;
            } else {
                order = order && d.x[p] == 100 + p - pads;
            }
        }
        pads_of[pads]++;
        prefix = prefix && d.prompted == (clean > 0);
        if (d.prompted) /* clean = ⌊f(N-1)⌋ + 1 */
            fraction[prompted++] = (double)clean;
        if (own)
            token[tokens++] = level(d.log_snr[i % N]);
    }
    tap_near((double)independent / RUNS, 0.5, 5 * sqrt(0.25 / RUNS), "share of sequences with a level per token");
    tap_near((double)prompted / RUNS, 0.2, 5 * sqrt(0.16 / RUNS), "share with a clean prefix");
    tap_near((double)both / RUNS, 0.1, 5 * sqrt(0.09 / RUNS), "the two are independent");
    tap_ok(range && one_level, "levels lie in range, one for the whole sequence or one per token");
    tap_ok(prefix, "clean positions are a prefix, there exactly when prompted");
    tap_ok(order, "the sequence's first tokens keep their order around the pads");
    tap_near(kolmogorov(token, tokens), 0, 2.6 / sqrt((double)tokens), "token levels are uniform in t");

    /* P(clean ≤ k) = P(f(N-1) < k) = P(r < (1 - cos(πk/(N-1)))/2) */
    double worst = 0;
    for (size_t k = 1; k < N; k++) {
        size_t at_most = 0;
        for (size_t i = 0; i < prompted; i++)
            at_most += fraction[i] <= (double)k;
        worst = fmax(worst, fabs((double)at_most / prompted - (1 - cos(M_PI * k / (N - 1))) / 2));
    }
    tap_near(worst, 0, 2.6 / sqrt((double)prompted), "prefix fraction follows arccos(1-2r)/π");
    prefix_paper(seed, &o);

    /* pads = round(f·N), f ~ U(0, 0.2): 0 … 7 with N = 37 */
    double chi = 0, at = 0.2 * N;
    size_t total = 0;
    for (size_t k = 0; k <= N; k++) {
        double low = fmax(0, k - 0.5), high = fmin(at, k + 0.5), want = high > low ? RUNS * (high - low) / at : 0;
        if (want == 0 && pads_of[k])
            chi = INFINITY;
        if (want > 0)
            chi += (pads_of[k] - want) * (pads_of[k] - want) / want;
        total += k * pads_of[k];
    }
    tap_ok(chi < 45, "number of pads is round(f·N), f uniform (χ² of 7 degrees: %.1f)", chi);
    chi = 0;
    for (size_t p = 0; p < N; p++)
        chi += pow(pads_at[p] - (double)total / N, 2) / ((double)total / N);
    tap_ok(chi < 100, "pads fall on every position alike (χ² of 36 degrees: %.1f)", chi);
}

static void strata(uint64_t seed)
{
    const struct dlm_example_options o = {.stratified = true}, plain = {.stratified = false};
    static const uint64_t starts[] = {0, 1, 12345, UINT64_C(1) << 32, (UINT64_C(1) << 40) - 77};
    static const size_t sizes[] = {8, 64, 500};
    double worst = 0, worst_step = 0, u[500];
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++) {
            size_t n = sizes[j];
            for (size_t k = 0; k < n; k++) {
                u[k] = level(draw(&o, seed, starts[i] + k).log_snr[0]);
                double step = k ? u[k] - u[k - 1] : 0.6180339887498949;
                worst_step = fmax(worst_step, fabs(step - floor(step) - 0.6180339887498949));
            }
            qsort(u, n, sizeof *u, rising);
            double gap = u[0] + 1 - u[n - 1];
            for (size_t k = 1; k < n; k++)
                gap = fmax(gap, u[k] - u[k - 1]);
            worst = fmax(worst, gap * n);
        }
    tap_ok(worst < 2.2, "levels of any batch are spread: no gap over 2.2/B (%.3f/B)", worst);
    tap_near(worst_step, 0, 1e-11, "one example on is one golden ratio on, up to i = 2^40");

    static double v[4000];
    for (size_t k = 0; k < 4000; k++)
        v[k] = level(draw(&plain, seed, k).log_snr[0]);
    double d = kolmogorov(v, 4000);
    tap_ok(d < 2.6 / sqrt(4000) && d > 1e-3, "plain draws are uniform and not stratified (%.4f)", d);

    bool in = true;
    for (uint32_t k = 0; k < 8; k++)
        for (uint64_t s = 0; s < 200; s++) {
            double t = level(dlm_example_eval_log_snr(seed, s, k, 8)) * 8;
            in = in && t >= k - 1e-9 && t <= k + 1 + 1e-9;
            v[k * 200 + s] = t - k;
        }
    tap_ok(in, "evaluation level j of K lies in its stratum");
    tap_near(kolmogorov(v, 1600), 0, 2.6 / sqrt(1600), "and is uniform within it");
}

static void purity(uint64_t seed)
{
    const struct dlm_example_options o = {.p_independent = 0.5, .p_prompt = 0.5, .max_empty = 0.3, .stratified = true};
    bool same = true, differ = false, other_seed = false;
    for (uint64_t i = 0; i < 50; i++) {
        struct drawn a = draw(&o, seed, i), b;
        draw(&o, seed, 49 - i);
        b = draw(&o, seed, i);
        same = same && !memcmp(a.x, b.x, sizeof a.x) && !memcmp(a.log_snr, b.log_snr, sizeof a.log_snr) && !memcmp(a.noisy, b.noisy, sizeof a.noisy);
        b = draw(&o, seed, i + 1);
        differ = differ || memcmp(a.x, b.x, sizeof a.x);
        b = draw(&o, seed + 1, i);
        other_seed = other_seed || memcmp(a.noisy, b.noisy, sizeof a.noisy);
    }
    tap_ok(same, "an example's draws are a function of seed and number alone");
    tap_ok(differ && other_seed, "and differ with either");

    struct dlm_example_options none = {0};
    bool untouched = true;
    for (uint64_t i = 0; i < 50; i++) {
        struct drawn d = draw(&none, seed, i);
        untouched = untouched && !d.prompted;
        for (uint32_t p = 0; p < N; p++)
            untouched = untouched && d.x[p] == 100 + p && d.noisy[p] && d.log_snr[p] == d.log_snr[0];
    }
    tap_ok(untouched, "all options at 0 leave one level and nothing else");

    struct dlm_example_options all = {.p_prompt = 1, .max_empty = 1};
    uint32_t x = 5;
    uint64_t scratch;
    double l;
    uint8_t noisy;
    bool prompted;
    dlm_example_draw(&all, seed, 1, &x, 1, UINT32_MAX, &l, &noisy, &prompted, &scratch);
    tap_ok(x == 5 && prompted && !noisy, "a sequence of one token, no pad id");
}

int main(void)
{
    uint64_t seed = tap_seed();
    shares(seed);
    strata(seed);
    purity(seed);
    return tap_end();
}
