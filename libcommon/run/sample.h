/* Sampling: from the prior, from given positions and the prior, or from a text that is to be corrected, to finished ids (method.md §9).
 *
 * Item k's random numbers are keyed by (seed, k, position, step). A model call has either one fixed shape chosen by the length alone, with item k
 * always in the same row of it, or holds item k alone; head calls hold rows of one item, or one row of every item. So what comes out for item k
 * depends on no other item, nor on how many are drawn at a time. Given positions are clean and the attention rule is that of training
 * (clean sees clean, noisy sees all). The mask id is never in a finished text.
 *
 * Block by block, what is finished is a clean prefix whose keys and values are computed once a block and kept; so are those of a prompt where a call
 * holds one text. Logits are those of the whole text up to the block's end, or to `ahead` positions behind it. An autoregressive network is sampled from left to right on cached
 * keys and values.
 */
#ifndef DLM_RUN_SAMPLE_H
#define DLM_RUN_SAMPLE_H

#include "base/progress.h"
#include "diffuse/noise.h"
#include "model/network.h"

enum dlm_sample_order {
    DLM_SAMPLE_ANCESTRAL = 0,   /* T reverse steps over a schedule of α */
    DLM_SAMPLE_ADAPTIVE = 1,    /* T steps, each on the positions that are most surely wrong */
    DLM_SAMPLE_AUTOREGRESSIVE,  /* left to right; steps and schedule mean nothing */
};

/* What is drawn from, of a position's logits without the mask id. */
struct dlm_choose {
    double temperature; /* logits are divided by it; 0 leaves the likeliest id only, of equal ones the first */
    size_t top_k;       /* keep the k likeliest; 0: all */
    double top_p;       /* keep the fewest likeliest ids that hold this share together; 1: all */
};

struct dlm_sample_plan {
    enum dlm_sample_order order;
    struct dlm_noise noise;
    size_t length;            /* N: positions of a text, prompt included; the network's seq_len */
    size_t block;             /* positions denoised together, from left to right; a block that holds the end id is the last. 0: all of them */
    size_t ahead;             /* positions of noise behind a block that its steps see, as far as the text reaches */
    uint32_t steps;           /* T ≥ 1, of a text: blocks share them by length, none gets less than one */
    bool cosine;              /* α along half a cosine, slow at both ends, else linear */
    struct dlm_choose choose;
    uint64_t seed;
    /* After every step, for every item that is being worked on: its ids (N) as they stand. May be NULL. */
    void (*watch)(void *ctx, uint64_t item, const uint32_t *ids);
    void *watch_ctx;
};

#define DLM_SAMPLE_PRIOR UINT32_MAX /* instead of an id: begin from the prior */

struct dlm_sample_stats {
    uint64_t steps;       /* denoising steps, the closing step of adaptive sampling included; positions when autoregressive */
    uint64_t model_calls; /* forward passes */
    uint64_t tokens;      /* positions filled */
    double seconds;
};

struct dlm_sampler;

/* Sequences in one model call: a function of the length alone. The network must hold so many. */
size_t dlm_sample_chunk(size_t length);

/* Rows that the network should give the head at a time (struct dlm_network_plan), so that a step which asks for few does not pay for many. */
size_t dlm_sample_head_rows(const struct dlm_sample_plan *p);

/* The backend and the network outlive the sampler. DLM_EDATA when an autoregressive network has no id to begin with. */
int dlm_sampler_new(struct dlm_sampler **out, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_sample_plan *p,
                    struct dlm_error *err);
void dlm_sampler_free(struct dlm_sampler *s);

/* Finish the texts of items first … first + n - 1, which must lie in one chunk (first % chunk + n ≤ chunk; items < 2^32). given u8 (n, N): which ids
 * (n, N) stay; the others are written, and begin as what stands there, the mask included, or from the prior where that is DLM_SAMPLE_PRIOR. Autoregressively
 * and block by block, the given positions must be a prefix. length (n), or NULL: texts of their own length ≤ N, each in calls of that length; not
 * autoregressively. `stats` are added to; `progress` shows stats->steps and may be NULL. DLM_ESTOPPED
 * when a signal came, DLM_EDATA when a given id is the mask, an id is outside the vocabulary, or the network's numbers are not finite. */
int dlm_sampler_run(struct dlm_sampler *s, uint64_t first, size_t n, uint32_t *ids, const uint8_t *given, const size_t *length,
                    struct dlm_sample_stats *stats, struct dlm_progress *progress, struct dlm_error *err);

/* Log-SNR before step j = 1 … T and after it; INFINITY after the last: the text is clean. */
double dlm_sample_log_snr(const struct dlm_sample_plan *p, uint32_t j);

#endif
