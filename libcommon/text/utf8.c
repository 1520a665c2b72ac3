/* UTF-8 well-formedness, after Unicode table 3-7. */
#include "text/utf8.h"

#include <string.h>

size_t dlm_utf8_char(const uint8_t *s, size_t n)
{
    uint8_t a = s[0];
    if (a < 0x80)
        return 1;
    if (a < 0xc2 || a > 0xf4)
        return 0;
    size_t len = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    uint8_t low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    uint8_t high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

size_t dlm_utf8_prefix(const uint8_t *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (i + 8 <= n && (memcpy(&word, s + i, 8), !(word & 0x8080808080808080u))) /* most text is ASCII */
            i += 8;
        if (i == n)
            break;
        size_t len = dlm_utf8_char(s + i, n - i);
        if (!len)
            break;
        i += len;
    }
    return i;
}
