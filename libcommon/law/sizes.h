/* Power laws of the iso-FLOP optima: M*, D*, P* and L* against compute, with intervals by run.
 *
 * The optima of different budgets come from the same runs and err together: budgets drawn again, as if each were measured by
 * itself, would give intervals that are too narrow. Here runs are drawn again and every profile is made anew from them; with too
 * few runs for that, points are moved by their standard errors. The draws of a group also answer what depends on several laws.
 */
#ifndef DLM_LAW_SIZES_H
#define DLM_LAW_SIZES_H

#include "law/isoflop.h"

/* Per group with at least two budgets that have an optimum: laws `power` of flops_tok, tokens, params and loss against flops, with
 * range and bands. `o` are the profiles of the same study with the same `how`. */
int dlm_sizes_fit(const struct dlm_study *s, const struct dlm_isoflop *o, const struct dlm_estimate *how, struct dlm_laws *laws,
                  struct dlm_notes *notes, struct dlm_error *err);

#endif
