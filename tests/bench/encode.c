/* Speed of encoding and decoding: TSV of case, bytes, MB/s of one thread, ratio to the first case. Not a test: it asserts nothing.
 *
 *     encode [-r ROUNDS] [-m WORST-BYTES] [-p PYTHON] [-V vocab.json] [TEXT]
 *
 * Without TEXT it is the demo's corpus, demo/gcide.txt, where that is there, and made-up words otherwise; without -V a vocabulary of
 * 32,768 ids is trained on the text. The cases below the text's own are hostile ones. Where PYTHON (python3) has tokenizers or
 * tiktoken, two megabytes of the same text are timed with those, too. A naive encoder (naive.h) is compared, ids and all, on a part of the text and on
 * hostile bytes.
 */
#include "naive.h"
#include "text/decode.h"
#include "text/encode.h"
#include "text/split.h"
#include "text/trainer.h"
#include "text/vocab.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int rounds = 5;
static double normal;

/* Processor time, which other users of the machine disturb least; the best of some rounds. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *why)
{
    fprintf(stderr, "encode: %s\n", why);
    exit(1);
}

static void row(const char *name, size_t bytes, double seconds)
{
    double rate = (double)bytes / seconds * 1e-6;
    normal = normal > 0 ? normal : rate;
    printf("%s\t%zu\t%.1f\t%.3f\n", name, bytes, rate, rate / normal);
    fflush(stdout);
}

/* anew: with an encoder that has seen nothing, made within the time. */
static void encode(const char *name, const struct dlm_vocab *v, const uint8_t *text, size_t n, bool anew, struct dlm_ids *ids)
{
    struct dlm_error err = {{0}};
    struct dlm_encoder *e = NULL;
    double best = 1e30;
    for (int i = 0; i < rounds; i++) {
        ids->n = 0;
        if (anew)
            dlm_encoder_free(e);
        double from = now();
        if (((anew || !i) && dlm_encoder_new(&e, v, false, &err)) || dlm_encoder_run(e, text, n, ids, &err))
            die(err.msg);
        double took = now() - from;
        best = took < best ? took : best;
    }
    dlm_encoder_free(e);
    row(name, n, best);
}

static void worst(const struct dlm_vocab *v, size_t n, struct dlm_ids *ids)
{
    static const struct {
        const char *name, *unit;
    } units[] = {{"one letter", "a"}, {"two letters", "ab"}, {"spaces", " "}, {"newlines", "\n"}, {"combining marks", "\xcc\x81"}, {"digits", "7"},
                 {"punctuation", "="}, {"upper case", "A"}, {"not UTF-8", "\xff"}, {"ideographs", "\xe4\xb8\x80"}};
    uint8_t *text = malloc(n);
    uint64_t x = 1;
    if (!text)
        die("out of memory");
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u].unit);
        for (size_t i = 0; i + len <= n; i += len)
            memcpy(text + i, units[u].unit, len);
        encode(units[u].name, v, text, n / len * len, false, ids);
    }
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
    encode("random bytes", v, text, n, false, ids);
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)('a' + text[i] % 26);
    encode("random letters, one line", v, text, n, false, ids);
    /* words none of which is ever seen again: nothing is gained by remembering them */
    for (size_t i = 0, left = 0; i < n; i++)
        if (left-- == 0) {
            text[i] = ' ';
            left = 4 + ((x = x * 6364136223846793005u + 1442695040888963407u) >> 56 & 7);
        }
    encode("random words", v, text, n, true, ids);
    free(text);
}

/* A naive encoder on the first megabyte of the text and on what is made to be hostile: the same ids, or this ends with a word. */
static void naive(const struct dlm_vocab *v, const uint8_t *text, size_t n)
{
    enum { MOST = 1 << 20, HOSTILE = 8 << 10, KINDS = 6 };
    static const char *const alphabets[KINDS] = {"ab", "ab \n", "the a'S", "\xcc\x81" "e ", "0 1-", ""}; /* the last: any byte */
    struct dlm_error err = {{0}};
    struct naive slow;
    struct dlm_ids want = {0}, got = {0};
    struct dlm_encoder *e = NULL;
    uint8_t hostile[HOSTILE];
    uint64_t x = 7;
    if (naive_open(&slow, v, dlm_split_pattern("cl100k"), &err) || dlm_encoder_new(&e, v, false, &err))
        die(err.msg);
    for (int kind = -1; kind < KINDS; kind++) {
        const size_t len = kind < 0 ? (n < MOST ? n : MOST) : HOSTILE, letters = kind < 0 ? 0 : strlen(alphabets[kind]);
        for (size_t i = 0; kind >= 0 && i < HOSTILE; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            hostile[i] = letters ? (uint8_t)alphabets[kind][(x >> 40) % letters] : (uint8_t)(x >> 56);
        }
        const uint8_t *at = kind < 0 ? text : hostile;
        double from = now();
        if (naive_run(&slow, at, len, &want, &err))
            die(err.msg);
        double took = now() - from;
        got.n = 0;
        if (dlm_encoder_run(e, at, len, &got, &err))
            die(err.msg);
        if (got.n != want.n || memcmp(got.at, want.at, got.n * sizeof *got.at))
            die("the naive encoder has other ids");
        if (kind < 0)
            row("the naive encoder", len, took);
    }
    dlm_encoder_free(e);
    naive_close(&slow);
    free(want.at);
    free(got.at);
}

/* Words of random letters, some far more frequent than others. */
static void make_up(const char *path)
{
    FILE *f = fopen(path, "wb");
    uint64_t x = 1;
    for (size_t n = 0; f && n < (size_t)20 << 20;) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t word = (1u << (x >> 60)) + (x >> 40 & ((1u << (x >> 60)) - 1)), w = word * 0x9e3779b97f4a7c15u;
        char text[16];
        size_t len = 2 + (word >> 2) % 8;
        for (size_t i = 0; i < len; i++, w /= 26)
            text[i] = (char)('a' + w % 26);
        text[len] = x >> 33 & 15 ? ' ' : '\n';
        n += fwrite(text, 1, len + 1, f);
    }
    if (!f || fclose(f))
        die("the text cannot be made");
}

int main(int argc, char **argv)
{
    const char *vocab = NULL, *python = getenv("PYTHON") ? getenv("PYTHON") : "python3", *path = "demo/gcide.txt";
    static char made_text[] = "/tmp/dlm-encode-text-XXXXXX";
    bool made_up = false;
    size_t worst_bytes = 10 << 20, n;
    for (int c; (c = getopt(argc, argv, "r:m:p:V:")) != -1;) {
        if (c == 'r')
            rounds = atoi(optarg);
        else if (c == 'm')
            worst_bytes = (size_t)atol(optarg);
        else if (c == 'p')
            python = optarg;
        else if (c == 'V')
            vocab = optarg;
        else
            return 2;
    }
    path = optind < argc ? argv[optind] : path;
    if (optind == argc && access(path, R_OK)) {
        int made = mkstemp(made_text);
        if (made < 0)
            die("the text cannot be made");
        close(made);
        make_up(path = made_text);
        made_up = true;
    }
    FILE *f = fopen(path, "rb");
    if (!f)
        die("the text cannot be read");
    fseek(f, 0, SEEK_END);
    n = (size_t)ftell(f);
    rewind(f);
    uint8_t *text = malloc(n + 1), *back = malloc(n + 64);
    struct dlm_error err = {{0}};
    struct dlm_vocab *v = NULL;
    struct dlm_ids ids = {0};
    if (!text || !back || fread(text, 1, n, f) != n)
        die("the text cannot be read");
    fclose(f);
    char made_name[] = "/tmp/dlm-encode-XXXXXX";
    int fd = -1;
    if (vocab) {
        if (dlm_vocab_load(&v, vocab, &err))
            die(err.msg);
    } else {
        static const char *const names[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
        struct dlm_trainer *t = NULL;
        struct dlm_trained made = {0};
        if (dlm_trainer_new(&t, dlm_split_pattern("cl100k"), 1, &err) || dlm_trainer_count(t, 0, text, n, 0, &err) ||
            dlm_trainer_finish(t, names, 4, 32768, 1, NULL, NULL, &made, &err) || dlm_vocab_parse(&v, made.json, strlen(made.json), "trained", &err))
            die(err.msg);
        fd = mkstemp(made_name);
        vocab = made_name;
        if (fd < 0 || write(fd, made.json, strlen(made.json)) != (ssize_t)strlen(made.json))
            die("the vocabulary cannot be written");
        dlm_trainer_free(t);
        free(made.json);
    }
    puts("case\tbytes\tmb_s\tratio");
    encode("text", v, text, n, false, &ids);
    encode("text, nothing remembered", v, text, n, true, &ids);
    double best = 1e30;
    size_t len = 0;
    for (int i = 0; i < rounds; i++) {
        double from = now();
        if (dlm_vocab_decode(v, ids.at, ids.n, back, n, &len) != ids.n)
            die("an unknown id");
        double took = now() - from;
        best = took < best ? took : best;
    }
    if (len != n || memcmp(text, back, n))
        die("the text does not come back");
    row("decode", n, best);
    if (fd >= 0) /* it knows the trained vocabulary's pattern */
        naive(v, text, n);
    worst(v, worst_bytes, &ids);
    char command[4096];
    snprintf(command, sizeof command, "%s tests/bench/encode.py '%s' '%s'", python, vocab, path);
    if (system(command))
        fprintf(stderr, "encode: %s has neither tokenizers nor tiktoken: no rows of theirs\n", python);
    if (fd >= 0)
        unlink(made_name);
    if (made_up)
        unlink(made_text);
    dlm_vocab_free(v);
    free(ids.at);
    free(text);
    free(back);
    return 0;
}
