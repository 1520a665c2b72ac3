/* Documents out of text: files or standard input, plain or zstd-compressed, cut where the person says.
 *
 * What ends a document: the file; a line feed or a NUL, which are dropped; a run of blank lines (only spaces, tabs, CR), which
 * stays with the document before it; or the JSON text of one line, of which one field is the document. Files never run into each
 * other. Memory: one document, or about part_bytes where documents may come in parts.
 */
#ifndef DLM_TOKEN_DOCUMENT_H
#define DLM_TOKEN_DOCUMENT_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dlm_document_end { DLM_BY_FILE, DLM_BY_LINE, DLM_BY_BLANK, DLM_BY_NUL };

struct dlm_document_options {
    enum dlm_document_end by;
    const char *field;  /* not NULL: JSON Lines, and this field is the text; borrowed */
    bool strict;        /* text that is not UTF-8 is an error */
    bool unparsed;      /* with field: parts are the lines of JSON, which the caller reads with dlm_field_text, several at a time perhaps */
    size_t part_bytes;  /* not 0: longer documents may come in parts, cut as dlm_split_cut cuts */
    const atomic_bool *quit; /* may be NULL: another thread sets it when no more is wanted, and waiting for input ends; borrowed */
};

/* All of a document, or a part of it. */
struct dlm_document_part {
    const uint8_t *text; /* owned by the reader, until the next call */
    size_t len;
    size_t context;      /* bytes behind text[len) that may be looked at: 1 behind a cut, 0 at the end */
    bool first, last;
    uint64_t line;       /* with field: of the file, from 1 */
    const char *name;    /* of the file, for errors; one of the paths, or "standard input" */
};

struct dlm_documents;

/* paths: borrowed, read in order; "-" is standard input; no path at all is standard input. */
int dlm_documents_open(struct dlm_documents **out, const char *const *paths, size_t n, const struct dlm_document_options *options,
                       struct dlm_error *err);
/* 1 and a part, 0 at the end of the last file, or an error that names file and byte or line. */
int dlm_documents_next(struct dlm_documents *d, struct dlm_document_part *part, struct dlm_error *err);
/* Bytes read so far and in all, as stored; *total is 0 when not known. */
uint64_t dlm_documents_position(const struct dlm_documents *d, uint64_t *total);
void dlm_documents_close(struct dlm_documents *d);

#endif
