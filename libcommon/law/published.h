/* Laws that others have published, as `-l paper` and its neighbours use them. Not fitted here.
 *
 * They are rows of a law file like any other (lawfile.h), so that `dlm-fitlaw laws -l NAME` prints what can be edited and given
 * back. The paper's groups are its noise types; those of other publications carry their name as well (`none/chinchilla`), so that
 * several can be asked at once. Each group says how it counts compute: the law `compute`, C = k·x·D with x the params or
 * flops_tok. A published loss belongs to its tokenizer and data.
 */
#ifndef DLM_LAW_PUBLISHED_H
#define DLM_LAW_PUBLISHED_H

#include "law/lawfile.h"
#include "law/notes.h"

/* True for a name of a published law, `gidd-2512.10858` included, which is the paper's. */
bool dlm_published_named(const char *name);
/* Adds the laws of that name to `l`, and to `notes` what a reader must know of them. */
int dlm_published_fill(const char *name, struct dlm_laws *l, struct dlm_notes *notes, struct dlm_error *err);
/* The names as TSV: name, compute, has, source. */
int dlm_published_list(FILE *f, const char *name, struct dlm_error *err);

#endif
