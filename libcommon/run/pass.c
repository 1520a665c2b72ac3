/* One pass of corrupted sequences through a network. */
#include "run/pass.h"

#include <stdlib.h>
#include <string.h>

int dlm_pass_new(struct dlm_pass *p, const struct dlm_backend *b, const struct dlm_config *c, size_t max_batch, size_t N, struct dlm_error *err)
{
    size_t T = max_batch * N;
    *p = (struct dlm_pass){.b = *b, .max_batch = max_batch, .N = N, .V = c->vocab_size, .mask = c->mask};
    p->first = c->begin != UINT32_MAX ? c->begin : c->end;
    p->x = calloc(T, sizeof *p->x);
    p->log_snr = calloc(T, sizeof *p->log_snr);
    p->noisy = calloc(T, 1);
    p->example = calloc(max_batch, sizeof *p->example);
    p->noise = calloc(max_batch, sizeof *p->noise);
    p->z = calloc(T, sizeof *p->z);
    p->terms = calloc(T, DLM_TERMS * sizeof *p->terms);
    p->at = calloc(T, sizeof *p->at);
    p->target = calloc(T, sizeof *p->target);
    p->zs = calloc(T, sizeof *p->zs);
    p->row = calloc(T, sizeof *p->row);
    p->level = calloc(T, sizeof *p->level);
    p->keep = calloc(T, sizeof *p->keep);
    p->uniform = calloc(T, sizeof *p->uniform);
    bool host = p->x && p->log_snr && p->noisy && p->example && p->noise && p->z && p->terms && p->at && p->target && p->zs && p->row && p->level &&
                p->keep && p->uniform;
    p->d_z = dlm_backend_alloc(b, T * 4);
    p->d_noisy = dlm_backend_alloc(b, T);
    if (!host || !p->d_z.at || !p->d_noisy.at) {
        dlm_pass_release(p);
        return dlm_fail(err, DLM_ENOMEM, "no memory for a batch of %zu sequences of %zu tokens", max_batch, N);
    }
    return 0;
}

double dlm_pass_host_bytes(size_t max_batch, size_t N)
{
    const struct dlm_pass *p = NULL; /* for its types alone */
    const double token = sizeof *p->x + sizeof *p->log_snr + 1 + sizeof *p->z + DLM_TERMS * sizeof *p->terms + sizeof *p->at + sizeof *p->target +
                         sizeof *p->zs + sizeof *p->row + sizeof *p->level + sizeof *p->keep + sizeof *p->uniform;
    return (double)max_batch * ((double)N * token + sizeof *p->example + sizeof *p->noise);
}

double dlm_pass_device_bytes(size_t max_batch, size_t N)
{
    const size_t T = max_batch * N;
    return (double)dlm_arena_part(T * 4) + (double)dlm_arena_part(T);
}

void dlm_pass_release(struct dlm_pass *p)
{
    void *host[] = {p->x, p->log_snr, p->noisy, p->example, p->noise, p->z, p->terms, p->at, p->target, p->zs, p->row, p->level, p->keep, p->uniform};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    dlm_ptr device[] = {p->d_z, p->d_noisy};
    for (size_t i = 0; p->b.dev && i < sizeof device / sizeof *device; i++)
        if (device[i].at)
            dlm_backend_free(&p->b, device[i]);
    *p = (struct dlm_pass){0};
}

static int check_ids(const struct dlm_pass *p, size_t T, struct dlm_error *err)
{
    for (size_t t = 0; t < T; t++)
        if (p->x[t] >= p->V || p->x[t] == p->mask)
            return dlm_fail(err, DLM_EDATA, "the data hold id %u, which is %s", p->x[t], p->x[t] == p->mask ? "the mask" : "outside the vocabulary");
    return 0;
}

/* One level for a whole sequence is the common case. */
static bool same_level(const struct dlm_pass *p, size_t t)
{
    return t % p->N && p->noisy[t - 1] && p->log_snr[t] == p->log_snr[t - 1];
}

int dlm_pass_corrupt_drawn(struct dlm_pass *p, size_t B, uint64_t seed, uint32_t purpose, bool any, struct dlm_error *err)
{
    size_t N = p->N, T = B * N;
    uint32_t V = (uint32_t)p->V;
    int rc = check_ids(p, T, err);
    if (rc)
        return rc;
    struct dlm_shares *level = p->level; /* of each noisy position whose level is not that of the one before */
    for (size_t t = 0; t < T; t++) {
        p->keep[t] = (uint64_t)1 << 32;
        p->uniform[t] = 0;
        if (!p->noisy[t])
            continue;
        if (!same_level(p, t)) {
            *level = dlm_noise_shares(&p->noise[t / N], p->log_snr[t]);
            dlm_shares_thresholds(level++, &p->keep[t], &p->uniform[t]);
        } else {
            p->keep[t] = p->keep[t - 1];
            p->uniform[t] = p->uniform[t - 1];
        }
    }
    p->b.k->corrupt(p->b.dev, p->z, p->x, p->keep, p->uniform, p->example, B, N, seed, purpose, any ? V : V - 1, any ? UINT32_MAX : p->mask, p->mask);
    const struct dlm_shares *here = NULL;
    struct dlm_row row[DLM_BECAME_KINDS];
    bool known[DLM_BECAME_KINDS], scored[DLM_BECAME_KINDS];
    size_t n = 0;
    level = p->level;
    for (size_t t = 0; t < T; t++) {
        if (!p->noisy[t])
            continue;
        if (!same_level(p, t)) {
            here = level++;
            memset(known, 0, sizeof known);
        }
        const enum dlm_became became = dlm_became(p->x[t], p->z[t], p->mask);
        if (!known[became]) {
            const struct dlm_token_noise s = dlm_shares_token(&p->noise[t / N], here, became, V);
            known[became] = true;
            scored[became] = s.weight != 0 || s.elbo_weight != 0;
            row[became] = (struct dlm_row){(float)s.alpha, (float)s.c, (float)s.weight, (float)s.elbo_weight};
        }
        if (!scored[became])
            continue;
        p->at[n] = (uint32_t)t;
        p->target[n] = p->x[t];
        p->zs[n] = p->z[t];
        p->row[n++] = row[became];
    }
    p->scored = (struct dlm_scored){.n = n, .at = p->at, .target = p->target, .z = p->zs, .row = p->row};
    return 0;
}

int dlm_pass_corrupt(struct dlm_pass *p, size_t B, uint64_t seed, uint32_t purpose, struct dlm_error *err)
{
    return dlm_pass_corrupt_drawn(p, B, seed, purpose, false, err);
}

int dlm_pass_shift(struct dlm_pass *p, size_t B, struct dlm_error *err)
{
    size_t N = p->N, T = B * N;
    int rc = check_ids(p, T, err);
    if (rc)
        return rc;
    for (size_t t = 0; t < T; t++) {
        p->z[t] = t % N ? p->x[t - 1] : p->first;
        p->at[t] = (uint32_t)t;
        p->target[t] = p->x[t];
    }
    p->scored = (struct dlm_scored){.n = T, .at = p->at, .target = p->target};
    return 0;
}

int dlm_pass_diffusion(struct dlm_pass *p, struct dlm_network *m, size_t B, bool gradient, struct dlm_error *err)
{
    const size_t T = B * p->N;
    p->b.k->upload(p->b.dev, p->d_z, p->z, T * sizeof *p->z);
    p->b.k->upload(p->b.dev, p->d_noisy, p->noisy, T);
    /* The prefix rule equals full visibility where nothing is clean, so one rule serves every batch. */
    dlm_network_forward(m, p->d_z, p->d_noisy, DLM_ATTEND_PREFIX, B);
    int rc = dlm_network_diffusion_loss(m, &p->scored, gradient, p->terms, err);
    if (!rc && gradient)
        dlm_network_backward(m);
    return rc;
}

int dlm_pass_autoregressive(struct dlm_pass *p, struct dlm_network *m, size_t B, bool gradient, struct dlm_error *err)
{
    p->b.k->upload(p->b.dev, p->d_z, p->z, B * p->N * sizeof *p->z);
    dlm_network_forward(m, p->d_z, (dlm_ptr){0}, DLM_ATTEND_CAUSAL, B);
    int rc = dlm_network_cross_entropy(m, &p->scored, gradient, p->terms, err);
    if (!rc && gradient)
        dlm_network_backward(m);
    return rc;
}
