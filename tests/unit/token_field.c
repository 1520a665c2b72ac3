/* A field of a line of JSON: whatever the line, what jansson says, text or refusal; and ordinary lines do not need it. */
#include "base/rng.h"
#include "tap.h"
#include "token/field.h"

#include <jansson.h>
#include <string.h>

static struct dlm_rng g;
static struct dlm_field *field;
static uint64_t accepted, refused, texts_differ, errors_differ;

static uint32_t below(uint32_t n)
{
    return (uint32_t)dlm_rng_below(&g, n);
}

/* Compare one line; its bytes stand in memory of just that size, so that a sanitizer sees a read behind it. */
static void compare(const char *line, size_t len)
{
    struct dlm_error err = {{0}};
    uint8_t *exact = malloc(len ? len : 1);
    const uint8_t *text;
    size_t n;
    memcpy(exact, line, len);
    int rc = dlm_field_text(field, exact, len, "x.jsonl", 7, &text, &n, &err);
    json_t *j = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    const json_t *v = json_is_object(j) ? json_object_get(j, "text") : NULL;
    if (json_is_string(v)) {
        accepted++;
        if (rc || n != json_string_length(v) || memcmp(text, json_string_value(v), n)) {
            if (!texts_differ++)
                printf("# %.*s: %s\n", (int)len, line, rc ? err.msg : "another text");
        }
    } else {
        refused++;
        if (rc != DLM_EDATA || !strstr(err.msg, "'x.jsonl' line 7")) {
            if (!errors_differ++)
                printf("# %.*s: taken, or %s\n", (int)len, line, err.msg);
        }
    }
    json_decref(j);
    free(exact);
}

struct line {
    char at[4096];
    size_t n;
};

static void add(struct line *l, const char *s)
{
    size_t n = strlen(s);
    if (l->n + n < sizeof l->at) {
        memcpy(l->at + l->n, s, n);
        l->n += n;
    }
}

static const char *any(const char *const *all, size_t n)
{
    return all[below((uint32_t)n)];
}
#define ANY(...) any((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void add_space(struct line *l)
{
    if (!below(3))
        add(l, ANY(" ", "  ", "\t", "\r", "\n"));
}

static void add_string(struct line *l)
{
    add(l, "\"");
    for (uint32_t k = below(12); k--;)
        add(l, ANY("a", "word ", "a longer run of letters ", "\\n", "\\\"", "\\\\", "\\/", "\\b\\f\\r\\t", "\\u0041", "\\u00e9", "\\u20AC", "\\ud83d\\ude00", "\\u0000",
                   "\xc3\xa9", "\xe4\xb8\x80", "\xf0\x9f\x98\x80", "\x7f", "{", "}", ":", ",", "[", "'", "text"));
    if (!below(25)) /* now and then what is wrong, or odd */
        add(l, ANY("\\ud83d", "\\ude00", "\\ud83d\\u0041", "\\x", "\\", "\\u12", "\\u12g4", "\xff", "\xc3", "\xed\xa0\x80", "\x01", "\n", "\xf4\x90\x80\x80"));
    add(l, "\"");
}

static void add_value(struct line *l, int depth)
{
    add_space(l);
    switch (below(depth > 3 ? 3 : 6)) {
    case 0: add_string(l); break;
    case 1:
        add(l, ANY("0", "-0", "12", "-3.5", "0.25", "1e5", "2E-3", "123456789012345", "123456789012345678", "99999999999999999999", "1e999", "1.5e+7"));
        break;
    case 2: add(l, below(40) ? ANY("true", "false", "null") : ANY("01", "-", "1.", ".5", "+1", "nul", "truex", "NaN", "Infinity", "'a'", "")); break;
    case 3: add_string(l); break;
    case 4:
        add(l, "[");
        for (uint32_t k = below(4), i = 0; i < k; i++) {
            if (i)
                add(l, ",");
            add_value(l, depth + 1);
        }
        add_space(l);
        add(l, below(40) ? "]" : ANY(",]", "}", ""));
        break;
    default:
        add(l, "{");
        for (uint32_t k = below(4), i = 0; i < k; i++) {
            if (i)
                add(l, ",");
            add_space(l);
            add(l, ANY("\"text\"", "\"id\"", "\"\"", "\"te\\u0078t\"", "\"t\""));
            add_space(l);
            add(l, ":");
            add_value(l, depth + 1);
        }
        add_space(l);
        add(l, below(40) ? "}" : ANY(",}", "]", ""));
    }
}

static void add_object(struct line *l)
{
    add_space(l);
    add(l, "{");
    for (uint32_t k = 1 + below(4), i = 0; i < k; i++) {
        if (i)
            add(l, ",");
        add_space(l);
        if (below(3)) {
            add(l, below(12) ? "\"text\"" : "\"te\\u0078t\"");
            add_space(l);
            add(l, ":");
            add_space(l);
            if (below(15))
                add_string(l);
            else
                add_value(l, 1);
        } else {
            add_string(l);
            add(l, ":");
            add_value(l, 1);
        }
        add_space(l);
    }
    add(l, "}");
    add_space(l);
}

int main(void)
{
    static const char *const fixed[] = {
        "{\"text\":\"a\"}", "{\"text\":\"\"}", "{}", "[]", "\"text\"", "{\"text\":1}", "{\"text\":null}", "{\"text\":\"a\",\"text\":\"b\"}",
        "{\"text\":\"a\",\"text\":1}", "{\"text\":1,\"text\":\"a\"}", "{\"te\\u0078t\":\"b\",\"text\":\"a\"}", "{\"text\":\"a\",\"te\\u0078t\":\"b\"}", "{\"text\":\"a\"}x",
        "{\"text\":\"a\"} {}", "{\"text\":\"a\",}", "{,\"text\":\"a\"}", "{\"text\" \"a\"}", "{\"text\":\"a\" \"b\":1}", "{\"text\":\"a", "{\"text\":\"a\\", "{\"text\":\"a\\u",
        "{\"text\":\"\\ud800\"}", "{\"text\":\"\\udc00\\ud800\"}", "{\"text\":\"\\ud83d\\ude0\"}", "{\"a\":{\"text\":\"no\"},\"text\":\"yes\"}", "{\"a\":{\"text\":\"no\"}}",
        "{\"\\u0000\":1,\"text\":\"a\"}", "{\"text\":\"12345678\"}", "{\"text\":\"1234567\\\"\"}", "{\"text\":\"12345678901234567\x1f\"}", "{\"text\":\"\xc2\x80\xef\xbf\xbf\"}",
        "{\"n\":9223372036854775808,\"text\":\"a\"}", "{\"n\":-0.0,\"text\":\"a\"}", "{\"n\":1e400,\"text\":\"a\"}", "\xef\xbb\xbf{\"text\":\"a\"}",
    };
    struct dlm_error err;
    uint64_t seed = tap_seed();
    if (dlm_field_new(&field, "text", &err))
        return 1;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        compare(fixed[i], strlen(fixed[i]));
    tap_ok(!texts_differ && !errors_differ, "%zu lines, %llu with a text", sizeof fixed / sizeof *fixed, (unsigned long long)accepted);
    compare("{\"text\":\"a\0b\"}", 14);
    for (int depth = 1; depth < 5000; depth *= 3) { /* deeper than the scanner goes, and than jansson does */
        char *deep = malloc(2 * (size_t)depth + 64);
        size_t n = (size_t)sprintf(deep, "{\"text\":\"a\",\"d\":");
        memset(deep + n, '[', (size_t)depth);
        memset(deep + n + depth, ']', (size_t)depth);
        deep[n + 2 * (size_t)depth] = '}';
        compare(deep, n + 2 * (size_t)depth + 1);
        free(deep);
    }
    tap_ok(!texts_differ && !errors_differ, "a NUL byte, and arrays in arrays");

    accepted = refused = 0;
    for (int i = 0; i < 60000; i++) {
        dlm_rng_init(&g, seed, (uint64_t)i, DLM_RNG_TEST);
        struct line l = {.n = 0};
        add_object(&l);
        if (i % 3 == 0 && l.n) /* and damaged */
            for (uint32_t k = 1 + below(2); k--;) {
                size_t at = below((uint32_t)l.n);
                if (below(3))
                    l.at[at] = (char)below(256);
                else
                    memmove(l.at + at, l.at + at + 1, --l.n - at);
            }
        compare(l.at, l.n);
    }
    tap_ok(!texts_differ && accepted > 20000, "%llu lines that jansson reads give its text (%llu do not)", (unsigned long long)accepted, (unsigned long long)texts_differ);
    tap_ok(!errors_differ && refused > 5000, "%llu that it refuses, or finds no text in, are refused (%llu are not)", (unsigned long long)refused,
           (unsigned long long)errors_differ);
    dlm_field_free(field);

    if (dlm_field_new(&field, "text", &err))
        return 1;
    static const char usual[] = "{\"id\": 12, \"url\": \"http://x.y/z\", \"score\": 0.75, \"ok\": true, \"meta\": {\"lang\": [\"de\", null]}, "
                                "\"text\": \"Two lines,\\n\\\"quoted\\\" \\u00e9 \xc3\xa9.\"}\r";
    compare(usual, sizeof usual - 1);
    tap_ok(!texts_differ && !dlm_field_odd(field), "an ordinary line is scanned in place");
    dlm_field_free(field);
    return tap_end();
}
