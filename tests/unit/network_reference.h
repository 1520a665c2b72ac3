/* The network of method.md §4 in double, written plainly: what forward passes are tested against. */
#ifndef DLM_TESTS_NETWORK_REFERENCE_H
#define DLM_TESTS_NETWORK_REFERENCE_H

#include "model/layout.h"
#include "../../kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *room(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        abort();
    return p;
}

/* (1 + γ)·x/√(mean x² + eps). */
static void ref_norm(double *y, const double *x, const double *gamma, size_t d, double eps)
{
    double s = 0;
    for (size_t i = 0; i < d; i++)
        s += x[i] * x[i];
    for (size_t i = 0; i < d; i++)
        y[i] = (1 + gamma[i]) * x[i] / sqrt(s / (double)d + eps);
}

/* y (O) = scale·W x, W (O, I). */
static void ref_linear(double *y, const double *w, const double *x, size_t O, size_t I, double scale)
{
    for (size_t o = 0; o < O; o++) {
        double s = 0;
        for (size_t i = 0; i < I; i++)
            s += w[o * I + i] * x[i];
        y[o] = scale * s;
    }
}

static void ref_rotate(double *q, size_t position, size_t h, double theta)
{
    for (size_t i = 0; i < h / 2; i++) {
        double angle = (double)position / pow(theta, 2.0 * (double)i / (double)h), a = q[i], b = q[i + h / 2];
        q[i] = a * cos(angle) - b * sin(angle);
        q[i + h / 2] = b * cos(angle) + a * sin(angle);
    }
}

/* logits (N, V) of one sequence. */
static void ref_forward(const struct dlm_config *c, const struct dlm_layout *l, const double *w, const uint32_t *ids, const uint8_t *noisy,
                        enum dlm_attend rule, size_t N, double *logits)
{
    const size_t d = c->width, m = c->mlp, H = c->heads, h = d / H;
#define W(kind, layer) (w + dlm_layout_find(l, kind, layer)->offset)
    double *x = room(N * d, 8), *y = room(d, 8), *q = room(N * d, 8), *k = room(N * d, 8), *v = room(N * d, 8), *o = room(d, 8), *u = room(m, 8),
           *raw = room(d, 8), *s = room(N + 1, 8);
    for (size_t n = 0; n < N; n++)
        memcpy(x + n * d, W(DLM_TENSOR_EMBED, 0) + ids[n] * d, d * 8);
    const double residual = c->resid_scale / (double)c->layers, scale = c->weight_scaling;
    for (size_t i = 0; i < c->layers; i++) {
        for (size_t n = 0; n < N; n++) {
            ref_norm(y, x + n * d, W(DLM_TENSOR_ATTN_NORM, i), d, c->norm_eps);
            ref_linear(raw, W(DLM_TENSOR_Q, i), y, d, d, scale);
            ref_norm(q + n * d, raw, W(DLM_TENSOR_Q_NORM, i), d, c->norm_eps);
            ref_linear(raw, W(DLM_TENSOR_K, i), y, d, d, scale);
            ref_norm(k + n * d, raw, W(DLM_TENSOR_K_NORM, i), d, c->norm_eps);
            ref_linear(v + n * d, W(DLM_TENSOR_V, i), y, d, d, scale);
            for (size_t a = 0; a < H; a++) {
                ref_rotate(q + n * d + a * h, n, h, c->rope_theta);
                ref_rotate(k + n * d + a * h, n, h, c->rope_theta);
            }
        }
        for (size_t n = 0; n < N; n++) {
            for (size_t a = 0; a < H; a++) {
                double sum = 0;
                const double *query = q + n * d + a * h, *sink_k = W(DLM_TENSOR_K_BIAS, i) + a * h, *sink_v = W(DLM_TENSOR_V_BIAS, i) + a * h;
                for (size_t j = 0; j <= N; j++) { /* j = N is the sink */
                    bool seen = j == N || rule == DLM_ATTEND_FULL || (rule == DLM_ATTEND_CAUSAL ? j <= n : noisy[n] >= noisy[j]);
                    double dot = 0;
                    for (size_t e = 0; e < h; e++)
                        dot += query[e] * (j == N ? sink_k[e] : k[j * d + a * h + e]);
                    s[j] = seen ? exp(c->soft_cap * tanh(dot / sqrt((double)h) / c->soft_cap)) : 0;
                    sum += s[j];
                }
                for (size_t e = 0; e < h; e++) {
                    double r = s[N] * sink_v[e];
                    for (size_t j = 0; j < N; j++)
                        r += s[j] * v[j * d + a * h + e];
                    o[a * h + e] = r / sum;
                }
            }
            ref_linear(raw, W(DLM_TENSOR_O, i), o, d, d, scale);
            for (size_t e = 0; e < d; e++)
                x[n * d + e] += residual * raw[e];
        }
        for (size_t n = 0; n < N; n++) {
            ref_norm(y, x + n * d, W(DLM_TENSOR_MLP_NORM, i), d, c->norm_eps);
            ref_linear(u, W(DLM_TENSOR_UP, i), y, m, d, scale);
            for (size_t e = 0; e < m; e++) {
                double r = u[e] + W(DLM_TENSOR_UP_BIAS, i)[e];
                u[e] = r > 0 ? r * r : 0;
            }
            ref_linear(raw, W(DLM_TENSOR_DOWN, i), u, d, m, scale);
            for (size_t e = 0; e < d; e++)
                x[n * d + e] += residual * (raw[e] + W(DLM_TENSOR_DOWN_BIAS, i)[e]);
        }
    }
    for (size_t n = 0; n < N; n++) {
        ref_norm(y, x + n * d, W(DLM_TENSOR_FINAL_NORM, 0), d, c->norm_eps);
        ref_linear(logits + n * c->vocab_size, W(DLM_TENSOR_HEAD, 0), y, c->vocab_size, d, c->head_scaling);
    }
#undef W
    double *all[] = {x, y, q, k, v, o, u, raw, s};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

#endif
