/* Prompts from the command line and from JSON Lines. Not the reader of corpora: prompts are few, and held in memory. */
#include "run/prompts.h"

#include "text/encode.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dlm_prompts_release(struct dlm_prompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->at[i].text);
        free(p->at[i].ids);
    }
    free(p->at);
    *p = (struct dlm_prompts){0};
}

/* Each mask becomes `gap` of them. */
static int widen(struct dlm_ids *ids, uint32_t mask, size_t gap, struct dlm_error *err)
{
    struct dlm_ids wide = {0};
    int rc = 0;
    for (size_t i = 0; i < ids->n && !rc; i++)
        for (size_t k = 0; k < (ids->at[i] == mask ? gap : 1) && !rc; k++)
            rc = dlm_ids_push(&wide, ids->at[i], err);
    free(ids->at);
    *ids = wide;
    return rc;
}

static int add(struct dlm_prompts *p, struct dlm_encoder *e, struct dlm_specials special, const char *text, size_t len, size_t most, struct dlm_error *err)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 16;
        struct dlm_prompt *at = reallocarray(p->at, cap, sizeof *at);
        if (!at)
            return dlm_fail(err, DLM_ENOMEM, "no memory for the prompts");
        p->at = at;
        p->cap = cap;
    }
    struct dlm_ids ids = {0};
    char *copy = malloc(len + 1);
    int rc = copy ? dlm_encoder_run(e, text, len, &ids, err) : dlm_fail(err, DLM_ENOMEM, "no memory for the prompts");
    if (!rc && ids.n && ids.at[ids.n - 1] == special.end)
        ids.n--;
    if (!rc && p->gaps && p->gap > 1)
        rc = widen(&ids, special.mask, p->gap, err);
    if (!rc && ids.n > most)
        rc = dlm_fail(err, DLM_EDATA, "the prompt has %zu tokens, more than the length of a sample, %zu", ids.n, most);
    if (rc) {
        free(copy);
        free(ids.at);
        return rc;
    }
    memcpy(copy, text, len);
    copy[len] = 0;
    p->at[p->n++] = (struct dlm_prompt){copy, len, ids.at, ids.n};
    return 0;
}

int dlm_prompts_add(struct dlm_prompts *p, const struct dlm_vocab *v, const char *text, size_t len, size_t most, struct dlm_error *err)
{
    struct dlm_encoder *e;
    int rc = dlm_encoder_new(&e, v, p->gaps, err);
    if (rc)
        return rc;
    rc = add(p, e, dlm_vocab_specials(v), text, len, most, err);
    dlm_encoder_free(e);
    return rc;
}

static int add_line(struct dlm_prompts *p, struct dlm_encoder *e, struct dlm_specials special, const char *line, size_t len, const char *field,
                    size_t most, struct dlm_error *err)
{
    json_error_t why;
    json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why), *text = json_object_get(object, field);
    int rc;
    if (!object)
        rc = dlm_fail(err, DLM_EDATA, "not JSON: %s", why.text);
    else if (!json_is_object(object))
        rc = dlm_fail(err, DLM_EDATA, "not a JSON object");
    else if (!text)
        rc = dlm_fail(err, DLM_EDATA, "the object has no field '%s'", field);
    else if (!json_is_string(text))
        rc = dlm_fail(err, DLM_EDATA, "the field '%s' is no string", field);
    else
        rc = add(p, e, special, json_string_value(text), json_string_length(text), most, err);
    json_decref(object);
    return rc;
}

int dlm_prompts_read(struct dlm_prompts *p, const struct dlm_vocab *v, const char *path, const char *field, size_t most, struct dlm_error *err)
{
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "standard input" : path;
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    struct dlm_encoder *e = NULL;
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t len;
    int rc = dlm_encoder_new(&e, v, p->gaps, err);
    errno = 0;
    while (!rc && (len = getline(&line, &size, f)) >= 0) {
        number++;
        if (strspn(line, " \t\r\n") == (size_t)len)
            continue;
        rc = add_line(p, e, dlm_vocab_specials(v), line, (size_t)len, field, most, err);
        if (rc)
            dlm_fail_in(err, rc, "%s:%zu", name, number);
        errno = 0;
    }
    if (!rc && (ferror(f) || errno == ENOMEM)) /* the length of a line is bounded by memory alone */
        rc = dlm_fail_errno(err, errno == ENOMEM ? DLM_ENOMEM : DLM_EIO, "cannot read '%s'", name);
    free(line);
    dlm_encoder_free(e);
    if (!standard)
        fclose(f);
    return rc;
}

int dlm_prompts_read_file(struct dlm_prompts *p, const struct dlm_vocab *v, const char *path, size_t most, struct dlm_error *err)
{
    bool standard = !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    char *text = NULL;
    size_t n = 0, room = 0;
    int rc = 0;
    errno = 0;
    do {
        if (n == room) {
            char *more = realloc(text, room = room ? 2 * room : 65536);
            if (!more) {
                rc = dlm_fail(err, DLM_ENOMEM, "no memory for '%s'", path);
                break;
            }
            text = more;
        }
        n += fread(text + n, 1, room - n, f);
    } while (n == room);
    if (!rc && ferror(f))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
    if (!standard)
        fclose(f);
    if (!rc && (rc = dlm_prompts_add(p, v, text, n, most, err)))
        dlm_fail_in(err, rc, "%s", standard ? "standard input" : path);
    free(text);
    return rc;
}
