/* Outputs that are whole or absent.
 *
 * A named output is written to a temporary file beside it and renamed over it by commit; abort (also reached through
 * cmd/'s exit path) removes it. `-` or NULL is standard output, which commit flushes and checks, so a full disk or a closed
 * pipe is never a silent success. A name that exists and is no regular file (a pipe, /dev/null) is opened as it is.
 */
#ifndef DLM_BASE_OUTPUT_H
#define DLM_BASE_OUTPUT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct dlm_output {
    FILE *file;       /* write here; NULL when closed */
    char *path;       /* owned; NULL for standard output */
    char *temporary;  /* owned; NULL when nothing is to be renamed */
    struct dlm_output *next; /* list of open outputs, for dlm_output_abort_all */
};

/* Open for writing. A directory of that name is an error. */
int dlm_output_open(struct dlm_output *out, const char *path, struct dlm_error *err);

/* As dlm_output_open, refusing (DLM_EUSAGE) a standard output that is a terminal: for token streams. */
int dlm_output_open_binary(struct dlm_output *out, const char *path, struct dlm_error *err);

/* Flush, check, sync, close, rename. On failure the temporary file is removed. A second call does nothing. */
int dlm_output_commit(struct dlm_output *out, struct dlm_error *err);

/* Close and remove what was written (standard output stays as it is). A second call does nothing. */
void dlm_output_abort(struct dlm_output *out);

/* Abort every output still open; cmd/ calls it before a failing exit. */
void dlm_output_abort_all(void);

/* Flush standard output and say whether everything written to it arrived. */
int dlm_output_check_stdout(struct dlm_error *err);

/* The name errors use: the path, or "standard output". */
const char *dlm_output_name(const struct dlm_output *out);

/* Write a small file whole: temporary, sync, rename. */
int dlm_output_write_file(const char *path, const void *bytes, size_t n, struct dlm_error *err);

/* The name, to be freed, of a new directory beside `path`, for what is renamed to it when it is whole. NULL: errno says why. */
char *dlm_output_make_dir(const char *path);
/* Remove such a directory, which is flat and ours alone. */
void dlm_output_remove_dir(const char *dir);

/* fsync a directory, so that a rename in it lasts. */
int dlm_output_sync_dir(const char *path, struct dlm_error *err);

#endif
