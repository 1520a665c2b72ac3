/* A training state as checkpoints see it. */
#include "run/store.h"

#include <stdlib.h>
#include <string.h>

enum op { END, GIVE, TAKE };

struct message {
    int op, array, averaged, rc;
    uint64_t at, n;
};

/* What there is in memory. */
enum place { THETA, MEAN, MU, NU };

static enum place place_of(const struct dlm_store *s, enum dlm_checkpoint_array array)
{
    switch (array) {
    case DLM_ARRAY_WEIGHTS:
        return s->averaged ? MEAN : THETA;
    case DLM_ARRAY_RAW:
        return THETA;
    case DLM_ARRAY_MU:
        return MU;
    default:
        return NU;
    }
}

/* Every rank has all of it. */
static bool everywhere(const struct dlm_store *s, enum place p)
{
    return s->group->size == 1 || (p == THETA && !dlm_network_short(s->network));
}

/* Elements [at, at + n) of a stripe of this rank's, or of any others that it has. */
static void read_own(const struct dlm_store *s, enum place p, size_t at, size_t n, float *to)
{
    if (p == THETA)
        dlm_optimizer_read_weights(s->optimizer, s->network, at, n, to);
    else if (p == MEAN)
        dlm_average_read(s->average, at, n, to);
    else
        dlm_optimizer_read(s->optimizer, p == NU, at, n, to);
}

/* Of elements [at, at + n) what this rank has a place for. */
static void write_own(struct dlm_store *s, enum place p, size_t at, size_t n, const float *from)
{
    const struct dlm_optimizer *o = s->optimizer;
    if (p == THETA) {
        dlm_optimizer_write_weights(s->optimizer, s->network, at, n, from);
        return;
    }
    for (struct dlm_stretch own = {.to = at}; dlm_stripes_next(&o->stripes, o->rank, at + n, &own);)
        if (p == MEAN)
            dlm_average_write(s->average, own.from, own.to - own.from, from + (own.from - at));
        else
            dlm_optimizer_write(s->optimizer, p == NU, own.from, own.to - own.from, from + (own.from - at));
}

/* Every rank calls it; rank 0 has the piece in the end, and so have the others. What a rank owns of it goes at once, in the group's stage. */
static int gather(struct dlm_store *s, enum place p, size_t at, size_t n, float *to, struct dlm_error *err)
{
    const struct dlm_stripes *stripes = &s->optimizer->stripes;
    float *stage = s->group->stage;
    _Static_assert((int)DLM_ST_PIECE <= (int)DLM_GROUP_STAGE, "a piece fits the stage");
    for (int r = 0; r < s->group->size; r++) {
        const size_t first = dlm_stripes_before(stripes, r, at), count = dlm_stripes_before(stripes, r, at + n) - first;
        if (!count)
            continue;
        if (s->group->rank == r)
            for (struct dlm_stretch own = {.to = at}; dlm_stripes_next(stripes, r, at + n, &own);)
                read_own(s, p, own.from, own.to - own.from, stage + (dlm_stripes_before(stripes, r, own.from) - first));
        int rc = dlm_group_tell(s->group, stage, count * sizeof *stage, r, err);
        if (rc)
            return rc;
        for (struct dlm_stretch own = {.to = at}; dlm_stripes_next(stripes, r, at + n, &own);)
            memcpy(to + (own.from - at), stage + (dlm_stripes_before(stripes, r, own.from) - first), (own.to - own.from) * sizeof *to);
    }
    return 0;
}

static int tell(const struct dlm_store *s, enum op op, int array, size_t at, size_t n, int rc, struct dlm_error *err)
{
    struct message m = {.op = op, .array = array, .averaged = s->averaged, .rc = rc, .at = at, .n = n};
    return dlm_group_tell(s->group, &m, sizeof m, 0, err);
}

static int give(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, float *to, struct dlm_error *err)
{
    struct dlm_store *s = of;
    const enum place p = place_of(s, array);
    if (everywhere(s, p)) {
        read_own(s, p, at, n, to);
        return dlm_network_sync(s->network, err);
    }
    int rc = tell(s, GIVE, (int)array, at, n, 0, err);
    rc = rc ? rc : gather(s, p, at, n, to, err);
    return rc ? rc : dlm_network_sync(s->network, err);
}

static int take(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, const float *from, struct dlm_error *err)
{
    struct dlm_store *s = of;
    int rc = tell(s, TAKE, (int)array, at, n, 0, err);
    rc = rc ? rc : dlm_group_tell(s->group, (float *)(uintptr_t)from, n * sizeof *from, 0, err);
    if (!rc)
        write_own(s, place_of(s, array), at, n, from);
    return rc ? rc : dlm_network_sync(s->network, err); /* `from` is used again */
}

int dlm_store_new(struct dlm_store *s, struct dlm_group *group, struct dlm_network *m, struct dlm_optimizer *o, struct dlm_average *a,
                  struct dlm_error *err)
{
    *s = (struct dlm_store){.group = group, .network = m, .optimizer = o, .average = a, .averaged = a->beta > 0};
    s->pieces = (struct dlm_checkpoint_store){s, give, take};
    s->piece = malloc(DLM_ST_PIECE * sizeof *s->piece);
    return s->piece ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for a piece of the weights");
}

void dlm_store_release(struct dlm_store *s)
{
    free(s->piece);
    *s = (struct dlm_store){0};
}

int dlm_store_end(struct dlm_store *s, int rc, struct dlm_error *err)
{
    struct dlm_error second;
    int rc2 = tell(s, END, 0, 0, 0, rc, rc ? &second : err);
    return rc ? rc : rc2;
}

int dlm_store_serve(struct dlm_store *s, struct dlm_error *err)
{
    for (;;) {
        struct message m;
        int rc = dlm_group_tell(s->group, &m, sizeof m, 0, err);
        if (rc)
            return rc;
        if (m.op == END)
            return m.rc ? dlm_fail(err, (enum dlm_err)m.rc, "rank 0 has stopped") : 0;
        s->averaged = m.averaged;
        const enum place p = place_of(s, (enum dlm_checkpoint_array)m.array);
        if (m.op == GIVE)
            rc = gather(s, p, (size_t)m.at, (size_t)m.n, s->piece, err);
        else if (!(rc = dlm_group_tell(s->group, s->piece, (size_t)m.n * sizeof *s->piece, 0, err)))
            write_own(s, p, (size_t)m.at, (size_t)m.n, s->piece);
        rc = rc ? rc : dlm_network_sync(s->network, err);
        if (rc)
            return rc;
    }
}
