/* Names met so far, numbered in that order; found by hash. */
#ifndef DLM_METRIC_NAMES_H
#define DLM_METRIC_NAMES_H

#include "base/error.h"

#include <stddef.h>

struct dlm_names {
    char **at; /* (n) owned */
    size_t n, room;
    size_t *place; /* (n_place) 1 + number, 0 free */
    size_t n_place;
};

/* The number of a name, given one when it is new. */
int dlm_names_number(struct dlm_names *s, const char *name, size_t *out, struct dlm_error *err);
void dlm_names_release(struct dlm_names *s);

#endif
