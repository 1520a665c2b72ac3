/* Checkpoints: directories as Hugging Face loads them, replaced in one step (toolkit.md, dlm-checkpoint(5)).
 *
 * Written as CKPT.new, synced, then exchanged with CKPT by renameat2(RENAME_EXCHANGE) (or, where the file system has none, CKPT → CKPT.old,
 * CKPT.new → CKPT, and opening recovers from either). So CKPT is at every moment the latest complete checkpoint, or absent before the first.
 */
#ifndef DLM_MODEL_CHECKPOINT_H
#define DLM_MODEL_CHECKPOINT_H

#include "model/config.h"
#include "model/layout.h"

#include <stdbool.h>

/* The arrays of a checkpoint, each float32 in the layout's places. */
enum dlm_checkpoint_array { DLM_ARRAY_WEIGHTS, DLM_ARRAY_RAW, DLM_ARRAY_MU, DLM_ARRAY_NU };

/* Arrays that do not lie in the host's memory: elements [at, at + n), n ≤ DLM_ST_PIECE, of one are given, or taken. What was taken is given again. */
struct dlm_checkpoint_store {
    void *of;
    int (*give)(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, float *to, struct dlm_error *err);
    int (*take)(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, const float *from, struct dlm_error *err);
};

struct dlm_checkpoint_write {
    const struct dlm_config *config;
    const struct dlm_layout *layout;
    const float *weights;             /* (layout total) what is scored, sampled from and published */
    const float *raw;                 /* (layout total) what training goes on from, as TENSOR.raw, where `weights` is their average; else NULL */
    const float *mu, *nu;             /* (layout total) moments, or both NULL for no optimizer.safetensors; names are TENSOR.mu, TENSOR.nu */
    const char *tokenizer;            /* tokenizer.json bytes, or NULL */
    size_t tokenizer_len;
    const char *state;                /* text of state.json, or NULL */
    const char *metrics;              /* text of metrics.tsv so far, or NULL */
    size_t metrics_len;
    const struct dlm_checkpoint_store *store; /* where not NULL, the arrays come from there: weights, both moments, and with has_raw the raw weights */
    bool has_raw;
    size_t short_moments;             /* the moments of so many first elements of the layout are bf16 numbers, and are stored as such */
    bool bf16;                        /* model.safetensors is bf16; the moments stay float32, and beside them TENSOR.low is what the rounding took */
};

/* Write and exchange. On failure the old CKPT is as it was and nothing is left beside it. */
int dlm_checkpoint_save(const char *ckpt, const struct dlm_checkpoint_write *w, struct dlm_error *err);

/* Give what CKPT holds a second name, `keep_as` (hard links where possible; whole or absent). Done before a save, it keeps the earlier checkpoint. */
int dlm_checkpoint_keep(const char *ckpt, const char *keep_as, struct dlm_error *err);
/* Of the checkpoints kept as CKPT.STEP, STEP a number, remove all but the `most` highest. */
int dlm_checkpoint_prune(const char *ckpt, uint64_t most, struct dlm_error *err);

/* Remove a whole checkpoint, one that --keep no longer wants; absent is fine. A file in it that is none of a checkpoint's stays and is an error. */
int dlm_checkpoint_remove(const char *ckpt, struct dlm_error *err);

/* True when CKPT holds a checkpoint (recovering CKPT.old / CKPT.new when a kill fell between two renames). */
bool dlm_checkpoint_exists(const char *ckpt);

/* Read config.json. */
int dlm_checkpoint_config(const char *ckpt, struct dlm_config *c, struct dlm_error *err);
/* See that the tensors of the layout, and no others, are there in its shapes, without reading them: the sizes that config.json claims are those of the
 * files, and memory may be taken for them. */
int dlm_checkpoint_fits(const char *ckpt, const struct dlm_layout *l, struct dlm_error *err);
/* Read model.safetensors, or the shards of model.safetensors.index.json, into w (layout total). Missing, extra, mis-shaped and non-finite are errors. */
int dlm_checkpoint_weights(const char *ckpt, const struct dlm_layout *l, float *w, struct dlm_error *err);
/* Read optimizer.safetensors. `w` NULL, or, for a checkpoint saved as bf16, what dlm_checkpoint_weights has read: it becomes the float32 weights again,
 * to the bit. `raw` NULL, or, for one saved with raw weights, where they go. */
int dlm_checkpoint_moments(const char *ckpt, const struct dlm_layout *l, float *w, float *raw, float *mu, float *nu, struct dlm_error *err);
/* Both, into a store, piece by piece: the weights, and where `moments` is set the moments; `low`: the weights are made float32 again, `raw`: there are
 * raw weights. */
int dlm_checkpoint_load(const char *ckpt, const struct dlm_layout *l, const struct dlm_checkpoint_store *store, bool moments, bool low, bool raw,
                        struct dlm_error *err);
/* Read a whole small file of the checkpoint ("state.json", "tokenizer.json", "metrics.tsv"); the caller frees *text, NUL-terminated. */
int dlm_checkpoint_text(const char *ckpt, const char *file, char **text, size_t *len, struct dlm_error *err);

#endif
