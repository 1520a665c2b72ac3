/* What `dlm-eval --logits` and `--loss` print, against computations that share nothing with them: the network in double, the bound of one token in double
 * on the printed logits, and published reference numbers where they are at hand. The command itself is run (DLM_BIN, else build) and its text read. */
#include "base/rng.h"
#include "diffuse/bound.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "network_reference.h"
#include "tap.h"

#include <jansson.h>
#include <unistd.h>

enum { V = 19, CONTEXT = 12, MASK = 3 };

static uint64_t seed;
static struct dlm_error err;
static char dir[] = "/tmp/dlm-inspect-XXXXXX";

_Noreturn static void bail(const char *what)
{
    printf("Bail out! %s\n", what);
    exit(1);
}

/* --- a model, and the command ------------------------------------------------------------------------------------------------ */

struct model {
    struct dlm_config config;
    struct dlm_layout layout;
    float *weights;
    double *wide; /* the same in double */
};

static void save(const char *name, const struct dlm_config *c, const struct model *m)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    struct dlm_checkpoint_write w = {.config = c, .layout = &m->layout, .weights = m->weights};
    if (dlm_checkpoint_save(path, &w, &err))
        bail(err.msg);
}

static struct model make_model(const char *name, bool causal)
{
    struct model m;
    struct dlm_rng r;
    dlm_rng_init(&r, seed, causal, DLM_RNG_TEST);
    dlm_config_default(&m.config, 16, 2, 2, 0, V, CONTEXT);
    m.config.soft_cap = 3; /* so that scores feel it */
    m.config.causal = causal;
    m.config.noise_shift = causal ? 0 : -2;
    if (dlm_layout_init(&m.layout, &m.config, &err))
        bail(err.msg);
    m.weights = room(m.layout.total, sizeof *m.weights);
    m.wide = room(m.layout.total, sizeof *m.wide);
    for (size_t i = 0; i < m.layout.n; i++) {
        const struct dlm_tensor *t = &m.layout.tensors[i];
        double scale = t->bulk ? m.config.init_scale : t->kind == DLM_TENSOR_EMBED ? 0.7 : t->kind == DLM_TENSOR_HEAD ? 0.4 / m.config.head_scaling : 0.3;
        for (size_t j = 0; j < t->n; j++)
            m.weights[t->offset + j] = (float)(scale * dlm_rng_normal(&r));
    }
    for (size_t i = 0; i < m.layout.total; i++)
        m.wide[i] = m.weights[i];
    save(name, &m.config, &m);
    return m;
}

static void model_release(struct model *m)
{
    free(m->weights);
    free(m->wide);
    dlm_layout_release(&m->layout);
}

/* What `dlm-eval -c CKPT ARGUMENTS` says to this input, in `lines` lines; the caller frees it. CKPT lies in `dir` unless it has a slash. */
static char *answer(const char *ckpt, const char *arguments, const char *input, size_t lines)
{
    char command[2048], path[128];
    snprintf(path, sizeof path, "%s/input", dir);
    FILE *f = fopen(path, "w");
    if (!f || fputs(input, f) < 0 || fclose(f))
        bail("cannot write the input");
    const char *bin = getenv("DLM_BIN") ? getenv("DLM_BIN") : "build";
    bool own = !strchr(ckpt, '/');
    snprintf(command, sizeof command, "'%s/dlm-eval' -c '%s%s%s' -j 1 %s <'%s'", bin, own ? dir : "", own ? "/" : "", ckpt, arguments, path);
    f = popen(command, "r");
    if (!f)
        bail("cannot run dlm-eval");
    size_t n = 0, size = 1 << 16, seen = 0;
    char *text = room(size, 1);
    for (size_t k; (k = fread(text + n, 1, size - n - 1, f)) > 0;) {
        n += k;
        if (n + 1 == size && !(text = realloc(text, size *= 2)))
            abort();
    }
    text[n] = 0;
    for (char *p = text; (p = strchr(p, '\n')); p++)
        seen++;
    if (pclose(f) || seen != lines) {
        printf("# %s\n# said %zu lines, not %zu: %.300s\n", command, seen, lines, text);
        bail("dlm-eval did not answer every line");
    }
    return text;
}

/* The answers as JSON; the caller gives each back. */
static void parse(const char *text, json_t **out, size_t lines)
{
    for (size_t i = 0; i < lines; i++, text = strchr(text, '\n') + 1) {
        json_error_t why;
        out[i] = json_loadb(text, (size_t)(strchr(text, '\n') - text), JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(out[i]))
            bail(why.text);
    }
}

static double number(const json_t *list, size_t i)
{
    json_t *v = json_array_get(list, i);
    if (!json_is_number(v))
        bail("a number is missing");
    return json_number_value(v);
}

/* --- sequences to ask about -------------------------------------------------------------------------------------------------- */

struct sequence {
    size_t n, clean;
    uint32_t x[CONTEXT], z[CONTEXT];
    double log_snr[CONTEXT];
    uint8_t noisy[CONTEXT];
    struct dlm_noise noise;
    char type[64];
};

static void print_list(FILE *to, const char *key, const uint32_t *v, size_t n)
{
    fprintf(to, ", \"%s\": [", key);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%s%u", i ? "," : "", v[i]);
    fputc(']', to);
}

static void print_ids(FILE *to, const struct sequence *s)
{
    fprintf(to, "{\"clean\": %zu", s->clean);
    print_list(to, "ids", s->z, s->n);
    fputs("}\n", to);
}

static void print_case(FILE *to, const struct sequence *s)
{
    fprintf(to, "{\"noise\": \"%s\", \"noisy\": [", s->type);
    for (size_t i = 0; i < s->n; i++)
        fprintf(to, "%s%d", i ? ", " : "", s->noisy[i]);
    fputs("], \"log_snr\": [", to);
    for (size_t i = 0; i < s->n; i++)
        fprintf(to, "%s%.17g", i ? ", " : "", s->log_snr[i]);
    fputc(']', to);
    print_list(to, "x", s->x, s->n);
    print_list(to, "z", s->z, s->n);
    fputs("}\n", to);
}

static void draw(struct sequence *s, size_t n, const char *type, struct dlm_rng *r)
{
    *s = (struct sequence){.n = n, .clean = dlm_rng_below(r, n + 1) / 2};
    snprintf(s->type, sizeof s->type, "%s", type);
    if (dlm_noise_parse(&s->noise, type, &err))
        bail(err.msg);
    for (size_t i = 0; i < n; i++) {
        do
            s->x[i] = (uint32_t)dlm_rng_below(r, V);
        while (s->x[i] == MASK);
        s->noisy[i] = i >= s->clean;
        s->log_snr[i] = i % 5 == 4 ? 9 : i % 7 == 6 ? -9 : 18 * dlm_rng_uniform(r) - 9;
        s->z[i] = s->x[i];
        if (s->noisy[i] && dlm_rng_uniform(r) < 0.7) /* possible and impossible ones alike */
            s->z[i] = dlm_rng_uniform(r) < 0.5 ? MASK : (uint32_t)dlm_rng_below(r, V);
    }
}

static const char *const types[] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform", "mix:0.3", "shift:1.3,0.5", "mix:0"};
enum { TYPES = sizeof types / sizeof *types, CASES = 3 * CONTEXT };

static char *print_all(const struct sequence *s, size_t n, void (*print)(FILE *, const struct sequence *))
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (size_t i = 0; f && i < n; i++)
        print(f, &s[i]);
    if (!f || fclose(f))
        abort();
    return text;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------- */

/* Logits of every length and clean prefix against the network in double. */
static void check_logits(const struct model *m, const struct sequence *s, json_t *const *answers, const char *name)
{
    double off = 0, top = 0, *want = room(CONTEXT * V, 8);
    for (size_t k = 0; k < CASES; k++) {
        ref_forward(&m->config, &m->layout, m->wide, s[k].z, s[k].noisy, m->config.causal ? DLM_ATTEND_CAUSAL : DLM_ATTEND_PREFIX, s[k].n, want);
        json_t *rows = json_object_get(answers[k], "logits");
        if (json_array_size(rows) != s[k].n)
            bail("not a row of logits for every token");
        for (size_t i = 0; i < s[k].n; i++) {
            json_t *row = json_array_get(rows, i);
            if (json_array_size(row) != V)
                bail("not a logit for every id");
            for (size_t v = 0; v < V; v++) {
                off = tap_worst(off, fabs(number(row, v) - want[i * V + v]));
                top = tap_worst(top, fabs(want[i * V + v]));
            }
        }
    }
    tap_near(off / top, 0, 1e-5, "%s: printed logits are those of the network in double, lengths 1 to %d, as a share of the largest", name, CONTEXT);
    free(want);
}

static void check_loss(const struct sequence *s, json_t *const *logits, json_t *const *answers)
{
    static const char *const names[] = {"loss", "elbo", "kl", "is"};
    double worst[4] = {0}, row[V], scratch[V];
    size_t scored = 0, zero = 0;
    bool clean_zero = true;
    for (size_t k = 0; k < CASES; k++) {
        json_t *got[4];
        for (int j = 0; j < 4; j++) {
            got[j] = json_object_get(answers[k], names[j]);
            if (json_array_size(got[j]) != s[k].n)
                bail("not a loss for every token");
        }
        for (size_t i = 0; i < s[k].n; i++) {
            struct dlm_bound b = {0};
            for (size_t v = 0; v < V; v++)
                row[v] = number(json_array_get(json_object_get(logits[k], "logits"), i), v);
            if (s[k].noisy[i])
                b = dlm_bound_token(&s[k].noise, s[k].log_snr[i], s[k].x[i], s[k].z[i], MASK, row, V, NULL, scratch);
            const double want[] = {b.loss, b.elbo, b.kl, b.is};
            const double whole[] = {b.loss, b.elbo, b.loss, b.loss}; /* the two parts by what they add up to */
            for (int j = 0; j < 4; j++) {
                if (!s[k].noisy[i])
                    clean_zero &= number(got[j], i) == 0;
                worst[j] = tap_worst(worst[j], fabs(number(got[j], i) - want[j]) / (fabs(whole[j]) + 1e-9));
            }
            scored += b.loss != 0;
            zero += s[k].noisy[i] && b.loss == 0;
        }
    }
    for (int j = 0; j < 4; j++)
        tap_near(worst[j], 0, 1e-5, "printed '%s' follows from the printed logits: the bound in double, relative (%zu tokens, %zu more that weigh nothing)",
                 names[j], scored, zero);
    tap_ok(clean_zero && zero, "and is exactly 0 where clean");
}

/* Line i of a text of lines. */
static const char *line_at(const char *text, size_t i, size_t *len)
{
    while (i--)
        text = strchr(text, '\n') + 1;
    *len = (size_t)(strchr(text, '\n') - text) + 1;
    return text;
}

/* A line alone, in another order, and to a model whose context is just its length: the same bytes. */
static void check_alone(const struct model *m, const struct sequence *s, const char *whole, const char *arguments,
                        void (*print)(FILE *, const struct sequence *))
{
    bool alone = true, backwards = true, fitted = true;
    struct sequence *other = room(CASES, sizeof *other);
    for (size_t k = 0; k < CASES; k++)
        other[k] = s[CASES - 1 - k];
    char *text = print_all(other, CASES, print), *reply = answer("model", arguments, text, CASES);
    for (size_t k = 0; k < CASES; k++) {
        size_t len, len2;
        const char *a = line_at(whole, k, &len), *b = line_at(reply, CASES - 1 - k, &len2);
        backwards &= len == len2 && !memcmp(a, b, len);
    }
    free(text);
    free(reply);
    for (size_t k = 0; k < CASES; k += 5) {
        struct dlm_config c = m->config;
        char name[32];
        size_t len;
        const char *a = line_at(whole, k, &len);
        text = print_all(&s[k], 1, print);
        reply = answer("model", arguments, text, 1);
        alone &= strlen(reply) == len && !memcmp(a, reply, len);
        free(reply);
        c.context = s[k].n;
        snprintf(name, sizeof name, "context-%zu", s[k].n);
        save(name, &c, m);
        reply = answer(name, arguments, text, 1);
        fitted &= strlen(reply) == len && !memcmp(a, reply, len);
        free(reply);
        free(text);
    }
    tap_ok(backwards, "%s: no line hangs on those before it", arguments);
    tap_ok(alone, "%s: nor on being one of many", arguments);
    tap_ok(fitted, "%s: a line shorter than the context has exactly the answer of a model of that context", arguments);
    free(other);
}

static void test_diffusion(void)
{
    struct model m = make_model("model", false);
    struct sequence *s = room(CASES, sizeof *s);
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 10, DLM_RNG_TEST);
    for (size_t k = 0; k < CASES; k++)
        draw(&s[k], k % CONTEXT + 1, types[k % TYPES], &r);
    char *ids = print_all(s, CASES, print_ids), *cases = print_all(s, CASES, print_case);
    char *logits = answer("model", "--logits", ids, CASES), *losses = answer("model", "--loss", cases, CASES);
    json_t *a[CASES], *b[CASES];
    parse(logits, a, CASES);
    parse(losses, b, CASES);
    check_logits(&m, s, a, "diffusion");
    check_loss(s, a, b);
    check_alone(&m, s, logits, "--logits", print_ids);
    check_alone(&m, s, losses, "--loss", print_case);

    /* The noise of a line, else --noise, else the checkpoint's. */
    static const char line[] = "{\"x\": [4, 5], \"z\": [3, 7], \"log_snr\": [0.5, -1], \"noisy\": [1, 1]%s}\n";
    char own[256], none[256];
    snprintf(own, sizeof own, line, ", \"noise\": \"low-uniform\"");
    snprintf(none, sizeof none, line, "");
    char *named = answer("model", "--loss --noise uniform", own, 1), *checkpoints = answer("model", "--loss", none, 1),
         *option = answer("model", "--loss --noise uniform", none, 1);
    const char *at = strstr(named, "\"loss\"");
    tap_ok(at && strstr(checkpoints, at) && !strstr(option, at), "the noise is the line's, else that of --noise, else the checkpoint's");

    char *half = answer("model", "--logits --dtype bf16", ids, CASES);
    json_t *h[CASES];
    parse(half, h, CASES);
    double off = 0;
    for (size_t k = 0; k < CASES; k++) {
        json_t *x = json_array_get(json_object_get(a[k], "logits"), 0), *y = json_array_get(json_object_get(h[k], "logits"), 0);
        for (size_t v = 0; v < V; v++)
            off = tap_worst(off, fabs(number(x, v) - number(y, v)));
        json_decref(a[k]);
        json_decref(b[k]);
        json_decref(h[k]);
    }
    tap_ok(off > 0 && off < 0.5, "--dtype bf16 is near float32, and not the same (%.2g)", off);
    void *garbage[] = {s, ids, cases, logits, losses, named, checkpoints, option, half};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        free(garbage[i]);
    model_release(&m);
}

static void test_autoregressive(void)
{
    struct model m = make_model("causal", true);
    struct sequence *s = room(CASES, sizeof *s), *shifted = room(CASES, sizeof *shifted);
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 11, DLM_RNG_TEST);
    for (size_t k = 0; k < CASES; k++) {
        draw(&s[k], k % CONTEXT + 1, "masked", &r);
        shifted[k] = s[k];
        for (size_t i = 0; i < s[k].n; i++)
            shifted[k].z[i] = i ? s[k].x[i - 1] : m.config.begin;
    }
    char *ids = print_all(shifted, CASES, print_ids), *cases = print_all(s, CASES, print_case);
    char *logits = answer("causal", "--logits", ids, CASES), *losses = answer("causal", "--loss", cases, CASES);
    json_t *a[CASES], *b[CASES];
    parse(logits, a, CASES);
    parse(losses, b, CASES);
    check_logits(&m, shifted, a, "autoregressive");
    double worst = 0;
    bool clean = true, none = true;
    for (size_t k = 0; k < CASES; k++) {
        for (size_t i = 0; i < s[k].n; i++) {
            json_t *row = json_array_get(json_object_get(a[k], "logits"), i);
            double sum = 0, elbo = number(json_object_get(b[k], "elbo"), i), loss = number(json_object_get(b[k], "loss"), i);
            for (size_t v = 0; v < V; v++)
                sum += v == MASK ? 0 : exp(number(row, v));
            if (s[k].noisy[i])
                worst = tap_worst(worst, fabs(elbo / (log(sum) - number(row, s[k].x[i])) - 1));
            else
                clean &= elbo == 0;
            clean &= loss == elbo;
        }
        none &= json_is_null(json_object_get(b[k], "kl")) && json_is_null(json_object_get(b[k], "is"));
        json_decref(a[k]);
        json_decref(b[k]);
    }
    tap_near(worst, 0, 1e-5, "autoregressive: the loss is the cross-entropy of the printed logits with the begin id before the sequence, relative");
    tap_ok(clean && none, "0 where clean; there is no KL and no IS");
    char *bare = answer("causal", "--loss", "{\"x\": [4, 5, 6]}\n", 1);
    tap_ok(strstr(bare, "\"elbo\": ") != NULL, "the ids alone will do");
    void *garbage[] = {s, shifted, ids, cases, logits, losses, bare};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        free(garbage[i]);
    model_release(&m);
}

/* --- published numbers ------------------------------------------------------------------------------------------------------- */

/* The elements of a tensor; the caller frees them. */
static void *data_of(const struct dlm_st_file *f, const char *name, size_t n)
{
    const struct dlm_st_entry *e = dlm_st_find(f, name);
    if (!e || e->n != n)
        bail(name);
    void *to = room(e->bytes, 1);
    if (dlm_st_read(f, e, to, &err))
        bail(err.msg);
    return to;
}

static void reference_logits(const struct dlm_st_file *f, const char *name, const char *path, size_t B, size_t N, size_t vocab, bool prompt)
{
    const char *table = prompt ? "logits_prompt" : "logits_full";
    uint32_t *z = data_of(f, "z", B * N);
    uint8_t *noisy = data_of(f, "noisy", B * N);
    float *want = data_of(f, table, B * N * vocab);
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    for (size_t b = 0; to && b < B; b++) {
        size_t clean = 0;
        while (prompt && clean < N && !noisy[b * N + clean])
            clean++;
        fprintf(to, "{\"clean\": %zu", clean);
        print_list(to, "ids", z + b * N, N);
        fputs("}\n", to);
    }
    if (!to || fclose(to))
        abort();
    char *reply = answer(path, "--logits", text, B);
    json_t *got[8];
    parse(reply, got, B);
    double off = 0, top = 0;
    for (size_t i = 0; i < B * N * vocab; i++) {
        json_t *row = json_array_get(json_object_get(got[i / (N * vocab)], "logits"), i / vocab % N);
        off = tap_worst(off, fabs(number(row, i % vocab) - want[i]));
        top = tap_worst(top, fabs((double)want[i]));
    }
    for (size_t b = 0; b < B; b++)
        json_decref(got[b]);
    tap_deviation(off / top, 1e-5, "%s: %s as dlm-eval prints it, share of the largest", name, table);
    void *garbage[] = {z, noisy, want, text, reply};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        free(garbage[i]);
}

static void reference_loss(const struct dlm_st_file *f, const char *name, const char *path, size_t B, size_t N)
{
    uint32_t *x = data_of(f, "x", B * N), *z = data_of(f, "z", B * N);
    uint8_t *noisy = data_of(f, "noisy", B * N);
    float *log_snr = data_of(f, "log_snr", B * N);
    double *whole = data_of(f, "loss", 1), want = *whole, sum = 0;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    for (size_t b = 0; to && b < B; b++) {
        fputs("{\"noise\": \"balanced\"", to);
        print_list(to, "x", x + b * N, N);
        print_list(to, "z", z + b * N, N);
        for (int k = 0; k < 2; k++) {
            fprintf(to, ", \"%s\": [", k ? "log_snr" : "noisy");
            for (size_t i = 0; i < N; i++)
                fprintf(to, "%s%.9g", i ? "," : "", k ? (double)log_snr[b * N + i] : noisy[b * N + i]);
            fputc(']', to);
        }
        fputs("}\n", to);
    }
    if (!to || fclose(to))
        abort();
    char *reply = answer(path, "--loss", text, B);
    json_t *got[8];
    parse(reply, got, B);
    for (size_t b = 0; b < B; b++) {
        for (size_t i = 0; i < N; i++)
            sum += number(json_object_get(got[b], "loss"), i);
        json_decref(got[b]);
    }
    tap_deviation(fabs(sum / want - 1), 1e-5, "%s: loss as dlm-eval prints it, relative", name);
    void *garbage[] = {x, z, noisy, log_snr, whole, text, reply};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        free(garbage[i]);
}

static void test_reference(const char *name)
{
    const char *base = getenv("DLM_REFERENCE") ? getenv("DLM_REFERENCE") : "../shared/reference";
    char path[512], expected[600];
    snprintf(path, sizeof path, "%.400s/%s", base, name);
    snprintf(expected, sizeof expected, "%s/expected.safetensors", path);
    if (access(expected, R_OK)) {
        tap_skip(3, "%s: no reference numbers in %.400s (DLM_REFERENCE)", name, base);
        return;
    }
    struct dlm_st_file f;
    if (dlm_st_open(&f, expected, &err))
        bail(err.msg);
    const struct dlm_st_entry *e = dlm_st_find(&f, "logits_full");
    if (!e || e->rank != 3 || e->shape[0] > 8)
        bail("logits_full is not there");
    reference_logits(&f, name, path, e->shape[0], e->shape[1], e->shape[2], false);
    reference_logits(&f, name, path, e->shape[0], e->shape[1], e->shape[2], true);
    reference_loss(&f, name, path, e->shape[0], e->shape[1]);
    dlm_st_close(&f);
}

int main(void)
{
    seed = tap_seed();
    if (!mkdtemp(dir))
        return 1;
    test_diffusion();
    test_autoregressive();
    test_reference("model-tiny");
    test_reference("model-odd");
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) ? 1 : tap_end();
}
