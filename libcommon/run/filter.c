/* The loop of dlm-eval --score. Tasks, which know right answers, are run/task.c. */
#include "run/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const added[] = {"elbo", "elbo_se", "tokens", "bytes", "levels", "error", NULL};

static void print_number(FILE *out, const char *key, double v)
{
    fprintf(out, isfinite(v) ? ", \"%s\": %.9g" : ", \"%s\": null", key, v);
}

static int answer(const struct dlm_filter *f, const struct dlm_lines *l, const struct dlm_item *i, const struct dlm_score *s, struct dlm_error *err)
{
    FILE *out = f->out->file;
    int rc = dlm_lines_answer(l, added, out, err);
    if (rc)
        return rc;
    print_number(out, "elbo", s->nats);
    print_number(out, "elbo_se", s->se);
    fprintf(out, ", \"tokens\": %zu, \"bytes\": %llu, \"levels\": %u}\n", i->tokens, (unsigned long long)i->bytes, (unsigned)s->levels);
    return dlm_lines_flush(f->out, err);
}

/* A bad line that is to be skipped. */
static int answer_bad(const struct dlm_filter *f, const struct dlm_lines *l, const struct dlm_error *why, struct dlm_error *err)
{
    size_t other = json_object_size(l->object);
    for (size_t i = 0; added[i]; i++)
        other -= json_object_get(l->object, added[i]) != NULL;
    if (!other) /* no object, or one without anything to know it by */
        return 0;
    json_t *text = dlm_item_string(why->msg, strlen(why->msg));
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    json_decref(text);
    if (!quoted)
        return dlm_fail(err, DLM_ENOMEM, "no memory for an answer");
    int rc = dlm_lines_answer(l, added, f->out->file, err);
    if (!rc) {
        fprintf(f->out->file, ", \"elbo\": null, \"elbo_se\": null, \"tokens\": null, \"bytes\": null, \"levels\": null, \"error\": %s}\n", quoted);
        rc = dlm_lines_flush(f->out, err);
    }
    free(quoted);
    return rc;
}

int dlm_filter_run(const struct dlm_filter *f, double target_se, struct dlm_filter_count *count, struct dlm_error *err)
{
    struct dlm_lines lines;
    struct dlm_item item = {0};
    *count = (struct dlm_filter_count){0};
    int more = 0, rc = dlm_lines_open(&lines, f->input, err);
    while (!rc && (more = dlm_lines_next(&lines, err)) != 0) {
        rc = more < 0 ? more : dlm_item_read(f->reader, &item, &lines, err);
        if (rc == DLM_EDATA && f->skip_bad) {
            if (!count->bad++)
                count->first_bad = *err;
            const struct dlm_error why = *err;
            rc = answer_bad(f, &lines, &why, err);
            continue;
        }
        if (rc)
            break;
        const struct dlm_piece piece = dlm_item_piece(&item);
        struct dlm_score score;
        rc = dlm_scorer_run(f->scorer, &piece, &score, err);
        if (rc) {
            dlm_fail_in(err, rc, "%s:%llu", lines.name, (unsigned long long)lines.number);
            break;
        }
        count->items++;
        count->draws += score.draws;
        count->levels += score.levels;
        count->missed += target_se > 0 && !(score.se <= target_se);
        rc = answer(f, &lines, &item, &score, err);
        if (f->progress)
            dlm_progress_update(f->progress, count->items, NULL);
    }
    dlm_item_release(&item);
    dlm_lines_close(&lines);
    return rc;
}
