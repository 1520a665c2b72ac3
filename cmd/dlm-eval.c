/* dlm-eval: held-out likelihood of a checkpoint, likelihoods of texts, tasks with right answers; what its network makes of given ids. */
#include "frame.h"

#include "base/build.h"
#include "base/output.h"
#include "base/progress.h"
#include "metric/metric.h"
#include "model/checkpoint.h"
#include "run/device.h"
#include "run/evaluate.h"
#include "run/filter.h"
#include "run/inspect.h"
#include "run/restore.h"
#include "run/task.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* What is asked for; bits, so that the table below can say which options go with which. */
enum mode { HELD_OUT = 1, TASK = 2, SCORE = 4, LOGITS = 8, LOSS = 16 };

#define LEVELS_HELD_OUT 4
#define LEVELS_TEXT 128
#define LEVELS_TARGET 4096 /* at most, where --target-se chooses */

static struct dlm_common common;
static struct dlm_compute_options compute;
static const char *data, *noise_text, *details_path, *shots_path, *judge_command;
static struct dlm_texts tasks;
static int split = DLM_SPLIT_VAL, by, compat, grid;
static uint64_t tokens, levels, batch, bins, length, limit, n_shots, max_tokens = 256, steps = 128, block = 32, judge_memory = 1073741824;
static double target_se, judge_time = 10;
static bool logits, loss, score, skip_bad, split_given, tokens_given, levels_given, by_given, bins_given, length_given, limit_given, shots_given, target_given,
    grid_given, compat_given, tokens_max_given, steps_given, block_given, time_given, memory_given;

/* clang-format off */
static const struct dlm_option options[] = {
    {"data",       'd', DLM_OPT_TEXT,   "DIR",  "shard set to evaluate on", &data, 0, 0, NULL, NULL},
    {"split",      0,   DLM_OPT_CHOICE, "NAME", "train or val (val)", &split, 0, 0, "train|val", &split_given},
    {"tokens",     0,   DLM_OPT_COUNT,  "N",    "at most so many, rounded up to whole sequences (all)", &tokens, 1, 1e18, NULL, &tokens_given},
    {"by",         0,   DLM_OPT_CHOICE, "WHAT", "a profile instead: by noise level or by position", &by, 0, 0, "level|position", &by_given},
    {"bins",       0,   DLM_OPT_COUNT,  "N",    "rows of a profile (18 by level; one a position)", &bins, 1, 1e6, NULL, &bins_given},
    {"task",       0,   DLM_OPT_TEXTS,  "FILE", "multiple choice, cloze or generation from JSON Lines; may be repeated", &tasks, 0, 0, NULL, NULL},
    {"score",      0,   DLM_OPT_FLAG,   NULL,   "JSON Lines with texts: add the likelihood of each", &score, 0, 0, NULL, NULL},
    {"logits",     0,   DLM_OPT_FLAG,   NULL,   "JSON Lines with \"ids\": add the logits of every position", &logits, 0, 0, NULL, NULL},
    {"loss",       0,   DLM_OPT_FLAG,   NULL,   "JSON Lines with \"x\", \"z\", \"log_snr\", \"noisy\": add the loss of every token", &loss, 0, 0, NULL, NULL},
    {"levels",     0,   DLM_OPT_COUNT,  "K",    "noise levels a sequence or text (4 with -d, else 128)", &levels, 1, 1e6, NULL, &levels_given},
    {"target-se",  0,   DLM_OPT_REAL,   "NATS", "as many levels as bring a text's standard error down to this, up to --levels (4096)", &target_se, 1e-12, 1e12, NULL, &target_given},
    {"grid",       0,   DLM_OPT_CHOICE, "NAME", "levels of a text: uniform, or cosine, closer at both ends (uniform)", &grid, 0, 0, "uniform|cosine", &grid_given},
    {"noise",      0,   DLM_OPT_TEXT,   "TYPE", "corrupt with this type (the checkpoint's)", &noise_text, 0, 0, NULL, NULL},
    {"length",     0,   DLM_OPT_COUNT,  "N",    "take the context for N tokens long (the model's)", &length, 1, 1e9, NULL, &length_given},
    {"compat",     0,   DLM_OPT_CHOICE, "WHICH", "release: likelihoods as the released code computes them", &compat, 0, 0, "release", &compat_given},
    {"limit",      0,   DLM_OPT_COUNT,  "N",    "the first N items of a task (all)", &limit, 1, 1e18, NULL, &limit_given},
    {"skip-bad",   0,   DLM_OPT_FLAG,   NULL,   "count items that cannot be used instead of ending at one", &skip_bad, 0, 0, NULL, NULL},
    {"details",    0,   DLM_OPT_TEXT,   "PATH", "write what became of every item there, as JSON Lines", &details_path, 0, 0, NULL, NULL},
    {"shots",      0,   DLM_OPT_TEXT,   "FILE", "solved items, some of which stand before each item", &shots_path, 0, 0, NULL, NULL},
    {"n-shots",    0,   DLM_OPT_COUNT,  "K",    "so many of them", &n_shots, 1, 1e6, NULL, &shots_given},
    {"max-tokens", 0,   DLM_OPT_COUNT,  "N",    "tokens of a generated text (256)", &max_tokens, 1, 1e9, NULL, &tokens_max_given},
    {"steps",      0,   DLM_OPT_COUNT,  "T",    "denoising steps of a generated text or a gap (128)", &steps, 1, 1e9, NULL, &steps_given},
    {"block",      0,   DLM_OPT_COUNT,  "LEN",  "generate in blocks of LEN tokens (32)", &block, 1, 1e9, NULL, &block_given},
    {"judge",      0,   DLM_OPT_TEXT,   "CMD",  "shell command that says by its exit status whether a generated text is right", &judge_command, 0, 0, NULL, NULL},
    {"judge-time", 0,   DLM_OPT_REAL,   "S",    "seconds that it may take for an item (10)", &judge_time, 1e-3, 1e6, NULL, &time_given},
    {"judge-memory", 0, DLM_OPT_COUNT,  "BYTES", "address space that each of its processes may take (1Gi)", &judge_memory, 1, 1e18, NULL, &memory_given},
    {"batch",      0,   DLM_OPT_COUNT,  "N",    "accepted; memory is bounded and no result depends on it, as model calls have one fixed shape", &batch, 1, 1e9, NULL, NULL},
    DLM_OPTIONS_COMPUTE(compute),
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    .name = "dlm-eval",
    .purpose = "likelihoods of a checkpoint, held-out and of texts, and tasks with right answers, with standard errors",
    .synopsis = "-c CKPT -d DIR [--split val] [--tokens N] [--levels K] [--by level|position] [option...]\n"
                "-c CKPT --task FILE.jsonl [--levels K] [option...]\n"
                "-c CKPT --score [--levels K] [option...] [FILE.jsonl]\n"
                "-c CKPT --logits [option...] [FILE.jsonl]\n"
                "-c CKPT --loss [option...] [FILE.jsonl]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_device_libraries,
};

/* The noise that --noise names, in the place of the checkpoint's. */
static int choose_noise(const struct dlm_restored *model, struct dlm_noise *noise, struct dlm_error *err)
{
    *noise = model->noise;
    if (!noise_text)
        return 0;
    if (model->autoregressive)
        return dlm_fail(err, DLM_EUSAGE, "--noise does not apply to an autoregressive checkpoint");
    return dlm_noise_parse(noise, noise_text, err);
}

static void begin_progress(struct dlm_progress *p, const char *unit, uint64_t total)
{
    dlm_progress_init(p, command.name, unit, total, 0, common.quiet ? DLM_PROGRESS_NEVER : (enum dlm_progress_mode)common.progress);
}

static void print_real(FILE *to, const char *before, double v)
{
    fprintf(to, isnan(v) ? "%sNA" : "%s%.9g", before, v);
}

/* --- held-out data ----------------------------------------------------------------------------------------------------------- */

static const char *split_name(void)
{
    return split == DLM_SPLIT_VAL ? "val" : "train";
}

static void print_evaluation(const struct dlm_evaluation *e, const char *noise, FILE *to)
{
    fputs("checkpoint\tnoise\tsplit\ttokens\tbytes\telbo\telbo_se\tbpb\tppl\tlevels\tseed\n", to);
    fprintf(to, "%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64, compute.checkpoint, noise, split_name(), e->tokens, e->bytes);
    print_real(to, "\t", e->elbo);
    print_real(to, "\t", e->elbo_se);
    print_real(to, "\t", e->bpb);
    fprintf(to, "\t%.9g\t%" PRIu32 "\t%" PRIu64 "\n", e->ppl, e->levels, common.seed);
}

static void print_profile(const struct dlm_evaluation_plan *plan, const struct dlm_evaluation *e, const char *noise, FILE *to)
{
    fputs("checkpoint\tnoise\tsplit\tby\tlo\thi\ttokens\telbo\telbo_se\tlevels\tseed\n", to);
    for (size_t i = 0; i < plan->bins; i++) {
        const struct dlm_profile_bin *b = &plan->profile[i];
        fprintf(to, "%s\t%s\t%s\t%s\t%.9g\t%.9g\t%" PRIu64, compute.checkpoint, noise, split_name(), by ? "position" : "level", b->lo, b->hi, b->tokens);
        print_real(to, "\t", b->tokens ? b->elbo : NAN);
        print_real(to, "\t", b->tokens ? b->se : NAN);
        fprintf(to, "\t%" PRIu32 "\t%" PRIu64 "\n", e->levels, common.seed);
    }
}

static int plan_profile(struct dlm_evaluation_plan *plan, size_t N, struct dlm_error *err)
{
    if (!by_given)
        return 0;
    plan->by = by ? DLM_PROFILE_POSITION : DLM_PROFILE_LEVEL;
    plan->bins = bins ? bins : by ? N : 2 * (size_t)DLM_LOG_SNR_MAX;
    if (by && plan->bins > N)
        return dlm_fail(err, DLM_EUSAGE, "--bins %" PRIu64 " is more than the %zu positions of a sequence", bins, N);
    if (!by && plan->autoregressive)
        return dlm_fail(err, DLM_EUSAGE, "'%s' is autoregressive: --by level does not apply", compute.checkpoint);
    plan->profile = calloc(plan->bins, sizeof *plan->profile);
    return plan->profile ? 0 : dlm_fail(err, DLM_ENOMEM, "no memory for a profile of %zu bins", plan->bins);
}

static int evaluate_shards(struct dlm_backend *b, struct dlm_shards *shards, struct dlm_output *out, struct dlm_error *err)
{
    struct dlm_restored model;
    struct dlm_pass pass = {0};
    struct dlm_evaluation e;
    size_t N = dlm_shards_seq_len(shards), rows = dlm_evaluation_batch(N);
    const struct dlm_network_plan shape = {.batch = rows, .seq_len = N, .act = dlm_device_dtype(b, compute.dtype, false)};
    int rc = dlm_restore_open(&model, compute.checkpoint, b, &shape, true, err);
    if (rc)
        return rc;
    if (dlm_vocab_fingerprint(model.vocab) != dlm_vocab_fingerprint(dlm_shards_vocab(shards)))
        rc = dlm_fail(err, DLM_EDATA, "'%s' and '%s' have different vocabularies", compute.checkpoint, data);
    struct dlm_evaluation_plan plan = {.shards = shards, .split = (enum dlm_shards_split)split, .tokens = tokens, .levels = (uint32_t)levels,
                                       .seed = common.seed, .autoregressive = model.autoregressive};
    if (!rc)
        rc = choose_noise(&model, &plan.noise, err);
    if (!rc)
        rc = plan_profile(&plan, N, err);
    if (!rc)
        rc = dlm_pass_new(&pass, b, dlm_network_config(model.network), rows, N, err);
    if (!rc) {
        uint64_t all = dlm_shards_sequences(shards, plan.split) * N;
        struct dlm_progress progress;
        begin_progress(&progress, "tokens", tokens && tokens < all ? tokens : all);
        rc = dlm_evaluate(model.network, &pass, &plan, &progress, &e, err);
        dlm_progress_release(&progress);
    }
    if (!rc) {
        char noise[64] = "none";
        if (!model.autoregressive)
            dlm_noise_print(&plan.noise, noise, sizeof noise);
        if (plan.by)
            print_profile(&plan, &e, noise, out->file);
        else
            print_evaluation(&e, noise, out->file);
    }
    free(plan.profile);
    dlm_pass_release(&pass);
    dlm_restore_close(&model);
    return rc;
}

static int evaluate(struct dlm_backend *b, struct dlm_output *out, struct dlm_error *err)
{
    struct dlm_shards *shards;
    int rc = dlm_shards_open(&shards, data, err);
    if (rc)
        return rc;
    rc = evaluate_shards(b, shards, out, err);
    dlm_shards_close(shards);
    return rc;
}

/* --- texts ------------------------------------------------------------------------------------------------------------------- */

static int plan_scores(struct dlm_score_plan *p, const struct dlm_restored *model, size_t context, struct dlm_error *err)
{
    *p = (struct dlm_score_plan){.seed = common.seed, .levels = (uint32_t)levels, .target_se = target_se, .release = compat_given, .cosine = grid == 1, .length = context};
    if (model->autoregressive && (target_given || compat_given || grid_given))
        return dlm_fail(err, DLM_EUSAGE, "'%s' is autoregressive: --%s does not apply", compute.checkpoint, target_given ? "target-se" : grid_given ? "grid" : "compat");
    return choose_noise(model, &p->noise, err);
}

/* What --target-se cost. */
static void tell_cost(uint64_t texts, double mean_levels, uint64_t draws, uint64_t missed)
{
    if (common.quiet || !target_given || !texts)
        return;
    dlm_frame_say(&command, "%" PRIu64 " texts took %.4g levels each, %" PRIu64 " model calls of one sequence in all", texts, mean_levels, draws);
    if (missed)
        dlm_frame_say(&command, "%" PRIu64 " of them are not down to a standard error of %g at %" PRIu64 " levels", missed, target_se, levels);
}

static void tell_bad(const char *name, uint64_t bad, uint64_t good, const struct dlm_error *first)
{
    if (bad && !common.quiet)
        dlm_frame_say(&command, "%s%s%" PRIu64 " of %" PRIu64 " items skipped; the first: %s", name, *name ? ": " : "", bad, bad + good, first->msg);
}

static int score_lines(struct dlm_backend *b, const struct dlm_restored *model, const struct dlm_score_plan *plan, const char *input, struct dlm_output *out,
                       struct dlm_error *err)
{
    struct dlm_item_reader reader = {0};
    struct dlm_scorer *scorer = NULL;
    struct dlm_filter_count count;
    int rc = dlm_item_reader_init(&reader, model->vocab, plan->length, plan->release, err);
    if (!rc)
        rc = dlm_scorer_new(&scorer, b, model->network, plan, err);
    if (!rc) {
        struct dlm_progress progress;
        begin_progress(&progress, "texts", 0);
        const struct dlm_filter f = {.input = input, .scorer = scorer, .reader = &reader, .out = out, .progress = &progress, .skip_bad = skip_bad};
        rc = dlm_filter_run(&f, target_se, &count, err);
        dlm_progress_release(&progress);
    }
    if (!rc) {
        tell_bad("", count.bad, count.items, &count.first_bad);
        tell_cost(count.items, count.levels / (double)count.items, count.draws, count.missed);
    }
    dlm_scorer_free(scorer);
    dlm_item_reader_release(&reader);
    return rc;
}

static void print_task(const struct dlm_task_result *r, FILE *to)
{
    for (size_t m = 0; m < r->metrics; m++) {
        fprintf(to, "%s\t%s\t%s", compute.checkpoint, r->name, r->metric[m].name);
        print_real(to, "\t", r->metric[m].value);
        print_real(to, "\t", r->metric[m].se);
        fprintf(to, "\t%" PRIu64, r->n);
        print_real(to, "\t", r->levels);
        fprintf(to, "\t%" PRIu64 "\n", common.seed);
    }
}

static int run_tasks(struct dlm_backend *b, const struct dlm_restored *model, const struct dlm_score_plan *score_plan, struct dlm_output *out,
                     struct dlm_error *err)
{
    struct dlm_shots shots = {0};
    struct dlm_output details = {0};
    struct dlm_judge judge = {.command = judge_command, .seconds = judge_time, .memory = judge_memory, .loud = common.verbose};
    int rc = shots_path ? dlm_shots_read(&shots, shots_path, n_shots, common.seed, err) : 0;
    if (!rc && details_path)
        rc = dlm_output_open(&details, details_path, err);
    if (!rc)
        fputs("checkpoint\ttask\tmetric\tvalue\tse\tn\tlevels\tseed\n", out->file);
    for (size_t i = 0; i < tasks.n && !rc; i++) {
        struct dlm_task_result result;
        struct dlm_progress progress;
        begin_progress(&progress, "items", limit);
        const struct dlm_task_plan plan = {
            .path = tasks.at[i], .limit = limit, .skip_bad = skip_bad, .score = *score_plan, .max_tokens = max_tokens, .block = block, .steps = (uint32_t)steps,
            .seed = common.seed, .shots = shots_path ? &shots : NULL,
            .judge = judge_command ? &judge : NULL, .details = details_path ? &details : NULL, .progress = &progress,
        };
        rc = dlm_task_run(&plan, b, model, &result, err);
        dlm_progress_release(&progress);
        if (rc)
            break;
        print_task(&result, out->file);
        fflush(out->file);
        tell_bad(result.name, result.bad, result.n, &result.first_bad);
        tell_cost(result.scored, result.levels, result.draws, result.missed);
        if (result.late && !common.quiet)
            dlm_frame_say(&command, "%s: the judge was stopped after %g s for %" PRIu64 " items", result.name, judge_time, result.late);
    }
    if (!rc && details_path)
        rc = dlm_output_commit(&details, err);
    dlm_shots_release(&shots);
    return rc;
}

/* Whatever takes texts: one network of the context's length, whose calls hold one item. */
static int read_texts(enum mode mode, struct dlm_backend *b, const char *input, struct dlm_output *out, struct dlm_error *err)
{
    struct dlm_restored model;
    struct dlm_config config;
    struct dlm_score_plan plan;
    int rc = dlm_checkpoint_config(compute.checkpoint, &config, err);
    if (rc)
        return rc;
    const size_t context = length ? length : config.context;
    if (context > config.context)
        return dlm_fail(err, DLM_EUSAGE, "--length %" PRIu64 " is more than the context of '%s', %zu", length, compute.checkpoint, config.context);
    const size_t rows = mode == TASK ? dlm_task_batch(context, config.causal) : config.causal ? 1 : dlm_score_batch(context);
    const struct dlm_network_plan shape = {.batch = rows, .seq_len = context, .act = dlm_device_dtype(b, compute.dtype, false), .head_rows = dlm_score_head_rows()};
    rc = dlm_restore_open(&model, compute.checkpoint, b, &shape, true, err);
    if (rc)
        return rc;
    rc = plan_scores(&plan, &model, context, err);
    if (!rc)
        rc = mode == TASK ? run_tasks(b, &model, &plan, out, err) : score_lines(b, &model, &plan, input, out, err);
    dlm_restore_close(&model);
    return rc;
}

/* --- ids --------------------------------------------------------------------------------------------------------------------- */

static int inspect(struct dlm_backend *b, const char *input, struct dlm_output *out, struct dlm_error *err)
{
    struct dlm_restored model;
    const struct dlm_network_plan shape = {.batch = 1, .act = dlm_device_dtype(b, compute.dtype, false)};
    int rc = dlm_restore_open(&model, compute.checkpoint, b, &shape, false, err);
    if (rc)
        return rc;
    struct dlm_inspection job = {.what = logits ? DLM_INSPECT_LOGITS : DLM_INSPECT_LOSS, .backend = b, .model = &model, .input = input, .out = out};
    rc = choose_noise(&model, &job.noise, err);
    if (!rc)
        rc = dlm_inspect(&job, err);
    dlm_restore_close(&model);
    return rc;
}

/* --- the request ------------------------------------------------------------------------------------------------------------- */

static enum mode asked_for(void)
{
    const struct {
        bool given;
        enum mode mode;
        const char *name;
    } asked[] = {{tasks.n, TASK, "--task"}, {score, SCORE, "--score"}, {logits, LOGITS, "--logits"}, {loss, LOSS, "--loss"}};
    enum mode mode = 0;
    const char *name = NULL;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        if (asked[i].given && mode)
            dlm_frame_misuse(&command, "%s and %s exclude each other", name, asked[i].name);
        if (asked[i].given) {
            mode = asked[i].mode;
            name = asked[i].name;
        }
    }
    if (mode && data)
        dlm_frame_misuse(&command, "--data does not apply to %s", name);
    if (!mode && !data)
        dlm_frame_misuse(&command, "-d DIR is missing, or --task, --score, --logits or --loss");
    return mode ? mode : HELD_OUT;
}

/* The one thing that is asked for, and the options that mean nothing to it. */
static enum mode check_request(int operands, char **operand)
{
    if (!compute.checkpoint)
        dlm_frame_misuse(&command, "-c CKPT is missing");
    const enum mode mode = asked_for();
    const char *name = mode == HELD_OUT ? "--data" : mode == TASK ? "--task" : mode == SCORE ? "--score" : mode == LOGITS ? "--logits" : "--loss";
    if (operands && mode & (HELD_OUT | TASK))
        dlm_frame_misuse(&command, "operand '%s': files are read with --score, --logits or --loss", operand[0]);
    if (operands > 1)
        dlm_frame_misuse(&command, "operand '%s': %s reads one file", operand[1], name);
    const struct {
        bool given;
        const char *option;
        int modes;
    } idle[] = {
        {split_given, "--split", HELD_OUT},
        {tokens_given, "--tokens", HELD_OUT},
        {by_given, "--by", HELD_OUT},
        {bins_given, "--bins", HELD_OUT},
        {levels_given, "--levels", HELD_OUT | TASK | SCORE},
        {target_given, "--target-se", TASK | SCORE},
        {grid_given, "--grid", TASK | SCORE},
        {noise_text, "--noise", HELD_OUT | TASK | SCORE | LOSS},
        {length_given, "--length", TASK | SCORE},
        {compat_given, "--compat", TASK | SCORE},
        {skip_bad, "--skip-bad", TASK | SCORE},
        {limit_given, "--limit", TASK},
        {details_path, "--details", TASK},
        {shots_path, "--shots", TASK},
        {shots_given, "--n-shots", TASK},
        {tokens_max_given, "--max-tokens", TASK},
        {steps_given, "--steps", TASK},
        {block_given, "--block", TASK},
        {judge_command, "--judge", TASK},
        {time_given, "--judge-time", TASK},
        {memory_given, "--judge-memory", TASK},
    };
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (idle[i].given && !(idle[i].modes & mode))
            dlm_frame_misuse(&command, "%s does not apply to %s", idle[i].option, name);
    if (bins_given && !by_given)
        dlm_frame_misuse(&command, "--bins goes with --by");
    if (!shots_path != !shots_given)
        dlm_frame_misuse(&command, "--shots and --n-shots go together");
    if ((time_given || memory_given) && !judge_command)
        dlm_frame_misuse(&command, "--judge-%s goes with --judge", time_given ? "time" : "memory");
    if (grid_given && compat_given)
        dlm_frame_misuse(&command, "--grid and --compat exclude each other: the released code's levels are a fixed grid");
    if (target_given && compat_given)
        dlm_frame_misuse(&command, "--target-se and --compat exclude each other: the released code's levels are a fixed grid");
    if (!levels_given)
        levels = mode == HELD_OUT ? LEVELS_HELD_OUT : target_given ? LEVELS_TARGET : LEVELS_TEXT;
    return mode;
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    const enum mode mode = check_request(argc - first, argv + first);
    const char *input = first < argc ? argv[first] : NULL;
    struct dlm_backend b = {0};
    struct dlm_output out = {0};
    int rc = dlm_output_open(&out, common.output, &err);
    if (!rc)
        rc = dlm_device_open(&b, compute.device, (int)common.threads, &err);
    if (b.fallback && !common.quiet)
        dlm_frame_say(&command, "%s", b.fallback);
    if (!rc)
        rc = mode == HELD_OUT ? evaluate(&b, &out, &err) : mode & (LOGITS | LOSS) ? inspect(&b, input, &out, &err) : read_texts(mode, &b, input, &out, &err);
    dlm_device_close(&b);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    if ((rc = dlm_output_commit(&out, &err)))
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
