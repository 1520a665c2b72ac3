/* Figures of a study; see view.h. */
#include "law/view.h"

#include "law/lawfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 120 };

/* One law of a group, to be drawn. */
struct drawn {
    const struct dlm_laws *laws;
    const char *law, *group, *y, *x;
    double low, high; /* its data; NAN: unknown */
};

static bool find_drawn(struct drawn *d)
{
    const struct dlm_law_row *any = NULL;
    for (size_t i = 0; i < d->laws->n && !any; i++) {
        const struct dlm_law_row *r = &d->laws->at[i];
        if (!strcmp(r->group, d->group) && !strcmp(r->x, d->x) && (!d->y || !strcmp(r->y, d->y)) &&
            !strncmp(r->law, d->law, strlen(d->law)))
            any = r;
    }
    if (!any)
        return false;
    d->y = any->y;
    const struct dlm_law_row *a = dlm_laws_find(d->laws, d->law, d->group, "x_min", d->y, d->x),
                             *b = dlm_laws_find(d->laws, d->law, d->group, "x_max", d->y, d->x);
    d->low = a ? a->value : NAN;
    d->high = b ? b->value : NAN;
    return true;
}

static bool law_at(const struct drawn *d, double x, struct dlm_prediction *p)
{
    return dlm_laws_predict(d->laws, d->law, d->group, d->y, d->x, x, p) && isfinite(p->value) && p->value > 0;
}

/* Band, line within the data, dashed beyond. */
static int put_law(struct dlm_figure *f, const struct drawn *d, double x0, double x1, unsigned colour, const char *label,
                   struct dlm_error *err)
{
    static const enum dlm_series_form forms[] = {DLM_SERIES_BAND, DLM_SERIES_DASHED, DLM_SERIES_DASHED, DLM_SERIES_LINE};
    const double low = isnan(d->low) ? x0 : d->low, high = isnan(d->high) ? x1 : d->high;
    const double from[] = {x0, x0, high, low}, to[] = {x1, low, x1, high};
    int rc = 0;
    for (int k = 0; k < 4 && !rc; k++) {
        if (!(to[k] > from[k]))
            continue;
        rc = dlm_figure_series(f, forms[k], colour, err, k == 3 ? "%s" : NULL, label);
        for (int i = 0; i <= STEPS && !rc; i++) {
            struct dlm_prediction p;
            double x = from[k] * pow(to[k] / from[k], (double)i / STEPS);
            if (law_at(d, x, &p) && (k || isfinite(p.lo)))
                rc = dlm_figure_point(f, x, p.value, p.lo, p.hi, err);
        }
    }
    return rc;
}

static int put_runs(struct dlm_figure *f, const struct dlm_group *g, unsigned colour, const char *label, struct dlm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < g->n && !rc; i++) {
        rc = dlm_figure_series(f, g->runs[i].n > 1 ? DLM_SERIES_RUN : DLM_SERIES_POINTS, colour, err, label && !i ? "%s" : NULL,
                               label);
        for (size_t k = 0; k < g->runs[i].n && !rc; k++)
            rc = dlm_figure_point(f, g->runs[i].points[k].x, g->runs[i].points[k].y, NAN, NAN, err);
    }
    return rc;
}

static void name_loss_axes(struct dlm_figure *f, const char *fitted, const char *x)
{
    f->x_label = strcmp(x, "tokens") ? "C, training FLOPs" : "D, training tokens";
    f->y_label = strstr(fitted, "elbo") ? "ELBO, nats per token" : "loss, nats per token";
}

static void interval_text(char *to, size_t size, const struct dlm_law_row *r)
{
    *to = 0;
    if (r && isfinite(r->lo))
        snprintf(to, size, " [%.3g, %.3g]", r->lo, r->hi);
}

static void caption_loss(const struct drawn *d, char *to, size_t size)
{
    const struct dlm_law_row *a = dlm_laws_find(d->laws, "loss", d->group, "A", d->y, d->x),
                             *beta = dlm_laws_find(d->laws, "loss", d->group, "beta", d->y, d->x),
                             *b = dlm_laws_find(d->laws, "loss", d->group, "B", d->y, d->x);
    char in[64], level[32] = "";
    interval_text(in, sizeof in, beta);
    if (b && b->value > 0)
        snprintf(level, sizeof level, "%.3g + ", b->value);
    if (a && beta && b)
        snprintf(to, size, "%s: L = %s%.3g %s^-%.3g%s%s", d->group, level, a->value, strcmp(d->x, "tokens") ? "C" : "D", beta->value,
                 *in ? ", beta" : "", in);
    else
        snprintf(to, size, "%s", d->group);
}

static void caption_power(const struct drawn *d, const char *y, const char *x, char *to, size_t size)
{
    const struct dlm_law_row *k = dlm_laws_find(d->laws, "power", d->group, "k", d->y, d->x);
    char in[64];
    interval_text(in, sizeof in, k);
    if (k)
        snprintf(to, size, "%s: %s ~ %s^%.3g%s", d->group, y, x, k->value, in);
    else
        snprintf(to, size, "%s", d->group);
}

/* The window follows the laws: from a little before the range they were fitted on to ten times beyond it, and as high as the
 * curves there need; the beginning of training, far above, would leave no room for what matters. */
int dlm_view_loss(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_laws *l, const char *x, struct dlm_error *err)
{
    struct dlm_prediction p;
    bool any = false;
    *f = (struct dlm_figure){.x0 = INFINITY, .y0 = INFINITY};
    for (size_t g = 0; g < s->n; g++) {
        struct drawn d = {.laws = l, .law = "loss", .group = s->groups[g].name, .x = x};
        if (!find_drawn(&d) || !(d.low > 0) || !(d.high >= d.low) || !law_at(&d, d.low, &p))
            continue;
        any = true;
        f->x0 = fmin(f->x0, d.low / 3);
        f->x1 = fmax(f->x1, d.high * 10);
        f->y1 = fmax(f->y1, p.value * 1.2);
        if (law_at(&d, d.high * 10, &p))
            f->y0 = fmin(f->y0, (p.lo > 0.8 * p.value ? p.lo : p.value) * 0.98);
    }
    if (!any)
        return dlm_fail(err, DLM_EDATA, "no loss law against %s for any of these groups", x);
    for (size_t i = 0; i < s->n; i++)
        for (size_t r = 0; r < s->groups[i].n; r++)
            for (size_t k = 0; k < s->groups[i].runs[r].n; k++)
                if (s->groups[i].runs[r].points[k].x >= f->x0)
                    f->y0 = fmin(f->y0, s->groups[i].runs[r].points[k].y * 0.98);
    if (!(f->y1 > f->y0 * 1.01))
        f->y1 = f->y0 * 1.01;
    name_loss_axes(f, s->fitted, x);
    int rc = 0;
    for (size_t g = 0; g < s->n && !rc; g++)
        rc = put_runs(f, &s->groups[g], (unsigned)g, NULL, err);
    for (size_t g = 0; g < s->n && !rc; g++) {
        struct drawn d = {.laws = l, .law = "loss", .group = s->groups[g].name, .x = x};
        char text[512];
        if (!find_drawn(&d))
            continue;
        caption_loss(&d, text, sizeof text);
        rc = put_law(f, &d, f->x0, f->x1, (unsigned)g, text, err);
    }
    return rc;
}

int dlm_view_curves(struct dlm_figure *f, const struct dlm_study *s, const char *x, struct dlm_error *err)
{
    *f = (struct dlm_figure){0};
    name_loss_axes(f, s->fitted, x);
    int rc = 0;
    for (size_t g = 0; g < s->n && !rc; g++)
        rc = put_runs(f, &s->groups[g], (unsigned)g, s->groups[g].name, err);
    return rc ? rc : dlm_figure_window(f, err);
}

/* One budget: the sizes' best losses. */
static int put_profile(struct dlm_figure *f, const struct dlm_frontier *fr, size_t j, struct dlm_profile_size *s, double *x,
                       double *y, unsigned colour, struct dlm_error *err)
{
    const size_t n = dlm_profile_sizes(fr, NULL, fr->value, j, s);
    struct dlm_parabola p;
    bool inside;
    if (n < 3)
        return 0;
    int rc = dlm_figure_series(f, DLM_SERIES_POINTS, colour, err, "%.1e FLOPs", fr->budget[j]);
    for (size_t i = 0; i < n && !rc; i++)
        rc = dlm_figure_point(f, exp(s[i].m), exp(s[i].ly), NAN, NAN, err);
    if (rc || !dlm_profile_parabola(s, n, x, y, &p, &inside))
        return rc;
    double from = fmin(x[0], fmax(p.x, x[0] - 1)), to = fmax(x[n - 1], fmin(p.x, x[n - 1] + 1));
    rc = dlm_figure_series(f, DLM_SERIES_LINE, colour, err, NULL);
    for (int i = 0; i <= STEPS / 3 && !rc; i++) {
        double at = from + (to - from) * i / (STEPS / 3);
        rc = dlm_figure_point(f, exp(at), exp(dlm_parabola_at(&p, at)), NAN, NAN, err);
    }
    if (!rc && p.x >= from && p.x <= to)
        rc = dlm_figure_series(f, DLM_SERIES_BEST, colour, err, NULL);
    return rc || p.x < from || p.x > to ? rc : dlm_figure_point(f, exp(p.x), exp(p.y), NAN, NAN, err);
}

int dlm_view_isoflop(struct dlm_figure *f, const struct dlm_group *g, const struct dlm_estimate *how, struct dlm_error *err)
{
    struct dlm_frontier fr;
    *f = (struct dlm_figure){.x_label = "M, FLOPs per token", .y_label = "loss, nats per token"};
    snprintf(f->title, sizeof f->title, "%s", g->name);
    int rc = dlm_frontier_fill(&fr, g, &how->budgets, 3, err);
    if (rc == DLM_EDATA)
        rc = dlm_fail_in(err, rc, "group '%s'", g->name);
    struct dlm_profile_size *s = malloc((g->n + 1) * sizeof *s);
    double *x = malloc(2 * (g->n + 1) * sizeof *x);
    if (!rc && (!s || !x))
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t j = 0; j < fr.n && !rc; j++)
        rc = put_profile(f, &fr, j, s, x, x + g->n, (unsigned)j, err);
    free(s);
    free(x);
    dlm_frontier_release(&fr);
    return rc ? rc : dlm_figure_window(f, err);
}

/* Laws over the window that the points need, and three times beyond. */
static int put_power_laws(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_laws *l, const char *y, const char *x,
                          const char *sign_y, const char *sign_x, struct dlm_error *err)
{
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; k < f->series[i].n; k++) {
            low = fmin(low, f->series[i].at[k][0]);
            high = fmax(high, f->series[i].at[k][0]);
        }
    int rc = 0;
    for (size_t g = 0; g < s->n && !rc; g++) {
        struct drawn d = {.laws = l, .law = "power", .group = s->groups[g].name, .y = y, .x = x};
        char text[512];
        if (!find_drawn(&d) || !(high > 0))
            continue;
        caption_power(&d, sign_y, sign_x, text, sizeof text);
        rc = put_law(f, &d, low / 1.5, high * 3, (unsigned)g, text, err);
    }
    return rc ? rc : dlm_figure_window(f, err);
}

static unsigned place_of(const struct dlm_study *s, const char *group)
{
    unsigned g = 0;
    while (g < s->n && strcmp(s->groups[g].name, group))
        g++;
    return g;
}

/* Intervals of several groups at one budget would hide each other: they are drawn beside it. */
static double apart(const struct dlm_study *s, unsigned place) { return pow(1.05, place - 0.5 * (double)(s->n - 1)); }

int dlm_view_sizes(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_isoflop *o, int what,
                   const struct dlm_laws *l, struct dlm_error *err)
{
    static const char *const signs[] = {"P*", "D*", "M*", "L*"};
    static const char *const names[] = {"P*, non-embedding parameters", "D*, training tokens", "M*, FLOPs per token",
                                        "L*, nats per token"};
    int rc = 0;
    *f = (struct dlm_figure){.x_label = "C, training FLOPs", .y_label = names[what]};
    for (size_t i = 0; i < o->n && !rc; i++) {
        const struct dlm_isoflop_row *r = &o->rows[i];
        if (!r->inside)
            continue;
        rc = dlm_figure_series(f, DLM_SERIES_POINTS, place_of(s, r->group->name), err, NULL);
        if (!rc)
            rc = dlm_figure_point(f, r->flops * apart(s, place_of(s, r->group->name)), r->value[what], r->interval[what].lo,
                                  r->interval[what].hi, err);
    }
    if (!rc && !f->n)
        rc = dlm_fail(err, DLM_EDATA, "no budget has an optimum within the sampled sizes: nothing to draw");
    return rc ? rc : put_power_laws(f, s, l, dlm_profile_names[what], "flops", signs[what], "C", err);
}

int dlm_view_optima(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_optima *o, const struct dlm_laws *l,
                    struct dlm_error *err)
{
    const bool batch = o->of == DLM_OPTIMUM_BATCH;
    int rc = 0;
    *f = (struct dlm_figure){.x_label = batch ? "D*, training tokens" : "B, tokens per step",
                             .y_label = batch ? "B*, tokens per step" : "best learning rate"};
    for (size_t i = 0; i < o->n && !rc; i++) {
        const struct dlm_optimum_row *r = &o->rows[i];
        if (!r->inside)
            continue;
        rc = dlm_figure_series(f, DLM_SERIES_POINTS, place_of(s, r->group->name), err, NULL);
        if (!rc)
            rc = batch ? dlm_figure_point(f, r->tokens, r->batch_tok, r->best.lo, r->best.hi, err)
                       : dlm_figure_point(f, r->batch_tok, r->lr, r->best.lo, r->best.hi, err);
    }
    if (!rc && !f->n)
        rc = dlm_fail(err, DLM_EDATA, "no optimum lies within the sampled values: nothing to draw");
    return rc ? rc
              : put_power_laws(f, s, l, batch ? "batch_tok" : "lr", batch ? "tokens" : "batch_tok", batch ? "B*" : "lr*",
                               batch ? "D" : "B", err);
}

/* One parabola, over its values and a little beyond, with its points; y over `unit`. */
static int put_parabola(struct dlm_figure *f, const struct dlm_optima *o, const struct dlm_optimum_row *r, double unit,
                        unsigned colour, const char *label, struct dlm_error *err)
{
    const double beyond = pow(r->high / r->low, 0.08);
    int rc = dlm_figure_series(f, DLM_SERIES_POINTS, colour, err, label ? "%s" : NULL, label);
    for (size_t k = r->first; k < r->first + r->values && !rc; k++)
        rc = dlm_figure_point(f, o->points[k].x, o->points[k].y / unit, NAN, NAN, err);
    if (!rc)
        rc = dlm_figure_series(f, DLM_SERIES_LINE, colour, err, NULL);
    for (int k = 0; k <= STEPS / 3 && !rc; k++) {
        const double x = r->low / beyond * pow(r->high / r->low * beyond * beyond, (double)k / (STEPS / 3));
        rc = dlm_figure_point(f, x, exp(dlm_parabola_at(&r->curve, log(x))) / unit, NAN, NAN, err);
    }
    if (rc || !r->inside)
        return rc;
    rc = dlm_figure_series(f, DLM_SERIES_BEST, colour, err, NULL);
    return rc ? rc : dlm_figure_point(f, exp(r->curve.x), exp(r->curve.y) / unit, NAN, NAN, err);
}

int dlm_view_parabolas(struct dlm_figure *f, const struct dlm_optima *o, const char *group, struct dlm_error *err)
{
    const bool batch = o->of == DLM_OPTIMUM_BATCH;
    double *seen = malloc((o->n + 1) * sizeof *seen); /* sizes, or batches: their places are colours */
    size_t n = 0;
    int rc = seen ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    *f = (struct dlm_figure){.x_label = batch ? "B, tokens per step" : "learning rate",
                             .y_label = batch ? "tokens to reach a loss" : "loss over its lowest"};
    snprintf(f->title, sizeof f->title, "%s", group);
    for (size_t i = 0; i < o->n && !rc; i++) {
        const struct dlm_optimum_row *r = &o->rows[i], *next = i + 1 < o->n ? r + 1 : NULL;
        const double key = batch ? r->flops_tok : r->batch_tok;
        char label[64];
        size_t colour = 0;
        if (strcmp(r->group->name, group) || (!batch && next && next->group == r->group && next->flops_tok == r->flops_tok &&
                                              next->batch_tok == r->batch_tok))
            continue;
        while (colour < n && fabs(log(seen[colour] / key)) > 1e-6)
            colour++;
        const bool first = colour == n;
        if (first)
            seen[n++] = key;
        snprintf(label, sizeof label, "%.3g %s", batch && r->params > 0 ? r->params : key,
                 !batch          ? "tokens per step"
                 : r->params > 0 ? "params"
                                 : "FLOPs per token");
        rc = put_parabola(f, o, r, batch ? 1 : exp(r->curve.y), (unsigned)colour, first ? label : NULL, err);
    }
    free(seen);
    return rc ? rc : dlm_figure_window(f, err);
}

int dlm_view_isoloss(struct dlm_figure *f, const struct dlm_isoloss *o, const char *group, struct dlm_error *err)
{
    unsigned colour = 0;
    int rc = 0;
    *f = (struct dlm_figure){.x_label = "B, tokens per step", .y_label = "S, steps"};
    snprintf(f->title, sizeof f->title, "%s", group);
    for (size_t i = 0; i < o->n && !rc; i++) {
        const struct dlm_isoloss_row *r = &o->rows[i];
        double low = INFINITY, high = 0;
        if (strcmp(r->group->name, group))
            continue;
        rc = dlm_figure_series(f, DLM_SERIES_POINTS, colour, err, "%.3g params, loss %.3f", r->params, r->loss);
        for (size_t k = r->first; k < r->first + r->n && !rc; k++) {
            rc = dlm_figure_point(f, o->points[k].batch_tok, o->points[k].steps, NAN, NAN, err);
            low = fmin(low, o->points[k].batch_tok);
            high = fmax(high, o->points[k].batch_tok);
        }
        if (!rc)
            rc = dlm_figure_series(f, DLM_SERIES_LINE, colour, err, NULL);
        for (int k = 0; k <= STEPS / 2 && !rc && high > 0; k++) {
            double b = low * pow(high / low, (double)k / (STEPS / 2));
            rc = b > r->value[DLM_ISOLOSS_BMIN] ? dlm_figure_point(f, b, dlm_isoloss_steps(r->value, b), NAN, NAN, err) : 0;
        }
        colour++;
    }
    return rc ? rc : dlm_figure_window(f, err);
}

int dlm_view_bound(struct dlm_figure *f, const struct dlm_study *s, const struct dlm_laws *l, struct dlm_error *err)
{
    *f = (struct dlm_figure){.x_label = "U, unique tokens", .y_label = "least loss, nats per token"};
    int rc = 0;
    for (size_t g = 0; g < s->n && !rc; g++) {
        struct drawn d = {.laws = l, .law = "loss", .group = s->groups[g].name, .x = "unique_tokens"};
        if (find_drawn(&d) && d.low > 0 && d.high > d.low)
            rc = put_law(f, &d, d.low / 3, d.high * 10, (unsigned)g, s->groups[g].name, err);
    }
    return rc ? rc : dlm_figure_window(f, err);
}
