/* The diffusion loss of a row of logits and its gradient (method.md §3), in three passes and no V-wide probabilities.
 *
 * With s = softmax(ℓ) without the mask id, t(v) = α·s(v)/c, and v running over all ids but x and m:
 *
 *     KL = (α+c)·log((α+c)/p(x)) - c·Σ log(1+t) = (α+c)·log1p(α(1-s(x))/p(x)) - α(1-s(x)) + c·Σ (t - log(1+t))
 *
 * The second form adds no large numbers of opposite sign: where α ≪ c, KL is of second order in α and each part of it is
 * too. 1 - s(x) comes from the sum over the others, never by subtraction.
 *
 * Gradient, with u = 1/(1+t), P = Σ t·u, Q = Σ t²·u, and e = w·(1 - r)·α·s(z)/p(z) at v = z ≠ m:
 *
 *     G = Σ s·α·g = -w·(cP + (α+c)·α·s(x)/p(x)) + e
 *     dℓ(v) = s(v)·(α·g(v) - G) = -s(v)·(G + wα·u) = -s(v)·(G + wα - wα·t·u)
 *
 * of which the first is used where α > c and the second where not, each where it does not cancel:
 *
 *     G + wα = w·(cQ - α²·s(x)·(1-s(x))/p(x)) + e
 */
#include "softmax.h"

#include <omp.h>

static const double NOTHING = 1e-25; /* c below this share of α adds less than a rounding to any term */

struct sums {
    double others, defect, P, Q;
};

/* Σ t - log(1+t), P and Q for t = k·e; `w` gets e·t·u or, unless `small`, e·u for the gradient, or is NULL. */
DLM_INLINE void block_terms(double *restrict defects, double *restrict Ps, double *restrict Qs, const float *restrict e,
                            float *restrict w, size_t width, float factor, float k, bool small)
{
    float defect[DLM_BLOCK_LANES] = {0}, P[DLM_BLOCK_LANES] = {0}, Q[DLM_BLOCK_LANES] = {0};
    for (size_t v = 0; v < width; v += DLM_BLOCK_LANES)
#pragma omp simd
        for (size_t i = 0; i < DLM_BLOCK_LANES; i++) {
            float p = factor * e[v + i], t = k * p, tu;
            defect[i] += dlm_log1p_defect(t, &tu);
            P[i] += tu;
            Q[i] += t * tu;
            if (w)
                w[v + i] = small ? p * tu : p - p * tu;
        }
    for (int i = 0; i < DLM_BLOCK_LANES; i++) {
        defects[i] += (double)defect[i];
        Ps[i] += (double)P[i];
        Qs[i] += (double)Q[i];
    }
}

static void pass_terms(struct sums *s, const float *e, const float *mark, float *w, size_t V, float most, float k, bool small)
{
    double defect[DLM_BLOCK_LANES] = {0}, P[DLM_BLOCK_LANES] = {0}, Q[DLM_BLOCK_LANES] = {0};
    for (size_t b = 0; b < dlm_softmax_blocks(V); b++) {
        size_t from = b * DLM_BLOCK, width = dlm_softmax_width(V, b);
        float factor = dlm_expf(mark[b] - most);
        if (!w)
            block_terms(defect, P, Q, e + from, NULL, width, factor, k, false);
        else if (small)
            block_terms(defect, P, Q, e + from, w + from, width, factor, k, true);
        else
            block_terms(defect, P, Q, e + from, w + from, width, factor, k, false);
    }
    s->defect = dlm_lanes_sum(defect);
    s->P = dlm_lanes_sum(P);
    s->Q = dlm_lanes_sum(Q);
}

/* dℓ = -(A·e + B·w); A and B are divided by the sum already, and w is NULL where B is nothing. */
DLM_INLINE void pass_gradient(void *dl, const float *restrict e, const float *mark, const float *restrict w, size_t V, float most,
                              float A, float B, enum dlm_dtype act)
{
    for (size_t b = 0; b < dlm_softmax_blocks(V); b++) {
        size_t from = b * DLM_BLOCK, to = V - from < DLM_BLOCK ? V : from + DLM_BLOCK;
        float a = A * dlm_expf(mark[b] - most);
        if (w) {
#pragma omp simd
            for (size_t v = from; v < to; v++)
                dlm_act_put(dl, v, -(a * e[v] + B * w[v]), act);
        } else {
#pragma omp simd
            for (size_t v = from; v < to; v++)
                dlm_act_put(dl, v, -a * e[v], act);
        }
    }
}

static void loss_row(float *work, float *terms, void *dl, const float *l, uint32_t x, uint32_t z, const struct dlm_row *row,
                     size_t V, uint32_t mask, enum dlm_dtype act)
{
    float *e = work, *w_of = e + dlm_softmax_padded(V), *mark = w_of + dlm_softmax_padded(V);
    double alpha = (double)row->alpha, c = (double)row->c, w = (double)row->weight;
    struct sums sum = {0, 0, 0, 0};
    float lx = l[x], lz = l[z], most = dlm_softmax_pass(e, mark, &sum.others, l, V, x, mask);
    double ex = exp((double)lx - (double)most), all = sum.others + ex, sx = ex / all, rest = sum.others / all;
    bool mixed = c > NOTHING * alpha, small = mixed && alpha <= c;
    if (mixed)
        pass_terms(&sum, e, mark, dl ? w_of : NULL, V, most, (float)(alpha / (all * c)), small);
    double px = alpha * sx + c, kl;
    if (mixed)
        kl = (alpha + c) * log1p(alpha * rest / px) - alpha * rest + c * sum.defect;
    else if (c > 0)
        kl = (alpha + c) * log1p(alpha * rest / px);
    else /* -α·log s(x); s(x) itself may be too small for a double */
        kl = alpha * (sum.others < ex ? log1p(sum.others / ex) : log(all) + ((double)most - (double)lx));

    bool scored = z != mask; /* q(m|x) = p(m) */
    double is = 0, sz = 0, ez = 0;
    if (scored) {
        sz = z == x ? sx : exp((double)lz - (double)most) / all;
        double qz = z == x ? alpha + c : c, pz = alpha * sz + c, guarded = pz > 1e-12 ? pz : 1e-12, r = qz / guarded;
        is = r > 0 ? r - 1.0 - log(r) : 0;
        ez = pz > 1e-12 ? w * (1.0 - r) * alpha * sz / pz : 0;
        if (z == x && pz > 1e-12) { /* r - 1 without cancelling */
            double over = alpha * rest / pz;
            is = over - log1p(over);
            ez = -w * over * alpha * sz / pz;
        }
    }
    double elbo = (double)row->elbo_weight * (kl + is);
    terms[DLM_TERM_LOSS] = (float)(w * (kl + is));
    terms[DLM_TERM_ELBO] = (float)elbo;
    terms[DLM_TERM_KL] = (float)(w * kl);
    terms[DLM_TERM_IS] = (float)(w * is);
    if (!dl)
        return;

    double cP = mixed ? (small ? alpha * rest - c * sum.Q : c * sum.P) : 0;
    double X = -w * (c > 0 ? (alpha + c) * alpha * sx / px : alpha) + (scored && z == x ? ez : 0);
    double apart = -w * cP + (scored && z != x ? ez : 0), G = X + apart; /* apart = G without x's part */
    double A = small ? w * (c * sum.Q - alpha * alpha * sx * rest / px) + ez : G;
    double B = mixed ? (small ? -w * alpha : w * alpha) : 0;
    if (act == DLM_BF16)
        pass_gradient(dl, e, mark, mixed ? w_of : NULL, V, most, (float)(A / all), (float)(B / all), DLM_BF16);
    else
        pass_gradient(dl, e, mark, mixed ? w_of : NULL, V, most, (float)(A / all), (float)(B / all), DLM_F32);
    dlm_act_put(dl, mask, 0, act);
    dlm_act_put(dl, x, (float)(X * rest - sx * apart), act);
    if (scored && z != x) {
        double t = mixed ? alpha * sz / c : 0, base = small ? -sz * (A + B * (t / (1.0 + t))) : -sz * (A + B / (1.0 + t));
        dlm_act_put(dl, z, (float)(base + ez), act);
    }
}

void dlm_cpu_diffusion_loss(struct dlm_device *dev, dlm_ptr terms_, dlm_ptr dlogits_, dlm_ptr logits_, dlm_ptr x_, dlm_ptr z_,
                            dlm_ptr row_, size_t n, size_t V, uint32_t mask, enum dlm_dtype act)
{
    if (dlm_device_failed(dev))
        return;
    float *terms = dlm_at(terms_);
    void *dlogits = dlm_at(dlogits_);
    const float *logits = dlm_at(logits_);
    const uint32_t *x = dlm_at(x_), *z = dlm_at(z_);
    const struct dlm_row *row = dlm_at(row_);
    size_t each = dlm_softmax_floats(V);
    float *work = n ? dlm_device_scratch(dev, (size_t)dev->threads * each * sizeof *work) : NULL;
    if (!work)
        return;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        loss_row(work + (size_t)omp_get_thread_num() * each, terms + i * DLM_TERMS,
                 dlogits ? dlm_act_at(dlogits, i * V, act) : NULL, logits + i * V, x[i], z[i], row + i, V, mask, act);
}
