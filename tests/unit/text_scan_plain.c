/* The scanners as they are on processors without SSE2 against those of this one. */
#include "tap.h"

#include "base/rng.h"
#include "text/scan.h"

#include <stdbool.h>
#include <string.h>

#undef __SSE2__
#define dlm_scan_pieces plain_pieces
size_t plain_pieces(enum dlm_scan pattern, const uint8_t *text, size_t at, size_t len, size_t stop, size_t *valid, size_t *ends, size_t max);
#include "../../libcommon/text/scan.c"
#undef dlm_scan_pieces

static void same(struct dlm_rng *r, enum dlm_scan pattern, const char *name)
{
    static const char *const units[] = {" ", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "a", "word", "Word", "WORD", "7", "2025", ".", "!", "/", "\xc3\xa9", "\xe4\xb8\x80",
                                        "\xcc\x81", "\xff", "\xc3", "\xf0\x9f\x98\x80", "\xc2\xa0", "averyveryverylongwordthatfillsmostofawindowandmore"};
    enum { UNITS = sizeof units / sizeof *units, MOST = 4000 };
    static uint8_t made[MOST + 64];
    static size_t a[MOST + 2 * DLM_SCAN_MORE], b[MOST + 2 * DLM_SCAN_MORE];
    bool good = true;
    size_t seen = 0;
    for (int turn = 0; turn < 2000 && good; turn++) {
        size_t len = 0, want = 1 + dlm_rng_below(r, turn % 20 ? 300 : MOST), few = turn % 2 ? UNITS - 8 : UNITS;
        while (len < want) {
            const char *u = units[dlm_rng_below(r, few)];
            memcpy(made + len, u, strlen(u));
            len += strlen(u);
        }
        size_t context = turn % 3 == 0 && len > 1;
        uint8_t *text = malloc(len); /* exactly, so that a sanitizer sees a look beyond */
        memcpy(text, made, len);
        for (size_t at = 0, va = 0, vb = 0; at < len - context && good;) {
            size_t max = 1 + dlm_rng_below(r, 100);
            size_t n = dlm_scan_pieces(pattern, text, at, len, len - context, &va, a, max);
            size_t m = 0;
            for (size_t from = at; m < n; from = b[m - 1])
                m += plain_pieces(pattern, text, from, len, len - context, &vb, b + m, n - m);
            good = n >= 1 && m == n && n < max + DLM_SCAN_MORE && !memcmp(a, b, n * sizeof *a);
            at = a[n - 1];
            seen += n;
        }
        free(text);
    }
    tap_ok(good, "%zu pieces are cut alike without SSE2, pattern %s", seen, name);
}

int main(void)
{
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 0, 6);
    same(&r, DLM_SCAN_GPT2, "gpt2");
    same(&r, DLM_SCAN_CL100K, "cl100k");
    same(&r, DLM_SCAN_O200K, "o200k");
    return tap_end();
}
