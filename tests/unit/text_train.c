/* Training against a plain trainer that counts every pair anew at every step; lanes; prefixes; frequencies. */
#include "tap.h"

#include "text/split.h"
#include "text/trainer.h"
#include "text/vocab.h"
#include "text_bytepair.h"

#include "text/alphabet.h"

#include <ctype.h>

enum { MAX_WORDS = 4000 };

/* Words are runs of letters with the space before them, or single other characters: a pattern that is simple to follow by hand. */
static const char pattern[] = " ?[a-z]+|[^a-z]";

struct plain {
    uint32_t at[MAX_WORDS][64];
    size_t len[MAX_WORDS], n;
};

static struct plain plain;

static void plain_words(const char *text, size_t n)
{
    plain.n = 0;
    for (size_t i = 0; i < n;) {
        size_t k = i + (text[i] == ' ');
        while (k < n && islower((unsigned char)text[k]))
            k++;
        if (k == i + (text[i] == ' '))
            k = i + 1;
        plain.len[plain.n] = k - i;
        for (size_t j = i; j < k; j++) { /* ids of bytes: 4 specials, then by their characters */
            unsigned rank = 0;
            for (int c = 0; c < 256; c++)
                rank += dlm_alphabet_point((uint8_t)c) < dlm_alphabet_point((uint8_t)text[j]);
            plain.at[plain.n][j - i] = 4 + rank;
        }
        plain.n++;
        i = k;
    }
}

/* The most frequent pair, of the smallest ids; its count. */
static size_t plain_best(uint32_t *a, uint32_t *b)
{
    static struct {
        uint32_t a, b;
        size_t count;
    } seen[20000];
    size_t n = 0, best = 0;
    for (size_t w = 0; w < plain.n; w++)
        for (size_t i = 0; i + 1 < plain.len[w]; i++) {
            size_t k = 0;
            while (k < n && (seen[k].a != plain.at[w][i] || seen[k].b != plain.at[w][i + 1]))
                k++;
            if (k == n) {
                seen[n].a = plain.at[w][i];
                seen[n].b = plain.at[w][i + 1];
                seen[n++].count = 0;
            }
            seen[k].count++;
        }
    for (size_t k = 0; k < n; k++)
        if (seen[k].count > best || (seen[k].count == best && (seen[k].a < *a || (seen[k].a == *a && seen[k].b < *b)))) {
            best = seen[k].count;
            *a = seen[k].a;
            *b = seen[k].b;
        }
    return best;
}

static void plain_merge(uint32_t a, uint32_t b, uint32_t made)
{
    for (size_t w = 0; w < plain.n; w++) {
        size_t to = 0;
        for (size_t i = 0; i < plain.len[w]; to++) {
            bool here = i + 1 < plain.len[w] && plain.at[w][i] == a && plain.at[w][i + 1] == b;
            plain.at[w][to] = here ? made : plain.at[w][i];
            i += here ? 2 : 1;
        }
        plain.len[w] = to;
    }
}

static char *train(const char *text, size_t n, size_t lanes, size_t size, uint64_t least, struct dlm_trained *made, struct dlm_error *err)
{
    struct dlm_trainer *t = NULL;
    memset(made, 0, sizeof *made);
    int rc = dlm_trainer_new(&t, pattern, lanes, err);
    /* lines are documents, dealt to the lanes in turn */
    for (size_t at = 0, lane = 0; at < n && !rc; lane = (lane + 1) % lanes) {
        const char *lf = memchr(text + at, '\n', n - at);
        size_t end = lf ? (size_t)(lf - text) + 1 : n;
        rc = dlm_trainer_count(t, lane, text + at, end - at, 0, err);
        at = end;
    }
    rc = rc ? rc : dlm_trainer_finish(t, bytepair_specials, 4, size, least, NULL, NULL, made, err);
    dlm_trainer_free(t);
    return rc ? NULL : made->json;
}

static size_t random_text(struct dlm_rng *r, char *text, size_t n, const char *letters)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t x = dlm_rng_below(r, 12);
        text[i] = x == 0 ? '\n' : x < 3 ? ' ' : letters[dlm_rng_below(r, strlen(letters))];
    }
    return n;
}

static void against_plain(struct dlm_rng *r)
{
    static const char *const letters[] = {"a", "ab", "abcde", "etaoinshrdlu"};
    char text[3000];
    for (int turn = 0; turn < 8; turn++) {
        size_t n = random_text(r, text, sizeof text, letters[turn % 4]), size = 260, want = 300;
        struct dlm_trained made;
        struct dlm_error err = {{0}};
        struct dlm_vocab *v = NULL;
        char *json = train(text, n, 3, want, 1, &made, &err);
        bool same = json && !dlm_vocab_parse(&v, json, strlen(json), "trained", &err);
        plain_words(text, n);
        uint8_t order[256];
        for (int i = 0; i < 256; i++) {
            int rank = 0;
            for (int c = 0; c < 256; c++)
                rank += dlm_alphabet_point((uint8_t)c) < dlm_alphabet_point((uint8_t)i);
            order[rank] = (uint8_t)i;
        }
        struct {
            uint8_t at[256];
            size_t len;
        } token[300] = {{{0}, 0}};
        for (int i = 0; i < 256; i++) {
            token[4 + i].at[0] = order[i];
            token[4 + i].len = 1;
        }
        while (size < want) {
            uint32_t a = UINT32_MAX, b = UINT32_MAX, id;
            if (!plain_best(&a, &b))
                break;
            size_t len = token[a].len + token[b].len;
            memcpy(token[size].at, token[a].at, token[a].len);
            memcpy(token[size].at + token[a].len, token[b].at, token[b].len);
            for (id = 4; id < size && (token[id].len != len || memcmp(token[id].at, token[size].at, len));)
                id++;
            token[id].len = len;
            plain_merge(a, b, id);
            size += id == size;
        }
        same = same && made.size == size && dlm_vocab_size(v) == size;
        for (uint32_t id = 4; id < size && same; id++) {
            size_t len;
            const uint8_t *bytes = dlm_vocab_bytes(v, id, &len);
            same = len == token[id].len && !memcmp(bytes, token[id].at, len);
        }
        tap_ok(same, "%zu ids over '%s' are those of a plain trainer%s", size, letters[turn % 4], err.msg);
        dlm_vocab_free(v);
        free(json);
    }
}

static void properties(struct dlm_rng *r)
{
    static char text[40000];
    size_t n = random_text(r, text, sizeof text, "etaoinshrdlucmf");
    struct dlm_trained small, large, lanes, rare;
    struct dlm_error err = {{0}};
    struct dlm_vocab *s = NULL, *l = NULL, *f = NULL;
    char *a = train(text, n, 1, 400, 1, &small, &err), *b = train(text, n, 1, 700, 1, &large, &err), *c = train(text, n, 7, 700, 1, &lanes, &err);
    tap_ok(a && b && c && !strcmp(b, c), "the number of lanes changes nothing");
    bool good = a && b && !dlm_vocab_parse(&s, a, strlen(a), "small", &err) && !dlm_vocab_parse(&l, b, strlen(b), "large", &err) &&
                dlm_vocab_size(s) == 400 && dlm_vocab_size(l) == 700;
    for (uint32_t id = 0; good && id < 400; id++) {
        size_t x, y;
        const uint8_t *p = dlm_vocab_bytes(s, id, &x), *q = dlm_vocab_bytes(l, id, &y);
        good = x == y && !memcmp(p, q, x);
    }
    tap_ok(good, "a smaller vocabulary is a prefix of a larger one");
    char *d = train(text, n, 2, 700, 50, &rare, &err);
    tap_ok(d && rare.size < 700 && rare.size > 260 && !dlm_vocab_parse(&f, d, strlen(d), "rare", &err), "rare pairs are left alone: %zu ids", rare.size);
    free(a);
    free(b);
    free(c);
    free(d);
    dlm_vocab_free(s);
    dlm_vocab_free(l);
    dlm_vocab_free(f);
    tap_ok(!train("", 0, 2, 300, 1, &small, &err), "no text, no vocabulary: %s", err.msg);
    tap_ok(!train("abc", 3, 2, 259, 1, &small, &err), "too small a size: %s", err.msg);
    a = train("a", 1, 1, 300, 1, &small, &err);
    tap_ok(a && small.size == 260, "a text without pairs makes the bytes");
    free(a);
}

/* A word that is written like a special token never becomes it. */
static void no_special_word(void)
{
    static const char *const names[] = {"aa", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
    struct dlm_trainer *t = NULL;
    struct dlm_trained made = {0};
    struct dlm_error err = {{0}};
    struct dlm_vocab *v = NULL;
    bool good = !dlm_trainer_new(&t, pattern, 1, &err) && !dlm_trainer_count(t, 0, "aaaa aaab aab", 13, 0, &err) &&
                !dlm_trainer_finish(t, names, 4, 300, 1, NULL, NULL, &made, &err) && !dlm_vocab_parse(&v, made.json, strlen(made.json), "x", &err);
    tap_ok(good && dlm_vocab_is_special(v, 0) && dlm_vocab_size(v) > 260, "a word written like a special token does not become one: %s", err.msg);
    dlm_trainer_free(t);
    dlm_vocab_free(v);
    free(made.json);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 1);
    against_plain(&r);
    properties(&r);
    no_special_word();
    return tap_end();
}
