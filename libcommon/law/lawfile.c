/* Fitted laws and their file; see lawfile.h. */
#include "law/lawfile.h"

#include "base/number.h"
#include "law/columns.h"
#include "law/fit.h"
#include "metric/grow.h"
#include "metric/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *copy_text(const char *s)
{
    return strdup(s && *s ? s : "NA");
}

int dlm_laws_add(struct dlm_laws *l, const struct dlm_law_row *row, struct dlm_error *err)
{
    struct dlm_law_row *more = dlm_grow(l->at, sizeof *more, &l->room, l->n + 1);
    if (!more)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    l->at = more;
    struct dlm_law_row *r = &l->at[l->n];
    *r = *row;
    r->law = copy_text(row->law);
    r->group = copy_text(row->group);
    r->term = copy_text(row->term);
    r->y = copy_text(row->y);
    r->x = copy_text(row->x);
    r->by = copy_text(row->by);
    l->n++;
    if (!r->law || !r->group || !r->term || !r->y || !r->x || !r->by)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    return 0;
}

int dlm_laws_append(struct dlm_laws *l, struct dlm_laws *more, int rc, struct dlm_error *err)
{
    for (size_t i = 0; i < more->n && !rc; i++)
        rc = dlm_laws_add(l, &more->at[i], err);
    dlm_laws_release(more);
    return rc;
}

void dlm_laws_release(struct dlm_laws *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct dlm_law_row *r = &l->at[i];
        free(r->law);
        free(r->group);
        free(r->term);
        free(r->y);
        free(r->x);
        free(r->by);
    }
    free(l->at);
    *l = (struct dlm_laws){0};
}

int dlm_laws_write(const struct dlm_laws *l, FILE *f, const char *name, struct dlm_error *err)
{
    errno = 0;
    fputs("law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\ty\tx\tby\n", f);
    for (size_t i = 0; i < l->n; i++) {
        const struct dlm_law_row *r = &l->at[i];
        fprintf(f, "%s\t%s\t%s", r->law, r->group, r->term);
        dlm_columns_number(f, r->value, 9);
        dlm_columns_number(f, r->lo, 6);
        dlm_columns_number(f, r->hi, 6);
        dlm_columns_number(f, r->se, 6);
        dlm_columns_number(f, r->n, 9);
        dlm_columns_number(f, r->r2, 6);
        dlm_columns_number(f, r->objective, 6);
        fprintf(f, "\t%s\t%s\t%s\n", r->y, r->x, r->by);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}

int dlm_laws_read(struct dlm_laws *l, const char *const *paths, size_t n, struct dlm_error *err)
{
    static const char *const texts[] = {"law", "group", "term", "y", "x", "by"};
    static const char *const numbers[] = {"value", "lo", "hi", "se", "n", "r2", "objective"};
    int text[6], number[7], rc;
    struct dlm_table *t;
    const size_t before = l->n;
    if ((rc = dlm_table_new(&t, paths, n, err)))
        return rc;
    for (int i = 0; i < 6 && !rc; i++)
        rc = (text[i] = dlm_table_want(t, texts[i], i < 3, err)) < 0 ? text[i] : 0;
    for (int i = 0; i < 7 && !rc; i++)
        rc = (number[i] = dlm_table_want(t, numbers[i], i < 1, err)) < 0 ? number[i] : 0;
    while (!rc && (rc = dlm_table_next(t, err)) == 1) {
        const char *s[6];
        double v[7];
        rc = 0;
        for (int i = 0; i < 6; i++)
            s[i] = dlm_table_text(t, text[i]);
        for (int i = 0; i < 7 && !rc; i++)
            rc = dlm_table_number(t, number[i], &v[i], err);
        size_t len = strlen(s[0]);
        double at;
        if (!rc && len > 5 && !strcmp(s[0] + len - 5, ".band") && (!dlm_number_real(s[2], &at) || !(at > 0)))
            rc = dlm_table_fail(t, text[2], err, "'%.60s' is not a positive number, as the term of a band is", s[2]);
        if (!strcmp(s[3], "NA") && !strcmp(s[4], "NA")) { /* files without these columns: what the name of a law implies */
            bool surface = !strncmp(s[0], "surface", 7);
            s[3] = surface || !strncmp(s[0], "loss", 4) ? "loss" : "NA";
            s[4] = surface ? "flops_tok" : !strcmp(s[3], "loss") ? "flops" : "NA";
        }
        if (!rc) /* the row only borrows the texts; they are copied */
            rc = dlm_laws_add(l,
                              &(struct dlm_law_row){(char *)s[0], (char *)s[1], (char *)s[2], (char *)s[3], (char *)s[4],
                                                    (char *)s[5], v[0], v[1], v[2], v[3], v[4], v[5], v[6]},
                              err);
    }
    if (!rc && l->n == before)
        rc = dlm_fail(err, DLM_EDATA, "'%s': no laws", n && strcmp(paths[0], "-") ? paths[0] : "standard input");
    dlm_table_free(t);
    if (rc)
        dlm_laws_release(l);
    return rc;
}

const struct dlm_law_row *dlm_laws_find(const struct dlm_laws *l, const char *law, const char *group, const char *term,
                                        const char *y, const char *x)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct dlm_law_row *r = &l->at[i];
        if (!strcmp(r->law, law) && !strcmp(r->term, term) && !strcmp(r->group, group) && (!y || !strcmp(r->y, y)) &&
            (!x || !strcmp(r->x, x)))
            return r;
    }
    return NULL;
}

/* The band about `at`: the values and limits of its neighbours on both sides, and how far between them `at` stands in logarithms.
 */
static bool band_about(const struct dlm_laws *l, const char *law, const char *group, const char *y, const char *x, double at,
                       const struct dlm_law_row **below, const struct dlm_law_row **above, double *part)
{
    char name[64];
    double x0 = 0, x1 = INFINITY;
    snprintf(name, sizeof name, "%.50s.band", law);
    *below = *above = NULL;
    for (size_t i = 0; i < l->n; i++) {
        const struct dlm_law_row *r = &l->at[i];
        double v;
        if (strcmp(r->law, name) || strcmp(r->group, group) || strcmp(r->y, y) || strcmp(r->x, x) ||
            !dlm_number_real(r->term, &v))
            continue;
        if (v <= at * (1 + 1e-9) && v > x0) {
            x0 = v;
            *below = r;
        }
        if (v >= at * (1 - 1e-9) && v < x1) {
            x1 = v;
            *above = r;
        }
    }
    if (!*below || !*above)
        return false;
    *part = x1 > x0 ? fmin(fmax(log(at / x0) / log(x1 / x0), 0), 1) : 0;
    return true;
}

/* Between two positive numbers, in logarithms. */
static double between(double a, double b, double part)
{
    return exp((1 - part) * log(a) + part * log(b));
}

bool dlm_laws_predict(const struct dlm_laws *l, const char *law, const char *group, const char *y, const char *x, double at,
                      struct dlm_prediction *out)
{
    const struct dlm_law_row *below, *above;
    double part;
    bool loss = !strcmp(law, "loss"), band = band_about(l, law, group, y, x, at, &below, &above, &part);
    const struct dlm_law_row *a = dlm_laws_find(l, law, group, "A", y, x),
                             *k = dlm_laws_find(l, law, group, loss ? "beta" : "k", y, x);
    const struct dlm_law_row *e = dlm_laws_find(l, law, group, loss ? "B" : "E", y, x);
    *out = (struct dlm_prediction){NAN, NAN, NAN};
    if (a && k && (e || !loss)) {
        double v[3] = {a->value, k->value, e ? e->value : 0};
        out->value = dlm_form_at(loss ? &dlm_form_loss : e ? &dlm_form_power_offset : &dlm_form_power, v, at, 1);
    } else if (band) {
        out->value = between(below->value, above->value, part);
    } else {
        return false;
    }
    if (band) { /* the limits as ratios to the value: smoother than the limits themselves */
        out->lo = out->value * between(below->lo / below->value, above->lo / above->value, part);
        out->hi = out->value * between(below->hi / below->value, above->hi / above->value, part);
    }
    return true;
}
