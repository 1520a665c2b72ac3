/* The part of a text that a regular expression (PCRE2) finds: its first group that took part in the first match, or the whole match where it has no group. */
#ifndef DLM_RUN_EXTRACT_H
#define DLM_RUN_EXTRACT_H

#include "run/item.h"

struct dlm_extract;

/* UTF-8 is read as characters; what is none never matches. DLM_EDATA says what is wrong with the expression and where. */
int dlm_extract_new(struct dlm_extract **out, struct dlm_span pattern, struct dlm_error *err);
void dlm_extract_free(struct dlm_extract *e);
/* {NULL, 0} when nothing is found. */
struct dlm_span dlm_extract_find(struct dlm_extract *e, struct dlm_span text);

#endif
