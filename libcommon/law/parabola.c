/* The lowest point of a parabola; see parabola.h. */
#include "law/parabola.h"

#include <math.h>

/* Polynomials orthogonal on the points: 1, t = (x - mean)/spread, t² - lean·t - mid. */
struct basis {
    double weight, mean, spread, t2, lean, mid, qq; /* qq: sum of squares of the third */
};

static bool make_basis(struct basis *b, const double *x, const double *w, size_t n)
{
    double t3 = 0;
    *b = (struct basis){0};
    for (size_t i = 0; i < n; i++) {
        b->weight += w ? w[i] : 1;
        b->mean += (w ? w[i] : 1) * x[i];
    }
    b->mean /= b->weight;
    for (size_t i = 0; i < n; i++)
        b->spread += (w ? w[i] : 1) * (x[i] - b->mean) * (x[i] - b->mean) / b->weight;
    b->spread = sqrt(b->spread);
    if (!(b->spread > 1e-9))
        return false;
    for (size_t i = 0; i < n; i++) {
        const double t = (x[i] - b->mean) / b->spread, v = w ? w[i] : 1;
        b->t2 += v * t * t;
        t3 += v * t * t * t;
    }
    b->lean = t3 / b->t2;
    b->mid = b->t2 / b->weight;
    for (size_t i = 0; i < n; i++) {
        const double t = (x[i] - b->mean) / b->spread, q = t * t - b->lean * t - b->mid;
        b->qq += (w ? w[i] : 1) * q * q;
    }
    return b->qq > 1e-9 * b->weight; /* else two different x only */
}

bool dlm_parabola_fit(struct dlm_parabola *p, const double *x, const double *y, const double *w, size_t n)
{
    struct basis b;
    double y0 = 0, y1 = 0, y2 = 0;
    if (!make_basis(&b, x, w, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        const double t = (x[i] - b.mean) / b.spread, v = w ? w[i] : 1;
        y0 += v * y[i];
        y1 += v * t * y[i];
        y2 += v * (t * t - b.lean * t - b.mid) * y[i];
    }
    /* y = level + slope·t + bend·t² */
    const double bend = y2 / b.qq, slope = y1 / b.t2 - bend * b.lean, level = y0 / b.weight - bend * b.mid;
    const double t = -slope / (2 * bend);
    *p = (struct dlm_parabola){
        .x = b.mean + b.spread * t, .y = level + slope * t + bend * t * t, .bend = bend / (b.spread * b.spread)};
    return bend > 0 && isfinite(p->x);
}

double dlm_parabola_precision(const double *x, size_t n, double at)
{
    struct basis b;
    if (!make_basis(&b, x, NULL, n))
        return 0;
    const double t = b.lean - 2 * (at - b.mean) / b.spread; /* t* = lean/2 - (slope on t)/(2·bend) */
    return b.spread * b.spread / (1 / b.t2 + t * t / b.qq);
}

bool dlm_parabola_limit(const double *x, const double *y, const double *v, size_t n, double t, struct dlm_parabola_limits *out)
{
    struct basis b;
    double slope = 0, bend = 0, ss = 0, sb = 0, bb = 0, at = 0;
    *out = (struct dlm_parabola_limits){NAN, NAN, NAN, NAN};
    if (!make_basis(&b, x, NULL, n))
        return false;
    /* the slope at t is slope + u·bend, u = 2t - lean; both are linear in y */
    for (size_t i = 0; i < n; i++) {
        const double d = (x[i] - b.mean) / b.spread, of_slope = d / b.t2, of_bend = (d * d - b.lean * d - b.mid) / b.qq;
        slope += of_slope * y[i];
        bend += of_bend * y[i];
        ss += of_slope * of_slope * v[i];
        sb += of_slope * of_bend * v[i];
        bb += of_bend * of_bend * v[i];
    }
    const double u = -slope / bend, lowest = 0.5 * (u + b.lean);
    for (size_t i = 0; i < n; i++) {
        const double d = (x[i] - b.mean) / b.spread;
        const double of_y = 1 / b.weight + lowest * d / b.t2 +
                            (lowest * lowest - b.lean * lowest - b.mid) * (d * d - b.lean * d - b.mid) / b.qq;
        at += of_y * of_y * v[i];
    }
    out->se = 0.5 * b.spread * sqrt(fmax(ss + 2 * u * sb + u * u * bb, 0)) / fabs(bend);
    out->low_se = sqrt(at);
    /* (slope + u·bend)² ≤ t²·(ss + 2u·sb + u²·bb) */
    const double p = bend * bend - t * t * bb, q = slope * bend - t * t * sb, r = slope * slope - t * t * ss;
    if (!(bend > 0) || !(p > 0))
        return false;
    const double root = sqrt(fmax(q * q - p * r, 0));
    out->low = b.mean + 0.5 * b.spread * ((-q - root) / p + b.lean);
    out->high = b.mean + 0.5 * b.spread * ((-q + root) / p + b.lean);
    return isfinite(out->low) && isfinite(out->high);
}

double dlm_parabola_at(const struct dlm_parabola *p, double x) { return p->y + p->bend * (x - p->x) * (x - p->x); }
