/* The parts that all tables of results share: the columns of the group, and numbers with NA for what is not there. */
#ifndef DLM_LAW_COLUMNS_H
#define DLM_LAW_COLUMNS_H

#include <stdbool.h>
#include <stdio.h>

/* The names in `by` (commas between; "": none), each with a tab after it; the values in a group's name (slashes between, the
 * last takes those left over) likewise. */
void dlm_columns_names(FILE *f, const char *by);
void dlm_columns_group(FILE *f, const char *by, const char *group);

/* Is `name` one of those in `by`? */
bool dlm_columns_has(const char *by, const char *name);

/* A tab and a number; NA where it is not finite. */
void dlm_columns_number(FILE *f, double v, int digits);

#endif
