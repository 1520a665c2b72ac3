/* Power laws of the iso-FLOP optima; see sizes.h. */
#include "law/sizes.h"

#include "law/fit.h"
#include "law/powerlaw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WHATS = DLM_ISOFLOP_VALUES, WIDTH = 2 * WHATS };

struct source {
    const struct dlm_frontier *f;
    double huber;
    bool by_run;
    struct dlm_minima minima[WHATS];
    const bool *used; /* (budgets) those whose optimum the point estimate has within the sizes */
};

/* The optimum of budget j among the runs drawn. `inside`: between the sizes. */
static bool optimum(const struct source *src, const uint32_t *counts, const double *value, size_t j,
                    struct dlm_profile_size *s, double *x, double *y, double *out, bool *inside)
{
    struct dlm_parabola p;
    const size_t n = dlm_profile_sizes(src->f, counts, value, j, s);
    if (!dlm_profile_parabola(s, n, x, y, &p, inside))
        return false;
    dlm_profile_values(s, n, log(src->f->budget[j]), p.x, p.y, out);
    return isfinite(p.x);
}

struct arrays {
    struct dlm_profile_size *s;
    double *x, *y, *value, *ly, *lx, *w, *at[WHATS];
    uint32_t *counts;
};

static size_t lay_out(const struct dlm_frontier *f, void *scratch, struct arrays *a)
{
    const size_t runs = f->group->n, entries = f->start[f->n];
    struct dlm_profile_size *s = scratch;
    double *p = (double *)(s + runs);
    *a = (struct arrays){.s = s, .x = p, .y = p + runs};
    p += 2 * runs;
    a->value = p;
    a->ly = p += entries;
    a->lx = p += f->group->n_points;
    a->w = p += f->n;
    for (int k = 0; k < WHATS; k++)
        a->at[k] = p += f->n;
    a->counts = (uint32_t *)(p + f->n);
    return runs * (sizeof *s + 2 * sizeof *p + sizeof *a->counts) +
           (entries + f->group->n_points + (WHATS + 2) * f->n) * sizeof *p;
}

/* The optima at the budgets in use; how many. */
static size_t optima(const struct source *src, const uint32_t *counts, const double *value, struct arrays *a)
{
    size_t n = 0;
    for (size_t j = 0; j < src->f->n; j++) {
        double out[WHATS];
        bool inside;
        if ((src->used && !src->used[j]) || !optimum(src, counts, value, j, a->s, a->x, a->y, out, &inside))
            continue;
        a->lx[n] = log(src->f->budget[j]);
        a->w[n] = 1;
        for (int k = 0; k < WHATS; k++)
            a->at[k][n] = out[k];
        n++;
    }
    return n;
}

/* Their laws, from n optima. */
static bool fit_laws(const struct source *src, size_t n, const struct arrays *a, double *out)
{
    if (n < 2)
        return false;
    for (int k = 0; k < WHATS; k++) {
        struct dlm_fit fit;
        struct dlm_sample sample = {.n = n, .lx = {a->lx}, .ly = a->at[k], .w = a->w};
        dlm_fit_again(&dlm_form_power, &sample, src->huber, &src->minima[k], &fit);
        out[2 * k] = fit.value[0];
        out[2 * k + 1] = fit.value[1];
    }
    return isfinite(out[1]);
}

static bool draw(void *ctx, struct dlm_rng *rng, void *scratch, double *out)
{
    const struct source *src = ctx;
    struct arrays a;
    lay_out(src->f, scratch, &a);
    if (src->by_run && dlm_bootstrap_pick(rng, src->f->group->n, a.counts) < 3)
        return false;
    if (!src->by_run)
        dlm_frontier_perturb(src->f, rng, a.ly, a.value);
    return fit_laws(src, optima(src, src->by_run ? a.counts : NULL, src->by_run ? src->f->value : a.value, &a), &a, out);
}

static bool leave_out(void *ctx, size_t first, size_t last, void *scratch, double *out)
{
    const struct source *src = ctx;
    struct arrays a;
    lay_out(src->f, scratch, &a);
    for (size_t i = 0; i < src->f->group->n; i++)
        a.counts[i] = i < first || i >= last;
    return fit_laws(src, optima(src, a.counts, src->f->value, &a), &a, out);
}

static int fit_group(const struct dlm_group *g, const char *by, const struct dlm_estimate *how, struct dlm_laws *laws,
                     struct dlm_laws *bands, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_bootstrap kind = dlm_isoflop_bootstrap(&how->bootstrap, g, false), *b = &kind;
    struct dlm_frontier f;
    struct arrays a = {0};
    size_t n = 0;
    bool *used = NULL;
    struct dlm_draws draws = {0};
    void *scratch = NULL;
    int rc = dlm_frontier_fill(&f, g, &how->budgets, 3, err);
    struct source src = {.f = &f, .huber = how->huber, .by_run = dlm_bootstrap_by_run(g->n, 3)};
    if (!rc) {
        const size_t size = lay_out(&f, (void *)64, &a);
        scratch = malloc(size);
        used = calloc(f.n + 1, sizeof *used);
        rc = scratch && used ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
        if (!rc)
            lay_out(&f, scratch, &a);
        for (size_t j = 0; j < f.n && !rc; j++) {
            double out[WHATS];
            bool inside;
            used[j] = optimum(&src, NULL, f.value, j, a.s, a.x, a.y, out, &inside) && inside;
            n += used[j];
        }
        src.used = used;
        if (!rc && n < 2)
            rc = dlm_notes_add(notes, err,
                               "%s: no power laws of the optima: %zu budget%s an optimum within the sizes, and 2 are needed",
                               g->name, n, n == 1 ? " has" : "s have");
        else if (!rc) {
            struct dlm_fit fit[WHATS];
            struct dlm_sample sample[WHATS];
            double estimate[WIDTH];
            optima(&src, NULL, f.value, &a);
            for (int k = 0; k < WHATS && !rc; k++) {
                sample[k] = (struct dlm_sample){.n = n, .lx = {a.lx}, .ly = a.at[k], .w = a.w};
                rc = dlm_fit_points(&dlm_form_power, &sample[k], how->huber, &src.minima[k], &fit[k], err);
                estimate[2 * k] = fit[k].value[0];
                estimate[2 * k + 1] = fit[k].value[1];
            }
            if (!rc && b->n && (src.by_run || f.has_se)) {
                rc = dlm_draws_fill(&draws, b, &(struct dlm_resampler){draw, &src, size, WIDTH}, src.by_run ? leave_out : NULL,
                                    g->name, g->n, estimate, err);
            }
            if (!rc && draws.at && !src.by_run)
                rc = dlm_notes_add(notes, err,
                                   "%s: laws of the optima: too few runs to resample: intervals are of measurement only",
                                   g->name);
            for (int k = 0; k < WHATS && !rc; k++)
                rc = dlm_powerlaw_rows(&(struct dlm_powerlaw){g->name, dlm_profile_names[k], "flops", by, &sample[k], &fit[k], b,
                                                              draws.at ? &draws : NULL, (size_t)(2 * k)},
                                       laws, bands, notes, err);
        }
    }
    dlm_draws_release(&draws);
    free(scratch);
    free(used);
    dlm_frontier_release(&f);
    return rc;
}

int dlm_sizes_fit(const struct dlm_study *s, const struct dlm_isoflop *o, const struct dlm_estimate *how, struct dlm_laws *laws,
                  struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_laws bands = {0};
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++) {
        bool any = false;
        for (size_t k = 0; k < o->n && !any; k++)
            any = o->rows[k].group == &s->groups[i] || !strcmp(o->rows[k].group->name, s->groups[i].name);
        if (any)
            rc = fit_group(&s->groups[i], s->by, how, laws, &bands, notes, err);
    }
    return dlm_laws_append(laws, &bands, rc, err);
}
