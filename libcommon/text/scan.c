/* Scanners of the named patterns.
 *
 * Each alternative of an expression is followed in its order; where the matcher would backtrack, a look at what the run ended with
 * decides instead. ASCII letters, most of any text, are found sixteen at a time, so that the length of a word costs no wrong guess
 * of the processor.
 */
#include "text/scan.h"

#include "text/classes.h"

#include <stdbool.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BIT(c) (1u << DLM_CLASS_##c)
enum {
    L = BIT(UPPER) | BIT(LOWER) | BIT(LETTER),
    N = BIT(NUMBER),
    S = BIT(SPACE) | BIT(NEWLINE),
    P = BIT(OTHER) | BIT(MARK),                                   /* [^\s\p{L}\p{N}] */
    HEAD = BIT(UPPER) | BIT(LETTER) | BIT(MARK),                  /* of o200k's words */
    TAIL = BIT(LOWER) | BIT(LETTER) | BIT(MARK),
};

/* A text that is being scanned; no bytes beyond len are touched. */
struct text {
    const uint8_t *s;
    size_t len;
};

/* The class of the character at `at` < len as a bit, and its length. */
static inline unsigned look(const struct text *t, size_t at, unsigned *n)
{
    const uint8_t *s = t->s + at;
    if (s[0] < 0x80) {
        *n = 1;
        return 1u << dlm_class_block[dlm_class_index[0]][s[0]];
    }
    uint32_t c;
    if (s[0] < 0xe0) {
        *n = 2;
        c = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    } else if (s[0] < 0xf0) {
        *n = 3;
        c = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    } else {
        *n = 4;
        c = (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
    }
    return 1u << dlm_class_of(c);
}

/* The class at `at`, 0 at the end. */
static inline unsigned peek(const struct text *t, size_t at)
{
    unsigned n;
    return at < t->len ? look(t, at, &n) : 0;
}

/* The end of the run of classes in `set` that begins at `at`. */
static inline size_t run(const struct text *t, size_t at, unsigned set)
{
    unsigned n;
    while (at < t->len && (look(t, at, &n) & set))
        at += n;
    return at;
}

/* The end of the ASCII letters at `at`: of lower case alone, or of both. */
static inline size_t ascii_letters(const struct text *t, size_t at, bool lower_only)
{
#ifdef __SSE2__
    const __m128i fold = _mm_set1_epi8(lower_only ? 0 : 0x20), shift = _mm_set1_epi8((char)(128 - 'a')),
                  most = _mm_set1_epi8((char)(-128 + 25));
    while (at + 16 <= t->len) {
        __m128i x = _mm_loadu_si128((const __m128i *)(t->s + at));
        __m128i y = _mm_add_epi8(_mm_or_si128(x, fold), shift); /* a … z become the 26 smallest signed bytes */
        unsigned not = (unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(y, most));
        if (not)
            return at + (unsigned)__builtin_ctz(not);
        at += 16;
    }
#endif
    while (at < t->len && (uint8_t)((t->s[at] | (lower_only ? 0 : 0x20)) - 'a') < 26)
        at++;
    return at;
}

static inline size_t letters(const struct text *t, size_t at)
{
    for (;;) {
        at = ascii_letters(t, at, false);
        if (at == t->len || t->s[at] < 0x80)
            return at;
        unsigned n;
        if (!(look(t, at, &n) & L))
            return at;
        at += n;
    }
}

/* The end of the contraction at the apostrophe at `at`, or `at`. Without regard to case, "ſ" is an s, too. */
static inline size_t contraction(const struct text *t, size_t at, bool any_case)
{
    size_t left = t->len - at;
    if (left < 2)
        return at;
    unsigned fold = any_case ? 0x20 : 0, a = t->s[at + 1] | fold, b = left > 2 ? t->s[at + 2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return at + 3;
    if (any_case && left > 2 && t->s[at + 1] == 0xc5 && t->s[at + 2] == 0xbf)
        return at + 3;
    return at;
}

/* The piece of white space at `at`. with_newlines: `\s*[\r\n]+` comes first; then `\s+(?!\S)|\s+`. */
static size_t spaces(const struct text *t, size_t at, bool with_newlines)
{
    size_t end = at, last = at, newline = 0;
    while (end < t->len) {
        unsigned n, c = look(t, end, &n);
        if (!(c & S))
            break;
        last = end;
        end += n;
        if (c & BIT(NEWLINE))
            newline = end;
    }
    if (with_newlines && newline)
        return newline;
    return end == t->len || last == at ? end : last;
}

static inline size_t next_gpt2(const struct text *t, size_t at)
{
    size_t from = at + (t->s[at] == ' ');
    if (t->s[at] == '\'') {
        size_t end = contraction(t, at, false);
        if (end > at)
            return end;
    }
    unsigned c = peek(t, from);
    if (c & L)
        return letters(t, from);
    if (c & N)
        return run(t, from, N);
    if (c & P)
        return run(t, from, P);
    return spaces(t, at, false);
}

/* `\p{N}{1,3}` */
static inline size_t digits(const struct text *t, size_t at)
{
    unsigned n;
    for (int i = 0; i < 3 && at < t->len && (look(t, at, &n) & N); i++)
        at += n;
    return at;
}

/* ` ?[^\s\p{L}\p{N}]+[\r\n]*`, with o200k's slashes; `at` where it does not match. */
static inline size_t punctuation(const struct text *t, size_t at, bool slashes)
{
    size_t from = at + (t->s[at] == ' ');
    if (!(peek(t, from) & P))
        return at;
    from = run(t, from, P);
    while (from < t->len && (t->s[from] == '\r' || t->s[from] == '\n' || (slashes && t->s[from] == '/')))
        from++;
    return from;
}

static inline size_t next_cl100k(const struct text *t, size_t at)
{
    if (t->s[at] == '\'') {
        size_t end = contraction(t, at, true);
        if (end > at)
            return end;
    }
    unsigned n, c = look(t, at, &n);
    if (c & L)
        return letters(t, at);
    if (c & N)
        return digits(t, at);
    if (!(c & BIT(NEWLINE)) && (peek(t, at + n) & L))
        return letters(t, at + n);
    size_t end = punctuation(t, at, false);
    return end > at ? end : spaces(t, at, true);
}

/* `HEAD*TAIL+` at `at`, or `at`. HEAD* takes all it can and gives back until a tail follows: the last character of the run that is
 * both, unless one of lower case comes next. */
static inline size_t tailed(const struct text *t, size_t at)
{
    size_t end = at, both = at;
    unsigned n, c = 0;
    while (end < t->len && ((c = look(t, end, &n)) & HEAD)) {
        end += n;
        if (c & TAIL)
            both = end;
    }
    if (end == t->len || !(c & TAIL))
        return both;
    for (;;) { /* a lower case letter is there */
        end = ascii_letters(t, end, true);
        if (end == t->len || !(look(t, end, &n) & TAIL))
            return end;
        end += n;
    }
}

static inline size_t next_o200k(const struct text *t, size_t at)
{
    unsigned n, c = look(t, at, &n);
    size_t from = at + (c & (L | N | BIT(NEWLINE)) ? 0 : n); /* behind [^\r\n\p{L}\p{N}]? */
    size_t end = c & N ? at : from;
    if (!(c & N)) {
        end = tailed(t, from);
        if (end == from && (c & BIT(MARK))) { /* the mark is a word itself when none follows it */
            end = from = at + n;
            goto word;
        }
        if (end == from)
            end = run(t, from, HEAD);
        if (end > from)
            goto word;
    }
    if (c & N)
        return digits(t, at);
    end = punctuation(t, at, true);
    return end > at ? end : spaces(t, at, true);
word:
    return end < t->len && t->s[end] == '\'' ? contraction(t, end, true) : end;
}

#define SCAN(next)                                                                                                               \
    for (; n < max && at < stop; n++)                                                                                            \
    ends[n] = at = next(&t, at)

size_t dlm_scan_pieces(enum dlm_scan pattern, const uint8_t *text, size_t at, size_t len, size_t stop, size_t *ends, size_t max)
{
    struct text t = {text, len};
    size_t n = 0;
    switch (pattern) {
    case DLM_SCAN_GPT2: SCAN(next_gpt2); break;
    case DLM_SCAN_CL100K: SCAN(next_cl100k); break;
    case DLM_SCAN_O200K: SCAN(next_o200k); break;
    case DLM_SCAN_NONE: break;
    }
    return n;
}
