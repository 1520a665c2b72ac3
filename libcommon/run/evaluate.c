/* Held-out likelihood. */
#include "run/evaluate.h"

#include "base/rng.h"
#include "base/stop.h"
#include "diffuse/example.h"

#include <math.h>
#include <string.h>

size_t dlm_evaluation_batch(size_t seq_len)
{
    size_t n = 4096 / seq_len;
    return n < 1 ? 1 : n;
}

/* Running sums over sequences; a sequence's levels come one after the other, so its mean is whole when the last arrives. */
struct sums {
    uint64_t sequences;
    double elbo, elbo2, loss, kl, is; /* of the sequences' means */
    double now[DLM_TERMS];            /* the sequence in hand */
};

static void add_draw(struct sums *s, const double terms[DLM_TERMS], size_t N, uint32_t level, uint32_t levels)
{
    for (int j = 0; j < DLM_TERMS; j++)
        s->now[j] = (level ? s->now[j] : 0) + terms[j];
    if (level + 1 < levels)
        return;
    double scale = 1 / ((double)N * levels), elbo = s->now[DLM_TERM_ELBO] * scale;
    s->sequences++;
    s->elbo += elbo;
    s->elbo2 += elbo * elbo;
    s->loss += s->now[DLM_TERM_LOSS] * scale;
    s->kl += s->now[DLM_TERM_KL] * scale;
    s->is += s->now[DLM_TERM_IS] * scale;
}

int dlm_evaluate(struct dlm_network *m, struct dlm_pass *pass, const struct dlm_evaluation_plan *plan, struct dlm_progress *progress,
                 struct dlm_evaluation *out, struct dlm_error *err)
{
    size_t N = pass->N, B = dlm_evaluation_batch(N);
    uint32_t levels = plan->autoregressive ? 1 : plan->levels;
    uint64_t sequences = dlm_shards_sequences(plan->shards, plan->split);
    uint64_t want = plan->tokens / N + (plan->tokens % N != 0);
    if (plan->tokens && want < sequences)
        sequences = want;
    if (!sequences)
        return dlm_fail(err, DLM_EDATA, "there is nothing to evaluate: the %s split is empty", plan->split == DLM_SPLIT_VAL ? "val" : "train");
    struct sums sums = {0};
    uint64_t draws = sequences * levels, bytes = 0;
    for (uint64_t first = 0; first < draws; first += B) {
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
                bytes += dlm_vocab_count_bytes(dlm_shards_vocab(plan->shards), x, N);
            double log_snr = dlm_example_eval_log_snr(plan->seed, sequence, (uint32_t)(draw % levels), levels);
            for (size_t i = 0; i < N; i++) {
                pass->log_snr[b * N + i] = log_snr;
                pass->noisy[b * N + i] = 1;
            }
            pass->example[b] = draw;
            pass->noise[b] = plan->noise;
        }
        int rc = 0;
        if (plan->autoregressive)
            rc = dlm_pass_autoregressive(pass, m, B, false, err);
        else if (!(rc = dlm_pass_corrupt(pass, B, plan->seed, DLM_RNG_EVAL_CORRUPT, err)))
            rc = dlm_pass_diffusion(pass, m, B, false, err);
        if (!rc)
            rc = dlm_network_sync(m, err);
        if (rc)
            return rc;
        size_t r = 0;
        for (size_t b = 0; b < B && first + b < draws; b++) {
            double t[DLM_TERMS] = {0};
            for (; r < pass->scored.n && pass->scored.at[r] < (b + 1) * N; r++)
                for (int j = 0; j < DLM_TERMS; j++)
                    t[j] += plan->autoregressive ? pass->terms[r] : pass->terms[r * DLM_TERMS + (size_t)j];
            add_draw(&sums, t, N, (uint32_t)((first + b) % levels), levels);
        }
        if (progress)
            dlm_progress_update(progress, (first + B < draws ? first + B : draws) * N / levels, NULL);
    }
    double n = (double)sums.sequences, mean = sums.elbo / n;
    *out = (struct dlm_evaluation){.sequences = sequences, .tokens = sequences * N, .bytes = bytes, .elbo = mean, .levels = levels};
    out->elbo_se = n > 1 ? sqrt(fmax(0, sums.elbo2 / n - mean * mean) / (n - 1)) : NAN;
    out->loss = plan->autoregressive ? mean : sums.loss / n;
    out->kl = plan->autoregressive ? NAN : sums.kl / n;
    out->is = plan->autoregressive ? NAN : sums.is / n;
    out->bpb = bytes ? mean / M_LN2 * (double)out->tokens / (double)bytes : NAN;
    out->ppl = exp(mean);
    if (!isfinite(mean))
        return dlm_fail(err, DLM_EDIVERGED, "the held-out loss is not finite: the model has diverged");
    return 0;
}
