/* Names and their numbers; see names.h. */
#include "metric/names.h"

#include "metric/fnv.h"
#include "metric/grow.h"

/* Where a name stands, or would. */
static size_t place_of(const struct dlm_names *s, const char *name)
{
    size_t h = dlm_fnv_hash(name, strlen(name)) & (s->n_place - 1);
    while (s->place[h] && strcmp(s->at[s->place[h] - 1], name))
        h = (h + 1) & (s->n_place - 1);
    return h;
}

/* At most half of the places are taken. */
static int make_room(struct dlm_names *s, struct dlm_error *err)
{
    char **at = dlm_grow(s->at, sizeof *at, &s->room, s->n + 1);
    if (at)
        s->at = at;
    if (at && 2 * (s->n + 1) <= s->n_place)
        return 0;
    const size_t n_place = s->n_place ? 2 * s->n_place : 256;
    size_t *place = at ? calloc(n_place, sizeof *place) : NULL;
    if (!place)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    free(s->place);
    s->place = place;
    s->n_place = n_place;
    for (size_t i = 0; i < s->n; i++)
        place[place_of(s, s->at[i])] = i + 1;
    return 0;
}

int dlm_names_number(struct dlm_names *s, const char *name, size_t *out, struct dlm_error *err)
{
    int rc = make_room(s, err);
    if (rc)
        return rc;
    const size_t h = place_of(s, name);
    if (!s->place[h]) {
        if (!(s->at[s->n] = strdup(name)))
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        s->place[h] = ++s->n;
    }
    *out = s->place[h] - 1;
    return 0;
}

void dlm_names_release(struct dlm_names *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->at[i]);
    free(s->at);
    free(s->place);
    *s = (struct dlm_names){0};
}
