/* A running mean of arrays: each moves by a share of what it is away. */
#include "device.h"

void dlm_cpu_average(struct dlm_device *dev, dlm_ptr mean_, dlm_ptr x_, size_t n, float share)
{
    if (dlm_device_failed(dev))
        return;
    float *restrict mean = dlm_at(mean_);
    const float *restrict x = dlm_at(x_);
#pragma omp parallel for simd num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        mean[i] += share * (x[i] - mean[i]);
}
