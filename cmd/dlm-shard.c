/* dlm-shard: from token streams to a shard set; a set listed, verified, or written as a stream again; and ids from and to the files
 * of others. */
#include "frame.h"

#include "base/build.h"
#include "base/number.h"
#include "base/output.h"
#include "base/stop.h"
#include "token/foreign.h"
#include "token/pack.h"
#include "token/shards.h"
#include "token/stream.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_IDS = 64 << 10 };

static struct dlm_common common;
static struct dlm_pack_options pack = {.seq_len = 2048, .val = 0.01, .shard_tokens = 64 << 20, .peak = 1 << 30};
static uint64_t level = 3;
static bool list, verify, cat, split_given;
static int split, format, import;
static bool format_given, importing;
static const char *vocab_path;
static struct dlm_texts mix; /* FILE=WEIGHT */
static bool making[5]; /* which options of making a set were there */

static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "Making a set:", NULL, 0, 0, NULL, NULL},
    {"seq-len", 'n', DLM_OPT_COUNT, "N", "tokens in a sequence (2048)", &pack.seq_len, 1, DLM_PACK_MAX_SEQ_LEN, NULL, &making[0]},
    {"val", 0, DLM_OPT_REAL, "FRACTION", "share of documents held out, by their content (0.01)", &pack.val, 0, 1, NULL, &making[1]},
    {"shard-tokens", 0, DLM_OPT_COUNT, "N", "tokens in a shard file (64Mi)", &pack.shard_tokens, 1, 1e15, NULL, &making[2]},
    {"memory", 'm', DLM_OPT_COUNT, "BYTES", "memory to keep within; what does not fit goes to disk (1Gi)", &pack.peak, 1 << 20, 1e15,
     NULL, &making[3]},
    {"dedup", 0, DLM_OPT_FLAG, NULL, "of documents with equal ids, keep one", &pack.dedup, 0, 0, NULL, NULL},
    {"mix", 0, DLM_OPT_TEXTS, "FILE=WEIGHT", "mix sources so that their tokens have these shares; more operands may follow", &mix, 0, 0, NULL,
     NULL},
    {"level", 0, DLM_OPT_COUNT, "L", "zstd's level of compression, 1 to 19 (3)", &level, 1, 19, NULL, &making[4]},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Looking at one:", NULL, 0, 0, NULL, NULL},
    {"list", 0, DLM_OPT_FLAG, NULL, "print the manifest, a TSV, of the set DIR", &list, 0, 0, NULL, NULL},
    {"verify", 0, DLM_OPT_FLAG, NULL, "check every byte of the set DIR", &verify, 0, 0, NULL, NULL},
    {"cat", 0, DLM_OPT_FLAG, NULL, "write the sequences of the set DIR, or token streams, as one token stream", &cat, 0, 0, NULL, NULL},
    {"split", 0, DLM_OPT_CHOICE, "SPLIT", "with --cat: only those of train or val (both)", &split, 0, 0, "train|val", &split_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Files of others:", NULL, 0, 0, NULL, NULL},
    {"format", 0, DLM_OPT_CHOICE, "FORMAT", "with --cat: write tokens, megatron (PREFIX.bin and .idx), raw16 or raw32 (tokens)", &format, 0, 0,
     "tokens|megatron|raw16|raw32", &format_given},
    {"import", 0, DLM_OPT_CHOICE, "FORMAT", "make a token stream of megatron (PREFIX), raw16 or raw32 files", &import, 0, 0,
     "megatron|raw16|raw32", &importing},
    {"vocab", 't', DLM_OPT_TEXT, "FILE", "with --import: the tokenizer.json that the ids are of", &vocab_path, 0, 0, NULL, NULL},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Common:", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMMON(common),
};

static const struct dlm_command command = {
    .name = "dlm-shard",
    .purpose = "shuffle, split and pack token streams into a shard set",
    .synopsis = "-o DIR [-n SEQ_LEN] [--val FRACTION] [--shard-tokens N] [-m BYTES] [--dedup] [--level L] [FILE.tok.zst...]\n"
                "-o DIR --mix FILE.tok.zst=WEIGHT... [-n SEQ_LEN] [...]\n"
                "--list DIR\n--verify DIR\n--cat DIR|FILE.tok.zst... [--split train|val] [--format FORMAT] [-o PATH]\n"
                "--import FORMAT -t vocab.json [-o FILE.tok.zst] FILE...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_stream_libraries,
};

static void report(const struct dlm_pack_report *r, char *const *files, size_t n_files)
{
    typedef unsigned long long u;
    if (r->empty)
        dlm_frame_say(&command, "dropped %llu empty document%s", (u)r->empty, r->empty == 1 ? "" : "s");
    if (r->duplicates)
        dlm_frame_say(&command, "dropped %llu duplicate document%s", (u)r->duplicates, r->duplicates == 1 ? "" : "s");
    if (r->unended)
        dlm_frame_say(&command, "added the end id that the last document of %llu stream%s lacked", (u)r->unended,
                      r->unended == 1 ? "" : "s");
    for (int i = 0; i < 2; i++)
        if (r->split[i].left_over)
            dlm_frame_say(&command, "left over, as they fill no sequence: %llu %s tokens", (u)r->split[i].left_over, i ? "val" : "train");
    for (size_t i = 0; r->share && i < 2 * n_files; i++) { /* by split, then source */
        const struct dlm_mix_share *s = &r->share[i % n_files * 2 + i / n_files];
        uint64_t all = 0;
        for (size_t k = 0; k < n_files; k++)
            all += r->share[2 * k + i / n_files].tokens;
        if (all)
            dlm_frame_say(&command, "%s: %.4g %% from '%s', %llu of its %llu tokens (weight %.4g %%)", i < n_files ? "train" : "val",
                          100. * (double)s->tokens / (double)all, files[i % n_files], (u)s->tokens, (u)s->had_tokens, 100. * s->weight);
    }
    for (int i = 0; common.verbose && i < 2; i++)
        dlm_frame_say(&command, "%s: %llu documents, %llu sequences, %llu tokens, %llu bytes", i ? "val" : "train",
                      (u)r->split[i].documents, (u)r->split[i].sequences, (u)r->split[i].tokens, (u)r->split[i].bytes);
    if (common.verbose)
        dlm_frame_say(&command, "%llu documents read, %llu sorted runs on disk", (u)r->read, (u)r->runs);
    if (common.verbose && r->peak)
        dlm_frame_say(&command, "at most %llu KiB of memory", (u)r->peak >> 10);
}

static int write_list(const char *dir, struct dlm_error *err)
{
    struct dlm_shards *s;
    struct dlm_output out;
    size_t n;
    int rc = dlm_shards_open(&s, dir, err);
    if (rc)
        return rc;
    const char *text = dlm_shards_manifest(s, &n);
    rc = dlm_output_open(&out, common.output, err);
    if (!rc && fwrite(text, 1, n, out.file) != n)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write %s", dlm_output_name(&out));
    if (!rc)
        rc = dlm_output_commit(&out, err);
    dlm_output_abort(&out);
    dlm_shards_close(s);
    return rc;
}

/* Where --cat and --import write: a token stream, or a file of others. */
struct sink {
    struct dlm_output out;
    struct dlm_stream_writer *stream;
    struct dlm_foreign_writer *foreign;
    const struct dlm_vocab *vocab; /* borrowed */
    uint32_t end;
    uint64_t documents, bytes;
};

static int sink_open(struct sink *k, const struct dlm_vocab *v, struct dlm_error *err)
{
    struct dlm_stream_info info = dlm_stream_info_of(v);
    k->vocab = v;
    k->end = info.specials.end;
    if (k->end == DLM_NO_ID && format)
        return dlm_fail(err, DLM_EDATA, "the vocabulary has no end id, so documents have no ends");
    if (format)
        return dlm_foreign_writer_new(&k->foreign, (enum dlm_foreign_format)(format - 1), common.output, info.vocab_size, k->end, err);
    int rc = dlm_output_open_binary(&k->out, common.output, err);
    return rc ? rc : dlm_stream_writer_new(&k->stream, k->out.file, dlm_output_name(&k->out), &info, (int)level, pack.threads, 0, err);
}

static int sink_put(struct sink *k, const uint32_t *ids, size_t n, struct dlm_error *err)
{
    if (dlm_stop_signal())
        return dlm_fail(err, DLM_ESTOPPED, "stopped");
    if (k->foreign)
        return dlm_foreign_write(k->foreign, ids, n, err);
    int rc = dlm_stream_write(k->stream, ids, n, err); /* checks them */
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        k->documents += ids[i] == k->end;
    k->bytes += dlm_vocab_count_bytes(k->vocab, ids, n);
    return 0;
}

/* rc: of what was put; 0 makes it whole, anything else takes it away. */
static int sink_close(struct sink *k, int rc, struct dlm_error *err)
{
    if (!rc && k->foreign) {
        rc = dlm_foreign_finish(k->foreign, err);
    } else if (!rc) {
        dlm_stream_count_documents(k->stream, k->documents);
        dlm_stream_count_bytes(k->stream, k->bytes);
        rc = dlm_stream_finish(k->stream, err);
        if (!rc)
            rc = dlm_output_commit(&k->out, err);
    }
    dlm_output_abort(&k->out);
    dlm_stream_writer_free(k->stream);
    dlm_foreign_writer_free(k->foreign);
    return rc;
}

static int cat_set(const char *dir, struct dlm_error *err)
{
    struct dlm_shards *s;
    struct sink k = {0};
    int rc = dlm_shards_open(&s, dir, err);
    if (rc)
        return rc;
    size_t n = dlm_shards_seq_len(s);
    uint32_t *ids = malloc(n * sizeof *ids);
    if (!ids)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    else if (split_given && !dlm_shards_sequences(s, (enum dlm_shards_split)split))
        rc = dlm_fail(err, DLM_EDATA, "'%s' has no %s split", dir, split ? "val" : "train");
    if (!rc)
        rc = sink_open(&k, dlm_shards_vocab(s), err);
    for (int i = 0; i < 2 && !rc; i++)
        for (uint64_t j = 0; j < dlm_shards_sequences(s, (enum dlm_shards_split)i) && !rc && (!split_given || i == split); j++) {
            rc = dlm_shards_read(s, (enum dlm_shards_split)i, j, ids, err);
            if (!rc)
                rc = sink_put(&k, ids, n, err);
        }
    rc = sink_close(&k, rc, err);
    dlm_shards_close(s);
    free(ids);
    return rc;
}

/* The ids of a stream, as far as they go, to a sink that the first stream opens. */
static int cat_stream(const char *path, struct sink *k, struct dlm_vocab **v, uint32_t *ids, struct dlm_error *err)
{
    struct dlm_stream_reader *r;
    int rc = dlm_stream_reader_open(&r, path, err);
    if (rc)
        return rc;
    const struct dlm_stream_info *i = dlm_stream_reader_info(r);
    const char *name = dlm_stream_reader_name(r);
    if (!*v && !i->json)
        rc = dlm_fail(err, DLM_EDATA, "%s carries no vocabulary: it is a shard; give the directory it is in", name);
    else if (!*v && !(rc = dlm_vocab_parse(v, i->json, i->json_len, name, err)))
        rc = sink_open(k, *v, err);
    if (!rc && (i->fingerprint != dlm_vocab_fingerprint(*v) || i->vocab_size != dlm_vocab_size(*v)))
        rc = dlm_fail(err, DLM_EDATA, "%s has another vocabulary than the streams before it", name);
    for (size_t got = 1; !rc && got;) {
        rc = dlm_stream_read(r, ids, BLOCK_IDS, &got, err);
        if (!rc)
            rc = sink_put(k, ids, got, err);
    }
    dlm_stream_reader_close(r);
    return rc;
}

static int write_cat(char **files, int n, struct dlm_error *err)
{
    struct stat st;
    struct sink k = {0};
    struct dlm_vocab *v = NULL;
    bool set = !stat(files[0], &st) && S_ISDIR(st.st_mode);
    if (set && n > 1)
        dlm_frame_misuse(&command, "--cat takes one DIR");
    if (set)
        return cat_set(files[0], err);
    if (split_given)
        dlm_frame_misuse(&command, "--split needs a shard set, and '%s' is no directory", files[0]);
    uint32_t *ids = malloc(BLOCK_IDS * sizeof *ids);
    int rc = ids ? 0 : dlm_fail(err, DLM_ENOMEM, "out of memory");
    for (int i = 0; i < n && !rc; i++)
        rc = cat_stream(files[i], &k, &v, ids, err);
    rc = sink_close(&k, rc, err);
    dlm_vocab_free(v);
    free(ids);
    return rc;
}

static int write_import(char **files, int n, struct dlm_error *err)
{
    char told[256];
    struct sink k = {0};
    struct dlm_vocab *v = NULL;
    uint64_t added = 0;
    int rc = dlm_vocab_load(&v, vocab_path, err);
    if (!rc)
        rc = dlm_vocab_complete(&v, vocab_path, told, sizeof told, err);
    if (!rc && told[0] && !common.quiet)
        dlm_frame_say(&command, "added to the vocabulary of '%s': %s", vocab_path, told);
    uint32_t *ids = malloc(BLOCK_IDS * sizeof *ids);
    if (!rc && !ids)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (!rc)
        rc = sink_open(&k, v, err);
    for (int i = 0; i < n && !rc; i++) {
        struct dlm_foreign_reader *r;
        rc = dlm_foreign_reader_open(&r, (enum dlm_foreign_format)import, files[i], dlm_vocab_size(v), dlm_vocab_specials(v).end, err);
        for (size_t got = !rc; got && !rc;) {
            rc = dlm_foreign_read(r, ids, BLOCK_IDS, &got, err);
            if (!rc)
                rc = sink_put(&k, ids, got, err);
        }
        added += r ? dlm_foreign_added(r) : 0;
        dlm_foreign_reader_close(r);
    }
    rc = sink_close(&k, rc, err);
    if (!rc && added && !common.quiet)
        dlm_frame_say(&command, "added the end id that %llu document%s lacked", (unsigned long long)added, added == 1 ? "" : "s");
    dlm_vocab_free(v);
    free(ids);
    return rc;
}

/* The sources of a mixture, --mix and the operands behind it: files and weights, kept until the process ends. */
static void mixture(char **operands, size_t n, char ***files, double **weights)
{
    size_t all = mix.n + n;
    *files = calloc(all, sizeof **files);
    *weights = calloc(all, sizeof **weights);
    for (size_t i = 0; i < all && *files && *weights; i++) {
        const char *arg = i < mix.n ? mix.at[i] : operands[i - mix.n], *equals = strrchr(arg, '=');
        char *file = equals ? strndup(arg, (size_t)(equals - arg)) : NULL;
        if (!equals || equals == arg || !dlm_number_real(equals + 1, &(*weights)[i]) ||
            !((*weights)[i] >= 1e-9 && (*weights)[i] <= 1e15))
            dlm_frame_misuse(&command, "--mix takes FILE=WEIGHT with a weight from 1e-9 to 1e15, not '%s'", arg);
        if (file && strpbrk(file, "\t\n"))
            dlm_frame_misuse(&command, "--mix: a source with a tab or a line feed in its name");
        if (!file) { /* out of memory, as the caller sees by no files */
            free(*files);
            *files = NULL;
            return;
        }
        (*files)[i] = file;
        for (size_t k = 0; k < i; k++)
            if (!strcmp((*files)[k], file))
                dlm_frame_misuse(&command, "--mix: '%s' is there twice", file);
    }
}

static int make(char **files, int n_operands, struct dlm_error *err)
{
    static char standard[] = "-", *none[] = {standard};
    double *weights = NULL;
    size_t n = (size_t)n_operands;
    if (!common.output)
        dlm_frame_misuse(&command, "--output DIR is missing");
    if (!strcmp(common.output, "-") || !*common.output)
        dlm_frame_misuse(&command, "--output is a directory: a shard set cannot be written to '%s'", common.output);
    if (mix.n && pack.dedup)
        dlm_frame_misuse(&command, "--dedup does not go with --mix: which source loses an equal document would move the shares");
    if (mix.n) {
        mixture(files, n, &files, &weights);
        n += mix.n;
        if (!files || !weights)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
    }
    if (!n && isatty(STDIN_FILENO))
        dlm_frame_misuse(&command, "no FILE, and standard input is a terminal");
    if (!n) {
        files = none;
        n = 1;
    }
    struct dlm_pack_report r;
    pack.level = (int)level;
    pack.seed = common.seed;
    pack.progress_name = command.name;
    pack.progress = (enum dlm_progress_mode)common.progress;
    pack.weights = weights;
    int rc = dlm_pack(common.output, files, n, &pack, &r, err);
    if (!rc && !common.quiet)
        report(&r, files, n);
    if (!rc)
        free(r.share);
    if (weights) {
        for (size_t i = 0; i < n; i++)
            free(files[i]);
        free(files);
        free(weights);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv), n = argc - first, rc;
    char **files = argv + first;
    static char standard[] = "-", *none[] = {standard};
    const char *look = list ? "list" : verify ? "verify" : cat ? "cat" : "import";
    pack.threads = common.threads ? (int)common.threads : dlm_build_cores();
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* memory that is freed is given back, so that --memory can be kept */
    if (list + verify + cat + importing > 1)
        dlm_frame_misuse(&command, "only one of --list, --verify, --cat and --import");
    if (format_given && !cat)
        dlm_frame_misuse(&command, "--format goes with --cat");
    if (split_given && !cat)
        dlm_frame_misuse(&command, "--split goes with --cat");
    if (vocab_path && !importing)
        dlm_frame_misuse(&command, "--vocab goes with --import: a token stream carries its vocabulary");
    if (!list && !verify && !cat && !importing) {
        rc = make(files, n, &err);
    } else {
        bool odd = pack.dedup || mix.n || common.seed_given || making[0] || making[1] || making[2] || making[3];
        if (odd || (making[4] && !cat && !importing) || (making[4] && format))
            dlm_frame_misuse(&command, "--%s takes no options of making a set", look);
        if ((list || verify) ? n != 1 : cat && !n)
            dlm_frame_misuse(&command, "--%s takes one DIR", look);
        if (verify && common.output)
            dlm_frame_misuse(&command, "--verify has no output");
        if (importing && !vocab_path)
            dlm_frame_misuse(&command, "--import needs the vocabulary that the ids are of: -t FILE");
        if (importing && !n && (!import || isatty(STDIN_FILENO)))
            dlm_frame_misuse(&command, "--import has no %s", import ? "FILE, and standard input is a terminal" : "PREFIX");
        rc = list        ? write_list(files[0], &err)
             : verify    ? dlm_shards_verify(files[0], &err)
             : cat       ? write_cat(files, n, &err)
                         : write_import(n ? files : none, n ? n : 1, &err);
    }
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
