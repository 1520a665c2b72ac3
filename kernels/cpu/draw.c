/* One id a row of shares: the draws of sampling (method.md §9), without writing a distribution down. */
#include "device.h"

#include <math.h>

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

void dlm_cpu_draw(struct dlm_device *dev, dlm_ptr drawn_, dlm_ptr p_, dlm_ptr draw_, size_t n, size_t V, uint32_t mask)
{
    if (dlm_device_failed(dev))
        return;
    struct dlm_drawn *drawn = dlm_at(drawn_);
    const float *p = dlm_at(p_);
    const struct dlm_draw *draw = dlm_at(draw_);
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
        drawn[i] = (struct dlm_drawn){.id = draw_row(&draw[i], s, V, mask, sum, (double)at_z), .best = best, .most = s[best], .at_z = at_z};
    }
}
