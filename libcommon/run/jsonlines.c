/* JSON Lines. Not the reader of corpora (token/document.c), which takes one field and no answers. */
#include "run/jsonlines.h"

#include "base/stop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dlm_lines_open(struct dlm_lines *l, const char *path, struct dlm_error *err)
{
    bool standard = !path || !strcmp(path, "-");
    *l = (struct dlm_lines){.f = standard ? stdin : fopen(path, "re"), .name = standard ? "standard input" : path};
    return l->f ? 0 : dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
}

void dlm_lines_close(struct dlm_lines *l)
{
    json_decref(l->object);
    free(l->text);
    if (l->f && l->f != stdin)
        fclose(l->f);
    *l = (struct dlm_lines){0};
}

int dlm_lines_fail(const struct dlm_lines *l, struct dlm_error *err, const char *fmt, ...)
{
    char why[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    dlm_fail(err, DLM_EDATA, "%s", why);
    return dlm_fail_in(err, DLM_EDATA, "%s:%llu", l->name, (unsigned long long)l->number);
}

int dlm_lines_next(struct dlm_lines *l, struct dlm_error *err)
{
    json_decref(l->object);
    l->object = NULL;
    do {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        errno = 0;
        ssize_t n = getline(&l->text, &l->size, l->f);
        if (n < 0) {
            if (dlm_stop_signal())
                return dlm_fail(err, DLM_ESTOPPED, "stopped");
            if (ferror(l->f) || errno == ENOMEM) /* the length of a line is bounded by memory alone */
                return dlm_fail_errno(err, errno == ENOMEM ? DLM_ENOMEM : DLM_EIO, "cannot read '%s'", l->name);
            return 0;
        }
        l->len = (size_t)n;
        l->number++;
    } while (strspn(l->text, " \t\r\n") == l->len);
    while (strchr(" \t\r\n", l->text[l->len - 1]) && l->text[l->len - 1])
        l->len--;
    json_error_t why;
    l->object = json_loadb(l->text, l->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!l->object)
        return dlm_fail(err, DLM_EDATA, "%s:%llu:%d: not JSON: %s", l->name, (unsigned long long)l->number, why.column, why.text);
    return json_is_object(l->object) ? 1 : dlm_lines_fail(l, err, "not a JSON object");
}

int dlm_lines_answer(const struct dlm_lines *l, const char *const added[], FILE *out, struct dlm_error *err)
{
    bool again = false;
    for (size_t i = 0; added[i]; i++)
        again |= json_object_del(l->object, added[i]) == 0;
    char *fresh = again ? json_dumps(l->object, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    if (again && !fresh)
        return dlm_fail(err, DLM_ENOMEM, "no memory for an answer");
    const char *text = fresh ? fresh : l->text;
    size_t len = fresh ? strlen(fresh) : l->len;
    fwrite(text, 1, len - 1, out); /* all but the closing brace */
    free(fresh);
    return 0;
}

int dlm_lines_flush(struct dlm_output *out, struct dlm_error *err)
{
    errno = 0;
    if (!fflush(out->file) && !ferror(out->file))
        return 0;
    const char *name = dlm_output_name(out);
    return errno ? dlm_fail_errno(err, DLM_EIO, out->path ? "cannot write '%s'" : "cannot write %s", name)
                 : dlm_fail(err, DLM_EIO, out->path ? "cannot write '%s'" : "cannot write %s", name);
}
