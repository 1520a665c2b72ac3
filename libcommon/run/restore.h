/* A checkpoint opened for use: its network on a device, its vocabulary, its noise type. What dlm-eval and dlm-sample share. */
#ifndef DLM_RUN_RESTORE_H
#define DLM_RUN_RESTORE_H

#include "diffuse/noise.h"
#include "model/network.h"
#include "text/vocab.h"

struct dlm_restored {
    struct dlm_network *network;
    struct dlm_vocab *vocab;      /* NULL when the checkpoint has no tokenizer.json and none was needed */
    struct dlm_noise noise;       /* evaluation's: the one the training ended with */
    bool autoregressive;
};

/* The network that `plan` describes; its seq_len 0 means the context, `train` must be false. `need_vocab`: a checkpoint without tokenizer.json is an error,
 * and its size must fit. */
int dlm_restore_open(struct dlm_restored *r, const char *ckpt, const struct dlm_backend *b, const struct dlm_network_plan *plan, bool need_vocab,
                     struct dlm_error *err);
/* config.json only claims its sizes: 0 where the tensors of the checkpoint have them, so that memory may be taken for a model. */
int dlm_restore_fits(const char *ckpt, const struct dlm_config *c, struct dlm_error *err);
void dlm_restore_close(struct dlm_restored *r);

#endif
