/* What this build is, and how much of the machine it may use. */
#include "base/build.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

#ifndef DLM_VERSION
#define DLM_VERSION "0"
#endif
#ifndef DLM_FLAGS
#define DLM_FLAGS ""
#endif
#ifdef __clang__
#define COMPILER "clang "
#else
#define COMPILER "gcc "
#endif

const char *dlm_build_version(void)
{
    return DLM_VERSION;
}

const char *dlm_build_flags(void)
{
    return COMPILER __VERSION__ ", " DLM_FLAGS;
}

int dlm_build_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        double quota, period;
        if (fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
            int q = (int)(quota / period + 0.999);
            if (q >= 1 && q < n)
                n = q;
        }
        fclose(f);
    }
    return n > 0 ? n : 1;
}

static bool read_number(const char *path, uint64_t *to)
{
    FILE *f = fopen(path, "r");
    bool good = f && fscanf(f, "%" SCNu64, to) == 1; /* "max" is no number */
    if (f)
        fclose(f);
    return good;
}

uint64_t dlm_build_memory(void)
{
    uint64_t available = UINT64_MAX, limit, used, kb;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kb) == 1)
            available = kb * 1024;
    if (f)
        fclose(f);
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && read_number("/sys/fs/cgroup/memory.current", &used)) {
        uint64_t left = limit > used ? limit - used : 0;
        if (left < available)
            available = left;
    }
    return available;
}
