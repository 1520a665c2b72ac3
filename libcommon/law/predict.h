/* What laws say about a budget: `dlm-fitlaw predict`.
 *
 * From C every law of a group that speaks of a quantity is applied in turn, chains included (tokens from C, batch from tokens,
 * learning rate from batch), and C = M·D gives of size and tokens the one that is missing; C = 6·P·D in a group whose law
 * `compute` counts by params, and flops_tok is C/D there. An interval along a chain is the widest that its links allow. A surface
 * predicts its own best split where no law gives sizes, else the loss at the sizes that the laws give.
 */
#ifndef DLM_LAW_PREDICT_H
#define DLM_LAW_PREDICT_H

#include "law/fit.h"
#include "law/lawfile.h"
#include "law/notes.h"

enum dlm_quantity { DLM_Q_FLOPS, DLM_Q_PARAMS, DLM_Q_SIZE, DLM_Q_TOKENS, DLM_Q_BATCH, DLM_Q_LR, DLM_Q_LOSS, DLM_QUANTITIES };
extern const char *const dlm_quantity_names[DLM_QUANTITIES]; /* the columns: flops params flops_tok tokens batch_tok lr loss */

/* Fill q for a group and a budget of `flops`; what no law speaks of stays NAN. Notes where a law is stretched beyond ten times
 * its data. */
int dlm_predict(const struct dlm_laws *l, const char *group, double flops, struct dlm_prediction q[DLM_QUANTITIES],
                struct dlm_notes *notes, struct dlm_error *err);

/* As dlm_predict, from the quantities of q that are known already; the rest must be NAN. */
int dlm_predict_from(const struct dlm_laws *l, const char *group, struct dlm_prediction q[DLM_QUANTITIES], struct dlm_notes *notes,
                     struct dlm_error *err);

/* The groups in their order: a row of the next one, from row *i on; NULL after the last. A group of laws that only lend to others
 * (`pooled`) is none. Begin with *i = 0. */
const struct dlm_law_row *dlm_predict_next(const struct dlm_laws *l, size_t *i);
/* The noise type of a row's group: its part under the group column of that name; the group itself where the columns are not
 * known; NA where noise is none of them. */
void dlm_predict_noise(const struct dlm_law_row *r, char *to, size_t size);
/* Whether the group counts compute as 6·P·D (else M·D, the FLOPs per token of method 1). */
bool dlm_predict_by_params(const struct dlm_laws *l, const char *group);
/* The group's surface over params or flops_tok: its terms, and what it predicts (y may be NULL). False: it has none. */
bool dlm_predict_surface(const struct dlm_laws *l, const char *group, bool params, double value[DLM_FIT_TERMS], const char **y);

/* The table for all groups of the laws, in their order, and all budgets: noise, the quantities with _lo and _hi, group, compute. */
int dlm_predict_write(const struct dlm_laws *l, const double *flops, size_t n, FILE *f, const char *name, struct dlm_notes *notes,
                      struct dlm_error *err);

#endif
