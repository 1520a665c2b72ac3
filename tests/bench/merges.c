/* Speed of training: TSV of case, threads, size of the vocabulary, seconds of processor time and of the clock, peak memory. Not a
 * test: it asserts nothing.
 *
 *     merges [-r ROUNDS] [-m WORST-BYTES] [-p PYTHON] [TEXT]
 *
 * Without TEXT it is the demo's corpus, demo/gcide.txt. `count` cuts the text into words and counts them, `begin` lays them out
 * and counts their pairs, `merge` makes the vocabulary, `write` its file; of these, each the best of some rounds, `all` is the sum.
 * `dlm-tokenize` is the whole command, reading and starting included. The cases below are hostile texts, words without a break or
 * all distinct. Where PYTHON (python3) has rustbpe or tokenizers, those train on the same text, a document for each paragraph.
 */
#include "text/compose.h"
#include "text/merging.h"
#include "text/split.h"
#include "text/words.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PHASES = 4, PART = 256 << 10 };

static const char *const phases[PHASES] = {"count", "begin", "merge", "write"};
static const char *const specials[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
static int rounds = 3;

struct moment {
    double cpu, wall; /* s */
};

static void die(const char *why)
{
    fprintf(stderr, "merges: %s\n", why);
    exit(1);
}

static struct moment now(void)
{
    struct timespec cpu, wall;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    clock_gettime(CLOCK_MONOTONIC, &wall);
    return (struct moment){(double)cpu.tv_sec + 1e-9 * (double)cpu.tv_nsec, (double)wall.tv_sec + 1e-9 * (double)wall.tv_nsec};
}

/* Keep the smaller times. */
static void keep(struct moment *best, struct moment from, struct moment to)
{
    double cpu = to.cpu - from.cpu, wall = to.wall - from.wall;
    best->cpu = best->cpu > 0 && best->cpu < cpu ? best->cpu : cpu;
    best->wall = best->wall > 0 && best->wall < wall ? best->wall : wall;
}

static void row(const char *name, int threads, size_t vocab, struct moment m, double peak)
{
    printf("%s\t%d\t%zu\t%.3f\t%.3f\t", name, threads, vocab, m.cpu, m.wall);
    printf(peak > 0 ? "%.0f\n" : "NA\n", peak);
    fflush(stdout);
}

struct adding {
    struct dlm_words *words;
    size_t lane;
};

static int add(void *to, const uint8_t *text, size_t room, const size_t *ends, size_t n, struct dlm_error *err)
{
    const struct adding *a = to;
    return dlm_words_add(a->words, a->lane, text, room, ends, n, err);
}

/* The parts of the text, each counted by whichever thread comes by. */
static void count(struct dlm_words *words, const struct dlm_split *split, const uint8_t *text, size_t n, int threads)
{
    size_t *cuts = malloc((n / PART + 2) * sizeof *cuts), n_cuts = 0;
    struct dlm_split_scratch *scratch[64];
    struct dlm_error err = {{0}};
    int rc = 0;
    if (!cuts)
        die("out of memory");
    cuts[n_cuts++] = 0;
    for (size_t from = 0, to; n - from > PART && (to = dlm_split_cut(text, from, from + PART)); from = to)
        cuts[n_cuts++] = to;
    cuts[n_cuts] = n;
    for (int i = 0; i < threads; i++)
        if (dlm_split_scratch_new(&scratch[i], split, &err))
            die(err.msg);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < n_cuts; i++) {
        struct dlm_error here = {{0}};
        struct adding a = {words, (size_t)omp_get_thread_num()};
        if (dlm_split_run_many(split, scratch[a.lane], text + cuts[i], cuts[i + 1] - cuts[i], cuts[i + 1] < n, add, &a, &here))
#pragma omp critical
            rc = 1;
    }
    for (int i = 0; i < threads; i++)
        dlm_split_scratch_free(scratch[i]);
    free(cuts);
    if (rc)
        die("the text cannot be counted");
}

static int first_merge(void *to, size_t n)
{
    struct moment *first = to;
    (void)n;
    if (!(first->wall > 0))
        *first = now();
    return 0;
}

static void phases_of(const char *name, const uint8_t *text, size_t n, int threads, size_t vocab)
{
    struct moment best[PHASES] = {{0, 0}}, sum = {0, 0};
    for (int r = 0; r < rounds; r++) {
        struct dlm_error err = {{0}};
        struct dlm_split *split;
        struct dlm_words *words;
        struct dlm_merges merges = {0};
        struct moment at[PHASES + 1] = {{0, 0}};
        struct dlm_merges_wish wish = {vocab - 4, 1, specials, 4, first_merge, &at[2]};
        const char *regex = dlm_split_pattern("cl100k");
        char *json;
        if (dlm_split_new(&split, &(struct dlm_split_step){regex, false}, 1, false, &err) ||
            dlm_words_new(&words, (size_t)threads, &err))
            die(err.msg);
        at[0] = now();
        count(words, split, text, n, threads);
        at[1] = now();
        if (dlm_merges_find(&merges, words, &wish, &err))
            die(err.msg);
        at[3] = now();
        at[2] = at[2].wall > 0 ? at[2] : at[3];
        struct dlm_vocab_plan plan = {.specials = specials, .n_specials = 4, .regex = regex, .tokens = merges.tokens,
                                      .n_tokens = merges.n_tokens, .merges = (const uint32_t (*)[2])merges.pairs,
                                      .n_merges = merges.n_pairs};
        if (dlm_vocab_compose(&json, &plan, &err))
            die(err.msg);
        at[4] = now();
        for (int i = 0; i < PHASES; i++)
            keep(&best[i], at[i], at[i + 1]);
        free(json);
        dlm_merges_release(&merges);
        dlm_split_free(split);
    }
    for (int i = 0; i < PHASES; i++) {
        if (!name)
            row(phases[i], threads, vocab, best[i], 0);
        sum.cpu += best[i].cpu;
        sum.wall += best[i].wall;
    }
    row(name ? name : "all", threads, vocab, sum, 0);
}

/* The command that stands beside this program's folder, as its user would run it. */
static void command(const char *self, const char *path, int threads, size_t vocab)
{
    char program[4096], j[16], v[32];
    const char *slash = strrchr(self, '/');
    snprintf(program, sizeof program, "%.*s/../dlm-tokenize", slash ? (int)(slash - self) : 1, slash ? self : ".");
    snprintf(j, sizeof j, "%d", threads);
    snprintf(v, sizeof v, "%zu", vocab);
    if (access(program, X_OK)) {
        fprintf(stderr, "merges: no %s: no row of the whole command\n", program);
        return;
    }
    struct moment best = {0, 0};
    double peak = 0;
    for (int r = 0; r < rounds; r++) {
        struct moment from = now(), to;
        pid_t child = fork();
        if (!child) {
            execl(program, program, "--train", "-q", "-V", v, "-j", j, "-o", "/dev/null", path, (char *)NULL);
            _exit(127);
        }
        int status;
        struct rusage used;
        if (child < 0 || wait4(child, &status, 0, &used) != child || status)
            die("dlm-tokenize failed");
        to = now();
        to.cpu = from.cpu + (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
        keep(&best, from, to);
        peak = (double)used.ru_maxrss * 1024e-6;
    }
    row("dlm-tokenize", threads, vocab, best, peak);
}

static void worst(size_t n, int threads, size_t vocab)
{
    uint8_t *text = malloc(n + 2);
    uint64_t x = 1;
    if (!text)
        die("out of memory");
    memset(text, 'a', n);
    phases_of("one letter", text, n, threads, vocab);
    for (size_t i = 0, a = 1, b = 2; i < n; i++) { /* a, ab, aba, abaab, …: each the one before it and that before */
        text[i] = i < 2 ? "ab"[i] : text[i - b];
        if (i >= 2 && i + 1 == a + b) {
            b = a + b;
            a = b - a;
        }
    }
    phases_of("Fibonacci's word", text, n, threads, vocab);
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
    phases_of("random bytes", text, n, threads, vocab);
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)('a' + text[i] % 26);
    phases_of("random letters", text, n, threads, vocab);
    for (size_t i = 9; i < n; i += 10)
        text[i] = ' ';
    phases_of("distinct words", text, n, threads, vocab);
    free(text);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {32768, 131072};
    const char *python = getenv("PYTHON") ? getenv("PYTHON") : "python3";
    size_t worst_bytes = 10 << 20;
    for (int c; (c = getopt(argc, argv, "r:m:p:")) != -1;) {
        if (c == 'r')
            rounds = atoi(optarg);
        else if (c == 'm')
            worst_bytes = (size_t)atol(optarg);
        else if (c == 'p')
            python = optarg;
        else
            return 2;
    }
    const char *path = optind < argc ? argv[optind] : "demo/gcide.txt";
    FILE *f = fopen(path, "rb");
    if (!f)
        die("the text cannot be read: name one, or make demo first");
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    uint8_t *text = malloc(n + 1);
    if (!text || fread(text, 1, n, f) != n)
        die("the text cannot be read");
    fclose(f);
    puts("case\tthreads\tvocab\tcpu_s\twall_s\tpeak_mb");
    for (int threads = 1; threads <= 2; threads++)
        for (int i = 0; i < 2; i++) {
            phases_of(NULL, text, n, threads, sizes[i]);
            command(argv[0], path, threads, sizes[i]);
        }
    free(text);
    worst(worst_bytes, 1, sizes[1]);
    for (int threads = 1; threads <= 2; threads++) {
        char line[4096];
        snprintf(line, sizeof line, "RAYON_NUM_THREADS=%d %s tests/bench/merges.py '%s' %zu", threads, python, path, sizes[1]);
        if (system(line)) {
            fprintf(stderr, "merges: %s has neither rustbpe nor tokenizers: no rows of theirs\n", python);
            break;
        }
    }
    return 0;
}
