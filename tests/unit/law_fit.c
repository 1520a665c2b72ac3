/* The robust fit: derivatives of every form against finite differences, known laws recovered, and no minimum lower than ours
 * found by NLopt. */
#include "law/fit.h"

#include "base/rng.h"
#include "tap.h"

#include <nlopt.h>
#include <string.h>

enum { N = DLM_FIT_TERMS, MAX = 400 };

static const struct dlm_form *const forms[] = {&dlm_form_power, &dlm_form_power_offset, &dlm_form_loss, &dlm_form_surface};
static const char *const names[] = {"power", "power with offset", "loss", "surface"};
static const double truth[][N] = {{0.0176, 0.566}, {3.5, 0.3, 40}, {2066, 0.18, 2.3}, {2.17, 222, 0.292, 1920, 0.367}};

struct points {
    double x[2][MAX], y[MAX], w[MAX];
    struct dlm_sample s;
};

/* n points of the true law, log errors of `noise`; a share of outliers. */
static void make(struct points *p, int form, size_t n, double noise, double outliers, struct dlm_rng *rng)
{
    p->s = (struct dlm_sample){n, {p->x[0], p->x[1]}, p->y, p->w};
    for (size_t i = 0; i < n; i++) {
        double u = (double)i / (double)(n - 1);
        p->x[0][i] = form == 3 ? log(3e7) + 1.2 * (double)(i % 5) : log(1e16) + log(1e4) * u;
        p->x[1][i] = log(1e8) + log(1e3) * u;
        p->y[i] = log(dlm_form_at(forms[form], truth[form], exp(p->x[0][i]), exp(p->x[1][i]))) + noise * dlm_rng_normal(rng);
        if (dlm_rng_uniform(rng) < outliers)
            p->y[i] += 0.3;
        p->w[i] = 1;
    }
}

static void check_derivatives(int form, struct dlm_rng *rng)
{
    static struct points p;
    const int n = forms[form]->n;
    double worst_g = 0, worst_h = 0;
    for (int trial = 0; trial < 20; trial++) {
        make(&p, form, 50, 0.3, 0, rng);
        for (size_t i = 0; i < 50; i++)
            p.w[i] = (double)dlm_rng_below(rng, 3);
        struct dlm_minima m = {.centre = {37, 20}, .centre_y = form == 0 ? 15 : 1};
        /* With thresholds of 100 and of 1e-9 no point is near the crease of Huber's function, so that differences see one side
         * only. */
        double delta = trial % 2 ? 100 : 1e-9, q[N], g[N], h[N * N], maj[N * N], up[N], down[N];
        for (int k = 0; k < n; k++)
            q[k] = 0.2 + 0.3 * dlm_rng_uniform(rng);
        double f = dlm_fit_objective(forms[form], &p.s, delta, &m, q, g, h, maj), scale = 0, scale_h = 0;
        for (int k = 0; k < n; k++)
            scale = fmax(scale, fabs(g[k]));
        for (int k = 0; k < n * n; k++)
            scale_h = fmax(scale_h, fabs(h[k]));
        for (int k = 0; k < n; k++) {
            const double e = 1e-5;
            double a[N];
            memcpy(a, q, sizeof a);
            a[k] = q[k] + e;
            double f1 = dlm_fit_objective(forms[form], &p.s, delta, &m, a, up, NULL, NULL);
            a[k] = q[k] - e;
            double f0 = dlm_fit_objective(forms[form], &p.s, delta, &m, a, down, NULL, NULL);
            worst_g = fmax(worst_g, fabs((f1 - f0) / (2 * e) - g[k]) / scale);
            for (int j = 0; j < n; j++)
                worst_h = fmax(worst_h, fabs((up[j] - down[j]) / (2 * e) - h[j * n + k]) / scale_h);
        }
        if (!(f < INFINITY))
            worst_g = NAN;
    }
    tap_ok(worst_g < 1e-6, "%s: gradient agrees with finite differences: %.2g", names[form], worst_g);
    tap_ok(worst_h < 1e-6, "%s: Hessian agrees with finite differences of the gradient: %.2g", names[form], worst_h);
}

/* The objective as its definition has it, point by point: at every number of points about a multiple of the vectors' length. */
static void check_value(int form, struct dlm_rng *rng)
{
    static struct points p;
    const struct dlm_form *f = forms[form];
    double worst = 0;
    for (size_t n = 2; n < 40; n++) {
        make(&p, form, n, 0.02, 0.1, rng);
        struct dlm_minima m = {.centre = {37, 20}, .centre_y = form == 0 ? 15 : 1};
        double q[N], want = 0, delta = n % 2 ? 1e-3 : 0.5;
        for (int k = 0; k < f->n; k++)
            q[k] = 0.2 + 0.3 * dlm_rng_uniform(rng);
        for (size_t i = 0; i < n; i++) {
            p.w[i] = (double)dlm_rng_below(rng, 3);
            double y = f->offset ? q[f->n - 1] : 0;
            for (int k = 0; k < f->powers; k++)
                y += exp(q[2 * k] + f->sign * q[2 * k + 1] * (p.x[k][i] - m.centre[k]));
            double r = fabs(log(y) - (p.y[i] - m.centre_y));
            want += p.w[i] * (r <= delta ? r * r / 2 : delta * (r - delta / 2));
        }
        worst = fmax(worst, fabs(dlm_fit_objective(f, &p.s, delta, &m, q, NULL, NULL, NULL) / want - 1));
    }
    tap_ok(worst < 2e-14, "%s: the objective is the sum of Huber's function, within %.2g", names[form], worst);
}

static void check_recovery(int form, struct dlm_rng *rng)
{
    static struct points p;
    struct dlm_minima m;
    struct dlm_fit fit;
    struct dlm_error err = {{0}};
    make(&p, form, 60, 0, 0, rng);
    int rc = dlm_fit_points(forms[form], &p.s, 1e-3, &m, &fit, &err);
    double worst = 0, robust = 0;
    for (int k = 0; k < forms[form]->n && !rc; k++)
        worst = fmax(worst, fabs(fit.value[k] / truth[form][k] - 1));
    tap_ok(!rc && worst < 1e-5 && fit.r2 > 1 - 1e-9 && !fit.degenerate, "%s: the exact law is recovered: relative error %.2g %s",
           names[form], worst, err.msg);
    make(&p, form, 60, 0, 0.2, rng); /* a fifth of the points 35 % too high: a robust fit hardly moves */
    rc = dlm_fit_points(forms[form], &p.s, 1e-4, &m, &fit, &err);
    for (size_t i = 0; i < 60 && !rc; i++)
        robust = fmax(robust, fabs(log(dlm_form_at(forms[form], fit.value, exp(p.x[0][i]), exp(p.x[1][i])) /
                                       dlm_form_at(forms[form], truth[form], exp(p.x[0][i]), exp(p.x[1][i])))));
    tap_ok(!rc && robust < 2e-3, "%s: outliers move the curve by %.2g at most", names[form], robust);
}

struct problem {
    const struct dlm_form *form;
    const struct dlm_sample *s;
    const struct dlm_minima *m;
    double huber;
};

static double objective(unsigned n, const double *q, double *g, void *ctx)
{
    const struct problem *p = ctx;
    double own[N];
    (void)n;
    double f = dlm_fit_objective(p->form, p->s, p->huber, p->m, q, g ? g : own, NULL, NULL);
    return f < 1e300 ? f : 1e300;
}

/* Many random starts of two algorithms of NLopt, each end polished without derivatives, which creases do not trouble. */
static double by_nlopt(struct problem *p, struct dlm_rng *rng, int starts)
{
    static const nlopt_algorithm algorithms[] = {NLOPT_LD_SLSQP, NLOPT_LD_LBFGS, NLOPT_LN_SBPLX};
    double best = INFINITY, low[N], high[N];
    const int n = p->form->n;
    for (int k = 0; k < n; k++) {
        bool offset = p->form->offset && k == n - 1, exponent = !offset && k % 2;
        low[k] = offset ? 0 : exponent ? p->form->lowest : -20;
        high[k] = offset ? 1e6 : exponent ? p->form->highest : 20;
    }
    for (int i = 0; i < starts; i++) {
        double q[N], f;
        for (int k = 0; k < n; k++)
            q[k] = p->form->offset && k == n - 1 ? dlm_rng_uniform(rng)
                   : k % 2                       ? (p->form->sign < 0 ? 1 : 2) * dlm_rng_uniform(rng) + 1e-3
                                                 : 2 * dlm_rng_normal(rng);
        for (int a = i % 2; a < 3; a += 2 - i % 2) {
            nlopt_opt o = nlopt_create(algorithms[a], (unsigned)n);
            nlopt_set_lower_bounds(o, low);
            nlopt_set_upper_bounds(o, high);
            nlopt_set_min_objective(o, objective, p);
            nlopt_set_xtol_rel(o, 1e-12);
            nlopt_set_maxeval(o, 4000);
            double before[N];
            memcpy(before, q, sizeof before);
            if (nlopt_optimize(o, q, &f) < 0)
                memcpy(q, before, sizeof q);
            nlopt_destroy(o);
            best = fmin(best, objective((unsigned)n, q, NULL, p));
        }
    }
    return best;
}

static void check_minimum(int form, size_t n, double noise, double huber, int starts, struct dlm_rng *rng)
{
    static struct points p;
    struct dlm_minima m;
    struct dlm_fit fit;
    struct dlm_error err = {{0}};
    make(&p, form, n, noise, 0.05, rng);
    if (dlm_fit_points(forms[form], &p.s, huber, &m, &fit, &err)) {
        tap_ok(false, "%s", err.msg);
        return;
    }
    struct problem problem = {forms[form], &p.s, &m, huber};
    double other = by_nlopt(&problem, rng, starts);
    tap_ok(fit.objective <= other * (1 + 1e-7) + 1e-14, "%s, %zu points, noise %g, threshold %g: ours %.10g, NLopt's best %.10g",
           names[form], n, noise, huber, fit.objective, other);
}

int main(void)
{
    struct dlm_rng rng;
    struct dlm_error err = {{0}};
    dlm_rng_init(&rng, tap_seed(), 0, DLM_RNG_TEST);
    for (int form = 0; form < 4; form++) {
        check_value(form, &rng);
        check_derivatives(form, &rng);
        check_recovery(form, &rng);
    }
    for (int form = 0; form < 4; form++)
        for (int i = 0; i < 3; i++) {
            check_minimum(form, i ? 40 : 8, 0.01, i == 2 ? 0.1 : 1e-3, form == 3 ? 12 : 20, &rng);
            check_minimum(form, 15, 0.05, 1e-3, form == 3 ? 12 : 20, &rng);
        }

    static struct points p;
    struct dlm_minima m;
    struct dlm_fit fit;
    make(&p, 2, 2, 0.01, 0, &rng);
    tap_ok(dlm_fit_points(&dlm_form_loss, &p.s, 1e-3, &m, &fit, &err) == DLM_EDATA && strstr(err.msg, "3"), "too few points: %s",
           err.msg);
    make(&p, 2, 10, 0.01, 0, &rng);
    for (int i = 0; i < 10; i++)
        p.x[0][i] = p.x[0][i % 2];
    tap_ok(dlm_fit_points(&dlm_form_loss, &p.s, 1e-3, &m, &fit, &err) == DLM_EDATA, "too few different x: %s", err.msg);
    make(&p, 3, 20, 0, 0, &rng);
    for (int i = 0; i < 20; i++) {
        /* size goes with tokens, and the loss with one power of them: any split between the two terms will do */
        p.x[0][i] = p.x[1][i] + 1;
        p.y[i] = log(2 + 500 * exp(-0.3 * p.x[1][i]));
    }
    tap_ok(!dlm_fit_points(&dlm_form_surface, &p.s, 1e-3, &m, &fit, &err) && fit.degenerate,
           "size tied to tokens is called degenerate");
    make(&p, 0, 30, 0.002, 0, &rng);
    tap_ok(!dlm_fit_points(&dlm_form_power_offset, &p.s, 1e-3, &m, &fit, &err) && fit.value[2] >= 0,
           "an offset is never negative: %g", fit.value[2]);
    return tap_end();
}
