/* A perfect hash of merges, and merging by it. */
#include "text/pairs.h"

#include "text/vocab_body.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SYMBOL_BITS = 21,
    NONE = (1 << SYMBOL_BITS) - 1, /* no symbol, and one that makes nothing with any */
    AT_BITS = 6,
    WINDOW = DLM_PAIRS_TEXT,
    FEW = 3, MANY = 16, /* symbols that a window begins before the end of the one before, at first and when that is too late */
    MOVES = 256,     /* numbers that are tried for a bucket */
    ODD_BITS = 16,   /* 2^ODD_BITS bits tell which pieces may be odd */
    TURNS = 64,      /* multipliers that are tried: two pairs of a bucket with the same bits below stay together, for half of them */
};

struct dlm_pairs {
    uint64_t *slots;  /* left, right, made; all ones in an empty one */
    uint8_t *moves;
    uint64_t multiplier, mask;
    unsigned bucket_shift, slot_shift;
    uint32_t *two;    /* (65536) what two bytes make */
    uint32_t *ids;    /* of symbols */
    uint64_t *odd;    /* a bit for the hash of each token that merging its bytes does not give; NULL without such */
    uint32_t *same;   /* the symbol that stands for all of the same id; NULL where an id is made by one pair */
};

static inline size_t slot_of(const struct dlm_pairs *p, uint64_t hash)
{
    return (hash >> p->slot_shift ^ p->moves[hash >> p->bucket_shift]) & p->mask;
}

static inline uint32_t made_of(const struct dlm_pairs *p, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << SYMBOL_BITS | right, slot = p->slots[slot_of(p, pair * p->multiplier)];
    return slot >> SYMBOL_BITS == pair ? (uint32_t)slot & NONE : NONE;
}

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* Find a number for each bucket, those with the most pairs first; false when there is none for some. by_bucket has room for n. */
static bool place(struct dlm_pairs *p, const uint64_t *pairs, size_t n, uint32_t *begin, uint64_t *by_bucket)
{
    size_t buckets = (size_t)1 << (64 - p->bucket_shift), most = 0;
    memset(p->slots, 0xff, (p->mask + 1) * sizeof *p->slots);
    memset(begin, 0, (buckets + 1) * sizeof *begin);
    for (size_t i = 0; i < n; i++)
        begin[((pairs[i] >> SYMBOL_BITS) * p->multiplier >> p->bucket_shift) + 1]++;
    for (size_t b = 0; b < buckets; b++) {
        most = begin[b + 1] > most ? begin[b + 1] : most;
        begin[b + 1] += begin[b];
    }
    for (size_t i = 0; i < n; i++)
        by_bucket[begin[(pairs[i] >> SYMBOL_BITS) * p->multiplier >> p->bucket_shift]++] = pairs[i];
    for (size_t size = most; size; size--)
        for (size_t b = 0; b < buckets; b++) {
            size_t from = b ? begin[b - 1] : 0; /* begin[b] has moved to the end of b */
            if (begin[b] - from != size)
                continue;
            size_t move = 0, k = 0;
            for (; move < MOVES; move++) {
                p->moves[b] = (uint8_t)move;
                for (k = 0; k < size; k++) {
                    uint64_t *slot = &p->slots[slot_of(p, (by_bucket[from + k] >> SYMBOL_BITS) * p->multiplier)];
                    if (*slot != UINT64_MAX)
                        break;
                    *slot = by_bucket[from + k];
                }
                if (k == size)
                    break;
                while (k)
                    p->slots[slot_of(p, (by_bucket[from + --k] >> SYMBOL_BITS) * p->multiplier)] = UINT64_MAX;
            }
            if (move == MOVES)
                return false;
        }
    return true;
}

/* The merges as left, right, made, by rank; *n is how many. */
static int number(struct dlm_pairs *p, const struct dlm_vocab *v, uint64_t *pairs, size_t *n, struct dlm_error *err)
{
    size_t slots = v->merge_mask + 1;
    const struct dlm_merge **by_rank = calloc(slots, sizeof *by_rank); /* there are more slots than ranks */
    uint32_t *symbol = malloc(v->size * sizeof *symbol);
    int rc = by_rank && symbol ? 0 : no_memory(err);
    if (!rc) {
        for (uint32_t i = 0; i < v->size; i++)
            symbol[i] = NONE;
        for (uint32_t i = 0; i < 256; i++)
            symbol[p->ids[i] = v->byte_id[i]] = i;
        for (size_t i = 0; i < slots; i++)
            if (v->merges[i].pair != UINT64_MAX)
                by_rank[v->merges[i].rank] = &v->merges[i];
        size_t k = 256;
        for (size_t i = 0; i < slots; i++)
            if (by_rank[i]) {
                uint32_t *first = &symbol[by_rank[i]->id];
                *first = *first == NONE ? (uint32_t)k : *first;
                if (p->same)
                    p->same[k] = *first;
                p->ids[k++] = by_rank[i]->id;
            }
        k = 256;
        *n = 0;
        for (size_t i = 0; i < slots; i++)
            if (by_rank[i]) {
                uint64_t left = symbol[by_rank[i]->pair >> 32], right = symbol[(uint32_t)by_rank[i]->pair], made = k++;
                if (left == NONE || right == NONE) /* of a part that nothing makes */
                    continue;
                if (left < 256 && right < 256)
                    p->two[left << 8 | right] = (uint32_t)made;
                pairs[(*n)++] = left << 2 * SYMBOL_BITS | right << SYMBOL_BITS | made;
            }
    }
    free(by_rank);
    free(symbol);
    return rc;
}

static size_t count(const struct dlm_vocab *v)
{
    size_t n = 0;
    for (size_t i = 0; i <= v->merge_mask; i++)
        n += v->merges[i].pair != UINT64_MAX;
    return n;
}

void dlm_pairs_free(struct dlm_pairs *p)
{
    if (!p)
        return;
    free(p->slots);
    free(p->moves);
    free(p->two);
    free(p->ids);
    free(p->same);
    free(p->odd);
    free(p);
}

/* Keys have just been stored one by one, so a vector of them would have to wait: the empty statement keeps them apart. */
static inline uint32_t least(uint32_t a, uint32_t b)
{
    __asm__("" : "+r"(b));
    return a < b ? a : b;
}

/* Of `width` keys, a multiple of four: four at a time, so that one does not wait for the other. */
static inline uint32_t least_of(const uint32_t *key, size_t width)
{
    uint32_t a = key[0], b = key[1], c = key[2], d = key[3];
#pragma GCC unroll 2
    for (size_t i = 4; i < width; i += 4) {
        a = least(a, key[i]);
        b = least(b, key[i + 1]);
        c = least(c, key[i + 2]);
        d = least(d, key[i + 3]);
    }
    return least(least(a, b), least(c, d));
}

/* Merge text[0..n): symbol[1 + i] is that which begins at i, for each bit i of what is returned. */
static inline uint64_t merge(const struct dlm_pairs *p, const uint8_t *text, size_t n, uint32_t symbol[DLM_PAIRS_TEXT + 2])
{
    /* the symbols stand between two that make nothing; the key of each: what it and the next make, and where it is */
    uint32_t key[DLM_PAIRS_TEXT + 4];
    const uint32_t nothing = (uint32_t)NONE << AT_BITS;
    size_t width = n > 1 ? (n + 6) & ~(size_t)7 : 8; /* for n - 1 keys */
    symbol[0] = symbol[n + 1] = NONE;
    symbol[1] = text[0];
    for (size_t i = 1; i < n; i++) {
        symbol[i + 1] = text[i];
        key[i] = p->two[text[i - 1] << 8 | text[i]] << AT_BITS | (uint32_t)i;
    }
    for (size_t i = n; i <= width; i++)
        key[i] = nothing;
    uint64_t alive = (UINT64_C(4) << n) - 1;
    for (uint32_t best; (best = least_of(key + 1, width)) < nothing;) {
        uint32_t at = best & ((1 << AT_BITS) - 1), made = best >> AT_BITS;
        uint64_t behind = alive & -(UINT64_C(2) << at), right = behind & -behind;
        behind ^= right;
        alive ^= right;
        unsigned before = 63 ^ (unsigned)__builtin_clzll(alive & ((UINT64_C(1) << at) - 1));
        key[__builtin_ctzll(right)] = nothing;
        if (p->same)
            made = p->same[made];
        symbol[at] = made;
        key[at] = made_of(p, made, symbol[__builtin_ctzll(behind)]) << AT_BITS | at;
        key[before] = made_of(p, symbol[before], made) << AT_BITS | before;
    }
    return alive >> 1 & ((UINT64_C(1) << n) - 1);
}

size_t dlm_pairs_merge(const struct dlm_pairs *p, const uint8_t *text, size_t n, uint32_t *to)
{
    uint32_t symbol[DLM_PAIRS_TEXT + 2];
    size_t k = 0;
    for (uint64_t begins = merge(p, text, n, symbol); begins; begins &= begins - 1)
        to[k++] = p->ids[symbol[1 + __builtin_ctzll(begins)]];
    return k;
}

/* A window is merged once for as long as it is remembered. */
static const struct dlm_pairs_window *window_at(const struct dlm_pairs *p, struct dlm_pairs_scratch *s, const uint8_t *text, size_t n)
{
    if (n < WINDOW) {
        s->last.begins = merge(p, text, n, s->last.symbol);
        return &s->last;
    }
    uint64_t part[WINDOW / 8];
    memcpy(part, text, WINDOW);
    uint64_t hash = ((part[0] + part[1] * 0xd6e8feb86659fd93u) ^ (part[2] + part[3] * 0xa0761d6478bd642fu)) * 0x9e3779b97f4a7c15u;
    struct dlm_pairs_window *w = &s->window[hash >> 32 & (DLM_PAIRS_WINDOWS - 1)];
    if (!w->begins || memcmp(w->text, text, WINDOW)) {
        w->begins = merge(p, text, WINDOW, w->symbol);
        memcpy(w->text, text, WINDOW);
    }
    return w;
}

/* The first bit of a symbol that two windows have in common: both begin it, and both begin what follows, before which neither begins
 * anything. `known`: those bits about which both say something. */
static inline uint64_t common_symbol(uint64_t a, uint64_t b, uint64_t known)
{
    for (uint64_t both = a & b, one = (a ^ b) & known, first; (first = both & -both); both ^= first) {
        uint64_t rest = (both ^ first) | (one & -first);
        if (both & rest & -rest)
            return first;
    }
    return 0;
}

static inline unsigned highest(uint64_t bits)
{
    return 63 ^ (unsigned)__builtin_clzll(bits);
}

size_t dlm_pairs_merge_long(const struct dlm_pairs *p, struct dlm_pairs_scratch *s, const uint8_t *text, size_t n, uint32_t *to)
{
    size_t at = 0, k = 0; /* of a window; of the ids so far */
    struct dlm_pairs_window now = *window_at(p, s, text, n < WINDOW ? n : WINDOW);
    uint64_t begins = now.begins; /* of those of its symbols that are not passed on yet */
    while (n - at > WINDOW) {
        const struct dlm_pairs_window *next = NULL;
        uint64_t common = 0;
        unsigned step = WINDOW;
        for (int overlap = FEW; !common && overlap <= MANY; overlap += MANY - FEW) {
            /* the next window begins with one of the last of this one */
            uint64_t from = begins;
            for (int i = 1; i < overlap && highest(from) > WINDOW / 4 && (from & (from - 1)); i++)
                from ^= UINT64_C(1) << highest(from);
            if (highest(from) == 0 || highest(from) == step)
                break;
            step = highest(from);
            size_t left = n - at - step < WINDOW ? n - at - step : WINDOW;
            next = window_at(p, s, text + at + step, left);
            common = common_symbol((begins | UINT64_C(1) << WINDOW) >> step, next->begins | UINT64_C(1) << left,
                                   (UINT64_C(2) << (WINDOW - step)) - 1);
        }
        if (!common)
            return 0;
        uint64_t done = (common << step) - 1;
        for (uint64_t b = begins & done; b; b &= b - 1)
            to[k++] = p->ids[now.symbol[1 + __builtin_ctzll(b)]];
        at += step;
        now = *next;
        begins = now.begins & -common;
    }
    for (; begins; begins &= begins - 1)
        to[k++] = p->ids[now.symbol[1 + __builtin_ctzll(begins)]];
    return k;
}

static inline size_t odd_bit(const struct dlm_pairs *p, const uint8_t *text, size_t n)
{
    return XXH3_64bits_withSeed(text, n, p->multiplier) >> (64 - ODD_BITS);
}

bool dlm_pairs_may_be_odd(const struct dlm_pairs *p, const uint8_t *text, size_t n)
{
    if (!p->odd)
        return false;
    size_t bit = odd_bit(p, text, n);
    return p->odd[bit / 64] >> (bit % 64) & 1;
}

static int find_odd(struct dlm_pairs *p, const struct dlm_vocab *v, struct dlm_error *err)
{
    struct dlm_pairs_scratch *s = calloc(1, sizeof *s);
    uint32_t *ids = malloc((v->longest + 1) * sizeof *ids);
    int rc = s && ids ? 0 : no_memory(err);
    for (uint32_t id = 0; id < v->size && !rc; id++) {
        if ((v->kind[id] != DLM_TOKEN_BYTE && v->kind[id] != DLM_TOKEN_MERGE) || !v->len[id])
            continue;
        const uint8_t *text = v->blob + v->at[id];
        size_t n = v->len[id], made = n <= DLM_PAIRS_TEXT ? dlm_pairs_merge(p, text, n, ids) : dlm_pairs_merge_long(p, s, text, n, ids);
        if (made == 1 && ids[0] == id)
            continue;
        if (!p->odd && !(p->odd = calloc((1 << ODD_BITS) / 64, sizeof *p->odd)))
            rc = no_memory(err);
        size_t bit = odd_bit(p, text, n);
        if (!rc)
            p->odd[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
    free(s);
    free(ids);
    return rc;
}

int dlm_pairs_new(struct dlm_pairs **out, const struct dlm_vocab *v, struct dlm_error *err)
{
    *out = NULL;
    size_t n = count(v), slots = 16;
    for (int i = 0; i < 256; i++)
        if (v->byte_id[i] == DLM_NO_ID)
            return 0;
    if (n + 256 >= NONE)
        return 0;
    struct dlm_pairs *p = calloc(1, sizeof *p);
    if (!p)
        return no_memory(err);
    while (slots < n + n / 2)
        slots *= 2;
    size_t buckets = slots / 4;
    p->mask = slots - 1;
    p->bucket_shift = 64 - (unsigned)__builtin_ctzll(buckets);
    p->slot_shift = p->bucket_shift - (unsigned)__builtin_ctzll(slots);
    p->slots = malloc(slots * sizeof *p->slots);
    p->moves = calloc(buckets, sizeof *p->moves);
    p->two = malloc(sizeof *p->two << 16);
    p->ids = malloc((n + 256) * sizeof *p->ids);
    p->same = v->twins ? malloc((n + 256) * sizeof *p->same) : NULL;
    uint64_t *pairs = malloc((n + 1) * sizeof *pairs), *by_bucket = malloc((n + 1) * sizeof *by_bucket);
    uint32_t *begin = malloc((buckets + 1) * sizeof *begin);
    int rc = p->slots && p->moves && p->two && p->ids && (p->same || !v->twins) && pairs && by_bucket && begin ? 0 : no_memory(err);
    bool placed = false;
    if (!rc) {
        for (size_t i = 0; i < 1 << 16; i++)
            p->two[i] = NONE;
        rc = number(p, v, pairs, &n, err);
        p->multiplier = v->factor; /* nobody knows it who writes a vocabulary */
        for (int turn = 0; turn < TURNS && !rc && !placed; turn++, p->multiplier *= 0xd1342543de82ef95u)
            if ((placed = place(p, pairs, n, begin, by_bucket)))
                break;
    }
    free(pairs);
    free(by_bucket);
    free(begin);
    if (placed && v->whole_words)
        rc = find_odd(p, v, err);
    if (rc || !placed)
        dlm_pairs_free(p);
    else
        *out = p;
    return rc;
}
