/* Sampling speed: tokens a second of every sampler against its steps, and what kept keys and values are worth.
 *
 * One text of 512 tokens at a time from a network of random weights, so the figures are those of the arithmetic, not of a text that ends early. The last
 * rows compare the model calls alone of block-wise sampling, blocks of 32: behind a kept prefix, and with everything up to the block's end computed in
 * every step. All in one run; TSV: model, dtype, threads, what, steps, block, texts' tokens, seconds, tokens/s, and, of the last pair, the ratio.
 */
#include "base/build.h"
#include "base/progress.h"
#include "base/rng.h"
#include "run/device.h"
#include "run/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 16384, WIDTH = 512, LAYERS = 8, N = 512, BLOCK = 32 };

static struct dlm_backend backend;
static struct dlm_error err;
static enum dlm_dtype act;
static int threads;

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static struct dlm_network *network(bool causal, size_t head_rows)
{
    struct dlm_config c;
    struct dlm_network *m;
    dlm_config_default(&c, WIDTH, LAYERS, WIDTH / 64, 0, V, N);
    c.causal = causal;
    c.end = UINT32_MAX; /* no text ends early */
    struct dlm_network_plan p = {.batch = dlm_sample_chunk(N), .seq_len = N, .act = act, .head_rows = head_rows};
    if (dlm_network_new(&m, &backend, &c, &p, &err))
        die(err.msg);
    size_t n = dlm_network_layout(m)->total;
    float *w = calloc(n, sizeof *w);
    if (!w)
        die("no memory");
    for (size_t i = 0; i < n; i++) { /* uniform of the variance that a product over the width keeps */
        dlm_philox_t r = dlm_philox_at(1, i / 4, 0, DLM_RNG_TEST);
        w[i] = (float)((dlm_rng_unit(r.v[i % 4]) - 0.5) * 3.4 / 22.6);
    }
    backend.k->upload(backend.dev, dlm_network_weights(m), w, n * sizeof *w);
    dlm_network_refresh(m);
    free(w);
    return m;
}

static void row(const char *what, uint32_t steps, size_t block, double seconds, double ratio)
{
    printf("V%d-d%d-L%d-N%d\t%s\t%d\t%s\t%u\t%zu\t%d\t%.4g\t%.4g\t", V, WIDTH, LAYERS, N, dlm_device_dtype_name(act), threads, what, steps, block, N, seconds,
           N / seconds);
    if (ratio > 0)
        printf("%.2f\n", ratio);
    else
        puts("NA");
    fflush(stdout);
}

static void text(const char *what, const struct dlm_sample_plan *p)
{
    static uint32_t ids[N];
    static const uint8_t none[N];
    struct dlm_network *m = network(p->order == DLM_SAMPLE_AUTOREGRESSIVE, dlm_sample_head_rows(p));
    struct dlm_sampler *s;
    struct dlm_sample_stats stats = {0};
    for (int i = 0; i < N; i++)
        ids[i] = DLM_SAMPLE_PRIOR;
    if (dlm_sampler_new(&s, &backend, m, p, &err) || dlm_sampler_run(s, 0, 1, ids, none, NULL, &stats, NULL, &err))
        die(err.msg);
    row(what, p->order == DLM_SAMPLE_AUTOREGRESSIVE ? N : p->steps, p->block, stats.seconds, 0);
    dlm_sampler_free(s);
    dlm_network_free(m);
}

/* The calls of block-wise sampling alone: steps_each on every block, and the block's logits. */
static double blocks(struct dlm_network *m, uint32_t steps_each, bool keep)
{
    static uint32_t at[BLOCK];
    static float logits[BLOCK * V];
    struct dlm_cache *cache;
    if (dlm_cache_new(&cache, m, 1, N, &err))
        die(err.msg);
    dlm_ptr ids = backend.k->alloc(backend.dev, N * 4), noisy = backend.k->alloc(backend.dev, N);
    double t0 = dlm_progress_now();
    for (size_t lo = 0; lo < N; lo += BLOCK) {
        const size_t zero = 0;
        if (keep && lo)
            dlm_network_forward_cached(m, cache, 0, ids, &zero, DLM_ATTEND_FULL, 1, lo);
        for (uint32_t j = 0; j < steps_each; j++) {
            if (keep)
                dlm_network_forward_cached(m, cache, 0, ids, &lo, DLM_ATTEND_FULL, 1, BLOCK);
            else
                dlm_network_forward_of(m, ids, noisy, DLM_ATTEND_PREFIX, 1, lo + BLOCK);
            for (uint32_t i = 0; i < BLOCK; i++)
                at[i] = i + (uint32_t)(keep ? 0 : lo);
            if (dlm_network_logits(m, at, BLOCK, logits, &err))
                die(err.msg);
        }
    }
    double seconds = dlm_progress_now() - t0;
    backend.k->free(backend.dev, ids);
    backend.k->free(backend.dev, noisy);
    dlm_cache_free(cache);
    return seconds;
}

int main(void)
{
    threads = dlm_build_cores();
    if (dlm_device_open(&backend, "cpu", threads, &err))
        die(err.msg);
    act = dlm_device_dtype(&backend, DLM_DTYPE_AUTO, true);
    puts("model\tdtype\tthreads\twhat\tsteps\tblock\ttokens\tseconds\ttok_s\tratio");
    struct dlm_sample_plan p = {.length = N, .choose = {.temperature = 1, .top_p = 1}};
    if (dlm_noise_parse(&p.noise, "balanced", &err))
        die(err.msg);
    for (uint32_t steps = 32; steps <= 128; steps *= 2) {
        p.steps = steps;
        p.order = DLM_SAMPLE_ANCESTRAL;
        p.block = 0;
        text("ancestral", &p);
        p.block = BLOCK;
        text("ancestral, blocks", &p);
        p.order = DLM_SAMPLE_ADAPTIVE;
        p.block = 0;
        text("adaptive", &p);
        p.block = BLOCK;
        text("adaptive, blocks", &p);
    }
    p.order = DLM_SAMPLE_AUTOREGRESSIVE;
    p.block = 0;
    text("autoregressive", &p);
    struct dlm_network *m = network(false, BLOCK);
    for (uint32_t each = 8; each <= 32; each *= 2) {
        double whole = blocks(m, each, false), kept = blocks(m, each, true);
        row("calls, all computed", each * N / BLOCK, BLOCK, whole, 0);
        row("calls, prefix kept", each * N / BLOCK, BLOCK, kept, whole / kept);
    }
    dlm_network_free(m);
    dlm_device_close(&backend);
    return 0;
}
