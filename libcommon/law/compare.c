/* Two groups compared by their laws; see compare.h. */
#include "law/compare.h"

#include <math.h>
#include <string.h>

struct dlm_prediction dlm_compare_difference(const struct dlm_prediction *a, const struct dlm_prediction *b)
{
    double d = a->value - b->value;
    return (struct dlm_prediction){d, d - sqrt(pow(a->value - a->lo, 2) + pow(b->hi - b->value, 2)),
                                   d + sqrt(pow(a->hi - a->value, 2) + pow(b->value - b->lo, 2))};
}

static struct dlm_prediction logs(const struct dlm_prediction *p)
{
    return (struct dlm_prediction){log(p->value), p->lo > 0 ? log(p->lo) : NAN, log(p->hi)};
}

struct dlm_prediction dlm_compare_ratio(const struct dlm_prediction *a, const struct dlm_prediction *b)
{
    struct dlm_prediction la = logs(a), lb = logs(b), d = dlm_compare_difference(&la, &lb);
    return (struct dlm_prediction){exp(d.value), exp(d.lo), exp(d.hi)};
}

double dlm_compare_compute(const struct dlm_laws *l, const char *law, const char *y, const char *a, const char *b)
{
    const struct dlm_law_row *pa = dlm_laws_find(l, law, a, "x_max", y, "flops");
    const struct dlm_law_row *pb = dlm_laws_find(l, law, b, "x_max", y, "flops");
    return pa && pb ? fmin(pa->value, pb->value) : NAN;
}

bool dlm_compare_at(const struct dlm_laws *l, const char *law, const char *group, const char *y, double c,
                    struct dlm_prediction *p)
{
    const struct dlm_law_row *row = dlm_laws_find(l, law, group, "x_max", y, "flops");
    *p = (struct dlm_prediction){NAN, NAN, NAN};
    return row && c > 0 && dlm_laws_predict(l, law, group, row->y, "flops", c, p);
}

/* The compute at which a group's law comes down to `loss`, within ten times of its data: where the law does, and where its
 * limits do. False: it does not. */
static bool compute_of(const struct dlm_laws *l, const char *law, const char *group, const char *y, double loss,
                       struct dlm_prediction *c)
{
    enum { STEPS = 400 };
    const bool surface = !strcmp(law, "surface");
    const char *of = surface ? NULL : y, *x_of = surface ? NULL : "flops"; /* a surface is against size and tokens */
    const struct dlm_law_row *from = dlm_laws_find(l, law, group, surface ? "C_min" : "x_min", of, x_of),
                             *to = dlm_laws_find(l, law, group, surface ? "C_max" : "x_max", of, x_of);
    double at[3] = {NAN, NAN, NAN}, last = NAN, before[3] = {NAN, NAN, NAN};
    if (!from || !to)
        return false;
    for (int i = 0; i <= STEPS; i++) {
        struct dlm_prediction p;
        const double x = 0.1 * from->value * pow(100 * to->value / from->value, (double)i / STEPS);
        if (!dlm_laws_predict(l, law, group, y, "flops", x, &p))
            continue;
        const double now[3] = {p.value, p.lo, p.hi};
        for (int k = 0; k < 3; k++) {
            if (isnan(at[k]) && before[k] > loss && now[k] <= loss)
                at[k] = last * pow(x / last, log(before[k] / loss) / log(before[k] / now[k]));
            before[k] = now[k];
        }
        last = x;
    }
    *c = (struct dlm_prediction){at[0], at[1], at[2]};
    return isfinite(at[0]);
}

/* Tokens of the best split at that compute; the errors of the two laws add as
 * if they were independent. */
static bool tokens_of(const struct dlm_laws *l, bool surface, const char *group, const struct dlm_prediction *c,
                      struct dlm_prediction *d)
{
    struct dlm_prediction p;
    double k;
    if (surface) {
        double v[DLM_FIT_TERMS];
        struct dlm_prediction m;
        if (!dlm_predict_surface(l, group, false, v, NULL) ||
            !dlm_laws_predict(l, "surface", group, "flops_tok", "flops", c->value, &m))
            return false;
        p = (struct dlm_prediction){c->value / m.value, c->value / m.hi, c->value / m.lo};
        k = v[2] / (v[2] + v[4]); /* D* = C/M* grows as C^(alpha/(alpha + beta)) */
    } else {
        const struct dlm_law_row *exponent = dlm_laws_find(l, "power", group, "k", "tokens", "flops");
        if (!exponent || !dlm_compare_at(l, "power", group, "tokens", c->value, &p))
            return false;
        k = exponent->value;
    }
    *d = (struct dlm_prediction){p.value, p.value * exp(-hypot(log(p.value / p.lo), k * log(c->value / c->lo))),
                                 p.value * exp(hypot(log(p.hi / p.value), k * log(c->hi / c->value)))};
    return isfinite(p.value);
}

bool dlm_compare_equal_loss(const struct dlm_laws *surfaces, const struct dlm_laws *sizes, const char *a, const char *b,
                            struct dlm_equal_loss *e)
{
    const struct dlm_laws *l = surfaces;
    const char *law = "surface";
    struct dlm_prediction of_a, of_b;
    const struct dlm_law_row *end_a = dlm_laws_find(l, law, a, "C_max", NULL, NULL);
    const struct dlm_law_row *end_b = dlm_laws_find(l, law, b, "C_max", NULL, NULL);
    double c = end_a && end_b ? fmin(end_a->value, end_b->value) : NAN;
    bool known = c > 0 && dlm_laws_predict(l, law, a, "loss", "flops", c, &of_a) &&
                 dlm_laws_predict(l, law, b, "loss", "flops", c, &of_b);
    if (!known) {
        l = sizes;
        law = "power";
        c = dlm_compare_compute(l, law, "loss", a, b);
        known = dlm_compare_at(l, law, a, "loss", c, &of_a) && dlm_compare_at(l, law, b, "loss", c, &of_b);
    }
    *e = (struct dlm_equal_loss){.loss = known ? fmax(of_a.value, of_b.value) : NAN, .on_surfaces = l == surfaces};
    if (!known || !compute_of(l, law, a, "loss", e->loss, &e->compute[0]) ||
        !compute_of(l, law, b, "loss", e->loss, &e->compute[1]))
        return false;
    e->has_tokens = tokens_of(l, e->on_surfaces, a, &e->compute[0], &e->tokens[0]) &&
                    tokens_of(l, e->on_surfaces, b, &e->compute[1], &e->tokens[1]);
    return true;
}
