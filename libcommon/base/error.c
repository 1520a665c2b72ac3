/* Errors as values: formatting only. */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void format(struct dlm_error *err, const char *fmt, va_list ap)
{
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    for (char *p = err->msg; *p; p++) /* one line, whatever a file name holds */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
}

int dlm_fail(struct dlm_error *err, enum dlm_err code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    format(err, fmt, ap);
    va_end(ap);
    return code;
}

int dlm_fail_errno(struct dlm_error *err, enum dlm_err code, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    format(err, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->msg);
    snprintf(err->msg + n, sizeof err->msg - n, ": %s", strerror(saved));
    return saved == EPIPE ? DLM_EPIPE : code;
}

int dlm_fail_in(struct dlm_error *err, int code, const char *fmt, ...)
{
    struct dlm_error inner = *err;
    va_list ap;
    va_start(ap, fmt);
    format(err, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->msg);
    snprintf(err->msg + n, sizeof err->msg - n, ": %s", inner.msg);
    return code;
}

int dlm_err_exit_status(int code)
{
    switch (code) {
    case DLM_OK: return 0;
    case DLM_EUSAGE: return 2;
    case DLM_EDIVERGED: return 3;
    default: return 1;
    }
}
