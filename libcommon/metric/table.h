/* Rows of tab-separated text, read by column name.
 *
 * One or several inputs (`-` is standard input) are read one after the other as a single table, one row in memory at a time. The
 * first line of each input names its columns; header lines met again, as `cat` leaves them, are accepted, also where their
 * columns stand in another order or number. Columns nobody asked for are passed over. `NA` and an empty field are "not measured".
 * A row with another number of fields than its header, text where a number is asked for and a missing column are errors that name
 * input, line and column. Two rules of metrics hold for every table that has the columns (dlm-metrics(5)): rows that are equal in
 * run, kind, step and loss count once, and equal in the first three but not in the loss is an error; and the facts of a run (noise,
 * objective, params, batch_tok, lr, seed, seq_len, where they are there) do not differ between its rows. Memory grows with the
 * number of runs and hardly with that of rows (repeats.h). Not thread-safe.
 */
#ifndef DLM_METRIC_TABLE_H
#define DLM_METRIC_TABLE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_table;

/* No input is opened yet; n = 0 reads standard input. `paths` must outlive the table. */
int dlm_table_new(struct dlm_table **t, const char *const *paths, size_t n, struct dlm_error *err);
void dlm_table_free(struct dlm_table *t);

/* Ask for a column before the first row; asking again gives the same slot. Returns the slot (≥ 0) or an error. A required column
 * that a header lacks is an error when that header is read. */
int dlm_table_want(struct dlm_table *t, const char *name, bool required, struct dlm_error *err);

/* Ask, also before the first row, for every column that a header names: they get the slots up to dlm_table_slots as headers are
 * met, the new ones of a header last. */
void dlm_table_want_all(struct dlm_table *t);
int dlm_table_slots(const struct dlm_table *t);

/* 1: there is a row. 0: the inputs are at their end. < 0: an error; an input without any line is one. */
int dlm_table_next(struct dlm_table *t, struct dlm_error *err);

/* Pass over rows that cannot be read: another number of fields than the header, text where a number belongs, a NUL byte. What the
 * caller finds wrong with a row it reports by dlm_table_skip. Contradictions between rows, missing columns and files that are no
 * table stay errors. */
void dlm_table_skip_bad(struct dlm_table *t);
/* 0 where bad rows are passed over and `rc` is DLM_EDATA, whose message is kept if it is the first; rc otherwise. */
int dlm_table_skip(struct dlm_table *t, int rc, struct dlm_error *err);
uint64_t dlm_table_skipped(const struct dlm_table *t, const char **first); /* `first`: what was wrong with the first of them */

/* Of the present row. Texts stay valid until the next call of dlm_table_next. */
bool dlm_table_has(const struct dlm_table *t, int slot);         /* does its header name the column? */
const char *dlm_table_text(const struct dlm_table *t, int slot); /* "NA" where the column is absent or the field empty */
int dlm_table_number(const struct dlm_table *t, int slot, double *out, struct dlm_error *err); /* NAN where not measured */
const char *dlm_table_column(const struct dlm_table *t, int slot);

/* An error that begins with input, line and (slot ≥ 0) column of the present row. */
int dlm_table_fail(const struct dlm_table *t, int slot, struct dlm_error *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Rows given out so far, and rows left out because an equal one was. */
uint64_t dlm_table_rows(const struct dlm_table *t);
uint64_t dlm_table_repeats(const struct dlm_table *t);

#endif
