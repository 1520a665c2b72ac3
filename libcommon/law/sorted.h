/* Runs and numbers in order: the smoothed curves of a group by size, batch and learning rate. */
#ifndef DLM_LAW_SORTED_H
#define DLM_LAW_SORTED_H

#include "law/curve.h"

/* Logarithms of sizes, batches and rates written in two ways are the same to this. */
#define DLM_SAME 1e-6

struct dlm_sorted_curve {
    double size, batch, rate;      /* logs; 0 for a rate that is not known */
    const struct dlm_curve *curve; /* into `curves` */
};

struct dlm_sorted {
    struct dlm_sorted_curve *at; /* (n) */
    size_t n;
    struct dlm_curve *curves;
};

/* Runs too short for the smoothing are left out. */
int dlm_sorted_fill(struct dlm_sorted *s, const struct dlm_group *g, enum dlm_smooth smooth, struct dlm_error *err);
void dlm_sorted_release(struct dlm_sorted *s);

/* For qsort of doubles. */
int dlm_order_rising(const void *a, const void *b);
int dlm_order_falling(const void *a, const void *b);

#endif
