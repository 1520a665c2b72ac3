/* Vocabularies: the byte-level alphabet, UTF-8, tokenizer.json as read, as refused and as written. */
#include "tap.h"

#include "text/alphabet.h"
#include "text/compose.h"
#include "text/split.h"
#include "text/utf8.h"
#include "text/vocab.h"

#include <string.h>

static void alphabet(void)
{
    uint8_t all[256], back[256];
    char text[513];
    bool seen[0x200] = {false}, unique = true;
    for (int i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
        unsigned c = dlm_alphabet_point((uint8_t)i);
        unique = unique && !seen[c];
        seen[c] = true;
    }
    size_t n = dlm_alphabet_write(text, all, 256), len = 0;
    tap_ok(unique, "the alphabet gives each byte a character of its own");
    tap_ok(dlm_alphabet_read(back, &len, text, n) && len == 256 && !memcmp(all, back, 256), "256 bytes survive the alphabet");
    tap_ok(dlm_alphabet_point(' ') == 0x120 && dlm_alphabet_point('\n') == 0x10a && dlm_alphabet_point(0x7f) == 0x121 &&
               dlm_alphabet_point(0xa0) == 0x142 && dlm_alphabet_point(0xad) == 0x143 && dlm_alphabet_point('a') == 'a',
           "the characters are GPT-2's");
    tap_ok(!dlm_alphabet_read(back, &len, " ", 1) && !dlm_alphabet_read(back, &len, "\xc5\x84", 2) && !dlm_alphabet_read(back, &len, "\xc4", 1) &&
               !dlm_alphabet_read(back, &len, "\xe2\x96\x81", 3),
           "other characters are not of it");
}

static void utf8(void)
{
    static const struct {
        const char *s;
        size_t n, good;
    } t[] = {{"a", 1, 1}, {"\xc3\xa9", 2, 2}, {"\xc3", 1, 0}, {"\xc0\x80", 2, 0}, {"\xe0\x9f\xbf", 3, 0}, {"\xe0\xa0\x80", 3, 3},
             {"\xed\xa0\x80", 3, 0}, {"\xed\x9f\xbf", 3, 3}, {"\xf0\x8f\xbf\xbf", 4, 0}, {"\xf4\x8f\xbf\xbf", 4, 4}, {"\xf4\x90\x80\x80", 4, 0},
             {"\xff", 1, 0}, {"\x80", 1, 0}, {"abcdefgh\xff", 9, 8}, {"abcdefghi\xc3\xa9", 11, 11}, {"abcdefgh\xe2\x82", 10, 8}};
    bool good = true;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        good = good && dlm_utf8_prefix((const uint8_t *)t[i].s, t[i].n) == t[i].good;
    tap_ok(good, "well-formed UTF-8 ends where table 3-7 says");
}

/* A vocabulary of the 256 bytes and some merges as json; parts of it can be replaced. */
static char *sample(const char *merges, const char *extra_words, const char *added, const char *rest)
{
    char *json = malloc(20000), *p = json;
    p += sprintf(p, "{\"version\":\"1.0\",\"added_tokens\":[%s],%s,\"model\":{\"type\":\"BPE\",\"vocab\":{", added, rest);
    for (int i = 0; i < 256; i++) {
        uint8_t b = (uint8_t)i;
        char c[3] = "";
        c[dlm_alphabet_write(c, &b, 1)] = 0;
        p += sprintf(p, "%s\"%s%s\":%d", i ? "," : "", *c == '"' || *c == '\\' ? "\\" : "", c, i);
    }
    sprintf(p, "%s},\"merges\":[%s]}}", extra_words, merges);
    return json;
}

#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define SPLIT(regex, behavior) \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"}," \
    "\"behavior\":\"" behavior "\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}"
#define WORDS ",\"th\":256,\"the\":257,\"\\u0120the\":258"
#define MERGES "\"t h\",\"th e\",\"\\u0120 the\""
#define SPECIAL(id, text) "{\"id\":" #id ",\"content\":\"" text "\",\"special\":true}"

static int parse(struct dlm_vocab **v, char *json, struct dlm_error *err)
{
    *v = NULL;
    int rc = dlm_vocab_parse(v, json, strlen(json), "x.json", err);
    free(json);
    return rc;
}

static void accepted(void)
{
    struct dlm_error err = {{0}};
    struct dlm_vocab *v, *w;
    size_t n = 0;
    tap_ok(!parse(&v, sample(MERGES, WORDS, SPECIAL(259, "</s>") "," SPECIAL(261, "<pad>"), BYTE_LEVEL), &err),
           "a vocabulary is read: %s", err.msg);
    if (!v)
        return;
    tap_ok(dlm_vocab_size(v) == 262, "its size is the largest id + 1");
    const uint8_t *b = dlm_vocab_bytes(v, 258, &n);
    tap_ok(n == 4 && !memcmp(b, " the", 4) && dlm_vocab_kind(v, 258) == DLM_TOKEN_MERGE, "a token has its bytes");
    dlm_vocab_bytes(v, 259, &n);
    tap_ok(n == 0 && dlm_vocab_is_special(v, 259) && !strcmp(dlm_vocab_special_text(v, 259), "</s>"), "a special token has none");
    tap_ok(dlm_vocab_kind(v, 260) == DLM_TOKEN_UNUSED && !dlm_vocab_special_text(v, 260), "a hole is a hole");
    struct dlm_specials s = dlm_vocab_specials(v);
    tap_ok(s.begin == DLM_NO_ID && s.end == 259 && s.pad == 261 && s.mask == DLM_NO_ID, "special ids are found by their names");
    const uint32_t ids[] = {258, 259, 65, 257};
    tap_ok(dlm_vocab_count_bytes(v, ids, 4) == 8, "bytes are counted through the vocabulary");
    char told[100];
    uint64_t before = dlm_vocab_fingerprint(v);
    tap_ok(!dlm_vocab_complete(&v, "x", told, sizeof told, &err) && !strcmp(told, "<|mask|> 262") && dlm_vocab_specials(v).mask == 262 &&
               dlm_vocab_size(v) == 263 && dlm_vocab_fingerprint(v) != before,
           "a missing mask is appended: %s", told);
    before = dlm_vocab_fingerprint(v);
    tap_ok(!dlm_vocab_complete(&v, "x", told, sizeof told, &err) && !*told && dlm_vocab_fingerprint(v) == before, "a whole vocabulary stays as it is");
    const char *json = dlm_vocab_json(v, &n);
    tap_ok(!dlm_vocab_parse(&w, json, n, "again", &err) && dlm_vocab_fingerprint(w) == before, "the bytes are kept verbatim");
    dlm_vocab_free(w);
    dlm_vocab_free(v);
    tap_ok(!parse(&v, sample("[\"t\",\"h\"],[\"th\",\"e\"]", WORDS, "", BYTE_LEVEL), &err), "merges may be arrays: %s", err.msg);
    dlm_vocab_free(v);
    tap_ok(!parse(&v, sample(MERGES, WORDS, "", BYTE_LEVEL ",\"normalizer\":{\"type\":\"NFC\"},\"decoder\":{\"type\":\"ByteLevel\"}"), &err), "NFC: %s", err.msg);
    dlm_vocab_free(v);
    tap_ok(!parse(&v, sample("", ",\"[a]\":256,\"[b]\":257,\"[c]\":258,\"[d]\":259", 
                             SPECIAL(256, "[a]") "," SPECIAL(257, "[b]") "," SPECIAL(258, "[c]") "," SPECIAL(259, "[d]"), BYTE_LEVEL),
                  &err) &&
               dlm_vocab_specials(v).end == DLM_NO_ID,
           "unknown names have no role where they do not come first: %s", err.msg);
    dlm_vocab_free(v);
}

/* Everything that is not done is refused by its name; everything broken names the file. */
static void refused(void)
{
    static const struct {
        const char *merges, *words, *added, *rest, *says;
    } t[] = {
        {MERGES, WORDS, "", "\"pre_tokenizer\":{\"type\":\"Whitespace\"}", "Whitespace"},
        {MERGES, WORDS, "", "\"pre_tokenizer\":{\"type\":\"Metaspace\"}", "Metaspace"},
        {MERGES, WORDS, "", "\"pre_tokenizer\":null", "ByteLevel"},
        {MERGES, WORDS, "", "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "add_prefix_space"},
        {MERGES, WORDS, "", SPLIT("a", "MergedWithNext"), "MergedWithNext"},
        {MERGES, WORDS, "", SPLIT("(", "Isolated"), "pattern"},
        {MERGES, WORDS, "", SPLIT("\\\\h+", "Isolated"), "\\h"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"normalizer\":{\"type\":\"Lowercase\"}", "Lowercase"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"decoder\":{\"type\":\"WordPiece\"}", "WordPiece"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"post_processor\":{\"type\":\"Unheard\"}", "Unheard"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}", "TemplateProcessing"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",1],\"sep\":[\"b\",999]}", "999"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"truncation\":{}", "truncation"},
        {MERGES, WORDS, "", BYTE_LEVEL ",\"padding\":{}", "padding"},
        {"\"t z\"", WORDS, "", BYTE_LEVEL, "merge 0"},
        {"\"t h e\"", WORDS, "", BYTE_LEVEL, "merge 0"},
        {"\"t h\",7", WORDS, "", BYTE_LEVEL, "merge 1"},
        {"", ",\"th\":-1", "", BYTE_LEVEL, "id of token"},
        {"", ",\"th\":255", "", BYTE_LEVEL, "two tokens"},
        {"", ",\"th\":60000000", "", BYTE_LEVEL, "holes"},
        {"", ",\"th\":99999999999", "", BYTE_LEVEL, "id of token"},
        {"", "", SPECIAL(300, "a"), BYTE_LEVEL, "contradicts"},
        {"", "", SPECIAL(97, "x"), BYTE_LEVEL, "contradicts"},
        {"", "", SPECIAL(256, "<a>") "," SPECIAL(256, "<b>"), BYTE_LEVEL, "'x.json'"},
        {MERGES, WORDS, SPECIAL(256, "th"), BYTE_LEVEL, "special token"},
        {"", ",\"a\":300", "", BYTE_LEVEL, "duplicate"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dlm_error err = {{0}};
        struct dlm_vocab *v;
        int rc = parse(&v, sample(t[i].merges, t[i].words, t[i].added, t[i].rest), &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, "x.json") && strstr(err.msg, t[i].says), "refused: %s", err.msg);
        dlm_vocab_free(v);
    }
    static const char *const broken[] = {"", "{", "[]", "7", "{}", "{\"model\":{}}", "{\"model\":{\"type\":\"WordPiece\"}}",
                                         "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
                                         "\xff\xfe", "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":{}}}", "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct dlm_error err = {{0}};
        struct dlm_vocab *v = NULL;
        int rc = dlm_vocab_parse(&v, broken[i], strlen(broken[i]), "x.json", &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, "x.json") && !v, "refused: %s", err.msg);
    }
}

/* No byte of a vocabulary can be cut off or changed so that reading it goes astray; whatever is accepted can be used. */
static void hostile(uint64_t seed)
{
    char *json = sample(MERGES, WORDS, SPECIAL(259, "</s>"),
                        BYTE_LEVEL ",\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",1],\"sep\":[\"b\",2]}");
    size_t n = strlen(json), good = 0, tried = 0;
    struct dlm_error err;
    for (size_t cut = 0; cut < n; cut += 7) {
        struct dlm_vocab *v = NULL;
        good += dlm_vocab_parse(&v, json, cut, "cut", &err) != 0 && err.msg[0];
        tried++;
        dlm_vocab_free(v);
    }
    tap_ok(good == tried, "%zu truncated vocabularies are refused", tried);
    for (int i = 0; i < 2000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % n;
        char was = json[at];
        json[at] = (char)(seed >> 25);
        struct dlm_vocab *v = NULL;
        if (!dlm_vocab_parse(&v, json, n, "flip", &err)) {
            size_t len;
            for (uint32_t id = 0; id < dlm_vocab_size(v); id++)
                dlm_vocab_bytes(v, id, &len);
        }
        dlm_vocab_free(v);
        json[at] = was;
    }
    tap_ok(true, "2000 changed bytes do no harm");
    free(json);
}

static void composed(void)
{
    static const char *const names[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>", "é\"\\"};
    struct dlm_token_bytes tokens[258];
    uint8_t bytes[256];
    static const uint8_t space_a[] = " a", quote[] = "\"\n";
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
        tokens[i] = (struct dlm_token_bytes){bytes + i, 1};
    }
    tokens[256] = (struct dlm_token_bytes){space_a, 2};
    tokens[257] = (struct dlm_token_bytes){quote, 2};
    const uint32_t merges[2][2] = {{' ', 'a'}, {'"', '\n'}};
    static const char *const patterns[] = {"gpt2", "cl100k", "o200k", "[a\"]+|\\s", NULL};
    for (int i = 0; i < 5; i++) {
        struct dlm_vocab_plan plan = {names, 5, patterns[i] ? dlm_split_pattern(patterns[i]) : NULL, tokens, 258, merges, 2, false};
        struct dlm_error err = {{0}};
        char *json = NULL;
        struct dlm_vocab *v = NULL;
        size_t n = 0;
        bool good = !dlm_vocab_compose(&json, &plan, &err) && !dlm_vocab_parse(&v, json, strlen(json), "composed", &err) && dlm_vocab_size(v) == 263;
        good = good && !memcmp(dlm_vocab_bytes(v, 261, &n), " a", 2) && n == 2 && !strcmp(dlm_vocab_special_text(v, 4), names[4]);
        struct dlm_specials s = good ? dlm_vocab_specials(v) : (struct dlm_specials){0};
        tap_ok(good && s.begin == 0 && s.end == 1 && s.pad == 2 && s.mask == 3, "what is composed is read back, pattern %s: %s",
               patterns[i] ? patterns[i] : "none", err.msg);
        free(json);
        dlm_vocab_free(v);
    }
    static const struct {
        const char *names[4];
        uint32_t begin, end, pad, mask;
    } roles[] = {
        {{"[a]", "[b]", "[c]", "[d]"}, 0, 1, 2, 3},                       /* unknown names that come first: by their order */
        {{"<s>", "[b]", "[c]", "<mask>"}, 0, 1, 2, 3},
        {{"<s>", "<pad>", "</s>", "<unk>"}, 0, 2, 1, DLM_NO_ID},          /* known ones that stand elsewhere: by name alone */
        {{"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<x>"}, DLM_NO_ID, 0, DLM_NO_ID, DLM_NO_ID},
        {{"<|mask|>", "<|endoftext|>", "</s>", "<pad>"}, DLM_NO_ID, 2, 3, 0}, /* of two ends the one that is preferred */
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        struct dlm_vocab_plan plan = {roles[i].names, 4, NULL, tokens, 258, merges, 2, false};
        struct dlm_error err = {{0}};
        char *json = NULL;
        struct dlm_vocab *v = NULL;
        bool good = !dlm_vocab_compose(&json, &plan, &err) && !dlm_vocab_parse(&v, json, strlen(json), "composed", &err);
        struct dlm_specials s = good ? dlm_vocab_specials(v) : (struct dlm_specials){0};
        tap_ok(good && s.begin == roles[i].begin && s.end == roles[i].end && s.pad == roles[i].pad && s.mask == roles[i].mask,
               "roles of %s %s %s %s: %d %d %d %d", roles[i].names[0], roles[i].names[1], roles[i].names[2], roles[i].names[3], (int)s.begin,
               (int)s.end, (int)s.pad, (int)s.mask);
        free(json);
        dlm_vocab_free(v);
    }
}

int main(void)
{
    uint64_t seed = tap_seed();
    alphabet();
    utf8();
    accepted();
    refused();
    hostile(seed);
    composed();
    return tap_end();
}
