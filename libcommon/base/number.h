/* Strict numbers: the whole string is the number, or it is none.
 *
 * Accepted: `64`, `4K` `2M` `1G` `1T` (powers of 1000), `4Ki` `2Mi` `1Gi` `1Ti` (of 1024), `1e18`, `2.5M`. No signs on counts, no white
 * space, no hexadecimal, no locale. Nothing here prints; false means "not such a number".
 */
#ifndef DLM_BASE_NUMBER_H
#define DLM_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole number in [0, 2^64). `2.5M` is one, `2.5` is not. */
bool dlm_number_count(const char *s, uint64_t *out);

/* A finite real with an optional suffix as above; a leading sign is allowed. */
bool dlm_number_real(const char *s, double *out);

/* A field of a TSV or JSON text: plain decimal real of `len` bytes, no suffix, `nan`/`inf` spellings refused. */
bool dlm_number_field(const char *s, size_t len, double *out);

#endif
