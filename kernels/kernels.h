/* The kernel table: every operation the model needs, over device buffers.
 *
 * A back end (kernels/cpu, later kernels/cuda) fills one `struct dlm_kernels`; the model's forward and backward are written once
 * over it. Device memory is opaque: a `dlm_ptr` is an address on the device that host code may offset but never follow; bytes
 * cross only through upload and download (corrupt is of the host's arrays). Operations are queued in order on the device and need not
 * have finished when they return; a failure (out of memory inside a library, a device fault) is sticky, makes later calls do nothing, and is told by `sync`.
 *
 * Types: u8, u32, f32, and the activation type `act`, which is DLM_F32 or DLM_BF16 as each call says. Shapes stand in the
 * comments, row-major; B sequences, N positions, T = B·N rows, d width, H heads, h = d/H (even), V vocabulary, I inputs and O
 * outputs of a matrix. `+=` accumulates into what is there. All arithmetic and every reduction is in float32 or wider. Every result
 * is bit-reproducible for the same device, build and number of threads; none depends on rows other than its own except where a
 * reduction over rows is the point (linear_dw, the γ and bias gradients, embed_backward, sum_squares).
 *
 * Buffers do not overlap unless a comment allows it, and are aligned to 64 bytes when they come from alloc at a multiple of 64.
 * Nothing here knows files, options, models, printing or exit. Formulas: method.md §§3-4.
 *
 * The compact state of training (entries linear_bf16, linear_bf16_dx, embed_bf16, accumulate, sum_squares_bf16, laprop_split, adamw_split): weights of the
 * matrices are bf16 and multiplied as they lie, gradients and moments are bf16. Sums that would be lost in 8 bits are rounded at random, from Philox
 * numbers that hang on (seed, step or pass, element) alone: the bits of a float32 plus 16 random ones, cut to the upper 16, so that the mean is kept.
 */
#ifndef DLM_KERNELS_H
#define DLM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stripes.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint64_t at; /* 0 is "none" */
} dlm_ptr;

/* `bytes` further on. */
static inline dlm_ptr dlm_ptr_at(dlm_ptr p, size_t bytes)
{
    dlm_ptr r = {p.at + bytes};
    return r;
}

enum dlm_dtype { DLM_F32 = 0, DLM_BF16 = 1 };

static inline size_t dlm_dtype_size(enum dlm_dtype t)
{
    return t == DLM_BF16 ? 2 : 4;
}

/* Who may see whom in attention. Query i sees key j iff: */
enum dlm_attend {
    DLM_ATTEND_FULL = 0,   /* always */
    DLM_ATTEND_PREFIX = 1, /* noisy(i) ≥ noisy(j): clean positions see clean ones only */
    DLM_ATTEND_CAUSAL = 2, /* j ≤ i */
};

/* What the diffusion loss of one row needs of its noise (computed by libcommon/diffuse; method.md §3). 16 bytes. */
struct dlm_row {
    float alpha;       /* α = σ(λ) */
    float c;           /* βρ/(V-1) = q(v|x) for v other than x and m */
    float weight;      /* min(w, 1e3), the training weight; rows with weight 0 and elbo_weight 0 are not passed at all */
    float elbo_weight; /* min(w/p(λ), 1e6) */
};

/* The columns of `terms` that diffusion_loss writes, nats, per row. */
enum { DLM_TERM_LOSS = 0, DLM_TERM_ELBO = 1, DLM_TERM_KL = 2, DLM_TERM_IS = 3, DLM_TERMS = 4 };

/* What the optimizers of the compact state take more. */
struct dlm_halves {
    dlm_ptr low;
    uint64_t seed;
    uint32_t step;
    size_t first; /* the first element's number in the layout */
};

/* How one row of shares s is drawn from, with rest = Σ s - s(z). Four parts stand one after the other, and the draw is at u in (0, 1) of their sum:
 *     z itself        stay_share·s(z) + stay
 *     the mask        to_mask
 *     any other id    noise, the ids but z and the mask being alike
 *     the predictor   predicted·rest, by the shares of the ids but z
 * z = DLM_DRAW_NONE sets no id apart (s(z) = 0), and its parts then are 0 but the last.
 *
 * Where top_k is not 0, s is cut before anything else, and what is left is taken over its sum: of the ids by falling share, and of equal ones the smaller
 * first, the top_k first ones stay, and of these the fewest that hold top_p of the whole row together. Then the ids stand one after the other, each with all
 * its parts. Every number that decides is an integer or made of such, so that equal shares give the same id on every device. 64 bytes. */
struct dlm_draw {
    double u, stay_share, stay, to_mask, noise, predicted, top_p;
    uint32_t z, top_k;
};
#define DLM_DRAW_NONE UINT32_MAX

/* What came of it: the id; and of the row before any cut the first of the likeliest ids but the mask, its share, and s(z). 16 bytes. */
struct dlm_drawn {
    uint32_t id, best;
    float most, at_z;
};

enum { DLM_GROUP_ID = 128 }; /* bytes */

/* The shape of a network's passes: B, N, d, m = MLP width, H, h, V as above; head_rows of logits at a time; `train`: with backward and optimizer. */
struct dlm_shape {
    size_t B, N, d, m, H, h, V, head_rows;
    enum dlm_dtype act;
    bool train;
};

struct dlm_recording; /* calls that a device does again together */
struct dlm_device; /* one opened device: threads, handles, scratch; used by one host thread at a time */

struct dlm_kernels {
    const char *name; /* "cpu", "cuda" */

    /* The head makes this many bytes of f32 logits at a time, of no more than max(256, logit_rows·d) rows where logit_rows is not 0: enough to keep the
     * device busy, few enough for what holds them. */
    size_t logit_bytes, logit_rows;

    /* --- device and memory --------------------------------------------------------------------------------------------------- */

    /* Devices of this kind that this process sees. */
    int (*count)(void);
    /* Open device number `index` with `threads` host threads (CPU). On failure NULL, and one line in msg. */
    struct dlm_device *(*open)(int index, int threads, char *msg, size_t msg_size);
    void (*close)(struct dlm_device *);
    /* One line: "cpu, 2 threads, oneDNN 2.6.3". Lives as long as the device. */
    const char *(*describe)(struct dlm_device *);
    /* Energy that the device has used since some moment, joules, by a counter of its own; NAN where it has none. NULL in a back end whose energy is the machine's. */
    double (*joules)(struct dlm_device *);
    /* True when matrix products in this type run in hardware here (bf16: avx512_bf16 or amx_bf16; sm_80). */
    bool (*native)(struct dlm_device *, enum dlm_dtype);
    /* Zero-filled, 64-byte aligned; address 0 when there is no such memory. */
    dlm_ptr (*alloc)(struct dlm_device *, size_t bytes);
    void (*free)(struct dlm_device *, dlm_ptr);
    void (*upload)(struct dlm_device *, dlm_ptr dst, const void *src, size_t bytes);
    /* Waits for what was queued before. */
    void (*download)(struct dlm_device *, void *dst, dlm_ptr src, size_t bytes);
    void (*copy)(struct dlm_device *, dlm_ptr dst, dlm_ptr src, size_t bytes);
    void (*zero)(struct dlm_device *, dlm_ptr dst, size_t bytes);
    /* Bytes that alloc could give now; 0 where the device's memory is the host's. */
    size_t (*available)(struct dlm_device *);
    /* Wait for everything queued. NULL when all went well, else one line that stays until close. */
    const char *(*sync)(struct dlm_device *);

    /* --- scratch ------------------------------------------------------------------------------------------------------------- */

    /* Device memory that calls work in, besides what they are given: bytes for passes of this shape, and for any with fewer sequences, shorter ones or
     * less of the head. Both NULL in a back end that has it on the host. Calls get what they need in any case; what was reserved is there already, and
     * a call that finds enough neither allocates nor waits. False: there is no such memory. */
    size_t (*scratch_of)(struct dlm_device *, const struct dlm_shape *);
    bool (*scratch_reserve)(struct dlm_device *, size_t bytes);
    /* Host memory of an opened device that copies to it go through. */
    size_t stage_bytes;

    /* --- recordings ---------------------------------------------------------------------------------------------------------- */

    /* NULL in a back end that gains nothing by them. What is queued from record to recorded is not done but kept, arguments and addresses as they are;
     * each replay queues it all, at the price of about one call. Not for calls that wait or give a result, for upload, download, alloc and free, nor for
     * what was never called before in the same way, which may have to make itself ready: then recorded, or record, gives none, nothing was done and
     * nothing has failed, and the caller calls plainly. replay gives false, and does nothing, where the device has moved what the calls work in since:
     * then the recording is to be forgotten. What goes wrong in a replay is told by sync. forget takes NULL; recordings are forgotten before close. */
    bool (*record)(struct dlm_device *);
    struct dlm_recording *(*recorded)(struct dlm_device *);
    bool (*replay)(struct dlm_device *, struct dlm_recording *);
    void (*forget)(struct dlm_device *, struct dlm_recording *);

    /* --- several devices ----------------------------------------------------------------------------------------------------- */

    /* Collectives among the devices of several processes, or NULL in a back end that leaves them to the host. One process makes the group's id, and every
     * one joins with it and waits for the others. False on failure, which sync tells. close leaves. */
    bool (*group_id)(struct dlm_device *, unsigned char *id /* (DLM_GROUP_ID) */);
    bool (*group_join)(struct dlm_device *, const unsigned char *id, int rank, int size);
    /* Device memory that joining a group of `size` will take; 0 once joined. */
    size_t (*group_bytes)(struct dlm_device *, int size);
    /* x f32 or bf16 is elements [first, first + n) of an array that the ranks own in stripes; first and n are multiples of 16. Its own become the sum over ranks,
     * added in order of rank in float32; the rest stays. It begins when all that is queued has ended, and ends beside what is queued later: until group_wait
     * nothing may touch x. Every rank makes the same calls in the same order. */
    void (*group_reduce_scatter)(struct dlm_device *, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes);
    /* Likewise: every rank gets what the others own. */
    void (*group_all_gather)(struct dlm_device *, dlm_ptr x, enum dlm_dtype type, size_t first, size_t n, struct dlm_stripes stripes);
    /* What is queued from here on waits for the two. */
    void (*group_wait)(struct dlm_device *);
    /* Σ x² over this rank's own of all sums since the last call, as they were rounded; waits for them, as group_wait does. */
    double (*group_squares)(struct dlm_device *);

    /* --- matrix products ----------------------------------------------------------------------------------------------------- */

    /* A packed weight is the matrix W (O, I) in whatever form the device multiplies fastest, for both directions; it is made once a
     * step from the float32 master. `act` is the type of the products. */
    size_t (*linear_pack_size)(struct dlm_device *, size_t O, size_t I, enum dlm_dtype act);
    void (*linear_pack)(struct dlm_device *, dlm_ptr pack, dlm_ptr w /* f32 (O, I) */, size_t O, size_t I, enum dlm_dtype act);
    /* y (T, O) = scale · x (T, I) · Wᵀ; x is act, y is act or f32 as `y_type` says. */
    void (*linear)(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                   enum dlm_dtype y_type, float scale);
    /* dx (T, I) = scale · dy (T, O) · W; dy is act, dx is act or f32 as `dx_type` says. */
    void (*linear_dx)(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr pack, size_t T, size_t O, size_t I, enum dlm_dtype act,
                      enum dlm_dtype dx_type, float scale);
    /* dw f32 (O, I) += scale · dyᵀ (O, T) · x (T, I); both act. */
    void (*linear_dw)(struct dlm_device *, dlm_ptr dw, dlm_ptr dy, dlm_ptr x, size_t T, size_t O, size_t I, enum dlm_dtype act,
                      float scale);

    /* linear and linear_dx with W bf16 (O, I) as it lies, row-major, in the place of the pack: what a pack is on a device that multiplies such a matrix in
     * both directions, which then puts the same two functions here. act is DLM_BF16. */
    void (*linear_bf16)(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                        enum dlm_dtype y_type, float scale);
    void (*linear_bf16_dx)(struct dlm_device *, dlm_ptr dx, dlm_ptr dy, dlm_ptr w, size_t T, size_t O, size_t I, enum dlm_dtype act,
                           enum dlm_dtype dx_type, float scale);

    /* --- transformer --------------------------------------------------------------------------------------------------------- */

    /* x f32 (T, d) = E[ids]; E f32 (V, d), ids u32 (T), each < V. */
    void (*embed)(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
    /* The same from E bf16 (V, d). */
    void (*embed_bf16)(struct dlm_device *, dlm_ptr x, dlm_ptr ids, dlm_ptr E, size_t T, size_t d);
    /* dE f32 (V, d) += rows of dx f32 (T, d) summed by id, in order of position. */
    void (*embed_backward)(struct dlm_device *, dlm_ptr dE, dlm_ptr dx, dlm_ptr ids, size_t T, size_t d, size_t V);

    /* RMSNorm: y act (T, d) = (1 + γ)·x·rstd, rstd f32 (T) = 1/√(mean x² + eps); x f32 (T, d), γ f32 (d). */
    void (*norm)(struct dlm_device *, dlm_ptr y, dlm_ptr rstd, dlm_ptr x, dlm_ptr gamma, size_t T, size_t d, float eps,
                 enum dlm_dtype act);
    /* dx f32 (T, d) += …; dγ f32 (d) += …; dy act (T, d). */
    void (*norm_backward)(struct dlm_device *, dlm_ptr dx, dlm_ptr dgamma, dlm_ptr dy, dlm_ptr x, dlm_ptr rstd, dlm_ptr gamma,
                          size_t T, size_t d, enum dlm_dtype act);

    /* Norm over the full width of q and of k, then rotary by position within the sequence (pairs i, i + h/2 of each head).
     * qh, kh act (T, d); rstd f32 (T, 2) for q and k; qkv act (T, 3d): q, k, v side by side; γq, γk f32 (d);
     * rope f32 (N, h/2, 2): cos, sin. */
    void (*qk_rotary)(struct dlm_device *, dlm_ptr qh, dlm_ptr kh, dlm_ptr rstd, dlm_ptr qkv, dlm_ptr gamma_q, dlm_ptr gamma_k,
                      dlm_ptr rope, size_t B, size_t N, size_t H, size_t h, float eps, enum dlm_dtype act);
    /* Writes the q and k thirds of dqkv act (T, 3d); dγq, dγk f32 (d) += …; dqh, dkh act (T, d). */
    void (*qk_rotary_backward)(struct dlm_device *, dlm_ptr dqkv, dlm_ptr dgamma_q, dlm_ptr dgamma_k, dlm_ptr dqh, dlm_ptr dkh,
                               dlm_ptr qkv, dlm_ptr rstd, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope, size_t B, size_t N,
                               size_t H, size_t h, enum dlm_dtype act);

    /* Soft-capped attention with one sink key and value a head: s = cap·tanh(q·k/(√h·cap)), o = softmax(s)·v over the visible keys
     * and the sink, which every query sees. o act (T, d); lse f32 (B, H, N) = log Σ exp s; q, k act (T, d) as qk_rotary leaves them;
     * v: act (T, ·) with rows `ldv` elements apart (the last third of qkv: ldv = 3d); sink_k, sink_v f32 (H, h);
     * noisy u8 (T), read only under DLM_ATTEND_PREFIX. No N×N matrix is stored. */
    void (*attention)(struct dlm_device *, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k,
                      dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H, size_t h, float cap,
                      enum dlm_dtype act);
    /* The same for n new rows of one sequence, at positions at … at + n - 1, when those before are known: their keys and values go
     * into the cache, keys and values act (at + n or more, d), at their positions, and every row sees the cache up to at + n, or
     * under CAUSAL up to itself (PREFIX is not for this), and the sink. o, q, k act (n, d). Each row comes out as `attention`
     * over all at + n rows gives it. */
    void (*attention_cached)(struct dlm_device *, dlm_ptr o, dlm_ptr keys, dlm_ptr values, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                             dlm_ptr sink_k, dlm_ptr sink_v, enum dlm_attend rule, size_t at, size_t n, size_t H, size_t h, float cap,
                             enum dlm_dtype act);
    /* dq, dk act (T, d); dv act rows lddv apart; dsink_k, dsink_v f32 (H, h) += …; do_ act (T, d). */
    void (*attention_backward)(struct dlm_device *, dlm_ptr dq, dlm_ptr dk, dlm_ptr dv, size_t lddv, dlm_ptr dsink_k, dlm_ptr dsink_v,
                               dlm_ptr do_, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k,
                               dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H, size_t h, float cap,
                               enum dlm_dtype act);

    /* a act (T, m) = relu(u + b)²; u act (T, m), b f32 (m). */
    void (*bias_relu2)(struct dlm_device *, dlm_ptr a, dlm_ptr u, dlm_ptr b, size_t T, size_t m, enum dlm_dtype act);
    /* du act (T, m) = da·2·relu(u + b); db f32 (m) += its column sums. du may be da. */
    void (*bias_relu2_backward)(struct dlm_device *, dlm_ptr du, dlm_ptr db, dlm_ptr da, dlm_ptr u, dlm_ptr b, size_t T, size_t m,
                                enum dlm_dtype act);

    /* x f32 (T, d) += scale·(y + b); y act (T, d); b f32 (d) or none. */
    void (*residual)(struct dlm_device *, dlm_ptr x, dlm_ptr y, dlm_ptr b, size_t T, size_t d, float scale, enum dlm_dtype act);
    /* dy act (T, d) = scale·dx; db f32 (d) += its column sums, where db is not none; dx f32 (T, d) stays. */
    void (*residual_backward)(struct dlm_device *, dlm_ptr dy, dlm_ptr db, dlm_ptr dx, size_t T, size_t d, float scale,
                              enum dlm_dtype act);

    /* --- head and loss ------------------------------------------------------------------------------------------------------- */

    /* y act (n, d) = x[index]; index u32 (n), ascending. */
    void (*gather_rows)(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);
    /* y[index] = x; the rest of y act (T, d) stays; indices are distinct. */
    void (*scatter_rows)(struct dlm_device *, dlm_ptr y, dlm_ptr x, dlm_ptr index, size_t n, size_t d, enum dlm_dtype act);

    /* Diffusion loss of n rows. terms f32 (n, 4): weighted loss, ELBO, and the KL and IS parts of the loss; dlogits act (n, V) =
     * d loss / d logits, 0 at the mask id, or none for no gradient; logits f32 (n, V); x, z u32 (n), x ≠ mask; row (n). dlogits may be
     * logits when act is DLM_F32. Three passes over the row; sums over V in blocks, so that float32 keeps 1e-9 of the ELBO. */
    void (*diffusion_loss)(struct dlm_device *, dlm_ptr terms, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr x, dlm_ptr z, dlm_ptr row,
                           size_t n, size_t V, uint32_t mask, enum dlm_dtype act);
    /* Cross-entropy over the ids other than the mask: nll f32 (n); the rest as above. */
    void (*cross_entropy)(struct dlm_device *, dlm_ptr nll, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr target, size_t n, size_t V,
                          uint32_t mask, enum dlm_dtype act);
    /* p f32 (n, V) = softmax(scale·logits) over every id but the mask, whose share is 0; p may be logits f32 (n, V). */
    void (*shares)(struct dlm_device *, dlm_ptr p, dlm_ptr logits, size_t n, size_t V, uint32_t mask, float scale);

    /* drawn (n) from the rows of p f32 (n, V), shares that sum to about 1 with p(mask) = 0, as draw (n) says. An id without a part is never drawn. Where a
     * row holds no numbers, `most` is NaN. Shares of under 2^-60 count as 0 in a row that is cut. */
    void (*draw)(struct dlm_device *, dlm_ptr drawn, dlm_ptr p, dlm_ptr draw, size_t n, size_t V, uint32_t mask);

    /* --- noise --------------------------------------------------------------------------------------------------------------- */

    /* z u32 (B, N): position p of row b draws w = philox(seed, example[b], p, purpose): keep x where w0 < keep[b,p]; else a uniform id
     * where w1 < uniform[b,p], namely u = ⌊w2·ids/2³²⌋, one more from the id `skip` on; else the mask. keep, uniform u64 (B, N) are
     * ⌊α·2³²⌋ and ⌊ρ·2³²⌋, 2³² meaning always; example u64 (B). A clean position has keep = 2³². Of V ids, q of method.md §1 is ids = V-1
     * and skip = mask; the released code's draw, which may return the mask, is ids = V and skip = UINT32_MAX.
     * All are arrays of the host, which chooses by z which rows are scored, and z is there on return. What is queued is not waited for: so the next pass
     * is made ready while the device is still at this one. */
    void (*corrupt)(struct dlm_device *, uint32_t *z, const uint32_t *x, const uint64_t *keep, const uint64_t *uniform, const uint64_t *example, size_t B,
                    size_t N, uint64_t seed, uint32_t purpose, uint32_t ids, uint32_t skip, uint32_t mask);

    /* --- optimizer ----------------------------------------------------------------------------------------------------------- */

    /* LaProp (method.md §4) over n elements, all f32; b1, b2 are the bias-corrected b̂; g = grad_scale·grad. grad stays. */
    void (*laprop)(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                   float eps, float weight_decay, float grad_scale);
    /* AdamW: m, v plain moments; θ -= lr·(m/c1/(√(v/c2) + eps) + wd·θ), c1 = 1-b1^t, c2 = 1-b2^t. */
    void (*adamw)(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                  float c1, float c2, float eps, float weight_decay, float grad_scale);
    /* The same with θ in halves, its bits (theta << 16) + (int16)halves.low: theta bf16 (n) is the nearest bf16, halves away from zero, and low u16 (n) what
     * that leaves. mu, nu (m, v), grad bf16 (n). Arithmetic in f32 on θ whole; the moments are rounded at random: element i with e = halves.first + i (first a
     * multiple of 4) takes of r = philox_at(seed, e/4, step, DLM_RNG_MOMENT).v[e%4] the lower 16 bits for mu and the upper for nu. */
    void (*laprop_split)(struct dlm_device *, dlm_ptr theta, dlm_ptr mu, dlm_ptr nu, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                         float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
    void (*adamw_split)(struct dlm_device *, dlm_ptr theta, dlm_ptr m, dlm_ptr v, dlm_ptr grad, size_t n, float lr, float b1, float b2,
                        float c1, float c2, float eps, float weight_decay, float grad_scale, struct dlm_halves halves);
    /* sum bf16 (n) += x f32 (n), rounded at random: element i with e = first + i (first a multiple of 8) takes the 16-bit word e%8 of
     * philox_at(seed, e/8, pass, DLM_RNG_GRADIENT), counted from the lower half of v[0]. */
    void (*accumulate)(struct dlm_device *, dlm_ptr sum, dlm_ptr x, size_t n, uint64_t seed, uint32_t pass, size_t first);
    /* mean += share·(x - mean) over n f32 elements. */
    void (*average)(struct dlm_device *, dlm_ptr mean, dlm_ptr x, size_t n, float share);
    /* Σ x² over n f32 elements, in double, in a fixed order. Waits. */
    double (*sum_squares)(struct dlm_device *, dlm_ptr x, size_t n);
    /* The same over bf16 elements. */
    double (*sum_squares_bf16)(struct dlm_device *, dlm_ptr x, size_t n);
};

/* The one symbol of a back end that is a module, dlm_kernels_cuda. `size` is that of the caller's struct dlm_kernels: NULL where this is another one. */
typedef const struct dlm_kernels *dlm_kernels_entry(size_t size);

/* The CPU back end; always there. */
const struct dlm_kernels *dlm_kernels_cpu(void);

#ifdef __cplusplus
}
#endif

#endif
