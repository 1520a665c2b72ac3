/* Held-out likelihood: the number that every comparison uses (method.md §3, "Held-out ELBO").
 *
 * Unconditional, one level for a whole sequence, K stratified levels a sequence, averaged over all tokens; cross-entropy for the autoregressive baseline.
 * Every draw is keyed by (seed, sequence, level) and model calls have one fixed shape, so the result is a function of (weights, data, seed, levels)
 * alone. The standard error is that of the sequences' means.
 */
#ifndef DLM_RUN_EVALUATE_H
#define DLM_RUN_EVALUATE_H

#include "base/progress.h"
#include "diffuse/noise.h"
#include "model/network.h"
#include "run/pass.h"
#include "token/shards.h"

struct dlm_evaluation {
    uint64_t sequences, tokens, bytes; /* scored once each, whatever the levels */
    double elbo, elbo_se;              /* nats/token; se is NAN for a single sequence */
    double loss, kl, is;               /* the training objective and its parts; NAN for the baseline */
    double bpb, ppl;                   /* bits per byte, exp(elbo) */
    uint32_t levels;                   /* 1 for the baseline */
};

/* Sequences in one model call: a function of the model's context alone. */
size_t dlm_evaluation_batch(size_t seq_len);

struct dlm_evaluation_plan {
    struct dlm_shards *shards;
    enum dlm_split split;
    uint64_t tokens;  /* at most so many, rounded up to whole sequences; 0: all */
    uint32_t levels;  /* K */
    uint64_t seed;
    struct dlm_noise noise;
    bool autoregressive;
};

/* `pass` and the network must hold dlm_evaluation_batch sequences. `progress` may be NULL. DLM_ESTOPPED when a signal came. */
int dlm_evaluate(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct dlm_progress *progress,
                 struct dlm_evaluation *out, struct dlm_error *err);

#endif
