/* Rows of a matrix by index: a block a row, in words of four bytes where rows are such. */
#include "device.cuh"

template <typename W> static __global__ void move_rows(W *to, const W *from, const uint32_t *index, size_t words, bool gather)
{
    const size_t i = blockIdx.x, at = index[i];
    W *t = to + (gather ? i : at) * words;
    const W *f = from + (gather ? at : i) * words;
    for (size_t w = threadIdx.x; w < words; w += blockDim.x)
        t[w] = f[w];
}

static void rows(struct dlm_device *dev, dlm_ptr to, dlm_ptr from, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act, bool gather)
{
    const size_t bytes = d * dlm_dtype_size(act);
    if (bytes % 4)
        dlm_launch(dev, "rows", move_rows<uint16_t>, dim3((unsigned)n), 128, 0, dlm_at<uint16_t>(to), dlm_at<uint16_t>(from), dlm_at<uint32_t>(index),
                   d, gather);
    else
        dlm_launch(dev, "rows", move_rows<uint32_t>, dim3((unsigned)n), 128, 0, dlm_at<uint32_t>(to), dlm_at<uint32_t>(from), dlm_at<uint32_t>(index),
                   bytes / 4, gather);
}

void dlm_cuda_gather_rows(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act)
{
    rows(dev, y, x, index, n, d, act, true);
}

void dlm_cuda_scatter_rows(struct dlm_device *dev, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act)
{
    rows(dev, y, x, index, n, d, act, false);
}
