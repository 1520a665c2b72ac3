/* Which pairs become tokens: the merges of a byte-level BPE vocabulary, made from counted words.
 *
 * The most frequent pair of neighbouring tokens becomes a token, again and again; of equally frequent pairs, the one whose left
 * id is smaller, then the one whose right id is. Ids count from 0 without special tokens: the 256 bytes by the characters that
 * stand for them, then what was merged, in its order. Overlapping occurrences ("aaa" holds "aa" twice) count as often as they
 * are seen and are merged from the left. All of that is what Hugging Face's BpeTrainer does. Pairs that would make a token of
 * more than 65,535 bytes stay two, as do those that would make one that is written like a special token.
 *
 * An occurrence is looked at when it comes to be and when it goes, and no more often: time goes with the bytes of the distinct
 * words, however long a word is, and with pairs times the logarithm of how many are equally frequent. Memory is at most 90
 * bytes for each byte of the distinct words, and 20 in usual text.
 */
#ifndef DLM_TEXT_MERGING_H
#define DLM_TEXT_MERGING_H

#include "base/error.h"
#include "text/compose.h"
#include "text/words.h"

#include <stddef.h>
#include <stdint.h>

/* What came of it; zeros before, and to be released afterwards. */
struct dlm_merges {
    struct dlm_token_bytes *tokens; /* (n_tokens) by id */
    size_t n_tokens;
    uint32_t (*pairs)[2];           /* (n_pairs) left and right, in order */
    size_t n_pairs;
    uint8_t *text;                  /* of the tokens */
};

/* Called now and then with the number of tokens so far; non-zero ends the work with that value. */
typedef int dlm_merges_fn(void *to, size_t n_tokens);

struct dlm_merges_wish {
    size_t n_tokens;             /* to stop at */
    uint64_t min_frequency;      /* pairs seen less often are left alone */
    const char *const *specials; /* (n_specials) written forms that no token may have */
    size_t n_specials;
    dlm_merges_fn *progress;     /* may be NULL */
    void *to;
};

/* Merge the words gathered in w, which is freed on the way, whatever comes of it. */
int dlm_merges_find(struct dlm_merges *out, struct dlm_words *w, const struct dlm_merges_wish *wish, struct dlm_error *err);
void dlm_merges_release(struct dlm_merges *m);

#endif
