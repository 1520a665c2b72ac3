/* Elementary functions in as few instructions as their use allows. */
#ifndef DLM_CUDA_VMATH_CUH
#define DLM_CUDA_VMATH_CUH

#include "target.cuh"

/* eˣ for x ≤ 88, 0 below -87: two instructions. The product's rounding leaves |x|·2⁻²⁴ of the result uncertain, as does that of the
 * difference that x is, and the exponential itself 2⁻²². */
DLM_DEVICE float exp_quick(float x)
{
    const float two_to = x * 1.44269504f;
#ifdef __CUDACC__
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(two_to));
    return r;
#else
    return exp2f(two_to);
#endif
}

/* t - log(1 + t) for 0 ≤ t < 1e37, by the interpolant of kernels/cpu/vmath.h: about t²/2 for small t, 10 ulp everywhere. And 1/(1 + t)
 * from the same division. */
DLM_DEVICE float log1p_defect(float t, float *rest)
{
    const float u = 1.0f + t;
    const int n = (int)(__float_as_uint(u) - 0x3f3504f3u) >> 23; /* 1 + t = 2ⁿ(1 + f), 1 + f in [√½, √2] */
    const float scale = __uint_as_float((unsigned)(127 - n) << 23), lost = u > 0x1p24f ? 0.0f : t - (u - 1.0f);
    const float f = (u * scale - 1.0f) + lost * scale, g = 2.0f + f, both = __fdividef(1.0f, u * g);
    const float s = f * (u * both), z = s * s;
    float p = 0.233309641f;
    p = p * z + 0.285508026f;
    p = p * z + 0.40000122f;
    p = p * z + 0.666666666f;
    *rest = g * both;
    return (t - f - (float)n * 0.693147181f) + s * (f - z * p);
}

#endif
