/* Bootstrap intervals; see bootstrap.h. */
#include "law/bootstrap.h"

#include "base/stop.h"
#include "metric/fnv.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1024, TRIES = 1000 };

struct dlm_bootstrap dlm_bootstrap_percentiles(const struct dlm_bootstrap *b)
{
    struct dlm_bootstrap p = *b;
    p.kind = DLM_INTERVAL_PERCENTILE;
    return p;
}

struct dlm_bootstrap dlm_bootstrap_rather(const struct dlm_bootstrap *b, enum dlm_interval_kind kind)
{
    struct dlm_bootstrap p = *b;
    if (!b->asked)
        p.kind = kind;
    return p;
}

int dlm_bootstrap_run(const struct dlm_bootstrap *b, const struct dlm_resampler *r, const char *group, double *draws,
                      size_t *good, struct dlm_error *err)
{
    const uint64_t hash = dlm_fnv_hash(group, strlen(group)), key = (hash ^ hash >> 32) << 32; /* the item of Philox: group above, resample below */
    const int threads = b->threads > 0 ? b->threads : 1;
    const size_t stride = (r->scratch_size + 127) / 64 * 64; /* threads do not share cache lines */
    char *scratch = malloc(stride * (size_t)threads);
    *good = 0;
    if (!scratch)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (uint64_t block = 0; block < b->n; block += BLOCK) {
        const int64_t end = (int64_t)(b->n - block < BLOCK ? b->n - block : BLOCK);
#pragma omp parallel num_threads(threads)
        {
            char *own = scratch + stride * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 8)
            for (int64_t i = 0; i < end; i++) {
                double *out = draws + (block + (uint64_t)i) * r->width;
                struct dlm_rng rng;
                dlm_rng_init(&rng, b->seed, key | (block + (uint64_t)i), DLM_RNG_BOOTSTRAP);
                bool done = false;
                for (int t = 0; t < TRIES && !done; t++)
                    done = r->draw(r->ctx, &rng, own, out);
                for (size_t k = 0; k < r->width && !done; k++)
                    out[k] = NAN;
            }
        }
        if (b->tick)
            b->tick(b->tick_ctx, block + (uint64_t)end);
        if (dlm_stop_signal()) {
            free(scratch);
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        }
    }
    free(scratch);
    for (uint64_t i = 0; i < b->n; i++)
        *good += !isnan(draws[i * r->width]);
    return 0;
}

/* Put the k-th smallest of v (n) in its place, nothing larger before it and nothing smaller behind it. */
static void select_kth(double *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        const double a = v[low], b = v[low + (high - low) / 2], c = v[high];
        const double pivot = a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b; /* the middle one of three */
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            double t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (i == j && v[i] <= pivot) /* v[low..i] ≤ pivot ≤ v[i+1..high] in either case */
            i++;
        if (k < i)
            high = i - 1;
        else
            low = i;
    }
}

/* Linear between order statistics; v is rearranged. */
static double quantile(double *v, size_t n, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n)
        i = n - 1;
    select_kth(v, n, i);
    if (i + 1 >= n || at <= (double)i)
        return v[i];
    double next = v[i + 1];
    for (size_t k = i + 2; k < n; k++)
        next = v[k] < next ? v[k] : next;
    return v[i] + (at - (double)i) * (next - v[i]);
}

static double normal_below(double z)
{
    return 0.5 * erfc(-z * M_SQRT1_2);
}

/* Its inverse, by halving: a few microseconds, a few times an interval. */
static double normal_quantile(double p)
{
    double low = -38, high = 38;
    for (int i = 0; i < 60; i++) {
        double z = 0.5 * (low + high);
        if (normal_below(z) < p)
            low = z;
        else
            high = z;
    }
    return 0.5 * (low + high);
}

/* P(T ≤ t), t ≥ 0, by the finite series in cos²θ, tan θ = t/√f (Abramowitz and Stegun 26.7.3 and 4). */
static double student_below(double t, size_t freedom)
{
    const double angle = atan(t / sqrt((double)freedom)), cosine = cos(angle), sine = sin(angle);
    double term = freedom % 2 ? cosine : 1, sum = 0;
    for (size_t k = freedom % 2 ? 3 : 2; k <= freedom; k += 2) {
        sum += term;
        term *= cosine * cosine * (double)(k - 1) / (double)k;
    }
    return 0.5 + (freedom % 2 ? (angle + sine * sum) / M_PI : 0.5 * sine * sum);
}

double dlm_student_quantile(double p, size_t freedom)
{
    const double z = normal_quantile(p);
    if (!freedom || freedom > 500) /* two terms of its expansion: 1e-6 of it from here on */
        return freedom ? z + z * (z * z + 1) / (4 * (double)freedom) : z;
    double low = 0, high = 1;
    while (student_below(high, freedom) < p && high < 1e12)
        high *= 2;
    for (int i = 0; i < 80; i++) {
        const double t = 0.5 * (low + high);
        if (student_below(t, freedom) < p)
            low = t;
        else
            high = t;
    }
    return 0.5 * (low + high);
}

/* The acceleration from the jackknife; 0 where it has none. */
static double acceleration(const double *left, size_t n)
{
    double mean = 0, two = 0, three = 0;
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(left[i])) {
            mean += left[i];
            m++;
        }
    if (2 * m < n || m < 3)
        return 0;
    mean /= (double)m;
    for (size_t i = 0; i < n; i++)
        if (isfinite(left[i])) {
            double d = mean - left[i];
            two += d * d;
            three += d * d * d;
        }
    return two > 0 ? three / (6 * pow(two, 1.5)) : 0;
}

/* The probability to take a quantile at, so that the interval holds with p. */
static double corrected(double p, double z0, double a, size_t n)
{
    const double least = 0.5 / (double)n;
    double z = z0 + normal_quantile(p), bend = 1 - a * z;
    double q = bend > 0 ? normal_below(z0 + z / bend) : z > 0 ? 1 : 0; /* beyond the pole: the end on that side */
    return fmin(fmax(q, least), 1 - least);
}

/* About the estimate, from percentiles; `positive`: in logs. `low`: the least of the values. */
static void make_student(const struct dlm_bootstrap *b, double estimate, size_t freedom, bool positive, double low,
                         struct dlm_interval *in)
{
    const double p = 0.5 * (1 + b->level), wider = dlm_student_quantile(p, freedom) / normal_quantile(p);
    if (positive) {
        const double half = 0.5 * wider * log(in->hi / in->lo);
        in->lo = estimate * exp(-half);
        in->hi = estimate * exp(half);
    } else {
        const double half = 0.5 * wider * (in->hi - in->lo);
        in->lo = low >= 0 ? fmax(estimate - half, 0) : estimate - half;
        in->hi = estimate + half;
    }
}

/* An estimate at an end of its interval, or beyond, says that the resamples tell nothing of one side: a minimum that they repeat,
 * or never reach. A term at its bound of 0 belongs there. */
static bool at_an_end(double estimate, const struct dlm_interval *in)
{
    const double near = 0.005;
    bool end = !(estimate - in->lo > near * (in->hi - in->lo)) || !(in->hi - estimate > near * (in->hi - in->lo));
    if (end && in->lo > 0 && estimate > 0) { /* of a factor many times wide the logs are meant */
        const double at = log(estimate / in->lo) / log(in->hi / in->lo);
        end = !(at > near && at < 1 - near);
    }
    return end && fabs(estimate) > 1.01e-4 * fmax(fabs(in->hi), 1);
}

/* A few values far outside make a standard deviation that no error has: A of a law that is not determined, some decades of whose
 * resamples lie beyond its limits. Normal errors with the same limits have (hi - lo)/2z, and values that all lie within them, at the
 * level 0.95, hardly twice that (Popoviciu: (hi - lo)/2). More is not told, nor is anything of a value without an interval. */
static double standard_error(const struct dlm_bootstrap *b, const struct dlm_interval *in)
{
    const double rounding = 1e-12 * fmax(fabs(in->lo), fabs(in->hi));
    return in->se <= (in->hi - in->lo) / normal_quantile(0.5 * (1 + b->level)) + rounding ? in->se : NAN;
}

/* From the n values in v, which are rearranged. `d` NULL: percentiles. `left`: the jackknife's values. */
static struct dlm_interval interval_of(const struct dlm_bootstrap *b, const struct dlm_draws *d, double *v, size_t n, double estimate,
                                       const double *left)
{
    double mean = 0, square = 0, p = 0.5 * (1 - b->level), q = 0.5 * (1 + b->level), low = INFINITY;
    size_t m = 0, below = 0, equal = 0, same = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) {
            same += fabs(v[i] - estimate) <= 1e-6 * fabs(estimate);
            mean += v[i];
            below += v[i] < estimate;
            equal += v[i] == estimate;
            low = fmin(low, v[i]);
            v[m++] = v[i];
        }
    if (m < 2 || 2 * m < n)
        return (struct dlm_interval){NAN, NAN, NAN};
    mean /= (double)m;
    for (size_t i = 0; i < m; i++)
        square += (v[i] - mean) * (v[i] - mean);
    /* Where many resamples give the estimate again, it hangs on a few runs that they all hold: then it is no smooth function of the
     * runs, the correction has nothing to go by, and an interval without width would come of it. */
    const bool usable = d && isfinite(estimate);
    if (usable && b->kind == DLM_INTERVAL_BCA && 10 * same < m) {
        const double least = 0.5 / (double)m, share = ((double)below + 0.5 * (double)equal) / (double)m;
        const double z0 = normal_quantile(fmin(fmax(share, least), 1 - least)), a = acceleration(left, d->n_left);
        p = corrected(p, z0, a, m);
        q = corrected(q, z0, a, m);
    }
    struct dlm_interval out = {quantile(v, m, p), 0, sqrt(square / (double)(m - 1))};
    out.hi = quantile(v, m, q);
    if (usable && b->kind == DLM_INTERVAL_STUDENT)
        make_student(b, estimate, d->freedom, low > 0 && estimate > 0, low, &out);
    if (usable && at_an_end(estimate, &out))
        out.lo = out.hi = NAN;
    out.se = standard_error(b, &out);
    return out;
}

int dlm_bootstrap_interval(const struct dlm_bootstrap *b, const double *draws, size_t width, size_t at, struct dlm_interval *out,
                           struct dlm_error *err)
{
    *out = (struct dlm_interval){NAN, NAN, NAN};
    if (b->n < 2)
        return 0;
    double *v = malloc(b->n * sizeof *v);
    if (!v)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < b->n; i++)
        v[i] = draws[i * width + at];
    *out = interval_of(b, NULL, v, b->n, NAN, NULL);
    free(v);
    return 0;
}

/* Leave each run out in turn, or each block of them. */
static int leave_each_out(struct dlm_draws *d, const struct dlm_bootstrap *b, const struct dlm_resampler *r,
                          dlm_leave_out *leave_out, size_t runs, struct dlm_error *err)
{
    const int threads = b->threads > 0 ? b->threads : 1;
    const size_t stride = (r->scratch_size + 127) / 64 * 64, n = runs < DLM_JACKKNIFE_MAX ? runs : DLM_JACKKNIFE_MAX;
    char *scratch = malloc(stride * (size_t)threads);
    d->left = malloc(n * d->width * sizeof *d->left);
    if (!scratch || !d->left) {
        free(scratch);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    d->n_left = n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (size_t i = 0; i < n; i++) {
        double *out = d->left + i * d->width;
        if (!leave_out(r->ctx, i * runs / n, (i + 1) * runs / n, scratch + stride * (size_t)omp_get_thread_num(), out))
            for (size_t k = 0; k < d->width; k++)
                out[k] = NAN;
    }
    free(scratch);
    return 0;
}

int dlm_draws_fill(struct dlm_draws *d, const struct dlm_bootstrap *b, const struct dlm_resampler *r, dlm_leave_out *leave_out,
                   const char *group, size_t runs, const double *estimate, struct dlm_error *err)
{
    *d = (struct dlm_draws){.n = b->n, .width = r->width};
    if (b->n > (size_t)-1 / sizeof *d->at / r->width)
        return dlm_fail(err, DLM_ENOMEM, "out of memory for %llu resamples", (unsigned long long)b->n);
    d->at = malloc(b->n * r->width * sizeof *d->at);
    d->estimate = malloc(r->width * sizeof *d->estimate);
    int rc = d->at && d->estimate ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory for %llu resamples", (unsigned long long)b->n);
    if (!rc) {
        memcpy(d->estimate, estimate, r->width * sizeof *estimate);
        rc = dlm_bootstrap_run(b, r, group, d->at, &d->good, err);
    }
    if (!rc && b->kind == DLM_INTERVAL_BCA && leave_out && runs > 1)
        rc = leave_each_out(d, b, r, leave_out, runs, err);
    if (rc)
        dlm_draws_release(d);
    return rc;
}

void dlm_draws_release(struct dlm_draws *d)
{
    free(d->at);
    free(d->left);
    free(d->estimate);
    *d = (struct dlm_draws){0};
}

struct column {
    size_t at;
};

static double of_column(const void *ctx, const double *row, size_t i)
{
    const struct column *c = ctx;
    return row[c->at + i];
}

int dlm_draws_interval(const struct dlm_bootstrap *b, const struct dlm_draws *d, size_t at, struct dlm_interval *out,
                       struct dlm_error *err)
{
    return dlm_draws_intervals_of(b, d, of_column, &(struct column){at}, 1, out, err);
}

int dlm_draws_intervals_of(const struct dlm_bootstrap *b, const struct dlm_draws *d,
                           double (*f)(const void *ctx, const double *row, size_t i), const void *ctx, size_t n,
                           struct dlm_interval *out, struct dlm_error *err)
{
    const int threads = b->threads > 0 && n > 1 ? b->threads : 1;
    const size_t each = d->n + d->n_left;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct dlm_interval){NAN, NAN, NAN};
    if (d->n < 2 || !n)
        return 0;
    double *space = malloc((size_t)threads * each * sizeof *space);
    if (!space)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (size_t i = 0; i < n; i++) {
        double *v = space + each * (size_t)omp_get_thread_num(), *left = v + d->n;
        for (size_t k = 0; k < d->n; k++) /* a row that came to nothing is NAN throughout */
            v[k] = isnan(d->at[k * d->width]) ? NAN : f(ctx, d->at + k * d->width, i);
        for (size_t k = 0; k < d->n_left; k++)
            left[k] = isnan(d->left[k * d->width]) ? NAN : f(ctx, d->left + k * d->width, i);
        out[i] = interval_of(b, d, v, d->n, d->estimate ? f(ctx, d->estimate, i) : NAN, left);
    }
    free(space);
    return 0;
}

size_t dlm_bootstrap_pick(struct dlm_rng *rng, size_t n, uint32_t *counts)
{
    size_t distinct = 0;
    memset(counts, 0, n * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        distinct += !counts[dlm_rng_below(rng, n)]++;
    return distinct;
}

bool dlm_bootstrap_by_run(size_t runs, int parameters)
{
    return runs >= 5 && runs > (size_t)parameters;
}
