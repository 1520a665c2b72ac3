/* The forward process: z from x by one Philox draw a position (method.md §§1-2). Whole numbers only, so that every device draws the
 * same. */
#include "device.cuh"

#include "../philox.h"

/* Grid: sequences, blocks of positions. */
static __global__ void corrupt(uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example, size_t N,
                               uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    const size_t p = (size_t)blockIdx.y * blockDim.x + threadIdx.x, i = blockIdx.x * N + p;
    if (p >= N)
        return;
    const dlm_philox_t w = dlm_philox_at(seed, example[blockIdx.x], (uint32_t)p, purpose);
    const uint32_t u = (uint32_t)((uint64_t)w.v[2] * ids >> 32), noise = w.v[1] < uniform[i] ? u + (u >= skip) : mask;
    z[i] = w.v[0] < keep[i] ? x[i] : noise;
}

void dlm_cuda_corrupt(struct dlm_device *dev, dlm_ptr z, dlm_ptr x, dlm_ptr keep, dlm_ptr uniform, dlm_ptr example, size_t B, size_t N,
                      uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    const unsigned threads = 128;
    dlm_launch(dev, "corrupt", corrupt, dim3((unsigned)B, (unsigned)ceil_div(N, (size_t)threads)), threads, 0, dlm_at<uint32_t>(z),
               dlm_at<uint32_t>(x), dlm_at<uint64_t>(keep), dlm_at<uint64_t>(uniform), dlm_at<uint64_t>(example), N, seed, purpose, ids, skip, mask);
}
