/* Levels of loss, asked for on the command line: `8` (how many; their ends from the data), `4:3:5` (evenly in log between two
 * ends, both included) or `3.6,3.2,3` (these). */
#ifndef DLM_LAW_LEVELS_H
#define DLM_LAW_LEVELS_H

#include "base/error.h"

#include <stddef.h>

enum { DLM_LEVELS_MAX = 1000 };

struct dlm_levels {
    size_t n;
    double *at; /* (n) owned, falling; NULL: n levels where the data have them */
};

/* DLM_EUSAGE where the text is none of these. */
int dlm_levels_parse(const char *text, struct dlm_levels *l, struct dlm_error *err);
void dlm_levels_release(struct dlm_levels *l);

#endif
