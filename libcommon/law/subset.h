/* The points of a study that have what an analysis needs. */
#ifndef DLM_LAW_SUBSET_H
#define DLM_LAW_SUBSET_H

#include "law/study.h"

enum {
    DLM_NEED_SIZES = 1, /* tokens and flops_tok */
    DLM_NEED_PARAMS = 2,
    DLM_NEED_BATCH = 4,
    DLM_NEED_LR = 8,
    DLM_NEED_UNIQUE = 16,
    DLM_BY_TOKENS = 32, /* x shall be the tokens */
    DLM_ANNEALED = 64   /* keep annealed runs, too */
};

/* Names are borrowed of `s`. DLM_EDATA with what is missing where there is no point. Release in any case. */
int dlm_subset_take(const struct dlm_study *s, unsigned need, struct dlm_study *o, struct dlm_error *err);
void dlm_subset_release(struct dlm_study *o);

/* One group by itself, all borrowed. */
struct dlm_study dlm_subset_group(const struct dlm_study *s, size_t g);

#endif
