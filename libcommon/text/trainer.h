/* Training a byte-level BPE vocabulary.
 *
 * Texts are split into words, distinct words are counted, and the most frequent pair of neighbouring tokens becomes a token
 * until the vocabulary is full; of equally frequent pairs the one with the smaller ids comes first. That is the rule of Hugging
 * Face's BpeTrainer, and the order of ids is its order, too: special tokens, the 256 bytes by the characters that stand for
 * them, merges. So a smaller vocabulary is a prefix of a larger one.
 *
 * Memory and, past the counting, time go with the distinct words and not with the text: words.h and merging.h have the bounds.
 * Counting may run in several threads, each with a lane of its own; the result does not depend on who counted what, nor on where
 * the text was cut.
 */
#ifndef DLM_TEXT_TRAINER_H
#define DLM_TEXT_TRAINER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_trainer;

/* regex: of the pieces (dlm_split_pattern() of a name); borrowed. lanes ≥ 1. */
int dlm_trainer_new(struct dlm_trainer **out, const char *regex, size_t lanes, struct dlm_error *err);
void dlm_trainer_free(struct dlm_trainer *t);

/* True when texts may be counted in parts that end at dlm_split_cut's places. */
bool dlm_trainer_may_cut(const struct dlm_trainer *t);
/* Count only a share of the texts, from now on: those whose XXH64 with this seed is below share · 2^64. So a text is in the
 * sample or not whatever comes before it and wherever it is counted, and equal texts are in it together. share: in (0, 1]. */
void dlm_trainer_sample(struct dlm_trainer *t, double share, uint64_t seed);
/* Count the words of text[0..len); the `context` bytes behind it are only looked at. One thread a lane at a time. */
int dlm_trainer_count(struct dlm_trainer *t, size_t lane, const void *text, size_t len, size_t context, struct dlm_error *err);

struct dlm_trained {
    char *json;      /* tokenizer.json, malloc'ed, NUL-terminated */
    size_t size;     /* ids; less than asked for when the text has no more pairs */
    size_t words;    /* distinct */
    uint64_t bytes, bytes_seen; /* counted; counted or left out of the sample */
    uint64_t texts, texts_seen; /* calls of dlm_trainer_count that had text, likewise */
};

/* Called now and then with the ids made so far; non-zero ends the training with that value. May be NULL. */
typedef int dlm_trained_fn(void *to, size_t size);

/* Make the vocabulary: `size` ids in all, of which the first are the specials (n_specials written forms); pairs seen less than
 * min_frequency times are left alone. Once per trainer. Works in as many threads as there are lanes. DLM_EDATA when no text was
 * counted. */
int dlm_trainer_finish(struct dlm_trainer *t, const char *const *specials, size_t n_specials, size_t size, uint64_t min_frequency,
                       dlm_trained_fn *progress, void *to, struct dlm_trained *out, struct dlm_error *err);

#endif
