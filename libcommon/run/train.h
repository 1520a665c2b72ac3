/* Training: from a shard set to a checkpoint and a metrics TSV (commands.md, dlm-train).
 *
 * A run is a function of its settings and its data. Each step draws its examples by number (diffuse/example.h, batch/order.h), adds the gradients of its
 * micro-batches and ranks, and applies the optimizer to the sum over the noisy tokens of the global batch. So micro-batch, thread and process count change
 * rounding at most, and resuming at any step changes nothing: the same rows, and on the same machine with as many threads the same bits.
 */
#ifndef DLM_RUN_TRAIN_H
#define DLM_RUN_TRAIN_H

#include "base/progress.h"
#include "model/config.h"
#include "model/network.h"
#include "run/memory.h"
#include "run/settings.h"
#include "token/shards.h"

enum dlm_train_mode {
    DLM_TRAIN_NEW,      /* CKPT must not exist */
    DLM_TRAIN_RESUME,   /* CKPT must exist; settings come from it */
    DLM_TRAIN_CONTINUE, /* resume where it exists, start otherwise */
};

struct dlm_train_job {
    const char *ckpt;
    enum dlm_train_mode mode;
    struct dlm_settings settings; /* as asked; borrowed texts */
    struct dlm_given given;
    uint64_t tokens;              /* --tokens; 0: not given */
    double flops;                 /* --flops; 0: not given */
    const char *preset;           /* --model, or NULL */
    const char *metrics;          /* --metrics, or NULL */
    const char *device;
    int threads;
    int progress;                 /* enum dlm_progress_mode */
    void (*say)(const char *line); /* a note for the person; may be NULL */
};

/* DLM_EDIVERGED when the loss is not finite, DLM_ESTOPPED after a signal (the checkpoint is written). */
int dlm_train(const struct dlm_train_job *job, struct dlm_error *err);

/* The model that the settings and the vocabulary ask for, and every open setting filled in. `specials` are the data's. Shared with --plan. */
int dlm_train_resolve(struct dlm_settings *s, const struct dlm_train_job *job, uint32_t data_vocab, struct dlm_specials specials, size_t seq_len,
                      struct dlm_config *c, struct dlm_error *err);

/* What the run asks of memory as a process of `processes`; `recompute` is yet to be chosen. DLM_EUSAGE where the settings do not go together; settings.dtype is
 * filled in. Shared with --plan. */
int dlm_train_ask(struct dlm_settings *s, const struct dlm_backend *b, size_t seq_len, int processes, int rank, struct dlm_memory_ask *ask,
                  struct dlm_error *err);

/* Sequences in one pass: --micro-batch, or as many as make 8192 tokens. */
size_t dlm_train_micro_batch(const struct dlm_settings *s, size_t seq_len);

#endif
