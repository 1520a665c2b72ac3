/* The best batch and the best learning rate (method.md §7, steps 2 and 5): `dlm-fitlaw batch` and `lr`.
 *
 * Batch: a size reaches a level of loss with each batch after some tokens, at its best learning rate; a parabola of log tokens
 * over log batch has its lowest point at B*, D*. The law is B* = A·D*^k.
 * Learning rate: at one size, batch and number of tokens the parabola of log loss over log rate has its lowest point at η*. The
 * law is η* = A·B^k.
 * A parabola takes at least three values. Optima outside of those sampled are rows, flagged, and no part of the law. Laws are
 * fitted per group and, where there are several, to all of them as the group `pooled`.
 *
 * In a law each optimum weighs by how well the values of its parabola tell an optimum where the law itself puts it: less
 * towards their ends. Equal weights would draw the law towards the middle of the grid, where optima are not cut off.
 *
 * Intervals. The grid of values is chosen, not drawn: were single runs drawn again, most parabolas would lose the values that
 * make them. So runs that share a parabola stay together. With ten or more sets of such runs (a size; for rates a size and
 * batch) the sets are drawn again, the spread widened by the root of n/(n - 2) for the law's two terms
 * and by Student's t. With fewer, what is
 * drawn again are the errors of runs (residuals.h): residuals about the parabolas in log loss, a run's together at all its
 * levels, widened by the root of n/(n - 3) for the three terms that were fitted to them. Single optima have Fieller's intervals
 * (parabola.h) from the size of those errors, or none where the bend is no larger than its own: over 1000 studies they held 95.5
 * of 100 times, also with five batches of one size, where resampled parabolas held 85.
 */
#ifndef DLM_LAW_OPTIMUM_H
#define DLM_LAW_OPTIMUM_H

#include "law/curve.h"
#include "law/estimate.h"
#include "law/parabola.h"

#include <stdio.h>

enum dlm_optimum_of { DLM_OPTIMUM_BATCH, DLM_OPTIMUM_LR };

struct dlm_optimum_point {
    double x, y; /* a batch and the tokens it needs, or a rate and its loss */
};

struct dlm_optimum_row {
    const struct dlm_group *group;
    double params, flops_tok;           /* of the size */
    double tokens, loss, batch_tok, lr; /* at the optimum; lr of the batch task: that of the run nearest to it */
    struct dlm_interval best, value_in; /* of the best batch or rate; of the tokens (batch) or loss (lr) there; NAN: none */
    size_t values;                      /* batches or rates that the parabola goes through */
    double low, high;                   /* the least and largest of them */
    bool inside;                        /* the optimum lies between them */
    size_t first;                       /* of its `values` points */
    struct dlm_parabola curve;          /* through their logs */
};

struct dlm_optima {
    enum dlm_optimum_of of;
    struct dlm_optimum_row *rows; /* by group, size, (batch,) level */
    size_t n;
    struct dlm_optimum_point *points;
    size_t n_points;
};

struct dlm_optimum_how {
    struct dlm_estimate estimate; /* budgets: of tokens, for lr */
    struct dlm_levels levels;     /* of loss, for batch */
    enum dlm_smooth smooth;
    bool best_batch; /* lr: only at the batch that is best at its size and tokens */
};

/* The study must have been read against x = "tokens", with sizes, batch and lr. Rows and laws (y batch_tok, x tokens; y lr, x
 * batch_tok) both. DLM_EDATA where no parabola has a lowest point. A law that has too few optima is missing and said to be. */
int dlm_optimum_find(const struct dlm_study *s, const struct dlm_optimum_how *how, enum dlm_optimum_of of,
                     struct dlm_optima *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err);
int dlm_optimum_write(const struct dlm_optima *o, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err);
void dlm_optimum_release(struct dlm_optima *o);

#endif
