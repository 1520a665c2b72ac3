/* The diffusion loss of a row of logits and its gradient (method.md §3), in three passes and no V-wide probabilities. A block a row.
 *
 * The formulas and where they do not cancel are those of kernels/cpu/diffusion_loss.c, to which this is a twin: with s = softmax(ℓ) without the
 * mask id, t(v) = α·s(v)/c and v over all ids but x and m,
 *
 *     KL = (α+c)·log1p(α(1-s(x))/p(x)) - α(1-s(x)) + c·Σ (t - log(1+t))
 *     dℓ(v) = -s(v)·(A + B·u) with u = 1/(1+t) where α > c,  -s(v)·(A + B·t·u) where not.
 *
 * What is of a row alone is double, in one thread.
 */
#include "softmax.cuh"

static const double NOTHING = 1e-25; /* c below this share of α adds less than a rounding to any term */

struct loss_row {
    double ex, all, sx, rest; /* e^(ℓ(x) - most), the sum of all, s(x), 1 - s(x) */
    float k, A, B;            /* t = k·e^(ℓ - most); A and B divided by the sum */
    bool mixed, small;        /* c counts; α ≤ c */
    float at_x, at_z;         /* the gradient there */
    bool has_z;
};

struct loss_sums {
    double defect, P, Q; /* Σ t - log(1+t), Σ e·u·k, Σ t²·u */
};

DLM_DEVICE void begin_row(loss_row *s, const softmax_sum &sum, const float *l, uint32_t x, const struct dlm_row &row)
{
    const double alpha = (double)row.alpha, c = (double)row.c;
    s->ex = exp((double)l[x] - (double)sum.most);
    s->all = sum.others + s->ex;
    s->sx = s->ex / s->all;
    s->rest = sum.others / s->all;
    s->mixed = c > NOTHING * alpha;
    s->small = s->mixed && alpha <= c;
    s->k = s->mixed ? (float)(alpha / (s->all * c)) : 0;
}

DLM_DEVICE void finish_row(loss_row *s, float *terms, const softmax_sum &sum, const loss_sums &over, const float *l, uint32_t x, uint32_t z,
                           const struct dlm_row &row, uint32_t mask)
{
    const double alpha = (double)row.alpha, c = (double)row.c, w = (double)row.weight, sx = s->sx, rest = s->rest, px = alpha * sx + c;
    double kl;
    if (s->mixed)
        kl = (alpha + c) * log1p(alpha * rest / px) - alpha * rest + c * over.defect;
    else if (c > 0)
        kl = (alpha + c) * log1p(alpha * rest / px);
    else /* -α·log s(x); s(x) itself may be too small for a double */
        kl = alpha * (sum.others < s->ex ? log1p(sum.others / s->ex) : log(s->all) + ((double)sum.most - (double)l[x]));

    const bool scored = z != mask; /* q(m|x) = p(m) */
    double is = 0, sz = 0, ez = 0;
    if (scored) {
        sz = z == x ? sx : exp((double)l[z] - (double)sum.most) / s->all;
        const double qz = z == x ? alpha + c : c, pz = alpha * sz + c, guarded = pz > 1e-12 ? pz : 1e-12, r = qz / guarded;
        is = r > 0 ? r - 1.0 - log(r) : 0;
        ez = pz > 1e-12 ? w * (1.0 - r) * alpha * sz / pz : 0;
        if (z == x && pz > 1e-12) { /* r - 1 without cancelling */
            const double more = alpha * rest / pz;
            is = more - log1p(more);
            ez = -w * more * alpha * sz / pz;
        }
    }
    terms[DLM_TERM_LOSS] = (float)(w * (kl + is));
    terms[DLM_TERM_ELBO] = (float)((double)row.elbo_weight * (kl + is));
    terms[DLM_TERM_KL] = (float)(w * kl);
    terms[DLM_TERM_IS] = (float)(w * is);

    const double cP = s->mixed ? (s->small ? alpha * rest - c * over.Q : c * over.P) : 0;
    const double X = -w * (c > 0 ? (alpha + c) * alpha * sx / px : alpha) + (scored && z == x ? ez : 0);
    const double apart = -w * cP + (scored && z != x ? ez : 0), G = X + apart; /* apart = G without x's part */
    const double A = s->small ? w * (c * over.Q - alpha * alpha * sx * rest / px) + ez : G, B = s->mixed ? (s->small ? -w * alpha : w * alpha) : 0;
    s->A = (float)(A / s->all);
    s->B = (float)(B / s->all);
    s->at_x = (float)(X * rest - sx * apart);
    s->has_z = scored && z != x;
    if (s->has_z) {
        const double t = s->mixed ? alpha * sz / c : 0, base = s->small ? -sz * (A + B * (t / (1.0 + t))) : -sz * (A + B / (1.0 + t));
        s->at_z = (float)(base + ez);
    }
}

/* Shared: SOFTMAX_REDUCE, and a loss_row. Grid: rows. dl may be l. */
template <typename A, unsigned W>
static __global__ void __launch_bounds__(SOFTMAX_THREADS, 2)
    diffusion_loss(float *terms, A *dl, const float *l, const uint32_t *xs, const uint32_t *zs, const struct dlm_row *rows, unsigned V, uint32_t mask)
{
    DLM_SHARED(double, shared);
    loss_row *s = reinterpret_cast<loss_row *>(shared + SOFTMAX_REDUCE / sizeof(double));
    const uint32_t x = xs[blockIdx.x], z = zs[blockIdx.x];
    l += (size_t)blockIdx.x * V;
    const softmax_sum sum = softmax_pass<W>(l, V, x, mask, 1.0f, shared);
    if (threadIdx.x == 0)
        begin_row(s, sum, l, x, rows[blockIdx.x]);
    __syncthreads();
    const bool mixed = s->mixed, small = s->small;
    const float k = s->k;
    loss_sums over = {0, 0, 0};
    if (mixed) {
        for (softmax_walk<W> walk(V, true); walk.more(); walk.next()) {
            float v[SOFTMAX_GROUP][W], defect = 0, P = 0, Q = 0;
            softmax_group(v, l, walk.at, V, x, mask, 1.0f);
#pragma unroll
            for (unsigned g = 0; g < SOFTMAX_GROUP; g++)
#pragma unroll
                for (unsigned j = 0; j < W; j++) {
                    const float t = k * exp_quick(v[g][j] - sum.most);
                    float u;
                    defect += log1p_defect(t, &u);
                    P += t * u;
                    Q += t * (t * u);
                }
            over.defect += (double)defect;
            over.P += (double)P;
            over.Q += (double)Q;
        }
        over.defect = block_reduce<sum_op>(over.defect, shared);
        over.P = block_reduce<sum_op>(over.P, shared);
        over.Q = block_reduce<sum_op>(over.Q, shared);
    }
    if (threadIdx.x == 0)
        finish_row(s, terms + blockIdx.x * DLM_TERMS, sum, over, l, x, z, rows[blockIdx.x], mask);
    if (!dl)
        return;
    __syncthreads();
    dl += (size_t)blockIdx.x * V;
    const float share = -s->A, more = -s->B;
    for (softmax_walk<W> walk(V, !mixed); walk.more(); walk.next()) {
        float v[SOFTMAX_GROUP][W];
        softmax_group(v, l, walk.at, V, mask, mask, 1.0f);
#pragma unroll
        for (unsigned g = 0; g < SOFTMAX_GROUP; g++) {
            const unsigned i = walk.at + g * blockDim.x * W;
            if (i >= V)
                break;
#pragma unroll
            for (unsigned j = 0; j < W; j++) {
                const float e = exp_quick(v[g][j] - sum.most), t = k * e, u = __fdividef(1.0f, 1.0f + t);
                v[g][j] = e * (share + more * (small ? t * u : u));
            }
            store(dl + i, v[g]);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        dl[x] = to_act<A>(s->at_x);
        if (s->has_z)
            dl[z] = to_act<A>(s->at_z);
    }
}

template <typename A>
static void loss(struct dlm_device *dev, dlm_ptr terms, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr x, dlm_ptr z, dlm_ptr row, size_t n, size_t V,
                 uint32_t mask)
{
    const bool wide = wide_rows(logits, V, 4) && wide_rows(dlogits, V, sizeof(A));
    dlm_launch(dev, "diffusion_loss", wide ? diffusion_loss<A, 4> : diffusion_loss<A, 1>, dim3((unsigned)n), softmax_threads(V, wide ? 4 : 1),
               SOFTMAX_REDUCE + sizeof(loss_row), dlm_at<float>(terms), dlm_at<A>(dlogits), dlm_at<float>(logits), dlm_at<uint32_t>(x),
               dlm_at<uint32_t>(z), dlm_at<struct dlm_row>(row), (unsigned)V, mask);
}

void dlm_cuda_diffusion_loss(struct dlm_device *dev, dlm_ptr terms, dlm_ptr dlogits, dlm_ptr logits, dlm_ptr x, dlm_ptr z, dlm_ptr row, size_t n,
                             size_t V, uint32_t mask, enum dlm_dtype act)
{
    DLM_BY_ACT(act, loss, dev, terms, dlogits, logits, x, z, row, n, V, mask);
}
