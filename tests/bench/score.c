/* Scoring against the forward half of a training step: how much of the rate at which the network can read is left when texts are scored one by one.
 *
 * One text at a time of the network's length and of a quarter of it behind a prompt that is known, 64 levels; the bound is a pass over whole batches of
 * random sequences, corruption and loss included, without gradients. Tokens are those that go through the network. All in one run, best of several;
 * TSV: model, dtype, threads, what, tokens/s, share of the bound.
 */
#include "base/build.h"
#include "base/progress.h"
#include "base/rng.h"
#include "diffuse/example.h"
#include "run/device.h"
#include "run/pass.h"
#include "run/score.h"

#include <stdio.h>
#include <stdlib.h>

enum { V = 16384, WIDTH = 512, LAYERS = 8, N = 512, LEVELS = 64, TURNS = 4 };

static struct dlm_backend backend;
static struct dlm_error err;
static enum dlm_dtype act;
static int threads;

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void row(const char *what, double rate, double bound)
{
    printf("V%d-d%d-L%d-N%d\t%s\t%d\t%s\t%.4g\t%.3f\n", V, WIDTH, LAYERS, N, dlm_device_dtype_name(act), threads, what, rate, rate / bound);
    fflush(stdout);
}

static uint32_t id_at(uint64_t i)
{
    uint32_t u = (uint32_t)((uint64_t)dlm_philox_at(2, i, 0, DLM_RNG_TEST).v[0] * (V - 1) >> 32);
    return u + (u >= 3);
}

static double bound(struct dlm_network *m, const struct dlm_noise *noise)
{
    const size_t B = dlm_score_batch(N);
    struct dlm_pass pass;
    double best = 0;
    if (dlm_pass_new(&pass, &backend, dlm_network_config(m), B, N, &err))
        die(err.msg);
    for (int turn = 0; turn < TURNS; turn++) {
        double t0 = dlm_progress_now();
        size_t tokens = 0;
        for (size_t call = 0; call < LEVELS / B + 1; call++, tokens += B * N) {
            for (size_t b = 0; b < B; b++) {
                pass.noise[b] = *noise;
                pass.example[b] = call * B + b;
                double l = dlm_example_eval_log_snr(0, call, (uint32_t)b, (uint32_t)B);
                for (size_t i = 0; i < N; i++) {
                    pass.x[b * N + i] = id_at((call * B + b) * N + i);
                    pass.log_snr[b * N + i] = l;
                    pass.noisy[b * N + i] = 1;
                }
            }
            if (dlm_pass_corrupt(&pass, B, 0, DLM_RNG_EVAL_CORRUPT, &err) || dlm_pass_diffusion(&pass, m, B, false, &err) || dlm_network_sync(m, &err))
                die(err.msg);
        }
        double rate = (double)tokens / (dlm_progress_now() - t0);
        best = rate > best ? rate : best;
    }
    dlm_pass_release(&pass);
    return best;
}

static double scored(struct dlm_network *m, const struct dlm_noise *noise, size_t before)
{
    static uint32_t ids[N];
    struct dlm_score_plan p = {.noise = *noise, .levels = LEVELS, .length = N};
    struct dlm_piece piece = {.ids = ids, .n = N, .before = before};
    struct dlm_score score;
    struct dlm_scorer *s;
    double best = 0;
    if (dlm_scorer_new(&s, &backend, m, &p, &err))
        die(err.msg);
    for (int turn = 0; turn < TURNS; turn++) {
        for (size_t i = 0; i < N; i++)
            ids[i] = id_at((uint64_t)(turn + 1) << 32 | i);
        double t0 = dlm_progress_now();
        if (dlm_scorer_run(s, &piece, &score, &err))
            die(err.msg);
        double rate = (double)score.draws * N / (dlm_progress_now() - t0);
        best = rate > best ? rate : best;
    }
    dlm_scorer_free(s);
    return best;
}

int main(void)
{
    threads = dlm_build_cores();
    if (dlm_device_open(&backend, "cpu", threads, &err))
        die(err.msg);
    puts("model\tdtype\tthreads\twhat\ttok_s\tshare");
    for (int bf16 = 0; bf16 < 2; bf16++) {
        act = bf16 ? DLM_BF16 : DLM_F32;
        struct dlm_config c;
        struct dlm_network *m;
        struct dlm_noise noise;
        dlm_config_default(&c, WIDTH, LAYERS, WIDTH / 64, 0, V, N);
        const struct dlm_network_plan p = {.batch = dlm_score_batch(N), .seq_len = N, .act = act, .head_rows = dlm_score_head_rows()};
        if (dlm_network_new(&m, &backend, &c, &p, &err) || dlm_noise_parse(&noise, "balanced", &err))
            die(err.msg);
        float *w = calloc(dlm_network_layout(m)->total, sizeof *w);
        if (!w)
            die("no memory");
        dlm_layout_fill(dlm_network_layout(m), 0, w);
        backend.k->upload(backend.dev, dlm_network_weights(m), w, dlm_network_layout(m)->total * sizeof *w);
        dlm_network_refresh(m);
        free(w);
        double most = bound(m, &noise);
        row("forward and loss, whole batches", most, most);
        row("one text of 512 tokens", scored(m, &noise, 0), most);
        row("128 tokens behind 384 that are known", scored(m, &noise, 384), most);
        dlm_network_free(m);
    }
    dlm_device_close(&backend);
    return 0;
}
