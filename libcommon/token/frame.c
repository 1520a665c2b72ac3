/* The bytes of a token stream. The layout is that of dlm-tokens(5), field by field. */
#include "token/frame.h"

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zstd.h>

/* Offsets in the head; the first eight bytes are the skippable frame's magic and size. */
enum {
    HEAD_TAG = 8,
    HEAD_VERSION = 16, /* 2 bytes */
    HEAD_ID_BYTES = 18,
    HEAD_SPLIT = 19,
    HEAD_VOCAB_SIZE = 20,
    HEAD_SPECIALS = 24, /* begin, end, pad, mask */
    HEAD_FINGERPRINT = 40,
    HEAD_SEQ_LEN = 48,
    HEAD_PART = 52,
    HEAD_JSON = 56,
    HEAD_PACKED = 60
};
static const char head_tag[8] = {'d', 'l', 'm', 't', 'o', 'k', 'e', 'n'};
static const char close_tag[8] = {'d', 'l', 'm', 'c', 'l', 'o', 's', 'e'};

/* What a head must satisfy whoever wrote it; NULL or the reason. */
static const char *contradiction(const struct dlm_stream_info *i)
{
    const uint32_t special[4] = {i->specials.begin, i->specials.end, i->specials.pad, i->specials.mask};
    if (!i->vocab_size || i->vocab_size > INT32_MAX)
        return "the vocabulary size is out of range";
    if (i->id_bytes != (i->vocab_size <= 65536 ? 2 : 4))
        return "the id width does not fit the vocabulary size";
    for (int k = 0; k < 4; k++)
        if (special[k] != DLM_NO_ID && special[k] >= i->vocab_size)
            return "a special id is not in the vocabulary";
    if (i->split > 2 || !i->split != !i->seq_len || (!i->split && i->part))
        return "the shard fields contradict each other";
    if (i->json_len > DLM_FRAME_MAX_JSON)
        return "the vocabulary is too large";
    return NULL;
}

/* A vocabulary is packed to a fifth; what is packed to next to nothing would fill the reader's memory from a few bytes. */
static bool too_dense(size_t json, size_t packed)
{
    return json > DLM_FRAME_ANY_JSON && (json - DLM_FRAME_ANY_JSON) / DLM_FRAME_MAX_RATIO > packed;
}

int dlm_frame_head_encode(uint8_t **out, size_t *n, const struct dlm_stream_info *info, struct dlm_error *err)
{
    const char *why = contradiction(info);
    if (why)
        return dlm_fail(err, DLM_EUSAGE, "cannot begin a token stream: %s", why);
    size_t room = info->json ? ZSTD_compressBound(info->json_len) : 0, packed = 0;
    uint8_t *h = calloc(1, DLM_FRAME_HEAD_FIXED + room + 8);
    if (!h)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (info->json) {
        packed = ZSTD_compress(h + DLM_FRAME_HEAD_FIXED, room, info->json, info->json_len, 3);
        if (ZSTD_isError(packed)) {
            free(h);
            return dlm_fail(err, DLM_ENOMEM, "cannot compress the vocabulary: %s", ZSTD_getErrorName(packed));
        }
        if (too_dense(info->json_len, packed)) {
            free(h);
            return dlm_fail(err, DLM_EDATA, "cannot begin a token stream: the vocabulary's %zu bytes are little else than repetition", info->json_len);
        }
    }
    size_t before_hash = DLM_FRAME_HEAD_FIXED + packed;
    dlm_frame_put32(h, DLM_FRAME_SKIPPABLE);
    dlm_frame_put32(h + 4, (uint32_t)before_hash); /* 8 bytes less for this header, 8 more for the hash */
    memcpy(h + HEAD_TAG, head_tag, sizeof head_tag);
    h[HEAD_VERSION] = DLM_FRAME_VERSION;
    h[HEAD_ID_BYTES] = (uint8_t)info->id_bytes;
    h[HEAD_SPLIT] = info->split;
    dlm_frame_put32(h + HEAD_VOCAB_SIZE, info->vocab_size);
    dlm_frame_put32(h + HEAD_SPECIALS, info->specials.begin);
    dlm_frame_put32(h + HEAD_SPECIALS + 4, info->specials.end);
    dlm_frame_put32(h + HEAD_SPECIALS + 8, info->specials.pad);
    dlm_frame_put32(h + HEAD_SPECIALS + 12, info->specials.mask);
    dlm_frame_put64(h + HEAD_FINGERPRINT, info->fingerprint);
    dlm_frame_put32(h + HEAD_SEQ_LEN, info->seq_len);
    dlm_frame_put32(h + HEAD_PART, info->part);
    dlm_frame_put32(h + HEAD_JSON, info->json ? (uint32_t)info->json_len : 0);
    dlm_frame_put32(h + HEAD_PACKED, (uint32_t)packed);
    dlm_frame_put64(h + before_hash, XXH64(h, before_hash, 0));
    *out = h;
    *n = before_hash + 8;
    return 0;
}

size_t dlm_frame_head_length(const uint8_t *h, const char **why)
{
    if (dlm_frame_get32(h) != DLM_FRAME_SKIPPABLE || memcmp(h + HEAD_TAG, head_tag, sizeof head_tag)) {
        *why = "not a token stream";
        return 0;
    }
    if (h[HEAD_VERSION] != DLM_FRAME_VERSION || h[HEAD_VERSION + 1]) {
        *why = "a version of the format that is not known here";
        return 0;
    }
    size_t packed = dlm_frame_get32(h + HEAD_PACKED), json = dlm_frame_get32(h + HEAD_JSON);
    if (json > DLM_FRAME_MAX_JSON || packed > ZSTD_compressBound(DLM_FRAME_MAX_JSON) || (!packed && json) || too_dense(json, packed) ||
        dlm_frame_get32(h + 4) != DLM_FRAME_HEAD_FIXED + packed) {
        *why = "the sizes in its head contradict each other";
        return 0;
    }
    return DLM_FRAME_HEAD_FIXED + packed + 8;
}

const char *dlm_frame_head_decode(const uint8_t *h, size_t n, struct dlm_stream_info *info)
{
    if (XXH64(h, n - 8, 0) != dlm_frame_get64(h + n - 8))
        return "the head fails its hash";
    *info = (struct dlm_stream_info){
        .id_bytes = h[HEAD_ID_BYTES],
        .vocab_size = dlm_frame_get32(h + HEAD_VOCAB_SIZE),
        .specials = {dlm_frame_get32(h + HEAD_SPECIALS), dlm_frame_get32(h + HEAD_SPECIALS + 4),
                     dlm_frame_get32(h + HEAD_SPECIALS + 8), dlm_frame_get32(h + HEAD_SPECIALS + 12)},
        .fingerprint = dlm_frame_get64(h + HEAD_FINGERPRINT),
        .json_len = dlm_frame_get32(h + HEAD_JSON),
        .seq_len = dlm_frame_get32(h + HEAD_SEQ_LEN),
        .part = dlm_frame_get32(h + HEAD_PART),
        .split = h[HEAD_SPLIT],
    };
    const char *why = contradiction(info);
    size_t packed = dlm_frame_get32(h + HEAD_PACKED);
    if (why || !packed)
        return why;
    if (ZSTD_getFrameContentSize(h + DLM_FRAME_HEAD_FIXED, packed) != info->json_len)
        return "the vocabulary has another length than the head says";
    char *json = malloc(info->json_len + 1);
    if (!json)
        return "out of memory for its vocabulary";
    size_t got = ZSTD_decompress(json, info->json_len, h + DLM_FRAME_HEAD_FIXED, packed);
    if (ZSTD_isError(got) || got != info->json_len || XXH64(json, got, 0) != info->fingerprint) {
        free(json);
        return "the vocabulary does not have the fingerprint of the head";
    }
    json[got] = 0;
    info->json = json;
    return NULL;
}

int dlm_frame_closing_encode(uint8_t **out, size_t *closing_bytes, size_t *seek_bytes, const struct dlm_frame_closing *c,
                             struct dlm_error *err)
{
    if (c->n > DLM_FRAME_MAX_FRAMES - 3)
        return dlm_fail(err, DLM_EDATA, "too many frames for one token stream: %zu", c->n);
    size_t closing = DLM_FRAME_CLOSE_FIXED + 8 * c->n + 8;
    size_t seek = 8 + 8 * (c->n + 2) + DLM_FRAME_SEEK_FOOT_BYTES;
    uint8_t *b = malloc(closing + seek);
    if (!b)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    dlm_frame_put32(b, DLM_FRAME_SKIPPABLE);
    dlm_frame_put32(b + 4, (uint32_t)(closing - 8));
    memcpy(b + 8, close_tag, sizeof close_tag);
    dlm_frame_put64(b + 16, c->tokens);
    dlm_frame_put64(b + 24, c->documents);
    dlm_frame_put64(b + 32, c->text_bytes);
    dlm_frame_put64(b + 40, c->head_hash);
    dlm_frame_put64(b + 48, c->n);
    for (size_t i = 0; i < c->n; i++)
        dlm_frame_put64(b + DLM_FRAME_CLOSE_FIXED + 8 * i, c->entries[i].hash);
    dlm_frame_put64(b + closing - 8, XXH64(b, closing - 8, 0));

    uint8_t *s = b + closing;
    dlm_frame_put32(s, DLM_FRAME_SEEK_TABLE);
    dlm_frame_put32(s + 4, (uint32_t)(seek - 8));
    s += 8;
    for (size_t i = 0; i < c->n + 2; i++, s += 8) {
        bool ours = i == 0 || i == c->n + 1;
        size_t bytes = i == 0 ? c->head_bytes : i == c->n + 1 ? closing : c->entries[i - 1].bytes;
        dlm_frame_put32(s, (uint32_t)bytes);
        dlm_frame_put32(s + 4, ours ? 0 : c->entries[i - 1].content);
    }
    dlm_frame_put32(s, (uint32_t)(c->n + 2));
    s[4] = 0;
    dlm_frame_put32(s + 5, (uint32_t)DLM_FRAME_SEEK_FOOT);
    *out = b;
    *closing_bytes = closing;
    *seek_bytes = seek;
    return 0;
}

int dlm_frame_data_header(const uint8_t *p, size_t n, uint64_t *content)
{
    if (n < 5)
        return 0;
    unsigned d = p[4], single = d >> 5 & 1, flag = d >> 6;
    /* A checksum, no dictionary, no reserved bit, and a content size. */
    if (dlm_frame_get32(p) != (uint32_t)DLM_FRAME_DATA || (d & 0x1f) != 4 || (!flag && !single))
        return -1;
    size_t size_bytes = (size_t)1 << flag, at = 5 + !single;
    if (n < at + size_bytes)
        return 0;
    uint64_t v = 0;
    for (size_t i = 0; i < size_bytes; i++)
        v |= (uint64_t)p[at + i] << 8 * i;
    *content = v + (flag == 1 ? 256 : 0);
    return (int)(at + size_bytes);
}

/* Loops over blocks of a constant size are what the compiler turns into vector instructions. Ids and vocab_size are below 2^31, so
 * the top bit of id | (vocab_size - 1 - id) tells of an id that is not. */
enum { BLOCK = 64 };

size_t dlm_frame_check(const uint32_t *ids, size_t n, uint32_t vocab_size)
{
    uint32_t last = vocab_size - 1;
    size_t i = 0;
    for (; n - i >= BLOCK; i += BLOCK) {
        uint32_t bad = 0;
        for (size_t k = 0; k < BLOCK; k++)
            bad |= ids[i + k] | (last - ids[i + k]);
        if (bad >> 31)
            break;
    }
    while (i < n && ids[i] <= last)
        i++;
    return i;
}

size_t dlm_frame_widen(uint32_t *ids, const uint8_t *from, size_t n, unsigned id_bytes, uint32_t vocab_size)
{
    size_t i = 0;
    for (; id_bytes == 2 && n - i >= BLOCK; i += BLOCK) {
        uint16_t block[BLOCK];
        memcpy(block, from + 2 * i, sizeof block);
        for (size_t k = 0; k < BLOCK; k++)
            ids[i + k] = le16toh(block[k]);
    }
    for (; i < n; i++)
        ids[i] = id_bytes == 2 ? (uint32_t)from[2 * i] | (uint32_t)from[2 * i + 1] << 8 : dlm_frame_get32(from + 4 * i);
    return dlm_frame_check(ids, n, vocab_size);
}

void dlm_frame_narrow(uint8_t *to, const uint32_t *ids, size_t n, unsigned id_bytes)
{
    size_t i = 0;
    for (; id_bytes == 2 && n - i >= BLOCK; i += BLOCK) {
        uint16_t block[BLOCK];
        for (size_t k = 0; k < BLOCK; k++)
            block[k] = htole16((uint16_t)ids[i + k]);
        memcpy(to + 2 * i, block, sizeof block);
    }
    for (; i < n; i++) {
        assert(id_bytes == 4 || ids[i] <= UINT16_MAX);
        if (id_bytes == 4) {
            dlm_frame_put32(to + 4 * i, ids[i]);
        } else {
            to[2 * i] = (uint8_t)ids[i];
            to[2 * i + 1] = (uint8_t)(ids[i] >> 8);
        }
    }
}
