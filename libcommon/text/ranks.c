/* Reading tiktoken rank files. */
#include "text/ranks.h"

#include "text/compose.h"
#include "text/vocab_body.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MAX_HOLES = 1 << 16 };

struct ranks {
    const char *path;
    struct dlm_error *err;
    uint8_t *bytes;                 /* of all tokens */
    struct dlm_token_bytes *tokens; /* by rank; len 0 in a hole */
    size_t n;
    uint32_t *slots; /* ranks by the hash of their bytes, UINT32_MAX empty */
    size_t mask;
    uint64_t seed; /* of their hash */
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

static uint32_t *place(struct ranks *r, const uint8_t *bytes, size_t len)
{
    size_t i = XXH3_64bits_withSeed(bytes, len, r->seed) & r->mask;
    for (; r->slots[i] != UINT32_MAX; i = (i + 1) & r->mask) {
        const struct dlm_token_bytes *t = &r->tokens[r->slots[i]];
        if (t->len == len && !memcmp(t->at, bytes, len))
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
    if (!r->bytes || !r->tokens || !r->slots)
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
        uint32_t *slot = place(r, r->bytes + used, len);
        if (r->tokens[rank].len || *slot != UINT32_MAX)
            return bad_line(r, line, "repeats a token or a rank");
        r->tokens[rank] = (struct dlm_token_bytes){r->bytes + used, len};
        *slot = (uint32_t)rank;
        used += len;
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
    for (size_t rank = 0; rank < r->n; rank++) {
        const struct dlm_token_bytes *t = &r->tokens[rank];
        size_t first = r->n_merges;
        for (size_t k = 1; k < t->len; k++) {
            uint32_t left = *place(r, t->at, k), right = *place(r, t->at + k, t->len - k);
            if (left == UINT32_MAX || right == UINT32_MAX)
                continue;
            if (r->n_merges == r->cap_merges) {
                size_t cap = r->cap_merges ? 2 * r->cap_merges : 4096;
                uint32_t (*more)[2] = realloc(r->merges, cap * sizeof *more);
                if (!more)
                    return no_memory(r->err);
                r->merges = more;
                r->cap_merges = cap;
            }
            r->merges[r->n_merges][0] = left;
            r->merges[r->n_merges++][1] = right;
        }
        if (r->n_merges > first + 1)
            qsort(r->merges + first, r->n_merges - first, sizeof *r->merges, by_parts);
    }
    return 0;
}

int dlm_vocab_load_ranks(struct dlm_vocab **out, const char *path, const char *regex, struct dlm_error *err)
{
    struct ranks r = {.path = path, .err = err, .seed = dlm_vocab_factor()};
    char *text = NULL, *json = NULL;
    size_t n = 0;
    int rc = dlm_vocab_read_file(&text, &n, path, err);
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
    free(r.merges);
    return rc;
}
