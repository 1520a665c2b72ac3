/* state.json. */
#include "run/state.h"

#include "base/build.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW_REALS(X) X(noisy) X(loss) X(elbo) X(kl) X(is) X(sequence_elbo) X(sequence_elbo2) X(grad_norm)

char *dlm_state_format(const struct dlm_state *s)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, s->data_hash);
    json_t *w = json_object(), *settings = dlm_settings_json(&s->settings);
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:I, s:b, s:s, s:f, s:o, s:o, s:o}", "format", 1, "version", dlm_build_version(), "build", dlm_build_flags(), "device",
                          s->device ? s->device : "", "step", (json_int_t)s->step, "val_pending", s->val_pending, "data_hash", hash, "seconds", s->seconds, "joules", isnan(s->joules) ? json_null() : json_real(s->joules), "settings", settings, "window", w);
    if (!o)
        return NULL; /* json_pack has dropped w and settings */
    int bad = json_object_set_new(w, "steps", json_integer((json_int_t)s->window.steps));
    bad |= json_object_set_new(w, "sequences", json_integer((json_int_t)s->window.sequences));
#define X(field) bad |= json_object_set_new(w, #field, json_real(s->window.field));
    WINDOW_REALS(X)
#undef X
    char *text = bad ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(o);
    return text;
}

static bool whole(const json_t *o, const char *key, uint64_t *to)
{
    const json_t *v = json_object_get(o, key);
    *to = json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : 0;
    return json_is_integer(v) && json_integer_value(v) >= 0;
}

int dlm_state_parse(struct dlm_state *s, const char *text, size_t len, const char *name, struct dlm_error *err)
{
    *s = (struct dlm_state){0};
    json_error_t je;
    json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!o)
        return dlm_fail(err, DLM_EDATA, "%s: line %d, column %d: %s", name, je.line, je.column, je.text);
    uint64_t format = 0;
    const json_t *w = json_object_get(o, "window"), *hash = json_object_get(o, "data_hash"), *seconds = json_object_get(o, "seconds");
    char *end = NULL;
    bool good = whole(o, "format", &format) && format == 1 && whole(o, "step", &s->step) && json_is_boolean(json_object_get(o, "val_pending")) &&
                json_is_string(hash) && json_is_number(seconds) && whole(w, "steps", &s->window.steps) && whole(w, "sequences", &s->window.sequences);
#define X(field)                                        \
    good = good && json_is_number(json_object_get(w, #field)); \
    s->window.field = json_number_value(json_object_get(w, #field));
    WINDOW_REALS(X)
#undef X
    if (good) {
        s->val_pending = json_is_true(json_object_get(o, "val_pending"));
        s->data_hash = strtoull(json_string_value(hash), &end, 16);
        s->seconds = json_number_value(seconds);
        const json_t *joules = json_object_get(o, "joules"); /* states of earlier versions lack it */
        s->joules = json_is_number(joules) ? json_number_value(joules) : NAN;
        good = end && !*end;
    }
    int rc = good ? dlm_settings_from_json(&s->settings, json_object_get(o, "settings"), name, err)
                  : dlm_fail(err, DLM_EDATA, "%s is not a training state of this version", name);
    json_decref(o);
    return rc;
}
