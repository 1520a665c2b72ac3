/* The layers other than products and attention: forward against the formula in double, backward against central differences of
 * that formula, on sizes of 1, primes and one past a vector. Sizes past a slice of rows, a block of columns or the shared memory of a GPU are
 * too many for differences: there the gradient's formula in double stands in, which is itself held to the differences where those are. What adds is
 * given something to add to, and what all rows share may lie astray, one element past a multiple of 64 bytes. */
#include "kernel_check.h"

enum { MOST = 8, FEW = 3000 }; /* tensors of one layer; elements for which differences are taken */
static const double STEP = 1e-5;

/* y = f(tensors). */
typedef void (*formula)(double *y, double *const *tensor, const size_t *shape);

/* The gradients of tensors 0 and 1. */
typedef void (*backward)(double *const *grad, const double *dy, double *const *tensor, const size_t *shape);

/* Gradient of Σ dy·y with respect to tensor w. Changes of one element reach only `reach` outputs' worth of work, but sizes are
 * small enough for all. */
static double *differences(formula f, double *const *tensor, const size_t *shape, size_t n_y, const double *dy, size_t w,
                           size_t n)
{
    double *grad = check_memory(n * sizeof *grad), *up = check_memory(n_y * sizeof *up), *down = check_memory(n_y * sizeof *down);
    for (size_t i = 0; i < n; i++) {
        double before = tensor[w][i];
        tensor[w][i] = before + STEP;
        f(up, tensor, shape);
        tensor[w][i] = before - STEP;
        f(down, tensor, shape);
        tensor[w][i] = before;
        for (size_t j = 0; j < n_y; j++)
            grad[i] += dy[j] * (up[j] - down[j]) / (2 * STEP);
    }
    free(up), free(down);
    return grad;
}

/* got = start + want, allowed `share` of the largest of want (inputs are of size 1) and a rounding of what is there. */
static bool agree(const char *what, struct buffer b, const double *want, const double *start, double share)
{
    double *got = take(b), *sum = check_memory(b.n * sizeof *sum), *tolerance = check_memory(b.n * sizeof *tolerance),
           most = largest(want, b.n);
    for (size_t i = 0; i < b.n; i++) {
        sum[i] = want[i] + (start ? start[i] : 0);
        tolerance[i] = share * (most + 1) + fabs(sum[i]) * unit_of(b.type) * 1.01 + 1e-12;
    }
    bool good = all_near(got, sum, b.n, tolerance, 0);
    if (!good)
        printf("# in %s\n", what);
    free(got), free(sum), free(tolerance);
    return good;
}

/* The gradients of tensors 0 (n elements) and 1 (m), by differences where they are few. False where the two ways disagree. */
static bool gradients(double **grad, formula f, backward back, double *const *tensor, const size_t *shape, const double *dy, size_t n, size_t m)
{
    grad[0] = check_memory(n * sizeof(double)), grad[1] = check_memory(m * sizeof(double));
    back(grad, dy, tensor, shape);
    bool good = true;
    for (size_t w = 0; w < 2 && n <= FEW; w++) {
        const size_t size = w ? m : n;
        double *by = differences(f, tensor, shape, n, dy, w, size);
        good = all_near(grad[w], by, size, NULL, 2e-5 * (largest(by, size) + 1)) && good; /* relu²'s kink is within a step of some elements */
        free(grad[w]);
        grad[w] = by;
    }
    return good;
}

/* A vector that all rows share, n elements, and the element it begins at. */
static struct buffer put_shared(const double *values, size_t n, bool astray, dlm_ptr *at)
{
    double *copy = check_memory((n + 1) * sizeof *copy);
    memcpy(copy + astray, values, n * sizeof *copy);
    struct buffer b = put(copy, n + 1, DLM_F32);
    *at = dlm_ptr_at(b.at, astray ? sizeof(float) : 0);
    free(copy);
    return b;
}

/* How much more a float32 sum over the width may be off, where it is added one by one, as without vectors it is. */
static double slack(size_t d)
{
    return 1 + (double)d / 2000;
}

/* --- norm: tensors x (T, d), γ (d); shape T, d --- */

static void norm_formula(double *y, double *const *tensor, const size_t *shape)
{
    for (size_t t = 0; t < shape[0]; t++) {
        const double *x = tensor[0] + t * shape[1];
        double squares = 0;
        for (size_t i = 0; i < shape[1]; i++)
            squares += x[i] * x[i];
        double r = 1 / sqrt(squares / (double)shape[1] + 1e-6);
        for (size_t i = 0; i < shape[1]; i++)
            y[t * shape[1] + i] = (1 + tensor[1][i]) * x[i] * r;
    }
}

static void norm_backward(double *const *grad, const double *dy, double *const *tensor, const size_t *shape)
{
    const size_t d = shape[1];
    for (size_t t = 0; t < shape[0]; t++) {
        const double *x = tensor[0] + t * d, *g = dy + t * d;
        double squares = 0, dot = 0;
        for (size_t i = 0; i < d; i++) {
            squares += x[i] * x[i];
            dot += (1 + tensor[1][i]) * g[i] * x[i];
        }
        const double r = 1 / sqrt(squares / (double)d + 1e-6);
        for (size_t i = 0; i < d; i++) {
            grad[0][t * d + i] = r * ((1 + tensor[1][i]) * g[i] - x[i] * r * r * dot / (double)d);
            grad[1][i] += g[i] * x[i] * r;
        }
    }
}

static void check_norm(size_t T, size_t d, bool astray, enum dlm_dtype act)
{
    size_t shape[] = {T, d}, n = T * d;
    double *tensor[MOST] = {random_array(n, 0.2, 1.5, DLM_F32), random_array(d, 0, 0.3, DLM_F32)};
    double *dy = random_array(n, 0, 1, act), *y = check_memory(n * sizeof *y),
           *start = random_array(n > d ? n : d, 0, 1, DLM_F32);
    dlm_ptr gamma;
    struct buffer bx = put(tensor[0], n, DLM_F32), bg = put_shared(tensor[1], d, astray, &gamma), by = put(NULL, n, act), br = put(NULL, T, DLM_F32);
    struct buffer bdy = put(dy, n, act), bdx = put(start, n, DLM_F32), bdg = put(start, d, DLM_F32);
    K->norm(D, by.at, br.at, bx.at, gamma, T, d, 1e-6f, act);
    norm_formula(y, tensor, shape);
    bool good = agree("y", by, y, NULL, 1e-6 * slack(d));
    K->norm_backward(D, bdx.at, bdg.at, bdy.at, bx.at, br.at, gamma, T, d, act);
    double *grad[2];
    good = gradients(grad, norm_formula, norm_backward, tensor, shape, dy, n, d) && good;
    good = agree("dx", bdx, grad[0], start, 4e-6 * slack(d)) && good;
    good = agree("dγ", bdg, grad[1], start, 4e-6 * slack(d)) && good;
    tap_ok(good, "norm, T %zu, d %zu, %s%s", T, d, type_name(act), astray ? ", γ astray" : "");
    drop(bx), drop(bg), drop(by), drop(br), drop(bdy), drop(bdx), drop(bdg);
    free(tensor[0]), free(tensor[1]), free(dy), free(y), free(start), free(grad[0]), free(grad[1]);
}

/* --- q and k: tensors x (T, d), γ (d), angles (N, h/2, 2); shape B, N, H, h --- */

static void rotary_formula(double *y, double *const *tensor, const size_t *shape)
{
    size_t T = shape[0] * shape[1], h = shape[3], d = shape[2] * h, flat[] = {T, d};
    norm_formula(y, tensor, flat);
    for (size_t t = 0; t < T; t++)
        for (size_t head = 0; head < shape[2]; head++)
            for (size_t i = 0; i < h / 2; i++) {
                const double *angle = tensor[2] + t % shape[1] * h + 2 * i;
                double *a = y + t * d + head * h + i, *b = a + h / 2, before = *a;
                *a = before * angle[0] - *b * angle[1];
                *b = *b * angle[0] + before * angle[1];
            }
}

static void rotary_backward(double *const *grad, const double *dy, double *const *tensor, const size_t *shape)
{
    size_t T = shape[0] * shape[1], h = shape[3], d = shape[2] * h, flat[] = {T, d};
    double *back = check_memory(T * d * sizeof *back);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < d; i++) {
            const double *angle = tensor[2] + t % shape[1] * h + i % (h / 2) * 2;
            const bool high = i % h >= h / 2;
            back[t * d + i] = dy[t * d + i] * angle[0] + (high ? -dy[t * d + i - h / 2] : dy[t * d + i + h / 2]) * angle[1];
        }
    norm_backward(grad, back, tensor, flat);
    free(back);
}

static void check_rotary(size_t B, size_t N, size_t H, size_t h, enum dlm_dtype act)
{
    size_t T = B * N, d = H * h, n = T * d, shape[] = {B, N, H, h};
    double *rope = check_memory(N * h * sizeof *rope), *qkv = random_array(3 * n, 0, 1.5, act),
           *start = random_array(d, 0, 1, DLM_F32);
    for (size_t t = 0; t < N; t++)
        for (size_t i = 0; i < h / 2; i++) {
            double angle = (double)t * pow(10000, -2.0 * (double)i / (double)h);
            rope[t * h + 2 * i] = kept(cos(angle), DLM_F32);
            rope[t * h + 2 * i + 1] = kept(sin(angle), DLM_F32);
        }
    struct buffer bqkv = put(qkv, 3 * n, act), bdqkv = put(qkv, 3 * n, act), brope = put(rope, N * h, DLM_F32),
                  br = put(NULL, 2 * T, DLM_F32);
    struct buffer out[2] = {put(NULL, n, act), put(NULL, n, act)}, dout[2], gamma[2],
                  dgamma[2] = {put(start, d, DLM_F32), put(start, d, DLM_F32)};
    double *tensor[2][3], *dy[2], *y = check_memory(n * sizeof *y), *wide = check_memory(3 * n * sizeof *wide);
    for (int w = 0; w < 2; w++) {
        tensor[w][0] = check_memory(n * sizeof(double));
        for (size_t t = 0; t < T; t++)
            memcpy(tensor[w][0] + t * d, qkv + t * 3 * d + (size_t)w * d, d * sizeof(double));
        tensor[w][1] = random_array(d, 0, 0.3, DLM_F32);
        tensor[w][2] = rope;
        dy[w] = random_array(n, 0, 1, act);
        gamma[w] = put(tensor[w][1], d, DLM_F32);
        dout[w] = put(dy[w], n, act);
    }
    K->qk_rotary(D, out[0].at, out[1].at, br.at, bqkv.at, gamma[0].at, gamma[1].at, brope.at, B, N, H, h, 1e-6f, act);
    K->qk_rotary_backward(D, bdqkv.at, dgamma[0].at, dgamma[1].at, dout[0].at, dout[1].at, bqkv.at, br.at, gamma[0].at,
                          gamma[1].at, brope.at, B, N, H, h, act);
    bool good = true;
    memcpy(wide, qkv, 3 * n * sizeof *wide); /* the v third stays */
    for (int w = 0; w < 2; w++) {
        rotary_formula(y, tensor[w], shape);
        good = agree(w ? "k" : "q", out[w], y, NULL, 2e-6 * slack(d)) && good;
        double *grad[2];
        good = gradients(grad, rotary_formula, rotary_backward, tensor[w], shape, dy[w], n, d) && good;
        for (size_t t = 0; t < T; t++)
            memcpy(wide + t * 3 * d + (size_t)w * d, grad[0] + t * d, d * sizeof *wide);
        good = agree(w ? "dγk" : "dγq", dgamma[w], grad[1], start, 4e-6 * slack(d)) && good;
        free(grad[0]), free(grad[1]);
    }
    good = agree("dqkv", bdqkv, wide, NULL, 4e-6 * slack(d)) && good;
    tap_ok(good, "norm and rotary of q and k, B %zu, N %zu, H %zu, h %zu, %s", B, N, H, h, type_name(act));
    for (int w = 0; w < 2; w++) {
        drop(out[w]), drop(dout[w]), drop(gamma[w]), drop(dgamma[w]);
        free(tensor[w][0]), free(tensor[w][1]), free(dy[w]);
    }
    drop(bqkv), drop(bdqkv), drop(brope), drop(br);
    free(rope), free(qkv), free(start), free(y), free(wide);
}

/* --- relu²: tensors u (T, m), b (m); shape T, m --- */

static void relu2_formula(double *y, double *const *tensor, const size_t *shape)
{
    for (size_t t = 0; t < shape[0]; t++)
        for (size_t i = 0; i < shape[1]; i++) {
            double v = tensor[0][t * shape[1] + i] + tensor[1][i];
            y[t * shape[1] + i] = v > 0 ? v * v : 0;
        }
}

static void relu2_backward(double *const *grad, const double *dy, double *const *tensor, const size_t *shape)
{
    for (size_t t = 0; t < shape[0]; t++)
        for (size_t i = 0; i < shape[1]; i++) {
            double v = tensor[0][t * shape[1] + i] + tensor[1][i], g = v > 0 ? dy[t * shape[1] + i] * 2 * v : 0;
            grad[0][t * shape[1] + i] = g;
            grad[1][i] += g;
        }
}

static void check_relu2(size_t T, size_t m, bool astray, enum dlm_dtype act)
{
    size_t shape[] = {T, m}, n = T * m;
    double *tensor[MOST] = {random_array(n, 0, 1, act), random_array(m, 0, 1, DLM_F32)}, *da = random_array(n, 0, 1, act);
    double *a = check_memory(n * sizeof *a), *start = random_array(m, 0, 1, DLM_F32);
    dlm_ptr bias;
    struct buffer bu = put(tensor[0], n, act), bb = put_shared(tensor[1], m, astray, &bias), ba = put(NULL, n, act), bda = put(da, n, act),
                  bdb = put(start, m, DLM_F32);
    struct buffer bdu = put(NULL, n, act), bdb2 = put(start, m, DLM_F32);
    K->bias_relu2(D, ba.at, bu.at, bias, T, m, act);
    relu2_formula(a, tensor, shape);
    bool good = agree("a", ba, a, NULL, 1e-6);
    double *grad[2];
    good = gradients(grad, relu2_formula, relu2_backward, tensor, shape, da, n, m) && good;
    double *du = grad[0], *db = grad[1];
    K->bias_relu2_backward(D, bdu.at, bdb2.at, bda.at, bu.at, bias, T, m, act);
    K->bias_relu2_backward(D, bda.at, bdb.at, bda.at, bu.at, bias, T, m, act); /* in place */
    good = agree("du", bdu, du, NULL, 2e-5) && agree("du in place", bda, du, NULL, 2e-5) &&
           good; /* the kink is within a step of some elements */
    good = agree("db", bdb, db, start, 2e-5) && agree("db, not in place", bdb2, db, start, 2e-5) && good;
    tap_ok(good, "bias and relu², T %zu, m %zu, %s%s", T, m, type_name(act), astray ? ", bias astray" : "");
    drop(bu), drop(bb), drop(ba), drop(bda), drop(bdb), drop(bdu), drop(bdb2);
    free(tensor[0]), free(tensor[1]), free(da), free(a), free(start), free(du), free(db);
}

/* --- residual: linear, so exact formulas serve for both ways --- */

static void check_residual(size_t T, size_t d, bool bias, bool astray, enum dlm_dtype act)
{
    size_t n = T * d;
    float scale = 4.0f / 3;
    double *x = random_array(n, 0, 1, DLM_F32), *y = random_array(n, 0, 1, act), *b = random_array(d, 0, 1, DLM_F32);
    double *more = check_memory(n * sizeof *more), *dy = check_memory(n * sizeof *dy), *db = check_memory(d * sizeof *db);
    dlm_ptr shared;
    struct buffer bx = put(x, n, DLM_F32), by = put(y, n, act), bb = put_shared(b, d, astray, &shared), bdx = put(x, n, DLM_F32),
                  bdy = put(NULL, n, act), bdb = put(b, d, DLM_F32);
    dlm_ptr none = {0};
    K->residual(D, bx.at, by.at, bias ? shared : none, T, d, scale, act);
    K->residual_backward(D, bdy.at, bias ? bdb.at : none, bdx.at, T, d, scale, act);
    for (size_t i = 0; i < n; i++) {
        more[i] = (double)scale * (y[i] + (bias ? b[i % d] : 0));
        dy[i] = (double)scale * x[i];
        db[i % d] += bias ? dy[i] : 0;
    }
    bool good = agree("x", bx, more, x, 1e-6) && agree("dy", bdy, dy, NULL, 1e-6) && agree("db", bdb, db, b, 2e-6);
    memset(more, 0, n * sizeof *more);
    good = agree("dx stays", bdx, more, x, 0) && good;
    tap_ok(good, "residual%s, T %zu, d %zu, %s", astray ? " with bias astray" : bias ? " with bias" : "", T, d, type_name(act));
    drop(bx), drop(by), drop(bb), drop(bdx), drop(bdy), drop(bdb);
    free(x), free(y), free(b), free(more), free(dy), free(db);
}

/* --- copies --- */

static void check_embed(size_t T, size_t d, size_t V)
{
    double *E = random_array(V * d, 0, 1, DLM_F32), *dx = check_memory(T * d * sizeof *dx), *x = check_memory(T * d * sizeof *x);
    double *dE = check_memory(V * d * sizeof *dE), *start = check_memory(V * d * sizeof *start);
    uint32_t *ids = check_memory(T * sizeof *ids);
    for (size_t t = 0; t < T; t++)
        ids[t] = uniform() < 0.5 ? (uint32_t)(V / 2) : (uint32_t)(uniform() * (double)V);
    for (size_t i = 0; i < V * d; i++)
        start[i] = (double)(draw() % 100);
    for (size_t i = 0; i < T * d; i++) {
        dx[i] = (double)(draw() % 1000) - 500; /* whole numbers: any order of adding gives the exact sum */
        x[i] = E[ids[i / d] * d + i % d];
        dE[ids[i / d] * d + i % d] += dx[i];
    }
    struct buffer bE = put(E, V * d, DLM_F32), bx = put(NULL, T * d, DLM_F32), bdx = put(dx, T * d, DLM_F32),
                  bdE = put(start, V * d, DLM_F32);
    dlm_ptr i = put_bytes(ids, T * sizeof *ids);
    K->embed(D, bx.at, i, bE.at, T, d);
    K->embed_backward(D, bdE.at, bdx.at, i, T, d, V);
    double *got = take(bdE);
    for (size_t j = 0; j < V * d; j++)
        dE[j] += start[j];
    tap_ok(agree("x", bx, x, NULL, 0) && all_near(got, dE, V * d, NULL, 0),
           "embedding and its exact gradient, T %zu, d %zu, V %zu", T, d, V);
    if (K->embed_bf16) {
        struct buffer half = put(E, V * d, DLM_BF16), by = put(NULL, T * d, DLM_F32);
        K->embed_bf16(D, by.at, i, half.at, T, d);
        double *y = take(by);
        bool same = true;
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < d; c++)
                same = same && y[t * d + c] == kept(E[ids[t] * d + c], DLM_BF16);
        tap_ok(same, "and from bf16");
        drop(half), drop(by);
        free(y);
    }
    drop(bE), drop(bx), drop(bdx), drop(bdE);
    K->free(D, i);
    free(E), free(dx), free(x), free(dE), free(start), free(ids), free(got);
}

static void check_rows(size_t T, size_t d, enum dlm_dtype act)
{
    double *x = random_array(T * d, 0, 1, act), *y = random_array(T * d, 0, 1, act),
           *picked = check_memory(T * d * sizeof *picked);
    uint32_t *index = check_memory(T * sizeof *index);
    size_t n = 0;
    for (size_t t = 0; t < T; t++)
        if (uniform() < 0.4 || T == 1)
            index[n++] = (uint32_t)t;
    for (size_t i = 0; i < n; i++) {
        memcpy(picked + i * d, x + index[i] * d, d * sizeof *x);
        memcpy(y + index[i] * d, x + index[i] * d, d * sizeof *x);
    }
    struct buffer bx = put(x, T * d, act), bp = put(NULL, n * d, act);
    double *before = random_array(T * d, 0, 1, act);
    memcpy(before, y, T * d * sizeof *y);
    for (size_t i = 0; i < n; i++)
        memset(before + index[i] * d, 0, d * sizeof *y);
    struct buffer by = put(before, T * d, act);
    dlm_ptr at = put_bytes(index, T * sizeof *index);
    K->gather_rows(D, bp.at, bx.at, at, n, d, act);
    K->scatter_rows(D, by.at, bp.at, at, n, d, act);
    tap_ok(agree("gathered", bp, picked, NULL, 0) && agree("scattered", by, y, NULL, 0),
           "gather and scatter, %zu of %zu rows of %zu, %s", n, T, d, type_name(act));
    drop(bx), drop(bp), drop(by);
    K->free(D, at);
    free(x), free(y), free(picked), free(index), free(before);
}

int main(void)
{
    static const size_t shapes[][2] = {{1, 1}, {1, 2}, {3, 7}, {17, 16}, {9, 33}, {33, 65}};
    static const size_t large[][2] = {{150, 264}, {83, 129}, {37, 2056}, {1100, 24}};
    static const size_t heads[][4] = {{1, 1, 1, 2}, {2, 3, 2, 4},   {1, 5, 3, 6},  {2, 9, 1, 34}, {2, 17, 2, 16},
                                      {2, 40, 3, 32}, {1, 7, 33, 64}, {1, 3, 160, 128}, {1, 2, 480, 256}};
    check_seed = tap_seed();
    check_open(2);
    for (int a = 0; a < 2; a++) {
        enum dlm_dtype act = a ? DLM_BF16 : DLM_F32;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            check_norm(shapes[i][0], shapes[i][1], false, act);
            check_relu2(shapes[i][0], shapes[i][1], false, act);
            check_residual(shapes[i][0], shapes[i][1], false, false, act);
            check_residual(shapes[i][0], shapes[i][1], true, false, act);
            check_rows(shapes[i][0], shapes[i][1], act);
        }
        for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
            for (int astray = 0; astray < 2; astray++) {
                check_norm(large[i][0], large[i][1], astray, act);
                check_relu2(large[i][0], large[i][1], astray, act);
                check_residual(large[i][0], large[i][1], true, astray, act);
            }
            check_rows(large[i][0], large[i][1], act);
        }
        check_norm(5, 11000, false, act);
        check_norm(2, 60000, false, act);
        for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
            check_rotary(heads[i][0], heads[i][1], heads[i][2], heads[i][3], act);
    }
    check_embed(1, 1, 1);
    check_embed(7, 3, 5);
    check_embed(200, 17, 31);
    check_embed(300, 64, 11);
    check_close();
    return tap_end();
}
