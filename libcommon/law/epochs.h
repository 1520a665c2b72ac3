/* Data-bound laws (method.md §7, step 7): loss where D tokens are U unique ones seen e = D/U times: `dlm-fitlaw epochs`.
 *
 *   L = E + a·N^-alpha + b·D'^-beta
 *   saturating   D' = U + U·R·(1 - exp(-(e - 1)/R))                                 (arXiv 2305.16264, 2507.15857)
 *   stretched    D' = U·e^p·exp(-((e - 1)/(R·U^0.39/N^0.55))^q)                     (arXiv 2510.03280)
 *
 * Terms lean on each other and runs are few, so intervals are `student` ones unless a kind was asked for: of 1000 studies of 24
 * runs they held 945 to 962 times (tests/unit/law_epochs.c), where percentiles held 925 to 980 times and bias-corrected ones 860 to 910.
 *
 * N is the parameters. Up to one epoch D' = D in both. With `saturating`, many epochs are worth 1 + R at most.
 */
#ifndef DLM_LAW_EPOCHS_H
#define DLM_LAW_EPOCHS_H

#include "law/estimate.h"

enum dlm_epochs_form { DLM_EPOCHS_SATURATING, DLM_EPOCHS_STRETCHED };
enum { DLM_EPOCHS_TERMS = 8 };
/* E a alpha b beta R (p q): 6 or 8 of them. */
extern const char *const dlm_epochs_terms[DLM_EPOCHS_TERMS];
int dlm_epochs_count(enum dlm_epochs_form form);

/* The loss after `tokens`, and what they are worth in unique ones. */
double dlm_epochs_loss(enum dlm_epochs_form form, const double *value, double params, double unique, double tokens);
double dlm_epochs_worth(enum dlm_epochs_form form, const double *value, double params, double unique, double tokens);
/* The least loss that `unique` tokens allow, whatever the size and the number of epochs. */
double dlm_epochs_bound(enum dlm_epochs_form form, const double *value, double unique);

/* Where, in unique tokens, two groups are bound alike; below `at`, `first` is the better one. */
struct dlm_crossover {
    const struct dlm_group *first, *second;
    double at;              /* NAN: within the range told of there is none */
    struct dlm_interval in; /* NAN unless determined */
    bool determined;        /* by the interval: of the resamples, `share` cross there and in this direction */
    double share;
    const struct dlm_group *better; /* where at is NAN: the better one throughout the range of unique tokens */
};

struct dlm_epochs {
    enum dlm_epochs_form form;
    size_t n;                          /* groups of the study */
    const struct dlm_group **group;    /* (n) */
    double (*value)[DLM_EPOCHS_TERMS]; /* (n), NAN where a group has no fit */
    double *low, *high;                /* (n): range of its unique tokens */
    struct dlm_crossover *crossovers;  /* of each pair */
    size_t n_crossovers;
};

/* The study must have been read against x = "tokens" with sizes, params and unique tokens. The laws: `epochs.saturating` or
 * `epochs.stretched` (terms as above, y loss, x tokens), and the data-bound one, y loss, x unique_tokens: `loss` with A beta B
 * where it has that form, and its band. */
int dlm_epochs_find(const struct dlm_study *s, const struct dlm_estimate *how, enum dlm_epochs_form form,
                    struct dlm_epochs *out, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err);
void dlm_epochs_release(struct dlm_epochs *e);

#endif
