/* What a person should know about a result, one line each: libraries never print, so they collect, and cmd/ says it once all went
 * well. */
#ifndef DLM_LAW_NOTES_H
#define DLM_LAW_NOTES_H

#include "base/error.h"

#include <stddef.h>

struct dlm_notes {
    char **at; /* owned */
    size_t n;
};

/* A note that is there already is not added again. */
int dlm_notes_add(struct dlm_notes *notes, struct dlm_error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Forget all but the first n. */
void dlm_notes_cut(struct dlm_notes *notes, size_t n);
void dlm_notes_release(struct dlm_notes *notes);

#endif
