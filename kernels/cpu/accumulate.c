/* Sums kept in bf16: sum += x, rounded at random, so that what is too small to move a sum moves it sometimes and the mean is kept. */
#include "split.h"

void dlm_cpu_accumulate(struct dlm_device *dev, dlm_ptr sum_, dlm_ptr x_, size_t n, uint64_t seed, uint32_t pass, size_t first)
{
    if (dlm_device_failed(dev))
        return;
    uint16_t *sum = dlm_at(sum_);
    const float *x = dlm_at(x_);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t at = 0; at < n; at += DLM_SPLIT_BLOCK) {
        uint32_t words[DLM_SPLIT_BLOCK / 2];
        const size_t some = n - at < DLM_SPLIT_BLOCK ? n - at : DLM_SPLIT_BLOCK;
        dlm_split_words(words, DLM_SPLIT_BLOCK / 8, seed, (first + at) / 8, pass, DLM_RNG_GRADIENT);
#pragma omp simd
        for (size_t i = 0; i < some; i++)
            sum[at + i] = dlm_bf16_at_random(dlm_bf16_to_f32(sum[at + i]) + x[at + i], words[i / 2] >> 16 * (i % 2) & 0xffff);
    }
}
