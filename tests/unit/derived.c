/* Constants worked out on paper from method.md, so that a clone without any reference numbers still proves itself. Every figure below is a fraction that
 * follows from the formulas in a few lines; the code under test shares nothing with them. */
#include "chances.h"
#include "diffuse/bound.h"
#include "model/network.h"
#include "run/optimizer.h"
#include "tap.h"

#include <string.h>

static struct dlm_backend cpu;
static struct dlm_error err;

_Noreturn static void bail(const char *what)
{
    printf("Bail out! %s\n", what);
    exit(1);
}

static struct dlm_noise noise(const char *text)
{
    struct dlm_noise n;
    if (dlm_noise_parse(&n, text, &err))
        bail(err.msg);
    return n;
}

static double apart(double got, double want)
{
    return fabs(got - want) / (fabs(want) > 0 ? fabs(want) : 1);
}

/* §1 and §3: α = σ(λ) is 1/2 at λ = 0, 3/4 at log 3, 9/10 at log 9; ρ = σ(aλ + b). The mask is id 3. */
static void test_schedule(void)
{
    const struct {
        const char *type;
        double log_snr, V, alpha, rho, pi, pi_mask, dpi, dpi_mask, w_mask, w_other, w_x;
    } rows[] = {
        {"balanced", 0, 5, 1 / 2.0, 1 / 2.0, 1 / 8.0, 1 / 2.0, 1 / 16.0, -1 / 4.0, 3 / 2.0, 1 / 2.0, 1 / 18.0},
        {"balanced", log(3), 4, 3 / 4.0, 3 / 4.0, 1 / 4.0, 1 / 4.0, 1 / 16.0, -3 / 16.0, 7 / 4.0, 3 / 4.0, 3 / 52.0},
        {"mix:0.25", 0, 5, 1 / 2.0, 1 / 4.0, 1 / 16.0, 3 / 4.0, 0, 0, 1, 1, 1 / 17.0},
        {"shift:0,0.5", log(9), 4, 9 / 10.0, 3 / 4.0, 1 / 4.0, 1 / 4.0, 1 / 32.0, -3 / 32.0, 11 / 8.0, 7 / 8.0, 7 / 296.0},
        {"masked", log(3), 5, 3 / 4.0, 0, 0, 1, 0, 0, 1, 0, 0},
        {"uniform", log(3), 5, 3 / 4.0, 1, 1 / 4.0, 0, 0, 0, 0, 1, 1 / 13.0},
    };
    double schedule = 0, mixing = 0, weights = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dlm_noise n = noise(rows[i].type);
        const double l = rows[i].log_snr, p = rows[i].alpha * (1 - rows[i].alpha);
        const uint32_t V = (uint32_t)rows[i].V;
        schedule = tap_worst(schedule, apart(dlm_noise_alpha(l), rows[i].alpha));
        schedule = tap_worst(schedule, apart(dlm_noise_rho(&n, l), rows[i].rho));
        mixing = tap_worst(mixing, apart(dlm_noise_pi(&n, l, false, V), rows[i].pi));
        mixing = tap_worst(mixing, apart(dlm_noise_pi(&n, l, true, V), rows[i].pi_mask));
        mixing = tap_worst(mixing, apart(dlm_noise_dpi(&n, l, false, V), rows[i].dpi));
        mixing = tap_worst(mixing, apart(dlm_noise_dpi(&n, l, true, V), rows[i].dpi_mask));
        const double want[] = {rows[i].w_mask, rows[i].w_other, rows[i].w_x};
        for (uint32_t j = 0; j < 3; j++) {
            struct dlm_token_noise t = dlm_noise_token(&n, l, 1, j == 0 ? 3 : j == 1 ? 2 : 1, 3, V);
            weights = tap_worst(weights, tap_worst(apart(t.weight, want[j]), apart(t.elbo_weight, want[j] / p)));
            weights = tap_worst(weights, apart(t.c, (1 - rows[i].alpha) * rows[i].pi));
        }
    }
    tap_deviation(schedule, 1e-15, "derived: α and ρ, relative");
    tap_deviation(mixing, 1e-15, "derived: mixing distribution and its derivative, relative");
    tap_deviation(weights, 1e-15, "derived: weights of the loss and of the ELBO, relative");
}

/* §3 at λ = 0, balanced, V = 5, x = 0: c = 1/16 and w, ELBO weight as above. Logits such that s = (1/2, 1/4, 1/8, –, 1/8), so that
 * p = (5, 3, 2, 4, 2)/16 and q = (9, 1, 1, 4, 1)/16. */
static void test_loss(void)
{
    const double kl = (9 * log(9 / 5.0) - log(3) - 2 * log(2)) / 16;
    const struct {
        uint32_t z;
        double w, is, grad[5]; /* grad / w */
    } rows[] = {
        {3, 3 / 2.0, 0, {-83 / 480.0, 31 / 320.0, 73 / 1920.0, 0, 73 / 1920.0}},
        {1, 1 / 2.0, log(3) - 2 / 3.0, {-569 / 1440.0, 1239 / 2880.0, -101 / 5760.0, 0, -101 / 5760.0}},
        {0, 1 / 18.0, 4 / 5.0 - log(9 / 5.0), {-1183 / 2400.0, 1233 / 4800.0, 1133 / 9600.0, 0, 1133 / 9600.0}},
    };
    const double logits[5] = {log(4), log(2), 0, 7, 0}; /* the mask's does not count */
    struct dlm_noise n = noise("balanced");
    double loss = 0, parts = 0, elbo = 0, grad = 0, kernel = 0, kernel_grad = 0, g[5], scratch[5];
    dlm_ptr at[5];
    static const size_t sizes[5] = {4 * sizeof(float), 5 * sizeof(float), 4, 4, sizeof(struct dlm_row)};
    for (int i = 0; i < 5; i++)
        at[i] = cpu.k->alloc(cpu.dev, sizes[i]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double w = rows[i].w, want[4] = {w * (kl + rows[i].is), 4 * w * (kl + rows[i].is), w * kl, w * rows[i].is};
        const uint32_t x = 0, z = rows[i].z;
        struct dlm_bound b = dlm_bound_token(&n, 0, x, z, 3, logits, 5, g, scratch);
        loss = tap_worst(loss, apart(b.loss, want[0]));
        elbo = tap_worst(elbo, apart(b.elbo, want[1]));
        parts = tap_worst(parts, tap_worst(apart(b.kl, want[2]), apart(b.is, want[3])));
        for (int v = 0; v < 5; v++)
            grad = tap_worst(grad, fabs(g[v] - w * rows[i].grad[v]) / w);

        float narrow[5], terms[4];
        struct dlm_row row = {0.5f, 0.0625f, (float)w, (float)(4 * w)};
        for (int v = 0; v < 5; v++)
            narrow[v] = (float)logits[v];
        cpu.k->upload(cpu.dev, at[1], narrow, sizeof narrow);
        cpu.k->upload(cpu.dev, at[2], &x, 4);
        cpu.k->upload(cpu.dev, at[3], &z, 4);
        cpu.k->upload(cpu.dev, at[4], &row, sizeof row);
        cpu.k->diffusion_loss(cpu.dev, at[0], at[1], at[1], at[2], at[3], at[4], 1, 5, 3, DLM_F32);
        cpu.k->download(cpu.dev, terms, at[0], sizeof terms);
        cpu.k->download(cpu.dev, narrow, at[1], sizeof narrow);
        static const int column[4] = {DLM_TERM_LOSS, DLM_TERM_ELBO, DLM_TERM_KL, DLM_TERM_IS};
        for (int j = 0; j < 4; j++)
            kernel = tap_worst(kernel, fabs(terms[column[j]] - want[j]) / want[j == 1]);
        for (int v = 0; v < 5; v++)
            kernel_grad = tap_worst(kernel_grad, fabs(narrow[v] - w * rows[i].grad[v]) / w);
    }
    for (int i = 0; i < 5; i++)
        cpu.k->free(cpu.dev, at[i]);
    tap_deviation(loss, 1e-14, "derived: loss, relative");
    tap_deviation(parts, 1e-14, "derived: KL and IS, relative");
    tap_deviation(elbo, 1e-14, "derived: ELBO, relative");
    tap_deviation(grad, 1e-14, "derived: gradient, share of the weight");
    tap_deviation(kernel, 1e-6, "derived: loss, ELBO, KL and IS of the kernel in float32, share of their sum");
    tap_deviation(kernel_grad, 1e-6, "derived: gradient of the kernel in float32, share of the weight");
}

/* §9 from λ = 0 to log 3 (α from 1/2 to 3/4), s = (1/2, 1/4, 1/8, –, 1/8). */
static void test_reverse(void)
{
    const double s[5] = {1 / 2.0, 1 / 4.0, 1 / 8.0, 0, 1 / 8.0}, l = log(3);
    const struct {
        const char *type;
        double to;
        uint32_t z;
        double p[5];
    } rows[] = {
        {"masked", l, 3, {1 / 4.0, 1 / 8.0, 1 / 16.0, 1 / 2.0, 1 / 16.0}}, /* half of the masks are lifted, by s */
        {"masked", l, 1, {0, 1, 0, 0, 0}},                                  /* what stands, stays */
        {"uniform", l, 0, {7 / 8.0, 1 / 18.0, 5 / 144.0, 0, 5 / 144.0}},    /* q_{t|s} = 2/3 [=] + 1/12, q_s = 3/4 s + 1/16, q_t(0) = 3/8 */
        {"uniform", INFINITY, 0, {5 / 6.0, 1 / 12.0, 1 / 24.0, 0, 1 / 24.0}}, /* q_{t|s} = 1/2 [=] + 1/8 */
    };
    double off = 0, p[5];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dlm_noise n = noise(rows[i].type);
        reverse_of(p, &n, 0, rows[i].to, rows[i].z, s, 5, 3);
        for (int v = 0; v < 5; v++)
            off = tap_worst(off, fabs(p[v] - rows[i].p[v]));
    }
    tap_deviation(off, 1e-15, "derived: reverse steps, absolute");
}

/* A network of width 2 with one head, one layer, 4 ids, 2 tokens a sequence. */
static struct dlm_network *make_network(struct dlm_config *c)
{
    struct dlm_network *m;
    struct dlm_network_plan plan = {.batch = 1, .seq_len = 2, .train = true, .act = DLM_F32};
    dlm_config_default(c, 2, 1, 1, 2, 4, 2);
    if (dlm_network_new(&m, &cpu, c, &plan, &err))
        bail(err.msg);
    return m;
}

static void set(float *w, const struct dlm_network *m, enum dlm_tensor_kind kind, const float *v)
{
    const struct dlm_tensor *t = dlm_layout_find(dlm_network_layout(m), kind, 0);
    memcpy(w + t->offset, v, t->n * sizeof *v);
}

/* §4. Query and key matrices are zero, so every score is 0 and attention is the mean over the sequence and the sink. Up is zero too, so the MLP adds
 * down·relu²(bias) + bias whatever comes in.
 *
 *     E[0] = (3, 4), E[1] = (1, 7); norms n = E/√12.5 and E/5, times 1 + γ = (2, 1)
 *     attention: V = 1, sink (1/2, -1), O = 1: o = (n₀ + n₁ + sink)/3; R/L = 4
 *     MLP: relu²((2, -1)) = (4, 0); down = ((1, 9), (-1/2, 9)), bias (0, 3): adds 4·(4, 1)
 *     logits = (512/2)·norm(x) Wᵀ */
static void test_network(void)
{
    struct dlm_config c;
    struct dlm_network *m = make_network(&c);
    const struct dlm_layout *l = dlm_network_layout(m);
    float *w = calloc(l->total, sizeof *w), got[8];
    if (!w)
        abort();
    static const float E[] = {3, 4, 1, 7, 0, 0, 0, 0}, one[] = {1, 0, 0, 1}, gamma[] = {1, 0}, sink_v[] = {0.5f, -1}, up_bias[] = {2, -1};
    static const float down[] = {1, 9, -0.5f, 9}, down_bias[] = {0, 3}, W[] = {1, 0, 0, 1, 1, -1, 0.5f, 0.25f};
    set(w, m, DLM_TENSOR_EMBED, E);
    set(w, m, DLM_TENSOR_ATTN_NORM, gamma);
    set(w, m, DLM_TENSOR_V, one);
    set(w, m, DLM_TENSOR_O, one);
    set(w, m, DLM_TENSOR_V_BIAS, sink_v);
    set(w, m, DLM_TENSOR_UP_BIAS, up_bias);
    set(w, m, DLM_TENSOR_DOWN, down);
    set(w, m, DLM_TENSOR_DOWN_BIAS, down_bias);
    set(w, m, DLM_TENSOR_HEAD, W);
    cpu.k->upload(cpu.dev, dlm_network_weights(m), w, l->total * sizeof *w);
    dlm_network_refresh(m);
    static const uint32_t ids[] = {0, 1}, at[] = {0, 1};
    dlm_ptr d_ids = cpu.k->alloc(cpu.dev, sizeof ids);
    cpu.k->upload(cpu.dev, d_ids, ids, sizeof ids);
    for (int rule = 0; rule < 2; rule++) {
        dlm_network_forward(m, d_ids, (dlm_ptr){0}, rule ? DLM_ATTEND_CAUSAL : DLM_ATTEND_FULL, 1);
        if (dlm_network_logits(m, at, 2, got, &err))
            bail(err.msg);
        double off = 0, top = 0;
        for (int i = 0; i < 2; i++) {
            const double r0 = sqrt(12.5 + 1e-6), r1 = sqrt(25 + 1e-6), n0[2] = {2 * 3 / r0, 4 / r0}, n1[2] = {2 * 1 / r1, 7 / r1};
            double x[2], size;
            for (int e = 0; e < 2; e++) {
                bool alone = rule && i == 0; /* the first token of a causal network sees itself and the sink */
                double o = alone ? (n0[e] + (double)sink_v[e]) / 2 : (n0[e] + n1[e] + (double)sink_v[e]) / 3;
                x[e] = (double)E[2 * i + e] + 4 * o + 4 * (e ? 1 : 4);
            }
            size = sqrt((x[0] * x[0] + x[1] * x[1]) / 2 + 1e-6);
            const double y[2] = {x[0] / size, x[1] / size}, want[4] = {256 * y[0], 256 * y[1], 256 * (y[0] - y[1]), 256 * (y[0] / 2 + y[1] / 4)};
            for (int v = 0; v < 4; v++) {
                off = tap_worst(off, fabs(got[i * 4 + v] - want[v]));
                top = tap_worst(top, fabs(want[v]));
            }
        }
        tap_deviation(off / top, 1e-6, "derived: logits of a network of width 2, %s, share of the largest", rule ? "causal" : "full attention");
    }
    cpu.k->free(cpu.dev, d_ids);
    free(w);
    dlm_network_free(m);
}

/* §4 with b₁ = 1/2, b₂ = 3/4, ε = 1, so that b̂₁ = 0, 1/3, 3/7 and b̂₂ = 0, 3/7, 21/37 at steps 1, 2, 3. Gradients 3, 15/2, 0 make
 * ν = 9, 36, 756/37 and μ = 3/4, 27/28, 81/196; wd = 1/2, η = 1/5: the matrices move at η/d = 1/10, the rest at η·aux = 1/5.
 *
 * AdamW with gradients 3, 0: m/c₁ = 3, 1 and v/c₂ = 9, 27/7. */
static void test_optimizer(int kind, const char *name)
{
    static const double gradient[] = {3, 7.5, 0}, adam_gradient[] = {3, 0, 0};
    const double laprop[] = {3 / 4.0, 27 / 28.0, 81 / 196.0}, adamw[] = {3 / 4.0, 1 / (sqrt(27 / 7.0) + 1)};
    const int steps = kind == DLM_OPTIMIZER_LAPROP ? 3 : 2;
    struct dlm_config c;
    struct dlm_network *m = make_network(&c);
    const struct dlm_layout *l = dlm_network_layout(m);
    struct dlm_optimizer o;
    struct dlm_settings s = {.optimizer = kind, .beta1 = 0.5, .beta2 = 0.75, .eps = 1, .weight_decay = 0.5, .aux_lr = 1};
    if (dlm_optimizer_new(&o, &cpu, m, &err))
        bail(err.msg);
    float *w = calloc(l->total, sizeof *w), *g = calloc(l->total, sizeof *g);
    if (!w || !g)
        abort();
    double want[2] = {2, 2}, off = 0;
    for (size_t i = 0; i < l->total; i++)
        w[i] = 2;
    cpu.k->upload(cpu.dev, dlm_network_weights(m), w, l->total * sizeof *w);
    for (int k = 0; k < steps; k++) {
        for (size_t i = 0; i < l->total; i++)
            g[i] = 4 * (float)(kind == DLM_OPTIMIZER_LAPROP ? gradient : adam_gradient)[k];
        cpu.k->upload(cpu.dev, dlm_network_gradients(m), g, l->total * sizeof *g);
        dlm_optimizer_step(&o, m, &s, (uint64_t)k + 1, 0.2, 0.25);
        cpu.k->download(cpu.dev, w, dlm_network_weights(m), l->total * sizeof *w);
        for (int group = 0; group < 2; group++)
            want[group] -= (group ? 1 / 5.0 : 1 / 10.0) * ((kind == DLM_OPTIMIZER_LAPROP ? laprop : adamw)[k] + want[group] / 2);
        for (size_t i = 0; i < l->n; i++)
            for (size_t j = 0; j < l->tensors[i].n; j++)
                off = tap_worst(off, fabs(w[l->tensors[i].offset + j] - want[!l->tensors[i].bulk]));
    }
    tap_deviation(off, 1e-6, "derived: %s over %d steps, both learning-rate groups, absolute", name, steps);
    free(w);
    free(g);
    dlm_optimizer_release(&o);
    dlm_network_free(m);
}

int main(void)
{
    char msg[256] = "";
    cpu.k = dlm_kernels_cpu();
    cpu.dev = cpu.k->open(0, 1, msg, sizeof msg);
    if (!cpu.dev)
        bail(msg);
    test_schedule();
    test_loss();
    test_reverse();
    test_network();
    test_optimizer(DLM_OPTIMIZER_LAPROP, "LaProp");
    test_optimizer(DLM_OPTIMIZER_ADAMW, "AdamW");
    cpu.k->close(cpu.dev);
    return tap_end();
}
