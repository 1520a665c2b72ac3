/* How good a lot of sampled texts is, in figures: variety, and likelihood under models.
 *
 *     entropy      of a text's own distribution of ids, nats, averaged over texts: falls when a text repeats itself
 *     distinct_n   different n-grams over all n-grams of all texts: falls when texts repeat themselves or each other
 *     likelihood   nats a token of the texts under a checkpoint, given their prompts: the ELBO, or the cross-entropy of an autoregressive one, whose
 *                  exponential is the generative perplexity of the literature
 *
 * Likelihood alone misleads: a text of one word said over and over is likely. Empty texts count among the texts and in nothing else.
 */
#ifndef DLM_RUN_QUALITY_H
#define DLM_RUN_QUALITY_H

#include "run/score.h"

enum { DLM_QUALITY_GRAMS = 3 };

struct dlm_grams; /* those met so far */

struct dlm_quality {
    uint64_t texts, tokens;
    double entropy;                       /* summed over texts that are not empty */
    uint64_t filled;                      /* those */
    struct dlm_grams *seen[DLM_QUALITY_GRAMS];
    uint64_t grams[DLM_QUALITY_GRAMS];
    uint32_t *sorted;                     /* (room) scratch */
    size_t room;
};

/* Zeroes are an empty lot. Add the text ids (n), of which the first `before` were given and are counted in nothing. */
int dlm_quality_add(struct dlm_quality *q, const uint32_t *ids, size_t n, size_t before, struct dlm_error *err);
void dlm_quality_release(struct dlm_quality *q);
/* NAN where there is nothing to tell. */
double dlm_quality_entropy(const struct dlm_quality *q);
double dlm_quality_distinct(const struct dlm_quality *q, int n);

/* Nats a token of many texts: their sum over the sum of their tokens, with the standard error of that ratio from the differences between texts. */
struct dlm_mean_nats {
    uint64_t texts;
    double nats, tokens, nats2, tokens2, both; /* sums of x, n, x², n², x·n */
};
void dlm_mean_nats_add(struct dlm_mean_nats *m, double nats, size_t tokens);
double dlm_mean_nats_value(const struct dlm_mean_nats *m); /* NAN for none */
double dlm_mean_nats_se(const struct dlm_mean_nats *m);    /* NAN for fewer than two */

#endif
