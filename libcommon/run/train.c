/* The training loop. */
#include "run/train.h"

#include "base/build.h"
#include "base/rng.h"
#include "base/stop.h"
#include "batch/order.h"
#include "diffuse/example.h"
#include "model/checkpoint.h"
#include "model/count.h"
#include "run/average.h"
#include "run/device.h"
#include "run/energy.h"
#include "run/evaluate.h"
#include "run/group.h"
#include "run/journal.h"
#include "run/memory.h"
#include "run/optimizer.h"
#include "run/pass.h"
#include "run/restore.h"
#include "run/schedule.h"
#include "run/state.h"
#include "run/store.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VAL_LEVELS = 4, VAL_SEED = 0, PASS_TOKENS = 8192, CANONICAL = 160 };

/* A pass that has been made ready, ahead of its turn: what went wrong is told when that comes. */
struct ready {
    uint64_t first; /* its first example */
    size_t B;       /* 0: there is none */
    int rc;
    struct dlm_error err;
};

struct trainer {
    const struct dlm_train_job *job;
    struct dlm_state state;
    struct dlm_shards *shards;
    struct dlm_backend backend;
    struct dlm_group group;
    struct dlm_arena arena;     /* all device memory of the run */
    enum dlm_dtype act;
    struct dlm_config config;
    struct dlm_count count;
    struct dlm_network *network;
    struct dlm_stripes stripes; /* of the layout, dealt out to the ranks */
    size_t summed;              /* pieces of the gradients whose sum over ranks has begun in this step */
    struct dlm_optimizer optimizer;
    struct dlm_average average; /* --ema */
    bool told;                  /* some rank has been told to stop */
    struct dlm_energy meter;
    double metered;             /* joules of it that are in the state already */
    struct dlm_pass pass;
    struct ready ready;         /* what the pass holds */
    struct dlm_journal journal;
    struct dlm_curriculum noise;
    size_t N, micro;
    uint64_t unique;        /* sequences that a pass over the data shows */
    char noise_name[CANONICAL], eval_noise_name[CANONICAL];
    struct dlm_store store; /* weights, moments, average on their way to and from checkpoints */
    uint64_t *scratch;      /* (N) */
    uint64_t saved_step;    /* of what CKPT holds; UINT64_MAX: nothing */
    double t0, seconds0;    /* clock at start; training seconds before it */
    double window_t0;       /* clock when the window in hand began, and its steps since: for tok_s only */
    uint64_t window_steps_seen;
};

static void say(const struct trainer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct trainer *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (t->job->say && !t->group.rank)
        t->job->say(line);
}

/* --- settings ---------------------------------------------------------------------------------------------------------------------- */

size_t dlm_train_micro_batch(const struct dlm_settings *s, size_t seq_len)
{
    uint64_t n = s->micro_batch ? s->micro_batch : PASS_TOKENS / seq_len;
    return n < 1 ? 1 : n > s->batch ? s->batch : n;
}

int dlm_train_ask(struct dlm_settings *s, const struct dlm_backend *b, size_t seq_len, int processes, int rank, struct dlm_memory_ask *ask,
                  struct dlm_error *err)
{
    const bool compact = s->memory == DLM_MEMORY_COMPACT;
    if (compact && s->dtype == DLM_DTYPE_F32)
        return dlm_fail(err, DLM_EUSAGE, "--memory compact computes in bf16: --dtype f32 does not go with it");
    if (compact && s->ema > 0)
        return dlm_fail(err, DLM_EUSAGE, "--ema does not go with --memory compact");
    enum dlm_dtype act = compact ? DLM_BF16 : dlm_device_dtype(b, s->dtype, true);
    s->dtype = act == DLM_BF16 ? DLM_DTYPE_BF16 : DLM_DTYPE_F32;
    const struct dlm_network_plan plan = {.batch = dlm_train_micro_batch(s, seq_len), .eval_batch = dlm_evaluation_batch(seq_len), .seq_len = seq_len,
                                          .train = true, .act = act, .compact = compact};
    *ask = (struct dlm_memory_ask){.plan = plan, .average = s->ema > 0, .processes = processes, .rank = rank};
    return 0;
}

static struct dlm_schedule schedule_of(const struct dlm_settings *s)
{
    return (struct dlm_schedule){(enum dlm_schedule_kind)s->schedule, s->lr, s->min_lr, s->warmup, s->cooldown};
}

/* The shape that --model names. */
static int read_preset(const char *label, size_t *width, size_t *layers, size_t *heads, struct dlm_error *err)
{
    if (dlm_config_preset(label, width, layers, heads))
        return 0;
    return dlm_fail(err, DLM_EUSAGE, "--model '%s' is unknown: a label such as L8-D512, or --width, --layers and --heads", label);
}

/* A noise type or curriculum, and its one spelling. */
static int read_noise(const char *text, struct dlm_curriculum *c, char canonical[CANONICAL], struct dlm_error *err)
{
    int rc = dlm_curriculum_parse(c, text, err);
    if (!rc)
        dlm_curriculum_print(c, canonical, CANONICAL);
    return rc;
}

static int resolve_length(struct dlm_settings *s, const struct dlm_train_job *job, double flops_tok, size_t seq_len, struct dlm_error *err)
{
    double step_tokens = (double)s->batch * (double)seq_len, steps = (double)s->steps;
    if (job->tokens)
        steps = ceil((double)job->tokens / step_tokens);
    else if (job->flops > 0)
        steps = ceil(job->flops / (flops_tok * step_tokens));
    if (!(steps >= 1 && steps < 0x1p53))
        return dlm_fail(err, DLM_EUSAGE, "the length of the run is missing: one of --steps, --tokens, --flops");
    s->steps = (uint64_t)steps;
    return 0;
}

int dlm_train_resolve(struct dlm_settings *s, const struct dlm_train_job *job, uint32_t data_vocab, struct dlm_specials specials, size_t seq_len,
                      struct dlm_config *c, struct dlm_error *err)
{
    size_t width = s->width, layers = s->layers, heads = s->heads, mlp = s->mlp;
    if (job->preset) {
        size_t w, l, h;
        int rc = read_preset(job->preset, &w, &l, &h, err);
        if (rc)
            return rc;
        width = width ? width : w, layers = layers ? layers : l, heads = heads ? heads : h;
    }
    if (!width || !layers)
        return dlm_fail(err, DLM_EUSAGE, "the model is missing: --model, or --width and --layers");
    if (!heads)
        heads = width % 64 || width < 128 ? 1 : width / 64;
    if (!s->vocab_size)
        s->vocab_size = data_vocab;
    if (s->vocab_size < data_vocab)
        return dlm_fail(err, DLM_EUSAGE, "--vocab-size %llu is smaller than the data's vocabulary, %u", (unsigned long long)s->vocab_size, data_vocab);
    dlm_config_default(c, width, layers, heads, mlp, s->vocab_size, seq_len);
    s->width = width, s->layers = layers, s->heads = heads, s->mlp = c->mlp;
    c->begin = specials.begin, c->end = specials.end, c->pad = specials.pad, c->mask = specials.mask;
    int rc = dlm_config_check(c, err);
    if (rc)
        return rc;
    if (specials.mask == DLM_NO_ID)
        return dlm_fail(err, DLM_EDATA, "the data's vocabulary has no mask id");
    c->causal = s->objective == DLM_OBJECTIVE_AR;
    if (c->causal && specials.begin == DLM_NO_ID && specials.end == DLM_NO_ID)
        return dlm_fail(err, DLM_EDATA, "the data's vocabulary has neither a begin nor an end id, one of which opens an autoregressive input");
    if (c->causal && s->noise)
        return dlm_fail(err, DLM_EUSAGE, "--noise does not apply to --objective ar");
    if (!c->causal) {
        struct dlm_curriculum cur;
        if (!s->noise)
            return dlm_fail(err, DLM_EUSAGE, "the noise type is missing: --noise, or --objective ar");
        char canonical[CANONICAL];
        if ((rc = read_noise(s->noise, &cur, canonical, err)))
            return rc;
        char *copy = strdup(canonical);
        if (!copy)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        free(s->noise);
        s->noise = copy;
        struct dlm_noise last = dlm_curriculum_at(&cur, 1);
        c->noise_shift = last.shift;
        if (cur.moves || last.mix || last.slope != 1)
            snprintf(c->dlm_noise, sizeof c->dlm_noise, "%s", canonical);
        if (s->max_empty > 0 && specials.pad == DLM_NO_ID)
            return dlm_fail(err, DLM_EDATA, "the data's vocabulary has no pad id, which --max-empty needs");
    }
    if (isnan(s->beta2))
        s->beta2 = s->batch >= 256 ? 0.98 : 0.99;
    if (isnan(s->eps))
        s->eps = 1e-8 / ((double)width * (double)layers);
    struct dlm_count count = dlm_count_of(c, seq_len);
    if ((rc = resolve_length(s, job, count.flops_tok, seq_len, err)))
        return rc;
    if (s->warmup >= s->steps)
        return dlm_fail(err, DLM_EUSAGE, "--warmup %llu is as long as the run of %llu steps", (unsigned long long)s->warmup,
                        (unsigned long long)s->steps);
    return 0;
}

/* How many sequences a pass over the data shows, and whether the run asks for more passes than it may. */
static int check_data(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    uint64_t have = dlm_shards_sequences(t->shards, DLM_SPLIT_TRAIN), want = s->steps * s->batch;
    t->unique = s->unique_tokens ? s->unique_tokens / t->N : have;
    if (t->unique > have)
        return dlm_fail(err, DLM_EDATA, "--unique-tokens %llu: '%s' holds %llu", (unsigned long long)s->unique_tokens, s->data,
                        (unsigned long long)(have * t->N));
    if (!t->unique)
        return dlm_fail(err, DLM_EDATA, s->unique_tokens ? "--unique-tokens is less than one sequence" : "the train split is empty");
    double passes = (double)want / (double)t->unique, may = isfinite(s->epochs) ? s->epochs : s->unique_tokens ? INFINITY : 1;
    if (passes > may)
        return dlm_fail(err, DLM_EDATA, "the run takes %.3g passes over '%s' (%llu tokens of %llu): give --epochs or --unique-tokens to repeat data", passes,
                        s->data, (unsigned long long)(want * t->N), (unsigned long long)(t->unique * t->N));
    return 0;
}

/* --- rows -------------------------------------------------------------------------------------------------------------------------- */

static struct dlm_metric row_of(const struct trainer *t, const char *kind, const char *noise)
{
    const struct dlm_settings *s = &t->state.settings;
    uint64_t tokens = t->state.step * s->batch * t->N, unique = t->unique * t->N;
    return (struct dlm_metric){
        .run = s->run, .kind = kind, .noise = noise, .objective = t->config.causal ? "ar" : "diffusion", .params = t->count.params,
        .flops_tok = t->count.flops_tok, .width = t->config.width, .layers = t->config.layers, .seq_len = t->N, .batch_tok = s->batch * t->N,
        .lr = s->lr, .seed = s->seed, .step = t->state.step, .tokens = tokens, .unique_tokens = tokens < unique ? tokens : unique,
        .flops = t->count.flops_tok * (double)tokens, .loss = NAN, .elbo = NAN, .elbo_se = NAN, .kl = NAN, .is = NAN, .bpb = NAN, .grad_norm = NAN,
        .tok_s = NAN, .mfu = NAN, .joules = t->state.joules, .seconds = t->state.seconds, .dtype = dlm_device_dtype_name(t->act), .device = t->backend.k->name,
    };
}

static double clock_seconds(const struct trainer *t)
{
    return t->seconds0 + dlm_progress_now() - t->t0;
}

/* Rank 0 writes. */
static int add_row(struct trainer *t, const struct dlm_metric *m, struct dlm_error *err)
{
    return t->group.rank ? 0 : dlm_journal_add(&t->journal, m, err);
}

static int write_train_row(struct trainer *t, struct dlm_error *err)
{
    struct dlm_window *w = &t->state.window;
    struct dlm_metric m = row_of(t, "train", t->noise_name);
    double n = w->noisy, q = (double)w->sequences, mean = w->sequence_elbo / q, now = dlm_progress_now();
    m.loss = w->loss / n;
    m.elbo = w->elbo / n;
    m.elbo_se = w->sequences > 1 ? sqrt(fmax(0, w->sequence_elbo2 / q - mean * mean) / (q - 1)) : NAN;
    if (!t->config.causal) {
        m.kl = w->kl / n;
        m.is = w->is / n;
    }
    m.grad_norm = w->grad_norm / (double)w->steps;
    if (t->window_steps_seen && now > t->window_t0)
        m.tok_s = (double)(t->window_steps_seen * t->state.settings.batch * t->N) / (now - t->window_t0);
    if (t->state.settings.peak_flops > 0)
        m.mfu = (t->count.flops_tok + t->count.flops_tok_head) * m.tok_s / (t->state.settings.peak_flops * t->group.size);
    int rc = add_row(t, &m, err);
    *w = (struct dlm_window){0};
    t->window_t0 = now;
    t->window_steps_seen = 0;
    return rc;
}

/* Every rank's stripes of the weights become everyone's, and the matrices are packed. */
static int spread_weights(struct trainer *t, struct dlm_error *err)
{
    struct dlm_run run[2];
    int rc = 0;
    for (int i = 0, n = dlm_network_runs(t->network, 0, t->stripes.total, run); i < n && !rc; i++)
        rc = dlm_group_all_gather(&t->group, dlm_network_weight_at(t->network, run[i].from), run[i].type, run[i].from, run[i].to - run[i].from, &t->stripes,
                                  err);
    dlm_group_wait(&t->group);
    dlm_network_refresh(t->network);
    return rc;
}

/* The average in the place of the weights, or back. */
static int exchange_average(struct trainer *t, struct dlm_error *err)
{
    if (t->average.beta <= 0)
        return 0;
    dlm_average_exchange(&t->average, t->network, t->store.piece, t->store.piece + DLM_AVERAGE_PIECE);
    int rc = spread_weights(t, err);
    return rc ? rc : dlm_network_sync(t->network, err); /* a rank without sequences does not wait for its device again, and others wait for what it sends */
}

static int write_val_row(struct trainer *t, struct dlm_error *err)
{
    if (!dlm_shards_sequences(t->shards, DLM_SPLIT_VAL))
        return 0; /* dlm-shard --val 0 was asked for */
    struct dlm_evaluation_plan plan = {.shards = t->shards, .split = DLM_SPLIT_VAL, .tokens = t->state.settings.eval_tokens, .levels = VAL_LEVELS,
                                       .seed = VAL_SEED, .noise = dlm_curriculum_at(&t->noise, 1), .autoregressive = t->config.causal,
                                       .group = &t->group};
    struct dlm_evaluation e;
    struct dlm_error second;
    double began = dlm_progress_now();
    int rc = exchange_average(t, err);
    if (rc)
        return rc;
    t->ready.B = 0; /* its passes are others */
    rc = dlm_evaluate(t->network, &t->pass, &plan, NULL, &e, err);
    if (rc && rc != DLM_ESTOPPED) /* the others may not have come so far */
        return rc;
    int rc2 = exchange_average(t, rc ? &second : err);
    if (rc || rc2)
        return rc ? rc : rc2;
    struct dlm_metric m = row_of(t, "val", t->eval_noise_name);
    m.loss = e.loss;
    m.elbo = e.elbo;
    m.elbo_se = e.elbo_se;
    m.kl = e.kl;
    m.is = e.is;
    m.bpb = e.bpb;
    t->window_t0 += dlm_progress_now() - began; /* the clock of the training rows counts training only */
    return add_row(t, &m, err);
}

/* --- checkpoints ------------------------------------------------------------------------------------------------------------------- */

/* --keep: the checkpoint that is about to be replaced stays as CKPT.STEP. */
static int keep_earlier(const struct trainer *t, struct dlm_error *err)
{
    if (!t->state.settings.keep || t->saved_step == UINT64_MAX || t->saved_step == t->state.step)
        return 0;
    char *path;
    if (asprintf(&path, "%s.%llu", t->job->ckpt, (unsigned long long)t->saved_step) < 0)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = dlm_checkpoint_keep(t->job->ckpt, path, err);
    free(path);
    return rc;
}

/* On rank 0: write the checkpoint. The others give what is asked for. */
static int write_checkpoint(struct trainer *t, struct dlm_error *err)
{
    t->state.seconds = clock_seconds(t);
    char *state = dlm_state_format(&t->state);
    if (!state)
        return dlm_fail(err, DLM_ENOMEM, "no memory for the training state");
    size_t len;
    const char *json = dlm_vocab_json(dlm_shards_vocab(t->shards), &len);
    t->store.averaged = t->average.beta > 0; /* the average is what others shall load */
    struct dlm_checkpoint_write w = {.config = &t->config, .layout = dlm_network_layout(t->network), .store = &t->store.pieces, .has_raw = t->store.averaged,
                                     .short_moments = dlm_network_short(t->network), .tokenizer = json, .tokenizer_len = len, .state = state,
                                     .metrics = t->journal.text, .metrics_len = t->journal.len,
                                     .bf16 = t->state.settings.state_dtype == DLM_STATE_BF16};
    int rc = keep_earlier(t, err);
    if (!rc)
        rc = dlm_checkpoint_save(t->job->ckpt, &w, err);
    free(state);
    if (!rc && t->state.settings.keep)
        rc = dlm_checkpoint_prune(t->job->ckpt, t->state.settings.keep, err);
    t->saved_step = t->state.step;
    return rc;
}

static int save(struct trainer *t, struct dlm_error *err)
{
    int rc = dlm_network_sync(t->network, err);
    if (rc)
        return rc;
    return t->group.rank ? dlm_store_serve(&t->store, err) : dlm_store_end(&t->store, write_checkpoint(t, err), err);
}

/* On rank 0: weights from a checkpoint, with moments as it goes on from there, without them to start from. */
static int load(struct trainer *t, const char *ckpt, bool moments, struct dlm_error *err)
{
    const bool averaged = moments && t->average.beta > 0, bf16 = t->state.settings.state_dtype == DLM_STATE_BF16;
    t->store.averaged = averaged; /* the checkpoint's weights are then the average */
    return dlm_checkpoint_load(ckpt, dlm_network_layout(t->network), &t->store.pieces, moments, bf16, averaged, err);
}

/* On rank 0: random weights. */
static int fill_weights(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_layout *l = dlm_network_layout(t->network);
    int rc = 0;
    t->store.averaged = false;
    for (size_t at = 0; at < l->total && !rc; at += DLM_ST_PIECE) {
        const size_t n = l->total - at < DLM_ST_PIECE ? l->total - at : DLM_ST_PIECE;
        dlm_layout_fill_part(l, t->state.settings.seed, at, n, t->store.piece);
        rc = t->store.pieces.take(t->store.pieces.of, DLM_ARRAY_WEIGHTS, at, n, t->store.piece, err);
    }
    return rc;
}

/* --- one step ---------------------------------------------------------------------------------------------------------------------- */

/* Example numbers [first, first + B) into the pass. */
static int fill_pass(struct trainer *t, uint64_t first, size_t B, struct dlm_noise noise, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    struct dlm_pass *p = &t->pass;
    struct dlm_example_options o = {.p_independent = s->p_independent, .p_prompt = s->p_prompt, .max_empty = s->max_empty,
                                    .prompt_density = (enum dlm_prompt_density)s->prompt_density,
                                    .stratified = s->levels_drawn == DLM_LEVELS_STRATIFIED};
    for (size_t b = 0; b < B; b++) {
        uint64_t i = first + b;
        uint32_t *x = p->x + b * t->N;
        int rc = dlm_shards_read(t->shards, DLM_SPLIT_TRAIN, dlm_order_at(s->seed, t->unique, i), x, err);
        if (rc)
            return rc;
        p->example[b] = i;
        p->noise[b] = noise;
        bool prompted;
        if (!t->config.causal)
            dlm_example_draw(&o, s->seed, i, x, t->N, t->config.pad, p->log_snr + b * t->N, p->noisy + b * t->N, &prompted, t->scratch);
    }
    return 0;
}

/* Make ready the pass that begins at example `at` of this rank's share of step k. */
static void prepare(struct trainer *t, uint64_t k, uint64_t at)
{
    const struct dlm_settings *s = &t->state.settings;
    struct ready *r = &t->ready;
    uint64_t first, share = dlm_group_share(&t->group, s->batch, &first);
    r->first = (k - 1) * s->batch + first + at;
    r->B = share - at < t->micro ? share - at : t->micro;
    r->rc = fill_pass(t, r->first, r->B, dlm_curriculum_at(&t->noise, (double)(k - 1) / (double)s->steps), &r->err);
    if (!r->rc)
        r->rc = t->config.causal ? dlm_pass_shift(&t->pass, r->B, &r->err)
                                 : dlm_pass_corrupt_drawn(&t->pass, r->B, s->seed, DLM_RNG_CORRUPT, s->uniform_draw == DLM_UNIFORM_ANY, &r->err);
}

/* Add the pass's terms to the window, sequence by sequence. */
static void add_terms(struct trainer *t, size_t B)
{
    struct dlm_window *w = &t->state.window;
    const struct dlm_pass *p = &t->pass;
    bool ar = t->config.causal;
    size_t r = 0;
    for (size_t b = 0; b < B; b++) {
        double sum[DLM_TERMS] = {0}, noisy = 0;
        for (size_t i = 0; i < t->N; i++)
            noisy += ar || p->noisy[b * t->N + i];
        for (; r < p->scored.n && p->scored.at[r] < (b + 1) * t->N; r++)
            for (int j = 0; j < DLM_TERMS; j++)
                sum[j] += ar ? p->terms[r] : p->terms[r * DLM_TERMS + (size_t)j];
        w->noisy += noisy;
        w->loss += sum[DLM_TERM_LOSS];
        w->elbo += sum[DLM_TERM_ELBO];
        w->kl += ar ? 0 : sum[DLM_TERM_KL];
        w->is += ar ? 0 : sum[DLM_TERM_IS];
        if (noisy > 0) { /* a whole sequence may be prompt */
            double mean = sum[DLM_TERM_ELBO] / noisy;
            w->sequences++;
            w->sequence_elbo += mean;
            w->sequence_elbo2 += mean * mean;
        }
    }
}

/* A GPU counts its own energy, and that is what its rows tell; otherwise it is the processors'. */
static double read_meter(struct trainer *t)
{
    return t->backend.k->joules ? t->backend.k->joules(t->backend.dev) : dlm_energy_joules(&t->meter);
}

/* The window's sums of this step, the energy, the squares of the gradient, and whether any rank was told to stop, become those of all ranks. */
static int share_window(struct trainer *t, const struct dlm_window *before, double *squares, struct dlm_error *err)
{
    struct dlm_window *w = &t->state.window;
    double *const to[] = {&w->noisy, &w->loss, &w->elbo, &w->kl, &w->is, &w->sequence_elbo, &w->sequence_elbo2};
    const double from[] = {before->noisy, before->loss, before->elbo, before->kl, before->is, before->sequence_elbo, before->sequence_elbo2};
    enum { REALS = sizeof from / sizeof *from };
    double sums[REALS + 4], joules = read_meter(t), spent = joules - t->metered;
    t->metered = joules;
    for (int i = 0; i < REALS; i++)
        sums[i] = *to[i] - from[i];
    sums[REALS] = (double)(w->sequences - before->sequences);
    sums[REALS + 1] = dlm_stop_signal() != 0;
    sums[REALS + 2] = t->backend.k->joules || t->group.speaks ? spent : 0; /* a machine's counters count once, and NAN makes the sum NAN */
    if (t->group.size == 1) {
        t->state.joules += spent;
        return 0;
    }
    sums[REALS + 3] = *squares;
    int rc = dlm_group_sum(&t->group, sums, REALS + 4, err);
    *squares = sums[REALS + 3];
    t->state.joules += sums[REALS + 2];
    for (int i = 0; i < REALS; i++)
        *to[i] = from[i] + sums[i];
    w->sequences = before->sequences + (uint64_t)sums[REALS];
    t->told = sums[REALS + 1] > 0;
    return rc;
}

/* This rank's stripes of the next piece of the gradients become the sum over ranks: devices begin it at once, and go on with backward. */
static void sum_piece(void *of)
{
    struct trainer *t = of;
    const struct dlm_run p = dlm_network_piece(t->network, t->summed++);
    struct dlm_error ignored; /* what goes wrong between devices is told by the next wait */
    (void)dlm_group_reduce_scatter(&t->group, dlm_network_gradient_at(t->network, p.from), p.type, p.from, p.to - p.from, &t->stripes, &ignored);
}

/* The same for all of them, but for those that backward has begun; *squares: of this rank's elements. */
static int sum_gradients(struct trainer *t, double *squares, struct dlm_error *err)
{
    const struct dlm_kernels *k = t->backend.k;
    struct dlm_run run[2];
    int rc = 0;
    if (t->group.direct) {
        while (t->summed < dlm_network_pieces(t->network)) /* a rank without sequences takes part, in the same order */
            sum_piece(t);
        *squares = k->group_squares(t->backend.dev);
        return 0;
    }
    for (int i = 0, n = dlm_network_runs(t->network, 0, t->stripes.total, run); i < n && !rc; i++)
        rc = dlm_group_reduce_scatter(&t->group, dlm_network_gradient_at(t->network, run[i].from), run[i].type, run[i].from, run[i].to - run[i].from,
                                      &t->stripes, err);
    *squares = 0;
    for (struct dlm_stretch own = {0}; dlm_stripes_next(&t->stripes, t->group.rank, t->stripes.total, &own);)
        for (int i = 0, n = dlm_network_runs(t->network, own.from, own.to, run); i < n; i++)
            *squares += (run[i].type == DLM_BF16 ? k->sum_squares_bf16 : k->sum_squares)(t->backend.dev, dlm_network_gradient_at(t->network, run[i].from),
                                                                                          run[i].to - run[i].from);
    return rc;
}

/* Every rank stops at the same step, whichever got the signal. */
static bool told_to_stop(const struct trainer *t)
{
    return t->group.size == 1 ? dlm_stop_signal() != 0 : t->told;
}

static int step(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    uint64_t k = t->state.step + 1; /* schedules count from 1 */
    struct dlm_window before = t->state.window;
    dlm_network_zero_gradients(t->network);
    t->summed = 0;
    uint64_t first, share = dlm_group_share(&t->group, s->batch, &first);
    first += t->state.step * s->batch;
    for (uint64_t at = 0; at < share;) {
        const struct ready *r = &t->ready;
        if (!r->B || r->first != first + at) /* the run's first one, or an evaluation took its place */
            prepare(t, k, at);
        if (r->rc) {
            *err = r->err;
            return r->rc;
        }
        dlm_network_rounding(t->network, s->seed, (uint32_t)r->first); /* named by its first example: no pass of the run has the same */
        dlm_network_tell(t->network, t->group.direct && at + r->B == share ? sum_piece : NULL, t);
        int rc = (t->config.causal ? dlm_pass_autoregressive : dlm_pass_diffusion)(&t->pass, t->network, r->B, true, err);
        if (rc)
            return rc;
        add_terms(t, r->B);
        at += r->B;
        /* The next one while the device is at backward, and at the end of a step the next step's first. */
        if (at < share)
            prepare(t, k, at);
        else if (k < s->steps)
            prepare(t, k + 1, 0);
    }
    double squares;
    int rc = sum_gradients(t, &squares, err);
    rc = rc ? rc : dlm_network_sync(t->network, err); /* whether backward went well */
    rc = rc ? rc : share_window(t, &before, &squares, err);
    if (rc)
        return rc;
    struct dlm_window *w = &t->state.window;
    double noisy = w->noisy - before.noisy, loss = w->loss - before.loss;
    double norm = sqrt(squares) / fmax(noisy, 1);
    if (!isfinite(loss) || !isfinite(norm))
        return dlm_fail(err, DLM_EDIVERGED, "diverged: the loss is not finite at step %llu (--lr %g)", (unsigned long long)k, s->lr);
    w->grad_norm += norm;
    w->steps++;
    struct dlm_schedule schedule = schedule_of(s);
    double scale = s->clip > 0 && norm > s->clip ? s->clip / norm : 1;
    dlm_optimizer_update(&t->optimizer, t->network, s, k, dlm_schedule_at(&schedule, k, s->steps), scale);
    dlm_average_step(&t->average, t->network, k);
    if ((rc = spread_weights(t, err)))
        return rc;
    t->state.step = k;
    t->window_steps_seen++;
    return dlm_network_sync(t->network, err);
}

static int run(struct trainer *t, struct dlm_progress *progress, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    bool saved = t->state.step > 0; /* what we resume from is on disk */
    for (;;) {
        struct dlm_state *at = &t->state;
        int rc = 0;
        if (at->val_pending) {
            rc = write_val_row(t, err);
            at->val_pending = rc != 0;
            saved = saved && rc;
            if (rc && rc != DLM_ESTOPPED)
                return rc;
        }
        bool stop = rc == DLM_ESTOPPED || told_to_stop(t), last = at->step >= s->steps;
        bool due = at->step && s->save_every && at->step % s->save_every == 0;
        if ((stop || last || due) && !saved) {
            int rc2 = save(t, err);
            if (rc2)
                return rc2;
            saved = true;
        }
        if (stop)
            return dlm_fail(err, DLM_ESTOPPED, "stopped at step %llu", (unsigned long long)at->step);
        if (last)
            return 0;
        if ((rc = step(t, err)))
            return rc;
        saved = false;
        char note[64];
        snprintf(note, sizeof note, "loss %.4f", at->window.loss / fmax(at->window.noisy, 1));
        if (!t->group.rank)
            dlm_progress_update(progress, at->step * s->batch * t->N, note);
        last = at->step >= s->steps;
        at->seconds = clock_seconds(t);
        if ((s->log_every && at->step % s->log_every == 0) || last)
            if ((rc = write_train_row(t, err)))
                return rc;
        at->val_pending = last || (s->eval_every && at->step % s->eval_every == 0);
    }
}

/* --- beginning --------------------------------------------------------------------------------------------------------------------- */

static int read_state(struct trainer *t, char **metrics, size_t *metrics_len, struct dlm_error *err)
{
    const char *ckpt = t->job->ckpt;
    char *text, name[4096];
    size_t len;
    int rc = dlm_checkpoint_text(ckpt, "state.json", &text, &len, err);
    if (rc)
        return rc;
    snprintf(name, sizeof name, "%s/state.json", ckpt);
    rc = dlm_state_parse(&t->state, text, len, name, err);
    free(text);
    return rc ? rc : dlm_checkpoint_text(ckpt, "metrics.tsv", metrics, metrics_len, err);
}

static int copy_text(char **to, const char *text, struct dlm_error *err)
{
    if (text && !(*to = strdup(text)))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    return 0;
}

/* The name of a run that was given none: the last part of -o. */
static int name_run(char **to, const char *ckpt, struct dlm_error *err)
{
    size_t n = strlen(ckpt);
    while (n > 1 && ckpt[n - 1] == '/')
        n--;
    size_t from = n;
    while (from && ckpt[from - 1] != '/')
        from--;
    *to = strndup(ckpt + from, n - from);
    return *to ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* The settings of a new run, as owned copies. */
static int new_settings(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_settings *asked = &t->job->settings;
    struct dlm_settings *s = &t->state.settings;
    *s = *asked;
    s->run = s->data = s->noise = s->init = NULL; /* borrowed until copied */
    int rc = asked->run ? copy_text(&s->run, asked->run, err) : name_run(&s->run, t->job->ckpt, err);
    rc = rc ? rc : copy_text(&s->data, asked->data, err);
    rc = rc ? rc : copy_text(&s->noise, asked->noise, err);
    return rc ? rc : copy_text(&s->init, asked->init, err);
}

/* What a run that goes on may ask for: the same but for what may change, and more steps only where the schedule allows. */
static int adopt_changes(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_train_job *job = t->job;
    struct dlm_settings asked = job->settings, *s = &t->state.settings;
    struct dlm_given given = job->given;
    uint64_t steps = s->steps;
    struct dlm_curriculum cur;
    char canonical[CANONICAL];
    if (given.noise && asked.noise) { /* compared as printed */
        int rc = read_noise(asked.noise, &cur, canonical, err);
        if (rc)
            return rc;
        asked.noise = canonical;
    }
    if (given.dtype && asked.dtype == DLM_DTYPE_AUTO)
        given.dtype = false;
    if (job->preset) {
        size_t w, l, h;
        int rc = read_preset(job->preset, &w, &l, &h, err);
        if (rc)
            return rc;
        if ((!given.width && w != s->width) || (!given.layers && l != s->layers) || (!given.heads && h != s->heads))
            return dlm_fail(err, DLM_EUSAGE, "--model differs from the run that is to go on");
    }
    if (job->tokens || job->flops > 0) {
        struct dlm_settings length = *s;
        int rc = resolve_length(&length, job, t->count.flops_tok, t->N, err);
        if (rc)
            return rc;
        asked.steps = length.steps;
        given.steps = true;
    }
    int rc = dlm_settings_resume(s, &asked, &given, err);
    if (rc || s->steps == steps)
        return rc;
    struct dlm_schedule schedule = schedule_of(s);
    if (!dlm_schedule_extends(&schedule, t->state.step, steps))
        return dlm_fail(err, DLM_EUSAGE, "--steps cannot change from %llu to %llu: the learning rate at step %llu already depends on it",
                        (unsigned long long)steps, (unsigned long long)s->steps, (unsigned long long)t->state.step);
    if (!t->config.causal) {
        if ((rc = dlm_curriculum_parse(&cur, s->noise, err)))
            return rc;
        if (cur.moves && t->state.step > 0 && (double)(t->state.step - 1) / (double)steps > cur.p0)
            return dlm_fail(err, DLM_EUSAGE, "--steps cannot change once the curriculum '%s' moves", s->noise);
    }
    return 0;
}

/* Say before the first allocation that it cannot fit: memory that is promised and not there is paid for later, and with the whole process. */
static int refuse_memory(const struct trainer *t, const struct dlm_memory *m, const struct dlm_memory_ask *ask, struct dlm_room room, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    const size_t most = dlm_memory_most(&t->backend, &t->config, ask, s->recompute, room, ask->plan.batch);
    char advice[160];
    if (most)
        snprintf(advice, sizeof advice, "--micro-batch %zu would fit", most);
    else
        snprintf(advice, sizeof advice, "not even --micro-batch 1 would fit%s",
                 s->recompute > DLM_RECOMPUTE_NONE && s->recompute <= DLM_RECOMPUTE_LAYER ? "; --recompute layer takes less" :
                 s->memory == DLM_MEMORY_FULL && !s->ema ? "; --memory compact takes less" : "; more processes share the optimizer's state");
    return dlm_fail(err, DLM_ENOMEM, "no memory for this model: training takes %.2f GB, %.2f GB of it for passes of %zu sequence%s (--recompute %s); %.2f GB are free%s; %s",
                    (room.device ? m->device : m->total) * 1e-9, (m->activations + m->head + m->batch) * 1e-9, ask->plan.batch, ask->plan.batch > 1 ? "s" : "",
                    dlm_recompute_name(ask->plan.recompute), room.bytes * 1e-9,
                    room.device ? " on the device" : t->group.local > 1 ? " for each process here" : "", advice);
}

static int open_data(struct trainer *t, const char *dir, struct dlm_error *err)
{
    int rc = dlm_shards_open(&t->shards, dir, err);
    if (!rc)
        t->N = dlm_shards_seq_len(t->shards);
    return rc;
}

/* Settings, data and model of a run that goes on. */
static int begin_resumed(struct trainer *t, char **metrics, size_t *metrics_len, struct dlm_error *err)
{
    const struct dlm_train_job *job = t->job;
    int rc = read_state(t, metrics, metrics_len, err);
    if (rc || (rc = dlm_checkpoint_config(job->ckpt, &t->config, err)) || (rc = dlm_restore_fits(job->ckpt, &t->config, err)))
        return rc;
    const char *data = job->given.data ? job->settings.data : t->state.settings.data;
    if ((rc = open_data(t, data, err)))
        return rc;
    if (dlm_shards_hash(t->shards) != t->state.data_hash)
        return dlm_fail(err, DLM_EDATA, "'%s' is not the shard set that '%s' was trained on", data, job->ckpt);
    if (t->config.context != t->N)
        return dlm_fail(err, DLM_EDATA, "'%s' has a context of %zu tokens, the data have sequences of %zu", job->ckpt, t->config.context, t->N);
    t->count = dlm_count_of(&t->config, t->N);
    t->saved_step = t->state.step;
    return adopt_changes(t, err);
}

/* --init: the shape comes from there unless told. */
static int adopt_shape(struct dlm_settings *s, bool preset, struct dlm_error *err)
{
    struct dlm_config from;
    int rc = dlm_checkpoint_config(s->init, &from, err);
    if (rc)
        return rc;
    if (!preset) {
        s->width = s->width ? s->width : from.width, s->layers = s->layers ? s->layers : from.layers;
        s->heads = s->heads ? s->heads : from.heads, s->mlp = s->mlp ? s->mlp : from.mlp;
    }
    s->vocab_size = s->vocab_size ? s->vocab_size : from.vocab_size;
    return 0;
}

/* Settings, data and model of a new run. */
static int begin_new(struct trainer *t, struct dlm_error *err)
{
    struct dlm_settings *s = &t->state.settings;
    int rc = new_settings(t, err);
    if (rc || (rc = open_data(t, s->data, err)))
        return rc;
    if (s->init && (rc = adopt_shape(s, t->job->preset != NULL, err)))
        return rc;
    const struct dlm_vocab *v = dlm_shards_vocab(t->shards);
    if ((rc = dlm_train_resolve(s, t->job, dlm_vocab_size(v), dlm_vocab_specials(v), t->N, &t->config, err)))
        return rc;
    if (s->init && (rc = dlm_restore_fits(s->init, &t->config, err)))
        return rc;
    t->count = dlm_count_of(&t->config, t->N);
    t->state.data_hash = dlm_shards_hash(t->shards);
    t->state.val_pending = true;
    struct dlm_memory_ask ask;
    return dlm_train_ask(s, &t->backend, t->N, 1, 0, &ask, err); /* its type is a setting from here on */
}

static int name_noise(struct trainer *t, struct dlm_error *err)
{
    strcpy(t->noise_name, "none");
    strcpy(t->eval_noise_name, "none");
    if (t->config.causal)
        return 0;
    int rc = read_noise(t->state.settings.noise, &t->noise, t->noise_name, err);
    if (rc)
        return rc;
    struct dlm_noise last = dlm_curriculum_at(&t->noise, 1);
    dlm_noise_print(&last, t->eval_noise_name, sizeof t->eval_noise_name);
    return 0;
}

/* Everything that a step works in, so that nothing is allocated inside one. */
static int allocate(struct trainer *t, struct dlm_error *err)
{
    struct dlm_settings *s = &t->state.settings;
    struct dlm_memory_ask ask;
    int rc = dlm_train_ask(s, &t->backend, t->N, t->group.size, t->group.rank, &ask, err);
    if (rc)
        return rc;
    t->act = ask.plan.act;
    t->micro = ask.plan.batch;
    const struct dlm_room room = dlm_room_here(&t->backend, t->group.local);
    const struct dlm_memory m = dlm_memory_choose(&t->backend, &t->config, &ask, s->recompute, room);
    if (!dlm_memory_fits(&m, room))
        return refuse_memory(t, &m, &ask, room, err);
    const struct dlm_network_plan plan = ask.plan;
    const size_t most = plan.batch > plan.eval_batch ? plan.batch : plan.eval_batch;
    t->arena.size = (size_t)m.arena;
    t->arena.at = t->backend.k->alloc(t->backend.dev, t->arena.size);
    if (!t->arena.at.at)
        return dlm_fail(err, DLM_ENOMEM, "no memory for this model: %.2f GB in one piece were refused", m.arena * 1e-9);
    t->backend.arena = &t->arena;
    rc = dlm_network_new(&t->network, &t->backend, &t->config, &plan, err);
    if (!rc)
        t->stripes = dlm_stripes_of(dlm_network_layout(t->network)->total, t->group.size);
    rc = rc ? rc : dlm_optimizer_new_part(&t->optimizer, &t->backend, t->network, &t->stripes, t->group.rank, err);
    rc = rc ? rc : dlm_average_new_part(&t->average, &t->backend, t->network, s->ema, &t->stripes, t->group.rank, err);
    rc = rc ? rc : dlm_pass_new(&t->pass, &t->backend, &t->config, most, t->N, err);
    rc = rc ? rc : dlm_store_new(&t->store, &t->group, t->network, &t->optimizer, &t->average, err);
    assert(rc || t->arena.used == t->arena.size);
    if (!rc && !(t->scratch = calloc(t->N, sizeof *t->scratch)))
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    return rc;
}

/* The weights to start from, and the moments of a run that goes on. */
static int set_weights(struct trainer *t, bool resume, struct dlm_error *err)
{
    const struct dlm_settings *s = &t->state.settings;
    int rc;
    if (t->group.rank)
        rc = dlm_store_serve(&t->store, err);
    else
        rc = dlm_store_end(&t->store, resume || s->init ? load(t, resume ? t->job->ckpt : s->init, resume, err) : fill_weights(t, err), err);
    if (rc)
        return rc;
    if (!resume) /* until the first step there is nothing else to average */
        dlm_average_begin(&t->average, t->network);
    dlm_network_refresh(t->network);
    return dlm_network_sync(t->network, err);
}

static int begin(struct trainer *t, struct dlm_error *err)
{
    const struct dlm_train_job *job = t->job;
    bool exists = dlm_checkpoint_exists(job->ckpt), resume = job->mode == DLM_TRAIN_RESUME || (job->mode == DLM_TRAIN_CONTINUE && exists);
    char *metrics = NULL;
    size_t metrics_len = 0;
    if (exists && !resume)
        return dlm_fail(err, DLM_EIO, "'%s' exists: give --resume or --continue to go on, or another -o", job->ckpt);
    if (resume && !exists)
        return dlm_fail(err, DLM_EIO, "'%s' is no checkpoint to resume from", job->ckpt);
    int rc = dlm_device_open(&t->backend, job->device, job->threads, err);
    if (rc || (rc = dlm_group_open(&t->group, &t->backend, err)))
        return rc;
    if (t->backend.fallback)
        say(t, "%s", t->backend.fallback);
    rc = resume ? begin_resumed(t, &metrics, &metrics_len, err) : begin_new(t, err);
    t->state.device = t->backend.k->describe(t->backend.dev);
    rc = rc ? rc : check_data(t, err);
    rc = rc ? rc : name_noise(t, err);
    rc = rc ? rc : allocate(t, err);
    rc = rc ? rc : set_weights(t, resume, err);
    if (!rc && !t->group.rank)
        rc = dlm_journal_open(&t->journal, job->metrics, metrics, metrics_len, err);
    if (!rc && resume)
        say(t, t->state.step >= t->state.settings.steps && !t->state.val_pending ? "'%s' is at its last step, %llu, already" : "'%s' goes on from step %llu",
            job->ckpt, (unsigned long long)t->state.step);
    free(metrics);
    return rc;
}

int dlm_train(const struct dlm_train_job *job, struct dlm_error *err)
{
    struct trainer t = {.job = job, .saved_step = UINT64_MAX};
    int rc = begin(&t, err);
    if (!rc) {
        const struct dlm_settings *s = &t.state.settings;
        uint64_t step_tokens = s->batch * t.N;
        struct dlm_progress progress;
        dlm_progress_init(&progress, s->run, "tokens", s->steps * step_tokens, t.state.step * step_tokens, (enum dlm_progress_mode)job->progress);
        t.t0 = t.window_t0 = dlm_progress_now();
        t.seconds0 = t.state.seconds;
        dlm_energy_open(&t.meter);
        t.metered = read_meter(&t);
        t.state.joules += t.metered - t.metered; /* nothing yet, or no meter */
        rc = run(&t, &progress, err);
        dlm_progress_release(&progress);
    }
    struct dlm_error second = {{0}};
    int rc2 = t.group.rank ? 0 : dlm_journal_close(&t.journal, &second);
    if (!rc && rc2) {
        rc = rc2;
        *err = second;
    }
    dlm_store_release(&t.store);
    free(t.scratch);
    dlm_pass_release(&t.pass);
    dlm_energy_close(&t.meter);
    dlm_average_release(&t.average);
    dlm_optimizer_release(&t.optimizer);
    dlm_network_free(t.network);
    if (t.arena.at.at)
        t.backend.k->free(t.backend.dev, t.arena.at);
    dlm_group_close(&t.group, !rc);
    dlm_device_close(&t.backend);
    dlm_shards_close(t.shards);
    dlm_settings_release(&t.state.settings);
    return rc;
}
