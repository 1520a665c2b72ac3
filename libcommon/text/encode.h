/* Text to ids with a vocabulary: split by its pattern, merge by rank.
 *
 * One encoder per thread (it holds a word cache and scratch); the vocabulary is shared. The ids are what Hugging Face's encode()
 * gives for the same tokenizer.json, its post-processor included.
 */
#ifndef DLM_TEXT_ENCODE_H
#define DLM_TEXT_ENCODE_H

#include "text/vocab.h"

struct dlm_encoder;

struct dlm_ids {
    uint32_t *at; /* owned by the caller, grown with realloc; free() it */
    size_t n, cap;
};

/* `parse_special`: special tokens written in the text become their ids instead of ordinary text. */
int dlm_encoder_new(struct dlm_encoder **out, const struct dlm_vocab *v, bool parse_special, struct dlm_error *err);
void dlm_encoder_free(struct dlm_encoder *e);
/* True when a document may be encoded in parts that end at dlm_split_cut's places. */
bool dlm_encoder_may_cut(const struct dlm_encoder *e);
/* Append the ids of one part of a document; `context` bytes that follow it are only looked at. The post-processor's ids come with
 * the first part and with the last. */
int dlm_encoder_run_part(struct dlm_encoder *e, const void *text, size_t len, size_t context, bool first, bool last,
                         struct dlm_ids *ids, struct dlm_error *err);
/* Append one id. */
int dlm_ids_push(struct dlm_ids *ids, uint32_t id, struct dlm_error *err);
/* Append the ids of one document to `ids`. Any bytes are accepted. */
int dlm_encoder_run(struct dlm_encoder *e, const void *text, size_t len, struct dlm_ids *ids, struct dlm_error *err);

#endif
