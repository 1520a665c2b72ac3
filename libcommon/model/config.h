/* The shape of a model, as config.json of Hugging Face's model_type `gidd` has it (method.md §4). */
#ifndef DLM_MODEL_CONFIG_H
#define DLM_MODEL_CONFIG_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dlm_config {
    size_t width, layers, heads, mlp; /* d, L, H, m = 4d unless told; head size d/H is even */
    size_t vocab_size, context;       /* V, N = max_position_embeddings */
    double rope_theta, norm_eps, soft_cap, resid_scale;      /* 10000, 1e-6, 30, 4 */
    double init_scale, emb_init_scale, head_init_scale;      /* 0.4/√d, 0.02, 0 */
    double weight_scaling, head_scaling;                     /* 1, 512/d */
    bool causal;                                             /* the autoregressive baseline */
    double noise_shift;                                      /* noise_type: the shift b */
    char dlm_noise[160];                                     /* canonical noise or curriculum where a shift cannot say it, else "" */
    uint32_t begin, end, pad, mask;                          /* special ids; UINT32_MAX where there is none (mask is needed) */
};

/* Fill everything that follows from the shape; mlp 0 means 4·width. */
void dlm_config_default(struct dlm_config *c, size_t width, size_t layers, size_t heads, size_t mlp, size_t vocab_size, size_t context);
/* `L8-D512` and the other labels of numbers.md table 4: true and the three sizes when known. Any `L<n>-D<m>` is accepted, heads then d/64 (d/128
 * for d ≥ 1536), at least 1. */
bool dlm_config_preset(const char *label, size_t *width, size_t *layers, size_t *heads);
/* DLM_EUSAGE when sizes do not fit together (heads, even head size, zero). */
int dlm_config_check(const struct dlm_config *c, struct dlm_error *err);
/* Read and write config.json; unknown keys are ignored, missing ones that have no safe default are errors; a known key with a value this model
 * does not implement (an untied/tied head, an activation, use_qk_norm false) is an error. */
int dlm_config_read(struct dlm_config *c, const char *path, struct dlm_error *err);
/* The text of config.json; the caller frees it; NULL: no memory. `dtype` is "float32" or "bfloat16". */
char *dlm_config_format(const struct dlm_config *c, const char *dtype);

#endif
