/* Making a shard set.
 *
 * A document's ids are those before its end id. It is held out when their XXH64 (seed 0, each id as 32 bits, little endian) is below
 * val·2^64, so neither the seed nor the id width moves a document across, and duplicates stay together. Its place is its key: a Philox
 * word pair of (seed, number of the document in the input), or with dedup of (seed, hash), which brings equal documents together where
 * all but the first are dropped.
 */
#include "token/pack.h"

#include "base/output.h"
#include "base/rng.h"
#include "base/stop.h"
#include "text/vocab.h"
#include "token/manifest.h"
#include "token/shuffle.h"
#include "token/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "hashes are taken of little endian ids as they stand in memory"
#endif

enum {
    READ_IDS = 64 << 10,
    FRAME_BYTES = 128 << 10, /* of ids in a frame of a shard: one seek reads it, and zstd still finds what repeats */
    READING_BYTES = 3 << 20, /* a frame of dlm-tokenize, 1 MiB of ids, with zstd's context and the buffers that bytes pass through */
    SLACK_BYTES = 256 << 10, /* lists of runs, frames and shards, and the kernel's rounding */
    SPARE_BYTES = 768 << 10  /* more than is needed in the least that is told: half a MiB, and what rounds it up to 256 KiB */
};

/* One split being packed. */
struct side {
    uint32_t *sequence; /* (N) */
    size_t fill;
    uint64_t documents, in_shard; /* sequences in the open shard */
    FILE *file;                   /* of the open shard */
    struct dlm_stream_writer *writer;
    char *path;
    struct dlm_manifest_row row;  /* of the open shard */
    uint32_t shards;
    struct dlm_manifest manifest;
};

struct pack {
    const struct dlm_pack_options *o;
    struct dlm_pack_report *report;
    char *dir; /* the temporary one */
    struct dlm_vocab *vocab;
    struct dlm_stream_info info; /* of shards */
    uint32_t end;
    struct dlm_mix *mix; /* NULL: every document is taken */
    size_t source;       /* the file being read */
    struct dlm_shuffle *shuffle;
    struct dlm_pool *pool; /* compresses */
    struct dlm_progress progress;
    uint64_t shard_sequences, done;
    struct side side[2];
    /* The document being read. */
    XXH64_state_t *hash;
    XXH3_state_t *hash128;
    uint64_t n, ordinal;
    /* The document being packed. */
    struct dlm_shuffle_document last;
    bool any, skip;
    uint64_t left; /* its ids to come */
    struct side *to;
};

/* --- reading documents ---------------------------------------------------------------------------------------------------- */

static int take_ids(struct pack *p, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    if (!n)
        return 0;
    XXH64_update(p->hash, ids, n * sizeof *ids);
    if (p->o->dedup)
        XXH3_128bits_update(p->hash128, ids, n * sizeof *ids);
    p->n += n;
    return dlm_shuffle_add(p->shuffle, ids, n, err);
}

static int end_document(struct pack *p, struct dlm_error *err)
{
    int rc = 0;
    p->report->read++;
    if (p->n) {
        struct dlm_shuffle_document d = {.ordinal = p->ordinal};
        uint64_t content = XXH64_digest(p->hash);
        int split = p->o->val >= 1 || content < (uint64_t)ldexp(p->o->val, 64);
        d.tag = (uint64_t)p->source << 1 | (uint64_t)split;
        if (p->mix)
            dlm_mix_count(p->mix, p->source, split, p->ordinal, p->n + 1);
        dlm_philox_t r;
        if (p->o->dedup) {
            XXH128_hash_t h = XXH3_128bits_digest(p->hash128);
            d.hash[0] = h.low64;
            d.hash[1] = h.high64;
            r = dlm_philox_at(p->o->seed, h.low64, 1, DLM_RNG_SHUFFLE);
            XXH3_128bits_reset(p->hash128);
        } else {
            r = dlm_philox_at(p->o->seed, p->ordinal, 0, DLM_RNG_SHUFFLE);
        }
        d.key = r.v[0] | (uint64_t)r.v[1] << 32;
        rc = dlm_shuffle_end(p->shuffle, &d, err);
        XXH64_reset(p->hash, 0);
        p->n = 0;
    } else {
        p->report->empty++;
    }
    p->ordinal++;
    return rc;
}

static int read_stream(struct pack *p, struct dlm_stream_reader *r, uint32_t *ids, struct dlm_error *err)
{
    bool inside = false; /* a document has begun and not ended */
    for (size_t got = 1; got;) {
        int rc = dlm_stop_signal() ? dlm_fail(err, DLM_ESTOPPED, "stopped") : dlm_stream_read(r, ids, READ_IDS, &got, err);
        for (size_t i = 0; i < got && !rc;) {
            size_t k = i;
            while (k < got && ids[k] != p->end)
                k++;
            rc = take_ids(p, ids + i, k - i, err);
            inside |= k > i;
            if (!rc && k < got) {
                rc = end_document(p, err);
                inside = false;
            }
            i = k + 1;
        }
        if (rc)
            return rc;
        p->done += got;
        dlm_progress_update(&p->progress, p->done, "reading");
    }
    if (!inside)
        return 0;
    p->report->unended++;
    return end_document(p, err);
}

static int write_text(struct pack *p, const char *name, const char *text, size_t len, struct dlm_error *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", p->dir, name) < 0)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    int rc = dlm_output_write_file(path, text, len, err);
    free(path);
    return rc;
}

/* --- memory --------------------------------------------------------------------------------------------------------------- */

/* A number of KiB that the kernel tells of this process, in bytes; 0 where it does not. */
static uint64_t told_kib(const char *path, const char *field)
{
    char line[256];
    unsigned long long kib = 0;
    size_t n = strlen(field);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, n) && sscanf(line + n, ":%llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return (uint64_t)kib << 10;
}

static uint64_t peak_so_far(void)
{
    struct rusage u;
    uint64_t peak = told_kib("/proc/self/status", "VmHWM");
    return peak || getrusage(RUSAGE_SELF, &u) ? peak : (uint64_t)u.ru_maxrss << 10; /* which an exec does not forget */
}

/* Sequences that stand together in a frame. */
static size_t frame_ids(const struct pack *p)
{
    size_t bytes = (size_t)p->o->seq_len * p->info.id_bytes, together = FRAME_BYTES / bytes;
    return (size_t)p->o->seq_len * (together ? together : 1);
}

/* With the vocabulary in place: how much is left of `peak` for shuffling, and how many threads may compress. What comes later is either
 * reading (a frame and its ids, another stream's vocabulary) or packing (threads, two open shards), and two sequences. */
static int share_memory(struct pack *p, size_t json_len, size_t *memory, int *threads, struct dlm_error *err)
{
    const uint64_t peak = p->o->peak, least = DLM_SHUFFLE_MIN_MEMORY;
    struct dlm_stream_needs needs;
    uint64_t reading = READING_BYTES + json_len, packing = 0;
    uint64_t always = 2 * p->o->seq_len * sizeof(uint32_t) + (p->mix ? dlm_mix_bytes(p->mix) : 0) + SLACK_BYTES;
    *threads = p->o->threads < 1 ? 1 : p->o->threads;
    *memory = (size_t)p->o->memory;
    if (!peak)
        return 0;
    malloc_trim(0); /* what reading the vocabulary took */
    for (;; *threads = (*threads + 1) / 2) {
        int rc = dlm_stream_writer_needs(&needs, p->o->level, *threads, frame_ids(p) * p->info.id_bytes, err);
        if (rc)
            return rc;
        packing = 2 * needs.writer + (uint64_t)*threads * needs.lane;
        if (*threads == 1 || packing <= peak / 4)
            break;
    }
    uint64_t now = told_kib("/proc/self/smaps_rollup", "Rss"), before = peak_so_far();
    uint64_t taken = (now ? now : before) + (reading > packing ? reading : packing) + always;
    uint64_t need = taken + least > before ? taken + least : before;
    if (peak < need)
        return dlm_fail(err, DLM_EUSAGE,
                        "--memory of %llu bytes is too little: the least for this vocabulary, sequence length and level is %lluKi",
                        (unsigned long long)peak, (unsigned long long)((need + SPARE_BYTES) >> 18) << 8);
    uint64_t left = peak - taken;
    left -= left / 512; /* a merge's notes of its runs */
    *memory = left < SIZE_MAX / 2 ? (size_t)left : SIZE_MAX / 2;
    return 0;
}

/* --- reading streams ------------------------------------------------------------------------------------------------------ */

/* What the first stream says goes for all. */
static int adopt(struct pack *p, struct dlm_stream_reader *r, struct dlm_error *err)
{
    const struct dlm_stream_info *i = dlm_stream_reader_info(r);
    const char *name = dlm_stream_reader_name(r);
    if (!i->json)
        return dlm_fail(err, DLM_EDATA, "%s carries no vocabulary: it is a shard (see dlm-shard --cat)", name);
    int rc = dlm_vocab_parse(&p->vocab, i->json, i->json_len, name, err);
    if (rc)
        return rc;
    p->info = dlm_stream_info_of(p->vocab);
    if (p->info.vocab_size != i->vocab_size || memcmp(&p->info.specials, &i->specials, sizeof i->specials))
        return dlm_fail(err, DLM_EDATA, "%s is corrupt at offset 0: its head contradicts the vocabulary in it", name);
    p->end = i->specials.end;
    if (p->end == DLM_NO_ID)
        return dlm_fail(err, DLM_EDATA, "%s has a vocabulary without an end id, so its documents have no ends", name);
    rc = write_text(p, "tokenizer.json", i->json, i->json_len, err);
    if (rc)
        return rc;
    p->info.json = NULL;
    p->info.json_len = 0;
    p->info.seq_len = (uint32_t)p->o->seq_len;
    size_t memory;
    int threads;
    rc = share_memory(p, i->json_len, &memory, &threads, err);
    rc = rc ? rc : dlm_pool_new(&p->pool, threads, err);
    return rc ? rc : dlm_shuffle_new(&p->shuffle, memory, p->info.id_bytes, p->dir, err);
}

static int read_all(struct pack *p, char *const *files, size_t n_files, struct dlm_error *err)
{
    uint32_t *ids = malloc(READ_IDS * sizeof *ids);
    int rc = ids ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    char *first = NULL;
    for (size_t f = 0; f < n_files && !rc; f++) {
        struct dlm_stream_reader *r;
        p->source = f;
        rc = dlm_stream_reader_open(&r, files[f], err);
        if (rc)
            break;
        if (!first) {
            rc = adopt(p, r, err);
            first = strdup(dlm_stream_reader_name(r));
            if (!rc && !first)
                rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
        } else if (dlm_stream_reader_info(r)->fingerprint != p->info.fingerprint) {
            rc = dlm_fail(err, DLM_EDATA, "%s and %s have different vocabularies: fingerprints %016llx and %016llx", first,
                          dlm_stream_reader_name(r), (unsigned long long)p->info.fingerprint,
                          (unsigned long long)dlm_stream_reader_info(r)->fingerprint);
        }
        if (!rc)
            rc = read_stream(p, r, ids, err);
        dlm_stream_reader_close(r);
    }
    free(first);
    free(ids);
    return rc;
}

/* --- packing sequences ---------------------------------------------------------------------------------------------------- */

static int open_shard(struct pack *p, struct side *s, struct dlm_error *err)
{
    char name[DLM_MANIFEST_NAME_MAX];
    int split = s == &p->side[1];
    s->row = (struct dlm_manifest_row){.split = split, .number = s->shards++};
    dlm_manifest_file(name, split, s->row.number);
    free(s->path);
    s->path = NULL;
    if (asprintf(&s->path, "%s/%s", p->dir, name) < 0) {
        s->path = NULL;
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    s->file = fopen(s->path, "wbxe");
    if (!s->file)
        return dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", s->path);
    struct dlm_stream_info info = p->info;
    info.split = (uint8_t)(split + 1);
    info.part = s->row.number;
    s->in_shard = 0;
    return dlm_stream_writer_new_in(&s->writer, s->file, s->path, &info, p->o->level, p->pool, frame_ids(p), err);
}

static int close_shard(struct pack *p, struct side *s, struct dlm_error *err)
{
    dlm_stream_count_bytes(s->writer, s->row.bytes);
    int rc = dlm_stream_finish(s->writer, err);
    if (!rc && fsync(fileno(s->file)) && errno != EINVAL && errno != EROFS)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", s->path);
    FILE *f = s->file;
    s->file = NULL;
    if (fclose(f) && !rc)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", s->path);
    if (rc)
        return rc;
    s->row.checksum = dlm_stream_writer_hash(s->writer);
    dlm_stream_writer_free(s->writer);
    s->writer = NULL;
    s->row.sequences = s->in_shard;
    s->row.tokens = s->in_shard * p->o->seq_len;
    int split = s->row.split;
    p->report->split[split].sequences += s->row.sequences;
    p->report->split[split].tokens += s->row.tokens;
    p->report->split[split].bytes += s->row.bytes;
    return dlm_manifest_add(&s->manifest, &s->row, err);
}

static int put_sequence(struct pack *p, struct side *s, struct dlm_error *err)
{
    size_t n = (size_t)p->o->seq_len;
    int rc = s->writer ? 0 : open_shard(p, s, err);
    if (rc)
        return rc;
    uint64_t ends = 0;
    for (size_t i = 0; i < n; i++)
        ends += s->sequence[i] == p->end;
    s->row.bytes += dlm_vocab_count_bytes(p->vocab, s->sequence, n);
    dlm_stream_count_documents(s->writer, ends);
    rc = dlm_stream_write(s->writer, s->sequence, n, err);
    if (!rc && ++s->in_shard == p->shard_sequences)
        rc = close_shard(p, s, err);
    p->done += n;
    dlm_progress_update(&p->progress, p->done, "packing");
    return rc;
}

static int put_ids(struct pack *p, struct side *s, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    size_t len = (size_t)p->o->seq_len;
    while (n) {
        size_t take = len - s->fill < n ? len - s->fill : n;
        memcpy(s->sequence + s->fill, ids, take * sizeof *ids);
        s->fill += take;
        ids += take;
        n -= take;
        if (s->fill == len) {
            s->fill = 0;
            int rc = put_sequence(p, s, err);
            if (rc)
                return rc;
        }
    }
    return 0;
}

static int pack_begin(void *to, const struct dlm_shuffle_document *d, struct dlm_error *err)
{
    struct pack *p = to;
    if (dlm_stop_signal())
        return dlm_fail(err, DLM_ESTOPPED, "stopped");
    p->skip = p->o->dedup && p->any && p->last.n == d->n && p->last.hash[0] == d->hash[0] && p->last.hash[1] == d->hash[1];
    p->last = *d;
    p->any = true;
    p->left = d->n;
    p->to = &p->side[d->tag & 1];
    if (p->mix)
        p->skip = !dlm_mix_take(p->mix, (size_t)(d->tag >> 1), d->tag & 1, d->ordinal, d->n + 1);
    else if (p->skip)
        p->report->duplicates++;
    p->to->documents += !p->skip;
    return 0;
}

static int pack_ids(void *to, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    struct pack *p = to;
    if (p->skip)
        return 0;
    int rc = put_ids(p, p->to, ids, n, err);
    p->left -= n;
    return rc || p->left ? rc : put_ids(p, p->to, &p->end, 1, err);
}

static int pack_all(struct pack *p, struct dlm_error *err)
{
    struct dlm_shuffle_sink sink = {pack_begin, pack_ids, p};
    int rc = dlm_shuffle_deliver(p->shuffle, &sink, err);
    p->report->runs = dlm_shuffle_runs(p->shuffle);
    for (int i = 0; i < 2 && !rc; i++) {
        struct side *s = &p->side[i];
        if (s->writer)
            rc = close_shard(p, s, err);
        p->report->split[i].documents = s->documents;
        p->report->split[i].left_over = s->fill;
        if (!rc && !s->manifest.n && (i == 0 || p->o->val > 0))
            rc = dlm_fail(err, DLM_EDATA,
                          "the %s split fills no sequence of %llu tokens: %llu documents with %zu tokens fall to it; give another "
                          "--val or a smaller --seq-len, or make more documents with --split of dlm-tokenize",
                          dlm_manifest_split(i), (unsigned long long)p->o->seq_len, (unsigned long long)s->documents, s->fill);
    }
    return rc;
}

static int write_manifest(struct pack *p, struct dlm_error *err)
{
    struct dlm_manifest all = {0};
    int rc = 0;
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < p->side[i].manifest.n && !rc; k++)
            rc = dlm_manifest_add(&all, &p->side[i].manifest.rows[k], err);
    char *text = NULL;
    size_t len;
    if (!rc)
        rc = dlm_manifest_print(&all, &text, &len, err);
    if (!rc)
        rc = write_text(p, "manifest.tsv", text, len, err);
    free(text);
    dlm_manifest_release(&all);
    return rc;
}

/* --- mixing --------------------------------------------------------------------------------------------------------------- */

static int settle(struct pack *p, char *const *files, struct dlm_error *err)
{
    for (int split = 0; split < 2; split++) {
        int lacks = dlm_mix_settle(p->mix, split);
        if (lacks >= 0)
            return dlm_fail(err, DLM_EDATA, "'%s' has no document for the %s split, so no mixture of it has its share", files[lacks],
                            dlm_manifest_split(split));
    }
    return 0;
}

/* What the mixture came to: for the caller, and mix.tsv. */
static int write_mix(struct pack *p, char *const *files, size_t n_files, struct dlm_error *err)
{
    char *text = NULL;
    size_t len;
    struct dlm_mix_share *share = malloc(2 * n_files * sizeof *share);
    FILE *f = share ? open_memstream(&text, &len) : NULL;
    p->report->share = share;
    if (!f)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    uint64_t tokens[2] = {0};
    for (size_t i = 0; i < 2 * n_files; i++) {
        share[i] = dlm_mix_share(p->mix, i / 2, i % 2);
        tokens[i % 2] += share[i].tokens;
    }
    fprintf(f, "split\tsource\tweight\tshare\tdocuments\ttokens\tof_documents\tof_tokens\n");
    for (int split = 0; split < 2; split++)
        for (size_t i = 0; i < n_files && tokens[split]; i++) {
            const struct dlm_mix_share *s = &share[2 * i + (size_t)split];
            fprintf(f, "%s\t%s\t%.9g\t%.9g\t%llu\t%llu\t%llu\t%llu\n", dlm_manifest_split(split), files[i], s->weight,
                    (double)s->tokens / (double)tokens[split], (unsigned long long)s->documents, (unsigned long long)s->tokens,
                    (unsigned long long)s->had_documents, (unsigned long long)s->had_tokens);
        }
    int rc = fclose(f) ? dlm_fail(err, DLM_ENOMEM, "out of memory") : write_text(p, "mix.tsv", text, len, err);
    free(text);
    return rc;
}

/* --- the directory -------------------------------------------------------------------------------------------------------- */

static int make_directory(const char *dir, char **temporary, struct dlm_error *err)
{
    struct stat st;
    *temporary = NULL;
    if (!lstat(dir, &st))
        return dlm_fail(err, DLM_EDATA, "'%s' exists already: a shard set is made under a new name", dir);
    *temporary = dlm_output_make_dir(dir);
    return *temporary ? 0 : dlm_fail_errno(err, errno == ENOMEM ? DLM_ENOMEM : DLM_EIO, "cannot make '%s'", dir);
}

static int publish(const char *temporary, const char *dir, struct dlm_error *err)
{
    int rc = dlm_output_sync_dir(temporary, err);
    if (rc)
        return rc;
    if (dlm_stop_signal())
        return dlm_fail(err, DLM_ESTOPPED, "stopped");
    int bad = renameat2(AT_FDCWD, temporary, AT_FDCWD, dir, RENAME_NOREPLACE) ? errno : 0;
    if (bad == EINVAL || bad == ENOSYS) /* where the file system cannot refuse; rename replaces at most an empty directory */
        bad = rename(temporary, dir) ? errno : 0;
    errno = bad;
    if (bad)
        return dlm_fail_errno(err, DLM_EIO, "cannot make '%s'", dir);
    char *parent = strdup(dir), *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash)
        slash[slash == parent] = 0;
    struct dlm_error ignored; /* the set stands; that its name is on disk is all that could fail */
    if (parent)
        (void)dlm_output_sync_dir(slash ? parent : ".", &ignored);
    free(parent);
    return 0;
}

static void side_release(struct side *s)
{
    dlm_stream_writer_free(s->writer);
    if (s->file)
        fclose(s->file);
    free(s->path);
    free(s->sequence);
    dlm_manifest_release(&s->manifest);
}

int dlm_pack(const char *name, char *const *files, size_t n_files, const struct dlm_pack_options *o, struct dlm_pack_report *report,
             struct dlm_error *err)
{
    struct pack p = {.o = o, .report = report};
    *report = (struct dlm_pack_report){0};
    if (!o->seq_len || o->seq_len > DLM_PACK_MAX_SEQ_LEN)
        return dlm_fail(err, DLM_EUSAGE, "a sequence has 1 to %d tokens", (int)DLM_PACK_MAX_SEQ_LEN);
    size_t len = strlen(name);
    while (len > 1 && name[len - 1] == '/')
        len--;
    char *dir = strndup(name, len);
    if (!dir)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (o->weights && o->dedup) {
        free(dir);
        return dlm_fail(err, DLM_EUSAGE, "sources that are mixed by weight are not de-duplicated");
    }
    for (size_t i = 0; o->weights && i < n_files; i++)
        if (strpbrk(files[i], "\t\n")) {
            free(dir);
            return dlm_fail(err, DLM_EUSAGE, "a source with a tab or a line feed in its name cannot be mixed: it stands in mix.tsv");
        }
    int rc = make_directory(dir, &p.dir, err);
    if (rc) {
        free(dir);
        return rc;
    }
    p.shard_sequences = o->shard_tokens / o->seq_len ? o->shard_tokens / o->seq_len : 1;
    p.hash = XXH64_createState();
    p.hash128 = XXH3_createState();
    for (int i = 0; i < 2; i++)
        p.side[i].sequence = malloc((size_t)o->seq_len * sizeof *p.side[i].sequence);
    dlm_progress_init(&p.progress, o->progress_name, "tokens", 0, 0, o->progress);
    if (p.hash && p.hash128 && p.side[0].sequence && p.side[1].sequence) {
        XXH64_reset(p.hash, 0);
        XXH3_128bits_reset(p.hash128);
        rc = o->weights ? dlm_mix_new(&p.mix, o->weights, n_files, o->seed, err) : 0;
        if (!rc)
            rc = read_all(&p, files, n_files, err);
        if (!rc && p.mix)
            rc = settle(&p, files, err);
    } else {
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    if (!rc) {
        dlm_progress_release(&p.progress);
        dlm_progress_init(&p.progress, o->progress_name, "tokens", p.done, 0, o->progress);
        p.done = 0;
        rc = pack_all(&p, err);
    }
    if (!rc)
        rc = write_manifest(&p, err);
    if (!rc && p.mix)
        rc = write_mix(&p, files, n_files, err);
    dlm_progress_release(&p.progress);
    for (int i = 0; i < 2; i++)
        side_release(&p.side[i]);
    report->peak = peak_so_far();
    dlm_pool_free(p.pool);
    dlm_shuffle_free(p.shuffle);
    dlm_mix_free(p.mix);
    dlm_vocab_free(p.vocab);
    XXH64_freeState(p.hash);
    XXH3_freeState(p.hash128);
    if (!rc)
        rc = publish(p.dir, dir, err);
    if (rc) {
        dlm_output_remove_dir(p.dir);
        free(report->share);
        report->share = NULL;
    }
    free(p.dir);
    free(dir);
    return rc;
}
