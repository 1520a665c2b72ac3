/* The diffusion loss of a row of logits and its gradient (method.md §3), in three passes and no V-wide probabilities.
 *
 * With s = softmax(ℓ) without the mask id, t(v) = α·s(v)/c, and v running over all ids but x and m:
 *
 *     KL = (α+c)·log((α+c)/p(x)) - c·Σ log(1+t) = (α+c)·log1p(α(1-s(x))/p(x)) - α(1-s(x)) + c·Σ (t - log(1+t))
 *
 * The second form adds no large numbers of opposite sign: where α ≪ c, KL is of second order in α and each part of it is too. 1 - s(x)
 * comes from the sum over the others, never by subtraction. One rounding touches all of a row alike, that of α/(c·Σ) to float32;
 * its relative size δ is known, so its effect δ·Σ t²/(1+t) is put back. Blocks are summed in float32 lanes, blocks into double.
 *
 * Gradient, with u = 1/(1+t), P = Σ t·u, Q = Σ t²·u, and e = w·(1 - r)·α·s(z)/p(z) at v = z ≠ m:
 *
 *     G = Σ s·α·g = -w·(cP + (α+c)·α·s(x)/p(x)) + e
 *     dℓ(v) = s(v)·(α·g(v) - G) = -s(v)·(G + wα·u) = -s(v)·(G + wα - wα·t·u)
 *
 * of which the first is used where α > c and the second where not, each where it does not cancel (G + wα = w·(cQ - α²·s(x)·(1-s(x))/p(x)) + e).
 */
#include "exclude.h"
#include "vmath.h"

#include <math.h>

enum { BLOCK = 512 };
static const double NOTHING = 1e-25; /* c below this share of α adds less than a rounding to any term */

struct sums {
    double others, defect, P, Q;
};

/* The largest logit, and the sum of e^(ℓ - largest) over `runs` (without x). */
static float pass_sum(const float *restrict l, const struct dlm_runs *runs, double *sum)
{
    float most = -INFINITY;
    double total = 0;
    for (int r = 0; r < 3; r++)
        for (size_t from = runs->from[r]; from < runs->to[r]; from += BLOCK) {
            size_t to = runs->to[r] - from < BLOCK ? runs->to[r] : from + BLOCK;
            float here = -INFINITY;
#pragma omp simd reduction(max : here)
            for (size_t v = from; v < to; v++)
                here = l[v] > here ? l[v] : here;
            if (here > most) {
                total *= exp((double)most - (double)here);
                most = here;
            }
            float part = 0;
#pragma omp simd reduction(+ : part)
            for (size_t v = from; v < to; v++)
                part += dlm_expf(l[v] - most);
            total += (double)part;
        }
    *sum = total;
    return most;
}

/* Σ t - log(1+t), P and Q for t = k·e^(ℓ - most). */
static void pass_terms(const float *restrict l, const struct dlm_runs *runs, float most, float k, struct sums *s)
{
    for (int r = 0; r < 3; r++)
        for (size_t from = runs->from[r]; from < runs->to[r]; from += BLOCK) {
            size_t to = runs->to[r] - from < BLOCK ? runs->to[r] : from + BLOCK;
            float defect = 0, P = 0, Q = 0;
#pragma omp simd reduction(+ : defect, P, Q)
            for (size_t v = from; v < to; v++) {
                float t = k * dlm_expf(l[v] - most), tu = t / (1.0f + t);
                defect += dlm_log1p_defect(t);
                P += tu;
                Q += t * tu;
            }
            s->defect += (double)defect;
            s->P += (double)P;
            s->Q += (double)Q;
        }
}

/* dℓ = -e^(ℓ - most)·(A + B·u) or, with `small`, -e^(ℓ - most)·(A + B·t·u); A and B are divided by the sum already. */
DLM_INLINE void pass_gradient(void *dl, const float *l, size_t from, size_t to, float most, float k, float A, float B,
                              bool small, enum dlm_dtype act)
{
    if (small) {
#pragma omp simd
        for (size_t v = from; v < to; v++) {
            float e = dlm_expf(l[v] - most), t = k * e;
            dlm_act_put(dl, v, -e * (A + B * (t / (1.0f + t))), act);
        }
    } else {
#pragma omp simd
        for (size_t v = from; v < to; v++) {
            float e = dlm_expf(l[v] - most), t = k * e;
            dlm_act_put(dl, v, -e * (A + B / (1.0f + t)), act);
        }
    }
}

static void loss_row(float *terms, void *dl, const float *l, uint32_t x, uint32_t z, const struct dlm_row *row, size_t V,
                     uint32_t mask, enum dlm_dtype act)
{
    double alpha = (double)row->alpha, c = (double)row->c, w = (double)row->weight;
    struct dlm_runs others = dlm_runs_without(V, x, mask);
    struct sums sum = {0, 0, 0, 0};
    float lx = l[x], lz = l[z], most = pass_sum(l, &others, &sum.others);
    if (lx > most) {
        sum.others *= exp((double)most - (double)lx);
        most = lx;
    }
    double ex = exp((double)lx - (double)most), all = sum.others + ex, sx = ex / all, rest = sum.others / all;
    bool mixed = c > NOTHING * alpha;
    float k = 0;
    if (mixed) {
        double exact = alpha / (all * c);
        k = (float)exact;
        pass_terms(l, &others, most, k, &sum);
        sum.defect += (exact / (double)k - 1.0) * sum.Q;
    }
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

    bool small = mixed && alpha <= c;
    double cP = mixed ? (small ? alpha * rest - c * sum.Q : c * sum.P) : 0;
    double X = -w * (c > 0 ? (alpha + c) * alpha * sx / px : alpha) + (scored && z == x ? ez : 0);
    double apart = -w * cP + (scored && z != x ? ez : 0), G = X + apart; /* apart = G without x's part */
    double A = small ? w * (c * sum.Q - alpha * alpha * sx * rest / px) + ez : G;
    double B = mixed ? (small ? -w * alpha : w * alpha) : 0;
    struct dlm_runs runs = dlm_runs_without(V, mask, V);
    for (int r = 0; r < 3; r++) {
        if (act == DLM_BF16)
            pass_gradient(dl, l, runs.from[r], runs.to[r], most, k, (float)(A / all), (float)(B / all), small, DLM_BF16);
        else
            pass_gradient(dl, l, runs.from[r], runs.to[r], most, k, (float)(A / all), (float)(B / all), small, DLM_F32);
    }
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
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        loss_row(terms + i * DLM_TERMS, dlogits ? dlm_act_at(dlogits, i * V, act) : NULL, logits + i * V, x[i], z[i], row + i, V,
                 mask, act);
}
