/* Conditions on rows: `step>5000 && elbo<4 && noise=="masked"`.
 *
 * A condition is made of column names, numbers (with K, M, G as everywhere), texts in quotes, + - * / ^, comparisons, ! && || and
 * parentheses. A column compared with a text is taken as text, otherwise as a number. A comparison of numbers of which one is not
 * measured (NA) is false, whichever it is; `bpb != "NA"` asks whether something was measured. Text where a number belongs is an
 * error that names its place in the table, a condition that makes no sense one that shows where. Not thread-safe.
 */
#ifndef DLM_LAW_WHERE_H
#define DLM_LAW_WHERE_H

#include "metric/table.h"

struct dlm_where;

/* Reads `text` and asks `t` (borrowed) for the columns it names, which are required. */
int dlm_where_new(struct dlm_where **w, const char *text, struct dlm_table *t, struct dlm_error *err);
void dlm_where_free(struct dlm_where *w);

/* Does the present row of the table meet it? 1 yes, 0 no, < 0 an error. */
int dlm_where_test(const struct dlm_where *w, struct dlm_error *err);

#endif
