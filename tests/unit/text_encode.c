/* Encoding against the plain way to merge, on text that is hostile to it; round trips; parts; special tokens. */
#include "tap.h"

#include "text/decode.h"
#include "text/encode.h"
#include "text/split.h"
#include "text/vocab_body.h"
#include "text_bytepair.h"

static struct bytepair b;

static void random_merges(struct dlm_rng *r, const char *letters, int n)
{
    size_t k = strlen(letters);
    bytepair_bytes(&b);
    for (int i = 0; i < n; i++) {
        uint32_t side[2];
        for (int s = 0; s < 2; s++) {
            bool byte = b.n_tokens == 256 || dlm_rng_below(r, 3) == 0;
            side[s] = byte ? (uint8_t)letters[dlm_rng_below(r, k)] : 256 + (uint32_t)dlm_rng_below(r, b.n_tokens - 256);
        }
        bytepair_merge(&b, side[0], side[1]);
    }
}

/* What a piece is with ignore_merges: a token, or else merged. */
static size_t whole_or_plain(const uint8_t *text, size_t n, bool whole, uint32_t *want)
{
    for (size_t i = 0; whole && i < b.n_tokens; i++)
        if (b.tokens[i].len == n && !memcmp(b.tokens[i].at, text, n)) {
            want[0] = (uint32_t)i;
            return 1;
        }
    return bytepair_plain(&b, text, n, want);
}

/* Without a pattern a text is one piece, but for what is not UTF-8: plain ASCII here. whole: with ignore_merges, and with tokens that
 * no merge makes. */
static void plain(struct dlm_rng *r, bool whole)
{
    static const char *const alphabets[] = {"a", "ab", "abc", "ab \n'", "etaoinshrdlu "};
    static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 8, 14, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 255, 700};
    for (size_t a = 0; a < sizeof alphabets / sizeof *alphabets; a++) {
        bool same = true;
        size_t tried = 0;
        for (int turn = 0; turn < 6; turn++) {
            random_merges(r, alphabets[a], turn * turn * 8);
            for (size_t gone = whole ? b.n_merges / 3 : 0; gone; gone--) {
                size_t at = dlm_rng_below(r, b.n_merges--);
                memmove(b.merges + at, b.merges + at + 1, (b.n_merges - at) * sizeof *b.merges);
                memmove(b.made + at, b.made + at + 1, (b.n_merges - at) * sizeof *b.made);
            }
            struct dlm_vocab *v = bytepair_vocab(&b, NULL, whole);
            if (turn % 2) /* without a table of pairs, by a heap and the chain */
                v->byte_id[0xee] = DLM_NO_ID;
            struct dlm_encoder *e = NULL;
            struct dlm_error err = {{0}};
            struct dlm_ids ids = {0};
            same = same && !dlm_encoder_new(&e, v, false, &err);
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths && same; l++)
                for (int again = 0; again < 4 && same; again++, tried++) {
                    uint8_t text[700];
                    uint32_t want[700];
                    for (size_t i = 0; i < lengths[l]; i++)
                        text[i] = (uint8_t)alphabets[a][dlm_rng_below(r, strlen(alphabets[a]))];
                    size_t n = whole_or_plain(text, lengths[l], whole, want);
                    ids.n = 0;
                    same = !dlm_encoder_run(e, text, lengths[l], &ids, &err) && ids.n == n;
                    for (size_t i = 0; i < n && same; i++)
                        same = ids.at[i] == want[i] + 4;
                }
            free(ids.at);
            dlm_encoder_free(e);
            dlm_vocab_free(v);
        }
        tap_ok(same, "%zu texts over '%s' are merged as the plain way merges them%s", tried, a == 3 ? "ab \\n'" : alphabets[a], whole ? ", or tokens" : "");
    }
}

/* A piece that is merged by windows. */
static void windows(struct dlm_rng *r)
{
    static const char *const alphabets[] = {"a", "ab", "abc", "abcdefgh"};
    enum { N = 4200 }; /* four windows */
    static uint8_t text[N];
    static uint32_t want[N];
    for (size_t a = 0; a < sizeof alphabets / sizeof *alphabets; a++) {
        bool same = true;
        for (int turn = 0; turn < 4 && same; turn++) {
            random_merges(r, alphabets[a], 8 + turn % 2 * 12);
            struct dlm_vocab *v = bytepair_vocab(&b, NULL, false);
            if (turn >= 2) /* by a heap */
                v->byte_id[0xee] = DLM_NO_ID;
            struct dlm_encoder *e = NULL;
            struct dlm_error err = {{0}};
            struct dlm_ids ids = {0};
            size_t period = turn % 2 ? 1 + dlm_rng_below(r, 40) : N;
            for (size_t i = 0; i < N; i++)
                text[i] = i < period ? (uint8_t)alphabets[a][dlm_rng_below(r, strlen(alphabets[a]))] : text[i - period];
            size_t n = bytepair_plain(&b, text, N, want);
            same = !dlm_encoder_new(&e, v, false, &err) && !dlm_encoder_run(e, text, N, &ids, &err) && ids.n == n;
            for (size_t i = 0; i < n && same; i++)
                same = ids.at[i] == want[i] + 4;
            free(ids.at);
            dlm_encoder_free(e);
            dlm_vocab_free(v);
        }
        tap_ok(same, "a piece of %d bytes over '%s' is merged as the plain way merges it", N, alphabets[a]);
    }
}

/* Decoding into rooms of any size, and ids that are none. */
static void decoding(struct dlm_rng *r)
{
    random_merges(r, "abcdef", 300);
    struct dlm_vocab *v = bytepair_vocab(&b, NULL, false);
    bool good = true;
    for (int turn = 0; turn < 2000 && good; turn++) {
        uint32_t ids[50];
        uint8_t want[50 * 12];
        size_t n = dlm_rng_below(r, 50), room = dlm_rng_below(r, 100), fit = 0, len = 0, got;
        for (size_t i = 0; i < n; i++)
            ids[i] = (uint32_t)dlm_rng_below(r, dlm_vocab_size(v) + (turn % 4 == 0));
        for (; fit < n && ids[fit] < dlm_vocab_size(v); fit++) {
            size_t k;
            const uint8_t *bytes = dlm_vocab_bytes(v, ids[fit], &k);
            if (len + k > room)
                break;
            memcpy(want + len, bytes, k);
            len += k;
        }
        uint8_t *exact = malloc(room + 1);
        good = dlm_vocab_decode(v, ids, n, exact, room, &got) == fit && got == len && !memcmp(exact, want, len);
        free(exact);
    }
    tap_ok(good, "decoding stops where the room ends and at an id that is none");
    dlm_vocab_free(v);
}

static bool round_trip(struct dlm_encoder *e, const struct dlm_vocab *v, const uint8_t *text, size_t n)
{
    struct dlm_ids ids = {0};
    struct dlm_error err = {{0}};
    bool same = !dlm_encoder_run(e, text, n, &ids, &err);
    size_t at = 0;
    for (size_t i = 0; i < ids.n && same; i++) {
        size_t len;
        const uint8_t *bytes = dlm_vocab_bytes(v, ids.at[i], &len);
        same = len && len <= n - at && !memcmp(bytes, text + at, len);
        at += len;
    }
    free(ids.at);
    if (err.msg[0])
        printf("# %s\n", err.msg);
    return same && at == n;
}

/* Long runs must neither overflow a matcher's stack nor take time that grows with the square. */
static void any_bytes(struct dlm_rng *r)
{
    static const char *const patterns[] = {"gpt2", "cl100k", "o200k", "[a-z]+", "\\w+|\\s+", "x*", "(?=b)"};
    enum { N = 60000, LONG = 1 << 18 };
    uint8_t *text = malloc(LONG);
    random_merges(r, "etaoins \n", 300);
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        struct dlm_vocab *v = bytepair_vocab(&b, dlm_split_pattern(patterns[p]), false);
        struct dlm_encoder *e = NULL;
        struct dlm_error err = {{0}};
        bool good = !dlm_encoder_new(&e, v, false, &err);
        for (int i = 0; i < N; i++)
            text[i] = (uint8_t)dlm_rng_next(r);
        good = good && round_trip(e, v, text, N);
        for (int i = 0; i < N; i++) /* pieces of sequences: leads, continuations, surrogates, marks */
            text[i] = (uint8_t) "\xcc\x81\xed\xa0\x80\xf0\x9f\xff""e \n\xe2"[dlm_rng_below(r, 12)];
        good = good && round_trip(e, v, text, N) && round_trip(e, v, text, 0) && round_trip(e, v, (const uint8_t *)"\xf0\x9f\x98", 3);
        tap_ok(good, "any bytes come back, pattern %s", patterns[p]);
        static const char *const units[] = {"a", "A", " ", "\n", "\r\n", "'", "9", "\xcc\x81", "\xff", " \n", "\xe4\xb8\x80"};
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t n = strlen(units[u]);
            for (size_t i = 0; i + n <= LONG; i += n)
                memcpy(text + i, units[u], n);
            good = good && round_trip(e, v, text, LONG / n * n);
        }
        tap_ok(good, "256 KiB of one character comes back, pattern %s", patterns[p]);
        dlm_encoder_free(e);
        dlm_vocab_free(v);
    }
    free(text);
}

/* A text in parts gives the ids of the whole. */
static void parts(struct dlm_rng *r)
{
    static const char *const words[] = {"\n", "\n\n", " \n  ", "the", " an", "don't", "\n12", "\r\n", "/\n", "...\n\n", "\xc3\xa9", "\xcc\x81", "\xff", "  x", "!"};
    static const char *const patterns[] = {"gpt2", "cl100k", "o200k"};
    random_merges(r, "then ad\n.", 400);
    for (int p = 0; p < 3; p++) {
        struct dlm_vocab *v = bytepair_vocab(&b, dlm_split_pattern(patterns[p]), false);
        struct dlm_encoder *e = NULL;
        struct dlm_error err = {{0}};
        struct dlm_ids whole = {0}, cut = {0};
        bool good = !dlm_encoder_new(&e, v, false, &err) && dlm_encoder_may_cut(e);
        size_t cuts = 0;
        for (int turn = 0; turn < 200 && good; turn++) {
            char text[2000] = "";
            size_t n = 0;
            while (n < 1900) {
                const char *w = words[dlm_rng_below(r, sizeof words / sizeof *words)];
                strcpy(text + n, w);
                n += strlen(w);
            }
            whole.n = cut.n = 0;
            good = !dlm_encoder_run(e, text, n, &whole, &err);
            for (size_t at = 0; at < n && good;) {
                size_t most = at + 1 + dlm_rng_below(r, 300), to = dlm_split_cut((const uint8_t *)text, at, most < n ? most : n);
                cuts += to != 0;
                to = to ? to : most < n && !dlm_split_cut((const uint8_t *)text, at, n) ? n : to;
                if (!to) { /* no cut near: try further */
                    while (!to)
                        to = most < n ? dlm_split_cut((const uint8_t *)text, at, ++most) : n;
                }
                good = !dlm_encoder_run_part(e, text + at, to - at, to < n, at == 0, to == n, &cut, &err);
                at = to;
            }
            good = good && whole.n == cut.n && !memcmp(whole.at, cut.at, whole.n * sizeof *whole.at);
        }
        tap_ok(good && cuts > 1000, "%zu cuts change no id, pattern %s", cuts, patterns[p]);
        free(whole.at);
        free(cut.at);
        dlm_encoder_free(e);
        dlm_vocab_free(v);
    }
}

static bool ids_are(struct dlm_encoder *e, const char *text, const uint32_t *want, size_t n)
{
    struct dlm_ids ids = {0};
    struct dlm_error err;
    bool same = !dlm_encoder_run(e, text, strlen(text), &ids, &err) && ids.n == n && (!n || !memcmp(ids.at, want, n * sizeof *want));
    free(ids.at);
    return same;
}

static void specials(void)
{
    bytepair_bytes(&b);
    bytepair_merge(&b, 'a', 'b');
    struct dlm_vocab *v = bytepair_vocab(&b, dlm_split_pattern("cl100k"), false);
    struct dlm_encoder *e = NULL;
    struct dlm_error err = {{0}};
    bool good = !dlm_encoder_new(&e, v, false, &err);
    const uint32_t text[] = {'<' + 4, '|' + 4, 'p' + 4, 'a' + 4, 'd' + 4, '|' + 4, '>' + 4};
    tap_ok(good && ids_are(e, "<|pad|>", text, 7), "special tokens in the text are text");
    dlm_encoder_free(e);
    good = !dlm_encoder_new(&e, v, true, &err);
    const uint32_t parsed[] = {260, 2, 260, 3, 1};
    tap_ok(good && ids_are(e, "ab<|pad|>ab<|mask|><|end_of_text|>", parsed, 5), "unless they are asked for");
    tap_ok(good && ids_are(e, "", parsed, 0), "an empty text has no ids");
    dlm_encoder_free(e);
    dlm_vocab_free(v);
    /* ignore_merges: "abc" is no merge of others, yet a token */
    bytepair_merge(&b, 'x', 'y');
    bytepair_merge(&b, 257, 'c');
    v = bytepair_vocab(&b, dlm_split_pattern("cl100k"), true);
    good = !dlm_encoder_new(&e, v, false, &err);
    const uint32_t word[] = {262};
    b.n_merges = 0;
    struct dlm_vocab *w = bytepair_vocab(&b, dlm_split_pattern("cl100k"), true);
    struct dlm_encoder *f = NULL;
    good = good && !dlm_encoder_new(&f, w, false, &err);
    tap_ok(good && ids_are(f, "xyc", word, 1), "with ignore_merges a piece that is a token is that token");
    dlm_encoder_free(f);
    dlm_encoder_free(e);
    dlm_vocab_free(w);
    dlm_vocab_free(v);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 1);
    plain(&r, false);
    plain(&r, true);
    windows(&r);
    decoding(&r);
    any_bytes(&r);
    parts(&r);
    specials();
    return tap_end();
}
