/* Agreement of texts: see the header for each measure's definition. */
#include "run/overlap.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c && strchr(" \t\n\v\f\r", c);
}

static char lowered(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c) /* or digit, or a byte outside ASCII */
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

static bool is_punctuation(char c)
{
    return c > ' ' && c < 0x7f && !is_letter(c);
}

/* The next byte of a text whose runs of white space are one space and whose ends have none; -1 at its end. */
static int next_byte(const char *s, size_t n, size_t *at)
{
    if (*at == n)
        return -1;
    if (!is_space(s[*at]))
        return (unsigned char)s[(*at)++];
    while (*at < n && is_space(s[*at]))
        ++*at;
    return *at < n ? ' ' : -1;
}

static size_t first_byte(const char *s, size_t n)
{
    size_t at = 0;
    while (at < n && is_space(s[at]))
        at++;
    return at;
}

bool dlm_overlap_exact(const char *a, size_t na, const char *b, size_t nb)
{
    size_t i = first_byte(a, na), j = first_byte(b, nb);
    for (;;) {
        const int x = next_byte(a, na, &i), y = next_byte(b, nb, &j);
        if (x != y)
            return false;
        if (x < 0)
            return true;
    }
}

/* --- words ------------------------------------------------------------------------------------------------------------------- */

struct word {
    const char *at;
    size_t n;
};

struct words {
    char *text; /* owned: the words' bytes */
    struct word *at; /* owned */
    size_t n;
};

static void words_release(struct words *w)
{
    free(w->text);
    free(w->at);
}

static bool words_new(struct words *w, size_t n)
{
    *w = (struct words){.text = malloc(n + 1), .at = calloc(n / 2 + 1, sizeof *w->at)};
    return w->text && w->at;
}

/* Words of ROUGE. */
static bool split_rouge(struct words *w, const char *s, size_t n)
{
    if (!words_new(w, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        w->text[i] = lowered(s[i]);
        if (!is_letter(s[i]))
            continue;
        if (!i || !is_letter(s[i - 1]))
            w->at[w->n++].at = w->text + i;
        w->at[w->n - 1].n++;
    }
    return true;
}

static bool is_article(const struct word *w)
{
    return (w->n == 1 && *w->at == 'a') || (w->n == 2 && !memcmp(w->at, "an", 2)) || (w->n == 3 && !memcmp(w->at, "the", 3));
}

/* Words of SQuAD. */
static bool split_squad(struct words *w, const char *s, size_t n)
{
    if (!words_new(w, n))
        return false;
    char *to = w->text;
    struct word here = {to, 0};
    for (size_t i = 0; i <= n; i++) {
        if (i < n && !is_space(s[i])) {
            if (!is_punctuation(s[i]))
                *to++ = lowered(s[i]);
            continue;
        }
        here.n = (size_t)(to - here.at);
        if (here.n && !is_article(&here))
            w->at[w->n++] = here;
        here.at = to;
    }
    return true;
}

static int compare_words(const struct word *a, const struct word *b)
{
    const int c = memcmp(a->at, b->at, a->n < b->n ? a->n : b->n);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

static int compare_grams(const struct word *a, const struct word *b, size_t n)
{
    int c = 0;
    for (size_t i = 0; i < n && !c; i++)
        c = compare_words(a + i, b + i);
    return c;
}

static int by_gram(const void *a, const void *b, void *n)
{
    return compare_grams(*(const struct word *const *)a, *(const struct word *const *)b, *(size_t *)n);
}

/* The n-grams of w in order; NULL: no memory. */
static const struct word **sorted_grams(const struct words *w, size_t grams, size_t n)
{
    const struct word **at = calloc(grams + 1, sizeof *at);
    for (size_t i = 0; at && i < grams; i++)
        at[i] = w->at + i;
    if (at)
        qsort_r(at, grams, sizeof *at, by_gram, &n);
    return at;
}

static double f1(size_t common, size_t a, size_t b)
{
    return common ? 2.0 * (double)common / (double)(a + b) : 0;
}

/* F1 of two multisets of n-grams. */
static double gram_f1(const struct words *a, const struct words *b, size_t n)
{
    const size_t na = a->n >= n ? a->n - n + 1 : 0, nb = b->n >= n ? b->n - n + 1 : 0;
    const struct word **x = sorted_grams(a, na, n), **y = sorted_grams(b, nb, n);
    size_t common = 0;
    double result = NAN;
    if (x && y) {
        for (size_t i = 0, j = 0; i < na && j < nb;) {
            const int c = compare_grams(x[i], y[j], n);
            common += c == 0;
            i += c <= 0;
            j += c >= 0;
        }
        result = f1(common, na, nb);
    }
    free(x);
    free(y);
    return result;
}

static double longest_common_f1(const struct words *a, const struct words *b)
{
    size_t *row = calloc(b->n + 1, sizeof *row);
    if (!row)
        return NAN;
    for (size_t i = 0; i < a->n; i++) {
        size_t diagonal = 0;
        for (size_t j = 0; j < b->n; j++) {
            const size_t above = row[j + 1];
            row[j + 1] = !compare_words(&a->at[i], &b->at[j]) ? diagonal + 1 : above > row[j] ? above : row[j];
            diagonal = above;
        }
    }
    const double result = f1(row[b->n], a->n, b->n);
    free(row);
    return result;
}

/* By n-grams, or for n = 0 by the longest common subsequence. `none` is what two texts without words come to. */
static double compare(const char *a, size_t na, const char *b, size_t nb, bool (*split)(struct words *, const char *, size_t), size_t n, double none)
{
    struct words x = {0}, y = {0};
    double result = NAN;
    if (split(&x, a, na) && split(&y, b, nb))
        result = !x.n && !y.n ? none : n ? gram_f1(&x, &y, n) : longest_common_f1(&x, &y);
    words_release(&x);
    words_release(&y);
    return result;
}

double dlm_overlap_f1(const char *a, size_t na, const char *b, size_t nb)
{
    return compare(a, na, b, nb, split_squad, 1, 1);
}

double dlm_overlap_rouge_n(const char *a, size_t na, const char *b, size_t nb, size_t n)
{
    return compare(a, na, b, nb, split_rouge, n, 0);
}

double dlm_overlap_rouge_l(const char *a, size_t na, const char *b, size_t nb)
{
    return compare(a, na, b, nb, split_rouge, 0, 0);
}
