/* The settings of a training run. */
#include "run/settings.h"

#include "diffuse/example.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void dlm_settings_default(struct dlm_settings *s)
{
    *s = (struct dlm_settings){
        .p_independent = 0.5, .p_prompt = 0.2, .max_empty = 0.2, .batch = 64, .lr = 0.5, .aux_lr = 0.02, .warmup = 2000, .cooldown = 0.2,
        .beta1 = 0.9, .beta2 = NAN, .eps = NAN, .save_every = 1000, .log_every = 10, .eval_tokens = 262144, .epochs = NAN,
    };
}

void dlm_settings_release(struct dlm_settings *s)
{
    free(s->data);
    free(s->run);
    free(s->noise);
    free(s->init);
    *s = (struct dlm_settings){0};
}

static json_t *json_T(char *v)
{
    return v ? json_string(v) : json_null();
}
static json_t *json_U(uint64_t v)
{
    return json_integer((json_int_t)v);
}
static json_t *json_R(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}
static json_t *json_C(int v)
{
    return json_integer(v);
}

json_t *dlm_settings_json(const struct dlm_settings *s)
{
    json_t *o = json_object();
#define X(field, option, type, flags)                                   \
    if (o && json_object_set_new(o, option, json_##type(s->field))) { \
        json_decref(o);                                               \
        o = NULL;                                                     \
    }
    DLM_SETTINGS(X)
#undef X
    return o;
}

static bool read_T(const json_t *v, char **to)
{
    *to = json_is_string(v) ? strdup(json_string_value(v)) : NULL;
    return *to || json_is_null(v);
}
static bool read_U(const json_t *v, uint64_t *to)
{
    *to = json_is_integer(v) ? (uint64_t)json_integer_value(v) : 0;
    return json_is_integer(v);
}
static bool read_R(const json_t *v, double *to)
{
    *to = json_is_number(v) ? json_number_value(v) : NAN;
    return json_is_number(v) || json_is_null(v);
}
static bool read_C(const json_t *v, int *to)
{
    *to = json_is_integer(v) ? (int)json_integer_value(v) : 0;
    return json_is_integer(v);
}

int dlm_settings_from_json(struct dlm_settings *s, const json_t *o, const char *name, struct dlm_error *err)
{
    *s = (struct dlm_settings){0};
#define X(field, option, type, flags)                                                               \
    if (!((flags) & DLM_SETTING_LATER && !json_object_get(o, option)) && !read_##type(json_object_get(o, option), &s->field)) { \
        dlm_settings_release(s);                                                                  \
        return dlm_fail(err, DLM_EDATA, "%s: setting '%s' is missing or of the wrong type", name, option); \
    }
    DLM_SETTINGS(X)
#undef X
    return 0;
}

void dlm_settings_compat(struct dlm_settings *s, struct dlm_given *given, int compat)
{
    const bool release = compat == DLM_COMPAT_RELEASE;
    s->p_independent = given->p_independent ? s->p_independent : release ? 0.2 : 0.5;
    s->max_empty = given->max_empty ? s->max_empty : release ? 0 : 0.2;
    s->prompt_density = given->prompt_density ? s->prompt_density : release ? DLM_PROMPT_RELEASE : DLM_PROMPT_PAPER;
    s->uniform_draw = given->uniform_draw ? s->uniform_draw : release ? DLM_UNIFORM_ANY : DLM_UNIFORM_UNMASKED;
    given->p_independent = given->max_empty = given->prompt_density = given->uniform_draw = true;
}

static bool same_T(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}
static bool same_U(uint64_t a, uint64_t b)
{
    return a == b;
}
static bool same_R(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}
static bool same_C(int a, int b)
{
    return a == b;
}

static int take_T(char **to, const char *v)
{
    char *copy = v ? strdup(v) : NULL;
    if (v && !copy)
        return -1;
    free(*to);
    *to = copy;
    return 0;
}
static int take_U(uint64_t *to, uint64_t v)
{
    *to = v;
    return 0;
}
static int take_R(double *to, double v)
{
    *to = v;
    return 0;
}
static int take_C(int *to, int v)
{
    *to = v;
    return 0;
}

int dlm_settings_resume(struct dlm_settings *run, const struct dlm_settings *asked, const struct dlm_given *given, struct dlm_error *err)
{
#define X(field, option, type, flags)                                                                          \
    if (given->field && !same_##type(run->field, asked->field)) {                                            \
        if (!((flags) & DLM_SETTING_MAY_CHANGE))                                                                                          \
            return dlm_fail(err, DLM_EUSAGE, "--%s differs from the run that is to go on", option);          \
        if (take_##type(&run->field, asked->field))                                                          \
            return dlm_fail(err, DLM_ENOMEM, "out of memory");                                               \
    }
    DLM_SETTINGS(X)
#undef X
    return 0;
}
