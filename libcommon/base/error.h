/* Errors as values.
 *
 * Every library function that can fail returns 0 or a negative `enum dlm_err`, and writes one line for the person
 * (lowercase, no full stop, naming the file and where it helps the offset or line) into the caller's `struct dlm_error`.
 * Only cmd/ prints and exits. A broken invariant is an assert, never an error.
 */
#ifndef DLM_BASE_ERROR_H
#define DLM_BASE_ERROR_H

#include <stdarg.h>

enum dlm_err {
    DLM_OK = 0,
    DLM_EIO = -1,        /* the system refused: open, read, write, rename */
    DLM_EDATA = -2,      /* the input is not what it claims to be, or contradicts another input */
    DLM_EUSAGE = -3,     /* the request makes no sense (exit status 2) */
    DLM_ENOMEM = -4,
    DLM_EDIVERGED = -5,  /* the loss is not finite (exit status 3) */
    DLM_ESTOPPED = -6,   /* SIGINT or SIGTERM was honoured at a clean point */
    DLM_EPIPE = -7,      /* the reader of our output went away: quiet, as SIGPIPE is */
};

struct dlm_error {
    char msg[1024]; /* NUL-terminated, empty when nothing failed */
};

/* Format the message and return `code`, so that a failing function can end in `return dlm_fail(err, DLM_EDATA, …)`. */
int dlm_fail(struct dlm_error *err, enum dlm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As dlm_fail, with ": " and the text of errno at the time of the call. */
int dlm_fail_errno(struct dlm_error *err, enum dlm_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "PREFIX: " before the message that is there; returns `code`. */
int dlm_fail_in(struct dlm_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The exit status (commands.md) that a return value of a library call maps to. */
int dlm_err_exit_status(int code);

#endif
