/* Small vocabularies as tokenizer.json, with each part that is read. */
#ifndef DLM_TESTS_FUZZ_TOKENIZER_SEEDS_H
#define DLM_TESTS_FUZZ_TOKENIZER_SEEDS_H

#include "ranks_seed.h"

#define WORDS "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"1\":3,\"ab\":4,\"\xc4\xa0" \
              "ab\":5,\"aab\":6},\"merges\":"
#define LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

/* Number i, malloc'ed; NULL where there are no more. */
static uint8_t *tokenizer_seed(int i, size_t *n)
{
    static const char *const text[] = {
        "{\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:[^ab]|\\\\s+)\"},\"behavior\":\"Isolated\",\"invert\":false},"
        "{\"type\":\"Digits\",\"individual_digits\":true}," LEVEL "]},\"decoder\":{\"type\":\"ByteLevel\"}," WORDS
        "[\"a b\",\"\xc4\xa0 ab\",\"a ab\"]}}",
        "{\"added_tokens\":[{\"id\":7,\"content\":\"<s>\",\"special\":true},{\"id\":8,\"content\":\"ba\",\"normalized\":true},"
        "{\"id\":9,\"content\":\"<m>\",\"lstrip\":true,\"special\":true}],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
        "\"pattern\":{\"String\":\"a.\"},\"behavior\":\"Isolated\"}," LEVEL "]},\"post_processor\":{\"type\":\"Sequence\",\"processors\":["
        "{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
        "\"special_tokens\":{\"<s>\":{\"ids\":[7]}}}]}," WORDS "[[\"a\",\"b\"],[\"a\",\"ab\"]],\"ignore_merges\":true}}",
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",0],"
        "\"sep\":[\"b\",1]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"}]}," WORDS "[]}}",
    };
    if ((size_t)i < sizeof text / sizeof *text)
        return text_seed(text[i], n);
    if (i > (int)(sizeof text / sizeof *text))
        return NULL;
    struct dlm_vocab *v = small_vocab();
    const char *json = dlm_vocab_json(v, n);
    uint8_t *b = malloc(*n);
    if (b)
        memcpy(b, json, *n);
    dlm_vocab_free(v);
    return b;
}

#endif
