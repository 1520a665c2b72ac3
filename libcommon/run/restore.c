/* Opening a checkpoint for use. */
#include "run/restore.h"

#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

/* The checkpoint's noise: dlm_noise where it is set (a curriculum's last type), else the shift. */
static int read_noise(const struct dlm_config *c, struct dlm_noise *out, struct dlm_error *err)
{
    if (!c->dlm_noise[0]) {
        *out = (struct dlm_noise){.shift = c->noise_shift, .slope = 1};
        return 0;
    }
    struct dlm_curriculum cur;
    int rc = dlm_curriculum_parse(&cur, c->dlm_noise, err);
    if (!rc)
        *out = dlm_curriculum_at(&cur, 1);
    return rc;
}

static int open_vocab(struct dlm_restored *r, const char *ckpt, const struct dlm_config *c, struct dlm_error *err)
{
    char *json;
    size_t len;
    int rc = dlm_checkpoint_text(ckpt, "tokenizer.json", &json, &len, err);
    if (rc)
        return rc;
    char name[600];
    snprintf(name, sizeof name, "%s/tokenizer.json", ckpt);
    rc = dlm_vocab_parse(&r->vocab, json, len, name, err);
    free(json);
    if (!rc && dlm_vocab_size(r->vocab) > c->vocab_size)
        rc = dlm_fail(err, DLM_EDATA, "%s has %u ids, but the model's vocabulary size is %zu", name, dlm_vocab_size(r->vocab), c->vocab_size);
    return rc;
}

int dlm_restore_fits(const char *ckpt, const struct dlm_config *c, struct dlm_error *err)
{
    struct dlm_layout l;
    int rc = dlm_layout_init(&l, c, err);
    if (rc)
        return rc;
    rc = dlm_checkpoint_fits(ckpt, &l, err);
    dlm_layout_release(&l);
    return rc;
}

/* A piece of the weights onto the device: no copy of them all lies on the host. */
static int take(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, const float *from, struct dlm_error *err)
{
    struct dlm_network *m = of;
    (void)array; /* there are only weights */
    dlm_network_write(m, at, n, from);
    return dlm_network_sync(m, err);
}

int dlm_restore_open(struct dlm_restored *r, const char *ckpt, const struct dlm_backend *b, const struct dlm_network_plan *plan, bool need_vocab,
                     struct dlm_error *err)
{
    *r = (struct dlm_restored){0};
    struct dlm_config c;
    int rc = dlm_checkpoint_config(ckpt, &c, err);
    if (!rc && plan->seq_len > c.context)
        rc = dlm_fail(err, DLM_EDATA, "sequences of %zu tokens are longer than the context of '%s', %zu", plan->seq_len, ckpt, c.context);
    if (!rc)
        rc = read_noise(&c, &r->noise, err);
    if (rc)
        return rc;
    r->autoregressive = c.causal;
    if (need_vocab)
        rc = open_vocab(r, ckpt, &c, err);
    if (!rc)
        rc = dlm_restore_fits(ckpt, &c, err);
    if (!rc) {
        struct dlm_network_plan p = *plan;
        p.seq_len = p.seq_len ? p.seq_len : c.context;
        rc = dlm_network_new(&r->network, b, &c, &p, err);
    }
    if (!rc) {
        const struct dlm_checkpoint_store store = {.of = r->network, .take = take};
        rc = dlm_checkpoint_load(ckpt, dlm_network_layout(r->network), &store, false, false, false, err);
        if (!rc) {
            dlm_network_refresh(r->network);
            rc = dlm_network_sync(r->network, err);
        }
    }
    if (rc)
        dlm_restore_close(r);
    return rc;
}

void dlm_restore_close(struct dlm_restored *r)
{
    dlm_network_free(r->network);
    dlm_vocab_free(r->vocab);
    *r = (struct dlm_restored){0};
}
