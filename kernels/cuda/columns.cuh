/* Sums over rows, for the gradients of what all rows share: each slice of the rows adds into a row of its own, and those are added in
 * order. How many slices there are depends on the shape alone.
 */
#ifndef DLM_CUDA_COLUMNS_CUH
#define DLM_CUDA_COLUMNS_CUH

#include "device.cuh"

struct columns {
    size_t rows; /* of a slice; the last may have fewer */
    unsigned slices;
};

/* `least` rows a slice, or as many as keep the slices to `most`. */
static inline struct columns columns_of(size_t T, size_t least, size_t most)
{
    size_t rows = ceil_div(T, most);
    rows = rows < least ? least : rows;
    return columns{rows, (unsigned)ceil_div(T, rows)};
}

/* Bytes of a row of d for each slice of at most T rows: fewer rows may make more slices, up to `most`. */
static inline size_t columns_bytes(size_t T, size_t least, size_t most, size_t d)
{
    const size_t slices = ceil_div(T, least);
    return (slices < most ? slices : most) * d * sizeof(float);
}

static const unsigned COLUMNS_GROUPS = 16;

/* Grid: 32 columns a block. Warp g adds slices g, g + 16 …; shared: a row of 32 for each. */
static __global__ void columns_sum(float *to, const float *partial, unsigned slices, size_t d)
{
    DLM_SHARED(float, part);
    const unsigned lane = threadIdx.x % 32, group = threadIdx.x / 32;
    const size_t i = (size_t)blockIdx.x * 32 + lane;
    float sum = 0;
    if (i < d)
        for (unsigned s = group; s < slices; s += COLUMNS_GROUPS)
            sum += partial[(size_t)s * d + i];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (group == 0 && i < d) {
        for (unsigned g = 1; g < COLUMNS_GROUPS; g++)
            sum += part[g * 32 + lane];
        to[i] += sum;
    }
}

/* to (d) += the sum of `slices` rows. */
static inline void columns_add(struct dlm_device *dev, dlm_ptr to, const float *partial, unsigned slices, size_t d)
{
    dlm_launch(dev, "columns_sum", columns_sum, dim3((unsigned)ceil_div(d, (size_t)32)), COLUMNS_GROUPS * 32, COLUMNS_GROUPS * 32 * sizeof(float),
               dlm_at<float>(to), partial, slices, d);
}

#endif
