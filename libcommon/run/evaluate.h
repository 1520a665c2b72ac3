/* Held-out likelihood: the number that every comparison uses (method.md §3, "Held-out ELBO").
 *
 * Unconditional, one level for a whole sequence, K stratified levels a sequence, averaged over all tokens; cross-entropy for the autoregressive baseline.
 * Every draw is keyed by (seed, sequence, level) and model calls have one fixed shape, so the result is a function of (weights, data, seed, levels)
 * alone. The standard error is that of the sequences' means.
 *
 * A profile says where the nats are (method.md §10). By level: nats/token per unit of log-SNR in equal bins of [-9, 9], whose sum times the bins' width is
 * the ELBO. Its levels are stratified uniformly in λ, not in t, so that every bin has as many draws; a draw then weighs 18·p(λ)/(t_max - t_min), which makes
 * all means those over t. By position: nats/token of equal runs of positions, whose mean is the ELBO.
 */
#ifndef DLM_RUN_EVALUATE_H
#define DLM_RUN_EVALUATE_H

#include "base/progress.h"
#include "diffuse/noise.h"
#include "model/network.h"
#include "run/group.h"
#include "run/pass.h"
#include "token/shards.h"

struct dlm_evaluation {
    uint64_t sequences, tokens, bytes; /* scored once each, whatever the levels */
    double elbo, elbo_se;              /* nats/token; se is NAN for a single sequence */
    double loss, kl, is;               /* the training objective and its parts; NAN for the baseline */
    double bpb, ppl;                   /* bits per byte, exp(elbo) */
    uint32_t levels;                   /* 1 for the baseline */
};

enum dlm_profile_by { DLM_PROFILE_NONE = 0, DLM_PROFILE_LEVEL = 1, DLM_PROFILE_POSITION = 2 };

struct dlm_profile_bin {
    double lo, hi;     /* of λ; or the first position and the one after the last */
    double elbo, se;   /* nats/token, by level per unit of log-SNR; se over sequences, NAN for a single one */
    uint64_t tokens;   /* draws that fell into it */
};

/* Sequences in one model call: a function of the model's context alone. */
size_t dlm_evaluation_batch(size_t seq_len);

struct dlm_evaluation_plan {
    struct dlm_shards *shards;
    enum dlm_shards_split split;
    uint64_t tokens;  /* at most so many, rounded up to whole sequences; 0: all */
    uint32_t levels;  /* K */
    uint64_t seed;
    struct dlm_noise noise;
    bool autoregressive;
    enum dlm_profile_by by;
    size_t bins;                      /* of the profile: ≥ 1, at most the sequence's length by position */
    struct dlm_profile_bin *profile;  /* (bins), written; NULL without one */
    struct dlm_group *group;          /* that shares the sequences, or NULL; every rank has the same result, that of one process to the bit. No profile then */
};

/* `pass` and the network must hold dlm_evaluation_batch sequences. `progress` may be NULL. DLM_ESTOPPED when a signal came. */
int dlm_evaluate(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct dlm_progress *progress,
                 struct dlm_evaluation *out, struct dlm_error *err);

#endif
