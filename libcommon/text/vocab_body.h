/* The inside of a vocabulary, for the text room only: what encoding needs beside vocab.h. */
#ifndef DLM_TEXT_VOCAB_BODY_H
#define DLM_TEXT_VOCAB_BODY_H

#include "text/split.h"
#include "text/vocab.h"

struct dlm_merge {
    uint64_t pair; /* left << 32 | right; UINT64_MAX in an empty slot */
    uint32_t rank, id;
};

/* The text of an id in blob; empty for special and unused ones. Sixteen bytes may be read from any `at`. */
struct dlm_span {
    uint32_t at, len;
};

/* An added token that is looked for in the text itself. */
struct dlm_added {
    uint32_t id;
    const char *text; /* points into blob */
    size_t len;
    bool special, normalized;
    bool awkward; /* lstrip, rstrip or single_word: not implemented, refused where it would matter */
};

struct dlm_vocab {
    char *json;
    size_t json_len;
    uint64_t fingerprint;
    uint32_t size;
    struct dlm_specials specials;
    uint8_t *kind;     /* (size) enum dlm_token_kind */
    uint64_t *at;      /* (size) where the bytes or the written form of an id begin in blob; each is followed by a NUL */
    uint32_t *len;     /* (size) */
    struct dlm_span *spans; /* (size) */
    uint32_t longest;  /* bytes of the longest token */
    uint8_t *blob;
    size_t blob_len, blob_cap;
    uint32_t byte_id[256]; /* DLM_NO_ID for a byte without one */
    /* Odd, and drawn anew for each vocabulary: nobody can write a file whose merges or words all fall into one slot. */
    uint64_t factor;
    struct dlm_merge *merges; /* open addressing, merge_mask + 1 slots */
    size_t merge_mask;
    unsigned merge_shift; /* 64 - log2 of the slots */
    bool twins;        /* some id is made by several pairs */
    bool whole_words;  /* ignore_merges: a piece that is a token is that token */
    uint32_t *word_ids; /* with whole_words: ids by the hash of their bytes, DLM_NO_ID empty */
    size_t word_mask;
    struct dlm_added *added; /* in the order of the file */
    size_t n_added;
    struct dlm_chain_place *chain; /* see chain.h */
    struct dlm_split *split;
    uint32_t *before, *after; /* ids that the post-processor puts around a document */
    size_t n_before, n_after;
};

/* A whole file of at most 1 GiB; *text is malloc'ed. */
int dlm_vocab_read_file(char **text, size_t *n, const char *path, struct dlm_error *err);

/* Drawn by the system, odd. */
uint64_t dlm_vocab_factor(void);

/* The first slot to look into: multiply and shift, which is universal for a random odd factor. */
static inline size_t dlm_merge_slot(const struct dlm_vocab *v, uint64_t pair)
{
    return pair * v->factor >> v->merge_shift;
}

/* The merge of two ids, NULL when there is none. */
static inline const struct dlm_merge *dlm_merge_find(const struct dlm_vocab *v, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (size_t i = dlm_merge_slot(v, pair);; i = (i + 1) & v->merge_mask) {
        if (v->merges[i].pair == pair)
            return &v->merges[i];
        if (v->merges[i].pair == UINT64_MAX)
            return NULL;
    }
}

#endif
