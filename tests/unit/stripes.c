/* Stripes: every element has one owner and one place, runs cover what they are asked for, and ranks have alike. */
#include "base/rng.h"
#include "tap.h"

#include "../../kernels/stripes.h"

#include <string.h>

/* Owner and place of every element by counting. */
static bool places(const struct dlm_stripes *s)
{
    size_t *next = calloc((size_t)s->size, sizeof *next);
    bool good = next != NULL;
    for (size_t e = 0; good && e < s->total; e++) {
        const int r = dlm_stripes_owner(s, e);
        size_t neighbours;
        good = r >= 0 && r < s->size && dlm_stripes_before(s, r, e) == next[r] && dlm_stripes_element(s, r, next[r], &neighbours) == e && neighbours >= 1 &&
               neighbours <= s->each && (neighbours == 1 || e + 1 == s->total || dlm_stripes_owner(s, e + 1) == r);
        next[r] += good;
    }
    for (int r = 0; good && r < s->size; r++)
        good = dlm_stripes_own(s, r) == next[r] && dlm_stripes_own(s, r) <= dlm_stripes_own(s, 0);
    free(next);
    return good;
}

/* The ranks' runs in [from, to), together, are that and no more. */
static bool runs(const struct dlm_stripes *s, size_t from, size_t to, unsigned char *seen)
{
    bool good = true;
    memset(seen, 0, s->total);
    for (int r = 0; r < s->size; r++) {
        size_t end = from, n = 0;
        for (struct dlm_stretch own = {.to = from}; good && dlm_stripes_next(s, r, to, &own);) {
            good = own.from >= end && own.from < own.to && own.to <= to && dlm_stripes_owner(s, own.from) == r && dlm_stripes_owner(s, own.to - 1) == r &&
                   dlm_stripes_before(s, r, own.to - 1) - dlm_stripes_before(s, r, own.from) == own.to - 1 - own.from;
            for (size_t e = own.from; e < own.to; e++)
                good = good && !seen[e]++;
            n += own.to - own.from;
            end = own.to;
        }
        good = good && n == dlm_stripes_before(s, r, to) - dlm_stripes_before(s, r, from);
    }
    for (size_t e = 0; e < s->total; e++)
        good = good && seen[e] == (e >= from && e < to);
    return good;
}

int main(void)
{
    static const size_t totals[] = {1, 63, 64, 65, 1000, 6512, 100003, 400000};
    static const int sizes[] = {1, 2, 3, 7, 8, 40, 1000};
    bool all = true, cover = true, given = true;
    struct dlm_rng rng;
    dlm_rng_init(&rng, tap_seed(), 0, DLM_RNG_TEST);
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            const struct dlm_stripes asked = dlm_stripes_of(totals[i], sizes[j]), fine = {totals[i], 64, sizes[j]};
            unsigned char *seen = calloc(totals[i], 1);
            if (!seen)
                return 1;
            given = given && asked.total == totals[i] && asked.size == sizes[j] && (sizes[j] == 1 ? asked.each == totals[i] : asked.each % 64 == 0);
            all = all && places(&asked) && places(&fine);
            cover = cover && runs(&asked, 0, totals[i], seen) && runs(&fine, 0, totals[i], seen);
            for (int k = 0; k < 3; k++) {
                const size_t a = dlm_rng_next(&rng) % (totals[i] + 1), b = dlm_rng_next(&rng) % (totals[i] + 1);
                cover = cover && runs(&asked, a < b ? a : b, a < b ? b : a, seen) && runs(&fine, a < b ? a : b, a < b ? b : a, seen);
            }
            free(seen);
        }
    tap_ok(given, "stripes are multiples of 64 elements, one rank has a single one");
    tap_ok(all, "every element has one owner and one place, whose order is that of the elements; rank 0 has the most");
    tap_ok(cover, "the ranks' runs in any stretch cover it, and nothing twice");

    bool few = true, alike = true;
    for (size_t total = 1 << 20; total < (size_t)1 << 40; total = total * 3 + 16)
        for (int size = 2; size <= 1024; size *= 2) {
            const struct dlm_stripes s = dlm_stripes_of(total, size);
            const size_t most = dlm_stripes_own(&s, 0), least = dlm_stripes_own(&s, size - 1);
            few = few && (most + s.each - 1) / s.each <= 256;
            alike = alike && most - least <= s.each && (s.each == 1024 || s.each <= total / ((size_t)size * 256) + 64);
        }
    tap_ok(few && alike, "a rank has at most 256 stripes, and one more than another at most");
    return tap_end();
}
