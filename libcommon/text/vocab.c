/* Reading a Hugging Face tokenizer.json of the byte-level BPE kind.
 *
 * Not a general tokenizer reader: whatever would change ids and is not implemented here is refused by its name, so that ids are
 * either Hugging Face's or absent. The file is untrusted: memory is bounded by a multiple of its size, ids may not be sparser
 * than MAX_HOLES allows.
 */
#include "text/vocab.h"

#include "base/stop.h"
#include "text/alphabet.h"
#include "text/chain.h"
#include "text/vocab_body.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MAX_HOLES = 1 << 16, MAX_IDS = 1 << 26, MAX_STEPS = 16, MAX_NESTING = 8, MAX_AROUND = 1024, BRACKETS = 1000, BYTES_A_BRACKET = 8 };
static const size_t max_file = (size_t)1 << 30;

/* What is being read; freed whatever comes of it. */
struct reading {
    const char *name;
    struct dlm_error *err;
    struct dlm_vocab *v;
    json_t *root, *words; /* words: model.vocab */
    struct dlm_split_step step[MAX_STEPS];
    char *quoted[MAX_STEPS]; /* owned regexes of String patterns */
    size_t n_steps;
    bool byte_level;
    uint32_t *special_id; /* ids of special added tokens, ascending */
    size_t n_special;
};

static int refuse(const struct reading *r, const char *part, const char *what)
{
    return dlm_fail(r->err, DLM_EDATA, "'%s': %s %.100s is not implemented", r->name, part, what);
}

static int malformed(const struct reading *r, const char *what)
{
    return dlm_fail(r->err, DLM_EDATA, "'%s' is no byte-level BPE tokenizer.json: %s", r->name, what);
}

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* An empty list or object takes forty or eighty times the memory of its text. A vocabulary has one for each merge at most, of two tokens. */
static bool too_many_brackets(const char *s, size_t n)
{
    size_t lists = 0, objects = 0;
    for (size_t i = 0; i < n; i++) {
        lists += s[i] == '[';
        objects += s[i] == '{';
        if (s[i] == '"')
            for (i++; i < n && s[i] != '"'; i++)
                i += s[i] == '\\';
    }
    return lists > n / BYTES_A_BRACKET + BRACKETS || objects > n / (2 * BYTES_A_BRACKET) + BRACKETS;
}

/* The "type" of a part, "?" when it has none. */
static const char *type_of(const json_t *part)
{
    const char *t = json_string_value(json_object_get(part, "type"));
    return t ? t : "?";
}

static bool absent(const json_t *j)
{
    return !j || json_is_null(j);
}

static bool truth(const json_t *object, const char *key, bool otherwise)
{
    const json_t *j = json_object_get(object, key);
    return json_is_boolean(j) ? json_is_true(j) : otherwise;
}

/* --- tokens ------------------------------------------------------------------------------------------------------------------- */

static int keep_bytes(struct reading *r, uint32_t id, enum dlm_token_kind kind, const void *bytes, size_t n)
{
    struct dlm_vocab *v = r->v;
    if (v->blob_len + n + 1 > v->blob_cap) {
        size_t cap = (v->blob_len + n + 1) * 2;
        uint8_t *more = realloc(v->blob, cap);
        if (!more)
            return no_memory(r->err);
        v->blob = more;
        v->blob_cap = cap;
    }
    v->at[id] = v->blob_len;
    v->len[id] = (uint32_t)n;
    v->kind[id] = (uint8_t)kind;
    memcpy(v->blob + v->blob_len, bytes, n);
    v->blob[v->blob_len + n] = 0;
    v->blob_len += n + 1;
    return 0;
}

static int read_id(const struct reading *r, const json_t *j, const char *token, uint32_t *id)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0 || json_integer_value(j) >= MAX_IDS)
        return dlm_fail(r->err, DLM_EDATA, "'%s': the id of token '%.60s' is not a number in [0, %d)", r->name, token, MAX_IDS);
    *id = (uint32_t)json_integer_value(j);
    return 0;
}

/* Find the largest id and make the tables; then enter the model's words. */
static int read_words(struct reading *r, const json_t *added)
{
    struct dlm_vocab *v = r->v;
    const char *key;
    json_t *value;
    size_t i, count = 0, longest = 0;
    uint32_t id, size = 0;
    json_object_foreach(r->words, key, value)
    {
        int rc = read_id(r, value, key, &id);
        if (rc)
            return rc;
        size = id + 1 > size ? id + 1 : size;
        size_t n = strlen(key);
        longest = n > longest ? n : longest;
        count++;
    }
    json_array_foreach(added, i, value)
    {
        const char *text = json_string_value(json_object_get(value, "content"));
        if (!text || !*text)
            return malformed(r, "an added token has no content");
        int rc = read_id(r, json_object_get(value, "id"), text, &id);
        if (rc)
            return rc;
        size = id + 1 > size ? id + 1 : size;
        count++;
    }
    if (!count)
        return malformed(r, "it has no tokens");
    if (size > 2 * count + MAX_HOLES)
        return malformed(r, "its ids have too many holes");
    v->size = size;
    v->kind = calloc(size, sizeof *v->kind);
    v->at = calloc(size, sizeof *v->at);
    v->len = calloc(size, sizeof *v->len);
    uint8_t *bytes = malloc(longest + 1);
    if (!v->kind || !v->at || !v->len || !bytes) {
        free(bytes);
        return no_memory(r->err);
    }
    int rc = 0;
    memset(v->byte_id, 0xff, sizeof v->byte_id);
    json_object_foreach(r->words, key, value)
    {
        size_t n = strlen(key), len = 0;
        id = (uint32_t)json_integer_value(value);
        if (v->kind[id]) {
            rc = dlm_fail(r->err, DLM_EDATA, "'%s': id %u is given to two tokens", r->name, id);
        } else if (n && dlm_alphabet_read(bytes, &len, key, n)) {
            rc = keep_bytes(r, id, len == 1 ? DLM_TOKEN_BYTE : DLM_TOKEN_MERGE, bytes, len);
            if (!rc && len == 1)
                v->byte_id[bytes[0]] = id;
        } else { /* never made by a merge; Hugging Face decodes it as it is written */
            rc = keep_bytes(r, id, DLM_TOKEN_MERGE, key, n);
        }
        if (rc)
            break;
    }
    free(bytes);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int read_added(struct reading *r, const json_t *added)
{
    struct dlm_vocab *v = r->v;
    size_t n = json_array_size(added), i;
    json_t *t;
    if (!n)
        return 0;
    v->added = calloc(n, sizeof *v->added);
    r->special_id = calloc(n, sizeof *r->special_id);
    if (!v->added || !r->special_id)
        return no_memory(r->err);
    json_array_foreach(added, i, t)
    {
        const char *text = json_string_value(json_object_get(t, "content"));
        uint32_t id = (uint32_t)json_integer_value(json_object_get(t, "id"));
        const json_t *word = json_object_get(r->words, text);
        bool special = truth(t, "special", false);
        if (word ? json_integer_value(word) != id : v->kind[id] != DLM_TOKEN_UNUSED)
            return dlm_fail(r->err, DLM_EDATA, "'%s': added token '%.60s' has id %u, which contradicts its vocabulary", r->name,
                            text, id);
        if (v->kind[id] == DLM_TOKEN_SPECIAL || v->kind[id] == DLM_TOKEN_ADDED)
            return dlm_fail(r->err, DLM_EDATA, "'%s': id %u is given to two added tokens", r->name, id);
        if (v->kind[id] == DLM_TOKEN_BYTE && special)
            return dlm_fail(r->err, DLM_EDATA, "'%s': special token '%.60s' stands for a byte, too", r->name, text);
        if (word && !special && (strlen(text) != v->len[id] || memcmp(text, v->blob + v->at[id], v->len[id])))
            return dlm_fail(r->err, DLM_EDATA, "'%s': added token '%.60s' is made from other bytes by merging", r->name, text);
        if (v->kind[id] != DLM_TOKEN_BYTE) {
            int rc = keep_bytes(r, id, special ? DLM_TOKEN_SPECIAL : DLM_TOKEN_ADDED, text, strlen(text));
            if (rc)
                return rc;
        }
        v->added[v->n_added++] = (struct dlm_added){
            .id = id, .len = strlen(text), .special = special, .normalized = truth(t, "normalized", !special),
            .awkward = truth(t, "lstrip", false) || truth(t, "rstrip", false) || truth(t, "single_word", false),
        };
        if (special)
            r->special_id[r->n_special++] = id;
    }
    qsort(r->special_id, r->n_special, sizeof *r->special_id, by_id);
    return 0;
}

/* --- merges ------------------------------------------------------------------------------------------------------------------- */

static int read_merges(struct reading *r, const json_t *merges)
{
    struct dlm_vocab *v = r->v;
    size_t n = json_array_size(merges), slots = 16, rank, cap = 0;
    if (n > UINT32_MAX / 4)
        return malformed(r, "it has too many merges");
    v->merge_shift = 60;
    for (; slots < 2 * n; slots *= 2)
        v->merge_shift--;
    v->merges = malloc(slots * sizeof *v->merges);
    if (!v->merges)
        return no_memory(r->err);
    memset(v->merges, 0xff, slots * sizeof *v->merges);
    v->merge_mask = slots - 1;
    char *word = NULL; /* the two parts of a merge, put together */
    uint8_t *has_merge = calloc(v->size, 1); /* ids that some merge makes */
    int rc = has_merge ? 0 : no_memory(r->err);
    if (rc)
        return rc;
    json_t *m;
    json_array_foreach(merges, rank, m)
    {
        const char *left = json_string_value(json_is_array(m) ? json_array_get(m, 0) : m), *right = NULL;
        size_t n_left = 0;
        if (json_is_array(m) && json_array_size(m) == 2) {
            right = json_string_value(json_array_get(m, 1));
            n_left = left ? strlen(left) : 0;
        } else if (json_is_string(m)) {
            const char *space = strchr(left, ' ');
            if (space && !strchr(space + 1, ' ')) {
                n_left = (size_t)(space - left);
                right = space + 1;
            }
        }
        if (!left || !right || !n_left || !*right) {
            rc = dlm_fail(r->err, DLM_EDATA, "'%s': merge %zu is no pair of tokens", r->name, rank);
            break;
        }
        size_t n_right = strlen(right);
        if (n_left + n_right + 1 > cap) {
            cap = 2 * (n_left + n_right + 1);
            char *more = realloc(word, cap);
            if (!more) {
                rc = no_memory(r->err);
                break;
            }
            word = more;
        }
        const json_t *id[3]; /* left, right, both */
        memcpy(word, left, n_left);
        word[n_left] = 0;
        id[0] = json_object_get(r->words, word);
        memcpy(word + n_left, right, n_right + 1);
        id[1] = json_object_get(r->words, right);
        id[2] = json_object_get(r->words, word);
        if (!id[0] || !id[1] || !id[2]) {
            rc = dlm_fail(r->err, DLM_EDATA, "'%s': merge %zu, of '%.40s', has a token that is not in the vocabulary", r->name,
                          rank, word);
            break;
        }
        uint32_t made = (uint32_t)json_integer_value(id[2]);
        if (v->kind[made] == DLM_TOKEN_SPECIAL) {
            rc = dlm_fail(r->err, DLM_EDATA, "'%s': merge %zu makes the special token '%.40s' out of text", r->name, rank, word);
            break;
        }
        uint64_t pair = (uint64_t)json_integer_value(id[0]) << 32 | (uint64_t)json_integer_value(id[1]);
        size_t i = dlm_merge_slot(v, pair);
        while (v->merges[i].pair != UINT64_MAX && v->merges[i].pair != pair)
            i = (i + 1) & v->merge_mask;
        v->twins = v->twins || has_merge[made];
        has_merge[made] = 1;
        v->merges[i] = (struct dlm_merge){pair, (uint32_t)rank, made}; /* of equal pairs the last counts, as with Hugging Face */
    }
    free(word);
    free(has_merge);
    return rc;
}

static int index_words(struct reading *r)
{
    struct dlm_vocab *v = r->v;
    size_t slots = 16;
    while (slots < 2 * (size_t)v->size)
        slots *= 2;
    v->word_ids = malloc(slots * sizeof *v->word_ids);
    if (!v->word_ids)
        return no_memory(r->err);
    memset(v->word_ids, 0xff, slots * sizeof *v->word_ids);
    v->word_mask = slots - 1;
    for (uint32_t id = 0; id < v->size; id++) {
        if (v->kind[id] != DLM_TOKEN_BYTE && v->kind[id] != DLM_TOKEN_MERGE)
            continue;
        size_t i = XXH3_64bits_withSeed(v->blob + v->at[id], v->len[id], v->factor) & v->word_mask;
        while (v->word_ids[i] != DLM_NO_ID)
            i = (i + 1) & v->word_mask;
        v->word_ids[i] = id;
    }
    return 0;
}

static int read_model(struct reading *r)
{
    const json_t *model = json_object_get(r->root, "model"), *added = json_object_get(r->root, "added_tokens");
    if (!json_is_object(model))
        return malformed(r, "it has no model");
    const json_t *type = json_object_get(model, "type");
    if (type && strcmp(type_of(model), "BPE"))
        return refuse(r, "model type", type_of(model));
    r->words = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_object(r->words) || !json_is_array(merges) || (!absent(added) && !json_is_array(added)))
        return malformed(r, "model.vocab, model.merges or added_tokens is not what it should be");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const json_t *a = json_object_get(model, affixes[i]);
        if (!absent(a) && !(json_is_string(a) && !json_string_length(a)))
            return refuse(r, "model", affixes[i]);
    }
    if (!absent(json_object_get(model, "dropout")) && json_number_value(json_object_get(model, "dropout")) != 0)
        return refuse(r, "model", "dropout");
    if (truth(model, "byte_fallback", false))
        return refuse(r, "model", "byte_fallback");
    r->v->whole_words = truth(model, "ignore_merges", false);
    int rc = read_words(r, added);
    rc = rc ? rc : read_added(r, added);
    rc = rc ? rc : read_merges(r, merges);
    return rc ? rc : r->v->whole_words ? index_words(r) : 0;
}

/* --- normaliser, pre-tokenizer, post-processor, decoder ---------------------------------------------------------------------- */

static int read_normalizer(struct reading *r, const json_t *j, bool *nfc, int depth)
{
    if (absent(j))
        return 0;
    const char *type = type_of(j);
    if (!strcmp(type, "NFC")) {
        *nfc = true;
        return 0;
    }
    const json_t *list = json_object_get(j, "normalizers");
    if (strcmp(type, "Sequence") || !json_is_array(list) || depth == MAX_NESTING)
        return refuse(r, "normalizer", type);
    size_t i;
    json_t *part;
    json_array_foreach(list, i, part)
    {
        int rc = read_normalizer(r, part, nfc, depth + 1);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_step(struct reading *r, const char *regex, bool whole)
{
    if (r->n_steps == MAX_STEPS)
        return malformed(r, "it has too many pre-tokenizers");
    r->step[r->n_steps++] = (struct dlm_split_step){regex, whole};
    return 0;
}

/* A literal string as an expression: every ASCII character but letters and digits escaped. Owned by r. */
static int add_literal(struct reading *r, const char *text, bool whole)
{
    char *q = malloc(2 * strlen(text) + 1), *p = q;
    if (!q)
        return no_memory(r->err);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x80 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9'))
            *p++ = '\\';
        *p++ = *text;
    }
    *p = 0;
    if (r->n_steps < MAX_STEPS)
        r->quoted[r->n_steps] = q;
    else
        free(q);
    return add_step(r, q, whole);
}

static int read_split(struct reading *r, const json_t *j)
{
    const json_t *pattern = json_object_get(j, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *text = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_string_value(json_object_get(j, "behavior"));
    bool invert = truth(j, "invert", false), whole = false;
    if (!behavior || (!regex && !text))
        return malformed(r, "pre_tokenizer Split has no behavior or pattern");
    if (!strcmp(behavior, "Removed") && invert)
        whole = true; /* pieces are the matches; a text with anything else would lose it */
    else if (strcmp(behavior, "Isolated"))
        return refuse(r, "pre_tokenizer Split with behavior", behavior);
    return regex ? add_step(r, regex, whole) : add_literal(r, text, whole);
}

static int read_pretokenizer(struct reading *r, const json_t *j, int depth)
{
    if (absent(j))
        return depth ? malformed(r, "a pre_tokenizer is null") : refuse(r, "a vocabulary without", "pre_tokenizer ByteLevel");
    const char *type = type_of(j);
    if (r->byte_level)
        return refuse(r, "after pre_tokenizer ByteLevel, pre_tokenizer", type);
    if (!strcmp(type, "ByteLevel")) {
        if (truth(j, "add_prefix_space", true))
            return refuse(r, "pre_tokenizer ByteLevel with", "add_prefix_space");
        r->byte_level = true;
        return truth(j, "use_regex", true) ? add_step(r, dlm_split_pattern("gpt2"), false) : 0;
    }
    if (!strcmp(type, "Split"))
        return read_split(r, j);
    if (!strcmp(type, "Digits"))
        return add_step(r, truth(j, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", false);
    const json_t *list = json_object_get(j, "pretokenizers");
    if (strcmp(type, "Sequence") || !json_is_array(list) || depth == MAX_NESTING)
        return refuse(r, "pre_tokenizer", type);
    size_t i;
    json_t *part;
    json_array_foreach(list, i, part)
    {
        int rc = read_pretokenizer(r, part, depth + 1);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_around(struct reading *r, bool after, const json_t *id, const char *token)
{
    struct dlm_vocab *v = r->v;
    uint32_t x = 0;
    int rc = read_id(r, id, token, &x);
    if (rc)
        return rc;
    if (x >= v->size || v->kind[x] == DLM_TOKEN_UNUSED)
        return dlm_fail(r->err, DLM_EDATA, "'%s': the post_processor's token '%.60s' has id %u, which is not in the vocabulary",
                        r->name, token, x);
    uint32_t **list = after ? &v->after : &v->before;
    size_t *n = after ? &v->n_after : &v->n_before;
    if (*n == MAX_AROUND)
        return malformed(r, "its post_processor puts too many tokens around a text");
    uint32_t *more = realloc(*list, (*n + 1) * sizeof *more);
    if (!more)
        return no_memory(r->err);
    *list = more;
    more[(*n)++] = x;
    return 0;
}

static int read_template(struct reading *r, const json_t *j)
{
    const json_t *single = json_object_get(j, "single"), *tokens = json_object_get(j, "special_tokens");
    if (!json_is_array(single))
        return malformed(r, "post_processor TemplateProcessing has no single");
    int texts = 0;
    size_t i, k;
    json_t *item, *id;
    json_array_foreach(single, i, item)
    {
        const json_t *sequence = json_object_get(item, "Sequence");
        if (sequence) {
            const char *which = json_string_value(json_object_get(sequence, "id"));
            if (texts++ || !which || strcmp(which, "A"))
                return refuse(r, "post_processor", "TemplateProcessing whose single is not one text");
            continue;
        }
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
        if (!json_is_array(ids))
            return malformed(r, "post_processor TemplateProcessing names a token that it does not give");
        json_array_foreach(ids, k, id)
        {
            int rc = add_around(r, texts > 0, id, name);
            if (rc)
                return rc;
        }
    }
    return texts == 1 ? 0 : refuse(r, "post_processor", "TemplateProcessing whose single is not one text");
}

static int read_postprocessor(struct reading *r, const json_t *j, int *templates, int depth)
{
    const char *type = absent(j) ? "ByteLevel" : type_of(j); /* ByteLevel moves offsets, not ids */
    if (!strcmp(type, "ByteLevel"))
        return 0;
    const json_t *list = json_object_get(j, "processors");
    if (!strcmp(type, "Sequence") && json_is_array(list) && depth < MAX_NESTING) {
        size_t i;
        json_t *part;
        json_array_foreach(list, i, part)
        {
            int rc = read_postprocessor(r, part, templates, depth + 1);
            if (rc)
                return rc;
        }
        return 0;
    }
    if ((*templates)++)
        return refuse(r, "a second post_processor, ", type);
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(r, j);
    if (strcmp(type, "RobertaProcessing") && strcmp(type, "BertProcessing"))
        return refuse(r, "post_processor", type);
    static const char *const ends[] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const json_t *pair = json_object_get(j, ends[i]);
        const char *name = json_string_value(json_array_get(pair, 0));
        int rc = add_around(r, i, json_array_get(pair, 1), name ? name : ends[i]);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_decoder(struct reading *r, const json_t *j)
{
    const json_t *list = json_object_get(j, "decoders"), *part;
    if (absent(j) || !strcmp(type_of(j), "ByteLevel"))
        return 0;
    if (strcmp(type_of(j), "Sequence") || json_array_size(list) != 1)
        return refuse(r, "decoder", type_of(j));
    part = json_array_get(list, 0);
    return strcmp(type_of(part), "ByteLevel") ? refuse(r, "decoder", type_of(part)) : 0;
}

static int read_parts(struct reading *r)
{
    bool nfc = false;
    int templates = 0;
    static const char *const never[] = {"truncation", "padding"};
    for (int i = 0; i < 2; i++)
        if (!absent(json_object_get(r->root, never[i])))
            return dlm_fail(r->err, DLM_EDATA, "'%s': %s is not implemented: set it to null", r->name, never[i]);
    int rc = read_normalizer(r, json_object_get(r->root, "normalizer"), &nfc, 0);
    rc = rc ? rc : read_pretokenizer(r, json_object_get(r->root, "pre_tokenizer"), 0);
    if (!rc && !r->byte_level)
        rc = refuse(r, "a vocabulary without", "pre_tokenizer ByteLevel");
    rc = rc ? rc : read_postprocessor(r, json_object_get(r->root, "post_processor"), &templates, 0);
    rc = rc ? rc : read_decoder(r, json_object_get(r->root, "decoder"));
    if (!rc && (rc = dlm_split_new(&r->v->split, r->step, r->n_steps, nfc, r->err)))
        rc = dlm_fail_in(r->err, rc, "'%s'", r->name);
    return rc;
}

/* --- special ids by their names -------------------------------------------------------------------------------------------- */

enum { BEGIN, END, PAD, MASK, ROLES };
/* By preference. The names are those of published vocabularies. */
static const char *const role_names[ROLES][10] = {
    {"<|begin_of_text|>", "<s>", "<bos>", "<|bos|>", "[BOS]", "[CLS]", "<|startoftext|>", "<｜begin▁of▁sentence｜>"},
    {"<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "[SEP]", "<|endoftext|>", "<|eot|>", "<|eot_id|>", "<｜end▁of▁sentence｜>"},
    {"<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<｜▁pad▁｜>"},
    {"<|mask|>", "<mask>", "[MASK]", "<|mdm_mask|>", "<|MASK|>"},
};

static int role_of(const char *text)
{
    for (int role = 0; role < ROLES; role++)
        for (int k = 0; k < 10 && role_names[role][k]; k++)
            if (!strcmp(text, role_names[role][k]))
                return role;
    return strstr(text, "unk") || strstr(text, "UNK") ? ROLES : -1;
}

/* Names first. Where --special gave names of its own there are none to know: ids 0 to 3 then have the roles in order, provided
 * that the special ids are 0, 1, …, at least four, and no known name among them stands elsewhere than at its place. */
static void find_roles(struct reading *r)
{
    struct dlm_vocab *v = r->v;
    uint32_t found[ROLES] = {DLM_NO_ID, DLM_NO_ID, DLM_NO_ID, DLM_NO_ID};
    int rank[ROLES] = {99, 99, 99, 99};
    bool in_order = r->n_special >= ROLES;
    for (size_t i = 0; i < r->n_special; i++) {
        uint32_t id = r->special_id[i];
        const char *text = (const char *)v->blob + v->at[id];
        int role = role_of(text);
        in_order = in_order && id == i && (role < 0 || role == (int)i);
        if (role < 0 || role == ROLES)
            continue;
        int k = 0;
        while (strcmp(role_names[role][k], text))
            k++;
        if (k < rank[role]) {
            rank[role] = k;
            found[role] = id;
        }
    }
    if (in_order)
        for (uint32_t i = 0; i < ROLES; i++)
            found[i] = i;
    v->specials = (struct dlm_specials){found[BEGIN], found[END], found[PAD], found[MASK]};
}

/* The blob has stopped growing: put sixteen bytes of nothing behind it, and note where the text of each id is. */
static int make_spans(struct reading *r)
{
    struct dlm_vocab *v = r->v;
    uint8_t *blob = realloc(v->blob, v->blob_len + 16);
    v->blob = blob ? blob : v->blob;
    v->spans = malloc(v->size * sizeof *v->spans);
    if (!blob || !v->spans)
        return no_memory(r->err);
    if (v->blob_len > UINT32_MAX)
        return malformed(r, "its tokens are too long");
    memset(v->blob + v->blob_len, 0, 16);
    for (uint32_t id = 0; id < v->size; id++) {
        bool text = v->kind[id] != DLM_TOKEN_SPECIAL && v->kind[id] != DLM_TOKEN_UNUSED;
        v->spans[id] = (struct dlm_span){(uint32_t)v->at[id], text ? v->len[id] : 0};
        v->longest = v->spans[id].len > v->longest ? v->spans[id].len : v->longest;
    }
    return 0;
}

/* Where the system has no random numbers to give, the clock and the place of the stack stand in: nobody who writes a file knows them. */
uint64_t dlm_vocab_factor(void)
{
    uint64_t drawn;
    if (getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != sizeof drawn) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t seen[3] = {(uint64_t)now.tv_sec, (uint64_t)now.tv_nsec, (uint64_t)(uintptr_t)&drawn};
        drawn = XXH64(seen, sizeof seen, 0);
    }
    return drawn | 1;
}

/* --- the whole --------------------------------------------------------------------------------------------------------------- */

int dlm_vocab_parse(struct dlm_vocab **out, const void *json, size_t len, const char *name, struct dlm_error *err)
{
    struct reading r = {.name = name, .err = err};
    json_error_t where;
    if (len > max_file)
        return dlm_fail(err, DLM_EDATA, "'%s' is larger than 1 GiB", name);
    if (too_many_brackets(json, len))
        return malformed(&r, "it has too many lists or objects for its size");
    r.root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &where);
    if (!r.root)
        return dlm_fail(err, DLM_EDATA, "'%s' is no tokenizer.json: line %d, column %d: %s", name, where.line, where.column,
                        where.text);
    int rc = 0;
    r.v = calloc(1, sizeof *r.v);
    if (!r.v || !(r.v->json = malloc(len ? len : 1)) || !(r.v->chain = dlm_chain_place_new()))
        rc = no_memory(err);
    else if (!json_is_object(r.root))
        rc = malformed(&r, "it is not an object");
    if (!rc) {
        memcpy(r.v->json, json, len);
        r.v->json_len = len;
        r.v->fingerprint = XXH64(json, len, 0);
        r.v->factor = dlm_vocab_factor();
        rc = read_model(&r);
        rc = rc ? rc : read_parts(&r);
        rc = rc ? rc : make_spans(&r);
    }
    if (!rc) {
        for (size_t i = 0; i < r.v->n_added; i++) /* the blob has stopped moving */
            r.v->added[i].text = (const char *)r.v->blob + r.v->at[r.v->added[i].id];
        find_roles(&r);
        *out = r.v;
    } else {
        dlm_vocab_free(r.v);
    }
    json_decref(r.root);
    free(r.special_id);
    for (size_t i = 0; i < MAX_STEPS; i++)
        free(r.quoted[i]);
    return rc;
}

int dlm_vocab_read_file(char **out, size_t *len, const char *path, struct dlm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    char *text = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap ? 2 * cap : 1 << 20;
            char *more = n > max_file ? NULL : realloc(text, cap);
            if (!more) {
                rc = n > max_file ? dlm_fail(err, DLM_EDATA, "'%s' is larger than 1 GiB", path) : no_memory(err);
                break;
            }
            text = more;
        }
        ssize_t got = read(fd, text + n, cap - n);
        if (got < 0 && errno == EINTR && !dlm_stop_signal())
            continue;
        if (got < 0)
            rc = dlm_stop_signal() ? dlm_fail(err, DLM_ESTOPPED, "interrupted")
                                   : dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    if (rc) {
        free(text);
        return rc;
    }
    *out = text;
    *len = n;
    return 0;
}

int dlm_vocab_load(struct dlm_vocab **out, const char *path, struct dlm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    int rc = dlm_vocab_read_file(&text, &n, path, err);
    rc = rc ? rc : dlm_vocab_parse(out, text, n, path, err);
    free(text);
    return rc;
}

int dlm_vocab_complete(struct dlm_vocab **v, const char *name, char *told, size_t told_size, struct dlm_error *err)
{
    struct dlm_specials s = (*v)->specials;
    const struct {
        uint32_t id;
        int role;
    } need[] = {{s.end, END}, {s.pad, PAD}, {s.mask, MASK}};
    told[0] = 0;
    if (s.end != DLM_NO_ID && s.pad != DLM_NO_ID && s.mask != DLM_NO_ID)
        return 0;
    json_t *root = json_loadb((*v)->json, (*v)->json_len, 0, NULL);
    if (!root)
        return no_memory(err);
    json_t *words = json_object_get(json_object_get(root, "model"), "vocab"), *added = json_object_get(root, "added_tokens");
    if (!json_is_array(added)) {
        json_object_set_new(root, "added_tokens", json_array());
        added = json_object_get(root, "added_tokens");
    }
    uint32_t size = (*v)->size;
    bool good = json_is_array(added);
    for (int i = 0; i < 3 && good; i++) {
        if (need[i].id != DLM_NO_ID)
            continue;
        const char *text = role_names[need[i].role][0];
        const json_t *word = json_object_get(words, text);
        size_t k;
        json_t *t;
        bool taken = word != NULL;
        json_array_foreach(added, k, t)
        {
            const char *content = json_string_value(json_object_get(t, "content"));
            taken = taken || (content && !strcmp(content, text));
        }
        if (taken) {
            json_decref(root);
            return dlm_fail(err, DLM_EDATA, "'%s' has the token %s, but not as a special one", name, text);
        }
        json_t *token = json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (json_int_t)size, "content", text, "single_word", 0, "lstrip", 0,
                                  "rstrip", 0, "normalized", 0, "special", 1);
        good = json_array_append_new(added, token) == 0;
        size_t n = strlen(told);
        snprintf(told + n, told_size - n, "%s%s %u", n ? ", " : "", text, size++);
    }
    char *json = good ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!json)
        return no_memory(err);
    struct dlm_vocab *whole = NULL;
    int rc = dlm_vocab_parse(&whole, json, strlen(json), name, err);
    free(json);
    if (rc)
        return rc;
    dlm_vocab_free(*v);
    *v = whole;
    return 0;
}

void dlm_vocab_free(struct dlm_vocab *v)
{
    if (!v)
        return;
    free(v->json);
    free(v->kind);
    free(v->at);
    free(v->len);
    free(v->spans);
    free(v->blob);
    free(v->merges);
    free(v->word_ids);
    free(v->added);
    dlm_chain_place_free(v->chain);
    dlm_split_free(v->split);
    free(v->before);
    free(v->after);
    free(v);
}

const char *dlm_vocab_json(const struct dlm_vocab *v, size_t *len)
{
    *len = v->json_len;
    return v->json;
}

uint64_t dlm_vocab_fingerprint(const struct dlm_vocab *v)
{
    return v->fingerprint;
}

uint32_t dlm_vocab_size(const struct dlm_vocab *v)
{
    return v->size;
}

struct dlm_specials dlm_vocab_specials(const struct dlm_vocab *v)
{
    return v->specials;
}

enum dlm_token_kind dlm_vocab_kind(const struct dlm_vocab *v, uint32_t id)
{
    assert(id < v->size);
    return (enum dlm_token_kind)v->kind[id];
}

bool dlm_vocab_is_special(const struct dlm_vocab *v, uint32_t id)
{
    return dlm_vocab_kind(v, id) == DLM_TOKEN_SPECIAL;
}

const uint8_t *dlm_vocab_bytes(const struct dlm_vocab *v, uint32_t id, size_t *len)
{
    enum dlm_token_kind kind = dlm_vocab_kind(v, id);
    *len = kind == DLM_TOKEN_SPECIAL || kind == DLM_TOKEN_UNUSED ? 0 : v->len[id];
    return v->blob + v->at[id];
}

const char *dlm_vocab_special_text(const struct dlm_vocab *v, uint32_t id)
{
    return dlm_vocab_is_special(v, id) ? (const char *)v->blob + v->at[id] : NULL;
}

uint64_t dlm_vocab_count_bytes(const struct dlm_vocab *v, const uint32_t *ids, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        assert(ids[i] < v->size);
        bytes += v->kind[ids[i]] == DLM_TOKEN_SPECIAL ? 0 : v->len[ids[i]];
    }
    return bytes;
}
