/* dlm-tokenize: text to ids and back, and the vocabularies for it. */
#include "frame.h"

#include "base/build.h"
#include "base/output.h"
#include "base/stop.h"
#include "text/ranks.h"
#include "text/split.h"
#include "token/corpus.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum mode { ENCODE = 1, TRAIN = 2, IDS = 4, DECODE = 8, STATS = 16, SHOW = 32 };

static struct dlm_common common;
static bool want_train, want_ids, want_decode, want_stats, want_show, strict, parse_special;
static bool size_given, pattern_given, frequency_given, sample_given, special_given, split_given, jsonl_given, level_given;
static uint64_t vocab_size, min_frequency = 1, level = 3;
static double sample = 1;
static int split;
static const char *vocab_path, *pattern = "cl100k", *field, *special = "<|begin_of_text|>,<|end_of_text|>,<|pad|>,<|mask|>";

/* clang-format off */
static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "What to do (default: encode to a token stream)", NULL, 0, 0, NULL, NULL},
    {"train",         0,   DLM_OPT_FLAG,   NULL,    "train a vocabulary", &want_train, 0, 0, NULL, NULL},
    {"ids",           0,   DLM_OPT_FLAG,   NULL,    "encode to text: ids, one document a line", &want_ids, 0, 0, NULL, NULL},
    {"decode",        'd', DLM_OPT_FLAG,   NULL,    "write the text of token streams", &want_decode, 0, 0, NULL, NULL},
    {"stats",         0,   DLM_OPT_FLAG,   NULL,    "TSV of documents, tokens and bytes of token streams", &want_stats, 0, 0, NULL, NULL},
    {"show-vocab",    0,   DLM_OPT_FLAG,   NULL,    "TSV of every id", &want_show, 0, 0, NULL, NULL},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Vocabulary", NULL, 0, 0, NULL, NULL},
    {"vocab",         't', DLM_OPT_TEXT,   "FILE",  "tokenizer.json, or a tiktoken rank file with --pattern", &vocab_path, 0, 0, NULL, NULL},
    {"vocab-size",    'V', DLM_OPT_COUNT,  "SIZE",  "ids to train: special tokens, 256 bytes, merges", &vocab_size, 1, 0x1p26, NULL, &size_given},
    {"pattern",       0,   DLM_OPT_TEXT,   "REGEX", "pieces of text: gpt2, cl100k, o200k or an expression (cl100k)", &pattern, 0, 0, NULL, &pattern_given},
    {"min-frequency", 0,   DLM_OPT_COUNT,  "N",     "merge pairs seen at least N times (1)", &min_frequency, 0, 0, NULL, &frequency_given},
    {"sample",        0,   DLM_OPT_REAL,   "SHARE", "train on this share of the documents, chosen by their text and --seed (1)", &sample, 1e-9, 1, NULL, &sample_given},
    {"special",       0,   DLM_OPT_TEXT,   "A,B,C,D", "names of ids 0 and on: begin, end, pad, mask, others", &special, 0, 0, NULL, &special_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Input and output", NULL, 0, 0, NULL, NULL},
    {"split",         0,   DLM_OPT_CHOICE, "WHERE", "a document ends at: file, line, blank, nul (file)", &split, 0, 0, "file|line|blank|nul", &split_given},
    {"jsonl",         0,   DLM_OPT_TEXT,   "FIELD", "documents are this field of JSON Lines", &field, 0, 0, NULL, &jsonl_given},
    {"strict",        0,   DLM_OPT_FLAG,   NULL,    "refuse text that is not UTF-8", &strict, 0, 0, NULL, NULL},
    {"parse-special", 0,   DLM_OPT_FLAG,   NULL,    "special tokens written in the text become their ids", &parse_special, 0, 0, NULL, NULL},
    {"level",         0,   DLM_OPT_COUNT,  "L",     "compression of the token stream, 1 to 19 (3)", &level, 1, 19, NULL, &level_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Common", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    .name = "dlm-tokenize",
    .purpose = "train vocabularies, encode text to token streams, decode them",
    .synopsis = "--train -V SIZE [-o vocab.json] [--pattern NAME|REGEX] [FILE...]\n"
                "-t vocab.json [-o out.tok.zst] [FILE...]\n"
                "-t vocab.json --ids [FILE...]\n"
                "-d [-t vocab.json] [--split line|nul] [-o text] [FILE.tok.zst...]\n"
                "--stats [FILE.tok.zst...]\n"
                "--show-vocab -t vocab.json",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .libraries = dlm_stream_libraries,
};

/* One operation, and no option that it would ignore. */
static enum mode check_mode(int operands)
{
    int mode = want_train * TRAIN | want_ids * IDS | want_decode * DECODE | want_stats * STATS | want_show * SHOW;
    if (mode & (mode - 1))
        dlm_frame_misuse(&command, "--train, --ids, --decode, --stats and --show-vocab exclude each other");
    mode = mode ? mode : ENCODE;
    bool text = mode & (ENCODE | IDS), ranks = pattern_given && vocab_path;
    const struct {
        bool given, fits;
        const char *name;
    } uses[] = {
        {vocab_path, mode != TRAIN, "vocab"},
        {size_given, mode == TRAIN, "vocab-size"},
        {pattern_given, mode == TRAIN || ranks, "pattern"},
        {frequency_given, mode == TRAIN, "min-frequency"},
        {sample_given, mode == TRAIN, "sample"},
        {special_given, mode == TRAIN, "special"},
        {parse_special, text, "parse-special"},
        {split_given, text || mode == TRAIN || mode == DECODE, "split"},
        {jsonl_given, text || mode == TRAIN, "jsonl"},
        {strict, text || mode == TRAIN, "strict"},
        {level_given, mode == ENCODE, "level"},
    };
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (uses[i].given && !uses[i].fits)
            dlm_frame_misuse(&command, "--%s has no meaning here", uses[i].name);
    if (split_given && jsonl_given)
        dlm_frame_misuse(&command, "--split and --jsonl exclude each other");
    if (mode == TRAIN && !size_given)
        dlm_frame_misuse(&command, "--train needs the size of the vocabulary: -V SIZE");
    if ((text || mode == SHOW) && !vocab_path)
        dlm_frame_misuse(&command, mode == SHOW ? "--show-vocab needs -t FILE" : "encoding needs a vocabulary: -t FILE");
    if (mode == SHOW && operands)
        dlm_frame_misuse(&command, "--show-vocab takes no operand");
    return mode;
}

/* The vocabulary of -t, with all the special ids that are needed. */
static int load_vocab(struct dlm_vocab **v, bool tell, struct dlm_error *err)
{
    char told[256];
    int rc = pattern_given ? dlm_vocab_load_ranks(v, vocab_path, dlm_split_pattern(pattern), err)
                           : dlm_vocab_load(v, vocab_path, err);
    rc = rc ? rc : dlm_vocab_complete(v, vocab_path, told, sizeof told, err);
    if (!rc && told[0] && tell && !common.quiet)
        dlm_frame_say(&command, "added to the vocabulary of '%s': %s", vocab_path, told);
    return rc;
}

/* The names of --special in a list; ends the program where they are not at least four different ones. */
static const char **special_names(size_t *n)
{
    char *text = strdup(special);
    const char **names = text ? malloc((strlen(text) + 1) * sizeof *names) : NULL;
    if (!names)
        dlm_frame_fail(&command, DLM_ENOMEM, &(struct dlm_error){"out of memory"});
    *n = 0;
    for (char *next = text, *name; (name = strsep(&next, ","));) {
        for (size_t i = 0; i < *n; i++)
            if (!strcmp(names[i], name))
                dlm_frame_misuse(&command, "--special names '%s' twice", name);
        if (strlen(name) < 2) /* a single character is that of a byte */
            dlm_frame_misuse(&command, "--special takes names of two characters or more, not '%s'", name);
        names[(*n)++] = name;
    }
    if (*n < 4)
        dlm_frame_misuse(&command, "--special takes at least four names: begin, end, pad, mask");
    return names;
}

/* The output as errors name it: the path in quotes. */
static const char *quoted(const struct dlm_output *out)
{
    static char name[600];
    snprintf(name, sizeof name, out->path ? "'%.500s'" : "%s", dlm_output_name(out));
    return name;
}

static enum dlm_progress_mode progress_mode(void)
{
    return common.quiet ? DLM_PROGRESS_NEVER : (enum dlm_progress_mode)common.progress;
}

static int show_training(void *to, size_t size)
{
    dlm_progress_update(to, size, NULL);
    return dlm_stop_signal() ? DLM_ESTOPPED : 0;
}

/* What a vocabulary of these names and this pattern would be refused for, before the text is read: a small one is made and read. */
static int check_names(const char *const *names, size_t n, struct dlm_error *err)
{
    struct dlm_trainer *t = NULL;
    struct dlm_trained made = {0};
    struct dlm_vocab *v = NULL;
    int rc = dlm_trainer_new(&t, dlm_split_pattern(pattern), 1, err);
    if (rc == DLM_EDATA)
        dlm_frame_misuse(&command, "--pattern: %s", err->msg);
    rc = rc ? rc : dlm_trainer_count(t, 0, "a", 1, 0, err);
    rc = rc ? rc : dlm_trainer_finish(t, names, n, n + 256, 1, NULL, NULL, &made, err);
    rc = rc ? rc : dlm_vocab_parse(&v, made.json, strlen(made.json), "the new vocabulary", err);
    if (!rc) {
        struct dlm_specials s = dlm_vocab_specials(v);
        if (s.begin != 0 || s.end != 1 || s.pad != 2 || s.mask != 3)
            dlm_frame_misuse(&command, "--special: one of these names is known for another role than its place says");
    }
    dlm_vocab_free(v);
    free(made.json);
    dlm_trainer_free(t);
    return rc;
}

/* What there is to say about a training that went well. */
static void tell_training(const struct dlm_trained *made)
{
    if (made->size < vocab_size && !common.quiet)
        dlm_frame_say(&command, "the text has no more pairs%s: the vocabulary has %zu ids, not %" PRIu64,
                      frequency_given ? " as frequent as --min-frequency" : "", made->size, vocab_size);
    if (sample_given && !common.quiet)
        dlm_frame_say(&command, "sample: %" PRIu64 " of %" PRIu64 " texts, %" PRIu64 " of %" PRIu64 " bytes", made->texts,
                      made->texts_seen, made->bytes, made->bytes_seen);
    if (common.verbose)
        dlm_frame_say(&command, "%" PRIu64 " bytes, %zu different words", made->bytes, made->words);
}

static int train(struct dlm_corpus *c, struct dlm_output *out, struct dlm_error *err)
{
    size_t n_names;
    const char **names = special_names(&n_names);
    struct dlm_trainer *t = NULL;
    struct dlm_trained made = {0};
    struct dlm_progress p;
    if (vocab_size < n_names + 256)
        dlm_frame_misuse(&command, "--vocab-size must be at least %zu: %zu special tokens and 256 bytes", n_names + 256, n_names);
    int rc = check_names(names, n_names, err);
    rc = rc ? rc : dlm_trainer_new(&t, dlm_split_pattern(pattern), (size_t)dlm_pool_lanes(c->pool), err);
    if (!rc)
        dlm_trainer_sample(t, sample, common.seed);
    rc = rc ? rc : dlm_corpus_count(c, t, err);
    dlm_progress_release(c->progress);
    dlm_progress_init(&p, command.name, "ids", vocab_size, 0, progress_mode());
    rc = rc ? rc : dlm_trainer_finish(t, names, n_names, vocab_size, min_frequency, show_training, &p, &made, err);
    dlm_progress_release(&p);
    if (!rc) {
        tell_training(&made);
        if (fwrite(made.json, 1, strlen(made.json), out->file) != strlen(made.json))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write %s", quoted(out));
    }
    free(made.json);
    free((char *)names[0]); /* the text that all of them are cut from */
    free(names);
    dlm_trainer_free(t);
    return rc;
}

struct encoding {
    struct dlm_stream_writer *stream;
    struct dlm_output *out;
    uint64_t tokens, documents, bytes;
    size_t on_line; /* ids on the line that is being written */
};

static int take_stream(void *to, const struct dlm_corpus_ids *b, struct dlm_error *err)
{
    struct encoding *e = to;
    e->tokens += b->n;
    e->documents += b->n_ends;
    e->bytes += b->bytes;
    dlm_stream_count_documents(e->stream, b->n_ends);
    dlm_stream_count_bytes(e->stream, b->bytes);
    return dlm_stream_write(e->stream, b->ids, b->n, err);
}

static int take_lines(void *to, const struct dlm_corpus_ids *b, struct dlm_error *err)
{
    struct encoding *e = to;
    for (size_t i = 0, k = 0; i < b->n || k < b->n_ends;) {
        if (k < b->n_ends && b->ends[k] == i) {
            putc_unlocked('\n', e->out->file);
            e->on_line = 0;
            k++;
        } else {
            fprintf(e->out->file, e->on_line++ ? " %" PRIu32 : "%" PRIu32, b->ids[i++]);
        }
    }
    return ferror(e->out->file) ? dlm_fail_errno(err, DLM_EIO, "cannot write %s", quoted(e->out)) : 0;
}

static int encode(struct dlm_corpus *c, bool lines, struct dlm_output *out, struct dlm_error *err)
{
    struct dlm_vocab *v = NULL;
    struct encoding e = {.out = out};
    int rc = load_vocab(&v, true, err);
    if (!rc && lines) {
        rc = dlm_corpus_encode(c, v, parse_special, false, take_lines, &e, err);
    } else if (!rc) {
        struct dlm_stream_info info = dlm_stream_info_of(v);
        rc = dlm_stream_writer_new_in(&e.stream, out->file, dlm_output_name(out), &info, (int)level, c->pool, 0, err);
        rc = rc ? rc : dlm_corpus_encode(c, v, parse_special, true, take_stream, &e, err);
        rc = rc ? rc : dlm_stream_finish(e.stream, err);
        dlm_stream_writer_free(e.stream);
    }
    dlm_progress_release(c->progress);
    if (!rc && !lines && common.verbose)
        dlm_frame_say(&command, "%" PRIu64 " documents, %" PRIu64 " tokens, %" PRIu64 " bytes", e.documents, e.tokens, e.bytes);
    dlm_vocab_free(v);
    return rc;
}

/* Open a stream and its vocabulary: its own, or that of -t, which must be the same one. *v is the caller's when *own. */
static int open_stream(struct dlm_stream_reader **r, const char *path, struct dlm_vocab *given, struct dlm_vocab **v,
                       struct dlm_error *err)
{
    *v = NULL;
    int rc = dlm_stream_reader_open(r, path, err);
    if (rc)
        return rc;
    const struct dlm_stream_info *info = dlm_stream_reader_info(*r);
    if (given && dlm_vocab_fingerprint(given) != info->fingerprint)
        return dlm_fail(err, DLM_EDATA, "%s was not made with the vocabulary '%s'", dlm_stream_reader_name(*r), vocab_path);
    if (given)
        return 0;
    return info->json ? dlm_vocab_parse(v, info->json, info->json_len, path, err)
                      : dlm_fail(err, DLM_EDATA, "%s carries no vocabulary: name it with -t", dlm_stream_reader_name(*r));
}

static int stats_row(const char *path, struct dlm_stream_reader *r, const struct dlm_vocab *v, FILE *to, struct dlm_error *err)
{
    uint64_t bytes;
    int rc = dlm_corpus_measure(r, v, &bytes, err);
    if (rc)
        return rc;
    struct dlm_stream_totals t = dlm_stream_reader_totals(r);
    for (const char *p = path; *p; p++)
        putc((unsigned char)*p < ' ' ? '?' : *p, to);
    fprintf(to, "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t", t.documents, t.tokens, bytes);
    fprintf(to, t.tokens ? "%.6g" : "NA", (double)bytes / (double)t.tokens);
    fprintf(to, "\t%" PRIu32 "\t%" PRIu64 "\n", dlm_stream_reader_info(r)->vocab_size, t.frames);
    return 0;
}

/* Decode streams, or print a row on each. */
static int read_streams(const struct dlm_corpus *c, enum mode mode, struct dlm_output *out, struct dlm_error *err)
{
    static const char *const standard_input[] = {"-"};
    const char *const *paths = c->n_paths ? c->paths : standard_input;
    struct dlm_vocab *given = NULL;
    int terminator = c->options.by == DLM_BY_LINE ? '\n' : c->options.by == DLM_BY_NUL ? 0 : -1;
    int rc = vocab_path ? load_vocab(&given, false, err) : 0;
    if (mode == STATS)
        fputs("file\tdocuments\ttokens\tbytes\tbytes_per_token\tvocab_size\tframes\n", out->file);
    for (size_t i = 0; !rc && i < (c->n_paths ? c->n_paths : 1); i++) {
        struct dlm_stream_reader *r = NULL;
        struct dlm_vocab *own = NULL;
        rc = open_stream(&r, paths[i], given, &own, err);
        if (!rc && mode == STATS)
            rc = stats_row(paths[i], r, given ? given : own, out->file, err);
        else if (!rc)
            rc = dlm_corpus_decode(r, given ? given : own, terminator, out->file, quoted(out), err);
        dlm_vocab_free(own);
        dlm_stream_reader_close(r);
    }
    dlm_vocab_free(given);
    return rc;
}

static int show(struct dlm_output *out, struct dlm_error *err)
{
    static const char *const kinds[] = {"unused", "byte", "merge", "added", "special"};
    struct dlm_vocab *v = NULL;
    int rc = load_vocab(&v, true, err);
    if (rc)
        return rc;
    fputs("id\tbytes\tkind\n", out->file);
    for (uint32_t id = 0; id < dlm_vocab_size(v); id++) {
        size_t n;
        const uint8_t *b = dlm_vocab_bytes(v, id, &n);
        const char *text = dlm_vocab_special_text(v, id);
        if (text)
            n = strlen(text);
        fprintf(out->file, "%" PRIu32 "\t", id);
        for (size_t i = 0; i < n; i++)
            fprintf(out->file, b[i] == '\\' ? "\\\\" : b[i] >= ' ' && b[i] < 0x7f ? "%c" : "\\x%02x", b[i]);
        fprintf(out->file, "\t%s\n", kinds[dlm_vocab_kind(v, id)]);
    }
    dlm_vocab_free(v);
    return 0;
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    struct dlm_output out;
    int first = dlm_frame_begin(&command, argc, argv);
    enum mode mode = check_mode(argc - first);
    struct dlm_progress progress;
    struct dlm_corpus corpus = {
        .paths = (const char *const *)argv + first,
        .n_paths = (size_t)(argc - first),
        .options = {.by = (enum dlm_document_end)split, .field = field, .strict = strict},
        .progress = &progress,
    };
    dlm_progress_init(&progress, command.name, "bytes", 0, 0, progress_mode());
    int rc = mode == ENCODE ? dlm_output_open_binary(&out, common.output, &err) : dlm_output_open(&out, common.output, &err);
    if (!rc && (mode & (TRAIN | ENCODE | IDS)))
        rc = dlm_pool_new(&corpus.pool, common.threads ? (int)common.threads : dlm_build_cores(), &err);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    switch (mode) {
    case TRAIN: rc = train(&corpus, &out, &err); break;
    case ENCODE:
    case IDS: rc = encode(&corpus, mode == IDS, &out, &err); break;
    case DECODE:
    case STATS: rc = read_streams(&corpus, mode, &out, &err); break;
    case SHOW: rc = show(&out, &err); break;
    }
    dlm_progress_release(&progress);
    dlm_pool_free(corpus.pool);
    rc = rc ? rc : dlm_output_commit(&out, &err);
    if (rc)
        dlm_frame_fail(&command, rc, &err);
    return dlm_frame_end(&command);
}
