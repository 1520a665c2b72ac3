/* Agreement of texts against values worked out by hand, and answers found by patterns. */
#include "run/extract.h"
#include "run/overlap.h"
#include "tap.h"

#include <string.h>

#define S(text) text, sizeof text - 1

static void test_exact(void)
{
    tap_ok(dlm_overlap_exact(S("  the cat\n"), S("the\t cat")), "white space at the ends and in runs does not matter");
    tap_ok(!dlm_overlap_exact(S("thecat"), S("the cat")), "but whether there is any does");
    tap_ok(!dlm_overlap_exact(S("The cat"), S("the cat")), "nor is case ignored");
    tap_ok(!dlm_overlap_exact(S("the cat sat"), S("the cat")) && !dlm_overlap_exact(S("the"), S("the cat")), "a part is not the whole");
    tap_ok(dlm_overlap_exact(S(" \n"), S("")) && !dlm_overlap_exact(S(" "), S("a")), "nothing is nothing");
    tap_ok(dlm_overlap_exact(S("a\0b"), S("a\0b")) && !dlm_overlap_exact(S("a\0b"), S("a\0c")), "NUL is a byte like others");
}

static void test_f1(void)
{
    /* {cat, sat, on, mat} and {cat, is, on, mat, too}: 3 common, precision 3/4, recall 3/5. */
    tap_near(dlm_overlap_f1(S("The cat sat on the mat."), S("A cat is on a mat, too!")), 2.0 * 3 / 9, 1e-12, "articles, case and punctuation are left out");
    tap_near(dlm_overlap_f1(S("b b b"), S("b b c")), 2.0 * 2 / 6, 1e-12, "words count as often as they stand there");
    tap_near(dlm_overlap_f1(S("don't"), S("dont")), 1, 1e-12, "punctuation is deleted, not a space");
    tap_near(dlm_overlap_f1(S("the"), S("a")), 1, 1e-12, "two texts without words agree");
    tap_near(dlm_overlap_f1(S("the"), S("cat")), 0, 1e-12, "with one they do not");
    tap_near(dlm_overlap_f1(S("x y"), S("z")), 0, 1e-12, "nothing in common");
    tap_near(dlm_overlap_f1(S("\xc3\xa9t\xc3\xa9 bleu"), S("\xc3\xa9t\xc3\xa9")), 2.0 * 1 / 3, 1e-12, "bytes outside ASCII are letters");
}

static void test_rouge(void)
{
    /* Lin (2004): police killed the gunman / police kill the gunman: 3 of 4 words, 1 of 3 bigrams, the subsequence police the gunman. */
    tap_near(dlm_overlap_rouge_n(S("police kill the gunman"), S("Police killed the gunman."), 1), 0.75, 1e-12, "ROUGE-1");
    tap_near(dlm_overlap_rouge_n(S("police kill the gunman"), S("Police killed the gunman."), 2), 1.0 / 3, 1e-12, "ROUGE-2");
    tap_near(dlm_overlap_rouge_l(S("police kill the gunman"), S("Police killed the gunman.")), 0.75, 1e-12, "ROUGE-L");
    tap_near(dlm_overlap_rouge_l(S("the gunman kill police"), S("Police killed the gunman.")), 0.5, 1e-12, "ROUGE-L minds the order");
    tap_near(dlm_overlap_rouge_n(S("the gunman kill police"), S("Police killed the gunman."), 1), 0.75, 1e-12, "and ROUGE-1 does not");
    tap_near(dlm_overlap_rouge_n(S("a-b a_b"), S("a b"), 1), 2.0 * 2 / 6, 1e-12, "what is neither letter nor digit parts words");
    tap_near(dlm_overlap_rouge_n(S("a b a b a"), S("a b"), 2), 2.0 * 1 / 5, 1e-12, "n-grams count as often as they stand there");
    tap_near(dlm_overlap_rouge_n(S("same"), S("same"), 2), 0, 1e-12, "no bigram, no ROUGE-2");
    tap_near(dlm_overlap_rouge_l(S(""), S("")), 0, 1e-12, "no words, no ROUGE");
    tap_near(dlm_overlap_rouge_l(S("a x b y c z d"), S("a b c d")), 2.0 * 4 / 11, 1e-12, "a subsequence may have gaps");
}

static bool finds(const char *pattern, const char *text, const char *want)
{
    struct dlm_error err = {{0}};
    struct dlm_extract *e;
    if (dlm_extract_new(&e, (struct dlm_span){pattern, strlen(pattern)}, &err)) {
        printf("# %s\n", err.msg);
        return false;
    }
    struct dlm_span got = dlm_extract_find(e, (struct dlm_span){text, strlen(text)});
    bool good = want ? got.at && got.n == strlen(want) && !memcmp(got.at, want, got.n) : !got.at;
    dlm_extract_free(e);
    return good;
}

static void test_extract(void)
{
    tap_ok(finds("####\\s*(-?[0-9,]+)", "so 3 + 4\n#### 7\n", "7"), "the first group");
    tap_ok(finds("[0-9]+", "a 12 b 34", "12"), "the first match where there is no group");
    tap_ok(finds("(x)|(y)", "zy", "y"), "the group that took part");
    tap_ok(finds("q", "zy", NULL), "nothing");
    tap_ok(finds("z(q?)y", "zy", ""), "an empty group is found");
    tap_ok(finds("b(.)", "\xff" "b\xc3\xa9", "\xc3\xa9"), "characters, and bytes that are none");
    struct dlm_error err = {{0}};
    struct dlm_extract *e;
    tap_ok(dlm_extract_new(&e, (struct dlm_span){S("a(b")}, &err) && strstr(err.msg, "at byte 3"), "a bad pattern: %s", err.msg);
}

int main(void)
{
    test_exact();
    test_f1();
    test_rouge();
    test_extract();
    return tap_end();
}
