/* The laws of arXiv 2512.10858, as `predict -l paper` (or `-l gidd-2512.10858`) uses them. Not fitted here. */
#ifndef DLM_LAW_PUBLISHED_H
#define DLM_LAW_PUBLISHED_H

#include "law/lawfile.h"

/* True for the names above. */
bool dlm_published_named(const char *name);
/* Adds them to the laws of `l`. */
int dlm_published_fill(struct dlm_laws *l, struct dlm_error *err);

#endif
