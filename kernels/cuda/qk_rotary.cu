/* Query and key: RMSNorm over the full width, then rotary embedding in halves (pairs i, i + h/2 of each head), method.md §4:
 *
 *     n = (1 + γ)·x·rstd    (n₁, n₂) → (n₁ cos - n₂ sin, n₂ cos + n₁ sin)
 *
 * Backward turns the gradient back by the same angle and goes through the norm as norm.cu does. Rows and slices as there; a thread has W
 * pairs at once, which is why W divides h/2.
 */
#include "columns.cuh"
#include "vector.cuh"

static const unsigned FORWARD_THREADS = 512, BACKWARD_THREADS = 256; /* at most */
static const size_t REDUCE = 128; /* bytes at the head of shared memory for block_reduce */
static const size_t LEAST = 16, MOST = 1024; /* rows of a slice, slices */

/* Pairs p … p + W - 1 of a row: where the first of each lies, the second being h/2 on. */
DLM_DEVICE size_t pair_at(unsigned p, unsigned half, unsigned *within)
{
    const unsigned head = p / half;
    *within = p - head * half;
    return (size_t)head * 2 * half + *within;
}

/* Cosines and sines of W angles. */
template <unsigned W> DLM_DEVICE void angles(float (&c)[W], float (&s)[W], const float *rope)
{
    if constexpr (W == 1) {
        c[0] = rope[0], s[0] = rope[1];
    } else {
#pragma unroll
        for (unsigned j = 0; j < W; j += 2) {
            const float4 f = word_at<float4>(rope + 2 * j);
            c[j] = f.x, s[j] = f.y, c[j + 1] = f.z, s[j + 1] = f.w;
        }
    }
}

/* Grid: rows, and q or k. */
template <typename A, unsigned W>
static __global__ void __launch_bounds__(FORWARD_THREADS, 3)
    qk_rotary(A *qh, A *kh, float *rstd, const A *qkv, const float *gamma_q, const float *gamma_k, const float *rope, unsigned N, unsigned H,
              unsigned h, float eps, bool kept)
{
    DLM_SHARED(unsigned char, shared);
    A *room = reinterpret_cast<A *>(shared + REDUCE);
    const unsigned half = h / 2, pairs = H * half;
    const size_t d = (size_t)H * h, t = blockIdx.x;
    const float *gamma = blockIdx.y ? gamma_k : gamma_q, *angle = rope + (size_t)((unsigned)t % N) * h;
    const A *row = qkv + t * 3 * d + blockIdx.y * d;
    A *to = (blockIdx.y ? kh : qh) + t * d;
    if (kept) {
        row_fetch<W>(room, row, d);
        copy_commit();
        copy_wait<0>(); /* what a thread squares it has fetched itself; what it turns comes after block_reduce's barriers */
        row = room;
    }
    float squares = 0;
    for (size_t i = threadIdx.x * W; i < d; i += blockDim.x * W) {
        float v[W];
        load(v, row + i);
#pragma unroll
        for (unsigned j = 0; j < W; j++)
            squares += v[j] * v[j];
    }
    squares = block_reduce<sum_op>(squares, reinterpret_cast<float *>(shared));
    const float r = 1.0f / sqrtf(squares / (float)d + eps);
    if (threadIdx.x == 0)
        rstd[2 * t + blockIdx.y] = r;
    for (unsigned p = threadIdx.x * W; p < pairs; p += blockDim.x * W) {
        unsigned i;
        const size_t at = pair_at(p, half, &i);
        float a[W], b[W], ga[W], gb[W], c[W], s[W];
        load(a, row + at), load(b, row + at + half), load(ga, gamma + at), load(gb, gamma + at + half);
        angles(c, s, angle + 2 * i);
#pragma unroll
        for (unsigned j = 0; j < W; j++) {
            const float low = (1.0f + ga[j]) * (a[j] * r), high = (1.0f + gb[j]) * (b[j] * r);
            a[j] = low * c[j] - high * s[j];
            b[j] = high * c[j] + low * s[j];
        }
        store(to + at, a);
        store(to + at + half, b);
    }
}

/* Shared: REDUCE, the part of dγ (d), and `stages` (1 or 2) of x (d) and dout (d); or with `stages` 0 the reduction's alone, and all is
 * read where it is. Grid: slices, and q or k. partial (2, slices, d). */
template <typename A, unsigned W>
static __global__ void __launch_bounds__(BACKWARD_THREADS, 2)
    qk_rotary_backward(A *dqkv, float *partial, const A *dqh, const A *dkh, const A *qkv, const float *rstd, const float *gamma_q,
                       const float *gamma_k, const float *rope, size_t T, unsigned N, unsigned H, unsigned h, size_t rows, unsigned stages)
{
    DLM_SHARED(unsigned char, shared);
    float *reduce = reinterpret_cast<float *>(shared), *room = reinterpret_cast<float *>(shared + REDUCE);
    const unsigned half = h / 2, pairs = H * half, w = blockIdx.y;
    const size_t d = (size_t)H * h, from = blockIdx.x * rows, to = from + rows < T ? from + rows : T;
    const float *gamma = w ? gamma_k : gamma_q;
    const A *dout = w ? dkh : dqh;
    float *out = partial + ((size_t)w * gridDim.x + blockIdx.x) * d, *sum = stages ? room : out;
    A *stage0 = reinterpret_cast<A *>(room + d);
    const auto fetch = [&](size_t t) {
        if (stages && t < to) {
            A *at = stage0 + (stages == 2 ? (t - from) % 2 : 0) * 2 * d;
            row_fetch<W>(at, qkv + t * 3 * d + w * d, d);
            row_fetch<W>(at + d, dout + t * d, d);
        }
        copy_commit();
    };
    for (unsigned p = threadIdx.x * W; p < pairs; p += blockDim.x * W) {
        unsigned i;
        const size_t at = pair_at(p, half, &i);
        const float none[W] = {};
        store_either(sum + at, none);
        store_either(sum + at + half, none);
    }
    fetch(from);
    for (size_t t = from; t < to; t++) {
        const A *x = qkv + t * 3 * d + w * d, *dy = dout + t * d;
        const float *angle = rope + (size_t)((unsigned)t % N) * h, r = rstd[2 * t + w]; /* on its way while others are waited for */
        if (stages == 2)
            fetch(t + 1);
        if (stages) {
            if (stages == 2)
                copy_wait<1>();
            else
                copy_wait<0>();
            __syncthreads();
            x = stage0 + (stages == 2 ? (t - from) % 2 : 0) * 2 * d;
            dy = x + d;
        }
        /* Turned back, W pairs. */
        const auto turned = [&](float(&a)[W], float(&b)[W], size_t at, unsigned i) {
            float c[W], s[W];
            load(a, dy + at), load(b, dy + at + half);
            angles(c, s, angle + 2 * i);
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                const float low = a[j], high = b[j];
                a[j] = low * c[j] + high * s[j];
                b[j] = high * c[j] - low * s[j];
            }
        };
        float dot = 0;
        for (unsigned p = threadIdx.x * W; p < pairs; p += blockDim.x * W) {
            unsigned i;
            const size_t at = pair_at(p, half, &i);
            float a[W], b[W], v[W], g[W];
            turned(a, b, at, i);
            load(v, x + at), load(g, gamma + at);
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                dot += (1.0f + g[j]) * a[j] * v[j];
            load(v, x + at + half), load(g, gamma + at + half);
#pragma unroll
            for (unsigned j = 0; j < W; j++)
                dot += (1.0f + g[j]) * b[j] * v[j];
        }
        dot = block_reduce<sum_op>(dot, reduce);
        const float pull = dot / (float)d * r * r * r;
        A *dx = dqkv + t * 3 * d + w * d;
        const auto finish = [&](float(&a)[W], size_t at) {
            float v[W], g[W], s[W];
            load(v, x + at), load(g, gamma + at), load(s, sum + at);
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                s[j] += a[j] * (v[j] * r);
                a[j] = (1.0f + g[j]) * a[j] * r - v[j] * pull;
            }
            store_either(sum + at, s);
            store(dx + at, a);
        };
        for (unsigned p = threadIdx.x * W; p < pairs; p += blockDim.x * W) {
            unsigned i;
            const size_t at = pair_at(p, half, &i);
            float a[W], b[W];
            turned(a, b, at, i);
            finish(a, at);
            finish(b, at + half);
        }
        if (stages) {
            __syncthreads(); /* before the next fetch into this stage */
            if (stages == 1)
                fetch(t + 1);
        }
    }
    copy_wait<0>();
    if (stages)
        for (unsigned p = threadIdx.x * W; p < pairs; p += blockDim.x * W) {
            unsigned i;
            const size_t at = pair_at(p, half, &i);
            float s[W];
            load(s, sum + at);
            store(out + at, s);
            load(s, sum + at + half);
            store(out + at + half, s);
        }
}

template <typename A>
static void forward(struct dlm_device *dev, dlm_ptr qh, dlm_ptr kh, dlm_ptr rstd, dlm_ptr qkv, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope,
                    size_t B, size_t N, size_t H, size_t h, float eps)
{
    constexpr unsigned W = 16 / sizeof(A);
    const size_t d = H * h, room = REDUCE + d * sizeof(A);
    const bool wide = h / 2 % W == 0 && wide_rows(qh, d, sizeof(A)) && wide_rows(kh, d, sizeof(A)) && wide_rows(qkv, d, sizeof(A)) &&
                      wide_rows(rope, h, 4) && gamma_q.at % 16 == 0 && gamma_k.at % 16 == 0,
               kept = room <= dev->shared_most;
    dlm_launch(dev, "qk_rotary", wide ? qk_rotary<A, W> : qk_rotary<A, 1>, dim3((unsigned)(B * N), 2),
               row_threads(d / 2 / (wide ? W : 1), 2, FORWARD_THREADS), kept ? room : REDUCE, dlm_at<A>(qh), dlm_at<A>(kh), dlm_at<float>(rstd),
               dlm_at<A>(qkv), dlm_at<float>(gamma_q), dlm_at<float>(gamma_k), dlm_at<float>(rope), (unsigned)N, (unsigned)H, (unsigned)h, eps, kept);
}

size_t dlm_qk_rotary_scratch(size_t T, size_t d)
{
    return 2 * columns_bytes(T, LEAST, MOST, d);
}

template <typename A>
static void backward(struct dlm_device *dev, dlm_ptr dqkv, dlm_ptr dgamma_q, dlm_ptr dgamma_k, dlm_ptr dqh, dlm_ptr dkh, dlm_ptr qkv, dlm_ptr rstd,
                     dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope, size_t B, size_t N, size_t H, size_t h)
{
    constexpr unsigned W = 16 / sizeof(A);
    const size_t d = H * h, T = B * N, stage = 2 * d * sizeof(A), room = REDUCE + d * sizeof(float);
    const bool wide = h / 2 % W == 0 && wide_rows(dqkv, d, sizeof(A)) && wide_rows(dqh, d, sizeof(A)) && wide_rows(dkh, d, sizeof(A)) &&
                      wide_rows(qkv, d, sizeof(A)) && wide_rows(rope, h, 4) && gamma_q.at % 16 == 0 && gamma_k.at % 16 == 0;
    const struct columns c = columns_of(T, LEAST, MOST);
    float *partial = static_cast<float *>(dlm_device_scratch(dev, dlm_qk_rotary_scratch(T, d)));
    if (!partial)
        return;
    const unsigned stages = room + 2 * stage <= dev->shared_most ? 2 : room + stage <= dev->shared_most ? 1 : 0;
    dlm_launch(dev, "qk_rotary_backward", wide ? qk_rotary_backward<A, W> : qk_rotary_backward<A, 1>, dim3(c.slices, 2),
               row_threads(d / 2 / (wide ? W : 1), 2, BACKWARD_THREADS), stages ? room + stages * stage : REDUCE, dlm_at<A>(dqkv), partial,
               dlm_at<A>(dqh), dlm_at<A>(dkh), dlm_at<A>(qkv), dlm_at<float>(rstd), dlm_at<float>(gamma_q), dlm_at<float>(gamma_k), dlm_at<float>(rope), T,
               (unsigned)N, (unsigned)H, (unsigned)h, c.rows, stages);
    columns_add(dev, dgamma_q, partial, c.slices, d);
    columns_add(dev, dgamma_k, partial + c.slices * d, c.slices, d);
}

void dlm_cuda_qk_rotary(struct dlm_device *dev, dlm_ptr qh, dlm_ptr kh, dlm_ptr rstd, dlm_ptr qkv, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope,
                        size_t B, size_t N, size_t H, size_t h, float eps, enum dlm_dtype act)
{
    DLM_BY_ACT(act, forward, dev, qh, kh, rstd, qkv, gamma_q, gamma_k, rope, B, N, H, h, eps);
}

void dlm_cuda_qk_rotary_backward(struct dlm_device *dev, dlm_ptr dqkv, dlm_ptr dgamma_q, dlm_ptr dgamma_k, dlm_ptr dqh, dlm_ptr dkh, dlm_ptr qkv,
                                 dlm_ptr rstd, dlm_ptr gamma_q, dlm_ptr gamma_k, dlm_ptr rope, size_t B, size_t N, size_t H, size_t h,
                                 enum dlm_dtype act)
{
    DLM_BY_ACT(act, backward, dev, dqkv, dgamma_q, dgamma_k, dqh, dkh, qkv, rstd, gamma_q, gamma_k, rope, B, N, H, h);
}
