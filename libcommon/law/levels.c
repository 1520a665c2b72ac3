/* Levels of loss; see levels.h. */
#include "law/levels.h"

#include "base/number.h"
#include "law/sorted.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int dlm_levels_parse(const char *text, struct dlm_levels *l, struct dlm_error *err)
{
    *l = (struct dlm_levels){0};
    const bool range = strchr(text, ':') != NULL;
    double part[DLM_LEVELS_MAX];
    size_t n = 0;
    uint64_t count;
    if (!range && !strpbrk(text, ",.") && dlm_number_count(text, &count) && count >= 1 && count <= DLM_LEVELS_MAX) {
        l->n = (size_t)count;
        return 0;
    }
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, range ? ":" : ",");
        char word[64];
        if (n == DLM_LEVELS_MAX || !len || len >= sizeof word)
            goto bad;
        memcpy(word, p, len);
        word[len] = 0;
        if (!dlm_number_real(word, &part[n]) || !(part[n] > 0) || isinf(part[n]))
            goto bad;
        n++;
        p += len;
        if (!*p)
            break;
    }
    if (range) {
        if (n != 3 || part[2] != floor(part[2]) || part[2] < 2 || part[2] > DLM_LEVELS_MAX || part[0] == part[1])
            goto bad;
        double low = part[0], high = part[1];
        n = (size_t)part[2];
        for (size_t i = 0; i < n; i++)
            part[i] = low * pow(high / low, (double)i / (double)(n - 1));
    }
    if (!(l->at = malloc(n * sizeof *l->at)))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    memcpy(l->at, part, n * sizeof *part);
    l->n = n;
    qsort(l->at, n, sizeof *l->at, dlm_order_falling);
    return 0;
bad:
    return dlm_fail(err, DLM_EUSAGE, "--losses takes a number, HIGH:LOW:NUMBER or levels with commas between, not '%s'", text);
}

void dlm_levels_release(struct dlm_levels *l)
{
    free(l->at);
    *l = (struct dlm_levels){0};
}
