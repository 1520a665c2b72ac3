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
#include "token/pool.h"

#include <stdio.h>

struct dlm_stream_info {
    unsigned id_bytes;     /* 2 or 4 */
    uint32_t vocab_size;
    struct dlm_specials specials;
    uint64_t fingerprint;  /* of the vocabulary */
    const char *json;      /* tokenizer.json; NULL in shards, which carry the fingerprint only. Reader: owned by the reader */
    size_t json_len;
    uint32_t seq_len;      /* shards: ids per sequence; 0 in a stream of documents */
    uint32_t part;         /* shards: number of the shard in its split, from 0 */
    uint8_t split;         /* shards: 1 train, 2 val; 0 in a stream of documents */
};

/* The info that a stream of this vocabulary carries; json points into v. */
struct dlm_stream_info dlm_stream_info_of(const struct dlm_vocab *v);

#define DLM_NOT_COUNTED UINT64_MAX

struct dlm_stream_writer;

/* Begin a stream on `file` (borrowed; `name` stands in errors and is copied). level: zstd's, 3 by default. threads: for
 * compression; the bytes written do not depend on it. frame_ids: ids per data frame, 0 for the default. */
int dlm_stream_writer_new(struct dlm_stream_writer **out, FILE *file, const char *name, const struct dlm_stream_info *info, int level,
                          int threads, size_t frame_ids, struct dlm_error *err);
/* The same with the threads of a pool (borrowed), which others may share; one thread at a time writes. */
int dlm_stream_writer_new_in(struct dlm_stream_writer **out, FILE *file, const char *name, const struct dlm_stream_info *info,
                             int level, struct dlm_pool *pool, size_t frame_ids, struct dlm_error *err);
/* What a writer takes of memory, and each lane of its pool besides, at most. */
struct dlm_stream_needs {
    size_t writer, lane; /* bytes */
};
int dlm_stream_writer_needs(struct dlm_stream_needs *out, int level, int lanes, size_t frame_bytes, struct dlm_error *err);
/* Append ids (each < vocab_size); frames are cut every frame_ids ids. */
int dlm_stream_write(struct dlm_stream_writer *w, const uint32_t *ids, size_t n, struct dlm_error *err);
/* Count documents for the closing frame (the writer itself does not look at ids). */
void dlm_stream_count_documents(struct dlm_stream_writer *w, uint64_t n);
/* Text bytes that the ids stand for, for the closing frame; a stream where this is never called says that they were not counted. */
void dlm_stream_count_bytes(struct dlm_stream_writer *w, uint64_t n);
/* Write the closing frames. The file stays open. */
int dlm_stream_finish(struct dlm_stream_writer *w, struct dlm_error *err);
/* After dlm_stream_finish: XXH64 (seed 0) of every byte written. */
uint64_t dlm_stream_writer_hash(const struct dlm_stream_writer *w);
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
    uint64_t bytes; /* text bytes; DLM_NOT_COUNTED where one of the streams does not say */
};
struct dlm_stream_totals dlm_stream_reader_totals(const struct dlm_stream_reader *r);
/* The name errors use: 'PATH' in quotes, or standard input. */
const char *dlm_stream_reader_name(const struct dlm_stream_reader *r);
void dlm_stream_reader_close(struct dlm_stream_reader *r);

/* Random access to a file that is one stream, through its seek table. Opening reads and checks the head and the closing frames
 * against each other and the file's length; reading a frame checks its hash. One user per thread. */
struct dlm_stream_index;

int dlm_stream_index_open(struct dlm_stream_index **out, const char *path, struct dlm_error *err);
const struct dlm_stream_info *dlm_stream_index_info(const struct dlm_stream_index *x);
struct dlm_stream_totals dlm_stream_index_totals(const struct dlm_stream_index *x);
/* The frame that holds id number `id` of the stream (id < tokens), and the number of its first id and how many it has. */
uint64_t dlm_stream_index_find(const struct dlm_stream_index *x, uint64_t id, uint64_t *first, size_t *n);
/* Read frame `frame` into ids, which has room for the n that dlm_stream_index_find told. */
int dlm_stream_index_read(struct dlm_stream_index *x, uint64_t frame, uint32_t *ids, struct dlm_error *err);
void dlm_stream_index_close(struct dlm_stream_index *x);

/* The libraries that text and streams are read with, and their versions: "zstd 1.5.4, …". */
void dlm_stream_libraries(char *to, size_t size);

#endif
