/* dlm-shard: from token streams to a shard set; and a set listed, verified, or written as a stream again. */
#include "frame.h"

#include "base/build.h"
#include "base/number.h"
#include "base/output.h"
#include "base/stop.h"
#include "token/pack.h"
#include "token/shards.h"
#include "token/shuffle.h"
#include "token/stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct dlm_common common;
static struct dlm_pack_options pack = {.seq_len = 2048, .val = 0.01, .shard_tokens = 64 << 20, .memory = 1 << 30};
static uint64_t level = 3;
static bool list, verify, cat, split_given;
static int split;
static struct dlm_texts mix; /* FILE=WEIGHT */
static bool making[5]; /* which options of making a set were there */

static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "Making a set:", NULL, 0, 0, NULL, NULL},
    {"seq-len", 'n', DLM_OPT_COUNT, "N", "tokens in a sequence (2048)", &pack.seq_len, 1, DLM_PACK_MAX_SEQ_LEN, NULL, &making[0]},
    {"val", 0, DLM_OPT_REAL, "FRACTION", "share of documents held out, by their content (0.01)", &pack.val, 0, 1, NULL, &making[1]},
    {"shard-tokens", 0, DLM_OPT_COUNT, "N", "tokens in a shard file (64Mi)", &pack.shard_tokens, 1, 1e15, NULL, &making[2]},
    {"memory", 'm', DLM_OPT_COUNT, "BYTES", "memory for shuffling; the rest goes to disk (1Gi)", &pack.memory, DLM_SHUFFLE_MIN_MEMORY, 1e15,
     NULL, &making[3]},
    {"dedup", 0, DLM_OPT_FLAG, NULL, "of documents with equal ids, keep one", &pack.dedup, 0, 0, NULL, NULL},
    {"mix", 0, DLM_OPT_TEXTS, "FILE=WEIGHT", "mix sources so that their tokens have these shares; more operands may follow", &mix, 0, 0, NULL,
     NULL},
    {"level", 0, DLM_OPT_COUNT, "L", "zstd's level of compression, 1 to 19 (3)", &level, 1, 19, NULL, &making[4]},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Looking at one:", NULL, 0, 0, NULL, NULL},
    {"list", 0, DLM_OPT_FLAG, NULL, "print the manifest, a TSV, of the set DIR", &list, 0, 0, NULL, NULL},
    {"verify", 0, DLM_OPT_FLAG, NULL, "check every byte of the set DIR", &verify, 0, 0, NULL, NULL},
    {"cat", 0, DLM_OPT_FLAG, NULL, "write the sequences of the set DIR as a token stream", &cat, 0, 0, NULL, NULL},
    {"split", 0, DLM_OPT_CHOICE, "SPLIT", "with --cat: only those of train or val (both)", &split, 0, 0, "train|val", &split_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Common:", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMMON(common),
};

static const struct dlm_command command = {
    .name = "dlm-shard",
    .purpose = "shuffle, split and pack token streams into a shard set",
    .synopsis = "-o DIR [-n SEQ_LEN] [--val FRACTION] [--shard-tokens N] [-m BYTES] [--dedup] [--level L] [FILE.tok.zst...]\n"
                "-o DIR --mix FILE.tok.zst=WEIGHT... [-n SEQ_LEN] [...]\n"
                "--list DIR\n--verify DIR\n--cat DIR [--split train|val]",
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

/* The sequences of one split, end ids counted as documents. */
static int cat_split(struct dlm_shards *s, enum dlm_split which, struct dlm_stream_writer *w, uint32_t *ids, struct dlm_error *err)
{
    size_t n = dlm_shards_seq_len(s);
    uint32_t end = dlm_vocab_specials(dlm_shards_vocab(s)).end;
    uint64_t ends = 0;
    int rc = 0;
    for (uint64_t i = 0; i < dlm_shards_sequences(s, which) && !rc; i++) {
        rc = dlm_stop_signal() ? dlm_fail(err, DLM_ESTOPPED, "stopped") : dlm_shards_read(s, which, i, ids, err);
        for (size_t k = 0; k < n && !rc; k++)
            ends += ids[k] == end;
        if (!rc)
            rc = dlm_stream_write(w, ids, n, err);
    }
    dlm_stream_count_documents(w, ends);
    dlm_stream_count_bytes(w, dlm_shards_bytes(s, which));
    return rc;
}

static int write_cat(const char *dir, struct dlm_error *err)
{
    struct dlm_shards *s;
    struct dlm_output out;
    struct dlm_stream_writer *w = NULL;
    int rc = dlm_output_open_binary(&out, common.output, err);
    if (!rc && (rc = dlm_shards_open(&s, dir, err)))
        dlm_output_abort(&out);
    if (rc)
        return rc;
    uint32_t *ids = malloc(dlm_shards_seq_len(s) * sizeof *ids);
    struct dlm_stream_info info = dlm_stream_info_of(dlm_shards_vocab(s));
    if (!ids)
        rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
    else if (split_given && !dlm_shards_sequences(s, (enum dlm_split)split))
        rc = dlm_fail(err, DLM_EDATA, "'%s' has no %s split", dir, split ? "val" : "train");
    if (!rc)
        rc = dlm_stream_writer_new(&w, out.file, dlm_output_name(&out), &info, (int)level, pack.threads, 0, err);
    for (int i = 0; i < 2 && !rc; i++)
        if (!split_given || i == split)
            rc = cat_split(s, (enum dlm_split)i, w, ids, err);
    if (!rc)
        rc = dlm_stream_finish(w, err);
    if (!rc)
        rc = dlm_output_commit(&out, err);
    dlm_output_abort(&out);
    dlm_stream_writer_free(w);
    dlm_shards_close(s);
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
    if (split_given)
        dlm_frame_misuse(&command, "--split goes with --cat");
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
    int first = dlm_frame_begin(&command, argc, argv), looks = list + verify + cat, rc;
    pack.threads = common.threads ? (int)common.threads : dlm_build_cores();
    if (looks > 1)
        dlm_frame_misuse(&command, "only one of --list, --verify and --cat");
    if (!looks) {
        rc = make(argv + first, argc - first, &err);
    } else {
        const char *look = list ? "list" : verify ? "verify" : "cat";
        bool odd = pack.dedup || mix.n || common.seed_given || making[0] || making[1] || making[2] || making[3] || (making[4] && !cat);
        if (odd)
            dlm_frame_misuse(&command, "--%s takes no options of making a set", look);
        if (split_given && !cat)
            dlm_frame_misuse(&command, "--split goes with --cat");
        if (argc - first != 1)
            dlm_frame_misuse(&command, "--%s takes one DIR", look);
        if (verify && common.output)
            dlm_frame_misuse(&command, "--verify has no output");
        rc = list ? write_list(argv[first], &err) : verify ? dlm_shards_verify(argv[first], &err) : write_cat(argv[first], &err);
    }
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
