/* One entry point a target, and hostile bytes for it.
 *
 * A target defines one() and seeds(). Compiled as it is, it gets a main() of its own: a small deterministic mutator of the seeds, for a
 * number of seconds (its first argument) or for the inputs that are named behind it. With -DDLM_LIBFUZZER (and clang's
 * -fsanitize=fuzzer) libFuzzer takes that place. What an input may cost is bounded too: ten seconds and 2 GiB. The input of the
 * moment stands in NAME.last of the current directory, so it is there whatever ends the process; one that ended it goes to
 * tests/fuzz/found/NAME-*, and is run again by every later check.
 */
#ifndef DLM_TESTS_FUZZ_H
#define DLM_TESTS_FUZZ_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Try these bytes: any result but a crash is a good one. */
static void one(const uint8_t *bytes, size_t n);
/* Seed number i, malloc'ed; NULL where there are no more. */
static uint8_t *seeds(int i, size_t *n);

/* An error is a line that says something. */
__attribute__((unused)) static void must_say(int rc, const struct dlm_error *err)
{
    if (rc && (!err->msg[0] || strchr(err->msg, '\n')))
        abort();
}

/* A seed that is text. */
__attribute__((unused)) static uint8_t *text_seed(const char *s, size_t *n)
{
    *n = strlen(s);
    uint8_t *p = malloc(*n + 1);
    return p ? memcpy(p, s, *n + 1) : NULL;
}

/* A path under which the bytes can be opened, for entry points that take files. */
__attribute__((unused)) static const char *as_file(const uint8_t *bytes, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, bytes, n, 0) != (ssize_t)n)
        exit(2);
    return path;
}

/* The whole of a file, malloc'ed; NULL where it cannot be read. */
__attribute__((unused)) static uint8_t *file_seed(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *b = NULL;
    long len = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    if (len >= 0 && (b = malloc((size_t)len + 1))) {
        rewind(f);
        *n = fread(b, 1, (size_t)len, f);
    }
    if (f)
        fclose(f);
    return b;
}

#ifdef DLM_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    one(bytes, n);
    return 0;
}
/* The seeds stand in a file each: libFuzzer is given their directory. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *dir = getenv("DLM_FUZZ_SEEDS");
    (void)argc;
    (void)argv;
    size_t n;
    uint8_t *b;
    for (int i = 0; dir && (b = seeds(i, &n)); i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/seed-%d", dir, i);
        FILE *f = fopen(path, "wb");
        if (f) {
            fwrite(b, 1, n, f);
            fclose(f);
        }
        free(b);
    }
    return 0;
}
#else
enum { LARGEST = 1 << 16, SEEDS = 64 };

static uint64_t fuzz_state = 20251210;
static uint32_t draw(uint32_t below)
{
    fuzz_state += 0x9e3779b97f4a7c15;
    uint64_t z = fuzz_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

static size_t mutate(uint8_t *b, size_t n, uint8_t *const *seed, const size_t *len, int count)
{
    static const char *const words[] = {"{", "}", "[", "]", "\"", ":", ",", "null", "-1", "1e999", "99999999999999999999", "\\u0000", "\\ud800", "\t", "\n",
                                        "0", "4294967295", "4294967296", "18446744073709551615", "true", " ", "\xff", "{\"a\":", "[[[[[[[[[["};
    for (uint32_t k = 1 + draw(4); k; k--) {
        size_t at = n ? draw((uint32_t)n) : 0, span = 1 + draw(n - at > 1 ? (uint32_t)(n - at < 64 ? n - at : 64) : 1);
        switch (n ? draw(9) : 7) {
        case 0: b[at] ^= (uint8_t)(1 << draw(8)); break;
        case 1: b[at] = (uint8_t)draw(256); break;
        case 2: memset(b + at, draw(2) ? 0xff : 0, span <= n - at ? span : n - at); break;
        case 3: /* take away */
            if (span <= n - at) {
                memmove(b + at, b + at + span, n - at - span);
                n -= span;
            }
            break;
        case 4: /* double */
            if (span <= n - at && n + span <= LARGEST) {
                memmove(b + at + span, b + at, n - at);
                n += span;
            }
            break;
        case 5: n = at; break;
        case 6: { /* a piece of another seed */
            int s = (int)draw((uint32_t)count);
            size_t from = len[s] ? draw((uint32_t)len[s]) : 0, take = len[s] - from < n - at ? len[s] - from : n - at;
            memcpy(b + at, seed[s] + from, take);
            break;
        }
        default: { /* a word */
            const char *w = words[draw(sizeof words / sizeof *words)];
            size_t l = strlen(w);
            if (n + l <= LARGEST) {
                memmove(b + at + l, b + at, n - at);
                memcpy(b + at, w, l);
                n += l;
            }
        }
        }
    }
    return n;
}

/* Within its bounds of time and memory. */
static void bounded(const uint8_t *b, size_t n)
{
    struct rusage u;
    alarm(10);
    one(b, n);
    alarm(0);
    getrusage(RUSAGE_SELF, &u);
    if (u.ru_maxrss > 2 << 20) {
        fprintf(stderr, "an input of %zu bytes took %ld KiB\n", n, u.ru_maxrss);
        abort();
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    for (int i = 2; i < argc; i++) {
        size_t n;
        uint8_t *b = file_seed(argv[i], &n);
        if (!b)
            return fprintf(stderr, "cannot read '%s'\n", argv[i]), 2;
        bounded(b, n);
        free(b);
    }
    const char *name = strrchr(argv[0], '/');
    char last[256];
    snprintf(last, sizeof last, "%s.last", name ? name + 1 : argv[0]);
    FILE *f = fopen(last, "wb+");
    if (!f || ftruncate(fileno(f), LARGEST + 8))
        return fprintf(stderr, "cannot write '%s'\n", last), 2;
    uint8_t *b = mmap(NULL, LARGEST + 8, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0), *seed[SEEDS];
    size_t len[SEEDS];
    int count = 0;
    if (b == MAP_FAILED)
        return 2;
    while (count < SEEDS && (seed[count] = seeds(count, &len[count]))) {
        bounded(seed[count], len[count]);
        count++;
    }
    unsigned long tries = 0;
    struct timespec t0, t;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    fuzz_state ^= getenv("DLM_FUZZ_SEED") ? strtoull(getenv("DLM_FUZZ_SEED"), NULL, 0) : 0;
    for (bool more = seconds > 0; more; tries++) {
        int s = (int)draw((uint32_t)count);
        size_t n = len[s] < LARGEST ? len[s] : LARGEST;
        memcpy(b, seed[s], n);
        n = mutate(b, n, seed, len, count);
        memcpy(b + LARGEST, &(uint64_t){n}, 8);
        /* A buffer of its own length, so that a sanitizer sees a step beyond it. */
        uint8_t *exact = malloc(n ? n : 1);
        if (!exact)
            return 2;
        memcpy(exact, b, n);
        bounded(exact, n);
        free(exact);
        clock_gettime(CLOCK_MONOTONIC, &t);
        more = (double)(t.tv_sec - t0.tv_sec) + 1e-9 * (double)(t.tv_nsec - t0.tv_nsec) < seconds;
    }
    for (int i = 0; i < count; i++)
        free(seed[i]);
    munmap(b, LARGEST + 8);
    fclose(f);
    unlink(last);
    printf("%lu inputs from %d seeds\n", tries, count);
    return count ? 0 : 2;
}
#endif
#endif
