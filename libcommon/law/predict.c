/* What laws say about a budget; see predict.h. */
#include "law/predict.h"

#include "law/columns.h"
#include "law/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dlm_quantity_names[DLM_QUANTITIES] = {"flops", "params", "flops_tok", "tokens", "batch_tok", "lr", "loss"};

static int quantity_of(const char *column)
{
    for (int i = 0; i < DLM_QUANTITIES; i++)
        if (!strcmp(column, dlm_quantity_names[i]))
            return i;
    return !strcmp(column, "elbo") ? DLM_Q_LOSS : -1;
}

static bool known(const struct dlm_prediction *q)
{
    return !isnan(q->value);
}

/* A law is stretched where x is more than ten times beyond the data it was fitted on. */
static int note_stretch(const struct dlm_laws *l, const char *law, const char *group, const char *y, const char *x,
                        const char *low, const char *high, double at, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_law_row *a = dlm_laws_find(l, law, group, low, y, x), *b = dlm_laws_find(l, law, group, high, y, x);
    if (b && at > 10 * b->value)
        return dlm_notes_add(notes, err,
                             "%s: %s %.3g lies more than ten times beyond the data, which end at %.3g: an extrapolation", group,
                             x, at, b->value);
    if (a && at < a->value / 10)
        return dlm_notes_add(notes, err,
                             "%s: %s %.3g lies more than ten times below the data, which begin at %.3g: an extrapolation", group,
                             x, at, a->value);
    return 0;
}

/* y from x by one law, the uncertainty of x included: its limits go through the law's own limits, and the widest result counts.
 */
static bool apply(const struct dlm_laws *l, const struct dlm_law_row *law, const struct dlm_prediction *x,
                  struct dlm_prediction *y)
{
    if (!dlm_laws_predict(l, law->law, law->group, law->y, law->x, x->value, y))
        return false;
    if (x->lo == x->value && x->hi == x->value)
        return true;
    double lo = y->lo, hi = y->hi;
    const double ends[] = {x->lo, x->hi};
    for (int i = 0; i < 2; i++) {
        struct dlm_prediction end = {NAN, NAN, NAN};
        if (isnan(ends[i]) || !dlm_laws_predict(l, law->law, law->group, law->y, law->x, ends[i], &end)) {
            lo = hi = NAN;
            break;
        }
        lo = end.lo < lo || isnan(end.lo) ? end.lo : lo;
        hi = end.hi > hi || isnan(end.hi) ? end.hi : hi;
    }
    y->lo = lo;
    y->hi = hi;
    return true;
}

static struct dlm_prediction divide(double c, const struct dlm_prediction *by)
{
    return (struct dlm_prediction){c / by->value, c / by->hi, c / by->lo};
}

bool dlm_predict_by_params(const struct dlm_laws *l, const char *group)
{
    return dlm_laws_find(l, "compute", group, "k", "flops", "params") != NULL;
}

bool dlm_predict_surface(const struct dlm_laws *l, const char *group, bool params, double value[DLM_FIT_TERMS], const char **y)
{
    for (int i = 0; i < DLM_FIT_TERMS; i++) {
        const struct dlm_law_row *row =
            dlm_laws_find(l, "surface", group, dlm_form_surface.term[i], NULL, params ? "params" : "flops_tok");
        if (!row)
            return false;
        value[i] = row->value;
        if (y)
            *y = row->y;
    }
    return true;
}

/* The best split on a fitted surface, with intervals from its bands. */
static int apply_surface(const struct dlm_laws *l, const char *group, double c, struct dlm_prediction *q, struct dlm_notes *notes,
                         struct dlm_error *err)
{
    for (int params = 0; params < 2; params++) {
        const char *x = params ? "params" : "flops_tok", *y;
        double v[DLM_FIT_TERMS];
        if (!dlm_predict_surface(l, group, params, v, &y))
            continue;
        const double budget = params ? c / 6 : c; /* method 2 counts 6·P FLOPs per token */
        double m = pow(v[2] * v[1] / (v[4] * v[3]), 1 / (v[2] + v[4])) * pow(budget, v[4] / (v[2] + v[4]));
        struct dlm_prediction size = {m, NAN, NAN}, loss = {dlm_form_at(&dlm_form_surface, v, m, budget / m), NAN, NAN}, band;
        if (dlm_laws_predict(l, "surface", group, x, "flops", c, &band) && known(&band)) {
            size.lo = m * band.lo / band.value;
            size.hi = m * band.hi / band.value;
        }
        if (dlm_laws_predict(l, "surface", group, y, "flops", c, &band) && known(&band)) {
            loss.lo = loss.value * band.lo / band.value;
            loss.hi = loss.value * band.hi / band.value;
        }
        int at = params ? DLM_Q_PARAMS : DLM_Q_SIZE;
        if (!known(&q[at]) && isfinite(m))
            q[at] = size;
        if (!known(&q[DLM_Q_LOSS]) && isfinite(loss.value))
            q[DLM_Q_LOSS] = loss;
        if (params && !known(&q[DLM_Q_TOKENS]) && isfinite(m))
            q[DLM_Q_TOKENS] = divide(budget, &size);
        int rc = note_stretch(l, "surface", group, y, x, "C_min", "C_max", c, notes, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* A surface says what the loss is at sizes that other laws chose; no interval, for its band is that of its own best split. */
static void apply_surface_at(const struct dlm_laws *l, const char *group, struct dlm_prediction *q)
{
    for (int params = 0; params < 2 && !known(&q[DLM_Q_LOSS]); params++) {
        const struct dlm_prediction *m = &q[params ? DLM_Q_PARAMS : DLM_Q_SIZE], *d = &q[DLM_Q_TOKENS];
        double v[DLM_FIT_TERMS];
        if (known(m) && known(d) && dlm_predict_surface(l, group, params, v, NULL))
            q[DLM_Q_LOSS] = (struct dlm_prediction){dlm_form_at(&dlm_form_surface, v, m->value, d->value), NAN, NAN};
    }
}

/* Apply the laws of group `from` named `only` (NULL: any of one variable) that add something; *changed says whether one did. */
static int apply_laws(const struct dlm_laws *l, const char *from, const char *only, struct dlm_prediction *q, bool *changed,
                      struct dlm_notes *notes, struct dlm_error *err)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct dlm_law_row *r = &l->at[i];
        char law[64];
        if (strcmp(r->group, from))
            continue;
        int y = quantity_of(r->y), x = quantity_of(r->x);
        if (y < 0 || x < 0 || known(&q[y]) || !known(&q[x]) || !strncmp(r->law, "surface", 7))
            continue;
        snprintf(law, sizeof law, "%.50s", r->law);
        char *dot = strstr(law, ".band");
        if (dot)
            *dot = 0;
        if (only && strcmp(law, only))
            continue;
        struct dlm_law_row named = *r;
        named.law = law;
        if (!apply(l, &named, &q[x], &q[y]) || !known(&q[y]))
            continue;
        *changed = true;
        int rc = note_stretch(l, law, from, r->y, r->x, "x_min", "x_max", q[x].value, notes, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Of size and tokens the one that is missing, by the group's way to count compute; *changed says whether one was. */
static void complete(bool by_params, double flops, struct dlm_prediction *q, bool *changed)
{
    struct dlm_prediction *d = &q[DLM_Q_TOKENS], *m = &q[DLM_Q_SIZE], *p = &q[DLM_Q_PARAMS];
    *changed = true;
    if (!known(d) && by_params && known(p))
        *d = divide(flops / 6, p);
    else if (!known(d) && !by_params && known(m))
        *d = divide(flops, m);
    else if (known(d) && !known(m))
        *m = divide(flops, d);
    else if (known(d) && by_params && !known(p))
        *p = divide(flops / 6, d);
    else
        *changed = false;
}

int dlm_predict_from(const struct dlm_laws *l, const char *group, struct dlm_prediction q[DLM_QUANTITIES], struct dlm_notes *notes,
                     struct dlm_error *err)
{
    const bool by_params = dlm_predict_by_params(l, group);
    const double flops = q[DLM_Q_FLOPS].value;
    bool changed = true;
    int rc = 0;
    while (!rc && changed) {
        bool completed;
        changed = false;
        rc = apply_laws(l, group, NULL, q, &changed, notes, err);
        if (!rc && !changed && !known(&q[DLM_Q_SIZE]) && !known(&q[DLM_Q_TOKENS]) && !known(&q[DLM_Q_PARAMS]))
            rc = apply_surface(l, group, flops, q, notes, err);
        complete(by_params, flops, q, &completed);
        changed |= completed;
        if (!rc && !changed) { /* what the group has no law of its own for, all groups together may have */
            rc = apply_laws(l, "pooled", NULL, q, &changed, notes, err);
            if (!rc && changed)
                rc = dlm_notes_add(notes, err, "%s: has no law of its own for batch or learning rate: the pooled one is used", group);
        }
    }
    apply_surface_at(l, group, q);
    return rc;
}

int dlm_predict(const struct dlm_laws *l, const char *group, double flops, struct dlm_prediction q[DLM_QUANTITIES],
                struct dlm_notes *notes, struct dlm_error *err)
{
    bool changed;
    for (int i = 0; i < DLM_QUANTITIES; i++)
        q[i] = (struct dlm_prediction){NAN, NAN, NAN};
    q[DLM_Q_FLOPS] = (struct dlm_prediction){flops, flops, flops};
    int rc = apply_laws(l, group, "loss", q, &changed, notes, err);
    return rc ? rc : dlm_predict_from(l, group, q, notes, err);
}

void dlm_predict_noise(const struct dlm_law_row *r, char *to, size_t size)
{
    const char *by = r->by, *part = r->group;
    if (!strcmp(by, "NA")) {
        snprintf(to, size, "%s", part);
        return;
    }
    for (;;) {
        size_t n = strcspn(by, ","), len = strcspn(part, "/");
        if (n == 5 && !memcmp(by, "noise", 5)) {
            snprintf(to, size, "%.*s", by[n] ? (int)len : (int)strlen(part), part);
            return;
        }
        if (!by[n] || !part[len]) {
            snprintf(to, size, "NA");
            return;
        }
        by += n + 1;
        part += len + 1;
    }
}

const struct dlm_law_row *dlm_predict_next(const struct dlm_laws *l, size_t *i)
{
    for (; *i < l->n; ++*i) {
        const struct dlm_law_row *r = &l->at[*i];
        bool before = !strcmp(r->group, "pooled");
        for (size_t j = 0; j < *i && !before; j++)
            before = !strcmp(l->at[j].group, r->group);
        if (!before) {
            ++*i;
            return r;
        }
    }
    return NULL;
}

int dlm_predict_write(const struct dlm_laws *l, const double *flops, size_t n, FILE *f, const char *name, struct dlm_notes *notes,
                      struct dlm_error *err)
{
    const struct dlm_law_row *r;
    errno = 0;
    fputs("noise\tflops", f);
    for (int i = 1; i < DLM_QUANTITIES; i++)
        fprintf(f, "\t%s\t%s_lo\t%s_hi", dlm_quantity_names[i], dlm_quantity_names[i], dlm_quantity_names[i]);
    fputs("\tgroup\tcompute\n", f);
    for (size_t at = 0; (r = dlm_predict_next(l, &at));) {
        for (size_t k = 0; k < n; k++) {
            struct dlm_prediction q[DLM_QUANTITIES];
            bool any = false;
            int rc = dlm_predict(l, r->group, flops[k], q, notes, err);
            if (rc)
                return rc;
            char noise[256];
            dlm_predict_noise(r, noise, sizeof noise);
            fputs(noise, f);
            dlm_columns_number(f, flops[k], 9);
            for (int i = 1; i < DLM_QUANTITIES; i++) {
                dlm_columns_number(f, q[i].value, 7);
                dlm_columns_number(f, q[i].lo, 6);
                dlm_columns_number(f, q[i].hi, 6);
                any |= known(&q[i]);
            }
            fprintf(f, "\t%s\t%s\n", r->group, dlm_predict_by_params(l, r->group) ? "6*P*D" : "M*D");
            if (!any && (rc = dlm_notes_add(notes, err, "%s: no law of this group speaks of compute", r->group)))
                return rc;
        }
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}
