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

/* Most fields have at most 15 digits or so: where the digits as a whole number are below 2^53 and the power of ten is one that a double
 * holds exactly, one product or quotient rounds correctly, as strtod would. False: for strtod to say. */
static bool short_field(const char *s, size_t len, double *out)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *p = s, *end = s + len;
    const bool negative = p < end && *p == '-';
    p += p < end && (*p == '-' || *p == '+');
    uint64_t whole = 0;
    int digits = 0, power = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++, digits++)
        whole = 10 * whole + (uint64_t)(*p - '0');
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, digits++, power--)
            whole = 10 * whole + (uint64_t)(*p - '0');
    if (!digits || digits > 18) /* more could have wrapped around */
        return false;
    if (p < end && (*p == 'e' || *p == 'E')) {
        const char *first = ++p;
        const bool down = p < end && *p == '-';
        int e = 0;
        p += p < end && (*p == '-' || *p == '+');
        first = p;
        for (; p < end && *p >= '0' && *p <= '9' && e < 1000; p++)
            e = 10 * e + (*p - '0');
        if (p == first)
            return false;
        power += down ? -e : e;
    }
    if (p != end || whole >> 53 || power > 22 || power < -22)
        return false;
    const double v = power < 0 ? (double)whole / ten[-power] : (double)whole * ten[power];
    *out = negative ? -v : v;
    return true;
}

bool dlm_number_field(const char *s, size_t len, double *out)
{
    if (short_field(s, len, out))
        return true;
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
