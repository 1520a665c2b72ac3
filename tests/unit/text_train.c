/* Training against a plain trainer that counts every pair anew at every step; lanes; prefixes; frequencies. */
#include "tap.h"

#include "text/split.h"
#include "text/trainer.h"
#include "text/vocab.h"
#include "text_bytepair.h"

#include "text/alphabet.h"

#include <ctype.h>

enum { MAX_WORDS = 4000, MOST = 2000 };

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

static char *train_often(const char *text, size_t n, int times, size_t lanes, size_t size, uint64_t least, struct dlm_trained *made,
                         struct dlm_error *err)
{
    struct dlm_trainer *t = NULL;
    memset(made, 0, sizeof *made);
    int rc = dlm_trainer_new(&t, pattern, lanes, err);
    /* lines are documents, dealt to the lanes in turn */
    for (; times; times--)
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

static char *train(const char *text, size_t n, size_t lanes, size_t size, uint64_t least, struct dlm_trained *made,
                   struct dlm_error *err)
{
    return train_often(text, n, 1, lanes, size, least, made, err);
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
    for (int turn = 0; turn < 16; turn++) { /* some merges of a longer text, or all that a shorter one has */
        size_t n = random_text(r, text, turn < 8 ? sizeof text : 900, letters[turn % 4]), size = 260, want = turn < 8 ? 300 : MOST;
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
        static struct {
            uint8_t at[64];
            size_t len;
        } token[MOST];
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
        char *often = train_often(text, n, 1500, 2, want, 1500, &made, &err);
        tap_ok(json && often && !strcmp(json, often) && made.bytes == 1500 * n, "and they are when all is a thousand times as frequent");
        dlm_vocab_free(v);
        free(json);
        free(often);
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

/* A text in parts, cut where it may be, each counted in some lane. */
static char *train_parts(const uint8_t *text, size_t n, const char *name, size_t lanes, struct dlm_rng *r, struct dlm_trained *made,
                         struct dlm_error *err)
{
    struct dlm_trainer *t = NULL;
    memset(made, 0, sizeof *made);
    int rc = dlm_trainer_new(&t, dlm_split_pattern(name), lanes, err);
    for (size_t at = 0; at < n && !rc;) {
        size_t most = at + 1 + (r ? dlm_rng_below(r, 3000) : n);
        size_t end = dlm_split_cut(text, at, most < n ? most : n);
        end = end && r ? end : n;
        rc = dlm_trainer_count(t, r ? dlm_rng_below(r, lanes) : 0, text + at, end - at, end < n, err);
        at = end;
    }
    rc = rc ? rc : dlm_trainer_finish(t, bytepair_specials, 4, 900, 1, NULL, NULL, made, err);
    dlm_trainer_free(t);
    return rc ? NULL : made->json;
}

static void parts(struct dlm_rng *r)
{
    static const char *const names[] = {"gpt2", "cl100k", "o200k"};
    static const char pieces[] = "the of And 'll don't 12 12345 \n\n\n  \t x=y; \xc3\xa9t\xc3\xa9 \xff ";
    static const size_t lanes[] = {1, 2, 3, 7};
    static uint8_t text[60000];
    struct dlm_error err = {{0}};
    struct dlm_trained made, whole;
    for (size_t at = 0; at < sizeof text; at++)
        text[at] = (uint8_t)(dlm_rng_below(r, 9)   ? pieces[dlm_rng_below(r, sizeof pieces - 1)]
                             : dlm_rng_below(r, 4) ? 'a' + (int)dlm_rng_below(r, 6)
                                                   : '\n');
    for (size_t p = 0; p < 3; p++) {
        char *one = train_parts(text, sizeof text, names[p], 1, NULL, &whole, &err);
        bool same = one != NULL;
        for (size_t i = 0; i < 4; i++) {
            char *json = train_parts(text, sizeof text, names[p], lanes[i], r, &made, &err);
            same = same && json && !strcmp(one, json) && made.words == whole.words && made.bytes == sizeof text;
            free(json);
        }
        tap_ok(same, "%s: neither cuts nor 1, 2, 3, 7 lanes change anything: %zu words", names[p], whole.words);
        free(one);
    }
}

/* Documents of one word each; which are in the sample shows in what is counted. */
static void samples(void)
{
    enum { N = 2000 };
    struct dlm_error err = {{0}};
    struct dlm_trained made[4];
    char *json[4] = {NULL};
    static const uint64_t seeds[] = {1, 1, 1, 2};
    for (int i = 0; i < 4; i++) {
        struct dlm_trainer *t = NULL;
        bool good = !dlm_trainer_new(&t, pattern, 3, &err);
        dlm_trainer_sample(t, 0.25, seeds[i]);
        for (int k = 0; k < 2 * N && good; k++) { /* each twice, in another order and other lanes */
            char word[16];
            int at = i == 1 ? 2 * N - 1 - k : k, x = at % N;
            int n = snprintf(word, sizeof word, "%c%c%cx", 'a' + x % 26, 'a' + x / 26 % 26, 'a' + x / 676);
            good = !dlm_trainer_count(t, (size_t)(i == 2 ? 0 : at % 3), word, (size_t)n, 0, &err) &&
                   !dlm_trainer_count(t, 1, "", 0, 0, &err);
        }
        good = good && !dlm_trainer_finish(t, bytepair_specials, 4, 400, 1, NULL, NULL, &made[i], &err);
        json[i] = good ? made[i].json : NULL;
        dlm_trainer_free(t);
    }
    bool all = json[0] && json[1] && json[2] && json[3];
    /* 500 ± 5 standard deviations of 19.4 */
    tap_ok(all && made[0].texts_seen == 2 * N && made[0].bytes_seen == 8 * N && made[0].texts == 2 * made[0].words &&
               made[0].words > 403 && made[0].words < 597,
           "a quarter of %d texts is %zu, and the same text is in it twice or not at all: %s", N, all ? made[0].words : 0, err.msg);
    tap_ok(all && !strcmp(json[0], json[1]) && !strcmp(json[0], json[2]), "neither order nor lanes change a sample");
    tap_ok(all && strcmp(json[0], json[3]) && made[3].words > 403 && made[3].words < 597, "another seed, another sample of %zu",
           all ? made[3].words : 0);
    for (int i = 0; i < 4; i++)
        free(json[i]);
    struct dlm_trainer *t = NULL;
    bool good = !dlm_trainer_new(&t, pattern, 1, &err);
    dlm_trainer_sample(t, 1e-9, 0);
    good = good && !dlm_trainer_count(t, 0, "abc", 3, 0, &err);
    good = good && dlm_trainer_finish(t, bytepair_specials, 4, 300, 1, NULL, NULL, &made[0], &err) == DLM_EDATA;
    tap_ok(good && strstr(err.msg, "sample"), "an empty sample is an error: %s", err.msg);
    dlm_trainer_free(t);
}

/* One word of a megabyte: tokens double until they would be too long. */
static void one_long_word(void)
{
    enum { N = 1 << 20 };
    struct dlm_error err = {{0}};
    struct dlm_trained made;
    struct dlm_vocab *v = NULL;
    char *text = malloc(N);
    memset(text, 'a', N);
    char *json = train(text, N, 1, 400, 1, &made, &err);
    size_t len = 0;
    bool good = json && made.size == 275 && !dlm_vocab_parse(&v, json, strlen(json), "long", &err);
    if (good)
        dlm_vocab_bytes(v, 274, &len);
    tap_ok(good && len == 32768, "a token has at most 65,535 bytes: the last has %zu: %s", len, err.msg);
    dlm_vocab_free(v);
    free(json);
    free(text);
}

static int stop_at(void *to, size_t size)
{
    *(size_t *)to = size;
    return size > 300 ? DLM_ESTOPPED : 0;
}

static void stopped(struct dlm_rng *r)
{
    static char text[40000];
    size_t n = random_text(r, text, sizeof text, "etaoinshrdlucmf"), seen = 0;
    struct dlm_error err = {{0}};
    struct dlm_trained made = {0};
    struct dlm_trainer *t = NULL;
    bool good = !dlm_trainer_new(&t, pattern, 1, &err) && !dlm_trainer_count(t, 0, text, n, 0, &err) &&
                dlm_trainer_finish(t, bytepair_specials, 4, 3000, 1, stop_at, &seen, &made, &err) == DLM_ESTOPPED;
    tap_ok(good && seen > 300 && seen < 400 && !made.json, "training is told of and stopped: at %zu ids", seen);
    dlm_trainer_free(t);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 1);
    against_plain(&r);
    properties(&r);
    no_special_word();
    parts(&r);
    samples();
    one_long_word();
    stopped(&r);
    return tap_end();
}
