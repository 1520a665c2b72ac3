/* The merged form of a piece from left to right. */
#include "text/chain.h"

#include "text/pairs.h"
#include "text/vocab_body.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONGEST = 255,          /* bytes of a token: bounds the tokens that are tried at a place */
    MAX_NODES = 1 << 24,    /* of the tree, bounded by the bytes of all tokens: a node and a byte fit into 32 bits */
};

/* A token that merging can leave; the parts of one byte are DLM_NO_ID. */
struct token {
    uint32_t left, right;
    uint32_t rank;    /* from 1; 0 for a byte */
    uint32_t shorter; /* the longest token that this one begins with, DLM_NO_ID when there is none */
};

/* Nodes are beginnings of tokens, node 0 is the empty one; an edge adds a byte. */
struct edge {
    uint32_t key; /* node << 8 | byte; UINT32_MAX in an empty slot */
    uint32_t node;  /* DLM_NO_ID: nothing goes on from here */
    uint32_t token; /* DLM_NO_ID: none ends here */
};

struct dlm_chain {
    const struct dlm_vocab *vocab;
    struct token *tokens; /* (vocabulary size) */
    uint8_t *len;         /* (vocabulary size) 0: no token that merging leaves */
    struct edge *edges;   /* open addressing */
    uint64_t factor;      /* the vocabulary's: nobody can write tokens whose edges all fall into one slot */
    size_t mask;
    struct edge first[256]; /* those of node 0 */
    struct step {
        uint32_t node, token; /* the longest token so far */
    } *two;               /* (65536) where two bytes lead, by the first << 8 | the second: most tokens end soon */
    uint64_t *some;       /* a bit for pairs that may have a merge: most have none, and these bits stay in the nearest cache */
    unsigned some_shift;
};

static inline size_t slot_of(uint32_t key)
{
    return (uint64_t)key * 0x9e3779b97f4a7c15u >> 32;
}

static inline size_t some_of(const struct dlm_chain *c, uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u >> c->some_shift;
}

static inline struct edge *find(const struct dlm_chain *c, uint32_t key)
{
    size_t i = (key * c->factor >> 32) & c->mask;
    while (c->edges[i].key != key && c->edges[i].key != UINT32_MAX)
        i = (i + 1) & c->mask;
    return &c->edges[i];
}

/* Whether a and b side by side stay so; limit: the rank that some merge across the border must be below to come first. */
static inline bool fit(const struct dlm_chain *c, uint32_t a, uint32_t b, uint32_t limit)
{
    for (;;) {
        size_t bit = some_of(c, a, b);
        if (c->some[bit / 64] >> (bit % 64) & 1) {
            const struct dlm_merge *m = dlm_merge_find(c->vocab, a, b);
            if (m && m->rank + 1 < limit)
                return false;
        }
        /* undo what was made last, of equal ones the right one: the left one was first */
        const struct token *x = &c->tokens[a], *y = &c->tokens[b];
        if (x->rank > y->rank) {
            limit = x->rank; /* an equal one across the border lies to the right of it */
            a = x->right;
        } else if (y->rank) {
            limit = y->rank + 1; /* an equal one lies to the left */
            b = y->left;
        } else {
            return true;
        }
    }
}

/* The longest token that text[0..n) begins with, from the node and the token that its first `i` bytes lead to. */
static inline uint32_t longer(const struct dlm_chain *c, const uint8_t *text, size_t i, size_t n, uint32_t node, uint32_t token)
{
    for (; i < n && node != DLM_NO_ID; i++) {
        const struct edge *e = find(c, node << 8 | text[i]);
        if (e->key == UINT32_MAX)
            break;
        node = e->node;
        token = e->token != DLM_NO_ID ? e->token : token;
    }
    return token;
}

static inline uint32_t longest(const struct dlm_chain *c, const uint8_t *text, size_t n)
{
    if (n < 2)
        return c->first[text[0]].token;
    const struct step *s = &c->two[text[0] << 8 | text[1]];
    return longer(c, text, 2, n, s->node, s->token);
}

/* Enter the merges by rank; *bytes is what the tokens have in all, SIZE_MAX when the vocabulary is not of this kind. */
static int enter_tokens(struct dlm_chain *c, size_t *bytes, struct dlm_error *err)
{
    const struct dlm_vocab *v = c->vocab;
    size_t slots = v->merge_mask + 1;
    const struct dlm_merge **by_rank = calloc(slots, sizeof *by_rank); /* there are more slots than ranks */
    if (!by_rank)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < slots; i++)
        if (v->merges[i].pair != UINT64_MAX) {
            assert(v->merges[i].rank < slots);
            by_rank[v->merges[i].rank] = &v->merges[i];
        }
    for (size_t i = 0; i < slots; i++)
        if (by_rank[i]) {
            size_t bit = some_of(c, (uint32_t)(by_rank[i]->pair >> 32), (uint32_t)by_rank[i]->pair);
            c->some[bit / 64] |= (uint64_t)1 << (bit % 64);
        }
    for (uint32_t id = 0; id < v->size; id++)
        c->tokens[id] = (struct token){DLM_NO_ID, DLM_NO_ID, 0, DLM_NO_ID};
    for (int i = 0; i < 256; i++)
        if (v->byte_id[i] != DLM_NO_ID)
            c->len[v->byte_id[i]] = 1;
    *bytes = 0;
    for (size_t rank = 0; rank < slots; rank++) {
        const struct dlm_merge *m = by_rank[rank];
        if (!m)
            continue;
        uint32_t left = (uint32_t)(m->pair >> 32), right = (uint32_t)m->pair;
        c->tokens[m->id] = (struct token){left, right, (uint32_t)rank + 1, DLM_NO_ID};
        if (!c->len[left] || !c->len[right])
            continue; /* not made so far: checked below */
        size_t n = (size_t)c->len[left] + c->len[right];
        if (n > LONGEST || (*bytes += n) > MAX_NODES - 2) {
            *bytes = SIZE_MAX;
            break;
        }
        /* a token that merging its own bytes does not lead to is never seen */
        const struct token *x = &c->tokens[left], *y = &c->tokens[right];
        bool whole = !x->rank && !y->rank;
        if (!whole)
            whole = x->rank > y->rank ? fit(c, x->right, right, x->rank) : fit(c, left, y->left, y->rank + 1);
        c->len[m->id] = whole ? (uint8_t)n : 0;
    }
    /* of parts with lower ranks; else a part might be made after all */
    for (size_t rank = 0; rank < slots && *bytes != SIZE_MAX; rank++) {
        const struct dlm_merge *m = by_rank[rank];
        if (m && (c->tokens[m->pair >> 32].rank > rank || c->tokens[(uint32_t)m->pair].rank > rank))
            *bytes = SIZE_MAX;
    }
    free(by_rank);
    return 0;
}

/* The bytes of a token, by its parts. */
static void spell(const struct dlm_chain *c, uint32_t id, const uint8_t *of_byte, uint8_t *to)
{
    for (; c->tokens[id].rank; id = c->tokens[id].left) {
        uint32_t right = c->tokens[id].right;
        spell(c, right, of_byte, to + c->len[c->tokens[id].left]);
    }
    *to = of_byte[id];
}

static void enter_text(struct dlm_chain *c, uint32_t id, const uint8_t *text, uint32_t *n_nodes)
{
    struct edge *e = &c->first[text[0]];
    for (size_t i = 1; i < c->len[id]; i++) {
        if (e->node == DLM_NO_ID)
            e->node = (*n_nodes)++;
        uint32_t key = e->node << 8 | text[i];
        e = find(c, key);
        if (e->key == UINT32_MAX)
            *e = (struct edge){key, DLM_NO_ID, DLM_NO_ID};
    }
    e->token = id;
}

static int make_edges(struct dlm_chain *c, size_t n, struct dlm_error *err)
{
    size_t slots = 16;
    while (slots < n + n / 2)
        slots *= 2;
    c->edges = malloc(slots * sizeof *c->edges);
    c->mask = slots - 1;
    if (!c->edges)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    memset(c->edges, 0xff, slots * sizeof *c->edges);
    return 0;
}

/* Tokens have beginnings in common: a table of the right size stays nearer to the processor. */
static int shrink(struct dlm_chain *c, struct dlm_error *err)
{
    struct edge *old = c->edges;
    size_t slots = c->mask + 1, n = 0;
    for (size_t i = 0; i < slots; i++)
        n += old[i].key != UINT32_MAX;
    int rc = make_edges(c, n, err);
    for (size_t i = 0; i < slots && !rc; i++)
        if (old[i].key != UINT32_MAX)
            *find(c, old[i].key) = old[i];
    free(old);
    return rc;
}

static int make_tree(struct dlm_chain *c, size_t bytes, struct dlm_error *err)
{
    const struct dlm_vocab *v = c->vocab;
    uint8_t *of_byte = calloc(v->size, 1), text[LONGEST];
    uint32_t n_nodes = 1;
    int rc = of_byte ? make_edges(c, bytes, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (rc) {
        free(of_byte);
        return rc;
    }
    memset(c->first, 0xff, sizeof c->first);
    for (int i = 0; i < 256; i++)
        if (v->byte_id[i] != DLM_NO_ID) {
            of_byte[v->byte_id[i]] = (uint8_t)i;
            c->first[i].token = v->byte_id[i];
        }
    for (uint32_t id = 0; id < v->size; id++)
        if (c->len[id] > 1) {
            spell(c, id, of_byte, text);
            enter_text(c, id, text, &n_nodes);
        }
    rc = shrink(c, err);
    for (uint32_t i = 0; i < 1 << 16 && !rc; i++) {
        const struct edge *e = &c->first[i >> 8];
        c->two[i] = (struct step){DLM_NO_ID, e->token};
        if (e->node != DLM_NO_ID && (e = find(c, e->node << 8 | (i & 255)))->key != UINT32_MAX)
            c->two[i] = (struct step){e->node, e->token != DLM_NO_ID ? e->token : c->two[i].token};
    }
    for (uint32_t id = 0; id < v->size && !rc; id++)
        if (c->len[id] > 1) {
            spell(c, id, of_byte, text);
            c->tokens[id].shorter = longest(c, text, c->len[id] - 1u);
        }
    free(of_byte);
    return rc;
}

int dlm_chain_new(struct dlm_chain **out, const struct dlm_vocab *v, struct dlm_error *err)
{
    *out = NULL;
    if (v->twins)
        return 0;
    struct dlm_chain *c = calloc(1, sizeof *c);
    size_t bytes = 0;
    if (c) {
        c->vocab = v;
        c->factor = v->factor;
        c->tokens = malloc(v->size * sizeof *c->tokens);
        c->len = calloc(v->size, 1);
        c->two = malloc(sizeof *c->two << 16);
        c->some_shift = 64 - 6;
        while (64 - c->some_shift < 30 && (size_t)1 << (64 - c->some_shift) < 4 * (v->merge_mask + 1))
            c->some_shift--;
        c->some = calloc((size_t)1 << (64 - c->some_shift - 6), sizeof *c->some);
    }
    int rc = c && c->tokens && c->len && c->two && c->some ? enter_tokens(c, &bytes, err) : dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc && bytes != SIZE_MAX)
        rc = make_tree(c, bytes, err);
    if (rc || bytes == SIZE_MAX)
        dlm_chain_free(c);
    else
        *out = c;
    return rc;
}

void dlm_chain_free(struct dlm_chain *c)
{
    if (!c)
        return;
    free(c->tokens);
    free(c->len);
    free(c->edges);
    free(c->some);
    free(c->two);
    free(c);
}

struct dlm_chain_place {
    pthread_mutex_t lock;
    bool tried, paired;
    struct dlm_chain *chain;
    struct dlm_pairs *pairs;
};

struct dlm_chain_place *dlm_chain_place_new(void)
{
    struct dlm_chain_place *p = calloc(1, sizeof *p);
    if (p)
        pthread_mutex_init(&p->lock, NULL);
    return p;
}

void dlm_chain_place_free(struct dlm_chain_place *p)
{
    if (!p)
        return;
    dlm_chain_free(p->chain);
    dlm_pairs_free(p->pairs);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int dlm_chain_of(const struct dlm_chain **out, const struct dlm_vocab *v, struct dlm_error *err)
{
    struct dlm_chain_place *p = v->chain;
    pthread_mutex_lock(&p->lock);
    int rc = p->tried ? 0 : dlm_chain_new(&p->chain, v, err);
    p->tried = !rc;
    *out = p->chain;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int dlm_pairs_of(const struct dlm_pairs **out, const struct dlm_vocab *v, struct dlm_error *err)
{
    struct dlm_chain_place *p = v->chain;
    pthread_mutex_lock(&p->lock);
    int rc = p->paired ? 0 : dlm_pairs_new(&p->pairs, v, err);
    p->paired = !rc;
    *out = p->pairs;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

void dlm_chain_scratch_release(struct dlm_chain_scratch *s)
{
    free(s->dead);
    *s = (struct dlm_chain_scratch){0};
}

/* There is one way through, so the order in which tokens are tried decides about time only. */
int dlm_chain_run(const struct dlm_chain *c, struct dlm_chain_scratch *s, const uint8_t *text, size_t n, uint32_t *to,
                  size_t *made, struct dlm_error *err)
{
    size_t at = 0, k = 0, words = n / 64 + 1;
    if (words > s->cap) {
        free(s->dead);
        s->dead = malloc(2 * words * sizeof *s->dead);
        s->cap = s->dead ? 2 * words : 0;
        if (!s->dead)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    memset(s->dead, 0, words * sizeof *s->dead);
    while (at < n) {
        uint32_t most = longest(c, text + at, n - at), last = k ? to[k - 1] : DLM_NO_ID;
        size_t g = slot_of(last ^ most << 16) & (DLM_CHAIN_GUESSES - 1);
        uint32_t t = s->guess[g].last == last && s->guess[g].longest == most ? s->guess[g].token : most;
        bool first = t != most; /* of all that are tried, the guess */
        for (;;) {
            size_t end = at + c->len[t];
            if (!(s->dead[end / 64] >> (end % 64) & 1) && (!k || fit(c, last, t, UINT32_MAX)))
                break;
            t = first ? most : c->tokens[t].shorter;
            first = false;
            if (t == DLM_NO_ID)
                break;
        }
        if (t != DLM_NO_ID) {
            s->guess[g].last = last;
            s->guess[g].longest = most;
            s->guess[g].token = t;
            to[k++] = t;
            at += c->len[t];
        } else { /* nothing goes on from here: what led here was wrong */
            assert(k);
            s->dead[at / 64] |= (uint64_t)1 << (at % 64);
            at -= c->len[to[--k]];
        }
    }
    *made = k;
    return 0;
}
