/* Every analysis of a study in its order: what it finds, and its tables and figures in the folder of a report. */
#ifndef DLM_LAW_ANALYSES_H
#define DLM_LAW_ANALYSES_H

#include "law/annealing.h"
#include "law/epochs.h"
#include "law/folder.h"
#include "law/isoflop.h"
#include "law/isoloss.h"
#include "law/optimum.h"
#include "law/report.h"

struct dlm_findings {
    const struct dlm_study *study; /* what they are of: read against compute, without annealed runs, which follow another law */
    double level;                  /* of intervals */
    struct dlm_notes missing;      /* analyses that could not be done, and why */
    struct dlm_laws loss, by_tokens, sizes, surface, batch, lr, critical, epochs, annealed;
    struct dlm_isoflop profiles;
    struct dlm_optima batches, rates;
    struct dlm_isoloss isoloss;
    struct dlm_epochs bound;
    struct dlm_annealing annealing;
    struct dlm_curves curves;
    bool has_bound, with_annealed;       /* annealed runs were told apart */
    struct dlm_study constant, repeated; /* the study, where runs were left out; the rows that `bound` speaks of */
};

/* Release in any case. */
int dlm_analyses_do(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_folder *folder,
                    struct dlm_findings *found, struct dlm_notes *notes, struct dlm_error *err);
void dlm_findings_release(struct dlm_findings *f);

#endif
