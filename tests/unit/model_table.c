/* config.json, the layout table and the counts: round trips, published figures, refusals. */
#include "model/config.h"
#include "model/count.h"
#include "model/layout.h"
#include "tap.h"

#include <omp.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/dlm-table-XXXXXX";
static char path[64];

static int read_text(const char *text, struct dlm_config *c, struct dlm_error *err)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        abort();
    *err = (struct dlm_error){""};
    return dlm_config_read(c, path, err);
}

/* As the published checkpoints have it. */
static const char published[] =
    "{\"architectures\":[\"GiddForDiffusionLM\"],\"attention_bias\":true,\"attn_soft_cap\":30.0,\"bos_token_id\":0,\"dtype\":\"float32\","
    "\"emb_init_scale\":0.02,\"eos_token_id\":1,\"head_dim\":8,\"head_init_scale\":0.0,\"head_scaling\":16.0,\"hidden_size\":32,"
    "\"init_scale\":0.07,\"intermediate_size\":128,\"is_causal\":false,\"max_log_snr\":9.0,\"max_position_embeddings\":16,\"min_log_snr\":-9.0,"
    "\"mlp_bias\":true,\"model_type\":\"gidd\",\"noise_type\":-1000.0,\"num_attention_heads\":4,\"num_hidden_layers\":2,\"resid_scale\":4.0,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":10000.0,\"tie_word_embeddings\":false,\"use_qk_norm\":true,\"vocab_size\":67,\"weight_scaling\":1.0,"
    "\"something_else\":[1,2]}";

static void test_config_read(void)
{
    struct dlm_config c;
    struct dlm_error err;
    tap_ok(!read_text(published, &c, &err), "a published config.json reads: %s", err.msg);
    tap_ok(c.width == 32 && c.layers == 2 && c.heads == 4 && c.mlp == 128 && c.vocab_size == 67 && c.context == 16, "its sizes");
    tap_ok(c.rope_theta == 10000 && c.norm_eps == 1e-6 && c.soft_cap == 30 && c.resid_scale == 4 && c.init_scale == 0.07 &&
           c.emb_init_scale == 0.02 && c.head_init_scale == 0 && c.weight_scaling == 1 && c.head_scaling == 16 && c.noise_shift == -1000 &&
           !c.causal && !c.dlm_noise[0], "its numbers");
    tap_ok(c.begin == 0 && c.end == 1 && c.pad == 2 && c.mask == 3, "pad and mask id are the released tokenizer's where config.json has none");

    /* Every key that changes numbers must be there; what the message must name is the key and the file. */
    static const char *const needed[] = {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
        "max_position_embeddings", "rope_theta", "rms_norm_eps", "attn_soft_cap", "resid_scale", "head_scaling", "noise_type"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        char text[sizeof published + 8], key[64];
        strcpy(text, published);
        snprintf(key, sizeof key, "\"%s\"", needed[i]);
        char *at = strstr(text, key);
        at[1] = 'X'; /* the key is another one now */
        int rc = read_text(text, &c, &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, needed[i]) && strstr(err.msg, path), "without %s: %s", needed[i], err.msg);
    }

    static const struct {
        const char *from, *to, *word;
    } wrong[] = {
        {"\"use_qk_norm\":true", "\"use_qk_norm\":false", "use_qk_norm"},
        {"\"tie_word_embeddings\":false", "\"tie_word_embeddings\":true", "tie_word_embeddings"},
        {"\"attention_bias\":true", "\"attention_bias\":false", "attention_bias"},
        {"\"mlp_bias\":true", "\"mlp_bias\":false", "mlp_bias"},
        {"\"something_else\":[1,2]", "\"hidden_act\":\"gelu\"", "hidden_act"},
        {"\"something_else\":[1,2]", "\"rope_scaling\":{\"rope_type\":\"yarn\"}", "rope_scaling"},
        {"\"something_else\":[1,2]", "\"num_key_value_heads\":2", "num_key_value_heads"},
        {"\"something_else\":[1,2]", "\"mask_token_id\":67", "mask id 67"},
        {"\"something_else\":[1,2]", "\"mask_token_id\":null", "no mask id"},
        {"\"something_else\":[1,2]", "\"mask_token_id\":-1", "mask_token_id"},
        {"\"something_else\":[1,2]", "\"dlm_noise\":7", "dlm_noise"},
        {"\"something_else\":[1,2]", "\"vocab_size\":67", "duplicate"},
        {"\"num_attention_heads\":4", "\"num_attention_heads\":5", "heads"},
        {"\"num_attention_heads\":4", "\"num_attention_heads\":0", "num_attention_heads"},
        {"\"head_dim\":8", "\"head_dim\":16", "head_dim"},
        {"\"hidden_size\":32", "\"hidden_size\":32.5", "hidden_size"},
        {"\"hidden_size\":32", "\"hidden_size\":\"32\"", "hidden_size"},
        {"\"hidden_size\":32", "\"hidden_size\":-32", "hidden_size"},
        {"\"hidden_size\":32", "\"hidden_size\":99999999999999999999999", "integer"},
        {"\"intermediate_size\":128", "\"intermediate_size\":1099511627776", "mlp"},
        {"\"rms_norm_eps\":1e-06", "\"rms_norm_eps\":0", "epsilon"},
        {"\"attn_soft_cap\":30.0", "\"attn_soft_cap\":null", "attn_soft_cap"},
        {"\"max_log_snr\":9.0", "\"max_log_snr\":12.0", "max_log_snr"},
        {"\"model_type\":\"gidd\"", "\"model_type\":\"llama\"", "llama"},
        {"\"is_causal\":false", "\"is_causal\":0", "is_causal"},
        {"\"noise_type\":-1000.0", "\"noise_type\":\"masked\"", "noise_type"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[2 * sizeof published];
        const char *at = strstr(published, wrong[i].from);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - published), published, wrong[i].to, at + strlen(wrong[i].from));
        int rc = read_text(text, &c, &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, wrong[i].word) && strstr(err.msg, path), "%s: %s", wrong[i].to, err.msg);
    }
    tap_ok(read_text("", &c, &err) == DLM_EDATA, "an empty file: %s", err.msg);
    tap_ok(read_text("[1]", &c, &err) == DLM_EDATA, "no object: %s", err.msg);
    tap_ok(read_text("{\"hidden_size\":", &c, &err) == DLM_EDATA, "cut off: %s", err.msg);
    tap_ok(dlm_config_read(&c, dir, &err) == DLM_EIO, "a directory: %s", err.msg);
    tap_ok(dlm_config_read(&c, "/nonexistent/config.json", &err) == DLM_EIO, "no file: %s", err.msg);
}

static void test_config_round_trip(void)
{
    struct dlm_config c, back;
    struct dlm_error err;
    dlm_config_default(&c, 48, 3, 3, 0, 131, 24);
    tap_ok(c.mlp == 192 && c.init_scale == 0.4 / sqrt(48) && c.head_scaling == 512.0 / 48, "mlp 0 means four times the width");
    c.causal = true;
    c.noise_shift = 1.0 / 3;
    strcpy(c.dlm_noise, "masked..uniform@0.2:0.8");
    c.begin = UINT32_MAX;
    c.pad = 17;
    c.mask = 130;
    char *text = dlm_config_format(&c, "bfloat16");
    tap_ok(text && !read_text(text, &back, &err), "what is written reads: %s", err.msg);
    bool same = text && c.width == back.width && c.layers == back.layers && c.heads == back.heads && c.mlp == back.mlp && c.vocab_size == back.vocab_size &&
                c.context == back.context && c.rope_theta == back.rope_theta && c.norm_eps == back.norm_eps && c.soft_cap == back.soft_cap &&
                c.resid_scale == back.resid_scale && c.init_scale == back.init_scale && c.emb_init_scale == back.emb_init_scale &&
                c.head_init_scale == back.head_init_scale && c.weight_scaling == back.weight_scaling && c.head_scaling == back.head_scaling &&
                c.causal == back.causal && c.noise_shift == back.noise_shift && !strcmp(c.dlm_noise, back.dlm_noise) && c.begin == back.begin &&
                c.end == back.end && c.pad == back.pad && c.mask == back.mask;
    tap_ok(same, "and is the same, to the last bit");
    tap_ok(text && strstr(text, "\"dtype\": \"bfloat16\"") && strstr(text, "\"rope_theta\": 10000.0"), "reals stay reals");
    free(text);
}

static void test_preset(void)
{
    static const struct {
        const char *label;
        size_t l, d, h;
        double params; /* published, non-embedding */
        double within;
    } rows[] = {{"L8-D512", 8, 512, 8, 25223680, 0},         {"L10-D640", 10, 640, 10, 49.2e6, 0.05e6},     {"L12-D768", 12, 768, 12, 85.1e6, 0.05e6},
                {"L16-D1024", 16, 1024, 16, 201.6e6, .05e6}, {"L20-D1536", 20, 1536, 12, 566.7e6, 0.05e6},  {"3B-masked", 18, 3072, 24, 2.039e9, 1.5e6},
                {"3B-uniform", 19, 3072, 24, 2.152e9, 1e6},  {"10B-uniform", 34, 4608, 36, 8.666e9, 1.5e6}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t d = 0, l = 0, h = 0;
        bool good = dlm_config_preset(rows[i].label, &d, &l, &h);
        tap_ok(good && d == rows[i].d && l == rows[i].l && h == rows[i].h, "%s is %zu layers of %zu in %zu heads", rows[i].label, l, d, h);
        struct dlm_config c;
        dlm_config_default(&c, d, l, h, 0, 131072, 2048);
        struct dlm_count n = dlm_count_of(&c, 2048);
        tap_near((double)n.params_published, rows[i].params, rows[i].within, "%s has the published number of parameters", rows[i].label);
        tap_near(n.flops_tok, 6 * (double)n.params + 12.0 * (double)(l * d) * 2048, 0, "%s: FLOPs a token", rows[i].label);
    }
    size_t d, l, h;
    static const char *const bad[] = {"", "L8", "L8-D", "L-D512", "L8-D512x", "L0-D512", "l8-d512", "L8-D0", "L99999999999-D512", "3B", "L8-D-512"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        tap_ok(!dlm_config_preset(bad[i], &d, &l, &h), "'%s' is no label", bad[i]);
    struct dlm_error err;
    struct dlm_config c;
    tap_ok(dlm_config_preset("L3-D40", &d, &l, &h) && h == 1, "a narrow model has one head");
    tap_ok(dlm_config_preset("L3-D200", &d, &l, &h) && d % h == 0 && d / h % 2 == 0, "heads divide any width (200 into %zu)", h);
    dlm_config_default(&c, 30, 1, 4, 0, 50, 8);
    tap_ok(dlm_config_check(&c, &err) == DLM_EUSAGE, "misuse: %s", err.msg);
    dlm_config_default(&c, 12, 1, 4, 0, 50, 8);
    tap_ok(dlm_config_check(&c, &err) == DLM_EUSAGE, "misuse: %s", err.msg);
    dlm_config_default(&c, 0, 1, 4, 0, 50, 8);
    tap_ok(dlm_config_check(&c, &err) == DLM_EUSAGE, "misuse: %s", err.msg);
    dlm_config_default(&c, 16, 1, 2, 0, 3, 8);
    tap_ok(dlm_config_check(&c, &err) == DLM_EUSAGE, "misuse: %s", err.msg);
}

static void test_layout(size_t d, size_t L, size_t H, size_t m, size_t V)
{
    struct dlm_config c;
    struct dlm_layout l;
    struct dlm_error err;
    dlm_config_default(&c, d, L, H, m, V, 16);
    if (!tap_ok(!dlm_layout_init(&l, &c, &err), "layout of d %zu L %zu H %zu m %zu V %zu", d, L, H, c.mlp, V))
        return;
    size_t n = 0, embedding = 0, end = 0;
    bool order = true, aligned = true, groups = true, found = true, unique = true;
    for (size_t i = 0; i < l.n; i++) {
        const struct dlm_tensor *t = &l.tensors[i];
        n += t->n;
        if (t->kind == DLM_TENSOR_EMBED || t->kind == DLM_TENSOR_HEAD)
            embedding += t->n;
        order &= t->offset >= end && t->offset - end < 16 && t->n == t->shape[0] * t->shape[1];
        end = t->offset + t->n;
        aligned &= t->offset % 16 == 0 || t->kind == DLM_TENSOR_K || t->kind == DLM_TENSOR_V;
        groups &= t->bulk ? end <= l.bulk_total : t->offset >= l.bulk_total;
        found &= dlm_layout_find(&l, t->kind, t->layer) == t;
        for (size_t j = 0; j < i; j++)
            unique &= strcmp(t->name, l.tensors[j].name) != 0;
    }
    tap_ok(order && aligned && end <= l.total && l.total - end < 16, "tensors follow each other at multiples of 16");
    tap_ok(groups && found && unique, "groups are ranges, every tensor is found, names are unique");
    struct dlm_count count = dlm_count_of(&c, 16);
    tap_ok(count.params == n - embedding && count.params_embedding == embedding, "the counts are those of the table (%zu)", n);
    for (size_t i = 0; i < L; i++) {
        const struct dlm_tensor *q = dlm_layout_find(&l, DLM_TENSOR_Q, i), *k = dlm_layout_find(&l, DLM_TENSOR_K, i),
                                *v = dlm_layout_find(&l, DLM_TENSOR_V, i);
        if (k->offset != q->offset + d * d || v->offset != k->offset + d * d) {
            tap_ok(false, "q, k and v of layer %zu are one matrix", i);
            break;
        }
    }
    dlm_layout_release(&l);
}

static void test_fill(uint64_t seed)
{
    struct dlm_config c;
    struct dlm_layout l, deeper;
    struct dlm_error err;
    dlm_config_default(&c, 66, 2, 3, 0, 301, 16); /* 66² is no multiple of 16, 301·66 none of 4 */
    c.causal = true;
    if (dlm_layout_init(&l, &c, &err))
        abort();
    float *w = malloc(l.total * sizeof *w), *again = malloc(l.total * sizeof *w);
    if (!w || !again)
        abort();
    omp_set_num_threads(1);
    dlm_layout_fill(&l, seed, w);
    omp_set_num_threads(3);
    dlm_layout_fill(&l, seed, again);
    tap_ok(!memcmp(w, again, l.total * sizeof *w), "initial values do not depend on threads");
    memset(again, 0xff, l.total * sizeof *again);
    for (size_t at = 0, n; at < l.total; at += n) {
        n = l.total - at < 1001 ? l.total - at : 1001;
        dlm_layout_fill_part(&l, seed, at, n, again + at);
    }
    tap_ok(!memcmp(w, again, l.total * sizeof *w), "nor on the pieces they are made in");
    dlm_layout_fill(&l, seed + 1, again);
    size_t gap = 0, outside = 0, equal = 0, n_bulk = 0, high = 0;
    char *inside = calloc(l.total, 1);
    for (size_t i = 0; i < l.n; i++) {
        const struct dlm_tensor *t = &l.tensors[i];
        double s = 0, s2 = 0, s4 = 0, cross = 0;
        for (size_t j = 0; j < t->n; j++) {
            double v = w[t->offset + j];
            inside[t->offset + j] = 1;
            s += v;
            s2 += v * v;
            s4 += v * v * v * v;
            cross += v * (j ? w[t->offset + j - 1] : 0);
            equal += t->init > 0 && w[t->offset + j] == again[t->offset + j];
            high += t->init > 0 && fabs(v) > 6 * t->init;
        }
        double k = (double)t->n;
        if (t->init == 0)
            outside += s2 != 0;
        else { /* mean, variance, kurtosis and correlation of neighbours, each within five standard errors */
            s2 /= k * t->init * t->init;
            s4 /= k * pow(t->init, 4);
            outside += fabs(s / k) > 5 * t->init / sqrt(k) || fabs(s2 - 1) > 5 * sqrt(2 / k) || fabs(s4 - 3) > 5 * sqrt(96 / k) ||
                       fabs(cross / (k * t->init * t->init)) > 5 / sqrt(k);
        }
        n_bulk += t->bulk;
    }
    for (size_t j = 0; j < l.total; j++)
        gap += !inside[j] && w[j] != 0;
    tap_ok(!gap, "gaps are zero");
    tap_ok(!outside && !high && n_bulk == 12, "tensors that start random are N(0, their scale squared), the others zero");
    tap_ok(equal < 10, "another seed, other values");
    c.layers = 3;
    if (dlm_layout_init(&deeper, &c, &err))
        abort();
    float *w3 = malloc(deeper.total * sizeof *w3);
    dlm_layout_fill(&deeper, seed, w3);
    const struct dlm_tensor *a = dlm_layout_find(&l, DLM_TENSOR_DOWN, 1), *b = dlm_layout_find(&deeper, DLM_TENSOR_DOWN, 1);
    tap_ok(!memcmp(w + a->offset, w3 + b->offset, a->n * sizeof *w), "a layer begins the same in a deeper model");
    const struct dlm_tensor *e = dlm_layout_find(&l, DLM_TENSOR_EMBED, 0), *q0 = dlm_layout_find(&l, DLM_TENSOR_Q, 0),
                            *q1 = dlm_layout_find(&l, DLM_TENSOR_Q, 1);
    tap_ok(w[e->offset] / e->init != w[q0->offset] / q0->init && w[q0->offset] != w[q1->offset], "tensors draw different numbers");
    dlm_layout_release(&deeper);
    dlm_layout_release(&l);
    free(w);
    free(again);
    free(w3);
    free(inside);
}

int main(void)
{
    uint64_t seed = tap_seed();
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/config.json", dir);
    test_config_read();
    test_config_round_trip();
    test_preset();
    test_layout(32, 2, 4, 0, 67);
    test_layout(48, 3, 3, 0, 131);
    test_layout(10, 2, 1, 7, 5);
    test_layout(2, 1, 1, 1, 4);
    test_fill(seed);
    unlink(path);
    rmdir(dir);
    return tap_end();
}
