/* The running average of the weights: its formula, its exchange with the network's weights, its parts, and its absence. */
#include "run/average.h"
#include "run/device.h"
#include "tap.h"

#include <string.h>

static struct dlm_error err;

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

/* Weights that depend on the step: w (total). */
static void weights_at(float *w, size_t total, int k)
{
    for (size_t i = 0; i < total; i++)
        w[i] = (float)((i % 13) + 1) * sinf((float)(k * 7 + 1)) + (float)k;
}

int main(void)
{
    struct dlm_backend b;
    struct dlm_config c;
    struct dlm_network *m;
    if (dlm_device_open(&b, "cpu", 1, &err))
        bail(err.msg);
    dlm_config_default(&c, 8, 1, 2, 0, 11, 4);
    c.begin = 0, c.end = 1, c.pad = 2, c.mask = 3;
    struct dlm_network_plan plan = {.batch = 1, .seq_len = 4, .act = DLM_F32};
    if (dlm_network_new(&m, &b, &c, &plan, &err))
        bail(err.msg);
    size_t total = dlm_network_layout(m)->total, bytes = total * sizeof(float);
    float *w = calloc(total, sizeof *w), *x = calloc(total, sizeof *x), *y = calloc(total, sizeof *y), *a = calloc(total, sizeof *a);
    if (!w || !x || !y || !a)
        bail("out of memory");
    static const double betas[] = {1e-9, 0.5, 0.9, 0.999};
    enum { STEPS = 40 };
    for (size_t j = 0; j < sizeof betas / sizeof *betas; j++) {
        struct dlm_average avg;
        if (dlm_average_new(&avg, &b, m, betas[j], &err))
            bail(err.msg);
        weights_at(w, total, 99);
        b.k->upload(b.dev, avg.at, w, bytes); /* whatever was there before the first step counts nothing */
        double worst = 0;
        for (int k = 1; k <= STEPS; k++) {
            weights_at(w, total, k);
            b.k->upload(b.dev, dlm_network_weights(m), w, bytes);
            dlm_average_step(&avg, m, (uint64_t)k);
            b.k->download(b.dev, a, avg.at, bytes);
            for (size_t i = 0; i < total; i += 29) {
                double sum = 0, of = 0;
                for (int s = 1; s <= k; s++) {
                    double share = pow(betas[j], k - s);
                    sum += share * ((double)((i % 13) + 1) * (double)sinf((float)(s * 7 + 1)) + s);
                    of += share;
                }
                worst = tap_worst(worst, fabs(a[i] - sum / of) / (fabs(sum / of) + 10));
            }
        }
        tap_deviation(worst, 4e-6, "beta %g: the mean of %d steps, each with the share beta^(k-i), relative", betas[j], STEPS);
        memset(x, 0, bytes), memset(y, 0, bytes);
        dlm_average_swap(&avg, m, x, y);
        b.k->download(b.dev, x, dlm_network_weights(m), bytes);
        b.k->download(b.dev, y, avg.at, bytes);
        bool swapped = !memcmp(x, a, bytes) && !memcmp(y, w, bytes);
        dlm_average_swap(&avg, m, x, y);
        b.k->download(b.dev, x, dlm_network_weights(m), bytes);
        b.k->download(b.dev, y, avg.at, bytes);
        tap_ok(swapped && !memcmp(x, w, bytes) && !memcmp(y, a, bytes), "exchanged with the weights to the bit, and back");
        dlm_average_release(&avg);
    }
    const struct dlm_stripes stripes = {total, 64, 3};
    struct dlm_average whole, part[3];
    bool same = !dlm_average_new(&whole, &b, m, 0.9, &err);
    for (int r = 0; r < 3; r++)
        same = !dlm_average_new_part(&part[r], &b, m, 0.9, &stripes, r, &err) && same;
    for (int k = 0; k <= 3; k++) {
        weights_at(w, total, k);
        b.k->upload(b.dev, dlm_network_weights(m), w, bytes);
        k ? dlm_average_step(&whole, m, (uint64_t)k) : dlm_average_begin(&whole, m);
        for (int r = 0; r < 3; r++)
            k ? dlm_average_step(&part[r], m, (uint64_t)k) : dlm_average_begin(&part[r], m);
    }
    dlm_average_read(&whole, 0, total, a);
    for (int r = 0; r < 3; r++) {
        for (struct dlm_stretch own = {0}; dlm_stripes_next(&stripes, r, total, &own);) {
            dlm_average_read(&part[r], own.from, own.to - own.from, y + own.from);
            dlm_average_write(&part[r], own.from, own.to - own.from, y + own.from);
        }
        dlm_average_exchange(&part[r], m, x, x + total / 2);
        dlm_average_release(&part[r]);
    }
    dlm_average_release(&whole);
    b.k->download(b.dev, x, dlm_network_weights(m), bytes);
    tap_ok(same && !memcmp(a, y, bytes) && !memcmp(a, x, bytes), "three ranks' stripes of it are the whole, to the bit");
    b.k->upload(b.dev, dlm_network_weights(m), w, bytes);
    struct dlm_average none;
    tap_ok(!dlm_average_new(&none, &b, m, 0, &err) && !none.at.at, "a decay of 0 is no average");
    dlm_average_step(&none, m, 1);
    dlm_average_swap(&none, m, NULL, NULL);
    b.k->download(b.dev, x, dlm_network_weights(m), bytes);
    tap_ok(!memcmp(x, w, bytes), "and changes nothing");
    dlm_average_release(&none);
    free(w), free(x), free(y), free(a);
    dlm_network_free(m);
    dlm_device_close(&b);
    return tap_end();
}
