/* Cutting text into pieces by hand, for the patterns gpt2, cl100k and o200k: what their expressions match, without a matcher.
 *
 * The matches of these three lie side by side, so a piece is known by its end alone. Every scan is linear in what it passes,
 * however often a piece has to give characters back.
 */
#ifndef DLM_TEXT_SCAN_H
#define DLM_TEXT_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum dlm_scan { DLM_SCAN_NONE, DLM_SCAN_GPT2, DLM_SCAN_CL100K, DLM_SCAN_O200K };

/* How many more than `max` dlm_scan_pieces may give. */
enum { DLM_SCAN_MORE = 64 };

/* The ends of the pieces of text[0..len) that begin at or after `at`, which is the beginning of one, and before `stop` ≤ len, in
 * order, the last perhaps beyond `stop`; no more are looked for once `max` are there. Returns how many. What is not UTF-8 is cut
 * as split.h says. *valid: text[at..*valid) is well-formed and ends with `len` or before what is not; 0 at first, kept between
 * calls for one text so that nothing is looked at again and again. */
size_t dlm_scan_pieces(enum dlm_scan pattern, const uint8_t *text, size_t at, size_t len, size_t stop, size_t *valid,
                       size_t *ends, size_t max);

#endif
