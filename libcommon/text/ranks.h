/* Reading tiktoken rank files: a line for each token, its bytes in base64 and its rank, which is its id. */
#ifndef DLM_TEXT_RANKS_H
#define DLM_TEXT_RANKS_H

#include "text/vocab.h"

/* The vocabulary of a rank file as a tokenizer.json, which is what streams carry: every way to make a token of two others is a
 * merge, ranked by the token's rank, and a piece that is a token is that token (ignore_merges), as Hugging Face converts such
 * files. It has no special ids; dlm_vocab_complete() gives it some. regex: of the pieces, which the file does not say. */
int dlm_vocab_load_ranks(struct dlm_vocab **out, const char *path, const char *regex, struct dlm_error *err);

#endif
