/* The shape of a model and its config.json.
 *
 * Knows the keys of Hugging Face's model_type `gidd` and the values of them that the network implements (method.md §4). What it does not do: look at
 * tensors. Keys whose absence the tensors themselves would show (attention_bias, use_qk_norm, …) may be missing; keys that silently change
 * every number (head_scaling, rope_theta, …) may not.
 */
#include "model/config.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond these no product of two of them fits the arithmetic of sizes, and no such model can exist. */
#define WIDTH_MAX ((size_t)1 << 20)
#define LAYERS_MAX ((size_t)1 << 16)
#define VOCAB_MAX ((size_t)1 << 30)
#define CONTEXT_MAX ((size_t)1 << 26)

void dlm_config_default(struct dlm_config *c, size_t width, size_t layers, size_t heads, size_t mlp, size_t vocab_size, size_t context)
{
    double d = width ? (double)width : 1;
    *c = (struct dlm_config){
        .width = width, .layers = layers, .heads = heads, .mlp = mlp ? mlp : 4 * width, .vocab_size = vocab_size, .context = context,
        .rope_theta = 10000, .norm_eps = 1e-6, .soft_cap = 30, .resid_scale = 4,
        .init_scale = 0.4 / sqrt(d), .emb_init_scale = 0.02, .head_init_scale = 0, .weight_scaling = 1, .head_scaling = 512 / d,
        .begin = 0, .end = 1, .pad = 2, .mask = 3,
    };
}

/* --- labels ------------------------------------------------------------------------------------------------------------------ */

static size_t heads_of(size_t d)
{
    size_t heads = d / (d >= 1536 ? 128 : 64);
    for (; heads > 1; heads--)
        if (d % heads == 0 && d / heads % 2 == 0)
            break;
    return heads ? heads : 1;
}

static bool digits(const char **s, size_t max, size_t *out)
{
    size_t v = 0, n = 0;
    for (; **s >= '0' && **s <= '9' && n < 9; (*s)++, n++)
        v = v * 10 + (size_t)(**s - '0');
    *out = v;
    return n && v && v <= max;
}

bool dlm_config_preset(const char *label, size_t *width, size_t *layers, size_t *heads)
{
    /* The scaled runs of table 4, which go by their parameters. */
    static const struct {
        const char *label;
        size_t layers, width;
    } named[] = {{"3B-masked", 18, 3072}, {"3B-uniform", 19, 3072}, {"10B-uniform", 34, 4608}};

    size_t l = 0, d = 0;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (!strcmp(label, named[i].label)) {
            l = named[i].layers;
            d = named[i].width;
        }
    if (!l) {
        const char *s = label;
        if (*s++ != 'L' || !digits(&s, LAYERS_MAX, &l) || *s++ != '-' || *s++ != 'D' || !digits(&s, WIDTH_MAX, &d) || *s)
            return false;
    }
    *layers = l;
    *width = d;
    *heads = heads_of(d);
    return true;
}

/* --- checks ------------------------------------------------------------------------------------------------------------------ */

int dlm_config_check(const struct dlm_config *c, struct dlm_error *err)
{
    const struct {
        const char *name;
        size_t value, max;
    } sizes[] = {{"width", c->width, WIDTH_MAX}, {"layers", c->layers, LAYERS_MAX}, {"heads", c->heads, WIDTH_MAX},
                 {"mlp", c->mlp, 16 * WIDTH_MAX}, {"vocabulary size", c->vocab_size, VOCAB_MAX}, {"context", c->context, CONTEXT_MAX}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!sizes[i].value || sizes[i].value > sizes[i].max)
            return dlm_fail(err, DLM_EUSAGE, "%s %zu is not between 1 and %zu", sizes[i].name, sizes[i].value, sizes[i].max);
    if (c->width % c->heads)
        return dlm_fail(err, DLM_EUSAGE, "width %zu does not divide into %zu heads", c->width, c->heads);
    if (c->width / c->heads % 2)
        return dlm_fail(err, DLM_EUSAGE, "width %zu in %zu heads gives heads of odd size %zu; rotary embedding needs pairs", c->width, c->heads,
                        c->width / c->heads);
    const struct {
        const char *name;
        double value;
        int least; /* 2: more than 0, 1: 0 or more, 0: any finite */
    } reals[] = {{"rope_theta", c->rope_theta, 2}, {"norm epsilon", c->norm_eps, 2}, {"soft cap", c->soft_cap, 2},
                 {"resid_scale", c->resid_scale, 0}, {"init_scale", c->init_scale, 1}, {"emb_init_scale", c->emb_init_scale, 1},
                 {"head_init_scale", c->head_init_scale, 1}, {"weight_scaling", c->weight_scaling, 0}, {"head_scaling", c->head_scaling, 0},
                 {"noise shift", c->noise_shift, 0}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double v = reals[i].value;
        if (!isfinite(v) || fabs(v) > 1e30 || (reals[i].least == 2 && v <= 0) || (reals[i].least == 1 && v < 0))
            return dlm_fail(err, DLM_EUSAGE, "%s %g is out of range", reals[i].name, v);
    }
    const struct {
        const char *name;
        uint32_t id;
    } ids[] = {{"begin", c->begin}, {"end", c->end}, {"pad", c->pad}, {"mask", c->mask}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id != UINT32_MAX && ids[i].id >= c->vocab_size)
            return dlm_fail(err, DLM_EUSAGE, "%s id %u is not in a vocabulary of %zu", ids[i].name, ids[i].id, c->vocab_size);
    if (c->mask == UINT32_MAX)
        return dlm_fail(err, DLM_EUSAGE, "the vocabulary has no mask id");
    if (c->vocab_size < 2)
        return dlm_fail(err, DLM_EUSAGE, "a vocabulary of %zu has nothing beside the mask", c->vocab_size);
    return 0;
}

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

struct reader {
    json_t *root;
    const char *path;
    struct dlm_error *err;
};

static int missing(const struct reader *r, const char *key)
{
    return dlm_fail(r->err, DLM_EDATA, "%s: key '%s' is missing", r->path, key);
}

/* A whole number in [1, 2^40]; 0 and absent are errors when `fallback` is 0. */
static int read_size(const struct reader *r, const char *key, size_t fallback, size_t *out)
{
    json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v)) {
        if (!fallback)
            return missing(r, key);
        *out = fallback;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > (json_int_t)1 << 40)
        return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is not a whole number above 0", r->path, key);
    *out = (size_t)json_integer_value(v);
    return 0;
}

static int read_real(const struct reader *r, json_t *from, const char *key, const double *fallback, double *out)
{
    json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v)) {
        if (!fallback)
            return missing(r, key);
        *out = *fallback;
        return 0;
    }
    if (!json_is_number(v))
        return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is not a number", r->path, key);
    *out = json_number_value(v);
    return 0;
}

/* A flag that must be as the model is built; absent is fine, for the tensors show it. */
static int read_fixed(const struct reader *r, const char *key, bool want)
{
    json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is neither true nor false", r->path, key);
    if (json_is_true(v) != want)
        return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is %s, which this model does not implement", r->path, key, want ? "false" : "true");
    return 0;
}

static int read_id(const struct reader *r, const char *key, uint32_t fallback, uint32_t *out)
{
    json_t *v = json_object_get(r->root, key);
    *out = v ? UINT32_MAX : fallback; /* null says there is none */
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= (json_int_t)UINT32_MAX)
        return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is not a token id", r->path, key);
    *out = (uint32_t)json_integer_value(v);
    return 0;
}

static int read_rope(const struct reader *r, double *theta)
{
    /* Newer writers put the base into an object of its own; a rope_type other than the plain one scales the angles. */
    static const char *const objects[] = {"rope_parameters", "rope_scaling"};
    json_t *from = r->root;
    for (int i = 0; i < 2; i++) {
        json_t *o = json_object_get(r->root, objects[i]);
        if (!o || json_is_null(o))
            continue;
        if (!json_is_object(o))
            return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is not an object", r->path, objects[i]);
        json_t *type = json_object_get(o, "rope_type");
        if (!type)
            type = json_object_get(o, "type");
        if (!type || !json_is_string(type) || strcmp(json_string_value(type), "default"))
            return dlm_fail(r->err, DLM_EDATA, "%s: '%s' scales the rotary embedding, which this model does not implement", r->path, objects[i]);
        if (!json_object_get(r->root, "rope_theta") && json_object_get(o, "rope_theta"))
            from = o;
    }
    return read_real(r, from, "rope_theta", NULL, theta);
}

static int read_activation(const struct reader *r)
{
    static const char *const keys[] = {"hidden_act", "activation", "mlp_activation"};
    static const char *const known[] = {"relu2", "relu_squared", "squared_relu", "relu^2"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        json_t *v = json_object_get(r->root, keys[k]);
        if (!v || json_is_null(v))
            continue;
        bool good = false;
        for (size_t i = 0; json_is_string(v) && i < sizeof known / sizeof *known; i++)
            good |= !strcmp(json_string_value(v), known[i]);
        if (!good)
            return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is '%s', and this model implements relu2 only", r->path, keys[k],
                            json_is_string(v) ? json_string_value(v) : "not a name");
    }
    return 0;
}

static int read_noise(const struct reader *r, struct dlm_config *c)
{
    const double plain = 0;
    int rc = read_real(r, r->root, "noise_type", c->causal ? &plain : NULL, &c->noise_shift);
    if (rc)
        return rc;
    const struct {
        const char *key;
        double want;
    } range[] = {{"min_log_snr", -9}, {"max_log_snr", 9}};
    for (int i = 0; i < 2; i++) {
        double v;
        if ((rc = read_real(r, r->root, range[i].key, &range[i].want, &v)))
            return rc;
        if (v != range[i].want)
            return dlm_fail(r->err, DLM_EDATA, "%s: '%s' is %g, and this model implements %g only", r->path, range[i].key, v, range[i].want);
    }
    json_t *own = json_object_get(r->root, "dlm_noise");
    if (!own || json_is_null(own))
        return 0;
    const char *text = json_string_value(own);
    if (!text || strlen(text) >= sizeof c->dlm_noise)
        return dlm_fail(r->err, DLM_EDATA, "%s: 'dlm_noise' is not the text of a noise type", r->path);
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
            return dlm_fail(r->err, DLM_EDATA, "%s: 'dlm_noise' is not the text of a noise type", r->path);
    strcpy(c->dlm_noise, text);
    return 0;
}

static int read_all(const struct reader *r, struct dlm_config *c)
{
    int rc;
    json_t *type = json_object_get(r->root, "model_type");
    if (!type)
        return missing(r, "model_type");
    if (!json_is_string(type) || strcmp(json_string_value(type), "gidd"))
        return dlm_fail(r->err, DLM_EDATA, "%s: 'model_type' is '%s', not 'gidd'", r->path,
                        json_is_string(type) ? json_string_value(type) : "not a name");
    size_t d, layers, heads, mlp, vocab, context, head_dim;
    if ((rc = read_size(r, "hidden_size", 0, &d)) || (rc = read_size(r, "num_hidden_layers", 0, &layers)) ||
        (rc = read_size(r, "num_attention_heads", 0, &heads)) || (rc = read_size(r, "intermediate_size", 0, &mlp)) ||
        (rc = read_size(r, "vocab_size", 0, &vocab)) || (rc = read_size(r, "max_position_embeddings", 0, &context)))
        return rc;
    dlm_config_default(c, d, layers, heads, mlp, vocab, context);
    if ((rc = read_size(r, "head_dim", d / heads ? d / heads : 1, &head_dim)))
        return rc;
    if (head_dim > d || head_dim * heads != d)
        return dlm_fail(r->err, DLM_EDATA, "%s: %zu heads of 'head_dim' %zu do not make 'hidden_size' %zu", r->path, heads, head_dim, d);
    size_t kv_heads;
    if ((rc = read_size(r, "num_key_value_heads", heads, &kv_heads)))
        return rc;
    if (kv_heads != heads)
        return dlm_fail(r->err, DLM_EDATA, "%s: 'num_key_value_heads' is not the number of heads, which this model does not implement", r->path);
    if ((rc = read_rope(r, &c->rope_theta)) || (rc = read_real(r, r->root, "rms_norm_eps", NULL, &c->norm_eps)) ||
        (rc = read_real(r, r->root, "attn_soft_cap", NULL, &c->soft_cap)) ||
        (rc = read_real(r, r->root, "resid_scale", NULL, &c->resid_scale)) ||
        (rc = read_real(r, r->root, "init_scale", &c->init_scale, &c->init_scale)) ||
        (rc = read_real(r, r->root, "emb_init_scale", &c->emb_init_scale, &c->emb_init_scale)) ||
        (rc = read_real(r, r->root, "head_init_scale", &c->head_init_scale, &c->head_init_scale)) ||
        (rc = read_real(r, r->root, "weight_scaling", &c->weight_scaling, &c->weight_scaling)) ||
        (rc = read_real(r, r->root, "head_scaling", NULL, &c->head_scaling)))
        return rc;
    if ((rc = read_fixed(r, "use_qk_norm", true)) || (rc = read_fixed(r, "attention_bias", true)) || (rc = read_fixed(r, "mlp_bias", true)) ||
        (rc = read_fixed(r, "tie_word_embeddings", false)) || (rc = read_activation(r)))
        return rc;
    json_t *causal = json_object_get(r->root, "is_causal");
    if (causal && !json_is_null(causal) && !json_is_boolean(causal))
        return dlm_fail(r->err, DLM_EDATA, "%s: 'is_causal' is neither true nor false", r->path);
    c->causal = json_is_true(causal);
    if ((rc = read_noise(r, c)))
        return rc;
    /* The released checkpoints name neither pad nor mask: their tokenizer has 2 and 3. */
    bool released = !json_object_get(r->root, "mask_token_id");
    if ((rc = read_id(r, "bos_token_id", UINT32_MAX, &c->begin)) || (rc = read_id(r, "eos_token_id", UINT32_MAX, &c->end)) ||
        (rc = read_id(r, "pad_token_id", released && vocab > 2 ? 2 : UINT32_MAX, &c->pad)) || (rc = read_id(r, "mask_token_id", 3, &c->mask)))
        return rc;
    if (dlm_config_check(c, r->err))
        return dlm_fail_in(r->err, DLM_EDATA, "%s", r->path);
    return 0;
}

int dlm_config_read(struct dlm_config *c, const char *path, struct dlm_error *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    errno = 0;
    json_error_t where;
    json_t *root = json_loadf(f, JSON_REJECT_DUPLICATES, &where);
    int saved = ferror(f) ? (errno ? errno : EIO) : 0;
    fclose(f);
    if (!root) {
        if (saved) {
            errno = saved;
            return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
        }
        return dlm_fail(err, DLM_EDATA, "%s: line %d: not JSON: %s", path, where.line, where.text);
    }
    int rc;
    if (!json_is_object(root))
        rc = dlm_fail(err, DLM_EDATA, "%s: not a JSON object", path);
    else {
        struct reader r = {root, path, err};
        rc = read_all(&r, c);
    }
    json_decref(root);
    return rc;
}

/* --- writing ----------------------------------------------------------------------------------------------------------------- */

/* The fewest digits that read back as the same number, with a point or an exponent so that it stays a real. */
static void print_real(FILE *f, const char *key, double v)
{
    char s[40];
    if (v == trunc(v) && fabs(v) < 1e15) {
        fprintf(f, "  \"%s\": %.1f,\n", key, v);
        return;
    }
    for (int digits_n = 1; digits_n <= 17; digits_n++) {
        snprintf(s, sizeof s, "%.*g", digits_n, v);
        if (strtod(s, NULL) == v)
            break;
    }
    fprintf(f, "  \"%s\": %s%s,\n", key, s, strpbrk(s, ".e") ? "" : ".0");
}

static void print_id(FILE *f, const char *key, uint32_t id)
{
    if (id == UINT32_MAX)
        fprintf(f, "  \"%s\": null,\n", key);
    else
        fprintf(f, "  \"%s\": %u,\n", key, id);
}

char *dlm_config_format(const struct dlm_config *c, const char *dtype)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return NULL;
    /* In alphabetical order, as Hugging Face writes it. */
    fputs("{\n  \"architectures\": [\n    \"GiddForDiffusionLM\"\n  ],\n  \"attention_bias\": true,\n", f);
    print_real(f, "attn_soft_cap", c->soft_cap);
    print_id(f, "bos_token_id", c->begin);
    if (c->dlm_noise[0])
        fprintf(f, "  \"dlm_noise\": \"%s\",\n", c->dlm_noise);
    fprintf(f, "  \"dtype\": \"%s\",\n", dtype);
    print_real(f, "emb_init_scale", c->emb_init_scale);
    print_id(f, "eos_token_id", c->end);
    fprintf(f, "  \"head_dim\": %zu,\n", c->width / c->heads);
    print_real(f, "head_init_scale", c->head_init_scale);
    print_real(f, "head_scaling", c->head_scaling);
    fprintf(f, "  \"hidden_size\": %zu,\n", c->width);
    print_real(f, "init_scale", c->init_scale);
    fprintf(f, "  \"intermediate_size\": %zu,\n  \"is_causal\": %s,\n", c->mlp, c->causal ? "true" : "false");
    print_id(f, "mask_token_id", c->mask);
    fprintf(f, "  \"max_log_snr\": 9.0,\n  \"max_position_embeddings\": %zu,\n  \"min_log_snr\": -9.0,\n", c->context);
    fputs("  \"mlp_bias\": true,\n  \"model_type\": \"gidd\",\n", f);
    print_real(f, "noise_type", c->noise_shift);
    fprintf(f, "  \"num_attention_heads\": %zu,\n  \"num_hidden_layers\": %zu,\n", c->heads, c->layers);
    print_id(f, "pad_token_id", c->pad);
    print_real(f, "resid_scale", c->resid_scale);
    print_real(f, "rms_norm_eps", c->norm_eps);
    print_real(f, "rope_theta", c->rope_theta);
    fprintf(f, "  \"tie_word_embeddings\": false,\n  \"use_qk_norm\": true,\n  \"vocab_size\": %zu,\n", c->vocab_size);
    print_real(f, "weight_scaling", c->weight_scaling);
    bool good = fseek(f, -2, SEEK_CUR) == 0; /* over the last comma */
    good &= fputs("\n}\n", f) >= 0;
    good &= !ferror(f);
    if (fclose(f) || !good) {
        free(text);
        return NULL;
    }
    return text;
}
