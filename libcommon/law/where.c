/* Conditions on rows: a recursive-descent reader into a tree of nodes, and its evaluation; see where.h.
 *
 *   or := and { || and }      and := not { && not }      not := ! not | comparison
 *   comparison := sum [ (== = != < <= > >=) sum ]        sum := product { (+ -) product }
 *   product := power { (* /) power }      power := atom [ ^ power ]      atom := - power | ( or ) | number | "text" | column
 */
#include "law/where.h"

#include "base/number.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100, MAX_NODES = 1000 };

enum op {
    OP_NUMBER,
    OP_TEXT,
    OP_COLUMN,
    OP_OR,
    OP_AND,
    OP_NOT,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_POW,
    OP_NEG
};

struct node {
    enum op op;
    int left, right; /* nodes */
    double number;
    char *text; /* owned */
    int slot;
};

struct dlm_where {
    struct node node[MAX_NODES];
    int n, top;
    struct dlm_table *table;
    /* while reading: */
    const char *text, *at;
    int depth;
    struct dlm_error *err;
};

static int parse_or(struct dlm_where *w);

static int complain(struct dlm_where *w, const char *what)
{
    if (*w->at)
        return dlm_fail(w->err, DLM_EUSAGE, "--where '%s': %s at '%s'", w->text, what, w->at);
    return dlm_fail(w->err, DLM_EUSAGE, "--where '%s': %s at its end", w->text, what);
}

static void skip_space(struct dlm_where *w)
{
    while (isspace((unsigned char)*w->at))
        w->at++;
}

static bool take(struct dlm_where *w, const char *symbol)
{
    skip_space(w);
    size_t n = strlen(symbol);
    if (strncmp(w->at, symbol, n))
        return false;
    w->at += n;
    return true;
}

static int add(struct dlm_where *w, enum op op, int left, int right)
{
    if (left < 0)
        return left;
    if (right < 0)
        return right;
    if (w->n == MAX_NODES)
        return complain(w, "too long");
    w->node[w->n] = (struct node){.op = op, .left = left, .right = right};
    return w->n++;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

static int parse_atom(struct dlm_where *w)
{
    skip_space(w);
    const char *s = w->at;
    if (take(w, "(")) {
        int a = parse_or(w);
        return a < 0 ? a : take(w, ")") ? a : complain(w, "')' is missing");
    }
    if (*s == '"' || *s == '\'') {
        const char *end = strchr(s + 1, *s);
        if (!end)
            return complain(w, "a text without its closing quote");
        int a = add(w, OP_TEXT, 0, 0);
        if (a >= 0 && !(w->node[a].text = strndup(s + 1, (size_t)(end - s - 1))))
            return dlm_fail(w->err, DLM_ENOMEM, "out of memory");
        w->at = end + 1;
        return a;
    }
    size_t n = 0;
    bool number = isdigit((unsigned char)*s) || *s == '.';
    while (is_word(s[n]) || (number && n && (s[n] == '-' || s[n] == '+') && (s[n - 1] == 'e' || s[n - 1] == 'E') &&
                             isdigit((unsigned char)s[n + 1])))
        n++;
    if (!n)
        return complain(w, "a column, number or text is missing");
    char word[128];
    if (n >= sizeof word)
        return complain(w, "a name is too long");
    memcpy(word, s, n);
    word[n] = 0;
    int a = add(w, number ? OP_NUMBER : OP_COLUMN, 0, 0);
    if (a < 0)
        return a;
    if (number && !dlm_number_real(word, &w->node[a].number))
        return complain(w, "no such number");
    if (!number && (w->node[a].slot = dlm_table_want(w->table, word, true, w->err)) < 0)
        return w->node[a].slot;
    w->at = s + n;
    return a;
}

/* Every nesting passes here, so here its depth is bounded. */
static int parse_power(struct dlm_where *w)
{
    if (w->depth == MAX_DEPTH)
        return complain(w, "nested too deeply");
    w->depth++;
    int a = take(w, "-") ? add(w, OP_NEG, parse_power(w), 0) : parse_atom(w);
    if (a >= 0 && take(w, "^"))
        a = add(w, OP_POW, a, parse_power(w));
    w->depth--;
    return a;
}

static int parse_product(struct dlm_where *w)
{
    int a = parse_power(w);
    while (a >= 0)
        if (take(w, "*"))
            a = add(w, OP_MUL, a, parse_power(w));
        else if (take(w, "/"))
            a = add(w, OP_DIV, a, parse_power(w));
        else
            break;
    return a;
}

static int parse_sum(struct dlm_where *w)
{
    int a = parse_product(w);
    while (a >= 0)
        if (take(w, "+"))
            a = add(w, OP_ADD, a, parse_product(w));
        else if (take(w, "-"))
            a = add(w, OP_SUB, a, parse_product(w));
        else
            break;
    return a;
}

static int parse_comparison(struct dlm_where *w)
{
    static const struct {
        const char *symbol;
        enum op op;
    } ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"<", OP_LT}, {">", OP_GT}, {"=", OP_EQ}};
    int a = parse_sum(w);
    for (size_t i = 0; a >= 0 && i < sizeof ops / sizeof *ops; i++)
        if (take(w, ops[i].symbol))
            return add(w, ops[i].op, a, parse_sum(w));
    return a;
}

static int parse_not(struct dlm_where *w)
{
    skip_space(w);
    if (w->at[0] != '!' || w->at[1] == '=')
        return parse_comparison(w);
    if (w->depth == MAX_DEPTH)
        return complain(w, "nested too deeply");
    w->at++;
    w->depth++;
    int a = add(w, OP_NOT, parse_not(w), 0);
    w->depth--;
    return a;
}

static int parse_and(struct dlm_where *w)
{
    int a = parse_not(w);
    while (a >= 0 && take(w, "&&"))
        a = add(w, OP_AND, a, parse_not(w));
    return a;
}

static int parse_or(struct dlm_where *w)
{
    int a = parse_and(w);
    while (a >= 0 && take(w, "||"))
        a = add(w, OP_OR, a, parse_and(w));
    return a;
}

int dlm_where_new(struct dlm_where **out, const char *text, struct dlm_table *t, struct dlm_error *err)
{
    struct dlm_where *w = *out = calloc(1, sizeof *w);
    if (!w)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    w->table = t;
    w->text = w->at = text;
    w->err = err;
    w->top = parse_or(w);
    skip_space(w);
    int rc = w->top < 0 ? w->top : *w->at ? complain(w, "not understood") : 0;
    if (rc) {
        dlm_where_free(w);
        *out = NULL;
    }
    return rc;
}

void dlm_where_free(struct dlm_where *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->n; i++)
        free(w->node[i].text);
    free(w);
}

static bool compare(enum op op, double d)
{
    switch (op) {
    case OP_EQ: return d == 0;
    case OP_NE: return d != 0;
    case OP_LT: return d < 0;
    case OP_LE: return d <= 0;
    case OP_GT: return d > 0;
    default: return d >= 0;
    }
}

/* The text a node stands for in a comparison of texts; NULL for arithmetic. */
static const char *text_of(const struct dlm_where *w, const struct node *n)
{
    return n->op == OP_TEXT ? n->text : n->op == OP_COLUMN ? dlm_table_text(w->table, n->slot) : NULL;
}

static int evaluate(const struct dlm_where *w, int at, double *out, struct dlm_error *err)
{
    const struct node *n = &w->node[at], *l = &w->node[n->left], *r = &w->node[n->right];
    double a, b;
    int rc;
    switch (n->op) {
    case OP_NUMBER: *out = n->number; return 0;
    case OP_TEXT: return dlm_fail(err, DLM_EUSAGE, "--where '%s': the text \"%s\" can only be compared", w->text, n->text);
    case OP_COLUMN: return dlm_table_number(w->table, n->slot, out, err);
    case OP_OR:
    case OP_AND:
        if ((rc = evaluate(w, n->left, &a, err)))
            return rc;
        *out = n->op == OP_OR;
        if ((a != 0 && !isnan(a)) == (n->op == OP_OR))
            return 0;
        if ((rc = evaluate(w, n->right, &b, err)))
            return rc;
        *out = b != 0 && !isnan(b);
        return 0;
    case OP_NOT:
    case OP_NEG:
        if ((rc = evaluate(w, n->left, &a, err)))
            return rc;
        *out = n->op == OP_NEG ? -a : !(a != 0 && !isnan(a));
        return 0;
    case OP_EQ:
    case OP_NE:
    case OP_LT:
    case OP_LE:
    case OP_GT:
    case OP_GE:
        if (l->op == OP_TEXT || r->op == OP_TEXT) {
            const char *x = text_of(w, l), *y = text_of(w, r);
            if (!x || !y)
                return dlm_fail(err, DLM_EUSAGE, "--where '%s': a text is compared with a number", w->text);
            *out = compare(n->op, strcmp(x, y));
            return 0;
        }
        break;
    default: break;
    }
    if ((rc = evaluate(w, n->left, &a, err)) || (rc = evaluate(w, n->right, &b, err)))
        return rc;
    switch (n->op) {
    case OP_ADD: *out = a + b; break;
    case OP_SUB: *out = a - b; break;
    case OP_MUL: *out = a * b; break;
    case OP_DIV: *out = a / b; break;
    case OP_POW: *out = pow(a, b); break;
    default: *out = !isnan(a) && !isnan(b) && compare(n->op, a < b ? -1 : a > b); break;
    }
    return 0;
}

int dlm_where_test(const struct dlm_where *w, struct dlm_error *err)
{
    double v;
    int rc = evaluate(w, w->top, &v, err);
    return rc ? rc : v != 0 && !isnan(v);
}
