/* The writer of metrics rows (dlm-metrics(5)).
 *
 * Every row has the columns of DLM_METRIC_COLUMNS, in that order, whatever it holds: a text field that is NULL or empty, a real
 * that is not finite and a whole number of UINT64_MAX print as NA, and a control character in a text field becomes a space, so
 * that no name of a run can change the number of fields or lines. Not a reader: that is metric/table.h, which goes by column
 * names alone.
 */
#include "metric/metric.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_WIDTH = 40 }; /* bytes kept for a number with its tab; %.9g needs 16, a uint64 20 */

static char *put_text(char *to, const char *s)
{
    if (!s || !*s)
        s = "NA";
    for (; *s; s++)
        *to++ = (unsigned char)*s < ' ' || *s == 0x7f ? ' ' : *s;
    return to;
}

static char *put_T(char *to, const char *s)
{
    return put_text(to, s);
}

static char *put_U(char *to, uint64_t v)
{
    return v == UINT64_MAX ? put_text(to, NULL) : to + snprintf(to, NUMBER_WIDTH, "%llu", (unsigned long long)v);
}

static char *put_R(char *to, double v)
{
    return isfinite(v) ? to + snprintf(to, NUMBER_WIDTH, "%.9g", v) : put_text(to, NULL);
}

static size_t size_T(const char *s)
{
    return s ? strlen(s) + 4 : 4;
}

static size_t size_U(uint64_t v)
{
    (void)v;
    return NUMBER_WIDTH;
}

static size_t size_R(double v)
{
    (void)v;
    return NUMBER_WIDTH;
}

char *dlm_metric_format(const struct dlm_metric *m)
{
    size_t size = 1;
#define X(name, type) size += size_##type(m->name);
    DLM_METRIC_COLUMNS(X)
#undef X
    char *text = malloc(size), *at = text;
    if (!text)
        return NULL;
#define X(name, type) \
    at = put_##type(at, m->name); \
    *at++ = '\t';
    DLM_METRIC_COLUMNS(X)
#undef X
    at[-1] = '\n';
    *at = 0;
    return text;
}

static int put_line(FILE *f, const char *name, const char *text, struct dlm_error *err)
{
    errno = 0;
    if (fputs(text, f) == EOF || fflush(f))
        return dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name);
    return 0;
}

int dlm_metric_write_header(FILE *f, const char *name, struct dlm_error *err)
{
#define X(column, type) "\t" #column
    static const char header[] = DLM_METRIC_COLUMNS(X) "\n";
#undef X
    return put_line(f, name, header + 1, err);
}

int dlm_metric_write(FILE *f, const char *name, const struct dlm_metric *m, struct dlm_error *err)
{
    char *text = dlm_metric_format(m);
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = put_line(f, name, text, err);
    free(text);
    return rc;
}
