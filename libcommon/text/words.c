/* Counting words: small slots, of which two share a line of the cache, and no pointer to follow for a word of usual length. */
#include "text/words.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SHORT = 15,         /* bytes that fit a slot */
    START = 256,        /* slots of a part at first */
    KEEP = 8192,        /* words that a lane keeps in a part in any case */
    KEEP_TEXT = 64 << 10, /* and bytes of long words */
};

/* Where the last of the 16 bytes of a key lies in its second half. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { LAST = 56 };
#else
enum { LAST = 0 };
#endif
#define LONG_MARK (UINT64_C(0xff) << LAST)

struct shared {
    struct dlm_words_part part;
    pthread_mutex_t lock;
};

struct lane {
    struct dlm_words_part parts[DLM_WORDS_PARTS];
    struct {
        size_t words, text;
    } limit[DLM_WORDS_PARTS]; /* what a part may grow to before it is looked at again */
};

struct dlm_words {
    uint64_t seed[2];
    struct shared all[DLM_WORDS_PARTS];
    struct lane *lanes;
    size_t n_lanes;
    struct dlm_words_part gathered[DLM_WORDS_PARTS]; /* views of all */
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

int dlm_words_new(struct dlm_words **out, size_t lanes, struct dlm_error *err)
{
    struct dlm_words *w = calloc(1, sizeof *w);
    if (!w)
        return no_memory(err);
    for (int i = 0; i < DLM_WORDS_PARTS; i++)
        pthread_mutex_init(&w->all[i].lock, NULL);
    w->lanes = calloc(lanes, sizeof *w->lanes);
    if (!w->lanes) {
        dlm_words_free(w);
        return no_memory(err);
    }
    w->n_lanes = lanes;
    for (size_t k = 0; k < lanes; k++)
        for (int i = 0; i < DLM_WORDS_PARTS; i++) {
            w->lanes[k].limit[i].words = KEEP;
            w->lanes[k].limit[i].text = KEEP_TEXT;
        }
    struct timespec t;
    if (getrandom(w->seed, sizeof w->seed, GRND_NONBLOCK) != (ssize_t)sizeof w->seed) {
        clock_gettime(CLOCK_REALTIME, &t);
        w->seed[0] = XXH3_64bits(&t, sizeof t);
        w->seed[1] = XXH3_64bits_withSeed(&w, sizeof w, w->seed[0]);
    }
    *out = w;
    return 0;
}

static void release(struct dlm_words_part *p)
{
    free(p->slots);
    free(p->text);
    *p = (struct dlm_words_part){0};
}

void dlm_words_free(struct dlm_words *w)
{
    if (!w)
        return;
    for (int i = 0; i < DLM_WORDS_PARTS; i++) {
        release(&w->all[i].part);
        pthread_mutex_destroy(&w->all[i].lock);
        for (size_t k = 0; k < w->n_lanes; k++)
            release(&w->lanes[k].parts[i]);
    }
    free(w->lanes);
    free(w);
}

static bool is_long(const struct dlm_word *word)
{
    return (word->key[1] & LONG_MARK) == LONG_MARK;
}

/* A long word's key: where its text begins, and its length. */
static size_t long_len(const uint64_t key[2])
{
    return LAST ? key[1] & ~LONG_MARK : key[1] >> 8;
}

const uint8_t *dlm_word_bytes(const struct dlm_words_part *part, const struct dlm_word *word, size_t *len)
{
    const uint8_t *key = (const uint8_t *)word->key;
    if (is_long(word)) {
        *len = long_len(word->key);
        return part->text + word->key[0];
    }
    *len = key[SHORT];
    return key;
}

static int grow(struct dlm_words_part *p, struct dlm_error *err)
{
    size_t size = p->slots ? 2 * (p->mask + 1) : START;
    struct dlm_word *slots = calloc(size, sizeof *slots);
    if (!slots)
        return no_memory(err);
    for (size_t i = 0; p->slots && i <= p->mask; i++) {
        if (!p->slots[i].count)
            continue;
        size_t k = p->slots[i].hash & (size - 1);
        while (slots[k].count)
            k = (k + 1) & (size - 1);
        slots[k] = p->slots[i];
    }
    free(p->slots);
    p->slots = slots;
    p->mask = size - 1;
    return 0;
}

static inline unsigned part_of(uint64_t hash)
{
    return (unsigned)(hash >> 58);
}

/* A new word in the empty slot i. */
static int settle(struct dlm_words_part *p, size_t i, struct dlm_word word, size_t len, struct dlm_error *err)
{
    p->slots[i] = word;
    p->bytes += len;
    return 3 * ++p->used > 2 * p->mask ? grow(p, err) : 0;
}

static inline int add_short(struct dlm_words_part *p, const uint64_t key[2], uint64_t hash, uint64_t count, struct dlm_error *err)
{
    size_t i = hash & p->mask;
    for (; p->slots[i].count; i = (i + 1) & p->mask)
        if (p->slots[i].key[0] == key[0] && p->slots[i].key[1] == key[1]) {
            p->slots[i].count += count;
            return 0;
        }
    return settle(p, i, (struct dlm_word){{key[0], key[1]}, hash, count}, key[1] >> LAST & 0xff, err);
}

static int add_long(struct dlm_words_part *p, const uint8_t *text, size_t len, uint64_t hash, uint64_t count,
                    struct dlm_error *err)
{
    size_t i = hash & p->mask;
    for (; p->slots[i].count; i = (i + 1) & p->mask) {
        const struct dlm_word *w = &p->slots[i];
        if (w->hash == hash && is_long(w) && long_len(w->key) == len && !memcmp(p->text + w->key[0], text, len)) {
            p->slots[i].count += count;
            return 0;
        }
    }
    if (p->text_cap - p->text_len < len) {
        size_t cap = p->text_len + len + (p->text_len + len) / 2;
        uint8_t *more = realloc(p->text, cap);
        if (!more)
            return no_memory(err);
        p->text = more;
        p->text_cap = cap;
    }
    memcpy(p->text + p->text_len, text, len);
    struct dlm_word word = {{p->text_len, LAST ? LONG_MARK | len : len << 8 | 0xff}, hash, count};
    p->text_len += len;
    return settle(p, i, word, len, err);
}

/* Put what `from` has into `to`, and empty it. */
static int pour(struct dlm_words_part *to, struct dlm_words_part *from, struct dlm_error *err)
{
    int rc = 0;
    if (!from->used)
        return 0;
    if (!to->used) { /* nothing to compare with */
        struct dlm_words_part empty = *to;
        *to = *from;
        *from = empty;
        return 0;
    }
    for (size_t i = 0; i <= from->mask && !rc; i++) {
        const struct dlm_word *w = &from->slots[i];
        if (w->count && is_long(w))
            rc = add_long(to, from->text + w->key[0], long_len(w->key), w->hash, w->count, err);
        else if (w->count)
            rc = add_short(to, w->key, w->hash, w->count, err);
    }
    memset(from->slots, 0, (from->mask + 1) * sizeof *from->slots);
    from->used = from->text_len = 0;
    from->bytes = 0;
    return rc;
}

/* Empty a lane's part into the common one where it has more than its share: all lanes together keep no more than that has. */
static int relieve(struct dlm_words *w, struct lane *l, unsigned part, struct dlm_error *err)
{
    struct shared *s = &w->all[part];
    struct dlm_words_part *mine = &l->parts[part];
    pthread_mutex_lock(&s->lock);
    size_t words = s->part.used / w->n_lanes, text = s->part.text_len / w->n_lanes;
    words = words > KEEP ? words : KEEP;
    text = text > KEEP_TEXT ? text : KEEP_TEXT;
    int rc = mine->used > words || mine->text_len > text ? pour(&s->part, mine, err) : 0;
    pthread_mutex_unlock(&s->lock);
    l->limit[part].words = words;
    l->limit[part].text = text;
    return rc;
}

int dlm_words_add(struct dlm_words *w, size_t lane, const uint8_t *text, size_t room, const size_t *ends, size_t n,
                  struct dlm_error *err)
{
    static const uint8_t ramp[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct lane *l = &w->lanes[lane];
    for (size_t k = 0, at = 0; k < n; at = ends[k++]) {
        size_t len = ends[k] - at;
        uint64_t key[2] = {0, 0}, hash;
        if (len <= SHORT) {
            if (at + 16 <= room) {
                uint64_t mask[2];
                memcpy(key, text + at, 16);
                memcpy(mask, ramp + 16 - len, 16);
                key[0] &= mask[0];
                key[1] &= mask[1];
            } else {
                memcpy(key, text + at, len);
            }
            key[1] |= (uint64_t)len << LAST;
            unsigned __int128 product = (unsigned __int128)(key[0] ^ w->seed[0]) * (key[1] ^ w->seed[1]);
            hash = (uint64_t)product ^ (uint64_t)(product >> 64);
        } else {
            if (len > UINT32_MAX / 2)
                return dlm_fail(err, DLM_EDATA, "a piece of %zu bytes without a break is too long", len);
            hash = XXH3_64bits_withSeed(text + at, len, w->seed[0]);
        }
        unsigned part = part_of(hash);
        struct dlm_words_part *p = &l->parts[part];
        int rc = p->slots ? 0 : grow(p, err);
        rc = rc ? rc : len <= SHORT ? add_short(p, key, hash, 1, err) : add_long(p, text + at, len, hash, 1, err);
        if (!rc && (p->used > l->limit[part].words || p->text_len > l->limit[part].text))
            rc = relieve(w, l, part, err);
        if (rc)
            return rc;
    }
    return 0;
}

int dlm_words_gather(struct dlm_words *w, const struct dlm_words_part **parts, struct dlm_error *err)
{
    int failed = 0;
    size_t work = 0; /* words to be moved: threads for a few are dearer than the few */
    for (size_t k = 0; k < w->n_lanes; k++)
        for (int i = 0; i < DLM_WORDS_PARTS; i++)
            work += w->lanes[k].parts[i].used;
#pragma omp parallel for schedule(dynamic) num_threads((int)w->n_lanes) if (work > 10000)
    for (int i = 0; i < DLM_WORDS_PARTS; i++) {
        struct dlm_error here = {{0}};
        for (size_t k = 0; k < w->n_lanes; k++) {
            int rc = pour(&w->all[i].part, &w->lanes[k].parts[i], &here);
            release(&w->lanes[k].parts[i]);
            if (rc)
#pragma omp critical(dlm_words_failed)
            {
                failed = rc;
                *err = here;
            }
        }
        w->gathered[i] = w->all[i].part;
    }
    *parts = w->gathered;
    return failed;
}
