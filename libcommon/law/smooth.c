/* Local linear regression; see smooth.h. */
#include "law/smooth.h"

#include <math.h>
#include <stdbool.h>

static const double window = 0.15;

double dlm_smooth_at(const double *x, const double *y, size_t n, double at, double *slope, double *spread)
{
    if (slope)
        *slope = NAN;
    if (spread)
        *spread = NAN;
    if (!n || !(at >= x[0] - 1e-6) || !(at <= x[n - 1] + 1e-6))
        return NAN;
    size_t lo = 0, hi = n; /* first point at or above `at` */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (x[mid] < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t a = lo, b = lo; /* the three nearest: [a, b) */
    while (b - a < 3 && (a > 0 || b < n))
        if (b == n || (a > 0 && at - x[a - 1] <= x[b] - at))
            a--;
        else
            b++;
    double h = fmax(window, 1.2 * fmax(fabs(at - x[a]), fabs(x[b - 1] - at)));
    while (a > 0 && at - x[a - 1] < h)
        a--;
    while (b < n && x[b] - at < h)
        b++;
    double w0 = 0, w1 = 0, w2 = 0, v0 = 0, v1 = 0, q0 = 0, q1 = 0, q2 = 0;
    for (size_t i = a; i < b; i++) {
        double d = x[i] - at, u = fabs(d) / h, c = 1 - u * u * u, w = c * c * c;
        w0 += w;
        w1 += w * d;
        w2 += w * d * d;
        v0 += w * y[i];
        v1 += w * d * y[i];
        q0 += w * w;
        q1 += w * w * d;
        q2 += w * w * d * d;
    }
    double det = w0 * w2 - w1 * w1;
    bool line = det > 1e-12 * w0 * w2 && w2 > 0;
    if (slope)
        *slope = line ? (w0 * v1 - w1 * v0) / det : NAN;
    if (spread) /* point i weighs w (w2 - w1 d)/det */
        *spread = line ? sqrt(fmax(w2 * w2 * q0 - 2 * w1 * w2 * q1 + w1 * w1 * q2, 0)) / det : sqrt(q0) / w0;
    return line ? (w2 * v0 - w1 * v1) / det : v0 / w0;
}

double dlm_smooth_scatter(const double *x, const double *y, size_t n)
{
    double sum = 0;
    size_t terms = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        double gap = x[i + 1] - x[i - 1];
        if (!(gap > 0))
            continue;
        double b = (x[i] - x[i - 1]) / gap, a = 1 - b, r = y[i] - a * y[i - 1] - b * y[i + 1];
        sum += r * r / (1 + a * a + b * b);
        terms++;
    }
    return terms ? sqrt(sum / (double)terms) : NAN;
}
