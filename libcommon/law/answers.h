/* The last page of a report: what people ask of a scaling study, each answered with an interval or with "not determined by these
 * runs". */
#ifndef DLM_LAW_ANSWERS_H
#define DLM_LAW_ANSWERS_H

#include "law/analyses.h"

void dlm_answers_write(const struct dlm_findings *found, FILE *f);

#endif
