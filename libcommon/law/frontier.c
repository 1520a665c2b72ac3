/* The compute frontier of a group; see frontier.h. */
#include "law/frontier.h"

#include "base/number.h"
#include "law/smooth.h"
#include "law/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int dlm_budgets_parse(const char *text, struct dlm_budgets *b, struct dlm_error *err)
{
    char part[3][64];
    uint64_t n;
    *b = (struct dlm_budgets){0};
    int parts = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ":");
        if (parts == 3 || len >= sizeof part[0])
            goto bad;
        memcpy(part[parts], p, len);
        part[parts++][len] = 0;
        p += len;
        if (!*p)
            break;
    }
    if (parts == 2 || !dlm_number_count(part[parts - 1], &n) || n < 2 || n > 1000)
        goto bad;
    b->n = (size_t)n;
    if (parts == 3 &&
        (!dlm_number_real(part[0], &b->low) || !dlm_number_real(part[1], &b->high) || !(b->low > 0) || !(b->high > b->low)))
        goto bad;
    return 0;
bad:
    return dlm_fail(err, DLM_EUSAGE, "--budgets takes a number from 2 to 1000, or LOW:HIGH:NUMBER, not '%s'", text);
}

double dlm_curve_at(const double *lx, const double *ly, size_t n, double at)
{
    return dlm_smooth_at(lx, ly, n, at, NULL, NULL);
}

static bool same_size(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fabs(a);
}

struct size {
    double at, first, last;
};

static int order_size(const void *a, const void *b)
{
    const struct size *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* How many of n stretches [first, last], each array sorted, hold x. */
static size_t covered(const double *first, const double *last, size_t n, double x)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += (first[i] <= x * (1 + 1e-12)) - (last[i] < x * (1 - 1e-12));
    return k;
}

/* Spread budgets evenly in log x over the stretches that at least `cover` sizes reach. */
static bool spread(const double *first, const double *last, size_t n, size_t cover, double *budget, size_t n_budgets)
{
    double *at = malloc(2 * n * sizeof *at), total = 0;
    if (!at)
        return false;
    memcpy(at, first, n * sizeof *at);
    memcpy(at + n, last, n * sizeof *at);
    qsort(at, 2 * n, sizeof *at, dlm_order_rising);
    for (size_t i = 0; i + 1 < 2 * n; i++)
        if (covered(first, last, n, sqrt(at[i] * at[i + 1])) >= cover)
            total += log(at[i + 1] / at[i]);
    for (size_t j = 0; j < n_budgets; j++) {
        double want = total * (double)j / (double)(n_budgets - 1), done = 0;
        budget[j] = 0;
        for (size_t i = 0; i + 1 < 2 * n; i++) {
            double length = log(at[i + 1] / at[i]);
            if (covered(first, last, n, sqrt(at[i] * at[i + 1])) < cover)
                continue;
            budget[j] = at[i] * exp(fmin(fmax(want - done, 0), length));
            done += length;
            if (done >= want * (1 - 1e-12))
                break;
        }
    }
    free(at);
    return true;
}

/* The budgets that the data offer. For a frontier (cover ≤ 2): from where two sizes have begun and the first of them has ended
 * (below that, the frontier would be a smaller size's) to the last point of all. For parabolas: wherever `cover` sizes are under
 * way. */
static int choose_budgets(const struct dlm_group *g, size_t cover, double *budget, size_t n_budgets, size_t *sizes,
                          struct dlm_error *err)
{
    struct size *s = malloc(g->n * sizeof *s);
    double *first = malloc(g->n * sizeof *first), *last = malloc(g->n * sizeof *last);
    int rc = s && first && last ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    size_t n = 0;
    for (size_t i = 0; i < g->n && !rc; i++)
        s[i] = (struct size){isnan(g->runs[i].flops_tok) ? 0 : g->runs[i].flops_tok, g->runs[i].points[0].x,
                             g->runs[i].points[g->runs[i].n - 1].x};
    if (!rc)
        qsort(s, g->n, sizeof *s, order_size);
    for (size_t i = 0; i < g->n && !rc; i++)
        if (n && same_size(s[i].at, s[n - 1].at)) {
            s[n - 1].first = fmin(s[n - 1].first, s[i].first);
            s[n - 1].last = fmax(s[n - 1].last, s[i].last);
        } else {
            s[n++] = s[i];
        }
    *sizes = n;
    for (size_t i = 0; i < n; i++) {
        first[i] = s[i].first;
        last[i] = s[i].last;
    }
    if (!rc && n < cover && cover > 2)
        rc = dlm_fail(err, DLM_EDATA, "%zu size%s: a parabola needs at least %zu at each budget", n, n == 1 ? "" : "s", cover);
    if (!rc) {
        qsort(first, n, sizeof *first, dlm_order_rising);
        qsort(last, n, sizeof *last, dlm_order_rising);
        double high = last[n - 1], low = fmax(first[n < 2 ? 0 : 1], fmin(last[0], high / 10));
        for (size_t j = 0; j < n_budgets; j++)
            budget[j] = low * pow(high / low, (double)j / (double)(n_budgets - 1));
        if (cover > 2 && !spread(first, last, n, cover, budget, n_budgets))
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
        if (!rc && !(budget[0] > 0))
            rc = dlm_fail(err, DLM_EDATA, "no budget is reached by %zu sizes: their curves do not overlap", cover);
    }
    free(s);
    free(first);
    free(last);
    return rc;
}

static int allocate(struct dlm_frontier *f, size_t budgets, size_t entries, struct dlm_error *err)
{
    f->budget = malloc((budgets + 1) * sizeof *f->budget);
    f->counted = calloc(budgets + 1, sizeof *f->counted);
    f->start = calloc(budgets + 1, sizeof *f->start);
    f->run = malloc((entries + 1) * sizeof *f->run);
    f->value = malloc((entries + 1) * sizeof *f->value);
    return f->budget && f->counted && f->start && f->run && f->value ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
}

struct by_x {
    double x;
    size_t run;
};

static int order_by_x(const void *pa, const void *pb)
{
    const struct by_x *a = pa, *b = pb;
    return a->x != b->x ? (a->x < b->x ? -1 : 1) : a->run < b->run ? -1 : a->run > b->run;
}

/* Every run has one point. Nearly equal x with clearly different sizes make one budget, as an iso-FLOP design has them; others
 * stay apart. */
static int fill_direct(struct dlm_frontier *f, struct dlm_error *err)
{
    const struct dlm_group *g = f->group;
    struct by_x *p = malloc(g->n * sizeof *p);
    if (!p)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n; i++)
        p[i] = (struct by_x){g->runs[i].points[0].x, i};
    qsort(p, g->n, sizeof *p, order_by_x);
    int rc = allocate(f, g->n, g->n, err);
    for (size_t i = 0, e = 0; !rc && i < g->n;) {
        size_t end = i + 1;
        double sum = log(p[i].x);
        while (end < g->n && p[end].x <= 1.02 * p[i].x) {
            double m = g->runs[p[end].run].flops_tok;
            bool apart = true;
            for (size_t k = i; k < end && apart; k++)
                apart = fabs(log(m / g->runs[p[k].run].flops_tok)) > log(1.1);
            if (!apart)
                break;
            sum += log(p[end++].x);
        }
        for (size_t k = i; k < end; k++) {
            f->run[e] = p[k].run;
            f->value[e++] = f->ly[g->runs[p[k].run].points - g->runs[0].points];
        }
        f->budget[f->n] = end - i == 1 ? p[i].x : exp(sum / (double)(end - i));
        f->counted[f->n] = end - i == 1;
        f->start[++f->n] = e;
        i = end;
    }
    free(p);
    return rc;
}

int dlm_frontier_fill(struct dlm_frontier *f, const struct dlm_group *g, const struct dlm_budgets *asked, size_t cover,
                      struct dlm_error *err)
{
    *f = (struct dlm_frontier){.group = g, .direct = true, .has_se = true};
    struct dlm_budgets b = *asked;
    f->lx = malloc(g->n_points * sizeof *f->lx);
    f->ly = malloc(g->n_points * sizeof *f->ly);
    if (!f->lx || !f->ly)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < g->n_points; i++) {
        const struct dlm_point *p = &g->runs[0].points[i];
        f->lx[i] = log(p->x);
        f->ly[i] = log(p->y);
        f->has_se &= p->se > 0;
    }
    for (size_t i = 0; i < g->n; i++)
        f->direct &= g->runs[i].n == 1;
    if (f->direct) { /* budgets are where the points are */
        double unused[2];
        int rc = choose_budgets(g, 1, unused, 2, &f->sizes, err);
        return rc ? rc : fill_direct(f, err);
    }
    int rc = b.n > (size_t)-1 / sizeof(double) / (g->n + 1) ? dlm_fail(err, DLM_ENOMEM, "out of memory")
                                                            : allocate(f, b.n, b.n * g->n, err);
    if (!rc)
        rc = choose_budgets(g, b.low > 0 ? 1 : cover, f->budget, b.n, &f->sizes, err);
    if (rc)
        return rc;
    size_t e = 0;
    double last = 0;
    for (size_t j = 0; j < b.n; j++) {
        double c = b.low > 0 ? b.low * pow(b.high / b.low, (double)j / (double)(b.n - 1)) : f->budget[j], lx = log(c);
        if (c <= last * (1 + 1e-9)) /* a run of one point has one budget */
            continue;
        last = c;
        size_t before = e;
        for (size_t i = 0; i < g->n; i++) {
            const struct dlm_run *r = &g->runs[i];
            size_t at = (size_t)(r->points - g->runs[0].points);
            double v = dlm_curve_at(f->lx + at, f->ly + at, r->n, lx);
            if (isnan(v))
                continue;
            f->run[e] = i;
            f->value[e++] = v;
        }
        if (e == before) /* no run reaches it */
            continue;
        f->budget[f->n] = c;
        f->start[++f->n] = e;
    }
    return f->n ? 0 : dlm_fail(err, DLM_EDATA, "no run reaches any of the budgets");
}

void dlm_frontier_release(struct dlm_frontier *f)
{
    free(f->budget);
    free(f->counted);
    free(f->start);
    free(f->run);
    free(f->value);
    free(f->lx);
    free(f->ly);
    *f = (struct dlm_frontier){0};
}

void dlm_frontier_perturb(const struct dlm_frontier *f, struct dlm_rng *rng, double *ly, double *value)
{
    const struct dlm_group *g = f->group;
    const struct dlm_point *p = g->runs[0].points;
    for (size_t i = 0; i < g->n_points; i++) {
        double y = p[i].y + p[i].se * dlm_rng_normal(rng);
        ly[i] = log(fmax(y, 1e-3 * p[i].y));
    }
    for (size_t j = 0; j < f->n; j++)
        for (size_t e = f->start[j]; e < f->start[j + 1]; e++) {
            const struct dlm_run *r = &g->runs[f->run[e]];
            size_t at = (size_t)(r->points - p);
            value[e] = f->direct ? ly[at] : dlm_curve_at(f->lx + at, ly + at, r->n, log(f->budget[j]));
        }
}
