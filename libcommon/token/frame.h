/* The bytes of a token stream: its frames, each measured, encoded and checked (dlm-tokens(5)).
 *
 * Pure functions over memory; who reads files is token/stream.c. All numbers are little endian. A frame is trusted only after its
 * own hash held, and no size taken from one is used before it was compared with its bound.
 */
#ifndef DLM_TOKEN_FRAME_H
#define DLM_TOKEN_FRAME_H

#include "token/stream.h"

#include <string.h>

enum {
    DLM_FRAME_SKIPPABLE = 0x184D2A5D,  /* magic of our two skippable frames */
    DLM_FRAME_SEEK_TABLE = 0x184D2A5E, /* of zstd's seekable format */
    DLM_FRAME_SEEK_FOOT = (int)0x8F92EAB1,
    DLM_FRAME_DATA = (int)0xFD2FB528,  /* of a zstd frame */
    DLM_FRAME_VERSION = 1,
    DLM_FRAME_HEAD_FIXED = 64,         /* bytes of the head before the vocabulary */
    DLM_FRAME_CLOSE_FIXED = 56,        /* bytes of the closing frame before the list of hashes */
    DLM_FRAME_SEEK_FOOT_BYTES = 9,
    DLM_FRAME_MAX_CONTENT = 64 << 20,  /* bytes of ids in one data frame */
    DLM_FRAME_MAX_JSON = 256 << 20,    /* bytes of tokenizer.json; and beyond the first so many, no more than 64 for each packed one */
    DLM_FRAME_ANY_JSON = 16 << 20,
    DLM_FRAME_MAX_RATIO = 64,
    DLM_FRAME_MAX_FRAMES = 1 << 27     /* of zstd's seekable format, less three of ours */
};

static inline uint32_t dlm_frame_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t dlm_frame_get64(const uint8_t *p)
{
    return dlm_frame_get32(p) | (uint64_t)dlm_frame_get32(p + 4) << 32;
}

static inline void dlm_frame_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static inline void dlm_frame_put64(uint8_t *p, uint64_t v)
{
    dlm_frame_put32(p, (uint32_t)v);
    dlm_frame_put32(p + 4, (uint32_t)(v >> 32));
}

/* The head of `info` as bytes: *out is malloc'ed for the caller. DLM_EUSAGE where info cannot be a stream's. */
int dlm_frame_head_encode(uint8_t **out, size_t *n, const struct dlm_stream_info *info, struct dlm_error *err);
/* From the first DLM_FRAME_HEAD_FIXED bytes: the length of the whole head, 0 when they contradict themselves, with *why set. */
size_t dlm_frame_head_length(const uint8_t *fixed, const char **why);
/* The whole head into info; info->json is malloc'ed for the caller or NULL. NULL, or why it is corrupt ("out of memory" included). */
const char *dlm_frame_head_decode(const uint8_t *head, size_t n, struct dlm_stream_info *info);

/* One data frame, as the closing frames list it. */
struct dlm_frame_entry {
    uint32_t bytes, content; /* compressed, and of ids */
    uint64_t hash;           /* XXH64 of the compressed bytes */
};

/* The closing frame and the seek table of a stream whose head has these bytes and hash: *out is malloc'ed for the caller. A pure
 * function of its arguments, so that a reader compares whole frames with what it saw. */
struct dlm_frame_closing {
    uint64_t tokens, documents, text_bytes, head_bytes, head_hash;
    const struct dlm_frame_entry *entries;
    size_t n;
};
int dlm_frame_closing_encode(uint8_t **out, size_t *closing_bytes, size_t *seek_bytes, const struct dlm_frame_closing *c,
                             struct dlm_error *err);

/* Begins the measuring of a zstd frame whose first bytes are p[0..n): how many bytes its header has, 0 when more than n are needed
 * to tell (never with n ≥ 14), or -1 when it is no header that a writer of ours makes. *content: bytes of ids in it. */
int dlm_frame_data_header(const uint8_t *p, size_t n, uint64_t *content);

/* The index of the first of `n` ids that is not below vocab_size, or n. */
size_t dlm_frame_check(const uint32_t *ids, size_t n, uint32_t vocab_size);
/* Widen `n` ids of id_bytes each, checking that each is below vocab_size: the index of the first that is not, or n. */
size_t dlm_frame_widen(uint32_t *ids, const uint8_t *from, size_t n, unsigned id_bytes, uint32_t vocab_size);
void dlm_frame_narrow(uint8_t *to, const uint32_t *ids, size_t n, unsigned id_bytes);

#endif
