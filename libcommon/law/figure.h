/* A figure: what is drawn, whichever way it is drawn (plot.h through gnuplot, chart.h with characters).
 *
 * Series of points on logarithmic axes, each with a form, a colour (a number; the drawing has the palette) and perhaps a line in
 * the legend. Series are drawn in their order. Not thread-safe.
 */
#ifndef DLM_LAW_FIGURE_H
#define DLM_LAW_FIGURE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum dlm_series_form {
    DLM_SERIES_BAND,   /* the area between lo and hi */
    DLM_SERIES_RUN,    /* a curve of measured points, light */
    DLM_SERIES_LINE,   /* a law within its data */
    DLM_SERIES_DASHED, /* and beyond it */
    DLM_SERIES_POINTS, /* measured points, with their interval where lo and hi are known */
    DLM_SERIES_BEST,   /* optima: larger, filled points */
};

struct dlm_series {
    enum dlm_series_form form;
    unsigned colour;
    char *label;               /* owned; NULL: not in the legend */
    size_t n, room;
    double (*at)[4];           /* (n): x, y, lo, hi */
};

struct dlm_figure {
    const char *x_label, *y_label; /* static */
    char title[160];               /* or "" */
    struct dlm_series *series;
    size_t n, room;
    double x0, x1, y0, y1;         /* the window; all 0: what the series need */
};

/* Begin a series; further points go to it. The label is printf's, NULL for none. */
int dlm_figure_series(struct dlm_figure *f, enum dlm_series_form form, unsigned colour, struct dlm_error *err,
                      const char *label, ...)
    __attribute__((format(printf, 5, 6)));
/* A point of the last series; lo and hi NAN where there are none. Points that have no place on logarithmic axes are
 * passed over. */
int dlm_figure_point(struct dlm_figure *f, double x, double y, double lo, double hi, struct dlm_error *err);
/* The window about all series, with a margin, where none is set. DLM_EDATA where there is nothing to draw. */
int dlm_figure_window(struct dlm_figure *f, struct dlm_error *err);
void dlm_figure_release(struct dlm_figure *f);

/* Marks of a logarithmic axis from low to high: fills `at` (room), with the powers of ten among them where `decades` is true on
 * return, else even steps; their number. */
size_t dlm_figure_ticks(double low, double high, double *at, size_t room, bool *decades);

#endif
