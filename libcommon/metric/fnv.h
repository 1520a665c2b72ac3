/* FNV-1a (Fowler, Noll, Vo), 64 bits: names to places in a table, and to seeds. Not for bytes that an enemy chooses. */
#ifndef DLM_METRIC_FNV_H
#define DLM_METRIC_FNV_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t dlm_fnv_hash(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3;
    return h;
}

#endif
