/* Finished samples written out: as text, as JSON Lines, or as a token stream.
 *
 * A text ends before the first end id that follows its prompt. Special ids stand for no bytes.
 */
#ifndef DLM_RUN_TRANSCRIPT_H
#define DLM_RUN_TRANSCRIPT_H

#include "run/prompts.h"
#include "text/vocab.h"
#include "token/stream.h"

#include <stdio.h>

enum dlm_transcript_format {
    DLM_TRANSCRIPT_TEXT = 0,   /* the bytes, a newline after each */
    DLM_TRANSCRIPT_JSONL = 1,  /* {"text", "prompt", "ids", "seed", "index"}; bytes that are no UTF-8 become U+FFFD */
    DLM_TRANSCRIPT_TOKENS = 2, /* one document each, ended by the end id */
};

struct dlm_transcript {
    FILE *file;       /* borrowed */
    enum dlm_transcript_format format;
    const struct dlm_vocab *vocab; /* borrowed */
    struct dlm_stream_writer *stream; /* owned; tokens only */
    uint64_t seed;
};

/* `name` stands in errors. */
int dlm_transcript_open(struct dlm_transcript *t, FILE *file, const char *name, enum dlm_transcript_format format, const struct dlm_vocab *v,
                        uint64_t seed, struct dlm_error *err);
/* Where the text ids (n) ends: before the first end id that follows its `prompt` given ids. */
size_t dlm_transcript_end(const struct dlm_vocab *v, const uint32_t *ids, size_t n, size_t prompt);
/* Sample number `index`: ids (n), the first prompt->n of which were given; prompt may be NULL. What the file did not take
 * shows when it is closed. */
int dlm_transcript_add(struct dlm_transcript *t, uint64_t index, const uint32_t *ids, size_t n, const struct dlm_prompt *prompt,
                       struct dlm_error *err);
/* Write what a stream ends with. */
int dlm_transcript_finish(struct dlm_transcript *t, struct dlm_error *err);
void dlm_transcript_release(struct dlm_transcript *t);

#endif
