/* Token streams: ids in zstd frames, with a vocabulary in front and checks behind (dlm-tokens(5)).
 *
 * Invariants: `zstd -dc` of a stream is exactly its ids, little endian, 2 or 4 bytes each, documents ended by the end id; everything
 * else is in skippable frames. A reader delivers ids only from frames whose checks held, and a stream ends only after its closing
 * frames: what is missing or wrong is an error with file and byte offset, never fewer tokens. Streams may be concatenated when their
 * fingerprints match.
 */
#ifndef DLM_TOKEN_STREAM_H
#define DLM_TOKEN_STREAM_H

#include "base/error.h"
#include "text/vocab.h"

#include <stdio.h>

struct dlm_stream_info {
    unsigned id_bytes;     /* 2 or 4 */
    uint32_t vocab_size;
    struct dlm_specials specials;
    uint64_t fingerprint;  /* of the vocabulary */
    const char *json;      /* tokenizer.json; NULL in shards, which carry the fingerprint only. Reader: owned by the reader */
    size_t json_len;
};

/* The info that a stream of this vocabulary carries; json points into v. */
struct dlm_stream_info dlm_stream_info_of(const struct dlm_vocab *v);

struct dlm_stream_writer;

/* Begin a stream on `file` (borrowed; `name` stands in errors and is copied). level: zstd's, 3 by default. threads: for compression; the bytes
 * written do not depend on it. frame_ids: ids per data frame, 0 for the default. */
int dlm_stream_writer_new(struct dlm_stream_writer **out, FILE *file, const char *name, const struct dlm_stream_info *info, int level,
                          int threads, size_t frame_ids, struct dlm_error *err);
/* Append ids (each < vocab_size); frames are cut every frame_ids ids. */
int dlm_stream_write(struct dlm_stream_writer *w, const uint32_t *ids, size_t n, struct dlm_error *err);
/* Count documents for the closing frame (the writer itself does not look at ids). */
void dlm_stream_count_documents(struct dlm_stream_writer *w, uint64_t n);
/* Write the closing frames. The file stays open. */
int dlm_stream_finish(struct dlm_stream_writer *w, struct dlm_error *err);
void dlm_stream_writer_free(struct dlm_stream_writer *w);

struct dlm_stream_reader;

/* Open one stream file, or standard input when path is "-"; several concatenated streams read as one. */
int dlm_stream_reader_open(struct dlm_stream_reader **out, const char *path, struct dlm_error *err);
/* The first stream's info; later ones must match it. */
const struct dlm_stream_info *dlm_stream_reader_info(const struct dlm_stream_reader *r);
/* Up to max ids into ids; *got = 0 at the true end. */
int dlm_stream_read(struct dlm_stream_reader *r, uint32_t *ids, size_t max, size_t *got, struct dlm_error *err);
/* After the end: counted from the closing frames. */
struct dlm_stream_totals {
    uint64_t tokens, documents, frames;
};
struct dlm_stream_totals dlm_stream_reader_totals(const struct dlm_stream_reader *r);
void dlm_stream_reader_close(struct dlm_stream_reader *r);

#endif
