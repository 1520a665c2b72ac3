/* One id a row of shares: the draws of sampling (method.md §9), without writing a distribution down.
 *
 * A row that is cut (cut.h) is looked at once for each digit of the least share that stays, and once for the sums of its blocks.
 */
#include "../cut.h"
#include "device.h"

#include <math.h>
#include <omp.h>

enum { BLOCK = 256, LANES = 16 };

static double block_sum(const float *s, size_t n)
{
    float lane[LANES] = {0};
    double sum = 0;
    size_t v = 0;
    for (; v + LANES <= n; v += LANES)
        for (size_t i = 0; i < LANES; i++)
            lane[i] += s[v + i];
    for (size_t i = 0; i < LANES; i++)
        sum += (double)lane[i];
    for (; v < n; v++)
        sum += (double)s[v];
    return sum;
}

static double share_sum(const float *s, size_t V)
{
    double sum = 0;
    for (size_t from = 0; from < V; from += BLOCK)
        sum += block_sum(s + from, V - from < BLOCK ? V - from : BLOCK);
    return sum;
}

/* The id at which the running sum of s, `skip` left out, passes `at`; rounding at the end of the sum falls to the last id that has a share. */
static uint32_t find_share(const float *s, size_t V, size_t skip, double at)
{
    double run = 0;
    size_t last = 0;
    for (size_t from = 0; from < V; from += BLOCK) {
        const size_t to = V - from < BLOCK ? V : from + BLOCK;
        double here = block_sum(s + from, to - from) - (skip >= from && skip < to ? (double)s[skip] : 0);
        if (run + here < at && to < V) {
            run += here;
            continue;
        }
        double inside = run;
        for (size_t v = from; v < to; v++) {
            if (v == skip || !(s[v] > 0))
                continue;
            last = v;
            inside += (double)s[v];
            if (at < inside)
                return (uint32_t)v;
        }
        run += here;
    }
    if (last == skip || !(s[last] > 0))
        for (last = V - 1; last > 0 && (last == skip || !(s[last] > 0));)
            last--;
    return (uint32_t)last;
}

/* The first of the likeliest ids; the mask's share is 0. */
static uint32_t find_best(const float *s, size_t V, uint32_t mask)
{
    float most[LANES] = {0}, highest = 0;
    size_t v = 0;
    for (; v + LANES <= V; v += LANES)
        for (size_t i = 0; i < LANES; i++)
            most[i] = s[v + i] > most[i] ? s[v + i] : most[i];
    for (size_t i = 0; i < LANES; i++)
        highest = most[i] > highest ? most[i] : highest;
    for (; v < V; v++)
        highest = s[v] > highest ? s[v] : highest;
    for (v = 0; v < V; v++)
        if (v != mask && s[v] == highest)
            return (uint32_t)v;
    return mask == 0 ? 1 : 0;
}

static uint32_t draw_row(const struct dlm_draw *d, const float *s, size_t V, uint32_t mask, double sum, double at_z)
{
    const bool apart = d->z != DLM_DRAW_NONE;
    const double others = fmax(sum - at_z, 0), rest = (double)(V - 1 - (apart && d->z != mask));
    const double stay = d->stay_share * at_z + d->stay, predicted = d->predicted * others;
    double at = d->u * (stay + d->to_mask + d->noise + predicted);
    if (apart && (at < stay || (d->to_mask == 0 && d->noise == 0 && predicted == 0)))
        return d->z;
    at -= stay;
    if (at < d->to_mask)
        return mask;
    at -= d->to_mask;
    if (d->noise > 0 && (at < d->noise || predicted == 0)) {
        uint32_t i = (uint32_t)fmin(at / d->noise * rest, rest - 1);
        const bool two = apart && d->z != mask; /* the ids without these two, or without the one */
        const uint32_t low = two && d->z < mask ? d->z : mask, high = two && d->z > mask ? d->z : mask;
        i += i >= low;
        return i + (two && i >= high);
    }
    return find_share(s, V, apart ? d->z : SIZE_MAX, (at - d->noise) / predicted * others);
}

/* --- rows that are cut --------------------------------------------------------------------------------------------------------- */

struct bin {
    uint64_t over; /* of the bits below the digit, all told */
    uint32_t count;
};

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* The ids that have the digits of c->least above the level's. */
static void count_bins(struct bin *bin, const struct dlm_cut *c, int level, const float *s, size_t V)
{
    const unsigned shift = dlm_cut_shift(level), last = dlm_cut_bins(level) - 1, above = level ? dlm_cut_shift(level - 1) : 31;
    const uint32_t known = c->least >> above;
    memset(bin, 0, (last + 1) * sizeof *bin);
    for (size_t v = 0; v < V; v++) {
        const uint32_t bits = bits_of(s[v]);
        if (bits >> above != known || !bits)
            continue;
        const uint32_t digit = level ? bits >> shift & last : bits >> shift < last ? bits >> shift : last;
        bin[digit].over += bits - (digit << shift | known << above);
        bin[digit].count++;
    }
}

/* One digit more of the least share: of the bin that is the first to make it enough, or the last that holds any id. */
static void take_digit(struct dlm_cut *c, int level, const struct bin *bin)
{
    const unsigned shift = dlm_cut_shift(level);
    uint32_t count = 0, count_before = 0, digit = 0;
    int64_t sum = 0, sum_before = 0;
    for (uint32_t b = dlm_cut_bins(level); b-- > 0;) {
        if (!bin[b].count)
            continue;
        digit = b;
        count_before = count;
        sum_before = sum;
        count += bin[b].count;
        sum += dlm_cut_units(c->least | b << shift, bin[b].count, bin[b].over);
        if (dlm_cut_full(c, count, sum))
            break;
    }
    c->least |= digit << shift;
    c->count += count_before;
    c->sum += sum_before;
}

/* The cut of a row, and in *until the first id that does not stay though its share is the least. */
static struct dlm_cut cut_row(const struct dlm_draw *d, const float *s, size_t V, size_t *until, struct bin *bin)
{
    struct dlm_cut c = {.least = 0};
    for (int level = 0; level < DLM_CUT_LEVELS; level++) {
        count_bins(bin, &c, level, s, V);
        if (!level) {
            int64_t total = 0;
            for (uint32_t b = 0; b < DLM_CUT_BINS; b++)
                total += dlm_cut_units(b << dlm_cut_shift(0), bin[b].count, bin[b].over);
            c = dlm_cut_begin(d, total);
        }
        take_digit(&c, level, bin);
    }
    const uint32_t n = bin[c.least & 255].count;
    uint32_t left = dlm_cut_ties(&c, n, dlm_cut_units(c.least, 1, 0));
    *until = V;
    if (left < n)
        for (*until = 0; left; ++*until)
            left -= bits_of(s[*until]) == c.least;
    return c;
}

/* Units of the ids in [from, to) that stay. */
static int64_t cut_units(const struct dlm_cut *c, size_t until, const float *s, size_t from, size_t to)
{
    int64_t sum = 0;
    for (size_t v = from; v < to; v++) {
        const uint32_t bits = bits_of(s[v]);
        if (bits > c->least || (bits == c->least && v < until))
            sum += dlm_cut_units(bits, 1, 0);
    }
    return sum;
}

static uint32_t draw_cut(const struct dlm_draw *d, const float *s, size_t V, uint32_t mask, uint32_t best, struct bin *bin, int64_t *block)
{
    size_t until, from = 0;
    const struct dlm_cut c = cut_row(d, s, V, &until, bin);
    int64_t held = 0, units = 0;
    for (size_t b = 0; b * BLOCK < V; b++)
        held += block[b] = cut_units(&c, until, s, b * BLOCK, V - b * BLOCK < BLOCK ? V : (b + 1) * BLOCK);
    const int64_t at_z = d->z != DLM_DRAW_NONE ? cut_units(&c, until, s, d->z, (size_t)d->z + 1) : 0;
    const struct dlm_cut_line line = dlm_cut_line_of(d, (uint32_t)V, mask, held, at_z);
    if (!(line.all > 0))
        return d->z != DLM_DRAW_NONE ? d->z : best;
    for (; from + BLOCK < V && !dlm_cut_reached(&line, d->u, (uint32_t)(from + BLOCK - 1), units + block[from / BLOCK]); from += BLOCK)
        units += block[from / BLOCK];
    for (size_t v = from; v + 1 < V; v++) {
        units += cut_units(&c, until, s, v, v + 1);
        if (dlm_cut_reached(&line, d->u, (uint32_t)v, units))
            return (uint32_t)v;
    }
    return (uint32_t)(V - 1);
}

void dlm_cpu_draw(struct dlm_device *dev, dlm_ptr drawn_, dlm_ptr p_, dlm_ptr draw_, size_t n, size_t V, uint32_t mask)
{
    if (dlm_device_failed(dev))
        return;
    struct dlm_drawn *drawn = dlm_at(drawn_);
    const float *p = dlm_at(p_);
    const struct dlm_draw *draw = dlm_at(draw_);
    const size_t bins = DLM_CUT_BINS * sizeof(struct bin), each = bins + (V + BLOCK - 1) / BLOCK * sizeof(int64_t);
    char *work = n ? dlm_device_scratch(dev, (size_t)dev->threads * each) : NULL;
    if (!work)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        const float *s = p + i * V;
        const double sum = share_sum(s, V);
        const float at_z = draw[i].z != DLM_DRAW_NONE ? s[draw[i].z] : 0;
        if (!isfinite(sum)) {
            drawn[i] = (struct dlm_drawn){.id = mask, .best = mask, .most = NAN, .at_z = NAN};
            continue;
        }
        const uint32_t best = find_best(s, V, mask);
        char *mine = work + (size_t)omp_get_thread_num() * each;
        const uint32_t id = draw[i].top_k ? draw_cut(&draw[i], s, V, mask, best, (struct bin *)(void *)mine, (int64_t *)(void *)(mine + bins))
                                          : draw_row(&draw[i], s, V, mask, sum, (double)at_z);
        drawn[i] = (struct dlm_drawn){.id = id, .best = best, .most = s[best], .at_z = at_z};
    }
}
