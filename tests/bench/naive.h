/* The oracle of the encoding benchmark: byte-pair encoding as a textbook has it, sharing nothing with the encoder but the vocabulary's tokens.
 *
 * PCRE2 cuts the text by the expression itself (a group around it keeps it from being known by name); in each piece the two neighbours whose bytes together
 * are the token of the lowest id become it, leftmost first, until none are. For vocabularies that make each token by one merge, in order of id, which
 * trained ones are.
 */
#ifndef DLM_BENCH_NAIVE_H
#define DLM_BENCH_NAIVE_H

#include "text/encode.h"
#include "text/split.h"
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct naive {
    const struct dlm_vocab *v;
    struct dlm_split *split;
    struct dlm_split_scratch *scratch;
    uint32_t *slots; /* ids by the hash of their bytes, UINT32_MAX empty */
    size_t mask;
    struct naive_part {
        const uint8_t *at;
        size_t len;
    } *parts; /* (room) of the piece */
    size_t room;
    struct dlm_ids *ids;
};

static size_t naive_slot(const struct naive *n, const uint8_t *bytes, size_t len)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ bytes[i]) * 1099511628211u;
    for (size_t at = (size_t)(h ^ h >> 29) & n->mask;; at = (at + 1) & n->mask) {
        size_t have;
        const uint8_t *there = n->slots[at] != UINT32_MAX ? dlm_vocab_bytes(n->v, n->slots[at], &have) : NULL;
        if (!there || (have == len && !memcmp(there, bytes, len)))
            return at;
    }
}

static int naive_piece(void *to, const uint8_t *piece, size_t len, struct dlm_error *err)
{
    struct naive *n = to;
    size_t parts = len;
    if (len > n->room) {
        struct naive_part *more = reallocarray(n->parts, len, sizeof *more);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        n->parts = more;
        n->room = len;
    }
    for (size_t i = 0; i < len; i++)
        n->parts[i] = (struct naive_part){piece + i, 1};
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < parts; i++) {
            const uint32_t id = n->slots[naive_slot(n, n->parts[i].at, n->parts[i].len + n->parts[i + 1].len)];
            if (id < best) {
                best = id;
                at = i;
            }
        }
        if (best == UINT32_MAX)
            break;
        n->parts[at].len += n->parts[at + 1].len;
        memmove(n->parts + at + 1, n->parts + at + 2, (parts - at - 2) * sizeof *n->parts);
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        if (n->ids->n == n->ids->cap) {
            uint32_t *more = reallocarray(n->ids->at, 2 * n->ids->cap + 1024, sizeof *more);
            if (!more)
                return dlm_fail(err, DLM_ENOMEM, "out of memory");
            n->ids->at = more;
            n->ids->cap = 2 * n->ids->cap + 1024;
        }
        n->ids->at[n->ids->n++] = n->slots[naive_slot(n, n->parts[i].at, n->parts[i].len)];
    }
    return 0;
}

/* pattern: the expression that the vocabulary cuts by. */
static int naive_open(struct naive *n, const struct dlm_vocab *v, const char *pattern, struct dlm_error *err)
{
    char *grouped = NULL;
    *n = (struct naive){.v = v, .mask = 1};
    while (n->mask < 4 * (size_t)dlm_vocab_size(v))
        n->mask = 2 * n->mask + 1;
    n->slots = malloc((n->mask + 1) * sizeof *n->slots);
    if (!n->slots || asprintf(&grouped, "(?:%s)", pattern) < 0)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    memset(n->slots, 0xff, (n->mask + 1) * sizeof *n->slots);
    for (uint32_t id = 0; id < dlm_vocab_size(v); id++) {
        size_t len;
        const uint8_t *bytes = dlm_vocab_bytes(v, id, &len);
        if (!dlm_vocab_is_special(v, id) && len)
            n->slots[naive_slot(n, bytes, len)] = id;
    }
    const struct dlm_split_step step = {.regex = grouped};
    int rc = dlm_split_new(&n->split, &step, 1, false, err);
    rc = rc ? rc : dlm_split_scratch_new(&n->scratch, n->split, err);
    free(grouped);
    return rc;
}

static int naive_run(struct naive *n, const uint8_t *text, size_t len, struct dlm_ids *ids, struct dlm_error *err)
{
    n->ids = ids;
    ids->n = 0;
    return dlm_split_run(n->split, n->scratch, text, len, 0, naive_piece, n, err);
}

static void naive_close(struct naive *n)
{
    dlm_split_scratch_free(n->scratch);
    dlm_split_free(n->split);
    free(n->slots);
    free(n->parts);
}

#endif
