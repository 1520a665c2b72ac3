/* The points of a scaling study: rows of metrics, sorted into groups and runs.
 *
 * A group is fitted by itself; a run is one curve of it. What is fitted is `elbo` where that column exists, else `loss`. A run
 * with val rows keeps those alone, otherwise its train rows. Groups are sorted by name, runs by name within their group, and
 * points by compute within their run, so that neither the order of files nor that of rows changes a result. Rows at the start of
 * a run, where compute is 0, have no place on a logarithmic axis and are left out, and so are rows where something needed was not
 * measured.
 *
 * Memory is bounded by the number of runs: of a run with more than DLM_STUDY_ROWS rows of a kind, as logs of every step are, those that
 * fall into one step of 1/DLM_STUDY_STEPS in log x are averaged. A thousand of them span what 100,000 steps do; shorter runs
 * are kept row by row.
 */
#ifndef DLM_LAW_STUDY_H
#define DLM_LAW_STUDY_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DLM_STUDY_ROWS = 2000, DLM_STUDY_STEPS = 100 };

struct dlm_point {
    double x, y, se;                         /* what is fitted, against what; se of y, NAN where unknown */
    double flops, tokens, params, flops_tok; /* NAN where unknown, like the rest */
    double batch_tok, lr, unique_tokens, joules;
    bool marked; /* it meets the request's `mark` */
};

struct dlm_run {
    char *name;               /* owned */
    struct dlm_point *points; /* into the study's array, by rising x */
    size_t n;
    double params, flops_tok, batch_tok, lr; /* of its last point */
    char **kept;                             /* (the study's n_kept) owned; NULL: it has none or not one alone */
    bool on_val;
};

struct dlm_group {
    char *name;           /* owned: the values of the group columns, joined by / */
    struct dlm_run *runs; /* into the study's array */
    size_t n, n_points;
};

struct dlm_study {
    struct dlm_group *groups;
    struct dlm_run *runs;
    struct dlm_point *points;
    size_t n, n_runs, n_points;
    size_t n_val, n_train;   /* runs fitted on their val rows, on their train rows (0: the input has no kinds) */
    size_t dropped, repeats; /* rows without what is needed; rows that came again */
    size_t averaged;         /* runs whose rows were averaged */
    size_t skipped;          /* bad rows, where the request lets them be skipped */
    char *first_skipped;     /* owned: what was wrong with the first of them; NULL */
    char *by;                /* owned: the group columns in use, joined by commas; "" for none */
    const char *fitted;      /* "elbo", "loss" or the y column asked for */
    char **kept; /* (n_kept) owned: names of the other columns, where they were asked for */
    size_t n_kept;
    bool has_runs;
};

struct dlm_study_request {
    const char *const *paths;
    size_t n_paths;    /* 0: standard input */
    const char *group; /* NULL: noise,objective as far as they exist */
    const char *where; /* or NULL */
    const char *x, *y; /* columns; y NULL: elbo or loss. Their standard errors are taken from Y_se where that exists */
    bool need_sizes;   /* params and tokens (or flops_tok) must be there */
    bool need_params;  /* params must be there and positive */
    bool need_batch;   /* batch_tok, likewise */
    bool need_lr;      /* lr */
    bool need_unique;  /* unique_tokens */
    bool keep;         /* what the other columns say of a run as a whole */
    bool skip_bad;     /* pass over rows that cannot be read (table.h) or have a negative figure or a loss of 0 */
    const char *mark;  /* a condition as `where`, or NULL: mark the points that meet it */
};

int dlm_study_read(struct dlm_study *s, const struct dlm_study_request *q, struct dlm_error *err);
void dlm_study_release(struct dlm_study *s);

#endif
