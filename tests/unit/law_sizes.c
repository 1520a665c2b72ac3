/* Power laws of iso-FLOP optima: how often the intervals of their exponents hold in synthetic studies. What they ought to hold is
 * what the same grid gives without errors: parabolas on a grid are off by a known amount (gridbias.h), and that is no matter of
 * intervals. */
#include "law/isoflop.h"
#include "law/sizes.h"

#include "law_synthetic.h"
#include "tap.h"

#include <string.h>

enum { SIZE, TOKENS, LOSS, EXPONENTS, KINDS = 3 };

static const char *const columns[EXPONENTS] = {"flops_tok", "tokens", "loss"};

static struct synthetic_grid grid(size_t repeats)
{
    struct synthetic_grid g = synthetic_paper(1, 9, repeats, 1, 40, 65536);
    g.first_size = 3e7;
    g.size_step = 1.8;
    g.batch_step = 1;
    g.first_tokens = 1e8;
    g.tokens_of_run = 1e11;
    g.E = 1.7;
    g.c_batch = 0;
    return g;
}

static void make(struct dlm_study *s, const struct synthetic_grid *g, struct dlm_rng *rng)
{
    synthetic_make(s, g, rng);
    for (size_t i = 0; i < s->n_points; i++)
        s->points[i].x = s->points[i].flops;
}

static bool find(const struct dlm_study *s, uint64_t n, uint64_t seed, int kind, struct dlm_interval *in, double *k)
{
    const struct dlm_estimate how = {
        .huber = 1e-3,
        .bootstrap = {.n = n, .seed = seed, .level = 0.95, .threads = 2, .kind = kind ? DLM_INTERVAL_BCA : DLM_INTERVAL_PERCENTILE, .asked = kind < 2},
        .budgets = {.low = 1e17, .high = 3e18, .n = 6}};
    struct dlm_isoflop o;
    struct dlm_laws laws = {0};
    struct dlm_notes notes = {0};
    struct dlm_error err = {{0}};
    bool done = false;
    if (!dlm_isoflop_find(s, &how, false, &o, &notes, &err)) {
        done = !dlm_sizes_fit(s, &o, &how, &laws, &notes, &err);
        for (int i = 0; i < EXPONENTS && done; i++) {
            const struct dlm_law_row *r = dlm_laws_find(&laws, "power", "balanced", "k", columns[i], "flops");
            done = r != NULL;
            if (done) {
                k[i] = r->value;
                in[i] = (struct dlm_interval){r->lo, r->hi, r->se};
            }
        }
        dlm_isoflop_release(&o);
    }
    if (*err.msg)
        printf("# %s\n", err.msg);
    dlm_laws_release(&laws);
    dlm_notes_release(&notes);
    return done;
}

static void check(size_t repeats, struct dlm_rng *rng)
{
    const bool thorough = getenv("DLM_TEST_LONG") != NULL;
    const int studies = thorough ? 1000 : 24;
    static const char *const kinds[] = {"percentile", "bca", "unasked"};
    struct synthetic_grid g = grid(repeats);
    struct dlm_study s;
    struct dlm_interval in[EXPONENTS];
    double truth[EXPONENTS], k[EXPONENTS];
    int covered[KINDS][EXPONENTS] = {{0}}, above[KINDS][EXPONENTS] = {{0}}, fitted = 0;
    double width[KINDS][EXPONENTS] = {{0}};
    make(&s, &g, rng);
    tap_ok(find(&s, 0, 0, 0, in, truth), "without errors, %zu runs a size", repeats);
    printf("# exponents %.4f %.4f %.4f\n", truth[SIZE], truth[TOKENS], truth[LOSS]);
    synthetic_free(&s);
    g.of_run = 0.004;
    g.of_point = 0.001;
    for (int i = 0; i < studies; i++) {
        make(&s, &g, rng);
        for (int kind = thorough ? 0 : KINDS - 1; kind < KINDS; kind++)
            if (find(&s, thorough ? 1000 : 200, (uint64_t)i, kind, in, k)) {
                fitted++;
                for (int e = 0; e < EXPONENTS; e++) {
                    covered[kind][e] += in[e].lo <= truth[e] && in[e].hi >= truth[e];
                    above[kind][e] += in[e].lo > truth[e];
                    width[kind][e] += (in[e].hi - in[e].lo) / studies;
                }
            }
        synthetic_free(&s);
    }
    for (int kind = thorough ? 0 : KINDS - 1; kind < KINDS; kind++)
        for (int e = 0; e < EXPONENTS; e++) {
            const double share = (double)covered[kind][e] / studies;
            /* what is not asked for is the kind that holds; the others show why */
            tap_ok(fitted == (thorough ? KINDS : 1) * studies &&
                       (kind + 1 < KINDS || (thorough ? share >= 0.93 && share <= 0.97 : share >= 0.75)),
                   "%zu runs a size: of %d %s intervals of the exponent of %s %d hold, %d lie above; mean width %.3g", repeats,
                   studies, kinds[kind], columns[e], covered[kind][e], above[kind][e], width[kind][e]);
        }
}

int main(void)
{
    struct dlm_rng rng;
    dlm_rng_init(&rng, tap_seed(), 3, DLM_RNG_TEST);
    check(1, &rng);
    check(4, &rng);
    return tap_end();
}
