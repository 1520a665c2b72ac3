/* Text to ids: added tokens are taken out, the rest is split into pieces, each piece is merged by rank.
 *
 * Short pieces are merged by looking along them, long ones by short windows that overlap (pairs.h). Where the windows cannot be put
 * together, the chain (chain.h) finds the ids from left to right; where there is no table of pairs or no chain, neighbours are in a
 * linked list and candidate merges in a heap by (rank, position), which takes O(n log n). A candidate is stale when its pair no
 * longer makes the id it was entered with; that is the comparison of Hugging Face's merge_all.
 *
 * Words repeat, so the ids of short pieces are cached, in two levels: up to 15 bytes and 3 ids in sets of two that share a cache
 * line, what is longer in another one. Both compare the whole piece, so a hash decides about time only. The table of words grows with
 * what it is given, so that a small text stays near to the processor, and then words are replaced. Memory: the two caches, at most
 * 36 MB and 16 more while the table grows, and 64 bytes for each byte of a window, or half a byte for each of a piece that goes
 * through the chain.
 */
#include "text/encode.h"

#include "text/chain.h"
#include "text/pairs.h"
#include "text/vocab_body.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    CACHE_SLOTS = 1 << 15, /* direct-mapped: a newcomer replaces the word that was there, so memory is fixed */
    CACHE_TEXT = 64,       /* longest cached piece, bytes */
    CACHE_IDS = 9,         /* most ids of a cached piece */
    FEW_BITS = 13,         /* 2^FEW_BITS sets of two slots for the shortest pieces at first */
    MOST_BITS = 19,        /* and in the end */
    WORD_TEXT = 15,
    HUGE_PAGE = 2 << 20,   /* bytes; the words fill some */
    WORD_IDS = 3,
    BLOCK = 256,           /* pieces whose slots are fetched ahead of their use */
    CHAIN = 32,            /* a longer piece goes through the chain, where the vocabulary has one */
    WINDOW = 1024,         /* bytes of a longer piece that are merged at a time; more where tokens are long */
    OVERLAP = 16,          /* tokens by which windows overlap */
    ADDED = 1024,          /* bytes of an added token */
};

/* A piece of at most 15 bytes, filled up with zeros, its length in the last byte, and its ids. */
struct word {
    uint64_t text[2]; /* all zeros: empty */
    uint32_t ids[WORD_IDS], n;
};
_Static_assert(sizeof(struct word) == 32, "two words share a cache line");
/* In the last byte: more ids than fit, look into the other cache. */
#define MANY (UINT64_C(0x80) << 56)

struct cached {
    uint8_t len, n; /* len 0: empty */
    uint8_t text[CACHE_TEXT];
    uint32_t ids[CACHE_IDS];
};

struct candidate {
    uint64_t order; /* rank << 32 | at */
    uint32_t id;
};

struct symbol {
    uint32_t id; /* DLM_NO_ID once merged into the one before */
    uint32_t prev, next; /* DLM_NO_ID at the ends */
    uint32_t pair; /* what it and the next one make, DLM_NO_ID for nothing */
};

struct dlm_encoder {
    const struct dlm_vocab *vocab;
    struct dlm_split_scratch *scratch;
    bool parse_special, may_cut;
    struct look {
        struct dlm_added token;
        size_t shorter; /* 1 + the longest other one that this one begins with; 0: there is none */
    } *look[2]; /* tokens looked for in the text: those of raw text, then those of normalised text; by their bytes, no two the same */
    size_t n_look[2];
    bool begins[2][256];       /* bytes that some such token begins with */
    struct cached *cache;
    struct word *words;
    unsigned word_bits, most_bits;
    size_t new_words; /* entered since the table grew */
    struct symbol *symbols;
    size_t cap_symbols;
    struct candidate *heap;
    size_t n_heap, cap_heap;
    const struct dlm_chain *chain; /* NULL when not asked for yet, or when there is none */
    const struct dlm_pairs *pairs; /* so, too */
    bool asked, asked_pairs;
    struct dlm_chain_scratch links;
    struct dlm_pairs_scratch windows;
    struct dlm_ids again; /* of the window before */
    struct dlm_ids *ids; /* of the run under way */
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

static bool letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Of two with the same text the smaller id counts. */
static int by_text(const void *a, const void *b)
{
    const struct look *x = a, *y = b;
    size_t n = x->token.len < y->token.len ? x->token.len : y->token.len;
    int order = memcmp(x->token.text, y->token.text, n);
    if (order || x->token.len != y->token.len)
        return order ? order : (x->token.len > y->token.len) - (x->token.len < y->token.len);
    return (x->token.id > y->token.id) - (x->token.id < y->token.id);
}

static bool begins_with(const struct look *x, const struct look *y)
{
    return x->token.len >= y->token.len && !memcmp(x->token.text, y->token.text, y->token.len);
}

/* In order, those that a token begins with lie before it, on the way along `shorter` from the one before it. The number that are left. */
static size_t put_in_order(struct look *look, size_t n)
{
    size_t k = 0;
    if (n)
        qsort(look, n, sizeof *look, by_text);
    for (size_t i = 0; i < n; i++) {
        if (k && look[k - 1].token.len == look[i].token.len && begins_with(&look[k - 1], &look[i]))
            continue;
        look[k] = look[i];
        size_t s = k;
        while (s && !begins_with(&look[k], &look[s - 1]))
            s = look[s - 1].shorter;
        look[k++].shorter = s;
    }
    return k;
}

/* 2^bits empty sets, NULL when there is no memory. They are looked up all over the place, where small pages would cost more than the
 * rest: whole large ones from the system, which are zeros. */
static struct word *words_of(unsigned bits)
{
    size_t size = 2 * sizeof(struct word) << bits;
    if (size < HUGE_PAGE) {
        struct word *w = aligned_alloc(2 * sizeof *w, size);
        return w ? memset(w, 0, size) : NULL;
    }
    uint8_t *at = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)at & (HUGE_PAGE - 1);
    if (before)
        munmap(at, before);
    munmap(at + before + size, HUGE_PAGE - before);
    madvise(at + before, size, MADV_HUGEPAGE);
    return (struct word *)(at + before);
}

static void free_words(struct word *w, unsigned bits)
{
    size_t size = 2 * sizeof *w << bits;
    if (size < HUGE_PAGE)
        free(w);
    else if (w)
        munmap(w, size);
}

int dlm_encoder_new(struct dlm_encoder **out, const struct dlm_vocab *v, bool parse_special, struct dlm_error *err)
{
    struct dlm_encoder *e = calloc(1, sizeof *e);
    if (!e)
        return no_memory(err);
    e->vocab = v;
    e->parse_special = parse_special;
    e->may_cut = dlm_split_may_cut(v->split);
    int rc = dlm_split_scratch_new(&e->scratch, v->split, err);
    e->cache = calloc(CACHE_SLOTS, sizeof *e->cache);
    e->word_bits = FEW_BITS;
    e->most_bits = MOST_BITS;
    e->words = words_of(FEW_BITS);
    for (int i = 0; i < 2; i++)
        e->look[i] = malloc((v->n_added ? v->n_added : 1) * sizeof *e->look[i]);
    if (!rc && (!e->cache || !e->words || !e->look[0] || !e->look[1]))
        rc = no_memory(err);
    for (size_t i = 0; i < v->n_added && !rc; i++) {
        const struct dlm_added *a = &v->added[i];
        if (a->special && !parse_special)
            continue;
        if (a->awkward)
            rc = dlm_fail(err, DLM_EDATA, "added token '%.60s': lstrip, rstrip and single_word are not implemented", a->text);
        if (a->len > ADDED)
            rc = dlm_fail(err, DLM_EDATA, "added token '%.60s': more than %d bytes are not implemented", a->text, ADDED);
        e->look[a->normalized][e->n_look[a->normalized]++].token = *a;
        e->begins[a->normalized][(uint8_t)a->text[0]] = true;
        /* a cut must neither part a token nor give as context a letter that a token takes away */
        if (letter((uint8_t)a->text[0]) || dlm_split_cut((const uint8_t *)a->text, 0, a->len))
            e->may_cut = false;
    }
    if (!rc && e->n_look[1] && dlm_split_normalizes(v->split))
        rc = dlm_fail(err, DLM_EDATA,
                      "added token '%.60s': a token of normalised text is not implemented together with a normalizer",
                      e->look[1][0].token.text);
    for (int i = 0; i < 2 && !rc; i++)
        e->n_look[i] = put_in_order(e->look[i], e->n_look[i]);
    if (rc) {
        dlm_encoder_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

void dlm_encoder_free(struct dlm_encoder *e)
{
    if (!e)
        return;
    dlm_split_scratch_free(e->scratch);
    free(e->look[0]);
    free(e->look[1]);
    free(e->cache);
    free_words(e->words, e->word_bits);
    free(e->symbols);
    free(e->heap);
    free(e->again.at);
    dlm_chain_scratch_release(&e->links);
    free(e);
}

bool dlm_encoder_may_cut(const struct dlm_encoder *e)
{
    return e->may_cut;
}

static int reserve(struct dlm_ids *ids, size_t more, struct dlm_error *err)
{
    if (ids->n + more <= ids->cap)
        return 0;
    size_t cap = 2 * (ids->n + more);
    uint32_t *at = realloc(ids->at, cap * sizeof *at);
    if (!at)
        return no_memory(err);
    ids->at = at;
    ids->cap = cap;
    return 0;
}

int dlm_ids_push(struct dlm_ids *ids, uint32_t id, struct dlm_error *err)
{
    int rc = reserve(ids, 1, err);
    if (!rc)
        ids->at[ids->n++] = id;
    return rc;
}

static int append(struct dlm_ids *ids, const uint32_t *more, size_t n, struct dlm_error *err)
{
    int rc = reserve(ids, n, err);
    if (!rc && n) {
        memcpy(ids->at + ids->n, more, n * sizeof *more);
        ids->n += n;
    }
    return rc;
}

/* --- merging ------------------------------------------------------------------------------------------------------------------ */

/* Room was made for it: a piece of n bytes enters at most 3n candidates. */
static void heap_push(struct dlm_encoder *e, struct candidate c)
{
    size_t i = e->n_heap++;
    for (; i; i = (i - 1) / 2) {
        size_t up = (i - 1) / 2;
        if (c.order >= e->heap[up].order)
            break;
        e->heap[i] = e->heap[up];
    }
    e->heap[i] = c;
}

static struct candidate heap_pop(struct dlm_encoder *e)
{
    struct candidate top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < e->n_heap; i = k) {
        if (k + 1 < e->n_heap)
            k += e->heap[k + 1].order < e->heap[k].order;
        if (e->heap[k].order >= last.order)
            break;
        e->heap[i] = e->heap[k];
    }
    e->heap[i] = last;
    return top;
}

static void consider(struct dlm_encoder *e, uint32_t at)
{
    struct symbol *s = e->symbols;
    const struct dlm_merge *m = dlm_merge_find(e->vocab, s[at].id, s[s[at].next].id);
    s[at].pair = m ? m->id : DLM_NO_ID;
    if (m)
        heap_push(e, (struct candidate){(uint64_t)m->rank << 32 | at, m->id});
}

static int no_byte(uint8_t byte, struct dlm_error *err)
{
    return dlm_fail(err, DLM_EDATA, "the vocabulary has no token for the byte 0x%02x", byte);
}

static int merge_heap(struct dlm_encoder *e, const uint8_t *text, size_t n, struct dlm_error *err)
{
    if (n > UINT32_MAX / 4)
        return dlm_fail(err, DLM_EDATA, "a piece of %zu bytes without a break is too long", n);
    if (n > e->cap_symbols) {
        size_t cap = n < 1024 ? 1024 : n + n / 2;
        free(e->symbols);
        free(e->heap);
        e->symbols = malloc(cap * sizeof *e->symbols);
        e->heap = malloc(3 * cap * sizeof *e->heap);
        e->cap_symbols = e->symbols && e->heap ? cap : 0;
        if (!e->cap_symbols)
            return no_memory(err);
    }
    struct symbol *s = e->symbols;
    for (size_t i = 0; i < n; i++) {
        s[i] = (struct symbol){e->vocab->byte_id[text[i]], i ? (uint32_t)i - 1 : DLM_NO_ID,
                               i + 1 < n ? (uint32_t)i + 1 : DLM_NO_ID, DLM_NO_ID};
        if (s[i].id == DLM_NO_ID)
            return no_byte(text[i], err);
    }
    e->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        consider(e, i);
    while (e->n_heap) {
        struct candidate c = heap_pop(e);
        uint32_t at = (uint32_t)c.order, next = s[at].next;
        if (s[at].pair != c.id)
            continue;
        s[at].id = c.id;
        s[at].pair = s[next].pair = DLM_NO_ID;
        s[at].next = s[next].next;
        if (s[next].next != DLM_NO_ID)
            s[s[next].next].prev = at;
        s[next].id = DLM_NO_ID;
        if (s[at].prev != DLM_NO_ID)
            consider(e, s[at].prev);
        if (s[at].next != DLM_NO_ID)
            consider(e, at);
    }
    int rc = 0;
    for (uint32_t i = 0; i != DLM_NO_ID && !rc; i = s[i].next)
        rc = dlm_ids_push(e->ids, s[i].id, err);
    return rc;
}

/* A long piece by windows that overlap, so that what is merged stays in the processor's cache and memory does not grow with the
 * piece. Ids of which any two neighbours are the merged form of their own bytes are the merged form of the whole: until the first
 * merge across a border between two of them, merging the whole and merging these two do the same, so that merge would also have
 * happened to the two alone. Parts of a merged form are merged forms. So where two windows have a token in common, at one place,
 * the ids of the first up to it and those of the second from it on are those of both together. */
static int merge_windows(struct dlm_encoder *e, const uint8_t *text, size_t n, size_t window, struct dlm_error *err)
{
    struct dlm_ids *ids = e->ids;
    const struct dlm_span *span = e->vocab->spans;
    size_t first = ids->n, end = window;
    const uint8_t *same = NULL; /* the window before, whose ids are kept: text of one pattern is merged once */
    size_t n_same = 0;
    int rc = merge_heap(e, text, end, err);
    while (!rc && end < n) {
        /* the next window begins at a token, some before the end */
        size_t keep = ids->n, begin = end;
        while (keep > first + 1 && (ids->n - keep < OVERLAP && end - begin < window / 2))
            begin -= span[ids->at[--keep]].len;
        size_t old = ids->n, to = n - begin < window + window / 2 ? n : begin + window;
        if (n_same == to - begin && !memcmp(same, text + begin, n_same)) {
            rc = append(ids, e->again.at, e->again.n, err);
        } else {
            rc = merge_heap(e, text + begin, to - begin, err);
            e->again.n = 0;
            rc = rc ? rc : append(&e->again, ids->at + old, ids->n - old, err);
            same = text + begin;
            n_same = to - begin;
        }
        size_t a = keep, b = old, at_a = begin, at_b = begin;
        while (!rc && a < old && b < ids->n && !(at_a == at_b && ids->at[a] == ids->at[b])) {
            if (at_a <= at_b)
                at_a += span[ids->at[a++]].len;
            else
                at_b += span[ids->at[b++]].len;
        }
        if (rc)
            break;
        if (a == old || b == ids->n) { /* none in common: everything at once */
            ids->n = first;
            return merge_heap(e, text, n, err);
        }
        memmove(ids->at + a, ids->at + b, (ids->n - b) * sizeof *ids->at);
        ids->n -= b - a;
        end = to;
    }
    return rc;
}

static int merge_chain(struct dlm_encoder *e, const uint8_t *text, size_t n, struct dlm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (e->vocab->byte_id[text[i]] == DLM_NO_ID)
            return no_byte(text[i], err);
    size_t made = 0;
    int rc = reserve(e->ids, n, err);
    rc = rc ? rc : dlm_chain_run(e->chain, &e->links, text, n, e->ids->at + e->ids->n, &made, err);
    e->ids->n += made;
    return rc;
}

static int merge_piece(struct dlm_encoder *e, const uint8_t *text, size_t n, struct dlm_error *err)
{
    if (e->pairs) {
        int rc = reserve(e->ids, n, err);
        if (rc)
            return rc;
        uint32_t *to = e->ids->at + e->ids->n;
        size_t made = n <= DLM_PAIRS_TEXT ? dlm_pairs_merge(e->pairs, text, n, to)
                                          : dlm_pairs_merge_long(e->pairs, &e->windows, text, n, to);
        e->ids->n += made;
        if (made)
            return 0;
    }
    if (!e->asked && n > CHAIN) {
        int rc = dlm_chain_of(&e->chain, e->vocab, err);
        if (rc)
            return rc;
        e->asked = true;
    }
    if (e->chain && n > CHAIN)
        return merge_chain(e, text, n, err);
    size_t window = 16 * (size_t)e->vocab->longest;
    window = window < WINDOW ? WINDOW : window;
    return n > 2 * window ? merge_windows(e, text, n, window, err) : merge_heap(e, text, n, err);
}

/* The id of a piece that is a token, DLM_NO_ID otherwise. */
static uint32_t whole_word(const struct dlm_vocab *v, const uint8_t *text, size_t n)
{
    for (size_t i = XXH3_64bits_withSeed(text, n, v->factor) & v->word_mask; v->word_ids[i] != DLM_NO_ID; i = (i + 1) & v->word_mask) {
        uint32_t id = v->word_ids[i];
        if (v->len[id] == n && !memcmp(v->blob + v->at[id], text, n))
            return id;
    }
    return DLM_NO_ID;
}

static int encode_uncached(struct dlm_encoder *e, const uint8_t *text, size_t n, struct dlm_error *err)
{
    if (!e->asked_pairs) {
        int rc = dlm_pairs_of(&e->pairs, e->vocab, err);
        if (rc)
            return rc;
        e->asked_pairs = true;
    }
    uint32_t id = DLM_NO_ID;
    if (e->vocab->whole_words && (!e->pairs || dlm_pairs_may_be_odd(e->pairs, text, n)))
        id = whole_word(e->vocab, text, n);
    return id != DLM_NO_ID ? dlm_ids_push(e->ids, id, err) : merge_piece(e, text, n, err);
}

static int encode_piece(struct dlm_encoder *e, const uint8_t *text, size_t n, struct dlm_error *err)
{
    if (n > CACHE_TEXT)
        return encode_uncached(e, text, n, err);
    struct cached *c = &e->cache[XXH3_64bits(text, n) & (CACHE_SLOTS - 1)];
    if (c->len == n && !memcmp(c->text, text, n)) {
        return append(e->ids, c->ids, c->n, err);
    }
    size_t first = e->ids->n;
    int rc = encode_uncached(e, text, n, err);
    size_t made = e->ids->n - first;
    if (rc || made > CACHE_IDS)
        return rc;
    c->len = (uint8_t)n;
    c->n = (uint8_t)made;
    memcpy(c->text, text, n);
    memcpy(c->ids, e->ids->at + first, made * sizeof *c->ids);
    return 0;
}

/* Sixteen bytes of 0xff and sixteen of 0: from 16 - n on, a mask of n bytes. */
static const uint8_t mask[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* A piece of at most 15 bytes as a word has it; room: bytes that may be read. */
static inline void load_word(uint64_t to[2], const uint8_t *text, size_t n, size_t room)
{
    to[0] = to[1] = 0;
    if (room >= 16) {
        uint64_t m[2];
        memcpy(to, text, 16);
        memcpy(m, mask + 16 - n, 16);
        to[0] &= m[0];
        to[1] &= m[1];
    } else {
        memcpy(to, text, n);
    }
    to[1] |= (uint64_t)n << 56;
}

static inline size_t word_set(const uint64_t text[2], unsigned bits)
{
    return (text[0] + text[1] * 0xd6e8feb86659fd93u) * 0x9e3779b97f4a7c15u >> (64 - bits);
}

static inline bool same_word(const struct word *w, const uint64_t text[2])
{
    return w->text[0] == text[0] && w->text[1] == text[1];
}

/* Twice as many sets. Without memory for them the table stays as it is. */
static void more_words(struct dlm_encoder *e)
{
    struct word *old = e->words, *now = words_of(e->word_bits + 1);
    e->new_words = 0;
    if (!now) {
        e->most_bits = e->word_bits;
        return;
    }
    for (size_t i = 0; i < (size_t)2 << e->word_bits; i++) {
        if (!old[i].text[1])
            continue;
        struct word *set = now + 2 * word_set((uint64_t[]){old[i].text[0], old[i].text[1] & ~MANY}, e->word_bits + 1);
        set[set->text[1] != 0] = old[i]; /* they come in order, two for each two sets */
    }
    free_words(old, e->word_bits);
    e->words = now;
    e->word_bits++;
}

/* A word that is not in the first slot of its set: it moves there, and the one that was there into the second. */
static int miss_word(struct dlm_encoder *e, struct word *set, const uint64_t key[2], const uint8_t *text, size_t n,
                     struct dlm_error *err)
{
    const uint64_t many[2] = {key[0], key[1] | MANY};
    if (same_word(&set[0], many))
        return encode_piece(e, text, n, err);
    size_t first = e->ids->n;
    struct word w = set[1];
    if (same_word(&w, key)) {
        memcpy(e->ids->at + first, w.ids, sizeof w.ids);
        e->ids->n += w.n;
    } else if (same_word(&w, many)) {
        int rc = encode_piece(e, text, n, err);
        if (rc)
            return rc;
    } else {
        int rc = encode_uncached(e, text, n, err);
        size_t made = e->ids->n - first;
        if (rc)
            return rc;
        w = (struct word){{key[0], made <= WORD_IDS ? key[1] : many[1]}, {0}, (uint32_t)made};
        memcpy(w.ids, e->ids->at + first, (made < WORD_IDS ? made : WORD_IDS) * sizeof *w.ids);
        e->new_words++;
    }
    set[1] = set[0];
    set[0] = w;
    return 0;
}

static int encode_block(struct dlm_encoder *e, const uint8_t *text, size_t room, size_t from, const size_t *ends, size_t n,
                        struct dlm_error *err)
{
    struct {
        uint64_t text[2];
        struct word *set; /* NULL for a longer piece */
    } key[BLOCK];
    if (e->new_words >> (e->word_bits - 1) && e->word_bits < e->most_bits)
        more_words(e);
    const unsigned bits = e->word_bits;
    for (size_t i = 0, at = from; i < n; at = ends[i++]) {
        key[i].set = NULL;
        if (ends[i] - at > WORD_TEXT)
            continue;
        load_word(key[i].text, text + at, ends[i] - at, room - at);
        key[i].set = e->words + 2 * word_set(key[i].text, bits);
        __builtin_prefetch(key[i].set);
    }
    int rc = reserve(e->ids, 4 * n, err);
    uint32_t *to = e->ids->at + e->ids->n;
    for (size_t i = 0; i < n && !rc; from = ends[i++]) {
        struct word *w = key[i].set;
        if (w && same_word(w, key[i].text)) {
            memcpy(to, (const char *)w + offsetof(struct word, ids), 16); /* what is behind n is written over */
            to += w->n;
            continue;
        }
        e->ids->n = (size_t)(to - e->ids->at);
        size_t len = ends[i] - from;
        rc = w ? miss_word(e, w, key[i].text, text + from, len, err) : encode_piece(e, text + from, len, err);
        rc = rc ? rc : reserve(e->ids, 4 * (n - i), err);
        to = e->ids->at + e->ids->n;
    }
    e->ids->n = (size_t)(to - e->ids->at);
    return rc;
}

static int encode_pieces(void *to, const uint8_t *text, size_t room, const size_t *ends, size_t n, struct dlm_error *err)
{
    int rc = 0;
    for (size_t i = 0, from = 0, many; i < n && !rc; i += many) {
        many = n - i < BLOCK ? n - i : BLOCK;
        rc = encode_block(to, text, room, from, ends + i, many, err);
        from = ends[i + many - 1];
    }
    return rc;
}

/* --- added tokens ------------------------------------------------------------------------------------------------------------- */

/* The longest token that text[0..n) begins with, NULL when there is none: one of those that the last one not behind the text begins with. Each step
 * looks at ADDED bytes at most, and there are as many as digits of the number of tokens. */
static const struct dlm_added *token_at(const struct look *look, size_t count, const uint8_t *text, size_t n)
{
    size_t low = 0, high = count; /* all before low are not behind the text, those from high on are */
    while (low < high) {
        size_t mid = low + (high - low) / 2, len = look[mid].token.len;
        int order = memcmp(look[mid].token.text, text, len < n ? len : n);
        if (order < 0 || (!order && len <= n))
            low = mid + 1;
        else
            high = mid;
    }
    while (low && (look[low - 1].token.len > n || memcmp(look[low - 1].token.text, text, look[low - 1].token.len)))
        low = look[low - 1].shorter;
    return low ? &look[low - 1].token : NULL;
}

/* Take out the tokens of look[level], leftmost first and of those the longest; what lies between goes through the next level. */
static int encode_level(struct dlm_encoder *e, int level, const uint8_t *text, size_t len, size_t context, struct dlm_error *err)
{
    if (!len)
        return 0;
    if (level == 2)
        return dlm_split_run_many(e->vocab->split, e->scratch, text, len, context, encode_pieces, e, err);
    size_t from = 0;
    for (size_t at = 0; e->n_look[level] && at < len; at++) {
        if (!e->begins[level][text[at]])
            continue;
        const struct dlm_added *a = token_at(e->look[level], e->n_look[level], text + at, len - at);
        if (!a)
            continue;
        int rc = encode_level(e, level + 1, text + from, at - from, 0, err);
        rc = rc ? rc : dlm_ids_push(e->ids, a->id, err);
        if (rc)
            return rc;
        from = at + a->len;
        at = from - 1;
    }
    return encode_level(e, level + 1, text + from, len - from, context, err);
}

int dlm_encoder_run_part(struct dlm_encoder *e, const void *text, size_t len, size_t context, bool first, bool last,
                         struct dlm_ids *ids, struct dlm_error *err)
{
    const struct dlm_vocab *v = e->vocab;
    int rc = 0;
    e->ids = ids;
    for (size_t i = 0; first && i < v->n_before && !rc; i++)
        rc = dlm_ids_push(ids, v->before[i], err);
    rc = rc ? rc : encode_level(e, 0, text, len, context, err);
    for (size_t i = 0; last && i < v->n_after && !rc; i++)
        rc = dlm_ids_push(ids, v->after[i], err);
    return rc;
}

int dlm_encoder_run(struct dlm_encoder *e, const void *text, size_t len, struct dlm_ids *ids, struct dlm_error *err)
{
    return dlm_encoder_run_part(e, text, len, 0, true, true, ids, err);
}
