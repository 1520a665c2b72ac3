/* The merged form of a piece from left to right, in linear time, without merging it.
 *
 * Ids of which any two neighbours are the merged form of their own bytes are the merged form of the whole: until the first merge
 * across a border between two of them, merging the whole and merging these two do the same, so that merge would also have happened
 * to the two alone. And the beginning of a merged form is the merged form of its bytes. So each beginning of a text has one last
 * token, the only one that ends there and fits the token before it; the text is passed once, what followed last time tried first,
 * then the longest token, and where none fits, back (the idea is that of GitHub's `bpe` crate, 2024).
 *
 * Two tokens fit when no merge across their border comes before one of those that make them: a walk down the right edge of the
 * one and the left edge of the other, by rank. That needs a vocabulary in which an id is made by one pair, and of parts with lower
 * ranks, as every trained one is; any other has no chain.
 */
#ifndef DLM_TEXT_CHAIN_H
#define DLM_TEXT_CHAIN_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct dlm_chain;
struct dlm_pairs;
struct dlm_vocab;

/* *out is NULL for a vocabulary that is not of this kind. Threads may share it; it looks into v. */
int dlm_chain_new(struct dlm_chain **out, const struct dlm_vocab *v, struct dlm_error *err);
void dlm_chain_free(struct dlm_chain *c);

/* The chain of a vocabulary and its pairs (pairs.h), each made at the first call and owned by it, so that what never merges never
 * makes one. */
struct dlm_chain_place;
struct dlm_chain_place *dlm_chain_place_new(void); /* NULL: out of memory */
void dlm_chain_place_free(struct dlm_chain_place *p);
int dlm_chain_of(const struct dlm_chain **out, const struct dlm_vocab *v, struct dlm_error *err);
int dlm_pairs_of(const struct dlm_pairs **out, const struct dlm_vocab *v, struct dlm_error *err);

enum { DLM_CHAIN_GUESSES = 1024 };

/* What a thread works in: init with zeros, and for one chain only. */
struct dlm_chain_scratch {
    uint64_t *dead; /* a bit for each place from which nothing goes on */
    size_t cap;
    struct {
        uint32_t last, longest, token;
    } guess[DLM_CHAIN_GUESSES]; /* what came after a token where the text went on with another */
};

/* The ids of text[0..n), n ≥ 1, whose bytes all have an id, into `to`, which has room for n; *made is how many. Time is O(n) for a
 * given vocabulary, memory n / 4 bytes. */
int dlm_chain_run(const struct dlm_chain *c, struct dlm_chain_scratch *s, const uint8_t *text, size_t n, uint32_t *to,
                  size_t *made, struct dlm_error *err);
void dlm_chain_scratch_release(struct dlm_chain_scratch *s);

#endif
