/* Cutting text into pieces before merging (pre-tokenisation).
 *
 * A split is a chain of steps, each applied to the pieces of the one before, as Hugging Face's pre_tokenizer Sequence of Split
 * and Digits does: what matches is a piece and so is what lies between two matches. Bytes that are not UTF-8 never reach a step:
 * a maximal run of bytes at which no well-formed character begins is a piece of its own, and the text between such runs is cut
 * as if it stood alone. Thus pieces, put together, are always exactly the text (but for NFC, which changes it on purpose).
 *
 * Expressions are PCRE2's, with \s, \w, ^ and $ meaning what they mean to Oniguruma (Hugging Face's engine): white space is the
 * property White_Space, a word character is Alphabetic, M, Nd or Pc, and anchors match at lines.
 *
 * A named pattern that is the only step is scanned by hand (scan.h), with the same result.
 *
 * A split is immutable and may be shared; each thread has its own scratch.
 */
#ifndef DLM_TEXT_SPLIT_H
#define DLM_TEXT_SPLIT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_split_step {
    const char *regex; /* not a name */
    bool whole;        /* text between matches is an error instead of a piece (Removed, inverted) */
};

struct dlm_split;
struct dlm_split_scratch;

/* The expression of `gpt2`, `cl100k` or `o200k`; any other string is an expression itself and is returned. */
const char *dlm_split_pattern(const char *name);

/* nfc: normalise to NFC before the first step. No step at all makes each document one piece. */
int dlm_split_new(struct dlm_split **out, const struct dlm_split_step *steps, size_t n, bool nfc, struct dlm_error *err);
void dlm_split_free(struct dlm_split *s);

/* True when it was made with nfc. */
bool dlm_split_normalizes(const struct dlm_split *s);

int dlm_split_scratch_new(struct dlm_split_scratch **out, const struct dlm_split *s, struct dlm_error *err);
void dlm_split_scratch_free(struct dlm_split_scratch *k);

/* A piece; 0 to go on. */
typedef int dlm_piece_fn(void *to, const uint8_t *piece, size_t len, struct dlm_error *err);

/* Call `piece` for each piece of text[0..len), in order, none empty. The `context` bytes that follow are only looked at. */
int dlm_split_run(const struct dlm_split *s, struct dlm_split_scratch *k, const void *text, size_t len, size_t context,
                  dlm_piece_fn *piece, void *to, struct dlm_error *err);

/* The same by the run: pieces end at ends[0 … n) within text, the first begins at text[0], and text[0..room) may be read. */
typedef int dlm_pieces_fn(void *to, const uint8_t *text, size_t room, const size_t *ends, size_t n, struct dlm_error *err);
int dlm_split_run_many(const struct dlm_split *s, struct dlm_split_scratch *k, const void *text, size_t len, size_t context,
                       dlm_pieces_fn *pieces, void *to, struct dlm_error *err);

/* True when a text may be cut at dlm_split_cut's places, the letter after the cut given as context of the part before it,
 * without changing a piece. That holds for the named patterns: in no piece does a letter follow a line feed, and one character
 * is all that they look ahead. */
bool dlm_split_may_cut(const struct dlm_split *s);
/* The last p in (from, len) with a line feed before it and an ASCII letter at it; 0 when there is none. */
size_t dlm_split_cut(const uint8_t *text, size_t from, size_t len);

/* The libraries that text is read with, and their versions: "PCRE2 10.42, …". */
void dlm_split_libraries(char *to, size_t size);

#endif
