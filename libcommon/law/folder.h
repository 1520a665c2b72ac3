/* The directory of a report: begun beside its place, filled with tables and figures, then put in its place whole, or removed.
 *
 * Another directory of that name is refused unless it is empty or an earlier report (files.txt says so); then it is replaced, and
 * files in it that are not of the report move along.
 */
#ifndef DLM_LAW_FOLDER_H
#define DLM_LAW_FOLDER_H

#include "base/output.h"
#include "law/figure.h"
#include "law/lawfile.h"

#include <stdio.h>

struct dlm_folder_figure {
    char file[48], tsv[48], title[160];
};

struct dlm_folder {
    char *dir, *made; /* where it is to stand, where it is made */
    FILE *list;       /* into names: its files, one a line */
    char *names;
    size_t names_size;
    struct dlm_folder_figure *figures;
    size_t n_figures;
    bool no_gnuplot; /* there are no figures */
};

/* Is the place free? Asked before hours of work, too. */
int dlm_folder_check(const char *dir, struct dlm_error *err);

int dlm_folder_begin(struct dlm_folder *o, const char *dir, struct dlm_error *err);
/* Open a file in it; closing commits where rc is 0 and passes on what failed. */
int dlm_folder_open(struct dlm_folder *o, const char *name, struct dlm_output *out, struct dlm_error *err);
int dlm_folder_close(struct dlm_output *out, int rc, struct dlm_error *err);
/* A file of laws; none where there are none. */
int dlm_folder_laws(struct dlm_folder *o, const char *name, const struct dlm_laws *l, struct dlm_error *err);
/* Draw a figure, which is released, and note which table holds its numbers. `rc`: whether it could be filled. */
int dlm_folder_draw(struct dlm_folder *o, struct dlm_figure *f, int rc, const char *file, const char *tsv, const char *title,
                    struct dlm_error *err);
/* Put it in its place where rc is 0, else remove it; released in either case, also after a failed beginning. */
int dlm_folder_end(struct dlm_folder *o, int rc, struct dlm_error *err);

#endif
