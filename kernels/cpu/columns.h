/* Sums over rows, for the gradients of what all rows share: each slice of the rows adds into a row of its own, and those are
 * added in order. */
#ifndef DLM_CPU_COLUMNS_H
#define DLM_CPU_COLUMNS_H

#include "device.h"

/* How many slices for T rows: few rows are not worth spreading. */
DLM_INLINE int dlm_columns_parts(const struct dlm_device *dev, size_t T)
{
    size_t most = T / 8 ? T / 8 : 1;
    return (size_t)dev->threads < most ? dev->threads : (int)most;
}

/* Rows of one slice lie on cache lines of their own. */
DLM_INLINE size_t dlm_columns_stride(size_t d)
{
    return dlm_round_up(d, 16);
}

/* to (d) += the sum of `parts` rows. */
DLM_INLINE void dlm_columns_add(float *restrict to, const float *restrict partial, int parts, size_t d)
{
    size_t stride = dlm_columns_stride(d);
    for (size_t i = 0; i < d; i++) {
        float sum = 0;
        for (int p = 0; p < parts; p++)
            sum += partial[(size_t)p * stride + i];
        to[i] += sum;
    }
}

#endif
