/* Σ x² in double: a fixed number of slices, each summed in order, then the slices in order: the same for any number of threads.
 */
#include "device.h"

enum { SLICES = 256 };

DLM_INLINE double sum_squares(struct dlm_device *dev, const void *x, size_t n, enum dlm_dtype type)
{
    double part[SLICES];
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int s = 0; s < SLICES; s++) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = dlm_slice(n, s, SLICES); i < dlm_slice(n, s + 1, SLICES); i++)
            sum += (double)dlm_act_get(x, i, type) * (double)dlm_act_get(x, i, type);
        part[s] = sum;
    }
    double total = 0;
    for (int s = 0; s < SLICES; s++)
        total += part[s];
    return total;
}

double dlm_cpu_sum_squares(struct dlm_device *dev, dlm_ptr x, size_t n)
{
    return dlm_device_failed(dev) ? 0 : sum_squares(dev, dlm_at(x), n, DLM_F32);
}

double dlm_cpu_sum_squares_bf16(struct dlm_device *dev, dlm_ptr x, size_t n)
{
    return dlm_device_failed(dev) ? 0 : sum_squares(dev, dlm_at(x), n, DLM_BF16);
}
