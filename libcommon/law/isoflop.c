/* Iso-FLOP profiles; see isoflop.h. */
#include "law/isoflop.h"

#include "law/columns.h"
#include "law/gridbias.h"
#include "law/parabola.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARABOLA = 3 }; /* parameters, and sizes needed */

struct profile {
    const struct dlm_frontier *f;
    bool raw, by_run;
};

/* The optimum at one budget. False: there is none (too few sizes, no lowest point). x and y (n) are scratch. */
static bool optimum(const struct profile *p, const struct dlm_profile_size *s, size_t n, double c, double *x, double *y,
                    double *value, bool *inside)
{
    struct dlm_parabola best;
    for (int i = 0; i < DLM_ISOFLOP_VALUES; i++)
        value[i] = NAN;
    if (p->raw) {
        size_t lowest = 0;
        for (size_t i = 1; i < n; i++)
            if (s[i].ly < s[lowest].ly)
                lowest = i;
        *inside = lowest > 0 && lowest + 1 < n;
        if (n)
            best = (struct dlm_parabola){.x = s[lowest].m, .y = s[lowest].ly};
    }
    if (p->raw ? !n : !dlm_profile_parabola(s, n, x, y, &best, inside))
        return false;
    dlm_profile_values(s, n, log(c), best.x, best.y, value);
    for (int i = 0; i < DLM_ISOFLOP_VALUES; i++)
        value[i] = exp(value[i]);
    return isfinite(value[DLM_ISOFLOP_SIZE]);
}

struct arrays {
    struct dlm_profile_size *s;
    double *value, *ly, *x, *y;
    uint32_t *counts;
};

static struct arrays lay_out(const struct dlm_frontier *f, void *scratch)
{
    struct arrays a = {.s = scratch};
    a.value = (double *)(a.s + f->group->n);
    a.ly = a.value + f->start[f->n];
    a.x = a.ly + f->group->n_points;
    a.y = a.x + f->group->n;
    a.counts = (uint32_t *)(a.y + f->group->n);
    return a;
}

/* The optima of all budgets: 0 where there is any, then the values of each. */
static bool optima(const struct profile *p, const uint32_t *counts, const double *value, const struct arrays *a, double *out)
{
    const struct dlm_frontier *f = p->f;
    bool any = false, inside;
    out[0] = 0;
    for (size_t j = 0; j < f->n; j++) {
        size_t n = dlm_profile_sizes(f, counts, value, j, a->s);
        if (counts && f->start[j + 1] - f->start[j] <= PARABOLA) /* they can only be drawn as they are: no interval */
            n = 0;
        any |= optimum(p, a->s, n, f->budget[j], a->x, a->y, out + 1 + j * DLM_ISOFLOP_VALUES, &inside);
    }
    return any;
}

static bool draw(void *ctx, struct dlm_rng *rng, void *scratch, double *out)
{
    const struct profile *p = ctx;
    const struct arrays a = lay_out(p->f, scratch);
    if (p->by_run) {
        if (dlm_bootstrap_pick(rng, p->f->group->n, a.counts) < PARABOLA)
            return false;
    } else {
        dlm_frontier_perturb(p->f, rng, a.ly, a.value);
    }
    return optima(p, p->by_run ? a.counts : NULL, p->by_run ? p->f->value : a.value, &a, out);
}

static bool leave_out(void *ctx, size_t first, size_t last, void *scratch, double *out)
{
    const struct profile *p = ctx;
    const struct arrays a = lay_out(p->f, scratch);
    for (size_t i = 0; i < p->f->group->n; i++)
        a.counts[i] = i < first || i >= last;
    return optima(p, a.counts, p->f->value, &a, out);
}

/* How far the parabolas of these rows are off, in words: at each end, and what that does to the exponent. Optima outside of the
 * sizes are said to be, and no law takes them. */
static int note_bias(const struct dlm_group *g, const struct dlm_isoflop_row *row, size_t n, struct dlm_notes *notes,
                     struct dlm_error *err)
{
    double lx = 0, ly = 0, xx = 0, xy = 0, low = INFINITY, high = -INFINITY;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (row[i].inside && row[i].bias > 0) {
            low = fmin(low, row[i].bias);
            high = fmax(high, row[i].bias);
            lx += log(row[i].flops);
            ly += log(row[i].bias);
            k++;
        }
    if (!k)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (row[i].inside && row[i].bias > 0) {
            double d = log(row[i].flops) - lx / (double)k;
            xx += d * d;
            xy += d * (log(row[i].bias) - ly / (double)k);
        }
    char slope[96] = "";
    if (k > 1 && xx > 0)
        snprintf(slope, sizeof slope, ", and their exponent by %+.3f", fabs(xy / xx) < 5e-4 ? 0 : xy / xx);
    return dlm_notes_add(notes, err,
                         "%s: on the surface that fits these runs, parabolas on this grid miss the best flops_tok by %+.1f%% to "
                         "%+.1f%%%s",
                         g->name, 100 * (low - 1), 100 * (high - 1), slope);
}

struct dlm_bootstrap dlm_isoflop_bootstrap(const struct dlm_bootstrap *b, const struct dlm_group *g, bool raw)
{
    bool several = raw;
    for (size_t i = 0; i < g->n && !several && !b->asked; i++)
        for (size_t k = 0; k < i && !several; k++)
            several = fabs(log(g->runs[i].flops_tok / g->runs[k].flops_tok)) <= 1e-6;
    return several && !b->asked ? dlm_bootstrap_percentiles(b) : *b;
}

/* One group: its budgets are added to the rows. */
static int profile_group(const struct dlm_group *g, const struct dlm_estimate *how, struct profile *p,
                         const struct dlm_frontier *f, struct dlm_isoflop *out, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_bootstrap kind = dlm_isoflop_bootstrap(&how->bootstrap, g, p->raw), *b = &kind;
    const size_t width = 1 + f->n * DLM_ISOFLOP_VALUES,
                 size = g->n * sizeof(struct dlm_profile_size) + (f->start[f->n] + g->n_points + 2 * g->n) * sizeof(double) +
                             g->n * sizeof(uint32_t);
    char outside[2][512] = {"", ""}; /* budgets whose optimum is at or beyond the smallest, the largest size */
    struct dlm_draws draws = {0};
    size_t added = 0, few = 0, flat = 0;
    int rc = 0;
    p->f = f;
    p->by_run = dlm_bootstrap_by_run(g->n, PARABOLA);
    if (b->n && !p->by_run)
        rc = f->has_se
                 ? dlm_notes_add(notes, err, "%s: %zu runs are too few to resample: intervals are of measurement only", g->name,
                                 g->n)
                 : dlm_notes_add(notes, err,
                                 "%s: no intervals: %zu runs are too few to resample, and the points have no standard errors",
                                 g->name, g->n);
    struct dlm_profile_size *s = malloc(size);
    double *estimate = malloc(width * sizeof *estimate);
    if (!s || !estimate) {
        free(s);
        free(estimate);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    if (!rc && b->n && (p->by_run || f->has_se)) {
        const struct arrays a = lay_out(f, s);
        optima(p, NULL, f->value, &a, estimate);
        rc = dlm_draws_fill(&draws, b, &(struct dlm_resampler){draw, p, size, width}, p->by_run ? leave_out : NULL, g->name, g->n,
                            estimate, err);
    }
    double surface[5];
    struct dlm_error why = {{0}};
    const int no_surface = rc || p->raw ? DLM_EDATA : dlm_gridbias_surface(g, how->huber, surface, &why);
    const bool curved = !no_surface;
    if (!rc && no_surface == DLM_ENOMEM)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    else if (!rc && !p->raw && !curved)
        rc = dlm_notes_add(notes, err, "%s: the bias of the parabolas cannot be estimated: %s", g->name, why.msg);
    struct dlm_isoflop_row *more = rc ? NULL : realloc(out->rows, (out->n + f->n) * sizeof *more);
    if (!rc && !more)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc)
        out->rows = more;
    for (size_t j = 0; j < f->n && !rc; j++) {
        struct dlm_isoflop_row *row = &out->rows[out->n];
        *row = (struct dlm_isoflop_row){.group = g, .flops = f->budget[j]};
        row->sizes = dlm_profile_sizes(f, NULL, f->value, j, s);
        double *x = (double *)(s + g->n), *y = x + g->n;
        if (!optimum(p, s, row->sizes, row->flops, x, y, row->value, &row->inside)) {
            few += row->sizes < PARABOLA;
            flat += row->sizes >= PARABOLA;
            continue;
        }
        row->bias = curved ? dlm_gridbias_at(surface, x, y, row->sizes, row->flops) : NAN;
        double m = log(row->value[DLM_ISOFLOP_SIZE]);
        if (!row->inside && row->sizes > 1) {
            const bool large = 2 * m > s[0].m + s[row->sizes - 1].m;
            size_t n = strlen(outside[large]);
            snprintf(outside[large] + n, sizeof outside[large] - n, " %.3g", row->flops);
        }
        for (int i = 0; i < DLM_ISOFLOP_VALUES && !rc; i++) {
            row->interval[i] = (struct dlm_interval){NAN, NAN, NAN};
            if (draws.at)
                rc = dlm_draws_interval(b, &draws, 1 + j * DLM_ISOFLOP_VALUES + (size_t)i, &row->interval[i], err);
        }
        out->n++;
        added++;
    }
    for (int large = 0; large < 2 && !rc; large++)
        if (*outside[large])
            rc = dlm_notes_add(
                notes, err,
                p->raw
                    ? "%s: the best size is the %s that reaches the budget at%s: the optimum may lie outside of the sampled sizes"
                    : "%s: the optimum lies outside of the sampled sizes, beyond the %s that reaches the budget, at%s",
                g->name, large ? "largest" : "smallest", outside[large]);
    if (!rc && few)
        rc = dlm_notes_add(notes, err, "%s: %zu of %zu budgets are left out: fewer than %d sizes reach them", g->name, few, f->n,
                           PARABOLA);
    if (!rc && flat)
        rc = dlm_notes_add(notes, err, "%s: %zu of %zu budgets are left out: the parabola has no lowest point", g->name, flat,
                           f->n);
    if (!rc && curved)
        rc = note_bias(g, &out->rows[out->n - added], added, notes, err);
    if (!rc && !added)
        rc = flat ? dlm_fail(err, DLM_EDATA, "group '%s': no budget has an optimum: the parabola has no lowest point", g->name)
                  : dlm_fail(err, DLM_EDATA,
                             "group '%s': no budget has an optimum: a parabola needs at least %d sizes at one budget", g->name,
                             PARABOLA);
    dlm_draws_release(&draws);
    free(estimate);
    free(s);
    return rc;
}

int dlm_isoflop_find(const struct dlm_study *s, const struct dlm_estimate *how, bool raw, struct dlm_isoflop *out,
                     struct dlm_notes *notes, struct dlm_error *err)
{
    *out = (struct dlm_isoflop){0};
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        const struct dlm_group *g = &s->groups[i];
        struct dlm_frontier f;
        struct profile p = {.raw = raw};
        rc = dlm_frontier_fill(&f, g, &how->budgets, raw ? 2 : PARABOLA, err);
        if (rc == DLM_EDATA)
            rc = dlm_fail_in(err, rc, "group '%s'", g->name);
        if (!rc)
            rc = profile_group(g, how, &p, &f, out, notes, err);
        dlm_frontier_release(&f);
    }
    if (rc)
        dlm_isoflop_release(out);
    return rc;
}

int dlm_isoflop_write(const struct dlm_isoflop *o, const struct dlm_study *s, FILE *f, const char *name, struct dlm_error *err)
{
    const char *const *names = dlm_profile_names;
    errno = 0;
    dlm_columns_names(f, s->by);
    fputs("flops", f);
    for (int i = 0; i < DLM_ISOFLOP_VALUES; i++)
        fprintf(f, "\t%s\t%s_lo\t%s_hi\t%s_se", names[i], names[i], names[i], names[i]);
    fputs("\tsizes\tflops_tok_bias\tinside\n", f);
    for (size_t k = 0; k < o->n; k++) {
        const struct dlm_isoflop_row *r = &o->rows[k];
        dlm_columns_group(f, s->by, r->group->name);
        fprintf(f, "%.9g", r->flops);
        for (int i = 0; i < DLM_ISOFLOP_VALUES; i++) {
            dlm_columns_number(f, r->value[i], 9);
            dlm_columns_number(f, r->interval[i].lo, 6);
            dlm_columns_number(f, r->interval[i].hi, 6);
            dlm_columns_number(f, r->interval[i].se, 6);
        }
        fprintf(f, "\t%zu", r->sizes);
        dlm_columns_number(f, r->bias, 6);
        fprintf(f, "\t%d\n", r->inside);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}

void dlm_isoflop_release(struct dlm_isoflop *i)
{
    free(i->rows);
    *i = (struct dlm_isoflop){0};
}
