/* The forward process: z from x by one Philox draw a position (method.md §§1-2). Whole numbers only, so that every device draws
 * the same. */
#include "device.h"

#include "../philox.h"

void dlm_cpu_corrupt(struct dlm_device *dev, dlm_ptr z_, dlm_ptr x_, dlm_ptr keep_, dlm_ptr uniform_, dlm_ptr example_, size_t B,
                     size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    if (dlm_device_failed(dev))
        return;
    uint32_t *z = dlm_at(z_);
    const uint32_t *x = dlm_at(x_);
    const uint64_t *keep = dlm_at(keep_), *uniform = dlm_at(uniform_), *example = dlm_at(example_);
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
