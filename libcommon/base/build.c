/* What this build is, and how much of the machine it may use. */
#include "base/build.h"

#include <sched.h>
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
