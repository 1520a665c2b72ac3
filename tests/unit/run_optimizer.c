/* The optimizer on parts: a state dealt out in stripes, wherever they end, does what one does, to the bit; in both states of memory. */
#include "base/rng.h"
#include "run/device.h"
#include "run/optimizer.h"
#include "tap.h"

#include <string.h>

static struct dlm_error err;
static struct dlm_backend b;
static struct dlm_config c;

static _Noreturn void bail(const char *word)
{
    printf("Bail out! %s\n", word);
    exit(1);
}

static void *room(size_t n)
{
    void *p = calloc(n, 1);
    if (!p)
        bail("out of memory");
    return p;
}

/* Weights after some steps, as float32, and the moments. */
struct result {
    float *w, *mu, *nu;
};

/* `parts` optimizers on one network. */
static struct result run(bool compact, int kind, int parts)
{
    struct dlm_network *m;
    struct dlm_network_plan plan = {.batch = 1, .seq_len = 4, .train = true, .act = compact ? DLM_BF16 : DLM_F32, .compact = compact};
    if (dlm_network_new(&m, &b, &c, &plan, &err))
        bail(err.msg);
    const size_t total = dlm_network_layout(m)->total;
    const struct dlm_stripes stripes = {total, parts > 1 ? 64 : total, parts};
    struct dlm_optimizer *o = room((size_t)parts * sizeof *o);
    struct result r = {room(total * 4), room(total * 4), room(total * 4)};
    struct dlm_settings s = {.optimizer = kind, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1, .aux_lr = 0.02, .seed = 5};
    struct dlm_rng rng;
    dlm_rng_init(&rng, 11, 0, DLM_RNG_TEST);
    for (size_t i = 0; i < total; i++)
        r.w[i] = (float)dlm_rng_normal(&rng);
    for (int p = 0; p < parts; p++) {
        if (dlm_optimizer_new_part(&o[p], &b, m, &stripes, p, &err))
            bail(err.msg);
        dlm_optimizer_write_weights(&o[p], m, 0, total, r.w); /* every one keeps what is its own */
    }
    for (uint64_t k = 1; k <= 5; k++) {
        struct dlm_run runs[2];
        for (int i = 0, n = dlm_network_runs(m, 0, total, runs); i < n; i++)
            for (size_t at = runs[i].from; at < runs[i].to; at++) {
                float v = (float)dlm_rng_normal(&rng);
                uint32_t bits;
                memcpy(&bits, &v, 4);
                b.k->upload(b.dev, dlm_network_gradient_at(m, at), (char *)&bits + (runs[i].type == DLM_BF16 ? 2 : 0), dlm_dtype_size(runs[i].type));
            }
        for (int p = 0; p < parts; p++)
            dlm_optimizer_update(&o[p], m, &s, k, 0.3, 0.5);
    }
    for (int p = 0; p < parts; p++) {
        for (struct dlm_stretch own = {0}; dlm_stripes_next(&stripes, p, total, &own);) {
            const size_t from = own.from, n = own.to - from;
            dlm_optimizer_read_weights(&o[p], m, from, n, r.w + from);
            dlm_optimizer_read(&o[p], 0, from, n, r.mu + from);
            dlm_optimizer_read(&o[p], 1, from, n, r.nu + from);
        }
        dlm_optimizer_release(&o[p]);
    }
    free(o);
    dlm_network_free(m);
    return r;
}

static void release(struct result *r)
{
    free(r->w), free(r->mu), free(r->nu);
}

static void test_parts(bool compact, int kind, const char *name, size_t total)
{
    struct result one = run(compact, kind, 1);
    static const int parts[] = {2, 3, 7, 64, 300}; /* the last are more than there are stripes */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct result r = run(compact, kind, parts[i]);
        tap_ok(!memcmp(one.w, r.w, total * 4) && !memcmp(one.mu, r.mu, total * 4) && !memcmp(one.nu, r.nu, total * 4),
               "%s, %s: %d parts are one, to the bit", name, compact ? "compact" : "full", parts[i]);
        release(&r);
    }
    release(&one);
}

/* What is written is read, every bit of it, across the border between short and long elements. */
static void test_exact(size_t total)
{
    struct dlm_network *m;
    struct dlm_network_plan plan = {.batch = 1, .seq_len = 4, .train = true, .act = DLM_BF16, .compact = true};
    struct dlm_optimizer o;
    if (dlm_network_new(&m, &b, &c, &plan, &err) || dlm_optimizer_new(&o, &b, m, &err))
        bail(err.msg);
    float *w = room(total * 4), *back = room(total * 4);
    struct dlm_rng rng;
    dlm_rng_init(&rng, 12, 0, DLM_RNG_TEST);
    for (size_t i = 0; i < total; i++) {
        uint32_t bits = dlm_rng_next(&rng);
        bits = (bits & 0x7f800000u) == 0x7f800000u ? bits & ~0x40000000u : bits; /* any number at all */
        bits = i % 7 ? bits : (bits & 0xffff0000u) | 0x8000;                  /* halves, too */
        memcpy(&w[i], &bits, 4);
    }
    dlm_optimizer_write_weights(&o, m, 0, total, w);
    dlm_optimizer_read_weights(&o, m, 0, total, back);
    bool good = !memcmp(w, back, total * 4);
    const size_t border = dlm_network_short(m);
    memset(back, 0, total * 4);
    dlm_optimizer_read_weights(&o, m, border - 5, 12, back);
    good = good && !memcmp(w + border - 5, back, 12 * 4);
    tap_ok(good && border > 0 && border < total, "float32 weights are kept in two halves to the bit");
    for (size_t i = 0; i < border; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], 4);
        bits &= 0xffff0000u;
        memcpy(&w[i], &bits, 4);
    }
    good = true;
    for (int moment = 0; moment < 2; moment++) {
        dlm_optimizer_write(&o, moment, 0, border - 3, w);
        dlm_optimizer_write(&o, moment, border - 3, total - border + 3, w + border - 3);
        dlm_optimizer_read(&o, moment, 0, total, back);
        good = good && !memcmp(w, back, total * 4);
    }
    dlm_optimizer_read_weights(&o, m, 0, 1, back);
    tap_ok(good, "moments are read as they were written, bf16 and float32 ones");
    free(w), free(back);
    dlm_optimizer_release(&o);
    dlm_network_free(m);
}

int main(void)
{
    if (dlm_device_open(&b, "cpu", 1, &err))
        bail(err.msg);
    dlm_config_default(&c, 18, 2, 3, 0, 37, 4); /* 18² is no multiple of 16 */
    c.begin = 0, c.end = 1, c.pad = 2, c.mask = 3;
    struct dlm_layout l;
    if (dlm_layout_init(&l, &c, &err))
        bail(err.msg);
    for (int compact = 0; compact < 2; compact++) {
        test_parts(compact, DLM_OPTIMIZER_LAPROP, "LaProp", l.total);
        test_parts(compact, DLM_OPTIMIZER_ADAMW, "AdamW", l.total);
    }
    test_exact(l.total);
    dlm_layout_release(&l);
    dlm_device_close(&b);
    return tap_end();
}
