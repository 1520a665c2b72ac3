/* The loss of one token and its gradient, method.md §3, in double and in one plain pass each. Not the fast path, and no sampling.
 *
 * With c = βρ/(V-1) = q(v|x) for v other than x and m, and s̄ = Σ_{v≠x} s(v) = 1 - s(x) summed rather than subtracted:
 *
 *     KL = (α+c)·log1p(α s̄ / (α s(x) + c)) - c·Σ_{v≠x,m} log1p(α s(v)/c)       (-α log s(x) when c = 0)
 *     IS = d - log r, d = r - 1 = (q(z) - p(z))/p(z);  exactly 0 at z = m, where q = p
 *     grad(v) = h(v) - s(v)·Σ h,  h(v) = s(v)·α·g(v)
 *
 * p(z) is guarded by 1e-12, and where the guard holds IS is constant in the logits.
 */
#include "diffuse/bound.h"

#include <math.h>
#include <string.h>

#define P_MIN 1e-12
/* Below this c the sum over v is less than 1e-290·V·700: nothing, and α s/c could overflow. */
#define C_MIN 1e-290

/* s (V) = softmax of the logits, s(mask) = 0; returns log s(x). */
static double softmax(double *s, const double *logits, size_t V, uint32_t mask, uint32_t x)
{
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++)
        if (v != mask && logits[v] > top)
            top = logits[v];
    for (size_t v = 0; v < V; v++) {
        s[v] = v == mask ? 0 : exp(logits[v] - top);
        sum += s[v];
    }
    for (size_t v = 0; v < V; v++)
        s[v] /= sum;
    return logits[x] - top - log(sum);
}

struct dlm_bound dlm_bound_token(const struct dlm_noise *n, double log_snr, uint32_t x, uint32_t z, uint32_t mask, const double *logits,
                                 size_t V, double *grad, double *scratch)
{
    struct dlm_token_noise t = dlm_noise_token(n, log_snr, x, z, mask, (uint32_t)V);
    if (grad)
        memset(grad, 0, V * sizeof *grad);
    double *s = scratch, alpha = t.alpha, c = t.c < C_MIN ? 0 : t.c;
    if ((t.weight == 0 && t.elbo_weight == 0) || (c == 0 && z != x && z != mask)) /* nothing to learn, or nothing that can happen */
        return (struct dlm_bound){0};
    double log_sx = softmax(s, logits, V, mask, x);

    double rest = 0, sum = 0;
    for (size_t v = 0; v < V; v++) {
        if (v == x || v == mask)
            continue;
        rest += s[v];
        if (c > 0)
            sum += log1p(alpha * s[v] / c);
    }
    double kl = c > 0 ? (alpha + c) * log1p(alpha * rest / (alpha * s[x] + c)) - c * sum : -alpha * log_sx;

    double is = 0, pull = 0; /* pull: what the IS term adds to g(z) / w */
    if (z != mask) {
        double q = z == x ? alpha + c : c, p = alpha * s[z] + c, d = z == x ? alpha * rest / p : -alpha * s[z] / p;
        double log_r = z == x ? log1p(d) : -log1p(alpha * s[z] / c); /* the second keeps its digits where r is nearly 0 */
        if (p < P_MIN) {
            p = P_MIN;
            d = q / p - 1;
            log_r = log(q / p);
        } else {
            pull = -d / p; /* 1/p - q/p² */
        }
        is = d - log_r;
    }
    struct dlm_bound b = {.loss = t.weight * (kl + is), .elbo = t.elbo_weight * (kl + is), .kl = t.weight * kl, .is = t.weight * is};
    if (!grad)
        return b;

    double total = 0;
    for (size_t v = 0; v < V; v++) {
        if (v == mask)
            continue;
        double p = alpha * s[v] + c, q = v == x ? alpha + c : c;
        double h = p > 0 ? -s[v] * alpha * q / p : v == x ? -alpha : 0; /* s q/p → q/α as c → 0 */
        if (v == z)
            h += s[v] * alpha * pull;
        grad[v] = t.weight * h;
        total += grad[v];
    }
    for (size_t v = 0; v < V; v++)
        if (v != mask)
            grad[v] -= s[v] * total;
    return b;
}
