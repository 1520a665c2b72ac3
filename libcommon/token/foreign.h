/* Ids in the files of others: Megatron's indexed data sets, and bare numbers.
 *
 * Megatron: PREFIX.bin holds the ids, PREFIX.idx says what they are, both little endian: "MMIDIDX\0\0", version 1 (u64), type of an id
 * (u8: 1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16), number of sequences S (u64), of document bounds D (u64), S lengths (i32), S offsets in
 * the .bin (i64), D bounds (i64): document d is the sequences from bound d to bound d + 1. Raw: ids of 2 or 4 bytes and nothing else.
 * Neither carries a vocabulary, so that and the end id come from the caller. A reader gives what a token stream would hold: documents
 * that each end with the end id, added where the file has none. Nothing is believed unchecked: ids are below vocab_size, and the
 * sequences fill the .bin from its first byte to its last, in order, as Megatron writes them. Not for several threads.
 */
#ifndef DLM_TOKEN_FOREIGN_H
#define DLM_TOKEN_FOREIGN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dlm_foreign_format { DLM_FOREIGN_MEGATRON, DLM_FOREIGN_RAW16, DLM_FOREIGN_RAW32 };

struct dlm_foreign_reader;

/* path: of Megatron the prefix, or either file; of raw ids a file, "-" for standard input. */
int dlm_foreign_reader_open(struct dlm_foreign_reader **out, enum dlm_foreign_format format, const char *path, uint32_t vocab_size,
                            uint32_t end, struct dlm_error *err);
/* Up to max ids, at least one until the end: *got = 0. */
int dlm_foreign_read(struct dlm_foreign_reader *r, uint32_t *ids, size_t max, size_t *got, struct dlm_error *err);
/* End ids that were added so far. */
uint64_t dlm_foreign_added(const struct dlm_foreign_reader *r);
void dlm_foreign_reader_close(struct dlm_foreign_reader *r);

struct dlm_foreign_writer;

/* path: of Megatron the prefix, where neither file may exist; of raw ids a file, NULL or "-" for standard output. Megatron gets a
 * sequence and a document for each end id, in u16 where vocab_size < 65500 as Megatron itself chooses, else i32; 4 bytes of memory a
 * document are needed for its index. */
int dlm_foreign_writer_new(struct dlm_foreign_writer **out, enum dlm_foreign_format format, const char *path, uint32_t vocab_size,
                           uint32_t end, struct dlm_error *err);
int dlm_foreign_write(struct dlm_foreign_writer *w, const uint32_t *ids, size_t n, struct dlm_error *err);
/* Whole files under their names, the .idx last. Without it, free leaves nothing. */
int dlm_foreign_finish(struct dlm_foreign_writer *w, struct dlm_error *err);
void dlm_foreign_writer_free(struct dlm_foreign_writer *w);

#endif
