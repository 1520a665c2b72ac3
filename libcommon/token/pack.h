/* Making a shard set: documents of token streams, shuffled, split by content, packed into whole sequences.
 *
 * The set appears whole under its name or not at all: everything is written into DIR.tmp-XXXXXX beside it, synced, and renamed. Same
 * input, options and seed give the same bytes, whatever memory and threads. Sources may be mixed by weight (token/mix.h). Not a reader of
 * sets: that is token/shards.h.
 */
#ifndef DLM_TOKEN_PACK_H
#define DLM_TOKEN_PACK_H

#include "base/error.h"
#include "base/progress.h"
#include "token/mix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DLM_PACK_MAX_SEQ_LEN = 16 << 20 };

struct dlm_pack_options {
    uint64_t seq_len;      /* ids, 1 … DLM_PACK_MAX_SEQ_LEN */
    double val;            /* share of documents held out, [0, 1] */
    uint64_t shard_tokens; /* ids in a shard, rounded down to whole sequences, at least one */
    uint64_t memory;       /* bytes for shuffling, see token/shuffle.h; not used with peak */
    uint64_t peak;         /* 0, or bytes that the whole process may have in memory: shuffling gets what is left of it, and fewer
                            * threads work where they would take too much */
    bool dedup;            /* of documents with equal ids, keep one */
    int level, threads;
    uint64_t seed;
    const char *progress_name;
    enum dlm_progress_mode progress;
    /* (n_files) or NULL, borrowed: the files are mixed by weight, see token/mix.h; not with dedup, since equal documents of two
     * sources would move the shares. What came of it stands in mix.tsv of the set. */
    const double *weights;
};

struct dlm_pack_report {
    uint64_t read, empty, duplicates; /* documents */
    uint64_t unended;                 /* documents that were given the end id their stream lacked */
    uint64_t runs;                    /* that went to disk */
    uint64_t peak;                    /* bytes that the process had in memory at most; 0 where that is not known */
    struct {
        uint64_t documents, sequences, tokens, bytes; /* tokens and bytes: of whole sequences */
        uint64_t left_over;                           /* tokens that filled no sequence */
    } split[2];                                       /* train, val */
    struct dlm_mix_share *share;                      /* (n_files, 2) malloc'ed for the caller, of a mixture; else NULL */
};

/* Shard the streams of `files` ("-": standard input) into `dir`. DLM_EDATA where dir exists, DLM_EUSAGE where `peak` is too little, with
 * the least that is not. On failure nothing is left. */
int dlm_pack(const char *dir, char *const *files, size_t n_files, const struct dlm_pack_options *o, struct dlm_pack_report *report,
             struct dlm_error *err);

#endif
