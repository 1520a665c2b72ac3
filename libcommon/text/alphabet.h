/* The byte-level alphabet: each byte has one printable character that stands for it in a tokenizer.json.
 *
 * The bytes 0x21-0x7e, 0xa1-0xac and 0xae-0xff stand for themselves as code points; the other 68, in order, are U+0100 onwards
 * (GPT-2's bytes_to_unicode). So a space is written "Ġ" and a line feed "Ċ".
 */
#ifndef DLM_TEXT_ALPHABET_H
#define DLM_TEXT_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point that stands for a byte, in [0x21, 0x143]. */
unsigned dlm_alphabet_point(uint8_t byte);

/* Write the characters of n bytes as UTF-8 into `to` (room for 2·n bytes, no terminator); returns the length. */
size_t dlm_alphabet_write(char *to, const uint8_t *bytes, size_t n);

/* Read them back into `to` (room for n bytes); *len is the number of bytes. False when some character is not of the alphabet. */
bool dlm_alphabet_read(uint8_t *to, size_t *len, const char *text, size_t n);

#endif
