/* state.json: where a training run stands (dlm-checkpoint(5)).
 *
 * Everything random is a function of the settings and the example's number, so the position is one number, the step; what else is kept are the averages of
 * the rows not yet written, so that a resumed run writes the same rows.
 */
#ifndef DLM_RUN_STATE_H
#define DLM_RUN_STATE_H

#include "run/settings.h"

/* Sums since the last training row. */
struct dlm_window {
    uint64_t steps, sequences;
    double noisy;                      /* tokens that carried a loss */
    double loss, elbo, kl, is;         /* nats, summed over them */
    double sequence_elbo, sequence_elbo2; /* of the sequences' means, for the standard error */
    double grad_norm;                  /* summed over steps */
};

struct dlm_state {
    uint64_t step;
    const char *device;     /* what it was computed with last; borrowed, written only */
    bool val_pending;       /* the validation row of this step is still to come */
    uint64_t data_hash;     /* of the shard set's manifest */
    double seconds;         /* wall time of the run so far, validation included */
    double joules;          /* that the machines' counters have counted meanwhile; NAN where they cannot be read, or could not at some time */
    struct dlm_window window;
    struct dlm_settings settings; /* owned here once read */
};

/* The text of state.json; the caller frees it. NULL: no memory. */
char *dlm_state_format(const struct dlm_state *s);
int dlm_state_parse(struct dlm_state *s, const char *text, size_t len, const char *name, struct dlm_error *err);

#endif
