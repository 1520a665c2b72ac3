/* From the fields of a line to the ids of a piece (run/score.h): a text that is scored, and what is known before and after it.
 *
 * The parts are encoded each by itself and put together, so that where one ends and the next begins is the writer's choice: the space between them belongs
 * to one of them. A post-processor's begin id stays in front of the whole, its end id is taken away, for nothing ends here. A part that is longer than the
 * model's context is an error, never cut. Errors name file and line where a line is at hand.
 */
#ifndef DLM_RUN_ITEM_H
#define DLM_RUN_ITEM_H

#include "run/jsonlines.h"
#include "run/score.h"
#include "text/encode.h"
#include "text/vocab.h"

#include <stdbool.h>

/* Bytes of a text, borrowed; at NULL: there is none. */
struct dlm_span {
    const char *at;
    size_t n;
};

/* What every item shares. */
struct dlm_item_reader {
    const struct dlm_vocab *vocab; /* borrowed */
    struct dlm_encoder *encoder;   /* owned */
    size_t most;                   /* ids of an item */
    bool end;                      /* put the end id behind what is scored, and score it */
};

/* DLM_EDATA when `end` is asked for and the vocabulary has no end id. */
int dlm_item_reader_init(struct dlm_item_reader *r, const struct dlm_vocab *v, size_t most, bool end, struct dlm_error *err);
void dlm_item_reader_release(struct dlm_item_reader *r);

struct dlm_item {
    struct dlm_ids ids; /* owned, kept from item to item */
    size_t before, after;
    size_t tokens;      /* scored */
    uint64_t bytes;     /* that they stand for */
};

void dlm_item_release(struct dlm_item *i);
struct dlm_piece dlm_item_piece(const struct dlm_item *i);

/* The item `scored` between `before` and `after`; of all three only scored must be there, and must have tokens. */
int dlm_item_build(struct dlm_item_reader *r, struct dlm_item *i, struct dlm_span before, struct dlm_span scored, struct dlm_span after,
                   struct dlm_error *err);
/* The object at hand as --score takes it: {"ids", "clean"}; or completion, text or answer behind context, prompt or prefix, and before suffix. */
int dlm_item_read(struct dlm_item_reader *r, struct dlm_item *i, const struct dlm_lines *l, struct dlm_error *err);

/* The string `key` of an object. Without it *out is {NULL, 0} where `needed` is false, else DLM_EDATA. */
int dlm_span_of(const json_t *object, const char *key, bool needed, struct dlm_span *out, struct dlm_error *err);
/* The first of these keys (NULL-terminated) that the object has. */
int dlm_span_first(const json_t *object, const char *const keys[], struct dlm_span *out, struct dlm_error *err);

/* The text bytes that ids stand for, special ids for none; NUL-terminated, malloc'ed. NULL: no memory. */
char *dlm_item_decode(const struct dlm_vocab *v, const uint32_t *ids, size_t n, size_t *len);
/* These bytes as a JSON string; what is no UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *dlm_item_string(const char *text, size_t n);

#endif
