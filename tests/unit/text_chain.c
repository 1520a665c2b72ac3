/* The merged form found from left to right against the plain way to merge. */
#include "tap.h"

#include "text/chain.h"
#include "text/encode.h"
#include "text_bytepair.h"

static struct bytepair b;

/* Merges of which no two make one token, each of parts that are there. */
static void random_merges(struct dlm_rng *r, const char *letters, int n)
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
        if (b.n_merges > had && b.n_tokens == tokens)
            b.n_merges--;
    }
}

static struct dlm_chain *chain_of(struct dlm_vocab **v)
{
    struct dlm_chain *c = NULL;
    struct dlm_error err = {{0}};
    *v = bytepair_vocab(&b, NULL, false);
    if (dlm_chain_new(&c, *v, &err))
        printf("# %s\n", err.msg);
    return c;
}

static void same_ids(struct dlm_rng *r)
{
    static const char *const alphabets[] = {"a", "ab", "abc", "abcdefgh", "etaoinshrdlu "};
    enum { MOST = 400 };
    uint32_t want[MOST], got[MOST];
    static struct dlm_chain_scratch scratch;
    struct dlm_error err;
    for (size_t a = 0; a < sizeof alphabets / sizeof *alphabets; a++) {
        bool same = true;
        size_t tried = 0, turns = getenv("DLM_TEST_LONG") ? 2000 : 60;
        for (size_t turn = 0; turn < turns && same; turn++) {
            struct dlm_vocab *v;
            random_merges(r, alphabets[a], (int)(turn % 12 * (turn % 12) * 4));
            struct dlm_chain *c = chain_of(&v);
            struct dlm_encoder *e = NULL;
            struct dlm_ids ids = {0};
            same = c && !dlm_encoder_new(&e, v, false, &err);
            for (int again = 0; again < 12 && same; again++, tried++) {
                uint8_t text[MOST];
                size_t n = 1 + dlm_rng_below(r, again < 9 ? 40 : MOST);
                for (size_t i = 0; i < n; i++) /* in runs and without */
                    text[i] = again % 3 == 2 && i && dlm_rng_below(r, 8) ? text[i - 1] : (uint8_t)alphabets[a][dlm_rng_below(r, strlen(alphabets[a]))];
                size_t k = bytepair_plain(&b, text, n, want);
                size_t made = 0;
                same = !dlm_chain_run(c, &scratch, text, n, got, &made, &err) && made == k;
                ids.n = 0;
                same = same && !dlm_encoder_run(e, text, n, &ids, &err) && ids.n == k;
                for (size_t i = 0; i < k && same; i++)
                    same = got[i] == want[i] + 4 && ids.at[i] == got[i];
                if (!same)
                    printf("# '%.*s'\n", (int)n, (const char *)text);
            }
            free(ids.at);
            dlm_encoder_free(e);
            dlm_chain_scratch_release(&scratch);
            dlm_chain_free(c);
            dlm_vocab_free(v);
        }
        tap_ok(same, "%zu texts over '%s' are merged as the plain way merges them", tried, alphabets[a]);
    }
}

/* Where the reasoning does not hold there must be no chain. */
static void refused(void)
{
    struct dlm_vocab *v;
    bytepair_bytes(&b);
    bytepair_merge(&b, 'a', 'b'); /* 256 */
    bytepair_merge(&b, 'b', 'c'); /* 257 */
    bytepair_merge(&b, 256, 'c');
    struct dlm_chain *c = chain_of(&v);
    tap_ok(c != NULL, "a trained vocabulary has a chain");
    dlm_chain_free(c);
    dlm_vocab_free(v);
    bytepair_merge(&b, 'a', 257);
    c = chain_of(&v);
    tap_ok(!c, "one in which two pairs make one token has none");
    dlm_chain_free(c);
    dlm_vocab_free(v);
    b.n_merges = 3;
    uint32_t first[2] = {b.merges[0][0], b.merges[0][1]};
    memcpy(b.merges[0], b.merges[2], sizeof first);
    memcpy(b.merges[2], first, sizeof first);
    c = chain_of(&v);
    tap_ok(!c, "nor has one in which a part comes after the whole");
    dlm_chain_free(c);
    dlm_vocab_free(v);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 3);
    same_ids(&r);
    refused();
    return tap_end();
}
