/* Whole corpora: documents through many threads, in order.
 *
 *     reader thread          lanes of a pool           the calling thread
 *     files → documents  →   batches, side by side  →  what came of them, in order  →  file
 *
 * Documents are gathered into batches of fixed size, which stand in a ring: the reader fills the next free one, the lanes work on what
 * is full, and the calling thread takes what is done in the order of the text. So reading, encoding, compressing and writing overlap,
 * no result depends on the number of threads, and memory is a few batches a thread (or one document, where a document cannot be cut).
 * With a pool of one lane all of it happens in the calling thread, a batch at a time. Of several errors the first in the order of the
 * text is told, so that they do not depend on threads either.
 */
#ifndef DLM_TOKEN_CORPUS_H
#define DLM_TOKEN_CORPUS_H

#include "base/progress.h"
#include "text/trainer.h"
#include "text/vocab.h"
#include "token/document.h"
#include "token/pool.h"
#include "token/stream.h"

struct dlm_corpus {
    const char *const *paths; /* borrowed; none is standard input */
    size_t n_paths;
    struct dlm_document_options options; /* part_bytes is set here, by what may be cut */
    struct dlm_pool *pool;         /* borrowed */
    struct dlm_progress *progress; /* told of the bytes read; may be NULL */
};

/* Count the words of a corpus; the trainer has the lanes of the pool. */
int dlm_corpus_count(const struct dlm_corpus *c, struct dlm_trainer *t, struct dlm_error *err);

/* The ids of a batch: parts of documents one after the other. */
struct dlm_corpus_ids {
    const uint32_t *ids;
    size_t n;
    const size_t *ends;      /* (n_ends) where the documents end that end in this batch */
    size_t n_ends;
    uint64_t bytes;          /* text bytes they stand for */
};
typedef int dlm_corpus_fn(void *to, const struct dlm_corpus_ids *batch, struct dlm_error *err);

/* Encode a corpus. end_ids: each document's ids are followed by the end id unless that is already last. `take` is called in
 * order, by the calling thread. */
int dlm_corpus_encode(const struct dlm_corpus *c, const struct dlm_vocab *v, bool parse_special, bool end_ids,
                      dlm_corpus_fn *take, void *to, struct dlm_error *err);

/* Write the text of an open stream to `file` (`name` stands in errors). terminator: a byte written for each end id, -1 for none.
 * v: of the stream. */
int dlm_corpus_decode(struct dlm_stream_reader *r, const struct dlm_vocab *v, int terminator, FILE *file, const char *name,
                      struct dlm_error *err);

/* Read an open stream to its end and count the text bytes that its ids stand for. */
int dlm_corpus_measure(struct dlm_stream_reader *r, const struct dlm_vocab *v, uint64_t *bytes, struct dlm_error *err);

#endif
