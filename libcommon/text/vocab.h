/* A vocabulary: ids, the bytes they stand for, the merges that make them, and the special ids.
 *
 * Held on disk and in streams as the bytes of a Hugging Face `tokenizer.json` (byte-level BPE). Those bytes are kept verbatim
 * and travel unchanged from dlm-tokenize through streams and shard sets into checkpoints; their XXH64 is the *fingerprint* that
 * says two things were made with one vocabulary. Immutable once made, so threads may share it.
 */
#ifndef DLM_TEXT_VOCAB_H
#define DLM_TEXT_VOCAB_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DLM_NO_ID UINT32_MAX

struct dlm_specials {
    uint32_t begin, end, pad, mask; /* DLM_NO_ID where the vocabulary has none */
};

enum dlm_token_kind {
    DLM_TOKEN_UNUSED,  /* a hole in the numbering */
    DLM_TOKEN_BYTE,    /* one byte */
    DLM_TOKEN_MERGE,   /* longer */
    DLM_TOKEN_ADDED,   /* an added token that is text, found whole before anything is merged */
    DLM_TOKEN_SPECIAL, /* stands for no text */
};

struct dlm_vocab;

/* Read a tokenizer.json. */
int dlm_vocab_load(struct dlm_vocab **out, const char *path, struct dlm_error *err);
/* The same from memory; `name` stands in errors. The bytes are copied. */
int dlm_vocab_parse(struct dlm_vocab **out, const void *json, size_t len, const char *name, struct dlm_error *err);
/* Give *v the end, pad and mask ids that it lacks, as added tokens behind its last id: *v is replaced by a vocabulary with a
 * json of its own (indented as Hugging Face writes it). `told` receives "<|pad|> 50257, <|mask|> 50258", or "" when nothing was
 * missing. */
int dlm_vocab_complete(struct dlm_vocab **v, const char *name, char *told, size_t told_size, struct dlm_error *err);
void dlm_vocab_free(struct dlm_vocab *v);

/* The tokenizer.json bytes; owned by v. */
const char *dlm_vocab_json(const struct dlm_vocab *v, size_t *len);
/* XXH64 of these bytes. */
uint64_t dlm_vocab_fingerprint(const struct dlm_vocab *v);
/* Number of ids: the largest id + 1, special ids included. */
uint32_t dlm_vocab_size(const struct dlm_vocab *v);
struct dlm_specials dlm_vocab_specials(const struct dlm_vocab *v);
enum dlm_token_kind dlm_vocab_kind(const struct dlm_vocab *v, uint32_t id);
/* True for special ids, which stand for no text bytes. */
bool dlm_vocab_is_special(const struct dlm_vocab *v, uint32_t id);
/* The text bytes of an id (0 bytes for a special one and for unused ids); owned by v. */
const uint8_t *dlm_vocab_bytes(const struct dlm_vocab *v, uint32_t id, size_t *len);
/* A special id's written form ("<|mask|>"), NULL for ordinary ids; owned by v. */
const char *dlm_vocab_special_text(const struct dlm_vocab *v, uint32_t id);
/* Text bytes that n ids stand for; ids ≥ size are an assert. */
uint64_t dlm_vocab_count_bytes(const struct dlm_vocab *v, const uint32_t *ids, size_t n);

#endif
