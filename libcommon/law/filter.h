/* The paper's choice of points (arXiv 2512.10858; method.md §7, step 3): 5e17 to 2e20 FLOPs, more than 5,000 and up to 80,000
 * steps, a loss below 4, and batches of fewer than 1024 sequences. */
#ifndef DLM_LAW_FILTER_H
#define DLM_LAW_FILTER_H

#include "law/notes.h"
#include "law/study.h"

/* Take the other points out of the study, which must have been read with sizes, batch and `keep` (for seq_len). Runs and groups
 * without a point are gone too. Notes how many are left; DLM_EDATA where none is, or where there is no seq_len. */
int dlm_filter_paper(struct dlm_study *s, struct dlm_notes *notes, struct dlm_error *err);

#endif
