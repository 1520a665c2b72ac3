/* A whole study: every analysis in its order, as a directory with tables, figures and one report: `dlm-fitlaw study`.
 *
 * The directory is whole or absent: it is made beside its place and renamed. Another directory of that name is refused unless it is
 * empty or an earlier report (files.txt says so); then it is replaced, and files in it that are not of the report move along.
 * Analyses that the rows do not allow are named in the report with what is missing.
 *
 * Two groups are different runs, so their errors are independent: the interval of a difference d = a - b is
 *   d - √((a - a_lo)² + (b_hi - b)²)  to  d + √((a_hi - a)² + (b - b_lo)²)
 * (Zou and Donner 2008), and that of a ratio the same of logarithms.
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

/* Is the place free for a report? Asked before hours of work, too. */
int dlm_report_check(const char *dir, struct dlm_error *err);

/* The study must have been read against x = "flops". */
int dlm_report_make(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_notes *notes, struct dlm_error *err);

/* a - b, and a/b for positive ones, with the intervals above; NAN limits where one of them has none. */
struct dlm_prediction dlm_report_difference(const struct dlm_prediction *a, const struct dlm_prediction *b);
struct dlm_prediction dlm_report_ratio(const struct dlm_prediction *a, const struct dlm_prediction *b);

#endif
