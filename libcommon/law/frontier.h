/* The compute frontier of a group: at each of a few budgets, what every run's smoothed curve says there.
 *
 * A curve is smoothed by local linear regression of log y on log x (method.md §7, step 1); it says nothing outside of its points.
 * Where every run has a single point there is nothing to smooth: each point stands for itself, and only points of nearly equal x
 * (2 %) and clearly different size (10 %), as an iso-FLOP design has them, share a budget. Read-only once filled.
 */
#ifndef DLM_LAW_FRONTIER_H
#define DLM_LAW_FRONTIER_H

#include "base/rng.h"
#include "law/notes.h"
#include "law/study.h"

/* As asked for: a number of budgets, and perhaps their ends (natural units; 0: from the data). */
struct dlm_budgets {
    size_t n;
    double low, high;
};

/* `8` or `1e17:1e19:8`; DLM_EUSAGE. */
int dlm_budgets_parse(const char *text, struct dlm_budgets *b, struct dlm_error *err);

struct dlm_frontier {
    const struct dlm_group *group; /* borrowed */
    size_t n;
    double *budget;  /* (n), natural units of x, rising */
    bool *counted;   /* (n): a single point that counts as often as its run is drawn */
    size_t *start;   /* (n + 1): the entries of each budget */
    size_t *run;     /* (entries): index into the group's runs */
    double *value;   /* (entries): log of smoothed y */
    double *lx, *ly; /* (n_points): logs of the points */
    bool direct, has_se;
    size_t sizes; /* distinct ones among the runs */
};

/* `cover`: how many sizes must reach a budget (1 or 2: for the frontier; 3: for parabolas). */
int dlm_frontier_fill(struct dlm_frontier *f, const struct dlm_group *g, const struct dlm_budgets *asked, size_t cover,
                      struct dlm_error *err);
void dlm_frontier_release(struct dlm_frontier *f);

/* As f->value, had each point been measured with another error: y + se·normal. `ly` (n_points) is scratch, `value` (entries) the
 * result. */
void dlm_frontier_perturb(const struct dlm_frontier *f, struct dlm_rng *rng, double *ly, double *value);

/* log y of a curve (n points, rising lx) at `at`; NAN outside. */
double dlm_curve_at(const double *lx, const double *ly, size_t n, double at);

#endif
