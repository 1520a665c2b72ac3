/* Held-out likelihood. */
#include "run/evaluate.h"

#include "base/rng.h"
#include "base/stop.h"
#include "diffuse/example.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t dlm_evaluation_batch(size_t seq_len)
{
    size_t n = 4096 / seq_len;
    return n < 1 ? 1 : n;
}

/* What is known of one sequence: the terms of its levels, added up in order. */
enum { SEQUENCE_TERMS = DLM_TERMS };

/* Sums over sequences of their means, in order. */
struct sums {
    double elbo, elbo2, loss, kl, is;
};

static struct sums add_up(const double *sequence, uint64_t n, size_t N, uint32_t levels)
{
    struct sums s = {0};
    const double scale = 1 / ((double)N * levels);
    for (uint64_t i = 0; i < n; i++, sequence += SEQUENCE_TERMS) {
        const double elbo = sequence[DLM_TERM_ELBO] * scale;
        s.elbo += elbo;
        s.elbo2 += elbo * elbo;
        s.loss += sequence[DLM_TERM_LOSS] * scale;
        s.kl += sequence[DLM_TERM_KL] * scale;
        s.is += sequence[DLM_TERM_IS] * scale;
    }
    return s;
}

/* --- profiles ---------------------------------------------------------------------------------------------------------------- */

struct profile {
    const struct dlm_evaluation_plan *plan;
    size_t N;
    double *sum, *sum2, *now; /* (bins) over sequences, and of the sequence in hand */
};

/* The level of a draw, and what it weighs. A stratum of t becomes the stratum of λ of the same share of its range. */
static double draw_level(const struct dlm_evaluation_plan *plan, uint64_t sequence, uint32_t level, uint32_t levels, double *weight)
{
    const double t0 = dlm_example_t_min(), range = dlm_example_t_max() - t0, span = 2 * DLM_LOG_SNR_MAX;
    double log_snr = dlm_example_eval_log_snr(plan->seed, sequence, level, levels);
    *weight = 1;
    if (plan->by != DLM_PROFILE_LEVEL)
        return log_snr;
    log_snr = span * (dlm_noise_alpha(-log_snr) - t0) / range - DLM_LOG_SNR_MAX;
    *weight = span * dlm_noise_alpha(log_snr) * dlm_noise_alpha(-log_snr) / range;
    return log_snr;
}

static size_t bin_of_level(size_t bins, double log_snr)
{
    double at = (log_snr + DLM_LOG_SNR_MAX) / (2 * DLM_LOG_SNR_MAX) * (double)bins;
    return at >= (double)bins ? bins - 1 : at < 0 ? 0 : (size_t)at;
}

/* The first position of bin b: the least i with ⌊i·bins/N⌋ = b. */
static size_t bin_begins(const struct profile *f, size_t b)
{
    return (b * f->N + f->plan->bins - 1) / f->plan->bins;
}

static int profile_begin(struct profile *f, const struct dlm_evaluation_plan *plan, size_t N, struct dlm_error *err)
{
    *f = (struct profile){.plan = plan, .N = N};
    if (!plan->by)
        return 0;
    const size_t bins = plan->bins;
    f->sum = calloc(3 * bins, sizeof *f->sum);
    if (!f->sum)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a profile of %zu bins", bins);
    f->sum2 = f->sum + bins;
    f->now = f->sum2 + bins;
    const double width = 2 * DLM_LOG_SNR_MAX / (double)bins;
    for (size_t b = 0; b < bins; b++)
        plan->profile[b] = plan->by == DLM_PROFILE_LEVEL
                               ? (struct dlm_profile_bin){.lo = (double)b * width - DLM_LOG_SNR_MAX, .hi = (double)(b + 1) * width - DLM_LOG_SNR_MAX}
                               : (struct dlm_profile_bin){.lo = (double)bin_begins(f, b), .hi = (double)bin_begins(f, b + 1)};
    return 0;
}

/* A sequence's levels are all in. */
static void profile_sequence(struct profile *f, uint32_t levels)
{
    for (size_t b = 0; b < f->plan->bins; b++) {
        const struct dlm_profile_bin *bin = &f->plan->profile[b];
        const double over = f->plan->by == DLM_PROFILE_LEVEL ? (double)f->N * (bin->hi - bin->lo) : bin->hi - bin->lo, v = f->now[b] / (over * levels);
        f->sum[b] += v;
        f->sum2[b] += v * v;
        f->now[b] = 0;
    }
}

static void profile_end(struct profile *f, uint64_t sequences, uint32_t levels)
{
    const double n = (double)sequences;
    for (size_t b = 0; b < f->plan->bins; b++) {
        const double mean = f->sum[b] / n;
        if (f->plan->by == DLM_PROFILE_POSITION)
            f->plan->profile[b].tokens = sequences * levels * (uint64_t)(f->plan->profile[b].hi - f->plan->profile[b].lo);
        f->plan->profile[b].elbo = mean;
        f->plan->profile[b].se = sequences > 1 ? sqrt(fmax(0, f->sum2[b] / n - mean * mean) / (n - 1)) : NAN;
    }
}

/* --- evaluation -------------------------------------------------------------------------------------------------------------- */

/* Score sequences [from, to): the terms of sequence i into terms + i·SEQUENCE_TERMS, their bytes added to *bytes. */
static int score(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct profile *profile, uint64_t from, uint64_t to,
                 struct dlm_progress *progress, double *terms, double *bytes, struct dlm_error *err)
{
    size_t N = pass->N, B = dlm_evaluation_batch(N);
    uint32_t levels = plan->autoregressive ? 1 : plan->levels;
    uint64_t draws = to * levels;
    for (uint64_t first = from * levels; first < draws; first += B) {
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        for (size_t b = 0; b < B; b++) { /* a short last call repeats its last draw, so that every call has one shape */
            uint64_t draw = first + b < draws ? first + b : draws - 1, sequence = draw / levels;
            uint32_t *x = pass->x + b * N;
            if (b && draw / levels == (first + b - 1) / levels)
                memcpy(x, x - N, N * sizeof *x);
            else {
                int rc = dlm_shards_read(plan->shards, plan->split, sequence, x, err);
                if (rc)
                    return rc;
            }
            if (first + b < draws && draw % levels == 0)
                *bytes += (double)dlm_vocab_count_bytes(dlm_shards_vocab(plan->shards), x, N);
            double weight, log_snr = draw_level(plan, sequence, (uint32_t)(draw % levels), levels, &weight);
            for (size_t i = 0; i < N; i++) {
                pass->log_snr[b * N + i] = log_snr;
                pass->noisy[b * N + i] = 1;
            }
            pass->example[b] = draw;
            pass->noise[b] = plan->noise;
        }
        int rc;
        if (plan->autoregressive) {
            if (!(rc = dlm_pass_shift(pass, B, err)))
                rc = dlm_pass_autoregressive(pass, m, B, false, err);
        } else if (!(rc = dlm_pass_corrupt(pass, B, plan->seed, DLM_RNG_EVAL_CORRUPT, err)))
            rc = dlm_pass_diffusion(pass, m, B, false, err);
        if (!rc)
            rc = dlm_network_sync(m, err);
        if (rc)
            return rc;
        size_t r = 0;
        for (size_t b = 0; b < B && first + b < draws; b++) {
            const uint32_t level = (uint32_t)((first + b) % levels);
            double t[DLM_TERMS] = {0}, weight;
            draw_level(plan, (first + b) / levels, level, levels, &weight);
            for (; r < pass->scored.n && pass->scored.at[r] < (b + 1) * N; r++) {
                for (int j = 0; j < DLM_TERMS; j++)
                    t[j] += weight * (plan->autoregressive ? pass->terms[r] : pass->terms[r * DLM_TERMS + (size_t)j]);
                if (plan->by == DLM_PROFILE_POSITION)
                    profile->now[(pass->scored.at[r] - b * N) * plan->bins / N] += plan->autoregressive ? pass->terms[r] : pass->terms[r * DLM_TERMS + DLM_TERM_ELBO];
            }
            double *sequence = terms + (first + b) / levels * SEQUENCE_TERMS;
            for (int j = 0; j < DLM_TERMS; j++)
                sequence[j] += t[j];
            if (plan->by == DLM_PROFILE_LEVEL) {
                const size_t bin = bin_of_level(plan->bins, pass->log_snr[b * N]);
                profile->now[bin] += t[DLM_TERM_ELBO];
                plan->profile[bin].tokens += N;
            }
            if (plan->by && level + 1 == levels)
                profile_sequence(profile, levels);
        }
        if (progress)
            dlm_progress_update(progress, (first + B < draws ? first + B : draws) * N / levels, NULL);
    }
    return 0;
}

static int evaluate(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct profile *profile,
                    struct dlm_progress *progress, struct dlm_evaluation *out, struct dlm_error *err)
{
    const size_t N = pass->N;
    const uint32_t levels = plan->autoregressive ? 1 : plan->levels;
    uint64_t sequences = dlm_shards_sequences(plan->shards, plan->split), from = 0, share;
    uint64_t want = plan->tokens / N + (plan->tokens % N != 0);
    if (plan->tokens && want < sequences)
        sequences = want;
    if (!sequences)
        return dlm_fail(err, DLM_EDATA, "there is nothing to evaluate: the %s split is empty", plan->split == DLM_SPLIT_VAL ? "val" : "train");
    share = sequences;
    if (plan->group)
        share = dlm_group_share(plan->group, sequences, &from);
    /* Everyone's terms, bytes, and whether anyone was told to stop: what others score is 0 here, so that a sum over ranks is a collection. */
    const size_t terms = (size_t)sequences * SEQUENCE_TERMS, all = terms + 2;
    double *figures = calloc(all, sizeof *figures);
    if (!figures)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the scores of %llu sequences", (unsigned long long)sequences);
    int rc = score(m, pass, plan, profile, from, from + share, progress, figures, &figures[terms], err);
    if (plan->group && (!rc || rc == DLM_ESTOPPED)) {
        figures[terms + 1] = rc != 0;
        rc = dlm_group_sum(plan->group, figures, all, err);
        if (!rc && figures[terms + 1] > 0)
            rc = dlm_fail(err, DLM_ESTOPPED, "stopped");
    }
    const struct sums sums = add_up(figures, sequences, N, levels);
    const double bytes = figures[terms];
    free(figures);
    if (rc)
        return rc;
    double n = (double)sequences, mean = sums.elbo / n;
    *out = (struct dlm_evaluation){.sequences = sequences, .tokens = sequences * N, .bytes = (uint64_t)bytes, .elbo = mean, .levels = levels};
    out->elbo_se = n > 1 ? sqrt(fmax(0, sums.elbo2 / n - mean * mean) / (n - 1)) : NAN;
    out->loss = plan->autoregressive ? mean : sums.loss / n;
    out->kl = plan->autoregressive ? NAN : sums.kl / n;
    out->is = plan->autoregressive ? NAN : sums.is / n;
    out->bpb = bytes > 0 ? mean / M_LN2 * (double)out->tokens / bytes : NAN;
    out->ppl = exp(mean);
    if (!isfinite(mean))
        return dlm_fail(err, DLM_EDIVERGED, "the held-out loss is not finite: the model has diverged");
    if (plan->by)
        profile_end(profile, sequences, levels);
    return 0;
}

int dlm_evaluate(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct dlm_progress *progress,
                 struct dlm_evaluation *out, struct dlm_error *err)
{
    struct profile profile;
    assert(!plan->group || !plan->by);
    int rc = profile_begin(&profile, plan, pass->N, err);
    if (!rc)
        rc = evaluate(m, pass, plan, &profile, progress, out, err);
    free(profile.sum);
    return rc;
}
