/* dlm-eval --score: JSON Lines in, each object with its likelihood out. What an external harness drives.
 *
 * Every line is answered by itself, at once. With `skip_bad` an object that cannot be scored is answered with nulls and the reason, and a line that is no
 * object is dropped; both are counted.
 */
#ifndef DLM_RUN_FILTER_H
#define DLM_RUN_FILTER_H

#include "base/output.h"
#include "base/progress.h"
#include "run/item.h"

struct dlm_filter {
    const char *input;              /* NULL or "-": standard input */
    struct dlm_scorer *scorer;      /* these are borrowed */
    struct dlm_item_reader *reader;
    struct dlm_output *out;
    struct dlm_progress *progress;  /* in items; may be NULL */
    bool skip_bad;
};

struct dlm_filter_count {
    uint64_t items, bad;  /* scored; skipped */
    uint64_t draws;       /* sequences through the network */
    double levels;        /* of all items together */
    uint64_t missed;      /* whose standard error is above the target */
    struct dlm_error first_bad;
};

int dlm_filter_run(const struct dlm_filter *f, double target_se, struct dlm_filter_count *count, struct dlm_error *err);

#endif
