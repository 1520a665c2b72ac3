/* Noise types: how a clean token is corrupted at log-SNR λ, anywhere between masked and uniform (method.md §1).
 *
 *     α = σ(λ)  β = 1-α  ρ = σ(aλ + b), or ρ = R for mix:R  π(v) = ρ/(V-1) for v ≠ m, π(m) = 1-ρ  q(z|x) = α[z = x] + βπ(z)
 *
 * Pure arithmetic in double; no state, no model. λ lives in [-9, 9].
 */
#ifndef DLM_DIFFUSE_NOISE_H
#define DLM_DIFFUSE_NOISE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define DLM_LOG_SNR_MAX 9.0

struct dlm_noise {
    bool mix;      /* ρ = share, constant in λ; else ρ = σ(slope·λ + shift) */
    double share;  /* R in [0, 1] */
    double shift;  /* b */
    double slope;  /* a, |a| ≤ 1, 1 unless told */
};

/* Parse `masked`, `low-uniform`, `balanced`, `high-uniform`, `uniform`, `shift:B`, `shift:B,A`, `mix:R`. DLM_EUSAGE. */
int dlm_noise_parse(struct dlm_noise *out, const char *text, struct dlm_error *err);
/* Canonical spelling (named where there is a name: shift:0 is balanced; mix:0 is masked stays "mix:0"); size ≥ 64. */
void dlm_noise_print(const struct dlm_noise *n, char *to, unsigned size);

double dlm_noise_alpha(double log_snr);                         /* σ(λ) */
double dlm_noise_rho(const struct dlm_noise *n, double log_snr);
double dlm_noise_drho(const struct dlm_noise *n, double log_snr); /* dρ/dλ */

/* π(z) and dπ/dλ(z) for z = m or not. */
double dlm_noise_pi(const struct dlm_noise *n, double log_snr, bool is_mask, uint32_t V);
double dlm_noise_dpi(const struct dlm_noise *n, double log_snr, bool is_mask, uint32_t V);

/* The shares at one level, for what needs several of them at each of many levels. */
struct dlm_shares {
    double log_snr, alpha, beta, rho, rest; /* rest: 1 - ρ with its own digits */
};
struct dlm_shares dlm_noise_shares(const struct dlm_noise *n, double log_snr);

/* The thresholds that the corrupt kernel takes: ⌊α·2³²⌋ and ⌊ρ·2³²⌋. */
void dlm_noise_thresholds(const struct dlm_noise *n, double log_snr, uint64_t *keep, uint64_t *uniform);
void dlm_shares_thresholds(const struct dlm_shares *s, uint64_t *keep, uint64_t *uniform);

/* What the loss of a token corrupted from x to z needs (method.md §3); x ≠ mask. */
struct dlm_token_noise {
    double alpha;       /* α */
    double c;           /* βρ/(V-1) */
    double weight;      /* min(w, 1e3); 0 exactly when nothing is to be learned: masked noise, z = x */
    double elbo_weight; /* min(w/p(λ), 1e6) */
};
struct dlm_token_noise dlm_noise_token(const struct dlm_noise *n, double log_snr, uint32_t x, uint32_t z, uint32_t mask, uint32_t V);
/* It hangs on the level and on this alone. */
enum dlm_became { DLM_BECAME_MASK, DLM_BECAME_OTHER, DLM_STAYED, DLM_BECAME_KINDS };
static inline enum dlm_became dlm_became(uint32_t x, uint32_t z, uint32_t mask)
{
    return z == mask ? DLM_BECAME_MASK : z != x ? DLM_BECAME_OTHER : DLM_STAYED;
}
struct dlm_token_noise dlm_shares_token(const struct dlm_noise *n, const struct dlm_shares *s, enum dlm_became became, uint32_t V);

/* A noise type as a function of training progress in [0, 1] (method.md §10): `FROM..TO@P0:P1`, `>` for `..` accepted. A plain
 * noise type is a curriculum that does not move. */
struct dlm_curriculum {
    struct dlm_noise from, to;
    double p0, p1;
    bool moves;
};
int dlm_curriculum_parse(struct dlm_curriculum *out, const char *text, struct dlm_error *err);
void dlm_curriculum_print(const struct dlm_curriculum *c, char *to, unsigned size); /* size ≥ 160 */
struct dlm_noise dlm_curriculum_at(const struct dlm_curriculum *c, double progress);

#endif
