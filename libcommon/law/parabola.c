/* The lowest point of a parabola; see parabola.h. */
#include "law/parabola.h"

#include <math.h>

/* y = level + slope·t + bend·t², t = (x - mean)/spread, by polynomials orthogonal on the points. */
bool dlm_parabola_fit(struct dlm_parabola *p, const double *x, const double *y, const double *w, size_t n)
{
    double weight = 0, mean = 0, spread = 0, t2 = 0, t3 = 0, y0 = 0, y1 = 0, qq = 0, yq = 0;
    for (size_t i = 0; i < n; i++) {
        weight += w ? w[i] : 1;
        mean += (w ? w[i] : 1) * x[i];
    }
    mean /= weight;
    for (size_t i = 0; i < n; i++)
        spread += (w ? w[i] : 1) * (x[i] - mean) * (x[i] - mean) / weight;
    spread = sqrt(spread);
    if (!(spread > 1e-9))
        return false;
    for (size_t i = 0; i < n; i++) {
        double t = (x[i] - mean) / spread, v = w ? w[i] : 1;
        t2 += v * t * t;
        t3 += v * t * t * t;
        y0 += v * y[i];
        y1 += v * t * y[i];
    }
    const double lean = t3 / t2, mid = t2 / weight;
    for (size_t i = 0; i < n; i++) {
        double t = (x[i] - mean) / spread, q = t * t - lean * t - mid, v = w ? w[i] : 1;
        qq += v * q * q;
        yq += v * q * y[i];
    }
    if (!(qq > 1e-9 * weight)) /* two different x only */
        return false;
    const double bend = yq / qq, slope = y1 / t2 - bend * lean, level = y0 / weight - bend * mid, t = -slope / (2 * bend);
    *p = (struct dlm_parabola){
        .x = mean + spread * t, .y = level + slope * t + bend * t * t, .bend = bend / (spread * spread), .spread = spread};
    return bend > 0 && isfinite(p->x);
}

double dlm_parabola_at(const struct dlm_parabola *p, double x)
{
    return p->y + p->bend * (x - p->x) * (x - p->x);
}
