/* What people ask of a scaling study, answered; see answers.h. */
#include "law/answers.h"

#include "law/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct text {
    FILE *to;
    const struct dlm_findings *found;
};

static const char undetermined[] = "not determined by these runs";

enum kind { EXPONENT, RATIO, AMOUNT };

enum { WIDE = 25 }; /* a factor from end to end that says nothing */

/* A number with its interval, in words where it has none or one too wide to say anything: of an exponent wider than twice itself
 * or at a bound of the fit. The best fit alone is told unless it is a ratio that nobody would believe. False: not determined. */
static bool put_value(const struct text *r, const struct dlm_prediction *p, enum kind kind, const char *format)
{
    char v[32], lo[32], hi[32];
    const bool known = isfinite(p->value) && isfinite(p->lo) && isfinite(p->hi);
    const bool wide = known && (kind == EXPONENT ? p->hi - p->lo > 2 * fabs(p->value) || p->lo <= 1.01e-4 || p->hi >= 9.9
                                                 : p->value > 0 && p->lo > 0 && p->hi / p->lo > WIDE);
    snprintf(v, sizeof v, format, p->value);
    snprintf(lo, sizeof lo, wide ? "%.3g" : format, p->lo);
    snprintf(hi, sizeof hi, wide ? "%.3g" : format, p->hi);
    if (known && !wide)
        fprintf(r->to, "%s [%s, %s]", v, lo, hi);
    else if (wide)
        fprintf(r->to, "%s (%s to %s)", undetermined, lo, hi);
    else if (isfinite(p->value) && (kind != RATIO || fabs(log(p->value)) < log(WIDE)))
        fprintf(r->to, "%s (best fit %s, no interval)", undetermined, v);
    else
        fputs(undetermined, r->to);
    return known && !wide;
}

static bool term(const struct dlm_laws *l, const char *law, const char *group, const char *name, const char *y, const char *x,
                 struct dlm_prediction *p)
{
    const struct dlm_law_row *row = dlm_laws_find(l, law, group, name, y, x);
    *p = row ? (struct dlm_prediction){row->value, row->lo, row->hi} : (struct dlm_prediction){NAN, NAN, NAN};
    return row != NULL;
}

static bool is_ar(const char *group)
{
    const char *end = strrchr(group, '/');
    return !strcmp(group, "ar") || (end && !strcmp(end + 1, "ar"));
}

static bool begins(const char *group, const char *noise)
{
    size_t n = strlen(noise);
    return !strncmp(group, noise, n) && (!group[n] || group[n] == '/');
}

/* The group that others are compared with: masked diffusion, else the first that is not autoregressive. */
static const char *reference(const struct text *r)
{
    const struct dlm_study *s = r->found->study;
    for (size_t g = 0; g < s->n; g++)
        if (begins(s->groups[g].name, "masked"))
            return s->groups[g].name;
    for (size_t g = 0; g < s->n; g++)
        if (!is_ar(s->groups[g].name))
            return s->groups[g].name;
    return s->n ? s->groups[0].name : "";
}

static void put_heading(const struct text *r, const char *title, const char *from)
{
    fprintf(r->to, "\n%s\n", title);
    if (from)
        fprintf(r->to, "  (from %s)\n", from);
}

static void put_term(const struct text *r, const struct dlm_laws *l, const char *law, const char *group, const char *name,
                     const char *y, const char *x, const char *what)
{
    struct dlm_prediction p;
    term(l, law, group, name, y, x, &p);
    fprintf(r->to, "  %-24s %-34s ", group, what);
    put_value(r, &p, EXPONENT, "%.4f");
    fputc('\n', r->to);
}

static void answer_steepness(const struct text *r)
{
    put_heading(r, "1. How steep does each noise type's loss fall, with compute and with data?",
                "loss-compute.tsv, loss-tokens.tsv, sizes.tsv");
    for (size_t g = 0; g < r->found->study->n; g++) {
        const char *group = r->found->study->groups[g].name;
        struct dlm_prediction k;
        put_term(r, &r->found->loss, "loss", group, "beta", NULL, "flops", "beta of L = A C^-beta + B:");
        put_term(r, &r->found->by_tokens, "loss", group, "beta", NULL, "tokens", "beta of L = A D^-beta + B:");
        term(&r->found->sizes, "power", group, "k", "loss", "flops", &k);
        k = (struct dlm_prediction){-k.value, -k.hi, -k.lo};
        fprintf(r->to, "  %-24s %-34s ", group, "k of L* = A C^-k, within the data:");
        put_value(r, &k, EXPONENT, "%.4f");
        fputc('\n', r->to);
    }
}

static void put_ratio(const struct text *r, const struct dlm_prediction *ratio)
{
    if (put_value(r, ratio, RATIO, "%.4f"))
        fputs(ratio->lo > 1 ? "  more" : ratio->hi < 1 ? "  less" : "  (no difference is seen)", r->to);
    fputc('\n', r->to);
}

static void put_comparison(const struct text *r, const struct dlm_laws *l, const char *law, const char *y, const char *a,
                           const char *b, const char *what)
{
    struct dlm_prediction pa, pb, ratio = {NAN, NAN, NAN};
    double c = dlm_compare_compute(l, law, y, a, b);
    if (dlm_compare_at(l, law, a, y, c, &pa) && dlm_compare_at(l, law, b, y, c, &pb))
        ratio = dlm_compare_ratio(&pa, &pb);
    fprintf(r->to, "  %s over %s, %s", a, b, what);
    if (c > 0)
        fprintf(r->to, " at C = %.2e", c);
    fputs(": ", r->to);
    put_ratio(r, &ratio);
}

static void put_equal_loss(const struct text *r, const char *a, const char *b)
{
    struct dlm_equal_loss e;
    if (!dlm_compare_equal_loss(&r->found->surface, &r->found->sizes, a, b, &e)) {
        fprintf(r->to, "  %s over %s, compute and tokens for an equal loss: %s\n", a, b, undetermined);
        return;
    }
    const char *by = e.on_surfaces ? "on the surfaces" : "by the power laws of the optima";
    struct dlm_prediction compute = dlm_compare_ratio(&e.compute[0], &e.compute[1]), tokens = {NAN, NAN, NAN};
    if (e.has_tokens)
        tokens = dlm_compare_ratio(&e.tokens[0], &e.tokens[1]);
    fprintf(r->to, "  %s over %s, for a loss of %.4f %s, compute: ", a, b, e.loss, by);
    put_ratio(r, &compute);
    fprintf(r->to, "  %s over %s, for a loss of %.4f %s, tokens of the best split: ", a, b, e.loss, by);
    put_ratio(r, &tokens);
}

static void answer_sizes(const struct text *r, const char *ref)
{
    const struct dlm_study *s = r->found->study;
    put_heading(r, "2. Which needs more parameters, which more data?", "sizes.tsv");
    for (size_t g = 0; g < s->n; g++) {
        put_term(r, &r->found->sizes, "power", s->groups[g].name, "k", "flops_tok", "flops",
                 "M* (FLOPs per token) grows as C^k:");
        put_term(r, &r->found->sizes, "power", s->groups[g].name, "k", "params", "flops", "P* (parameters) grows as C^k:");
        put_term(r, &r->found->sizes, "power", s->groups[g].name, "k", "tokens", "flops", "D* (tokens) grows as C^k:");
    }
    for (size_t g = 0; g < s->n; g++) {
        const char *group = s->groups[g].name;
        struct dlm_prediction a, b, d = {NAN, NAN, NAN};
        if (!strcmp(group, ref))
            continue;
        if (term(&r->found->sizes, "power", group, "k", "flops_tok", "flops", &a) &&
            term(&r->found->sizes, "power", ref, "k", "flops_tok", "flops", &b))
            d = dlm_compare_difference(&a, &b);
        fprintf(r->to, "  %s less %s, exponent of M*: ", group, ref);
        if (isfinite(d.lo))
            fprintf(r->to, "%+.4f [%+.4f, %+.4f]%s\n", d.value, d.lo, d.hi,
                    d.lo > 0   ? "  more parameters"
                    : d.hi < 0 ? "  more data"
                               : "  (no difference is seen)");
        else
            fprintf(r->to, "%s\n", undetermined);
    }
}

static void answer_tokens(const struct text *r, const char *ref)
{
    const struct dlm_study *s = r->found->study;
    put_heading(r, "3. What tokens does each noise type need for equal loss at equal compute?", "sizes.tsv, surface.tsv");
    if (s->n < 2)
        fprintf(r->to, "  %s: there is one group alone\n", undetermined);
    for (size_t g = 0; g < s->n; g++)
        if (strcmp(s->groups[g].name, ref)) {
            put_comparison(r, &r->found->sizes, "power", "tokens", s->groups[g].name, ref, "tokens of the best split");
            put_comparison(r, &r->found->sizes, "power", "loss", s->groups[g].name, ref, "loss of the best split");
            put_equal_loss(r, s->groups[g].name, ref);
        }
}

static void answer_ar(const struct text *r)
{
    const struct dlm_study *s = r->found->study;
    const char *ar = NULL;
    put_heading(r, "4. How far is the autoregressive baseline?", "loss-compute.tsv, surface.tsv");
    for (size_t g = 0; g < s->n && !ar; g++)
        ar = is_ar(s->groups[g].name) ? s->groups[g].name : NULL;
    if (!ar)
        fprintf(r->to, "  %s: none of them is autoregressive (dlm-train --objective ar)\n", undetermined);
    for (size_t g = 0; g < s->n && ar; g++)
        if (!is_ar(s->groups[g].name)) {
            put_comparison(r, &r->found->loss, "loss", NULL, s->groups[g].name, ar, "loss");
            put_equal_loss(r, s->groups[g].name, ar);
        }
}

static void answer_batch(const struct text *r)
{
    const struct dlm_study *s = r->found->study;
    put_heading(r, "5. Where does batch size leave the linear rule (twice the batch, half the steps)?",
                "critical.tsv, batch-law.tsv");
    for (size_t g = 0; g < s->n; g++) {
        const char *group = s->groups[g].name;
        const struct dlm_law_row *low = dlm_laws_find(&r->found->critical, "power", group, "x_min", "batch_crit", "loss");
        struct dlm_prediction p = {NAN, NAN, NAN};
        if (low && !dlm_laws_predict(&r->found->critical, "power", group, "batch_crit", "loss", low->value, &p))
            p = (struct dlm_prediction){NAN, NAN, NAN};
        fprintf(r->to, "  %s: critical batch", group);
        if (low)
            fprintf(r->to, " at a loss of %.3f", low->value);
        fputs(", tokens per step: ", r->to);
        double most = 0;
        for (size_t i = 0; i < s->groups[g].n; i++)
            most = fmax(most, s->groups[g].runs[i].batch_tok); /* NAN does not count */
        if (put_value(r, &p, AMOUNT, "%.3g") && p.value > most)
            fprintf(r->to, "  (an extrapolation: the largest batch is %.3g)", most);
        fputc('\n', r->to);
        put_term(r, &r->found->batch, "power", group, "k", "batch_tok", "tokens", "the best batch grows as D^k:");
    }
}

static void answer_crossover(const struct text *r)
{
    put_heading(r, "6. Where, in unique tokens, does one noise type overtake another?",
                r->found->has_bound ? "epochs.tsv" : NULL);
    if (!r->found->has_bound || !r->found->bound.n_crossovers)
        fprintf(r->to, "  %s: %s\n", undetermined,
                r->found->study->n < 2 ? "there is one group alone" : "they do not show what repeated tokens are worth");
    for (size_t i = 0; r->found->has_bound && i < r->found->bound.n_crossovers; i++) {
        const struct dlm_crossover *c = &r->found->bound.crossovers[i];
        fprintf(r->to, "  %s and %s: ", c->first->name, c->second->name);
        struct dlm_prediction p = {c->at, c->in.lo, c->in.hi};
        if (isnan(c->at) && c->better && c->determined)
            fprintf(r->to, "no crossing is seen; %s is the better one throughout\n", c->better->name);
        else if (isnan(c->at) && c->better)
            fprintf(r->to, "%s (no crossing is seen, but the resamples differ)\n", undetermined);
        else if (isnan(c->at) || !c->determined)
            fprintf(r->to, "%s\n", undetermined);
        else if (p.hi > 25 * p.lo)
            fprintf(r->to, "%s is better first, but up to where is not determined: %.3g to %.3g unique tokens\n", c->first->name,
                    p.lo, p.hi);
        else {
            fprintf(r->to, "%s is better below ", c->first->name);
            put_value(r, &p, AMOUNT, "%.3g");
            fputs(" unique tokens\n", r->to);
        }
    }
}

/* FLOPs per joule: the geometric mean over runs, with Student's interval of that mean. */
static void answer_joules(const struct text *r)
{
    const struct dlm_study *s = r->found->study;
    bool any = false;
    put_heading(r, "7. What does a joule buy?", "the column joules, sizes.tsv");
    for (size_t g = 0; g < s->n; g++) {
        double sum = 0, square = 0;
        size_t n = 0;
        for (size_t i = 0; i < s->groups[g].n; i++) {
            const struct dlm_run *run = &s->groups[g].runs[i];
            const struct dlm_point *p = &run->points[run->n - 1];
            if (p->joules > 0) {
                double v = log(p->x / p->joules);
                sum += v;
                square += v * v;
                n++;
            }
        }
        if (!n)
            continue;
        any = true;
        const double mean = sum / (double)n, se = sqrt(fmax(square - sum * mean, 0) / (double)(n - 1) / (double)n);
        const double half = n > 1 ? dlm_student_quantile(0.5 * (1 + r->found->level), n - 1) * se : NAN;
        struct dlm_prediction p = {exp(mean), exp(mean - half), exp(mean + half)}, k;
        fprintf(r->to, "  %s: FLOPs per joule, mean of %zu runs: ", s->groups[g].name, n);
        put_value(r, &p, AMOUNT, "%.4g");
        term(&r->found->sizes, "power", s->groups[g].name, "k", "loss", "flops", &k);
        struct dlm_prediction twice = {pow(2, k.value), pow(2, k.lo), pow(2, k.hi)};
        fputs("\n    the loss after twice the energy, well spent, over that before: ", r->to);
        put_value(r, &twice, RATIO, "%.4f");
        fputc('\n', r->to);
    }
    if (!any)
        fprintf(r->to, "  %s: no row has joules\n", undetermined);
}

static void answer_annealing(const struct text *r)
{
    static const struct {
        int axis;
        const char *name;
    } optima[] = {{DLM_ANNEALING_SIZE, "size"}, {DLM_ANNEALING_BATCH, "batch"}, {DLM_ANNEALING_LR, "learning rate"}};
    if (!r->found->with_annealed)
        return;
    put_heading(r, "8. What does annealing do?", "annealing.tsv");
    if (!r->found->annealing.n)
        fprintf(r->to, "  %s: no annealed run has a partner at a constant rate\n", undetermined);
    for (size_t i = 0; i < r->found->annealing.n; i++) {
        const struct dlm_annealing_row *row = &r->found->annealing.rows[i];
        struct dlm_prediction p = {row->factor, row->in.lo, row->in.hi};
        fprintf(r->to, "  %s: it multiplies the loss of %zu runs by ", row->name, row->pairs);
        put_value(r, &p, RATIO, "%.5f");
        for (size_t k = 0; k < sizeof optima / sizeof *optima; k++) {
            const double slope = row->slope[optima[k].axis];
            const struct dlm_interval in = row->slope_in[optima[k].axis];
            fprintf(r->to, "\n    does it move the best %s? ", optima[k].name);
            if (isnan(slope) || isnan(in.lo))
                fputs(undetermined, r->to);
            else
                fprintf(r->to, "%s: slope of the factor %+.2g [%+.2g, %+.2g]",
                        in.lo <= 0 && in.hi >= 0 ? "not as far as these runs tell"
                        : slope < 0              ? "up"
                                                 : "down",
                        slope, in.lo, in.hi);
        }
        fputc('\n', r->to);
    }
}

void dlm_answers_write(const struct dlm_findings *found, FILE *f)
{
    const struct text text = {f, found}, *r = &text;
    const char *ref = reference(r);
    answer_steepness(r);
    answer_sizes(r, ref);
    answer_tokens(r, ref);
    answer_ar(r);
    answer_batch(r);
    answer_crossover(r);
    answer_joules(r);
    answer_annealing(r);
}
