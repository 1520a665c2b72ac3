/* Temperature, cuts and the draw. Cuts apply to s, before any noise is mixed in: method.md §9's q_s is formed from what is
 * left. */
#include "diffuse/choose.h"

#include <math.h>
#include <stdlib.h>

static int by_share(const void *a, const void *b)
{
    const struct dlm_choose_rank *l = a, *r = b;
    return l->share != r->share ? (l->share > r->share ? -1 : 1) : (l->id > r->id) - (l->id < r->id);
}

/* Let the entry at `at` of a heap of n sink; the least likely is at the root. */
static void sink(struct dlm_choose_rank *heap, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && by_share(&heap[child + 1], &heap[child]) > 0)
            child++;
        if (by_share(&heap[child], &heap[at]) <= 0)
            return;
        struct dlm_choose_rank swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void cut(double *s, const struct dlm_choose *c, size_t V, struct dlm_choose_rank *rank)
{
    /* Ids below (1 - top_p)/V cannot be among the fewest that hold top_p: all of them together hold less than is left out. So only few of a large
     * vocabulary need sorting. The margin keeps rounding on the safe side. */
    double least = c->top_p < 1 ? (1 - c->top_p) / (double)V * 0.999 : 0;
    size_t n = 0, most = c->top_k && c->top_k < V ? c->top_k : V;
    for (size_t v = 0; v < V; v++) {
        struct dlm_choose_rank r = {s[v], (uint32_t)v};
        if (!(s[v] > least))
            continue;
        if (n < most) {
            rank[n++] = r;
            if (n == most && most < V)
                for (size_t at = n / 2; at-- > 0;)
                    sink(rank, n, at);
        } else if (by_share(&r, &rank[0]) < 0) { /* likelier than the least likely of the top k */
            rank[0] = r;
            sink(rank, n, 0);
        }
    }
    qsort(rank, n, sizeof *rank, by_share);
    size_t kept = 0;
    double held = 0;
    while (kept < n && (!kept || held < c->top_p))
        held += rank[kept++].share;
    for (size_t v = 0; v < V; v++)
        s[v] = 0;
    for (size_t i = 0; i < kept; i++)
        s[rank[i].id] = rank[i].share / held;
}

void dlm_choose_shares(double *s, const struct dlm_choose *c, const float *logits, size_t V, uint32_t mask, struct dlm_choose_rank *scratch)
{
    size_t top = mask == 0 ? 1 : 0;
    for (size_t v = top + 1; v < V; v++)
        if (v != mask && logits[v] > logits[top])
            top = v;
    if (c->temperature < 1e-300) {
        for (size_t v = 0; v < V; v++)
            s[v] = v == top;
        return;
    }
    double sum = 0, sharper = 1 / c->temperature;
    for (size_t v = 0; v < V; v++) {
        s[v] = v == mask ? 0 : v == top ? 1 : exp(((double)logits[v] - logits[top]) * sharper);
        sum += s[v];
    }
    double scale = 1 / sum; /* sum ≥ 1 */
    for (size_t v = 0; v < V; v++)
        s[v] *= scale;
    if ((c->top_k && c->top_k < V) || c->top_p < 1)
        cut(s, c, V, scratch);
}

uint32_t dlm_choose_draw(const double *p, size_t V, double u)
{
    double sum = 0, run = 0;
    for (size_t v = 0; v < V; v++)
        sum += p[v];
    size_t last = 0;
    for (size_t v = 0; v < V; v++) {
        if (p[v] <= 0)
            continue;
        run += p[v];
        last = v;
        if (u * sum < run)
            break;
    }
    return (uint32_t)last;
}
