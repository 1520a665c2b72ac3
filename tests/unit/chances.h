/* The chances of every id, one by one, as tests count with them: shares under a temperature and cuts by sorting, and the reverse step's parts put together. */
#ifndef DLM_TESTS_CHANCES_H
#define DLM_TESTS_CHANCES_H

#include "diffuse/reverse.h"

#include <math.h>

/* s (V) = softmax(logits / temperature) without the mask. */
static inline void softmax_of(double *s, const float *logits, double temperature, size_t V, uint32_t mask)
{
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++)
        top = v != mask && logits[v] > top ? logits[v] : top;
    for (size_t v = 0; v < V; v++)
        sum += s[v] = v == mask ? 0 : exp((logits[v] - top) / temperature);
    for (size_t v = 0; v < V; v++)
        s[v] /= sum;
}

/* The first of the likeliest ids. */
static inline uint32_t likeliest(const double *s, size_t V, uint32_t mask)
{
    uint32_t best = mask == 0;
    for (uint32_t v = best; v < V; v++)
        best = v != mask && s[v] > s[best] ? v : best;
    return best;
}

/* s (V) = what top_k and then top_p leave of it, over its sum. */
static inline void cut_of(double *s, size_t top_k, double top_p, size_t V, uint32_t mask, double *kept /* (V) */)
{
    double held = 0;
    for (size_t v = 0; v < V; v++)
        kept[v] = 0;
    for (size_t n = 0; n < V && (!top_k || n < top_k) && (!n || held < top_p || top_p >= 1); n++) {
        const uint32_t best = likeliest(s, V, mask);
        if (!(s[best] > 0))
            break;
        held += kept[best] = s[best];
        s[best] = -1;
    }
    for (size_t v = 0; v < V; v++)
        s[v] = kept[v] > 0 ? kept[v] / held : 0;
}

/* p (V) = p(z_s | z_t) of the four parts. */
static inline void reverse_of(double *p, const struct dlm_noise *n, double log_snr_t, double log_snr_s, uint32_t z, const double *s, size_t V, uint32_t mask)
{
    const struct dlm_reverse_odds o = dlm_reverse_odds_of(n, log_snr_t, log_snr_s, z == mask, V);
    double sum = 0;
    for (size_t v = 0; v < V; v++)
        sum += p[v] = v == z ? o.stay_share * s[v] + o.stay : (v == mask ? o.to_mask : o.noise / (double)(V - 1 - (z != mask))) + o.predicted * s[v];
    for (size_t v = 0; v < V; v++)
        p[v] = sum > 0 ? p[v] / sum : v == z;
}

#endif
