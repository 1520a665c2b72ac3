/* Shard sets: their sequences are those of a plain model of shuffling, splitting and packing, their bytes depend on input, options and
 * seed alone, the shuffle is even, and what does not fit together is noticed. */
#include "base/error.h"
#include "base/output.h"
#include "base/rng.h"
#include "tap.h"
#include "text/compose.h"
#include "text/vocab.h"
#include "token/manifest.h"
#include "token/pack.h"
#include "token/shards.h"
#include "token/stream.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { BEGIN, END, PAD, MASK, FIRST_BYTE, AB = FIRST_BYTE + 256, TOKENS };

static char dir[256];
static bool quick_sync; /* the directory is in memory: hundreds of sets can be made */
static struct dlm_vocab *vocab;

static const char *in_dir(const char *name)
{
    static char buffer[8][1024];
    static int k;
    char *p = buffer[k++ % 8];
    snprintf(p, sizeof buffer[0], "%s/%s", dir, name);
    return p;
}

static void must(int rc, const struct dlm_error *err)
{
    if (rc) {
        printf("Bail out! %s\n", err->msg);
        exit(1);
    }
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

static struct dlm_vocab *make_vocab(const char *mask)
{
    static uint8_t bytes[256];
    static struct dlm_token_bytes tokens[257];
    static const uint32_t merges[1][2] = {{'a', 'b'}};
    const char *specials[4] = {"<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", mask};
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
        tokens[i] = (struct dlm_token_bytes){&bytes[i], 1};
    }
    tokens[256] = (struct dlm_token_bytes){(const uint8_t *)"ab", 2};
    struct dlm_vocab_plan plan = {specials, 4, NULL, tokens, 257, merges, 1, false};
    struct dlm_error err = {{0}};
    struct dlm_vocab *v;
    char *json;
    must(dlm_vocab_compose(&json, &plan, &err), &err);
    must(dlm_vocab_parse(&v, json, strlen(json), "test", &err), &err);
    free(json);
    return v;
}

/* Documents without their end ids. */
struct docs {
    uint32_t **ids;
    size_t *n, count;
};

static struct docs make_docs(uint64_t seed, size_t count, uint32_t longest, uint32_t shortest)
{
    struct dlm_rng g;
    struct docs d = {malloc(count * sizeof *d.ids), malloc(count * sizeof *d.n), count};
    dlm_rng_init(&g, seed, count, DLM_RNG_TEST);
    for (size_t i = 0; i < count; i++) {
        d.n[i] = shortest + (size_t)dlm_rng_below(&g, longest - shortest + 1);
        d.ids[i] = malloc((d.n[i] + 1) * sizeof **d.ids);
        for (size_t k = 0; k < d.n[i]; k++)
            d.ids[i][k] = k % 50 == 9 ? MASK : FIRST_BYTE + (uint32_t)dlm_rng_below(&g, TOKENS - FIRST_BYTE);
    }
    return d;
}

static void free_docs(struct docs *d)
{
    for (size_t i = 0; i < d->count; i++)
        free(d->ids[i]);
    free(d->ids);
    free(d->n);
}

/* `ended`: the last document has its end id. */
static void write_docs(const char *path, const struct docs *d, size_t from, size_t to, bool ended, const struct dlm_vocab *v)
{
    static const uint32_t end = END;
    struct dlm_error err = {{0}};
    struct dlm_stream_info info = dlm_stream_info_of(v);
    struct dlm_stream_writer *w;
    FILE *f = fopen(path, "wb");
    must(dlm_stream_writer_new(&w, f, path, &info, 1, 1, 5000, &err), &err);
    for (size_t i = from; i < to; i++) {
        must(dlm_stream_write(w, d->ids[i], d->n[i], &err), &err);
        if (ended || i + 1 < to)
            must(dlm_stream_write(w, &end, 1, &err), &err);
    }
    dlm_stream_count_documents(w, to - from);
    must(dlm_stream_finish(w, &err), &err);
    dlm_stream_writer_free(w);
    fclose(f);
}

static struct dlm_pack_options usual(void)
{
    struct dlm_pack_options o = {.seq_len = 64, .val = 0.1, .shard_tokens = 64 * 40, .memory = 4 << 20, .level = 3,
                                 .threads = 1, .seed = 7, .progress_name = "test", .progress = DLM_PROGRESS_NEVER};
    return o;
}

static int pack_files(const char *to, int n_files, const char *a, const char *b, const struct dlm_pack_options *o,
                      struct dlm_pack_report *r, struct dlm_error *err)
{
    char *files[2] = {(char *)a, (char *)b};
    remove_set(to);
    return dlm_pack(to, files, (size_t)n_files, o, r, err);
}

static uint8_t *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    *n = 0;
    if (!f || fstat(fileno(f), &st))
        return NULL;
    uint8_t *b = malloc((size_t)st.st_size + 1);
    *n = fread(b, 1, (size_t)st.st_size, f);
    b[*n] = 0;
    fclose(f);
    return b;
}

static void spill(const char *path, const void *b, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b, 1, n, f) != n)
        exit(1);
    fclose(f);
}

/* One hash of names and bytes of all files, in no order. */
static uint64_t set_hash(const char *path)
{
    DIR *d = opendir(path);
    uint64_t sum = 0;
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        char file[1400];
        size_t n;
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        uint8_t *b = slurp(file, &n);
        sum += XXH64(b, n, XXH64(e->d_name, strlen(e->d_name), 0));
        free(b);
    }
    closedir(d);
    return sum;
}

/* --- the plain model ------------------------------------------------------------------------------------------------------ */

struct placed {
    uint64_t key, doc;
};

static int by_key(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->doc < y->doc ? -1 : 1;
}

static bool held_out(const struct docs *d, size_t i, double val)
{
    return (double)XXH64(d->ids[i], d->n[i] * 4, 0) < val * 18446744073709551616.0;
}

/* The ids of a split, in a row; *n of them. */
static uint32_t *model(const struct docs *d, const struct dlm_pack_options *o, int split, size_t *n)
{
    struct placed *p = malloc(d->count * sizeof *p);
    size_t total = 0;
    for (size_t i = 0; i < d->count; i++) {
        dlm_philox_t r = dlm_philox_at(o->seed, i, 0, DLM_RNG_SHUFFLE);
        p[i] = (struct placed){r.v[0] | (uint64_t)r.v[1] << 32, i};
        total += d->n[i] + 1;
    }
    qsort(p, d->count, sizeof *p, by_key);
    uint32_t *ids = malloc(total * sizeof *ids);
    *n = 0;
    for (size_t i = 0; i < d->count; i++) {
        size_t k = p[i].doc;
        if (!d->n[k] || held_out(d, k, o->val) != split)
            continue;
        memcpy(ids + *n, d->ids[k], d->n[k] * 4);
        *n += d->n[k];
        ids[(*n)++] = END;
    }
    free(p);
    return ids;
}

static void contents(uint64_t seed)
{
    struct docs d = make_docs(seed, 1500, 90, 0);
    struct dlm_pack_options o = usual();
    struct dlm_pack_report r;
    struct dlm_error err = {{0}};
    write_docs(in_dir("a"), &d, 0, 800, true, vocab);
    write_docs(in_dir("b"), &d, 800, 1500, true, vocab);
    must(pack_files(in_dir("set"), 2, in_dir("a"), in_dir("b"), &o, &r, &err), &err);
    struct dlm_shards *s;
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    uint64_t empty = 0;
    for (size_t i = 0; i < d.count; i++)
        empty += !d.n[i];
    tap_ok(r.read == 1500 && r.empty == empty && empty > 0 && !r.unended && !r.duplicates,
           "documents and empty ones are counted (%llu)",
           (unsigned long long)empty);
    tap_ok(dlm_shards_seq_len(s) == 64 && dlm_vocab_fingerprint(dlm_shards_vocab(s)) == dlm_vocab_fingerprint(vocab),
           "a set knows its sequence length and its vocabulary");
    for (int split = 0; split < 2; split++) {
        size_t n;
        uint32_t *want = model(&d, &o, split, &n), ids[64];
        uint64_t sequences = dlm_shards_sequences(s, (enum dlm_shards_split)split), bytes = 0;
        bool same = sequences == n / 64 && r.split[split].left_over == n % 64 && r.split[split].sequences == sequences;
        for (uint64_t i = 0; i < sequences && same; i++) {
            uint64_t k = split ? sequences - 1 - i : i * 37 % sequences;
            must(dlm_shards_read(s, (enum dlm_shards_split)split, k, ids, &err), &err);
            same = !memcmp(ids, want + 64 * k, sizeof ids);
        }
        for (size_t i = 0; i < sequences * 64; i++)
            bytes += want[i] == AB ? 2 : want[i] >= FIRST_BYTE;
        tap_ok(same && sequences > 1,
               "%llu %s sequences are those of the model", (unsigned long long)sequences, dlm_manifest_split(split));
        tap_ok(bytes == dlm_shards_bytes(s, (enum dlm_shards_split)split), "their text bytes are counted, special ids as none");
        free(want);
    }
    size_t n, n_file;
    const char *text = dlm_shards_manifest(s, &n);
    struct dlm_manifest m;
    must(dlm_manifest_parse(&m, text, n, "manifest", &err), &err);
    bool sums = m.n > 15;
    for (size_t i = 0; i < m.n; i++) {
        char file[DLM_MANIFEST_NAME_MAX], path[300];
        dlm_manifest_file(file, m.rows[i].split, m.rows[i].number);
        snprintf(path, sizeof path, "set/%s", file);
        uint8_t *b = slurp(in_dir(path), &n_file);
        sums &= b && XXH64(b, n_file, 0) == m.rows[i].checksum && m.rows[i].tokens == 64 * m.rows[i].sequences;
        free(b);
    }
    tap_ok(sums, "%zu files have the checksums of the manifest", m.n);
    dlm_manifest_release(&m);
    uint64_t hash = dlm_shards_hash(s);
    dlm_shards_close(s);
    tap_ok(!dlm_shards_verify(in_dir("set"), &err), "the set verifies %s", err.msg);

    uint64_t whole = set_hash(in_dir("set"));
    static const struct {
        uint64_t memory;
        int threads;
    } ways[] = {{256 << 10, 1}, {1 << 20, 2}, {1 << 20, 7}};
    for (int i = 0; i < 3; i++) {
        o.memory = ways[i].memory;
        o.threads = ways[i].threads;
        must(pack_files(in_dir("set2"), 2, in_dir("a"), in_dir("b"), &o, &r, &err), &err);
        tap_ok(set_hash(in_dir("set2")) == whole,
               "memory %llu, %d threads: the same bytes", (unsigned long long)ways[i].memory, ways[i].threads);
    }
    o = usual();
    o.seed++;
    must(pack_files(in_dir("set2"), 2, in_dir("a"), in_dir("b"), &o, &r, &err), &err);
    must(dlm_shards_open(&s, in_dir("set2"), &err), &err);
    size_t n_val[2];
    uint32_t *val[2] = {model(&d, &(struct dlm_pack_options){.seed = 7, .val = 0.1}, 1, &n_val[0]), model(&d, &o, 1, &n_val[1])};
    tap_ok(dlm_shards_hash(s) != hash && n_val[0] == n_val[1] && memcmp(val[0], val[1], n_val[0] * 4) && r.split[1].sequences == n_val[1] / 64,
           "another seed: another order, the same documents held out");
    dlm_shards_close(s);
    free(val[0]);
    free(val[1]);

    /* The last document without its end id, in each file. */
    write_docs(in_dir("a2"), &d, 0, 800, false, vocab);
    write_docs(in_dir("b2"), &d, 800, 1500, false, vocab);
    o = usual();
    must(pack_files(in_dir("set2"), 2, in_dir("a2"), in_dir("b2"), &o, &r, &err), &err);
    tap_ok(r.unended == 2 && set_hash(in_dir("set2")) == whole,
           "a last document that lacks its end id gets it, and that is told (%llu)",
           (unsigned long long)r.unended);

    /* All documents twice. */
    o.dedup = true;
    must(pack_files(in_dir("set2"), 2, in_dir("a"), in_dir("b"), &o, &r, &err), &err);
    uint64_t kept = r.split[0].documents + r.split[1].documents, alone = r.duplicates;
    uint64_t once = set_hash(in_dir("set2"));
    FILE *two = fopen(in_dir("twice"), "wb");
    for (int i = 0; i < 4; i++) {
        uint8_t *b = slurp(in_dir(i % 2 ? "b" : "a"), &n);
        fwrite(b, 1, n, two);
        free(b);
    }
    fclose(two);
    for (int i = 0; i < 2; i++) {
        o.memory = i ? 256 << 10 : 64 << 20;
        must(pack_files(in_dir("set2"), 1, in_dir("twice"), NULL, &o, &r, &err), &err);
        tap_ok(r.duplicates == alone + kept + alone && r.read == 3000 && set_hash(in_dir("set2")) == once,
               "with every document twice, --dedup gives the set of each once (%llu dropped)", (unsigned long long)r.duplicates);
    }
    free_docs(&d);
}

static void splits(uint64_t seed)
{
    struct docs d = make_docs(seed, 300, 30, 5);
    struct dlm_pack_options o = usual();
    struct dlm_pack_report r;
    struct dlm_error err = {{0}};
    struct dlm_shards *s;
    write_docs(in_dir("a"), &d, 0, 300, true, vocab);
    o.val = 0;
    must(pack_files(in_dir("set"), 1, in_dir("a"), NULL, &o, &r, &err), &err);
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    tap_ok(!dlm_shards_sequences(s, DLM_SPLIT_VAL) && !r.split[1].documents && r.split[0].documents == 300,
           "--val 0 holds nothing out");
    dlm_shards_close(s);
    static const struct {
        double val;
        uint64_t n;
        const char *which;
    } none[] = {{1, 64, "the train split"}, {0.001, 64, "the val split"}, {0.5, 100000, "the train split"}};
    for (int i = 0; i < 3; i++) {
        o.val = none[i].val;
        o.seq_len = none[i].n;
        int rc = pack_files(in_dir("none"), 1, in_dir("a"), NULL, &o, &r, &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, none[i].which) && strstr(err.msg, "--split of dlm-tokenize") && strstr(err.msg, "--val") &&
                   access(in_dir("none"), F_OK),
               "%s", err.msg);
    }
    o = usual();
    uint64_t before = set_hash(in_dir("set"));
    char *file = (char *)in_dir("a");
    int rc = dlm_pack(in_dir("set"), &file, 1, &o, &r, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, in_dir("set")) && set_hash(in_dir("set")) == before,
           "an existing set stays: %s", err.msg);
    struct dlm_vocab *other = make_vocab("<|other|>");
    write_docs(in_dir("b"), &d, 0, 10, true, other);
    rc = pack_files(in_dir("none"), 2, in_dir("a"), in_dir("b"), &o, &r, &err);
    char fingerprint[20];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)dlm_vocab_fingerprint(other));
    tap_ok(rc == DLM_EDATA && strstr(err.msg, in_dir("a")) && strstr(err.msg, in_dir("b")) && strstr(err.msg, fingerprint),
           "%s", err.msg);
    dlm_vocab_free(other);
    rc = pack_files(in_dir("none"), 1, in_dir("set/train-00000.tok.zst"), NULL, &o, &r, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, "--cat"), "a shard is no input: %s", err.msg);
    size_t n;
    uint8_t *b = slurp(in_dir("a"), &n);
    b[n / 2] ^= 4;
    spill(in_dir("bad"), b, n);
    rc = pack_files(in_dir("none"), 1, in_dir("bad"), NULL, &o, &r, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, in_dir("bad")), "a damaged stream: %s", err.msg);
    free(b);
    DIR *at = opendir(dir);
    int left = 0;
    for (struct dirent *e; (e = readdir(at));)
        left += strstr(e->d_name, "none") != NULL || strstr(e->d_name, ".tmp-") != NULL;
    closedir(at);
    tap_ok(!left, "failures leave nothing behind");
    free_docs(&d);
}

/* Four documents, many seeds: the 24 orders. Sequences of one token; documents of one id. */
static void evenness(void)
{
    const int SEEDS = quick_sync ? 720 : 96;
    static uint32_t id[4] = {FIRST_BYTE, FIRST_BYTE + 1, FIRST_BYTE + 2, FIRST_BYTE + 3};
    uint32_t *ids[4] = {id, id + 1, id + 2, id + 3};
    size_t n[4] = {1, 1, 1, 1};
    struct docs d = {ids, n, 4};
    struct dlm_error err = {{0}};
    write_docs(in_dir("a"), &d, 0, 4, true, vocab);
    for (int dedup = 0; dedup < 2; dedup++) {
        unsigned count[256] = {0};
        for (uint64_t seed = 0; seed < (uint64_t)SEEDS; seed++) {
            struct dlm_pack_options o = usual();
            struct dlm_pack_report r;
            struct dlm_shards *s;
            o.seq_len = 8;
            o.val = 0;
            o.seed = seed;
            o.dedup = dedup;
            uint32_t got[8];
            must(pack_files(in_dir("even"), 1, in_dir("a"), NULL, &o, &r, &err), &err);
            must(dlm_shards_open(&s, in_dir("even"), &err), &err);
            must(dlm_shards_read(s, DLM_SPLIT_TRAIN, 0, got, &err), &err);
            dlm_shards_close(s);
            unsigned k = 0;
            for (int i = 0; i < 8; i += 2)
                k = k << 2 | (got[i] - FIRST_BYTE);
            count[k]++;
        }
        double chi = 0;
        unsigned orders = 0;
        for (int i = 0; i < 256; i++)
            if (count[i]) {
                orders++;
                chi += (count[i] - SEEDS / 24.0) * (count[i] - SEEDS / 24.0) / (SEEDS / 24.0);
            }
        tap_ok(orders == 24 && chi < 23 + 4 * sqrt(46),
               "%d seeds: %u orders of four documents, chi-square %.1f of 23%s", SEEDS, orders, chi,
               dedup ? ", with --dedup" : "");
    }
}

/* All ids of a set, one split after the other, malloc'ed; NULL, and a message, where reading fails. */
static uint32_t *read_set(const char *path, size_t *n, struct dlm_error *err)
{
    struct dlm_shards *s;
    uint32_t *ids = NULL;
    size_t k = 0;
    int rc = dlm_shards_open(&s, path, err);
    if (rc)
        return NULL;
    size_t len = dlm_shards_seq_len(s);
    uint64_t count[2] = {dlm_shards_sequences(s, DLM_SPLIT_TRAIN), dlm_shards_sequences(s, DLM_SPLIT_VAL)};
    ids = malloc((size_t)(count[0] + count[1]) * len * sizeof *ids);
    for (int split = 0; split < 2 && !rc; split++)
        for (uint64_t i = 0; i < count[split] && !rc; i++, k++)
            rc = dlm_shards_read(s, (enum dlm_shards_split)split, i, ids + k * len, err);
    dlm_shards_close(s);
    if (rc) {
        free(ids);
        return NULL;
    }
    *n = k * len;
    return ids;
}

static void damage(uint64_t seed)
{
    struct docs d = make_docs(seed, 60, 30, 5);
    struct dlm_pack_options o = usual();
    struct dlm_pack_report r;
    struct dlm_error err = {{0}};
    struct dlm_shards *s;
    o.seq_len = 16;
    o.val = 0.3;
    o.shard_tokens = 16 * 20;
    write_docs(in_dir("a"), &d, 0, 60, true, vocab);
    must(pack_files(in_dir("set"), 1, in_dir("a"), NULL, &o, &r, &err), &err);
    must(dlm_shards_verify(in_dir("set"), &err), &err);
    static const char *const files[] = {"train-00000.tok.zst", "val-00000.tok.zst", "manifest.tsv"};
    size_t n_ids = 0;
    uint32_t *ids_of_set = read_set(in_dir("set"), &n_ids, &err);
    tap_ok(ids_of_set && n_ids, "the set is read %s", err.msg);
    for (int f = 0; f < 3; f++) {
        size_t n, missed = 0, unnamed = 0, opened = 0, wrong = 0, not_placed = 0, cuts_missed = 0;
        char name[64];
        snprintf(name, sizeof name, "set/%s", files[f]);
        uint8_t *b = slurp(in_dir(name), &n);
        for (size_t i = 0; i < n; i++) {
            uint8_t bit = (uint8_t)(1 << (i * 5 + seed) % 8);
            b[i] ^= bit;
            spill(in_dir(name), b, n);
            missed += dlm_shards_verify(in_dir("set"), &err) != DLM_EDATA;
            unnamed += !strstr(err.msg, in_dir("set"));
            if (f < 2) { /* what does not read checksums: the same ids, or the shard and where */
                size_t got;
                err.msg[0] = 0;
                uint32_t *ids = read_set(in_dir("set"), &got, &err);
                wrong += ids && (got != n_ids || memcmp(ids, ids_of_set, n_ids * sizeof *ids));
                not_placed += !ids && !(strstr(err.msg, files[f]) || strstr(err.msg, "manifest.tsv"));
                free(ids);
            }
            if (f == 2 && !dlm_shards_open(&s, in_dir("set"), &err)) {
                opened++;
                dlm_shards_close(s);
            }
            b[i] ^= bit;
        }
        for (size_t i = 0; i < n; i += quick_sync || f == 2 ? 1 : 13) {
            spill(in_dir(name), b, i);
            missed += dlm_shards_verify(in_dir("set"), &err) != DLM_EDATA;
            size_t got;
            uint32_t *ids = read_set(in_dir("set"), &got, &err);
            cuts_missed += ids || !(strstr(err.msg, files[f]) || strstr(err.msg, "manifest"));
            free(ids);
        }
        spill(in_dir(name), b, n);
        tap_ok(!wrong && !not_placed && !cuts_missed, "readers of sequences get the right ids or an error that names %s (%zu wrong, %zu unnamed, %zu cuts)", files[f],
               wrong, not_placed, cuts_missed);
        tap_ok(!missed && !unnamed,
               "a flip in each of the %zu bytes of %s, and cuts, are noticed (%zu missed, %zu unnamed)", n, files[f], missed, unnamed);
        if (f == 2) /* 16 digits of 4 rows of checksums; some flips make no digit */
            tap_ok(opened <= 16 * 4, "of the manifest's bytes, opening lets pass the checksums only (%zu)", opened);
        free(b);
    }
    free(ids_of_set);
    size_t n, missed = 0;
    uint8_t *b = slurp(in_dir("set/tokenizer.json"), &n);
    for (size_t i = 0; i < n; i += 7) {
        b[i] ^= 1;
        spill(in_dir("set/tokenizer.json"), b, n);
        missed += dlm_shards_open(&s, in_dir("set"), &err) != DLM_EDATA;
        b[i] ^= 1;
    }
    spill(in_dir("set/tokenizer.json"), b, n);
    free(b);
    tap_ok(!missed, "bytes of tokenizer.json (%zu missed)", missed);

    /* Edits of the manifest that parse. */
    uint8_t *text = slurp(in_dir("set/manifest.tsv"), &n);
    struct dlm_manifest m;
    must(dlm_manifest_parse(&m, (char *)text, n, "m", &err), &err);
    for (int edit = 0; edit < 7; edit++) {
        struct dlm_manifest_row keep = m.rows[1];
        static const char *const what[] = {"sequences", "tokens", "bytes", "tokens", "checksum", "does not name",
                                           "it is shard 'train-00001.tok.zst'"};
        size_t n_rows = m.n, len;
        char *edited;
        if (edit == 0)
            m.rows[1].sequences++;
        if (edit == 1)
            m.rows[1].tokens += 16;
        if (edit == 2)
            m.rows[1].bytes--;
        if (edit == 3)
            m.rows[1].tokens += 16, m.rows[1].sequences++;
        if (edit == 4)
            m.rows[1].checksum ^= 1;
        if (edit == 5)
            m.n--;
        if (edit == 6) { /* two shards change places, with the manifest or without */
            rename(in_dir("set/train-00001.tok.zst"), in_dir("set/x"));
            rename(in_dir("set/train-00000.tok.zst"), in_dir("set/train-00001.tok.zst"));
            rename(in_dir("set/x"), in_dir("set/train-00000.tok.zst"));
        }
        must(dlm_manifest_print(&m, &edited, &len, &err), &err);
        spill(in_dir("set/manifest.tsv"), edited, len);
        free(edited);
        int rc = edit == 4 ? dlm_shards_verify(in_dir("set"), &err) : dlm_shards_open(&s, in_dir("set"), &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, what[edit]) && strstr(err.msg, in_dir("set")), "edited: %s", err.msg);
        m.rows[1] = keep;
        m.n = n_rows;
    }
    dlm_manifest_release(&m);
    rename(in_dir("set/train-00001.tok.zst"), in_dir("set/x"));
    rename(in_dir("set/train-00000.tok.zst"), in_dir("set/train-00001.tok.zst"));
    rename(in_dir("set/x"), in_dir("set/train-00000.tok.zst"));
    static const char *const lines[] = {
        "split\tfile\tsequences\ttokens\tbytes\n", "", DLM_MANIFEST_COLUMNS "\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t1\t16\t5\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t1\t16\t5\t0000000000000000\textra\n",
        DLM_MANIFEST_COLUMNS "\ntrain\t../../etc/passwd\t1\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t-1\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t99999999999999999999\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\t01\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\ntrain\ttrain-00000.tok.zst\tmany\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\nval\tval-00000.tok.zst\t1\t16\t5\t0000000000000000\n",
        DLM_MANIFEST_COLUMNS "\ntest\ttest-00000.tok.zst\t1\t16\t5\t0000000000000000\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        spill(in_dir("set/manifest.tsv"), lines[i], strlen(lines[i]));
        int rc = dlm_shards_open(&s, in_dir("set"), &err);
        tap_ok(rc == DLM_EDATA && strstr(err.msg, "manifest.tsv") && (strstr(err.msg, "line") || strstr(err.msg, "no train")),
               "%s", err.msg);
    }
    spill(in_dir("set/manifest.tsv"), text, n);
    free(text);
    must(dlm_shards_verify(in_dir("set"), &err), &err);
    static const char *const gone[] = {"set/val-00000.tok.zst", "set/tokenizer.json", "set/manifest.tsv"};
    for (int i = 0; i < 3; i++) {
        rename(in_dir(gone[i]), in_dir("aside"));
        int rc = dlm_shards_open(&s, in_dir("set"), &err);
        tap_ok(rc && strstr(err.msg, in_dir(gone[i])), "missing: %s", err.msg);
        mkdir(in_dir(gone[i]), 0700);
        rc = dlm_shards_open(&s, in_dir("set"), &err);
        tap_ok(rc && strstr(err.msg, in_dir(gone[i])), "a directory: %s", err.msg);
        rmdir(in_dir(gone[i]));
        rename(in_dir("aside"), in_dir(gone[i]));
    }
    tap_ok(dlm_shards_open(&s, in_dir("a"), &err) == DLM_EDATA && strstr(err.msg, "not a directory"), "%s", err.msg);
    tap_ok(dlm_shards_open(&s, in_dir("nowhere"), &err) == DLM_EIO, "%s", err.msg);

    /* A frame damaged after the set was opened. */
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    b = slurp(in_dir("set/train-00000.tok.zst"), &n);
    b[100] ^= 1;
    spill(in_dir("set/train-00000.tok.zst"), b, n);
    uint32_t ids[16];
    int rc = dlm_shards_read(s, DLM_SPLIT_TRAIN, 0, ids, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, "train-00000") && strstr(err.msg, "offset"), "read after opening: %s", err.msg);
    b[100] ^= 1;
    spill(in_dir("set/train-00000.tok.zst"), b, n);
    free(b);
    tap_ok(!dlm_shards_read(s, DLM_SPLIT_TRAIN, 0, ids, &err), "and once more, restored");
    dlm_shards_close(s);
    free_docs(&d);
}

/* More shards than are held open. */
static void many_shards(uint64_t seed)
{
    struct docs d = make_docs(seed, 200, 30, 5);
    struct dlm_pack_options o = usual();
    struct dlm_pack_report r;
    struct dlm_error err = {{0}};
    struct dlm_shards *s;
    o.seq_len = 32;
    o.shard_tokens = 1;
    o.val = 0.2;
    write_docs(in_dir("a"), &d, 0, 200, true, vocab);
    must(pack_files(in_dir("set"), 1, in_dir("a"), NULL, &o, &r, &err), &err);
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    size_t n;
    uint32_t *want = model(&d, &o, 0, &n), ids[32];
    uint64_t count = dlm_shards_sequences(s, DLM_SPLIT_TRAIN);
    bool same = count == n / 32 && count > 70;
    for (uint64_t i = 0; i < 3 * count && same; i++) {
        uint64_t k = i * i % count;
        must(dlm_shards_read(s, DLM_SPLIT_TRAIN, k, ids, &err), &err);
        same = !memcmp(ids, want + 32 * k, sizeof ids);
    }
    tap_ok(same, "%llu shards of one sequence each, read in any order", (unsigned long long)count);
    free(want);
    dlm_shards_close(s);
    free_docs(&d);
}

/* As many frames as a set of 10 GB has: 82,000, each of one short sequence. Whichever sequence is asked for, one frame is read. */
static void many_frames(uint64_t seed)
{
    enum { SHARDS = 2, EACH = 41000, LEN = 8, READS = 3000 };
    struct dlm_error err = {{0}};
    struct dlm_manifest m = {0};
    struct dlm_stream_info info = dlm_stream_info_of(vocab);
    size_t json_len, len;
    const char *json = dlm_vocab_json(vocab, &json_len);
    char *text;
    remove_set(in_dir("set"));
    mkdir(in_dir("set"), 0777);
    must(dlm_output_write_file(in_dir("set/tokenizer.json"), json, json_len, &err), &err);
    info.json = NULL;
    info.json_len = 0;
    info.seq_len = LEN;
    info.split = 1;
    for (uint32_t part = 0; part < SHARDS; part++) {
        struct dlm_manifest_row row = {.number = part, .sequences = EACH, .tokens = (uint64_t)EACH * LEN};
        char name[DLM_MANIFEST_NAME_MAX], path[600];
        struct dlm_stream_writer *w;
        dlm_manifest_file(name, 0, part);
        snprintf(path, sizeof path, "%s/%s", in_dir("set"), name);
        FILE *f = fopen(path, "wb");
        info.part = part;
        must(dlm_stream_writer_new(&w, f, path, &info, 1, 1, LEN, &err), &err);
        for (uint32_t i = 0; i < EACH; i++) {
            uint32_t ids[LEN], n = part * EACH + i;
            for (int k = 0; k < LEN; k++, n /= 10)
                ids[k] = FIRST_BYTE + n % 10;
            row.bytes += LEN;
            must(dlm_stream_write(w, ids, LEN, &err), &err);
        }
        dlm_stream_count_bytes(w, row.bytes);
        must(dlm_stream_finish(w, &err), &err);
        row.checksum = dlm_stream_writer_hash(w);
        dlm_stream_writer_free(w);
        fclose(f);
        must(dlm_manifest_add(&m, &row, &err), &err);
    }
    must(dlm_manifest_print(&m, &text, &len, &err), &err);
    must(dlm_output_write_file(in_dir("set/manifest.tsv"), text, len, &err), &err);
    free(text);
    dlm_manifest_release(&m);
    struct dlm_shards *s;
    struct dlm_rng g;
    dlm_rng_init(&g, seed, 1, DLM_RNG_TEST);
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    bool same = dlm_shards_sequences(s, DLM_SPLIT_TRAIN) == SHARDS * EACH && dlm_shards_frames(s) == 0;
    uint64_t most = 0;
    for (int i = 0; i < READS; i++) {
        uint32_t ids[LEN], n = (uint32_t)dlm_rng_below(&g, SHARDS * EACH);
        uint64_t before = dlm_shards_frames(s);
        must(dlm_shards_read(s, DLM_SPLIT_TRAIN, n, ids, &err), &err);
        most = dlm_shards_frames(s) - before > most ? dlm_shards_frames(s) - before : most;
        for (int k = 0; k < LEN; k++, n /= 10)
            same &= ids[k] == FIRST_BYTE + n % 10;
    }
    tap_ok(same && most == 1, "a random one of %d sequences, as many frames, touches %llu frame", SHARDS * EACH, (unsigned long long)most);
    dlm_shards_close(s);
    must(dlm_shards_open(&s, in_dir("set"), &err), &err);
    uint32_t ids[LEN];
    for (uint64_t i = 0; i < SHARDS * EACH; i++)
        must(dlm_shards_read(s, DLM_SPLIT_TRAIN, i, ids, &err), &err);
    tap_ok(dlm_shards_frames(s) == SHARDS * EACH, "in order, each frame is read once");
    dlm_shards_close(s);
}

int main(void)
{
    uint64_t seed = tap_seed();
    const char *tmp = getenv("TMPDIR");
    quick_sync = access("/dev/shm", W_OK) == 0;
    snprintf(dir, sizeof dir, "%s/dlm-token-shards-XXXXXX", quick_sync ? "/dev/shm" : tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    vocab = make_vocab("<|mask|>");
    contents(seed);
    splits(seed);
    evenness();
    damage(seed);
    many_shards(seed);
    many_frames(seed);
    dlm_vocab_free(vocab);
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) ? 1 : tap_end();
}
