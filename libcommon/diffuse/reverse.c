/* The reverse process on one position, method.md §9. Not the loop over positions and steps: run/sample.
 *
 * q_{t|s}(z_t|v) = α_{t|s}[z_t = v] + κ, where κ = β_t π_t(z_t) - α_{t|s} β_s π_s(z_t) is never negative, as e^{-λ}π(λ) falls
 * in λ for |a| ≤ 1. It is computed as α_t·(e^{-λ_t} π_t - e^{-λ_s} π_s), which needs no 1-α and is exactly β_t π_t(z_t) for a
 * clean s (e^{-λ_s} = 0).
 */
#include "diffuse/reverse.h"

#include <math.h>
#include <string.h>

/* p /= sum; by its reciprocal, which is several times faster, unless that could overflow. */
static void normalise(double *p, size_t V, double sum)
{
    if (sum > 1e-290)
        for (size_t v = 0; v < V; v++)
            p[v] *= 1 / sum;
    else
        for (size_t v = 0; v < V; v++)
            p[v] /= sum;
}

void dlm_reverse_softmax(double *s, const float *logits, size_t V, uint32_t mask)
{
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++)
        if (v != mask && logits[v] > top)
            top = logits[v];
    for (size_t v = 0; v < V; v++) {
        s[v] = v == mask ? 0 : exp(logits[v] - top);
        sum += s[v];
    }
    normalise(s, V, sum);
}

/* p(v) ∝ (α_s·s(v) + ν(v))·(κ + keep·[v = z_t]), ν = β_s·π_s. */
struct step {
    double alpha_s, keep, kappa, nu, nu_mask;
};

static struct step step_of(const struct dlm_noise *n, double log_snr_t, double log_snr_s, bool at_mask, size_t V)
{
    const bool clean = isinf(log_snr_s);
    const double alpha_t = dlm_noise_alpha(log_snr_t), alpha_s = clean ? 1 : dlm_noise_alpha(log_snr_s);
    const double beta_s = clean ? 0 : dlm_noise_alpha(-log_snr_s);
    struct step p = {.alpha_s = alpha_s, .keep = alpha_t / alpha_s};
    p.kappa = exp(-log_snr_t) * dlm_noise_pi(n, log_snr_t, at_mask, (uint32_t)V);
    if (!clean) {
        p.kappa -= exp(-log_snr_s) * dlm_noise_pi(n, log_snr_s, at_mask, (uint32_t)V);
        p.nu = beta_s * dlm_noise_pi(n, log_snr_s, false, (uint32_t)V);
        p.nu_mask = beta_s * dlm_noise_pi(n, log_snr_s, true, (uint32_t)V);
    }
    p.kappa = p.kappa > 0 ? p.kappa * alpha_t : 0;
    return p;
}

void dlm_reverse_step(double *p, const struct dlm_noise *n, double log_snr_t, double log_snr_s, uint32_t z_t, const double *s, size_t V,
                      uint32_t mask)
{
    const bool at_mask = z_t == mask;
    const struct step k = step_of(n, log_snr_t, log_snr_s, at_mask, V);
    double sum = 0;
    for (size_t v = 0; v < V; v++) {
        double q_s = k.alpha_s * s[v] + (v == mask ? k.nu_mask : k.nu);
        p[v] = q_s * (v == z_t ? k.keep + k.kappa : k.kappa);
        sum += p[v];
    }
    if (sum > 0) {
        normalise(p, V, sum);
        return;
    }
    /* The predictor and the noise both deny z_t. A mask says nothing about x, so what is left is q_s; any other id can only have been kept. */
    for (size_t v = 0; v < V; v++) {
        p[v] = at_mask ? k.alpha_s * s[v] + (v == mask ? k.nu_mask : k.nu) : v == z_t;
        sum += p[v];
    }
    normalise(p, V, sum);
}

/* --- draws ------------------------------------------------------------------------------------------------------------------- */

enum { BLOCK = 256, LANES = 16 };

static double block_sum(const float *s, size_t n)
{
    float lane[LANES] = {0};
    double sum = 0;
    size_t v = 0;
    for (; v + LANES <= n; v += LANES)
        for (size_t i = 0; i < LANES; i++)
            lane[i] += s[v + i];
    for (size_t i = 0; i < LANES; i++)
        sum += (double)lane[i];
    for (; v < n; v++)
        sum += (double)s[v];
    return sum;
}

static double share_sum(const float *s, size_t V)
{
    double sum = 0;
    for (size_t from = 0; from < V; from += BLOCK)
        sum += block_sum(s + from, V - from < BLOCK ? V - from : BLOCK);
    return sum;
}

/* The id at which the running sum of s, `skip` left out, passes `at`; rounding at the end of the sum falls to the last id that has a share. */
static uint32_t find_share(const float *s, size_t V, size_t skip, double at)
{
    double run = 0;
    size_t last = 0;
    for (size_t from = 0; from < V; from += BLOCK) {
        const size_t to = V - from < BLOCK ? V : from + BLOCK;
        double here = block_sum(s + from, to - from) - (skip >= from && skip < to ? (double)s[skip] : 0);
        if (run + here < at && to < V) {
            run += here;
            continue;
        }
        double inside = run;
        for (size_t v = from; v < to; v++) {
            if (v == skip || !(s[v] > 0))
                continue;
            last = v;
            inside += (double)s[v];
            if (at < inside)
                return (uint32_t)v;
        }
        run += here;
    }
    if (last == skip || !(s[last] > 0))
        for (last = V - 1; last > 0 && (last == skip || !(s[last] > 0));)
            last--;
    return (uint32_t)last;
}

uint32_t dlm_reverse_pick(const float *s, size_t V, double u)
{
    return find_share(s, V, SIZE_MAX, u * share_sum(s, V));
}

uint32_t dlm_reverse_draw(const struct dlm_noise *n, double log_snr_t, double log_snr_s, uint32_t z_t, const float *s, size_t V, uint32_t mask, double u)
{
    const bool at_mask = z_t == mask;
    struct step k = step_of(n, log_snr_t, log_snr_s, at_mask, V);
    if (k.kappa == 0 && k.keep * (k.alpha_s * (double)s[z_t] + (at_mask ? k.nu_mask : k.nu)) == 0) { /* as in dlm_reverse_step */
        if (!at_mask)
            return z_t;
        k.kappa = 1;
        k.keep = 0;
    }
    /* Four parts: z_t itself, the mask, noise on any other id, and the predictor's shares of the others. */
    const double others = fmax(share_sum(s, V) - (double)s[z_t], 0), rest = (double)(V - 1 - !at_mask);
    const double stay = (k.alpha_s * (double)s[z_t] + (at_mask ? k.nu_mask : k.nu)) * (k.keep + k.kappa);
    const double to_mask = at_mask ? 0 : k.nu_mask * k.kappa, noise = k.nu * k.kappa * rest, predicted = k.alpha_s * k.kappa * others;
    double at = u * (stay + to_mask + noise + predicted);
    if (at < stay || (to_mask == 0 && noise == 0 && predicted == 0))
        return z_t;
    at -= stay;
    if (at < to_mask)
        return mask;
    at -= to_mask;
    if (at < noise || predicted == 0) {
        uint32_t i = (uint32_t)fmin(at / noise * rest, rest - 1);
        const uint32_t low = z_t < mask ? z_t : mask, high = z_t < mask ? mask : z_t; /* the ids without these two, or without the one */
        i += i >= low;
        return i + (!at_mask && i >= high);
    }
    return find_share(s, V, z_t, (at - noise) / predicted * others);
}

double dlm_reverse_confidence(const struct dlm_noise *n, uint32_t z, const float *s, size_t V, uint32_t mask, uint32_t *best)
{
    float most[LANES], highest = 0; /* s(m) = 0 */
    memset(most, 0, sizeof most);
    size_t v = 0, top = mask == 0 ? 1 : 0;
    for (; v + LANES <= V; v += LANES)
        for (size_t i = 0; i < LANES; i++)
            most[i] = s[v + i] > most[i] ? s[v + i] : most[i];
    for (size_t i = 0; i < LANES; i++)
        highest = most[i] > highest ? most[i] : highest;
    for (; v < V; v++)
        highest = s[v] > highest ? s[v] : highest;
    for (v = 0; v < V; v++) /* the first of equals */
        if (v != mask && s[v] == highest) {
            top = v;
            break;
        }
    *best = (uint32_t)top;
    return dlm_noise_pi(n, -DLM_LOG_SNR_MAX, z == mask, (uint32_t)V) * ((double)s[top] - (double)s[z]);
}
