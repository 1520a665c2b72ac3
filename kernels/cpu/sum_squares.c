/* Σ x² in double: a fixed number of slices, each summed in order, then the slices in order: the same for any number of threads.
 */
#include "device.h"

enum { SLICES = 256 };

double dlm_cpu_sum_squares(struct dlm_device *dev, dlm_ptr x_, size_t n)
{
    if (dlm_device_failed(dev))
        return 0;
    const float *x = dlm_at(x_);
    double part[SLICES];
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int s = 0; s < SLICES; s++) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = dlm_slice(n, s, SLICES); i < dlm_slice(n, s + 1, SLICES); i++)
            sum += (double)x[i] * (double)x[i];
        part[s] = sum;
    }
    double total = 0;
    for (int s = 0; s < SLICES; s++)
        total += part[s];
    return total;
}
