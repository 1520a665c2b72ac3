/* Sums kept in bf16: sum += x, rounded at random, so that what is too small to move a sum moves it sometimes and the mean is kept. */
#include "split.cuh"

template <unsigned W> static __global__ void accumulate(uint16_t *sum, const float *x, size_t n, uint64_t seed, uint32_t pass, size_t first)
{
    const size_t i = element<W>(), e = first + i;
    uint32_t s[W];
    float v[W];
    halves_load(s, sum, i, n);
    load_some(v, x, i, n);
    const dlm_philox_t r = dlm_philox_at(seed, e / 8, pass, DLM_RNG_GRADIENT);
#pragma unroll
    for (unsigned j = 0; j < W; j++) {
        const unsigned word = (unsigned)((W == 1 ? e % 8 : 0) + j);
        s[j] = bf16_at_random(half_value(s[j]) + v[j], philox_word(r, word / 2) >> 16 * (word % 2) & 0xffffu);
    }
    halves_store(sum, s, i, n);
}

void dlm_cuda_accumulate(struct dlm_device *dev, dlm_ptr sum, dlm_ptr x, size_t n, uint64_t seed, uint32_t pass, size_t first)
{
    const bool wide = (sum.at | x.at) % 16 == 0 && first % 8 == 0;
    dlm_launch(dev, "accumulate", wide ? accumulate<8> : accumulate<1>, elements_blocks(n, wide ? 8 : 1), ELEMENTS_THREADS, 0, dlm_at<uint16_t>(sum),
               dlm_at<float>(x), n, seed, pass, first);
}
