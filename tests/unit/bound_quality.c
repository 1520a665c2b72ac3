/* Is the estimate of the bound the bound? On sequences of three tokens over eight ids everything can be enumerated: all V^N corruptions, the
 * network's logits for each, and a fine rule over λ. Then the evaluator, run as dlm-eval runs it, and the draws of training are held against the exact
 * number, and the standard error that is reported against the spread that is seen. Nothing here takes its formula from the library: weights, KL and IS
 * are written from method.md §3 as they stand. */
#include "base/rng.h"
#include "diffuse/example.h"
#include "run/device.h"
#include "run/evaluate.h"
#include "tap.h"
#include "text/compose.h"
#include "token/pack.h"
#include "token/stream.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

enum { V = 8, N = 3, MASK = 3, END = 1, Z = V * V * V, PANELS = 16 };

static uint64_t seed;
static struct dlm_backend cpu;
static struct dlm_network *net;
static struct dlm_pass pass;
static struct dlm_error err;
static char dir[64];

static void must(int rc)
{
    if (rc) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

/* --- the exact number -------------------------------------------------------------------------------------------------------------- */

static const struct noise {
    const char *name;
    bool mix;
    double b, a; /* ρ = σ(aλ + b), or ρ = b */
} kinds[] = {{"masked", false, -1000, 1}, {"balanced", false, 0, 1}, {"uniform", false, 1000, 1}, {"mix:0.3", true, 0.3, 0}, {"shift:1,0.5", false, 1, 0.5}};
enum { NOISES = sizeof kinds / sizeof *kinds };

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

struct at_level {
    double alpha, beta, pi[2], dpi[2]; /* [1] at the mask id */
};

static struct at_level level_of(const struct noise *n, double log_snr)
{
    double rho = n->mix ? n->b : logistic(n->a * log_snr + n->b), d = n->mix ? 0 : n->a * rho * (1 - rho);
    return (struct at_level){logistic(log_snr), logistic(-log_snr), {rho / (V - 1), 1 - rho}, {d / (V - 1), -d}};
}

static double q_of(const struct at_level *l, uint32_t z, uint32_t x)
{
    return l->alpha * (z == x) + l->beta * l->pi[z == MASK];
}

/* w (KL + IS) of one token whose prediction is s. */
static double weighted_loss(const struct at_level *l, double log_snr, uint32_t x, uint32_t z, const double *s)
{
    double pi = l->pi[z == MASK], w = (pi - l->dpi[z == MASK]) / (pi + exp(log_snr) * (z == x)), kl = 0;
    if (w == 0)
        return 0;
    for (uint32_t v = 0; v < V; v++) {
        double q = q_of(l, v, x), p = l->alpha * s[v] + l->beta * l->pi[v == MASK];
        kl += q > 0 ? q * log(q / p) : 0;
    }
    double r = q_of(l, z, x) / (l->alpha * s[z] + l->beta * l->pi[z == MASK]);
    return w * (kl + r - log(r) - 1);
}

/* The network's prediction for every corrupted sequence, [clean prefix][z][position][id]. */
static double shares[N][Z][N][V];

static void predict_all(size_t clean)
{
    static float logits[Z * N * V];
    static uint32_t ids[Z * N], at[Z * N];
    static uint8_t noisy[Z * N];
    for (uint32_t z = 0; z < Z; z++)
        for (uint32_t p = 0, rest = z; p < N; p++, rest /= V) {
            ids[z * N + p] = rest % V;
            noisy[z * N + p] = p >= clean;
            at[z * N + p] = z * N + p;
        }
    dlm_ptr d_ids = cpu.k->alloc(cpu.dev, sizeof ids), d_noisy = cpu.k->alloc(cpu.dev, sizeof noisy);
    cpu.k->upload(cpu.dev, d_ids, ids, sizeof ids);
    cpu.k->upload(cpu.dev, d_noisy, noisy, sizeof noisy);
    dlm_network_forward(net, d_ids, d_noisy, DLM_ATTEND_PREFIX, Z);
    must(dlm_network_logits(net, at, Z * N, logits, &err));
    for (size_t z = 0; z < Z; z++)
        for (size_t p = 0; p < N; p++) {
            const float *l = logits + (z * N + p) * V;
            double sum = 0;
            for (size_t v = 0; v < V; v++)
                sum += shares[clean][z][p][v] = v == MASK ? 0 : exp(l[v]);
            for (size_t v = 0; v < V; v++)
                shares[clean][z][p][v] /= sum;
        }
    cpu.k->free(cpu.dev, d_ids);
    cpu.k->free(cpu.dev, d_noisy);
}

/* Nodes and weights of 4-point Gauss-Legendre panels over λ ∈ [-9, 9]. */
static size_t rule(double *node, double *weight)
{
    static const double x[4] = {-0.8611363115940526, -0.3399810435848563, 0.3399810435848563, 0.8611363115940526},
                        w[4] = {0.3478548451374538, 0.6521451548625461, 0.6521451548625461, 0.3478548451374538};
    for (size_t i = 0; i < PANELS * 4; i++) {
        double h = 2 * DLM_LOG_SNR_MAX / PANELS;
        node[i] = -DLM_LOG_SNR_MAX + h * ((double)(i / 4) + 0.5 + 0.5 * x[i % 4]);
        weight[i] = 0.5 * h * w[i % 4];
    }
    return PANELS * 4;
}

/* One level for the sequence, or one for each token: the expected sums over its noisy tokens of the ELBO and of the training loss, the first `clean`
 * tokens being given. */
static void exact(const struct noise *n, const uint32_t *x, size_t clean, bool per_token, double *elbo, double *loss)
{
    double node[PANELS * 4], weight[PANELS * 4], share[N][V] = {{0}}, span = logistic(DLM_LOG_SNR_MAX) - logistic(-DLM_LOG_SNR_MAX);
    size_t nodes = rule(node, weight);
    *elbo = *loss = 0;
    for (size_t i = 0; i < nodes; i++) {
        struct at_level l = level_of(n, node[i]);
        for (size_t p = 0; p < N; p++)
            for (uint32_t v = 0; v < V; v++)
                share[p][v] += weight[i] * l.alpha * l.beta / span * q_of(&l, v, x[p]); /* dt = αβ dλ */
    }
    for (size_t i = 0; i < nodes; i++) {
        struct at_level l = level_of(n, node[i]);
        double q[N][V], density = l.alpha * l.beta;
        for (size_t p = 0; p < N; p++)
            for (uint32_t v = 0; v < V; v++)
                q[p][v] = p < clean ? v == x[p] : q_of(&l, v, x[p]);
        for (uint32_t z = 0; z < Z; z++) {
            uint32_t id[N] = {z % V, z / V % V, z / V / V};
            for (size_t p = clean; p < N; p++) {
                double chance = q[p][id[p]];
                for (size_t o = 0; o < N && chance > 0; o++)
                    chance *= o == p ? 1 : per_token && o >= clean ? share[o][id[o]] : q[o][id[o]];
                if (chance <= 0)
                    continue;
                double term = chance * weight[i] * weighted_loss(&l, node[i], x[p], id[p], shares[clean][z][p]) / span;
                *elbo += term;
                *loss += term * density;
            }
        }
    }
}

/* --- data -------------------------------------------------------------------------------------------------------------------------- */

/* A shard set of `n` sequences, all the same, or of every pair of ids 4 to 7. A document is two ids; its end id fills the sequence. */
static struct dlm_shards *make_set(const char *name, size_t n, bool same)
{
    static uint8_t bytes[256];
    static struct dlm_token_bytes tokens[256];
    const char *specials[4] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
        tokens[i] = (struct dlm_token_bytes){&bytes[i], 1};
    }
    struct dlm_vocab_plan plan = {specials, 4, NULL, tokens, 256, NULL, 0, false};
    struct dlm_vocab *vocab;
    char *json, stream[128], set[128];
    must(dlm_vocab_compose(&json, &plan, &err));
    must(dlm_vocab_parse(&vocab, json, strlen(json), "test", &err));
    free(json);
    snprintf(stream, sizeof stream, "%s/%s.tok.zst", dir, name);
    snprintf(set, sizeof set, "%s/%s", dir, name);
    struct dlm_stream_info info = dlm_stream_info_of(vocab);
    struct dlm_stream_writer *w;
    FILE *f = fopen(stream, "wb");
    if (!f)
        must(dlm_fail_errno(&err, DLM_EIO, "%s", stream));
    must(dlm_stream_writer_new(&w, f, stream, &info, 1, 1, 0, &err));
    for (size_t i = 0; i < n; i++) {
        uint32_t ids[N] = {4 + (same ? 2 : (uint32_t)(i % 4)), 4 + (same ? 0 : (uint32_t)(i / 4 % 4)), END};
        must(dlm_stream_write(w, ids, N, &err));
    }
    dlm_stream_count_documents(w, n);
    must(dlm_stream_finish(w, &err));
    dlm_stream_writer_free(w);
    fclose(f);
    struct dlm_pack_options o = {.seq_len = N, .val = 0, .shard_tokens = 1 << 20, .memory = 1 << 24, .level = 1, .threads = 1};
    struct dlm_pack_report report;
    char *files[1] = {stream};
    must(dlm_pack(set, files, 1, &o, &report, &err));
    dlm_vocab_free(vocab);
    struct dlm_shards *s;
    must(dlm_shards_open(&s, set, &err));
    return s;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[512];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (unlink(below))
            remove_tree(below);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

/* A network whose predictions hang on z: every tensor has entries of the order of its use. */
static void make_network(void)
{
    struct dlm_config c;
    dlm_config_default(&c, 8, 2, 2, 16, V, N);
    c.begin = 0, c.end = END, c.pad = 2, c.mask = MASK;
    c.head_scaling = 1;
    size_t batch = dlm_evaluation_batch(N);
    struct dlm_network_plan plan = {.batch = batch, .seq_len = N, .train = true, .act = DLM_F32};
    must(dlm_network_new(&net, &cpu, &c, &plan, &err));
    must(dlm_pass_new(&pass, &cpu, &c, batch, N, &err));
    const struct dlm_layout *l = dlm_network_layout(net);
    float *w = calloc(l->total, sizeof *w);
    struct dlm_rng g;
    dlm_rng_init(&g, seed, 1, DLM_RNG_TEST);
    for (size_t i = 0; w && i < l->total; i++)
        w[i] = (float)(0.5 * dlm_rng_normal(&g));
    cpu.k->upload(cpu.dev, dlm_network_weights(net), w, l->total * 4);
    dlm_network_refresh(net);
    must(dlm_network_sync(net, &err));
    free(w);
}

/* --- held-out ---------------------------------------------------------------------------------------------------------------------- */

static struct dlm_noise parsed(const struct noise *n)
{
    struct dlm_noise to;
    must(dlm_noise_parse(&to, n->name, &err));
    return to;
}

struct spread {
    double n, sum, sum2;
};

static void put(struct spread *s, double v)
{
    s->n++, s->sum += v, s->sum2 += v * v;
}

static double mean_of(const struct spread *s)
{
    return s->sum / s->n;
}

static double variance_of(const struct spread *s)
{
    double m = mean_of(s);
    return (s->sum2 / s->n - m * m) * s->n / (s->n - 1);
}

static double se_of(const struct spread *s)
{
    return sqrt(variance_of(s) / s->n);
}

/* `runs` seeds over the first `sequences` of the set (0: all): estimates, squared standard errors, training losses. */
static void evaluate(struct dlm_shards *set, uint64_t sequences, const struct noise *n, uint32_t levels, int runs, struct spread to[3])
{
    memset(to, 0, 3 * sizeof *to);
    for (int r = 0; r < runs; r++) {
        struct dlm_evaluation_plan plan = {.shards = set, .split = DLM_SPLIT_TRAIN, .tokens = sequences * N, .levels = levels,
                                           .seed = seed + (uint64_t)r, .noise = parsed(n)};
        struct dlm_evaluation e;
        must(dlm_evaluate(net, &pass, &plan, NULL, &e, &err));
        put(&to[0], e.elbo);
        put(&to[1], e.elbo_se * e.elbo_se);
        put(&to[2], e.loss);
    }
}

static void check_held_out(struct dlm_shards *same, struct dlm_shards *pairs)
{
    for (int k = 0; k < NOISES; k++) {
        const uint32_t x[N] = {6, 4, END};
        double elbo, loss, each[16], all = 0, between = 0;
        struct spread e[3];
        exact(&kinds[k], x, 0, false, &elbo, &loss);
        elbo /= N, loss /= N;
        evaluate(same, 0, &kinds[k], 4, 60, e);
        tap_near(mean_of(&e[0]), elbo, 4 * se_of(&e[0]), "%s: the evaluator's mean over seeds is the enumerated bound", kinds[k].name);
        tap_ok(se_of(&e[0]) < 0.02 * elbo, "%s: which it tells to two per cent (%.3g)", kinds[k].name, se_of(&e[0]) / elbo);
        tap_near(mean_of(&e[2]), loss, 4 * se_of(&e[2]), "%s: so is the training loss", kinds[k].name);
        evaluate(same, 20, &kinds[k], 64, 20, e);
        tap_near(mean_of(&e[0]), elbo, 4 * se_of(&e[0]), "%s: the mean is the same with 64 levels a sequence", kinds[k].name);
        if (k % 2)
            continue;

        for (uint32_t i = 0; i < 16; i++) {
            const uint32_t y[N] = {4 + i % 4, 4 + i / 4, END};
            exact(&kinds[k], y, 0, false, &each[i], &loss);
            each[i] /= N;
            all += each[i] / 16;
        }
        for (int i = 0; i < 16; i++)
            between += (each[i] - all) * (each[i] - all) / 16; /* of the sequences' exact bounds */
        double n = (double)dlm_shards_sequences(pairs, DLM_SPLIT_TRAIN);
        evaluate(pairs, 0, &kinds[k], 2, 80, e);
        tap_near(mean_of(&e[0]), all, 4 * se_of(&e[0]), "%s: sequences that differ: the mean is the enumerated mean", kinds[k].name);
        /* The reported error squared is the noise draws' part, which the spread over seeds shows, and the sequences' own part. */
        double seen = variance_of(&e[0]) + between / (n - 1), reported = mean_of(&e[1]);
        tap_near(reported / seen, 1, 0.45, "%s: the reported standard error squared is what the draws and the sequences make", kinds[k].name);
    }
}

static void check_standard_error(struct dlm_shards *same)
{
    for (int k = 0; k < NOISES; k += 2) {
        struct spread e[3];
        evaluate(same, 0, &kinds[k], 4, 150, e);
        /* Equal sequences differ by their draws alone. The spread of 150 estimates is known to about 6 %. */
        tap_near(sqrt(mean_of(&e[1]) / variance_of(&e[0])), 1, 0.2, "%s: equal sequences: reported standard error against the spread over seeds",
                 kinds[k].name);
    }
}

/* The terms of the draws in hand against the definition, draw by draw: the largest difference, relative to the larger of the token's ELBO and 1. */
static double worst_term(const struct noise *n, size_t B)
{
    double worst = 0;
    for (size_t t = 0, r = 0; t < B * N; t++) {
        if (!pass.noisy[t])
            continue;
        size_t b = t / N, clean = (size_t)!pass.noisy[b * N] + !pass.noisy[b * N + 1];
        const uint32_t *z = pass.z + b * N;
        struct at_level l = level_of(n, pass.log_snr[t]);
        double loss = weighted_loss(&l, pass.log_snr[t], pass.x[t], pass.z[t], shares[clean][z[0] + V * (z[1] + V * z[2])][t % N]);
        double elbo = loss / (l.alpha * l.beta), got[2] = {0};
        if (r < pass.scored.n && pass.scored.at[r] == t) {
            got[0] = pass.terms[r * DLM_TERMS + DLM_TERM_LOSS];
            got[1] = pass.terms[r++ * DLM_TERMS + DLM_TERM_ELBO];
        }
        worst = fmax(worst, fmax(fabs(got[0] - loss), fabs(got[1] - elbo) / fmax(1, elbo)));
    }
    return worst;
}

/* --- training's draws ---------------------------------------------------------------------------------------------------------------- */

static void check_training_draws(void)
{
    enum { BATCH = 64, SEEDS = 300 };
    const uint32_t x[N] = {6, 4, END};
    for (int k = 0; k < NOISES; k++) {
        /* Three parts prompt-free out of five; a prompt of fraction f holds the positions ≤ 2f: the first, and half of the time the second. */
        const double p_independent = 0.5, p_prompt = 0.4, chance[N] = {1 - p_prompt, p_prompt / 2, p_prompt / 2};
        double elbo = 0, loss = 0, noisy = 0, variance[2];
        for (size_t clean = 0; clean < N; clean++) {
            noisy += chance[clean] * (double)(N - clean);
            for (int per_token = 0; per_token < 2; per_token++) {
                double e, l, share = chance[clean] * (per_token ? p_independent : 1 - p_independent);
                exact(&kinds[k], x, clean, per_token, &e, &l);
                elbo += share * e, loss += share * l;
            }
        }
        for (int independent = 0; independent < 2; independent++) {
            struct dlm_example_options o = {.p_independent = p_independent, .p_prompt = p_prompt, .stratified = !independent};
            struct spread e = {0}, l = {0}, m = {0};
            double worst = 0;
            uint64_t scratch[N];
            for (uint64_t r = 0; r < SEEDS; r++) {
                for (uint64_t i = 0; i < BATCH; i++) {
                    bool prompted;
                    memcpy(pass.x + i * N, x, sizeof x);
                    pass.example[i] = r * BATCH + i;
                    pass.noise[i] = parsed(&kinds[k]);
                    dlm_example_draw(&o, seed + r, r * BATCH + i, pass.x + i * N, N, 2, pass.log_snr + i * N, pass.noisy + i * N, &prompted, scratch);
                }
                must(dlm_pass_corrupt(&pass, BATCH, seed + r, DLM_RNG_CORRUPT, &err));
                must(dlm_pass_diffusion(&pass, net, BATCH, false, &err));
                worst = fmax(worst, worst_term(&kinds[k], BATCH));
                double sum[2] = {0}, count = 0;
                for (size_t i = 0; i < pass.scored.n; i++) {
                    sum[0] += pass.terms[i * DLM_TERMS + DLM_TERM_ELBO] / BATCH;
                    sum[1] += pass.terms[i * DLM_TERMS + DLM_TERM_LOSS] / BATCH;
                }
                for (size_t i = 0; i < BATCH * N; i++)
                    count += pass.noisy[i] / (double)BATCH;
                put(&e, sum[0]), put(&l, sum[1]), put(&m, count);
            }
            tap_near(worst, 0, 2e-5, "%s: every draw's loss and ELBO are the definition's", kinds[k].name);
            const char *how = independent ? "independent" : "stratified";
            tap_near(mean_of(&e), elbo, 4 * se_of(&e), "%s, %s levels: a batch's ELBO sum is unbiased", kinds[k].name, how);
            tap_near(mean_of(&l), loss, 4 * se_of(&l), "%s, %s levels: a batch's loss sum is unbiased", kinds[k].name, how);
            tap_near(mean_of(&m), noisy, 4 * se_of(&m), "%s, %s levels: noisy tokens", kinds[k].name, how);
        }
        /* With one level for every sequence, spreading them over the batch leaves less to chance. */
        for (int independent = 0; independent < 2; independent++) {
            struct dlm_example_options o = {.stratified = !independent};
            struct spread e = {0};
            uint64_t scratch[N];
            for (uint64_t r = 0; r < SEEDS; r++) {
                for (uint64_t i = 0; i < BATCH; i++) {
                    bool prompted;
                    memcpy(pass.x + i * N, x, sizeof x);
                    pass.example[i] = i;
                    dlm_example_draw(&o, seed + r, i, pass.x + i * N, N, 2, pass.log_snr + i * N, pass.noisy + i * N, &prompted, scratch);
                }
                must(dlm_pass_corrupt(&pass, BATCH, seed + r, DLM_RNG_CORRUPT, &err));
                must(dlm_pass_diffusion(&pass, net, BATCH, false, &err));
                double sum = 0;
                for (size_t i = 0; i < pass.scored.n; i++)
                    sum += pass.terms[i * DLM_TERMS + DLM_TERM_LOSS];
                put(&e, sum / (BATCH * N));
            }
            variance[independent] = variance_of(&e);
        }
        tap_ok(variance[0] < variance[1], "%s: stratified levels cut the variance of a batch's loss (to %.2f of it)", kinds[k].name,
               variance[0] / variance[1]);
    }
}

int main(void)
{
    seed = tap_seed();
    snprintf(dir, sizeof dir, "/tmp/bound_quality.XXXXXX");
    if (!mkdtemp(dir))
        must(dlm_fail_errno(&err, DLM_EIO, "%s", dir));
    must(dlm_device_open(&cpu, "cpu", 1, &err));
    make_network();
    for (size_t clean = 0; clean < N; clean++)
        predict_all(clean);
    double moves = 0;
    for (size_t z = 1; z < Z; z++)
        moves = fmax(moves, fabs(shares[0][z][0][5] - shares[0][0][0][5]));
    tap_ok(moves > 0.1, "the predictions hang on the corrupted sequence (%.3f)", moves);
    struct dlm_shards *same = make_set("same", 340, true), *pairs = make_set("pairs", 672, false);
    check_held_out(same, pairs);
    check_standard_error(same);
    check_training_draws();
    dlm_shards_close(same);
    dlm_shards_close(pairs);
    dlm_pass_release(&pass);
    dlm_network_free(net);
    dlm_device_close(&cpu);
    remove_tree(dir);
    return tap_end();
}
