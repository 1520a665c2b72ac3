/* The arithmetic of the noise types, method.md §1, and the weights of §3. Not the draws (example.c, the corrupt kernel) and
 * not the loss (bound.c, the diffusion_loss kernel).
 *
 * Every quantity that can be near 0 is computed as itself, never as 1 minus its complement: 1-α is σ(-λ), 1-ρ is σ(-(aλ+b)),
 * and the weight is written with the factor ρ/(V-1) divided out:
 *
 *     z = m:        w = 1 + aρ
 *     z ≠ m, z ≠ x: w = (1-a) + aρ                                       (1 for mix:R)
 *     z = x:        w = π·((1-a) + aρ) / (π + e^λ),  π = ρ/(V-1)         (a = 0 for mix:R)
 *
 * so that masked noise (ρ = 0 exactly, as σ(-1000) underflows) has weight exactly 0 at z = x. A z that q(·|x) cannot produce
 * weighs 0.
 */
#include "diffuse/noise.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_MAX 1e3
#define ELBO_WEIGHT_MAX 1e6
/* Beyond this shift ρ is 0 or 1 to 1e-3 for every λ in range: where a curriculum's movement begins and ends. */
#define CURRICULUM_SHIFT_MAX 16.0

static const struct {
    const char *name;
    double shift;
} named[] = {{"masked", -1000}, {"low-uniform", -2}, {"balanced", 0}, {"high-uniform", 2}, {"uniform", 1000}};

static double logistic(double x)
{
    double e = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

/* aλ + b; a level of +∞ (clean) leaves a type of slope 0 where it is. */
static double rho_logit(const struct dlm_noise *n, double log_snr)
{
    return n->slope == 0 ? n->shift : n->slope * log_snr + n->shift;
}

/* --- spelling --------------------------------------------------------------------------------------------------------------- */

int dlm_noise_parse(struct dlm_noise *out, const char *text, struct dlm_error *err)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (!strcmp(text, named[i].name)) {
            *out = (struct dlm_noise){.shift = named[i].shift, .slope = 1};
            return 0;
        }
    if (!strncmp(text, "mix:", 4)) {
        double share;
        if (!dlm_number_field(text + 4, strlen(text + 4), &share) || share < 0 || share > 1)
            return dlm_fail(err, DLM_EUSAGE, "noise '%s': the share of uniform noise is a number from 0 to 1", text);
        *out = (struct dlm_noise){.mix = true, .share = share + 0.0, .slope = 0};
        return 0;
    }
    if (!strncmp(text, "shift:", 6)) {
        const char *b = text + 6, *comma = strchr(b, ',');
        double shift, slope = 1;
        if (!dlm_number_field(b, comma ? (size_t)(comma - b) : strlen(b), &shift) ||
            (comma && !dlm_number_field(comma + 1, strlen(comma + 1), &slope)))
            return dlm_fail(err, DLM_EUSAGE, "noise '%s': wanted shift:B or shift:B,A with numbers B and A", text);
        if (fabs(slope) > 1)
            return dlm_fail(err, DLM_EUSAGE, "noise '%s': the slope A lies in -1 to 1, for beyond it weights turn negative", text);
        *out = (struct dlm_noise){.shift = shift + 0.0, .slope = slope + 0.0}; /* + 0.0: no negative zero */
        return 0;
    }
    return dlm_fail(err, DLM_EUSAGE, "unknown noise '%s' (masked, low-uniform, balanced, high-uniform, uniform, shift:B[,A] or mix:R)", text);
}

/* The shortest of %.15g, %.16g, %.17g that reads back equal. */
static void print_real(char *to, size_t size, double v)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(to, size, "%.*g", digits, v);
        if (strtod(to, NULL) == v)
            return;
    }
}

void dlm_noise_print(const struct dlm_noise *n, char *to, unsigned size)
{
    char b[32], a[32];
    if (n->mix) {
        print_real(b, sizeof b, n->share);
        snprintf(to, size, "mix:%s", b);
        return;
    }
    for (size_t i = 0; n->slope == 1 && i < sizeof named / sizeof *named; i++)
        if (n->shift == named[i].shift) {
            snprintf(to, size, "%s", named[i].name);
            return;
        }
    print_real(b, sizeof b, n->shift);
    print_real(a, sizeof a, n->slope);
    if (n->slope == 1)
        snprintf(to, size, "shift:%s", b);
    else
        snprintf(to, size, "shift:%s,%s", b, a);
}

/* --- the process ------------------------------------------------------------------------------------------------------------ */

double dlm_noise_alpha(double log_snr)
{
    return logistic(log_snr);
}

double dlm_noise_rho(const struct dlm_noise *n, double log_snr)
{
    return n->mix ? n->share : logistic(rho_logit(n, log_snr));
}

/* 1 - ρ with its own digits. */
static double mask_share(const struct dlm_noise *n, double log_snr)
{
    return n->mix ? 1 - n->share : logistic(-rho_logit(n, log_snr));
}

/* a, which is 0 for a share that does not move. */
static double slope_of(const struct dlm_noise *n)
{
    return n->mix ? 0 : n->slope;
}

double dlm_noise_drho(const struct dlm_noise *n, double log_snr)
{
    return slope_of(n) * dlm_noise_rho(n, log_snr) * mask_share(n, log_snr);
}

double dlm_noise_pi(const struct dlm_noise *n, double log_snr, bool is_mask, uint32_t V)
{
    return is_mask ? mask_share(n, log_snr) : dlm_noise_rho(n, log_snr) / (V - 1.0);
}

double dlm_noise_dpi(const struct dlm_noise *n, double log_snr, bool is_mask, uint32_t V)
{
    double d = dlm_noise_drho(n, log_snr);
    return is_mask ? -d : d / (V - 1.0);
}

/* σ(x) and σ(-x), from one exponential. */
static void logistic_pair(double x, double *plus, double *minus)
{
    double e = fabs(x) >= 746 ? 0 : exp(-fabs(x)), large = 1 / (1 + e), small = e / (1 + e); /* beyond that it underflows, slowly */
    *plus = x >= 0 ? large : small;
    *minus = x > 0 ? small : large;
}

struct dlm_shares dlm_noise_shares(const struct dlm_noise *n, double log_snr)
{
    struct dlm_shares s = {.log_snr = log_snr, .rho = n->share, .rest = 1 - n->share};
    logistic_pair(log_snr, &s.alpha, &s.beta);
    if (!n->mix)
        logistic_pair(rho_logit(n, log_snr), &s.rho, &s.rest);
    return s;
}

void dlm_shares_thresholds(const struct dlm_shares *s, uint64_t *keep, uint64_t *uniform)
{
    *keep = (uint64_t)(s->alpha * 0x1p32);
    *uniform = (uint64_t)(s->rho * 0x1p32);
}

void dlm_noise_thresholds(const struct dlm_noise *n, double log_snr, uint64_t *keep, uint64_t *uniform)
{
    struct dlm_shares s = dlm_noise_shares(n, log_snr);
    dlm_shares_thresholds(&s, keep, uniform);
}

static double at_most(double v, double most)
{
    return v < most ? v : most;
}

struct dlm_token_noise dlm_shares_token(const struct dlm_noise *n, const struct dlm_shares *s, enum dlm_became became, uint32_t V)
{
    double p = s->alpha * s->beta, rho = s->rho, a = slope_of(n), pi = rho / (V - 1.0), w;
    if (became == DLM_BECAME_MASK)
        w = s->rest > 0 ? 1 + a * rho : 0;
    else if (became == DLM_BECAME_OTHER)
        w = rho > 0 ? (1 - a) + a * rho : 0;
    else
        w = pi > 0 ? pi * ((1 - a) + a * rho) / (pi + exp(s->log_snr)) : 0;
    struct dlm_token_noise t = {.alpha = s->alpha, .c = s->beta * pi, .weight = at_most(w, WEIGHT_MAX)};
    t.elbo_weight = w > 0 ? at_most(w / p, ELBO_WEIGHT_MAX) : 0;
    return t;
}

struct dlm_token_noise dlm_noise_token(const struct dlm_noise *n, double log_snr, uint32_t x, uint32_t z, uint32_t mask, uint32_t V)
{
    struct dlm_shares s = dlm_noise_shares(n, log_snr);
    return dlm_shares_token(n, &s, dlm_became(x, z, mask), V);
}

/* --- curriculum ------------------------------------------------------------------------------------------------------------- */

int dlm_curriculum_parse(struct dlm_curriculum *out, const char *text, struct dlm_error *err)
{
    const char *dots = strstr(text, ".."), *arrow = strchr(text, '>'), *by = dots && (!arrow || dots < arrow) ? dots : arrow;
    if (!by) {
        struct dlm_noise n;
        int rc = dlm_noise_parse(&n, text, err);
        if (!rc)
            *out = (struct dlm_curriculum){.from = n, .to = n, .p0 = 0, .p1 = 0};
        return rc;
    }
    const char *second = by + (by == dots ? 2 : 1), *at = strchr(second, '@'), *colon = at ? strchr(at, ':') : NULL;
    struct dlm_curriculum c = {.moves = true};
    if (!colon || !dlm_number_field(at + 1, (size_t)(colon - at - 1), &c.p0) || !dlm_number_field(colon + 1, strlen(colon + 1), &c.p1) ||
        c.p0 < 0 || c.p1 < c.p0 || c.p1 > 1)
        return dlm_fail(err, DLM_EUSAGE, "noise '%s': a curriculum is FROM..TO@P0:P1 with shares of training 0 <= P0 <= P1 <= 1", text);
    char *from = strndup(text, (size_t)(by - text)), *to = strndup(second, (size_t)(at - second));
    int rc = from && to ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory to read the noise type");
    if (!rc)
        rc = dlm_noise_parse(&c.from, from, err);
    if (!rc)
        rc = dlm_noise_parse(&c.to, to, err);
    free(from);
    free(to);
    if (rc)
        return rc;
    if (c.from.mix != c.to.mix)
        return dlm_fail(err, DLM_EUSAGE, "noise '%s': a curriculum moves a shift or a mix, not one into the other", text);
    c.p0 += 0.0;
    c.p1 += 0.0;
    char spelled[256];
    dlm_curriculum_print(&c, spelled, sizeof spelled);
    if (strlen(spelled) >= 160)
        return dlm_fail(err, DLM_EUSAGE, "noise '%s': more digits than a curriculum can keep", text);
    *out = c;
    return 0;
}

void dlm_curriculum_print(const struct dlm_curriculum *c, char *to, unsigned size)
{
    char from[80], second[80], p0[32], p1[32];
    dlm_noise_print(&c->from, from, sizeof from);
    if (!c->moves) {
        snprintf(to, size, "%s", from);
        return;
    }
    dlm_noise_print(&c->to, second, sizeof second);
    print_real(p0, sizeof p0, c->p0);
    print_real(p1, sizeof p1, c->p1);
    snprintf(to, size, "%s..%s@%s:%s", from, second, p0, p1);
}

static double clamp(double v, double to)
{
    return v < -to ? -to : v > to ? to : v;
}

struct dlm_noise dlm_curriculum_at(const struct dlm_curriculum *c, double progress)
{
    if (!c->moves || progress < c->p0)
        return c->from;
    if (progress >= c->p1)
        return c->to;
    double f = (progress - c->p0) / (c->p1 - c->p0);
    struct dlm_noise n = c->from;
    if (f <= 0)
        return n;
    if (n.mix) {
        n.share = (1 - f) * c->from.share + f * c->to.share;
    } else {
        n.shift = (1 - f) * clamp(c->from.shift, CURRICULUM_SHIFT_MAX) + f * clamp(c->to.shift, CURRICULUM_SHIFT_MAX);
        n.slope = (1 - f) * c->from.slope + f * c->to.slope;
    }
    return n;
}
