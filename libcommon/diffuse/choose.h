/* Choosing one id from a distribution: temperature, top-k and top-p cuts, and the draw (method.md §9).
 *
 * Pure arithmetic on one position; the same numbers give the same id everywhere. Threads may share nothing but the arguments.
 */
#ifndef DLM_DIFFUSE_CHOOSE_H
#define DLM_DIFFUSE_CHOOSE_H

#include <stddef.h>
#include <stdint.h>

struct dlm_choose {
    double temperature; /* logits are divided by it; 0 leaves the likeliest id only */
    size_t top_k;       /* keep the k likeliest; 0: all */
    double top_p;       /* keep the fewest likeliest ids that hold this share together; 1: all */
};

struct dlm_choose_rank {
    double share;
    uint32_t id;
};

/* s (V) = the distribution that the logits give under `c`, the mask id excluded (s(m) = 0), summing to 1. Of equally likely
 * ids the smaller comes first. scratch (V), needed only where top_k or top_p cut, else it may be NULL. */
void dlm_choose_shares(double *s, const struct dlm_choose *c, const float *logits, size_t V, uint32_t mask, struct dlm_choose_rank *scratch);

/* The id at share u in (0, 1) of p (V), which need not sum to 1; never an id with p = 0. */
uint32_t dlm_choose_draw(const double *p, size_t V, double u);

#endif
