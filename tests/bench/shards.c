/* Speed of streams and shards, from text to a random sequence: TSV, best of some rounds. Not a test: it asserts nothing.
 *
 *     shards [-r ROUNDS] [-g GIB] [-n COPIES] [TEXT]
 *
 * Columns: case; bytes that went in (text, ids, or of ids in the set); s, elapsed; cpu_s, processor time of all threads; mb_s, bytes over s;
 * ratio, see below. Each case runs in a process of its own, and those that are compared run in turn in each round.
 *
 *   tokenize -j J    COPIES (4) of the text with a vocabulary of 32,768 ids to a stream on disk, vocabulary loaded. ratio: speed to -j 1.
 *   JSON Lines …     the same text, each paragraph the field of a line; bytes: of the lines.
 *   zstd -3 …        the program on the ids of that stream as a plain file, to a file.
 *   writer -j J      the same file read and written as a token stream. ratio: speed to the zstd above it.
 *   shard …          dlm_pack of that stream, all in memory, and with a memory of a quarter of the ids. ratio: speed to the first.
 *   coding …         what the ids of one copy take at level 3 in frames of 1 MiB of plain ids, written plainly or otherwise, for 32,768 ids
 *                    (plain: 16 bits) and for 131,072 (32 bits): bytes before compression, cpu_s of coding and compressing both, s as cpu_s;
 *                    ratio: compressed size to plain.
 *   open, random …   of a set of GIB (1) of ids: s is the median of many, mb_s NA; cold: each after the set was dropped from the page cache.
 *                    Opening reads the vocabulary and all indexes. ratio: frames read for a sequence.
 *
 * Without TEXT it is the demo's corpus, demo/gcide.txt, where that is there, and made-up words otherwise.
 */
#include "base/output.h"
#include "base/progress.h"
#include "text/split.h"
#include "text/trainer.h"
#include "token/corpus.h"
#include "token/frame.h"
#include "token/manifest.h"
#include "token/pack.h"
#include "token/shards.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>


enum { SEQUENCE = 512, SHARD_IDS = 64 << 20, FRAME_IDS = 64 << 10, BLOCK_IDS = 128 << 10, READS = 400 };

static char dir[] = "/tmp/dlm-bench-shards-XXXXXX";
static const char *text = "demo/gcide.txt";
static int rounds = 5, copies = 4;
static double gib = 1;
static struct dlm_vocab *vocab;
static struct dlm_error err;

static void must(int rc)
{
    if (rc) {
        fprintf(stderr, "shards: %s\n", err.msg);
        _exit(1);
    }
}

static const char *in_dir(const char *name)
{
    static char paths[8][256];
    static int k;
    char *p = paths[k++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static size_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (size_t)st.st_size;
}

/* --- cases ------------------------------------------------------------------------------------------------------------------- */

static int take(void *to, const struct dlm_corpus_ids *b, struct dlm_error *e)
{
    dlm_stream_count_documents(to, b->n_ends);
    dlm_stream_count_bytes(to, b->bytes);
    return dlm_stream_write(to, b->ids, b->n, e);
}

/* threads < 0: so many, of JSON Lines. */
static void tokenize(int threads)
{
    const char *paths[64];
    struct dlm_corpus c = {.paths = paths, .n_paths = (size_t)copies, .options = {.by = DLM_BY_BLANK, .field = threads < 0 ? "text" : NULL}};
    struct dlm_stream_info info = dlm_stream_info_of(vocab);
    struct dlm_stream_writer *w;
    FILE *f = fopen(in_dir(threads < 0 ? "written" : "stream"), "wb");
    for (int i = 0; i < copies; i++)
        paths[i] = threads < 0 ? in_dir("lines") : text;
    must(dlm_pool_new(&c.pool, abs(threads), &err));
    must(dlm_stream_writer_new_in(&w, f, "stream", &info, 3, c.pool, 0, &err));
    must(dlm_corpus_encode(&c, vocab, false, true, take, w, &err));
    must(dlm_stream_finish(w, &err));
    dlm_stream_writer_free(w);
    dlm_pool_free(c.pool);
    fclose(f);
}

static void zstd(int threads)
{
    char command[1024];
    snprintf(command, sizeof command, "exec zstd -q -f -3 %s '%s' -o '%s'", threads == 1 ? "--single-thread" : "-T2", in_dir("ids"), in_dir("zst"));
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static void write_ids(int threads)
{
    struct dlm_stream_info info = dlm_stream_info_of(vocab);
    struct dlm_stream_writer *w;
    FILE *f = fopen(in_dir("written"), "wb");
    int from = open(in_dir("ids"), O_RDONLY);
    uint8_t *raw = malloc(2 * BLOCK_IDS);
    uint32_t *ids = malloc(BLOCK_IDS * sizeof *ids);
    must(dlm_stream_writer_new(&w, f, "written", &info, 3, threads, 0, &err));
    for (ssize_t got; (got = read(from, raw, 2 * BLOCK_IDS)) > 0;) {
        dlm_frame_widen(ids, raw, (size_t)got / 2, 2, info.vocab_size);
        must(dlm_stream_write(w, ids, (size_t)got / 2, &err));
    }
    must(dlm_stream_finish(w, &err));
    dlm_stream_writer_free(w);
    fclose(f);
}

static void shard(int memory_share)
{
    char *files[1] = {(char *)in_dir("stream")};
    struct dlm_pack_report r;
    struct dlm_pack_options o = {.seq_len = SEQUENCE, .val = 0.01, .shard_tokens = SHARD_IDS, .level = 3, .threads = 2, .progress_name = "shards",
                                 .progress = DLM_PROGRESS_NEVER, .memory = memory_share ? size_of(in_dir("ids")) / (size_t)memory_share : (uint64_t)4 << 30};
    must(dlm_pack(in_dir("set"), files, 1, &o, &r, &err));
}

static void remove_set(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(path);
}

/* --- timing ------------------------------------------------------------------------------------------------------------------ */

struct timed {
    const char *name;
    void (*run)(int);
    int arg;
    size_t bytes;
    int against; /* the case that ratio compares with */
    double s, cpu;
};

static void time_once(struct timed *t)
{
    struct rusage u;
    int status;
    remove_set(in_dir("set"));
    double from = dlm_progress_now();
    pid_t pid = fork();
    if (!pid) {
        t->run(t->arg);
        _exit(0);
    }
    if (pid < 0 || wait4(pid, &status, 0, &u) < 0 || status) {
        fprintf(stderr, "shards: %s failed\n", t->name);
        exit(1);
    }
    double s = dlm_progress_now() - from;
    double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    t->s = !t->s || s < t->s ? s : t->s;
    t->cpu = !t->cpu || cpu < t->cpu ? cpu : t->cpu;
}

static void row(const char *name, size_t bytes, double s, double cpu, double ratio)
{
    printf("%s\t%zu\t%.6f\t%.6f\t%.1f\t%.3f\n", name, bytes, s, cpu, (double)bytes / s * 1e-6, ratio);
    fflush(stdout);
}

/* One thing of a set, whatever its size. */
static void row_of_set(const char *name, size_t bytes, double s, double cpu, double frames)
{
    printf("%s\t%zu\t%.6f\t%.6f\tNA\t", name, bytes, s, cpu);
    printf(frames > 0 ? "%.3f\n" : "NA\n", frames);
    fflush(stdout);
}

static void time_all(struct timed *t, int n)
{
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < n; i++)
            time_once(&t[i]);
    for (int i = 0; i < n; i++) {
        const struct timed *a = &t[t[i].against];
        row(t[i].name, t[i].bytes, t[i].s, t[i].cpu, (double)t[i].bytes / t[i].s / ((double)a->bytes / a->s));
    }
}

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- how ids are coded ------------------------------------------------------------------------------------------------------- */

struct list {
    uint32_t *at;
    size_t n, cap;
};

static int collect(void *to, const struct dlm_corpus_ids *b, struct dlm_error *e)
{
    struct list *l = to;
    if (l->n + b->n > l->cap) {
        l->cap = 2 * l->cap + b->n;
        l->at = realloc(l->at, l->cap * sizeof *l->at);
        if (!l->at)
            return dlm_fail(e, DLM_ENOMEM, "out of memory");
    }
    memcpy(l->at + l->n, b->ids, b->n * sizeof *b->ids);
    l->n += b->n;
    return 0;
}

static uint64_t *counts;

static int by_count(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return counts[x] != counts[y] ? (counts[x] < counts[y] ? 1 : -1) : (x > y) - (x < y);
}

/* 2 or 4 bytes an id. */
static size_t code_plain(uint8_t *to, const uint32_t *ids, size_t n, const uint32_t *rank, unsigned id_bytes)
{
    (void)rank;
    dlm_frame_narrow(to, ids, n, id_bytes);
    return n * id_bytes;
}

/* 2 bytes, high one first, below 0xf000; 3 above. */
static size_t code_escaped(uint8_t *to, const uint32_t *ids, size_t n, const uint32_t *rank, unsigned id_bytes)
{
    uint8_t *p = to;
    (void)rank;
    (void)id_bytes;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = ids[i];
        if (v >= 0xf000) {
            v -= 0xf000;
            *p++ = (uint8_t)(0xf0 | v >> 16);
        }
        *p++ = (uint8_t)(v >> 8);
        *p++ = (uint8_t)v;
    }
    return (size_t)(p - to);
}

/* Ranks by frequency, seven bits a byte. */
static size_t code_ranked7(uint8_t *to, const uint32_t *ids, size_t n, const uint32_t *rank, unsigned id_bytes)
{
    uint8_t *p = to;
    (void)id_bytes;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = rank[ids[i]];
        for (; v > 127; v >>= 7)
            *p++ = (uint8_t)(v | 128);
        *p++ = (uint8_t)v;
    }
    return (size_t)(p - to);
}

/* Ranks by frequency: the first byte tells how many follow and has the high bits, so that it repeats where words do. */
static size_t code_ranked(uint8_t *to, const uint32_t *ids, size_t n, const uint32_t *rank, unsigned id_bytes)
{
    uint8_t *p = to;
    (void)id_bytes;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = rank[ids[i]];
        if (v < 128) {
            *p++ = (uint8_t)v;
            continue;
        }
        v -= 128;
        if (v < 126 << 8) {
            *p++ = (uint8_t)(128 + (v >> 8));
        } else {
            v -= 126 << 8;
            *p++ = (uint8_t)(254 + (v >> 16));
            *p++ = (uint8_t)(v >> 8);
        }
        *p++ = (uint8_t)v;
    }
    return (size_t)(p - to);
}

static void codings(const struct dlm_vocab *v)
{
    static const struct {
        const char *name;
        size_t (*code)(uint8_t *, const uint32_t *, size_t, const uint32_t *, unsigned);
    } all[] = {{"plain", code_plain}, {"16 bits and an escape", code_escaped}, {"ranked, 7 bits a byte", code_ranked7}, {"ranked, prefix", code_ranked}};
    struct dlm_corpus c = {.paths = &text, .n_paths = 1, .options = {.by = DLM_BY_BLANK}};
    struct list l = {0};
    uint32_t size = dlm_vocab_size(v), *order = malloc(size * sizeof *order), *rank = malloc(size * sizeof *rank);
    unsigned id_bytes = size <= 65536 ? 2 : 4;
    size_t frame = (1 << 20) / id_bytes, room = ZSTD_compressBound(4 << 20), plain = 0;
    uint8_t *raw = malloc(4 << 20), *packed = malloc(room);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    counts = calloc(size, sizeof *counts);
    must(dlm_pool_new(&c.pool, 1, &err));
    must(dlm_corpus_encode(&c, v, false, true, collect, &l, &err));
    for (size_t i = 0; i < l.n; i++)
        counts[l.at[i]]++;
    for (uint32_t i = 0; i < size; i++)
        order[i] = i;
    qsort(order, size, sizeof *order, by_count);
    for (uint32_t i = 0; i < size; i++)
        rank[order[i]] = i;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        size_t before = 0, after = 0;
        double cpu = cpu_now();
        for (size_t at = 0; at < l.n; at += frame) {
            size_t n = all[k].code(raw, l.at + at, l.n - at < frame ? l.n - at : frame, rank, id_bytes);
            before += n;
            after += ZSTD_compressCCtx(zstd, packed, room, raw, n, 3);
        }
        cpu = cpu_now() - cpu;
        plain = plain ? plain : after;
        char name[80];
        snprintf(name, sizeof name, "coding of %u ids: %s", size, all[k].name);
        row(name, before, cpu, cpu, (double)after / (double)plain);
    }
    ZSTD_freeCCtx(zstd);
    dlm_pool_free(c.pool);
    free(l.at);
    free(order);
    free(rank);
    free(counts);
    free(raw);
    free(packed);
}

/* --- random access ----------------------------------------------------------------------------------------------------------- */

static uint64_t random_at;

static uint64_t below(uint64_t n)
{
    random_at = random_at * 6364136223846793005u + 1442695040888963407u;
    return (random_at >> 20) % n;
}

/* A set of about `bytes` of ids, the payload's again and again, its shards written as dlm_pack writes them. */
static void make_set(uint64_t bytes)
{
    struct dlm_stream_info info = dlm_stream_info_of(vocab);
    struct dlm_manifest m = {0};
    size_t json_len, len, n = size_of(in_dir("ids")) / 2;
    const char *json = dlm_vocab_json(vocab, &json_len);
    char *table;
    uint8_t *raw = malloc(2 * n);
    uint32_t *ids = malloc(FRAME_IDS * sizeof *ids);
    FILE *f = fopen(in_dir("ids"), "rb");
    if (!raw || !ids || !f || fread(raw, 2, n, f) != n)
        must(dlm_fail(&err, DLM_EIO, "the ids cannot be read"));
    fclose(f);
    mkdir(in_dir("large"), 0777);
    must(dlm_output_write_file(in_dir("large/tokenizer.json"), json, json_len, &err));
    info.json = NULL;
    info.json_len = 0;
    info.seq_len = SEQUENCE;
    info.split = 1;
    uint64_t left = bytes / 2 / FRAME_IDS * FRAME_IDS, at = 0;
    for (info.part = 0; left; info.part++) {
        struct dlm_manifest_row r = {.number = info.part};
        char name[DLM_MANIFEST_NAME_MAX + 8] = "large/";
        dlm_manifest_file(name + 6, 0, info.part);
        struct dlm_stream_writer *w;
        f = fopen(in_dir(name), "wb");
        must(dlm_stream_writer_new(&w, f, name, &info, 3, 2, FRAME_IDS, &err));
        for (r.tokens = 0; r.tokens < SHARD_IDS && left; r.tokens += FRAME_IDS, left -= FRAME_IDS) {
            at = at + FRAME_IDS > n ? 0 : at;
            dlm_frame_widen(ids, raw + 2 * at, FRAME_IDS, 2, info.vocab_size);
            at += FRAME_IDS;
            r.bytes += dlm_vocab_count_bytes(vocab, ids, FRAME_IDS);
            must(dlm_stream_write(w, ids, FRAME_IDS, &err));
        }
        dlm_stream_count_bytes(w, r.bytes);
        must(dlm_stream_finish(w, &err));
        r.sequences = r.tokens / SEQUENCE;
        r.checksum = dlm_stream_writer_hash(w);
        fsync(fileno(f));
        fclose(f);
        dlm_stream_writer_free(w);
        must(dlm_manifest_add(&m, &r, &err));
    }
    must(dlm_manifest_print(&m, &table, &len, &err));
    must(dlm_output_write_file(in_dir("large/manifest.tsv"), table, len, &err));
    free(raw);
    free(ids);
    free(table);
    dlm_manifest_release(&m);
}

static void drop_set(void)
{
    DIR *d = opendir(in_dir("large"));
    for (struct dirent *e; d && (e = readdir(d));) {
        int fd = openat(dirfd(d), e->d_name, O_RDONLY);
        if (fd >= 0) {
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            close(fd);
        }
    }
    closedir(d);
}

static int by_size(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void random_access(void)
{
    uint64_t bytes = (uint64_t)(gib * 0x1p30);
    static double took[READS];
    struct dlm_shards *s = NULL;
    uint32_t ids[SEQUENCE];
    make_set(bytes);
    for (int way = 0; way < 4; way++) { /* opening cold and warm, then sequences */
        bool cold = way % 2 == 0;
        int n = way < 2 ? 8 : READS;
        double cpu = 0;
        uint64_t frames = 0;
        if (way == 2)
            must(dlm_shards_open(&s, in_dir("large"), &err));
        if (s)
            frames = dlm_shards_frames(s);
        for (int i = 0; i < n; i++) {
            if (cold)
                drop_set();
            uint64_t k = s ? below(dlm_shards_sequences(s, DLM_SPLIT_TRAIN)) : 0;
            double from = dlm_progress_now(), cpu_from = cpu_now();
            if (way < 2) {
                must(dlm_shards_open(&s, in_dir("large"), &err));
            } else {
                must(dlm_shards_read(s, DLM_SPLIT_TRAIN, k, ids, &err));
            }
            took[i] = dlm_progress_now() - from;
            cpu += cpu_now() - cpu_from;
            if (way < 2) {
                dlm_shards_close(s);
                s = NULL;
            }
        }
        qsort(took, (size_t)n, sizeof *took, by_size);
        static const char *const names[] = {"open, cold", "open, warm", "random sequence, cold", "random sequence, warm"};
        row_of_set(names[way], bytes, took[n / 2], cpu / n, s ? (double)(dlm_shards_frames(s) - frames) / n : 0);
        if (way >= 2) {
            char name[64];
            snprintf(name, sizeof name, "%s, slowest of %d", names[way], n);
            row_of_set(name, bytes, took[n - 1], cpu / n, 0);
        }
    }
    dlm_shards_close(s);
    remove_set(in_dir("large"));
}

/* --- input ------------------------------------------------------------------------------------------------------------------- */

/* Words of random letters, some far more frequent than others. */
static const char *make_up(void)
{
    const char *path = in_dir("text");
    FILE *f = fopen(path, "wb");
    uint64_t x = 1;
    for (size_t n = 0; f && n < (size_t)20 << 20;) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t word = (1u << (x >> 60)) + (x >> 40 & ((1u << (x >> 60)) - 1)), w = word * 0x9e3779b97f4a7c15u;
        char spelled[16];
        size_t len = 2 + (word >> 2) % 8;
        for (size_t i = 0; i < len; i++, w /= 26)
            spelled[i] = (char)('a' + w % 26);
        memcpy(spelled + len, x >> 33 & 15 ? " " : "\n\n", 2);
        len += x >> 33 & 15 ? 1 : 2;
        n += fwrite(spelled, 1, len, f);
    }
    if (!f || fclose(f))
        must(dlm_fail_errno(&err, DLM_EIO, "the text cannot be made"));
    return strdup(path);
}

static struct dlm_vocab *make_vocab(size_t size)
{
    static const char *const names[] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"};
    struct dlm_trainer *t;
    struct dlm_trained made = {0};
    struct dlm_vocab *v;
    struct dlm_corpus c = {.paths = &text, .n_paths = 1};
    must(dlm_pool_new(&c.pool, 1, &err));
    must(dlm_trainer_new(&t, dlm_split_pattern("cl100k"), 1, &err));
    must(dlm_corpus_count(&c, t, &err));
    must(dlm_trainer_finish(t, names, 4, size, 1, NULL, NULL, &made, &err));
    must(dlm_vocab_parse(&v, made.json, strlen(made.json), "trained", &err));
    dlm_trainer_free(t);
    dlm_pool_free(c.pool);
    free(made.json);
    return v;
}

/* The text as JSON Lines, a paragraph a line. */
static void make_lines(void)
{
    struct dlm_documents *d;
    struct dlm_document_options o = {.by = DLM_BY_BLANK};
    struct dlm_document_part part;
    FILE *f = fopen(in_dir("lines"), "wb");
    must(dlm_documents_open(&d, &text, 1, &o, &err));
    for (int got, n = 1; (got = dlm_documents_next(d, &part, &err)); n++) {
        must(got < 0 ? got : 0);
        fprintf(f, "{\"id\": %d, \"text\": \"", n);
        for (size_t i = 0; i < part.len; i++) {
            int c = part.text[i];
            if (c == '"' || c == '\\' || c == '\n')
                fputs(c == '\n' ? "\\n" : c == '"' ? "\\\"" : "\\\\", f);
            else if (c >= ' ' && c < 0x7f) /* what is not ASCII is left out: it might not be UTF-8 */
                putc(c, f);
        }
        fputs("\"}\n", f);
    }
    if (fclose(f))
        must(dlm_fail_errno(&err, DLM_EIO, "the lines cannot be written"));
    dlm_documents_close(d);
}

/* The ids of the stream as a plain file. */
static void make_payload(void)
{
    struct dlm_stream_reader *r;
    FILE *f = fopen(in_dir("ids"), "wb");
    uint32_t *ids = malloc(BLOCK_IDS * sizeof *ids);
    uint8_t *raw = malloc(2 * BLOCK_IDS);
    must(dlm_stream_reader_open(&r, in_dir("stream"), &err));
    for (size_t got = 1; got;) {
        must(dlm_stream_read(r, ids, BLOCK_IDS, &got, &err));
        dlm_frame_narrow(raw, ids, got, 2);
        fwrite(raw, 2, got, f);
    }
    if (fclose(f))
        must(dlm_fail_errno(&err, DLM_EIO, "the ids cannot be written"));
    dlm_stream_reader_close(r);
    free(ids);
    free(raw);
}

int main(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "r:g:n:")) != -1;) {
        if (c == 'r')
            rounds = atoi(optarg);
        else if (c == 'g')
            gib = atof(optarg);
        else if (c == 'n')
            copies = atoi(optarg) < 64 ? atoi(optarg) : 64;
        else
            return 2;
    }
    if (!mkdtemp(dir))
        return 1;
    if (optind < argc)
        text = argv[optind];
    else if (access(text, R_OK))
        text = make_up();
    vocab = make_vocab(32768);
    puts("case\tbytes\ts\tcpu_s\tmb_s\tratio");
    size_t bytes = (size_t)copies * size_of(text);
    struct timed first[] = {{.name = "tokenize -j 1", .run = tokenize, .arg = 1, .bytes = bytes},
                            {.name = "tokenize -j 2", .run = tokenize, .arg = 2, .bytes = bytes}};
    time_all(first, 2);
    make_lines();
    bytes = (size_t)copies * size_of(in_dir("lines"));
    struct timed lines[] = {{.name = "JSON Lines -j 1", .run = tokenize, .arg = -1, .bytes = bytes},
                            {.name = "JSON Lines -j 2", .run = tokenize, .arg = -2, .bytes = bytes}};
    time_all(lines, 2);
    make_payload();
    bytes = size_of(in_dir("ids"));
    struct timed then[] = {{.name = "zstd -3 --single-thread", .run = zstd, .arg = 1, .bytes = bytes},
                           {.name = "writer -j 1", .run = write_ids, .arg = 1, .bytes = bytes},
                           {.name = "zstd -3 -T2", .run = zstd, .arg = 2, .bytes = bytes, .against = 2},
                           {.name = "writer -j 2", .run = write_ids, .arg = 2, .bytes = bytes, .against = 2}};
    time_all(then, 4);
    struct timed last[] = {{.name = "shard -j 2", .run = shard, .arg = 0, .bytes = bytes},
                           {.name = "shard -j 2, a quarter in memory", .run = shard, .arg = 4, .bytes = bytes}};
    time_all(last, 2);
    struct dlm_vocab *large = make_vocab(131072);
    codings(vocab);
    codings(large);
    dlm_vocab_free(large);
    if (gib > 0)
        random_access();
    dlm_vocab_free(vocab);
    remove_set(in_dir("set"));
    remove_set(dir);
    return 0;
}
