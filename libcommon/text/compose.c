/* Writing a tokenizer.json. The order of keys and the indentation are those of Hugging Face's save(). */
#include "text/compose.h"

#include "text/alphabet.h"
#include "text/split.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *byte_level(bool prefix, bool trim, bool regex)
{
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", prefix, "trim_offsets", trim, "use_regex",
                     regex);
}

static json_t *pretokenizer(const char *regex)
{
    if (!regex)
        return byte_level(false, true, false);
    if (!strcmp(regex, dlm_split_pattern("gpt2")))
        return byte_level(false, true, true);
    return json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},o]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern",
                     "Regex", regex, "behavior", "Isolated", "invert", 0, byte_level(false, true, false));
}

int dlm_vocab_compose(char **out, const struct dlm_vocab_plan *p, struct dlm_error *err)
{
    size_t longest = 0;
    for (size_t i = 0; i < p->n_tokens; i++)
        longest = p->tokens[i].len > longest ? p->tokens[i].len : longest;
    char *left = malloc(2 * longest + 1), *right = malloc(2 * longest + 1), *json = NULL;
    json_t *added = json_array(), *words = json_object(), *merges = json_array(), *root = NULL;
    bool good = left && right && added && words && merges;
    for (size_t i = 0; i < p->n_specials && good; i++)
        good = !json_array_append_new(added,
                                      json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (json_int_t)i, "content", p->specials[i],
                                                "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1)) &&
               !json_object_set_new(words, p->specials[i], json_integer((json_int_t)i));
    for (size_t i = 0; i < p->n_tokens && good; i++) {
        if (!p->tokens[i].len)
            continue;
        left[dlm_alphabet_write(left, p->tokens[i].at, p->tokens[i].len)] = 0;
        good = !json_object_set_new(words, left, json_integer((json_int_t)(p->n_specials + i)));
    }
    for (size_t i = 0; i < p->n_merges && good; i++) {
        const struct dlm_token_bytes *a = &p->tokens[p->merges[i][0]], *b = &p->tokens[p->merges[i][1]];
        left[dlm_alphabet_write(left, a->at, a->len)] = 0;
        right[dlm_alphabet_write(right, b->at, b->len)] = 0;
        good = !json_array_append_new(merges, json_pack("[s,s]", left, right));
    }
    free(left);
    free(right);
    json_t *pre = good ? pretokenizer(p->regex) : NULL;
    if (pre)
        root = json_pack("{s:s,s:n,s:n,s:O,s:n,s:o,s:n,s:o,s:{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:O,s:O}}", "version", "1.0",
                         "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer", pre, "post_processor",
                         "decoder", byte_level(true, true, true), "model", "type", "BPE", "dropout", "unk_token",
                         "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                         p->whole_words, "vocab", words, "merges", merges);
    json_decref(added);
    json_decref(words);
    json_decref(merges);
    if (root)
        json = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (!json)
        return dlm_fail(err, DLM_EDATA,
                        "the vocabulary cannot be written: a special token or the pattern is not UTF-8, or memory is out");
    *out = json;
    return 0;
}
