/* Learning-rate schedules. */
#include "run/schedule.h"

#include <math.h>

static double cool_from(const struct dlm_schedule *s, uint64_t steps)
{
    return (double)steps * (1 - s->cooldown);
}

double dlm_schedule_at(const struct dlm_schedule *s, uint64_t k, uint64_t steps)
{
    double factor = 1, at = (double)k;
    if (s->kind == DLM_SCHEDULE_WSD && at > cool_from(s, steps))
        factor = 1 - sqrt((at - cool_from(s, steps)) / ((double)steps - cool_from(s, steps)));
    else if (s->kind == DLM_SCHEDULE_COSINE && s->warmup < steps && k > s->warmup)
        factor = 0.5 + 0.5 * cos(M_PI * (double)(k - s->warmup) / (double)(steps - s->warmup));
    double lr = s->lr * factor;
    if (s->kind != DLM_SCHEDULE_CONSTANT)
        lr = fmax(lr, fmin(s->min_lr, s->lr));
    return k < s->warmup ? lr * at / (double)s->warmup : lr;
}

bool dlm_schedule_extends(const struct dlm_schedule *s, uint64_t k, uint64_t steps)
{
    return s->kind == DLM_SCHEDULE_CONSTANT || (s->kind == DLM_SCHEDULE_WSD && (double)k <= cool_from(s, steps));
}
