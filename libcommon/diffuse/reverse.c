/* The reverse process on one position, method.md §9. Not the loop over positions and steps: run/sample.
 *
 * q_{t|s}(z_t|v) = α_{t|s}[z_t = v] + κ, where κ = β_t π_t(z_t) - α_{t|s} β_s π_s(z_t) is never negative, as e^{-λ}π(λ) falls
 * in λ for |a| ≤ 1. It is computed as α_t·(e^{-λ_t} π_t - e^{-λ_s} π_s), which needs no 1-α and is exactly β_t π_t(z_t) for a
 * clean s (e^{-λ_s} = 0).
 */
#include "diffuse/reverse.h"

#include <math.h>

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

struct dlm_reverse_odds dlm_reverse_odds_of(const struct dlm_noise *n, double log_snr_t, double log_snr_s, bool at_mask, size_t V)
{
    struct step k = step_of(n, log_snr_t, log_snr_s, at_mask, V);
    /* Where predictor and noise both deny z_t: a mask says nothing about x, so what is left is q_s; any other id can only have been kept. */
    if (at_mask && k.kappa == 0 && k.keep * k.nu_mask == 0) {
        k.kappa = 1;
        k.keep = 0;
    }
    const double hold = k.keep + k.kappa;
    return (struct dlm_reverse_odds){.stay_share = k.alpha_s * hold,
                                     .stay = (at_mask ? k.nu_mask : k.nu) * hold,
                                     .to_mask = at_mask ? 0 : k.nu_mask * k.kappa,
                                     .noise = k.nu * k.kappa * (double)(V - 1 - !at_mask),
                                     .predicted = k.alpha_s * k.kappa};
}

double dlm_reverse_prior(const struct dlm_noise *n, bool is_mask, size_t V)
{
    return dlm_noise_pi(n, -DLM_LOG_SNR_MAX, is_mask, (uint32_t)V);
}
