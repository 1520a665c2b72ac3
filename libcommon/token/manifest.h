/* manifest.tsv: what a shard set holds, one row a shard (dlm-shards(5)).
 *
 * Train shards first, then val, each numbered from 0 without a gap, so a row's file name follows from its place. One text for one
 * set: what parses prints again byte for byte, or it does not parse.
 */
#ifndef DLM_TOKEN_MANIFEST_H
#define DLM_TOKEN_MANIFEST_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define DLM_MANIFEST_COLUMNS "split\tfile\tsequences\ttokens\tbytes\tchecksum"
enum { DLM_MANIFEST_NAME_MAX = 32 };

struct dlm_manifest_row {
    int split;       /* 0 train, 1 val */
    uint32_t number; /* of the shard in its split */
    uint64_t sequences, tokens, bytes, checksum;
};

struct dlm_manifest {
    struct dlm_manifest_row *rows; /* owned */
    size_t n, cap;
};

/* "train" or "val". */
const char *dlm_manifest_split(int split);
/* "train-00003.tok.zst" */
void dlm_manifest_file(char name[DLM_MANIFEST_NAME_MAX], int split, uint32_t number);

int dlm_manifest_add(struct dlm_manifest *m, const struct dlm_manifest_row *row, struct dlm_error *err);
/* `name` (of the file) stands in errors. On failure m is empty. */
int dlm_manifest_parse(struct dlm_manifest *m, const char *text, size_t len, const char *name, struct dlm_error *err);
/* *text is malloc'ed for the caller. */
int dlm_manifest_print(const struct dlm_manifest *m, char **text, size_t *len, struct dlm_error *err);
void dlm_manifest_release(struct dlm_manifest *m);

#endif
