/* What a drawing shows; see figure.h. */
#include "law/figure.h"

#include "metric/grow.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dlm_figure_series(struct dlm_figure *f, enum dlm_series_form form, unsigned colour, struct dlm_error *err,
                      const char *label, ...)
{
    struct dlm_series *more = dlm_grow(f->series, sizeof *more, &f->room, f->n + 1);
    if (!more)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    f->series = more;
    struct dlm_series *s = &f->series[f->n];
    *s = (struct dlm_series){.form = form, .colour = colour};
    if (label) {
        char text[512];
        va_list ap;
        va_start(ap, label);
        vsnprintf(text, sizeof text, label, ap);
        va_end(ap);
        if (!(s->label = strdup(text)))
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    f->n++;
    return 0;
}

int dlm_figure_point(struct dlm_figure *f, double x, double y, double lo, double hi, struct dlm_error *err)
{
    struct dlm_series *s = &f->series[f->n - 1];
    if (!(x > 0) || !(y > 0) || !isfinite(x) || !isfinite(y))
        return 0;
    double(*more)[4] = dlm_grow(s->at, sizeof *more, &s->room, s->n + 1);
    if (!more)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->at = more;
    bool known = lo > 0 && isfinite(lo) && isfinite(hi) && hi >= lo;
    double *p = s->at[s->n++];
    p[0] = x;
    p[1] = y;
    p[2] = known ? lo : NAN;
    p[3] = known ? hi : NAN;
    return 0;
}

int dlm_figure_window(struct dlm_figure *f, struct dlm_error *err)
{
    if (f->x1 > 0)
        return 0;
    double x0 = INFINITY, x1 = 0, y0 = INFINITY, y1 = 0;
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; k < f->series[i].n; k++) {
            const double *p = f->series[i].at[k];
            x0 = fmin(x0, p[0]);
            x1 = fmax(x1, p[0]);
            y0 = fmin(y0, p[1]);
            y1 = fmax(y1, p[1]);
            if (f->series[i].form == DLM_SERIES_POINTS || f->series[i].form == DLM_SERIES_BEST) {
                y0 = fmin(y0, isnan(p[2]) ? p[1] : fmax(p[2], p[1] / 10)); /* a limit far away must not flatten the rest */
                y1 = fmax(y1, isnan(p[3]) ? p[1] : fmin(p[3], p[1] * 10));
            }
        }
    if (!(x1 > 0))
        return dlm_fail(err, DLM_EDATA, "nothing to draw");
    double mx = fmax(pow(x1 / x0, 0.04), 1.01), my = fmax(pow(y1 / y0, 0.06), 1.002);
    f->x0 = x0 / mx;
    f->x1 = x1 * mx;
    f->y0 = y0 / my;
    f->y1 = y1 * my;
    return 0;
}

void dlm_figure_release(struct dlm_figure *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->series[i].label);
        free(f->series[i].at);
    }
    free(f->series);
    *f = (struct dlm_figure){0};
}

size_t dlm_figure_ticks(double low, double high, double *at, size_t room, bool *decades)
{
    size_t n = 0;
    double span = log10(high / low);
    *decades = span >= 0.7; /* a factor of five */
    if (*decades) {
        int step = (int)(span / 8) + 1;
        for (int d = (int)ceil(log10(low) - 1e-9); d <= log10(high) + 1e-9 && n < room; d += step)
            at[n++] = pow(10, d);
        if (n > 2)
            return n;
        *decades = false; /* too few: two marks more in each decade */
        n = 0;
        for (int d = (int)floor(log10(low)); d <= log10(high); d++)
            for (int k = 1; k <= 5 && n < room; k += k < 2 ? 1 : 3)
                if (k * pow(10, d) >= low && k * pow(10, d) <= high)
                    at[n++] = k * pow(10, d);
        return n;
    }
    /* Within a decade powers of ten would mark nothing: even steps, five to twelve of them. */
    double unit = pow(10, floor(log10(high - low)));
    static const double parts[] = {5, 2, 1, 0.5, 0.2, 0.1, 0.05};
    double step = unit;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        step = parts[i] * unit;
        if ((high - low) / step >= 5)
            break;
    }
    for (double k = ceil(low / step - 1e-9); k * step <= high * (1 + 1e-12) && n < room; k++)
        at[n++] = k * step;
    return n;
}
