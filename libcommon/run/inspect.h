/* What a network makes of given ids, in full: logits, and the loss of every token.
 *
 * For comparison with any other implementation from outside: nothing is drawn, nothing averaged. One line of JSON in, one out. A line is computed by
 * itself, at its own length and never padded, so its answer is a function of checkpoint and line alone and is exactly the network of that length.
 *
 *     logits  {"ids": [N], "clean": K?}                                            adds "logits": N rows of V, the head's raw output
 *     loss    {"x": [N], "z": [N], "log_snr": [N], "noisy": [N], "noise": NAME?}   adds "loss", "elbo", "kl", "is": N numbers each, 0 where clean
 *
 * For an autoregressive network the logits are those of the ids as given (row i foretells what follows ids 0 … i), and the loss takes x alone: the
 * begin id is put before it as in training, "loss" and "elbo" are the cross-entropy, "kl" and "is" null.
 */
#ifndef DLM_RUN_INSPECT_H
#define DLM_RUN_INSPECT_H

#include "base/output.h"
#include "run/restore.h"

enum dlm_inspect_what { DLM_INSPECT_LOGITS, DLM_INSPECT_LOSS };

struct dlm_inspection {
    enum dlm_inspect_what what;
    const struct dlm_backend *backend;
    struct dlm_restored *model; /* opened for one sequence of the context */
    struct dlm_noise noise;     /* of lines that name none */
    const char *input;          /* JSON Lines; NULL or "-": standard input */
    struct dlm_output *out;     /* each answer is flushed */
};

/* DLM_EDATA names file and line, DLM_EDIVERGED says that a figure is not finite, DLM_ESTOPPED that a signal came. */
int dlm_inspect(const struct dlm_inspection *job, struct dlm_error *err);

#endif
