/* The text of one field of a line of JSON.
 *
 * Lines that are sound and ordinary are scanned in place, without building what they hold; everything else goes through jansson, whose
 * word on what JSON is, and what is wrong with a line, is the only one: the scanner accepts nothing that jansson would not, and gives the
 * same text (RFC 8259; of equal names the last one counts). One for each thread.
 */
#ifndef DLM_TOKEN_FIELD_H
#define DLM_TOKEN_FIELD_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct dlm_field;

/* name: of the field; borrowed. */
int dlm_field_new(struct dlm_field **out, const char *name, struct dlm_error *err);
void dlm_field_free(struct dlm_field *f);

/* The field of the object in json[0..len). *text stands in f or in json, until the next call. `file` and `line` are for errors. */
int dlm_field_text(struct dlm_field *f, const uint8_t *json, size_t len, const char *file, uint64_t line, const uint8_t **text, size_t *n,
                   struct dlm_error *err);

/* Lines so far that were not ordinary. */
uint64_t dlm_field_odd(const struct dlm_field *f);

#endif
