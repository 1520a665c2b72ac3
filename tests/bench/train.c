/* make bench, and with -d cuda make bench-cuda: whole training steps against a bound made of their matrix products alone, measured in the same run.
 *
 * One row a configuration and type, TSV: machine, compiler, configuration, dtype, threads, tokens/s of the step (corruption, forward, loss, backward,
 * optimizer, repacking), model GFLOP/s, GFLOP/s of the products alone, the share of the bound reached, peak memory. The bound is the time of every
 * linear layer's three products at their true shapes, the head's at the number of rows that carried a loss, and attention's products (forward 2,
 * backward 5, of 2·N·d FLOPs a token each) at the rate of the layers' products. No more than that: whatever else a step does is what the share charges.
 */
#include "base/build.h"
#include "base/progress.h"
#include "base/rng.h"
#include "diffuse/example.h"
#include "run/device.h"
#include "run/optimizer.h"
#include "run/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *device = "cpu";

struct shape {
    const char *name;
    size_t V, d, L, H, N, B;
};

struct bench {
    struct dlm_backend b;
    enum dlm_dtype act;
    struct shape s;
    struct dlm_network *net;
    struct dlm_pass pass;
    struct dlm_optimizer opt;
    struct dlm_settings settings;
};

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static double seconds(void)
{
    return dlm_progress_now();
}

/* The fastest of several repetitions for about `budget` seconds: other people's work on the machine can only slow things down. */
static double time_linear(struct bench *b, size_t T, size_t O, size_t I, enum dlm_dtype y_type, double budget)
{
    const struct dlm_kernels *k = b->b.k;
    struct dlm_device *dev = b->b.dev;
    size_t item = dlm_dtype_size(b->act);
    dlm_ptr w = k->alloc(dev, O * I * 4), x = k->alloc(dev, T * I * item), y = k->alloc(dev, T * O * 4), dy = k->alloc(dev, T * O * item);
    dlm_ptr pack = k->alloc(dev, k->linear_pack_size(dev, O, I, b->act));
    if (!w.at || !x.at || !y.at || !dy.at || !pack.at)
        die("no memory");
    k->linear_pack(dev, pack, w, O, I, b->act);
    double best = 1e30, t0 = seconds();
    for (int n = 0; n < 2 || seconds() - t0 < budget; n++) {
        double t = seconds();
        k->linear(dev, y, x, pack, T, O, I, b->act, y_type, 1);
        k->linear_dx(dev, x, dy, pack, T, O, I, b->act, b->act, 1);
        k->linear_dw(dev, w, dy, x, T, O, I, b->act, 1);
        k->sync(dev);
        t = seconds() - t;
        if (n && t < best)
            best = t;
    }
    dlm_ptr all[] = {w, x, y, dy, pack};
    for (size_t i = 0; i < 5; i++)
        k->free(dev, all[i]);
    return best;
}

static void one_step(struct bench *b, uint64_t step)
{
    struct dlm_error err;
    struct dlm_example_options o = {.p_independent = 0.5, .p_prompt = 0.2, .stratified = true};
    struct dlm_rng rng;
    uint64_t *scratch = malloc(b->s.N * sizeof *scratch);
    size_t N = b->s.N;
    for (size_t s = 0; s < b->s.B; s++) {
        bool prompted;
        dlm_rng_init(&rng, 1, step * b->s.B + s, DLM_RNG_SYNTHETIC);
        for (size_t i = 0; i < N; i++)
            b->pass.x[s * N + i] = 4 + (uint32_t)dlm_rng_below(&rng, b->s.V - 4);
        dlm_example_draw(&o, 1, step * b->s.B + s, b->pass.x + s * N, N, 2, b->pass.log_snr + s * N, b->pass.noisy + s * N, &prompted, scratch);
        b->pass.example[s] = step * b->s.B + s;
        b->pass.noise[s] = (struct dlm_noise){.shift = -1000, .slope = 1};
    }
    free(scratch);
    dlm_network_zero_gradients(b->net);
    if (dlm_pass_corrupt(&b->pass, b->s.B, 1, DLM_RNG_CORRUPT, &err) || dlm_pass_diffusion(&b->pass, b->net, b->s.B, true, &err) ||
        dlm_network_sync(b->net, &err))
        die(err.msg);
    dlm_optimizer_step(&b->opt, b->net, &b->settings, step + 1, 0.1, 1);
    if (dlm_network_sync(b->net, &err))
        die(err.msg);
}

static void machine_name(char *to, size_t size)
{
    char line[256];
    snprintf(to, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(to, size, "%s", strchr(line, ':') + 2);
            to[strcspn(to, "\n")] = 0;
            break;
        }
    if (f)
        fclose(f);
}

static void run(const struct shape *shape, enum dlm_dtype act, double budget)
{
    struct dlm_error err = {{0}};
    struct bench b = {.act = act, .s = *shape};
    struct dlm_config c;
    size_t T = shape->B * shape->N, d = shape->d;
    if (dlm_device_open(&b.b, device, 0, &err))
        die(err.msg);
    dlm_config_default(&c, d, shape->L, shape->H, 0, shape->V, shape->N);
    c.begin = 0, c.end = 1, c.pad = 2, c.mask = 3;
    dlm_settings_default(&b.settings);
    b.settings.beta2 = 0.99, b.settings.eps = 1e-12;
    struct dlm_network_plan plan = {.batch = shape->B, .seq_len = shape->N, .train = true, .act = act};
    if (dlm_network_new(&b.net, &b.b, &c, &plan, &err) || dlm_pass_new(&b.pass, &b.b, &c, shape->B, shape->N, &err) ||
        dlm_optimizer_new(&b.opt, &b.b, b.net, &err))
        die(err.msg);
    const struct dlm_layout *l = dlm_network_layout(b.net);
    float *w = calloc(l->total, sizeof *w);
    if (!w)
        die("no memory");
    dlm_layout_fill(l, 1, w);
    b.b.k->upload(b.b.dev, dlm_network_weights(b.net), w, l->total * 4);
    free(w);
    dlm_network_refresh(b.net);
    one_step(&b, 0);
    double best = 1e30, t0 = seconds(), rows = 0;
    int n = 0;
    for (; n < 3 || seconds() - t0 < budget; n++) {
        double t = seconds();
        one_step(&b, (uint64_t)n + 1);
        t = seconds() - t;
        rows += (double)b.pass.scored.n;
        best = t < best ? t : best;
    }
    double mean_rows = rows / n, layers = 3 * 2.0 * (double)T * 12 * (double)d * (double)d * (double)shape->L;
    double part = budget / 5;
    double linear = (double)shape->L * (time_linear(&b, T, 3 * d, d, act, part) + time_linear(&b, T, d, d, act, part) +
                                        time_linear(&b, T, 4 * d, d, act, part) + time_linear(&b, T, d, 4 * d, act, part));
    /* The head in chunks, as the network runs it: one chunk timed, scaled to the rows that carried a loss. */
    size_t chunk = b.b.k->logit_bytes / (4 * shape->V), most = b.b.k->logit_rows ? (b.b.k->logit_rows * d > 256 ? b.b.k->logit_rows * d : 256) : T;
    chunk = (chunk < most ? chunk : most) & ~(size_t)63;
    double head = time_linear(&b, chunk, shape->V, d, DLM_F32, part) * mean_rows / (double)chunk;
    double attention = 7 * 2.0 * (double)T * (double)shape->N * (double)d * (double)shape->L, rate = layers / linear;
    double products = layers + attention + 6.0 * mean_rows * (double)d * (double)shape->V, bound = linear + head + attention / rate;
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    char machine[128];
    if (strcmp(b.b.k->name, "cpu"))
        snprintf(machine, sizeof machine, "%.127s", b.b.k->describe(b.b.dev));
    else
        machine_name(machine, sizeof machine);
    printf("%s\t%s\t%s V=%zu d=%zu L=%zu H=%zu N=%zu B=%zu\t%s\t%d\t%.0f\t%.1f\t%.1f\t%.3f\t%ld\n", machine, dlm_build_flags(), shape->name, shape->V, d,
           shape->L, shape->H, shape->N, shape->B, dlm_device_dtype_name(act), dlm_build_cores(), (double)T / best, products / best * 1e-9,
           products / bound * 1e-9, bound / best, ru.ru_maxrss / 1024);
    fflush(stdout);
    dlm_optimizer_release(&b.opt);
    dlm_pass_release(&b.pass);
    dlm_network_free(b.net);
    dlm_device_close(&b.b);
}

int main(int argc, char **argv)
{
    static const struct shape cpu[] = {{"base", 16384, 512, 8, 8, 512, 8}, {"demo", 4096, 64, 3, 4, 128, 32}};
    static const struct shape gpu[] = {{"125M", 131072, 768, 12, 12, 2048, 16}, {"1B", 131072, 2048, 20, 16, 2048, 8}, {"small", 16384, 256, 8, 4, 512, 64}};
    double budget = 10;
    int c;
    while ((c = getopt(argc, argv, "d:s:")) != -1) {
        if (c == 'd')
            device = optarg;
        else if (c == 's')
            budget = atof(optarg);
        else
            return fputs("usage: train [-d DEVICE] [-s SECONDS]\n", stderr), 2;
    }
    const bool on_gpu = !strncmp(device, "cuda", 4);
    puts("machine\tcompiler\tconfig\tdtype\tthreads\ttokens_s\tgflop_s\tbound_gflop_s\tshare_of_bound\tpeak_mb");
    for (size_t i = 0; i < (on_gpu ? 3 : 2); i++)
        for (int act = on_gpu ? DLM_BF16 : DLM_F32; act <= DLM_BF16; act++)
            run(on_gpu ? &gpu[i] : &cpu[i], (enum dlm_dtype)act, budget);
    return 0;
}
