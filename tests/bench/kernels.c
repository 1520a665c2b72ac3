/* Times of every entry of a kernel table at the sizes of one model: TSV of op, size, dtype, ms of one call, calls a training step,
 * ms a step, GFLOP/s or GB/s. Not a test: it asserts nothing.
 *
 *     kernels [-t THREADS] [-d D] [-L LAYERS] [-H HEADS] [-N CONTEXT] [-B BATCH] [-V VOCAB] [-R HEAD-ROWS]
 *             [-p SIZE] [-s SECONDS] [f32|bf16]...
 *
 * -p: first a square product of this size, as what the device can do. The table is the CPU's, or that of the CUDA module DLM_TEST_MODULE.
 */
#include "kernel_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static size_t d = 512, L = 8, H = 8, N = 512, B = 8, V = 16384, R = 1024, T, h, peak;
static double seconds = 0.3;
static enum dlm_dtype act;
static double step_ms, gemm_ms;

/* With one thread it is processor time, which other users of the machine disturb least. */
static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dlm_ptr floats(size_t n, float scale)
{
    dlm_ptr p = K->alloc(D, n * 4);
    float *x = malloc(n * 4);
    uint32_t s = 12345;
    if (!p.at || !x) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = scale * ((float)(s >> 8) / 8388608.0f - 1.0f);
    }
    K->upload(D, p, x, n * 4);
    free(x);
    return p;
}

static dlm_ptr acts(size_t n, float scale)
{
    if (act == DLM_F32)
        return floats(n, scale);
    dlm_ptr p = K->alloc(D, n * 2), f = floats(n, scale);
    uint16_t *y = malloc(n * 2);
    float *x = malloc(n * 4);
    if (!p.at || !x || !y) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    K->download(D, x, f, n * 4);
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        y[i] = (uint16_t)(u >> 16);
    }
    K->upload(D, p, y, n * 2);
    free(x);
    free(y);
    K->free(D, f);
    return p;
}

/* `work` in flops or bytes a call; `product` counts it into the bound. */
static void report(const char *op, const char *size, double ms, double calls, double work, const char *unit, bool product)
{
    step_ms += ms * calls;
    gemm_ms += product ? ms * calls : 0;
    printf("%s\t%s\t%s\t%.4f\t%g\t%.2f\t%.1f\t%s\n", op, size, act == DLM_BF16 ? "bf16" : "f32", ms, calls, ms * calls,
           work / ms / 1e6, unit);
    fflush(stdout);
}

/* The fastest of the rounds that fit into the time: other users of the machine only add. A round is as many calls as take a millisecond or more,
 * so that waiting for a device at its end does not count. */
#define TIME(op, size, calls, work, unit, product, call)                                                                         \
    do {                                                                                                                         \
        double best = 1e9, until = now() + seconds;                                                                              \
        for (int round = 0, many = 1; round < 3 || now() < until; round++) {                                                     \
            double from = now();                                                                                                 \
            for (int one = 0; one < many; one++) {                                                                               \
                call;                                                                                                            \
            }                                                                                                                    \
            K->sync(D);                                                                                                          \
            double took = now() - from;                                                                                          \
            if (took < 1e-3 && many < 1 << 20) {                                                                                 \
                many *= 2;                                                                                                       \
                round--;                                                                                                         \
                continue;                                                                                                        \
            }                                                                                                                    \
            best = took / many < best ? took / many : best;                                                                      \
        }                                                                                                                        \
        report(op, size, best * 1e3, calls, work, unit, product);                                                                \
    } while (0)

static void linear(const char *name, size_t rows, size_t O, size_t I, double calls, float scale, enum dlm_dtype y_type)
{
    char size[64];
    snprintf(size, sizeof size, "%s %zux%zux%zu", name, rows, O, I);
    dlm_ptr w = floats(O * I, 1), x = acts(rows * I, 1), y = y_type == DLM_F32 ? floats(rows * O, 1) : acts(rows * O, 1),
            dy = acts(rows * O, 1);
    dlm_ptr pack = K->alloc(D, K->linear_pack_size(D, O, I, act)), dw = floats(O * I, 0);
    double flops = 2.0 * (double)rows * (double)O * (double)I, e = act == DLM_BF16 ? 2 : 4,
           chunks = rows < T ? (double)T / (double)rows : 1;
    TIME("linear_pack", size, calls / chunks, (double)(O * I) * (4 + 2 * e), "GB/s", false,
         K->linear_pack(D, pack, w, O, I, act));
    TIME("linear", size, calls, flops, "GFLOP/s", true, K->linear(D, y, x, pack, rows, O, I, act, y_type, scale));
    TIME("linear_dx", size, calls, flops, "GFLOP/s", true, K->linear_dx(D, x, dy, pack, rows, O, I, act, act, scale));
    TIME("linear_dw", size, calls, flops, "GFLOP/s", true, K->linear_dw(D, dw, dy, x, rows, O, I, act, scale));
    K->free(D, w), K->free(D, x), K->free(D, y), K->free(D, dy), K->free(D, pack), K->free(D, dw);
}

static void bench(void)
{
    double e = act == DLM_BF16 ? 2 : 4, Td = (double)(T * d), l = (double)L;
    char size[64];
    if (peak)
        linear("square", peak, peak, peak, 0, 1, act);
    step_ms = gemm_ms = 0;
    linear("qkv", T, 3 * d, d, l, 1, act);
    linear("o", T, d, d, l, 1, act);
    linear("up", T, 4 * d, d, l, 1, act);
    linear("down", T, d, 4 * d, l, 1, act);
    size_t rows = R < T ? R : T;
    linear("head", rows, V, d, (double)T / (double)rows, 512.0f / (float)d, DLM_F32);
    /* what attention's products would take at the speed of the products above */
    double flops_done = 6.0 * (double)T * (12.0 * (double)(d * d) * l + (double)(V * d)), speed = flops_done / gemm_ms;
    double attention_flops = 12.0 * l * (double)d * (double)N * (double)T, bound = gemm_ms + attention_flops / speed;

    dlm_ptr x = floats(T * d, 1), y = acts(T * d, 1), gamma = floats(4 * d, 0.1f), rstd = floats(2 * T, 1), dx = floats(T * d, 1),
            dgamma = floats(4 * d, 0);
    snprintf(size, sizeof size, "%zux%zu", T, d);
    TIME("norm", size, 2 * l + 1, Td * (4 + e), "GB/s", false, K->norm(D, y, rstd, x, gamma, T, d, 1e-6f, act));
    TIME("norm_backward", size, 2 * l + 1, Td * (12 + e), "GB/s", false,
         K->norm_backward(D, dx, dgamma, y, x, rstd, gamma, T, d, act));
    TIME("residual", size, 2 * l, Td * (8 + e), "GB/s", false, K->residual(D, x, y, gamma, T, d, 1e-3f, act));
    TIME("residual_backward", size, 2 * l, Td * (4 + e), "GB/s", false, K->residual_backward(D, y, dgamma, x, T, d, 0.5f, act));
    dlm_ptr u = acts(4 * T * d, 1), a = acts(4 * T * d, 1), none = {0};
    snprintf(size, sizeof size, "%zux%zu", T, 4 * d);
    TIME("bias_relu2", size, l, 8 * Td * e, "GB/s", false, K->bias_relu2(D, a, u, gamma, T, 4 * d, act));
    TIME("bias_relu2_backward", size, l, 12 * Td * e, "GB/s", false,
         K->bias_relu2_backward(D, a, dgamma, a, u, gamma, T, 4 * d, act));

    dlm_ptr qkv = acts(3 * T * d, 1), dqkv = acts(3 * T * d, 1), q = acts(T * d, 1), k = acts(T * d, 1), o = acts(T * d, 1),
            dq = acts(T * d, 1);
    dlm_ptr dk = acts(T * d, 1), rope = floats(N * h, 1), lse = floats(T * H, 1), sink = floats(d, 1), dsink = floats(d, 0),
            dout = acts(T * d, 1);
    dlm_ptr noisy = K->alloc(D, T);
    snprintf(size, sizeof size, "%zux%zux%zux%zu", B, N, H, h);
    TIME("qk_rotary", size, l, 4 * Td * e, "GB/s", false,
         K->qk_rotary(D, q, k, rstd, qkv, gamma, gamma, rope, B, N, H, h, 1e-6f, act));
    TIME("attention", size, l, 4 * Td * (double)N, "GFLOP/s", false,
         K->attention(D, o, lse, q, k, dlm_ptr_at(qkv, 2 * d * (size_t)e), 3 * d, sink, sink, none, DLM_ATTEND_FULL, B, N, H, h,
                      30, act));
    TIME("attention_prefix", size, 0, 4 * Td * (double)N, "GFLOP/s", false,
         K->attention(D, o, lse, q, k, dlm_ptr_at(qkv, 2 * d * (size_t)e), 3 * d, sink, sink, noisy, DLM_ATTEND_PREFIX, B, N, H,
                      h, 30, act));
    TIME("attention_backward", size, l, 10 * Td * (double)N, "GFLOP/s", false,
         K->attention_backward(D, dq, dk, dlm_ptr_at(dqkv, 2 * d * (size_t)e), 3 * d, dsink, dsink, dout, o, lse, q, k,
                               dlm_ptr_at(qkv, 2 * d * (size_t)e), 3 * d, sink, sink, none, DLM_ATTEND_FULL, B, N, H, h, 30,
                               act));
    TIME("qk_rotary_backward", size, l, 6 * Td * e, "GB/s", false,
         K->qk_rotary_backward(D, dqkv, dgamma, dgamma, dq, dk, qkv, rstd, gamma, gamma, rope, B, N, H, h, act));

    uint32_t *ids = malloc(T * 4), *index = malloc(T * 4);
    uint64_t *wide = malloc(T * 8);
    struct dlm_row *row = malloc(T * sizeof *row);
    if (!ids || !index || !wide || !row)
        exit(1);
    for (size_t t = 0; t < T; t++) {
        ids[t] = t % 2 ? 3 : (uint32_t)((t * 7919 + 5) % V);
        index[t] = (uint32_t)t;
        wide[t] = (uint64_t)1 << 31;
    }
    dlm_ptr E = floats(V * d, 0.02f), dE = floats(V * d, 0), di = K->alloc(D, T * 4), dn = K->alloc(D, T * 4), dz = K->alloc(D, T * 4);
    K->upload(D, di, ids, T * 4);
    K->upload(D, dn, index, T * 4);
    snprintf(size, sizeof size, "%zux%zu", T, d);
    TIME("corrupt", size, 1, (double)T * 24, "GB/s", false, K->corrupt(D, index, ids, wide, wide, wide, B, N, 1, 1, (uint32_t)V - 1, 3, 3));
    TIME("embed", size, 1, Td * 8, "GB/s", false, K->embed(D, x, di, E, T, d));
    TIME("embed_backward", size, 1, Td * 12, "GB/s", false, K->embed_backward(D, dE, dx, di, T, d, V));
    TIME("gather_rows", size, 1, 2 * Td * e, "GB/s", false, K->gather_rows(D, y, o, dn, T, d, act));
    TIME("scatter_rows", size, 1, 2 * Td * e, "GB/s", false, K->scatter_rows(D, y, o, dn, T, d, act));

    dlm_ptr logits = floats(rows * V, 3), dlogits = acts(rows * V, 1), terms = floats(rows * 4, 0),
            dr = K->alloc(D, rows * sizeof *row);
    for (size_t t = 0; t < rows; t++) {
        row[t] = (struct dlm_row){0.4f, 0.3f / (float)V, 1.0f, 4.0f};
        ids[t] = (uint32_t)((t * 7919 + 5) % V);
    }
    K->upload(D, di, ids, T * 4);
    K->upload(D, dr, row, rows * sizeof *row);
    snprintf(size, sizeof size, "%zux%zu", rows, V);
    double area = (double)(rows * V), chunks = (double)T / (double)rows;
    TIME("diffusion_loss", size, chunks, area * (12 + e), "GB/s", false,
         K->diffusion_loss(D, terms, dlogits, logits, di, dz, dr, rows, V, 3, act));
    TIME("cross_entropy", size, 0, area * (8 + e), "GB/s", false,
         K->cross_entropy(D, terms, dlogits, logits, di, rows, V, 3, act));

    size_t n = 12 * d * d * L + 2 * V * d;
    dlm_ptr theta = floats(n, 1), mu = floats(n, 0), nu = floats(n, 0), grad = floats(n, 1);
    snprintf(size, sizeof size, "%zu", n);
    TIME("sum_squares", size, 1, (double)n * 4, "GB/s", false, (void)K->sum_squares(D, grad, n));
    TIME("laprop", size, 1, (double)n * 28, "GB/s", false,
         K->laprop(D, theta, mu, nu, grad, n, 1e-3f, 0.9f, 0.99f, 1e-10f, 0, 1));
    TIME("adamw", size, 0, (double)n * 28, "GB/s", false,
         K->adamw(D, theta, mu, nu, grad, n, 1e-3f, 0.9f, 0.99f, 1, 1, 1e-10f, 0, 1));
    TIME("copy", size, 0, (double)n * 8, "GB/s", false, K->copy(D, mu, grad, n * 4));
    TIME("zero", size, 1, (double)n * 4, "GB/s", false, K->zero(D, grad, n * 4));
    printf("step\tall ops\t%s\t%.1f\t1\t%.1f\t%.1f\tGFLOP/s\n", act == DLM_BF16 ? "bf16" : "f32", step_ms, step_ms,
           (flops_done + attention_flops) / step_ms / 1e6);
    printf("bound\tproducts only\t%s\t%.1f\t1\t%.1f\t%.1f\tGFLOP/s\n", act == DLM_BF16 ? "bf16" : "f32", bound, bound,
           speed / 1e6);
    printf("share\tbound/step\t%s\t\t\t\t%.3f\tof 1\n", act == DLM_BF16 ? "bf16" : "f32", bound / step_ms);
    dlm_ptr all[] = {x,     y,    gamma, rstd, dx, dgamma, u,  a,   qkv, dqkv,   q,       k,     o,  dq,    dk, rope, lse, sink,
                     dsink, dout, noisy, E,    dE, di,     dn, dz,  logits, dlogits, terms, dr, theta, mu, nu,   grad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        K->free(D, all[i]);
    free(ids), free(index), free(wide), free(row);
}

int main(int argc, char **argv)
{
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN), c;
    while ((c = getopt(argc, argv, "t:d:L:H:N:B:V:R:p:s:")) != -1) {
        size_t v = (size_t)strtoul(optarg ? optarg : "0", NULL, 10);
        switch (c) {
        case 't': threads = (int)v; break;
        case 'd': d = v; break;
        case 'L': L = v; break;
        case 'H': H = v; break;
        case 'N': N = v; break;
        case 'B': B = v; break;
        case 'V': V = v; break;
        case 'R': R = v; break;
        case 'p': peak = v; break;
        case 's': seconds = strtod(optarg, NULL); break;
        default:
            fprintf(stderr, "usage: kernels [-t THREADS] [-d D] [-L LAYERS] [-H HEADS] [-N CONTEXT] [-B BATCH] [-V VOCAB] [-R "
                            "HEAD-ROWS] [-p SIZE] [-s SECONDS] [f32|bf16]...\n");
            return 2;
        }
    }
    char msg[200];
    K = check_kernels();
    D = K->open(0, threads, msg, sizeof msg);
    if (!D || !d || !H || !N || !B || !V || !L || !R || d % (2 * H)) {
        fprintf(stderr, "%s\n", D ? "these sizes do not go together" : msg);
        return 1;
    }
    T = B * N;
    h = d / H;
    if (threads == 1)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    printf("# %s\n", K->describe(D));
    printf("op\tsize\tdtype\tms\tcalls\tms/step\trate\tunit\n");
    for (int i = optind; i < argc || i == optind; i++) {
        act = i < argc && !strcmp(argv[i], "bf16") ? DLM_BF16 : DLM_F32;
        bench();
    }
    const char *failure = K->sync(D);
    if (failure)
        fprintf(stderr, "%s\n", failure);
    K->close(D);
    return failure != NULL;
}
