/* Limited unique tokens; see databound.h. */
#include "law/databound.h"

#include "law/columns.h"
#include "law/fit.h"
#include "law/predict.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define R_DIFFUSION      493.89 /* arXiv 2507.15857 */
#define R_AUTOREGRESSIVE 31.19

const char *const dlm_databound_names[DLM_BY_ESTIMATES] = {"surface", "loss-law", "frontier"};

static bool epochs_law(const struct dlm_laws *l, const char *group, enum dlm_epochs_form form, struct dlm_databound *d)
{
    const char *law = form == DLM_EPOCHS_SATURATING ? "epochs.saturating" : "epochs.stretched";
    for (int i = 0; i < dlm_epochs_count(form); i++) {
        const struct dlm_law_row *r = dlm_laws_find(l, law, group, dlm_epochs_terms[i], NULL, NULL);
        if (!r)
            return false;
        d->value[i] = r->value;
    }
    d->form = form;
    d->params = true;
    snprintf(d->assumes, sizeof d->assumes, "the group's own law %s", law);
    return true;
}

bool dlm_databound_of(const struct dlm_laws *l, const char *group, const char *noise, double flops, struct dlm_databound *d)
{
    *d = (struct dlm_databound){.form = DLM_EPOCHS_SATURATING, .per = 1};
    if (!epochs_law(l, group, DLM_EPOCHS_SATURATING, d)) {
        const bool ar = !strcmp(noise, "none");
        if (dlm_predict_surface(l, group, false, d->value, NULL) || (d->params = dlm_predict_surface(l, group, true, d->value, NULL))) {
            d->borrowed = true;
            d->value[5] = ar ? R_AUTOREGRESSIVE : R_DIFFUSION;
            snprintf(d->assumes, sizeof d->assumes, "R = %g of arXiv 2507.15857 (%s) in the group's surface", d->value[5],
                     ar ? "autoregressive" : !strcmp(noise, "masked") ? "masked diffusion" : "masked diffusion, assumed for this noise");
        } else if (!epochs_law(l, group, DLM_EPOCHS_STRETCHED, d)) {
            return false;
        }
    }
    if (d->params) {
        struct dlm_prediction q[DLM_QUANTITIES];
        struct dlm_notes none = {0};
        struct dlm_error err;
        d->per = 6;
        if (!dlm_predict_by_params(l, group) && !dlm_predict(l, group, flops, q, &none, &err) &&
            q[DLM_Q_SIZE].value / q[DLM_Q_PARAMS].value > 0)
            d->per = q[DLM_Q_SIZE].value / q[DLM_Q_PARAMS].value;
        dlm_notes_release(&none);
    }
    return true;
}

bool dlm_databound_stretched(const struct dlm_laws *l, const char *group, double params, double unique, double tokens, double *loss,
                             double *worth)
{
    struct dlm_databound d = {0};
    if (!epochs_law(l, group, DLM_EPOCHS_STRETCHED, &d))
        return false;
    *worth = dlm_databound_worth(&d, params, unique, tokens);
    *loss = dlm_epochs_loss(DLM_EPOCHS_STRETCHED, d.value, params, unique, tokens);
    return true;
}

double dlm_databound_worth(const struct dlm_databound *d, double params, double unique, double tokens)
{
    return dlm_epochs_worth(d->form, d->value, params, unique, tokens);
}

/* --- the best size --------------------------------------------------------------------------------------------------------------- */

static double loss_at(const struct dlm_databound *d, double log_size, double flops, double unique)
{
    double size = exp(log_size), tokens = flops / (d->per * size);
    return dlm_form_at(&dlm_form_surface, d->value, size, dlm_databound_worth(d, size, unique, tokens));
}

double dlm_databound_size(const struct dlm_databound *d, double flops, double unique, double *loss, double *worth)
{
    /* A grid first: where epochs stretch, the loss may have more than one valley. Then a golden section about its lowest point. */
    enum { GRID = 160 };
    const double golden = (sqrt(5) - 1) / 2, low = log(1e2), high = log(flops / d->per / 1e2), step = (high - low) / GRID;
    int at = 0;
    double least = INFINITY;
    for (int i = 0; i <= GRID; i++) {
        double y = loss_at(d, low + i * step, flops, unique);
        if (y < least) {
            least = y;
            at = i;
        }
    }
    double a = low + (at - 1) * step, b = low + (at + 1) * step;
    double x1 = b - golden * (b - a), x2 = a + golden * (b - a);
    double y1 = loss_at(d, x1, flops, unique), y2 = loss_at(d, x2, flops, unique);
    while (b - a > 1e-7) {
        if (y1 < y2) {
            b = x2;
            x2 = x1;
            y2 = y1;
            y1 = loss_at(d, x1 = b - golden * (b - a), flops, unique);
        } else {
            a = x1;
            x1 = x2;
            y1 = y2;
            y2 = loss_at(d, x2 = a + golden * (b - a), flops, unique);
        }
    }
    double size = exp((a + b) / 2), tokens = flops / (d->per * size);
    if (loss)
        *loss = loss_at(d, (a + b) / 2, flops, unique);
    if (worth)
        *worth = dlm_databound_worth(d, size, unique, tokens);
    return size;
}

/* --- two groups ------------------------------------------------------------------------------------------------------------------ */

struct side {
    const char *group;
    char noise[64];
    double r; /* factor on a borrowed R; 1 but for trying others */
};

static bool has_loss_law(const struct dlm_laws *l, const char *group)
{
    static const char *const laws[] = {"loss", "power"}, *const columns[] = {"loss", "elbo"};
    for (int i = 0; i < 4; i++)
        if (dlm_laws_find(l, laws[i / 2], group, "A", columns[i % 2], "flops"))
            return true;
    return false;
}

/* Half the band of a law, relative to its value; NAN where it has none. */
static double half_band(const struct dlm_laws *l, const char *law, const char *group, const char *x, double at)
{
    struct dlm_prediction p;
    if (!dlm_laws_predict(l, law, group, "loss", x, at, &p) && !dlm_laws_predict(l, law, group, "elbo", x, at, &p))
        return NAN;
    return (p.hi - p.lo) / 2 / p.value;
}

/* The loss of a group by an estimate; NAN where its laws do not speak of it. With `band` also its half-width, relative, NAN where
 * there is none. */
static double estimate(const struct dlm_laws *l, const struct side *s, enum dlm_databound_by by, double flops, double unique,
                       double *band)
{
    struct dlm_databound d;
    struct dlm_prediction q[DLM_QUANTITIES];
    struct dlm_notes none = {0};
    struct dlm_error err;
    double loss = NAN, free_loss, wide = NAN;
    if (by != DLM_BY_SURFACE && !has_loss_law(l, s->group))
        return NAN;
    if (by == DLM_BY_FRONTIER) { /* the compute whose best number of tokens is `unique` */
        const struct dlm_law_row *a = dlm_laws_find(l, "power", s->group, "A", "tokens", "flops"),
                                 *k = dlm_laws_find(l, "power", s->group, "k", "tokens", "flops");
        if (!a || !k)
            return NAN;
        flops = pow(unique / a->value, 1 / k->value);
    } else {
        if (!dlm_databound_of(l, s->group, s->noise, flops, &d))
            return NAN;
        if (d.borrowed)
            d.value[5] *= s->r;
        dlm_databound_size(&d, flops, unique, &loss, NULL);
        wide = half_band(l, "surface", s->group, "flops", flops);
    }
    if (by != DLM_BY_SURFACE) {
        int rc = dlm_predict(l, s->group, flops, q, &none, &err);
        dlm_notes_release(&none);
        if (rc)
            return NAN;
        double factor = 1;
        if (by == DLM_BY_LOSS_LAW && !(q[DLM_Q_TOKENS].value <= unique)) {
            dlm_databound_size(&d, flops, INFINITY, &free_loss, NULL);
            factor = loss / free_loss;
        }
        loss = q[DLM_Q_LOSS].value * factor;
        wide = (q[DLM_Q_LOSS].hi - q[DLM_Q_LOSS].lo) / 2 / q[DLM_Q_LOSS].value;
    }
    if (band) /* a law against unique tokens knows more of their limit */
        *band = fmax(wide, half_band(l, "loss", s->group, "unique_tokens", unique));
    return loss;
}

/* Half a unit of a figure's last printed digit: what its rounding leaves open. */
static double half_unit(double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", fabs(v));
    char *e = strchr(text, 'e'), *dot = strchr(text, '.');
    int decimals = dot ? (int)((e ? e : text + strlen(text)) - dot) - 1 : 0;
    return .5 * pow(10, (e ? atoi(e + 1) : 0) - decimals);
}

struct pair {
    struct dlm_laws *l; /* its values are moved about and put back */
    struct side a, b;
    enum dlm_databound_by by;
    double flops;
};

static double difference(const struct pair *p, double unique)
{
    return estimate(p->l, &p->a, p->by, p->flops, unique, NULL) - estimate(p->l, &p->b, p->by, p->flops, unique, NULL);
}

/* How far the difference may be off: by the bands of the two losses, where both have them, else by the most that the printed
 * digits of all terms together can do; and by a borrowed R that is half or twice as large. NAN where there is nothing to go by. */
static double width(struct pair *p, double unique, bool *bands)
{
    double band_a = NAN, band_b = NAN, at = difference(p, unique), sum;
    double loss_a = estimate(p->l, &p->a, p->by, p->flops, unique, &band_a);
    double loss_b = estimate(p->l, &p->b, p->by, p->flops, unique, &band_b);
    *bands = !isnan(band_a) && !isnan(band_b);
    sum = *bands ? loss_a * band_a + loss_b * band_b : 0;
    for (size_t i = 0; i < p->l->n && !*bands; i++) {
        struct dlm_law_row *r = &p->l->at[i];
        if ((strcmp(r->group, p->a.group) && strcmp(r->group, p->b.group)) || strstr(r->law, ".band") || strstr(r->term, "_m") ||
            (strcmp(r->y, "loss") && strcmp(r->y, "elbo") && strcmp(r->y, "tokens")))
            continue;
        double value = r->value, unit = half_unit(value), most = 0;
        if (!(unit > 1e-8 * fabs(value)) || value == 0)
            continue;
        for (int sign = -1; sign < 2; sign += 2) {
            r->value = value + sign * unit;
            most = fmax(most, fabs(difference(p, unique) - at));
        }
        r->value = value;
        sum += most;
    }
    for (int i = 0; i < 2; i++) {
        struct side *s = i ? &p->b : &p->a;
        double most = 0;
        for (s->r = .5; s->r < 3; s->r *= 4)
            most = fmax(most, fabs(difference(p, unique) - at));
        s->r = 1;
        sum += most;
    }
    /* fitted laws are written with all their digits: beyond their bands these say nothing of how far off they are */
    return *bands || sum > 1e-5 * fabs(loss_a) ? sum : NAN;
}

/* Where the sign of the difference changes, looked for between the ends; the change nearest to `unique`. Its interval reaches as
 * far as the difference's holds 0. */
static void cross(struct pair *p, struct dlm_contest *c)
{
    enum { STEPS = 48 };
    const double low = log(c->seen_lo), step = log(c->seen_hi / c->seen_lo) / STEPS;
    double y[STEPS + 1], nearest = INFINITY;
    int at = -1;
    bool bands;
    c->crossover = c->cross_lo = c->cross_hi = NAN;
    for (int i = 0; i <= STEPS; i++)
        y[i] = difference(p, exp(low + i * step));
    for (int i = 0; i < STEPS; i++)
        if (y[i] * y[i + 1] < 0 && fabs(low + (i + .5) * step - log(c->unique)) < nearest) {
            nearest = fabs(low + (i + .5) * step - log(c->unique));
            at = i;
        }
    if (at < 0)
        return;
    double a = low + at * step, b = a + step;
    for (int i = 0; i < 40; i++) {
        double mid = (a + b) / 2;
        if (difference(p, exp(mid)) * y[at] > 0)
            a = mid;
        else
            b = mid;
    }
    c->crossover = exp((a + b) / 2);
    int i = at, j = at + 1;
    while (i >= 0 && !(fabs(y[i]) >= width(p, exp(low + i * step), &bands)))
        i--;
    while (j <= STEPS && !(fabs(y[j]) >= width(p, exp(low + j * step), &bands)))
        j++;
    c->cross_lo = i < 0 ? NAN : exp(low + i * step);
    c->cross_hi = j > STEPS ? NAN : exp(low + j * step);
}

/* Groups that differ in their noise and objective alone, so that their losses mean the same. */
static bool comparable(const struct dlm_law_row *a, const struct dlm_law_row *b)
{
    const char *by = a->by, *x = a->group, *y = b->group;
    if (strcmp(a->by, b->by))
        return false;
    for (;;) {
        size_t n = strcspn(by, ","), p = strcspn(x, "/"), q = strcspn(y, "/");
        bool free_part = (n == 5 && !memcmp(by, "noise", 5)) || (n == 9 && !memcmp(by, "objective", 9));
        if (!free_part && (p != q || memcmp(x, y, p)))
            return false;
        if (!by[n] || !x[p] || !y[q])
            return true;
        by += n + 1;
        x += p + 1;
        y += q + 1;
    }
}

static const char *better(const struct dlm_contest *c)
{
    return c->difference < 0 ? c->a : c->b;
}

static void limit_text(char to[32], double v)
{
    snprintf(to, 32, "open");
    if (!isnan(v))
        snprintf(to, 32, "%.2g", v);
}

static int tell_crossover(const struct dlm_contest *c, struct dlm_notes *notes, struct dlm_error *err)
{
    char low[32], high[32], where[96] = "each at its own best compute, one pass";
    if (c->by != DLM_BY_FRONTIER)
        snprintf(where, sizeof where, "at %.3g FLOPs, by the %s", c->flops, c->by == DLM_BY_SURFACE ? "surfaces" : "loss laws");
    if (isnan(c->crossover))
        return dlm_notes_add(notes, err, "%s or %s, %s: no crossover between %.2g and %.2g unique tokens", c->a, c->b, where,
                             c->seen_lo, c->seen_hi);
    limit_text(low, c->cross_lo);
    limit_text(high, c->cross_hi);
    return dlm_notes_add(notes, err, "%s or %s, %s: they cross at %.2g unique tokens (%s to %s%s)", c->a, c->b, where, c->crossover,
                         low, high, c->bands || isnan(c->lo) ? "" : " by the printed digits alone");
}

/* Who is better at the budget, by the estimates that speak of it, and how sure that is. */
static int tell(const struct dlm_contest *c, size_t n, struct dlm_notes *notes, struct dlm_error *err)
{
    char text[400] = "";
    size_t at = 0, m = 0;
    double lo = INFINITY, hi = -INFINITY;
    bool agree = true, bands = true, open = false;
    for (size_t i = 0; i < n; i++) {
        agree &= better(&c[i]) == better(&c[0]);
        bands &= c[i].bands;
        open |= isnan(c[i].lo);
        lo = fmin(lo, c[i].lo);
        hi = fmax(hi, c[i].hi);
        if (at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s by %.2g (%s)", m++ ? ", " : "", better(&c[i]),
                                   fabs(c[i].difference), dlm_databound_names[c[i].by]);
    }
    char spread[96] = "no law has an interval there";
    if (!open)
        snprintf(spread, sizeof spread, "the difference is within [%.2g, %.2g] by %s", lo, hi,
                 bands ? "the bands of the laws" : "the printed digits alone");
    const char *sure = !agree             ? "the estimates disagree, so it is not determined"
                       : open             ? "how sure that is is not determined"
                       : lo < 0 && hi > 0 ? "that interval holds 0, so it is not determined"
                       : bands            ? "determined by these laws"
                                          : "the scatter of the runs is not published, so how sure that is is not determined";
    int rc = dlm_notes_add(notes, err, "%s or %s at %.3g FLOPs on %.3g unique tokens: lower loss in nats: %s; %s; %s", c->a, c->b,
                           c->flops, c->unique, text, spread, sure);
    for (size_t i = 0; i < n && !rc; i++)
        rc = tell_crossover(&c[i], notes, err);
    return rc;
}

int dlm_databound_tell(const struct dlm_contests *c, struct dlm_notes *notes, struct dlm_error *err)
{
    int rc = 0;
    bool any = false, paired = false; /* paired: the pair before has estimates at a budget, so its frontier is of interest */
    for (size_t i = 0, n; i < c->n && !rc; i += n) {
        const struct dlm_contest *r = &c->at[i];
        paired &= i && r[-1].a == r->a && r[-1].b == r->b;
        n = 1;
        if (r->by == DLM_BY_FRONTIER) {
            if (paired)
                rc = tell_crossover(r, notes, err);
            continue;
        }
        while (i + n < c->n && r[n].a == r->a && r[n].b == r->b && r[n].by != DLM_BY_FRONTIER && r[n].flops == r->flops)
            n++;
        any = paired = true;
        rc = tell(r, n, notes, err);
    }
    if (rc || any)
        return rc;
    return dlm_notes_add(notes, err, "which noise type is better on that many unique tokens is not determined: it takes two groups of "
                         "one study with surfaces or multi-epoch laws");
}

/* The estimates at a budget; the frontier, which knows no budget, where flops is NAN. */
static int compare(struct dlm_laws *l, const struct dlm_law_row *a, const struct dlm_law_row *b, double flops, double unique,
                   struct dlm_contests *out, struct dlm_error *err)
{
    struct pair p = {.l = l, .a = {.group = a->group, .r = 1}, .b = {.group = b->group, .r = 1}, .flops = flops};
    struct dlm_databound da, db;
    dlm_predict_noise(a, p.a.noise, sizeof p.a.noise);
    dlm_predict_noise(b, p.b.noise, sizeof p.b.noise);
    for (int by = 0; by < DLM_BY_ESTIMATES; by++) {
        double loss_a, loss_b;
        bool bands;
        p.by = (enum dlm_databound_by)by;
        if (isnan(flops) != (p.by == DLM_BY_FRONTIER))
            continue;
        loss_a = estimate(l, &p.a, p.by, flops, unique, NULL);
        loss_b = estimate(l, &p.b, p.by, flops, unique, NULL);
        if (!isfinite(loss_a) || !isfinite(loss_b))
            continue;
        struct dlm_contest *more = realloc(out->at, (out->n + 1) * sizeof *more);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        out->at = more;
        struct dlm_contest *c = &out->at[out->n++];
        double w = width(&p, unique, &bands);
        *c = (struct dlm_contest){.a = a->group,
                                  .b = b->group,
                                  .by = p.by,
                                  .flops = flops,
                                  .unique = unique,
                                  .loss_a = loss_a,
                                  .loss_b = loss_b,
                                  .difference = loss_a - loss_b,
                                  .lo = loss_a - loss_b - w,
                                  .hi = loss_a - loss_b + w,
                                  .bands = bands,
                                  .seen_lo = fmin(1e6, unique / 10),
                                  .seen_hi = fmax(1e13, unique * 10)};
        if (p.by == DLM_BY_FRONTIER) {
            snprintf(c->assumes, sizeof c->assumes, "one pass over the tokens, each type at its own best compute");
        } else if (dlm_databound_of(l, a->group, p.a.noise, flops, &da) && dlm_databound_of(l, b->group, p.b.noise, flops, &db)) {
            bool same = !strcmp(da.assumes, db.assumes);
            snprintf(c->assumes, sizeof c->assumes, "%.120s%s%.120s", da.assumes, same ? "" : "; ", same ? "" : db.assumes);
        }
        cross(&p, c);
    }
    return 0;
}

static int copy(const struct dlm_laws *from, struct dlm_laws *to, struct dlm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < from->n && !rc; i++)
        rc = dlm_laws_add(to, &from->at[i], err);
    return rc;
}

int dlm_databound_compare(const struct dlm_laws *l, const double *flops, size_t n, double unique, const char *only,
                          struct dlm_contests *out, struct dlm_error *err)
{
    const struct dlm_law_row *a, *b;
    struct dlm_laws own = {0};
    int rc = copy(l, &own, err);
    *out = (struct dlm_contests){0};
    for (size_t i = 0; !rc && (a = dlm_predict_next(&own, &i));)
        for (size_t j = i; !rc && (b = dlm_predict_next(&own, &j));) {
            char na[64], nb[64];
            dlm_predict_noise(a, na, sizeof na);
            dlm_predict_noise(b, nb, sizeof nb);
            bool wanted = !only || !strcmp(only, na) || !strcmp(only, nb) || !strcmp(only, a->group) || !strcmp(only, b->group);
            for (size_t k = 0; k <= n && wanted && comparable(a, b) && !rc; k++)
                rc = compare(&own, a, b, k < n ? flops[k] : NAN, unique, out, err);
        }
    for (size_t i = 0; i < out->n && !rc; i++) { /* names that live as long as the caller's laws */
        struct dlm_contest *c = &out->at[i];
        const char *name_a = NULL, *name_b = NULL;
        for (size_t j = 0; j < own.n; j++) {
            name_a = name_a || c->a != own.at[j].group ? name_a : l->at[j].group;
            name_b = name_b || c->b != own.at[j].group ? name_b : l->at[j].group;
        }
        c->a = name_a;
        c->b = name_b;
    }
    dlm_laws_release(&own);
    if (rc)
        dlm_databound_release(out);
    return rc;
}

int dlm_databound_write(const struct dlm_contests *c, FILE *f, const char *name, struct dlm_error *err)
{
    errno = 0;
    fputs("first\tsecond\testimate\tflops\tunique_tokens\tloss_first\tloss_second\tdifference\tdifference_lo\tdifference_hi\t"
          "interval\tbetter\tcrossover\tcrossover_lo\tcrossover_hi\tassumes\n",
          f);
    for (size_t i = 0; i < c->n; i++) {
        const struct dlm_contest *r = &c->at[i];
        fprintf(f, "%s\t%s\t%s", r->a, r->b, dlm_databound_names[r->by]);
        dlm_columns_number(f, r->flops, 9);
        dlm_columns_number(f, r->unique, 9);
        dlm_columns_number(f, r->loss_a, 7);
        dlm_columns_number(f, r->loss_b, 7);
        dlm_columns_number(f, r->difference, 4);
        dlm_columns_number(f, r->lo, 4);
        dlm_columns_number(f, r->hi, 4);
        fprintf(f, "\t%s\t%s", isnan(r->lo) ? "NA" : r->bands ? "bands" : "digits", r->lo > 0 || r->hi < 0 ? better(r) : "NA");
        dlm_columns_number(f, r->crossover, 4);
        dlm_columns_number(f, r->cross_lo, 3);
        dlm_columns_number(f, r->cross_hi, 3);
        fprintf(f, "\t%s\n", r->assumes);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}

void dlm_databound_release(struct dlm_contests *c)
{
    free(c->at);
    *c = (struct dlm_contests){0};
}
