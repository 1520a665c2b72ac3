/* The packed weight: W (O, I) as it lies, in the type of the products. In float32 it is a copy, too: a pack
 * holds its step's weights, while the optimizer or another shard's gathering may already write the masters. */
#include "elements.cuh"

static __global__ void narrow(bf16 *to, const float *from, size_t n)
{
    const size_t i = element<4>();
    float v[4];
    load_some(v, from, i, n);
    store_some(to, v, i, n);
}

static __global__ void narrow_each(bf16 *to, const float *from, size_t n)
{
    const size_t i = element<1>();
    if (i < n)
        to[i] = to_bf16(from[i]);
}

size_t dlm_cuda_linear_pack_size(struct dlm_device *, size_t O, size_t I, enum dlm_dtype act)
{
    return O * I * dlm_dtype_size(act);
}

void dlm_cuda_linear_pack(struct dlm_device *dev, dlm_ptr pack, dlm_ptr w, size_t O, size_t I, enum dlm_dtype act)
{
    const size_t n = O * I;
    const bool wide = (pack.at | w.at) % 16 == 0;
    if (act == DLM_BF16)
        dlm_launch(dev, "linear_pack", wide ? narrow : narrow_each, elements_blocks(n, wide ? 4 : 1), ELEMENTS_THREADS, 0, dlm_at<bf16>(pack),
                   dlm_at<float>(w), n);
    else if (!dlm_device_failed(dev) && n)
        dlm_device_good(dev, cudaMemcpyAsync(dlm_at<void>(pack), dlm_at<void>(w), n * sizeof(float), cudaMemcpyDeviceToDevice, dev->stream),
                        "linear_pack");
}
