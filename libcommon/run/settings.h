/* The settings of a training run: one table gives the struct, the JSON in state.json, and what may change on resuming.
 *
 * A setting left open (0, NAN, NULL) is filled in by dlm_settings_resolve before the first step and stored filled in, so that a checkpoint says what was
 * done and a later default changes nothing.
 */
#ifndef DLM_RUN_SETTINGS_H
#define DLM_RUN_SETTINGS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* X(field, option, type, flags): type T text (owned), U whole, R real, C choice (int). */
enum { DLM_SETTING_MAY_CHANGE = 1, /* on --resume */ DLM_SETTING_LATER = 2 /* states of earlier versions lack it, which means 0 */ };
#define DLM_SETTINGS(X) \
    X(data, "data", T, 1) X(run, "run", T, 0) X(width, "width", U, 0) X(layers, "layers", U, 0) X(heads, "heads", U, 0) X(mlp, "mlp", U, 0) \
    X(vocab_size, "vocab-size", U, 0) X(noise, "noise", T, 0) X(objective, "objective", C, 0) X(p_independent, "p-independent", R, 0) \
    X(p_prompt, "p-prompt", R, 0) X(max_empty, "max-empty", R, 0) X(levels_drawn, "levels-drawn", C, 0) X(batch, "batch", U, 0) \
    X(micro_batch, "micro-batch", U, 1) X(steps, "steps", U, 1) X(epochs, "epochs", R, 0) X(unique_tokens, "unique-tokens", U, 0) X(lr, "lr", R, 0) \
    X(aux_lr, "aux-lr", R, 0) X(warmup, "warmup", U, 0) X(schedule, "schedule", C, 0) X(cooldown, "cooldown", R, 0) X(min_lr, "min-lr", R, 0) \
    X(optimizer, "optimizer", C, 0) X(beta1, "beta1", R, 0) X(beta2, "beta2", R, 0) X(eps, "eps", R, 0) X(weight_decay, "weight-decay", R, 0) \
    X(clip, "clip", R, 0) X(eval_every, "eval-every", U, 0) X(eval_tokens, "eval-tokens", U, 0) X(log_every, "log-every", U, 0) \
    X(save_every, "save-every", U, 1) X(keep, "keep", U, 1) X(seed, "seed", U, 0) X(dtype, "dtype", C, 0) X(init, "init", T, 0) \
    X(prompt_density, "prompt-density", C, 2) X(uniform_draw, "uniform-draw", C, 2) X(state_dtype, "state-dtype", C, 2) X(ema, "ema", R, 2) \
    X(peak_flops, "peak-flops", R, 3) X(memory, "memory", C, 2) X(recompute, "recompute", C, 3)

enum { DLM_OBJECTIVE_DIFFUSION, DLM_OBJECTIVE_AR };
enum { DLM_OPTIMIZER_LAPROP, DLM_OPTIMIZER_ADAMW };
enum { DLM_LEVELS_STRATIFIED, DLM_LEVELS_INDEPENDENT };
enum { DLM_UNIFORM_UNMASKED, DLM_UNIFORM_ANY };
enum { DLM_STATE_F32, DLM_STATE_BF16 };
enum { DLM_MEMORY_FULL, DLM_MEMORY_COMPACT };
enum { DLM_SETTING_RECOMPUTE_AUTO }; /* then enum dlm_recompute, one more */
enum { DLM_COMPAT_PAPER, DLM_COMPAT_RELEASE };

struct dlm_settings {
#define DLM_SETTINGS_T char *
#define DLM_SETTINGS_U uint64_t
#define DLM_SETTINGS_R double
#define DLM_SETTINGS_C int
#define X(field, option, type, flags) DLM_SETTINGS_##type field;
    DLM_SETTINGS(X)
#undef X
};

/* The published defaults; open ones as said above. */
void dlm_settings_default(struct dlm_settings *s);
void dlm_settings_release(struct dlm_settings *s);

/* A new JSON object; NULL: no memory. */
json_t *dlm_settings_json(const struct dlm_settings *s);
/* Read it back; `name` stands in errors. s is overwritten whole. */
int dlm_settings_from_json(struct dlm_settings *s, const json_t *o, const char *name, struct dlm_error *err);

/* Settings given on a command line, as a set of option names. */
struct dlm_given {
#define X(field, option, type, flags) bool field;
    DLM_SETTINGS(X)
#undef X
};

/* --compat: where the paper and the released code differ, do as that one does (method.md §§1-2). What was given on its own stays; the rest
 * counts as given from here on, so that a run that goes on is compared with it. */
void dlm_settings_compat(struct dlm_settings *s, struct dlm_given *given, int compat);

/* Take from `asked` what may change and was given; DLM_EUSAGE naming the first other given setting that differs from the run's. */
int dlm_settings_resume(struct dlm_settings *run, const struct dlm_settings *asked, const struct dlm_given *given, struct dlm_error *err);

#endif
