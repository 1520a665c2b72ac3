/* Networks that can be built; see shape.h. Parameters: L·(12d² + 11d) + d without embeddings (attention 4d², MLP 8d² and 5d biases,
 * norms 4d, sink 2d; the last norm d), 2·V·d with. */
#include "law/shape.h"

#include <math.h>
#include <stddef.h>

/* Width over layers of the published models. */
static const struct {
    double width, ratio;
} proportions[] = {{512, 512 / 8.},    {640, 640 / 10.},   {768, 768 / 12.},  {1024, 1024 / 16.},
                   {1536, 1536 / 20.}, {3072, 3072 / 19.}, {4608, 4608 / 34.}};
enum { PROPORTIONS = sizeof proportions / sizeof *proportions };

/* Between two published widths in logarithms; beyond them that of the last. */
static double ratio_at(double width)
{
    int i = 0;
    while (i < PROPORTIONS && proportions[i].width <= width)
        i++;
    if (!i || i == PROPORTIONS)
        return proportions[i ? i - 1 : 0].ratio;
    double part = log(width / proportions[i - 1].width) / log(proportions[i].width / proportions[i - 1].width);
    return exp((1 - part) * log(proportions[i - 1].ratio) + part * log(proportions[i].ratio));
}

struct dlm_shape dlm_shape_of(uint64_t layers, uint64_t width, uint64_t seq_len, uint64_t vocab_size)
{
    const double L = (double)layers, d = (double)width, N = (double)seq_len, V = (double)vocab_size;
    struct dlm_shape s = {.layers = layers, .width = width, .heads = width / (width <= 1024 ? 64 : 128)};
    s.params = L * (12 * d * d + 11 * d) + d;
    s.embedding = 2 * V * d;
    s.flops_6p = 6 * s.params;
    s.flops_tok = s.flops_6p + 12 * L * d * N;
    s.flops_head = 6 * d * V;
    return s;
}

/* Widths are multiples of the head, further apart where they are large: products of odd sizes are slow. */
static uint64_t next_width(uint64_t width)
{
    return width + (width < 1024 ? 64 : width < 2048 ? 128 : width < 8192 ? 256 : 1024);
}

struct dlm_shape dlm_shape_nearest(double wanted, bool params, uint64_t seq_len, uint64_t vocab_size)
{
    struct dlm_shape best = {0};
    double least = INFINITY;
    for (uint64_t width = 64; width <= 131072; width = next_width(width)) {
        struct dlm_shape none = dlm_shape_of(0, width, seq_len, vocab_size), one = dlm_shape_of(1, width, seq_len, vocab_size);
        double base = params ? none.params : none.flops_tok, layer = (params ? one.params : one.flops_tok) - base;
        double layers = floor((wanted - base) / layer);
        for (int i = 0; i < 2; i++, layers++) {
            if (!(layers >= 1 && layers <= 10000) && !(layers < 1 && i))
                continue;
            struct dlm_shape s = dlm_shape_of(layers < 1 ? 1 : (uint64_t)layers, width, seq_len, vocab_size);
            double cost = fabs(log((params ? s.params : s.flops_tok) / wanted)) +
                          .1 * fabs(log((double)width / (double)s.layers / ratio_at((double)width)));
            if (cost < least) {
                least = cost;
                best = s;
            }
        }
    }
    return best;
}
