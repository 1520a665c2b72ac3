/* Soft-capped attention with a sink, as kernels/cpu/attention.c has it: the entries, a cache's rows, and backward's pass over rows.
 *
 * bf16 goes to the tensor cores (attention_mma.cu; attention_wgmma.cu on request) where h is at most 128 and rows are aligned to pairs; the
 * rest, float32 first of all, is attention_plain.cu. No sum is shared between blocks, so that nothing depends on their order. Backward knows each query's lse and
 * D = do·o, and is three passes: over rows for D and the sink; over tiles of keys for dk and dv; over tiles of queries for dq. The last two
 * compute the scores and do·v each for themselves: seven products instead of five, which is what it takes to add up dq without atomics
 * and without a copy of it for each tile of keys. The sink's gradients are summed a slice of 128 rows, and the slices added in order of
 * sequence and position.
 */
#include "attention_sight.cuh"

#include <stdlib.h>
#include <string.h>

static const unsigned SLICE = 128;
static const float PLAIN_CAP = 40.0f; /* e⁴⁰·N fits in float32, and so does e⁻⁴⁰ */

/* --- the rows of a cache ---------------------------------------------------------------------------------------------------------- */

template <typename A> static __global__ void append(A *keys, A *values, const A *k, const A *v, size_t ldv, size_t d)
{
    const size_t i = blockIdx.x;
    for (size_t e = threadIdx.x; e < d; e += blockDim.x) {
        keys[i * d + e] = k[i * d + e];
        values[i * d + e] = v[i * ldv + e];
    }
}

/* --- backward over rows ------------------------------------------------------------------------------------------------------------ */

/* D and du of each query, and what a slice of them adds to the sink: part (B·H, slices, 2h). */
template <typename A> static __global__ void backward_rows(const attention_problem p, float *part)
{
    DLM_SHARED(float, weight);
    float *slope = weight + SLICE;
    const unsigned slice = blockIdx.x % p.tiles, task = blockIdx.x / p.tiles, head = task % p.H, i0 = slice * SLICE;
    const unsigned many = p.N - i0 < SLICE ? p.N - i0 : SLICE, lane = threadIdx.x % 32;
    const size_t at = ((size_t)(task / p.H) * p.N + i0) * p.d + head * p.h, row0 = (size_t)task * p.N + i0;
    const A *q = static_cast<const A *>(p.q) + at, *o = static_cast<const A *>(p.o) + at, *dout = static_cast<const A *>(p.dout) + at;
    const float *sink_k = p.sink_k + head * p.h, *sink_v = p.sink_v + head * p.h;
    for (unsigned row = threadIdx.x / 32; row < many; row += blockDim.x / 32) {
        float x = 0, dp = 0, D = 0;
        for (unsigned e = lane; e < p.h; e += 32) {
            const float g = to_f32(dout[row * p.d + e]);
            x = fmaf(to_f32(q[row * p.d + e]), sink_k[e], x);
            dp = fmaf(g, sink_v[e], dp);
            D = fmaf(g, to_f32(o[row * p.d + e]), D);
        }
        x = warp_reduce<sum_op>(x);
        dp = warp_reduce<sum_op>(dp);
        D = warp_reduce<sum_op>(D);
        if (lane == 0) {
            const float r = cap_rest(x, p), w = power_of_two(cap_score(r, p.lse[row0 + row] * LOG2_E, p)), du = w * (dp - D) * (r - r * r);
            p.D[row0 + row] = D;
            p.du[row0 + row] = du;
            weight[row] = w;
            slope[row] = du;
        }
    }
    __syncthreads();
    part += (size_t)blockIdx.x * 2 * p.h;
    for (unsigned e = threadIdx.x; e < p.h; e += blockDim.x) {
        float dk = 0, dv = 0;
        for (unsigned row = 0; row < many; row++) {
            dk = fmaf(slope[row], to_f32(q[row * p.d + e]), dk);
            dv = fmaf(weight[row], to_f32(dout[row * p.d + e]), dv);
        }
        part[e] = dk;
        part[p.h + e] = dv;
    }
}

static __global__ void backward_sink(float *dsink_k, float *dsink_v, const float *part, size_t B, unsigned H, unsigned h,
                                     unsigned slices, float factor)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, head = i / (2 * h), e = i % (2 * h);
    if (head >= H)
        return;
    float sum = 0;
    for (size_t b = 0; b < B; b++)
        for (unsigned s = 0; s < slices; s++)
            sum += part[((b * H + head) * slices + s) * 2 * h + e];
    if (e < h)
        dsink_k[head * h + e] += factor * sum;
    else
        dsink_v[head * h + e - h] += sum;
}

/* --- entries ------------------------------------------------------------------------------------------------------------------------ */

static struct attention_problem problem(dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k, dlm_ptr sink_v, dlm_ptr noisy,
                                        enum dlm_attend rule, size_t N, size_t H, size_t h, float cap)
{
    struct attention_problem p = {};
    p.q = dlm_at<void>(q);
    p.k = dlm_at<void>(k);
    p.v = dlm_at<void>(v);
    p.sink_k = dlm_at<float>(sink_k);
    p.sink_v = dlm_at<float>(sink_v);
    p.noisy = rule == DLM_ATTEND_PREFIX ? dlm_at<uint8_t>(noisy) : NULL;
    p.d = H * h;
    p.ldv = ldv;
    p.N = p.n = (unsigned)N;
    p.H = (unsigned)H;
    p.h = (unsigned)h;
    p.rule = rule;
    p.running = cap > PLAIN_CAP;
    p.slope = 2 * LOG2_E / (sqrtf((float)h) * cap);
    p.top = cap * LOG2_E;
    p.twice = 2 * p.top;
    p.factor = 4 / sqrtf((float)h);
    return p;
}

/* Which of the three: DLM_CUDA_ATTENTION names the first to be asked, mma if it does not; what that does not take goes to the next. Hopper's own
 * becomes the first there when a recorded run has it right and faster. */
enum form { WGMMA, MMA, PLAIN };

static enum form form_for(struct dlm_device *dev, const struct attention_problem &p, enum dlm_dtype act)
{
    static const char *const names[] = {"wgmma", "mma", "plain"}, *const said = getenv("DLM_CUDA_ATTENTION");
    int first = said && *said ? WGMMA : MMA;
    while (said && *said && first <= PLAIN && strcmp(said, names[first]))
        first++;
    if (first > PLAIN)
        dlm_device_fail(dev, "DLM_CUDA_ATTENTION is '%.40s', which is none of wgmma, mma and plain", said);
    if (act == DLM_BF16 && first == WGMMA && dlm_attention_wgmma_takes(dev, p))
        return WGMMA;
    return act == DLM_BF16 && first <= MMA && dlm_attention_mma_takes(p) ? MMA : PLAIN;
}

static void forward(struct dlm_device *dev, const struct attention_problem &p, size_t B, enum dlm_dtype act)
{
    const enum form form = form_for(dev, p, act);
    if (form == WGMMA)
        dlm_attention_wgmma(dev, p, B);
    else if (form == MMA)
        dlm_attention_mma(dev, p, B);
    else
        dlm_attention_plain(dev, p, B, act);
}

void dlm_cuda_attention(struct dlm_device *dev, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv, dlm_ptr sink_k,
                        dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H, size_t h, float cap,
                        enum dlm_dtype act)
{
    struct attention_problem p = problem(q, k, v, ldv, sink_k, sink_v, noisy, rule, N, H, h, cap);
    p.o = dlm_at<void>(o);
    p.lse = dlm_at<float>(lse);
    forward(dev, p, B, act);
}

void dlm_cuda_attention_cached(struct dlm_device *dev, dlm_ptr o, dlm_ptr keys, dlm_ptr values, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                               dlm_ptr sink_k, dlm_ptr sink_v, enum dlm_attend rule, size_t at, size_t n, size_t H, size_t h, float cap,
                               enum dlm_dtype act)
{
    const size_t d = H * h, begin = at * d * dlm_dtype_size(act);
    const dlm_ptr none = {0}, key = dlm_ptr_at(keys, begin), value = dlm_ptr_at(values, begin);
    if (act == DLM_BF16)
        dlm_launch(dev, "attention_cached", append<bf16>, dim3((unsigned)n), 128, 0, dlm_at<bf16>(key), dlm_at<bf16>(value),
                   dlm_at<bf16>(k), dlm_at<bf16>(v), ldv, d);
    else
        dlm_launch(dev, "attention_cached", append<float>, dim3((unsigned)n), 128, 0, dlm_at<float>(key), dlm_at<float>(value),
                   dlm_at<float>(k), dlm_at<float>(v), ldv, d);
    struct attention_problem p = problem(q, keys, values, d, sink_k, sink_v, none, rule, at + n, H, h, cap);
    p.o = dlm_at<void>(o);
    p.n = (unsigned)n;
    p.at = (unsigned)at;
    forward(dev, p, 1, act);
}

/* D and du of each query, and a slice's part of the sink's gradients. */
size_t dlm_attention_scratch(size_t B, size_t N, size_t H, size_t h)
{
    return B * H * (2 * N + ceil_div(N, (size_t)SLICE) * 2 * h) * sizeof(float);
}

void dlm_cuda_attention_backward(struct dlm_device *dev, dlm_ptr dq, dlm_ptr dk, dlm_ptr dv, size_t lddv, dlm_ptr dsink_k,
                                 dlm_ptr dsink_v, dlm_ptr do_, dlm_ptr o, dlm_ptr lse, dlm_ptr q, dlm_ptr k, dlm_ptr v, size_t ldv,
                                 dlm_ptr sink_k, dlm_ptr sink_v, dlm_ptr noisy, enum dlm_attend rule, size_t B, size_t N, size_t H,
                                 size_t h, float cap, enum dlm_dtype act)
{
    struct attention_problem p = problem(q, k, v, ldv, sink_k, sink_v, noisy, rule, N, H, h, cap);
    p.o = dlm_at<void>(o);
    p.lse = dlm_at<float>(lse);
    p.dout = dlm_at<void>(do_);
    p.dq = dlm_at<void>(dq);
    p.dk = dlm_at<void>(dk);
    p.dv = dlm_at<void>(dv);
    p.lddv = lddv;
    p.tiles = ceil_div(p.N, SLICE);
    const size_t rows = B * H * N, slices = B * H * p.tiles;
    float *work = static_cast<float *>(dlm_device_scratch(dev, dlm_attention_scratch(B, N, H, h)));
    if (!work)
        return;
    p.D = work;
    p.du = work + rows;
    float *part = work + 2 * rows;
    if (act == DLM_BF16)
        dlm_launch(dev, "attention_backward", backward_rows<bf16>, dim3((unsigned)slices), 128, 2 * SLICE * sizeof(float), p, part);
    else
        dlm_launch(dev, "attention_backward", backward_rows<float>, dim3((unsigned)slices), 128, 2 * SLICE * sizeof(float), p, part);
    dlm_launch(dev, "attention_backward", backward_sink, dim3((unsigned)ceil_div(2 * H * h, (size_t)128)), 128, 0, dlm_at<float>(dsink_k),
               dlm_at<float>(dsink_v), part, B, p.H, p.h, p.tiles, p.factor);
    const enum form form = form_for(dev, p, act);
    if (form == WGMMA)
        dlm_attention_wgmma_backward(dev, p, B);
    else if (form == MMA)
        dlm_attention_mma_backward(dev, p, B);
    else
        dlm_attention_plain_backward(dev, p, B, act);
}
