/* --plan. */
#include "run/plan.h"

#include "model/count.h"
#include "run/device.h"
#include "run/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* FLOP/s of x (T, d) · W (4d, d)ᵀ on this device, the product the network is mostly made of; 0 when there is no memory to measure with. */
static double matrix_rate(const struct dlm_backend *b, size_t d, enum dlm_dtype act)
{
    const struct dlm_kernels *k = b->k;
    size_t T = 2048, O = 4 * d, item = dlm_dtype_size(act);
    dlm_ptr w = k->alloc(b->dev, O * d * 4), x = k->alloc(b->dev, T * d * item), y = k->alloc(b->dev, T * O * item);
    dlm_ptr pack = k->alloc(b->dev, k->linear_pack_size(b->dev, O, d, act));
    double rate = 0;
    if (w.at && x.at && y.at && pack.at) {
        k->linear_pack(b->dev, pack, w, O, d, act);
        k->linear(b->dev, y, x, pack, T, O, d, act, act, 1);
        k->sync(b->dev);
        double t0 = dlm_progress_now(), t = t0;
        int n = 0;
        for (; t - t0 < 0.25; n++, t = dlm_progress_now()) {
            k->linear(b->dev, y, x, pack, T, O, d, act, act, 1);
            k->sync(b->dev);
        }
        rate = 2.0 * n * (double)T * (double)O * (double)d / (t - t0);
    }
    dlm_ptr all[] = {w, x, y, pack};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].at)
            k->free(b->dev, all[i]);
    return rate;
}

static void whole(FILE *f, const char *name, uint64_t v, const char *unit)
{
    fprintf(f, "%s\t%" PRIu64 "\t%s\n", name, v, unit);
}

static void real(FILE *f, const char *name, double v, const char *unit)
{
    fprintf(f, "%s\t%.9g\t%s\n", name, v, unit);
}

static void print(FILE *f, const struct dlm_settings *s, const struct dlm_config *c, size_t N, const struct dlm_backend *b,
                  const struct dlm_memory_ask *ask, const struct dlm_memory *m, struct dlm_room room)
{
    const enum dlm_dtype act = ask->plan.act;
    const int processes = ask->processes;
    struct dlm_count n = dlm_count_of(c, N);
    double tokens = (double)s->steps * (double)s->batch * (double)N;
    fputs("quantity\tvalue\tunit\n", f);
    whole(f, "params", n.params, "parameters");
    whole(f, "params_published", n.params_published, "parameters");
    whole(f, "params_embed", n.params_embedding / 2, "parameters");
    whole(f, "params_head", n.params_embedding / 2, "parameters");
    whole(f, "params_embedding", n.params_embedding, "parameters");
    whole(f, "params_total", n.params + n.params_embedding, "parameters");
    real(f, "flops_tok", n.flops_tok, "FLOP/token");
    real(f, "flops_tok_6p", n.flops_tok_6p, "FLOP/token");
    real(f, "flops_tok_head", n.flops_tok_head, "FLOP/token");
    whole(f, "width", c->width, "elements");
    whole(f, "layers", c->layers, "layers");
    whole(f, "heads", c->heads, "heads");
    whole(f, "seq_len", N, "tokens");
    whole(f, "batch_tok", s->batch * N, "tokens/step");
    whole(f, "micro_batch", dlm_train_micro_batch(s, N), "sequences");
    whole(f, "processes", (uint64_t)processes, "processes");
    whole(f, "steps", s->steps, "steps");
    real(f, "tokens", tokens, "tokens");
    if (s->unique_tokens)
        real(f, "unique_tokens", fmin((double)(s->unique_tokens / N * N), tokens), "tokens");
    else
        real(f, "unique_tokens", tokens, "tokens");
    real(f, "flops", n.flops_tok * tokens, "FLOP");
    real(f, "flops_6p", n.flops_tok_6p * tokens, "FLOP");
    real(f, "flops_head", n.flops_tok_head * tokens, "FLOP");
    const struct {
        const char *name;
        double bytes;
    } kinds[] = {{"memory_weights", m->weights}, {"memory_gradients", m->gradients}, {"memory_optimizer", m->optimizer}, {"memory_average", m->average},
                 {"memory_packed", m->packed}, {"memory_activations", m->activations}, {"memory_head", m->head},
                 {"memory_scratch", m->scratch}, {"memory_group", m->group}, {"memory_batch", m->batch},
                 {"memory_checkpoint", m->checkpoint}, {"memory_total", m->total}, {"memory_device", m->device}, {"memory_free", room.bytes}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        fprintf(f, "%s\t%.0f\tbytes\n", kinds[i].name, kinds[i].bytes);
    fprintf(f, "recompute\t%s\tlevel\n", dlm_recompute_name(ask->plan.recompute));
    whole(f, "micro_batch_most", dlm_memory_most(b, c, ask, s->recompute, room, s->batch), "sequences");
    double rate = matrix_rate(b, c->width, act);
    real(f, "matrix_rate", rate, "FLOP/s");
    if (rate > 0)
        real(f, "time", (n.flops_tok + n.flops_tok_head) * tokens / (rate * processes), "s");
    else
        fputs("time\tNA\ts\n", f);
    if (s->peak_flops > 0) {
        real(f, "peak", s->peak_flops, "FLOP/s");
        real(f, "time_at_peak", (n.flops_tok + n.flops_tok_head) * tokens / (s->peak_flops * processes), "s");
    }
    fprintf(f, "dtype\t%s\ttype\ndevice\t%s\tname\n", dlm_device_dtype_name(act), b->k->name);
}

int dlm_plan(const struct dlm_train_job *job, size_t seq_len, int processes, double device_memory, FILE *f, struct dlm_error *err)
{
    struct dlm_settings s = job->settings;
    uint32_t V = (uint32_t)s.vocab_size;
    struct dlm_specials specials = {0, 1, 2, 3};
    if (s.data) {
        struct dlm_shards *shards;
        int rc = dlm_shards_open(&shards, s.data, err);
        if (rc)
            return rc;
        const struct dlm_vocab *v = dlm_shards_vocab(shards);
        V = dlm_vocab_size(v);
        specials = dlm_vocab_specials(v);
        seq_len = dlm_shards_seq_len(shards);
        dlm_shards_close(shards);
    } else if (!V || !seq_len) {
        return dlm_fail(err, DLM_EUSAGE, "--plan needs --data, or --vocab-size and --seq-len");
    }
    if (s.noise && !(s.noise = strdup(s.noise)))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    struct dlm_config c;
    struct dlm_backend b = {0};
    int rc = dlm_train_resolve(&s, job, V, specials, seq_len, &c, err);
    if (!rc)
        rc = dlm_device_open(&b, job->device, job->threads, err);
    if (!rc) {
        struct dlm_memory_ask ask;
        if (!(rc = dlm_train_ask(&s, &b, seq_len, processes, 0, &ask, err))) {
            const struct dlm_room room = device_memory > 0 ? (struct dlm_room){device_memory, true} : dlm_room_here(&b, 1);
            struct dlm_memory m = dlm_memory_choose(&b, &c, &ask, s.recompute, room);
            print(f, &s, &c, seq_len, &b, &ask, &m, room);
        }
        dlm_device_close(&b);
    }
    free(s.noise);
    return rc;
}
