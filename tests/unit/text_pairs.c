/* Short pieces merged by the table of pairs against the plain way; vocabularies that have no such table. */
#include "tap.h"

#include "text/pairs.h"
#include "text/vocab_body.h"
#include "text_bytepair.h"

#include <stdbool.h>

static struct bytepair b;

/* twins: several pairs may make one token. */
static void random_merges(struct dlm_rng *r, const char *letters, int n, bool twins)
{
    size_t k = strlen(letters);
    bytepair_bytes(&b);
    for (int i = 0; i < n; i++) {
        uint32_t side[2];
        for (int s = 0; s < 2; s++) {
            bool byte = b.n_tokens == 256 || dlm_rng_below(r, 3) == 0;
            side[s] = byte ? (uint8_t)letters[dlm_rng_below(r, k)] : 256 + (uint32_t)dlm_rng_below(r, b.n_tokens - 256);
        }
        size_t had = b.n_merges, tokens = b.n_tokens;
        bytepair_merge(&b, side[0], side[1]);
        if (b.n_merges > had && b.n_tokens == tokens && !twins)
            b.n_merges--;
    }
    /* a part may come after the whole */
    for (size_t i = 0; n % 3 == 0 && i < b.n_merges / 8; i++) {
        size_t x = dlm_rng_below(r, b.n_merges), y = dlm_rng_below(r, b.n_merges);
        uint32_t pair[2] = {b.merges[x][0], b.merges[x][1]}, made = b.made[x];
        memcpy(b.merges[x], b.merges[y], sizeof pair);
        memcpy(b.merges[y], pair, sizeof pair);
        b.made[x] = b.made[y];
        b.made[y] = made;
    }
}

static struct dlm_pairs *pairs_of(struct dlm_vocab **v)
{
    struct dlm_pairs *p = NULL;
    struct dlm_error err = {{0}};
    *v = bytepair_vocab(&b, NULL, false);
    if (dlm_pairs_new(&p, *v, &err))
        printf("# %s\n", err.msg);
    return p;
}

static void same_ids(struct dlm_rng *r)
{
    static const char *const alphabets[] = {"a", "ab", "abc", "abcdefgh", "etaoinshrdlu ", "\x01\x7f\x80\xff"};
    for (size_t a = 0; a < sizeof alphabets / sizeof *alphabets; a++) {
        bool same = true;
        size_t tried = 0, turns = getenv("DLM_TEST_LONG") ? 1000 : 40;
        for (size_t turn = 0; turn < turns && same; turn++) {
            struct dlm_vocab *v;
            random_merges(r, alphabets[a], (int)(turn % 12 * (turn % 12) * 4), turn % 2);
            struct dlm_pairs *p = pairs_of(&v);
            same = p != NULL;
            for (int again = 0; again < 100 && same; again++, tried++) {
                size_t n = 1 + (size_t)again % DLM_PAIRS_TEXT;
                uint8_t *text = malloc(n); /* exactly, so that a sanitizer sees a look beyond */
                uint32_t want[DLM_PAIRS_TEXT], *got = malloc(n * sizeof *got);
                for (size_t i = 0; i < n; i++) /* in runs and without */
                    text[i] = again % 3 == 2 && i && dlm_rng_below(r, 8) ? text[i - 1] : (uint8_t)alphabets[a][dlm_rng_below(r, strlen(alphabets[a]))];
                size_t k = bytepair_plain(&b, text, n, want);
                same = dlm_pairs_merge(p, text, n, got) == k;
                for (size_t i = 0; i < k && same; i++)
                    same = got[i] == want[i] + 4;
                free(text);
                free(got);
            }
            dlm_pairs_free(p);
            dlm_vocab_free(v);
        }
        tap_ok(same, "%zu pieces are merged as the plain way merges them, alphabet %zu", tried, a);
    }
}

static void refused(void)
{
    struct dlm_vocab *v;
    bytepair_bytes(&b);
    struct dlm_pairs *p = pairs_of(&v);
    tap_ok(p != NULL, "a vocabulary without merges has a table");
    dlm_pairs_free(p);
    struct dlm_vocab *lacking = v;
    lacking->byte_id['x'] = DLM_NO_ID;
    struct dlm_error err;
    tap_ok(!dlm_pairs_new(&p, lacking, &err) && !p, "one that lacks a byte has none");
    dlm_vocab_free(v);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 5);
    same_ids(&r);
    refused();
    return tap_end();
}
