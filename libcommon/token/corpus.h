/* Whole corpora: documents through many threads, in order.
 *
 * Documents are gathered into batches of fixed size, the batches of a round are worked on in parallel, and what came of them is
 * handed on in their order; so no result depends on the number of threads, and memory is a few batches a thread (or one document,
 * where a document cannot be cut).
 */
#ifndef DLM_TOKEN_CORPUS_H
#define DLM_TOKEN_CORPUS_H

#include "base/progress.h"
#include "text/trainer.h"
#include "text/vocab.h"
#include "token/document.h"
#include "token/stream.h"

struct dlm_corpus {
    const char *const *paths; /* borrowed; none is standard input */
    size_t n_paths;
    struct dlm_document_options options; /* part_bytes is set here, by what may be cut */
    int threads;
    struct dlm_progress *progress; /* told of the bytes read; may be NULL */
};

/* Count the words of a corpus; the trainer has a lane for each thread. */
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
