/* Writing a tokenizer.json. The order of keys and the indentation are those of Hugging Face's save(), and so is what is escaped.
 * Written straight into one text, since a vocabulary is hundreds of thousands of strings and little else. */
#include "text/compose.h"

#include "text/alphabet.h"
#include "text/split.h"
#include "text/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 30 }; /* bytes that dlm_vocab_load reads */

struct text {
    char *at;
    size_t len, cap;
    int rc; /* the first failure; nothing is written after it */
    struct dlm_error *err;
    struct {
        char at[4];
        uint8_t len;
    } of_byte[256]; /* its character in the alphabet, escaped */
};

/* Room for n bytes. */
static bool room(struct text *t, size_t n)
{
    if (t->rc || n <= t->cap - t->len)
        return !t->rc;
    if (n > MOST || t->len + n > MOST) {
        t->rc = dlm_fail(t->err, DLM_EDATA, "the vocabulary's file would have more than %d bytes, which is as much as can be read",
                         MOST);
        return false;
    }
    size_t cap = t->len + n + (t->len + n) / 2 + 4096;
    char *more = realloc(t->at, cap);
    if (!more) {
        t->rc = dlm_fail(t->err, DLM_ENOMEM, "out of memory");
        return false;
    }
    t->at = more;
    t->cap = cap;
    return true;
}

static void put(struct text *t, const char *s)
{
    size_t n = strlen(s);
    if (!room(t, n))
        return;
    memcpy(t->at + t->len, s, n);
    t->len += n;
}

static void put_number(struct text *t, size_t n)
{
    char digits[24], *s = digits + sizeof digits - 1;
    *s = 0;
    do
        *--s = (char)('0' + n % 10);
    while (n /= 10);
    put(t, s);
}

/* A character of a string, escaped where it has to be; at most six bytes. */
static size_t escape(char *to, char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *p = c ? strchr(plain, c) : NULL;
    if (p) {
        to[0] = '\\';
        to[1] = letter[p - plain];
        return 2;
    }
    if ((unsigned char)c < 0x20)
        return (size_t)snprintf(to, 8, "\\u%04X", (unsigned)(unsigned char)c);
    *to = c;
    return 1;
}

static void put_string(struct text *t, const char *s)
{
    size_t n = strlen(s);
    if (!t->rc && dlm_utf8_prefix((const uint8_t *)s, n) < n)
        t->rc = dlm_fail(t->err, DLM_EDATA, "the vocabulary cannot be written: a special token or the pattern is not UTF-8");
    if (!room(t, 6 * n + 8))
        return;
    t->at[t->len++] = '"';
    for (; *s; s++)
        t->len += escape(t->at + t->len, *s);
    t->at[t->len++] = '"';
}

/* A token by the characters that stand for its bytes. */
static void put_token(struct text *t, const struct dlm_token_bytes *b)
{
    if (!room(t, 2 * b->len + 8))
        return;
    char *p = t->at + t->len;
    *p++ = '"';
    for (size_t i = 0; i < b->len; i++) {
        memcpy(p, t->of_byte[b->at[i]].at, 2);
        p += t->of_byte[b->at[i]].len;
    }
    *p++ = '"';
    t->len = (size_t)(p - t->at);
}

static const char *truth(bool b)
{
    return b ? "true" : "false";
}

static void put_byte_level(struct text *t, const char *indent, bool prefix, bool regex)
{
    char all[256];
    snprintf(all, sizeof all,
             "{\n%s  \"type\": \"ByteLevel\",\n%s  \"add_prefix_space\": %s,\n"
             "%s  \"trim_offsets\": true,\n%s  \"use_regex\": %s\n%s}",
             indent, indent, truth(prefix), indent, indent, truth(regex), indent);
    put(t, all);
}

static void put_pretokenizer(struct text *t, const char *regex)
{
    bool gpt2 = regex && !strcmp(regex, dlm_split_pattern("gpt2"));
    if (!regex || gpt2) {
        put_byte_level(t, "  ", false, gpt2);
        return;
    }
    put(t, "{\n    \"type\": \"Sequence\",\n    \"pretokenizers\": [\n      {\n        \"type\": \"Split\",\n"
           "        \"pattern\": {\n          \"Regex\": ");
    put_string(t, regex);
    put(t, "\n        },\n        \"behavior\": \"Isolated\",\n        \"invert\": false\n      },\n      ");
    put_byte_level(t, "      ", false, false);
    put(t, "\n    ]\n  }");
}

/* What stands before an element of a list: a comma after another, and the line's beginning. */
static void put_next(struct text *t, bool *first, const char *indent)
{
    put(t, *first ? "\n" : ",\n");
    put(t, indent);
    *first = false;
}

static void put_added(struct text *t, const struct dlm_vocab_plan *p)
{
    bool first = true;
    put(t, "[");
    for (size_t i = 0; i < p->n_specials; i++) {
        put_next(t, &first, "    {\n      \"id\": ");
        put_number(t, i);
        put(t, ",\n      \"content\": ");
        put_string(t, p->specials[i]);
        put(t, ",\n      \"single_word\": false,\n      \"lstrip\": false,\n      \"rstrip\": false,\n"
               "      \"normalized\": false,\n      \"special\": true\n    }");
    }
    put(t, first ? "]" : "\n  ]");
}

static void put_words(struct text *t, const struct dlm_vocab_plan *p)
{
    bool first = true;
    put(t, "{");
    for (size_t i = 0; i < p->n_specials; i++) {
        put_next(t, &first, "      ");
        put_string(t, p->specials[i]);
        put(t, ": ");
        put_number(t, i);
    }
    for (size_t i = 0; i < p->n_tokens; i++) {
        if (!p->tokens[i].len)
            continue;
        put_next(t, &first, "      ");
        put_token(t, &p->tokens[i]);
        put(t, ": ");
        put_number(t, p->n_specials + i);
    }
    put(t, first ? "}" : "\n    }");
}

static void put_merges(struct text *t, const struct dlm_vocab_plan *p)
{
    bool first = true;
    put(t, "[");
    for (size_t i = 0; i < p->n_merges; i++) {
        put_next(t, &first, "      [\n        ");
        put_token(t, &p->tokens[p->merges[i][0]]);
        put(t, ",\n        ");
        put_token(t, &p->tokens[p->merges[i][1]]);
        put(t, "\n      ]");
    }
    put(t, first ? "]" : "\n    ]");
}

int dlm_vocab_compose(char **out, const struct dlm_vocab_plan *p, struct dlm_error *err)
{
    struct text t = {.err = err};
    for (int i = 0; i < 256; i++) {
        uint8_t b = (uint8_t)i;
        size_t n = dlm_alphabet_write(t.of_byte[i].at, &b, 1);
        t.of_byte[i].len = (uint8_t)(n == 1 ? escape(t.of_byte[i].at, t.of_byte[i].at[0]) : n);
    }
    put(&t, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": ");
    put_added(&t, p);
    put(&t, ",\n  \"normalizer\": null,\n  \"pre_tokenizer\": ");
    put_pretokenizer(&t, p->regex);
    put(&t, ",\n  \"post_processor\": null,\n  \"decoder\": ");
    put_byte_level(&t, "  ", true, true);
    put(&t, ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
            "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
            "    \"byte_fallback\": false,\n    \"ignore_merges\": ");
    put(&t, truth(p->whole_words));
    put(&t, ",\n    \"vocab\": ");
    put_words(&t, p);
    put(&t, ",\n    \"merges\": ");
    put_merges(&t, p);
    put(&t, "\n  }\n}");
    if (room(&t, 1))
        t.at[t.len] = 0;
    if (t.rc) {
        free(t.at);
        return t.rc;
    }
    *out = t.at;
    return 0;
}
