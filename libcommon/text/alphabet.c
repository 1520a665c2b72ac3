/* The byte-level alphabet. Computed, not tabled: the rule is three ranges. */
#include "text/alphabet.h"

unsigned dlm_alphabet_point(uint8_t b)
{
    if (b < 0x21) /* 0x00-0x20 are the first 33 displaced bytes */
        return 0x100u + b;
    if (b < 0x7f)
        return b;
    if (b < 0xa1) /* 0x7f-0xa0 are the next 34 */
        return 0x100u + 33 + (b - 0x7fu);
    return b == 0xad ? 0x143u : b;
}

size_t dlm_alphabet_write(char *to, const uint8_t *bytes, size_t n)
{
    char *p = to;
    for (size_t i = 0; i < n; i++) {
        unsigned c = dlm_alphabet_point(bytes[i]);
        if (c < 0x80) {
            *p++ = (char)c;
        } else {
            *p++ = (char)(0xc0 | c >> 6);
            *p++ = (char)(0x80 | (c & 0x3f));
        }
    }
    return (size_t)(p - to);
}

/* The byte behind a code point, or -1. */
static int byte_of(unsigned c)
{
    if ((c >= 0x21 && c < 0x7f) || (c >= 0xa1 && c <= 0xff && c != 0xad))
        return (int)c;
    if (c >= 0x100 && c <= 0x120)
        return (int)(c - 0x100);
    if (c > 0x120 && c < 0x143)
        return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

bool dlm_alphabet_read(uint8_t *to, size_t *len, const char *text, size_t n)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = s[i];
        if (c >= 0x80) { /* two bytes are all that the alphabet needs */
            if (i + 1 >= n || c < 0xc2 || c > 0xdf || (s[i + 1] & 0xc0) != 0x80)
                return false;
            c = (c & 0x1f) << 6 | (s[++i] & 0x3f);
        }
        int b = byte_of(c);
        if (b < 0)
            return false;
        to[k++] = (uint8_t)b;
    }
    *len = k;
    return true;
}
