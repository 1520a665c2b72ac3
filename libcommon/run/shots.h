/* Examples put before a question: K lines of a file of solved items, as text.
 *
 * Which ones is drawn for each item from (seed, hash of its line), so that order and number of the items change nothing; a line that is the item itself is
 * never among them. A solved item reads as its parts in order with the right answer in its place, or its
 * "solution" where it has one; examples end with an empty line.
 */
#ifndef DLM_RUN_SHOTS_H
#define DLM_RUN_SHOTS_H

#include "run/jsonlines.h"

struct dlm_shots {
    char **text;  /* (n), owned: the solved items */
    size_t *len;
    uint64_t *line; /* (n) hashes of the lines they came from */
    size_t n, cap;
    size_t k;     /* examples an item */
    uint64_t seed;
};

/* Read every line of `path`; k > 0. DLM_EDATA when a line is no solved item, or there are too few lines. */
int dlm_shots_read(struct dlm_shots *s, const char *path, size_t k, uint64_t seed, struct dlm_error *err);
void dlm_shots_release(struct dlm_shots *s);
/* The examples for an item whose line is `line` (len): malloc'ed, NUL-terminated, *n bytes. Without shots (k = 0) it is empty. */
int dlm_shots_draw(const struct dlm_shots *s, const char *line, size_t len, char **out, size_t *n, struct dlm_error *err);

#endif
