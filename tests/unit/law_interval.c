/* Intervals: how often they cover the truth in synthetic studies (a short run with a wide band), what threads, seeds, order and
 * other groups change (only what they should), and when an interval is refused. */
#include "law/estimate.h"

#include "base/rng.h"
#include "law/fit.h"
#include "tap.h"

#include <string.h>

enum { RUNS = 40 };

struct synthetic {
    struct dlm_study s;
    struct dlm_group group[2];
    struct dlm_run run[2 * RUNS];
    struct dlm_point point[2 * RUNS * 10];
};

static char run_name[] = "run", group_name[2][16] = {"masked", "uniform"}, by[] = "noise";

/* Groups of runs of `points` points each: y = form(x), with an error of the run and one of the point. */
static void make(struct synthetic *y, size_t groups, size_t runs, size_t points, const struct dlm_form *form, const double *truth,
                 double of_run, double of_point, struct dlm_rng *rng)
{
    *y = (struct synthetic){.s = {.n = groups,
                                  .n_runs = groups * runs,
                                  .n_points = groups * runs * points,
                                  .by = by,
                                  .fitted = "loss",
                                  .has_runs = true}};
    y->s.groups = y->group;
    y->s.runs = y->run;
    y->s.points = y->point;
    for (size_t g = 0; g < groups; g++) {
        y->group[g] = (struct dlm_group){group_name[g], &y->run[g * runs], runs, runs * points};
        for (size_t i = 0; i < runs; i++) {
            struct dlm_run *r = &y->run[g * runs + i];
            double m = 3e7 * pow(1.6, (double)(i % 8)), e = of_run * dlm_rng_normal(rng);
            *r = (struct dlm_run){
                .name = run_name, .points = &y->point[(g * runs + i) * points], .n = points, .params = m / 6, .flops_tok = m};
            for (size_t k = 0; k < points; k++) {
                double u = ((double)k + dlm_rng_uniform(rng)) / (double)points,
                       x = 1e16 * exp(log(1e4) * (points == 1 ? (double)i / (double)runs : u));
                double d = 1e8 * exp(log(1e3) * u);
                double v = form->powers == 2 ? dlm_form_at(form, truth, m, d) : dlm_form_at(form, truth, x, 1);
                r->points[k] = (struct dlm_point){.x = form->powers == 2 ? m * d : x,
                                                  .y = v * exp(e + of_point * dlm_rng_normal(rng)),
                                                  .se = NAN,
                                                  .flops = form->powers == 2 ? m * d : x,
                                                  .tokens = form->powers == 2 ? d : x / m,
                                                  .params = m / 6,
                                                  .flops_tok = m};
            }
        }
    }
}

static const struct dlm_law_row *find(const struct dlm_laws *l, const char *law, const char *term)
{
    return dlm_laws_find(l, law, "masked", term, NULL, NULL);
}

static int fit(const struct synthetic *y, const struct dlm_form *form, const struct dlm_estimate *how, struct dlm_laws *laws,
               struct dlm_notes *notes)
{
    struct dlm_error err = {{0}};
    int rc = form == &dlm_form_surface ? dlm_estimate_surface(&y->s, how, false, laws, notes, &err)
             : form == &dlm_form_loss  ? dlm_estimate_loss(&y->s, how, false, laws, notes, &err)
                                       : dlm_estimate_power(&y->s, how, "flops", "loss", form->offset, laws, notes, &err);
    if (rc)
        printf("# %s\n", err.msg);
    return rc;
}

/* Of 40 studies whose intervals hold with 0.95, fewer than 32 cover with a probability of 1 in 5000: a band that is missed only by a
 * broken interval. `make check-long` does 1,000 studies of 1,000 resamples of both kinds, and wants 93 to 97 of 100 of the default,
 * bca, and 93 to 98.5 of percentiles. Measured: bca 950 to 955 (power), 952 to 958 (with offset), 952 to 959 (loss), 938 to 947
 * (surface); percentiles 970 to 971, 976 to 978, 979 to 981, 956 to 982, as the bias of the constrained fits counts twice in them. */
static void check_coverage(const char *what, const struct dlm_form *form, const double *truth, size_t points, double of_run,
                           int studies, struct dlm_rng *rng)
{
    static const char *const kinds[] = {"percentile", "bca"};
    static struct synthetic y;
    bool thorough = getenv("DLM_TEST_LONG") != NULL;
    int covered[2][DLM_FIT_TERMS] = {{0}}, fitted = 0;
    if (thorough)
        studies = 1000;
    for (int i = 0; i < studies; i++) {
        make(&y, 1, RUNS, points, form, truth, of_run, 0.004, rng);
        for (int kind = 0; kind < 2; kind++) {
            struct dlm_laws laws = {0};
            struct dlm_notes notes = {0};
            struct dlm_estimate how = {.huber = 1e-3,
                                       .bootstrap = {.n = thorough ? 1000 : 200,
                                                     .seed = (uint64_t)i,
                                                     .level = 0.95,
                                                     .threads = 2,
                                                     .kind = (enum dlm_interval_kind)kind},
                                       .budgets = {.n = 8}};
            if (!fit(&y, form, &how, &laws, &notes)) {
                fitted++;
                for (int k = 0; k < form->n; k++) {
                    const struct dlm_law_row *r = find(&laws, form->law, form->term[k]);
                    covered[kind][k] += r && r->lo <= truth[k] && r->hi >= truth[k];
                }
            }
            dlm_laws_release(&laws);
            dlm_notes_release(&notes);
        }
    }
    for (int kind = 0; kind < 2; kind++)
        for (int k = 0; k < form->n; k++) {
            const double share = (double)covered[kind][k] / studies;
            tap_ok(fitted == 2 * studies && (thorough ? share >= 0.93 && share <= (kind ? 0.97 : 0.985) : share >= 0.8),
                   "%s: %d of %d %s intervals of %s cover", what, covered[kind][k], studies, kinds[kind], form->term[k]);
        }
}

static bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static bool same_rows(const struct dlm_laws *a, const struct dlm_laws *b, const char *group, bool limits)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct dlm_law_row *p = &a->at[i], *q = dlm_laws_find(b, p->law, p->group, p->term, p->y, p->x);
        if (strcmp(p->group, group))
            continue;
        if (!q || p->value != q->value || (limits && !(same(p->lo, q->lo) && same(p->hi, q->hi) && same(p->se, q->se))))
            return false;
        n++;
    }
    return n > 0;
}

static void check_keys(struct dlm_rng *rng)
{
    static struct synthetic y;
    const double truth[] = {2066, 0.18, 2.3};
    struct dlm_notes notes = {0};
    struct dlm_laws one = {0}, two = {0}, other = {0}, alone = {0};
    struct dlm_estimate how = {
        .huber = 1e-3, .bootstrap = {.n = 300, .seed = 1, .level = 0.95, .threads = 1}, .budgets = {.n = 8}};
    make(&y, 2, 12, 1, &dlm_form_loss, truth, 0.01, 0, rng);
    fit(&y, &dlm_form_loss, &how, &one, &notes);
    how.bootstrap.threads = 3;
    fit(&y, &dlm_form_loss, &how, &two, &notes);
    how.bootstrap.seed = 2;
    fit(&y, &dlm_form_loss, &how, &other, &notes);
    how.bootstrap.seed = 1;
    y.s.n = 1;
    fit(&y, &dlm_form_loss, &how, &alone, &notes);
    tap_ok(one.n == two.n && same_rows(&one, &two, "masked", true) && same_rows(&one, &two, "uniform", true),
           "three threads give what one gives");
    tap_ok(same_rows(&one, &other, "masked", false) && !same_rows(&one, &other, "masked", true),
           "another seed changes the intervals and nothing else");
    tap_ok(same_rows(&alone, &one, "masked", true), "a group by itself is fitted as among others");
    dlm_laws_release(&one);
    dlm_laws_release(&two);
    dlm_laws_release(&other);
    dlm_laws_release(&alone);
    dlm_notes_release(&notes);
}

static bool noted(const struct dlm_notes *notes, const char *words)
{
    for (size_t i = 0; i < notes->n; i++)
        if (strstr(notes->at[i], words))
            return true;
    return false;
}

static void check_words(struct dlm_rng *rng)
{
    static struct synthetic y;
    const double power[] = {30, -0.05}, steep[] = {2066, 0.18, 2.3}, flat[] = {30, 0.05, 0};
    struct dlm_estimate how = {.huber = 1e-3, .bootstrap = {.n = 100, .level = 0.95, .threads = 1}, .budgets = {.n = 8}};
    struct dlm_laws laws = {0};
    struct dlm_notes notes = {0};

    make(&y, 1, 4, 1, &dlm_form_power, power, 0.01, 0, rng);
    fit(&y, &dlm_form_power, &how, &laws, &notes);
    tap_ok(noted(&notes, "no standard errors") && isnan(find(&laws, "power", "k")->lo),
           "four runs without standard errors have no interval");
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    for (size_t i = 0; i < y.s.n_points; i++)
        y.point[i].se = 0.01 * y.point[i].y;
    fit(&y, &dlm_form_power, &how, &laws, &notes);
    const struct dlm_law_row *k = find(&laws, "power", "k");
    tap_ok(noted(&notes, "measurement only") && k->lo < k->value && k->value < k->hi,
           "with standard errors the interval is of measurement only");
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    make(&y, 1, 5, 4, &dlm_form_surface, (const double[]){2.17, 222, 0.292, 1920, 0.367}, 0.01, 0, rng);
    fit(&y, &dlm_form_surface, &how, &laws, &notes);
    tap_ok(noted(&notes, "too few to resample"), "five runs cannot be resampled for five parameters");
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    make(&y, 1, 12, 1, &dlm_form_loss, flat, 0.02, 0, rng);
    fit(&y, &dlm_form_loss, &how, &laws, &notes);
    tap_ok(noted(&notes, "B is not determined"), "a law without a level says that B is not determined");
    tap_ok(noted(&notes, ", and A goes with it"), "and that A is not, since it goes with the exponent");
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    make(&y, 1, 6, 1, &dlm_form_loss, flat, 0.05, 0, rng);
    fit(&y, &dlm_form_loss, &how, &laws, &notes);
    const struct dlm_law_row *a = find(&laws, "loss", "A");
    tap_ok(noted(&notes, ", and A goes with it") && a->hi > 1e6 * a->lo && isnan(a->se),
           "six noisy runs determine A no better than from %g to %g: it has no standard error", a->lo, a->hi);
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    make(&y, 1, 12, 1, &dlm_form_loss, steep, 0.015, 0, rng);
    fit(&y, &dlm_form_loss, &how, &laws, &notes);
    a = find(&laws, "loss", "A");
    tap_ok(noted(&notes, "A is barely determined") && !noted(&notes, "beta is") && a->hi > 10 * a->lo,
           "with an exponent that is clear A may be barely determined still, from %g to %g", a->lo, a->hi);
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);

    make(&y, 1, 12, 1, &dlm_form_loss, steep, 1e-5, 0, rng);
    fit(&y, &dlm_form_loss, &how, &laws, &notes);
    tap_ok(!noted(&notes, "loss law: "), "a clear law is called clear");
    dlm_notes_release(&notes);
    dlm_laws_release(&laws);
}

/* The intervals of values that are known: quantiles of 0..n-1, and Efron's correction where the estimate lies off the median. */
static double identity(const void *ctx, const double *row, size_t i)
{
    (void)ctx;
    return row[i];
}

static void check_intervals(struct dlm_rng *rng)
{
    enum { DRAWS = 10001, LEFT = 4 };
    static double at[DRAWS];
    double left[LEFT] = {1, 2, 3, 4}, skew[LEFT] = {0, 0, 0, 8}, estimate = 5000;
    struct dlm_error err;
    struct dlm_interval in, direct;
    struct dlm_bootstrap b = {.n = DRAWS, .level = 0.9, .threads = 2};
    struct dlm_draws d = {.n = DRAWS, .width = 1, .good = DRAWS, .at = at, .n_left = LEFT, .left = left, .estimate = &estimate};
    for (size_t i = 0; i < DRAWS; i++)
        at[i] = (double)i;
    for (size_t i = DRAWS - 1; i > 0; i--) {
        size_t j = dlm_rng_below(rng, i + 1);
        double t = at[i];
        at[i] = at[j];
        at[j] = t;
    }
    dlm_draws_interval(&b, &d, 0, &in, &err);
    dlm_bootstrap_interval(&b, at, 1, 0, &direct, &err);
    tap_ok(fabs(in.lo - 500) < 1e-6 && fabs(in.hi - 9500) < 1e-6 && direct.lo == in.lo && direct.hi == in.hi,
           "percentiles of 0 to 10000: %g to %g", in.lo, in.hi);
    b.kind = DLM_INTERVAL_BCA;
    dlm_draws_interval(&b, &d, 0, &in, &err);
    tap_ok(fabs(in.lo - 500) < 1 && fabs(in.hi - 9500) < 1, "no bias and no acceleration: bca is the same: %g to %g", in.lo, in.hi);
    estimate = 8413.5; /* z0 = 1: Phi(2 - 1.6449) and Phi(2 + 1.6449) */
    dlm_draws_intervals_of(&b, &d, identity, NULL, 1, &in, &err);
    tap_ok(fabs(in.lo - 6387) < 3 && fabs(in.hi - 9998.7) < 1, "an estimate above the median: %g to %g", in.lo, in.hi);
    estimate = 5000;
    d.left = skew; /* d = 2, 2, 2, -6: a = -192/(6·48^1.5) = -0.0962; Phi of z/(1 - a z) at ∓1.6449 */
    dlm_draws_interval(&b, &d, 0, &in, &err);
    tap_ok(fabs(in.lo - 253.1) < 2 && fabs(in.hi - 9222.5) < 2, "an accelerated one: %g to %g", in.lo, in.hi);

    /* the standard deviation of 0 to 10000 is 2887.18, at every level; one value far away takes its meaning, and no limit */
    struct dlm_interval far, half, end;
    b.kind = DLM_INTERVAL_PERCENTILE;
    b.level = 0.5;
    dlm_draws_interval(&b, &d, 0, &half, &err);
    b.level = 0.95;
    dlm_draws_interval(&b, &d, 0, &in, &err);
    tap_ok(fabs(in.se - 2887.18) < 0.01 && half.se == in.se && half.hi - half.lo < 0.6 * (in.hi - in.lo),
           "the standard error of 0 to 10000 is %g, whatever the level", in.se);
    for (size_t i = 0; i < DRAWS; i++)
        at[i] = at[i] < DRAWS - 1 ? at[i] : 1e111;
    dlm_draws_interval(&b, &d, 0, &far, &err);
    tap_ok(far.lo == in.lo && far.hi == in.hi && isnan(far.se), "one value of 1e111 leaves the limits, and no standard error");
    estimate = 9751; /* as the upper limit */
    dlm_draws_interval(&b, &d, 0, &end, &err);
    tap_ok(isnan(end.lo) && isnan(end.hi) && isnan(end.se), "nor has an estimate at the end of its interval one");
}

static void check_curves(void)
{
    double lx[50], ly[50];
    for (int i = 0; i < 50; i++) {
        lx[i] = 30 + 0.03 * i * (1 + 0.01 * i);
        ly[i] = 2 - 0.1 * lx[i];
    }
    tap_near(dlm_curve_at(lx, ly, 50, 30.777), 2 - 0.1 * 30.777, 1e-12, "a straight curve is smoothed to itself");
    tap_near(dlm_curve_at(lx, ly, 50, lx[49]), ly[49], 1e-12, "also at its end");
    tap_ok(isnan(dlm_curve_at(lx, ly, 50, 29.9)) && isnan(dlm_curve_at(lx, ly, 50, lx[49] + 0.1)), "and says nothing outside");
    tap_near(dlm_curve_at(lx, ly, 1, 30), ly[0], 1e-12, "a curve of one point");
    tap_near(dlm_curve_at(lx, ly, 2, 0.5 * (lx[0] + lx[1])), 0.5 * (ly[0] + ly[1]), 1e-12, "a curve of two points");
    struct dlm_budgets b;
    struct dlm_error err;
    tap_ok(!dlm_budgets_parse("8", &b, &err) && b.n == 8 && b.low == 0, "--budgets 8");
    tap_ok(!dlm_budgets_parse("1e17:1e19:5", &b, &err) && b.n == 5 && b.low == 1e17 && b.high == 1e19, "--budgets 1e17:1e19:5");
    const char *const wrong[] = {"", "1", "8:9", "1:2:3:4", "2:1:5", "0:1:5", "x", "8x", "1e17:1e19:1", "2000"};
    int refused = 0;
    for (int i = 0; i < 10; i++)
        refused += dlm_budgets_parse(wrong[i], &b, &err) == DLM_EUSAGE;
    tap_ok(refused == 10, "%d of 10 wrong budgets are refused", refused);
}

int main(void)
{
    struct dlm_rng rng;
    dlm_rng_init(&rng, tap_seed(), 1, DLM_RNG_TEST);
    check_curves();
    check_intervals(&rng);
    check_coverage("power", &dlm_form_power, (const double[]){30, -0.05}, 1, 0.03, 40, &rng);
    check_coverage("power with offset", &dlm_form_power_offset, (const double[]){2066, -0.18, 2.3}, 1, 0.01, 40, &rng);
    check_coverage("loss", &dlm_form_loss, (const double[]){2066, 0.18, 2.3}, 1, 0.01, 40, &rng);
    check_coverage("surface", &dlm_form_surface, (const double[]){2.17, 222, 0.292, 1920, 0.367}, 4, 0.005, 16, &rng);
    check_keys(&rng);
    check_words(&rng);
    return tap_end();
}
