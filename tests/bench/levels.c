/* make bench-levels: by how much noise levels that are spread evenly cut the variance of what is estimated from them, against levels
 * drawn one by one. TSV, one row an estimate:
 *
 *     what       loss, elbo (nats/token) and grad_norm of a training batch, as dlm-metrics(5) has them; grad, the gradient itself, whose
 *                variance is the sum of its entries'; held_loss and held_elbo, of a held-out set
 *     noise
 *     setting    published: half of the sequences with a level per token, prompts, empty tokens; plain: one level a sequence, no more
 *     by         draws: from the spread of estimates; levels: from the variance at each level, by the law of total variance (below)
 *     sequences  of the batch or set
 *     levels     K of a sequence; all: as if every level there is were drawn
 *     draws      estimates, each with its own seed (by levels: pairs of level and corruption, of all sequences)
 *     mean, mean_independent, sd, sd_independent   of the estimates (grad: no mean, and the root of the summed variance)
 *     ratio, ratio_se   of the variances, evenly spread over independent: 0.5 is worth twice the draws
 *
 * Training's levels are those of --levels-drawn stratified and independent, on new data every time, the same for both, as a run's are.
 * Held-out levels are those of dlm-eval, a stratum of t for each of the K, against K plain draws, on one set, so that the variance is that
 * of the noise alone; its sequences are independent of each other, so that the ratio is that of a single one, and with K = 1 it is 1.
 *
 * An ELBO's variance sits in rare draws: near λ = 9 few tokens are noisy and each weighs thousands, so that the spread of some hundred
 * estimates says little of it, nor does its standard error. By levels: with x the estimate from one draw, m(λ) and v(λ) its mean and
 * variance at a level, plain draws have E v + Var m, K strata E v + E Var(m in a stratum). Levels are drawn uniformly in λ and weighed, as
 * for dlm-eval's profile; products of means are of independent draws.
 *
 * The network is small (V 64, d 32, L 2, N 32) and trained for each noise type on a synthetic language, so that its loss hangs on the level
 * as in practice. Standard errors are the delta method's: over pairs of estimates; by levels over sequences. Not a test.
 *
 *     levels [DRAWS]      estimates a row (200) for 64 sequences; of training batches eight times as many for 8, gradients 400 at most
 */
#include "base/number.h"
#include "base/rng.h"
#include "diffuse/example.h"
#include "run/device.h"
#include "run/optimizer.h"
#include "run/pass.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 64, WIDTH = 32, LAYERS = 2, HEADS = 2, N = 32, PAD = 2, MASK = 3, FIRST = 4, STEPS = 600, BATCH = 64 };
enum { SET = 64, MOST = 128 /* sequences in a pass */, BINS = 64, ROUNDS = 32, MOST_STRATA = 16, GRADIENTS = 400 };
enum { STRATIFIED, INDEPENDENT };

static struct dlm_backend cpu;
static struct dlm_network *net;
static struct dlm_pass pass;
static struct dlm_noise noise;
static const char *noise_name;
static size_t parameters;

static void must(int rc, const struct dlm_error *err)
{
    if (rc) {
        fprintf(stderr, "levels: %s\n", err->msg);
        exit(1);
    }
}

static void *memory(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p) {
        fprintf(stderr, "levels: out of memory\n");
        exit(1);
    }
    return p;
}

/* --- data -------------------------------------------------------------------------------------------------------------------------- */

/* Sequence i of a language with four dialects: a dialect gives each word four words that may follow it, some likelier, and one word in
 * twenty is any. */
static void write_sequence(uint64_t i, uint32_t *x)
{
    struct dlm_rng g;
    dlm_rng_init(&g, 7, i, DLM_RNG_SYNTHETIC);
    uint32_t dialect = (uint32_t)dlm_rng_below(&g, 4), word = (uint32_t)dlm_rng_below(&g, V - FIRST);
    for (size_t p = 0; p < N; p++) {
        x[p] = FIRST + word;
        double u = dlm_rng_uniform(&g);
        uint32_t choice = u < 0.6 ? 0 : u < 0.85 ? 1 : u < 0.95 ? 2 : 3;
        word = dlm_rng_uniform(&g) < 0.05 ? (uint32_t)dlm_rng_below(&g, V - FIRST)
                                          : (uint32_t)(dlm_philox_at(11, dialect * V + word, choice, DLM_RNG_SYNTHETIC).v[0] % (V - FIRST));
    }
}

/* --- one batch --------------------------------------------------------------------------------------------------------------------- */

struct batch {
    double loss, elbo, grad_norm, noisy; /* noisy: positions that carry loss */
};

/* A training batch as dlm-train makes it, of examples first and on; gradients are left in the network, not yet divided by `noisy`. */
static struct batch train_batch(const struct dlm_example_options *o, uint64_t seed, uint64_t first, size_t B)
{
    static uint64_t scratch[N];
    struct dlm_error err;
    struct batch r = {0};
    for (size_t b = 0; b < B; b++) {
        bool prompted;
        write_sequence(first + b, pass.x + b * N);
        dlm_example_draw(o, seed, first + b, pass.x + b * N, N, PAD, pass.log_snr + b * N, pass.noisy + b * N, &prompted, scratch);
        pass.example[b] = first + b;
        pass.noise[b] = noise;
        for (size_t p = 0; p < N; p++)
            r.noisy += pass.noisy[b * N + p];
    }
    dlm_network_zero_gradients(net);
    must(dlm_pass_corrupt(&pass, B, seed, DLM_RNG_CORRUPT, &err), &err);
    must(dlm_pass_diffusion(&pass, net, B, true, &err), &err);
    must(dlm_network_sync(net, &err), &err);
    for (size_t i = 0; i < pass.scored.n; i++) {
        r.loss += pass.terms[i * DLM_TERMS + DLM_TERM_LOSS];
        r.elbo += pass.terms[i * DLM_TERMS + DLM_TERM_ELBO];
    }
    r.loss /= r.noisy;
    r.elbo /= r.noisy;
    r.grad_norm = sqrt(cpu.k->sum_squares(cpu.dev, dlm_network_gradients(net), parameters)) / r.noisy;
    return r;
}

/* Loss and ELBO, nats/token, of the first `draws` rows of levels: draw d is of the set's sequence d / each. */
static void held_out(uint64_t seed, const double *log_snr, size_t draws, size_t each, double *loss, double *elbo)
{
    struct dlm_error err;
    for (size_t first = 0; first < draws; first += MOST) {
        size_t B = draws - first < MOST ? draws - first : MOST;
        for (size_t b = 0; b < B; b++) {
            write_sequence(UINT64_C(1) << 40 | (first + b) / each, pass.x + b * N);
            for (size_t p = 0; p < N; p++)
                pass.log_snr[b * N + p] = log_snr[first + b];
            memset(pass.noisy + b * N, 1, N);
            pass.example[b] = first + b;
            pass.noise[b] = noise;
            loss[first + b] = elbo[first + b] = 0;
        }
        must(dlm_pass_corrupt(&pass, B, seed, DLM_RNG_EVAL_CORRUPT, &err), &err);
        must(dlm_pass_diffusion(&pass, net, B, false, &err), &err);
        must(dlm_network_sync(net, &err), &err);
        for (size_t i = 0; i < pass.scored.n; i++) {
            loss[first + pass.scored.at[i] / N] += pass.terms[i * DLM_TERMS + DLM_TERM_LOSS] / (double)N;
            elbo[first + pass.scored.at[i] / N] += pass.terms[i * DLM_TERMS + DLM_TERM_ELBO] / (double)N;
        }
    }
}

/* --- variances --------------------------------------------------------------------------------------------------------------------- */

struct spread {
    double mean, variance;
    double *q; /* (draws) squared deviations, whose mean is the variance but for draws/(draws - 1) */
};

static struct spread spread_of(const double *x, size_t draws)
{
    struct spread s = {.q = memory(draws, sizeof *s.q)};
    for (size_t r = 0; r < draws; r++)
        s.mean += x[r] / (double)draws;
    for (size_t r = 0; r < draws; r++) {
        s.q[r] = (x[r] - s.mean) * (x[r] - s.mean);
        s.variance += s.q[r] / ((double)draws - 1);
    }
    return s;
}

static void print_row(const char *what, const char *setting, const char *by, size_t sequences, const char *levels, size_t draws, const double mean[2],
                      const double variance[2], double ratio, double se)
{
    printf("%s\t%s\t%s\t%s\t%zu\t%s\t%zu\t%.4f\t%.4f\t%.4g\t%.4g\t%.4f\t%.4f\n", what, noise_name, setting, by, sequences, levels, draws, mean[0],
           mean[1], sqrt(variance[0]), sqrt(variance[1]), ratio, se);
    fflush(stdout);
}

/* ratio = v/v', d(ratio) = ratio·(q/v - q'/v') averaged over the draws. The spreads are used up. */
static void compare(const char *what, const char *setting, size_t sequences, const char *levels, size_t draws, struct spread even, struct spread plain)
{
    double sum2 = 0, n = (double)draws;
    for (size_t r = 0; r < draws; r++) {
        double d = even.q[r] / even.variance - plain.q[r] / plain.variance;
        sum2 += d * d;
    }
    const double ratio = even.variance / plain.variance;
    print_row(what, setting, "draws", sequences, levels, draws, (double[2]){even.mean, plain.mean}, (double[2]){even.variance, plain.variance}, ratio,
              ratio * sqrt(sum2 / n / (n - 1)));
    free(even.q);
    free(plain.q);
}

/* The gradients' spread about their mean, all entries together. */
static struct spread spread_of_gradients(const float *g, size_t draws)
{
    struct spread s = {.q = memory(draws, sizeof *s.q)};
    for (size_t i = 0; i < parameters; i++) {
        double mean = 0;
        for (size_t r = 0; r < draws; r++)
            mean += g[r * parameters + i] / (double)draws;
        for (size_t r = 0; r < draws; r++)
            s.q[r] += (g[r * parameters + i] - mean) * (g[r * parameters + i] - mean);
    }
    for (size_t r = 0; r < draws; r++)
        s.variance += s.q[r] / ((double)draws - 1);
    return s;
}

static void measure_training(const char *setting, const struct dlm_example_options *options, size_t B, size_t draws)
{
    const size_t kept = draws < GRADIENTS ? draws : GRADIENTS; /* 50 MB a way */
    double *x[2][3];
    float *g[2];
    for (int way = 0; way < 2; way++) {
        struct dlm_example_options o = *options;
        o.stratified = way == STRATIFIED;
        for (int j = 0; j < 3; j++)
            x[way][j] = memory(draws, sizeof *x[way][j]);
        g[way] = memory(kept * parameters, sizeof *g[way]);
        for (size_t r = 0; r < draws; r++) {
            struct batch b = train_batch(&o, 1000 + r, (UINT64_C(1) << 32) + r * B, B);
            x[way][0][r] = b.loss, x[way][1][r] = b.elbo, x[way][2][r] = b.grad_norm;
            if (r >= kept)
                continue;
            float *to = g[way] + r * parameters;
            cpu.k->download(cpu.dev, to, dlm_network_gradients(net), parameters * sizeof *to);
            for (size_t i = 0; i < parameters; i++)
                to[i] /= (float)b.noisy;
        }
    }
    static const char *const what[] = {"loss", "elbo", "grad_norm"};
    for (int j = 0; j < 3; j++) {
        compare(what[j], setting, B, "1", draws, spread_of(x[0][j], draws), spread_of(x[1][j], draws));
        free(x[0][j]);
        free(x[1][j]);
    }
    compare("grad", setting, B, "1", kept, spread_of_gradients(g[0], kept), spread_of_gradients(g[1], kept));
    free(g[0]);
    free(g[1]);
}

/* The spread of the mean of `size` sequences, pooled over the sets of that size: (draws, SET) per sequence. */
static struct spread spread_of_sets(const double *of, size_t size, size_t draws)
{
    struct spread all = {.q = memory(draws, sizeof *all.q)};
    double *x = memory(draws, sizeof *x), sets = (double)(SET / size);
    for (size_t first = 0; first < SET; first += size) {
        for (size_t r = 0; r < draws; r++) {
            x[r] = 0;
            for (size_t s = 0; s < size; s++)
                x[r] += of[r * SET + first + s] / (double)size;
        }
        struct spread one = spread_of(x, draws);
        all.mean += one.mean / sets;
        all.variance += one.variance / sets;
        for (size_t r = 0; r < draws; r++)
            all.q[r] += one.q[r] / sets;
        free(one.q);
    }
    free(x);
    return all;
}

static void measure_held_out(size_t draws)
{
    enum { K = 4 };
    double *of[2][2], log_snr[SET * K], loss[SET * K], elbo[SET * K]; /* [loss or elbo][way], (draws, SET) */
    for (int i = 0; i < 4; i++)
        of[i / 2][i % 2] = memory(draws * SET, sizeof **of[0]);
    for (size_t r = 0; r < draws; r++)
        for (int way = 0; way < 2; way++) {
            for (uint32_t i = 0; i < SET * K; i++)
                log_snr[i] = way == STRATIFIED ? dlm_example_eval_log_snr(5000 + r, i / K, i % K, K) : dlm_example_eval_log_snr(5000 + r, i, 0, 1);
            held_out(5000 + r, log_snr, SET * K, K, loss, elbo);
            for (size_t i = 0; i < SET * K; i++) {
                of[0][way][r * SET + i / K] += loss[i] / K;
                of[1][way][r * SET + i / K] += elbo[i] / K;
            }
        }
    for (size_t size = 8; size <= SET; size *= 8)
        for (int j = 0; j < 2; j++)
            compare(j ? "held_elbo" : "held_loss", "plain", size, "4", draws, spread_of_sets(of[j][STRATIFIED], size, draws),
                    spread_of_sets(of[j][INDEPENDENT], size, draws));
    for (int i = 0; i < 4; i++)
        free(of[i / 2][i % 2]);
}

/* --- by levels --------------------------------------------------------------------------------------------------------------------- */

/* Σ and Σ² over rounds; the mean product of two different rounds. */
struct rounds {
    double sum, sum2;
};

static void put(struct rounds *r, double x)
{
    r->sum += x;
    r->sum2 += x * x;
}

static double product(const struct rounds *r)
{
    return (r->sum * r->sum - r->sum2) / (ROUNDS * (ROUNDS - 1.0));
}

/* Per sequence, from (ROUNDS, SET, BINS) draws: its mean, the variance of one plain draw, and how much of that lies between K strata of t, for
 * K = 2, 4, 8, 16, and between all levels. Round r's draw in bin j weighs ω = span·p(λ). */
struct parts {
    double mean, all, between[5];
};

static struct parts parts_of(const double *x, const double *omega, const double *t, size_t sequence)
{
    struct rounds mean = {0}, stratum[4][MOST_STRATA] = {{{0}}}, bin[BINS] = {{0}};
    struct parts s = {0};
    double square = 0;
    for (size_t r = 0; r < ROUNDS; r++) {
        double m = 0, in[4][MOST_STRATA] = {{0}};
        for (size_t j = 0; j < BINS; j++) {
            const size_t i = (r * SET + sequence) * BINS + j;
            const double wx = omega[i] * x[i] / BINS;
            m += wx;
            square += wx * x[i] / ROUNDS;
            put(&bin[j], sqrt(omega[i]) * x[i]);
            for (int k = 0; k < 4; k++)
                in[k][(int)(t[i] * (2 << k))] += wx * (2 << k);
        }
        put(&mean, m);
        for (int k = 0; k < 4; k++)
            for (int h = 0; h < 2 << k; h++)
                put(&stratum[k][h], in[k][h]);
    }
    s.mean = mean.sum / ROUNDS;
    s.all = square - product(&mean);
    for (int k = 0; k < 4; k++) {
        for (int h = 0; h < 2 << k; h++)
            s.between[k] += product(&stratum[k][h]) / (2 << k);
        s.between[k] -= product(&mean);
    }
    for (size_t j = 0; j < BINS; j++)
        s.between[4] += product(&bin[j]) / BINS;
    s.between[4] -= product(&mean);
    return s;
}

static void measure_by_levels(void)
{
    static const char *const levels[] = {"2", "4", "8", "16", "all"};
    const size_t draws = (size_t)ROUNDS * SET * BINS;
    const double t0 = dlm_example_t_min(), range = dlm_example_t_max() - t0, span = 2 * DLM_LOG_SNR_MAX;
    double *of[2] = {memory(draws, sizeof **of), memory(draws, sizeof **of)}, *omega = memory(draws, sizeof *omega), *t = memory(draws, sizeof *t),
           *log_snr = memory(draws, sizeof *log_snr);
    for (size_t r = 0, i = 0; r < ROUNDS; r++) {
        for (size_t d = 0; d < SET * BINS; d++, i++) {
            double u = (dlm_noise_alpha(-dlm_example_eval_log_snr(9000 + r, d / BINS, (uint32_t)(d % BINS), BINS)) - t0) / range; /* uniform in the bin */
            log_snr[i] = span * u - DLM_LOG_SNR_MAX;
            omega[i] = span * dlm_noise_alpha(log_snr[i]) * dlm_noise_alpha(-log_snr[i]) / range;
            t[i] = fmin(fmax((dlm_noise_alpha(-log_snr[i]) - t0) / range, 0), 1 - 1e-12);
        }
        held_out(9000 + r, log_snr + r * SET * BINS, SET * BINS, BINS, of[0] + r * SET * BINS, of[1] + r * SET * BINS);
    }
    for (int j = 0; j < 2; j++) {
        struct parts each[SET], sum = {0};
        for (size_t s = 0; s < SET; s++) {
            each[s] = parts_of(of[j], omega, t, s);
            sum.mean += each[s].mean / SET;
            sum.all += each[s].all / SET;
            for (int k = 0; k < 5; k++)
                sum.between[k] += each[s].between[k] / SET;
        }
        for (int k = 0; k < 5; k++) {
            const double part = sum.between[k] / sum.all, K = k < 4 ? 2 << k : 1;
            double sum2 = 0;
            for (size_t s = 0; s < SET; s++)
                sum2 += pow((each[s].between[k] - part * each[s].all) / sum.all, 2);
            print_row(j ? "held_elbo" : "held_loss", "plain", "levels", 1, levels[k], draws, (double[2]){sum.mean, sum.mean},
                      (double[2]){fmax(0, sum.all - sum.between[k]) / K, sum.all / K}, 1 - part, sqrt(sum2 / SET / (SET - 1.0)));
        }
    }
    free(of[0]);
    free(of[1]);
    free(omega);
    free(t);
    free(log_snr);
}

/* --- the network ------------------------------------------------------------------------------------------------------------------- */

static void train_network(const struct dlm_example_options *o)
{
    struct dlm_error err;
    struct dlm_optimizer opt;
    struct dlm_settings settings;
    const struct dlm_layout *l = dlm_network_layout(net);
    float *w = memory(l->total, sizeof *w);
    dlm_settings_default(&settings);
    settings.beta2 = 0.99, settings.eps = 1e-8 / (WIDTH * LAYERS);
    dlm_layout_fill(l, 1, w);
    cpu.k->upload(cpu.dev, dlm_network_weights(net), w, l->total * sizeof *w);
    free(w);
    dlm_network_refresh(net);
    must(dlm_optimizer_new(&opt, &cpu, net, &err), &err);
    for (uint64_t k = 1; k <= STEPS; k++) {
        train_batch(o, 1, (k - 1) * BATCH, BATCH);
        dlm_optimizer_step(&opt, net, &settings, k, 0.2 * fmin(1, (double)k / 50), 1);
        must(dlm_network_sync(net, &err), &err);
    }
    dlm_optimizer_release(&opt);
    dlm_settings_release(&settings);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"masked", "balanced", "uniform"};
    const struct dlm_example_options published = {.p_independent = 0.5, .p_prompt = 0.2, .max_empty = 0.2, .stratified = true}, plain = {0};
    struct dlm_error err;
    struct dlm_config c;
    uint64_t draws = 200;
    if (argc > 2 || (argc == 2 && (!dlm_number_count(argv[1], &draws) || draws < 2 || draws > 100000))) {
        fprintf(stderr, "usage: levels [DRAWS], from 2 to 100000\n");
        return 2;
    }
    must(dlm_device_open(&cpu, "cpu", 1, &err), &err);
    dlm_config_default(&c, WIDTH, LAYERS, HEADS, 0, V, N);
    c.begin = 0, c.end = 1, c.pad = PAD, c.mask = MASK;
    struct dlm_network_plan plan = {.batch = MOST, .seq_len = N, .train = true, .act = DLM_F32};
    must(dlm_network_new(&net, &cpu, &c, &plan, &err), &err);
    must(dlm_pass_new(&pass, &cpu, &c, MOST, N, &err), &err);
    parameters = dlm_network_layout(net)->total;
    puts("what\tnoise\tsetting\tby\tsequences\tlevels\tdraws\tmean\tmean_independent\tsd\tsd_independent\tratio\tratio_se");
    for (int i = 0; i < 3; i++) {
        noise_name = names[i];
        must(dlm_noise_parse(&noise, noise_name, &err), &err);
        train_network(&published);
        for (size_t B = 8; B <= 64; B *= 8) {
            measure_training("published", &published, B, 64 / B * draws);
            measure_training("plain", &plain, B, 64 / B * draws);
        }
        measure_held_out(draws);
        measure_by_levels();
    }
    dlm_pass_release(&pass);
    dlm_network_free(net);
    dlm_device_close(&cpu);
    return 0;
}
