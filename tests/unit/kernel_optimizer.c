/* LaProp, AdamW and the sum of squares: against double, the published reference, and exactly representable inputs. */
#include "kernel_check.h"

#include <jansson.h>

static bool astray; /* arrays begin one element past a multiple of 64 bytes */

static struct buffer place(const double *values, size_t n, enum dlm_dtype t)
{
    double *copy = check_memory((n + 1) * sizeof *copy);
    memcpy(copy + astray, values, n * sizeof *copy);
    struct buffer b = put(copy, n + astray, t);
    b.at = dlm_ptr_at(b.at, astray ? dlm_dtype_size(t) : 0);
    b.n = n;
    free(copy);
    return b;
}

static void displace(struct buffer b)
{
    b.at.at -= astray ? dlm_dtype_size(b.type) : 0;
    drop(b);
}

static double corrected(double b, int t)
{
    return 1 - (1 - b) / (1 - pow(b, t));
}

static void check_laprop(size_t n)
{
    double *theta = random_array(n, 0, 1, DLM_F32), *mu = random_array(n, 0, 0, DLM_F32), *nu = random_array(n, 0, 0, DLM_F32);
    struct buffer bt = place(theta, n, DLM_F32), bm = place(mu, n, DLM_F32), bn = place(nu, n, DLM_F32);
    double lr = (float)0.01, eps = (float)0.05, decay = (float)0.1, factor = 0.125;
    for (int t = 1; t <= 12; t++) {
        double *grad = random_array(n, 0.1, 3, DLM_F32), b1 = (float)corrected(0.9, t), b2 = (float)corrected(0.99, t);
        struct buffer bg = place(grad, n, DLM_F32);
        K->laprop(D, bt.at, bm.at, bn.at, bg.at, n, (float)lr, (float)b1, (float)b2, (float)eps, (float)decay, (float)factor);
        for (size_t i = 0; i < n; i++) {
            double g = factor * grad[i];
            nu[i] = b2 * nu[i] + (1 - b2) * g * g;
            mu[i] = b1 * mu[i] + (1 - b1) * g / (sqrt(nu[i]) + eps);
            theta[i] -= lr * (mu[i] + decay * theta[i]);
        }
        double *kept_grad = take(bg);
        if (memcmp(kept_grad, grad, n * sizeof *grad))
            tap_ok(false, "the gradient stays");
        displace(bg);
        free(grad), free(kept_grad);
    }
    double *got = take(bt), *got_mu = take(bm);
    tap_ok(all_near(got, theta, n, NULL, 4e-6) && all_near(got_mu, mu, n, NULL, 4e-6), "LaProp, 12 steps of %zu elements%s", n, astray ? " astray" : "");
    displace(bt), displace(bm), displace(bn);
    free(theta), free(mu), free(nu), free(got), free(got_mu);
}

static void check_adamw(size_t n)
{
    double *theta = random_array(n, 0, 1, DLM_F32), *m = random_array(n, 0, 0, DLM_F32), *v = random_array(n, 0, 0, DLM_F32);
    struct buffer bt = place(theta, n, DLM_F32), bm = place(m, n, DLM_F32), bv = place(v, n, DLM_F32);
    double lr = (float)0.01, eps = (float)0.05, decay = (float)0.1, factor = 0.125, b1 = (float)0.9, b2 = (float)0.99;
    for (int t = 1; t <= 12; t++) {
        double *grad = random_array(n, 0.1, 3, DLM_F32), c1 = 1 - pow(b1, t), c2 = 1 - pow(b2, t);
        struct buffer bg = place(grad, n, DLM_F32);
        K->adamw(D, bt.at, bm.at, bv.at, bg.at, n, (float)lr, (float)b1, (float)b2, (float)c1, (float)c2, (float)eps,
                 (float)decay, (float)factor);
        for (size_t i = 0; i < n; i++) {
            double g = factor * grad[i];
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            theta[i] -= lr * (m[i] / c1 / (sqrt(v[i] / c2) + eps) + decay * theta[i]);
        }
        displace(bg);
        free(grad);
    }
    double *got = take(bt);
    tap_ok(all_near(got, theta, n, NULL, 4e-6), "AdamW, 12 steps of %zu elements%s", n, astray ? " astray" : "");
    displace(bt), displace(bm), displace(bv);
    free(theta), free(m), free(v), free(got);
}

static void check_reference(void)
{
    const char *folder = getenv("DLM_REFERENCE");
    char path[4096];
    snprintf(path, sizeof path, "%s/laprop.json", folder ? folder : "../shared/reference");
    json_t *list = json_load_file(path, 0, NULL);
    if (!list) {
        tap_skip(1, "no reference numbers at %s", path);
        return;
    }
    double worst = 0;
    size_t compared = 0;
    for (size_t r = 0; r < json_array_size(list); r++) {
        json_t *run = json_array_get(list, r), *first = json_object_get(run, "param0"), *steps = json_object_get(run, "steps");
        size_t n = json_array_size(first);
        double *values = check_memory(n * sizeof *values);
        for (size_t i = 0; i < n; i++)
            values[i] = json_number_value(json_array_get(first, i));
        struct buffer theta = put(values, n, DLM_F32), mu = put(NULL, n, DLM_F32), nu = put(NULL, n, DLM_F32);
        for (size_t s = 0; s < json_array_size(steps); s++) {
            json_t *step = json_array_get(steps, s), *grad = json_object_get(step, "grad"),
                   *after = json_object_get(step, "param");
            for (size_t i = 0; i < n; i++)
                values[i] = json_number_value(json_array_get(grad, i));
            struct buffer g = put(values, n, DLM_F32);
            K->laprop(D, theta.at, mu.at, nu.at, g.at, n, (float)json_number_value(json_object_get(run, "lr")),
                      (float)corrected(json_number_value(json_object_get(run, "beta1")), (int)s + 1),
                      (float)corrected(json_number_value(json_object_get(run, "beta2")), (int)s + 1),
                      (float)json_number_value(json_object_get(run, "eps")),
                      (float)json_number_value(json_object_get(run, "weight_decay")), 1.0f);
            double *got = take(theta);
            for (size_t i = 0; i < n; i++, compared++)
                worst = tap_worst(worst, fabs(got[i] - json_number_value(json_array_get(after, i))));
            drop(g);
            free(got);
        }
        drop(theta), drop(mu), drop(nu);
        free(values);
    }
    tap_deviation(compared ? worst : INFINITY, 1e-6, "laprop.json: LaProp trajectories, absolute, %zu parameters", compared);
    json_decref(list);
}

static void check_average(size_t n)
{
    double *x = random_array(n, 0, 1, DLM_F32), *mean = random_array(n, 0, 1, DLM_F32), *want = check_memory(n * sizeof *want);
    const double share = 0.3f;
    struct buffer bx = place(x, n, DLM_F32), bm = place(mean, n, DLM_F32);
    for (int turn = 0; turn < 3; turn++)
        K->average(D, bm.at, bx.at, n, (float)share);
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] + pow(1 - share, 3) * (mean[i] - x[i]);
    double *got = take(bm), *kept = take(bx);
    tap_ok(all_near(got, want, n, NULL, 1e-6) && !memcmp(kept, x, n * sizeof *x), "the mean of %zu elements moves by its share of the way, three times", n);
    displace(bx), displace(bm);
    free(x), free(mean), free(want), free(got), free(kept);
}

static void check_sum(size_t n)
{
    double *x = check_memory(n * sizeof *x), want = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = (double)(draw() % 2001) - 1000; /* whole numbers: the sum is exact in any order */
        want += x[i] * x[i];
    }
    struct buffer b = place(x, n, DLM_F32);
    double got = K->sum_squares(D, b.at, n);
    tap_ok(got == want, "the sum of %zu squares is exact: %.17g", n, got);
    displace(b);
    free(x);
}

static void check_sum_threads(void)
{
    enum { N = 100003 };
    double *x = random_array(N, 0, 1, DLM_F32), first = 0;
    bool same = true;
    for (int threads = 1; threads <= 5; threads += 2) {
        char msg[200];
        struct dlm_device *other = K->open(0, threads, msg, sizeof msg);
        struct buffer b = put(x, N, DLM_F32);
        K->sync(D); /* the other device's work does not wait for this one's */
        double sum = K->sum_squares(other, b.at, N);
        first = threads == 1 ? sum : first;
        same = same && sum == first;
        drop(b);
        K->close(other);
    }
    tap_ok(same, "the sum of squares does not depend on the number of threads");
    free(x);
}

/* --- the compact state ------------------------------------------------------------------------------------------------------- */

static uint32_t bits_of(double v)
{
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static double of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* v, which a float32 holds, rounded at random by the 16 bits of r. */
static double at_random(double v, uint32_t r)
{
    return of_bits((bits_of(v) + r) & 0xffff0000u);
}

/* float32 values as the two halves. */
struct halved {
    struct buffer high;
    dlm_ptr low;
};

static struct halved halve(const double *v, size_t n)
{
    double *high = check_memory(n * sizeof *high);
    uint16_t *low = check_memory(n * sizeof *low);
    for (size_t i = 0; i < n; i++) {
        high[i] = of_bits((bits_of(v[i]) + 0x8000u) & 0xffff0000u);
        low[i] = (uint16_t)bits_of(v[i]);
    }
    struct halved h = {put(high, n, DLM_BF16), K->alloc(D, 2 * n)};
    K->upload(D, h.low, low, 2 * n);
    K->sync(D);
    free(high), free(low);
    return h;
}

/* Back again; false where the upper half is not the nearest. */
static bool join(struct halved h, size_t n, double *v)
{
    double *high = take(h.high);
    uint16_t *low = check_memory(n * sizeof *low);
    bool nearest = true;
    K->download(D, low, h.low, 2 * n);
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(high[i]) + (uint32_t)(int16_t)low[i];
        v[i] = of_bits(u);
        nearest = nearest && ((u + 0x8000u) & 0xffff0000u) == bits_of(high[i]);
    }
    free(high), free(low);
    return nearest;
}

/* Whole θ against double, with the moments that the device has rounded, each step. */
static void check_split(size_t n, bool laprop)
{
    double *theta = random_array(n, 0, 1, DLM_F32), *now = check_memory(n * sizeof *now), *first, *second;
    struct halved bt = halve(theta, n);
    struct buffer bm = put(NULL, n, DLM_BF16), bv = put(NULL, n, DLM_BF16);
    double lr = (float)0.01, eps = (float)0.05, decay = (float)0.1, factor = 0.125, b1 = (float)0.9, b2 = (float)0.99;
    bool near = true, nearest = true, neighbours = true;
    first = take(bm), second = take(bv);
    for (int t = 1; t <= 12; t++) {
        double *grad = random_array(n, 0.1, 3, DLM_BF16), c1 = 1 - pow(0.9, t), c2 = 1 - pow(0.99, t);
        double l1 = (float)corrected(0.9, t), l2 = (float)corrected(0.99, t);
        struct buffer bg = put(grad, n, DLM_BF16);
        struct dlm_halves halves = {bt.low, 77, (uint32_t)t, 40};
        if (laprop)
            K->laprop_split(D, bt.high.at, bm.at, bv.at, bg.at, n, (float)lr, (float)l1, (float)l2, (float)eps, (float)decay, (float)factor, halves);
        else
            K->adamw_split(D, bt.high.at, bm.at, bv.at, bg.at, n, (float)lr, (float)b1, (float)b2, (float)c1, (float)c2, (float)eps, (float)decay,
                           (float)factor, halves);
        double *m = take(bm), *v = take(bv), *want = check_memory(n * sizeof *want);
        for (size_t i = 0; i < n; i++) {
            double g = factor * grad[i], w2 = laprop ? l2 : b2, w1 = laprop ? l1 : b1;
            second[i] = w2 * second[i] + (1 - w2) * g * g;
            first[i] = w1 * first[i] + (1 - w1) * (laprop ? g / (sqrt(second[i]) + eps) : g);
            want[i] = theta[i] - lr * ((laprop ? first[i] : first[i] / c1 / (sqrt(second[i] / c2) + eps)) + decay * theta[i]);
            neighbours = neighbours && fabs(m[i] - first[i]) <= fabs(first[i]) * 0x1.02p-7 + 1e-6 && fabs(v[i] - second[i]) <= second[i] * 0x1.02p-7 + 1e-30;
            first[i] = m[i], second[i] = v[i];
        }
        nearest = join(bt, n, now) && nearest;
        near = all_near(now, want, n, NULL, 1e-6) && near;
        memcpy(theta, now, n * sizeof *now); /* of this step alone */
        double *kept_grad = take(bg);
        near = near && !memcmp(kept_grad, grad, n * sizeof *grad);
        drop(bg);
        free(grad), free(kept_grad), free(m), free(v), free(want);
    }
    tap_ok(near && nearest && neighbours, "%s on halves, 12 steps of %zu elements: %d %d %d", laprop ? "LaProp" : "AdamW", n, near, nearest, neighbours);
    drop(bt.high), drop(bm), drop(bv);
    K->free(D, bt.low);
    free(theta), free(now), free(first), free(second);
}

/* Moments that a float32 holds exactly before they are rounded: the very words of the header must round them, wherever the array is cut. */
static void check_moment_words(size_t n, size_t cut)
{
    const uint64_t seed = 0x123456789abcdefULL;
    const uint32_t step = 31;
    const size_t number = ((size_t)1 << 35) + 4 * 1001;
    double *m = check_memory(n * sizeof *m), *v = check_memory(n * sizeof *v), *g = check_memory(n * sizeof *g), *zero = check_memory(n * sizeof *zero);
    for (size_t i = 0; i < n; i++)
        m[i] = 1 + draw() % 128 / 128.0, v[i] = 1 + draw() % 128 / 128.0, g[i] = 1 + draw() % 128 / 128.0;
    bool good[3] = {true, true, true};
    for (int laprop = 0; laprop < 3; laprop++) { /* 2: LaProp with second moments that stay, all 1, so that its first moments are exact */
        struct halved bt = halve(zero, n);
        for (size_t i = 0; laprop == 2 && i < n; i++)
            v[i] = 1;
        struct buffer bm = put(m, n, DLM_BF16), bv = put(v, n, DLM_BF16), bg = put(g, n, DLM_BF16);
        for (int part = 0; part < 2; part++) {
            const size_t at = part ? cut : 0, some = part ? n - cut : cut;
            struct dlm_halves halves = {dlm_ptr_at(bt.low, 2 * at), seed, step, number + at};
            dlm_ptr pt = dlm_ptr_at(bt.high.at, 2 * at), pm = dlm_ptr_at(bm.at, 2 * at), pv = dlm_ptr_at(bv.at, 2 * at), pg = dlm_ptr_at(bg.at, 2 * at);
            if (laprop == 2)
                K->laprop_split(D, pt, pm, pv, pg, some, 0.01f, 0.5f, 1, 0, 0, 1, halves);
            else if (laprop) /* its first moment takes nothing new here, and stays */
                K->laprop_split(D, pt, pm, pv, pg, some, 0.01f, 1, 0.5f, 1e-8f, 0, 1, halves);
            else
                K->adamw_split(D, pt, pm, pv, pg, some, 0.01f, 0.5f, 0.5f, 1, 1, 1e-8f, 0, 1, halves);
        }
        double *got_m = take(bm), *got_v = take(bv);
        for (size_t i = 0; i < n; i++) {
            uint32_t r = dlm_philox_at(seed, (number + i) / 4, step, DLM_RNG_MOMENT).v[(number + i) % 4];
            double first = laprop == 1 ? m[i] : 0.5 * m[i] + 0.5 * g[i], second = laprop == 2 ? 1 : 0.5 * v[i] + 0.5 * g[i] * g[i];
            good[laprop] = good[laprop] && got_v[i] == at_random(second, r >> 16) && got_m[i] == at_random(first, r & 0xffff);
        }
        drop(bt.high), drop(bm), drop(bv), drop(bg);
        K->free(D, bt.low);
        free(got_m), free(got_v);
    }
    tap_ok(good[0] && good[1] && good[2], "moments are rounded by the words of (seed, element, step), %zu elements cut at %zu", n, cut);
    free(m), free(v), free(g), free(zero);
}

static void check_accumulate(size_t n, size_t cut)
{
    double *x = random_array(n, 0, 1, DLM_F32), *start = check_memory(n * sizeof *start);
    const uint64_t seed = 42;
    const size_t number = ((size_t)3 << 36) + 8 * 77;
    bool words = true;
    for (size_t i = 0; i < n; i++) /* half of them begin at nothing; for the others the sum is exact */
        start[i] = i % 2 ? 0 : 1 + draw() % 128 / 128.0, x[i] = i % 2 ? x[i] : (double)(1 + draw() % 32767) / 65536;
    struct buffer bx = place(x, n, DLM_F32), bs = place(start, n, DLM_BF16);
    K->accumulate(D, bs.at, bx.at, cut, seed, 9, number);
    K->accumulate(D, dlm_ptr_at(bs.at, 2 * cut), dlm_ptr_at(bx.at, 4 * cut), n - cut, seed, 9, number + cut);
    double *got = take(bs);
    for (size_t i = 0; i < n; i++) {
        const size_t e = number + i;
        uint32_t r = dlm_philox_at(seed, e / 8, 9, DLM_RNG_GRADIENT).v[e % 8 / 2] >> 16 * (e % 2) & 0xffff;
        words = words && got[i] == at_random(start[i] + x[i], r);
    }
    tap_ok(words, "sums in bf16 are rounded by the words of (seed, element, pass), %zu elements cut at %zu", n, cut);
    displace(bx), displace(bs);
    free(x), free(start), free(got);
}

/* A thousand additions of what is far too small for one to be seen: the sum of the nearest would stay where it is. */
static void check_accumulate_mean(void)
{
    enum { N = 4096, TURNS = 1000 };
    double *one = check_memory(N * sizeof *one), *small = check_memory(N * sizeof *small), mean = 0, square = 0;
    for (size_t i = 0; i < N; i++)
        one[i] = 1, small[i] = (float)1e-3;
    struct buffer bs = put(one, N, DLM_BF16), bx = put(small, N, DLM_F32);
    for (uint32_t t = 0; t < TURNS; t++)
        K->accumulate(D, bs.at, bx.at, N, 5, t, 0);
    double *got = take(bs);
    for (size_t i = 0; i < N; i++)
        mean += got[i] / N, square += got[i] * got[i] / N;
    double deviation = sqrt(square - mean * mean), error = deviation / sqrt(N);
    tap_ok(fabs(mean - 2) < 5 * error && deviation < 0.15, "1 + 1000 times 0.001 is %.4f on average, 5 standard errors are %.4f, in bf16", mean, 5 * error);
    drop(bs), drop(bx);
    free(one), free(small), free(got);
}

static void check_compact(void)
{
    if (!K->laprop_split || !K->adamw_split || !K->accumulate || !K->sum_squares_bf16) {
        tap_skip(1, "%s has no compact state", K->name);
        return;
    }
    static const size_t sizes[] = {1, 7, 64, 65, 1031};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_split(sizes[i], true);
        check_split(sizes[i], false);
    }
    check_moment_words(1031, 4 * 33);
    check_moment_words(17, 16);
    check_accumulate(1031, 8 * 21);
    check_accumulate(9, 8);
    astray = true;
    check_accumulate(1031, 8 * 21);
    astray = false;
    check_accumulate_mean();
    double *x = check_memory(5003 * sizeof *x), want = 0;
    for (size_t i = 0; i < 5003; i++)
        x[i] = (double)(draw() % 511) - 255, want += x[i] * x[i];
    struct buffer b = put(x, 5003, DLM_BF16);
    tap_ok(K->sum_squares_bf16(D, b.at, 5003) == want, "the sum of 5003 squares of bf16 is exact");
    drop(b);
    free(x);
}

int main(void)
{
    static const size_t sizes[] = {1, 7, 17, 1031};
    check_seed = tap_seed();
    check_open(2);
    for (int a = 0; a < 2; a++) {
        astray = a;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            check_laprop(sizes[i]);
            check_adamw(sizes[i]);
            check_average(sizes[i]);
            check_sum(sizes[i]);
        }
    }
    astray = false;
    check_sum(0);
    check_sum(1000003);
    check_sum(5000011); /* slices that are no whole number of strides */
    check_sum_threads();
    check_compact();
    check_reference();
    check_close();
    return tap_end();
}
