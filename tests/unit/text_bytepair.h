/* A vocabulary for the tests of merging, made of merges drawn at random, and the plain O(n²) way to merge by rank. */
#ifndef DLM_TESTS_TEXT_BYTEPAIR_H
#define DLM_TESTS_TEXT_BYTEPAIR_H

#include "base/rng.h"
#include "text/compose.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

struct bytepair {
    struct dlm_token_bytes tokens[2048];
    uint8_t room[1 << 16];
    uint32_t merges[2048][2];
    uint32_t made[2048]; /* what a merge makes */
    size_t n_tokens, n_merges, used;
};

static const char *const bytepair_specials[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};

static inline void bytepair_bytes(struct bytepair *b)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < 256; i++) {
        b->room[i] = (uint8_t)i;
        b->tokens[i] = (struct dlm_token_bytes){b->room + i, 1};
    }
    b->n_tokens = b->used = 256;
}

/* One more merge; several may make the same token. Longer tokens than 12 bytes are left out. */
static inline void bytepair_merge(struct bytepair *b, uint32_t left, uint32_t right)
{
    size_t len = b->tokens[left].len + b->tokens[right].len;
    if (len > 12 || b->n_merges == 2048 || b->n_tokens == 2048)
        return;
    for (size_t i = 0; i < b->n_merges; i++)
        if (b->merges[i][0] == left && b->merges[i][1] == right)
            return;
    uint8_t *at = b->room + b->used;
    memcpy(at, b->tokens[left].at, b->tokens[left].len);
    memcpy(at + b->tokens[left].len, b->tokens[right].at, b->tokens[right].len);
    uint32_t id = 0;
    while (id < b->n_tokens && (b->tokens[id].len != len || memcmp(b->tokens[id].at, at, len)))
        id++;
    if (id == b->n_tokens) {
        b->tokens[b->n_tokens++] = (struct dlm_token_bytes){at, len};
        b->used += len;
    }
    b->merges[b->n_merges][0] = left;
    b->merges[b->n_merges][1] = right;
    b->made[b->n_merges++] = id;
}

static inline struct dlm_vocab *bytepair_vocab(const struct bytepair *b, const char *regex, bool whole_words)
{
    struct dlm_vocab_plan plan = {bytepair_specials, 4, regex, b->tokens, b->n_tokens, (const uint32_t(*)[2])b->merges, b->n_merges, whole_words};
    struct dlm_error err;
    char *json = NULL;
    struct dlm_vocab *v = NULL;
    if (dlm_vocab_compose(&json, &plan, &err) || dlm_vocab_parse(&v, json, strlen(json), "bytepair", &err)) {
        fprintf(stderr, "# %s\n", err.msg);
        abort();
    }
    free(json);
    return v;
}

/* Merge the pair of the lowest rank, leftmost first, until there is none; ids without the four specials in front. Returns how many. */
static inline size_t bytepair_plain(const struct bytepair *b, const uint8_t *text, size_t n, uint32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = text[i];
    for (;;) {
        size_t best = b->n_merges, at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t k = 0; k < best; k++)
                if (b->merges[k][0] == ids[i] && b->merges[k][1] == ids[i + 1]) {
                    best = k;
                    at = i;
                }
        if (best == b->n_merges)
            return n;
        ids[at] = b->made[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

#endif
