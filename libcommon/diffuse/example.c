/* The keyed draws of one training example or evaluation level, method.md §2. Not the corruption itself: that is the corrupt
 * kernel, which takes thresholds made from the levels drawn here.
 *
 * Words used, all Philox at (seed, example, position, purpose):
 *     MODE        (i, 0): level per token?, clean prefix?, r of its fraction, empty fraction
 *     LEVEL       (2⁶⁴-1, 0): u₀, 64 bits;  (i, 0): the level where levels are plain draws
 *     TOKEN_LEVEL (i, p): the level of position p
 *     EMPTY       (i, p): whether position p is a pad
 *     EVAL_LEVEL  (sequence, level): u within the level's stratum
 */
#include "diffuse/example.h"

#include "base/rng.h"

#include <math.h>

/* The golden ratio's fraction in units of 2⁻⁶⁴: i·g is then exact modulo 1 for every i, where a double would lose the low bits of
 * u₀ + g·i as i grows. */
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)

double dlm_example_t_min(void)
{
    return dlm_noise_alpha(-DLM_LOG_SNR_MAX);
}

double dlm_example_t_max(void)
{
    return dlm_noise_alpha(DLM_LOG_SNR_MAX);
}

double dlm_example_log_snr(double t)
{
    double l = log1p(-t) - log(t);
    return l > DLM_LOG_SNR_MAX ? DLM_LOG_SNR_MAX : l < -DLM_LOG_SNR_MAX ? -DLM_LOG_SNR_MAX : l;
}

/* [t_min, t_max]. */
struct times {
    double t0, t1;
};

static struct times times(void)
{
    return (struct times){dlm_example_t_min(), dlm_example_t_max()};
}

/* Level at fraction u of them. */
static double level_at(struct times t, double u)
{
    return dlm_example_log_snr(t.t0 + (t.t1 - t.t0) * u);
}

static uint64_t word64(dlm_philox_t w)
{
    return (uint64_t)w.v[0] << 32 | w.v[1];
}

/* (0, 1) from 64 bits. */
static double unit64(uint64_t w)
{
    return ((double)(w >> 12) + 0.5) * 0x1p-52;
}

static double sequence_level(const struct dlm_example_options *o, uint64_t seed, uint64_t i)
{
    if (!o->stratified)
        return level_at(times(), unit64(word64(dlm_philox_at(seed, i, 0, DLM_RNG_LEVEL))));
    return level_at(times(), unit64(word64(dlm_philox_at(seed, UINT64_MAX, 0, DLM_RNG_LEVEL)) + GOLDEN * i));
}

/* Choose a uniform set of `pads` of the N positions (selection sampling, Knuth 3.4.2 S: position p is taken with probability
 * wanted/remaining), then spread the sequence's first tokens over the others, from the end, so that nothing is overwritten
 * unread. */
static void put_pads(uint32_t *x, size_t N, uint32_t pad, size_t pads, uint64_t seed, uint64_t i, uint64_t *is_pad)
{
    size_t wanted = pads, from = N - pads;
    for (size_t p = 0; p < N; p++) {
        uint64_t w = dlm_philox_at(seed, i, (uint32_t)p, DLM_RNG_EMPTY).v[0];
        is_pad[p] = (w * (N - p)) >> 32 < wanted;
        wanted -= is_pad[p];
    }
    for (size_t p = N; p-- > 0;)
        x[p] = is_pad[p] ? pad : x[--from];
}

static double prompt_fraction(enum dlm_prompt_density density, double r)
{
    return density == DLM_PROMPT_PAPER ? acos(r) / M_PI_2 : acos(1 - 2 * r) / M_PI;
}

void dlm_example_draw(const struct dlm_example_options *o, uint64_t seed, uint64_t i, uint32_t *x, size_t N, uint32_t pad,
                      double *log_snr, uint8_t *noisy, bool *prompted, uint64_t *scratch)
{
    dlm_philox_t mode = dlm_philox_at(seed, i, 0, DLM_RNG_MODE);
    if (o->max_empty > 0 && pad != UINT32_MAX) {
        size_t pads = (size_t)(dlm_rng_unit(mode.v[3]) * o->max_empty * (double)N + 0.5);
        if (pads)
            put_pads(x, N, pad, pads < N ? pads : N, seed, i, scratch);
    }
    if (dlm_rng_unit(mode.v[0]) < o->p_independent) {
        const struct times t = times();
        for (size_t p = 0; p < N; p++)
            log_snr[p] = level_at(t, unit64(word64(dlm_philox_at(seed, i, (uint32_t)p, DLM_RNG_TOKEN_LEVEL))));
    } else {
        double level = sequence_level(o, seed, i);
        for (size_t p = 0; p < N; p++)
            log_snr[p] = level;
    }
    double last = -1; /* the last clean position */
    *prompted = dlm_rng_unit(mode.v[1]) < o->p_prompt;
    if (*prompted)
        last = prompt_fraction(o->prompt_density, dlm_rng_unit(mode.v[2])) * ((double)N - 1);
    for (size_t p = 0; p < N; p++)
        noisy[p] = (double)p > last;
}

double dlm_example_eval_log_snr(uint64_t seed, uint64_t sequence, uint32_t level, uint32_t levels)
{
    double u = unit64(word64(dlm_philox_at(seed, sequence, level, DLM_RNG_EVAL_LEVEL)));
    return level_at(times(), (level + u) / levels);
}
