/* Learning-rate schedules (method.md §5): step k = 1, 2, … uses η·min(1, k/warmup) times constant 1; WSD, 1 and then 1-√(progress) over the last
 * `cooldown` share; or half a cosine from 1 to 0. WSD and cosine do not fall below min_lr. */
#ifndef DLM_RUN_SCHEDULE_H
#define DLM_RUN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum dlm_schedule_kind { DLM_SCHEDULE_CONSTANT, DLM_SCHEDULE_WSD, DLM_SCHEDULE_COSINE };

struct dlm_schedule {
    enum dlm_schedule_kind kind;
    double lr, min_lr; /* η and the floor, in the same unit */
    uint64_t warmup;   /* steps; 0: none */
    double cooldown;   /* WSD: share of all steps */
};

/* η at step k of `steps`. */
double dlm_schedule_at(const struct dlm_schedule *s, uint64_t k, uint64_t steps);
/* True when the value at steps ≤ k does not depend on `steps`: then a run at step k may still be given more. */
bool dlm_schedule_extends(const struct dlm_schedule *s, uint64_t k, uint64_t steps);

#endif
