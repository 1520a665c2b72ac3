/* The sampling loops, method.md §9. The arithmetic of one position is diffuse/reverse and the device's; text and files are
 * the command's.
 *
 * A step draws the rows that may change on the device, item by item, and waits once for all of them; 16 bytes a row come to the host. Where adaptive steps
 * draw at a temperature of their own, the rows that were chosen go through the head again, for that. The forward pass is repeated only when an id has changed
 * since the last one.
 */
#include "run/sample.h"

#include "base/rng.h"
#include "base/stop.h"
#include "diffuse/reverse.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A call of the network holds at least so many tokens: enough to keep matrix products busy, few enough to waste little on a
 * single text. */
#define CHUNK_TOKENS 256
/* Rows go to the head in multiples of this, so that few shapes occur while masks grow fewer. */
#define ROW_STEP 16
/* At most so many at a time: enough for the product to be busy, few enough for the last masks of a text. */
#define HEAD_ROWS 64
/* Below this, logits that differ are as far apart as they can be, and their products with its reciprocal are still numbers. */
#define LEAST_TEMPERATURE 1e-12

struct row_result {
    uint32_t id;   /* what the position would become */
    double score;  /* adaptive: how surely what stands there is wrong */
};

/* Whose row it is. */
struct place {
    uint64_t item;
    size_t position;
    uint32_t z;
    struct row_result *result; /* NULL: nobody wants it */
};

struct dlm_sampler {
    struct dlm_backend b;
    struct dlm_network *m;
    struct dlm_sample_plan p;
    size_t C, N, V;
    uint32_t mask, first_id, end;
    uint32_t *z;             /* (C, N) the texts */
    uint32_t *shifted;       /* (max(C, N)) autoregressive inputs */
    uint8_t *noisy;          /* (C, N): not given */
    struct dlm_cache *cache; /* of one item, or of C when autoregressive */
    bool *moved, *done;      /* (C) changed in the last step; nothing more to do */
    size_t *next;            /* (C) autoregressive: the position to be filled */
    uint32_t *at;            /* (max(C, N) + ROW_STEP) rows of a head call */
    uint8_t *want;           /* (C, N) positions whose rows are wanted */
    struct row_result *result; /* (C, N) */
    uint32_t *order;         /* (N) positions by falling score */
    size_t queued;           /* rows that are being drawn: */
    struct place *place;     /* (C·N) of each */
    struct dlm_drawn *drawn; /* (C·N) */
    struct dlm_draw *draw;   /* (max(C, N)) of a head call */
    dlm_ptr d_ids, d_noisy;
};

size_t dlm_sample_chunk(size_t length)
{
    return length >= CHUNK_TOKENS ? 1 : (CHUNK_TOKENS + length - 1) / length;
}

size_t dlm_sample_head_rows(const struct dlm_sample_plan *p)
{
    size_t n = p->order == DLM_SAMPLE_AUTOREGRESSIVE ? dlm_sample_chunk(p->length) : p->block ? p->block : HEAD_ROWS;
    return n < ROW_STEP ? ROW_STEP : n > HEAD_ROWS ? HEAD_ROWS : (n + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
}

/* --- making ----------------------------------------------------------------------------------------------------------------- */

void dlm_sampler_free(struct dlm_sampler *s)
{
    if (!s)
        return;
    dlm_cache_free(s->cache);
    void *host[] = {s->z, s->shifted, s->noisy, s->moved, s->done, s->next, s->at, s->want, s->result, s->order, s->place, s->draw, s->drawn};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    if (s->d_ids.at)
        s->b.k->free(s->b.dev, s->d_ids);
    if (s->d_noisy.at)
        s->b.k->free(s->b.dev, s->d_noisy);
    free(s);
}

int dlm_sampler_new(struct dlm_sampler **out, const struct dlm_backend *b, struct dlm_network *m, const struct dlm_sample_plan *p,
                    struct dlm_error *err)
{
    const struct dlm_config *c = dlm_network_config(m);
    struct dlm_sampler *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the sampler");
    s->b = *b;
    s->m = m;
    s->p = *p;
    s->N = p->length;
    s->C = dlm_sample_chunk(s->N);
    s->V = c->vocab_size;
    s->mask = c->mask;
    s->end = c->end;
    s->first_id = c->begin < s->V ? c->begin : c->end;
    if (p->order == DLM_SAMPLE_AUTOREGRESSIVE && s->first_id >= s->V) {
        free(s);
        return dlm_fail(err, DLM_EDATA, "the autoregressive model has neither a begin id nor an end id to start from");
    }
    const size_t T = s->C * s->N, longer = s->C > s->N ? s->C : s->N;
    const bool left_to_right = p->order == DLM_SAMPLE_AUTOREGRESSIVE;
    s->z = calloc(T, sizeof *s->z);
    s->shifted = calloc(longer, sizeof *s->shifted);
    s->noisy = calloc(T, 1);
    s->moved = calloc(s->C, sizeof *s->moved);
    s->done = calloc(s->C, sizeof *s->done);
    s->next = calloc(s->C, sizeof *s->next);
    s->at = calloc(longer + ROW_STEP, sizeof *s->at);
    s->want = calloc(T, 1);
    s->result = calloc(T, sizeof *s->result);
    s->order = calloc(s->N, sizeof *s->order);
    s->place = calloc(T, sizeof *s->place);
    s->drawn = calloc(T, sizeof *s->drawn);
    s->draw = calloc(longer, sizeof *s->draw);
    s->d_ids = b->k->alloc(b->dev, T * sizeof *s->z);
    s->d_noisy = b->k->alloc(b->dev, T);
    if (!s->z || !s->shifted || !s->noisy || !s->moved || !s->done || !s->next || !s->at || !s->want || !s->result || !s->order || !s->place || !s->draw ||
        !s->drawn || !s->d_ids.at || !s->d_noisy.at) {
        dlm_sampler_free(s);
        return dlm_fail(err, DLM_ENOMEM, "no memory to sample %zu texts of %zu tokens at a time", dlm_sample_chunk(p->length), p->length);
    }
    int rc = dlm_cache_new(&s->cache, m, left_to_right ? s->C : 1, s->N, err);
    if (rc)
        dlm_sampler_free(s);
    else
        *out = s;
    return rc;
}

/* --- one position ----------------------------------------------------------------------------------------------------------- */

/* u in (0, 1) of (item, position, step). Step 0 is the prior. */
static double unit_at(const struct dlm_sampler *s, uint64_t item, size_t position, uint32_t step)
{
    dlm_philox_t w = dlm_philox_at(s->p.seed, (uint64_t)step << 32 | item, (uint32_t)position, DLM_RNG_SAMPLE);
    return (((uint64_t)w.v[0] << 20 | w.v[1] >> 12) + 0.5) * 0x1p-52;
}

/* The prior: a uniform id with probability ρ(λ_min), else the mask. */
static uint32_t prior_at(const struct dlm_sampler *s, uint64_t item, size_t position)
{
    dlm_philox_t w = dlm_philox_at(s->p.seed, item, (uint32_t)position, DLM_RNG_SAMPLE);
    if (dlm_rng_unit(w.v[0]) >= dlm_noise_rho(&s->p.noise, -DLM_LOG_SNR_MAX))
        return s->mask;
    uint32_t u = (uint32_t)((w.v[1] * (uint64_t)(s->V - 1)) >> 32);
    return u + (u >= s->mask);
}

/* What a row of logits makes of its position. */
struct task {
    uint32_t step;
    double log_snr_t, log_snr_s; /* ancestral */
    enum { REVERSE, SCORE, FILL } kind;
};

/* The confidence is the model's own, whatever the temperature of the draw: one look at the row is enough for both only where it is the same. */
static bool drawn_apart(const struct dlm_sampler *s)
{
    return s->p.choose.temperature != 0 && s->p.choose.temperature != 1;
}

/* What multiplies the logits. */
static float sharpness(const struct dlm_sampler *s, const struct task *t)
{
    const double T = s->p.choose.temperature;
    return t->kind == SCORE || T == 0 ? 1 : (float)(1 / (T > LEAST_TEMPERATURE ? T : LEAST_TEMPERATURE));
}

/* What is worked on: items first … of the group, in the whole chunk; or one item alone, in a window behind its finished prefix. */
struct run {
    uint64_t first;
    size_t slot, n; /* rows slot … slot + n - 1 of the chunk */
    size_t lo, hi;  /* positions */
    size_t end;     /* of what is computed: hi, or further */
    enum { CHUNK, ALONE, BEHIND } call; /* all rows of the chunk; one text of hi positions; positions [lo, end) of one, behind what is cached */
    uint32_t steps;
    struct dlm_sample_stats *stats;
    struct dlm_progress *progress;
    bool current; /* the network holds the hidden states of z */
};

/* How a wanted row is drawn from. */
static struct dlm_draw draw_of(const struct dlm_sampler *s, const struct task *t, const struct dlm_reverse_odds odds[2], const struct place *at)
{
    const struct dlm_choose *c = &s->p.choose;
    struct dlm_draw d = {.u = unit_at(s, at->item, at->position, t->step), .predicted = 1, .top_p = 1, .z = DLM_DRAW_NONE};
    if (t->kind == SCORE) { /* from the shares as they are, but s(z) is wanted */
        d.stay_share = 1;
        d.z = at->z;
    } else if (t->kind == REVERSE) {
        const struct dlm_reverse_odds *o = &odds[at->z == s->mask];
        d.stay_share = o->stay_share;
        d.stay = o->stay;
        d.to_mask = o->to_mask;
        d.noise = o->noise;
        d.predicted = o->predicted;
        d.z = at->z;
    }
    if (c->temperature == 0) {
        d.top_k = t->kind == REVERSE; /* elsewhere the likeliest is told in any case */
    } else if (!(t->kind == SCORE && drawn_apart(s)) && ((c->top_k && c->top_k < s->V) || c->top_p < 1)) {
        d.top_k = (uint32_t)(c->top_k && c->top_k < s->V ? c->top_k : s->V);
        d.top_p = c->top_p;
    }
    return d;
}

/* Queue draws from n rows `at` of the last forward, whose places are the n behind those queued before. */
static void queue_places(struct dlm_sampler *s, const struct task *t, const uint32_t *at, size_t n)
{
    const struct place *place = s->place + s->queued;
    struct dlm_reverse_odds odds[2] = {{0}};
    for (int masked = 0; t->kind == REVERSE && masked < 2; masked++)
        odds[masked] = dlm_reverse_odds_of(&s->p.noise, t->log_snr_t, t->log_snr_s, masked, s->V);
    for (size_t i = 0; i < n; i++)
        s->draw[i] = place[i].result ? draw_of(s, t, odds, &place[i]) : (struct dlm_draw){.u = 0.5, .predicted = 1, .top_p = 1, .z = DLM_DRAW_NONE};
    dlm_network_draw(s->m, at, n, sharpness(s, t), s->draw, s->queued);
    s->queued += n;
}

/* The same for the wanted positions of row `c` of the chunk. The head gets multiples of ROW_STEP rows: unwanted positions, in
 * order, make up the number as far as there are any, which keeps the call's shape a function of the item alone. */
static void queue_rows(struct dlm_sampler *s, const struct run *r, size_t c, const struct task *t)
{
    const uint8_t *want = s->want + c * s->N;
    size_t wanted = 0, extra;
    for (size_t i = r->lo; i < r->hi; i++)
        wanted += want[i];
    if (!wanted)
        return;
    extra = (ROW_STEP - wanted % ROW_STEP) % ROW_STEP;
    size_t n = 0, row0 = r->call == CHUNK ? c * s->N : 0; /* the row of position lo */
    for (size_t i = r->lo; i < r->hi; i++) {
        if (want[i] || extra) {
            s->place[s->queued + n] = (struct place){r->first + c - r->slot, i, s->z[c * s->N + i], want[i] ? &s->result[c * s->N + i] : NULL};
            s->at[n++] = (uint32_t)(row0 + i - r->lo);
        }
        extra -= !want[i] && extra;
    }
    queue_places(s, t, s->at, n);
}

/* Wait for what was queued, all by one task, and write the results. */
static int finish_rows(struct dlm_sampler *s, const struct task *t, struct dlm_error *err)
{
    const bool greedy = t->kind != REVERSE && s->p.choose.temperature == 0;
    const size_t n = s->queued;
    s->queued = 0;
    int rc = n ? dlm_network_drawn(s->m, s->drawn, n, err) : 0;
    for (size_t i = 0; !rc && i < n; i++) {
        const struct dlm_drawn *d = &s->drawn[i];
        const struct place *p = &s->place[i];
        if (!p->result)
            continue;
        if (isnan(d->most))
            return dlm_fail(err, DLM_EDATA, "the model's logits are not finite numbers");
        p->result->id = greedy ? d->best : d->id;
        if (t->kind == SCORE)
            p->result->score = dlm_reverse_prior(&s->p.noise, p->z == s->mask, s->V) * ((double)d->most - (double)d->at_z);
    }
    return rc;
}

/* --- loops ------------------------------------------------------------------------------------------------------------------ */

static void forward(struct dlm_sampler *s, struct run *r)
{
    if (r->current)
        return;
    const size_t row = r->slot * s->N, n = r->end - r->lo;
    const dlm_ptr noisy = dlm_ptr_at(s->d_noisy, row);
    if (r->call == CHUNK)
        s->b.k->upload(s->b.dev, s->d_ids, s->z, s->C * s->N * sizeof *s->z);
    else
        s->b.k->upload(s->b.dev, s->d_ids, s->z + row + r->lo, n * sizeof *s->z);
    if (r->call == CHUNK)
        dlm_network_forward(s->m, s->d_ids, s->d_noisy, DLM_ATTEND_PREFIX, s->C);
    else if (r->call == ALONE)
        dlm_network_forward_of(s->m, s->d_ids, noisy, DLM_ATTEND_PREFIX, 1, n);
    else
        dlm_network_forward_cached(s->m, s->cache, 0, s->d_ids, &r->lo, DLM_ATTEND_FULL, 1, n);
    r->stats->model_calls++;
    r->current = true;
}

static int step_done(const struct dlm_sampler *s, struct run *r, struct dlm_error *err)
{
    r->stats->steps++;
    if (r->progress)
        dlm_progress_update(r->progress, r->stats->steps, NULL);
    for (size_t i = 0; s->p.watch && i < r->n; i++)
        s->p.watch(s->p.watch_ctx, r->first + i, s->z + (r->slot + i) * s->N);
    return dlm_stop_signal() ? dlm_fail(err, DLM_ESTOPPED, "stopped") : 0;
}

static void put(struct dlm_sampler *s, struct run *r, size_t c, size_t position, uint32_t id)
{
    uint32_t *z = &s->z[c * s->N + position];
    if (*z == id)
        return;
    *z = id;
    s->moved[c] = true;
    r->current = false;
}

static void put_wanted(struct dlm_sampler *s, struct run *r, size_t c)
{
    for (size_t q = r->lo; q < r->hi; q++)
        if (s->want[c * s->N + q])
            put(s, r, c, q, s->result[c * s->N + q].id);
}

static double log_snr_at(const struct dlm_sample_plan *p, uint32_t steps, uint32_t j)
{
    if (j >= steps)
        return INFINITY;
    double low = dlm_noise_alpha(-DLM_LOG_SNR_MAX), high = dlm_noise_alpha(DLM_LOG_SNR_MAX), f = (double)j / steps;
    if (p->cosine)
        f = pow(sin(M_PI / 2 * f), 2);
    /* α and 1-α by interpolation each (1-σ(λ) = σ(-λ)), so that neither loses its digits at an end. */
    return log(low * (1 - f) + high * f) - log(high * (1 - f) + low * f);
}

double dlm_sample_log_snr(const struct dlm_sample_plan *p, uint32_t j)
{
    return log_snr_at(p, p->steps, j);
}

static int run_ancestral(struct dlm_sampler *s, struct run *r, struct dlm_error *err)
{
    size_t N = s->N;
    for (uint32_t j = 1; j <= r->steps; j++) {
        const struct task t = {.kind = REVERSE, .step = j, .log_snr_t = log_snr_at(&s->p, r->steps, j - 1), .log_snr_s = log_snr_at(&s->p, r->steps, j)};
        /* Where no noise could have put an id, it was kept, and stays (masked noise). */
        bool settled = dlm_noise_pi(&s->p.noise, t.log_snr_t, false, (uint32_t)s->V) == 0;
        forward(s, r);
        for (size_t c = r->slot; c < r->slot + r->n; c++) {
            for (size_t q = r->lo; q < r->hi; q++)
                s->want[c * N + q] = s->noisy[c * N + q] && !(settled && s->z[c * N + q] != s->mask);
            queue_rows(s, r, c, &t);
        }
        int rc = finish_rows(s, &t, err);
        for (size_t c = r->slot; !rc && c < r->slot + r->n; c++)
            put_wanted(s, r, c);
        if (!rc)
            rc = step_done(s, r, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Of the wanted positions only those with a score above 0 stay so, the `most` highest; of equal ones the first. */
static void keep_surest(struct dlm_sampler *s, const struct run *r, size_t c, size_t most)
{
    const struct row_result *result = s->result + c * s->N;
    uint8_t *want = s->want + c * s->N;
    size_t n = 0;
    for (size_t q = r->lo; q < r->hi; q++) {
        if (!want[q] || !(result[q].score > 0))
            continue;
        size_t at = n < most ? n++ : n;
        if (at == most) {
            if (result[s->order[most - 1]].score >= result[q].score)
                continue;
            at = most - 1;
        }
        for (; at > 0 && result[s->order[at - 1]].score < result[q].score; at--)
            s->order[at] = s->order[at - 1];
        s->order[at] = (uint32_t)q;
    }
    memset(want + r->lo, 0, r->hi - r->lo);
    for (size_t k = 0; k < n; k++)
        want[s->order[k]] = 1;
}

static bool has_mask(const struct dlm_sampler *s, const struct run *r, size_t c)
{
    for (size_t q = r->lo; q < r->hi; q++)
        if (s->z[c * s->N + q] == s->mask)
            return true;
    return false;
}

static size_t count_noisy(const struct dlm_sampler *s, const struct run *r, size_t c)
{
    size_t n = 0;
    for (size_t q = r->lo; q < r->hi; q++)
        n += s->noisy[c * s->N + q];
    return n;
}

static int run_adaptive(struct dlm_sampler *s, struct run *r, struct dlm_error *err)
{
    const size_t N = s->N;
    const bool greedy = s->p.choose.temperature == 0;
    for (uint32_t j = 1; j <= r->steps + 1; j++) {
        const bool closing = j == r->steps + 1;
        const struct task score = {.kind = SCORE, .step = j}, fill = {.kind = FILL, .step = j}, *t = closing ? &fill : &score;
        bool any = false;
        for (size_t c = r->slot; c < r->slot + r->n; c++) {
            if (closing)
                s->done[c] = !has_mask(s, r, c);
            else /* without a temperature a step that changed nothing would repeat itself for ever */
                s->done[c] = s->done[c] || (greedy && !s->moved[c]);
            s->moved[c] = false;
            any = any || !s->done[c];
        }
        if (!any && closing)
            return 0;
        if (!any)
            continue;
        forward(s, r);
        for (size_t c = r->slot; c < r->slot + r->n; c++) {
            for (size_t q = r->lo; q < r->hi; q++)
                s->want[c * N + q] = !s->done[c] && s->noisy[c * N + q] && (!closing || s->z[c * N + q] == s->mask);
            queue_rows(s, r, c, t);
        }
        int rc = finish_rows(s, t, err);
        for (size_t c = r->slot; !rc && !closing && c < r->slot + r->n; c++) {
            keep_surest(s, r, c, (count_noisy(s, r, c) + r->steps - 1) / r->steps);
            if (drawn_apart(s))
                queue_rows(s, r, c, &fill);
        }
        if (!rc && s->queued)
            rc = finish_rows(s, &fill, err);
        for (size_t c = r->slot; !rc && c < r->slot + r->n; c++)
            put_wanted(s, r, c);
        if (!rc)
            rc = step_done(s, r, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int run_window(struct dlm_sampler *s, struct run *r, struct dlm_error *err)
{
    return s->p.order == DLM_SAMPLE_ANCESTRAL ? run_ancestral(s, r, err) : run_adaptive(s, r, err);
}

/* After the end there are only ends. */
static void close_text(struct dlm_sampler *s, struct run *r, size_t c, size_t from, size_t length)
{
    for (size_t q = from; q < length; q++)
        s->z[c * s->N + q] = s->end;
    r->stats->tokens -= length - from;
}

/* The positions given in front; SIZE_MAX where others are given, too. */
static size_t given_prefix(const struct dlm_sampler *s, size_t c, size_t length)
{
    const uint8_t *noisy = s->noisy + c * s->N;
    size_t n = 0;
    while (n < length && !noisy[n])
        n++;
    for (size_t q = n; q < length; q++)
        if (!noisy[q])
            return SIZE_MAX;
    return n;
}

/* One item by itself. Behind a given prefix it is a window as long as a block, or all that is left, at a time; before each the prefix is computed as a
 * whole, for a clean position sees all that are clean. */
static int run_alone(struct dlm_sampler *s, const struct run *group, size_t i, size_t length, struct dlm_error *err)
{
    const size_t c = group->slot + i, step = s->p.block ? s->p.block : length, prefix = given_prefix(s, c, length);
    struct run r = *group;
    r.first += i;
    r.slot = c;
    r.n = 1;
    r.hi = r.end = length;
    r.call = ALONE;
    if (s->done[c]) /* nothing is open */
        return 0;
    if (prefix == SIZE_MAX || (!prefix && step >= length))
        return run_window(s, &r, err);
    r.call = BEHIND;
    for (size_t lo = prefix; lo < length; lo += step) {
        r.lo = lo;
        r.hi = length - lo < step ? length : lo + step;
        r.end = length - r.hi < s->p.ahead ? length : r.hi + s->p.ahead;
        r.current = false;
        r.steps = (uint32_t)(((uint64_t)s->p.steps * (r.hi - lo) + length - prefix - 1) / (length - prefix));
        s->moved[c] = true;
        s->done[c] = false;
        if (lo) {
            const size_t zero = 0;
            s->b.k->upload(s->b.dev, s->d_ids, s->z + c * s->N, lo * sizeof *s->z);
            dlm_network_forward_cached(s->m, s->cache, 0, s->d_ids, &zero, DLM_ATTEND_FULL, 1, lo);
            r.stats->model_calls++;
        }
        int rc = run_window(s, &r, err);
        if (rc)
            return rc;
        for (size_t q = lo; s->p.block && q < r.hi; q++)
            if (s->z[c * s->N + q] == s->end) {
                close_text(s, &r, c, r.hi, length);
                return 0;
            }
    }
    return 0;
}

/* Position q's input is the id before it. The inputs in front of position next[c] are in the cache; each step puts one row of every item there, and the
 * rows of items that have ended repeat their last. */
static int run_autoregressive(struct dlm_sampler *s, struct run *r, struct dlm_error *err)
{
    const size_t N = s->N, C = s->C;
    size_t left = 0;
    for (size_t c = 0; c < C; c++)
        s->next[c] = N - 1;
    for (size_t i = 0; i < r->n; i++) {
        const size_t c = r->slot + i, prefix = given_prefix(s, c, N);
        const uint32_t *z = s->z + c * N;
        s->done[c] = prefix == N;
        left += !s->done[c];
        if (s->done[c] || !prefix)
            s->next[c] = s->done[c] ? N - 1 : 0;
        else {
            const size_t zero = 0;
            s->next[c] = prefix;
            for (size_t q = 0; q < prefix; q++)
                s->shifted[q] = q ? z[q - 1] : s->first_id;
            s->b.k->upload(s->b.dev, s->d_ids, s->shifted, prefix * sizeof *s->shifted);
            dlm_network_forward_cached(s->m, s->cache, c, s->d_ids, &zero, DLM_ATTEND_CAUSAL, 1, prefix);
            r->stats->model_calls++;
            int rc = dlm_network_sync(s->m, err);
            if (rc)
                return rc;
        }
    }
    while (left) {
        for (size_t c = 0; c < C; c++) {
            s->shifted[c] = s->next[c] ? s->z[c * N + s->next[c] - 1] : s->first_id;
            s->at[c] = (uint32_t)c;
        }
        s->b.k->upload(s->b.dev, s->d_ids, s->shifted, C * sizeof *s->shifted);
        dlm_network_forward_cached(s->m, s->cache, 0, s->d_ids, s->next, DLM_ATTEND_CAUSAL, C, 1);
        r->stats->model_calls++;
        const struct task t = {.kind = FILL, .step = 1};
        for (size_t c = 0; c < C; c++) {
            const bool open = c >= r->slot && c < r->slot + r->n && !s->done[c];
            s->place[c] = (struct place){r->first + c - r->slot, s->next[c], 0, open ? &s->result[c] : NULL};
        }
        queue_places(s, &t, s->at, C);
        int rc = finish_rows(s, &t, err);
        if (rc)
            return rc;
        for (size_t c = 0; c < C; c++)
            if (s->place[c].result)
                s->z[c * N + s->next[c]] = s->result[c].id;
        for (size_t c = r->slot; c < r->slot + r->n; c++) {
            if (s->done[c])
                continue;
            bool ended = s->z[c * N + s->next[c]] == s->end;
            if (ended)
                close_text(s, r, c, s->next[c] + 1, N);
            s->done[c] = ended || s->next[c] + 1 == N;
            left -= s->done[c];
            s->next[c] += s->next[c] + 1 < N;
        }
        rc = step_done(s, r, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* How the texts begin. */
static int begin(struct dlm_sampler *s, const struct run *r, const uint32_t *ids, const uint8_t *given, const size_t *length, struct dlm_error *err)
{
    const size_t N = s->N;
    /* Rows of the chunk that hold no item are clean zeros. */
    memset(s->z, 0, s->C * N * sizeof *s->z);
    memset(s->noisy, 0, s->C * N);
    for (size_t i = 0; i < r->n; i++) {
        const size_t c = r->slot + i;
        size_t open = 0;
        assert(!length || length[i] <= N);
        for (size_t q = 0; q < (length ? length[i] : N); q++) {
            uint32_t id = ids[i * N + q];
            bool stays = given[i * N + q], prior = !stays && id == DLM_SAMPLE_PRIOR;
            if (!prior && (id >= s->V || (stays && id == s->mask)))
                return dlm_fail(err, DLM_EDATA, "a given text holds id %u, which is %s", id,
                                id == s->mask ? "the mask" : "outside the model's vocabulary");
            assert(!(stays && open && (s->p.block || s->p.order == DLM_SAMPLE_AUTOREGRESSIVE)));
            open += !stays;
            s->noisy[c * N + q] = !stays;
            s->z[c * N + q] = !prior ? id : s->p.order == DLM_SAMPLE_AUTOREGRESSIVE ? 0 : prior_at(s, r->first + i, q);
        }
        s->moved[c] = true;
        s->done[c] = !open;
        r->stats->tokens += open;
    }
    s->b.k->upload(s->b.dev, s->d_noisy, s->noisy, s->C * N);
    return 0;
}

int dlm_sampler_run(struct dlm_sampler *s, uint64_t first, size_t n, uint32_t *ids, const uint8_t *given, const size_t *length,
                    struct dlm_sample_stats *stats, struct dlm_progress *progress, struct dlm_error *err)
{
    const size_t N = s->N;
    const bool left_to_right = s->p.order == DLM_SAMPLE_AUTOREGRESSIVE;
    struct run r = {.first = first, .slot = first % s->C, .n = n, .hi = N, .end = N, .steps = s->p.steps, .stats = stats, .progress = progress};
    assert(r.slot + n <= s->C && first + n <= (uint64_t)1 << 32 && !(length && left_to_right));
    double t0 = dlm_progress_now();
    int rc = begin(s, &r, ids, given, length, err);
    if (!rc && left_to_right)
        rc = run_autoregressive(s, &r, err);
    else if (!rc && (length || s->p.block || s->C == 1)) /* alone in its calls, a prefix need not be computed in every one */
        for (size_t i = 0; i < n && !rc; i++)
            rc = run_alone(s, &r, i, length ? length[i] : N, err);
    else if (!rc)
        rc = run_window(s, &r, err);
    for (size_t i = 0; i < n && !rc; i++)
        memcpy(ids + i * N, s->z + (r.slot + i) * N, (length ? length[i] : N) * sizeof *ids);
    stats->seconds += dlm_progress_now() - t0;
    return rc;
}
