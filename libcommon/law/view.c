/* What a drawing of loss laws shows; see view.h. */
#include "law/view.h"

#include <math.h>
#include <string.h>

static const struct dlm_law_row *term(const struct dlm_view *v, size_t g, const char *name)
{
    return dlm_laws_find(v->laws, "loss", v->study->groups[g].name, name, NULL, v->x);
}

bool dlm_view_law(const struct dlm_view *v, size_t g, double x, struct dlm_prediction *out, bool *inside)
{
    const struct dlm_law_row *low = term(v, g, "x_min"), *high = term(v, g, "x_max"), *b = term(v, g, "B");
    *inside = low && high && x >= low->value * (1 - 1e-9) && x <= high->value * (1 + 1e-9);
    return b && dlm_laws_predict(v->laws, "loss", v->study->groups[g].name, b->y, v->x, x, out) && isfinite(out->value);
}

/* The window follows the laws: from a little before the range they were fitted on to ten times beyond it, and as high as the
 * curves there need; the beginning of training, far above, would leave no room for what matters. */
int dlm_view_init(struct dlm_view *v, const struct dlm_study *s, const struct dlm_laws *l, const char *x, struct dlm_error *err)
{
    *v = (struct dlm_view){s, l, x, INFINITY, 0, INFINITY, 0};
    bool any = false, inside;
    struct dlm_prediction p;
    for (size_t g = 0; g < s->n; g++) {
        const struct dlm_law_row *low = term(v, g, "x_min"), *high = term(v, g, "x_max");
        if (!low || !high || !(low->value > 0) || !(high->value >= low->value) || !dlm_view_law(v, g, low->value, &p, &inside))
            continue;
        any = true;
        v->x0 = fmin(v->x0, low->value / 3);
        v->x1 = fmax(v->x1, high->value * 10);
        v->y1 = fmax(v->y1, p.value * 1.2);
        if (dlm_view_law(v, g, high->value * 10, &p, &inside))
            v->y0 = fmin(v->y0, (p.lo > 0.8 * p.value ? p.lo : p.value) * 0.98);
    }
    if (!any)
        return dlm_fail(err, DLM_EDATA, "no loss law against %s for any of these groups", x);
    for (size_t i = 0; i < s->n_points; i++)
        if (s->points[i].x >= v->x0)
            v->y0 = fmin(v->y0, s->points[i].y * 0.98);
    if (!(v->y1 > v->y0 * 1.01))
        v->y1 = v->y0 * 1.01;
    return 0;
}

void dlm_view_caption(const struct dlm_view *v, size_t g, char *to, size_t size)
{
    const struct dlm_law_row *a = term(v, g, "A"), *beta = term(v, g, "beta"), *b = term(v, g, "B");
    int n = snprintf(to, size, "%s", v->study->groups[g].name);
    if (n < 0 || (size_t)n >= size || !a || !beta || !b)
        return;
    n += snprintf(to + n, size - (size_t)n, ": L = %.3g + %.3g %s^-%.3g", b->value, a->value, strcmp(v->x, "tokens") ? "C" : "D",
                  beta->value);
    if ((size_t)n < size && !isnan(beta->lo))
        snprintf(to + n, size - (size_t)n, "  [%.3g, %.3g]", beta->lo, beta->hi);
}
