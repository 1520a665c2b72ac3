/* The external sort of documents: whatever the memory, the same documents in the same order, each whole. */
#include "base/error.h"
#include "base/rng.h"
#include "tap.h"
#include "token/shuffle.h"

#include <string.h>

struct doc {
    struct dlm_shuffle_document d;
    uint32_t first; /* ids are first, first+1, … modulo the vocabulary */
};

static struct doc *docs;
static size_t n_docs;
static uint32_t vocab;

static int by_key(const void *pa, const void *pb)
{
    const struct dlm_shuffle_document *a = &((const struct doc *)pa)->d, *b = &((const struct doc *)pb)->d;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->hash[0] != b->hash[0])
        return a->hash[0] < b->hash[0] ? -1 : 1;
    if (a->hash[1] != b->hash[1])
        return a->hash[1] < b->hash[1] ? -1 : 1;
    return a->ordinal < b->ordinal ? -1 : 1;
}

static struct seen {
    size_t at;
    uint64_t n;
    bool good, started;
    size_t stop_at;
} seen;

static void finish_document(void)
{
    if (seen.started)
        seen.good &= seen.n == docs[seen.at++].d.n;
    seen.n = 0;
}

static int see_begin(void *to, const struct dlm_shuffle_document *d, struct dlm_error *err)
{
    (void)to;
    finish_document();
    seen.started = true;
    if (seen.at == seen.stop_at)
        return dlm_fail(err, DLM_EDATA, "enough");
    const struct dlm_shuffle_document *want = &docs[seen.at].d;
    seen.good &= seen.at < n_docs && d->key == want->key && d->ordinal == want->ordinal && d->n == want->n && d->tag == want->tag &&
                 d->hash[1] == want->hash[1];
    return 0;
}

static int see_ids(void *to, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    (void)to;
    (void)err;
    for (size_t i = 0; i < n; i++)
        seen.good &= ids[i] == (docs[seen.at].first + seen.n + i) % vocab;
    seen.n += n;
    return 0;
}

/* Put the documents in by ordinal, take them out; the number of runs that went to disk, or an error. */
static int run(size_t memory, unsigned id_bytes, size_t stop_at, uint64_t *runs, struct dlm_error *err)
{
    struct dlm_shuffle *s;
    const char *dir = getenv("TMPDIR");
    int rc = dlm_shuffle_new(&s, memory, id_bytes, dir ? dir : "/tmp", err);
    if (rc)
        return rc;
    const struct doc **order = malloc((n_docs + 1) * sizeof *order);
    for (size_t i = 0; i < n_docs; i++)
        order[docs[i].d.ordinal] = &docs[i];
    for (size_t i = 0; i < n_docs && !rc; i++) {
        uint32_t ids[777];
        for (uint64_t k = 0; k < order[i]->d.n && !rc;) {
            size_t take = order[i]->d.n - k < 777 ? (size_t)(order[i]->d.n - k) : 777;
            for (size_t j = 0; j < take; j++)
                ids[j] = (uint32_t)((order[i]->first + k + j) % vocab);
            rc = dlm_shuffle_add(s, ids, take, err);
            k += take;
        }
        struct dlm_shuffle_document d = order[i]->d;
        d.n = 0;
        if (!rc)
            rc = dlm_shuffle_end(s, &d, err);
    }
    seen = (struct seen){.good = true, .stop_at = stop_at};
    struct dlm_shuffle_sink sink = {see_begin, see_ids, NULL};
    if (!rc)
        rc = dlm_shuffle_deliver(s, &sink, err);
    if (!rc)
        finish_document();
    *runs = dlm_shuffle_runs(s);
    dlm_shuffle_free(s);
    free(order);
    return rc;
}

/* `large`: every so many documents, one of 200,000 ids and more. Keys come from few values, so that ties are met. */
static void make(uint64_t seed, size_t n, uint32_t longest, size_t large, uint64_t keys)
{
    struct dlm_rng g;
    dlm_rng_init(&g, seed, n, DLM_RNG_TEST);
    docs = calloc(n + 1, sizeof *docs);
    n_docs = n;
    for (size_t i = 0; i < n; i++) {
        struct dlm_shuffle_document *d = &docs[i].d;
        d->key = keys ? dlm_rng_below(&g, keys) : (uint64_t)dlm_rng_next(&g) << 32 | dlm_rng_next(&g);
        d->hash[0] = dlm_rng_below(&g, 2);
        d->hash[1] = i % 3;
        d->ordinal = i;
        d->n = 1 + dlm_rng_below(&g, longest);
        if (large && i % large == large / 2)
            d->n = 200000 + dlm_rng_below(&g, 100000);
        d->tag = i % 3;
        docs[i].first = dlm_rng_next(&g) % vocab;
    }
    qsort(docs, n, sizeof *docs, by_key);
}

int main(void)
{
    uint64_t seed = tap_seed(), runs = 0;
    static const struct {
        size_t n;
        uint32_t longest;
        size_t large;
        uint64_t keys;
        const char *what;
    } set[] = {{0, 1, 0, 0, "no document"},
               {1, 1, 0, 0, "one id"},
               {1, 1, 1, 0, "one document larger than the memory"},
               {20000, 60, 0, 0, "many small documents"},
               {20000, 60, 0, 5, "ties"},
               {40, 9000, 8, 0, "large ones among small ones"},
               {6, 10, 1, 0, "nothing but large ones"},
               {3000, 900, 1000, 0, "all sizes"}};
    static const size_t memories[] = {DLM_SHUFFLE_MIN_MEMORY, DLM_SHUFFLE_MIN_MEMORY + 4999, 1 << 20, 64 << 20};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        for (unsigned id_bytes = 2; id_bytes <= 4; id_bytes += 2) {
            vocab = id_bytes == 2 ? 65536 : 131072;
            make(seed + i, set[i].n, set[i].longest, set[i].large, set[i].keys);
            bool good = true;
            uint64_t most = 0;
            struct dlm_error err = {{0}};
            for (size_t m = 0; m < 4; m++) {
                good &= !run(memories[m], id_bytes, SIZE_MAX, &runs, &err) && seen.good && seen.at == n_docs;
                most = runs > most ? runs : most;
                if (m == 3)
                    good &= !runs;
            }
            tap_ok(good,
                   "%s, %u bytes an id, from none to %llu runs on disk %s", set[i].what, id_bytes, (unsigned long long)most, err.msg);
            if (set[i].n == 20000 && id_bytes == 2)
                tap_ok(most > 9, "which takes more than two passes at the least memory");
            free(docs);
        }
    make(seed, 3000, 900, 0, 0);
    struct dlm_error err = {{0}};
    tap_ok(run(DLM_SHUFFLE_MIN_MEMORY, 4, 100, &runs, &err) == DLM_EDATA && !strcmp(err.msg, "enough") && seen.good,
           "a sink's error ends it");
    free(docs);
    struct dlm_shuffle *s;
    tap_ok(dlm_shuffle_new(&s, SIZE_MAX / 4, 2, "/tmp", &err) == DLM_ENOMEM && strstr(err.msg, "--memory"),
           "no memory: %s", err.msg);
    if (!dlm_shuffle_new(&s, 0, 4, "/nowhere/at/all", &err)) {
        uint32_t ids[4096] = {0};
        int rc = 0;
        for (int i = 0; i < 100 && !rc; i++)
            rc = dlm_shuffle_add(s, ids, 4096, &err);
        tap_ok(rc == DLM_EIO && strstr(err.msg, "/nowhere/at/all"), "no place for a temporary file: %s", err.msg);
        dlm_shuffle_free(s);
    }
    return tap_end();
}
