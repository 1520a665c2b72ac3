/* Answers found in texts by a pattern. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "run/extract.h"

#include <pcre2.h>
#include <stdlib.h>

struct dlm_extract {
    pcre2_code *code;
    pcre2_match_data *match;
};

void dlm_extract_free(struct dlm_extract *e)
{
    if (!e)
        return;
    pcre2_match_data_free(e->match);
    pcre2_code_free(e->code);
    free(e);
}

int dlm_extract_new(struct dlm_extract **out, struct dlm_span pattern, struct dlm_error *err)
{
    struct dlm_extract *e = calloc(1, sizeof *e);
    int why;
    PCRE2_SIZE where;
    *out = NULL;
    if (!e)
        return dlm_fail(err, DLM_ENOMEM, "no memory for a pattern");
    e->code = pcre2_compile((PCRE2_SPTR)pattern.at, pattern.n, PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &why, &where, NULL);
    if (!e->code) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(why, text, sizeof text);
        dlm_extract_free(e);
        return dlm_fail(err, DLM_EDATA, "the pattern '%.*s' is none, at byte %zu: %s", (int)(pattern.n < 200 ? pattern.n : 200), pattern.at, (size_t)where, text);
    }
    e->match = pcre2_match_data_create_from_pattern(e->code, NULL);
    if (!e->match) {
        dlm_extract_free(e);
        return dlm_fail(err, DLM_ENOMEM, "no memory for a pattern");
    }
    *out = e;
    return 0;
}

struct dlm_span dlm_extract_find(struct dlm_extract *e, struct dlm_span text)
{
    const int groups = pcre2_match(e->code, (PCRE2_SPTR)text.at, text.n, 0, 0, e->match, NULL);
    if (groups < 1) /* no match; or one given up as too long a search, which is none */
        return (struct dlm_span){0};
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(e->match);
    int g = 0;
    for (int i = 1; i < groups && !g; i++)
        if (at[2 * i] != PCRE2_UNSET)
            g = i;
    return at[2 * g + 1] < at[2 * g] ? (struct dlm_span){0} : (struct dlm_span){text.at + at[2 * g], at[2 * g + 1] - at[2 * g]};
}
