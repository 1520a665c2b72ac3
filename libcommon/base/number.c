/* Strict numbers. strtod is used only on text already checked to be digits, so no locale and no hexadecimal slips in
 * (the commands never call setlocale, so the decimal sign is a dot). */
#include "base/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Length of the decimal literal at s: digits[.digits][e[+-]digits], at most `max` bytes; 0 when there is none. */
static size_t literal(const char *s, size_t max)
{
    size_t i = 0, digits = 0;
    for (; i < max && s[i] >= '0' && s[i] <= '9'; i++)
        digits++;
    if (i < max && s[i] == '.')
        for (i++; i < max && s[i] >= '0' && s[i] <= '9'; i++)
            digits++;
    if (!digits)
        return 0;
    if (i < max && (s[i] == 'e' || s[i] == 'E')) {
        size_t j = i + 1;
        if (j < max && (s[j] == '+' || s[j] == '-'))
            j++;
        size_t first = j;
        while (j < max && s[j] >= '0' && s[j] <= '9')
            j++;
        if (j > first)
            i = j;
    }
    return i;
}

static bool suffix(const char *s, double *scale)
{
    static const char letters[] = "KMGTPE";
    if (!*s) {
        *scale = 1;
        return true;
    }
    const char *at = strchr(letters, *s);
    if (!at)
        return false;
    double base = s[1] == 'i' ? 1024 : 1000;
    if (s[base == 1024 ? 2 : 1])
        return false;
    *scale = pow(base, (double)(at - letters + 1));
    return true;
}

bool dlm_number_real(const char *s, double *out)
{
    const char *p = s + (*s == '-' || *s == '+');
    size_t n = literal(p, strlen(p));
    double scale;
    if (!n || !suffix(p + n, &scale))
        return false;
    double v = strtod(s, NULL) * scale;
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

bool dlm_number_count(const char *s, uint64_t *out)
{
    size_t n = strlen(s);
    if (n && n <= 20 && strspn(s, "0123456789") == n) { /* exact beyond 2^53 */
        uint64_t v = 0;
        for (size_t i = 0; i < n; i++)
            if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
                return false;
        *out = v;
        return true;
    }
    double v;
    if (*s == '-' || *s == '+' || !dlm_number_real(s, &v) || v != floor(v) || v >= 0x1p64)
        return false;
    *out = (uint64_t)v;
    return true;
}

bool dlm_number_field(const char *s, size_t len, double *out)
{
    char text[64];
    size_t sign = len && (*s == '-' || *s == '+');
    if (len >= sizeof text || literal(s + sign, len - sign) != len - sign || len == sign)
        return false;
    memcpy(text, s, len);
    text[len] = 0;
    double v = strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}
