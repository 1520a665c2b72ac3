/* The vector functions against libm, in units in the last place: compiled plainly and, where the processor has them, with fused
 * products. */
#include "kernel_check.h"

#include "cpu/vmath.h"

enum { N = 4096 };

DLM_INLINE float defect_alone(float t)
{
    float share;
    return dlm_log1p_defect(t, &share);
}

DLM_INLINE float share_alone(float t)
{
    float share;
    dlm_log1p_defect(t, &share);
    return share;
}

#define EACH(f, name)                                                                                                            \
    static void f##_plain(float *restrict y, const float *restrict x)                                                            \
    {                                                                                                                            \
        for (int i = 0; i < N; i++)                                                                                              \
            y[i] = name(x[i]);                                                                                                   \
    }
EACH(expf, dlm_expf)
EACH(weight, dlm_exp_weight)
EACH(logf, dlm_logf)
EACH(log1pf, dlm_log1pf)
EACH(defect, defect_alone)
EACH(share, share_alone)
EACH(tanhf, dlm_tanhf)

#if defined(__x86_64__)
#define EACH_FUSED(f, name)                                                                                                      \
    __attribute__((target("avx2,fma"), optimize("fp-contract=fast"))) static void f##_fused(float *restrict y,                   \
                                                                                            const float *restrict x)             \
    {                                                                                                                            \
        for (int i = 0; i < N; i++)                                                                                              \
            y[i] = name(x[i]);                                                                                                   \
    }
#else
#define EACH_FUSED(f, name)                                                                                                      \
    static void f##_fused(float *y, const float *x)                                                                              \
    {                                                                                                                            \
        f##_plain(y, x);                                                                                                         \
    }
#endif
EACH_FUSED(expf, dlm_expf)
EACH_FUSED(weight, dlm_exp_weight)
EACH_FUSED(logf, dlm_logf)
EACH_FUSED(log1pf, dlm_log1pf)
EACH_FUSED(defect, defect_alone)
EACH_FUSED(share, share_alone)
EACH_FUSED(tanhf, dlm_tanhf)

static double defect_exact(double t)
{
    if (t > 1e-2)
        return t - log1p(t);
    double sum = 0, power = t * t;
    for (int k = 2; k < 20; k++, power *= -t)
        sum += power / k;
    return sum;
}

static double share_exact(double t)
{
    return t / (1 + t);
}

static bool can_fuse(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

/* One unit in the last place of the float nearest to v. */
static double place(double v)
{
    float f = fabsf((float)v);
    return f < 0x1p-126f ? 0x1p-149 : ldexp(1, ilogbf(f) - 23);
}

static void check(const char *name, void (*plain)(float *, const float *), void (*fused)(float *, const float *),
                  double (*exact)(double), const char *range, double from, double to, bool geometric, double allowed)
{
    static float x[N], y[N];
    for (int way = 0; way < 2; way++) {
        if (way && !can_fuse()) {
            tap_skip(1, "no fused products here");
            continue;
        }
        double worst = 0, at = 0;
        for (int round = 0; round < 64; round++) {
            for (int i = 0; i < N; i++)
                x[i] = (float)(geometric ? from * pow(to / from, uniform()) : from + (to - from) * uniform());
            (way ? fused : plain)(y, x);
            for (int i = 0; i < N; i++) {
                double want = exact((double)x[i]), off = fabs((double)y[i] - want) / place(want);
                if (!(off <= worst)) {
                    worst = off;
                    at = (double)x[i];
                }
            }
        }
        tap_ok(worst <= allowed, "%s on %s%s: %.2f ulp at %.9g, at most %g", name, range, way ? ", fused" : "", worst, at,
               allowed);
    }
}

int main(void)
{
    check_seed = tap_seed();
    check("exp", expf_plain, expf_fused, exp, "[-87, 88.7]", -87, 88.7, false, 2);
    check("exp", expf_plain, expf_fused, exp, "[-1, 1]", -1, 1, false, 2);
    check("exp", expf_plain, expf_fused, exp, "[-103, -87]", -103, -87, false, 2);
    check("exp weight", weight_plain, weight_fused, exp, "[-87, 88]", -87, 88, false, 2);
    check("log", logf_plain, logf_fused, log, "[1e-44, 1e38]", 1e-44, 1e38, true, 2);
    check("log", logf_plain, logf_fused, log, "[0.6, 1.6]", 0.6, 1.6, false, 2);
    check("log1p", log1pf_plain, log1pf_fused, log1p, "[1e-30, 1e37]", 1e-30, 1e37, true, 2);
    check("log1p", log1pf_plain, log1pf_fused, log1p, "[0, 4]", 0, 4, false, 2);
    check("t - log1p", defect_plain, defect_fused, defect_exact, "[1e-15, 1e37]", 1e-15, 1e37, true, 10);
    check("t - log1p", defect_plain, defect_fused, defect_exact, "[0.01, 4]", 0.01, 4, false, 10);
    check("t/(1 + t)", share_plain, share_fused, share_exact, "[1e-15, 1e37]", 1e-15, 1e37, true, 4);
    check("tanh", tanhf_plain, tanhf_fused, tanh, "[-12, 12]", -12, 12, false, 3);
    check("tanh", tanhf_plain, tanhf_fused, tanh, "[1e-20, 3]", 1e-20, 3, true, 3);

    float big = dlm_expf(200), small = dlm_expf(-200), one = dlm_expf(0);
    tap_ok(isinf(big) && big > 0 && small == 0 && one == 1, "exp of 200, -200 and 0: %g, %g, %g", (double)big, (double)small,
           (double)one);
    tap_ok(dlm_log1pf(0) == 0 && defect_alone(0) == 0 && dlm_tanhf(0) == 0 && dlm_logf(1) == 0, "zeros are exact");
    bool odd = true;
    for (int i = 0; i < 1000; i++) {
        float x = (float)normal() * 4;
        odd = odd && dlm_tanhf(-x) == -dlm_tanhf(x) && fabsf(dlm_tanhf(x)) <= 1;
    }
    tap_ok(odd, "tanh is odd and within [-1, 1]");
    bool near = true;
    for (int i = 0; i < 100000; i++) {
        uint32_t u = i % 4 ? draw() : (draw() & 0xffff0000u) | 0x8000u; /* ties too */
        float f;
        memcpy(&f, &u, 4);
        uint16_t got = dlm_bf16_from_f32(f);
        near = near && (f != f ? bf16_value(got) != bf16_value(got) : got == bf16_of(f));
    }
    tap_ok(near, "bf16 is rounded to nearest even, and NaN stays NaN");
    return tap_end();
}
