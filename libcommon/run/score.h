/* The likelihood of one text under a checkpoint, given what is known around it (method.md §8).
 *
 * What is given stays clean; the scored tokens are corrupted at K noise levels, stratified uniformly in t, and the mean of their summed ELBO terms over the
 * levels is the bound on their negative log-likelihood, in nats. The rest of the context is filled from the prior, anew at each level, and not scored. For an
 * autoregressive network it is the exact cross-entropy: what comes after the scored tokens is not seen.
 *
 * A call of the network holds levels of one text alone, so many as its length tells, and every draw is keyed by (seed, hash of the text's ids, level):
 * a score is a function of (network, piece, seed, levels) alone. A scorer is not for sharing between threads.
 */
#ifndef DLM_RUN_SCORE_H
#define DLM_RUN_SCORE_H

#include "diffuse/noise.h"
#include "model/network.h"

struct dlm_piece {
    const uint32_t *ids;  /* (n), borrowed; none of them the mask */
    size_t n;             /* ≤ the length of a call */
    size_t before, after; /* ids[before … n - after - 1] are scored, the others given */
};

struct dlm_score_plan {
    struct dlm_noise noise;
    uint64_t seed;
    uint32_t levels;   /* K; with a target, the most */
    double target_se;  /* double the levels from 16 on until the standard error is no larger, nats; 0: K levels */
    bool release;      /* as the released code: levels where α is on a grid of K of K+1 values from 1e-4 to 0.9999, the last left out, and losses as at the
                        * log-SNR of the share of scored tokens that a draw left as they were */
    bool cosine;       /* levels stratified in s, t at the share sin²(πs/2) of its range, each weighing (π/2)·sin(πs), its spacing: more levels at both ends,
                        * where the terms vary most. The same bound. */
    size_t length;     /* positions of a call, the network's seq_len */
};

struct dlm_score {
    double nats, se;   /* of the scored tokens together; se from the levels' differences: NAN for one level, 0 when exact */
    uint32_t levels;   /* 1 when autoregressive */
    uint64_t draws;    /* sequences that went through the network */
};

struct dlm_scorer;

/* Sequences in a call: what the network must hold. */
size_t dlm_score_batch(size_t length);
/* Rows that the network should give the head at a time (struct dlm_network_plan): texts are short. */
size_t dlm_score_head_rows(void);

/* The backend and the network outlive the scorer. */
int dlm_scorer_new(struct dlm_scorer **out, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_score_plan *p, struct dlm_error *err);
void dlm_scorer_free(struct dlm_scorer *s);

/* DLM_EDATA when an id is the mask or outside the vocabulary, DLM_EDIVERGED when the score is not finite, DLM_ESTOPPED when a signal came. */
int dlm_scorer_run(struct dlm_scorer *s, const struct dlm_piece *piece, struct dlm_score *out, struct dlm_error *err);

/* Log-SNR of the levels of the last diffusion score, `levels` of it, from the least noise on: one in each stratum of t. */
double dlm_scorer_log_snr(const struct dlm_scorer *s, uint32_t level);
/* The hash that keys a piece's draws. */
uint64_t dlm_piece_hash(const struct dlm_piece *piece);

#endif
