/* safetensors files: an 8-byte length, a JSON header, raw little-endian tensors.
 *
 * The reader checks everything before it trusts anything: header length against file size, offsets against the data, no overlap, no gap, shape times
 * item size equal to the range. Tensors are read from the file when asked for, so that one cut short meanwhile is an error like any other. The writer
 * streams in the order given.
 */
#ifndef DLM_MODEL_SAFETENSORS_H
#define DLM_MODEL_SAFETENSORS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum dlm_st_type { DLM_ST_F32, DLM_ST_BF16, DLM_ST_F64, DLM_ST_I32, DLM_ST_I64, DLM_ST_U8, DLM_ST_I16, DLM_ST_OTHER };

struct dlm_st_entry {
    char *name; /* owned */
    enum dlm_st_type type;
    unsigned rank;
    size_t shape[8];
    size_t n, bytes;   /* elements; their bytes in the file */
    size_t offset;     /* of the first in the file, bytes */
};

struct dlm_st_file {
    struct dlm_st_entry *entries; /* owned */
    size_t n;
    int fd;      /* owned; -1 when closed */
    size_t size; /* of the file, bytes, when it was opened */
    char *path;  /* owned */
};

int dlm_st_open(struct dlm_st_file *f, const char *path, struct dlm_error *err);
void dlm_st_close(struct dlm_st_file *f);
const struct dlm_st_entry *dlm_st_find(const struct dlm_st_file *f, const char *name);
/* The bytes as they stand in the file, into to (bytes). Threads may share the file. */
int dlm_st_read(const struct dlm_st_file *f, const struct dlm_st_entry *e, void *to, struct dlm_error *err);
/* Elements as float32 (from F32 or BF16) into to (n). DLM_EDATA for other types. */
int dlm_st_read_f32(const struct dlm_st_file *f, const struct dlm_st_entry *e, float *to, struct dlm_error *err);

/* Elements [at, at + n) of it, likewise. */
int dlm_st_read_part(const struct dlm_st_file *f, const struct dlm_st_entry *e, size_t at, size_t n, float *to, struct dlm_error *err);

/* Give float32 elements that were read from BF16 back what the rounding took: to (n) + the I16 item written from the same numbers, exactly. DLM_EDATA for
 * another type, or where an element is no BF16. */
int dlm_st_add_low(const struct dlm_st_file *f, const struct dlm_st_entry *e, float *to, struct dlm_error *err);
/* The same for elements [at, at + n) of it, which `to` holds. */
int dlm_st_add_low_part(const struct dlm_st_file *f, const struct dlm_st_entry *e, size_t at, size_t n, float *to, struct dlm_error *err);

/* A float32 is stored whole (F32), or as its nearest BF16, halves away from zero, with or without the 16 bits that this leaves (I16): as bit patterns,
 * f32 = (bf16 << 16) + i16. Rounding halves to even would leave 17 bits. */
struct dlm_st_item {
    const char *name;
    enum dlm_st_type type; /* F32, BF16 or I16, as stored */
    unsigned rank;
    const size_t *shape;
    const float *data;
};
/* Write a whole file at `path` (not atomic by itself: checkpoints are directories made aside). Synced. */
int dlm_st_write(const char *path, const struct dlm_st_item *items, size_t n, struct dlm_error *err);

/* Elements [at, at + n) of items[item], n ≤ DLM_ST_PIECE, into `to`. */
typedef int dlm_st_give(void *of, size_t item, size_t at, size_t n, float *to, struct dlm_error *err);
enum { DLM_ST_PIECE = 1 << 20 };
/* The same; items without data are asked for in order, piece by piece, so that what is written need not lie in the host's memory. */
int dlm_st_write_from(const char *path, const struct dlm_st_item *items, size_t n, dlm_st_give *give, void *of, struct dlm_error *err);

#endif
