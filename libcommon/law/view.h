/* Figures of a study: each function fills an empty figure (figure.h) with one kind of result.
 *
 * Groups have their places in the study as colours, so that one noise type looks the same in all figures. A figure without
 * anything in it is DLM_EDATA. What is drawn must outlive no call: figures hold copies.
 */
#ifndef DLM_LAW_VIEW_H
#define DLM_LAW_VIEW_H

#include "law/epochs.h"
#include "law/figure.h"
#include "law/isoflop.h"
#include "law/isoloss.h"
#include "law/optimum.h"

/* The runs and each group's loss law against x ("flops" or "tokens"), from a little before its data to ten times beyond. */
int dlm_view_loss(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_laws *l, const char *x, struct dlm_error *err);

/* The parabolas behind the optima of one group. Batches: tokens, per size a colour. Rates: at the longest horizon of each size and
 * batch, loss over its lowest, per batch a colour. */
int dlm_view_parabolas(struct dlm_figure *f, const struct dlm_optima *o, const char *group, struct dlm_error *err);

/* The runs alone, the study read against x. */
int dlm_view_curves(struct dlm_figure *f, const struct dlm_study *s, const char *x, struct dlm_error *err);

/* The profiles of one group of the study: best loss of each size at each budget, the parabola, and its optimum. */
int dlm_view_isoflop(struct dlm_figure *f, const struct dlm_group *g, const struct dlm_estimate *how, struct dlm_error *err);

/* Optima of the iso-FLOP profiles (DLM_ISOFLOP_SIZE, _TOKENS, _PARAMS or _LOSS) against compute, with their power laws. */
int dlm_view_sizes(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_isoflop *i, int what,
                   const struct dlm_laws *l, struct dlm_error *err);

/* Best batches against tokens, or best learning rates against batch, with their power laws. */
int dlm_view_optima(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_optima *o, const struct dlm_laws *l,
                    struct dlm_error *err);

/* The iso-loss curves of one group: steps against batch. */
int dlm_view_isoloss(struct dlm_figure *f, const struct dlm_isoloss *i, const char *group, struct dlm_error *err);

/* The least loss that unique tokens allow, per group. */
int dlm_view_bound(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_laws *l, struct dlm_error *err);

#endif
