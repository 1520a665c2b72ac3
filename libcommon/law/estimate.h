/* From the points of a study to laws with intervals: what `dlm-fitlaw power`, `surface` and `loss` do.
 *
 * Each group of the study is fitted by itself. The result are rows of a law file (lawfile.h): the terms with their intervals, the
 * range of the data, and, last, the bands. What the data do not determine is said in notes.
 */
#ifndef DLM_LAW_ESTIMATE_H
#define DLM_LAW_ESTIMATE_H

#include "law/bootstrap.h"
#include "law/frontier.h"
#include "law/lawfile.h"
#include "law/notes.h"
#include "law/study.h"

struct dlm_estimate {
    double huber;
    struct dlm_bootstrap bootstrap;
    struct dlm_budgets budgets;
};

/* y = A·x^k (+ E) over the points as they are. */
int dlm_estimate_power(const struct dlm_study *s, const struct dlm_estimate *how, const char *x, const char *y, bool offset,
                       struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err);

/* L = E + a·M^-alpha + b·D^-beta, M the params or the FLOPs per token. */
int dlm_estimate_surface(const struct dlm_study *s, const struct dlm_estimate *how, bool params, struct dlm_laws *laws,
                         struct dlm_notes *notes, struct dlm_error *err);

/* L = A·x^-beta + B along the frontier, x the flops or the tokens; with flops also the power laws of the sizes that make the
 * frontier.
 *
 * A frontier is a minimum: resamples of few runs give it again or a worse one, never a better. So with fewer than 20 runs what is
 * drawn again are errors of the lowest runs (residuals.h), as many as they are more than the law's terms; with 20 and more, which
 * hold others nearly as low, the runs are, and intervals are percentiles. Where the lowest are no more than the terms there is no
 * interval but that of measurement. Sizes along the frontier always go by errors. Over 1000 studies: tests/unit/law_frontier.c. */
int dlm_estimate_loss(const struct dlm_study *s, const struct dlm_estimate *how, bool by_tokens, struct dlm_laws *laws,
                      struct dlm_notes *notes, struct dlm_error *err);

#endif
