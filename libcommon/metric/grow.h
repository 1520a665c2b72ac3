/* Room in an array that grows, twice as much at a time. */
#ifndef DLM_METRIC_GROW_H
#define DLM_METRIC_GROW_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The array `at` of *room elements of `each` bytes, with room for `need` ≥ 1 of them; NULL: no memory, and `at` is as it was. */
static inline void *dlm_grow(void *at, size_t each, size_t *room, size_t need)
{
    if (need <= *room)
        return at;
    const size_t wanted = need < 16 ? 16 : need, more = wanted < 2 * *room ? 2 * *room : wanted;
    char *grown = more <= SIZE_MAX / 2 / each ? realloc(at, more * each) : NULL;
    if (grown)
        *room = more;
    return grown;
}

/* The same, what is new being zero. */
static inline void *dlm_grow_zeroed(void *at, size_t each, size_t *room, size_t need)
{
    const size_t before = *room;
    char *grown = dlm_grow(at, each, room, need);
    if (grown && *room > before)
        memset(grown + before * each, 0, (*room - before) * each);
    return grown;
}

#endif
