/* Tasks with right answers, from JSON Lines: one file, one kind of item, a few figures with standard errors.
 *
 *     choice    {"context", "choices", "answer": i}   the likeliest choice; "suffix" is known behind it, "completion" is scored behind it in its stead
 *     cloze     {"prefix", "suffix", "answer"}        the gap, as long as the answer, filled with what is likeliest
 *     generate  {"prompt", "answer"}                  what is written behind the prompt, to the end id, "stop" or `max_tokens`; "extract" finds the answer in it
 *
 * Each item is computed by itself, with draws keyed by its ids, and figures are summed in an order that hangs on the items' lines alone: a figure is a
 * function of (network, set of items, seed, levels). Standard errors are those of the mean over items, by bootstrap.
 */
#ifndef DLM_RUN_TASK_H
#define DLM_RUN_TASK_H

#include "base/output.h"
#include "base/progress.h"
#include "run/item.h"
#include "run/judge.h"
#include "run/restore.h"
#include "run/shots.h"

struct dlm_task_plan {
    const char *path;
    uint64_t limit;                 /* items, from the first on; 0: all */
    bool skip_bad;                  /* count bad items instead of ending at one */
    struct dlm_score_plan score;
    size_t max_tokens;              /* of a generated text */
    size_t block;                   /* in which texts are generated; 0: at once */
    uint32_t steps;                 /* denoising steps of a generated text, or of a gap */
    uint64_t seed;
    const struct dlm_shots *shots;  /* NULL: none. These are borrowed. */
    const struct dlm_judge *judge;  /* NULL: none */
    struct dlm_output *details;     /* NULL: none */
    struct dlm_progress *progress;  /* in items; may be NULL */
};

enum { DLM_TASK_METRICS = 8 };

struct dlm_task_metric {
    const char *name;
    double value, se; /* se: NAN for a single item */
};

struct dlm_task_result {
    char name[256]; /* the file's, without directory and .jsonl */
    struct dlm_task_metric metric[DLM_TASK_METRICS];
    size_t metrics;
    uint64_t n, bad;       /* items used; skipped */
    double levels;         /* a scored text; NAN where none is scored */
    uint64_t scored;       /* texts */
    uint64_t draws;        /* sequences through the network, or its calls in sampling */
    uint64_t missed;       /* texts whose standard error is above the target */
    uint64_t late;         /* items that the judge had no time for */
    struct dlm_error first_bad;
};

/* Sequences in a call of the network, and rows of its head (struct dlm_network_plan), for both scores and samples. */
size_t dlm_task_batch(size_t length, bool autoregressive);

/* The network must be one of plan->score.length positions. */
int dlm_task_run(const struct dlm_task_plan *plan, const struct dlm_backend *b, const struct dlm_restored *model, struct dlm_task_result *out,
                 struct dlm_error *err);

#endif
