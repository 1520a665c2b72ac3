/* JSON Lines in, JSON Lines out: a stream of objects, each answered by itself with fields added.
 *
 * Lines may be of any length; blank ones are skipped and counted. An answer repeats the text of its object byte for byte, so that numbers and names come
 * back as they were written; only a field of a name that is added anew is replaced. Errors name file and line.
 */
#ifndef DLM_RUN_JSONLINES_H
#define DLM_RUN_JSONLINES_H

#include "base/error.h"
#include "base/output.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct dlm_lines {
    FILE *f;
    const char *name; /* borrowed: the path, or "standard input" */
    char *text;       /* owned: the line at hand */
    size_t len, size;
    uint64_t number;  /* of that line, from 1 */
    json_t *object;   /* owned: the object it holds */
};

/* path: NULL or "-" is standard input. */
int dlm_lines_open(struct dlm_lines *l, const char *path, struct dlm_error *err);
void dlm_lines_close(struct dlm_lines *l);
/* 1: an object; 0: the end; else an error (DLM_ESTOPPED when a signal came while waiting). */
int dlm_lines_next(struct dlm_lines *l, struct dlm_error *err);
/* DLM_EDATA, with file and line before the message. */
int dlm_lines_fail(const struct dlm_lines *l, struct dlm_error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Print the object at hand up to where fields can be added, without the fields `added` (NULL-terminated), as in `{"a": 1`. The caller prints
 * `, "NAME": value` for each, and `}`. Some other field must be left. */
int dlm_lines_answer(const struct dlm_lines *l, const char *const added[], FILE *out, struct dlm_error *err);
/* What has been answered goes out, whatever comes next. */
int dlm_lines_flush(struct dlm_output *out, struct dlm_error *err);

#endif
