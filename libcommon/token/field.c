/* A field of a line: a scanner for the usual, jansson for the rest. */
#include "token/field.h"

#include "text/utf8.h"

#include <endian.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32, DIGITS = 15 /* of a number that no reader finds too large */ };

struct dlm_field {
    const char *name;
    size_t name_len;
    json_t *json;   /* holds the text that jansson gave last */
    uint8_t *plain; /* the text whose escapes were resolved last */
    size_t room;
    uint64_t odd;
};

int dlm_field_new(struct dlm_field **out, const char *name, struct dlm_error *err)
{
    struct dlm_field *f = calloc(1, sizeof *f);
    *out = f;
    if (!f)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    f->name = name;
    f->name_len = strlen(name);
    return 0;
}

void dlm_field_free(struct dlm_field *f)
{
    if (!f)
        return;
    json_decref(f->json);
    free(f->plain);
    free(f);
}

uint64_t dlm_field_odd(const struct dlm_field *f)
{
    return f->odd;
}

/* --- scanning: each function moves *p behind what it accepts before end, or says no ------------------------------------------- */

struct string {
    const uint8_t *at;
    size_t n;
    bool escaped;
};

static bool hex4(const uint8_t *p, const uint8_t *end, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < 4; i++) {
        if (p + i >= end)
            return false;
        unsigned c = p[i], d = c - '0' < 10 ? c - '0' : (c | 32) - 'a' < 6 ? (c | 32) - 'a' + 10 : 16;
        if (d > 15)
            return false;
        *v = *v << 4 | d;
    }
    return true;
}

/* Behind the `u`: one code unit, or the two of a pair. Bytes taken, 0: no. */
static size_t code_point(const uint8_t *p, const uint8_t *end, uint32_t *v)
{
    uint32_t low;
    if (!hex4(p, end, v) || (*v >= 0xdc00 && *v < 0xe000))
        return 0;
    if (*v < 0xd800 || *v >= 0xe000)
        return 4;
    if (end - p < 10 || p[4] != '\\' || p[5] != 'u' || !hex4(p + 6, end, &low) || low < 0xdc00 || low >= 0xe000)
        return 0;
    *v = 0x10000 + ((*v - 0xd800) << 10) + (low - 0xdc00);
    return 10;
}

/* How many of the eight bytes at p are neither a quote nor a backslash nor a control character, counted from the first. */
static int ordinary(const uint8_t *p)
{
    const uint64_t ones = 0x0101010101010101u, tops = ones << 7;
    uint64_t v, quote, slash;
    memcpy(&v, p, 8);
    v = le64toh(v);
    quote = v ^ ones * '"';
    slash = v ^ ones * '\\';
    /* A byte's top bit where it is 0, or below 0x20; a borrow reaches only bytes behind one that is found. */
    uint64_t found = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - ones * 0x20) & ~v)) & tops;
    return found ? __builtin_ctzll(found) / 8 : 8;
}

static bool string(const uint8_t **p, const uint8_t *end, struct string *s)
{
    const uint8_t *q = *p;
    if (q == end || *q != '"')
        return false;
    *s = (struct string){++q, 0, false};
    for (;;) {
        while (end - q >= 8) {
            int n = ordinary(q);
            q += n;
            if (n < 8)
                break;
        }
        if (q == end || *q < 0x20)
            return false;
        if (*q == '"')
            break;
        if (*q++ != '\\')
            continue;
        s->escaped = true;
        uint32_t v;
        size_t n;
        if (q == end)
            return false;
        switch (*q++) {
        case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': break;
        case 'u':
            n = code_point(q, end, &v);
            if (!n)
                return false;
            q += n;
            break;
        default: return false;
        }
    }
    s->n = (size_t)(q - s->at);
    *p = q + 1;
    return true;
}

static void space(const uint8_t **p, const uint8_t *end)
{
    while (*p < end && (**p == ' ' || **p == '\t' || **p == '\r' || **p == '\n'))
        ++*p;
}

static bool character(const uint8_t **p, const uint8_t *end, uint8_t c)
{
    space(p, end);
    if (*p == end || **p != c)
        return false;
    ++*p;
    return true;
}

static bool digit(const uint8_t *p, const uint8_t *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static bool number(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *q = *p, *from;
    q += *q == '-';
    from = q;
    if (!digit(q, end) || (*q == '0' && digit(q + 1, end)))
        return false;
    while (digit(q, end))
        q++;
    if (q < end && *q == '.') {
        if (!digit(++q, end))
            return false;
        while (digit(q, end))
            q++;
    }
    *p = q;
    return q - from <= DIGITS;
}

static bool word(const uint8_t **p, const uint8_t *end, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(end - *p) < n || memcmp(*p, w, n))
        return false;
    *p += n;
    return true;
}

static bool members(const struct dlm_field *f, const uint8_t **p, const uint8_t *end, int depth, struct string *found);

static bool value(const uint8_t **p, const uint8_t *end, int depth)
{
    struct string s;
    space(p, end);
    if (*p == end || depth > DEEPEST)
        return false;
    switch (**p) {
    case '"': return string(p, end, &s);
    case '{': return members(NULL, p, end, depth + 1, NULL);
    case '[':
        ++*p;
        if (character(p, end, ']'))
            return true;
        do
            if (!value(p, end, depth + 1))
                return false;
        while (character(p, end, ','));
        return character(p, end, ']');
    case 't': return word(p, end, "true");
    case 'f': return word(p, end, "false");
    case 'n': return word(p, end, "null");
    default: return (**p == '-' || digit(*p, end)) && number(p, end);
    }
}

/* An object; with f, the last string under its name is *found. A name with escapes might be any name. */
static bool members(const struct dlm_field *f, const uint8_t **p, const uint8_t *end, int depth, struct string *found)
{
    struct string name;
    if (!character(p, end, '{'))
        return false;
    if (character(p, end, '}'))
        return true;
    do {
        space(p, end);
        if (!string(p, end, &name) || name.escaped || !character(p, end, ':'))
            return false;
        if (f && name.n == f->name_len && !memcmp(name.at, f->name, name.n)) {
            space(p, end);
            if (!string(p, end, found))
                return false;
        } else if (!value(p, end, depth)) {
            return false;
        }
    } while (character(p, end, ','));
    return character(p, end, '}');
}

/* --- the text ------------------------------------------------------------------------------------------------------------------ */

static size_t put_utf8(uint8_t *to, uint32_t v)
{
    if (v < 0x80) {
        to[0] = (uint8_t)v;
        return 1;
    }
    size_t n = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, v >>= 6)
        to[i] = (uint8_t)(0x80 | (v & 0x3f));
    to[0] = (uint8_t)(0xf00 >> n | v);
    return n;
}

/* Resolve the escapes of a string that string() accepted; never longer than they are written. */
static size_t resolve(uint8_t *to, const struct string *s)
{
    static const char from[] = "bfnrt", means[] = "\b\f\n\r\t";
    const uint8_t *p = s->at, *end = p + s->n;
    uint8_t *q = to;
    while (p < end) {
        const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        memcpy(q, p, n);
        q += n;
        p += n;
        if (!slash)
            break;
        uint8_t c = p[1];
        p += 2;
        if (c == 'u') {
            uint32_t v;
            p += code_point(p, end, &v);
            q += put_utf8(q, v);
        } else {
            const char *k = strchr(from, c);
            *q++ = k ? (uint8_t)means[k - from] : c;
        }
    }
    return (size_t)(q - to);
}

static int odd_text(struct dlm_field *f, const uint8_t *json, size_t len, const char *file, unsigned long long line, const uint8_t **text,
                    size_t *n, struct dlm_error *err)
{
    json_error_t where;
    f->odd++;
    json_decref(f->json);
    f->json = json_loadb((const char *)json, len, JSON_ALLOW_NUL, &where);
    if (!f->json) {
        char *near = strstr(where.text, " near '"); /* the line itself may be long */
        if (near && strlen(near) > 60)
            *near = 0;
        return dlm_fail(err, DLM_EDATA, "'%s' line %llu, column %d is not JSON: %.200s", file, line, where.column, where.text);
    }
    if (!json_is_object(f->json))
        return dlm_fail(err, DLM_EDATA, "'%s' line %llu is not a JSON object", file, line);
    const json_t *v = json_object_get(f->json, f->name);
    if (!v)
        return dlm_fail(err, DLM_EDATA, "'%s' line %llu has no field '%s'", file, line, f->name);
    if (!json_is_string(v))
        return dlm_fail(err, DLM_EDATA, "'%s' line %llu: field '%s' is not a string", file, line, f->name);
    *text = (const uint8_t *)json_string_value(v);
    *n = json_string_length(v);
    return 0;
}

int dlm_field_text(struct dlm_field *f, const uint8_t *json, size_t len, const char *file, uint64_t line, const uint8_t **text, size_t *n,
                   struct dlm_error *err)
{
    const uint8_t *p = json, *end = json + len;
    struct string found = {0};
    bool plain = dlm_utf8_prefix(json, len) == len && members(f, &p, end, 0, &found);
    space(&p, end);
    if (!plain || p != end || !found.at)
        return odd_text(f, json, len, file, line, text, n, err);
    *text = found.at;
    *n = found.n;
    if (!found.escaped)
        return 0;
    if (found.n > f->room) {
        free(f->plain);
        f->room = 0;
        f->plain = malloc(found.n + found.n / 4);
        if (!f->plain)
            return dlm_fail(err, DLM_ENOMEM, "'%s' line %llu: no memory for a document of %zu bytes", file, (unsigned long long)line, found.n);
        f->room = found.n + found.n / 4;
    }
    *n = resolve(f->plain, &found);
    *text = f->plain;
    return 0;
}
