/* Synthetic studies with known laws, for the tests of the analyses: a grid of groups, sizes, batches and learning rates, each
 * run a curve whose loss is
 *
 *   L = (E + a·M^-alpha + b·D*^-beta)·exp(c_lr·(log η - log η*)²)·exp(error of the run)·exp(error of the point),   η* =
 * A_lr·B^k_lr
 *
 * where D* solves log D = log D* + c_batch·(log B - log B*)², B* = A_batch·D*^k_batch: at equal loss, log tokens over log batch
 * is a parabola with its lowest point at B*, D*. With kappa > 0 an iso-loss curve instead: (S/S_min - 1)(B/B_min - 1) = kappa,
 * S = D/B, whose least tokens lie at the same B*, D*. */
#ifndef DLM_TESTS_LAW_SYNTHETIC_H
#define DLM_TESTS_LAW_SYNTHETIC_H

#include "base/rng.h"
#include "law/study.h"

#include <math.h>
#include <stdlib.h>

struct synthetic_grid {
    size_t groups, sizes, batches, rates, points;
    double first_size, size_step, first_batch, batch_step,
        rate_step;                      /* rates about each batch's own best, or shifted by one step */
    double first_tokens, tokens_of_run; /* a run's curve: evenly in log */
    double E, a, alpha, b, beta;
    double c_batch, a_batch, k_batch, c_lr, a_lr, k_lr, kappa;
    double of_run, of_point; /* standard deviations of errors in log loss */
};

/* Sizes from 1.5e8 FLOPs per token, runs from 0.2 to 20 G tokens, and the laws of the paper's figures; no errors. */
__attribute__((unused)) static struct synthetic_grid synthetic_paper(size_t groups, size_t sizes, size_t batches, size_t rates,
                                                                     size_t points, double first_batch)
{
    return (struct synthetic_grid){.groups = groups,
                                   .sizes = sizes,
                                   .batches = batches,
                                   .rates = rates,
                                   .points = points,
                                   .first_size = 1.5e8,
                                   .size_step = 2,
                                   .first_batch = first_batch,
                                   .batch_step = 2,
                                   .rate_step = 2,
                                   .first_tokens = 2e8,
                                   .tokens_of_run = 2e10,
                                   .E = 2.17,
                                   .a = 222,
                                   .alpha = 0.292,
                                   .b = 1920,
                                   .beta = 0.367,
                                   .c_batch = batches > 1 ? 0.05 : 0,
                                   .a_batch = 0.0117,
                                   .k_batch = 0.7759,
                                   .c_lr = rates > 1 ? 0.01 : 0,
                                   .a_lr = 0.0104,
                                   .k_lr = 0.3295};
}

__attribute__((unused)) static double synthetic_tokens(const struct synthetic_grid *g, double tokens, double batch)
{
    double u = log(tokens), want = u;
    if (g->kappa > 0) { /* tokens rise with D*, without bound where B_min comes up to the batch */
        const double root = 1 + sqrt(g->kappa);
        double low = -20, high = log(batch * root / g->a_batch) / g->k_batch;
        for (int i = 0; i < 100; i++) {
            u = 0.5 * (low + high);
            const double over = batch * root / (g->a_batch * exp(g->k_batch * u)) - 1;
            if (u + log((1 + over) * (1 + g->kappa / over) / (root * root)) < want)
                low = u;
            else
                high = u;
        }
        return exp(u);
    }
    for (int i = 0; i < 60; i++) {
        const double d = log(batch) - log(g->a_batch) - g->k_batch * u;
        u -= (u + g->c_batch * d * d - want) / (1 - 2 * g->c_batch * g->k_batch * d);
    }
    return exp(u);
}

/* For the groups, runs and points that s counts. */
__attribute__((unused)) static void synthetic_room(struct dlm_study *s)
{
    s->groups = calloc(s->n, sizeof *s->groups);
    s->runs = calloc(s->n_runs, sizeof *s->runs);
    s->points = calloc(s->n_points, sizeof *s->points);
    if (!s->groups || !s->runs || !s->points)
        abort();
}

static char *synthetic_names[] = {"balanced", "masked", "uniform"};

__attribute__((unused)) static void synthetic_make(struct dlm_study *s, const struct synthetic_grid *g, struct dlm_rng *rng)
{
    const size_t per_group = g->sizes * g->batches * g->rates;
    static char run_name[] = "run", by[] = "noise";
    *s = (struct dlm_study){.n = g->groups,
                            .n_runs = g->groups * per_group,
                            .n_points = g->groups * per_group * g->points,
                            .by = by,
                            .fitted = "loss",
                            .has_runs = true};
    synthetic_room(s);
    for (size_t i = 0; i < s->n_runs; i++) {
        const size_t rate = i % g->rates, batch = i / g->rates % g->batches, size = i / g->rates / g->batches % g->sizes;
        const double m = g->first_size * pow(g->size_step, (double)size),
                     b = g->first_batch * pow(g->batch_step, (double)batch);
        const double best = g->a_lr * pow(b, g->k_lr), err = g->of_run * dlm_rng_normal(rng);
        const double lr = exp(log(0.5) + log(g->rate_step) * (round((log(best) - log(0.5)) / log(g->rate_step)) + (double)rate -
                                                              (double)(g->rates / 2)));
        const double off = log((g->rates > 1 ? lr : best) / best);
        struct dlm_run *r = &s->runs[i];
        *r = (struct dlm_run){.name = run_name,
                              .points = &s->points[i * g->points],
                              .n = g->points,
                              .params = m / 6,
                              .flops_tok = m,
                              .batch_tok = b,
                              .lr = g->rates > 1 ? lr : best};
        for (size_t k = 0; k < g->points; k++) {
            const double d = g->first_tokens * pow(g->tokens_of_run / g->first_tokens, (double)(k + 1) / (double)g->points);
            const double e = synthetic_tokens(g, d, b);
            const double l = (g->E + g->a * pow(m, -g->alpha) + g->b * pow(e, -g->beta)) * exp(g->c_lr * off * off);
            r->points[k] = (struct dlm_point){.x = d,
                                              .y = l * exp(err + g->of_point * dlm_rng_normal(rng)),
                                              .se = NAN,
                                              .flops = m * d,
                                              .tokens = d,
                                              .params = m / 6,
                                              .flops_tok = m,
                                              .batch_tok = b,
                                              .lr = r->lr,
                                              .unique_tokens = NAN,
                                              .joules = NAN};
        }
    }
    for (size_t i = 0; i < s->n; i++)
        s->groups[i] = (struct dlm_group){synthetic_names[i], &s->runs[i * per_group], per_group, per_group * g->points};
}

__attribute__((unused)) static void synthetic_free(struct dlm_study *s)
{
    free(s->groups);
    free(s->runs);
    free(s->points);
}

#endif
