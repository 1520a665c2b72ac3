/* Rows picked out of a matrix and put back: the head works on scored rows only. */
#include "device.h"

void dlm_cpu_gather_rows(struct dlm_device *dev, dlm_ptr y_, dlm_ptr x_, dlm_ptr index_, size_t n, size_t d, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    char *y = dlm_at(y_);
    const char *x = dlm_at(x_);
    const uint32_t *index = dlm_at(index_);
    size_t bytes = d * dlm_dtype_size(act);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * bytes, x + index[i] * bytes, bytes);
}

void dlm_cpu_scatter_rows(struct dlm_device *dev, dlm_ptr y_, dlm_ptr x_, dlm_ptr index_, size_t n, size_t d, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    char *y = dlm_at(y_);
    const char *x = dlm_at(x_);
    const uint32_t *index = dlm_at(index_);
    size_t bytes = d * dlm_dtype_size(act);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        memcpy(y + index[i] * bytes, x + i * bytes, bytes);
}
