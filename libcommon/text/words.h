/* Counting the distinct words of a text of any length.
 *
 * Each lane counts into a table of its own, which a thread has to itself; a lane's table that has grown past its share is
 * emptied into the one that all of them have in common. So memory goes with the distinct words and never with the text: per
 * distinct word at most 200 bytes and, where it is longer than 15 bytes, four times its length, and at most 40 MB a lane
 * besides. Words are found by a hash that is drawn anew for each counting, so that no text is slow on purpose; in which order
 * the words come is therefore left open.
 *
 * Lanes may add at the same time. Everything else is for one thread, when no lane is adding.
 */
#ifndef DLM_TEXT_WORDS_H
#define DLM_TEXT_WORDS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { DLM_WORDS_PARTS = 64 };

/* A word of up to 15 bytes lies here itself, the length in the last byte; of a longer one, the place in its part's text. */
struct dlm_word {
    uint64_t key[2];
    uint64_t hash, count; /* count 0: an empty slot */
};

/* The words whose hash begins alike; open addressing. */
struct dlm_words_part {
    struct dlm_word *slots; /* mask + 1 of them; NULL before the first word */
    size_t mask, used;
    uint8_t *text; /* of the long words */
    size_t text_len, text_cap;
    uint64_t bytes; /* of all the distinct words */
};

struct dlm_words;

int dlm_words_new(struct dlm_words **out, size_t lanes, struct dlm_error *err);
void dlm_words_free(struct dlm_words *w);

/* Count the words that end at ends[0 … n) within text, the first beginning at text[0]; text[0..room) may be read. */
int dlm_words_add(struct dlm_words *w, size_t lane, const uint8_t *text, size_t room, const size_t *ends, size_t n,
                  struct dlm_error *err);

/* Everything counted so far, in DLM_WORDS_PARTS parts; owned by w, until more is added. Runs in as many threads as there are
 * lanes. */
int dlm_words_gather(struct dlm_words *w, const struct dlm_words_part **parts, struct dlm_error *err);

/* The bytes of a word of this part; owned by it. */
const uint8_t *dlm_word_bytes(const struct dlm_words_part *part, const struct dlm_word *word, size_t *len);

#endif
