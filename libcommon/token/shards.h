/* A shard set: a directory of whole N-token sequences, shuffled once, split by content hash (dlm-shards(5)).
 *
 * Opening reads and checks manifest.tsv, tokenizer.json and the shards' heads against each other; reading a sequence touches one
 * frame. One reader per thread.
 */
#ifndef DLM_TOKEN_SHARDS_H
#define DLM_TOKEN_SHARDS_H

#include "base/error.h"
#include "text/vocab.h"

enum dlm_shards_split { DLM_SPLIT_TRAIN = 0, DLM_SPLIT_VAL = 1 };

struct dlm_shards;

int dlm_shards_open(struct dlm_shards **out, const char *dir, struct dlm_error *err);
void dlm_shards_close(struct dlm_shards *s);
size_t dlm_shards_seq_len(const struct dlm_shards *s);
uint64_t dlm_shards_sequences(const struct dlm_shards *s, enum dlm_shards_split split);
/* The vocabulary of the set; owned by s. */
const struct dlm_vocab *dlm_shards_vocab(const struct dlm_shards *s);
/* Text bytes that the sequences of a split stand for. */
uint64_t dlm_shards_bytes(const struct dlm_shards *s, enum dlm_shards_split split);
/* manifest.tsv as it stands on disk; owned by s. */
const char *dlm_shards_manifest(const struct dlm_shards *s, size_t *len);
/* XXH64 of manifest.tsv: equal hashes, equal data. */
uint64_t dlm_shards_hash(const struct dlm_shards *s);
/* Sequence `index` of a split into ids (N). The last frame is kept, so reading in order decompresses each frame once. */
int dlm_shards_read(struct dlm_shards *s, enum dlm_shards_split split, uint64_t index, uint32_t *ids, struct dlm_error *err);
/* Frames that were read and decompressed so far: at most one a call of dlm_shards_read, however large the set. */
uint64_t dlm_shards_frames(const struct dlm_shards *s);

/* Read every byte of the set and check all of it: every file's checksum, every frame, every count. */
int dlm_shards_verify(const char *dir, struct dlm_error *err);

#endif
