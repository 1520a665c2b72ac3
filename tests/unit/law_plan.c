/* Shapes, configurations and limited data: counts against the network's own, plans against what they promise, JSON that parses, the
 * best size under a limit against a fine grid. */
#include "tap.h"

#include "law/configuration.h"
#include "law/databound.h"
#include "law/published.h"
#include "law/recipe.h"
#include "model/count.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct dlm_error err;

static struct dlm_configure plain(void)
{
    return (struct dlm_configure){
        .seq_len = 2048, .vocab_size = 131072, .devices = 8, .lr = NAN, .peak = 1e15, .mfu = .5, .unique = INFINITY};
}

static void shapes(void)
{
    static const uint64_t at[][2] = {{1, 64},    {8, 512},   {10, 640},  {12, 768}, {16, 1024},
                                     {20, 1536}, {18, 3072}, {19, 3072}, {34, 4608}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        uint32_t layers = (uint32_t)at[i][0], width = (uint32_t)at[i][1];
        struct dlm_config c = {.layers = layers, .width = width, .mlp = 4 * width, .vocab_size = 1000};
        struct dlm_shape s = dlm_shape_of(at[i][0], at[i][1], 2048, 1000);
        struct dlm_count n = dlm_count_of(&c, 2048);
        tap_ok(s.params == (double)n.params && s.embedding == (double)n.params_embedding && s.flops_tok == n.flops_tok &&
               s.flops_6p == n.flops_tok_6p && s.flops_head == n.flops_tok_head,
           "counts of L%d-D%d are the network's", (int)at[i][0], (int)at[i][1]);
        if (!i)
            continue;
        for (int params = 0; params < 2; params++) {
            struct dlm_shape again = dlm_shape_nearest(params ? s.params : s.flops_tok, params, 2048, 1000);
            tap_ok(again.layers == s.layers && again.width == s.width, "a published shape is its own nearest, by %s: L%d-D%d",
               params ? "params" : "FLOPs per token", (int)again.layers, (int)again.width);
        }
    }
    double worst = 0;
    for (double x = log(1e7); x < log(1e12); x += .01) {
        struct dlm_shape s = dlm_shape_nearest(exp(x), true, 2048, 1000);
        double off = fabs(log(s.params) - x);
        worst = off > worst ? off : worst;
        if (s.width % s.heads || (s.width / s.heads != 64 && s.width / s.heads != 128))
            worst = 1;
    }
    tap_ok(worst < .08, "every size from 1e7 to 1e12 params has a shape within 8 %% (worst %.3f)", worst);
}

/* A law whose terms nobody rounded, with odd texts. */
static void odd_laws(struct dlm_laws *l, const char *group)
{
    static const struct {
        const char *y, *x, *term;
        double value;
    } rows[] = {{"flops_tok", "flops", "A", 20}, {"flops_tok", "flops", "k", .4}, {"batch_tok", "flops", "A", 1},
                {"batch_tok", "flops", "k", .3}, {"lr", "batch_tok", "A", .01},   {"lr", "batch_tok", "k", .3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        dlm_laws_add(l,
                     &(struct dlm_law_row){"power", (char *)group, (char *)rows[i].term, (char *)rows[i].y, (char *)rows[i].x, "noise",
                                           rows[i].value, NAN, NAN, NAN, NAN, NAN, NAN},
                     &err);
}

static json_t *deepspeed(const struct dlm_configurations *c, struct dlm_notes *notes)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    int rc = dlm_recipe_write(c, DLM_RECIPE_DEEPSPEED, f, "memory", notes, &err);
    fclose(f);
    json_error_t why;
    json_t *j = rc ? NULL : json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!j)
        printf("# %s\n", rc ? err.msg : why.text);
    free(text);
    return j;
}

static void json(void)
{
    struct dlm_laws l = {0};
    struct dlm_notes notes = {0};
    struct dlm_configurations c;
    const double budgets[] = {1e19, 1e20};
    struct dlm_configure how = plain();
    odd_laws(&l, "a \"quoted\" \\ group");
    tap_ok(!dlm_configure_all(&l, budgets, 1, &how, &c, &notes, &err), "a group with any name is planned: %s", err.msg);
    json_t *j = deepspeed(&c, &notes);
    tap_ok(j && json_is_array(json_object_get(j, "comment")) &&
           strstr(json_string_value(json_array_get(json_object_get(j, "comment"), 0)), "a \"quoted\" \\ group"),
       "and its JSON parses with that name");
    tap_ok(j && (uint64_t)json_integer_value(json_object_get(j, "train_batch_size")) == c.at[0].batch, "with its batch");
    tap_ok(j && fabs(json_number_value(json_object_get(json_object_get(json_object_get(j, "optimizer"), "params"), "lr")) *
                     (double)c.at[0].shape.width / c.at[0].lr - 1) < 1e-4,
       "and its rate over the width");
    json_decref(j);
    dlm_configurations_release(&c);
    tap_ok(!dlm_configure_all(&l, budgets, 2, &how, &c, &notes, &err) && !deepspeed(&c, &notes), "several plans are no JSON: %s",
           err.msg);
    dlm_configurations_release(&c);
    dlm_laws_release(&l);

    tap_ok(!dlm_published_fill("llama3", &l, &notes, &err) && !dlm_configure_all(&l, budgets, 1, &how, &c, &notes, &err),
           "llama3 is planned");
    j = deepspeed(&c, &notes);
    tap_ok(j && !json_object_get(j, "train_batch_size") && !json_object_get(j, "scheduler") &&
           !json_object_get(json_object_get(json_object_get(j, "optimizer"), "params"), "lr"),
       "without a law of batch and rate the JSON leaves them out");
    json_decref(j);
    dlm_configurations_release(&c);
    dlm_laws_release(&l);
    dlm_notes_release(&notes);
}

/* The least loss by a fine grid. */
static double brute(const struct dlm_databound *d, double flops, double unique)
{
    double least = INFINITY;
    for (int i = 0; i <= 200000; i++) {
        double size = exp(log(1e3) + i * log(1e12) / 200000), tokens = flops / d->per / size;
        double worth = dlm_databound_worth(d, size, unique, tokens), *v = (double *)d->value;
        double y = v[0] + v[1] * pow(size, -v[2]) + v[3] * pow(worth, -v[4]);
        least = y < least ? y : least;
    }
    return least;
}

static void limits(void)
{
    static const double unique[] = {1e7, 1e9, 3e10, INFINITY};
    struct dlm_laws l = {0};
    struct dlm_notes notes = {0};
    struct dlm_databound d;
    dlm_published_fill("paper", &l, &notes, &err);
    dlm_published_fill("quokka", &l, &notes, &err);
    dlm_published_fill("chinchilla", &l, &notes, &err);
    tap_ok(!dlm_databound_of(&l, "balanced", "balanced", 1e20, &d), "a group without surface says nothing about limited data");
    static const char *const groups[][2] = {{"masked", "masked"}, {"masked/quokka", "masked"}, {"none/chinchilla", "none"}};
    static const double r[] = {493.89, 493.89, 31.19}, per[] = {1, 6, 6};
    for (int g = 0; g < 3; g++) {
        tap_ok(dlm_databound_of(&l, groups[g][0], groups[g][1], 1e21, &d) && d.value[5] == r[g] && d.per == per[g] && d.borrowed,
           "%s: R %g, C = %g x size x tokens", groups[g][0], d.value[5], d.per);
        for (int u = 0; u < 4; u++) {
            double loss, worth, size = dlm_databound_size(&d, 1e21, unique[u], &loss, &worth), want = brute(&d, 1e21, unique[u]);
            tap_ok(fabs(loss / want - 1) < 1e-7 && loss <= want * (1 + 1e-9), "%s on %g tokens: the least loss %.9g, by a grid %.9g",
               groups[g][0], unique[u], loss, want);
            double tokens = 1e21 / d.per / size;
            tap_ok(worth <= tokens * (1 + 1e-12) && worth <= unique[u] * (1 + r[g]), "%s: repeated tokens are worth less than new ones",
               groups[g][0]);
        }
    }
    /* by hand: e = 11, R = 31.19: U (1 + 31.19 (1 - exp(-10/31.19))) = 9.5557e9 for U = 1e9 */
    tap_ok(fabs(dlm_databound_worth(&d, 1e9, 1e9, 11e9) / 9.5557e9 - 1) < 1e-4, "eleven passes are worth %.6g",
       dlm_databound_worth(&d, 1e9, 1e9, 11e9));
    tap_ok(dlm_databound_worth(&d, 1e9, 1e9, 5e8) == 5e8, "half a pass is worth itself");
    double loss, worth;
    tap_ok(dlm_databound_stretched(&l, "masked/quokka", 1e9, 1e9, 1e10, &loss, &worth) &&
           fabs(worth / (1e9 * pow(10, 1.49) * exp(-pow(9 / (254.35 * pow(1e9, .39) / pow(1e9, .55)), .4))) - 1) < 1e-12 &&
           fabs(loss / (1535.23 / pow(1e9, .42) + 54.21 / pow(worth, .13)) - 1) < 1e-12,
       "the stretched form of Quokka: loss %.6g, worth %.6g", loss, worth);
    tap_ok(!dlm_databound_stretched(&l, "masked", 1e9, 1e9, 1e10, &loss, &worth), "which the paper has not");

    /* the loss law, times what the limit costs on the surface */
    struct dlm_contests contests;
    const double at = 1e21, law = 27.21883 * pow(at, -.04961);
    bool met = false;
    tap_ok(!dlm_databound_compare(&l, &at, 1, 1e8, "masked", &contests, &err), "groups are compared");
    for (size_t i = 0; i < contests.n; i++) {
        const struct dlm_contest *one = &contests.at[i];
        if (one->by != DLM_BY_LOSS_LAW || strcmp(one->a, "masked") || strcmp(one->b, "uniform"))
            continue;
        dlm_databound_of(&l, "masked", "masked", at, &d);
        double want = law * brute(&d, at, 1e8) / brute(&d, at, INFINITY);
        met = tap_ok(fabs(one->loss_a / want - 1) < 1e-7 && want > 1.01 * law,
                     "masked by its loss law on 1e8 tokens: %.7g, without a limit %.7g", one->loss_a, law);
    }
    tap_ok(met, "masked and uniform have an estimate by their loss laws");
    dlm_databound_release(&contests);

    /* a loss falls and never rises with more unique tokens, and a limit beyond the law's tokens is none */
    struct dlm_configurations c;
    struct dlm_configure how = plain();
    const double budget = 1e21;
    double before = INFINITY;
    bool falls = true;
    how.noise = "uniform";
    for (double u = 1e7; u < 1e12; u *= 2) {
        how.unique = u;
        if (dlm_configure_all(&l, &budget, 1, &how, &c, &notes, &err))
            falls = false;
        falls &= c.at[0].loss.value <= before;
        before = c.at[0].loss.value;
        dlm_configurations_release(&c);
    }
    tap_ok(falls, "more unique tokens never cost loss");
    how.unique = INFINITY;
    dlm_configure_all(&l, &budget, 1, &how, &c, &notes, &err);
    tap_ok(c.n == 1 && fabs(before / c.at[0].loss.value - 1) < 1e-12 && isnan(c.at[0].loss.lo),
           "and with enough of them there is no limit");
    dlm_configurations_release(&c);
    dlm_laws_release(&l);
    dlm_notes_release(&notes);
}

int main(void)
{
    shapes();
    json();
    limits();
    return tap_end();
}
