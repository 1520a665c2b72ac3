/* Smoothed training curves (method.md §7, step 1): `dlm-fitlaw curve`.
 *
 * A run's logged loss is smoothed near each horizon, by a local line of log y on log x or by L = C + B·t^-b fitted to the whole
 * curve. A horizon is a budget of FLOPs or tokens, where the loss is told, or a level of loss, where the FLOPs and tokens that
 * reach it are told. Nothing is said outside of a run's points. Also what other analyses ask of a single curve.
 */
#ifndef DLM_LAW_CURVE_H
#define DLM_LAW_CURVE_H

#include "law/frontier.h"
#include "law/levels.h"
#include "law/notes.h"
#include "law/study.h"

#include <stdio.h>

enum dlm_smooth { DLM_SMOOTH_LOCAL, DLM_SMOOTH_POWER };

/* One curve, ready to be asked. Logs; rising lx. Read-only once filled, so threads may share it. */
struct dlm_curve {
    const struct dlm_run *run; /* borrowed */
    size_t n;
    double *lx, *ly; /* (n) of the run's x and y */
    enum dlm_smooth smooth;
    double scatter; /* of log y about the smooth curve; NAN: unknown */
    double level;   /* error that all points share, in log y: 0, or of the held-out data that val rows score */
    /* power: A beta B of L = A·x^-beta + B, and the covariance (3, 3) of log A, beta, log x counted from centre, and B */
    double value[3], covariance[9], centre;
    /* the smoothed curve at its points, or at many places of a curve of more: rising x */
    size_t n_knots;
    double *kx, *ky; /* (n_knots) */
};

/* run->n must be positive. DLM_EDATA where a power curve cannot be fitted (fewer than four points). */
int dlm_curve_init(struct dlm_curve *c, const struct dlm_run *run, enum dlm_smooth smooth, struct dlm_error *err);
void dlm_curve_release(struct dlm_curve *c);
/* Takes from a local curve what a line through a bent stretch adds: its points are moved by their residuals and smoothed again,
 * (2S - S²)y in place of Sy. For where the place matters at which a level is reached: there the bend is many times more than the
 * scatter of points. Not for standard errors, which would have to grow by a fifth. A power curve stays as it is. */
int dlm_curve_sharpen(struct dlm_curve *c, struct dlm_error *err);

/* Log y at log x, its standard error and the slope d log y / d log x (each may be NULL); NAN outside of the points. The error
 * holds the scatter about the smoothed curve; on val rows, which all score the same held-out data, also that of one row. */
double dlm_curve_loss(const struct dlm_curve *c, double lx, double *se, double *slope);

/* Log x where the smoothed curve first comes down to log y, NAN where it never does or begins below. */
double dlm_curve_reach(const struct dlm_curve *c, double ly);

struct dlm_curve_row {
    const struct dlm_group *group;
    const struct dlm_run *run;
    double flops, flops_se, tokens, tokens_se, loss, loss_se; /* the se of what was asked at is 0 */
    double unique_tokens, joules;                             /* between the rows about it; NAN where unknown */
};

struct dlm_curves {
    struct dlm_curve_row *rows; /* by group, run, horizon */
    size_t n;
    enum dlm_smooth smooth;
};

/* The study must have been read against x = "flops" or "tokens". levels NULL: at budgets of x; else at these levels of loss. */
int dlm_curve_find(const struct dlm_study *s, enum dlm_smooth smooth, const char *x, const struct dlm_budgets *budgets,
                   const struct dlm_levels *levels, struct dlm_curves *out, struct dlm_notes *notes, struct dlm_error *err);
/* A table that every analysis reads again: run, the group columns, the facts of the run, flops tokens loss with _se, and those
 * columns of the input that a run keeps constant. */
int dlm_curve_write(const struct dlm_curves *c, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err);
void dlm_curves_release(struct dlm_curves *c);

#endif
