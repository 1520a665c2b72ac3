/* Prompts: texts that samples begin with, fill in or correct, from the command line, from files and from JSON Lines, and their ids.
 *
 * A prompt's ids are what the encoder gives, without an end id that a post-processor put last: the text is to go on.
 */
#ifndef DLM_RUN_PROMPTS_H
#define DLM_RUN_PROMPTS_H

#include "base/error.h"
#include "text/vocab.h"

#include <stddef.h>
#include <stdint.h>

struct dlm_prompt {
    char *text;     /* owned; any bytes, len of them, NUL-terminated */
    size_t len;
    uint32_t *ids;  /* owned */
    size_t n;
};

struct dlm_prompts {
    struct dlm_prompt *at; /* owned */
    size_t n, cap;
    bool gaps;       /* set before the first is added: special tokens written in a text are their ids, and each mask is a gap */
    size_t gap;      /* of so many ids, each the mask; 0 is 1 */
};

/* Add one text. Longer than `most` ids is an error that says so. */
int dlm_prompts_add(struct dlm_prompts *p, const struct dlm_vocab *v, const char *text, size_t len, size_t most, struct dlm_error *err);
/* Add the string `field` of every line of a JSON Lines file ("-": standard input); blank lines are skipped. Errors name file
 * and line. */
int dlm_prompts_read(struct dlm_prompts *p, const struct dlm_vocab *v, const char *path, const char *field, size_t most, struct dlm_error *err);
/* Add the whole of a file ("-": standard input) as one text. */
int dlm_prompts_read_file(struct dlm_prompts *p, const struct dlm_vocab *v, const char *path, size_t most, struct dlm_error *err);
void dlm_prompts_release(struct dlm_prompts *p);

#endif
