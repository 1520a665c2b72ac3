/* A drawing of loss laws with characters, for a terminal: 72 columns, no program needed. */
#ifndef DLM_LAW_CHART_H
#define DLM_LAW_CHART_H

#include "law/view.h"

#include <stdio.h>

int dlm_chart_draw(const struct dlm_view *v, FILE *f, const char *name, struct dlm_error *err);

#endif
