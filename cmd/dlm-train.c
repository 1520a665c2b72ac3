/* dlm-train: pretraining for every noise type and the autoregressive baseline. */
#include "frame.h"

#include "base/output.h"
#include "run/device.h"
#include "run/plan.h"
#include "run/schedule.h"
#include "run/train.h"

#include <string.h>

static struct dlm_common common;
static struct dlm_compute_options compute;
static struct dlm_train_job job;
static struct dlm_given given;
static bool resume_given, go_on, plan;
static uint64_t seq_len, processes, device_memory;
static int compat;
static bool compat_given;
static const char *resume;

#define S(field) &job.settings.field
#define G(field) &given.field

/* clang-format off */
static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "Run:", NULL, 0, 0, NULL, NULL},
    {"data",          'd', DLM_OPT_TEXT,   "DIR",     "shard set made by dlm-shard", S(data), 0, 0, NULL, G(data)},
    {"resume",        0,   DLM_OPT_TEXT,   "CKPT",    "go on exactly where this checkpoint stands", &resume, 0, 0, NULL, &resume_given},
    {"continue",      0,   DLM_OPT_FLAG,   NULL,      "resume where -o exists, start otherwise", &go_on, 0, 0, NULL, NULL},
    {"init",          0,   DLM_OPT_TEXT,   "CKPT0",   "start from the weights of a checkpoint", S(init), 0, 0, NULL, G(init)},
    {"plan",          0,   DLM_OPT_FLAG,   NULL,      "print parameters, FLOPs, memory and time as TSV, and exit", &plan, 0, 0, NULL, NULL},
    {"run",           0,   DLM_OPT_TEXT,   "NAME",    "name of the run in its rows (the last part of -o)", S(run), 0, 0, NULL, G(run)},
    {"metrics",       0,   DLM_OPT_TEXT,   "FILE",    "write the rows there instead of standard output", &job.metrics, 0, 0, NULL, NULL},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Model:", NULL, 0, 0, NULL, NULL},
    {"model",         0,   DLM_OPT_TEXT,   "LABEL",   "a shape by its label, such as L8-D512", &job.preset, 0, 0, NULL, NULL},
    {"width",         0,   DLM_OPT_COUNT,  "D",       "width", S(width), 1, 1e6, NULL, G(width)},
    {"layers",        0,   DLM_OPT_COUNT,  "L",       "layers", S(layers), 1, 1e4, NULL, G(layers)},
    {"heads",         0,   DLM_OPT_COUNT,  "H",       "heads (width / 64)", S(heads), 1, 1e4, NULL, G(heads)},
    {"mlp",           0,   DLM_OPT_COUNT,  "M",       "width of the MLP (4 times the width)", S(mlp), 1, 1e7, NULL, G(mlp)},
    {"vocab-size",    0,   DLM_OPT_COUNT,  "V",       "ids (the data's)", S(vocab_size), 2, 4294967294.0, NULL, G(vocab_size)},
    {"seq-len",       0,   DLM_OPT_COUNT,  "N",       "with --plan and no --data: tokens in a sequence", &seq_len, 1, 1e9, NULL, NULL},
    {"processes",     0,   DLM_OPT_COUNT,  "P",       "with --plan: processes that share the work (1)", &processes, 1, 65536, NULL, NULL},
    {"device-memory", 0,   DLM_OPT_COUNT,  "BYTES",   "with --plan: what a device has, to plan for that (what is free here)", &device_memory, 1, 1e18, NULL, NULL},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Noise:", NULL, 0, 0, NULL, NULL},
    {"noise",         0,   DLM_OPT_TEXT,   "TYPE",    "masked, low-uniform, balanced, high-uniform, uniform, shift:B[,A], mix:R, or FROM..TO@P0:P1", S(noise), 0, 0, NULL, G(noise)},
    {"objective",     0,   DLM_OPT_CHOICE, "NAME",    "diffusion, or ar: the autoregressive baseline (diffusion)", S(objective), 0, 0, "diffusion|ar", G(objective)},
    {"compat",        0,   DLM_OPT_CHOICE, "WHICH",   "where paper and released code differ, as one of them: sets the four marked *", &compat, 0, 0, "paper|release", &compat_given},
    {"p-independent", 0,   DLM_OPT_REAL,   "P",       "share of sequences with a noise level per token (0.5) *", S(p_independent), 0, 1, NULL, G(p_independent)},
    {"p-prompt",      0,   DLM_OPT_REAL,   "P",       "share of sequences with a clean prefix (0.2)", S(p_prompt), 0, 1, NULL, G(p_prompt)},
    {"max-empty",     0,   DLM_OPT_REAL,   "P",       "largest share of pads put into a sequence (0.2) *", S(max_empty), 0, 1, NULL, G(max_empty)},
    {"prompt-density",0,   DLM_OPT_CHOICE, "HOW",     "how long clean prefixes are: by the release's density or the paper's (release) *", S(prompt_density), 0, 0, "release|paper", G(prompt_density)},
    {"uniform-draw",  0,   DLM_OPT_CHOICE, "HOW",     "uniform noise draws from the ids unmasked, or from any, the mask too (unmasked) *", S(uniform_draw), 0, 0, "unmasked|any", G(uniform_draw)},
    {"levels-drawn",  0,   DLM_OPT_CHOICE, "HOW",     "noise levels stratified or independent (stratified)", S(levels_drawn), 0, 0, "stratified|independent", G(levels_drawn)},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Length and batch:", NULL, 0, 0, NULL, NULL},
    {"batch",         'b', DLM_OPT_COUNT,  "B",       "sequences a step (64)", S(batch), 1, 1e9, NULL, G(batch)},
    {"micro-batch",   0,   DLM_OPT_COUNT,  "B",       "sequences a pass; bounds memory (about 8192 tokens)", S(micro_batch), 1, 1e9, NULL, G(micro_batch)},
    {"recompute",     0,   DLM_OPT_CHOICE, "LEVEL",   "what backward computes again instead of keeping it: the least that fits, or so much (auto)", S(recompute), 0, 0, "auto|none|norms|mlp|layer", G(recompute)},
    {"memory",        0,   DLM_OPT_CHOICE, "STATE",   "full: weights, gradients, moments in f32; compact: in bf16, weights with 16 bits more (full)", S(memory), 0, 0, "full|compact", G(memory)},
    {"steps",         0,   DLM_OPT_COUNT,  "N",       "length of the run in steps", S(steps), 1, 1e15, NULL, G(steps)},
    {"tokens",        0,   DLM_OPT_COUNT,  "N",       "length in tokens, rounded up to whole steps", &job.tokens, 1, 1e18, NULL, NULL},
    {"flops",         0,   DLM_OPT_REAL,   "C",       "length in non-embedding FLOPs, rounded up to whole steps", &job.flops, 1, 1e40, NULL, NULL},
    {"epochs",        0,   DLM_OPT_REAL,   "E",       "allow as many passes over the data (1)", S(epochs), 1e-9, 1e9, NULL, G(epochs)},
    {"unique-tokens", 0,   DLM_OPT_COUNT,  "U",       "use only the first U tokens, as often as the run needs", S(unique_tokens), 1, 1e18, NULL, G(unique_tokens)},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Optimizer:", NULL, 0, 0, NULL, NULL},
    {"lr",            0,   DLM_OPT_REAL,   "ETA",     "learning rate; matrices use it over the width (0.5)", S(lr), 1e-12, 1e38, NULL, G(lr)},
    {"aux-lr",        0,   DLM_OPT_REAL,   "F",       "factor for embeddings, head, norms, biases (0.02)", S(aux_lr), 1e-12, 1e6, NULL, G(aux_lr)},
    {"warmup",        0,   DLM_OPT_COUNT,  "N",       "steps of linear warm-up (2000)", S(warmup), 0, 1e15, NULL, G(warmup)},
    {"schedule",      0,   DLM_OPT_CHOICE, "NAME",    "constant, wsd or cosine (constant)", S(schedule), 0, 0, "constant|wsd|cosine", G(schedule)},
    {"cooldown",      0,   DLM_OPT_REAL,   "P",       "share of the run in which wsd cools (0.2)", S(cooldown), 1e-9, 1, NULL, G(cooldown)},
    {"min-lr",        0,   DLM_OPT_REAL,   "ETA",     "wsd and cosine end there (0)", S(min_lr), 0, 1e6, NULL, G(min_lr)},
    {"optimizer",     0,   DLM_OPT_CHOICE, "NAME",    "laprop or adamw (laprop)", S(optimizer), 0, 0, "laprop|adamw", G(optimizer)},
    {"beta1",         0,   DLM_OPT_REAL,   "B",       "decay of the first moment (0.9)", S(beta1), 1e-12, 0.9999999, NULL, G(beta1)},
    {"beta2",         0,   DLM_OPT_REAL,   "B",       "decay of the second (0.99; 0.98 from batch 256)", S(beta2), 1e-12, 0.9999999, NULL, G(beta2)},
    {"eps",           0,   DLM_OPT_REAL,   "EPS",     "epsilon (1e-8 / (width * layers))", S(eps), 1e-40, 1, NULL, G(eps)},
    {"weight-decay",  0,   DLM_OPT_REAL,   "W",       "decoupled weight decay (0)", S(weight_decay), 0, 1e3, NULL, G(weight_decay)},
    {"clip",          0,   DLM_OPT_REAL,   "NORM",    "scale gradients down to this norm per token (0: off)", S(clip), 0, 1e9, NULL, G(clip)},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Rows and checkpoints:", NULL, 0, 0, NULL, NULL},
    {"log-every",     0,   DLM_OPT_COUNT,  "N",       "a training row each N steps (10)", S(log_every), 0, 1e15, NULL, G(log_every)},
    {"eval-every",    0,   DLM_OPT_COUNT,  "N",       "a validation row each N steps (only first and last)", S(eval_every), 0, 1e15, NULL, G(eval_every)},
    {"eval-tokens",   0,   DLM_OPT_COUNT,  "N",       "held-out tokens for a validation row (262144; 0: all)", S(eval_tokens), 0, 1e15, NULL, G(eval_tokens)},
    {"peak-flops",    0,   DLM_OPT_REAL,   "F",       "FLOP/s that the device could do, for the column mfu (none: NA)", S(peak_flops), 1, 1e30, NULL, G(peak_flops)},
    {"save-every",    0,   DLM_OPT_COUNT,  "N",       "a checkpoint each N steps (1000; 0: only at the end)", S(save_every), 0, 1e15, NULL, G(save_every)},
    {"keep",          0,   DLM_OPT_COUNT,  "K",       "keep the K checkpoints before the latest as CKPT.STEP (0)", S(keep), 0, 1e6, NULL, G(keep)},
    {"state-dtype",   0,   DLM_OPT_CHOICE, "TYPE",    "of the weights in checkpoints: f32 or bf16; resuming is exact with either (f32)", S(state_dtype), 0, 0, "f32|bf16", G(state_dtype)},
    {"ema",           0,   DLM_OPT_REAL,   "BETA",    "score and save the average of the weights with this decay (0: off)", S(ema), 0, 0.9999999, NULL, G(ema)},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Common:", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_DEVICE(compute),
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    .name = "dlm-train",
    .purpose = "train a discrete diffusion or autoregressive language model",
    .synopsis = "-d DIR -o CKPT --noise TYPE [model] [length] [option...] > metrics.tsv\n"
                "-d DIR -o CKPT --objective ar [model] [length] [option...] > metrics.tsv\n"
                "--continue -d DIR -o CKPT ... --metrics FILE\n"
                "--resume CKPT [option...] > more.tsv\n"
                "--plan [-d DIR] [model] [noise] [length]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_device_libraries,
};

static void say(const char *line)
{
    dlm_frame_say(&command, "%s", line);
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    dlm_settings_default(&job.settings);
    int first = dlm_frame_begin(&command, argc, argv);
    if (first < argc)
        dlm_frame_misuse(&command, "operand '%s': dlm-train takes none", argv[first]);
    int lengths = given.steps + (job.tokens > 0) + (job.flops > 0);
    if (lengths > 1)
        dlm_frame_misuse(&command, "one of --steps, --tokens and --flops, not several");
    if (resume_given && (go_on || plan))
        dlm_frame_misuse(&command, "--resume goes with neither --continue nor --plan");
    job.settings.seed = common.seed;
    given.seed = common.seed_given;
    job.settings.dtype = compute.dtype;
    given.dtype = compute.dtype != DLM_DTYPE_AUTO;
    if (compat_given)
        dlm_settings_compat(&job.settings, &given, compat);
    job.given = given;
    job.device = compute.device;
    job.threads = (int)common.threads;
    job.progress = common.quiet ? DLM_PROGRESS_NEVER : common.progress;
    job.say = common.quiet ? NULL : say;
    job.mode = resume_given ? DLM_TRAIN_RESUME : go_on ? DLM_TRAIN_CONTINUE : DLM_TRAIN_NEW;
    job.ckpt = resume_given ? resume : common.output;
    int rc;
    if (plan) {
        struct dlm_output out;
        if ((rc = dlm_output_open(&out, common.output, &err)))
            dlm_frame_fail(&command, rc, &err);
        if (!(rc = dlm_plan(&job, seq_len, processes ? (int)processes : 1, (double)device_memory, out.file, &err)))
            rc = dlm_output_commit(&out, &err);
    } else {
        if (resume_given && common.output && strcmp(common.output, resume))
            dlm_frame_misuse(&command, "--output differs from --resume, which is written to");
        if (!job.ckpt || !strcmp(job.ckpt, "-"))
            dlm_frame_misuse(&command, "-o CKPT is missing");
        if (!resume_given && !job.settings.data)
            dlm_frame_misuse(&command, "-d DIR is missing");
        if (seq_len)
            dlm_frame_misuse(&command, "--seq-len goes with --plan only");
        if (processes)
            dlm_frame_misuse(&command, "--processes goes with --plan only; mpirun or srun starts them");
        if (device_memory)
            dlm_frame_misuse(&command, "--device-memory goes with --plan only");
        rc = dlm_train(&job, &err);
    }
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
