/* LaProp, AdamW and the sum of squares: against double, the published reference, and exactly representable inputs. */
#include "kernel_check.h"

#include <jansson.h>

static double corrected(double b, int t)
{
    return 1 - (1 - b) / (1 - pow(b, t));
}

static void check_laprop(size_t n)
{
    double *theta = random_array(n, 0, 1, DLM_F32), *mu = random_array(n, 0, 0, DLM_F32), *nu = random_array(n, 0, 0, DLM_F32);
    struct buffer bt = put(theta, n, DLM_F32), bm = put(mu, n, DLM_F32), bn = put(nu, n, DLM_F32);
    double lr = (float)0.01, eps = (float)0.05, decay = (float)0.1, factor = 0.125;
    for (int t = 1; t <= 12; t++) {
        double *grad = random_array(n, 0.1, 3, DLM_F32), b1 = (float)corrected(0.9, t), b2 = (float)corrected(0.99, t);
        struct buffer bg = put(grad, n, DLM_F32);
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
        drop(bg);
        free(grad), free(kept_grad);
    }
    double *got = take(bt), *got_mu = take(bm);
    tap_ok(all_near(got, theta, n, NULL, 4e-6) && all_near(got_mu, mu, n, NULL, 4e-6), "LaProp, 12 steps of %zu elements", n);
    drop(bt), drop(bm), drop(bn);
    free(theta), free(mu), free(nu), free(got), free(got_mu);
}

static void check_adamw(size_t n)
{
    double *theta = random_array(n, 0, 1, DLM_F32), *m = random_array(n, 0, 0, DLM_F32), *v = random_array(n, 0, 0, DLM_F32);
    struct buffer bt = put(theta, n, DLM_F32), bm = put(m, n, DLM_F32), bv = put(v, n, DLM_F32);
    double lr = (float)0.01, eps = (float)0.05, decay = (float)0.1, factor = 0.125, b1 = (float)0.9, b2 = (float)0.99;
    for (int t = 1; t <= 12; t++) {
        double *grad = random_array(n, 0.1, 3, DLM_F32), c1 = 1 - pow(b1, t), c2 = 1 - pow(b2, t);
        struct buffer bg = put(grad, n, DLM_F32);
        K->adamw(D, bt.at, bm.at, bv.at, bg.at, n, (float)lr, (float)b1, (float)b2, (float)c1, (float)c2, (float)eps,
                 (float)decay, (float)factor);
        for (size_t i = 0; i < n; i++) {
            double g = factor * grad[i];
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            theta[i] -= lr * (m[i] / c1 / (sqrt(v[i] / c2) + eps) + decay * theta[i]);
        }
        drop(bg);
        free(grad);
    }
    double *got = take(bt);
    tap_ok(all_near(got, theta, n, NULL, 4e-6), "AdamW, 12 steps of %zu elements", n);
    drop(bt), drop(bm), drop(bv);
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
    struct buffer bx = put(x, n, DLM_F32), bm = put(mean, n, DLM_F32);
    for (int turn = 0; turn < 3; turn++)
        K->average(D, bm.at, bx.at, n, (float)share);
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] + pow(1 - share, 3) * (mean[i] - x[i]);
    double *got = take(bm), *kept = take(bx);
    tap_ok(all_near(got, want, n, NULL, 1e-6) && !memcmp(kept, x, n * sizeof *x), "the mean of %zu elements moves by its share of the way, three times", n);
    drop(bx), drop(bm);
    free(x), free(mean), free(want), free(got), free(kept);
}

static void check_sum(size_t n)
{
    double *x = check_memory(n * sizeof *x), want = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = (double)(draw() % 2001) - 1000; /* whole numbers: the sum is exact in any order */
        want += x[i] * x[i];
    }
    struct buffer b = put(x, n, DLM_F32);
    double got = K->sum_squares(D, b.at, n);
    tap_ok(got == want, "the sum of %zu squares is exact: %.17g", n, got);
    drop(b);
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
        double sum = K->sum_squares(other, b.at, N);
        first = threads == 1 ? sum : first;
        same = same && sum == first;
        drop(b);
        K->close(other);
    }
    tap_ok(same, "the sum of squares does not depend on the number of threads");
    free(x);
}

int main(void)
{
    static const size_t sizes[] = {1, 7, 17, 1031};
    check_seed = tap_seed();
    check_open(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_laprop(sizes[i]);
        check_adamw(sizes[i]);
        check_average(sizes[i]);
        check_sum(sizes[i]);
    }
    check_sum(0);
    check_sum(1000003);
    check_sum_threads();
    check_reference();
    check_close();
    return tap_end();
}
