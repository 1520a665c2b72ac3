/* Cutting text into pieces: the named patterns on text whose pieces are known, Oniguruma's meaning of white space and words, what is no
 * UTF-8, and expressions that are refused. */
#include "tap.h"

#include "text/split.h"

#include <string.h>

/* Pieces put together with '|'. */
struct joined {
    char text[1000];
    size_t n;
};

static int join(void *to, const uint8_t *piece, size_t len, struct dlm_error *err)
{
    struct joined *j = to;
    (void)err;
    if (j->n)
        j->text[j->n++] = '|';
    memcpy(j->text + j->n, piece, len);
    j->n += len;
    j->text[j->n] = 0;
    return 0;
}

static void expect(const char *pattern, const char *text, const char *want)
{
    struct dlm_split_step step = {dlm_split_pattern(pattern), false};
    struct dlm_split *s = NULL;
    struct dlm_split_scratch *k = NULL;
    struct dlm_error err = {{0}};
    struct joined j = {"", 0};
    int rc = dlm_split_new(&s, &step, 1, false, &err);
    rc = rc ? rc : dlm_split_scratch_new(&k, s, &err);
    rc = rc ? rc : dlm_split_run(s, k, text, strlen(text), 0, join, &j, &err);
    bool good = !rc && !strcmp(j.text, want);
    for (char *p = j.text; *p; p++)
        *p = *p == '\n' || *p == '\r' ? '~' : *p;
    tap_ok(good, "%s: %s%s", pattern, j.text, err.msg);
    dlm_split_scratch_free(k);
    dlm_split_free(s);
}

static void refuse(const char *regex, const char *says)
{
    struct dlm_split_step step = {regex, false};
    struct dlm_split *s = NULL;
    struct dlm_error err = {{0}};
    int rc = dlm_split_new(&s, &step, 1, false, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, says), "refused: %s", err.msg);
    dlm_split_free(s);
}

static void steps(void)
{
    static const struct dlm_split_step chain[] = {{"\\p{N}", false}, {"[a-c]+", false}};
    static const struct dlm_split_step whole[] = {{"[a-c]+", true}};
    struct dlm_split *s, *w, *n;
    struct dlm_split_scratch *k;
    struct dlm_error err = {{0}};
    struct joined j = {"", 0};
    bool good = !dlm_split_new(&s, chain, 2, false, &err) && !dlm_split_scratch_new(&k, s, &err) && !dlm_split_run(s, k, "ab12xxab", 8, 0, join, &j, &err);
    tap_ok(good && !strcmp(j.text, "ab|1|2|xx|ab") && !dlm_split_may_cut(s), "steps refine each other: %s", j.text);
    dlm_split_scratch_free(k);
    good = !dlm_split_new(&w, whole, 1, false, &err) && !dlm_split_scratch_new(&k, w, &err);
    j.n = 0;
    good = good && !dlm_split_run(w, k, "abc", 3, 0, join, &j, &err) && dlm_split_run(w, k, "abx", 3, 0, join, &j, &err) == DLM_EDATA;
    tap_ok(good, "text that a Removed pattern would drop is an error: %s", err.msg);
    dlm_split_scratch_free(k);
    good = !dlm_split_new(&n, chain, 2, true, &err) && !dlm_split_scratch_new(&k, n, &err);
    j.n = 0;
    good = good && !dlm_split_run(n, k, "e\xcc\x81\xff" "1e\xcc\x81", 8, 0, join, &j, &err);
    tap_ok(good && !strcmp(j.text, "\xc3\xa9|\xff|1|\xc3\xa9"), "NFC between what is not UTF-8");
    dlm_split_scratch_free(k);
    dlm_split_free(s);
    dlm_split_free(w);
    dlm_split_free(n);
}

int main(void)
{
    expect("gpt2", "Hello world, it's 12345  spaces\n\n  and", "Hello| world|,| it|'s| 12345| | spaces|\n\n | and");
    expect("cl100k", "Hello world, it'S 12345  spaces\n\n  and", "Hello| world|,| it|'S| |123|45| | spaces|\n\n| | and");
    expect("cl100k", "foo();\r\n\tbar", "foo|();\r\n|\tbar");
    expect("o200k", "HelloWorld it's a/b\n", "Hello|World| it's| a|/b|\n");
    expect("cl100k", "\xff\xfe" "ab\xc3" " c\xf0\x9f\x98", "\xff\xfe|ab|\xc3| c|\xf0\x9f\x98");
    expect("cl100k", "\xff\xc3\xa9\x80\x80!", "\xff|\xc3\xa9|\x80\x80|!"); /* a run of bad bytes ends where a character begins */
    expect("\\s+", "a\xc2\x85\xe2\x80\xa8" "b\xe1\xa0\x8e" "c", "a|\xc2\x85\xe2\x80\xa8|b\xe1\xa0\x8e" "c"); /* U+180E is no space since Unicode 6.3 */
    expect("\\w+", "a\xcc\x81_1 \xe2\x80\xbf-", "a\xcc\x81_1| |\xe2\x80\xbf|-");
    expect("[\\w-]+", "a-b c", "a-b| |c");
    expect("[^\\s]+", "a b", "a| |b");
    expect("^a|b$", "a\nb\na", "a|\n|b|\n|a");
    expect("x*", "axb", "a|x|b");
    expect("[]a]+", "]a[", "]a|[");
    expect("[[:upper:]]+", "aBCd", "a|BC|d");
    refuse("(", "parenthesis");
    refuse("[a[b]]", "class within a class");
    refuse("[a&&b]", "&&");
    refuse("\\h", "\\h");
    refuse("a\\Kb", "\\K");
    refuse("\xff", "pattern");
    steps();
    return tap_end();
}
