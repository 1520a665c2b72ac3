/* dlm-eval: held-out likelihood of a checkpoint; what its network makes of given ids. */
#include "frame.h"

#include "base/output.h"
#include "base/progress.h"
#include "metric/metric.h"
#include "run/device.h"
#include "run/evaluate.h"
#include "run/inspect.h"
#include "run/restore.h"

#include <inttypes.h>
#include <math.h>

static struct dlm_common common;
static struct dlm_compute_options compute;
static const char *data, *noise_text;
static int split = DLM_SPLIT_VAL;
static uint64_t tokens, levels = 4, batch;
static bool logits, loss, split_given, tokens_given, levels_given;

/* clang-format off */
static const struct dlm_option options[] = {
    {"data",      'd', DLM_OPT_TEXT,   "DIR",  "shard set to evaluate on", &data, 0, 0, NULL, NULL},
    {"split",     0,   DLM_OPT_CHOICE, "NAME", "train or val (val)", &split, 0, 0, "train|val", &split_given},
    {"tokens",    0,   DLM_OPT_COUNT,  "N",    "at most so many, rounded up to whole sequences (all)", &tokens, 1, 1e18, NULL, &tokens_given},
    {"levels",    0,   DLM_OPT_COUNT,  "K",    "noise levels a sequence (4)", &levels, 1, 1e6, NULL, &levels_given},
    {"noise",     0,   DLM_OPT_TEXT,   "TYPE", "corrupt with this type (the checkpoint's)", &noise_text, 0, 0, NULL, NULL},
    {"batch",     0,   DLM_OPT_COUNT,  "N",    "accepted; memory is bounded and no result depends on it, as model calls have one fixed shape", &batch, 1, 1e9, NULL, NULL},
    {"task",      0,   DLM_OPT_LATER,  "FILE", "", NULL, 0, 0, NULL, NULL},
    {"score",     0,   DLM_OPT_LATER,  NULL,   "", NULL, 0, 0, NULL, NULL},
    {"logits",    0,   DLM_OPT_FLAG,   NULL,   "JSON Lines with \"ids\": add the logits of every position", &logits, 0, 0, NULL, NULL},
    {"loss",      0,   DLM_OPT_FLAG,   NULL,   "JSON Lines with \"x\", \"z\", \"log_snr\", \"noisy\": add the loss of every token", &loss, 0, 0, NULL, NULL},
    {"by",        0,   DLM_OPT_LATER,  "WHAT", "", NULL, 0, 0, NULL, NULL},
    {"limit",     0,   DLM_OPT_LATER,  "N",    "", NULL, 0, 0, NULL, NULL},
    {"details",   0,   DLM_OPT_LATER,  "PATH", "", NULL, 0, 0, NULL, NULL},
    {"compat",    0,   DLM_OPT_LATER,  "WHICH", "", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMPUTE(compute),
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    .name = "dlm-eval",
    .purpose = "held-out likelihood of a checkpoint, in nats and bits per byte, with its standard error",
    .synopsis = "-c CKPT -d DIR [--split val] [--tokens N] [--levels K] [option...]\n"
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

static void print_evaluation(const struct dlm_evaluation *e, const char *noise, FILE *to)
{
    fputs("checkpoint\tnoise\tsplit\ttokens\tbytes\telbo\telbo_se\tbpb\tppl\tlevels\tseed\n", to);
    fprintf(to, "%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%.9g\t", compute.checkpoint, noise, split == DLM_SPLIT_VAL ? "val" : "train", e->tokens, e->bytes,
            e->elbo);
    fprintf(to, isnan(e->elbo_se) ? "NA\t" : "%.9g\t", e->elbo_se);
    fprintf(to, isnan(e->bpb) ? "NA\t" : "%.9g\t", e->bpb);
    fprintf(to, "%.9g\t%" PRIu32 "\t%" PRIu64 "\n", e->ppl, e->levels, common.seed);
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
    struct dlm_evaluation_plan plan = {.shards = shards, .split = (enum dlm_split)split, .tokens = tokens, .levels = (uint32_t)levels,
                                       .seed = common.seed, .autoregressive = model.autoregressive};
    if (!rc)
        rc = choose_noise(&model, &plan.noise, err);
    if (!rc)
        rc = dlm_pass_new(&pass, b, dlm_network_config(model.network), rows, N, err);
    if (!rc) {
        uint64_t all = dlm_shards_sequences(shards, plan.split) * N;
        struct dlm_progress progress;
        dlm_progress_init(&progress, command.name, "tokens", tokens && tokens < all ? tokens : all, 0,
                          common.quiet ? DLM_PROGRESS_NEVER : (enum dlm_progress_mode)common.progress);
        rc = dlm_evaluate(model.network, &pass, &plan, &progress, &e, err);
        dlm_progress_release(&progress);
    }
    if (!rc) {
        char noise[64] = "none";
        if (!model.autoregressive)
            dlm_noise_print(&plan.noise, noise, sizeof noise);
        print_evaluation(&e, noise, out->file);
    }
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

/* The one thing that is asked for, and the options that mean nothing to it. */
static void check_request(int operands, char **operand)
{
    const char *mode = logits ? "--logits" : loss ? "--loss" : NULL;
    if (!compute.checkpoint)
        dlm_frame_misuse(&command, "-c CKPT is missing");
    if (logits && loss)
        dlm_frame_misuse(&command, "--logits and --loss exclude each other");
    if (!mode && !data)
        dlm_frame_misuse(&command, "-d DIR is missing, or --logits or --loss");
    if (!mode && operands)
        dlm_frame_misuse(&command, "operand '%s': files are read with --logits or --loss", operand[0]);
    if (!mode)
        return;
    if (operands > 1)
        dlm_frame_misuse(&command, "operand '%s': %s reads one file", operand[1], mode);
    const struct {
        bool given;
        const char *name;
    } idle[] = {{data, "--data"}, {split_given, "--split"}, {tokens_given, "--tokens"}, {levels_given, "--levels"}, {noise_text && logits, "--noise"}};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (idle[i].given)
            dlm_frame_misuse(&command, "%s does not apply to %s", idle[i].name, mode);
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    check_request(argc - first, argv + first);
    struct dlm_backend b = {0};
    struct dlm_output out = {0};
    int rc = dlm_output_open(&out, common.output, &err);
    if (!rc)
        rc = dlm_device_open(&b, compute.device, (int)common.threads, &err);
    if (!rc)
        rc = logits || loss ? inspect(&b, first < argc ? argv[first] : NULL, &out, &err) : evaluate(&b, &out, &err);
    dlm_device_close(&b);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    if ((rc = dlm_output_commit(&out, &err)))
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
