/* Against numbers computed with the method's authors' own code, where they are at hand: DLM_REFERENCE, else
 * ../shared/reference. Not there: skipped. The tolerances are those of that code's float32. */
#include "diffuse/bound.h"
#include "chances.h"
#include "tap.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

static const char *folder;

static json_t *load(const char *file)
{
    char path[4096];
    json_error_t e;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *j = json_load_file(path, 0, &e);
    if (!j)
        tap_ok(false, "%s: %s", path, e.text);
    return j;
}

static double real(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) {
        tap_ok(false, "the reference has no number '%s'", key);
        exit(1);
    }
    return json_number_value(v);
}

static struct dlm_noise noise_of(json_t *o)
{
    struct dlm_noise n = {.shift = real(o, "shift"), .slope = 1};
    return n;
}

static void worse(double *worst, double got, double want, double floor_)
{
    double d = fabs(got - want) / fmax(fabs(want), floor_);
    *worst = tap_worst(*worst, d);
}

static void schedule(void)
{
    json_t *list = load("schedule.json"), *o;
    size_t i, n = 0;
    double alpha = 0, p = 0, pi = 0, dpi = 0, q = 0, w = 0, elbo = 0;
    json_array_foreach(list, i, o) {
        struct dlm_noise noise = noise_of(o);
        uint32_t V = (uint32_t)real(o, "vocab"), mask = (uint32_t)real(o, "mask"), x = (uint32_t)real(o, "x");
        double l = real(o, "log_snr"), a = dlm_noise_alpha(l), b = dlm_noise_alpha(-l);
        worse(&alpha, a, real(o, "alpha"), 0);
        worse(&p, a * b, real(o, "p_log_snr"), 1e-6);
        worse(&pi, dlm_noise_pi(&noise, l, false, V), real(o, "pi_other"), 1e-6);
        worse(&pi, dlm_noise_pi(&noise, l, true, V), real(o, "pi_mask"), 1e-3);
        worse(&dpi, dlm_noise_dpi(&noise, l, false, V), real(o, "dpi_other"), 1e-6);
        worse(&dpi, dlm_noise_dpi(&noise, l, true, V), real(o, "dpi_mask"), 1e-3);
        const char *key;
        json_t *at;
        json_object_foreach(json_object_get(o, "at"), key, at) {
            uint32_t z = (uint32_t)real(at, "z");
            struct dlm_token_noise t = dlm_noise_token(&noise, l, x, z, mask, V);
            double mine = (z == x ? a : 0) + b * dlm_noise_pi(&noise, l, z == mask, V);
            worse(&q, mine, real(at, "q"), 1e-6);
            if (real(at, "q") < 1e-7) /* weights are clamped there, and mean nothing */
                continue;
            worse(&w, t.weight, real(at, "w"), 1e-3);
            worse(&elbo, t.elbo_weight, real(at, "elbo_w"), 1);
            n++;
        }
    }
    tap_deviation(alpha, 1e-6, "schedule.json: α, relative, %zu rows", json_array_size(list));
    tap_deviation(p, 1e-3, "schedule.json: p(λ), relative");
    tap_deviation(pi, 1e-3, "schedule.json: mixing distribution π, relative");
    tap_deviation(dpi, 1e-3, "schedule.json: dπ/dλ, relative");
    tap_deviation(q, 1e-3, "schedule.json: q(z|x), relative");
    tap_deviation(w, 1e-3, "schedule.json: loss weight w, relative, %zu weights", n);
    tap_deviation(elbo, 1e-3, "schedule.json: ELBO weight, relative");
    json_decref(list);
}

static void loss(void)
{
    json_t *list = load("loss.json"), *o;
    size_t i;
    double loss_ = 0, kl = 0, is = 0, elbo = 0, grad = 0;
    json_array_foreach(list, i, o) {
        struct dlm_noise noise = noise_of(o);
        size_t V = (size_t)real(o, "vocab");
        json_t *jl = json_object_get(o, "logits"), *jg = json_object_get(o, "grad");
        if (json_array_size(jl) != V || json_array_size(jg) != V) {
            tap_ok(false, "loss.json row %zu has other sizes than it says", i);
            return;
        }
        double *logits = calloc(3 * V, sizeof *logits), *g = logits + V, *scratch = g + V, largest = 0, off = 0;
        if (!logits)
            exit(1);
        for (size_t v = 0; v < V; v++)
            logits[v] = json_number_value(json_array_get(jl, v));
        struct dlm_bound b = dlm_bound_token(&noise, real(o, "log_snr"), (uint32_t)real(o, "x"), (uint32_t)real(o, "z"), (uint32_t)real(o, "mask"),
                                             logits, V, g, scratch);
        worse(&loss_, b.loss, real(o, "loss"), 1e-3);
        /* the parts by what they add up to: the IS part comes out slightly negative there where it is 0 */
        double whole = fmax(real(o, "loss"), 1e-3);
        kl = tap_worst(kl, fabs(b.kl - real(o, "kl_loss")) / whole);
        is = tap_worst(is, fabs(b.is - real(o, "is_loss")) / whole);
        worse(&elbo, b.elbo, real(o, "elbo"), 1e-2);
        for (size_t v = 0; v < V; v++) {
            double want = json_number_value(json_array_get(jg, v));
            largest = fmax(largest, fabs(want));
            off = tap_worst(off, fabs(g[v] - want));
        }
        grad = tap_worst(grad, off / fmax(largest, 1e-3));
        free(logits);
    }
    tap_deviation(loss_, 2e-4, "loss.json: loss, relative, %zu rows", json_array_size(list));
    tap_deviation(kl, 2e-4, "loss.json: KL, share of the loss");
    tap_deviation(is, 2e-4, "loss.json: IS, share of the loss");
    tap_deviation(elbo, 1e-2, "loss.json: ELBO, relative");
    tap_deviation(grad, 3e-5, "loss.json: gradient, share of its largest entry");
    json_decref(list);
}

static void reverse(const char *model)
{
    char file[64];
    snprintf(file, sizeof file, "%s/reverse.json", model);
    json_t *list = load(file), *o;
    size_t i, rows = 0;
    double off = 0, sum_off = 0;
    json_array_foreach(list, i, o) {
        struct dlm_noise noise = noise_of(o);
        json_t *z = json_object_get(o, "z"), *hat = json_object_get(o, "x_hat"), *want = json_object_get(o, "p_s");
        for (size_t k = 0; k < json_array_size(z); k++, rows++) {
            json_t *s = json_array_get(hat, k), *p = json_array_get(want, k);
            size_t V = json_array_size(s);
            double *mine = calloc(2 * V, sizeof *mine), *share = mine + V, sum = 0;
            if (!mine || json_array_size(p) != V)
                exit(1);
            for (size_t v = 0; v < V; v++)
                share[v] = json_number_value(json_array_get(s, v));
            reverse_of(mine, &noise, real(o, "log_snr_t"), real(o, "log_snr_s"), (uint32_t)json_integer_value(json_array_get(z, k)), share, V, 3);
            for (size_t v = 0; v < V; v++) {
                off = tap_worst(off, fabs(mine[v] - json_number_value(json_array_get(p, v))));
                sum += mine[v];
            }
            sum_off = tap_worst(sum_off, fabs(sum - 1));
            free(mine);
        }
    }
    tap_deviation(off, 1e-6, "%s/reverse.json: reverse step, absolute, %zu rows", model, rows);
    tap_deviation(sum_off, 1e-12, "%s/reverse.json: sum of our rows less 1", model);
    json_decref(list);
}

int main(void)
{
    const char *named = getenv("DLM_REFERENCE");
    folder = named ? named : "../shared/reference";
    char path[4096];
    snprintf(path, sizeof path, "%s/schedule.json", folder);
    if (access(path, R_OK)) {
        tap_skip(1, "no reference numbers in %s (DLM_REFERENCE names the folder)", folder);
        return tap_end();
    }
    schedule();
    loss();
    reverse("model-tiny");
    reverse("model-odd");
    return tap_end();
}
