/* Fitted laws and their file (dlm-law(5)): rows of `law group term value lo hi se n r2 objective y x by`.
 *
 * A law is the rows that agree in law, group, y and x; its terms are the parameters of its form, and `x_min x_max` the range of x
 * it was fitted on. Rows whose law ends in `.band` hold what the law predicts at the x that stands as their term, with its
 * interval: from these a reader interpolates intervals, as no interval of a single parameter can give them. Several files put
 * together are a valid file.
 */
#ifndef DLM_LAW_LAWFILE_H
#define DLM_LAW_LAWFILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct dlm_law_row {
    char *law, *group, *term, *y, *x, *by;      /* owned by the table of laws */
    double value, lo, hi, se, n, r2, objective; /* NAN: not available */
};

struct dlm_laws {
    struct dlm_law_row *at;
    size_t n, room;
};

/* The texts of `row` are copied. */
int dlm_laws_add(struct dlm_laws *l, const struct dlm_law_row *row, struct dlm_error *err);
/* Puts the rows of `more` behind, unless rc says that something failed, and releases them; rc is passed on. */
int dlm_laws_append(struct dlm_laws *l, struct dlm_laws *more, int rc, struct dlm_error *err);
void dlm_laws_release(struct dlm_laws *l);

int dlm_laws_write(const struct dlm_laws *l, FILE *f, const char *name, struct dlm_error *err);
/* Adds the rows of these files to `l`; where it fails, `l` is released. */
int dlm_laws_read(struct dlm_laws *l, const char *const *paths, size_t n, struct dlm_error *err);

/* The first row of law, group, term, y and x; NULL where there is none. y and x may be NULL: any. */
const struct dlm_law_row *dlm_laws_find(const struct dlm_laws *l, const char *law, const char *group, const char *term,
                                        const char *y, const char *x);

/* What a law of one variable predicts at x, with its interval from the band; NAN where the law or the interval ends. False: no
 * such law. */
struct dlm_prediction {
    double value, lo, hi;
};
bool dlm_laws_predict(const struct dlm_laws *l, const char *law, const char *group, const char *y, const char *x, double at,
                      struct dlm_prediction *out);

#endif
