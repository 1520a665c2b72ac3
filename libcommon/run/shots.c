/* Few-shot examples. */
#include "run/shots.h"

#include "base/rng.h"
#include "run/item.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define BETWEEN "\n\n"

void dlm_shots_release(struct dlm_shots *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->text[i]);
    free(s->text);
    free(s->len);
    free(s->line);
    *s = (struct dlm_shots){0};
}

/* The parts of a solved item: what stands before the answer, the answer (or the way to it, where that is told), what stands behind it. */
static int solve(const json_t *object, struct dlm_span part[3], struct dlm_error *err)
{
    static const char *const before[] = {"context", "prefix", "prompt", NULL};
    const json_t *choices = json_object_get(object, "choices"), *answer = json_object_get(object, "answer"), *solution = json_object_get(object, "solution");
    int rc = dlm_span_first(object, before, &part[0], err);
    if (!rc)
        rc = dlm_span_of(object, choices ? "completion" : "suffix", false, &part[2], err);
    if (!rc && choices && !part[2].at)
        rc = dlm_span_of(object, "suffix", false, &part[2], err);
    if (rc)
        return rc;
    if (choices) {
        if (!json_is_integer(answer) || json_integer_value(answer) < 0 || (size_t)json_integer_value(answer) >= json_array_size(choices))
            return dlm_fail(err, DLM_EDATA, "'answer' is not the index of one of the choices");
        answer = json_array_get(choices, (size_t)json_integer_value(answer));
    } else if (solution) {
        answer = solution;
    } else if (json_is_array(answer)) {
        answer = json_array_get(answer, 0);
    }
    if (!json_is_string(answer))
        return dlm_fail(err, DLM_EDATA, "the item has no answer in words");
    part[1] = (struct dlm_span){json_string_value(answer), json_string_length(answer)};
    return 0;
}

static int add(struct dlm_shots *s, const struct dlm_lines *l, struct dlm_error *err)
{
    struct dlm_span part[3];
    struct dlm_error why = {{0}};
    if (solve(l->object, part, &why))
        return dlm_lines_fail(l, err, "%s", why.msg);
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 64;
        char **text = reallocarray(s->text, cap, sizeof *text);
        s->text = text ? text : s->text;
        size_t *len = reallocarray(s->len, cap, sizeof *len);
        s->len = len ? len : s->len;
        uint64_t *line = reallocarray(s->line, cap, sizeof *line);
        s->line = line ? line : s->line;
        if (!text || !len || !line)
            return dlm_fail(err, DLM_ENOMEM, "no memory for the examples");
        s->cap = cap;
    }
    const size_t n = part[0].n + part[1].n + part[2].n + strlen(BETWEEN);
    char *text = malloc(n + 1), *to = text;
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the examples");
    for (int i = 0; i < 3; i++)
        if (part[i].n)
            to = mempcpy(to, part[i].at, part[i].n);
    strcpy(to, BETWEEN);
    s->text[s->n] = text;
    s->len[s->n] = n;
    s->line[s->n++] = XXH64(l->text, l->len, 0);
    return 0;
}

int dlm_shots_read(struct dlm_shots *s, const char *path, size_t k, uint64_t seed, struct dlm_error *err)
{
    struct dlm_lines lines;
    *s = (struct dlm_shots){.k = k, .seed = seed};
    int more = 0, rc = dlm_lines_open(&lines, path, err);
    while (!rc && (more = dlm_lines_next(&lines, err)) > 0)
        rc = add(s, &lines, err);
    rc = rc ? rc : more;
    if (!rc && s->n < k)
        rc = dlm_fail(err, DLM_EDATA, "'%s' has %zu items, fewer than the %zu examples that are wanted", lines.name, s->n, k);
    dlm_lines_close(&lines);
    if (rc)
        dlm_shots_release(s);
    return rc;
}

int dlm_shots_draw(const struct dlm_shots *s, const char *line, size_t len, char **out, size_t *n, struct dlm_error *err)
{
    const uint64_t hash = XXH64(line, len, 0);
    size_t *order = calloc(s->n + 1, sizeof *order), left = 0, size = 0;
    struct dlm_rng rng;
    *out = NULL;
    *n = 0;
    if (!order)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the examples");
    for (size_t i = 0; i < s->n; i++)
        if (s->line[i] != hash)
            order[left++] = i;
    if (left < s->k) {
        free(order);
        return dlm_fail(err, DLM_EDATA, "there are %zu examples other than the item, fewer than the %zu that are wanted", left, s->k);
    }
    dlm_rng_init(&rng, s->seed, hash, DLM_RNG_SHOTS);
    for (size_t i = 0; i < s->k; i++) { /* the first k of a shuffle */
        const size_t j = i + dlm_rng_below(&rng, left - i), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
        size += s->len[order[i]];
    }
    char *to = *out = malloc(size + 1);
    for (size_t i = 0; to && i < s->k; i++)
        to = mempcpy(to, s->text[order[i]], s->len[order[i]]);
    free(order);
    if (!to)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the examples");
    *to = 0;
    *n = size;
    return 0;
}
