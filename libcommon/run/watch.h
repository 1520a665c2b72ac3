/* A text as it comes out of the noise, drawn on a terminal again and again in the same place.
 *
 * For people, not for programs: refused by the command where standard error is no terminal. At most 30 pictures a second are drawn, and each is cut to
 * the terminal's size; drawing changes nothing in the text.
 */
#ifndef DLM_RUN_WATCH_H
#define DLM_RUN_WATCH_H

#include "text/vocab.h"

#include <stdio.h>

struct dlm_watch {
    FILE *terminal;                /* borrowed */
    const struct dlm_vocab *vocab; /* borrowed */
    uint32_t mask;
    unsigned lines;                /* of the picture that stands there */
    double drawn;                  /* when, s */
};

/* The first n ids, under the heading `title`. Masks are drawn as shaded blocks, special ids by name. `last`: draw it whatever the time. */
void dlm_watch_draw(struct dlm_watch *w, const char *title, const uint32_t *ids, size_t n, bool last);
/* The same as plain text, within one line and without its end: masks as shaded blocks, special ids by name, control characters as spaces. */
void dlm_watch_line(FILE *to, const struct dlm_vocab *v, uint32_t mask, const uint32_t *ids, size_t n);
/* Take the picture away, so that what is written next stands where it stood. */
void dlm_watch_erase(struct dlm_watch *w);

#endif
