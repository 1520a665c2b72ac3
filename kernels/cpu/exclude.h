/* A row of logits without one or two of its ids: at most three runs to go over. */
#ifndef DLM_CPU_EXCLUDE_H
#define DLM_CPU_EXCLUDE_H

#include "device.h"

struct dlm_runs {
    size_t from[3], to[3];
};

/* [0, V) without a and b; a = b is one id, and V or more is none. */
DLM_INLINE struct dlm_runs dlm_runs_without(size_t V, size_t a, size_t b)
{
    size_t low = a < b ? a : b, high = a < b ? b : a;
    low = low < V ? low : V;
    high = high < V ? high : V;
    size_t after = low + 1 < V ? low + 1 : V;
    struct dlm_runs r = {{0, after, high + 1 < V ? high + 1 : V}, {low, high > after ? high : after, V}};
    return r;
}

#endif
