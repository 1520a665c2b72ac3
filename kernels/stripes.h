/* Who owns what of an array that several ranks hold together: dealt out in stripes, round-robin.
 *
 *     owner(e) = (e / each) mod size        place(e) = (e / each) div size · each + e mod each
 *
 * So every stretch of the array that is some rounds of stripes long belongs to all ranks alike, whatever it is part of, and each can send and sum its share
 * of it as soon as it is there. A rank keeps what it owns in an array of its own, in order; `place` is an element's number in it. Plain C and CUDA C alike.
 */
#ifndef DLM_KERNELS_STRIPES_H
#define DLM_KERNELS_STRIPES_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __CUDACC__
#define DLM_STRIPES_FN static __host__ __device__ inline
#else
#define DLM_STRIPES_FN static inline
#endif

struct dlm_stripes {
    size_t total; /* elements of the array */
    size_t each;  /* of a stripe but the last: a multiple of 64, or, for one rank, all */
    int size;     /* ranks */
};

/* Stripe lengths depend on these two alone: so short that a rank has up to 256 stripes and a large model's layer has some of every rank, and no shorter than
 * is worth an exchange. */
DLM_STRIPES_FN struct dlm_stripes dlm_stripes_of(size_t total, int size)
{
    const size_t ranks = (size_t)size, blocks = total / 64 + (total % 64 != 0), some = blocks / (ranks * 256) + (blocks % (ranks * 256) != 0);
    const struct dlm_stripes one = {total, total ? total : 1, 1}, s = {total, some < 16 ? 1024 : some * 64, size};
    return size > 1 ? s : one;
}

DLM_STRIPES_FN int dlm_stripes_owner(const struct dlm_stripes *s, size_t e)
{
    return (int)(e / s->each % (size_t)s->size);
}

/* How many of elements [0, e) are rank r's: for one of its own, its place. */
DLM_STRIPES_FN size_t dlm_stripes_before(const struct dlm_stripes *s, int r, size_t e)
{
    const size_t round = s->each * (size_t)s->size, rest = e % round, from = s->each * (size_t)r;
    return e / round * s->each + (rest <= from ? 0 : rest - from < s->each ? rest - from : s->each);
}

/* How many are rank r's in all. */
DLM_STRIPES_FN size_t dlm_stripes_own(const struct dlm_stripes *s, int r)
{
    return dlm_stripes_before(s, r, s->total);
}

/* Which element is at a place of rank r's, and how many of its neighbours follow it there as in the array. */
DLM_STRIPES_FN size_t dlm_stripes_element(const struct dlm_stripes *s, int r, size_t place, size_t *neighbours)
{
    const size_t at = place % s->each;
    *neighbours = s->each - at;
    return (place / s->each * (size_t)s->size + (size_t)r) * s->each + at;
}

/* Elements that lie together, in the array and with their owner. */
struct dlm_stretch {
    size_t from, to;
};

/* The first of rank r's in [run->to, end), into *run; false: there are none. */
DLM_STRIPES_FN bool dlm_stripes_next(const struct dlm_stripes *s, int r, size_t end, struct dlm_stretch *run)
{
    size_t n;
    const size_t from = dlm_stripes_element(s, r, dlm_stripes_before(s, r, run->to), &n);
    if (from >= end)
        return false;
    run->from = from;
    run->to = end - from < n ? end : from + n;
    return true;
}

#endif
