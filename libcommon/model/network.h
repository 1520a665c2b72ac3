/* The network on a device: weights, one forward and backward over the kernel table (method.md §4).
 *
 * Where the device can record calls and replay them (kernels.h), a pass that comes again in the same shape, with ids and noisy in the same places, is
 * replayed: forward as one, backward layer by layer; packing, too. The same calls, the same bits; the compact state does without.
 *
 * Owns one allocation each for weights, gradients (training only), packed weights and activations; nothing is allocated inside a pass.
 * A pass is: forward, then one of the losses or logits on some rows of the final hidden state, then backward when the loss was asked for gradients.
 * Gradients accumulate over passes until zeroed. The head and the loss run over chunks of rows, so that no (B·N, V) tensor exists; rows not
 * named in the call are never multiplied by the head. Not for sharing between threads.
 */
#ifndef DLM_MODEL_NETWORK_H
#define DLM_MODEL_NETWORK_H

#include "model/config.h"
#include "model/layout.h"
#include "../../kernels/kernels.h"

/* Memory of a device taken at once, out of which later parts come. */
struct dlm_arena {
    dlm_ptr at;
    size_t size, used;
};

struct dlm_backend {
    const struct dlm_kernels *k;
    struct dlm_device *dev;
    const char *fallback;    /* why this is the CPU and no GPU, for the person; or NULL */
    struct dlm_arena *arena; /* NULL: every part is an allocation of its own */
};

/* Zero-filled device memory: out of the arena, where there is one. Address 0: there is none, or not enough left. */
dlm_ptr dlm_backend_alloc(const struct dlm_backend *b, size_t bytes);
/* What came out of an arena stays in it. */
void dlm_backend_free(const struct dlm_backend *b, dlm_ptr p);
/* What a part of `bytes` takes of an arena. */
size_t dlm_arena_part(size_t bytes);

struct dlm_network;

/* What backward computes again instead of finding it in memory; more with each, and the gradients have the same bits with all. Activations of a token
 * and layer, in elements of the width d with an MLP of 4d, float32 ones in brackets: */
enum dlm_recompute {
    DLM_RECOMPUTE_NONE,  /* nothing: 12d (2d) */
    DLM_RECOMPUTE_NORMS, /* norms and rotary: 8d (2d), for passes over rows only */
    DLM_RECOMPUTE_MLP,   /* also the product up: 4d (2d) */
    DLM_RECOMPUTE_LAYER, /* all but the layer's input: (1d) */
};

struct dlm_network_plan {
    size_t batch;      /* B: most sequences in a pass */
    size_t eval_batch; /* where more than `batch`: most sequences in a pass without backward */
    size_t seq_len;    /* N ≤ context */
    bool train;        /* with gradients and stored activations */
    enum dlm_dtype act;
    enum dlm_recompute recompute;
    bool compact;      /* training with bf16 matrices and gradients (dlm_network_short); act is DLM_BF16 */
    size_t head_rows;  /* rows of logits at a time; 0: what suits the device (kernels.h, logit_bytes), at least 64. Without gradient every product has
                        * min(head_rows, 256) rows, so that a row's score does not hang on how many are scored with it */
};

/* Bytes on the device, before anything is allocated. */
struct dlm_network_memory {
    size_t weights, gradients, packs, activations, head; /* optimizer state is run/'s */
    size_t scratch; /* that the device's calls work in: the device's own, not in an arena */
};
struct dlm_network_memory dlm_network_memory_of(const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *p);

/* Weights are zero until uploaded. The device then has its scratch, too: no pass allocates. DLM_ENOMEM says how much was needed. The backend outlives the network. */
int dlm_network_new(struct dlm_network **out, const struct dlm_backend *b, const struct dlm_config *c, const struct dlm_network_plan *p,
                    struct dlm_error *err);
void dlm_network_free(struct dlm_network *m);

const struct dlm_config *dlm_network_config(const struct dlm_network *m);
const struct dlm_layout *dlm_network_layout(const struct dlm_network *m);
dlm_ptr dlm_network_weights(struct dlm_network *m);   /* f32 (layout total) */
dlm_ptr dlm_network_gradients(struct dlm_network *m); /* f32 (layout total); none when not training */
/* In the compact state, which `plan.compact` asks for, the matrices, the embedding and the head, which are the layout's first elements, are bf16, weights
 * and gradients alike; the rest is f32 in any case. How many elements those are: 0 in the plain state. */
size_t dlm_network_short(const struct dlm_network *m);
/* The same before there is one. */
size_t dlm_network_short_of(const struct dlm_layout *l, const struct dlm_network_plan *p);
/* Where an element of the layout lies. */
dlm_ptr dlm_network_weight_at(const struct dlm_network *m, size_t element);
dlm_ptr dlm_network_gradient_at(const struct dlm_network *m, size_t element);
/* Elements of one type among [from, to) of the layout: at most two runs. Returns how many. */
struct dlm_run {
    size_t from, to;
    enum dlm_dtype type;
};
int dlm_network_runs(const struct dlm_network *m, size_t from, size_t to, struct dlm_run run[2]);
/* The gradients in pieces, each of one type, in the order in which a pass ends them: the head, the matrices of each layer from the last to the first, the embedding, and
 * the small tensors of all. Together they are the layout; each begins at a multiple of 16 elements. */
size_t dlm_network_pieces(const struct dlm_network *m);
struct dlm_run dlm_network_piece(const struct dlm_network *m, size_t i);
/* From now on passes with gradient call done(of) each time the next of these pieces is queued to its end, while the rest is still to be queued; NULL: they do
 * not. */
void dlm_network_tell(struct dlm_network *m, void (*done)(void *of), void *of);
/* Weights [at, at + n) as float32, from and to the host; those that are bf16 are rounded to the nearest, halves away from zero. */
void dlm_network_read(const struct dlm_network *m, size_t at, size_t n, float *to);
void dlm_network_write(struct dlm_network *m, size_t at, size_t n, const float *from);
/* Call after every change of weights: packs the matrices. */
void dlm_network_refresh(struct dlm_network *m);
void dlm_network_zero_gradients(struct dlm_network *m);
/* In the compact state, before a pass with gradient: what names the random numbers of its rounding. */
void dlm_network_rounding(struct dlm_network *m, uint64_t seed, uint32_t pass);

/* Final hidden state of B ≤ plan.batch sequences: ids u32 (B, N) and noisy u8 (B, N) on the device (noisy may be none unless the rule is PREFIX).
 * The two buffers must stay as they are until backward is done. */
void dlm_network_forward(struct dlm_network *m, dlm_ptr ids, dlm_ptr noisy, enum dlm_attend rule, size_t B);
/* The same for sequences of N ≤ plan.seq_len: ids and noisy are (B, N), and so are the rows of what follows. Exactly the network of that length: nothing
 * is padded. */
void dlm_network_forward_of(struct dlm_network *m, dlm_ptr ids, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N);

/* Keys and values of positions that are done, for sampling: what is finished is computed once. */
struct dlm_cache;
/* For up to `sequences` of `positions` each. The network outlives it. */
int dlm_cache_new(struct dlm_cache **out, struct dlm_network *m, size_t sequences, size_t positions, struct dlm_error *err);
void dlm_cache_free(struct dlm_cache *c);
/* Final hidden state of n new rows of each of B sequences, the cache's sequences `first` and on: ids u32 (B, n) on the device; those of sequence
 * first + b stand at positions at[b] … at[b] + n - 1. They see what the cache holds of their sequence before at[b], and each other (FULL) or those before them (CAUSAL); PREFIX is not for this. Their own keys and
 * values are put into the cache at their positions, over what was there: rows computed again replace themselves. B·n ≤ plan.batch·plan.seq_len. */
void dlm_network_forward_cached(struct dlm_network *m, struct dlm_cache *c, size_t first, dlm_ptr ids, const size_t *at, enum dlm_attend rule, size_t B,
                                size_t n);

/* Rows of the last forward to score; all host arrays, borrowed for the call. */
struct dlm_scored {
    size_t n;
    const uint32_t *at;           /* (n) row in [0, B·N), ascending */
    const uint32_t *target;       /* (n) clean id x */
    const uint32_t *z;            /* (n) corrupted id; NULL for cross-entropy */
    const struct dlm_row *row;    /* (n); NULL for cross-entropy */
};

/* Diffusion terms (n, DLM_TERMS), nats; with `gradient`, the head's gradient is added and d/d(hidden) kept for backward. */
int dlm_network_diffusion_loss(struct dlm_network *m, const struct dlm_scored *s, bool gradient, float *terms, struct dlm_error *err);
/* Negative log-likelihood (n), nats; the mask id is excluded. */
int dlm_network_cross_entropy(struct dlm_network *m, const struct dlm_scored *s, bool gradient, float *nll, struct dlm_error *err);
/* Raw logits of n rows (ascending `at`) into logits (n, V). */
int dlm_network_logits(struct dlm_network *m, const uint32_t *at, size_t n, float *logits, struct dlm_error *err);
/* One draw for each of those rows, from its shares softmax(scale·logits) without the mask id, as draw (n) says: queued, as numbers first … first + n - 1 of what
 * is drawn from the last forward. first + n ≤ B·N. */
void dlm_network_draw(struct dlm_network *m, const uint32_t *at, size_t n, float scale, const struct dlm_draw *draw, size_t first);
/* Wait for what was drawn: numbers 0 … n - 1. */
int dlm_network_drawn(struct dlm_network *m, struct dlm_drawn *drawn, size_t n, struct dlm_error *err);
/* From d/d(hidden) of the last loss down to the embedding; adds to the gradients. */
void dlm_network_backward(struct dlm_network *m);
/* Wait; DLM_EIO with the device's word when something failed. */
int dlm_network_sync(struct dlm_network *m, struct dlm_error *err);

#endif
