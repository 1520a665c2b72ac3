/* What a drawing of loss laws shows: a window on logarithmic axes, the runs' points in it, and each group's law.
 *
 * Shared by the two ways to draw it (plot.h through gnuplot, chart.h with characters), so that they show the same.
 */
#ifndef DLM_LAW_VIEW_H
#define DLM_LAW_VIEW_H

#include "law/lawfile.h"
#include "law/study.h"

#include <stdbool.h>

struct dlm_view {
    const struct dlm_study *study; /* borrowed; its group i has the law of the same name */
    const struct dlm_laws *laws;   /* borrowed */
    const char *x;                 /* "flops" or "tokens" */
    double x0, x1, y0, y1;         /* the window, natural units */
};

/* DLM_EDATA where no group of the study has a loss law against x. */
int dlm_view_init(struct dlm_view *v, const struct dlm_study *s, const struct dlm_laws *l, const char *x, struct dlm_error *err);

/* The law of group g at x; false where it has none. `inside`: within the range it was fitted on. */
bool dlm_view_law(const struct dlm_view *v, size_t g, double x, struct dlm_prediction *out, bool *inside);

/* `masked: L = 2.05 + 31.2 C^-0.184, beta [0.17, 0.2]` */
void dlm_view_caption(const struct dlm_view *v, size_t g, char *to, size_t size);

#endif
