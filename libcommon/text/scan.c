/* Scanners of the named patterns.
 *
 * Each alternative of an expression is followed in its order; where the matcher would backtrack, a look at what the run ended with
 * decides instead. ASCII, most of any text, letters of other scripts and bytes that are not UTF-8 are cut by windows of 64 bytes: a
 * word of 64 bits for each class says where its characters are, and a few sums and shifts of those where pieces begin, so that the
 * length of a word costs no wrong guess of the processor. Where a window decides nothing (other characters, a long piece, the end of
 * the text), and on processors without SSE2, pieces are followed one by one.
 */
#include "text/scan.h"

#include "text/classes.h"
#include "text/utf8.h"

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

/* --- by windows --------------------------------------------------------------------------------------------------------------- */

#ifdef __SSE2__
/* Sixty-four bytes at once: a bit for each byte of each class, then for each that begins a piece. The first byte does; what comes
 * before it does not matter. */
enum { WINDOW = 64 };

struct window {
    uint64_t letter, lower, upper, digit, newline, blank, space, slash, quote, other; /* space: ' ' alone */
    uint64_t high, bad, lead; /* not ASCII; of those, what is certainly not of a character; what begins one that ends in the window */
};

#define BITS(condition) ((uint64_t)(unsigned)_mm_movemask_epi8(condition) << 16 * i)
#define EACH(field, condition) w->field |= BITS(condition)

/* The bytes at which no well-formed character begins and which none holds, after Unicode table 3-7. The last three, which may begin one
 * that ends beyond, are none of them. *lead: where characters begin that are not ASCII and end in the window. */
static inline uint64_t bad_bytes(const uint8_t *s, uint64_t high, uint64_t *lead)
{
    uint64_t rest = 0, two = 0, three = 0, four = 0, e0 = 0, ed = 0, f0 = 0, f4 = 0, from_90 = 0, from_a0 = 0;
#pragma GCC unroll 4
    for (int i = 0; i < WINDOW / 16; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(s + 16 * i));
#define ABOVE(c) _mm_cmpgt_epi8(x, _mm_set1_epi8((char)(c)))
#define BELOW(c) _mm_cmplt_epi8(x, _mm_set1_epi8((char)(c)))
#define IS(c) _mm_cmpeq_epi8(x, _mm_set1_epi8((char)(c)))
        rest |= BITS(BELOW(0xc0));
        two |= BITS(_mm_and_si128(ABOVE(0xc1), BELOW(0xe0)));
        three |= BITS(_mm_and_si128(ABOVE(0xdf), BELOW(0xf0)));
        four |= BITS(_mm_and_si128(ABOVE(0xef), BELOW(0xf5)));
        e0 |= BITS(IS(0xe0));
        ed |= BITS(IS(0xed));
        f0 |= BITS(IS(0xf0));
        f4 |= BITS(IS(0xf4));
        from_90 |= BITS(ABOVE(0x8f));
        from_a0 |= BITS(ABOVE(0x9f));
#undef ABOVE
#undef BELOW
#undef IS
    }
    two &= rest >> 1;
    three &= rest >> 1 & rest >> 2 & ~(e0 & ~(from_a0 >> 1)) & ~(ed & from_a0 >> 1);
    four &= rest >> 1 & rest >> 2 & rest >> 3 & ~(f0 & ~(from_90 >> 1)) & ~(f4 & from_90 >> 1);
    uint64_t second = two | three | four, third = three | four;
    *lead = second;
    return high & ~(second | second << 1 | third << 2 | four << 3) & UINT64_MAX >> 3;
}

static inline void classify(struct window *w, const uint8_t *s)
{
    const __m128i fold = _mm_set1_epi8(0x20), to_letter = _mm_set1_epi8((char)(128 - 'a')), letters = _mm_set1_epi8((char)(-128 + 26)),
                  to_upper = _mm_set1_epi8((char)(128 - 'A')), to_digit = _mm_set1_epi8((char)(128 - '0')),
                  digits = _mm_set1_epi8((char)(-128 + 10)), to_blank = _mm_set1_epi8((char)(128 - '\t')),
                  blanks = _mm_set1_epi8((char)(-128 + 5));
    *w = (struct window){0};
#pragma GCC unroll 4
    for (int i = 0; i < WINDOW / 16; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(s + 16 * i));
        EACH(high, x);
        EACH(letter, _mm_cmplt_epi8(_mm_add_epi8(_mm_or_si128(x, fold), to_letter), letters));
        EACH(upper, _mm_cmplt_epi8(_mm_add_epi8(x, to_upper), letters));
        EACH(digit, _mm_cmplt_epi8(_mm_add_epi8(x, to_digit), digits));
        EACH(blank, _mm_cmplt_epi8(_mm_add_epi8(x, to_blank), blanks));
        EACH(newline, _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\n')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\r'))));
        EACH(space, _mm_cmpeq_epi8(x, _mm_set1_epi8(' ')));
        EACH(slash, _mm_cmpeq_epi8(x, _mm_set1_epi8('/')));
        EACH(quote, _mm_cmpeq_epi8(x, _mm_set1_epi8('\'')));
    }
    w->lead = 0;
    w->bad = w->high ? bad_bytes(s, w->high, &w->lead) : 0;
    w->blank = (w->blank | w->space) & ~w->newline;
    w->lower = w->letter & ~w->upper;
    w->other = ~(w->letter | w->digit | w->blank | w->newline | w->bad);
}

/* The bits of runs in `set` that are in `from` or follow one of it in its run. */
static inline uint64_t rest_of_runs(uint64_t set, uint64_t from)
{
    return (((set + from) ^ set) | from) & set;
}

/* The third byte after each begin of `\p{N}{1,3}`, over and over. */
static inline uint64_t threes(uint64_t digit, uint64_t begin)
{
    uint64_t fourth = digit & digit << 1 & digit << 2 & digit << 3;
    for (uint64_t next = begin; fourth && next; begin |= next)
        next = next << 3 & fourth;
    return begin;
}

/* The beginnings that white space makes: of `\s*[\r\n]+`, of `\s+(?!\S)` behind its last newline, and its last character. Bad bytes
 * end the text. */
static inline uint64_t white_begins(uint64_t blank, uint64_t newline, uint64_t bad)
{
    uint64_t white = blank | newline, behind = blank & newline << 1, closed = (blank + behind) & newline;
    for (; closed; closed &= closed - 1) /* blanks with newlines on both sides begin nothing */
        behind &= ~(UINT64_C(1) << (63 - __builtin_clzll(behind & ((closed & -closed) - 1))));
    return (white & ~(white << 1)) | behind | (blank & ~((white | bad) >> 1));
}

static inline uint64_t begins_gpt2(const struct window *w, const struct text *t, size_t at)
{
    uint64_t white = w->blank | w->newline, joined = w->space << 1;
    uint64_t punctuation = w->other & ~(w->other << 1) & ~joined;
    uint64_t begin = (w->letter & ~(w->letter << 1) & ~joined) | (w->digit & ~(w->digit << 1) & ~joined) | punctuation |
                     (white & ~(white << 1)) | (white & ~((white | w->bad) >> 1));
    for (uint64_t q = punctuation & w->quote & w->letter >> 1; q; q &= q - 1) {
        unsigned from = (unsigned)__builtin_ctzll(q), n = (unsigned)(contraction(t, at + from, false) - at) - from;
        if (n && from + n < WINDOW)
            begin = (begin & ~(UINT64_C(2) << from)) | UINT64_C(1) << (from + n);
    }
    return begin;
}

static inline uint64_t begins_cl100k(const struct window *w, const struct text *t, size_t at)
{
    uint64_t newline = w->newline & ~rest_of_runs(w->newline, w->newline & w->other << 1);
    uint64_t punctuation = w->other & ~(w->other << 1) & ~(w->space << 1), joining = punctuation & w->letter >> 1;
    uint64_t begin = (w->letter & ~(w->letter << 1) & ~((w->blank | joining) << 1)) | threes(w->digit, w->digit & ~(w->digit << 1)) |
                     punctuation | white_begins(w->blank, newline, w->bad);
    for (uint64_t q = joining & w->quote; q; q &= q - 1) {
        unsigned from = (unsigned)__builtin_ctzll(q), n = (unsigned)(contraction(t, at + from, true) - at) - from;
        if (n && from + n < WINDOW)
            begin |= UINT64_C(1) << (from + n);
    }
    return begin;
}

static inline uint64_t begins_o200k(const struct window *w, const struct text *t, size_t at)
{
    uint64_t tail = rest_of_runs(w->newline | w->slash, w->newline & w->other << 1), newline = w->newline & ~tail, other = w->other & ~tail;
    uint64_t punctuation = other & ~(other << 1) & ~(w->space << 1), joining = punctuation & w->letter >> 1;
    uint64_t begin = (w->letter & ~(w->letter << 1) & ~((w->blank | joining) << 1)) | (w->upper & w->lower << 1) |
                     threes(w->digit, w->digit & ~(w->digit << 1)) | punctuation | white_begins(w->blank, newline, w->bad);
    unsigned done = 0; /* the end of the last contraction: none follows it at once */
    for (uint64_t q = joining & w->quote & w->letter << 1; q; q &= q - 1) {
        unsigned from = (unsigned)__builtin_ctzll(q), n = (unsigned)(contraction(t, at + from, true) - at) - from;
        if (!n || from == done)
            continue;
        done = from + n;
        begin = (begin & ~(((UINT64_C(1) << n) - 1) << from)) | (done < WINDOW ? UINT64_C(1) << done : 0);
    }
    return begin;
}

/* Letters that are not ASCII, all of their bytes: runs of letters do not care how long one is. Up to the first character that is none,
 * and for o200k that has no case. */
static inline void other_letters(struct window *w, const struct text *t, size_t at, bool cased)
{
    for (uint64_t lead = w->lead; lead; lead &= lead - 1) {
        unsigned n, c = look(t, at + (size_t)__builtin_ctzll(lead), &n);
        if (!(c & L) || (cased && (c & BIT(LETTER))))
            break;
        uint64_t bytes = (lead & -lead) * ((1u << n) - 1);
        w->high ^= bytes;
        w->other ^= bytes;
        w->letter |= bytes;
        w->upper |= c & BIT(UPPER) ? bytes : 0;
        w->lower |= c & BIT(LOWER) ? bytes : 0;
    }
}

/* The ends of pieces from `at` on that 64 bytes decide, none where there is no such; *at becomes the last. Of what is in the window, the
 * white space that ends it and two bytes before are left for the next: whether they begin a piece is seen from what follows. */
static inline size_t window(enum dlm_scan pattern, const struct text *t, size_t *at, size_t *ends)
{
    struct window w;
    classify(&w, t->s + *at);
    if (w.lead)
        other_letters(&w, t, *at, pattern == DLM_SCAN_O200K);
    uint64_t known = ~(w.blank | w.newline), high = w.high & ~w.bad;
    if (high)
        known &= (high & -high) - 1;
    if (known < 8)
        return 0;
    uint64_t begin = pattern == DLM_SCAN_GPT2     ? begins_gpt2(&w, t, *at)
                     : pattern == DLM_SCAN_CL100K ? begins_cl100k(&w, t, *at)
                                                  : begins_o200k(&w, t, *at);
    begin |= w.bad ^ w.bad << 1;
    begin &= (UINT64_C(1) << (62 - __builtin_clzll(known))) - 2;
    size_t n = 0;
    for (; begin; begin &= begin - 1)
        ends[n++] = *at + (size_t)__builtin_ctzll(begin);
    *at = n ? ends[n - 1] : *at;
    return n;
}
#else
enum { WINDOW = 64 };

/* Without SSE2 no window decides anything. */
static inline size_t window(enum dlm_scan pattern, const struct text *t, size_t *at, size_t *ends)
{
    (void)pattern, (void)t, (void)at, (void)ends;
    return 0;
}
#endif

/* Pieces from `at` on: by windows where those decide, one by one otherwise. */
static inline size_t scan(enum dlm_scan pattern, const uint8_t *text, size_t at, size_t len, size_t stop, size_t *valid,
                          size_t *ends, size_t max)
{
    struct text t = {text, *valid}; /* well-formed up to its end, where that is beyond `at` */
    size_t n = 0;
    unsigned wait = 0, last = 1; /* pieces that are followed one by one before the next window, and after the last that failed */
    while (n < max && at < stop) {
        if (wait) {
            wait--;
        } else if (len - at >= WINDOW) {
            size_t many = window(pattern, &(struct text){text, len}, &at, ends + n);
            n += many;
            if (many) {
                last = 1;
                continue;
            }
            wait = last - 1;
            last = last < 16 ? 2 * last : last;
        }
        if (at >= t.len)
            t.len = at + dlm_utf8_prefix(text + at, len - at);
        if (at == t.len) {
            do
                at++;
            while (at < stop && !dlm_utf8_char(text + at, len - at));
        } else {
            at = pattern == DLM_SCAN_GPT2     ? next_gpt2(&t, at)
                 : pattern == DLM_SCAN_CL100K ? next_cl100k(&t, at)
                                              : next_o200k(&t, at);
        }
        ends[n++] = at;
    }
    while (n > 1 && ends[n - 2] >= stop)
        n--;
    *valid = t.len;
    return n;
}

size_t dlm_scan_pieces(enum dlm_scan pattern, const uint8_t *text, size_t at, size_t len, size_t stop, size_t *valid,
                       size_t *ends, size_t max)
{
    switch (pattern) {
    case DLM_SCAN_GPT2: return scan(DLM_SCAN_GPT2, text, at, len, stop, valid, ends, max);
    case DLM_SCAN_CL100K: return scan(DLM_SCAN_CL100K, text, at, len, stop, valid, ends, max);
    case DLM_SCAN_O200K: return scan(DLM_SCAN_O200K, text, at, len, stop, valid, ends, max);
    case DLM_SCAN_NONE: break;
    }
    return 0;
}
