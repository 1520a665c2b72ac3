/* Training a byte-level BPE vocabulary: words are counted (words.h), their pairs merged (merging.h), and the outcome written
 * (compose.h). */
#include "text/trainer.h"

#include "text/compose.h"
#include "text/merging.h"
#include "text/split.h"
#include "text/words.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* One thread's part; a line of the cache to itself. */
struct lane {
    struct dlm_split_scratch *scratch;
    uint64_t bytes, bytes_seen, texts, texts_seen;
} __attribute__((aligned(64)));

struct dlm_trainer {
    const char *regex;
    struct dlm_split *split;
    struct dlm_words *words;
    struct lane *lanes;
    size_t n_lanes;
    double sample;
    uint64_t seed;
};

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

int dlm_trainer_new(struct dlm_trainer **out, const char *regex, size_t lanes, struct dlm_error *err)
{
    struct dlm_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return no_memory(err);
    t->regex = regex;
    t->sample = 1;
    struct dlm_split_step step = {regex, false};
    int rc = dlm_split_new(&t->split, &step, 1, false, err);
    rc = rc ? rc : dlm_words_new(&t->words, lanes, err);
    t->lanes = aligned_alloc(64, lanes * sizeof *t->lanes);
    if (!rc && !t->lanes)
        rc = no_memory(err);
    for (; !rc && t->n_lanes < lanes; t->n_lanes++) {
        t->lanes[t->n_lanes] = (struct lane){0};
        rc = dlm_split_scratch_new(&t->lanes[t->n_lanes].scratch, t->split, err);
    }
    if (rc) {
        dlm_trainer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void dlm_trainer_free(struct dlm_trainer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_lanes; i++)
        dlm_split_scratch_free(t->lanes[i].scratch);
    free(t->lanes);
    dlm_words_free(t->words);
    dlm_split_free(t->split);
    free(t);
}

bool dlm_trainer_may_cut(const struct dlm_trainer *t)
{
    return dlm_split_may_cut(t->split);
}

void dlm_trainer_sample(struct dlm_trainer *t, double share, uint64_t seed)
{
    t->sample = share;
    t->seed = seed;
}

struct adding {
    struct dlm_words *words;
    size_t lane;
};

static int add_pieces(void *to, const uint8_t *text, size_t room, const size_t *ends, size_t n, struct dlm_error *err)
{
    const struct adding *a = to;
    return dlm_words_add(a->words, a->lane, text, room, ends, n, err);
}

int dlm_trainer_count(struct dlm_trainer *t, size_t lane, const void *text, size_t len, size_t context, struct dlm_error *err)
{
    struct lane *l = &t->lanes[lane];
    struct adding a = {t->words, lane};
    if (!len)
        return 0;
    l->texts_seen++;
    l->bytes_seen += len;
    if (t->sample < 1 && (double)(XXH64(text, len, t->seed) >> 11) * 0x1p-53 >= t->sample)
        return 0;
    l->texts++;
    l->bytes += len;
    return dlm_split_run_many(t->split, l->scratch, text, len, context, add_pieces, &a, err);
}

/* The progress of merging, told with the specials counted. */
struct telling {
    dlm_trained_fn *progress;
    void *to;
    size_t n_specials;
};

static int tell(void *to, size_t n_tokens)
{
    const struct telling *t = to;
    return t->progress(t->to, n_tokens + t->n_specials);
}

int dlm_trainer_finish(struct dlm_trainer *t, const char *const *specials, size_t n_specials, size_t size, uint64_t min_frequency,
                       dlm_trained_fn *progress, void *to, struct dlm_trained *out, struct dlm_error *err)
{
    if (size < n_specials + 256 || size > UINT32_MAX / 2)
        return dlm_fail(err, DLM_EUSAGE, "a vocabulary has at least %zu ids: %zu special tokens and 256 bytes", n_specials + 256,
                        n_specials);
    const struct dlm_words_part *parts;
    int rc = dlm_words_gather(t->words, &parts, err);
    if (rc)
        return rc;
    *out = (struct dlm_trained){0};
    for (int i = 0; i < DLM_WORDS_PARTS; i++)
        out->words += parts[i].used;
    for (size_t i = 0; i < t->n_lanes; i++) {
        out->bytes += t->lanes[i].bytes;
        out->bytes_seen += t->lanes[i].bytes_seen;
        out->texts += t->lanes[i].texts;
        out->texts_seen += t->lanes[i].texts_seen;
    }
    if (!out->words && out->bytes_seen)
        return dlm_fail(err, DLM_EDATA, "no text to train on: the sample is empty");
    if (!out->words)
        return dlm_fail(err, DLM_EDATA, "no text to train on: the input is empty");
    struct telling telling = {progress, to, n_specials};
    struct dlm_merges_wish wish = {size - n_specials, min_frequency, specials, n_specials, progress ? tell : NULL, &telling};
    struct dlm_merges m = {0};
    struct dlm_words *words = t->words;
    t->words = NULL;
    rc = dlm_merges_find(&m, words, &wish, err);
    if (!rc) {
        struct dlm_vocab_plan plan = {.specials = specials, .n_specials = n_specials, .regex = t->regex, .tokens = m.tokens,
                                      .n_tokens = m.n_tokens, .merges = (const uint32_t (*)[2])m.pairs, .n_merges = m.n_pairs};
        out->size = n_specials + m.n_tokens;
        rc = dlm_vocab_compose(&out->json, &plan, err);
    }
    dlm_merges_release(&m);
    return rc;
}
