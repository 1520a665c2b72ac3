/* Token embedding, and its gradient without atomics.
 *
 * A token that fills half of the positions (the mask, the pad) must not be one thread's work, and equal ids must be added in order of position.
 * So a block owns a slice of the columns and the ids of one residue class: it looks at every id, 4 bytes each, and reads only its own
 * rows. It adds in a register for as long as the id stays the same.
 */
#include "device.cuh"

static const unsigned THREADS = 128, CLASSES = 32, LOOK = 1024;

template <typename A> static __global__ void embed(float *x, const uint32_t *ids, const A *E, size_t d)
{
    const size_t t = blockIdx.x;
    const A *from = E + (size_t)ids[t] * d;
    for (size_t i = threadIdx.x; i < d; i += blockDim.x)
        x[t * d + i] = to_f32(from[i]);
}

/* Shared: the ids of LOOK positions. Grid: slices of THREADS columns, classes. */
static __global__ void embed_backward(float *dE, const float *dx, const uint32_t *ids, size_t T, size_t d)
{
    DLM_SHARED(uint32_t, look);
    const size_t column = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const bool mine = column < d;
    uint32_t id = 0;
    bool open = false; /* `sum` is that of `id`, still to be written */
    float sum = 0;
    for (size_t t0 = 0; t0 < T; t0 += LOOK) {
        const unsigned n = (unsigned)(T - t0 < LOOK ? T - t0 : LOOK);
        __syncthreads();
        for (unsigned i = threadIdx.x; i < n; i += THREADS)
            look[i] = ids[t0 + i];
        __syncthreads();
        for (unsigned i = 0; i < n; i++) {
            if (look[i] % CLASSES != blockIdx.y)
                continue;
            if (!open || look[i] != id) {
                if (open && mine)
                    dE[(size_t)id * d + column] = sum;
                id = look[i];
                sum = mine ? dE[(size_t)id * d + column] : 0;
                open = true;
            }
            sum += mine ? dx[(t0 + i) * d + column] : 0;
        }
    }
    if (open && mine)
        dE[(size_t)id * d + column] = sum;
}

void dlm_cuda_embed(struct dlm_device *dev, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d)
{
    dlm_launch(dev, "embed", embed<float>, dim3((unsigned)T), 128, 0, dlm_at<float>(x), dlm_at<uint32_t>(ids), dlm_at<float>(E), d);
}

void dlm_cuda_embed_bf16(struct dlm_device *dev, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d)
{
    dlm_launch(dev, "embed_bf16", embed<bf16>, dim3((unsigned)T), 128, 0, dlm_at<float>(x), dlm_at<uint32_t>(ids), dlm_at<bf16>(E), d);
}

void dlm_cuda_embed_backward(struct dlm_device *dev, dlm_ptr dE, dlm_ptr dx, dlm_ptr ids, size_t T, size_t d, size_t)
{
    const dim3 blocks((unsigned)ceil_div(d, (size_t)THREADS), CLASSES);
    dlm_launch(dev, "embed_backward", embed_backward, blocks, THREADS, LOOK * sizeof(uint32_t), dlm_at<float>(dE), dlm_at<float>(dx),
               dlm_at<uint32_t>(ids), T, d);
}
