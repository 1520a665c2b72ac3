/* The laws of arXiv 2512.10858; see published.h.
 *
 * Tables 6 and 7 of the paper, and from the notebooks of the authors' repository the intercepts of the batch and learning-rate
 * laws (batch in tokens) and the two-sigma intervals of the exponents of M*, which pivot at the middle of the fitted range, 1e19
 * FLOPs. P* is printed with too few digits to use: it comes from M* through the published shapes, M = 6·P + 12·L·d·N.
 */
#include "law/published.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *noise;
    double loss[2], tokens[2], size[2]; /* A, k against C */
    double batch[2], lr[2];             /* ln A, k: batch against tokens, learning rate against batch */
    double below, above;                /* two sigma about the exponent of size */
} laws[] = {
    {"masked", {27.21883, -0.04961}, {56.78711, 0.43371}, {0.01761, 0.56629}, {-4.449, 0.7759}, {-4.569, 0.3295}, -0.022, 0.019},
    {"low-uniform",
     {29.12047, -0.05088},
     {15.31607, 0.46459},
     {0.06529, 0.53541},
     {-4.837, 0.7916},
     {-4.135, 0.2924},
     -0.012,
     0.014},
    {"balanced",
     {29.84096, -0.05124},
     {14.45680, 0.46642},
     {0.06918, 0.53358},
     {-5.845, 0.8373},
     {-5.016, 0.3653},
     -0.014,
     0.015},
    {"high-uniform",
     {30.19375, -0.05141},
     {81.86373, 0.42701},
     {0.01222, 0.57298},
     {-6.398, 0.8607},
     {-5.047, 0.3628},
     -0.023,
     0.027},
    {"uniform",
     {31.26171, -0.05219},
     {161.92545, 0.41121},
     {0.00618, 0.58879},
     {-6.792, 0.8787},
     {-4.933, 0.3554},
     -0.019,
     0.018},
};

static const struct {
    double params, layers, width;
} shapes[] = {{25.2e6, 8, 512},    {49.2e6, 10, 640},   {85.1e6, 12, 768},  {201.6e6, 16, 1024},
              {566.7e6, 20, 1536}, {2.152e9, 19, 3072}, {8.666e9, 34, 4608}};

bool dlm_published_named(const char *name)
{
    return !strcmp(name, "paper") || !strcmp(name, "gidd-2512.10858");
}

static int add(struct dlm_laws *l, const char *law, const char *noise, const char *y, const char *x, const char *term,
               double value, double lo, double hi, struct dlm_error *err)
{
    return dlm_laws_add(l,
                        &(struct dlm_law_row){(char *)law, (char *)noise, (char *)term, (char *)y, (char *)x, "noise", value, lo,
                                              hi, NAN, NAN, NAN, NAN},
                        err);
}

static int add_power(struct dlm_laws *l, const char *noise, const char *y, const char *x, double a, double k, double low,
                     double high, struct dlm_error *err)
{
    int rc = add(l, "power", noise, y, x, "A", a, NAN, NAN, err);
    if (!rc)
        rc = add(l, "power", noise, y, x, "k", k, NAN, NAN, err);
    if (!rc)
        rc = add(l, "power", noise, y, x, "x_min", low, NAN, NAN, err);
    return rc ? rc : add(l, "power", noise, y, x, "x_max", high, NAN, NAN, err);
}

/* M* with its interval: exact at three points, as an exponent about a pivot is a straight line in logarithms on each side. D*
 * mirrors it. */
static int add_band(struct dlm_laws *l, size_t i, struct dlm_error *err)
{
    const double pivot = 1e19, at[] = {1e15, 1e19, 1e27};
    for (size_t j = 0; j < 3; j++) {
        char term[32];
        snprintf(term, sizeof term, "%g", at[j]);
        double m = laws[i].size[0] * pow(at[j], laws[i].size[1]), d = laws[i].tokens[0] * pow(at[j], laws[i].tokens[1]);
        double a = pow(at[j] / pivot, laws[i].below), b = pow(at[j] / pivot, laws[i].above), lo = fmin(a, b), hi = fmax(a, b);
        int rc = add(l, "power.band", laws[i].noise, "flops_tok", "flops", term, m, m * lo, m * hi, err);
        if (!rc)
            rc = add(l, "power.band", laws[i].noise, "tokens", "flops", term, d, d / hi, d / lo, err);
        if (rc)
            return rc;
    }
    return 0;
}

int dlm_published_fill(struct dlm_laws *l, struct dlm_error *err)
{
    const double low = 5e17, high = 2e20; /* the paper's range of C */
    int rc = 0;
    for (size_t i = 0; i < sizeof laws / sizeof *laws && !rc; i++) {
        const char *noise = laws[i].noise;
        double d0 = laws[i].tokens[0] * pow(low, laws[i].tokens[1]), d1 = laws[i].tokens[0] * pow(high, laws[i].tokens[1]);
        double b0 = 8 * 2048, b1 = 512 * 2048;
        if (!rc)
            rc = add_power(l, noise, "loss", "flops", laws[i].loss[0], laws[i].loss[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "flops_tok", "flops", laws[i].size[0], laws[i].size[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "tokens", "flops", laws[i].tokens[0], laws[i].tokens[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "batch_tok", "tokens", exp(laws[i].batch[0]), laws[i].batch[1], d0, d1, err);
        if (!rc)
            rc = add_power(l, noise, "lr", "batch_tok", exp(laws[i].lr[0]), laws[i].lr[1], b0, b1, err);
        if (!rc)
            rc = add_band(l, i, err);
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes && !rc; j++) { /* a law that is a table */
            char term[32];
            snprintf(term, sizeof term, "%.9g", 6 * shapes[j].params + 12 * shapes[j].layers * shapes[j].width * 2048);
            rc = add(l, "shape.band", noise, "params", "flops_tok", term, shapes[j].params, shapes[j].params, shapes[j].params,
                     err);
        }
    }
    return rc;
}
