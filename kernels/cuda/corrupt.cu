/* The forward process: z from x by one Philox draw a position (method.md §§1-2). Whole numbers only, so that every device draws the
 * same.
 *
 * The host waits for z, and must not wait for what is queued: so this runs on a stream of its own, and the GPU reads and writes the host's pinned
 * memory where it lies (at 24 bytes a token, once a pass). No memory of the device is taken.
 */
#include "device.cuh"

#include "../philox.h"

#include <stdlib.h>
#include <string.h>

static const size_t PIECE = (size_t)1 << 15; /* tokens at a time */

struct dlm_aside {
    cudaStream_t stream;
    char *pinned; /* keep, uniform, examples, x, z of a piece */
};

static const size_t PINNED = PIECE * 8 * 2 + (PIECE + 2) * 8 + PIECE * 4 * 2;

/* Grid: blocks of positions of a piece, which begins at position p0 of its first sequence. */
static __global__ void corrupt(uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example, size_t n, size_t p0,
                               size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, b = (p0 + i) / N, p = (p0 + i) % N;
    if (i >= n)
        return;
    const dlm_philox_t w = dlm_philox_at(seed, example[b], (uint32_t)p, purpose);
    const uint32_t u = (uint32_t)((uint64_t)w.v[2] * ids >> 32), noise = w.v[1] < uniform[i] ? u + (u >= skip) : mask;
    z[i] = w.v[0] < keep[i] ? x[i] : noise;
}

static bool aside_open(struct dlm_device *dev)
{
    int least, most;
    if (dlm_device_failed(dev))
        return false;
    if (dev->aside)
        return true;
    dev->aside = static_cast<struct dlm_aside *>(calloc(1, sizeof *dev->aside));
    if (!dev->aside)
        dlm_device_fail(dev, "out of memory");
    /* Before the rest of what is queued: the host waits. */
    return dev->aside && dlm_device_good(dev, cudaDeviceGetStreamPriorityRange(&least, &most), "asking for priorities") &&
           dlm_device_good(dev, cudaStreamCreateWithPriority(&dev->aside->stream, cudaStreamNonBlocking, most), "making a stream") &&
           dlm_device_good(dev, cudaMallocHost(reinterpret_cast<void **>(&dev->aside->pinned), PINNED), "getting pinned memory");
}

size_t dlm_aside_bytes(void)
{
    return PINNED;
}

void dlm_aside_close(struct dlm_device *dev)
{
    if (!dev->aside)
        return;
    cudaFreeHost(dev->aside->pinned);
    if (dev->aside->stream)
        cudaStreamDestroy(dev->aside->stream);
    free(dev->aside);
}

void dlm_cuda_corrupt(struct dlm_device *dev, uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example,
                      size_t B, size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask)
{
    const unsigned threads = 128;
    if (!aside_open(dev))
        return;
    uint64_t *const keep_ = reinterpret_cast<uint64_t *>(dev->aside->pinned), *const uniform_ = keep_ + PIECE, *const example_ = uniform_ + PIECE;
    uint32_t *const x_ = reinterpret_cast<uint32_t *>(example_ + PIECE + 2), *const z_ = x_ + PIECE;
    for (size_t from = 0; from < B * N; from += PIECE) {
        const size_t n = B * N - from < PIECE ? B * N - from : PIECE, b0 = from / N, b1 = (from + n - 1) / N;
        memcpy(keep_, keep + from, n * 8);
        memcpy(uniform_, uniform + from, n * 8);
        memcpy(example_, example + b0, (b1 - b0 + 1) * 8);
        memcpy(x_, x + from, n * 4);
        dlm_launch_on(dev, dev->aside->stream, "corrupt", corrupt, dim3((unsigned)ceil_div(n, (size_t)threads)), threads, 0, z_, x_, keep_, uniform_,
                      example_, n, from % N, N, seed, purpose, ids, skip, mask);
        if (dlm_device_failed(dev) || !dlm_device_good(dev, cudaStreamSynchronize(dev->aside->stream), "corrupting"))
            return;
        memcpy(z + from, z_, n * 4);
    }
}
