/* The forward process of the kernel: equal to its definition draw by draw, and distributed as q(z|x) of method.md §1. */
#include "kernel_check.h"

enum { V = 23, MASK = 3 };

static uint32_t *run(const uint32_t *x, const uint64_t *keep, const uint64_t *share, const uint64_t *example, size_t B, size_t N,
                     uint64_t seed, bool any)
{
    uint32_t *z = check_memory(B * N * 4);
    K->corrupt(D, z, x, keep, share, example, B, N, seed, DLM_RNG_CORRUPT, any ? V : V - 1, any ? UINT32_MAX : MASK, MASK);
    return z;
}

static void check_equal(size_t B, size_t N, bool any)
{
    uint32_t *x = check_memory(B * N * 4);
    uint64_t *keep = check_memory(B * N * 8), *share = check_memory(B * N * 8), *example = check_memory(B * 8),
             full = (uint64_t)1 << 32;
    for (size_t b = 0; b < B; b++)
        example[b] = (uint64_t)draw() << 32 | draw();
    for (size_t i = 0; i < B * N; i++) {
        x[i] = draw() % V;
        keep[i] = draw() % 5 == 0 ? full : draw() % 5 == 0 ? 0 : draw();
        share[i] = draw() % 5 == 0 ? full : draw() % 5 == 0 ? 0 : draw();
    }
    uint32_t *z = run(x, keep, share, example, B, N, 77, any);
    size_t wrong = 0, masks = 0;
    for (size_t i = 0; i < B * N; i++) {
        dlm_philox_t w = dlm_philox_at(77, example[i / N], (uint32_t)(i % N), DLM_RNG_CORRUPT);
        uint32_t want;
        if ((uint64_t)w.v[0] < keep[i])
            want = x[i];
        else if ((uint64_t)w.v[1] < share[i]) {
            want = (uint32_t)floor((double)w.v[2] * (any ? V : V - 1) / 4294967296.0);
            if (!any && want >= MASK)
                want++;
        } else
            want = MASK;
        wrong += z[i] != want;
        wrong += keep[i] == full && z[i] != x[i];
        masks += (uint64_t)w.v[0] >= keep[i] && (uint64_t)w.v[1] < share[i] && z[i] == MASK;
    }
    tap_ok(!wrong, "%zu sequences of %zu%s: every draw is the one defined", B, N, any ? ", any id" : "");
    if (B * N > 1000)
        tap_ok(any ? masks > 0 : !masks, "a uniform draw %s the mask (%zu times)", any ? "also returns" : "never returns", masks);
    free(x), free(keep), free(share), free(example), free(z);
}

/* χ² of the counts against q(z|x); 1e-6 of seeds would fail at this bound. */
static void check_distribution(double alpha, double rho, bool any)
{
    enum { B = 64, N = 4096 };
    uint32_t *x = check_memory(B * N * 4);
    uint64_t *keep = check_memory(B * N * 8), *share = check_memory(B * N * 8), example[B];
    for (size_t b = 0; b < B; b++)
        example[b] = b + 1000;
    for (size_t i = 0; i < B * N; i++) {
        x[i] = 7;
        keep[i] = (uint64_t)(alpha * 4294967296.0);
        share[i] = (uint64_t)(rho * 4294967296.0);
    }
    uint32_t *z = run(x, keep, share, example, B, N, check_seed, any);
    double count[V] = {0}, chi = 0, cells = -1;
    bool impossible = false;
    for (size_t i = 0; i < B * N; i++)
        count[z[i] < V ? z[i] : 0] += 1;
    for (uint32_t v = 0; v < V; v++) {
        double q = (v == 7 ? alpha : 0) + (1 - alpha) * (any ? (v == MASK) * (1 - rho) + rho / V : v == MASK ? 1 - rho : rho / (V - 1)), want = q * B * N;
        if (q == 0) {
            impossible = impossible || count[v] > 0;
            continue;
        }
        chi += (count[v] - want) * (count[v] - want) / want;
        cells++;
    }
    /* Wilson and Hilferty: (χ²/k)^⅓ is normal */
    double k = cells > 0 ? cells : 1, normal_ = (cbrt(chi / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
    tap_ok(!impossible && normal_ < 5, "α %g, ρ %g%s: χ² %.1f over %g", alpha, rho, any ? ", any id" : "", chi, cells);
    free(x), free(keep), free(share), free(z);
}

int main(void)
{
    check_seed = tap_seed();
    check_open(2);
    for (int any = 0; any < 2; any++) {
        check_equal(1, 1, any);
        check_equal(3, 17, any);
        check_equal(13, 257, any);
        check_equal(5, 9001, any); /* more than a GPU takes at a time, and cut within a sequence */
        check_distribution(0.3, 0.5, any);
        check_distribution(0.5, 0, any);
        check_distribution(0.1, 1, any);
        check_distribution(0, 0.25, any);
    }
    check_close();
    return tap_end();
}
