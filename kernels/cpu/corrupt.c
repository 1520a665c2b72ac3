/* The forward process: z from x by one Philox draw a position (method.md §§1-2). Whole numbers only, so that every device draws
 * the same. */
#include "device.h"

#include "../philox.h"

void dlm_cpu_corrupt(struct dlm_device *dev, uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example,
                     size_t B, size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    if (dlm_device_failed(dev))
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t b = 0; b < B; b++)
        for (size_t p = 0; p < N; p++) {
            size_t i = b * N + p;
            dlm_philox_t w = dlm_philox_at(seed, example[b], (uint32_t)p, purpose);
            uint32_t u = (uint32_t)((uint64_t)w.v[2] * ids >> 32);
            uint32_t noise = w.v[1] < uniform[i] ? u + (u >= skip) : mask;
            z[i] = w.v[0] < keep[i] ? x[i] : noise;
        }
}
