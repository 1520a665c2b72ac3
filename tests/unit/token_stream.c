/* Token streams: what is written is read back, bytes do not depend on threads or on how writes were cut, and no flipped bit, no missing
 * byte and no foreign stream goes unnoticed. */
#include "base/error.h"
#include "base/rng.h"
#include "tap.h"
#include "token/frame.h"
#include "token/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

static char dir[256];
static char path_buffer[8][512];

static const char *in_dir(const char *name)
{
    static int k;
    char *p = path_buffer[k++ % 8];
    snprintf(p, sizeof path_buffer[0], "%s/%s", dir, name);
    return p;
}

static const char json[] = "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}";

static struct dlm_stream_info info_of(uint32_t vocab_size, const char *text)
{
    struct dlm_stream_info i = {.id_bytes = vocab_size <= 65536 ? 2 : 4,
                                .vocab_size = vocab_size,
                                .specials = {0, 1, 2, 3},
                                .fingerprint = XXH64(text, strlen(text), 0),
                                .json = text,
                                .json_len = strlen(text)};
    return i;
}

static void must(int rc, const struct dlm_error *err)
{
    if (rc) {
        printf("Bail out! %s\n", err->msg);
        exit(1);
    }
}

static void write_stream(const char *path, const char *mode, const struct dlm_stream_info *info, const uint32_t *ids, size_t n, size_t cut,
                         int threads, size_t frame_ids)
{
    struct dlm_error err = {{0}};
    struct dlm_stream_writer *w;
    FILE *f = fopen(path, mode);
    if (!f) {
        printf("Bail out! cannot open %s\n", path);
        exit(1);
    }
    must(dlm_stream_writer_new(&w, f, path, info, 3, threads, frame_ids, &err), &err);
    for (size_t i = 0; i < n; i += cut)
        must(dlm_stream_write(w, ids + i, n - i < cut ? n - i : cut, &err), &err);
    dlm_stream_count_documents(w, n / 7);
    must(dlm_stream_finish(w, &err), &err);
    dlm_stream_writer_free(w);
    fclose(f);
}

static uint8_t *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st))
        exit(1);
    uint8_t *b = malloc((size_t)st.st_size + 1);
    *n = fread(b, 1, (size_t)st.st_size, f);
    fclose(f);
    return b;
}

static void spill(const char *path, const uint8_t *b, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b, 1, n, f) != n)
        exit(1);
    fclose(f);
}

/* Read all of a stream; the number of ids, those equal to `want` in *same. */
static int read_all(const char *path, const uint32_t *want, size_t want_n, size_t *n, bool *same, struct dlm_error *err)
{
    struct dlm_stream_reader *r;
    *n = 0;
    *same = true;
    int rc = dlm_stream_reader_open(&r, path, err);
    if (rc)
        return rc;
    uint32_t ids[1000];
    for (size_t got = 1; !rc && got;) {
        rc = dlm_stream_read(r, ids, 1000, &got, err);
        if (!rc) {
            if (*n + got > want_n || memcmp(ids, want + *n, got * 4))
                *same = false;
            *n += got;
        }
    }
    dlm_stream_reader_close(r);
    return rc;
}

static int index_all(const char *path, const uint32_t *want, bool *same, struct dlm_error *err)
{
    struct dlm_stream_index *x;
    int rc = dlm_stream_index_open(&x, path, err);
    if (rc)
        return rc;
    *same = true;
    uint64_t n = dlm_stream_index_totals(x).tokens;
    for (uint64_t i = 0; i < n && !rc;) {
        uint64_t first;
        size_t ids_n;
        uint64_t f = dlm_stream_index_find(x, i + (n - i) / 3, &first, &ids_n);
        if (first > i)
            f = dlm_stream_index_find(x, i, &first, &ids_n);
        uint32_t *ids = malloc(ids_n * 4);
        rc = dlm_stream_index_read(x, f, ids, err);
        if (!rc && (first != i || memcmp(ids, want + first, ids_n * 4)))
            *same = false;
        free(ids);
        i = first + ids_n;
    }
    dlm_stream_index_close(x);
    return rc;
}

static uint32_t *random_ids(size_t n, uint32_t vocab_size, uint64_t seed)
{
    struct dlm_rng g;
    uint32_t *ids = malloc(n * 4);
    dlm_rng_init(&g, seed, vocab_size, DLM_RNG_TEST);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)dlm_rng_below(&g, vocab_size);
    return ids;
}

static void round_trips(uint64_t seed)
{
    static const uint32_t sizes[] = {4, 300, 65536, 65537, 1 << 20};
    for (int v = 0; v < 5; v++) {
        static const size_t lengths[] = {0, 1, 999, 4096, 10007};
        bool good = true;
        struct dlm_error err = {{0}};
        for (int l = 0; l < 5; l++) {
            size_t n = lengths[l], got;
            uint32_t *ids = random_ids(n, sizes[v], seed + (uint64_t)l);
            struct dlm_stream_info info = info_of(sizes[v], json);
            bool same, same_index;
            write_stream(in_dir("a"), "wb", &info, ids, n, 1 + n / 3, 1, 512);
            good &= !read_all(in_dir("a"), ids, n, &got, &same, &err) && same && got == n;
            good &= !index_all(in_dir("a"), ids, &same_index, &err) && same_index;
            free(ids);
        }
        tap_ok(good, "streams of vocabulary %u are read back, in sequence and by index %s", sizes[v], err.msg);
    }
    struct dlm_stream_info info = info_of(1000, json);
    uint32_t *ids = random_ids(50000, 1000, seed);
    size_t n[3];
    uint8_t *b[3];
    for (int i = 0; i < 3; i++) {
        write_stream(in_dir("a"), "wb", &info, ids, 50000, i == 1 ? 17 : 50000, i == 2 ? 5 : 1, 1000);
        b[i] = slurp(in_dir("a"), &n[i]);
    }
    tap_ok(n[0] == n[1] && n[0] == n[2] && !memcmp(b[0], b[1], n[0]) && !memcmp(b[0], b[2], n[0]),
           "the bytes do not depend on threads or on how writes were cut");
    struct dlm_stream_reader *r;
    struct dlm_error err = {{0}};
    must(dlm_stream_reader_open(&r, in_dir("a"), &err), &err);
    const struct dlm_stream_info *got = dlm_stream_reader_info(r);
    tap_ok(got->id_bytes == 2 && got->vocab_size == 1000 && got->specials.mask == 3 && got->fingerprint == info.fingerprint &&
               got->json_len == strlen(json) && !memcmp(got->json, json, strlen(json)),
           "a stream carries its vocabulary");
    uint32_t buffer[4096];
    for (size_t k = 1; k;)
        must(dlm_stream_read(r, buffer, 4096, &k, &err), &err);
    struct dlm_stream_totals t = dlm_stream_reader_totals(r);
    tap_ok(t.tokens == 50000 && t.documents == 50000 / 7 && t.frames == 50 && t.bytes == DLM_NOT_COUNTED, "and its counts");
    dlm_stream_reader_close(r);
    for (int i = 0; i < 3; i++)
        free(b[i]);
    free(ids);
}

static void format(uint64_t seed)
{
    struct dlm_stream_info info = info_of(70000, json);
    uint32_t *ids = random_ids(3000, 70000, seed);
    size_t n;
    write_stream(in_dir("a"), "wb", &info, ids, 3000, 3000, 1, 1024);
    uint8_t *b = slurp(in_dir("a"), &n), raw[12000];
    size_t at = 0, got = 0;
    while (at < n) { /* what zstd -dc does */
        size_t size = ZSTD_findFrameCompressedSize(b + at, n - at);
        if (ZSTD_isError(size))
            break;
        if (dlm_frame_get32(b + at) == (uint32_t)DLM_FRAME_DATA)
            got += ZSTD_decompress(raw + got, sizeof raw - got, b + at, size);
        at += size;
    }
    bool same = at == n && got == 12000;
    for (size_t i = 0; same && i < 3000; i++)
        same = dlm_frame_get32(raw + 4 * i) == ids[i];
    tap_ok(same, "zstd frames of a stream are its ids, little endian");
    /* The seek table, read as zstd's seekable format says. */
    const uint8_t *foot = b + n - 9;
    uint32_t frames = dlm_frame_get32(foot);
    const uint8_t *table = foot - 8 * frames;
    uint64_t packed = 0, content = 0;
    for (uint32_t i = 0; i < frames; i++) {
        packed += dlm_frame_get32(table + 8 * i);
        content += dlm_frame_get32(table + 8 * i + 4);
    }
    tap_ok(dlm_frame_get32(foot + 5) == 0x8F92EAB1 && foot[4] == 0 && frames == 5 && content == 12000 &&
               packed == (uint64_t)(table - 8 - b) && dlm_frame_get32(table - 8) == 0x184D2A5E &&
               dlm_frame_get32(table - 4) == 8 * frames + 9,
           "the last frame is a seek table of zstd's seekable format");
    free(b);
    free(ids);
}

static bool named(const struct dlm_error *err, const char *path)
{
    return strstr(err->msg, path) && !strchr(err->msg, '\n');
}

static void damage(uint64_t seed)
{
    for (int wide = 0; wide < 2; wide++) {
        uint32_t V = wide ? 70000 : 300;
        struct dlm_stream_info info = info_of(V, json);
        uint32_t *ids = random_ids(60, V, seed);
        write_stream(in_dir("good"), "wb", &info, ids, 60, 60, 1, 25);
        size_t n, got, flips = 0, missed = 0, missed_index = 0, delivered = 0, unnamed = 0;
        uint8_t *b = slurp(in_dir("good"), &n);
        const char *bad = in_dir("bad");
        char name[520];
        snprintf(name, sizeof name, "'%s'", bad);
        for (size_t i = 0; i < n; i++)
            for (int bit = 0; bit < 8; bit++) {
                struct dlm_error err = {{0}};
                bool same;
                b[i] ^= (uint8_t)(1 << bit);
                spill(bad, b, n);
                b[i] ^= (uint8_t)(1 << bit);
                flips++;
                int rc = read_all(bad, ids, 60, &got, &same, &err);
                missed += rc != DLM_EDATA;
                delivered += !same;
                unnamed += !named(&err, name) || !strstr(err.msg, "offset");
                missed_index += index_all(bad, ids, &same, &err) != DLM_EDATA;
                delivered += !same;
            }
        tap_ok(!missed && !missed_index,
               "all %zu single-bit flips are noticed (%zu, by index %zu missed), %d-bit ids", flips, missed,
               missed_index, wide ? 32 : 16);
        tap_ok(!delivered && !unnamed, "no wrong id was delivered; file and offset are named (%zu, %zu)", delivered, unnamed);
        size_t short_missed = 0, not_said = 0;
        for (size_t i = 0; i < n; i++) {
            struct dlm_error err = {{0}};
            bool same;
            spill(bad, b, i);
            int rc = read_all(bad, ids, 60, &got, &same, &err);
            short_missed += rc != DLM_EDATA || !same;
            not_said += !named(&err, name) || !strstr(err.msg, i ? "truncated" : "empty");
            short_missed += index_all(bad, ids, &same, &err) != DLM_EDATA;
        }
        tap_ok(!short_missed && !not_said, "all %zu truncations are noticed and called so (%zu, %zu)", n, short_missed, not_said);
        struct dlm_error err = {{0}};
        bool same;
        b = realloc(b, n + 1);
        b[n] = 0;
        spill(bad, b, n + 1);
        tap_ok(read_all(bad, ids, 60, &got, &same, &err) == DLM_EDATA && strstr(err.msg, "corrupt"),
               "bytes after the end: %s", err.msg);
        free(b);
        free(ids);
    }
}

/* Heads and frames that are sound by their hashes but claim what cannot be. */
static void claims(void)
{
    struct dlm_error err = {{0}};
    struct dlm_stream_info info = info_of(300, json);
    uint8_t *head;
    size_t n, got;
    bool same;
    uint32_t none[1] = {0};
    must(dlm_frame_head_encode(&head, &n, &info, &err), &err);
    static const struct {
        size_t at;
        uint32_t v;
        const char *what;
    } edit[] = {{56, 0xffffffff, "vocabulary of 4 GiB"},
                {56, 250 << 20, "vocabulary longer than it is"},
                {60, 0xfffffff0, "packed vocabulary of 4 GiB"},
                {20, 0, "no vocabulary"},
                {20, 0xffffffff, "4G ids"},
                {20, 70000, "width against size"},
                {24, 300, "a special id outside"},
                {48, 64, "sequences without a split"},
                {4, 0x7fffffff, "a head of 2 GiB"}};
    for (size_t i = 0; i < sizeof edit / sizeof *edit; i++) {
        uint8_t *h = malloc(n);
        memcpy(h, head, n);
        dlm_frame_put32(h + edit[i].at, edit[i].v);
        dlm_frame_put64(h + n - 8, XXH64(h, n - 8, 0));
        spill(in_dir("bad"), h, n);
        tap_ok(read_all(in_dir("bad"), none, 0, &got, &same, &err) == DLM_EDATA && strstr(err.msg, "corrupt"),
               "%s: %s", edit[i].what, err.msg);
        free(h);
    }
    /* A data frame that claims 2^60 bytes, and one with a sound checksum whose id is outside. */
    uint8_t *f = malloc(n + 64);
    memcpy(f, head, n);
    static const uint8_t huge[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe4, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0};
    memcpy(f + n, huge, sizeof huge);
    spill(in_dir("bad"), f, n + sizeof huge);
    tap_ok(read_all(in_dir("bad"), none, 0, &got, &same, &err) == DLM_EDATA && strstr(err.msg, "length"),
           "a frame of 2^60 bytes: %s", err.msg);
    free(f);
    free(head);
    struct dlm_stream_info larger = info_of(400, json);
    uint32_t outside[3] = {5, 350, 6};
    write_stream(in_dir("a"), "wb", &larger, outside, 3, 3, 1, 0);
    uint8_t *b = slurp(in_dir("a"), &n);
    size_t head_n = 72 + dlm_frame_get32(b + 60);
    dlm_frame_put32(b + 20, 300);
    dlm_frame_put64(b + head_n - 8, XXH64(b, head_n - 8, 0));
    spill(in_dir("bad"), b, n);
    tap_ok(read_all(in_dir("bad"), outside, 3, &got, &same, &err) == DLM_EDATA && strstr(err.msg, "id 350"),
           "an id outside: %s", err.msg);
    free(b);
    struct dlm_stream_writer *w;
    FILE *to = fopen("/dev/null", "wb");
    must(dlm_stream_writer_new(&w, to, "x", &info, 3, 1, 0, &err), &err);
    tap_ok(dlm_stream_write(w, outside, 3, &err) == DLM_EDATA && strstr(err.msg, "id 350"),
           "an id outside is not written: %s", err.msg);
    dlm_stream_writer_free(w);
    fclose(to);
}

static void sequences(uint64_t seed)
{
    struct dlm_error err = {{0}};
    struct dlm_stream_info info = info_of(500, json), other = info_of(500, "{\"another\":1}");
    uint32_t *ids = random_ids(3000, 500, seed);
    size_t got;
    bool same;
    write_stream(in_dir("two"), "wb", &info, ids, 1000, 1000, 1, 300);
    write_stream(in_dir("two"), "ab", &info, ids + 1000, 0, 1, 1, 300);
    write_stream(in_dir("two"), "ab", &info, ids + 1000, 2000, 2000, 2, 0);
    int rc = read_all(in_dir("two"), ids, 3000, &got, &same, &err);
    tap_ok(!rc && same && got == 3000, "concatenated streams are read in sequence %s", err.msg);
    tap_ok(index_all(in_dir("two"), ids, &same, &err) == DLM_EDATA && strstr(err.msg, "several streams"),
           "but not by index: %s", err.msg);
    write_stream(in_dir("two"), "ab", &other, ids, 10, 10, 1, 0);
    char both[2][20];
    snprintf(both[0], sizeof both[0], "%016llx", (unsigned long long)info.fingerprint);
    snprintf(both[1], sizeof both[1], "%016llx", (unsigned long long)other.fingerprint);
    rc = read_all(in_dir("two"), ids, 3000, &got, &same, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, both[0]) && strstr(err.msg, both[1]),
           "unless their vocabularies differ: %s", err.msg);

    static const struct {
        const char *name, *text, *want;
    } foreign[] = {{"text", "these are words\n", "not a token stream"}, {"empty", "", "empty"}, {"short", "x", "not a token stream"}};
    for (int i = 0; i < 3; i++) {
        spill(in_dir(foreign[i].name), (const uint8_t *)foreign[i].text, strlen(foreign[i].text));
        rc = read_all(in_dir(foreign[i].name), ids, 0, &got, &same, &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, foreign[i].want), "a file that is %s: %s", foreign[i].name, err.msg);
    }
    uint8_t packed[64];
    spill(in_dir("z"), packed, ZSTD_compress(packed, sizeof packed, "words", 5, 3));
    rc = read_all(in_dir("z"), ids, 0, &got, &same, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, "not a token stream"), "a zstd file of something else: %s", err.msg);
    rc = read_all(dir, ids, 0, &got, &same, &err);
    tap_ok(rc == DLM_EIO && strstr(err.msg, "Is a directory"), "a directory: %s", err.msg);
    rc = read_all(in_dir("nowhere"), ids, 0, &got, &same, &err);
    tap_ok(rc == DLM_EIO && strstr(err.msg, "No such file"), "no file: %s", err.msg);
    rc = index_all("/dev/null", ids, &same, &err);
    tap_ok(rc == DLM_EIO, "no regular file: %s", err.msg);

    /* A pipe that gives a byte at a time, or a few. */
    write_stream(in_dir("a"), "wb", &info, ids, 3000, 3000, 1, 300);
    size_t n;
    uint8_t *b = slurp(in_dir("a"), &n);
    mkfifo(in_dir("fifo"), 0600);
    pid_t child = fork();
    if (!child) {
        int fd = open(in_dir("fifo"), O_WRONLY);
        for (size_t i = 0, step; i < n; i += step) {
            step = 1 + i * 7919 % 50;
            step = n - i < step ? n - i : step;
            if (write(fd, b + i, step) != (ssize_t)step)
                _exit(1);
        }
        _exit(0);
    }
    rc = read_all(in_dir("fifo"), ids, 3000, &got, &same, &err);
    waitpid(child, NULL, 0);
    tap_ok(!rc && same && got == 3000, "a pipe with short reads");
    free(b);
    FILE *full = fopen("/dev/full", "wb");
    if (full) {
        struct dlm_stream_writer *w;
        rc = dlm_stream_writer_new(&w, full, "/dev/full", &info, 3, 1, 0, &err);
        if (!rc) {
            rc = dlm_stream_write(w, ids, 3000, &err);
            rc = rc ? rc : dlm_stream_finish(w, &err);
            dlm_stream_writer_free(w);
        }
        tap_ok(rc == DLM_EIO && strstr(err.msg, "No space"), "a full disk: %s", err.msg);
        fclose(full);
    } else {
        tap_skip(1, "no /dev/full");
    }
    free(ids);
}

int main(void)
{
    uint64_t seed = tap_seed();
    const char *tmp = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        tmp = "/dev/shm"; /* thousands of small files are written and written over */
    snprintf(dir, sizeof dir, "%s/dlm-token-stream-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    round_trips(seed);
    format(seed);
    damage(seed);
    claims();
    sequences(seed);
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command))
        return 1;
    return tap_end();
}
