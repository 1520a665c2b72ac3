/* Documents in, the same documents out in the order of their keys, in bounded memory.
 *
 * An external merge sort. Documents that fit in `memory` are sorted there; more than that goes, sorted, into runs in a temporary
 * file that has no name (nothing is left of it, however the process ends) and comes back merged. A document may be larger than the
 * memory. The order is that of (key, hash, ordinal) alone, so memory changes no result. Not a source of randomness: the caller
 * draws the keys. For one thread.
 */
#ifndef DLM_TOKEN_SHUFFLE_H
#define DLM_TOKEN_SHUFFLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { DLM_SHUFFLE_MIN_MEMORY = 256 << 10 };

struct dlm_shuffle;

struct dlm_shuffle_document {
    uint64_t key, hash[2], ordinal;
    uint64_t n;   /* ids; set by dlm_shuffle_end */
    uint64_t tag; /* the caller's, carried along */
};

/* id_bytes (2 or 4) is how ids are held. `dir` (borrowed) is where a temporary file goes when one is needed. */
int dlm_shuffle_new(struct dlm_shuffle **out, size_t memory, unsigned id_bytes, const char *dir, struct dlm_error *err);
void dlm_shuffle_free(struct dlm_shuffle *s);

/* Append ids to the document that is being put in. */
int dlm_shuffle_add(struct dlm_shuffle *s, const uint32_t *ids, size_t n, struct dlm_error *err);
/* The document is whole; the next begins. d->n is set here. */
int dlm_shuffle_end(struct dlm_shuffle *s, const struct dlm_shuffle_document *d, struct dlm_error *err);

/* Where documents go: begin, then its ids in one piece or several. An error they return ends the delivery. */
struct dlm_shuffle_sink {
    int (*begin)(void *to, const struct dlm_shuffle_document *d, struct dlm_error *err);
    int (*ids)(void *to, const uint32_t *ids, size_t n, struct dlm_error *err);
    void *to;
};

/* Hand out every document in order, once. */
int dlm_shuffle_deliver(struct dlm_shuffle *s, const struct dlm_shuffle_sink *sink, struct dlm_error *err);

/* Sorted runs that went to disk so far; 0 while everything fits. */
uint64_t dlm_shuffle_runs(const struct dlm_shuffle *s);

#endif
