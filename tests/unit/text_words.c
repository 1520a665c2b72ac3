/* Counting words against a plain table, with enough of them that lanes are emptied into what they share. */
#include "tap.h"

#include "base/rng.h"
#include "text/words.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 3, ADDS = 40 };

/* The n-th word: 1 to 60 bytes, many that differ in length or in one place only, some with zeros at the end. */
static size_t word_of(uint64_t n, uint8_t *to)
{
    size_t len = 1 + n % 60;
    memset(to, n % 7 ? 'a' : 0, len);
    for (size_t i = 0; i < len && i < 8; i++)
        to[i] = (uint8_t)(n / 60 >> 8 * i);
    return len;
}

struct job {
    struct dlm_words *words;
    size_t lane, first, n;
    uint64_t times;
    int rc;
    struct dlm_error err;
};

static void *work(void *arg)
{
    struct job *j = arg;
    uint8_t text[ADDS * 60];
    size_t ends[ADDS], n = 0, at = 0;
    for (uint64_t t = 0; t < j->times; t++)
        for (size_t i = 0; i < j->n && !j->rc; i++) {
            at += word_of(j->first + i, text + at);
            ends[n++] = at;
            if (n == ADDS || i + 1 == j->n) { /* nothing but the text itself may be read */
                uint8_t *exact = malloc(at);
                memcpy(exact, text, at);
                j->rc = dlm_words_add(j->words, j->lane, exact, at, ends, n, &j->err);
                free(exact);
                n = at = 0;
            }
        }
    return NULL;
}

/* Lanes count overlapping ranges of words, lane k each word k + 1 times: [0, 2/3 n), [1/3 n, n), all. */
static void count(size_t n)
{
    struct dlm_words *w = NULL;
    struct dlm_error err = {{0}};
    struct job jobs[LANES] = {{.n = 2 * n / 3, .times = 1}, {.first = n / 3, .n = n - n / 3, .times = 2}, {.n = n, .times = 3}};
    pthread_t threads[LANES];
    int rc = dlm_words_new(&w, LANES, &err);
    for (size_t k = 0; k < LANES && !rc; k++) {
        jobs[k].words = w;
        jobs[k].lane = k;
        rc = pthread_create(&threads[k], NULL, work, &jobs[k]);
    }
    for (size_t k = 0; k < LANES && !rc; k++)
        pthread_join(threads[k], NULL);
    for (size_t k = 0; k < LANES; k++)
        rc = rc ? rc : jobs[k].rc;
    const struct dlm_words_part *parts = NULL;
    rc = rc ? rc : dlm_words_gather(w, &parts, &err);
    /* words are looked up by number: the bytes say which one it is */
    uint8_t *seen = calloc(n, 1);
    size_t found = 0, wrong = 0, bytes = 0, all_bytes = 0;
    for (int p = 0; p < DLM_WORDS_PARTS && !rc; p++) {
        bytes += parts[p].bytes;
        for (size_t i = 0; parts[p].slots && i <= parts[p].mask; i++) {
            const struct dlm_word *word = &parts[p].slots[i];
            uint8_t want[60];
            size_t len;
            if (!word->count)
                continue;
            const uint8_t *b = dlm_word_bytes(&parts[p], word, &len);
            uint64_t high = 0, number = n;
            for (size_t k = 0; k < len && k < 8; k++)
                high |= (uint64_t)b[k] << 8 * k;
            /* short words cannot say all of their number, and the same word may have several: the first that fits */
            for (uint64_t h = high; h * 60 < n + 60 && number == n; h += UINT64_C(1) << (len < 8 ? 8 * len : 63))
                if (h * 60 + len - 1 < n && word_of(h * 60 + len - 1, want) == len && !memcmp(want, b, len))
                    number = h * 60 + len - 1;
            uint64_t expect = 0;
            for (uint64_t h = high; number < n && h * 60 + len - 1 < n; h += UINT64_C(1) << (len < 8 ? 8 * len : 63)) {
                uint64_t k = h * 60 + len - 1;
                if (word_of(k, want) == len && !memcmp(want, b, len))
                    expect += (k < 2 * n / 3) + 2 * (k >= n / 3) + 3;
                if (len >= 8)
                    break;
            }
            wrong += number == n || word->count != expect || seen[number]++;
            found += 1;
            all_bytes += len;
        }
    }
    tap_ok(!rc && !wrong && found && bytes == all_bytes, "%zu words, %zu of them distinct: %zu are wrong %s", n, found, wrong, err.msg);
    free(seen);
    dlm_words_free(w);
}

int main(void)
{
    count(1);
    count(1000);
    count(700000);
    return tap_end();
}
