/* The network on cached keys and values against the network on whole sequences: a noisy block behind a clean prefix, step by step and block by
 * block; the autoregressive network token by token; sequences that stand at different positions. Products of other shapes may round otherwise, so
 * logits are compared to rounding. */
#include "base/rng.h"
#include "model/network.h"
#include "tap.h"

#include <math.h>
#include <string.h>

enum { V = 29, N = 40, B = 3, d = 16, L = 3 };

static struct dlm_backend cpu;
static struct dlm_error err;
static struct dlm_network *net;
static struct dlm_cache *cache;
static dlm_ptr d_ids, d_noisy;
static uint32_t ids[B * N];

static void *must(void *p)
{
    if (!p) {
        printf("Bail out! out of memory\n");
        exit(1);
    }
    return p;
}

static void new_network(uint64_t seed, enum dlm_dtype act)
{
    struct dlm_config c;
    dlm_config_default(&c, d, L, 2, 0, V, N);
    struct dlm_network_plan p = {.batch = B, .seq_len = N, .act = act};
    if (dlm_network_new(&net, &cpu, &c, &p, &err) || dlm_cache_new(&cache, net, B, N, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    size_t n = dlm_network_layout(net)->total;
    float *w = must(calloc(n, sizeof *w));
    struct dlm_rng rng;
    dlm_rng_init(&rng, seed, 0, DLM_RNG_TEST);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(0.3 * dlm_rng_normal(&rng));
    for (size_t i = 0; i < B * N; i++)
        ids[i] = (uint32_t)dlm_rng_below(&rng, V);
    cpu.k->upload(cpu.dev, dlm_network_weights(net), w, n * sizeof *w);
    dlm_network_refresh(net);
    free(w);
}

static void drop_network(void)
{
    dlm_cache_free(cache);
    dlm_network_free(net);
}

/* Logits (n, V) of rows first … first + n - 1 of the last forward. */
static float *logits(size_t first, size_t n)
{
    uint32_t at[B * N];
    for (size_t i = 0; i < n; i++)
        at[i] = (uint32_t)(first + i);
    float *l = must(calloc(n * V, sizeof *l));
    if (dlm_network_logits(net, at, n, l, &err))
        tap_ok(false, "%s", err.msg);
    return l;
}

/* The network of `length` positions of sequence b, the first `clean` of them clean: logits of the others. */
static float *whole(size_t b, size_t clean, size_t length, enum dlm_attend rule)
{
    uint8_t noisy[N];
    for (size_t i = 0; i < N; i++)
        noisy[i] = i >= clean;
    cpu.k->upload(cpu.dev, d_ids, ids + b * N, length * sizeof *ids);
    cpu.k->upload(cpu.dev, d_noisy, noisy, length);
    dlm_network_forward_of(net, d_ids, rule == DLM_ATTEND_PREFIX ? d_noisy : (dlm_ptr){0}, rule, 1, length);
    return logits(clean, length - clean);
}

/* n new rows of sequences first_b … at their positions; sequence b of the cache is sequence b. */
static void extend(size_t first_b, size_t many, const size_t *at, size_t n, enum dlm_attend rule)
{
    uint32_t rows[B * N];
    for (size_t b = 0; b < many; b++)
        memcpy(rows + b * n, ids + (first_b + b) * N + at[b], n * sizeof *rows);
    cpu.k->upload(cpu.dev, d_ids, rows, many * n * sizeof *rows);
    dlm_network_forward_cached(net, cache, first_b, d_ids, at, rule, many, n);
}

static double apart(const float *a, const float *b, size_t n)
{
    double most = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return size > 0 && isfinite(size) ? most / size : INFINITY;
}

int main(void)
{
    char msg[200];
    uint64_t seed = tap_seed();
    cpu.k = dlm_kernels_cpu();
    if (!(cpu.dev = cpu.k->open(0, 2, msg, sizeof msg))) {
        printf("Bail out! %s\n", msg);
        return 1;
    }
    d_ids = cpu.k->alloc(cpu.dev, B * N * sizeof *ids);
    d_noisy = cpu.k->alloc(cpu.dev, B * N);
    for (int act = 0; act < 2; act++) {
        const double near = act ? 0.03 : 2e-6;
        const char *type = act ? "bf16" : "f32";
        new_network(seed + (uint64_t)act, act ? DLM_BF16 : DLM_F32);

        /* a prefix, then blocks behind it; before each the prefix is done again, since clean sees all that is clean */
        double worst = 0;
        for (size_t start = 5; start + 8 <= N; start += 8) {
            extend(0, 1, (const size_t[]){0}, start, DLM_ATTEND_FULL);
            for (int step = 0; step < 2; step++) { /* the block changes from step to step, and replaces itself */
                ids[start + 3] = (ids[start + 3] + 1) % V;
                extend(0, 1, (const size_t[]){start}, 8, DLM_ATTEND_FULL);
                float *got = logits(0, 8), *want = whole(0, start, start + 8, DLM_ATTEND_PREFIX);
                worst = fmax(worst, apart(got, want, 8 * V));
                free(got);
                free(want);
            }
        }
        tap_ok(worst < near, "blocks behind a clean prefix, %s: largest deviation %.2g", type, worst);

        /* token by token */
        worst = 0;
        float *want = whole(1, 0, N, DLM_ATTEND_CAUSAL);
        for (size_t i = 0; i < N; i++) {
            extend(1, 1, &i, 1, DLM_ATTEND_CAUSAL);
            float *got = logits(0, 1);
            worst = fmax(worst, apart(got, want + i * V, V));
            free(got);
        }
        tap_ok(worst < near, "token by token, causal, %s: largest deviation %.2g", type, worst);
        extend(1, 1, (const size_t[]){0}, 7, DLM_ATTEND_CAUSAL);
        extend(1, 1, (const size_t[]){7}, N - 7, DLM_ATTEND_CAUSAL);
        float *got = logits(0, N - 7);
        worst = apart(got, want + 7 * V, (N - 7) * V);
        tap_ok(worst < near, "in two pieces, causal, %s: largest deviation %.2g", type, worst);
        free(got);
        free(want);

        /* three sequences at positions of their own, in one call */
        const size_t at[B] = {9, 0, 31};
        for (size_t b = 0; b < B; b++)
            if (at[b]) {
                extend(b, 1, (const size_t[]){0}, at[b], DLM_ATTEND_FULL);
                extend(b, 1, &at[b], 6, DLM_ATTEND_FULL);
                float *alone = logits(0, 6);
                float *want2 = whole(b, at[b], at[b] + 6, DLM_ATTEND_PREFIX);
                tap_ok(apart(alone, want2, 6 * V) < near, "sequence %zu alone at %zu, %s", b, at[b], type);
                free(alone);
                free(want2);
            }
        extend(0, B, at, 6, DLM_ATTEND_FULL);
        got = logits(0, B * 6);
        worst = 0;
        for (size_t b = 0; b < B; b++) {
            want = whole(b, at[b], at[b] + 6, DLM_ATTEND_PREFIX);
            worst = fmax(worst, apart(got + b * 6 * V, want, 6 * V));
            free(want);
        }
        tap_ok(worst < near, "three sequences at three positions, %s: largest deviation %.2g", type, worst);
        free(got);
        drop_network();
    }
    cpu.k->free(cpu.dev, d_ids);
    cpu.k->free(cpu.dev, d_noisy);
    cpu.k->close(cpu.dev);
    return tap_end();
}
