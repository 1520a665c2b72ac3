/* The random choices of one training example, and of one evaluation draw (method.md §2).
 *
 * Every number is a function of (seed, example, position, purpose) alone. Example i = step·B + slot counts the examples of a run.
 */
#ifndef DLM_DIFFUSE_EXAMPLE_H
#define DLM_DIFFUSE_EXAMPLE_H

#include "diffuse/noise.h"

#include <stddef.h>

enum dlm_prompt_density {
    DLM_PROMPT_RELEASE, /* f = arccos(1-2r)/π, the middle likeliest; the default */
    DLM_PROMPT_PAPER,   /* f = 2·arccos(r)/π: the printed angle, in [0, π/2], brought to [0, 1]; long prompts likelier than short ones */
};

struct dlm_example_options {
    double p_independent; /* share of sequences with a level per token (0.5) */
    double p_prompt;      /* share with a clean prefix (0.2) */
    double max_empty;     /* empty tokens: at most this share (0.2) */
    enum dlm_prompt_density prompt_density; /* of the prefix fraction f, r ~ U(0,1) */
    bool stratified;      /* levels of whole sequences on a low-discrepancy sequence (default) or plain draws */
};

/* Time of a level: t in [t_min, t_max], λ = log((1-t)/t). */
double dlm_example_t_min(void);
double dlm_example_t_max(void);
double dlm_example_log_snr(double t);

/* Draw example i: x (N) is given as the stored sequence and may be rewritten with pads (the sequence's first tokens keep their
 * order; no pads where pad is UINT32_MAX). log_snr (N) and noisy u8 (N) are written; a clean position (noisy 0) has a level
 * too, which means nothing. *prompted tells whether there is a clean prefix (then attention uses the prefix rule). scratch: N
 * uint64_t. */
void dlm_example_draw(const struct dlm_example_options *o, uint64_t seed, uint64_t i, uint32_t *x, size_t N, uint32_t pad,
                      double *log_snr, uint8_t *noisy, bool *prompted, uint64_t *scratch);

/* Level j of K of an evaluation sequence: t = t_min + (t_max - t_min)(j + u)/K, u keyed by (seed, sequence, level); returns λ. */
double dlm_example_eval_log_snr(uint64_t seed, uint64_t sequence, uint32_t level, uint32_t levels);

#endif
