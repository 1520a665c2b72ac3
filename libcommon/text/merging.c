/* Merging pairs.
 *
 * The distinct words lie one after the other, a cell for each byte and one between two words. A token's id stands in the cells
 * of its first and of its last byte, so that its neighbours are found without a chain; the first also says which pair the token
 * makes with the one that follows. Words of one count lie together, so a place knows its word's count by a few comparisons.
 *
 * A pair is made when the later of its two tokens is, with a list of all its places; from then on it can only lose, which the
 * cells show: a place whose cell names another pair is one that was lost. Lists lie in one arena, which is moved together when
 * it is full.
 *
 * That no pair comes to be a second time is because no token does. Bytes that are between two borders of tokens now have been
 * so from the start, for tokens only grow; so every merge so far has done to them what it would have done had they stood alone
 * (in a run of equal tokens, too: it is paired from its left end, and an odd border would have been merged over). Equal bytes
 * are therefore merged alike at all times, and the last merge that makes a token of them makes all of them.
 *
 * What may come next waits in lists by count, each pair in one of them, the count that it had when it was put there: never less
 * than the true one. When the turn comes to a count, the list is sorted by ids, and what has lost since goes where it belongs.
 * Counts that are too large for a list, and pairs that come to be while their count has its turn, wait in a heap.
 */
#include "text/merging.h"

#include "text/alphabet.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEVELS = 4096,         /* counts below have a list each */
    BLOCK = 8,             /* log2 of the cells whose counts are looked up from one place */
    AHEAD = 8,             /* places fetched before they are needed */
    TOKEN_MAX = 65535,     /* bytes of a token */
    TEXT_MAX = 256 << 20,  /* bytes of all tokens: more would make a vocabulary too large to be read */
};
#define NOWHERE UINT32_MAX /* no token, no pair */

struct cell {
    uint32_t token, pair;
};

struct pair {
    uint64_t ids;   /* left << 32 | right */
    uint64_t count; /* 0: no longer there */
    uint64_t at;    /* its list in the arena; its place, when n is 1 */
    uint32_t n;     /* length of the list: the places it had */
    uint32_t next;  /* of the records that are free */
};

struct entry {
    uint64_t ids;
    uint64_t count;
    uint32_t pair;
};

/* The places that a new pair has: of one left neighbour of the token that is being made, or of one right neighbour. */
struct group {
    uint64_t count, at;
    uint32_t other, n, pair;
    bool right;
};

/* The groups of a neighbour, from 1; 0 where there is none yet. */
struct near {
    uint32_t left, right;
};

struct merging {
    struct dlm_error *err;
    struct cell *cells;
    size_t n_cells;
    /* counts of words: cells before ends[k] and not before ends[k - 1] have counts[k] */
    uint32_t *ends, *block; /* block: the first k that a block of cells needs */
    uint64_t *counts;
    struct pair *pairs;
    size_t n_pairs, cap_pairs, n_dead;
    uint32_t free_pairs;
    uint32_t *lists; /* each as the pair, the length, the places */
    size_t n_lists, cap_lists;
    struct {
        uint32_t *pairs;
        size_t n, cap;
    } waiting[LEVELS]; /* by count */
    uint64_t level; /* whose turn it is */
    struct entry *turn, *spare;
    size_t turn_at, n_turn, cap_turn, cap_spare;
    struct entry *heap;
    size_t n_heap, cap_heap;
    /* tokens */
    uint32_t *at, *len; /* of their bytes in text */
    struct near *near;
    size_t n_tokens, cap_tokens;
    uint8_t *text;
    size_t text_len, text_cap;
    struct group *groups;
    size_t n_groups, cap_groups;
    struct dlm_token_bytes *specials; /* as text would have to be to become one */
    uint8_t *special_text;
    size_t n_specials;
    uint32_t (*merges)[2];
    size_t n_merges, cap_merges;
    uint32_t busy; /* the pair that is being merged: its list holds only true places */
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* *at grown so that it holds `need` of `size` bytes. */
static int enlarge(void *at, size_t *cap, size_t need, size_t size, struct dlm_error *err)
{
    if (need <= *cap)
        return 0;
    size_t more = need + need / 2 + 64;
    void **p = at, *q = more > SIZE_MAX / size ? NULL : realloc(*p, more * size);
    if (!q)
        return no_memory(err);
    *p = q;
    *cap = more;
    return 0;
}

/* --- tokens ----------------------------------------------------------------------------------------------------------------- */

/* A new token, of two parts or a byte. */
static int add_token(struct merging *m, const uint8_t *byte, uint32_t a, uint32_t b)
{
    size_t len = byte ? 1 : (size_t)m->len[a] + m->len[b];
    if (m->text_len + len > TEXT_MAX)
        return dlm_fail(m->err, DLM_EDATA, "the text repeats itself in long pieces: its tokens have more than %d bytes together",
                        TEXT_MAX);
    int rc = enlarge(&m->text, &m->text_cap, m->text_len + len, 1, m->err);
    if (rc)
        return rc;
    if (m->n_tokens == m->cap_tokens) {
        size_t cap = m->cap_tokens ? 2 * m->cap_tokens : 1024;
        uint32_t *at = realloc(m->at, cap * sizeof *at), *lens = NULL;
        m->at = at ? at : m->at;
        lens = realloc(m->len, cap * sizeof *lens);
        m->len = lens ? lens : m->len;
        struct near *near = realloc(m->near, cap * sizeof *near);
        m->near = near ? near : m->near;
        if (!at || !lens || !near)
            return no_memory(m->err);
        memset(near + m->cap_tokens, 0, (cap - m->cap_tokens) * sizeof *near);
        m->cap_tokens = cap;
    }
    uint8_t *to = m->text + m->text_len;
    if (byte) {
        *to = *byte;
    } else {
        memcpy(to, m->text + m->at[a], m->len[a]);
        memcpy(to + m->len[a], m->text + m->at[b], m->len[b]);
    }
    m->at[m->n_tokens] = (uint32_t)m->text_len;
    m->len[m->n_tokens++] = (uint32_t)len;
    m->text_len += len;
    return 0;
}

static int by_point(const void *a, const void *b)
{
    return (int)dlm_alphabet_point(*(const uint8_t *)a) - (int)dlm_alphabet_point(*(const uint8_t *)b);
}

/* The 256 bytes. */
static int begin_tokens(struct merging *m, uint32_t of_byte[256])
{
    uint8_t order[256];
    for (int i = 0; i < 256; i++)
        order[i] = (uint8_t)i;
    qsort(order, 256, 1, by_point);
    for (uint32_t i = 0; i < 256; i++) {
        int rc = add_token(m, order + i, 0, 0);
        if (rc)
            return rc;
        of_byte[order[i]] = i;
    }
    return 0;
}

/* --- words ------------------------------------------------------------------------------------------------------------------ */

struct ref {
    uint64_t count;
    const struct dlm_words_part *part;
    const struct dlm_word *word;
};

static int by_count(const void *a, const void *b)
{
    uint64_t x = ((const struct ref *)a)->count, y = ((const struct ref *)b)->count;
    return (x > y) - (x < y);
}

/* The words of two bytes and more (others have no pair), by count. */
static int sort_words(struct ref **out, size_t *n, const struct dlm_words_part *parts, struct dlm_error *err)
{
    enum { TALLY = 4096 };
    size_t *first = calloc(TALLY + 1, sizeof *first), all = 0; /* where words of a count begin, the frequent ones last */
    for (int p = 0; p < DLM_WORDS_PARTS; p++)
        all += parts[p].used;
    struct ref *refs = malloc((all + 1) * sizeof *refs);
    if (!first || !refs) {
        free(first);
        free(refs);
        return no_memory(err);
    }
    for (int turn = 0; turn < 2; turn++) {
        for (int p = 0; p < DLM_WORDS_PARTS; p++)
            for (size_t i = 0; parts[p].slots && i <= parts[p].mask; i++) {
                const struct dlm_word *w = &parts[p].slots[i];
                size_t len;
                if (!w->count || (dlm_word_bytes(&parts[p], w, &len), len < 2))
                    continue;
                size_t c = w->count < TALLY ? w->count : TALLY;
                if (!turn)
                    first[c]++;
                else
                    refs[first[c]++] = (struct ref){w->count, &parts[p], w};
            }
        for (size_t c = 0, sum = 0; c <= TALLY && !turn; c++) {
            size_t here = first[c];
            first[c] = sum;
            sum += here;
        }
    }
    qsort(refs + first[TALLY - 1], first[TALLY] - first[TALLY - 1], sizeof *refs, by_count);
    *n = first[TALLY];
    *out = refs;
    free(first);
    return 0;
}

static inline uint64_t count_at(const struct merging *m, uint32_t place)
{
    size_t k = m->block[place >> BLOCK];
    while (m->ends[k] <= place)
        k++;
    return m->counts[k];
}

/* Words as cells. */
static int lay_out(struct merging *m, struct dlm_words *w, const uint32_t of_byte[256])
{
    const struct dlm_words_part *parts;
    struct ref *refs = NULL;
    size_t n = 0, cells = 1, counts = 0, cap_ends = 0, cap_counts = 0;
    int rc = dlm_words_gather(w, &parts, m->err);
    rc = rc ? rc : sort_words(&refs, &n, parts, m->err);
    for (size_t i = 0; i < n && !rc; i++) {
        size_t len;
        dlm_word_bytes(refs[i].part, refs[i].word, &len);
        cells += len + 1;
    }
    if (!rc && cells > UINT32_MAX - 2)
        rc = dlm_fail(m->err, DLM_EDATA, "the distinct words have %zu bytes, too many to train on: take a sample of the text",
                      cells - n - 1);
    m->n_cells = cells;
    if (!rc) {
        m->cells = malloc((cells + 1) * sizeof *m->cells);
        m->block = malloc(((cells >> BLOCK) + 2) * sizeof *m->block);
        if (!m->cells || !m->block)
            rc = no_memory(m->err);
    }
    const struct cell border = {NOWHERE, NOWHERE};
    size_t at = 0;
    if (!rc)
        m->cells[at++] = border;
    for (size_t i = 0; i < n && !rc; i++) {
        size_t len;
        const uint8_t *bytes = dlm_word_bytes(refs[i].part, refs[i].word, &len);
        if (!i || refs[i].count != refs[i - 1].count) {
            rc = enlarge(&m->ends, &cap_ends, counts + 1, sizeof *m->ends, m->err);
            rc = rc ? rc : enlarge(&m->counts, &cap_counts, counts + 1, sizeof *m->counts, m->err);
            if (rc)
                break;
            m->counts[counts++] = refs[i].count;
        }
        for (size_t k = 0; k < len; k++)
            m->cells[at++] = (struct cell){of_byte[bytes[k]], NOWHERE};
        m->cells[at++] = border;
        m->ends[counts - 1] = (uint32_t)at;
    }
    free(refs);
    for (size_t b = 0, k = 0; b <= at >> BLOCK && counts && !rc; b++) {
        while (k + 1 < counts && m->ends[k] <= b << BLOCK)
            k++;
        m->block[b] = (uint32_t)k;
    }
    return rc;
}

/* --- pairs ------------------------------------------------------------------------------------------------------------------ */

static inline void lose(struct merging *m, uint32_t pair, uint64_t count)
{
    struct pair *p = &m->pairs[pair];
    p->count -= count;
    m->n_dead += !p->count;
}

static void free_pair(struct merging *m, uint32_t pair)
{
    m->pairs[pair].count = 0;
    m->pairs[pair].n = 0;
    m->pairs[pair].next = m->free_pairs;
    m->free_pairs = pair;
    m->n_dead -= m->n_dead > 0;
}

/* Free the records of lost pairs that wait for a turn. */
static void sweep(struct merging *m)
{
    for (uint64_t c = 0; c < LEVELS && c < m->level; c++) {
        size_t kept = 0;
        for (size_t i = 0; i < m->waiting[c].n; i++) {
            uint32_t pair = m->waiting[c].pairs[i];
            if (m->pairs[pair].count)
                m->waiting[c].pairs[kept++] = pair;
            else
                free_pair(m, pair);
        }
        m->waiting[c].n = kept;
    }
}

/* A new record, *pair; records may move. */
static int new_pair(struct merging *m, uint32_t *pair)
{
    if (m->free_pairs == NOWHERE && m->n_pairs == m->cap_pairs && m->n_dead > m->n_pairs / 4)
        sweep(m);
    if (m->free_pairs != NOWHERE) {
        *pair = m->free_pairs;
        m->free_pairs = m->pairs[*pair].next;
        return 0;
    }
    if (m->n_pairs == UINT32_MAX - 1)
        return dlm_fail(m->err, DLM_EDATA, "more than %zu pairs at a time: take a sample of the text", m->n_pairs);
    int rc = enlarge(&m->pairs, &m->cap_pairs, m->n_pairs + 1, sizeof *m->pairs, m->err);
    if (!rc)
        *pair = (uint32_t)m->n_pairs++;
    return rc;
}

/* Move the lists together, without the places that were lost. */
static void compact(struct merging *m)
{
    size_t to = 0;
    for (size_t from = 0; from < m->n_lists;) {
        uint32_t pair = m->lists[from], n = m->lists[from + 1], kept = 0;
        struct pair *p = &m->pairs[pair];
        from += 2;
        if (p->n > 1 && p->at == from) {
            uint32_t *list = m->lists + to + 2; /* never ahead of what is read */
            for (uint32_t i = 0; i < p->n; i++) {
                uint32_t place = m->lists[from + i];
                if (pair == m->busy || m->cells[place].pair == pair)
                    list[kept++] = place;
            }
            p->n = kept;
            p->at = kept == 1 ? list[0] : to + 2;
            if (kept > 1) {
                m->lists[to] = pair;
                m->lists[to + 1] = kept;
                to += 2 + kept;
            }
        }
        from += n;
    }
    m->n_lists = to;
}

/* Room for lists of `need` words in all. */
static int reserve_lists(struct merging *m, size_t need)
{
    if (m->n_lists + need <= m->cap_lists)
        return 0;
    compact(m);
    /* a quarter stays free, so that moving comes to a constant for each place */
    return enlarge(&m->lists, &m->cap_lists, m->n_lists + m->n_lists / 4 + need, sizeof *m->lists, m->err);
}

/* A list of n places for the pair; there is room for it. */
static uint32_t *new_list(struct merging *m, uint32_t pair, uint32_t n)
{
    m->lists[m->n_lists] = pair;
    m->lists[m->n_lists + 1] = n;
    m->pairs[pair].at = m->n_lists + 2;
    m->n_lists += 2 + (size_t)n;
    return m->lists + m->pairs[pair].at;
}

/* --- whose turn it is ------------------------------------------------------------------------------------------------------- */

static inline bool sooner(const struct entry *a, const struct entry *b)
{
    return a->count != b->count ? a->count > b->count : a->ids < b->ids;
}

static int heap_push(struct merging *m, struct entry e)
{
    int rc = enlarge(&m->heap, &m->cap_heap, m->n_heap + 1, sizeof *m->heap, m->err);
    if (rc)
        return rc;
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

/* Let a pair wait for its turn, or free its record when it is gone. */
static int wait_turn(struct merging *m, uint32_t pair)
{
    struct pair *p = &m->pairs[pair];
    if (!p->count) {
        free_pair(m, pair);
        return 0;
    }
    if (p->count >= m->level)
        return heap_push(m, (struct entry){p->ids, p->count, pair});
    size_t c = p->count;
    int rc = enlarge(&m->waiting[c].pairs, &m->waiting[c].cap, m->waiting[c].n + 1, sizeof pair, m->err);
    if (!rc)
        m->waiting[c].pairs[m->waiting[c].n++] = pair;
    return rc;
}

static int by_ids(const void *x, const void *y)
{
    uint64_t a = ((const struct entry *)x)->ids, b = ((const struct entry *)y)->ids;
    return (a > b) - (a < b);
}

/* turn[0 … n_turn) by ids: by digits of eight bits, those that differ. */
static int sort_turn(struct merging *m)
{
    size_t n = m->n_turn;
    if (n < 512) {
        if (n > 1)
            qsort(m->turn, n, sizeof *m->turn, by_ids);
        return 0;
    }
    int rc = enlarge(&m->spare, &m->cap_spare, n, sizeof *m->spare, m->err);
    uint64_t differ = 0;
    for (size_t i = 1; i < n; i++)
        differ |= m->turn[i].ids ^ m->turn[0].ids;
    for (int shift = 0; shift < 64 && !rc; shift += 8) {
        size_t first[256] = {0};
        if (!(differ >> shift & 0xff))
            continue;
        for (size_t i = 0; i < n; i++)
            first[m->turn[i].ids >> shift & 0xff]++;
        for (size_t d = 0, sum = 0; d < 256; d++) {
            size_t here = first[d];
            first[d] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++)
            m->spare[first[m->turn[i].ids >> shift & 0xff]++] = m->turn[i];
        struct entry *turn = m->turn;
        size_t cap = m->cap_turn;
        m->turn = m->spare;
        m->cap_turn = m->cap_spare;
        m->spare = turn;
        m->cap_spare = cap;
    }
    return rc;
}

/* The turn of the next lower count. */
static int lower_level(struct merging *m)
{
    size_t level = --m->level, n = m->waiting[level].n;
    const uint32_t *pairs = m->waiting[level].pairs;
    m->turn_at = m->n_turn = 0;
    int rc = enlarge(&m->turn, &m->cap_turn, n, sizeof *m->turn, m->err);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct pair *p = &m->pairs[pairs[i]];
        if (i + AHEAD < n)
            __builtin_prefetch(&m->pairs[pairs[i + AHEAD]]);
        if (p->count == level)
            m->turn[m->n_turn++] = (struct entry){p->ids, p->count, pairs[i]};
        else
            rc = wait_turn(m, pairs[i]);
    }
    free(m->waiting[level].pairs);
    m->waiting[level].pairs = NULL;
    m->waiting[level].n = m->waiting[level].cap = 0;
    return rc ? rc : sort_turn(m);
}

/* The pair to be merged, NOWHERE when none is as frequent as `least`. It waits no more. */
static int next_pair(struct merging *m, uint64_t least, uint32_t *pair)
{
    for (int rc = 0; !rc;) {
        if (m->n_heap && m->pairs[m->heap[0].pair].count != m->heap[0].count) {
            rc = wait_turn(m, heap_pop(m).pair);
        } else if (m->turn_at < m->n_turn && m->pairs[m->turn[m->turn_at].pair].count != m->level) {
            rc = wait_turn(m, m->turn[m->turn_at++].pair);
        } else if (m->n_heap && (m->turn_at == m->n_turn || sooner(&m->heap[0], &m->turn[m->turn_at]))) {
            *pair = m->heap[0].count < least ? NOWHERE : heap_pop(m).pair;
            return 0;
        } else if (m->turn_at < m->n_turn) {
            *pair = m->turn[m->turn_at++].pair;
            return 0;
        } else if (m->level <= least || m->level <= 1) {
            *pair = NOWHERE;
            return 0;
        } else {
            rc = lower_level(m);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* All pairs of bytes. */
static int begin_pairs(struct merging *m)
{
    struct {
        uint64_t count;
        uint32_t n, pair;
    } *seen = calloc(65536, sizeof *seen);
    size_t need = 0;
    int rc = seen ? 0 : no_memory(m->err);
    for (size_t i = 1, k = 0; i + 1 < m->n_cells && !rc; i++) {
        uint32_t a = m->cells[i].token, b = m->cells[i + 1].token;
        if (a == NOWHERE || b == NOWHERE)
            continue;
        while (m->ends[k] <= i)
            k++;
        seen[a << 8 | b].count += m->counts[k];
        seen[a << 8 | b].n++;
    }
    for (uint32_t i = 0; i < 65536 && !rc; i++)
        need += seen[i].n > 1 ? seen[i].n + 2 : 0;
    rc = rc ? rc : reserve_lists(m, need);
    for (uint32_t i = 0; i < 65536 && !rc; i++) {
        if (!seen[i].n || (rc = new_pair(m, &seen[i].pair)))
            continue;
        m->pairs[seen[i].pair] = (struct pair){(uint64_t)(i >> 8) << 32 | (i & 0xff), seen[i].count, 0, seen[i].n, NOWHERE};
        if (seen[i].n > 1)
            new_list(m, seen[i].pair, seen[i].n);
        seen[i].n = 0;
        rc = wait_turn(m, seen[i].pair);
    }
    for (size_t i = 1; i + 1 < m->n_cells && !rc; i++) {
        uint32_t a = m->cells[i].token, b = m->cells[i + 1].token;
        if (a == NOWHERE || b == NOWHERE)
            continue;
        struct pair *p = &m->pairs[seen[a << 8 | b].pair];
        m->cells[i].pair = seen[a << 8 | b].pair;
        if (p->n > 1)
            m->lists[p->at + seen[a << 8 | b].n++] = (uint32_t)i;
        else
            p->at = i;
    }
    free(seen);
    return rc;
}

/* --- one merge -------------------------------------------------------------------------------------------------------------- */

static inline struct group *group_of(struct merging *m, uint32_t *slot, uint32_t other, bool right)
{
    if (!*slot) {
        m->groups[m->n_groups] = (struct group){.other = other, .right = right};
        *slot = (uint32_t)++m->n_groups;
    }
    return &m->groups[*slot - 1];
}

/* Put `made` for the pair wherever it is still true, from left to right; what its neighbours lose is taken away, what they gain
 * is added up in groups. The list keeps the true places, m->pairs[pair].n of them. */
static void replace(struct merging *m, uint32_t pair, uint32_t made)
{
    struct pair *p = &m->pairs[pair];
    struct cell *cells = m->cells;
    uint32_t inside = (uint32_t)p->at, *list = p->n > 1 ? m->lists + p->at : &inside, kept = 0;
    uint32_t a = (uint32_t)(p->ids >> 32), b = (uint32_t)p->ids, len_a = m->len[a], len = len_a + m->len[b];
    for (uint32_t i = 0; i < p->n && i < AHEAD; i++)
        __builtin_prefetch(&cells[list[i]], 1);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t at = list[i];
        if (i + AHEAD < p->n)
            __builtin_prefetch(&cells[list[i + AHEAD]], 1);
        if (cells[at].pair != pair)
            continue;
        uint64_t count = count_at(m, at);
        uint32_t left = cells[at - 1].token, right = cells[at + len].token, before = 0;
        if (left != NOWHERE) {
            before = at - m->len[left];
            if (cells[before].pair != NOWHERE) {
                lose(m, cells[before].pair, count);
                cells[before].pair = NOWHERE;
            }
        }
        if (right != NOWHERE)
            lose(m, cells[at + len_a].pair, count);
        cells[at + len_a].pair = NOWHERE;
        cells[at] = (struct cell){made, NOWHERE};
        cells[at + len - 1].token = made;
        if (left == made) { /* made just now: what it took for its right neighbour is merged as well */
            struct group *was = &m->groups[m->near[a].right - 1];
            was->count -= count;
            was->n--;
            struct group *g = group_of(m, &m->near[made].right, made, true);
            g->count += count;
            g->n++;
        } else if (left != NOWHERE) {
            struct group *g = group_of(m, &m->near[left].left, left, false);
            g->count += count;
            g->n++;
        }
        if (right != NOWHERE) {
            struct group *g = group_of(m, &m->near[right].right, right, true);
            g->count += count;
            g->n++;
        }
        list[kept++] = at;
    }
    p->n = kept;
    if (kept == 1)
        p->at = list[0];
}

/* The groups as pairs. */
static int settle(struct merging *m, uint32_t pair, uint32_t made)
{
    size_t need = 0;
    int rc = 0;
    for (size_t i = 0; i < m->n_groups && !rc; i++) {
        struct group *g = &m->groups[i];
        uint64_t ids = g->right ? (uint64_t)made << 32 | g->other : (uint64_t)g->other << 32 | made;
        if (!g->n)
            continue;
        rc = new_pair(m, &g->pair);
        if (rc)
            break;
        m->pairs[g->pair] = (struct pair){ids, g->count, 0, g->n, NOWHERE};
        need += g->n > 1 ? g->n + (size_t)2 : 0;
    }
    rc = rc ? rc : reserve_lists(m, need);
    if (rc)
        return rc;
    for (size_t i = 0; i < m->n_groups; i++) {
        struct group *g = &m->groups[i];
        if (g->n > 1) {
            new_list(m, g->pair, g->n);
            g->at = m->pairs[g->pair].at;
        }
    }
    const struct pair *p = &m->pairs[pair];
    uint32_t inside = (uint32_t)p->at, len = m->len[made];
    const uint32_t *list = p->n > 1 ? m->lists + p->at : &inside;
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t at = list[i], left = m->cells[at - 1].token, right = m->cells[at + len].token;
        if (i + AHEAD < p->n)
            __builtin_prefetch(&m->cells[list[i + AHEAD]], 1);
        for (int side = 0; side < 2; side++) {
            uint32_t other = side ? right : left, place = side ? at : at - (left != NOWHERE ? m->len[left] : 0);
            if (other == NOWHERE || m->cells[place].pair != NOWHERE) /* an equal token on the left has seen to it itself */
                continue;
            struct group *g = &m->groups[(side || other == made ? m->near[other].right : m->near[other].left) - 1];
            m->cells[place].pair = g->pair;
            if (g->n > 1)
                m->lists[g->at++] = place;
            else
                m->pairs[g->pair].at = place;
        }
    }
    for (size_t i = 0; i < m->n_groups && !rc; i++) {
        const struct group *g = &m->groups[i];
        if (g->right)
            m->near[g->other].right = 0;
        else
            m->near[g->other].left = 0;
        rc = g->n ? wait_turn(m, g->pair) : 0;
    }
    return rc;
}

/* Merge a pair wherever it occurs. */
static int merge(struct merging *m, uint32_t pair)
{
    uint32_t a = (uint32_t)(m->pairs[pair].ids >> 32), b = (uint32_t)m->pairs[pair].ids, made = (uint32_t)m->n_tokens;
    if ((size_t)m->len[a] + m->len[b] > TOKEN_MAX)
        return 0; /* stays two, and is never looked at again */
    for (size_t i = 0; i < m->n_specials; i++) {
        const struct dlm_token_bytes *s = &m->specials[i];
        if (s->len == (size_t)m->len[a] + m->len[b] && !memcmp(s->at, m->text + m->at[a], m->len[a]) &&
            !memcmp(s->at + m->len[a], m->text + m->at[b], m->len[b]))
            return 0; /* text never becomes a special token */
    }
    int rc = add_token(m, NULL, a, b);
    rc = rc ? rc : enlarge(&m->merges, &m->cap_merges, m->n_merges + 1, sizeof *m->merges, m->err);
    size_t most = m->pairs[pair].n < m->n_tokens ? m->pairs[pair].n : m->n_tokens;
    rc = rc ? rc : enlarge(&m->groups, &m->cap_groups, 2 * most + 1, sizeof *m->groups, m->err);
    if (rc)
        return rc;
    m->merges[m->n_merges][0] = a;
    m->merges[m->n_merges++][1] = b;
    m->n_groups = 0;
    m->busy = pair;
    replace(m, pair, made);
    rc = settle(m, pair, made);
    m->busy = NOWHERE;
    if (!rc)
        free_pair(m, pair); /* overlapping occurrences are gone with the rest */
    return rc;
}

/* --- all of it -------------------------------------------------------------------------------------------------------------- */

/* The specials' names as text, where they can be written as such. */
static int begin_specials(struct merging *m, const char *const *specials, size_t n)
{
    size_t all = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        all += strlen(specials[i]);
    m->special_text = malloc(all + 1);
    m->specials = calloc(n + 1, sizeof *m->specials);
    if (!m->special_text || !m->specials)
        return no_memory(m->err);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        if (!dlm_alphabet_read(m->special_text + at, &len, specials[i], strlen(specials[i])))
            continue;
        m->specials[m->n_specials++] = (struct dlm_token_bytes){m->special_text + at, len};
        at += len;
    }
    return 0;
}

static void release_merging(struct merging *m)
{
    free(m->specials);
    free(m->special_text);
    free(m->cells);
    free(m->ends);
    free(m->block);
    free(m->counts);
    free(m->pairs);
    free(m->lists);
    for (size_t c = 0; c < LEVELS; c++)
        free(m->waiting[c].pairs);
    free(m->turn);
    free(m->spare);
    free(m->heap);
    free(m->at);
    free(m->len);
    free(m->near);
    free(m->text);
    free(m->groups);
    free(m->merges);
}

/* Hand the tokens and merges over. */
static int hand_over(struct merging *m, struct dlm_merges *out)
{
    out->tokens = malloc(m->n_tokens * sizeof *out->tokens);
    if (!out->tokens)
        return no_memory(m->err);
    for (size_t i = 0; i < m->n_tokens; i++)
        out->tokens[i] = (struct dlm_token_bytes){m->text + m->at[i], m->len[i]};
    out->n_tokens = m->n_tokens;
    out->pairs = m->merges;
    out->n_pairs = m->n_merges;
    out->text = m->text;
    m->merges = NULL;
    m->text = NULL;
    return 0;
}

void dlm_merges_release(struct dlm_merges *m)
{
    free(m->tokens);
    free(m->pairs);
    free(m->text);
    *m = (struct dlm_merges){0};
}

int dlm_merges_find(struct dlm_merges *out, struct dlm_words *w, const struct dlm_merges_wish *wish, struct dlm_error *err)
{
    struct merging m = {.err = err, .free_pairs = NOWHERE, .busy = NOWHERE, .level = LEVELS};
    uint32_t of_byte[256];
    uint64_t least = wish->min_frequency ? wish->min_frequency : 1;
    int rc = begin_tokens(&m, of_byte);
    rc = rc ? rc : begin_specials(&m, wish->specials, wish->n_specials);
    rc = rc ? rc : lay_out(&m, w, of_byte);
    dlm_words_free(w);
    rc = rc ? rc : begin_pairs(&m);
    for (size_t turn = 0; !rc && m.n_tokens < wish->n_tokens; turn++) {
        uint32_t pair;
        rc = next_pair(&m, least, &pair);
        if (rc || pair == NOWHERE)
            break;
        rc = merge(&m, pair);
        if (!rc && wish->progress && turn % 64 == 0)
            rc = wish->progress(wish->to, m.n_tokens);
    }
    rc = rc ? rc : hand_over(&m, out);
    release_merging(&m);
    return rc;
}
