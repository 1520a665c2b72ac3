/* A figure drawn through gnuplot, which is run as a program: svg, png or pdf. */
#ifndef DLM_LAW_PLOT_H
#define DLM_LAW_PLOT_H

#include "law/figure.h"

#include <stdio.h>

enum dlm_plot_format { DLM_PLOT_SVG, DLM_PLOT_PNG, DLM_PLOT_PDF };

/* The format that the end of a file's name asks for; DLM_EUSAGE for another. */
int dlm_plot_format_of(const char *path, enum dlm_plot_format *format, struct dlm_error *err);

/* The gnuplot program, with the data in it. */
int dlm_plot_script(const struct dlm_figure *v, enum dlm_plot_format format, FILE *f, struct dlm_error *err);

/* Draw into `to`, which must be an open file with a descriptor. */
int dlm_plot_draw(const struct dlm_figure *v, enum dlm_plot_format format, FILE *to, struct dlm_error *err);

#endif
