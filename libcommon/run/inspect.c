/* Logits and losses of given ids. Not evaluation (run/evaluate.c): nothing is drawn here. */
#include "run/inspect.h"

#include "run/jsonlines.h"

#include <math.h>
#include <stdlib.h>

struct inspector {
    const struct dlm_inspection *job;
    struct dlm_lines lines;
    size_t context, V;
    uint32_t mask, first; /* mask id; the id in front of an autoregressive input */
    bool causal;
    struct dlm_noise noise;
    /* The line at hand, (N) of (context). */
    size_t N;
    uint32_t *x, *z;
    double *log_snr;
    uint8_t *noisy;
    /* Its scored rows. */
    uint32_t *at, *target, *zs;
    struct dlm_row *row;
    float *terms;  /* (context, DLM_TERMS) */
    float *logits; /* (rows_at_once, V) */
    size_t rows_at_once;
    dlm_ptr d_ids, d_noisy;
};

/* As many rows as the head multiplies at a time, so that asking by portions costs nothing (model/network.h, head_rows). */
static size_t portion(size_t V)
{
    size_t rows = ((size_t)64 << 20) / (4 * V) & ~(size_t)63;
    return rows < 64 ? 64 : rows > 256 ? 256 : rows;
}

static int begin(struct inspector *s, const struct dlm_inspection *job, struct dlm_error *err)
{
    const struct dlm_config *c = dlm_network_config(job->model->network);
    const size_t n = c->context;
    *s = (struct inspector){.job = job, .context = n, .V = c->vocab_size, .mask = c->mask, .causal = job->model->autoregressive};
    s->first = c->begin != UINT32_MAX ? c->begin : c->end;
    s->rows_at_once = portion(s->V);
    s->x = calloc(n, sizeof *s->x);
    s->z = calloc(n, sizeof *s->z);
    s->log_snr = calloc(n, sizeof *s->log_snr);
    s->noisy = calloc(n, 1);
    s->at = calloc(n, sizeof *s->at);
    s->target = calloc(n, sizeof *s->target);
    s->zs = calloc(n, sizeof *s->zs);
    s->row = calloc(n, sizeof *s->row);
    s->terms = calloc(n, DLM_TERMS * sizeof *s->terms);
    s->logits = job->what == DLM_INSPECT_LOGITS ? calloc(s->rows_at_once * s->V, sizeof *s->logits) : NULL;
    s->d_ids = job->backend->k->alloc(job->backend->dev, n * sizeof *s->z);
    s->d_noisy = job->backend->k->alloc(job->backend->dev, n);
    if (s->x && s->z && s->log_snr && s->noisy && s->at && s->target && s->zs && s->row && s->terms && (s->logits || job->what != DLM_INSPECT_LOGITS) &&
        s->d_ids.at && s->d_noisy.at)
        return 0;
    return dlm_fail(err, DLM_ENOMEM, "no memory for a sequence of %zu tokens", n);
}

static void end(struct inspector *s)
{
    void *host[] = {s->x, s->z, s->log_snr, s->noisy, s->at, s->target, s->zs, s->row, s->terms, s->logits};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    const dlm_ptr device[] = {s->d_ids, s->d_noisy};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i].at)
            s->job->backend->k->free(s->job->backend->dev, device[i]);
}

/* --- reading a line ---------------------------------------------------------------------------------------------------------- */

/* The array `key`, of `n` members unless n is 0; then its length is bounded by the context. */
static int read_array(const struct inspector *s, const char *key, size_t n, json_t **out, struct dlm_error *err)
{
    json_t *v = json_object_get(s->lines.object, key);
    if (!v)
        return dlm_lines_fail(&s->lines, err, "the object has no field '%s'", key);
    if (!json_is_array(v))
        return dlm_lines_fail(&s->lines, err, "'%s' is not an array", key);
    const size_t have = json_array_size(v);
    if (n && have != n)
        return dlm_lines_fail(&s->lines, err, "'%s' has length %zu, and 'x' %zu", key, have, n);
    if (!have)
        return dlm_lines_fail(&s->lines, err, "'%s' is empty", key);
    if (have > s->context)
        return dlm_lines_fail(&s->lines, err, "'%s' has length %zu, more than the model's context of %zu", key, have, s->context);
    *out = v;
    return 0;
}

static int read_ids(struct inspector *s, const char *key, size_t n, bool mask_allowed, uint32_t *to, struct dlm_error *err)
{
    json_t *list;
    int rc = read_array(s, key, n, &list, err);
    for (size_t i = 0; !rc && i < json_array_size(list); i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_integer(v))
            return dlm_lines_fail(&s->lines, err, "'%s'[%zu] is not a token id", key, i);
        json_int_t id = json_integer_value(v);
        if (id < 0 || (uint64_t)id >= s->V)
            return dlm_lines_fail(&s->lines, err, "'%s'[%zu] is %lld, and the vocabulary has ids 0 to %zu", key, i, (long long)id, s->V - 1);
        if (!mask_allowed && (uint32_t)id == s->mask)
            return dlm_lines_fail(&s->lines, err, "'%s'[%zu] is the mask, %u, which no clean token is", key, i, s->mask);
        to[i] = (uint32_t)id;
    }
    if (!rc)
        s->N = json_array_size(list);
    return rc;
}

static int read_noisy(struct inspector *s, struct dlm_error *err)
{
    json_t *list;
    int rc = read_array(s, "noisy", s->N, &list, err);
    for (size_t i = 0; !rc && i < s->N; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_boolean(v) && !(json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= 1))
            return dlm_lines_fail(&s->lines, err, "'noisy'[%zu] is neither 0 nor 1", i);
        s->noisy[i] = json_is_true(v) || (json_is_integer(v) && json_integer_value(v) == 1);
    }
    return rc;
}

static int read_log_snr(struct inspector *s, struct dlm_error *err)
{
    json_t *list;
    int rc = read_array(s, "log_snr", s->N, &list, err);
    for (size_t i = 0; !rc && i < s->N; i++) {
        json_t *v = json_array_get(list, i);
        if (!s->noisy[i]) /* a clean token has no level; what stands there is not read */
            continue;
        if (!json_is_number(v))
            return dlm_lines_fail(&s->lines, err, "'log_snr'[%zu] is not a number", i);
        s->log_snr[i] = json_number_value(v);
        if (!(fabs(s->log_snr[i]) <= DLM_LOG_SNR_MAX))
            return dlm_lines_fail(&s->lines, err, "'log_snr'[%zu] is %g, outside -9 to 9", i, s->log_snr[i]);
    }
    return rc;
}

static int read_noise(struct inspector *s, struct dlm_error *err)
{
    json_t *v = json_object_get(s->lines.object, "noise");
    s->noise = s->job->noise;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return dlm_lines_fail(&s->lines, err, "'noise' is not the name of a noise type");
    struct dlm_error why;
    return dlm_noise_parse(&s->noise, json_string_value(v), &why) ? dlm_lines_fail(&s->lines, err, "%s", why.msg) : 0;
}

static int read_clean(struct inspector *s, struct dlm_error *err)
{
    json_t *v = json_object_get(s->lines.object, "clean");
    if (v && (!json_is_integer(v) || json_integer_value(v) < 0))
        return dlm_lines_fail(&s->lines, err, "'clean' is not a number of tokens");
    const json_int_t clean = v ? json_integer_value(v) : 0;
    if ((uint64_t)clean > s->N)
        return dlm_lines_fail(&s->lines, err, "'clean' is %lld, and 'ids' has length %zu", (long long)clean, s->N);
    for (size_t i = 0; i < s->N; i++)
        s->noisy[i] = (json_int_t)i >= clean;
    return 0;
}

/* --- computing --------------------------------------------------------------------------------------------------------------- */

static void forward(struct inspector *s)
{
    const struct dlm_backend *b = s->job->backend;
    b->k->upload(b->dev, s->d_ids, s->z, s->N * sizeof *s->z);
    b->k->upload(b->dev, s->d_noisy, s->noisy, s->N);
    dlm_network_forward_of(s->job->model->network, s->d_ids, s->d_noisy, s->causal ? DLM_ATTEND_CAUSAL : DLM_ATTEND_PREFIX, 1, s->N);
}

static int not_finite(const struct inspector *s, const char *what, size_t i, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EDIVERGED, "%s:%llu: the %s of token %zu is not finite", s->lines.name, (unsigned long long)s->lines.number, what, i);
}

/* Row by row: a sequence's logits are N·V numbers, and are never held. */
static int answer_logits(struct inspector *s, struct dlm_error *err)
{
    static const char *const added[] = {"logits", NULL};
    FILE *out = s->job->out->file;
    int rc = read_ids(s, "ids", 0, true, s->z, err);
    if (!rc)
        rc = read_clean(s, err);
    if (!rc)
        rc = dlm_lines_answer(&s->lines, added, out, err);
    if (rc)
        return rc;
    forward(s);
    fputs(", \"logits\": [", out);
    for (size_t at = 0; at < s->N; at += s->rows_at_once) {
        const size_t n = s->N - at < s->rows_at_once ? s->N - at : s->rows_at_once;
        for (size_t i = 0; i < n; i++)
            s->at[i] = (uint32_t)(at + i);
        if ((rc = dlm_network_logits(s->job->model->network, s->at, n, s->logits, err)))
            return rc;
        for (size_t i = 0; i < n; i++) {
            fputs(at + i ? ", [" : "[", out);
            for (size_t v = 0; v < s->V; v++) {
                const double value = s->logits[i * s->V + v];
                if (!isfinite(value))
                    return not_finite(s, "logits", at + i, err);
                fprintf(out, v ? ", %.9g" : "%.9g", value);
            }
            fputc(']', out);
        }
    }
    fputs("]}\n", out);
    return 0;
}

/* One number a token: of the scored rows from terms (n, columns), elsewhere 0. */
static void print_terms(const struct inspector *s, const char *key, size_t n, size_t columns, size_t column)
{
    FILE *out = s->job->out->file;
    fprintf(out, ", \"%s\": [", key);
    for (size_t i = 0, r = 0; i < s->N; i++) {
        bool scored = r < n && s->at[r] == i;
        fprintf(out, i ? ", %.9g" : "%.9g", scored ? (double)s->terms[r * columns + column] : 0.0);
        r += scored;
    }
    fputc(']', out);
}

static int check_terms(const struct inspector *s, size_t n, size_t columns, struct dlm_error *err)
{
    for (size_t r = 0; r < n * columns; r++)
        if (!isfinite(s->terms[r]))
            return not_finite(s, "loss", s->at[r / columns], err);
    return 0;
}

static const char *const loss_fields[] = {"loss", "elbo", "kl", "is", NULL};

static int answer_diffusion_loss(struct inspector *s, struct dlm_error *err)
{
    int rc = read_ids(s, "x", 0, false, s->x, err);
    if (!rc)
        rc = read_ids(s, "z", s->N, true, s->z, err);
    if (!rc)
        rc = read_noisy(s, err);
    if (!rc)
        rc = read_log_snr(s, err);
    if (!rc)
        rc = read_noise(s, err);
    if (rc)
        return rc;
    size_t n = 0;
    for (size_t i = 0; i < s->N; i++) {
        if (!s->noisy[i])
            continue;
        struct dlm_token_noise t = dlm_noise_token(&s->noise, s->log_snr[i], s->x[i], s->z[i], s->mask, (uint32_t)s->V);
        if (t.weight == 0 && t.elbo_weight == 0)
            continue;
        s->at[n] = (uint32_t)i;
        s->target[n] = s->x[i];
        s->zs[n] = s->z[i];
        s->row[n++] = (struct dlm_row){(float)t.alpha, (float)t.c, (float)t.weight, (float)t.elbo_weight};
    }
    forward(s);
    const struct dlm_scored scored = {.n = n, .at = s->at, .target = s->target, .z = s->zs, .row = s->row};
    rc = dlm_network_diffusion_loss(s->job->model->network, &scored, false, s->terms, err);
    if (!rc)
        rc = check_terms(s, n, DLM_TERMS, err);
    if (!rc)
        rc = dlm_lines_answer(&s->lines, loss_fields, s->job->out->file, err);
    if (rc)
        return rc;
    static const size_t columns[] = {DLM_TERM_LOSS, DLM_TERM_ELBO, DLM_TERM_KL, DLM_TERM_IS};
    for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
        print_terms(s, loss_fields[j], n, DLM_TERMS, columns[j]);
    fputs("}\n", s->job->out->file);
    return 0;
}

static int answer_cross_entropy(struct inspector *s, struct dlm_error *err)
{
    int rc = read_ids(s, "x", 0, false, s->x, err);
    if (!rc && json_object_get(s->lines.object, "noisy"))
        rc = read_noisy(s, err);
    else
        for (size_t i = 0; !rc && i < s->N; i++)
            s->noisy[i] = 1;
    if (rc)
        return rc;
    size_t n = 0;
    for (size_t i = 0; i < s->N; i++) {
        s->z[i] = i ? s->x[i - 1] : s->first;
        if (!s->noisy[i])
            continue;
        s->at[n] = (uint32_t)i;
        s->target[n++] = s->x[i];
    }
    forward(s);
    const struct dlm_scored scored = {.n = n, .at = s->at, .target = s->target};
    rc = dlm_network_cross_entropy(s->job->model->network, &scored, false, s->terms, err);
    if (!rc)
        rc = check_terms(s, n, 1, err);
    if (!rc)
        rc = dlm_lines_answer(&s->lines, loss_fields, s->job->out->file, err);
    if (rc)
        return rc;
    print_terms(s, "loss", n, 1, 0);
    print_terms(s, "elbo", n, 1, 0);
    fputs(", \"kl\": null, \"is\": null}\n", s->job->out->file);
    return 0;
}

int dlm_inspect(const struct dlm_inspection *job, struct dlm_error *err)
{
    struct inspector s;
    int rc = begin(&s, job, err), more = 0;
    if (!rc)
        rc = dlm_lines_open(&s.lines, job->input, err);
    while (!rc && (more = dlm_lines_next(&s.lines, err)) > 0) {
        rc = job->what == DLM_INSPECT_LOGITS ? answer_logits(&s, err) : s.causal ? answer_cross_entropy(&s, err) : answer_diffusion_loss(&s, err);
        if (!rc)
            rc = dlm_lines_flush(job->out, err);
    }
    dlm_lines_close(&s.lines);
    end(&s);
    return rc ? rc : more;
}
