/* Training a byte-level BPE vocabulary: count words, then merge pairs.
 *
 * Counts of pairs are exact at every step: a merge visits the words its pair occurs in, and changes the counts of the
 * neighbours. The heap over pairs is lazy: an entry whose count is no longer true is put back with the true one when it comes
 * up. Overlapping occurrences ("aaa" holds "aa" twice) count as often as they are seen, as with Hugging Face.
 */
#include "text/trainer.h"

#include "text/alphabet.h"
#include "text/compose.h"
#include "text/split.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct word {
    uint64_t hash, count; /* count 0: an empty slot */
    size_t at;            /* in the lane's text */
    uint32_t len;
};

/* One thread's count. */
struct lane {
    struct dlm_split_scratch *scratch;
    struct word *slots; /* open addressing, mask + 1 of them */
    size_t mask, used;
    uint8_t *text;
    size_t text_len, text_cap;
    uint64_t bytes;
};

struct dlm_trainer {
    const char *regex;
    struct dlm_split *split;
    struct lane *lanes;
    size_t n_lanes;
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* --- counting words ----------------------------------------------------------------------------------------------------------- */

int dlm_trainer_new(struct dlm_trainer **out, const char *regex, size_t lanes, struct dlm_error *err)
{
    struct dlm_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return no_memory(err);
    t->regex = regex;
    struct dlm_split_step step = {regex, false};
    int rc = dlm_split_new(&t->split, &step, 1, false, err);
    t->lanes = calloc(lanes, sizeof *t->lanes);
    if (!rc && !t->lanes)
        rc = no_memory(err);
    for (; !rc && t->n_lanes < lanes; t->n_lanes++) {
        struct lane *l = &t->lanes[t->n_lanes];
        l->mask = 1023;
        l->slots = calloc(l->mask + 1, sizeof *l->slots);
        rc = l->slots ? dlm_split_scratch_new(&l->scratch, t->split, err) : no_memory(err);
    }
    if (rc) {
        dlm_trainer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

static void release_lane(struct lane *l)
{
    dlm_split_scratch_free(l->scratch);
    free(l->slots);
    free(l->text);
    *l = (struct lane){0};
}

void dlm_trainer_free(struct dlm_trainer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_lanes; i++)
        release_lane(&t->lanes[i]);
    free(t->lanes);
    dlm_split_free(t->split);
    free(t);
}

bool dlm_trainer_may_cut(const struct dlm_trainer *t)
{
    return dlm_split_may_cut(t->split);
}

static int grow_slots(struct lane *l, struct dlm_error *err)
{
    size_t mask = 2 * l->mask + 1;
    struct word *slots = calloc(mask + 1, sizeof *slots);
    if (!slots)
        return no_memory(err);
    for (size_t i = 0; i <= l->mask; i++) {
        if (!l->slots[i].count)
            continue;
        size_t k = l->slots[i].hash & mask;
        while (slots[k].count)
            k = (k + 1) & mask;
        slots[k] = l->slots[i];
    }
    free(l->slots);
    l->slots = slots;
    l->mask = mask;
    return 0;
}

static int add_word(struct lane *l, const uint8_t *word, size_t len, uint64_t hash, uint64_t count, struct dlm_error *err)
{
    size_t i = hash & l->mask;
    for (; l->slots[i].count; i = (i + 1) & l->mask) {
        struct word *w = &l->slots[i];
        if (w->hash == hash && w->len == len && !memcmp(l->text + w->at, word, len)) {
            w->count += count;
            return 0;
        }
    }
    if (len > UINT32_MAX / 2)
        return dlm_fail(err, DLM_EDATA, "a piece of %zu bytes without a break is too long", len);
    if (l->text_len + len > l->text_cap) {
        size_t cap = 2 * (l->text_len + len);
        uint8_t *more = realloc(l->text, cap);
        if (!more)
            return no_memory(err);
        l->text = more;
        l->text_cap = cap;
    }
    memcpy(l->text + l->text_len, word, len);
    l->slots[i] = (struct word){hash, count, l->text_len, (uint32_t)len};
    l->text_len += len;
    return 2 * ++l->used > l->mask ? grow_slots(l, err) : 0;
}

static int count_piece(void *to, const uint8_t *piece, size_t len, struct dlm_error *err)
{
    return add_word(to, piece, len, XXH3_64bits(piece, len), 1, err);
}

int dlm_trainer_count(struct dlm_trainer *t, size_t lane, const void *text, size_t len, size_t context, struct dlm_error *err)
{
    struct lane *l = &t->lanes[lane];
    l->bytes += len;
    return dlm_split_run(t->split, l->scratch, text, len, context, count_piece, l, err);
}

/* All lanes into the first; the others are released as they are read. */
static int gather(struct dlm_trainer *t, struct dlm_error *err)
{
    struct lane *all = &t->lanes[0];
    for (size_t k = 1; k < t->n_lanes; k++) {
        struct lane *l = &t->lanes[k];
        for (size_t i = 0; i <= l->mask; i++) {
            const struct word *w = &l->slots[i];
            int rc = w->count ? add_word(all, l->text + w->at, w->len, w->hash, w->count, err) : 0;
            if (rc)
                return rc;
        }
        all->bytes += l->bytes;
        release_lane(l);
    }
    return 0;
}

/* --- merging pairs ------------------------------------------------------------------------------------------------------------ */

struct pair {
    uint64_t ids;      /* left << 32 | right; UINT64_MAX in an empty slot */
    int64_t count;
    uint32_t *in;      /* words it was seen in: each once in a row, some no longer true */
    uint32_t n_in, cap_in;
    bool merged;       /* has its merge: when other parts make its tokens anew, it is carried out again, not written again */
};

struct entry {
    int64_t count;
    uint64_t ids;
};


struct merging {
    struct dlm_error *err;
    uint32_t *symbols; /* of all words; a word shrinks in its place */
    struct {
        size_t at;
        uint32_t len;
        uint64_t count;
    } *words;
    size_t n_words;
    struct pair *pairs;
    size_t mask, used;
    struct entry *heap;
    size_t n_heap, cap_heap;
    struct dlm_token_bytes *tokens; /* by id - n_specials */
    size_t n_tokens, cap_tokens;
    uint32_t *token_slots; /* tokens by the hash of their bytes, UINT32_MAX empty */
    size_t token_mask;
    uint32_t (*merges)[2];
    size_t n_merges, cap_merges;
};

static size_t pair_slot(uint64_t ids, size_t mask)
{
    ids *= 0x9e3779b97f4a7c15u;
    return (size_t)(ids ^ ids >> 31) & mask;
}

/* The pair's place, made when it is new; NULL without memory. Invalid after the next call. */
static struct pair *find_pair(struct merging *m, uint64_t ids)
{
    size_t i = pair_slot(ids, m->mask);
    for (; m->pairs[i].ids != UINT64_MAX; i = (i + 1) & m->mask)
        if (m->pairs[i].ids == ids)
            return &m->pairs[i];
    if (2 * (m->used + 1) > m->mask) {
        size_t mask = 2 * m->mask + 1;
        struct pair *more = malloc((mask + 1) * sizeof *more);
        if (!more)
            return NULL;
        memset(more, 0xff, (mask + 1) * sizeof *more);
        for (size_t k = 0; k <= m->mask; k++) {
            if (m->pairs[k].ids == UINT64_MAX)
                continue;
            size_t to = pair_slot(m->pairs[k].ids, mask);
            while (more[to].ids != UINT64_MAX)
                to = (to + 1) & mask;
            more[to] = m->pairs[k];
        }
        free(m->pairs);
        m->pairs = more;
        m->mask = mask;
        for (i = pair_slot(ids, mask); m->pairs[i].ids != UINT64_MAX;)
            i = (i + 1) & mask;
    }
    m->used++;
    m->pairs[i] = (struct pair){.ids = ids};
    return &m->pairs[i];
}

/* Change a pair's count by what one word adds or loses; `word` is remembered where it gains. */
static int change(struct merging *m, uint32_t left, uint32_t right, int64_t by, uint32_t word)
{
    struct pair *p = find_pair(m, (uint64_t)left << 32 | right);
    if (!p)
        return no_memory(m->err);
    p->count += by;
    if (by < 0 || (p->n_in && p->in[p->n_in - 1] == word))
        return 0;
    if (p->n_in == p->cap_in) {
        uint32_t cap = p->cap_in ? 2 * p->cap_in : 4;
        uint32_t *more = p->cap_in > UINT32_MAX / 2 ? NULL : realloc(p->in, cap * sizeof *more);
        if (!more)
            return no_memory(m->err);
        p->in = more;
        p->cap_in = cap;
    }
    p->in[p->n_in++] = word;
    return 0;
}

static bool sooner(const struct entry *a, const struct entry *b)
{
    return a->count != b->count ? a->count > b->count : a->ids < b->ids;
}

static int heap_push(struct merging *m, struct entry e)
{
    if (m->n_heap == m->cap_heap) {
        size_t cap = m->cap_heap ? 2 * m->cap_heap : 1024;
        struct entry *more = realloc(m->heap, cap * sizeof *more);
        if (!more)
            return no_memory(m->err);
        m->heap = more;
        m->cap_heap = cap;
    }
    size_t i = m->n_heap++;
    for (; i && sooner(&e, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = e;
    return 0;
}

static struct entry heap_pop(struct merging *m)
{
    struct entry top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < m->n_heap; i = k) {
        if (k + 1 < m->n_heap && sooner(&m->heap[k + 1], &m->heap[k]))
            k++;
        if (!sooner(&m->heap[k], &last))
            break;
        m->heap[i] = m->heap[k];
    }
    m->heap[i] = last;
    return top;
}

/* The token of these bytes, or the empty slot for it. */
static uint32_t *token_place(struct merging *m, const uint8_t *bytes, size_t len)
{
    size_t i = XXH3_64bits(bytes, len) & m->token_mask;
    for (; m->token_slots[i] != UINT32_MAX; i = (i + 1) & m->token_mask) {
        const struct dlm_token_bytes *t = &m->tokens[m->token_slots[i]];
        if (t->len == len && !memcmp(t->at, bytes, len))
            break;
    }
    return &m->token_slots[i];
}

/* Enter a token; `bytes` is malloc'ed and becomes m's. */
static int add_token(struct merging *m, uint8_t *bytes, size_t len)
{
    if (m->n_tokens == m->cap_tokens || 2 * (m->n_tokens + 1) > m->token_mask) {
        size_t cap = m->cap_tokens ? 2 * m->cap_tokens : 1024, slots = 4 * cap;
        struct dlm_token_bytes *more = realloc(m->tokens, cap * sizeof *more);
        uint32_t *places = malloc(slots * sizeof *places);
        if (more)
            m->tokens = more;
        if (!more || !places) {
            free(places);
            free(bytes);
            return no_memory(m->err);
        }
        m->cap_tokens = cap;
        free(m->token_slots);
        m->token_slots = places;
        m->token_mask = slots - 1;
        memset(places, 0xff, slots * sizeof *places);
        for (size_t i = 0; i < m->n_tokens; i++)
            *token_place(m, m->tokens[i].at, m->tokens[i].len) = (uint32_t)i;
    }
    *token_place(m, bytes, len) = (uint32_t)m->n_tokens;
    m->tokens[m->n_tokens++] = (struct dlm_token_bytes){bytes, len};
    return 0;
}

static void release_merging(struct merging *m)
{
    for (size_t i = 0; m->pairs && i <= m->mask; i++)
        if (m->pairs[i].ids != UINT64_MAX)
            free(m->pairs[i].in);
    for (size_t i = 0; i < m->n_tokens; i++)
        free((void *)m->tokens[i].at);
    free(m->symbols);
    free(m->words);
    free(m->pairs);
    free(m->heap);
    free(m->tokens);
    free(m->token_slots);
    free(m->merges);
}

static int by_point(const void *a, const void *b)
{
    return (int)dlm_alphabet_point(*(const uint8_t *)a) - (int)dlm_alphabet_point(*(const uint8_t *)b);
}

/* Bytes as tokens, words as symbols, pairs counted and in the heap. Words of one byte have no pair and are left out. */
static int begin_merging(struct merging *m, struct lane *l)
{
    uint8_t order[256];
    uint32_t of_byte[256];
    for (int i = 0; i < 256; i++)
        order[i] = (uint8_t)i;
    qsort(order, 256, 1, by_point);
    for (uint32_t i = 0; i < 256; i++) {
        of_byte[order[i]] = i;
        uint8_t *b = malloc(1);
        if (!b)
            return no_memory(m->err);
        *b = order[i];
        int rc = add_token(m, b, 1);
        if (rc)
            return rc;
    }
    if (l->used >= UINT32_MAX)
        return dlm_fail(m->err, DLM_EDATA, "%zu distinct words are too many", l->used);
    m->symbols = malloc((l->text_len + 1) * sizeof *m->symbols);
    m->words = malloc((l->used + 1) * sizeof *m->words);
    m->mask = 4095;
    m->pairs = malloc((m->mask + 1) * sizeof *m->pairs);
    if (m->pairs)
        memset(m->pairs, 0xff, (m->mask + 1) * sizeof *m->pairs);
    if (!m->symbols || !m->words || !m->pairs)
        return no_memory(m->err);
    size_t at = 0;
    for (size_t i = 0; i <= l->mask; i++) {
        const struct word *w = &l->slots[i];
        if (!w->count || w->len < 2)
            continue;
        uint32_t *s = m->symbols + at;
        for (uint32_t k = 0; k < w->len; k++) {
            s[k] = of_byte[l->text[w->at + k]];
            int rc = k ? change(m, s[k - 1], s[k], (int64_t)w->count, (uint32_t)m->n_words) : 0;
            if (rc)
                return rc;
        }
        m->words[m->n_words].at = at;
        m->words[m->n_words].len = w->len;
        m->words[m->n_words++].count = w->count;
        at += w->len;
    }
    for (size_t i = 0; i <= m->mask; i++)
        if (m->pairs[i].ids != UINT64_MAX) {
            int rc = heap_push(m, (struct entry){m->pairs[i].count, m->pairs[i].ids});
            if (rc)
                return rc;
        }
    return 0;
}

/* A pair that may have gained: remembered, to enter the heap once when the merge is through. */
struct gains {
    uint64_t *ids;
    size_t n, cap;
};

static int gain(struct merging *m, struct gains *g, uint32_t left, uint32_t right)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 256;
        uint64_t *more = realloc(g->ids, cap * sizeof *more);
        if (!more)
            return no_memory(m->err);
        g->ids = more;
        g->cap = cap;
    }
    g->ids[g->n++] = (uint64_t)left << 32 | right;
    return 0;
}

/* In one word, put `made` for each (a, b), left to right. */
static int merge_word(struct merging *m, uint32_t word, uint32_t a, uint32_t b, uint32_t made, struct gains *g)
{
    uint32_t *s = m->symbols + m->words[word].at, len = m->words[word].len, to = 0;
    int64_t count = (int64_t)m->words[word].count;
    int rc = 0;
    for (uint32_t i = 0; i < len && !rc; to++) {
        if (i + 1 >= len || s[i] != a || s[i + 1] != b) {
            s[to] = s[i++];
            continue;
        }
        /* what stands before is already merged, what follows is not */
        if (to) {
            rc = change(m, s[to - 1], a, -count, word);
            rc = rc ? rc : change(m, s[to - 1], made, count, word);
            rc = rc ? rc : gain(m, g, s[to - 1], made);
        }
        if (!rc && i + 2 < len) {
            rc = change(m, b, s[i + 2], -count, word);
            rc = rc ? rc : change(m, made, s[i + 2], count, word);
            rc = rc ? rc : gain(m, g, made, s[i + 2]);
        }
        s[to] = made;
        i += 2;
    }
    m->words[word].len = to;
    return rc;
}

static int by_ids(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static bool is_special(const char *const *specials, size_t n, const uint8_t *bytes, size_t len)
{
    char *written = malloc(2 * len + 1);
    bool found = false;
    if (written) {
        written[dlm_alphabet_write(written, bytes, len)] = 0;
        for (size_t i = 0; i < n && !found; i++)
            found = !strcmp(written, specials[i]);
        free(written);
    }
    return found;
}

/* Merge the pair `ids` wherever it occurs. */
static int merge_pair(struct merging *m, uint64_t ids, const char *const *specials, size_t n_specials, struct gains *g)
{
    uint32_t a = (uint32_t)(ids >> 32), b = (uint32_t)ids;
    struct pair *p = find_pair(m, ids);
    if (!p)
        return no_memory(m->err);
    uint32_t *in = p->in, n_in = p->n_in;
    p->count = 0;
    p->in = NULL;
    p->n_in = p->cap_in = 0;
    bool again = p->merged;
    p->merged = true;
    size_t len = m->tokens[a].len + m->tokens[b].len;
    uint8_t *bytes = malloc(len);
    if (!bytes) {
        free(in);
        return no_memory(m->err);
    }
    memcpy(bytes, m->tokens[a].at, m->tokens[a].len);
    memcpy(bytes + m->tokens[a].len, m->tokens[b].at, m->tokens[b].len);
    if (is_special(specials, n_specials, bytes, len)) { /* text never becomes a special token: the pair stays two */
        free(bytes);
        free(in);
        return 0;
    }
    int rc = 0;
    uint32_t made = *token_place(m, bytes, len);
    if (made == UINT32_MAX) {
        made = (uint32_t)m->n_tokens;
        rc = add_token(m, bytes, len);
    } else { /* the same bytes made of other parts */
        free(bytes);
    }
    if (!rc && !again && m->n_merges == m->cap_merges) {
        size_t cap = m->cap_merges ? 2 * m->cap_merges : 1024;
        uint32_t (*more)[2] = realloc(m->merges, cap * sizeof *more);
        rc = more ? 0 : no_memory(m->err);
        if (more) {
            m->merges = more;
            m->cap_merges = cap;
        }
    }
    if (!rc && !again) {
        m->merges[m->n_merges][0] = a;
        m->merges[m->n_merges++][1] = b;
    }
    g->n = 0;
    for (uint32_t i = 0; i < n_in && !rc; i++)
        rc = merge_word(m, in[i], a, b, made, g);
    free(in);
    if ((p = find_pair(m, ids)))
        p->count = 0; /* overlapping occurrences are gone with the rest */
    if (g->n > 1)
        qsort(g->ids, g->n, sizeof *g->ids, by_ids);
    for (size_t i = 0; i < g->n && !rc; i++) {
        if (i && g->ids[i] == g->ids[i - 1])
            continue;
        p = find_pair(m, g->ids[i]);
        if (p && p->count > 0)
            rc = heap_push(m, (struct entry){p->count, g->ids[i]});
    }
    return rc;
}

int dlm_trainer_finish(struct dlm_trainer *t, const char *const *specials, size_t n_specials, size_t size, uint64_t min_frequency,
                       dlm_trained_fn *progress, void *to, struct dlm_trained *out, struct dlm_error *err)
{
    struct merging m = {.err = err};
    struct gains g = {0};
    if (size < n_specials + 256 || size > UINT32_MAX / 2)
        return dlm_fail(err, DLM_EUSAGE, "a vocabulary has at least %zu ids: %zu special tokens and 256 bytes", n_specials + 256,
                        n_specials);
    int rc = gather(t, err);
    struct lane *all = &t->lanes[0];
    if (!rc && !all->used)
        rc = dlm_fail(err, DLM_EDATA, "no text to train on: the input is empty");
    out->words = all->used;
    out->bytes = all->bytes;
    rc = rc ? rc : begin_merging(&m, all);
    release_lane(all);
    int64_t least = min_frequency < 1 ? 1 : min_frequency > INT64_MAX ? INT64_MAX : (int64_t)min_frequency;
    for (size_t turn = 0; !rc && m.n_heap && n_specials + m.n_tokens < size; turn++) {
        struct entry e = heap_pop(&m);
        const struct pair *p = find_pair(&m, e.ids);
        if (!p) {
            rc = no_memory(err);
        } else if (p->count != e.count) {
            rc = p->count > 0 && p->count < e.count ? heap_push(&m, (struct entry){p->count, e.ids}) : 0;
        } else if (e.count < least) {
            break;
        } else {
            rc = merge_pair(&m, e.ids, specials, n_specials, &g);
        }
        if (!rc && progress && turn % 64 == 0)
            rc = progress(to, n_specials + m.n_tokens);
    }
    if (!rc) {
        struct dlm_vocab_plan plan = {.specials = specials, .n_specials = n_specials, .regex = t->regex, .tokens = m.tokens,
                                      .n_tokens = m.n_tokens, .merges = (const uint32_t (*)[2])m.merges, .n_merges = m.n_merges};
        out->size = n_specials + m.n_tokens;
        rc = dlm_vocab_compose(&out->json, &plan, err);
    }
    free(g.ids);
    release_merging(&m);
    return rc;
}
