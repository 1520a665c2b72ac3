/* Configurations as trainers read them; see recipe.h. The names of options are those of Megatron-LM's megatron/training/arguments.py
 * and of DeepSpeed's configuration JSON. Learning rates are method.md §4's: matrices η/d, all else 0.02·η. */
#include "law/recipe.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define COOLDOWN .2
#define BETA1    .9

static double beta2(const struct dlm_configuration *c)
{
    return c->batch >= 256 ? .98 : .99;
}

static double epsilon(const struct dlm_configuration *c)
{
    return 1e-8 / ((double)c->shape.width * (double)c->shape.layers);
}

/* --- TSV ------------------------------------------------------------------------------------------------------------------------- */

struct row {
    FILE *f;
    bool header, first;
};

static void text(struct row *r, const char *column, const char *value)
{
    fprintf(r->f, "%s%s", r->first ? "" : "\t", r->header ? column : value);
    r->first = false;
}

static void real(struct row *r, const char *column, double value, int digits)
{
    char to[40];
    snprintf(to, sizeof to, "%.*g", digits, value);
    text(r, column, isfinite(value) ? to : "NA");
}

static void whole(struct row *r, const char *column, uint64_t value)
{
    char to[40];
    snprintf(to, sizeof to, "%" PRIu64, value);
    text(r, column, value ? to : "NA");
}

static void interval(struct row *r, const char *column, const char *lo, const char *hi, const struct dlm_prediction *p)
{
    real(r, column, p->value, 6);
    real(r, lo, p->lo, 5);
    real(r, hi, p->hi, 5);
}

/* One row, or the header: the same calls in the same order. */
static void row(FILE *f, const struct dlm_configuration *c, bool header)
{
    struct row r = {f, header, true};
    text(&r, "noise", c->noise);
    real(&r, "budget", c->budget, 9);
    whole(&r, "layers", c->shape.layers);
    whole(&r, "width", c->shape.width);
    whole(&r, "heads", c->shape.heads);
    real(&r, "params", c->shape.params, 12);
    real(&r, "params_embedding", c->shape.embedding, 12);
    whole(&r, "vocab_size", c->vocab_size);
    whole(&r, "seq_len", c->seq_len);
    whole(&r, "batch", c->batch);
    real(&r, "batch_tok", c->batch ? (double)c->batch * (double)c->seq_len : NAN, 12);
    whole(&r, "steps", c->steps);
    whole(&r, "warmup", c->warmup);
    real(&r, "cooldown", COOLDOWN, 3);
    real(&r, "lr", c->lr, 4);
    real(&r, "tokens", c->tokens, 12);
    real(&r, "flops_tok", c->shape.flops_tok, 9);
    real(&r, "flops", c->flops, 6);
    real(&r, "flops_6p", c->flops_6p, 6);
    real(&r, "flops_head", c->flops_head, 6);
    interval(&r, "loss", "loss_lo", "loss_hi", &c->loss);
    real(&r, "loss_annealed", c->annealed.value, 6);
    whole(&r, "devices", c->devices);
    whole(&r, "micro_batch", c->micro_batch);
    real(&r, "device_hours", c->device_hours, 4);
    real(&r, "hours", c->seconds / 3600, 4);
    real(&r, "memory_weights", c->weights, 12);
    real(&r, "memory_gradients", c->gradients, 12);
    real(&r, "memory_optimizer", c->moments, 12);
    real(&r, "memory_states", c->weights + c->gradients + c->moments, 12);
    text(&r, "precision", "f32");
    real(&r, "unique_tokens", c->unique, 9);
    real(&r, "epochs", c->epochs > 0 ? c->epochs : NAN, 4);
    real(&r, "tokens_worth", c->worth, 6);
    text(&r, "repeats", *c->assumes ? c->assumes : "NA");
    interval(&r, "law_flops_tok", "law_flops_tok_lo", "law_flops_tok_hi", &c->law[DLM_Q_SIZE]);
    interval(&r, "law_tokens", "law_tokens_lo", "law_tokens_hi", &c->law[DLM_Q_TOKENS]);
    interval(&r, "law_batch_tok", "law_batch_tok_lo", "law_batch_tok_hi", &c->law[DLM_Q_BATCH]);
    text(&r, "compute", c->by_params ? "6*P*D" : "M*D");
    text(&r, "group", c->group);
    fputc('\n', f);
}

/* --- command lines --------------------------------------------------------------------------------------------------------------- */

/* Only what no shell reads as its own. */
static bool plain(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:,@=+-") == strlen(s) && *s != '-';
}

static int put_dlm(FILE *f, const struct dlm_configuration *c, struct dlm_notes *notes, struct dlm_error *err)
{
    int rc = 0;
    fputs("dlm-train", f);
    if (c->autoregressive)
        fputs(" --objective ar", f);
    else if (!strcmp(c->noise, "NA"))
        rc = dlm_notes_add(notes, err, "%s: its laws do not name a noise type: add --noise", c->group);
    else
        fprintf(f, " --noise %s", c->noise);
    fprintf(f, " --width %" PRIu64 " --layers %" PRIu64 " --heads %" PRIu64, c->shape.width, c->shape.layers, c->shape.heads);
    if (c->steps)
        fprintf(f, " --batch %" PRIu64 " --steps %" PRIu64 " --warmup %" PRIu64, c->batch, c->steps, c->warmup);
    else
        fprintf(f, " --tokens %.0f", c->tokens);
    if (!isnan(c->lr))
        fprintf(f, " --lr %.4g", c->lr);
    fprintf(f, " --schedule wsd --cooldown %g", COOLDOWN);
    if (c->tokens > c->unique)
        fprintf(f, " --unique-tokens %.0f", c->unique);
    fprintf(f, " --run %s-%g\n", c->autoregressive ? "ar" : strcmp(c->noise, "NA") ? c->noise : "run", c->budget);
    if (!rc)
        rc = dlm_notes_add(notes, err, "add -d DATA -o CKPT; the data must have sequences of %" PRIu64 " tokens (dlm-shard -n)",
                           c->seq_len);
    return rc;
}

/* `uniform, 1e+20 FLOPs; by the laws: loss 2.838, 744 sequences a step` */
static void headline(const struct dlm_configuration *c, char to[256])
{
    char loss[32] = "NA", batch[32] = "NA";
    const double sequences = c->law[DLM_Q_BATCH].value / (double)c->seq_len;
    if (isfinite(c->loss.value))
        snprintf(loss, sizeof loss, "%.4g", c->loss.value);
    if (isfinite(sequences))
        snprintf(batch, sizeof batch, "%.4g", sequences);
    snprintf(to, 256, "%.120s, %g FLOPs; by the laws: loss %s, %s sequences a step", c->group, c->budget, loss, batch);
}

/* What other trainers' networks and optimizers lack for this one; sentences of their own. */
static const char *const lacks[] = {
    "what follows sets up size, batch, schedule and optimizer alone; for diffusion this trainer has no",
    "- noise: z drawn from q(z|x), the levels, prompts and empty tokens of each example",
    "- loss: KL + Itakura-Saito with its weight over the noisy tokens (its cross-entropy of the next token is another objective)",
    "- attention rule: both directions, noisy tokens see all, a clean prefix sees itself alone; a learned sink; scores capped at 30",
    "- LaProp: Adam divides after the momentum, so the laws' learning rates are a first guess for it",
    "- rates by group: matrices take lr (already over the width), embeddings and head, norms and biases 0.02 of the law's",
    "- residual factor 4/layers, logits times 512/width, a head that begins at 0",
};
enum { LACKS = sizeof lacks / sizeof *lacks };

static void put_megatron(FILE *f, const struct dlm_configuration *c)
{
    const double d = (double)c->shape.width, N = (double)c->seq_len;
    char line[256];
    headline(c, line);
    fprintf(f, "# Megatron-LM, GPT model: %s\n", line);
    for (int i = 0; i < LACKS; i++)
        fprintf(f, "# %s\n", lacks[i]);
    fputs("# - biases in the MLP alone: here all linear layers go without\n", f);
    if (c->tokens > c->unique)
        fprintf(f, "# the data must hold %.0f tokens and be repeated %.3g times\n", c->unique, c->epochs);
    fprintf(f,
            "--num-layers %" PRIu64 " --hidden-size %" PRIu64 " --ffn-hidden-size %" PRIu64 " --num-attention-heads %" PRIu64
            " --kv-channels %" PRIu64 " --seq-length %" PRIu64 " --max-position-embeddings %" PRIu64,
            c->shape.layers, c->shape.width, 4 * c->shape.width, c->shape.heads, c->shape.width / c->shape.heads, c->seq_len,
            c->seq_len);
    fprintf(f,
            " --position-embedding-type rope --rotary-base 10000 --normalization RMSNorm --norm-epsilon 1e-6 --apply-layernorm-1p"
            " --qk-layernorm --squared-relu --disable-bias-linear --untie-embeddings-and-output-weights"
            " --attention-dropout 0 --hidden-dropout 0 --init-method-std %.6g --embedding-init-method-std 0.02",
            .4 / sqrt(d));
    if (c->steps)
        fprintf(f,
                " --micro-batch-size %" PRIu64 " --global-batch-size %" PRIu64 " --train-iters %" PRIu64 " --lr-warmup-iters %" PRIu64
                " --lr-decay-style WSD --lr-wsd-decay-style minus_sqrt --lr-wsd-decay-iters %.0f",
                c->micro_batch, c->batch, c->steps, c->warmup, COOLDOWN * (double)c->steps);
    else
        fprintf(f, " --train-samples %.0f", c->tokens / N);
    if (!isnan(c->lr))
        fprintf(f, " --lr %.5g --min-lr 0 --decoupled-lr %.5g --decoupled-min-lr 0", c->lr / d, .02 * c->lr);
    fprintf(f, " --optimizer adam --adam-beta1 %g --adam-beta2 %g --adam-eps %.4g --weight-decay 0 --clip-grad 0 --bf16\n", BETA1,
            beta2(c), epsilon(c));
}

static void put_json_text(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 32)
            fprintf(f, "\\u%04x", *s);
        else
            fputc(*s, f);
    fputc('"', f);
}

/* DeepSpeed reads the keys it knows; `comment` and `arguments` are for the person and the training script. */
static void put_deepspeed(FILE *f, const struct dlm_configuration *c)
{
    char line[512];
    fputs("{\n  \"comment\": [\n    ", f);
    headline(c, line);
    put_json_text(f, line);
    for (int i = 0; i < LACKS; i++) {
        fputs(",\n    ", f);
        put_json_text(f, lacks[i]);
    }
    fputs(",\n    ", f);
    put_json_text(f, "- cool-down by 1-sqrt over the last fifth: WarmupLR stays constant, which is what the laws were fitted on");
    fputs("\n  ],\n", f);
    if (c->batch)
        fprintf(f,
                "  \"train_batch_size\": %" PRIu64 ",\n  \"train_micro_batch_size_per_gpu\": %" PRIu64
                ",\n  \"gradient_accumulation_steps\": %" PRIu64 ",\n",
                c->batch, c->micro_batch, c->batch / (c->micro_batch * c->devices));
    fputs("  \"gradient_clipping\": 0.0,\n  \"bf16\": {\"enabled\": true},\n  \"zero_optimization\": {\"stage\": 1},\n", f);
    fprintf(f, "  \"optimizer\": {\"type\": \"AdamW\", \"params\": {");
    if (!isnan(c->lr))
        fprintf(f, "\"lr\": %.5g, ", c->lr / (double)c->shape.width);
    fprintf(f, "\"betas\": [%g, %g], \"eps\": %.4g, \"weight_decay\": 0}},\n", BETA1, beta2(c), epsilon(c));
    if (!isnan(c->lr) && c->steps)
        fprintf(f,
                "  \"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_min_lr\": 0, \"warmup_max_lr\": %.5g, "
                "\"warmup_num_steps\": %" PRIu64 ", \"warmup_type\": \"linear\"}},\n",
                c->lr / (double)c->shape.width, c->warmup);
    snprintf(line, sizeof line,
             "--deepspeed --deepspeed_config FILE --num-layers %" PRIu64 " --hidden-size %" PRIu64 " --num-attention-heads %" PRIu64
             " --seq-length %" PRIu64 " --max-position-embeddings %" PRIu64,
             c->shape.layers, c->shape.width, c->shape.heads, c->seq_len, c->seq_len);
    if (c->steps)
        snprintf(line + strlen(line), sizeof line - strlen(line), " --train-iters %" PRIu64, c->steps);
    fputs("  \"arguments\": ", f);
    put_json_text(f, line);
    fputs("\n}\n", f);
}

int dlm_recipe_write(const struct dlm_configurations *c, enum dlm_recipe as, FILE *f, const char *name, struct dlm_notes *notes,
                     struct dlm_error *err)
{
    int rc = 0;
    errno = 0;
    if (as == DLM_RECIPE_DEEPSPEED && c->n != 1)
        return dlm_fail(err, DLM_EUSAGE, "--format deepspeed prints one plan, not %zu: choose it with --noise and one budget", c->n);
    for (size_t i = 0; i < c->n && as == DLM_RECIPE_DLM; i++) /* before anything is written */
        if (!plain(c->at[i].noise))
            return dlm_fail(err, DLM_EDATA, "the noise type '%.60s' cannot stand on a command line", c->at[i].noise);
    if (as == DLM_RECIPE_TSV)
        row(f, &c->at[0], true);
    for (size_t i = 0; i < c->n && !rc; i++)
        switch (as) {
        case DLM_RECIPE_TSV: row(f, &c->at[i], false); break;
        case DLM_RECIPE_DLM: rc = put_dlm(f, &c->at[i], notes, err); break;
        case DLM_RECIPE_MEGATRON: put_megatron(f, &c->at[i]); break;
        case DLM_RECIPE_DEEPSPEED: put_deepspeed(f, &c->at[i]); break;
        }
    if (!rc && ferror(f))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name);
    return rc;
}
