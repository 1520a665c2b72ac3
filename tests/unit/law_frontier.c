/* The loss law of a frontier: how often its intervals hold where the lowest loss is a minimum over runs, what a few runs do not
 * tell, and that no estimate stands at an end of its interval. What they ought to hold is what the same grid gives without errors:
 * the frontier of a few sizes is no power law, and that is no matter of intervals. */
#include "law/estimate.h"

#include "law_synthetic.h"
#include "tap.h"

#include <string.h>

enum { TERMS = 3 };
static const char *const terms[TERMS] = {"A", "beta", "B"};

static struct synthetic_grid grid(size_t sizes, size_t batches) { return synthetic_paper(1, sizes, batches, 1, 30, 65536); }

struct found {
    double value[TERMS];
    struct dlm_interval in[TERMS];
    bool told; /* that there is no interval */
};

static bool fit(struct dlm_study *s, uint64_t n, uint64_t seed, bool by_tokens, struct found *f)
{
    const struct dlm_estimate how = {
        .huber = 1e-3,
        .bootstrap = {.n = n, .seed = seed, .level = 0.95, .threads = 2, .kind = DLM_INTERVAL_BCA},
        .budgets = {.n = 8}};
    struct dlm_laws laws = {0};
    struct dlm_notes notes = {0};
    struct dlm_error err = {{0}};
    for (size_t i = 0; i < s->n_points; i++)
        s->points[i].x = by_tokens ? s->points[i].tokens : s->points[i].flops;
    *f = (struct found){0};
    const bool done = !dlm_estimate_loss(s, &how, by_tokens, &laws, &notes, &err);
    for (int k = 0; k < TERMS && done; k++) {
        const struct dlm_law_row *r = dlm_laws_find(&laws, "loss", "balanced", terms[k], NULL, NULL);
        f->value[k] = r->value;
        f->in[k] = (struct dlm_interval){r->lo, r->hi, r->se};
    }
    for (size_t i = 0; i < notes.n; i++)
        f->told |= strstr(notes.at[i], "the lowest are too few runs") != NULL;
    if (!done)
        printf("# %s\n", err.msg);
    dlm_laws_release(&laws);
    dlm_notes_release(&notes);
    return done;
}

/* Of 24 studies whose intervals hold with 0.95, fewer than 19 cover with a probability of 1 in 1500. Of 1000 studies (`make
 * check-long`) 951 (A), 961 (beta) and 963 (B) held with nine runs, whose errors are drawn; with 30 runs, which are drawn, 97.3, 97.4
 * and 97.1 of 100 that there are: the percentiles of a minimum are a little wide, and 2 to 4 of 100 studies have no interval, since
 * the value stands at an end of it. */
static void check(size_t sizes, size_t batches, struct dlm_rng *rng)
{
    const bool thorough = getenv("DLM_TEST_LONG") != NULL;
    const int studies = thorough ? 1000 : 24;
    int covered[TERMS] = {0}, there[TERMS] = {0}, at_end = 0, fitted = 0;
    struct synthetic_grid g = grid(sizes, batches);
    struct dlm_study s;
    struct found truth, f;
    synthetic_make(&s, &g, rng);
    fit(&s, 0, 0, false, &truth);
    synthetic_free(&s);
    g.of_run = 0.004;
    g.of_point = 0.001;
    for (int i = 0; i < studies; i++) {
        synthetic_make(&s, &g, rng);
        fitted += fit(&s, thorough ? 400 : 200, (uint64_t)i, false, &f);
        for (int k = 0; k < TERMS; k++) {
            there[k] += !isnan(f.in[k].lo);
            covered[k] += f.in[k].lo <= truth.value[k] && f.in[k].hi >= truth.value[k];
            at_end += f.value[k] > 0.01 && (f.in[k].lo >= f.value[k] || f.in[k].hi <= f.value[k]);
        }
        synthetic_free(&s);
    }
    for (int k = 0; k < TERMS; k++) {
        const double share = (double)covered[k] / there[k];
        tap_ok(fitted == studies && there[k] >= 0.8 * studies && share >= (thorough ? 0.93 : 0.75) && (!thorough || share <= 0.985),
               "%zu sizes, %zu batches: of %d intervals of %s %d hold; %d studies have none", sizes, batches, there[k], terms[k],
               covered[k], studies - there[k]);
    }
    tap_ok(!at_end, "%d estimates stand at an end of their interval", at_end);
}

int main(void)
{
    struct dlm_rng rng;
    struct dlm_study s;
    struct found f;
    dlm_rng_init(&rng, tap_seed(), 4, DLM_RNG_TEST);
    check(9, 1, &rng);
    check(5, 6, &rng);
    struct synthetic_grid g = grid(5, 1);
    g.of_run = 0.004;
    synthetic_make(&s, &g, &rng);
    tap_ok(fit(&s, 200, 0, true, &f) && f.told && isnan(f.in[1].lo) && f.value[1] > 0,
           "by tokens the largest size is the lowest throughout: one run tells no interval, and that is said");
    synthetic_free(&s);
    return tap_end();
}
