/* Recorded calls: done when they are replayed and not before, on what is in memory then; what cannot be recorded fails nothing; and a network whose passes
 * are replayed has the bits of one whose passes are not. A device that records nothing has nothing to show. */
#include "kernel_check.h"

#include "base/rng.h"
#include "model/network.h"

enum { N = 300, V = 31, T = 12, d = 16, L = 2, B = 3 };

static bool emulated(void)
{
    return strstr(K->describe(D), "emulated on the host") != NULL;
}

static void set(struct buffer b, float v)
{
    float host[N];
    for (size_t i = 0; i < N; i++)
        host[i] = v;
    K->upload(D, b.at, host, sizeof host);
}

/* All of it is v. */
static bool is(struct buffer b, float v)
{
    float host[N];
    K->download(D, host, b.at, sizeof host);
    for (size_t i = 0; i < N; i++)
        if (host[i] != v)
            return false;
    return true;
}

/* to = from + to: four kinds of work, one of them with scratch; the column sums go to `sums`. */
static void calls(struct buffer to, struct buffer from, struct buffer sums)
{
    K->copy(D, sums.at, to.at, N * sizeof(float));
    K->zero(D, to.at, N * sizeof(float));
    K->residual(D, to.at, from.at, sums.at, 1, N, 1, DLM_F32);
    K->zero(D, sums.at, N * sizeof(float));
    K->residual_backward(D, sums.at, sums.at, to.at, 0, N, 1, DLM_F32);
}

static struct dlm_recording *record(struct buffer to, struct buffer from, struct buffer sums)
{
    if (!K->record(D))
        return NULL;
    calls(to, from, sums);
    return K->recorded(D);
}

static void test_device(void)
{
    struct buffer a = put(NULL, N, DLM_F32), b = put(NULL, N, DLM_F32), sums = put(NULL, N, DLM_F32);
    K->scratch_reserve(D, 1 << 16);
    set(a, 1), set(b, 2);
    calls(a, b, sums);
    tap_ok(is(a, 3), "the calls by themselves");
    struct dlm_recording *r = record(a, b, sums);
    tap_ok(r && is(a, 3), "recorded, they are not done");
    bool good = K->replay(D, r);
    set(b, 10); /* behind the replay in the queue */
    good = good && is(a, 5) && K->replay(D, r) && K->replay(D, r);
    tap_ok(good && is(a, 25), "replayed, they find what is in memory then");
    struct dlm_recording *other = record(b, a, sums);
    tap_ok(other && K->replay(D, other) && is(b, 35) && K->replay(D, r) && is(a, 60), "two recordings, by turns");

    /* what cannot be recorded */
    float host = 7;
    static const char *const names[] = {"an upload", "a large upload", "a download", "waiting", "an allocation", "a sum that comes back", "growing scratch"};
    const size_t large = (size_t)9 << 20;
    float *much = check_memory(large);
    struct buffer wide = put(NULL, large / 4, DLM_F32);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool began = K->record(D);
        calls(a, b, sums);
        switch (i) {
        case 0: K->upload(D, a.at, &host, 4); break;
        case 1: K->upload(D, wide.at, much, large); break;
        case 2: K->download(D, &host, a.at, 4); break;
        case 3: K->sync(D); break;
        case 4: K->free(D, K->alloc(D, 64)); break;
        case 5: K->sum_squares(D, a.at, N); break;
        case 6: K->scratch_reserve(D, 1 << 20); break;
        }
        calls(a, b, sums);
        struct dlm_recording *none = K->recorded(D);
        tap_ok(began && !none && is(a, 60) && is(b, 35) && !K->sync(D), "%s cannot be recorded, which is no failure and does nothing", names[i]);
    }
    free(much);
    drop(wide);
    good = K->record(D) && !K->record(D) && !K->replay(D, r);
    struct dlm_recording *empty = K->recorded(D);
    tap_ok(good && (!empty || K->replay(D, empty)) && !K->recorded(D) && is(a, 60), "no recording in a recording, and none without one");
    K->forget(D, empty);
    K->forget(D, NULL);
    tap_ok(K->replay(D, r) && is(a, 95), "those before are as they were");
    K->scratch_reserve(D, 1 << 21);
    good = !K->replay(D, r) && !K->replay(D, other) && is(a, 95);
    K->forget(D, r), K->forget(D, other);
    r = record(a, b, sums);
    tap_ok(good && r && K->replay(D, r) && is(a, 130), "they are stale where the scratch has moved, and can be made anew");
    if (!emulated()) {
        tap_skip(2, "a GPU's graphs do not fail at will");
    } else {
        static const char *const where[] = {"begin", "end", "instantiate"};
        for (size_t i = 0; i < 3; i++) {
            setenv("DLM_EMULATE_GRAPHS", where[i], 1);
            good = good && !record(a, b, sums) && !K->sync(D);
        }
        unsetenv("DLM_EMULATE_GRAPHS");
        tap_ok(good && is(a, 130) && K->replay(D, r) && is(a, 165), "a graph that the device will not make is none, and no failure");
        setenv("DLM_EMULATE_GRAPHS", "launch", 1);
        const bool tried = K->replay(D, r);
        unsetenv("DLM_EMULATE_GRAPHS");
        const char *word = K->sync(D);
        tap_ok(tried && word && strstr(word, "replaying") && !K->record(D) && !K->recorded(D) && K->replay(D, r), "one that fails when it is replayed is: %s",
               word ? word : "(none)");
    }
    K->forget(D, r);
    drop(a), drop(b), drop(sums);
    K->close(D);
}

/* --- networks -------------------------------------------------------------------------------------------------------------------- */

static struct dlm_error err;

struct rig {
    struct dlm_network *m;
    dlm_ptr ids[12], noisy;
};

static struct rig rig_new(const struct dlm_backend *b, enum dlm_dtype act, enum dlm_recompute recompute, bool compact)
{
    struct rig r;
    struct dlm_config c;
    dlm_config_default(&c, d, L, 2, 0, V, T);
    struct dlm_network_plan p = {.batch = B, .eval_batch = B + 1, .seq_len = T, .train = true, .act = act, .recompute = recompute, .compact = compact, .head_rows = 16};
    if (dlm_network_new(&r.m, b, &c, &p, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    size_t n = dlm_network_layout(r.m)->total;
    float *w = check_memory(n * sizeof *w);
    struct dlm_rng rng;
    dlm_rng_init(&rng, check_seed, 0, DLM_RNG_TEST);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(0.3 * dlm_rng_normal(&rng));
    dlm_network_write(r.m, 0, n, w);
    dlm_network_refresh(r.m);
    dlm_network_zero_gradients(r.m);
    free(w);
    for (size_t i = 0; i < 12; i++)
        r.ids[i] = K->alloc(D, (B + 1) * T * 4);
    r.noisy = K->alloc(D, (B + 1) * T);
    return r;
}

static void rig_free(struct rig *r)
{
    dlm_network_free(r->m);
    for (size_t i = 0; i < 12; i++)
        K->free(D, r->ids[i]);
    K->free(D, r->noisy);
}

/* A pass over n sequences of length N from `seed`, with ids in place `at`; its losses are added to *sum. */
static void pass(struct rig *r, uint64_t seed, size_t at, enum dlm_attend rule, size_t n, size_t length, bool train, double *sum)
{
    uint32_t ids[(B + 1) * T], row[(B + 1) * T];
    uint8_t noisy[(B + 1) * T];
    float nll[(B + 1) * T];
    struct dlm_rng rng;
    dlm_rng_init(&rng, check_seed, seed, DLM_RNG_TEST);
    const size_t rows = n * length;
    for (size_t i = 0; i < rows; i++) {
        ids[i] = (uint32_t)dlm_rng_below(&rng, V - 1);
        noisy[i] = dlm_rng_below(&rng, 2) != 0;
        row[i] = (uint32_t)i;
    }
    K->upload(D, r->ids[at], ids, rows * 4);
    K->upload(D, r->noisy, noisy, rows);
    dlm_network_rounding(r->m, 5, (uint32_t)seed);
    dlm_network_forward_of(r->m, r->ids[at], r->noisy, rule, n, length);
    for (size_t i = 0; i < rows; i++)
        ids[i] = ids[i] % 3 ? ids[i] : 0;
    struct dlm_scored s = {.n = rows, .at = row, .target = ids};
    if (dlm_network_cross_entropy(r->m, &s, train, nll, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    for (size_t i = 0; i < rows; i++)
        *sum += nll[i] * (double)(seed + i);
    if (train)
        dlm_network_backward(r->m);
}

static size_t replays, records; /* that went well */

static bool counting_replay(struct dlm_device *dev, struct dlm_recording *r)
{
    const bool good = check_kernels()->replay(dev, r);
    replays += good;
    return good;
}

static struct dlm_recording *counting_recorded(struct dlm_device *dev)
{
    struct dlm_recording *r = check_kernels()->recorded(dev);
    records += r != NULL;
    return r;
}

/* A run of passes of many kinds: whole and small micro-batches, evaluation of more and of shorter sequences in between, other buffers than are remembered,
 * and scratch that moves. */
static void run(struct rig *r, bool moves, double *sum)
{
    for (uint64_t step = 0; step < 5; step++) {
        const float w[] = {0.1f * (float)step, -0.2f * (float)step, 0.3f, 0.4f};
        dlm_network_write(r->m, dlm_layout_find(dlm_network_layout(r->m), DLM_TENSOR_UP, 1)->offset, 4, w);
        dlm_network_refresh(r->m);
        pass(r, 10 * step, 0, DLM_ATTEND_PREFIX, B, T, true, sum);
        pass(r, 10 * step + 1, 0, DLM_ATTEND_PREFIX, 1, T, true, sum);
        if (step % 2)
            pass(r, 10 * step + 2, 0, DLM_ATTEND_PREFIX, B + 1, T, false, sum);
        pass(r, 10 * step + 3, 0, DLM_ATTEND_PREFIX, B, T, false, sum);
        pass(r, 10 * step + 4, 0, DLM_ATTEND_PREFIX, 2, T - step, false, sum);
        if (step == 2)
            for (size_t i = 0; i < 12; i++)
                pass(r, 1000 + i, i, DLM_ATTEND_CAUSAL, 1, 3, true, sum);
        if (step == 3 && moves)
            K->scratch_reserve(D, 1 << 20);
    }
}

static void test_network(enum dlm_dtype act, enum dlm_recompute recompute, bool compact, const char *fails)
{
    char msg[200];
    D = K->open(0, 1, msg, sizeof msg);
    struct dlm_kernels counting = *K, plain = *K;
    counting.replay = counting_replay;
    counting.recorded = counting_recorded;
    plain.record = NULL;
    const struct dlm_backend with = {.k = &counting, .dev = D}, without = {.k = &plain, .dev = D};
    struct rig a = rig_new(&with, act, recompute, compact), b = rig_new(&without, act, recompute, compact);
    double sum_a = 0, sum_b = 0;
    replays = records = 0;
    run(&b, false, &sum_b);
    if (fails)
        setenv("DLM_EMULATE_GRAPHS", fails, 1);
    run(&a, true, &sum_a);
    unsetenv("DLM_EMULATE_GRAPHS");
    const size_t n = dlm_network_layout(a.m)->total * (compact ? 2 : 4);
    char *ga = check_memory(n), *gb = check_memory(n);
    K->download(D, ga, dlm_network_gradients(a.m), n);
    K->download(D, gb, dlm_network_gradients(b.m), n);
    /* At least of two steps' forward and layers in two kinds of training: the rest are first ones, before and after others took their places. */
    const bool counted = compact || fails ? !replays && !records : replays > 2 * 2 * (L + 1) && records < replays;
    tap_ok(counted && sum_a == sum_b && !memcmp(ga, gb, n), "%s, computing again %d%s%s%s: losses and gradients have the same bits with %zu replays of %zu recordings",
           act ? "bf16" : "f32", (int)recompute, compact ? ", compact" : "", fails ? ", no graph at " : "", fails ? fails : "", replays, records);
    free(ga), free(gb);
    rig_free(&a), rig_free(&b);
    check_close();
}

int main(void)
{
    check_seed = tap_seed();
    check_open(1);
    if (!K->record) {
        tap_skip(1, "%s records nothing", K->name);
        K->close(D);
        return tap_end();
    }
    test_device();
    test_network(DLM_F32, DLM_RECOMPUTE_NONE, false, NULL);
    test_network(DLM_BF16, DLM_RECOMPUTE_LAYER, false, NULL);
    test_network(DLM_BF16, DLM_RECOMPUTE_NONE, true, NULL);
    setenv("DLM_CUDA_GRAPHS", "0", 1);
    char msg[200];
    D = K->open(0, 1, msg, sizeof msg);
    tap_ok(!K->record(D), "DLM_CUDA_GRAPHS=0: none at all");
    K->close(D);
    unsetenv("DLM_CUDA_GRAPHS");
    D = K->open(0, 1, msg, sizeof msg);
    const bool at_will = emulated();
    K->close(D);
    if (at_will)
        test_network(DLM_F32, DLM_RECOMPUTE_NONE, false, "instantiate");
    return tap_end();
}
