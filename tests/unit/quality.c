/* Figures of sampled texts against what can be counted by hand. */
#include "run/quality.h"
#include "tap.h"

#include <math.h>

int main(void)
{
    struct dlm_error err = {{0}};
    struct dlm_quality q = {0};
    tap_ok(isnan(dlm_quality_entropy(&q)) && isnan(dlm_quality_distinct(&q, 1)), "nothing is told of no texts");
    static const uint32_t a[] = {9, 1, 2, 1, 2}, b[] = {1, 2, 3}, prompt[] = {7, 7};
    bool good = !dlm_quality_add(&q, a, 5, 1, &err) && !dlm_quality_add(&q, b, 3, 0, &err) && !dlm_quality_add(&q, prompt, 2, 2, &err);
    tap_ok(good && q.texts == 3 && q.filled == 2 && q.tokens == 7, "prompts are not counted, empty texts only as such");
    tap_near(dlm_quality_entropy(&q), (log(2) + log(3)) / 2, 1e-15, "entropy of each text, averaged");
    /* 1 2 1 2 and 1 2 3: ids 3 of 7; pairs 12 21 23 of 5; triples 121 212 123 of 3 */
    tap_ok(dlm_quality_distinct(&q, 1) == 3.0 / 7 && dlm_quality_distinct(&q, 2) == 3.0 / 5 && dlm_quality_distinct(&q, 3) == 1, "distinct n-grams over all");
    enum { MANY = 50000 };
    static uint32_t many[MANY];
    for (uint32_t i = 0; i < MANY; i++)
        many[i] = 10 + i / 2; /* 25000 ids, each twice in a row: pairs i i and i i+1 */
    good = !dlm_quality_add(&q, many, MANY, 0, &err);
    tap_ok(good && dlm_quality_distinct(&q, 1) == (3 + 25000.0) / (7 + MANY) && dlm_quality_distinct(&q, 2) == (3 + MANY - 1.0) / (5 + MANY - 1.0),
           "many of them");
    dlm_quality_release(&q);

    struct dlm_mean_nats m = {0};
    tap_ok(isnan(dlm_mean_nats_value(&m)) && isnan(dlm_mean_nats_se(&m)), "no mean of nothing");
    dlm_mean_nats_add(&m, 20, 10);
    tap_ok(dlm_mean_nats_value(&m) == 2 && isnan(dlm_mean_nats_se(&m)), "one text has no standard error");
    dlm_mean_nats_add(&m, 40, 10);
    tap_near(dlm_mean_nats_value(&m), 3, 0, "nats a token");
    tap_near(dlm_mean_nats_se(&m), 1, 1e-15, "texts of one length: the standard error of their means"); /* sd of 2 and 4 is √2, over √2 */
    dlm_mean_nats_add(&m, 15, 5);
    tap_near(dlm_mean_nats_se(&m), sqrt((100 + 100 + 0) * 3.0 / 2) / 25, 1e-14, "texts of several: that of the ratio");
    return tap_end();
}
