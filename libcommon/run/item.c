/* Items of likelihood: fields to ids. Not prompts of samples (run/prompts.c), which have nothing behind them. */
#include "run/item.h"

#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

int dlm_item_reader_init(struct dlm_item_reader *r, const struct dlm_vocab *v, size_t most, bool end, struct dlm_error *err)
{
    *r = (struct dlm_item_reader){.vocab = v, .most = most, .end = end};
    if (end && dlm_vocab_specials(v).end == DLM_NO_ID)
        return dlm_fail(err, DLM_EDATA, "the vocabulary has no end id to score");
    return dlm_encoder_new(&r->encoder, v, false, err);
}

void dlm_item_reader_release(struct dlm_item_reader *r)
{
    dlm_encoder_free(r->encoder);
    *r = (struct dlm_item_reader){0};
}

void dlm_item_release(struct dlm_item *i)
{
    free(i->ids.at);
    *i = (struct dlm_item){0};
}

struct dlm_piece dlm_item_piece(const struct dlm_item *i)
{
    return (struct dlm_piece){.ids = i->ids.at, .n = i->ids.n, .before = i->before, .after = i->after};
}

/* --- ids --------------------------------------------------------------------------------------------------------------------- */

/* Append a part's ids, without the begin id unless it comes first, and without an end id. */
static int append(struct dlm_item_reader *r, struct dlm_ids *ids, struct dlm_span part, struct dlm_error *err)
{
    const struct dlm_specials special = dlm_vocab_specials(r->vocab);
    const size_t start = ids->n;
    if (!part.at || (!part.n && start))
        return 0;
    int rc = dlm_encoder_run(r->encoder, part.at, part.n, ids, err);
    if (rc)
        return rc;
    if (ids->n > start && special.end != DLM_NO_ID && ids->at[ids->n - 1] == special.end)
        ids->n--;
    if (start && ids->n > start && special.begin != DLM_NO_ID && ids->at[start] == special.begin)
        memmove(ids->at + start, ids->at + start + 1, (--ids->n - start) * sizeof *ids->at);
    return 0;
}

/* The counts of an item whose ids are there. */
static int finish(const struct dlm_item_reader *r, struct dlm_item *i, struct dlm_error *err)
{
    const size_t known = i->before + i->after;
    if (i->ids.n == known)
        return dlm_fail(err, DLM_EDATA, "there are no tokens to score");
    if (i->ids.n > r->most)
        return dlm_fail(err, DLM_EDATA, "the item has %zu tokens, more than the model's context of %zu", i->ids.n, r->most);
    i->tokens = i->ids.n - known;
    i->bytes = dlm_vocab_count_bytes(r->vocab, i->ids.at + i->before, i->tokens);
    return 0;
}

int dlm_item_build(struct dlm_item_reader *r, struct dlm_item *i, struct dlm_span before, struct dlm_span scored, struct dlm_span after,
                   struct dlm_error *err)
{
    i->ids.n = i->after = 0;
    int rc = append(r, &i->ids, before, err);
    i->before = i->ids.n;
    if (!rc)
        rc = append(r, &i->ids, scored, err);
    if (!rc && i->ids.n == i->before)
        return dlm_fail(err, DLM_EDATA, "there are no tokens to score");
    if (!rc && r->end)
        rc = dlm_ids_push(&i->ids, dlm_vocab_specials(r->vocab).end, err);
    const size_t behind = i->ids.n;
    if (!rc)
        rc = append(r, &i->ids, after, err);
    i->after = i->ids.n - behind;
    return rc ? rc : finish(r, i, err);
}

static int read_ids(struct dlm_item_reader *r, struct dlm_item *i, const json_t *list, const json_t *clean, struct dlm_error *err)
{
    const uint32_t size = dlm_vocab_size(r->vocab), mask = dlm_vocab_specials(r->vocab).mask;
    if (!json_is_array(list))
        return dlm_fail(err, DLM_EDATA, "'ids' is not an array");
    i->ids.n = i->after = 0;
    for (size_t p = 0; p < json_array_size(list); p++) {
        const json_t *v = json_array_get(list, p);
        if (!json_is_integer(v))
            return dlm_fail(err, DLM_EDATA, "'ids'[%zu] is not a token id", p);
        const json_int_t id = json_integer_value(v);
        if (id < 0 || (uint64_t)id >= size)
            return dlm_fail(err, DLM_EDATA, "'ids'[%zu] is %lld, and the vocabulary has ids 0 to %u", p, (long long)id, size - 1);
        if ((uint32_t)id == mask)
            return dlm_fail(err, DLM_EDATA, "'ids'[%zu] is the mask, %u, which no text holds", p, mask);
        int rc = dlm_ids_push(&i->ids, (uint32_t)id, err);
        if (rc)
            return rc;
    }
    if (clean && (!json_is_integer(clean) || json_integer_value(clean) < 0))
        return dlm_fail(err, DLM_EDATA, "'clean' is not a number of tokens");
    const json_int_t known = clean ? json_integer_value(clean) : 0;
    if ((uint64_t)known > i->ids.n)
        return dlm_fail(err, DLM_EDATA, "'clean' is %lld, and 'ids' has length %zu", (long long)known, i->ids.n);
    i->before = (size_t)known;
    return finish(r, i, err);
}

/* --- fields ------------------------------------------------------------------------------------------------------------------ */

int dlm_span_of(const json_t *object, const char *key, bool needed, struct dlm_span *out, struct dlm_error *err)
{
    const json_t *v = json_object_get(object, key);
    *out = (struct dlm_span){0};
    if (!v || json_is_null(v))
        return needed ? dlm_fail(err, DLM_EDATA, "the object has no field '%s'", key) : 0;
    if (!json_is_string(v))
        return dlm_fail(err, DLM_EDATA, "the field '%s' is no string", key);
    *out = (struct dlm_span){json_string_value(v), json_string_length(v)};
    return 0;
}

int dlm_span_first(const json_t *object, const char *const keys[], struct dlm_span *out, struct dlm_error *err)
{
    *out = (struct dlm_span){0};
    for (size_t i = 0; keys[i] && !out->at; i++) {
        int rc = dlm_span_of(object, keys[i], false, out, err);
        if (rc)
            return rc;
    }
    return 0;
}

int dlm_item_read(struct dlm_item_reader *r, struct dlm_item *i, const struct dlm_lines *l, struct dlm_error *err)
{
    static const char *const scored_keys[] = {"completion", "text", "answer", NULL}, *const before_keys[] = {"context", "prompt", "prefix", NULL};
    struct dlm_span before, scored, after;
    struct dlm_error why = {{0}};
    const json_t *ids = json_object_get(l->object, "ids");
    int rc;
    if (ids) {
        rc = read_ids(r, i, ids, json_object_get(l->object, "clean"), &why);
    } else {
        rc = dlm_span_first(l->object, scored_keys, &scored, &why);
        if (!rc && !scored.at)
            rc = dlm_fail(&why, DLM_EDATA, "the object has none of the fields 'completion', 'text', 'answer' and 'ids'");
        if (!rc)
            rc = dlm_span_first(l->object, before_keys, &before, &why);
        if (!rc)
            rc = dlm_span_of(l->object, "suffix", false, &after, &why);
        if (!rc)
            rc = dlm_item_build(r, i, before, scored, after, &why);
    }
    if (rc == DLM_EDATA)
        return dlm_lines_fail(l, err, "%s", why.msg);
    return rc ? dlm_fail(err, (enum dlm_err)rc, "%s", why.msg) : 0;
}

/* --- and back ---------------------------------------------------------------------------------------------------------------- */

char *dlm_item_decode(const struct dlm_vocab *v, const uint32_t *ids, size_t n, size_t *len)
{
    const uint32_t size = dlm_vocab_size(v);
    size_t some;
    *len = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < size) {
            dlm_vocab_bytes(v, ids[i], &some);
            *len += some;
        }
    char *text = malloc(*len + 1), *to = text;
    for (size_t i = 0; text && i < n; i++)
        if (ids[i] < size) {
            const uint8_t *bytes = dlm_vocab_bytes(v, ids[i], &some);
            if (some)
                to = mempcpy(to, bytes, some);
        }
    if (text)
        *to = 0;
    return text;
}

json_t *dlm_item_string(const char *text, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *whole = malloc(3 * n + 1), *to = whole;
    if (!whole)
        return NULL;
    for (size_t i = 0; i < n;) {
        const size_t some = dlm_utf8_char((const uint8_t *)text + i, n - i);
        to = mempcpy(to, some ? text + i : replacement, some ? some : 3);
        i += some ? some : 1;
    }
    json_t *s = json_stringn_nocheck(whole, (size_t)(to - whole));
    free(whole);
    return s;
}
