/* Reading tiktoken rank files.
 *
 * Every way to part a token in two is tried. So that this takes no longer than the token is long, tokens are found by a hash of which that of
 * any part of a text follows from those of the text's beginnings: sum of (byte + 1) base^place modulo 2^61 - 1, base drawn by the system.
 */
#include "text/ranks.h"

#include "text/compose.h"
#include "text/vocab_body.h"

#include <stdlib.h>
#include <string.h>
/* Merges are bounded by the size of the file; those of published files, of up to 200,000 tokens, are an eighth of its bytes. */
enum { MAX_HOLES = 1 << 16, MERGES = 1 << 16, BYTES_A_MERGE = 4, TEXT = 1 << 20, TEXT_A_BYTE = 8 };

static const uint64_t prime = ((uint64_t)1 << 61) - 1;

struct ranks {
    const char *path;
    struct dlm_error *err;
    uint8_t *bytes;                 /* of all tokens */
    struct dlm_token_bytes *tokens; /* by rank; len 0 in a hole */
    size_t n;
    uint64_t *hash;  /* by rank */
    uint32_t *slots; /* ranks by the hash of their bytes, UINT32_MAX empty */
    size_t mask, longest, size; /* longest: bytes of a token; size: of the file */
    uint64_t base;
    uint32_t (*merges)[2];
    size_t n_merges, cap_merges;
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* Decode base64 of n characters into `to`; the length, or 0 when it is none. */
static size_t base64(uint8_t *to, const char *s, size_t n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = 0, padding = 0;
    uint32_t word = 0;
    if (!n || n % 4)
        return 0;
    while (padding < 2 && s[n - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < n; i++) {
        const char *p = i < n - padding ? memchr(alphabet, s[i], 64) : alphabet;
        if (!p)
            return 0;
        word = word << 6 | (uint32_t)(p - alphabet);
        if (i % 4 == 3) {
            to[len++] = (uint8_t)(word >> 16);
            to[len++] = (uint8_t)(word >> 8);
            to[len++] = (uint8_t)word;
            word = 0;
        }
    }
    return len - padding;
}

/* a b modulo the prime, of numbers below it. */
static uint64_t times(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    uint64_t s = (uint64_t)(p & prime) + (uint64_t)(p >> 61);
    return s >= prime ? s - prime : s;
}

static uint64_t append(const struct ranks *r, uint64_t hash, uint8_t byte)
{
    uint64_t s = times(hash, r->base) + byte + 1;
    return s >= prime ? s - prime : s;
}

static uint32_t *place(const struct ranks *r, uint64_t hash, const uint8_t *bytes, size_t len)
{
    size_t i = (hash ^ hash >> 32) & r->mask;
    for (; r->slots[i] != UINT32_MAX; i = (i + 1) & r->mask) {
        const struct dlm_token_bytes *t = &r->tokens[r->slots[i]];
        if (t->len == len && r->hash[r->slots[i]] == hash && !memcmp(t->at, bytes, len))
            break;
    }
    return &r->slots[i];
}

static int bad_line(const struct ranks *r, size_t line, const char *what)
{
    return dlm_fail(r->err, DLM_EDATA, "'%s' is no tiktoken rank file: line %zu %s", r->path, line, what);
}

static int read_lines(struct ranks *r, const char *text, size_t n)
{
    size_t lines = 1, line = 0, used = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    size_t limit = 2 * lines + MAX_HOLES, slots = 16;
    while (slots < 2 * lines)
        slots *= 2;
    r->bytes = malloc(n + 3);
    r->tokens = calloc(limit, sizeof *r->tokens);
    r->slots = malloc(slots * sizeof *r->slots);
    r->hash = malloc(limit * sizeof *r->hash);
    if (!r->bytes || !r->tokens || !r->slots || !r->hash)
        return no_memory(r->err);
    memset(r->slots, 0xff, slots * sizeof *r->slots);
    r->mask = slots - 1;
    for (const char *s = text, *end = text + n, *next; s < end; s = next) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        line++;
        if (stop > s && stop[-1] == '\r')
            stop--;
        if (stop == s)
            continue;
        const char *space = memchr(s, ' ', (size_t)(stop - s));
        size_t len = space ? base64(r->bytes + used, s, (size_t)(space - s)) : 0, rank = 0;
        if (!len || space + 1 == stop || stop - space > 9)
            return bad_line(r, line, "is not a token in base64 and a rank");
        for (const char *p = space + 1; p < stop; p++) {
            if (*p < '0' || *p > '9')
                return bad_line(r, line, "is not a token in base64 and a rank");
            rank = 10 * rank + (size_t)(*p - '0');
        }
        if (rank >= limit)
            return bad_line(r, line, "has a rank far beyond the number of tokens");
        uint64_t hash = 0;
        for (size_t i = 0; i < len; i++)
            hash = append(r, hash, r->bytes[used + i]);
        uint32_t *slot = place(r, hash, r->bytes + used, len);
        if (r->tokens[rank].len || *slot != UINT32_MAX)
            return bad_line(r, line, "repeats a token or a rank");
        r->tokens[rank] = (struct dlm_token_bytes){r->bytes + used, len};
        r->hash[rank] = hash;
        *slot = (uint32_t)rank;
        used += len;
        r->longest = len > r->longest ? len : r->longest;
        r->n = rank + 1 > r->n ? rank + 1 : r->n;
    }
    return r->n ? 0 : dlm_fail(r->err, DLM_EDATA, "'%s' has no tokens", r->path);
}

static int by_parts(const void *x, const void *y)
{
    const uint32_t *a = x, *b = y;
    return a[0] != b[0] ? (a[0] > b[0]) - (a[0] < b[0]) : (a[1] > b[1]) - (a[1] < b[1]);
}

/* Every way to put a token together, in the order of its parts' ranks. */
static int find_merges(struct ranks *r)
{
    uint64_t *begin = malloc((r->longest + 1) * sizeof *begin), *power = malloc((r->longest + 1) * sizeof *power);
    size_t text = 0;
    int rc = begin && power ? 0 : no_memory(r->err);
    for (size_t k = 0; k <= r->longest && !rc; k++)
        power[k] = k ? times(power[k - 1], r->base) : 1;
    for (size_t rank = 0; rank < r->n && !rc; rank++) {
        const struct dlm_token_bytes *t = &r->tokens[rank];
        size_t first = r->n_merges;
        begin[0] = 0;
        for (size_t k = 0; k < t->len; k++)
            begin[k + 1] = append(r, begin[k], t->at[k]);
        for (size_t k = 1; k < t->len && !rc; k++) {
            uint64_t rest = begin[t->len] + prime - times(begin[k], power[t->len - k]);
            uint32_t left = *place(r, begin[k], t->at, k);
            uint32_t right = left == UINT32_MAX ? left : *place(r, rest >= prime ? rest - prime : rest, t->at + k, t->len - k);
            if (right == UINT32_MAX)
                continue;
            text += t->len;
            if (r->n_merges > r->size / BYTES_A_MERGE + MERGES || text > r->size * TEXT_A_BYTE + TEXT) {
                rc = dlm_fail(r->err, DLM_EDATA, "'%s' is no tiktoken rank file: tokens up to rank %zu can be parted in too many ways", r->path,
                              rank);
                break;
            }
            if (r->n_merges == r->cap_merges) {
                size_t cap = r->cap_merges ? 2 * r->cap_merges : 4096;
                uint32_t (*more)[2] = realloc(r->merges, cap * sizeof *more);
                if (!more) {
                    rc = no_memory(r->err);
                    break;
                }
                r->merges = more;
                r->cap_merges = cap;
            }
            r->merges[r->n_merges][0] = left;
            r->merges[r->n_merges++][1] = right;
        }
        if (r->n_merges > first + 1)
            qsort(r->merges + first, r->n_merges - first, sizeof *r->merges, by_parts);
    }
    free(begin);
    free(power);
    return rc;
}

int dlm_vocab_load_ranks(struct dlm_vocab **out, const char *path, const char *regex, struct dlm_error *err)
{
    struct ranks r = {.path = path, .err = err, .base = (dlm_vocab_factor() >> 3) % (prime - 512) + 256};
    char *text = NULL, *json = NULL;
    size_t n = 0;
    int rc = dlm_vocab_read_file(&text, &n, path, err);
    r.size = n;
    rc = rc ? rc : read_lines(&r, text, n);
    rc = rc ? rc : find_merges(&r);
    if (!rc) {
        struct dlm_vocab_plan plan = {.regex = regex, .tokens = r.tokens, .n_tokens = r.n,
                                      .merges = (const uint32_t (*)[2])r.merges, .n_merges = r.n_merges, .whole_words = true};
        rc = dlm_vocab_compose(&json, &plan, err);
    }
    rc = rc ? rc : dlm_vocab_parse(out, json, strlen(json), path, err);
    free(json);
    free(text);
    free(r.bytes);
    free(r.tokens);
    free(r.slots);
    free(r.hash);
    free(r.merges);
    return rc;
}
