/* Budgets with a limited number of unique tokens (method.md §7, step 7): what repeating data costs, which of two groups is
 * predicted better, and where that changes.
 *
 * A group's own saturating law (epochs.h) says what repeated tokens are worth. A group without one borrows the saturating form
 * with the published R of its kind (arXiv 2507.15857: 493.89 diffusion, 31.19 autoregressive), put into its surface. That R was
 * measured on masked diffusion with another network and other data; that it holds for other noise types is an assumption, and is
 * told as such. A stretched law chooses sizes only in a group without a surface: it can rank repeated tokens above new ones (as
 * Quokka's does at a few passes), and then follows the data limit rather than the budget. Else it is told beside the result. A group
 * with none of these says nothing about limited data.
 *
 * Two groups are compared by three estimates that need not agree:
 *   surface    the least loss on each group's surface at C with U unique tokens
 *   loss-law   each group's loss law at C, times what the limit costs on its surface (the loss with it over that without)
 *   frontier   one pass over U tokens at the compute that makes U the best number of tokens, by the laws of tokens and of loss
 * The interval of a difference takes in the bands of the laws, and a borrowed R half or twice as large. Published laws have no bands
 * for the loss: then what their printed digits leave open stands in, which is far too narrow, and called so.
 */
#ifndef DLM_LAW_DATABOUND_H
#define DLM_LAW_DATABOUND_H

#include "law/epochs.h"
#include "law/lawfile.h"
#include "law/notes.h"

#include <stdio.h>

struct dlm_databound {
    enum dlm_epochs_form form;
    double value[DLM_EPOCHS_TERMS]; /* its first five are a surface over params or flops_tok */
    bool params;
    bool borrowed;      /* R is another publication's */
    double per;         /* C = per·size·tokens */
    char assumes[192];
};

/* How a group stands to limited data, at a budget of `flops`. False: no law of it speaks of that. */
bool dlm_databound_of(const struct dlm_laws *l, const char *group, const char *noise, double flops, struct dlm_databound *d);
/* What `tokens` out of `unique` ones are worth in unique tokens, for a network of `params` (which some forms ask for). */
double dlm_databound_worth(const struct dlm_databound *d, double params, double unique, double tokens);
/* What the group's stretched law says of a run; false: it has none. */
bool dlm_databound_stretched(const struct dlm_laws *l, const char *group, double params, double unique, double tokens, double *loss,
                             double *worth);
/* The size that spends `flops` best with `unique` tokens (INFINITY: no limit), its loss, and what its tokens are worth. */
double dlm_databound_size(const struct dlm_databound *d, double flops, double unique, double *loss, double *worth);

enum dlm_databound_by { DLM_BY_SURFACE, DLM_BY_LOSS_LAW, DLM_BY_FRONTIER, DLM_BY_ESTIMATES };
extern const char *const dlm_databound_names[DLM_BY_ESTIMATES];

struct dlm_contest {
    const char *a, *b; /* groups; borrowed from the laws */
    enum dlm_databound_by by;
    double flops, unique;
    double loss_a, loss_b, difference, lo, hi; /* difference = loss_a - loss_b */
    bool bands;                                /* the interval is more than the printed digits */
    double crossover, cross_lo, cross_hi;      /* unique tokens where the difference is 0 (the nearest one); NAN: none in sight */
    double seen_lo, seen_hi;                   /* where it was looked for */
    char assumes[256];
};

struct dlm_contests {
    struct dlm_contest *at; /* owned; by pair, budget, estimate; after a pair's budgets its frontier, with flops NAN */
    size_t n;
};

/* All pairs of groups that differ in noise and objective alone, at all budgets. `only`: pairs with this noise type or group; NULL:
 * all. */
int dlm_databound_compare(const struct dlm_laws *l, const double *flops, size_t n, double unique, const char *only,
                          struct dlm_contests *out, struct dlm_error *err);
/* Say of each pair that can be compared at its budget who is predicted better, how sure that is, and where it changes. */
int dlm_databound_tell(const struct dlm_contests *c, struct dlm_notes *notes, struct dlm_error *err);
int dlm_databound_write(const struct dlm_contests *c, FILE *f, const char *name, struct dlm_error *err);
void dlm_databound_release(struct dlm_contests *c);

#endif
