/* Data order: epoch 0 is the identity, every epoch a permutation, and on small n all permutations come equally often. */
#include "base/rng.h"
#include "batch/order.h"
#include "tap.h"

#include <string.h>

static bool bijective(uint64_t seed, uint64_t n, uint64_t epoch)
{
    uint8_t *seen = calloc(n, 1);
    bool good = true;
    for (uint64_t i = 0; i < n && good; i++) {
        uint64_t x = dlm_order_at(seed, n, epoch * n + i);
        good = x < n && !seen[x];
        if (good)
            seen[x] = 1;
    }
    free(seen);
    return good;
}

/* Rank of a permutation of n ≤ 6 elements in [0, n!). */
static unsigned rank(const uint64_t *p, unsigned n)
{
    unsigned r = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned smaller = 0;
        for (unsigned j = i + 1; j < n; j++)
            smaller += p[j] < p[i];
        r = r * (n - i) + smaller;
    }
    return r;
}

/* (χ² - k)/√(2k) of counts over k + 1 equally likely cells. */
static double chi_square(const unsigned *counts, unsigned cells, double total)
{
    double expected = total / cells, sum = 0;
    for (unsigned i = 0; i < cells; i++)
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    return (sum - (cells - 1)) / sqrt(2.0 * (cells - 1));
}

int main(void)
{
    uint64_t seed = tap_seed();
    bool identity = true;
    for (uint64_t n = 1; n < 300; n++)
        for (uint64_t i = 0; i < n; i++)
            identity &= dlm_order_at(seed, n, i) == i;
    tap_ok(identity && dlm_order_at(seed, UINT64_MAX, UINT64_MAX - 1) == UINT64_MAX - 1, "epoch 0 is the stored order");
    uint64_t bad = 0;
    for (uint64_t n = 1; n <= 1100; n++)
        for (uint64_t epoch = 1; epoch < 4; epoch++)
            if (!bijective(seed, n, epoch))
                bad = n;
    tap_ok(!bad, "later epochs are permutations for every n up to 1100 (%llu)", (unsigned long long)bad);
    static const uint64_t large[] = {65535, 65536, 65537, 100003, 1 << 18};
    for (int i = 0; i < 5; i++)
        tap_ok(bijective(seed, large[i], 1 + (uint64_t)i), "and for n = %llu", (unsigned long long)large[i]);
    tap_ok(dlm_order_at(seed, (uint64_t)1 << 62, ((uint64_t)1 << 62) + 5) < (uint64_t)1 << 62, "n = 2^62 is in range");
    tap_ok(dlm_order_at(seed, 1000, 1000) != dlm_order_at(seed + 1, 1000, 1000) ||
               dlm_order_at(seed, 1000, 1001) != dlm_order_at(seed + 1, 1000, 1001),
           "another seed is another order");

    enum { DRAWS = 40000 };
    unsigned factorial = 1;
    for (unsigned n = 2; n <= 6; n++) {
        factorial *= n;
        unsigned *counts = calloc(factorial, sizeof *counts);
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            uint64_t p[6], epoch = 1 + draw % 8;
            for (unsigned i = 0; i < n; i++)
                p[i] = dlm_order_at(seed + draw / 8, n, epoch * n + i);
            counts[rank(p, n)]++;
        }
        double z = chi_square(counts, factorial, DRAWS);
        tap_ok(fabs(z) < 5,
               "the %u permutations of %u come equally often: chi-square is off by %.2f deviations", factorial, n, z);
        free(counts);
    }
    /* Larger n: where element i goes, and where its neighbour goes relative to it. */
    static const unsigned sizes[] = {16, 17, 32, 64};
    for (int s = 0; s < 4; s++) {
        unsigned n = sizes[s], *place = calloc(n * n, sizeof *place), *step = calloc(n - 1, sizeof *step);
        for (uint64_t draw = 0; draw < 4000; draw++)
            for (uint64_t i = 0; i < n; i++) {
                uint64_t x = dlm_order_at(seed, n, (draw + 1) * n + i);
                place[i * n + x]++;
                if (i % 2 == 0 && i + 1 < n)
                    step[(dlm_order_at(seed, n, (draw + 1) * n + i + 1) + n - x) % n - 1]++;
            }
        double sum = 0;
        for (unsigned i = 0; i < n; i++)
            sum += chi_square(place + i * n, n, 4000);
        double z = sum / sqrt(n), z_step = chi_square(step, n - 1, 4000.0 * (n / 2));
        tap_ok(fabs(z) < 5, "n = %u: places are even (%.2f)", n, z);
        tap_ok(fabs(z_step) < 5, "n = %u: neighbours part evenly (%.2f)", n, z_step);
        free(place);
        free(step);
    }
    return tap_end();
}
