/* Which documents of several sources make a mixture with given shares of tokens.
 *
 * No document is repeated: the source that is scarcest for its weight gives all it has, and every other one gives, of its own documents,
 * a random subset that comes to its share, to within half a document. So with sources of t_i tokens (end ids counted) and weights w_i
 * the mixture has T = min t_i / w_i tokens, w_i T of each, w normalised. What is chosen depends on (seed, number of the document)
 * alone, by words of their own, so the order of what was chosen stays as random as it was. Not the shuffle: that is token/shuffle.h.
 * Memory: 128 KiB a source and split, whatever the documents. For one thread.
 */
#ifndef DLM_TOKEN_MIX_H
#define DLM_TOKEN_MIX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_mix;

/* weights: (n), each > 0 and finite; any sum. */
int dlm_mix_new(struct dlm_mix **out, const double *weights, size_t n, uint64_t seed, struct dlm_error *err);
void dlm_mix_free(struct dlm_mix *m);
/* What it takes of memory. */
size_t dlm_mix_bytes(const struct dlm_mix *m);

/* First every document is counted, with its tokens, */
void dlm_mix_count(struct dlm_mix *m, size_t source, int split, uint64_t ordinal, uint64_t tokens);
/* then what each source gives to each split is settled (the index of a source that a split lacks while others have it, or -1), */
int dlm_mix_settle(struct dlm_mix *m, int split);
/* then each is asked for again, once, in the order that the mixture will have. */
bool dlm_mix_take(struct dlm_mix *m, size_t source, int split, uint64_t ordinal, uint64_t tokens);

struct dlm_mix_share {
    double weight;                        /* normalised */
    uint64_t documents, tokens;           /* taken */
    uint64_t had_documents, had_tokens;   /* counted */
};
struct dlm_mix_share dlm_mix_share(const struct dlm_mix *m, size_t source, int split);

#endif
