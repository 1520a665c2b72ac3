/* Data order: which sequence example number i of a run shows (method.md §2).
 *
 * Epoch 0 is the stored order (dlm-shard has shuffled), each later epoch a permutation of the first `unique` sequences keyed by
 * (seed, epoch). A pure function, so resuming needs no state.
 */
#ifndef DLM_BATCH_ORDER_H
#define DLM_BATCH_ORDER_H

#include <stdint.h>

/* Index in [0, unique) of example i; unique ≥ 1. */
uint64_t dlm_order_at(uint64_t seed, uint64_t unique, uint64_t i);

#endif
