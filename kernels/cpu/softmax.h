/* The first pass over a row of logits, which both losses share: e^(ℓ - most) of every id but two, and their sum.
 *
 * The row is cut into blocks of whole vectors. Ids that do not take part, and what pads the last block, are 0 in e, so that later
 * passes need no exceptions. The largest logit is not known until the end: block b holds e^(ℓ - mark[b]), to be multiplied by
 * e^(mark[b] - most), which is 1 once the largest has been seen. Sums are float32 within a lane of a block and double beyond.
 */
#ifndef DLM_CPU_SOFTMAX_H
#define DLM_CPU_SOFTMAX_H

#include "vmath.h"

#include <math.h>

enum { DLM_BLOCK = 1024, DLM_BLOCK_LANES = 16 };

/* Floats of scratch for a row: e, a second array of the same size, and a mark a block. */
DLM_INLINE size_t dlm_softmax_padded(size_t V)
{
    return dlm_round_up(V, DLM_BLOCK);
}
DLM_INLINE size_t dlm_softmax_blocks(size_t V)
{
    return dlm_softmax_padded(V) / DLM_BLOCK;
}
DLM_INLINE size_t dlm_softmax_floats(size_t V)
{
    return 2 * dlm_softmax_padded(V) + dlm_round_up(dlm_softmax_blocks(V), 16);
}

/* Ids of block b, rounded up to whole vectors. */
DLM_INLINE size_t dlm_softmax_width(size_t V, size_t b)
{
    size_t left = V - b * DLM_BLOCK;
    return left < DLM_BLOCK ? dlm_round_up(left, DLM_BLOCK_LANES) : DLM_BLOCK;
}

DLM_INLINE double dlm_lanes_sum(const double *lanes)
{
    double sum = 0;
    for (int i = 0; i < DLM_BLOCK_LANES; i++)
        sum += lanes[i];
    return sum;
}

/* `low`, a logit of the row that is counted elsewhere, is where the search for the largest begins; `without` is another id left
 * out, V or more for none. Returns the largest. */
DLM_INLINE float dlm_softmax_pass(float *restrict e, float *restrict mark, double *others, const float *l, size_t V, uint32_t low,
                                  uint32_t without)
{
    float most = l[low];
    double sum[DLM_BLOCK_LANES] = {0};
    for (size_t b = 0; b < dlm_softmax_blocks(V); b++) {
        size_t from = b * DLM_BLOCK, width = dlm_softmax_width(V, b);
        float copy[DLM_BLOCK], largest[DLM_BLOCK_LANES], part[DLM_BLOCK_LANES] = {0};
        const float *in = l + from;
        if (low / DLM_BLOCK == b || without / DLM_BLOCK == b || from + width > V) {
            size_t there = V - from < width ? V - from : width;
            memcpy(copy, in, there * sizeof *copy);
            for (size_t i = there; i < width; i++)
                copy[i] = -INFINITY;
            if (low / DLM_BLOCK == b)
                copy[low % DLM_BLOCK] = -INFINITY;
            if (without / DLM_BLOCK == b)
                copy[without % DLM_BLOCK] = -INFINITY;
            in = copy;
        }
        for (int i = 0; i < DLM_BLOCK_LANES; i++)
            largest[i] = most;
        for (size_t v = 0; v < width; v += DLM_BLOCK_LANES)
#pragma omp simd
            for (size_t i = 0; i < DLM_BLOCK_LANES; i++)
                largest[i] = in[v + i] > largest[i] ? in[v + i] : largest[i];
        float here = most;
        for (int i = 0; i < DLM_BLOCK_LANES; i++)
            here = largest[i] > here ? largest[i] : here;
        if (here > most) {
            double less = exp((double)most - (double)here);
            for (int i = 0; i < DLM_BLOCK_LANES; i++)
                sum[i] *= less;
            most = here;
        }
        mark[b] = most;
        float *restrict out = e + from;
        for (size_t v = 0; v < width; v += DLM_BLOCK_LANES)
#pragma omp simd
            for (size_t i = 0; i < DLM_BLOCK_LANES; i++) {
                float p = dlm_expf(in[v + i] - most);
                out[v + i] = p;
                part[i] += p;
            }
        for (int i = 0; i < DLM_BLOCK_LANES; i++)
            sum[i] += (double)part[i];
    }
    *others = dlm_lanes_sum(sum);
    return most;
}

#endif
