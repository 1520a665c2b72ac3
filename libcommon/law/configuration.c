/* From a law and a budget to a run; see configuration.h. Formulas: method.md §4 (parameters), §5 (schedule), §6 (FLOPs). */
#include "law/configuration.h"

#include "law/databound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The nearest of devices·2^k and 3·devices·2^k, in logarithms. */
static uint64_t round_batch(double sequences, uint64_t devices)
{
    uint64_t best = devices;
    for (uint64_t b = devices; (double)b < 4 * sequences && b < UINT64_MAX / 8; b *= 2)
        for (uint64_t c = b; c <= 3 * b; c += 2 * b)
            if (fabs(log((double)c / sequences)) < fabs(log((double)best / sequences)))
                best = c;
    return best;
}

/* Sequences of a device in one pass: the largest power of two that divides its share, in about 8192 tokens. */
static uint64_t round_micro(uint64_t share, uint64_t seq_len)
{
    uint64_t micro = 1;
    while (share % (2 * micro) == 0 && 2 * micro * seq_len <= 8192)
        micro *= 2;
    return micro;
}

static struct dlm_prediction scale(struct dlm_prediction p, double by)
{
    return (struct dlm_prediction){p.value * by, p.lo * by, p.hi * by};
}

/* The law's size and loss under the limit on unique tokens; the worth of the tokens is known where a law speaks of it. */
static int limit(const struct dlm_laws *l, const struct dlm_configure *how, struct dlm_configuration *c, double *size,
                 struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_databound d;
    double free_loss, loss, free_size, bound;
    c->unique = how->unique;
    if (c->law[DLM_Q_TOKENS].value <= how->unique)
        return 0;
    if (!dlm_databound_of(l, c->group, c->noise, c->budget, &d)) {
        c->loss = (struct dlm_prediction){NAN, NAN, NAN};
        snprintf(c->assumes, sizeof c->assumes, "no law of repeated data: size as without a limit");
        return dlm_notes_add(notes, err,
                             "%s: no surface and no multi-epoch law: its loss on %.3g unique tokens is not determined, and its size "
                             "is that without a limit",
                             c->group, how->unique);
    }
    free_size = dlm_databound_size(&d, c->budget, INFINITY, &free_loss, NULL);
    bound = dlm_databound_size(&d, c->budget, how->unique, &loss, NULL);
    *size *= bound / free_size;
    c->loss = scale(c->loss, loss / free_loss);
    snprintf(c->assumes, sizeof c->assumes, "%s", d.assumes);
    return 0;
}

/* Batch, learning rate, steps: what the laws say at the tokens and then the batch of this run. */
static int fill_run(const struct dlm_laws *l, const struct dlm_configure *how, struct dlm_configuration *c,
                    struct dlm_notes *notes, struct dlm_error *err)
{
    const double N = (double)how->seq_len, tokens = c->budget / (c->by_params ? c->shape.flops_6p : c->shape.flops_tok);
    struct dlm_prediction q[DLM_QUANTITIES];
    memcpy(q, c->law, sizeof q);
    q[DLM_Q_TOKENS] = (struct dlm_prediction){tokens, tokens, tokens};
    q[DLM_Q_BATCH] = q[DLM_Q_LR] = (struct dlm_prediction){NAN, NAN, NAN};
    const size_t said = notes->n; /* what the laws strain to is told of the budget, and not again of whole numbers near it */
    int rc = dlm_predict_from(l, c->group, q, notes, err);
    if (!isnan(c->law[DLM_Q_BATCH].value))
        dlm_notes_cut(notes, said);
    if (rc)
        return rc;
    double wanted = q[DLM_Q_BATCH].value / N;
    c->batch = how->batch ? how->batch : isnan(wanted) ? 0 : round_batch(wanted, how->devices);
    if (!c->batch)
        rc = dlm_notes_add(notes, err, "%s: no law gives a batch; give one with --batch", c->group);
    else if (!how->batch && wanted < .6 * (double)how->devices)
        rc = dlm_notes_add(notes, err, "%s: the best batch at %.3g FLOPs is %.3g sequences, fewer than %llu devices", c->group,
                           c->budget, wanted, (unsigned long long)how->devices);
    if (rc)
        return rc;
    if (c->batch) {
        double b = (double)c->batch * N, steps = round(tokens / b);
        if (b > tokens)
            return dlm_fail(err, DLM_EDATA, "%s: a batch of %.3g tokens is larger than the %.3g tokens that %.3g FLOPs train on",
                            c->group, b, tokens, c->budget);
        c->steps = (uint64_t)steps;
        c->tokens = steps * b;
        c->warmup = c->steps < 10000 ? c->steps / 5 : 2000;
        c->micro_batch = c->batch % how->devices ? 1 : round_micro(c->batch / how->devices, how->seq_len);
        if (c->steps < 1000)
            rc = dlm_notes_add(notes, err, "%s: %.3g FLOPs are %.0f steps: few for laws of long runs", c->group, c->budget,
                               steps);
        q[DLM_Q_BATCH] = (struct dlm_prediction){b, b, b};
    } else {
        c->tokens = tokens;
    }
    q[DLM_Q_LR] = (struct dlm_prediction){NAN, NAN, NAN};
    const size_t before = notes->n;
    if (!rc)
        rc = dlm_predict_from(l, c->group, q, notes, err);
    if (!how->batch && !isnan(c->law[DLM_Q_LR].value))
        dlm_notes_cut(notes, before);
    c->lr = isnan(how->lr) ? q[DLM_Q_LR].value : how->lr;
    if (!rc && isnan(c->lr))
        rc = dlm_notes_add(notes, err, "%s: no law gives a learning rate; give one with --lr", c->group);
    return rc;
}

/* What the repeated tokens are worth, and what another law of the group makes of them. */
static int tell_repeats(const struct dlm_laws *l, struct dlm_configuration *c, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_databound d;
    double loss, worth;
    c->worth = NAN;
    if (!dlm_databound_of(l, c->group, c->noise, c->budget, &d))
        return 0;
    c->worth = dlm_databound_worth(&d, c->shape.params, c->unique, c->tokens);
    if (d.form == DLM_EPOCHS_STRETCHED || !dlm_databound_stretched(l, c->group, c->shape.params, c->unique, c->tokens, &loss, &worth))
        return 0;
    return dlm_notes_add(notes, err, "%s: its law epochs.stretched says a loss of %.4g for %.3g passes at this size%s", c->group, loss,
                         c->epochs, worth > c->tokens ? ", and values repeated tokens above new ones there" : "");
}

static int configure(const struct dlm_laws *l, const struct dlm_configure *how, struct dlm_configuration *c,
                     struct dlm_notes *notes, struct dlm_error *err)
{
    int rc = dlm_predict(l, c->group, c->budget, c->law, notes, err);
    if (rc)
        return rc;
    c->by_params = dlm_predict_by_params(l, c->group);
    bool params = c->by_params || isnan(c->law[DLM_Q_SIZE].value);
    double size = c->law[params ? DLM_Q_PARAMS : DLM_Q_SIZE].value;
    c->loss = c->law[DLM_Q_LOSS];
    if ((rc = limit(l, how, c, &size, notes, err)))
        return rc;
    c->shape = dlm_shape_nearest(size, params, how->seq_len, how->vocab_size);
    double off = (params ? c->shape.params : c->shape.flops_tok) / size;
    if (off > 1.5 || off < 1 / 1.5) {
        struct dlm_shape least = dlm_shape_of(1, 64, how->seq_len, how->vocab_size);
        return dlm_fail(err, DLM_EDATA, "%s: %.3g FLOPs ask for a network of %.3g %s, and the %s that can be built has %.3g", c->group,
                        c->budget, size, params ? "params" : "FLOPs per token", off > 1 ? "smallest" : "largest",
                        off > 1 ? (params ? least.params : least.flops_tok) : (params ? c->shape.params : c->shape.flops_tok));
    }
    if ((off > 1.05 || off < 1 / 1.05) &&
        (rc = dlm_notes_add(notes, err, "%s: at %.3g FLOPs the nearest shape has %.3g times the size that the law asks for",
                            c->group, c->budget, off)))
        return rc;
    if ((rc = fill_run(l, how, c, notes, err)))
        return rc;

    const struct dlm_law_row *annealing = dlm_laws_find(l, "annealing", c->group, "factor", NULL, NULL);
    if (!annealing)
        annealing = dlm_laws_find(l, "annealing", "pooled", "factor", NULL, NULL);
    double factor = annealing ? annealing->value : NAN;
    c->annealed = scale(c->loss, factor);
    c->flops = c->shape.flops_tok * c->tokens;
    c->flops_6p = c->shape.flops_6p * c->tokens;
    c->flops_head = c->shape.flops_head * c->tokens;
    double all = c->shape.params + c->shape.embedding;
    c->weights = c->gradients = 4 * all;
    c->moments = 8 * all;
    c->device_hours = (c->flops + c->flops_head) / (how->peak * how->mfu) / 3600;
    c->seconds = c->device_hours * 3600 / (double)how->devices;
    c->worth = c->tokens;
    c->epochs = c->tokens / how->unique;
    return c->tokens > how->unique ? tell_repeats(l, c, notes, err) : 0;
}

int dlm_configure_all(const struct dlm_laws *l, const double *flops, size_t n, const struct dlm_configure *how,
                      struct dlm_configurations *out, struct dlm_notes *notes, struct dlm_error *err)
{
    const struct dlm_law_row *r;
    size_t groups = 0;
    bool met = false;
    int rc = 0;
    *out = (struct dlm_configurations){0};
    for (size_t at = 0; dlm_predict_next(l, &at);)
        groups++;
    out->at = calloc(groups * n + 1, sizeof *out->at);
    if (!out->at)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t at = 0; (r = dlm_predict_next(l, &at)) && !rc;) {
        char noise[64];
        dlm_predict_noise(r, noise, sizeof noise);
        if (how->noise && strcmp(how->noise, noise) && strcmp(how->noise, r->group))
            continue;
        met = true;
        struct dlm_prediction q[DLM_QUANTITIES];
        if ((rc = dlm_predict(l, r->group, flops[0], q, notes, err)))
            break;
        if (isnan(q[DLM_Q_PARAMS].value) && isnan(q[DLM_Q_SIZE].value)) {
            rc = dlm_notes_add(notes, err, "%s: no law gives a size for a budget: not planned", r->group);
            continue;
        }
        for (size_t k = 0; k < n && !rc; k++) {
            struct dlm_configuration *c = &out->at[out->n];
            *c = (struct dlm_configuration){.group = r->group,
                                            .budget = flops[k],
                                            .seq_len = how->seq_len,
                                            .vocab_size = how->vocab_size,
                                            .devices = how->devices,
                                            .autoregressive = !strcmp(noise, "none")};
            snprintf(c->noise, sizeof c->noise, "%s", noise);
            rc = configure(l, how, c, notes, err);
            out->n += !rc;
        }
    }
    if (!rc && !met && how->noise)
        rc = dlm_fail(err, DLM_EDATA, "no law of the noise type or group '%s'", how->noise);
    if (!rc && !out->n)
        rc = dlm_fail(err, DLM_EDATA, "no law gives a size for a budget: isoflop with power, loss or surface fit one");
    if (rc)
        dlm_configurations_release(out);
    return rc;
}

void dlm_configurations_release(struct dlm_configurations *c)
{
    free(c->at);
    *c = (struct dlm_configurations){0};
}
