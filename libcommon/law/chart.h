/* A figure drawn with characters, for a terminal: 72 columns, no program needed. */
#ifndef DLM_LAW_CHART_H
#define DLM_LAW_CHART_H

#include "law/figure.h"

#include <stdio.h>

int dlm_chart_draw(const struct dlm_figure *v, FILE *f, const char *name, struct dlm_error *err);

#endif
