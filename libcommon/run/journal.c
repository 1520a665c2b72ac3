/* The metrics of one run as text. */
#include "run/journal.h"

#include <stdlib.h>
#include <string.h>

static int append(struct dlm_journal *j, const char *s, size_t n, struct dlm_error *err)
{
    if (j->len + n + 1 > j->cap) {
        size_t cap = 2 * (j->len + n) + 4096;
        char *more = realloc(j->text, cap);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "no memory for the metrics");
        j->text = more;
        j->cap = cap;
    }
    memcpy(j->text + j->len, s, n);
    j->len += n;
    j->text[j->len] = 0;
    return 0;
}

static int put(struct dlm_journal *j, const char *s, size_t n, struct dlm_error *err)
{
    if (fwrite(s, 1, n, j->out) != n || fflush(j->out))
        return dlm_fail_errno(err, DLM_EIO, "cannot write %s", j->name);
    return 0;
}

static int header_text(struct dlm_journal *j, struct dlm_error *err)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the metrics");
    int rc = dlm_metric_write_header(f, "memory", err);
    if (fclose(f) && !rc)
        rc = dlm_fail(err, DLM_ENOMEM, "no memory for the metrics");
    if (!rc)
        rc = append(j, text, len, err);
    free(text);
    return rc;
}

int dlm_journal_open(struct dlm_journal *j, const char *metrics, const char *earlier, size_t earlier_len, struct dlm_error *err)
{
    *j = (struct dlm_journal){.out = stdout, .name = "standard output"};
    int rc = header_text(j, err);
    size_t header = j->len;
    if (!rc && earlier) {
        j->len = 0;
        rc = append(j, earlier, earlier_len, err);
    }
    if (!rc && metrics) {
        j->name = metrics;
        j->out = fopen(metrics, "wb");
        if (!j->out)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", metrics);
    }
    if (!rc)
        rc = put(j, j->text, metrics ? j->len : header, err);
    return rc;
}

int dlm_journal_add(struct dlm_journal *j, const struct dlm_metric *m, struct dlm_error *err)
{
    char *row = dlm_metric_format(m);
    if (!row)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the metrics");
    size_t n = strlen(row);
    int rc = append(j, row, n, err);
    if (!rc)
        rc = put(j, row, n, err);
    free(row);
    return rc;
}

int dlm_journal_close(struct dlm_journal *j, struct dlm_error *err)
{
    int rc = 0;
    if (j->out && j->out != stdout && fclose(j->out))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", j->name);
    free(j->text);
    *j = (struct dlm_journal){0};
    return rc;
}
