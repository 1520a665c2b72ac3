/* Writing a tokenizer.json: the text that Hugging Face's `tokenizers` would save for the same vocabulary. */
#ifndef DLM_TEXT_COMPOSE_H
#define DLM_TEXT_COMPOSE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A token by its bytes. */
struct dlm_token_bytes {
    const uint8_t *at;
    size_t len;
};

struct dlm_vocab_plan {
    const char *const *specials; /* (n_specials) their written forms, ids 0 … */
    size_t n_specials;
    const char *regex;           /* of the pieces; NULL makes a document one piece */
    const struct dlm_token_bytes *tokens; /* (n_tokens) ids n_specials …; a length of 0 leaves its id unused */
    size_t n_tokens;
    const uint32_t (*merges)[2]; /* (n_merges) left and right, as indices into tokens, by rank */
    size_t n_merges;
    bool whole_words;            /* ignore_merges */
};

/* *json is malloc'ed and NUL-terminated. Strings that are not UTF-8 are an error. */
int dlm_vocab_compose(char **json, const struct dlm_vocab_plan *plan, struct dlm_error *err);

#endif
