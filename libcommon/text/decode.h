/* Ids back to the bytes they stand for. */
#ifndef DLM_TEXT_DECODE_H
#define DLM_TEXT_DECODE_H

#include "text/vocab.h"

/* Write the bytes of ids[0 … n) to `to` as long as they fit into `room` bytes, special ids standing for none; *len is what was written.
 * Returns how many ids were taken: fewer than n when the next one does not fit or is none of the vocabulary (then it is ≥ its
 * size). Threads may share v. */
size_t dlm_vocab_decode(const struct dlm_vocab *v, const uint32_t *ids, size_t n, uint8_t *to, size_t room, size_t *len);

#endif
