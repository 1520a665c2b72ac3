/* UTF-8 well-formedness (Unicode table 3-7: no overlong forms, no surrogates, nothing beyond U+10FFFF). */
#ifndef DLM_TEXT_UTF8_H
#define DLM_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the well-formed sequence at s, 0 when there is none. n ≥ 1. */
size_t dlm_utf8_char(const uint8_t *s, size_t n);

/* Number of leading bytes that are well-formed UTF-8. */
size_t dlm_utf8_prefix(const uint8_t *s, size_t n);

#endif
