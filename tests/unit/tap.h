/* TAP for the unit tests: each check is one line; the plan comes last. The seed is printed and settable (DLM_TEST_SEED). */
#ifndef DLM_TESTS_TAP_H
#define DLM_TESTS_TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed;

/* `ok` with a name; returns the condition. */
__attribute__((format(printf, 2, 3), unused)) static bool tap_ok(bool good, const char *fmt, ...)
{
    va_list ap;
    printf("%sok %d - ", good ? "" : "not ", ++tap_count);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    tap_failed += !good;
    return good;
}

/* |got - want| ≤ tolerance; NaN fails. The figures are printed either way. */
__attribute__((format(printf, 4, 5), unused)) static bool tap_near(double got, double want, double tolerance, const char *fmt, ...)
{
    va_list ap;
    bool good = fabs(got - want) <= tolerance;
    printf("%sok %d - ", good ? "" : "not ", ++tap_count);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(": %.10g, expected %.10g ± %.2g\n", got, want, tolerance);
    fflush(stdout);
    tap_failed += !good;
    return good;
}

/* The larger of a worst deviation so far and another one; what is not a number is worst of all. */
__attribute__((unused)) static double tap_worst(double worst, double off)
{
    return isnan(off) ? INFINITY : fmax(worst, off);
}

/* A table of reference numbers agrees to `tolerance`. Its largest deviation is also told on a line of its own, which tests/run repeats. */
__attribute__((format(printf, 3, 4), unused)) static bool tap_deviation(double worst, double tolerance, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    printf("# %s: largest deviation %.2g, allowed %.2g\n", name, worst, tolerance);
    return tap_ok(worst <= tolerance, "%s", name);
}

__attribute__((format(printf, 2, 3), unused)) static void tap_skip(int n, const char *fmt, ...)
{
    for (int i = 0; i < n; i++) {
        va_list ap;
        printf("ok %d # SKIP ", ++tap_count);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
    }
}

__attribute__((unused)) static uint64_t tap_seed(void)
{
    const char *s = getenv("DLM_TEST_SEED");
    uint64_t seed = s ? strtoull(s, NULL, 0) : 20251210;
    printf("# DLM_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Print the plan; the exit status. */
__attribute__((unused)) static int tap_end(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed ? 1 : 0;
}

#endif
