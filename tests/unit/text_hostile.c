/* Vocabularies that were written to be slow: tables stay tables whatever ids collide, added tokens that overlap are found as by trying all of
 * them, and the ways to part the tokens of a rank file are those found by trying all. Work is counted, not timed. */
#include "tap.h"

#include "base/rng.h"
#include "text/encode.h"
#include "text/ranks.h"
#include "text/vocab_body.h"

#include <string.h>
#include <unistd.h>

#define HEAD "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"

static struct dlm_vocab *parse(const char *json)
{
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    if (dlm_vocab_parse(&v, json, strlen(json), "test", &err))
        printf("# %s\n", err.msg);
    return v;
}

/* A word of three letters for each number. */
static const char *word(char to[4], unsigned i)
{
    snprintf(to, 4, "%c%c%c", 'a' + i / 676 % 26, 'a' + i / 26 % 26, 'a' + i % 26);
    return to;
}

/* Merges that a factor known beforehand would put next to each other, in a sixteenth of the table. */
static void colliding(uint64_t known)
{
    enum { WORDS = 512, MERGES = 10000, SLOTS_LOG2 = 15 };
    char *json = malloc(100 * MERGES + 20 * WORDS), *p = json, a[4], b[4];
    uint32_t (*pair)[2] = malloc(MERGES * sizeof *pair);
    size_t n = 0;
    if (!json || !pair)
        exit(1);
    for (uint32_t left = 0; left < WORDS; left++)
        for (uint32_t right = 0; right < WORDS && n < MERGES; right++)
            if (((uint64_t)left << 32 | right) * known >> (64 - SLOTS_LOG2) < 1 << (SLOTS_LOG2 - 4)) {
                pair[n][0] = left;
                pair[n++][1] = right;
            }
    p += sprintf(p, HEAD "\"model\":{\"vocab\":{");
    for (unsigned i = 0; i < WORDS; i++)
        p += sprintf(p, "\"%s\":%u,", word(a, i), i);
    for (size_t i = 0; i < n; i++)
        p += sprintf(p, "%s\"%s%s\":%zu", i ? "," : "", word(a, pair[i][0]), word(b, pair[i][1]), WORDS + i);
    p += sprintf(p, "},\"merges\":[");
    for (size_t i = 0; i < n; i++)
        p += sprintf(p, "%s\"%s %s\"", i ? "," : "", word(a, pair[i][0]), word(b, pair[i][1]));
    sprintf(p, "]}}");
    struct dlm_vocab *v = parse(json);
    size_t steps = 0, found = 0;
    for (size_t i = 0; v && i < n; i++) {
        uint64_t key = (uint64_t)pair[i][0] << 32 | pair[i][1];
        for (size_t k = dlm_merge_slot(v, key); v->merges[k].pair != key && v->merges[k].pair != UINT64_MAX; k = (k + 1) & v->merge_mask)
            steps++;
        const struct dlm_merge *m = dlm_merge_find(v, pair[i][0], pair[i][1]);
        found += m && m->rank == i;
    }
    tap_ok(v && n == MERGES && v->merge_mask + 1 == 1 << SLOTS_LOG2 && found == n && steps < 20 * n,
           "%zu merges that could collide: %zu steps to find them all", n, steps);
    dlm_vocab_free(v);
    free(json);
    free(pair);
}

/* Added tokens of few letters, some the beginning of others, some twice: the leftmost, of those the longest, of those the smallest id. */
static void overlapping(uint64_t seed)
{
    enum { TOKENS = 40, TEXT = 400 };
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 0, 0);
    bool same = true;
    for (int round = 0; round < 200 && same; round++) {
        char json[8000], *p = json, token[TOKENS][16], text[TEXT + 1];
        p += sprintf(p, HEAD "\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},\"added_tokens\":[");
        for (int i = 0; i < TOKENS; i++) {
            size_t n = 2 + dlm_rng_below(&r, round % 2 ? 3 : 13);
            for (size_t k = 0; k < n; k++)
                token[i][k] = (char)('a' + (dlm_rng_below(&r, round % 3 ? 2 : 9) == 1));
            token[i][n] = 0;
            p += sprintf(p, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true}", i ? "," : "", 2 + i, token[i]);
        }
        sprintf(p, "]}");
        for (int i = 0; i < TEXT; i++)
            text[i] = (char)('a' + (dlm_rng_below(&r, round % 3 ? 2 : 9) == 1));
        text[TEXT] = 0;
        struct dlm_vocab *v = parse(json);
        struct dlm_encoder *e = NULL;
        struct dlm_ids ids = {0};
        struct dlm_error err;
        same = v && !dlm_encoder_new(&e, v, true, &err) && !dlm_encoder_run(e, text, TEXT, &ids, &err);
        size_t k = 0;
        for (const char *s = text; *s && same; k++) {
            int best = -1;
            for (int i = 0; i < TOKENS; i++)
                if (!strncmp(s, token[i], strlen(token[i])) && (best < 0 || strlen(token[i]) > strlen(token[best])))
                    best = i;
            same = k < ids.n && ids.at[k] == (best < 0 ? (uint32_t)(*s - 'a') : 2 + (uint32_t)best);
            s += best < 0 ? 1 : strlen(token[best]);
        }
        same = same && k == ids.n;
        free(ids.at);
        dlm_encoder_free(e);
        dlm_vocab_free(v);
    }
    tap_ok(same, "overlapping added tokens are found as by trying all of them (seed %llu)", (unsigned long long)seed);
}

/* Rank files over two letters: the merges of each token are all its partings into two others. */
static void partings(uint64_t seed)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { TOKENS = 60 };
    struct dlm_rng r;
    dlm_rng_init(&r, seed, 1, 0);
    char token[TOKENS][16], path[] = "/tmp/dlm-test-ranks-XXXXXX";
    size_t n = 0;
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    for (int tries = 0; f && n < TOKENS; tries++) {
        size_t len = n < 2 ? 1 : 2 + dlm_rng_below(&r, tries / 20 < 12 ? (size_t)tries / 20 + 1 : 12);
        uint8_t b[18] = {0};
        bool again = false;
        for (size_t k = 0; k < len; k++)
            token[n][k] = (char)('a' + (n < 2 ? n : dlm_rng_below(&r, 2)));
        token[n][len] = 0;
        for (size_t i = 0; i < n; i++)
            again = again || !strcmp(token[i], token[n]);
        if (again)
            continue;
        memcpy(b, token[n], len);
        for (size_t k = 0; k < len; k += 3) {
            uint32_t w = (uint32_t)(b[k] << 16 | b[k + 1] << 8 | b[k + 2]);
            fprintf(f, "%c%c%c%c", alphabet[w >> 18], alphabet[w >> 12 & 63], k + 1 < len ? alphabet[w >> 6 & 63] : '=', k + 2 < len ? alphabet[w & 63] : '=');
        }
        fprintf(f, " %zu\n", n++);
    }
    struct dlm_vocab *v = NULL;
    struct dlm_error err = {{0}};
    bool good = f && !fclose(f) && !dlm_vocab_load_ranks(&v, path, "a+|b+", &err);
    unlink(path);
    size_t want = 0, have = 0;
    for (uint32_t i = 0; i < TOKENS && good; i++)
        for (uint32_t k = 0; k < TOKENS; k++) {
            char both[1000];
            uint32_t made = DLM_NO_ID;
            snprintf(both, sizeof both, "%s%s", token[i], token[k]);
            for (uint32_t m = 0; m < TOKENS; m++)
                made = strcmp(token[m], both) ? made : m;
            const struct dlm_merge *m = dlm_merge_find(v, i, k);
            want += made != DLM_NO_ID;
            have += m != NULL;
            good = good && (m ? m->id == made : made == DLM_NO_ID);
        }
    tap_ok(good && want == have && want > 60, "a rank file's %zu partings are found, and no others (seed %llu) %s", want, (unsigned long long)seed, err.msg);
    dlm_vocab_free(v);
}

int main(void)
{
    uint64_t seed = tap_seed();
    colliding(0x9e3779b97f4a7c15u);
    overlapping(seed);
    for (int i = 0; i < 5; i++)
        partings(seed + (uint64_t)i);
    return tap_end();
}
