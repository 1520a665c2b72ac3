/* A row of shares cut to its likeliest ids, and the id that a draw finds among them (struct dlm_draw with top_k): the arithmetic that every device does alike.
 * Not the passes over the row, which each does in its own way.
 *
 * Shares are counted as integers, in units of 2^-60, so that no order of a sum matters; below that they are 0. The least share that stays is found digit by
 * digit in the bits of the float32 numbers, whose order is that of the numbers: at each of three levels, the ids that agree in the digits above are counted
 * by the next, and the bins walked from the top until top_k ids or top_p of the row are in. What ids of that very share stay is told by their order.
 *
 * The draw then is at the first id up to which
 *     F = each·(ids that are neither z nor the mask) + predicted·(units of s that stay, z's left out) + z's part + the mask's
 * passes u·F(all). F is made anew of integers at every id, and never falls from one to the next. What is written as fma is so that a compiler cannot choose.
 */
#ifndef DLM_KERNELS_CUT_H
#define DLM_KERNELS_CUT_H

#include "kernels.h"

#include <math.h>

#ifdef __CUDACC__
#define DLM_CUT_FN static __host__ __device__ inline
#else
#define DLM_CUT_FN static inline
#endif

enum { DLM_CUT_LEVELS = 3, DLM_CUT_BINS = 2048 };

/* Bits below the digit of a level: 11, 11 and 8 bits, from the top but two, which are 0 in a share. */
DLM_CUT_FN unsigned dlm_cut_shift(int level)
{
    return level == 0 ? 19 : level == 1 ? 8 : 0;
}

DLM_CUT_FN unsigned dlm_cut_bins(int level)
{
    return level == 2 ? 256 : DLM_CUT_BINS;
}

/* In units, the sum of `count` shares of one exponent, whose bits are `base` plus something, `over` all told. */
DLM_CUT_FN int64_t dlm_cut_units(uint32_t base, uint64_t count, uint64_t over)
{
    const int exponent = base >> 23 ? (int)(base >> 23) : 1, shift = (exponent < 130 ? exponent : 130) - 90;
    const uint64_t digits = count * ((base & 0x7fffff) | (base >> 23 ? 0x800000 : 0)) + over;
    return (int64_t)(shift >= 0 ? digits << shift : shift > -64 ? digits >> -shift : 0);
}

/* What is looked for, and how far it has come. */
struct dlm_cut {
    uint32_t least; /* the bits known of the least share that stays; in the end all */
    uint32_t count; /* ids above */
    int64_t sum;    /* theirs, units */
    int64_t want;   /* units that are to stay */
    uint32_t k;     /* ids that may stay */
};

/* `total` units: a whole row. */
DLM_CUT_FN struct dlm_cut dlm_cut_begin(const struct dlm_draw *d, int64_t total)
{
    struct dlm_cut c = {0, 0, 0, INT64_MAX, d->top_k};
    if (d->top_p < 1) {
        const double want = ceil(d->top_p * (double)total);
        c.want = want >= 1 ? (int64_t)want : 1;
    }
    return c;
}

/* Does a bin end the walk when these come to what is above it? */
DLM_CUT_FN bool dlm_cut_full(const struct dlm_cut *c, uint32_t count, int64_t sum)
{
    return c->count + count >= c->k || c->sum + sum >= c->want;
}

/* How many of the n ids with the least share stay, `each` units. */
DLM_CUT_FN uint32_t dlm_cut_ties(const struct dlm_cut *c, uint32_t n, int64_t each)
{
    const int64_t for_sum = each > 0 ? (c->want - c->sum - 1) / each + 1 : n, for_count = (int64_t)c->k - c->count;
    const int64_t r = for_sum < for_count ? for_sum : for_count;
    return r < 1 ? 1 : r < n ? (uint32_t)r : n;
}

/* F, of a row whose shares that stay are `held` units, z's of them `at_z`. */
struct dlm_cut_line {
    double each, predicted, stay, to_mask, all;
    uint32_t z, mask;
    int64_t at_z;
};

DLM_CUT_FN double dlm_cut_upto(const struct dlm_cut_line *l, uint32_t v, int64_t units /* of every id up to v */)
{
    const bool z = l->z <= v, m = l->mask <= v; /* DLM_DRAW_NONE is above any id */
    const double some = (z ? l->stay : 0) + (m ? l->to_mask : 0), shares = (double)(units - (z ? l->at_z : 0));
    return fma(l->each, (double)v + 1 - z - (m && l->mask != l->z), fma(l->predicted, shares, some));
}

DLM_CUT_FN struct dlm_cut_line dlm_cut_line_of(const struct dlm_draw *d, uint32_t V, uint32_t mask, int64_t held, int64_t at_z)
{
    const bool apart = d->z != DLM_DRAW_NONE;
    const double rest = (double)V - 1 - (apart && d->z != mask), over = held > 0 ? 1 / (double)held : 0;
    struct dlm_cut_line l = {rest > 0 ? d->noise / rest : 0, d->predicted * over, 0, d->to_mask, 0, d->z, mask, at_z};
    if (apart)
        l.stay = fma(d->stay_share, (double)at_z * over, d->stay);
    l.all = dlm_cut_upto(&l, V - 1, held);
    return l;
}

/* Is the draw at v or before? There is an id where it is, as long as something has a part. */
DLM_CUT_FN bool dlm_cut_reached(const struct dlm_cut_line *l, double u, uint32_t v, int64_t units)
{
    const double upto = dlm_cut_upto(l, v, units);
    return upto > u * l->all || upto >= l->all;
}

#endif
