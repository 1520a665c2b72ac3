/* The forms of the laws and their robust fit (method.md §7).
 *
 *   power    y = A·x^k            power with offset   y = A·x^k + E
 *   loss     y = A·x^-beta + B    surface             y = E + a·x1^-alpha + b·x2^-beta
 *
 * Amplitudes are positive, offsets not negative, beta and alpha within [1e-4, 10]. A fit minimises Σ w·h(log ŷ - log y), h
 * Huber's function with the threshold `huber`, over all points. The minimum is the lowest of a grid of starts and of random ones
 * whose key is fixed, so it does not depend on any seed. Intervals come from bootstrap.h. Nothing here keeps state; every
 * function may run in several threads at once.
 */
#ifndef DLM_LAW_FIT_H
#define DLM_LAW_FIT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { DLM_FIT_TERMS = 5, DLM_FIT_MINIMA = 3 };

struct dlm_form {
    const char *law; /* "power", "loss", "surface" */
    int n;           /* parameters = points needed = distinct runs needed in a resample */
    int powers;      /* 1 or 2 power terms */
    bool offset;
    double sign;                     /* of the exponent in the power terms: +1 for k, -1 for alpha and beta */
    double lowest, highest;          /* bounds of an exponent */
    const char *term[DLM_FIT_TERMS]; /* in the order of values */
};

extern const struct dlm_form dlm_form_power, dlm_form_power_offset, dlm_form_loss, dlm_form_surface;

/* Points as natural logarithms. Borrowed. A weight of 0 leaves a point out. */
struct dlm_sample {
    size_t n;
    double *lx[2];  /* (n); the second only for a surface */
    double *ly, *w; /* (n) */
};

/* Coordinates of the search: [log amplitude, exponent] of each power term, then the offset, all about centres (log units) that
 * make them of order one and nearly independent. */
struct dlm_minima {
    double centre[2], centre_y;
    int n;
    double at[DLM_FIT_MINIMA][DLM_FIT_TERMS]; /* best first */
};

struct dlm_fit {
    double value[DLM_FIT_TERMS]; /* in the form's order and natural units */
    double objective, r2;        /* r2 of log y */
    bool degenerate;             /* the points do not tell the parameters apart */
    bool at_bound[DLM_FIT_TERMS];
};

/* The fit of the points as they are. DLM_EDATA where there are fewer points than parameters, or too few different x. */
int dlm_fit_points(const struct dlm_form *form, const struct dlm_sample *s, double huber, struct dlm_minima *m,
                   struct dlm_fit *fit, struct dlm_error *err);

/* The fit of resampled points, from the minima of the original ones. It leaves r2 NAN. */
void dlm_fit_again(const struct dlm_form *form, const struct dlm_sample *s, double huber, const struct dlm_minima *m,
                   struct dlm_fit *fit);

/* ŷ at x (natural units); x2 is for surfaces. */
double dlm_form_at(const struct dlm_form *form, const double *value, double x, double x2);

/* The objective at q (coordinates of the search, about the centres of m), its gradient (n), Hessian (n, n) and the matrix (n, n)
 * of the majorising least-squares problem; each NULL where not wanted. INFINITY where ŷ is 0 or too large. */
double dlm_fit_objective(const struct dlm_form *form, const struct dlm_sample *s, double huber, const struct dlm_minima *m,
                         const double *q, double *gradient, double *hessian, double *majorant);

#endif
