/* The network against an independent forward pass in double: logits, losses, and every tensor's gradient by finite differences, for masked,
 * balanced and uniform noise and the autoregressive baseline; and against published reference numbers where they are at hand. */
#include "base/rng.h"
#include "model/checkpoint.h"
#include "model/network.h"
#include "model/safetensors.h"
#include "network_reference.h"
#include "tap.h"

#include <string.h>
#include <unistd.h>

static uint64_t seed;
static struct dlm_backend cpu;
static struct dlm_error err;

/* --- the loss in double, by its definition (method.md §3) -------------------------------------------------------------------- */

struct noise {
    const char *name;
    double shift;
};

/* π(z) and π'(z), a = 1. */
static double ref_pi(double log_snr, double shift, bool mask, size_t V, double *slope)
{
    double rho = 1 / (1 + exp(-log_snr - shift)), d = rho * (1 - rho);
    *slope = mask ? -d : d / (double)(V - 1);
    return mask ? 1 - rho : rho / (double)(V - 1);
}

static void ref_softmax(double *s, const double *logits, size_t V, uint32_t mask)
{
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++)
        if (v != mask)
            top = fmax(top, logits[v]);
    for (size_t v = 0; v < V; v++)
        sum += s[v] = v == mask ? 0 : exp(logits[v] - top);
    for (size_t v = 0; v < V; v++)
        s[v] /= sum;
}

static double ref_weight(double log_snr, double shift, uint32_t x, uint32_t z, uint32_t mask, size_t V)
{
    double slope, pi = ref_pi(log_snr, shift, z == mask, V, &slope);
    return (pi - slope) / (pi + (z == x ? exp(log_snr) : 0));
}

static double ref_diffusion(const double *logits, double log_snr, double shift, uint32_t x, uint32_t z, uint32_t mask, size_t V)
{
    double s[256], alpha = 1 / (1 + exp(-log_snr)), beta = 1 / (1 + exp(log_snr)), kl = 0, ratio = 0, slope;
    ref_softmax(s, logits, V, mask);
    for (size_t v = 0; v < V; v++) {
        double pi = ref_pi(log_snr, shift, v == mask, V, &slope), q = alpha * (v == x) + beta * pi, p = alpha * s[v] + beta * pi;
        kl += q > 0 ? q * log(q / p) : 0;
        if (v == z)
            ratio = q / p;
    }
    return fmin(ref_weight(log_snr, shift, x, z, mask, V), 1e3) * (kl + ratio - log(ratio) - 1);
}

static double ref_nll(const double *logits, uint32_t x, uint32_t mask, size_t V)
{
    double s[256];
    ref_softmax(s, logits, V, mask);
    return -log(s[x]);
}

/* --- a case: model, batch, rows ---------------------------------------------------------------------------------------------- */

struct trial {
    struct dlm_config config;
    struct dlm_layout layout;
    size_t B, N;
    enum dlm_attend rule;
    double shift;  /* of the noise; not read when causal */
    uint32_t *x, *z; /* (B, N) */
    uint8_t *noisy;
    double *log_snr;
    float *weights;
    struct dlm_scored scored;
    uint32_t *at, *target, *corrupt;
    struct dlm_row *row;
};

/* The rows that carry a loss, in order. */
static void list_rows(struct trial *t)
{
    const size_t T = t->B * t->N, V = t->config.vocab_size;
    const uint32_t mask = t->config.mask;
    t->at = room(T, sizeof *t->at);
    t->target = room(T, sizeof *t->target);
    t->corrupt = room(T, sizeof *t->corrupt);
    t->row = room(T, sizeof *t->row);
    size_t n = 0;
    for (size_t i = 0; i < T; i++) {
        if (!t->config.causal) {
            double l = t->log_snr[i], alpha = 1 / (1 + exp(-l)), beta = 1 / (1 + exp(l)), slope;
            double w = ref_weight(l, t->shift, t->x[i], t->z[i], mask, V);
            if (!t->noisy[i] || w == 0)
                continue;
            t->row[n] = (struct dlm_row){(float)alpha, (float)(beta * ref_pi(l, t->shift, false, V, &slope)), (float)fmin(w, 1e3),
                                         (float)fmin(w / (alpha * beta), 1e6)};
        }
        t->at[n] = (uint32_t)i;
        t->target[n] = t->x[i];
        t->corrupt[n] = t->z[i];
        n++;
    }
    t->scored = (struct dlm_scored){n, t->at, t->target, t->config.causal ? NULL : t->corrupt, t->config.causal ? NULL : t->row};
}

static void random_weights(struct trial *t, struct dlm_rng *r)
{
    t->weights = room(t->layout.total, sizeof *t->weights);
    for (size_t i = 0; i < t->layout.n; i++) {
        const struct dlm_tensor *tensor = &t->layout.tensors[i];
        double scale = tensor->bulk ? t->config.init_scale : tensor->kind == DLM_TENSOR_EMBED ? 0.7 :
                       tensor->kind == DLM_TENSOR_HEAD ? 0.4 / t->config.head_scaling : 0.3;
        for (size_t j = 0; j < tensor->n; j++)
            t->weights[tensor->offset + j] = (float)(scale * dlm_rng_normal(r));
    }
}

static struct trial make_trial(size_t V, size_t d, size_t L, size_t H, size_t N, size_t B, enum dlm_attend rule, double shift)
{
    struct trial t = {.B = B, .N = N, .rule = rule, .shift = shift};
    struct dlm_rng r;
    dlm_rng_init(&r, seed, (uint64_t)rule * 1000 + (uint64_t)(shift + 5000), DLM_RNG_TEST);
    dlm_config_default(&t.config, d, L, H, 0, V, N);
    t.config.soft_cap = 3; /* so that scores feel it */
    t.config.causal = rule == DLM_ATTEND_CAUSAL;
    if (dlm_layout_init(&t.layout, &t.config, &err))
        abort();
    random_weights(&t, &r);
    t.x = room(B * N, sizeof *t.x);
    t.z = room(B * N, sizeof *t.z);
    t.noisy = room(B * N, 1);
    t.log_snr = room(B * N, sizeof *t.log_snr);
    const uint32_t mask = t.config.mask;
    for (size_t i = 0; i < B * N; i++) {
        do
            t.x[i] = (uint32_t)dlm_rng_below(&r, V);
        while (t.x[i] == mask);
        t.log_snr[i] = 7 * dlm_rng_uniform(&r) - 4.5;
        t.noisy[i] = rule != DLM_ATTEND_PREFIX || i / N == 0 || i % N > N / 3;
        double alpha = 1 / (1 + exp(-t.log_snr[i])), rho = 1 / (1 + exp(-t.log_snr[i] - shift));
        t.z[i] = t.x[i];
        if (t.config.causal)
            t.z[i] = i % N ? t.x[i - 1] : t.config.begin;
        else if (t.noisy[i] && dlm_rng_uniform(&r) >= alpha) {
            t.z[i] = mask;
            while (dlm_rng_uniform(&r) < rho && t.z[i] == mask)
                t.z[i] = (uint32_t)dlm_rng_below(&r, V);
        }
    }
    list_rows(&t);
    return t;
}

static void trial_release(struct trial *t)
{
    void *all[] = {t->x, t->z, t->noisy, t->log_snr, t->weights, t->at, t->target, t->corrupt, t->row};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    dlm_layout_release(&t->layout);
}

/* Logits (B, N, V) in double at weights w. */
static void ref_logits(const struct trial *t, const double *w, double *logits)
{
    for (size_t b = 0; b < t->B; b++)
        ref_forward(&t->config, &t->layout, w, t->z + b * t->N, t->noisy + b * t->N, t->rule, t->N, logits + b * t->N * t->config.vocab_size);
}

static double ref_loss(const struct trial *t, const double *w)
{
    const size_t V = t->config.vocab_size;
    double *logits = room(t->B * t->N * V, 8), sum = 0;
    ref_logits(t, w, logits);
    for (size_t i = 0; i < t->scored.n; i++) {
        size_t at = t->at[i];
        sum += t->config.causal ? ref_nll(logits + at * V, t->x[at], t->config.mask, V)
                                : ref_diffusion(logits + at * V, t->log_snr[at], t->shift, t->x[at], t->z[at], t->config.mask, V);
    }
    free(logits);
    return sum;
}

/* --- the network under test -------------------------------------------------------------------------------------------------- */

struct rig {
    struct dlm_network *m;
    dlm_ptr ids, noisy;
};

static struct rig rig_new(const struct trial *t, bool train, enum dlm_dtype act, size_t head_rows)
{
    struct rig r;
    struct dlm_network_plan plan = {.batch = t->B, .seq_len = t->N, .train = train, .act = act, .head_rows = head_rows};
    if (dlm_network_new(&r.m, &cpu, &t->config, &plan, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    r.ids = cpu.k->alloc(cpu.dev, t->B * t->N * 4);
    r.noisy = cpu.k->alloc(cpu.dev, t->B * t->N);
    cpu.k->upload(cpu.dev, dlm_network_weights(r.m), t->weights, t->layout.total * sizeof *t->weights);
    dlm_network_refresh(r.m);
    return r;
}

static void rig_release(struct rig *r)
{
    cpu.k->free(cpu.dev, r->ids);
    cpu.k->free(cpu.dev, r->noisy);
    dlm_network_free(r->m);
}

/* Sequences [first, first + B) of the trial. */
static void rig_forward(struct rig *r, const struct trial *t, size_t first, size_t B)
{
    cpu.k->upload(cpu.dev, r->ids, t->z + first * t->N, B * t->N * 4);
    cpu.k->upload(cpu.dev, r->noisy, t->noisy + first * t->N, B * t->N);
    dlm_network_forward(r->m, r->ids, t->rule == DLM_ATTEND_PREFIX ? r->noisy : (dlm_ptr){0}, t->rule, B);
}

static double rig_loss(struct rig *r, const struct trial *t, bool gradient)
{
    float *out = room(t->scored.n * DLM_TERMS, sizeof *out);
    double sum = 0;
    rig_forward(r, t, 0, t->B);
    int rc = t->config.causal ? dlm_network_cross_entropy(r->m, &t->scored, gradient, out, &err)
                              : dlm_network_diffusion_loss(r->m, &t->scored, gradient, out, &err);
    for (size_t i = 0; i < t->scored.n; i++)
        sum += out[t->config.causal ? i : i * DLM_TERMS + DLM_TERM_LOSS];
    if (gradient)
        dlm_network_backward(r->m);
    free(out);
    return rc || dlm_network_sync(r->m, &err) ? NAN : sum;
}

static float *rig_gradients(struct rig *r, const struct trial *t)
{
    float *g = room(t->layout.total, sizeof *g);
    cpu.k->download(cpu.dev, g, dlm_network_gradients(r->m), t->layout.total * sizeof *g);
    return g;
}

static float *rig_logits(struct rig *r, const struct trial *t, size_t n)
{
    uint32_t *at = room(n, sizeof *at);
    float *logits = room(n * t->config.vocab_size, sizeof *logits);
    for (size_t i = 0; i < n; i++)
        at[i] = (uint32_t)i;
    if (dlm_network_logits(r->m, at, n, logits, &err))
        abort();
    free(at);
    return logits;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------- */

static double norm_of(const float *g, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)g[i] * g[i];
    return sqrt(s);
}

static double largest(const float *g, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s = fmax(s, fabs((double)g[i]));
    return s;
}

/* Element by element against differences of the double pass: all of a small tensor, some of a large one. The largest deviation as a share of the
 * tensor's largest gradient. */
static double check_elements(const struct trial *t, const struct dlm_tensor *tensor, const float *g, double *w, struct dlm_rng *r)
{
    double worst = 0, top = largest(g + tensor->offset, tensor->n);
    const double step = 1e-4 * (tensor->kind == DLM_TENSOR_HEAD ? 0.05 : 1);
    const size_t tries = tensor->n <= 32 ? tensor->n : 32;
    for (size_t i = 0; i < tries; i++) {
        size_t at = tensor->offset + (tensor->n <= 32 ? i : dlm_rng_below(r, tensor->n));
        double was = w[at], up, down;
        w[at] = was + step;
        up = ref_loss(t, w);
        w[at] = was - step;
        down = ref_loss(t, w);
        w[at] = was;
        worst = fmax(worst, fabs(g[at] - (up - down) / (2 * step)) / top);
    }
    return top > 0 ? worst : INFINITY; /* a gradient that is all zero would prove nothing */
}

/* The network's own loss in float32 along the tensor's gradient must rise by its length. */
static double check_slope(struct rig *r, const struct trial *t, const struct dlm_tensor *tensor, const float *g)
{
    double length = norm_of(g + tensor->offset, tensor->n), reach = 0.02 / (length + 1e-30), side[2];
    if (reach * length > 0.01 * norm_of(t->weights + tensor->offset, tensor->n))
        reach = 0.01 * norm_of(t->weights + tensor->offset, tensor->n) / length;
    float *w = room(tensor->n, sizeof *w);
    double moved = 0;
    for (int s = 0; s < 2; s++) {
        double travelled = 0;
        for (size_t i = 0; i < tensor->n; i++) {
            double e = g[tensor->offset + i];
            w[i] = (float)(t->weights[tensor->offset + i] + (s ? reach : -reach) * e);
            travelled += ((double)w[i] - t->weights[tensor->offset + i]) * e; /* as far as float32 really went */
        }
        moved += s ? travelled : -travelled;
        cpu.k->upload(cpu.dev, dlm_ptr_at(dlm_network_weights(r->m), tensor->offset * 4), w, tensor->n * 4);
        dlm_network_refresh(r->m);
        side[s] = rig_loss(r, t, false);
    }
    cpu.k->upload(cpu.dev, dlm_ptr_at(dlm_network_weights(r->m), tensor->offset * 4), t->weights + tensor->offset, tensor->n * 4);
    dlm_network_refresh(r->m);
    free(w);
    return (side[1] - side[0]) / moved;
}

static void test_gradients(const char *name, enum dlm_attend rule, double shift, double weight_scaling, size_t head_rows)
{
    struct trial t = make_trial(11, 16, 2, 2, 6, 2, rule, shift);
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 77, DLM_RNG_TEST);
    t.config.weight_scaling = weight_scaling;
    struct rig rig = rig_new(&t, true, DLM_F32, head_rows);
    double *w = room(t.layout.total, 8);
    for (size_t i = 0; i < t.layout.total; i++)
        w[i] = t.weights[i];
    const size_t n = t.B * t.N, V = t.config.vocab_size;

    double *want = room(n * V, 8), off = 0, top = 0;
    ref_logits(&t, w, want);
    rig_forward(&rig, &t, 0, t.B);
    float *got = rig_logits(&rig, &t, n);
    for (size_t i = 0; i < n * V; i++) {
        off = fmax(off, fabs(got[i] - want[i]));
        top = fmax(top, fabs(want[i]));
    }
    tap_near(off / top, 0, 1e-5, "%s: logits as in double", name);

    double loss = rig_loss(&rig, &t, true);
    float *g = rig_gradients(&rig, &t);
    tap_near(loss / ref_loss(&t, w), 1, 1e-5, "%s: loss of %zu rows as in double", name, t.scored.n);
    tap_near(rig_loss(&rig, &t, false) / loss, 1, 1e-6, "%s: the same without gradient", name);
    double worst = 0, slope = 0;
    const char *worst_name = "", *slope_name = "";
    for (size_t i = 0; i < t.layout.n; i++) {
        const struct dlm_tensor *tensor = &t.layout.tensors[i];
        double e = check_elements(&t, tensor, g, w, &r), s = fabs(check_slope(&rig, &t, tensor, g) - 1);
        if (!(e <= worst)) {
            worst = e;
            worst_name = tensor->name;
        }
        if (!(s <= slope)) {
            slope = s;
            slope_name = tensor->name;
        }
    }
    tap_near(worst, 0, 1e-4, "%s: gradients of all %zu tensors against differences in double, share of the largest (worst %s)", name, t.layout.n, worst_name);
    tap_near(slope, 0, 0.05, "%s: and against differences of the float32 loss along the gradient (worst %s)", name, slope_name);
    bool idle = true; /* nothing is written between tensors */
    for (size_t i = 0, end = 0; i < t.layout.n; end = t.layout.tensors[i].offset + t.layout.tensors[i].n, i++)
        for (size_t j = end; j < t.layout.tensors[i].offset; j++)
            idle &= g[j] == 0;
    double mask_row = largest(g + dlm_layout_find(&t.layout, DLM_TENSOR_HEAD, 0)->offset + t.config.mask * t.config.width, t.config.width);
    tap_ok(idle && mask_row == 0, "%s: the mask's row of the head and the gaps have none", name);

    /* Gradients add up; zeroed they begin anew. */
    rig_loss(&rig, &t, true);
    float *twice = rig_gradients(&rig, &t);
    double add = 0;
    for (size_t i = 0; i < t.layout.total; i++)
        add = fmax(add, fabs((double)twice[i] - 2 * (double)g[i]) / largest(g, t.layout.total));
    tap_near(add, 0, 1e-6, "%s: a second pass adds the same again", name);
    dlm_network_zero_gradients(rig.m);
    free(twice);
    rig_loss(&rig, &t, true);
    twice = rig_gradients(&rig, &t);
    tap_ok(!memcmp(twice, g, t.layout.total * sizeof *g), "%s: and zeroed it is the same to the bit", name);
    free(twice);
    free(g);
    free(got);
    free(want);
    free(w);
    rig_release(&rig);
    trial_release(&t);
}

/* The rows of sequences [first, first + B) as a list of their own. */
static size_t rows_of(const struct trial *t, size_t first, size_t B, uint32_t *at, struct dlm_scored *s)
{
    size_t begin = 0, end;
    while (begin < t->scored.n && t->at[begin] < first * t->N)
        begin++;
    for (end = begin; end < t->scored.n && t->at[end] < (first + B) * t->N; end++)
        at[end - begin] = t->at[end] - (uint32_t)(first * t->N);
    *s = (struct dlm_scored){end - begin, at, t->target + begin, t->corrupt + begin, t->row + begin};
    return begin;
}

static void test_batches(void)
{
    struct trial t = make_trial(101, 48, 3, 3, 13, 5, DLM_ATTEND_PREFIX, 0);
    const size_t V = t.config.vocab_size, all = t.B * t.N;
    struct rig rig = rig_new(&t, true, DLM_F32, 0), eval = rig_new(&t, false, DLM_F32, 0);
    float *terms = room(t.scored.n * DLM_TERMS, 4), *some = room(t.scored.n * DLM_TERMS, 4);
    uint32_t *at = room(all, 4);
    double loss = rig_loss(&rig, &t, true);
    float *g = rig_gradients(&rig, &t);
    dlm_network_zero_gradients(rig.m);
    static const size_t parts[][2] = {{0, 2}, {2, 3}};
    double sum = 0, off = 0;
    for (int p = 0; p < 2; p++) {
        struct dlm_scored s;
        rows_of(&t, parts[p][0], parts[p][1], at, &s);
        rig_forward(&rig, &t, parts[p][0], parts[p][1]);
        if (dlm_network_diffusion_loss(rig.m, &s, true, some, &err))
            abort();
        dlm_network_backward(rig.m);
        for (size_t i = 0; i < s.n; i++)
            sum += some[i * DLM_TERMS];
    }
    float *pieces = rig_gradients(&rig, &t);
    for (size_t i = 0; i < t.layout.n; i++) {
        const struct dlm_tensor *x = &t.layout.tensors[i];
        double top = largest(g + x->offset, x->n);
        for (size_t j = x->offset; j < x->offset + x->n; j++)
            off = fmax(off, fabs((double)pieces[j] - g[j]) / top);
    }
    tap_near(sum / loss, 1, 1e-6, "two micro-batches have the loss of one batch");
    tap_near(off, 0, 1e-5, "and its gradients, within rounding");

    /* Scores do not depend on what else is scored. */
    rig_forward(&eval, &t, 0, t.B);
    if (dlm_network_diffusion_loss(eval.m, &t.scored, false, terms, &err))
        abort();
    float *logits = rig_logits(&eval, &t, all);
    double apart = 0, apart_logits = 0;
    bool bits = true;
    for (size_t b = 0; b < t.B; b++) {
        struct dlm_scored s;
        size_t begin = rows_of(&t, b, 1, at, &s);
        rig_forward(&eval, &t, b, 1);
        if (dlm_network_diffusion_loss(eval.m, &s, false, some, &err))
            abort();
        for (size_t i = 0; i < s.n * DLM_TERMS; i++)
            apart = fmax(apart, fabs(some[i] - terms[begin * DLM_TERMS + i]) / (1 + fabs(terms[begin * DLM_TERMS + i])));
        float *alone = rig_logits(&eval, &t, t.N);
        bits &= !memcmp(alone, logits + b * t.N * V, t.N * V * sizeof *alone);
        for (size_t i = 0; i < t.N * V; i++)
            apart_logits = fmax(apart_logits, fabs(alone[i] - logits[b * t.N * V + i]) / largest(logits, all * V));
        free(alone);
    }
    tap_near(apart, 0, 1e-5, "a row's terms are the same alone as in a batch");
    tap_near(apart_logits, 0, 1e-6, "so are its logits (%s)", bits ? "to the bit" : "within rounding");
    rig_forward(&eval, &t, 0, t.B);
    struct dlm_scored one = {1, t.at + 7, t.target + 7, t.corrupt + 7, t.row + 7};
    if (dlm_network_diffusion_loss(eval.m, &one, false, some, &err))
        abort();
    tap_ok(!memcmp(some, terms + (size_t)7 * DLM_TERMS, DLM_TERMS * sizeof *some), "one row scored alone has the same bits as among %zu", t.scored.n);
    float *trained = NULL;
    rig_forward(&rig, &t, 0, t.B);
    trained = rig_logits(&rig, &t, all);
    tap_ok(!memcmp(trained, logits, all * V * sizeof *logits), "a network without backward gives the same bits");
    struct dlm_scored none = {0, NULL, NULL, NULL, NULL};
    dlm_network_zero_gradients(rig.m);
    tap_ok(!dlm_network_diffusion_loss(rig.m, &none, true, some, &err), "no rows at all are no error");
    dlm_network_backward(rig.m);
    float *nothing = rig_gradients(&rig, &t);
    tap_ok(largest(nothing, t.layout.total) == 0, "and have no gradient, whatever was scored before");
    void *garbage[] = {terms, some, at, g, pieces, logits, trained, nothing};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++)
        free(garbage[i]);
    rig_release(&rig);
    rig_release(&eval);
    trial_release(&t);
}

static void test_bf16(void)
{
    struct trial t = make_trial(101, 64, 2, 4, 16, 3, DLM_ATTEND_FULL, 0);
    struct rig full = rig_new(&t, true, DLM_F32, 0), half = rig_new(&t, true, DLM_BF16, 20);
    double a = rig_loss(&full, &t, true), b = rig_loss(&half, &t, true);
    float *ga = rig_gradients(&full, &t), *gb = rig_gradients(&half, &t);
    tap_near(b / a, 1, 0.02, "bf16: the loss is near that of float32");
    tap_ok(a != b, "bf16: but not the same, so bf16 it was");
    double worst = 0;
    const char *name = "";
    for (size_t i = 0; i < t.layout.n; i++) {
        const struct dlm_tensor *x = &t.layout.tensors[i];
        double dot = 0, na = norm_of(ga + x->offset, x->n), nb = norm_of(gb + x->offset, x->n);
        for (size_t j = x->offset; j < x->offset + x->n; j++)
            dot += (double)ga[j] * gb[j];
        double e = fmax(1 - dot / (na * nb), fabs(nb / na - 1));
        if (!(e <= worst)) {
            worst = e;
            name = x->name;
        }
    }
    tap_near(worst, 0, 0.05, "bf16: gradients have the direction and length of float32's (worst %s)", name);
    float *la = rig_logits(&full, &t, 48), *lb = rig_logits(&half, &t, 48);
    double off = 0;
    for (size_t i = 0; i < 48 * t.config.vocab_size; i++)
        off = fmax(off, fabs(la[i] - lb[i]));
    tap_near(off / largest(la, 48 * t.config.vocab_size), 0, 0.05, "bf16: logits are near those of float32");
    free(ga);
    free(gb);
    free(la);
    free(lb);
    rig_release(&full);
    rig_release(&half);
    trial_release(&t);
}

/* --- what is computed again, and the compact state ---------------------------------------------------------------------------- */

static struct rig rig_planned(const struct trial *t, struct dlm_network_plan plan)
{
    struct rig r;
    plan.batch = plan.batch ? plan.batch : t->B;
    plan.seq_len = t->N;
    if (dlm_network_new(&r.m, &cpu, &t->config, &plan, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    r.ids = cpu.k->alloc(cpu.dev, t->B * t->N * 4);
    r.noisy = cpu.k->alloc(cpu.dev, t->B * t->N);
    dlm_network_write(r.m, 0, t->layout.total, t->weights);
    dlm_network_refresh(r.m);
    return r;
}

/* The gradients as float32, bf16 ones among them. */
static float *rig_all_gradients(struct rig *r, const struct trial *t)
{
    float *g = room(t->layout.total, sizeof *g);
    struct dlm_run run[2];
    for (int i = 0, n = dlm_network_runs(r->m, 0, t->layout.total, run); i < n; i++)
        for (size_t j = run[i].from; j < run[i].to; j++) {
            uint32_t bits = 0;
            char *to = (char *)&bits + (run[i].type == DLM_BF16 ? 2 : 0);
            cpu.k->download(cpu.dev, to, dlm_network_gradient_at(r->m, j), dlm_dtype_size(run[i].type));
            memcpy(&g[j], &bits, 4);
        }
    return g;
}

static void test_recompute(enum dlm_attend rule, enum dlm_dtype act, bool compact)
{
    struct trial t = make_trial(37, 24, 3, 3, 11, 4, rule, 0);
    float *want = NULL;
    size_t before = SIZE_MAX;
    for (int level = DLM_RECOMPUTE_NONE; level <= DLM_RECOMPUTE_LAYER; level++) {
        struct dlm_network_plan plan = {.batch = 4, .seq_len = t.N, .train = true, .act = act, .compact = compact, .recompute = (enum dlm_recompute)level};
        const size_t size = dlm_network_memory_of(&cpu, &t.config, &plan).activations;
        struct rig r = rig_planned(&t, plan);
        dlm_network_rounding(r.m, 3, 1);
        rig_loss(&r, &t, true);
        dlm_network_rounding(r.m, 3, 2);
        rig_loss(&r, &t, true); /* and once more, over what the first has left in the buffers */
        float *g = rig_all_gradients(&r, &t);
        if (level)
            tap_ok(!memcmp(g, want, t.layout.total * sizeof *g) && size < before, "level %d of computing again (rule %d, %s%s): the same bits in %zu bytes", level,
                   (int)rule, act ? "bf16" : "f32", compact ? ", compact" : "", size);
        before = size;
        rig_release(&r);
        free(level ? g : NULL);
        want = level ? want : g;
    }
    free(want);
    trial_release(&t);
}

/* A network that trains on two sequences at a time evaluates five with the bits of one made for five. */
static void test_eval_batch(bool compact)
{
    struct trial t = make_trial(53, 32, 2, 2, 9, 5, DLM_ATTEND_PREFIX, 0);
    const enum dlm_dtype act = compact ? DLM_BF16 : DLM_F32;
    struct rig small = rig_planned(&t, (struct dlm_network_plan){.batch = 2, .eval_batch = 5, .train = true, .act = act, .compact = compact,
                                                                 .recompute = DLM_RECOMPUTE_LAYER});
    struct rig large = rig_planned(&t, (struct dlm_network_plan){.batch = 5, .train = true, .act = act, .compact = compact});
    float *a = room(t.scored.n * DLM_TERMS, 4), *b = room(t.scored.n * DLM_TERMS, 4), *some = room(t.scored.n * DLM_TERMS, 4);
    bool same = true;
    float *g[2];
    for (int turn = 0; turn < 2; turn++) { /* training between evaluations leaves them alone, and the other way round */
        rig_forward(&small, &t, 0, t.B);
        same = same && !dlm_network_diffusion_loss(small.m, &t.scored, false, a, &err);
        rig_forward(&large, &t, 0, t.B);
        same = same && !dlm_network_diffusion_loss(large.m, &t.scored, false, b, &err);
        same = same && !memcmp(a, b, t.scored.n * DLM_TERMS * 4);
        uint32_t *at = room(t.B * t.N, 4);
        struct dlm_scored s;
        rows_of(&t, 2, 2, at, &s);
        dlm_network_zero_gradients(small.m);
        rig_forward(&small, &t, 2, 2);
        same = same && !dlm_network_diffusion_loss(small.m, &s, true, some, &err);
        dlm_network_backward(small.m);
        g[turn] = rig_all_gradients(&small, &t);
        free(at);
    }
    tap_ok(same && !memcmp(g[0], g[1], t.layout.total * 4), "more sequences are scored than train at a time, with the same bits (%s)", compact ? "compact" : "plain");
    free(a), free(b), free(some), free(g[0]), free(g[1]);
    rig_release(&small);
    rig_release(&large);
    trial_release(&t);
}

/* The compact state against the plain one in bf16 at the same weights, which are bf16 numbers. */
static void test_compact(void)
{
    struct trial t = make_trial(101, 64, 2, 4, 16, 3, DLM_ATTEND_FULL, 0);
    for (size_t i = 0; i < t.layout.total; i++) {
        uint32_t u;
        memcpy(&u, &t.weights[i], 4);
        u &= 0xffff0000u;
        memcpy(&t.weights[i], &u, 4);
    }
    struct rig plain = rig_planned(&t, (struct dlm_network_plan){.train = true, .act = DLM_BF16});
    struct rig half = rig_planned(&t, (struct dlm_network_plan){.train = true, .act = DLM_BF16, .compact = true});
    float *back = room(t.layout.total, 4);
    dlm_network_read(half.m, 0, t.layout.total, back);
    tap_ok(!memcmp(back, t.weights, t.layout.total * 4) && dlm_network_short(half.m) == dlm_layout_find(&t.layout, DLM_TENSOR_FINAL_NORM, 0)->offset &&
               !dlm_network_short(plain.m), "compact: weights that are bf16 are kept as they are, all of them");
    double a = rig_loss(&plain, &t, true);
    dlm_network_rounding(half.m, 9, 1);
    double b = rig_loss(&half, &t, true);
    tap_near(b / a, 1, 1e-4, "compact: the loss is that of the plain state in bf16");
    float *ga = rig_gradients(&plain, &t), *gb = rig_all_gradients(&half, &t);
    double worst = 0;
    const char *name = "";
    bool rounded = true;
    double apart = 0, length = 0;
    for (size_t i = 0; i < t.layout.n; i++) {
        const struct dlm_tensor *x = &t.layout.tensors[i];
        double off = 0, top = largest(ga + x->offset, x->n);
        for (size_t j = x->offset; j < x->offset + x->n; j++) {
            off = fmax(off, fabs((double)ga[j] - gb[j]) / top);
            apart += pow((double)ga[j] - gb[j], 2), length += pow(ga[j], 2);
        }
        if (!(off <= worst)) {
            worst = off;
            name = x->name;
        }
    }
    for (size_t i = 0; i < dlm_network_short(half.m); i++) {
        uint32_t u;
        memcpy(&u, &gb[i], 4);
        rounded = rounded && !(u & 0xffff);
    }
    tap_near(worst, 0, 0x1p-6, "compact: and so are gradients, to a rounding or two (worst %s)", name);
    tap_ok(rounded, "compact: in bf16");
    tap_near(sqrt(apart / length), 0, 0.01, "compact: off by a share of the gradient's length");
    /* Of many passes they are the sum, where the nearest would have stopped growing. */
    for (uint32_t pass = 2; pass <= 400; pass++) {
        dlm_network_rounding(half.m, 9, pass);
        rig_loss(&half, &t, true);
    }
    free(gb);
    gb = rig_all_gradients(&half, &t);
    double dot = 0, one = 0, off = 0;
    for (size_t i = 0; i < dlm_network_short(half.m); i++) {
        dot += (double)ga[i] * gb[i], one += (double)ga[i] * ga[i];
        off += pow(gb[i] / 400.0 - ga[i], 2);
    }
    tap_near(sqrt(off / one), 0, 0.06, "compact: their mean is off by a share of its length");
    tap_near(dot / one, 400, 6, "compact: 400 passes add up to 400 gradients, along the gradient");
    free(ga), free(gb), free(back);
    rig_release(&plain);
    rig_release(&half);
    struct dlm_network *m;
    struct dlm_network_plan wrong = {.batch = 1, .seq_len = 4, .train = true, .act = DLM_F32, .compact = true};
    tap_ok(dlm_network_new(&m, &cpu, &t.config, &wrong, &err) == DLM_EUSAGE && !m, "compact in float32 is refused: %s", err.msg);
    trial_release(&t);
}

/* --- memory ------------------------------------------------------------------------------------------------------------------ */

static size_t allocated, allocations, refuse_at = SIZE_MAX;
static long held;

static dlm_ptr counting_alloc(struct dlm_device *dev, size_t bytes)
{
    if (allocations++ == refuse_at)
        return (dlm_ptr){0};
    dlm_ptr p = dlm_kernels_cpu()->alloc(dev, bytes);
    allocated += bytes;
    held += p.at != 0;
    return p;
}

static void counting_free(struct dlm_device *dev, dlm_ptr p)
{
    held -= p.at != 0;
    dlm_kernels_cpu()->free(dev, p);
}

static size_t reserved;
static bool refuse_scratch;

/* As much as shows which shape was asked for: backward's, or that of the larger batch without. */
static size_t some_scratch(struct dlm_device *dev, const struct dlm_shape *s)
{
    (void)dev;
    return s->B * s->N * s->d * (s->train ? 10 : 1) + s->m + s->H * s->h + s->V + (s->act == DLM_BF16);
}

static bool reserve(struct dlm_device *dev, size_t bytes)
{
    (void)dev;
    reserved = bytes;
    return !refuse_scratch;
}

/* A device whose calls work in memory of its own. */
static void test_scratch(void)
{
    struct dlm_kernels table = *dlm_kernels_cpu();
    table.alloc = counting_alloc;
    table.free = counting_free;
    table.scratch_of = some_scratch;
    table.scratch_reserve = reserve;
    struct dlm_backend b = {.k = &table, .dev = cpu.dev};
    struct dlm_config c;
    dlm_config_default(&c, 32, 2, 4, 40, 97, 24);
    const size_t rest = 40 + 32 + 97, row = 17 * 32;
    const struct {
        struct dlm_network_plan plan;
        size_t want;
    } of[] = {{{.batch = 3, .seq_len = 17, .act = DLM_BF16}, 3 * row + rest + 1},
              {{.batch = 3, .seq_len = 17, .train = true, .eval_batch = 5}, 30 * row + rest},
              {{.batch = 3, .seq_len = 17, .train = true, .eval_batch = 50}, 50 * row + rest}};
    bool good = true;
    struct dlm_network *m;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        good = good && dlm_network_memory_of(&b, &c, &of[i].plan).scratch == of[i].want;
        reserved = 0;
        good = good && !dlm_network_new(&m, &b, &c, &of[i].plan, &err) && reserved == of[i].want;
        dlm_network_free(m);
    }
    tap_ok(good, "scratch is that of the largest passes, and is reserved at once");
    refuse_scratch = true;
    tap_ok(dlm_network_new(&m, &b, &c, &of[0].plan, &err) == DLM_ENOMEM && !m && !held, "none to be had: %s", err.msg);
    struct dlm_network_plan huge = {.batch = SIZE_MAX / 8, .seq_len = 24, .train = true};
    tap_ok(dlm_network_new(&m, &b, &c, &huge, &err) == DLM_ENOMEM && !m && dlm_network_memory_of(&b, &c, &huge).scratch == SIZE_MAX,
           "nor more than can be counted: %s", err.msg);
}

static void test_memory(void)
{
    struct dlm_kernels table = *dlm_kernels_cpu();
    table.alloc = counting_alloc;
    table.free = counting_free;
    struct dlm_backend b = {.k = &table, .dev = cpu.dev};
    struct dlm_config c;
    dlm_config_default(&c, 32, 3, 4, 40, 97, 24);
    size_t sizes[2][2];
    for (int train = 0; train < 2; train++)
        for (int act = 0; act < 2; act++) {
            struct dlm_network_plan plan = {.batch = 3, .seq_len = 17, .train = train, .act = act ? DLM_BF16 : DLM_F32};
            struct dlm_network *m;
            allocated = allocations = 0;
            struct dlm_network_memory n = dlm_network_memory_of(&b, &c, &plan);
            tap_ok(!allocations, "memory is foretold without taking any");
            int rc = dlm_network_new(&m, &b, &c, &plan, &err);
            size_t all = n.weights + n.gradients + n.packs + n.activations + n.head;
            tap_ok(!rc && allocated == all && allocations == (train ? 5 : 4), "%zu bytes foretold and taken, in %zu pieces (%s, %s)", all, allocations,
                   train ? "training" : "evaluation", act ? "bf16" : "f32");
            tap_ok((n.gradients > 0) == train && n.weights >= (dlm_network_layout(m)->total) * 4, "with gradients only to train");
            sizes[train][act] = n.activations;
            dlm_network_free(m);
            tap_ok(!held, "and given back");
            for (size_t at = 0; at < (train ? 5 : 4); at++) {
                allocations = 0;
                refuse_at = at;
                rc = dlm_network_new(&m, &b, &c, &plan, &err);
                if (rc != DLM_ENOMEM || m || held)
                    tap_ok(false, "allocation %zu refused: %d, %ld held", at, rc, held);
            }
            refuse_at = SIZE_MAX;
            tap_ok(strstr(err.msg, "GB needed") != NULL, "no memory: %s", err.msg);
        }
    tap_ok(sizes[1][1] < sizes[1][0] && sizes[0][0] < sizes[1][0] / 2, "bf16 takes less, evaluation much less");
    struct dlm_network_plan shallow = {.batch = 2, .seq_len = 24, .act = DLM_F32}, huge = {.batch = SIZE_MAX / 8, .seq_len = 24, .train = true, .act = DLM_F32};
    struct dlm_config deep = c;
    deep.layers = 30;
    tap_ok(dlm_network_memory_of(&b, &c, &shallow).activations == dlm_network_memory_of(&b, &deep, &shallow).activations,
           "evaluation needs no more activations for more layers");
    struct dlm_network *m;
    tap_ok(dlm_network_new(&m, &b, &c, &huge, &err) == DLM_ENOMEM && !m && !held, "more than can be counted: %s", err.msg);
    struct dlm_network_plan longer = {.batch = 1, .seq_len = 25, .act = DLM_F32};
    tap_ok(dlm_network_new(&m, &b, &c, &longer, &err) == DLM_EUSAGE && !m && !held, "longer than the context: %s", err.msg);
}

/* --- published numbers ------------------------------------------------------------------------------------------------------- */

static const struct dlm_st_entry *entry(const struct dlm_st_file *f, const char *name, size_t n)
{
    const struct dlm_st_entry *e = dlm_st_find(f, name);
    if (!e || e->n != n) {
        printf("Bail out! %s: '%s' is not there\n", f->path, name);
        exit(1);
    }
    return e;
}

/* The largest deviation from the tensor `name`, as a share of its largest number. */
static double deviation(const struct dlm_st_file *f, const char *name, const float *got, size_t n)
{
    float *want = room(n, sizeof *want);
    double off = 0;
    if (dlm_st_read_f32(f, entry(f, name, n), want, &err))
        abort();
    for (size_t i = 0; i < n; i++)
        off = tap_worst(off, fabs((double)got[i] - want[i]));
    off /= largest(want, n);
    free(want);
    return off;
}

static void compare(const struct dlm_st_file *f, struct trial *t, const char *name)
{
    const size_t n = t->B * t->N, V = t->config.vocab_size;
    struct rig rig = rig_new(t, true, DLM_F32, 7);
    t->rule = DLM_ATTEND_FULL;
    rig_forward(&rig, t, 0, t->B);
    float *logits = rig_logits(&rig, t, n);
    tap_deviation(deviation(f, "logits_full", logits, n * V), 1e-5, "%s: logits_full, share of the largest", name);
    free(logits);
    t->rule = DLM_ATTEND_PREFIX;
    rig_forward(&rig, t, 0, t->B);
    logits = rig_logits(&rig, t, n);
    tap_deviation(deviation(f, "logits_prompt", logits, n * V), 1e-5, "%s: logits_prompt, share of the largest", name);
    double want;
    if (dlm_st_read(f, entry(f, "loss", 1), &want, &err))
        abort();
    tap_deviation(fabs(rig_loss(&rig, t, true) / want - 1), 1e-5, "%s: loss %.9g, relative", name, want);
    float *g = rig_gradients(&rig, t);
    double worst = 0;
    char worst_name[96] = "";
    for (size_t i = 0; i < t->layout.n; i++) {
        char key[96];
        snprintf(key, sizeof key, "grad.%s", t->layout.tensors[i].name);
        double e = deviation(f, key, g + t->layout.tensors[i].offset, t->layout.tensors[i].n);
        if (!(e <= worst)) {
            worst = e;
            strcpy(worst_name, key);
        }
    }
    tap_deviation(worst, 1e-4, "%s: gradients of %zu tensors, share of each one's largest (worst %s)", name, t->layout.n, worst_name);

    /* d loss / d logits, straight from the table: rows that carry no loss have none. */
    const size_t rows = t->scored.n;
    dlm_ptr on[5] = {cpu.k->alloc(cpu.dev, rows * V * 4), cpu.k->alloc(cpu.dev, rows * 16), cpu.k->alloc(cpu.dev, rows * 4),
                     cpu.k->alloc(cpu.dev, rows * 4), cpu.k->alloc(cpu.dev, rows * 16)};
    float *picked = room(rows * V, 4), *spread = room(n * V, 4);
    for (size_t i = 0; i < rows; i++)
        memcpy(picked + i * V, logits + t->at[i] * V, V * 4);
    cpu.k->upload(cpu.dev, on[0], picked, rows * V * 4);
    cpu.k->upload(cpu.dev, on[2], t->target, rows * 4);
    cpu.k->upload(cpu.dev, on[3], t->corrupt, rows * 4);
    cpu.k->upload(cpu.dev, on[4], t->row, rows * 16);
    cpu.k->diffusion_loss(cpu.dev, on[1], on[0], on[0], on[2], on[3], on[4], rows, V, t->config.mask, DLM_F32);
    cpu.k->download(cpu.dev, picked, on[0], rows * V * 4);
    for (size_t i = 0; i < rows; i++)
        memcpy(spread + t->at[i] * V, picked + i * V, V * 4);
    tap_deviation(deviation(f, "grad_logits", spread, n * V), 1e-4, "%s: grad_logits, share of the largest", name);
    for (int i = 0; i < 5; i++)
        cpu.k->free(cpu.dev, on[i]);
    free(picked);
    free(spread);
    free(logits);
    free(g);
    rig_release(&rig);
}

static void test_reference(const char *name)
{
    const char *base = getenv("DLM_REFERENCE") ? getenv("DLM_REFERENCE") : "../shared/reference";
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%.400s/%s", base, name);
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    if (access(path, R_OK)) {
        tap_skip(5, "%s: no reference numbers in %.400s (DLM_REFERENCE)", name, base);
        return;
    }
    struct trial t = {.B = 2, .shift = 0};
    struct dlm_st_file f;
    if (dlm_checkpoint_config(dir, &t.config, &err) || dlm_layout_init(&t.layout, &t.config, &err) || dlm_st_open(&f, path, &err)) {
        tap_ok(false, "%s", err.msg);
        return;
    }
    t.N = t.config.context;
    const size_t n = t.B * t.N;
    t.weights = room(t.layout.total, 4);
    if (dlm_checkpoint_weights(dir, &t.layout, t.weights, &err)) {
        tap_ok(false, "%s", err.msg);
        return;
    }
    float *levels = room(n, 4);
    t.x = room(n, 4);
    t.z = room(n, 4);
    t.noisy = room(n, 1);
    t.log_snr = room(n, 8);
    if (dlm_st_read(&f, entry(&f, "x", n), t.x, &err) || dlm_st_read(&f, entry(&f, "z", n), t.z, &err) ||
        dlm_st_read(&f, entry(&f, "noisy", n), t.noisy, &err) || dlm_st_read_f32(&f, entry(&f, "log_snr", n), levels, &err))
        abort();
    for (size_t i = 0; i < n; i++)
        t.log_snr[i] = levels[i];
    free(levels);
    list_rows(&t);
    compare(&f, &t, name);
    dlm_st_close(&f);
    trial_release(&t);
}

int main(void)
{
    seed = tap_seed();
    char msg[256] = "";
    cpu.k = dlm_kernels_cpu();
    cpu.dev = cpu.k->open(0, 1, msg, sizeof msg); /* one thread: a busy machine makes a thousand tiny parallel regions slow */
    if (!cpu.dev) {
        printf("Bail out! %s\n", msg);
        return 1;
    }
    printf("# %s\n", cpu.k->describe(cpu.dev));
    test_gradients("masked", DLM_ATTEND_FULL, -1000, 1, 5);
    test_gradients("balanced", DLM_ATTEND_FULL, 0, 0.8, 0);
    test_gradients("uniform, clean prefix", DLM_ATTEND_PREFIX, 1000, 1, 3);
    test_gradients("autoregressive", DLM_ATTEND_CAUSAL, 0, 1, 7);
    test_batches();
    test_bf16();
    test_recompute(DLM_ATTEND_PREFIX, DLM_F32, false);
    test_recompute(DLM_ATTEND_CAUSAL, DLM_BF16, false);
    test_recompute(DLM_ATTEND_FULL, DLM_BF16, true);
    test_eval_batch(false);
    test_eval_batch(true);
    test_compact();
    test_memory();
    test_scratch();
    test_reference("model-tiny");
    test_reference("model-odd");
    cpu.k->close(cpu.dev);
    return tap_end();
}
