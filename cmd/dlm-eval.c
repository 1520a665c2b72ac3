/* dlm-eval: held-out likelihood of a checkpoint. */
#include "frame.h"

#include "base/output.h"
#include "base/progress.h"
#include "metric/metric.h"
#include "run/device.h"
#include "run/evaluate.h"
#include "run/restore.h"

#include <inttypes.h>
#include <math.h>

static struct dlm_common common;
static struct dlm_compute_options compute;
static const char *data, *noise_text;
static int split = DLM_SPLIT_VAL;
static uint64_t tokens, levels = 4, batch;

/* clang-format off */
static const struct dlm_option options[] = {
    {"data",      'd', DLM_OPT_TEXT,   "DIR",  "shard set to evaluate on", &data, 0, 0, NULL, NULL},
    {"split",     0,   DLM_OPT_CHOICE, "NAME", "train or val (val)", &split, 0, 0, "train|val", NULL},
    {"tokens",    0,   DLM_OPT_COUNT,  "N",    "at most so many, rounded up to whole sequences (all)", &tokens, 1, 1e18, NULL, NULL},
    {"levels",    0,   DLM_OPT_COUNT,  "K",    "noise levels a sequence (4)", &levels, 1, 1e6, NULL, NULL},
    {"noise",     0,   DLM_OPT_TEXT,   "TYPE", "corrupt with this type (the checkpoint's)", &noise_text, 0, 0, NULL, NULL},
    {"batch",     0,   DLM_OPT_COUNT,  "N",    "bounds memory; no result depends on it: model calls have one fixed shape", &batch, 1, 1e9, NULL, NULL},
    {"task",      0,   DLM_OPT_LATER,  "FILE", "", NULL, 0, 0, NULL, NULL},
    {"score",     0,   DLM_OPT_LATER,  NULL,   "", NULL, 0, 0, NULL, NULL},
    {"logits",    0,   DLM_OPT_LATER,  NULL,   "", NULL, 0, 0, NULL, NULL},
    {"loss",      0,   DLM_OPT_LATER,  NULL,   "", NULL, 0, 0, NULL, NULL},
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
    .synopsis = "-c CKPT -d DIR [--split val] [--tokens N] [--levels K] [option...]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_device_libraries,
};

static int evaluate(struct dlm_backend *b, struct dlm_shards *shards, struct dlm_evaluation *e, char *noise_name, unsigned size, struct dlm_error *err)
{
    struct dlm_restored model;
    struct dlm_pass pass = {0};
    size_t N = dlm_shards_seq_len(shards), rows = dlm_evaluation_batch(N);
    int rc = dlm_restore_open(&model, compute.checkpoint, b, rows, N, dlm_device_dtype(b, compute.dtype, false), true, err);
    if (rc)
        return rc;
    if (dlm_vocab_fingerprint(model.vocab) != dlm_vocab_fingerprint(dlm_shards_vocab(shards)))
        rc = dlm_fail(err, DLM_EDATA, "'%s' and '%s' have different vocabularies", compute.checkpoint, data);
    struct dlm_evaluation_plan plan = {.shards = shards, .split = (enum dlm_split)split, .tokens = tokens, .levels = (uint32_t)levels,
                                       .seed = common.seed, .noise = model.noise, .autoregressive = model.autoregressive};
    if (!rc && noise_text) {
        if (model.autoregressive)
            rc = dlm_fail(err, DLM_EUSAGE, "--noise does not apply to an autoregressive checkpoint");
        else
            rc = dlm_noise_parse(&plan.noise, noise_text, err);
    }
    if (!rc)
        rc = dlm_pass_new(&pass, b, dlm_network_config(model.network), rows, N, err);
    if (!rc) {
        uint64_t all = dlm_shards_sequences(shards, plan.split) * N;
        struct dlm_progress progress;
        dlm_progress_init(&progress, command.name, "tokens", tokens && tokens < all ? tokens : all, 0,
                          common.quiet ? DLM_PROGRESS_NEVER : (enum dlm_progress_mode)common.progress);
        rc = dlm_evaluate(model.network, &pass, &plan, &progress, e, err);
        dlm_progress_release(&progress);
        if (model.autoregressive)
            snprintf(noise_name, size, "none");
        else
            dlm_noise_print(&plan.noise, noise_name, size);
    }
    dlm_pass_release(&pass);
    dlm_restore_close(&model);
    return rc;
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    if (first < argc)
        dlm_frame_misuse(&command, "operand '%s': dlm-eval takes none in this version", argv[first]);
    if (!compute.checkpoint)
        dlm_frame_misuse(&command, "-c CKPT is missing");
    if (!data)
        dlm_frame_misuse(&command, "-d DIR is missing");
    struct dlm_backend b = {0};
    struct dlm_shards *shards = NULL;
    struct dlm_output out = {0};
    struct dlm_evaluation e;
    char noise_name[64];
    int rc = dlm_output_open(&out, common.output, &err);
    if (!rc)
        rc = dlm_shards_open(&shards, data, &err);
    if (!rc)
        rc = dlm_device_open(&b, compute.device, (int)common.threads, &err);
    if (!rc)
        rc = evaluate(&b, shards, &e, noise_name, sizeof noise_name, &err);
    dlm_device_close(&b);
    dlm_shards_close(shards);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    fputs("checkpoint\tnoise\tsplit\ttokens\tbytes\telbo\telbo_se\tbpb\tppl\tlevels\tseed\n", out.file);
    fprintf(out.file, "%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%.9g\t", compute.checkpoint, noise_name, split == DLM_SPLIT_VAL ? "val" : "train", e.tokens,
            e.bytes, e.elbo);
    fprintf(out.file, isnan(e.elbo_se) ? "NA\t" : "%.9g\t", e.elbo_se);
    fprintf(out.file, isnan(e.bpb) ? "NA\t" : "%.9g\t", e.bpb);
    fprintf(out.file, "%.9g\t%" PRIu32 "\t%" PRIu64 "\n", e.ppl, e.levels, common.seed);
    if ((rc = dlm_output_commit(&out, &err)))
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
