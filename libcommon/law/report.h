/* A whole study: every analysis in its order, as a directory with tables, figures and one report: `dlm-fitlaw study`.
 *
 * The directory is whole or absent (folder.h). Analyses that the rows do not allow are named in the report with what is missing.
 */
#ifndef DLM_LAW_REPORT_H
#define DLM_LAW_REPORT_H

#include "law/curve.h"
#include "law/estimate.h"

struct dlm_report_how {
    const char *dir;
    struct dlm_estimate estimate;
    struct dlm_levels levels;
    enum dlm_smooth smooth;
    bool annealed; /* the points of annealed runs are marked: say what annealing does, and leave those runs out elsewhere */
    void (*say)(void *ctx, const char *what); /* what is being done; may be NULL */
    void *say_ctx;
};

/* The study must have been read against x = "flops". */
int dlm_report_make(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_notes *notes, struct dlm_error *err);

#endif
