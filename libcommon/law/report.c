/* A whole study as a directory; see report.h. */
#include "law/report.h"

#include "law/analyses.h"
#include "law/answers.h"
#include "law/page.h"

#include <errno.h>

static void put_notes(FILE *to, const char *title, const struct dlm_notes *n)
{
    if (n->n)
        fprintf(to, "\n%s\n", title);
    for (size_t i = 0; i < n->n; i++)
        fprintf(to, "  %s\n", n->at[i]);
}

static int write_text(struct dlm_folder *o, const struct dlm_findings *found, const struct dlm_bootstrap *b,
                      const struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_output out;
    const struct dlm_study *s = found->study;
    int rc = dlm_folder_open(o, "report.txt", &out, err);
    if (rc)
        return rc;
    FILE *to = out.file;
    errno = 0;
    fprintf(to, "A scaling study: %s of %zu %s in %zu group%s, %zu points\n\n", s->fitted, s->n_runs,
            s->has_runs ? "runs" : "rows", s->n, s->n == 1 ? "" : "s", s->n_points);
    for (size_t g = 0; g < s->n; g++)
        fprintf(to, "  %-24s %zu runs, %zu points\n", s->groups[g].name, s->groups[g].n, s->groups[g].n_points);
    fprintf(to,
            "\nIntervals in brackets hold at the level %g; %llu resamples of runs, seed %llu. Between groups, whose runs differ, "
            "errors\n"
            "are independent: the limits of a difference add as squares (Zou and Donner 2008), those of a ratio in logarithms.\n",
            b->level, (unsigned long long)b->n, (unsigned long long)b->seed);
    put_notes(to, "Not done, and what is missing", &found->missing);
    put_notes(to, "Read with care", notes);
    if (o->n_figures)
        fputs("\nFigures, and the tables that hold their numbers\n", to);
    for (size_t i = 0; i < o->n_figures; i++)
        fprintf(to, "  %-22s %-18s %s\n", o->figures[i].file, o->figures[i].tsv, o->figures[i].title);
    if (o->no_gnuplot)
        fputs("\nThere are no figures: gnuplot is not installed.\n", to);
    fputs("\n\fAnswers\n", to); /* a page of their own, the last */
    dlm_answers_write(found, to);
    if (ferror(to))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write 'report.txt'");
    return dlm_folder_close(&out, rc, err);
}

int dlm_report_make(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_folder folder;
    struct dlm_findings found = {.study = s};
    int rc = dlm_folder_begin(&folder, how->dir, err);
    const bool no_gnuplot = folder.no_gnuplot;
    if (!rc)
        rc = dlm_analyses_do(s, how, &folder, &found, notes, err);
    if (!rc && how->say)
        how->say(how->say_ctx, "report");
    if (!rc)
        rc = write_text(&folder, &found, &how->estimate.bootstrap, notes, err);
    if (!rc)
        rc = dlm_page_write(&folder, err);
    rc = dlm_folder_end(&folder, rc, err);
    if (!rc && no_gnuplot)
        rc = dlm_notes_add(notes, err, "no figures: gnuplot is not installed");
    if (!rc && found.missing.n)
        rc = dlm_notes_add(notes, err, "%zu analyses could not be done: report.txt says what they lack", found.missing.n);
    dlm_findings_release(&found);
    return rc;
}
