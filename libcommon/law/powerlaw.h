/* A power law y = A·x^k through optima, and its rows in a law file: what the analyses that make their own points and resamples
 * end with. */
#ifndef DLM_LAW_POWERLAW_H
#define DLM_LAW_POWERLAW_H

#include "law/bootstrap.h"
#include "law/fit.h"
#include "law/lawfile.h"
#include "law/notes.h"

struct dlm_powerlaw {
    const char *group, *y, *x, *by;
    const struct dlm_sample *sample; /* the points that were fitted, in logs */
    const struct dlm_fit *fit;
    const struct dlm_bootstrap *bootstrap;
    const struct dlm_draws *draws; /* NULL: no interval */
    size_t at;                     /* its columns `at` and at + 1 are A and k */
};

/* Terms and range to `laws`, the band to `bands`; a note where k is not determined or only weakly. */
int dlm_powerlaw_rows(const struct dlm_powerlaw *p, struct dlm_laws *laws, struct dlm_laws *bands, struct dlm_notes *notes,
                      struct dlm_error *err);

#endif
