/* Elementary functions of float32 that a compiler can vectorise: no branches, no tables, no calls.
 *
 * Not a libm: no errno, no exceptions, and arguments outside what each comment names are not looked after. Polynomials are
 * Chebyshev interpolants of the reduced function, made for this file; tests/unit/kernel_math.c holds them to libm.
 */
#ifndef DLM_CPU_VMATH_H
#define DLM_CPU_VMATH_H

#include "device.h"

DLM_INLINE float dlm_bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

DLM_INLINE uint32_t dlm_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

#define DLM_LN2_HIGH 0x1.62e4p-1f /* 14 bits, so that n·high is exact */
#define DLM_LN2_LOW 1.428606765330187e-6f
#define DLM_ROUND 12582912.0f /* 1.5·2²³: adding it rounds to an integer in the low bits */

/* eʳ - 1 for |r| ≤ ln 2/2. */
DLM_INLINE float dlm_expm1_reduced(float r)
{
    float q = 0.000198909885f;
    q = q * r + 0.00139336479f;
    q = q * r + 0.00833331093f;
    q = q * r + 0.0416664649f;
    q = q * r + 0.166666667f;
    q = q * r + 0.5f;
    return q * (r * r) + r;
}

/* eˣ; 0 below -104, infinity above 88.7; 2 ulp. Subnormal results are rounded twice. */
DLM_INLINE float dlm_expf(float x)
{
    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float biased = x * 1.44269504f + DLM_ROUND;
    int n = (int)(dlm_float_bits(biased) - dlm_float_bits(DLM_ROUND));
    float k = biased - DLM_ROUND;
    float r = x - k * DLM_LN2_HIGH - k * DLM_LN2_LOW;
    int half = n >> 1;
    float one = dlm_bits_float((uint32_t)(half + 127) << 23), two = dlm_bits_float((uint32_t)(n - half + 127) << 23);
    return (dlm_expm1_reduced(r) + 1.0f) * one * two;
}

/* eˣ for x ≤ 88, 2 ulp; e⁻⁸⁷ below -87. Cheaper than dlm_expf, for sums in which that is nothing. */
DLM_INLINE float dlm_exp_weight(float x)
{
    x = x > -87.0f ? x : -87.0f;
    float biased = x * 1.44269504f + DLM_ROUND;
    float k = biased - DLM_ROUND;
    float r = x - k * DLM_LN2_HIGH - k * DLM_LN2_LOW;
    float power = dlm_bits_float((dlm_float_bits(biased) << 23) + 0x3f800000u); /* the low bits of `biased` are k */
    return (dlm_expm1_reduced(r) + 1.0f) * power;
}

/* f - log(1 + f) for 1 + f in [√½, √2]: s(f - zR), with s = f/(2 + f), z = s²: no digits are lost as f goes to 0. */
DLM_INLINE float dlm_log_defect_of(float f, float s)
{
    float z = s * s;
    float r = 0.233309641f;
    r = r * z + 0.285508026f;
    r = r * z + 0.40000122f;
    r = r * z + 0.666666666f;
    return s * (f - z * r);
}

DLM_INLINE float dlm_log_defect(float f)
{
    return dlm_log_defect_of(f, f / (2.0f + f));
}

/* log x for positive finite x; 2 ulp (of 1 near x = 1: relative there too). */
DLM_INLINE float dlm_logf(float x)
{
    float up = x < 0x1p-126f ? 0x1p24f : 1.0f, down = x < 0x1p-126f ? 24.0f : 0.0f;
    uint32_t u = dlm_float_bits(x * up);
    int n = (int)(u - 0x3f3504f3u) >> 23;
    float f = dlm_bits_float(u - ((uint32_t)n << 23)) - 1.0f, k = (float)n - down;
    return k * DLM_LN2_HIGH + (f - (dlm_log_defect(f) - k * DLM_LN2_LOW));
}

/* 1 + t = 2ⁿ(1 + f) for 0 ≤ t < 1e37, f without the rounding of 1 + t; f = t exactly where n = 0. */
DLM_INLINE float dlm_log1p_reduce(float t, float *k)
{
    float u = 1.0f + t;
    int n = (int)(dlm_float_bits(u) - 0x3f3504f3u) >> 23;
    float scale = dlm_bits_float((uint32_t)(127 - n) << 23);
    float lost = t - (u - 1.0f);
    lost = u > 0x1p24f ? 0.0f : lost; /* there u - 1 is u again */
    *k = (float)n;
    return (u * scale - 1.0f) + lost * scale;
}

/* log(1 + t) for 0 ≤ t < 1e37, relative accuracy everywhere. */
DLM_INLINE float dlm_log1pf(float t)
{
    float k, f = dlm_log1p_reduce(t, &k);
    return k * DLM_LN2_HIGH + (f - (dlm_log_defect(f) - k * DLM_LN2_LOW));
}

/* t - log(1 + t) for 0 ≤ t < 1e37; about t²/2 for small t: 10 ulp everywhere. And t/(1 + t) from the same division. */
DLM_INLINE float dlm_log1p_defect(float t, float *share)
{
    float k, f = dlm_log1p_reduce(t, &k), u = 1.0f + t, g = 2.0f + f;
    float both = 1.0f / (u * g);
    *share = t * (g * both);
    return (t - f - k * 0.693147181f) + dlm_log_defect_of(f, f * (u * both));
}

/* tanh x, odd to the last bit, 3 ulp. */
DLM_INLINE float dlm_tanhf(float x)
{
    float a = x < 0 ? -x : x;
    a = a > 10.0f ? 10.0f : a;
    float t = 2.0f * a;
    float biased = t * 1.44269504f + DLM_ROUND;
    int n = (int)(dlm_float_bits(biased) - dlm_float_bits(DLM_ROUND));
    float k = biased - DLM_ROUND;
    float r = t - k * DLM_LN2_HIGH - k * DLM_LN2_LOW;
    float two = dlm_bits_float((uint32_t)(n + 127) << 23);
    float e = two * dlm_expm1_reduced(r) + (two - 1.0f);
    float y = e / (e + 2.0f);
    return dlm_bits_float(dlm_float_bits(y) | (dlm_float_bits(x) & 0x80000000u));
}

#endif
