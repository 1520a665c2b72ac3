/* Cutting text into pieces: a hand-written scanner, or a chain of regular expressions run by PCRE2's JIT. */
#include "text/split.h"

#include "text/scan.h"
#include "text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_STEPS = 16, JIT_STACK_START = 64 << 10, JIT_STACK_MAX = 32 << 20, MANY = 256 };

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define O200K_HEAD "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_TAIL "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

static const struct {
    const char *name, *regex;
    enum dlm_scan scan;
} named[] = {
    {"gpt2", CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", DLM_SCAN_GPT2},
    {"cl100k",
     "(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     DLM_SCAN_CL100K},
    {"o200k",
     "[^\\r\\n\\p{L}\\p{N}]?" O200K_HEAD "*" O200K_TAIL "+(?i:" CONTRACTIONS ")?|[^\\r\\n\\p{L}\\p{N}]?" O200K_HEAD "+" O200K_TAIL
              "*(?i:" CONTRACTIONS ")?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     DLM_SCAN_O200K},
};
enum { N_NAMED = sizeof named / sizeof *named };
/* Steps that a Digits pre-tokenizer stands for; they never look ahead, so they may be cut like the named ones. */
static const char *const digit_steps[] = {"\\p{N}", "\\p{N}+"};

struct dlm_split {
    size_t n;
    pcre2_code *code[MAX_STEPS];
    bool whole[MAX_STEPS], jit[MAX_STEPS];
    bool nfc, may_cut;
    enum dlm_scan scan; /* instead of the only step */
};

struct dlm_split_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* One run over a text. */
struct run {
    const struct dlm_split *split;
    struct dlm_split_scratch *scratch;
    dlm_pieces_fn *pieces;
    void *to;
    struct dlm_error *err;
};

const char *dlm_split_pattern(const char *name)
{
    for (int i = 0; i < N_NAMED; i++)
        if (!strcmp(name, named[i].name))
            return named[i].regex;
    return name;
}

static bool cuttable(const char *regex)
{
    for (int i = 0; i < N_NAMED; i++)
        if (!strcmp(regex, named[i].regex))
            return true;
    return !strcmp(regex, digit_steps[0]) || !strcmp(regex, digit_steps[1]);
}

/* Oniguruma's dialect in PCRE2's words; what means two different things and has no such words is refused. Owned by the caller. */
static int translate(char **out, const char *regex, struct dlm_error *err)
{
    static const char word[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
    size_t n = strlen(regex), k = 0;
    if (n > 64 << 10)
        return dlm_fail(err, DLM_EDATA, "a pattern of %zu bytes is too long", n);
    size_t room = n * (sizeof word + 4) / 2 + sizeof word + 8; /* each two bytes become at most the word class with brackets */
    char *t = malloc(room);
    if (!t)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    bool class = false, class_begins = false;
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        char c = regex[i], d = c == '\\' && i + 1 < n ? regex[i + 1] : 0;
        bool begins = class_begins;
        class_begins = false;
        if (d) {
            i++;
            if (d == 's' || d == 'S') {
                k += (size_t)snprintf(t + k, room - k, "\\%c{WSpace}", d == 's' ? 'p' : 'P');
            } else if (d == 'w' || (d == 'W' && !class)) {
                k += (size_t)snprintf(t + k, room - k, "%s%s%s", class ? "" : d == 'w' ? "[" : "[^", word, class ? "" : "]");
            } else if (d == 'W' || d == 'h' || d == 'H' || d == 'K' || d == 'Q' || d == 'u' || d == 'C') {
                rc = dlm_fail(err, DLM_EDATA, "'\\%c' in a pattern is not implemented", d);
            } else {
                t[k++] = c;
                t[k++] = d;
            }
            continue;
        }
        if (class && c == '[' && regex[i + 1] != ':')
            rc = dlm_fail(err, DLM_EDATA, "a class within a class in a pattern is not implemented: escape the '['");
        else if (class && c == '&' && regex[i + 1] == '&')
            rc = dlm_fail(err, DLM_EDATA, "'&&' in a class of a pattern is not implemented");
        if (rc)
            break;
        if (!class && c == '[') {
            class = class_begins = true;
        } else if (class && c == '^' && begins && regex[i - 1] == '[') {
            class_begins = true;
        } else if (class && c == '[') { /* [:name:] */
            const char *close = strstr(regex + i, ":]");
            if (!close)
                rc = dlm_fail(err, DLM_EDATA, "a class name in a pattern does not end");
            for (; !rc && regex + i < close + 1; i++)
                t[k++] = regex[i];
            c = ']';
        } else if (class && c == ']' && !begins) {
            class = false;
        }
        t[k++] = c;
    }
    t[k] = 0;
    if (rc)
        free(t);
    else
        *out = t;
    return rc;
}

static int compile(struct dlm_split *s, const struct dlm_split_step *step, struct dlm_error *err)
{
    char *text = NULL;
    int rc = translate(&text, step->regex, err);
    if (rc)
        return rc;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        free(text);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    free(text);
    if (!re) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof why);
        return dlm_fail(err, DLM_EDATA, "bad pattern '%.200s': %s", step->regex, (char *)why);
    }
    s->jit[s->n] = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) == 0;
    s->whole[s->n] = step->whole;
    s->code[s->n++] = re;
    s->may_cut = s->may_cut && cuttable(step->regex);
    return 0;
}

int dlm_split_new(struct dlm_split **out, const struct dlm_split_step *steps, size_t n, bool nfc, struct dlm_error *err)
{
    if (n > MAX_STEPS)
        return dlm_fail(err, DLM_EDATA, "more than %d pre-tokenizers in a row are not implemented", MAX_STEPS);
    struct dlm_split *s = calloc(1, sizeof *s);
    if (!s)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    s->nfc = nfc;
    s->may_cut = n > 0;
    for (int i = 0; n == 1 && i < N_NAMED; i++)
        if (!strcmp(steps[0].regex, named[i].regex))
            s->scan = named[i].scan; /* it leaves nothing out, so it does not matter whether the step is whole */
    for (size_t i = 0; i < n && !s->scan; i++) {
        int rc = compile(s, &steps[i], err);
        if (rc) {
            dlm_split_free(s);
            return rc;
        }
    }
    *out = s;
    return 0;
}

void dlm_split_free(struct dlm_split *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        pcre2_code_free(s->code[i]);
    free(s);
}

bool dlm_split_normalizes(const struct dlm_split *s)
{
    return s->nfc;
}

int dlm_split_scratch_new(struct dlm_split_scratch **out, const struct dlm_split *s, struct dlm_error *err)
{
    struct dlm_split_scratch *k = calloc(1, sizeof *k);
    bool good = k && (k->match = pcre2_match_data_create(1, NULL)) && (k->context = pcre2_match_context_create(NULL));
    bool jit = false;
    for (size_t i = 0; i < s->n; i++)
        jit = jit || s->jit[i];
    if (good && jit) {
        good = (k->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL)) != NULL;
        if (good)
            pcre2_jit_stack_assign(k->context, NULL, k->stack);
    }
    if (!good) {
        dlm_split_scratch_free(k);
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    *out = k;
    return 0;
}

void dlm_split_scratch_free(struct dlm_split_scratch *k)
{
    if (!k)
        return;
    pcre2_match_data_free(k->match);
    pcre2_match_context_free(k->context);
    pcre2_jit_stack_free(k->stack);
    free(k);
}

/* The first match of step i at or after `at`: 1 and its bounds, 0 when there is none. */
static int next_match(const struct run *r, size_t i, const uint8_t *text, size_t len, size_t at, size_t *begin, size_t *end)
{
    pcre2_match_data *m = r->scratch->match;
    int got = r->split->jit[i]
                  ? pcre2_jit_match(r->split->code[i], text, len, at, PCRE2_NO_UTF_CHECK, m, r->scratch->context)
                  : pcre2_match(r->split->code[i], text, len, at, PCRE2_NO_UTF_CHECK, m, r->scratch->context);
    if (got == PCRE2_ERROR_NOMATCH)
        return 0;
    if (got < 0) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(got, why, sizeof why);
        return dlm_fail(r->err, DLM_EDATA, "the pattern failed on a text of %zu bytes at byte %zu: %s", len, at, (char *)why);
    }
    const PCRE2_SIZE *o = pcre2_get_ovector_pointer(m);
    *begin = o[0];
    *end = o[1];
    if (o[0] < at || o[1] < o[0] || o[1] > len)
        return dlm_fail(r->err, DLM_EDATA, "the pattern matches before the place it was tried at");
    return 1;
}

/* Pieces of text[0..len) that begin before `stop`, through step i and those after it. */
static int run_step(const struct run *r, size_t i, const uint8_t *text, size_t len, size_t stop)
{
    if (i == r->split->n)
        return r->pieces(r->to, text, len, &(size_t){len < stop ? len : stop}, 1, r->err);
    size_t kept = 0; /* all before it has been passed on */
    for (size_t at = 0; kept < stop;) {
        size_t b = len, e = len;
        int got = at < len ? next_match(r, i, text, len, at, &b, &e) : 0;
        if (got < 0)
            return got;
        if (b > kept) {
            if (r->split->whole[i])
                return dlm_fail(r->err, DLM_EDATA,
                                "the vocabulary's pattern would drop text: it has no match at byte %zu of %zu", kept, len);
            int rc = run_step(r, i + 1, text + kept, b - kept, (b < stop ? b : stop) - kept);
            if (rc)
                return rc;
            kept = b;
        }
        if (!got || b >= stop)
            break;
        if (e > b) {
            int rc = run_step(r, i + 1, text + b, e - b, (e < stop ? e : stop) - b);
            if (rc)
                return rc;
            kept = at = e;
        } else { /* an empty match parts the text, and the next one is looked for a character further on */
            at = b < len ? b + dlm_utf8_char(text + b, len - b) : len;
        }
    }
    return 0;
}

/* The end of the bytes from `at` on at which no character begins. */
static size_t skip_bad(const uint8_t *text, size_t at, size_t len, size_t all)
{
    while (at < len && !dlm_utf8_char(text + at, all - at))
        at++;
    return at;
}

/* Everything by a scanner, many pieces at a time. */
static int run_scan(const struct run *r, const uint8_t *text, size_t len, size_t context)
{
    size_t ends[MANY + DLM_SCAN_MORE], valid = 0;
    int rc = 0;
    while (len && !rc) {
        size_t n = dlm_scan_pieces(r->split->scan, text, 0, len + context, len, &valid, ends, MANY);
        size_t end = ends[n - 1] < len ? ends[n - 1] : len;
        ends[n - 1] = end;
        rc = r->pieces(r->to, text, len + context, ends, n, r->err);
        text += end;
        len -= end;
        valid = valid > end ? valid - end : 0;
    }
    return rc;
}

/* Normalised text by a scanner. */
static int run_steps(const struct run *r, const uint8_t *text, size_t len, size_t stop)
{
    return r->split->scan ? run_scan(r, text, stop, len - stop) : run_step(r, 0, text, len, stop);
}

static int run_valid(const struct run *r, const uint8_t *text, size_t len, size_t stop)
{
    bool ascii = true;
    if (r->split->nfc)
        for (size_t i = 0; i < stop && ascii; i++)
            ascii = text[i] < 0x80;
    if (!r->split->nfc || ascii)
        return run_steps(r, text, len, stop);
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t n = utf8proc_map(text, (utf8proc_ssize_t)len, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return n == UTF8PROC_ERROR_NOMEM ? dlm_fail(r->err, DLM_ENOMEM, "out of memory")
                                         : dlm_fail(r->err, DLM_EDATA, "normalising the text failed: %s", utf8proc_errmsg(n));
    int rc = run_steps(r, nfc, (size_t)n, (size_t)n - (len - stop)); /* the context is ASCII: it stays as long as it was */
    free(nfc);
    return rc;
}

int dlm_split_run_many(const struct dlm_split *s, struct dlm_split_scratch *k, const void *text, size_t len, size_t context,
                       dlm_pieces_fn *pieces, void *to, struct dlm_error *err)
{
    struct run r = {s, k, pieces, to, err};
    const uint8_t *t = text;
    if (s->scan && !s->nfc)
        return run_scan(&r, t, len, context);
    for (size_t at = 0; at < len;) {
        size_t n = dlm_utf8_prefix(t + at, len + context - at);
        if (n) {
            int rc = run_valid(&r, t + at, n, n < len - at ? n : len - at);
            if (rc)
                return rc;
            at += n;
        }
        size_t bad = skip_bad(t, at, len, len + context);
        if (bad > at) {
            int rc = pieces(to, t + at, len - at, &(size_t){bad - at}, 1, err);
            if (rc)
                return rc;
            at = bad;
        }
    }
    return 0;
}

struct one_by_one {
    dlm_piece_fn *piece;
    void *to;
};

static int each(void *to, const uint8_t *text, size_t room, const size_t *ends, size_t n, struct dlm_error *err)
{
    const struct one_by_one *o = to;
    int rc = 0;
    (void)room;
    for (size_t i = 0, from = 0; i < n && !rc; from = ends[i++])
        rc = o->piece(o->to, text + from, ends[i] - from, err);
    return rc;
}

int dlm_split_run(const struct dlm_split *s, struct dlm_split_scratch *k, const void *text, size_t len, size_t context,
                  dlm_piece_fn *piece, void *to, struct dlm_error *err)
{
    struct one_by_one o = {piece, to};
    return dlm_split_run_many(s, k, text, len, context, each, &o, err);
}

bool dlm_split_may_cut(const struct dlm_split *s)
{
    return s->may_cut;
}

static bool letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

size_t dlm_split_cut(const uint8_t *text, size_t from, size_t len)
{
    while (len > from + 1) {
        const uint8_t *lf = memrchr(text + from, '\n', len - 1 - from);
        if (!lf)
            break;
        size_t p = (size_t)(lf - text) + 1;
        if (letter(text[p]))
            return p;
        len = p;
    }
    return 0;
}

void dlm_split_libraries(char *to, size_t size)
{
    char pcre2[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = 0; /* its date follows */
    snprintf(to, size, "PCRE2 %s, utf8proc %s, jansson %s", pcre2, utf8proc_version(), JANSSON_VERSION);
}
