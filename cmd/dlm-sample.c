/* dlm-sample: texts from a checkpoint. */
#include "frame.h"

#include "base/build.h"
#include "base/output.h"
#include "model/checkpoint.h"
#include "run/device.h"
#include "run/quality.h"
#include "run/restore.h"
#include "run/sample.h"
#include "run/transcript.h"
#include "run/watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLER_BLOCK = 2, BLOCK = 32 };

static struct dlm_common common;
static struct dlm_compute_options compute;
static uint64_t count = 1, length, steps = 128, batch, top_k, block, ahead, gap = 1, levels = 8, trace;
static int sampler, schedule, format;
static double temperature, top_p = 1;
static const char *prompt_text, *field, *revised, *judge_checkpoint;
static bool stats_wanted, levels_given, infill, gap_given, watch, sampler_given, steps_given, schedule_given, temperature_given;

/* clang-format off */
static const struct dlm_option options[] = {
    {"count",       'n', DLM_OPT_COUNT,  "COUNT",  "texts, or texts for each prompt (1)", &count, 1, 0x1p32, NULL, NULL},
    {"length",      'l', DLM_OPT_COUNT,  "LENGTH", "tokens of a text, its prompt included (the model's context)", &length, 1, 1e9, NULL, NULL},
    {"sampler",     0,   DLM_OPT_CHOICE, "NAME",   "ancestral, adaptive, or block: adaptive in blocks of 32 (ancestral)", &sampler, 0, 0, "ancestral|adaptive|block", &sampler_given},
    {"block",       0,   DLM_OPT_COUNT,  "LEN",    "from left to right in blocks of LEN tokens, until one holds the end id", &block, 1, 1e9, NULL, NULL},
    {"ahead",       0,   DLM_OPT_COUNT,  "LEN",    "with blocks: tokens of noise behind a block that its steps see (0)", &ahead, 0, 1e9, NULL, NULL},
    {"steps",       0,   DLM_OPT_COUNT,  "T",      "denoising steps of a text; its blocks share them (128)", &steps, 1, 1e9, NULL, &steps_given},
    {"schedule",    0,   DLM_OPT_CHOICE, "NAME",   "how alpha rises over ancestral steps: linear or cosine (linear)", &schedule, 0, 0, "linear|cosine", &schedule_given},
    {"prompt",      0,   DLM_OPT_TEXT,   "TEXT",   "every text begins with this", &prompt_text, 0, 0, NULL, NULL},
    {"jsonl",       0,   DLM_OPT_TEXT,   "FIELD",  "prompts: this string of every line of the JSON Lines files", &field, 0, 0, NULL, NULL},
    {"infill",      0,   DLM_OPT_FLAG,   NULL,     "fill the gaps of the prompts, each marked <|mask|>, and nothing else", &infill, 0, 0, NULL, NULL},
    {"gap",         0,   DLM_OPT_COUNT,  "N",      "tokens that a mark stands for (1)", &gap, 1, 1e9, NULL, &gap_given},
    {"revise",      0,   DLM_OPT_TEXT,   "FILE",   "correct this text by adaptive steps; with --jsonl, the strings of its objects", &revised, 0, 0, NULL, NULL},
    {"temperature", 0,   DLM_OPT_REAL,   "X",      "logits are divided by it; 0 takes the likeliest (1; adaptive: 0)", &temperature, 0, 1e6, NULL, &temperature_given},
    {"top-k",       0,   DLM_OPT_COUNT,  "K",      "draw among the K likeliest ids (all)", &top_k, 1, 1e18, NULL, NULL},
    {"top-p",       0,   DLM_OPT_REAL,   "SHARE",  "draw among the fewest ids that hold this share (1)", &top_p, 1e-12, 1, NULL, NULL},
    {"batch",       0,   DLM_OPT_COUNT,  "N",      "at most N texts at a time; no text depends on it", &batch, 1, 1e9, NULL, NULL},
    {"format",      0,   DLM_OPT_CHOICE, "NAME",   "text, jsonl or tokens (text)", &format, 0, 0, "text|jsonl|tokens", NULL},
    {"watch",       0,   DLM_OPT_FLAG,   NULL,     "show the text as it comes out of the noise; on a terminal only", &watch, 0, 0, NULL, NULL},
    {"trace",       0,   DLM_OPT_COUNT,  "K",      "TSV on standard error: the first text K times on its way out of the noise", &trace, 1, 1e6, NULL, NULL},
    {"stats",       0,   DLM_OPT_FLAG,   NULL,     "TSV on standard error: steps, calls, tokens per second, variety, likelihood", &stats_wanted, 0, 0, NULL, NULL},
    {"judge-checkpoint", 0, DLM_OPT_TEXT, "DIR",   "with --stats: the texts' likelihood under this model, too", &judge_checkpoint, 0, 0, NULL, NULL},
    {"levels",      0,   DLM_OPT_COUNT,  "K",      "with --stats: noise levels of a likelihood (8)", &levels, 1, 1e6, NULL, &levels_given},
    DLM_OPTIONS_COMPUTE(compute),
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    .name = "dlm-sample",
    .purpose = "texts from a checkpoint, from nothing or from prompts",
    .synopsis = "-c CKPT [-n COUNT] [-l LENGTH] [--sampler ancestral|adaptive|block] [--steps T] [option...]\n"
                "-c CKPT --prompt TEXT [option...]\n"
                "-c CKPT --jsonl FIELD [option...] [FILE...]\n"
                "-c CKPT --infill --prompt 'TEXT <|mask|> TEXT' [--gap N] [option...]\n"
                "-c CKPT --revise FILE [--jsonl FIELD] [option...]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_device_libraries,
};

/* What excludes what, before anything is opened. */
static void check_options(char **files, int n_files)
{
    if (!compute.checkpoint)
        dlm_frame_misuse(&command, "-c CKPT is missing");
    if (prompt_text && field)
        dlm_frame_misuse(&command, "--prompt and --jsonl exclude each other");
    if (n_files && (!field || revised))
        dlm_frame_misuse(&command, "operand '%s': files are read with --jsonl FIELD%s", files[0], revised ? ", the one to revise with --revise" : "");
    if (infill && !prompt_text && !field)
        dlm_frame_misuse(&command, "--infill needs --prompt or --jsonl");
    if (gap_given && !infill)
        dlm_frame_misuse(&command, "--gap goes with --infill");
    if (revised && (infill || prompt_text))
        dlm_frame_misuse(&command, "--revise goes with neither --infill nor --prompt");
    if ((infill || revised) && length)
        dlm_frame_misuse(&command, "--length does not apply to --%s: texts keep their length", infill ? "infill" : "revise");
    if ((infill || revised) && (block || sampler == SAMPLER_BLOCK))
        dlm_frame_misuse(&command, "blocks do not apply to --%s", infill ? "infill" : "revise");
    if (revised && sampler_given && sampler != DLM_SAMPLE_ADAPTIVE)
        dlm_frame_misuse(&command, "--revise takes adaptive steps; --sampler does not apply");
    if (watch && !isatty(STDERR_FILENO))
        dlm_frame_misuse(&command, "--watch needs a terminal on standard error");
    if (watch && trace)
        dlm_frame_misuse(&command, "--watch and --trace exclude each other");
    if (!stats_wanted && (judge_checkpoint || levels_given))
        dlm_frame_misuse(&command, "--%s goes with --stats", judge_checkpoint ? "judge-checkpoint" : "levels");
    if (sampler == SAMPLER_BLOCK && !block)
        block = BLOCK;
    if (ahead && !block)
        dlm_frame_misuse(&command, "--ahead goes with --block or --sampler block");
    if (sampler == SAMPLER_BLOCK || revised)
        sampler = DLM_SAMPLE_ADAPTIVE;
    if (sampler == DLM_SAMPLE_ADAPTIVE && schedule_given)
        dlm_frame_misuse(&command, "--schedule does not apply to adaptive sampling");
}

/* The plan and the network's shape from the options and the checkpoint's configuration. */
static int plan_of(struct dlm_sample_plan *p, const struct dlm_config *c, struct dlm_error *err)
{
    if (length > c->context)
        return dlm_fail(err, DLM_EUSAGE, "--length %" PRIu64 " is longer than the context of '%s', %zu", length, compute.checkpoint, c->context);
    const char *foreign = sampler_given ? "sampler" : steps_given ? "steps" : schedule_given ? "schedule" : block ? "block" : infill ? "infill" : revised ? "revise" : trace ? "trace" : NULL;
    if (c->causal && foreign)
        return dlm_fail(err, DLM_EUSAGE, "'%s' is autoregressive: --%s does not apply", compute.checkpoint, foreign);
    *p = (struct dlm_sample_plan){
        .order = c->causal ? DLM_SAMPLE_AUTOREGRESSIVE : (enum dlm_sample_order)sampler,
        .length = length ? length : c->context,
        .block = block,
        .ahead = ahead,
        .steps = (uint32_t)steps,
        .cosine = schedule == 1,
        .choose = {.temperature = temperature_given ? temperature : sampler == DLM_SAMPLE_ADAPTIVE ? 0 : 1, .top_k = top_k, .top_p = top_p},
        .seed = common.seed,
    };
    return 0;
}

/* Can this model find a wrong id? Under masked noise none is ever wrong. */
static int check_noise(const struct dlm_noise *noise, size_t V, struct dlm_error *err)
{
    if (revised && dlm_noise_pi(noise, -DLM_LOG_SNR_MAX, false, (uint32_t)V) == 0)
        return dlm_fail(err, DLM_EUSAGE, "'%s' was trained with masked noise, under which no id that stands is wrong: it cannot revise", compute.checkpoint);
    return 0;
}

static int read_prompts(struct dlm_prompts *prompts, const struct dlm_vocab *v, size_t most, char **files, int n_files, struct dlm_error *err)
{
    int rc = 0;
    prompts->gaps = infill;
    prompts->gap = gap;
    if (revised)
        return field ? dlm_prompts_read(prompts, v, revised, field, most, err) : dlm_prompts_read_file(prompts, v, revised, most, err);
    if (prompt_text)
        rc = dlm_prompts_add(prompts, v, prompt_text, strlen(prompt_text), most, err);
    if (field && !n_files)
        rc = dlm_prompts_read(prompts, v, "-", field, most, err);
    for (int i = 0; field && !rc && i < n_files; i++)
        rc = dlm_prompts_read(prompts, v, files[i], field, most, err);
    if (!rc && field && !prompts->n)
        rc = dlm_fail(err, DLM_EDATA, "there are no prompts to begin from");
    if (!rc && count * (field ? prompts->n : 1) > (uint64_t)1 << 32)
        rc = dlm_fail(err, DLM_EUSAGE, "more than 2^32 texts");
    return rc;
}

/* What --watch and --trace show. */
struct view {
    struct dlm_watch watch;
    const struct dlm_prompts *prompts;
    size_t N;
    uint64_t seen, told; /* steps of the first text; the step of the last row */
};

static bool own_length(void)
{
    return infill || revised;
}

static const struct dlm_prompt *prompt_of(const struct dlm_prompts *prompts, uint64_t item)
{
    return prompts->n ? &prompts->at[item / count] : NULL; /* --prompt serves every text */
}

static void show(void *ctx, uint64_t item, const uint32_t *ids)
{
    struct view *v = ctx;
    char title[64];
    snprintf(title, sizeof title, "text %" PRIu64, item);
    dlm_watch_draw(&v->watch, title, ids, own_length() ? prompt_of(v->prompts, item)->n : v->N, false);
}

static void trace_row(struct view *v, const uint32_t *ids)
{
    const size_t n = own_length() ? prompt_of(v->prompts, 0)->n : v->N;
    size_t masks = 0;
    for (size_t i = 0; i < n; i++)
        masks += ids[i] == v->watch.mask;
    fprintf(stderr, "%s%" PRIu64 "\t%zu\t", v->told ? "" : "step\tmasks\ttext\n", v->seen, masks);
    dlm_watch_line(stderr, v->watch.vocab, v->watch.mask, ids, n);
    fputc('\n', stderr);
    v->told = v->seen;
}

/* K rows at equal distances. An early end makes fewer; trace_end() tells it. */
static void trace_step(void *ctx, uint64_t item, const uint32_t *ids)
{
    struct view *v = ctx;
    if (item)
        return;
    v->seen++;
    if (v->seen * trace / steps > (v->seen - 1) * trace / steps)
        trace_row(v, ids);
}

static void trace_end(struct view *v, const uint32_t *ids)
{
    if (v->seen && v->told < v->seen)
        trace_row(v, ids);
}

/* How a text begins. */
static void begin_text(uint32_t *ids, uint8_t *given, size_t *own, size_t N, const struct dlm_prompt *prompt, const struct dlm_vocab *v)
{
    const uint32_t mask = dlm_vocab_specials(v).mask;
    const size_t prefix = prompt ? prompt->n : 0;
    for (size_t q = 0; q < N; q++) {
        uint32_t id = q < prefix ? prompt->ids[q] : DLM_SAMPLE_PRIOR;
        given[q] = q < prefix && id != mask && (!revised || dlm_vocab_is_special(v, id));
        ids[q] = given[q] || (revised && q < prefix) ? id : DLM_SAMPLE_PRIOR;
    }
    *own = own_length() ? prefix : N;
}

/* What --stats tells of the texts: their variety, and their likelihood under the model itself and under a judge. */
struct marks {
    struct dlm_quality quality;
    struct dlm_restored judge;
    struct dlm_scorer *scorer[2]; /* itself, the judge */
    struct dlm_mean_nats nats[2];
};

static int open_marks(struct marks *k, const struct dlm_backend *b, const struct dlm_restored *model, size_t N, enum dlm_dtype act, struct dlm_error *err)
{
    struct dlm_score_plan plan = {.noise = model->noise, .seed = common.seed, .levels = (uint32_t)levels, .length = N};
    int rc = dlm_scorer_new(&k->scorer[0], b, model->network, &plan, err);
    if (rc || !judge_checkpoint)
        return rc;
    const struct dlm_network_plan shape = {.batch = dlm_score_batch(N), .seq_len = N, .act = act, .head_rows = dlm_score_head_rows()};
    if ((rc = dlm_restore_open(&k->judge, judge_checkpoint, b, &shape, true, err)))
        return rc;
    if (dlm_vocab_fingerprint(k->judge.vocab) != dlm_vocab_fingerprint(model->vocab))
        return dlm_fail(err, DLM_EDATA, "'%s' and '%s' have different vocabularies: one cannot judge the other's tokens", judge_checkpoint,
                        compute.checkpoint);
    plan.noise = k->judge.noise;
    return dlm_scorer_new(&k->scorer[1], b, k->judge.network, &plan, err);
}

static int mark(struct marks *k, const struct dlm_vocab *v, const uint32_t *ids, size_t n, const struct dlm_prompt *prompt, struct dlm_error *err)
{
    const size_t before = prompt && !own_length() ? prompt->n : 0;
    const struct dlm_piece piece = {.ids = ids, .n = own_length() ? n : dlm_transcript_end(v, ids, n, before), .before = before};
    int rc = dlm_quality_add(&k->quality, ids, piece.n, before, err);
    for (int i = 0; i < 2 && !rc && k->scorer[i] && piece.n > before; i++) {
        struct dlm_score score;
        if (!(rc = dlm_scorer_run(k->scorer[i], &piece, &score, err)))
            dlm_mean_nats_add(&k->nats[i], score.nats, piece.n - before);
    }
    return rc;
}

static void close_marks(struct marks *k)
{
    for (int i = 0; i < 2; i++)
        dlm_scorer_free(k->scorer[i]);
    dlm_restore_close(&k->judge);
    dlm_quality_release(&k->quality);
}

/* Item k is text k % count of prompt k / count. A group lies within one chunk, so that an item's place in the model call is
 * its own. */
static int sample_all(struct dlm_sampler *s, const struct dlm_sample_plan *p, const struct dlm_prompts *prompts, struct dlm_transcript *t,
                      struct dlm_sample_stats *stats, struct marks *marks, struct dlm_error *err)
{
    size_t N = p->length, chunk = dlm_sample_chunk(N), at_once = batch && batch < chunk ? batch : chunk;
    uint64_t total = count * (prompts->n ? prompts->n : 1), calls = own_length() || block ? total : (total + at_once - 1) / at_once;
    uint32_t *ids = calloc(at_once * N, sizeof *ids);
    uint8_t *given = calloc(at_once * N, 1);
    size_t *own = calloc(at_once, sizeof *own);
    int rc = ids && given && own ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for %zu texts of %zu tokens", at_once, N);
    struct dlm_progress progress;
    dlm_progress_init(&progress, command.name, "steps", calls * (p->order == DLM_SAMPLE_AUTOREGRESSIVE ? N : p->steps), 0,
                      common.quiet || watch || trace ? DLM_PROGRESS_NEVER : (enum dlm_progress_mode)common.progress);
    for (uint64_t first = 0, n; !rc && first < total; first += n) {
        n = chunk - first % chunk < at_once ? chunk - first % chunk : at_once;
        n = n < total - first ? n : total - first;
        for (size_t i = 0; i < n; i++)
            begin_text(ids + i * N, given + i * N, &own[i], N, prompt_of(prompts, first + i), t->vocab);
        rc = dlm_sampler_run(s, first, n, ids, given, own_length() ? own : NULL, stats, &progress, err);
        if (watch)
            dlm_watch_erase(&((struct view *)p->watch_ctx)->watch);
        if (trace && !rc && first == 0)
            trace_end(p->watch_ctx, ids);
        for (size_t i = 0; !rc && i < n; i++)
            rc = dlm_transcript_add(t, first + i, ids + i * N, own[i], prompt_of(prompts, first + i), err);
        for (size_t i = 0; !rc && stats_wanted && i < n; i++)
            rc = mark(marks, t->vocab, ids + i * N, own[i], prompt_of(prompts, first + i), err);
        fflush(t->file); /* finished texts are seen at once; a failure shows at the end */
    }
    dlm_progress_release(&progress);
    free(ids);
    free(given);
    free(own);
    return rc;
}

static void put(double v)
{
    if (v == v)
        fprintf(stderr, "\t%.6g", v);
    else
        fputs("\tNA", stderr);
}

static void write_stats(const struct dlm_sample_plan *p, const struct dlm_sample_stats *s, const struct marks *k, const char *dtype, const char *device)
{
    static const char *const names[] = {"ancestral", "adaptive", "autoregressive"};
    char in_blocks[24] = "NA";
    if (p->block)
        snprintf(in_blocks, sizeof in_blocks, "%zu", p->block);
    fprintf(stderr,
            "sampler\ttexts\tlength\tsteps\tmodel_calls\ttokens\tseconds\ttok_s\tdtype\tdevice\tblock\t"
            "entropy\tdistinct_1\tdistinct_2\tdistinct_3\telbo\telbo_se\tjudge_elbo\tjudge_elbo_se\n"
            "%s\t%" PRIu64 "\t%zu\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%.6g\t%.6g\t%s\t%s\t%s",
            names[p->order], k->quality.texts, p->length, s->steps, s->model_calls, s->tokens, s->seconds,
            s->seconds > 0 ? (double)s->tokens / s->seconds : 0, dtype, device, in_blocks);
    put(dlm_quality_entropy(&k->quality));
    for (int n = 1; n <= DLM_QUALITY_GRAMS; n++)
        put(dlm_quality_distinct(&k->quality, n));
    for (int i = 0; i < 2; i++) {
        put(dlm_mean_nats_value(&k->nats[i]));
        put(dlm_mean_nats_se(&k->nats[i]));
    }
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    check_options(argv + first, argc - first);

    struct dlm_backend b = {0};
    struct dlm_restored model = {0};
    struct dlm_config config;
    struct dlm_sample_plan plan;
    struct dlm_prompts prompts = {0};
    struct dlm_sampler *s = NULL;
    struct dlm_output out = {0};
    struct dlm_transcript transcript = {0};
    struct dlm_sample_stats stats = {0};
    struct view view = {.prompts = &prompts};
    struct marks marks = {0};
    enum dlm_dtype act = DLM_F32;
    int rc = dlm_device_open(&b, compute.device, (int)common.threads, &err);
    if (b.fallback && !common.quiet)
        dlm_frame_say(&command, "%s", b.fallback);
    if (!rc && !dlm_checkpoint_exists(compute.checkpoint))
        rc = dlm_fail(&err, DLM_EIO, "'%s' is no checkpoint: it has no config.json", compute.checkpoint);
    if (!rc)
        rc = dlm_checkpoint_config(compute.checkpoint, &config, &err);
    if (!rc)
        rc = plan_of(&plan, &config, &err);
    if (!rc) {
        act = dlm_device_dtype(&b, compute.dtype, true);
        const size_t chunk = dlm_sample_chunk(plan.length), scored = stats_wanted ? dlm_score_batch(plan.length) : 0;
        const struct dlm_network_plan shape = {
            .batch = chunk > scored ? chunk : scored, .seq_len = plan.length, .act = act, .head_rows = dlm_sample_head_rows(&plan)};
        rc = dlm_restore_open(&model, compute.checkpoint, &b, &shape, true, &err);
    }
    if (!rc) {
        plan.noise = model.noise;
        view.watch = (struct dlm_watch){.terminal = stderr, .vocab = model.vocab, .mask = config.mask};
        view.N = plan.length;
        plan.watch = watch ? show : trace ? trace_step : NULL;
        plan.watch_ctx = &view;
        rc = check_noise(&plan.noise, config.vocab_size, &err);
    }
    if (!rc) {
        rc = read_prompts(&prompts, model.vocab, plan.length, argv + first, argc - first, &err);
    }
    if (!rc)
        rc = dlm_sampler_new(&s, &b, model.network, &plan, &err);
    if (!rc && stats_wanted)
        rc = open_marks(&marks, &b, &model, plan.length, act, &err);
    if (!rc)
        rc = (format == DLM_TRANSCRIPT_TOKENS ? dlm_output_open_binary : dlm_output_open)(&out, common.output, &err);
    if (!rc)
        rc = dlm_transcript_open(&transcript, out.file, dlm_output_name(&out), (enum dlm_transcript_format)format, model.vocab, common.seed, &err);
    if (!rc)
        rc = sample_all(s, &plan, &prompts, &transcript, &stats, &marks, &err);
    if (!rc)
        rc = dlm_transcript_finish(&transcript, &err);
    if (!rc)
        rc = dlm_output_commit(&out, &err);
    if (!rc && stats_wanted)
        write_stats(&plan, &stats, &marks, dlm_device_dtype_name(act), b.k->name);
    close_marks(&marks);
    dlm_transcript_release(&transcript);
    dlm_sampler_free(s);
    dlm_prompts_release(&prompts);
    dlm_restore_close(&model);
    dlm_device_close(&b);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
