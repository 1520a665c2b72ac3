/* The merges of a vocabulary in a table where each pair has one place, and short pieces merged with it.
 *
 * The table is a perfect hash by displacement: h = pair · K; the upper bits of h choose a bucket, the bits below, xored with the
 * number kept for the bucket, the place. So a look-up is two loads and a comparison and never a guess, whether there is a merge or
 * not. Symbols are numbered by rank, bytes first, so that the number of what a pair makes is also when it is made; where several
 * pairs make one id, what they make is then taken for the first of them.
 *
 * A pair never makes again what another has made at its place: a text only grows. So there are no stale candidates here, and ids
 * are those of Hugging Face's merge_all.
 *
 * Every byte must have an id; other vocabularies have no such table, nor have those with more than two million merges.
 */
#ifndef DLM_TEXT_PAIRS_H
#define DLM_TEXT_PAIRS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_pairs;
struct dlm_vocab;

enum { DLM_PAIRS_TEXT = 32 }; /* bytes of a short piece */

/* *out is NULL for a vocabulary that is not of this kind. Threads may share it. Memory: at most 36 bytes for each merge, and 300 KB. */
int dlm_pairs_new(struct dlm_pairs **out, const struct dlm_vocab *v, struct dlm_error *err);
void dlm_pairs_free(struct dlm_pairs *p);

/* The ids of text[0..n), 1 ≤ n ≤ DLM_PAIRS_TEXT, into `to`, which has room for n; returns how many. */
size_t dlm_pairs_merge(const struct dlm_pairs *p, const uint8_t *text, size_t n, uint32_t *to);

/* False when text[0..n) is no token, or one that merging gives: with ignore_merges, a piece that is a token need not be looked for
 * then. Known where the vocabulary has ignore_merges. */
bool dlm_pairs_may_be_odd(const struct dlm_pairs *p, const uint8_t *text, size_t n);

enum { DLM_PAIRS_WINDOWS = 64 };

struct dlm_pairs_window {
    uint64_t begins; /* bits of the bytes that a symbol begins at; 0 when empty */
    uint8_t text[DLM_PAIRS_TEXT];
    uint32_t symbol[DLM_PAIRS_TEXT + 2];
};

/* What a thread remembers: init with zeros, and for one table only. */
struct dlm_pairs_scratch {
    struct dlm_pairs_window window[DLM_PAIRS_WINDOWS], last;
};

/* The same for n ≥ 1, by short windows that overlap. Ids of which any two neighbours are the merged form of their own bytes are the
 * merged form of the whole, as chain.h says, and parts of a merged form are merged forms. So where two windows have a token in common,
 * the ids of the first up to it and those of the second from it on are those of both together. 0 when two have none. */
size_t dlm_pairs_merge_long(const struct dlm_pairs *p, struct dlm_pairs_scratch *s, const uint8_t *text, size_t n, uint32_t *to);

#endif
