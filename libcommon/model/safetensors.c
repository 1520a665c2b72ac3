/* safetensors, read strictly and written plainly.
 *
 * A file is: u64 little-endian n; n bytes of JSON, {"NAME": {"dtype": "F32", "shape": […], "data_offsets": [begin, end]}, …} with an optional
 * "__metadata__" of strings; then the data. Every count in the header is a claim that is checked before it is used. What tensors mean, and
 * whether their numbers are finite, is for the caller.
 */
#include "model/safetensors.h"

#include "model/split.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are stored little-endian and read as they stand"
#endif

#define HEADER_MAX ((uint64_t)100000000) /* as the format's own library has it */

static const struct {
    const char *name;
    size_t size;
    enum dlm_st_type type;
} types[] = {
    {"F32", 4, DLM_ST_F32},   {"BF16", 2, DLM_ST_BF16}, {"F64", 8, DLM_ST_F64},     {"I32", 4, DLM_ST_I32},     {"I64", 8, DLM_ST_I64},
    {"U8", 1, DLM_ST_U8},     {"BOOL", 1, DLM_ST_OTHER}, {"I8", 1, DLM_ST_OTHER},   {"F8_E4M3", 1, DLM_ST_OTHER}, {"F8_E5M2", 1, DLM_ST_OTHER},
    {"I16", 2, DLM_ST_I16},   {"U16", 2, DLM_ST_OTHER}, {"F16", 2, DLM_ST_OTHER},   {"U32", 4, DLM_ST_OTHER},   {"U64", 8, DLM_ST_OTHER},
};

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

/* Entry and range, while the ranges are checked. */
struct range {
    size_t begin, end, entry;
};

static int by_begin(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* an empty tensor sorts before the one that begins where it ends */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct dlm_st_entry *)a)->name, ((const struct dlm_st_entry *)b)->name);
}

static bool whole(const json_t *v, size_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (size_t)json_integer_value(v);
    return true;
}

static int parse_entry(struct dlm_st_file *f, size_t at, const char *name, json_t *v, size_t data_size, struct range *r, struct dlm_error *err)
{
    struct dlm_st_entry *e = &f->entries[at];
    json_t *dtype = json_object_get(v, "dtype"), *shape = json_object_get(v, "shape"), *offsets = json_object_get(v, "data_offsets");
    if (!json_is_object(v) || !json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) || json_object_size(v) != 3)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' has not just dtype, shape and data_offsets", f->path, name);
    size_t item = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, json_string_value(dtype))) {
            item = types[i].size;
            e->type = types[i].type;
        }
    if (!item)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' has the unknown dtype '%s'", f->path, name, json_string_value(dtype));
    if (json_array_size(shape) > 8)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' has %zu dimensions", f->path, name, json_array_size(shape));
    e->rank = (unsigned)json_array_size(shape);
    e->n = 1;
    for (unsigned i = 0; i < e->rank; i++)
        if (!whole(json_array_get(shape, i), &e->shape[i]))
            return dlm_fail(err, DLM_EDATA, "%s: a dimension of '%s' is not a whole number", f->path, name);
    for (unsigned i = 0; i < e->rank; i++)
        if (__builtin_mul_overflow(e->n, e->shape[i], &e->n))
            return dlm_fail(err, DLM_EDATA, "%s: the shape of '%s' is too large", f->path, name);
    size_t bytes;
    if (json_array_size(offsets) != 2 || !whole(json_array_get(offsets, 0), &r->begin) || !whole(json_array_get(offsets, 1), &r->end))
        return dlm_fail(err, DLM_EDATA, "%s: data_offsets of '%s' are not two whole numbers", f->path, name);
    if (r->begin > r->end || r->end > data_size)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' is said to lie at bytes %zu to %zu of %zu", f->path, name, r->begin, r->end, data_size);
    if (__builtin_mul_overflow(e->n, item, &bytes) || bytes != r->end - r->begin)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' has %zu elements of %zu bytes in %zu bytes", f->path, name, e->n, item, r->end - r->begin);
    r->entry = at;
    e->name = strdup(name);
    return e->name ? 0 : dlm_fail(err, DLM_ENOMEM, "%s: no memory for the header", f->path);
}

static int parse_metadata(const struct dlm_st_file *f, json_t *v, struct dlm_error *err)
{
    const char *key;
    json_t *text;
    if (!json_is_object(v))
        return dlm_fail(err, DLM_EDATA, "%s: __metadata__ is not an object", f->path);
    json_object_foreach(v, key, text)
        if (!json_is_string(text))
            return dlm_fail(err, DLM_EDATA, "%s: __metadata__ holds something that is not text", f->path);
    return 0;
}

static int parse_header(struct dlm_st_file *f, json_t *root, size_t data_at, struct dlm_error *err)
{
    if (!json_is_object(root))
        return dlm_fail(err, DLM_EDATA, "%s: the header is not a JSON object", f->path);
    const size_t data_size = f->size - data_at, most = json_object_size(root);
    struct range *ranges = calloc(most + 1, sizeof *ranges);
    f->entries = calloc(most + 1, sizeof *f->entries);
    if (!ranges || !f->entries) {
        free(ranges);
        return dlm_fail(err, DLM_ENOMEM, "%s: no memory for the header", f->path);
    }
    int rc = 0;
    const char *name;
    json_t *v;
    json_object_foreach(root, name, v) {
        if (!strcmp(name, "__metadata__"))
            rc = parse_metadata(f, v, err);
        else {
            f->n++;
            rc = parse_entry(f, f->n - 1, name, v, data_size, &ranges[f->n - 1], err);
        }
        if (rc)
            break;
    }
    if (!rc) {
        qsort(ranges, f->n, sizeof *ranges, by_begin);
        size_t at = 0;
        for (size_t i = 0; i < f->n && !rc; i++) {
            struct dlm_st_entry *e = &f->entries[ranges[i].entry];
            if (ranges[i].begin != at)
                rc = dlm_fail(err, DLM_EDATA, "%s: '%s' begins at byte %zu of the data, %s byte %zu", f->path, e->name, ranges[i].begin,
                              ranges[i].begin < at ? "inside the tensor that ends at" : "leaving a gap after", at);
            at = ranges[i].end;
            e->offset = data_at + ranges[i].begin;
            e->bytes = ranges[i].end - ranges[i].begin;
        }
        if (!rc && at != data_size)
            rc = dlm_fail(err, DLM_EDATA, "%s: tensors end at byte %zu, the data at byte %zu", f->path, at, data_size);
    }
    free(ranges);
    if (!rc)
        qsort(f->entries, f->n, sizeof *f->entries, by_name);
    return rc;
}

static int open_file(struct dlm_st_file *f, struct dlm_error *err)
{
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not hang us */
    if (f->fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", f->path);
    struct stat st;
    if (fstat(f->fd, &st))
        return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", f->path);
    if (!S_ISREG(st.st_mode))
        return dlm_fail(err, DLM_EDATA, "%s: not a regular file", f->path);
    if (st.st_size < 8)
        return dlm_fail(err, DLM_EDATA, "%s: %lld bytes are too few for a safetensors file", f->path, (long long)st.st_size);
    f->size = (size_t)st.st_size;
    return 0;
}

/* [offset, offset + bytes) lies in the file as it was when opened. */
static int read_range(const struct dlm_st_file *f, size_t offset, size_t bytes, void *to, struct dlm_error *err)
{
    for (size_t done = 0; done < bytes;) {
        const size_t ask = bytes - done < (size_t)1 << 30 ? bytes - done : (size_t)1 << 30;
        ssize_t k = pread(f->fd, (char *)to + done, ask, (off_t)(offset + done));
        if (k > 0)
            done += (size_t)k;
        else if (k == 0)
            return dlm_fail(err, DLM_EDATA, "%s: the file ends at byte %zu: it was cut short while it was read", f->path, offset + done);
        else if (errno != EINTR)
            return dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", f->path);
    }
    return 0;
}

static int read_header(struct dlm_st_file *f, struct dlm_error *err)
{
    uint64_t n;
    int rc = read_range(f, 0, sizeof n, &n, err);
    if (rc)
        return rc;
    if (n > f->size - 8 || n > HEADER_MAX)
        return dlm_fail(err, DLM_EDATA, "%s: a header of %llu bytes is claimed in a file of %zu", f->path, (unsigned long long)n, f->size);
    char *text = malloc((size_t)n + 1);
    if (!text)
        return dlm_fail(err, DLM_ENOMEM, "%s: no memory for the header", f->path);
    rc = read_range(f, 8, (size_t)n, text, err);
    if (!rc && (!n || *text != '{'))
        rc = dlm_fail(err, DLM_EDATA, "%s: the header does not begin as JSON", f->path);
    json_error_t where;
    json_t *root = rc ? NULL : json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!rc)
        rc = root ? parse_header(f, root, 8 + (size_t)n, err) : dlm_fail(err, DLM_EDATA, "%s: header, byte %d: %s", f->path, where.position, where.text);
    json_decref(root);
    return rc;
}

int dlm_st_open(struct dlm_st_file *f, const char *path, struct dlm_error *err)
{
    *f = (struct dlm_st_file){.fd = -1, .path = strdup(path)};
    if (!f->path)
        return dlm_fail(err, DLM_ENOMEM, "no memory to open '%s'", path);
    int rc = open_file(f, err);
    if (!rc)
        rc = read_header(f, err);
    if (rc)
        dlm_st_close(f);
    return rc;
}

void dlm_st_close(struct dlm_st_file *f)
{
    for (size_t i = 0; f->entries && i < f->n; i++)
        free(f->entries[i].name);
    free(f->entries);
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct dlm_st_file){.fd = -1};
}

const struct dlm_st_entry *dlm_st_find(const struct dlm_st_file *f, const char *name)
{
    struct dlm_st_entry key = {.name = (char *)(uintptr_t)name};
    return f->n ? bsearch(&key, f->entries, f->n, sizeof *f->entries, by_name) : NULL;
}

int dlm_st_read(const struct dlm_st_file *f, const struct dlm_st_entry *e, void *to, struct dlm_error *err)
{
    return read_range(f, e->offset, e->bytes, to, err);
}

int dlm_st_read_part(const struct dlm_st_file *f, const struct dlm_st_entry *e, size_t at, size_t n, float *to, struct dlm_error *err)
{
    if (e->type == DLM_ST_F32)
        return read_range(f, e->offset + at * sizeof *to, n * sizeof *to, to, err);
    if (e->type != DLM_ST_BF16)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' is neither F32 nor BF16", f->path, e->name);
    int rc = read_range(f, e->offset + 2 * at, 2 * n, dlm_split_half(to, n), err);
    if (!rc)
        dlm_split_widen(to, n);
    return rc;
}

int dlm_st_read_f32(const struct dlm_st_file *f, const struct dlm_st_entry *e, float *to, struct dlm_error *err)
{
    return dlm_st_read_part(f, e, 0, e->n, to, err);
}

int dlm_st_add_low_part(const struct dlm_st_file *f, const struct dlm_st_entry *e, size_t at, size_t n, float *to, struct dlm_error *err)
{
    int16_t low[2048];
    int rc = 0;
    if (e->type != DLM_ST_I16)
        return dlm_fail(err, DLM_EDATA, "%s: '%s' is not I16", f->path, e->name);
    for (size_t done = 0; !rc && done < n;) {
        const size_t some = n - done < 2048 ? n - done : 2048;
        rc = read_range(f, e->offset + 2 * (at + done), 2 * some, low, err);
        for (size_t i = 0; !rc && i < some; i++) {
            uint32_t bits;
            memcpy(&bits, &to[done + i], 4);
            if (bits & 0xffff)
                rc = dlm_fail(err, DLM_EDATA, "%s: '%s' completes a BF16 tensor, but element %zu was none", f->path, e->name, at + done + i);
            bits += (uint32_t)low[i];
            memcpy(&to[done + i], &bits, 4);
        }
        done += some;
    }
    return rc;
}

int dlm_st_add_low(const struct dlm_st_file *f, const struct dlm_st_entry *e, float *to, struct dlm_error *err)
{
    return dlm_st_add_low_part(f, e, 0, e->n, to, err);
}

/* --- writing ----------------------------------------------------------------------------------------------------------------- */

static int put_tensor(FILE *to, const float *data, size_t n, enum dlm_st_type type)
{
    if (type == DLM_ST_F32)
        return fwrite(data, sizeof *data, n, to) == n ? 0 : -1;
    uint16_t block[4096];
    for (size_t at = 0; at < n;) {
        size_t k = n - at < 4096 ? n - at : 4096;
        for (size_t i = 0; i < k; i++)
            block[i] = type == DLM_ST_BF16 ? dlm_split_high(data[at + i]) : dlm_split_low(data[at + i]);
        if (fwrite(block, sizeof *block, k, to) != k)
            return -1;
        at += k;
    }
    return 0;
}

static size_t elements(const struct dlm_st_item *it)
{
    size_t n = 1;
    for (unsigned i = 0; i < it->rank; i++)
        n *= it->shape[i];
    return n;
}

/* The header with its length before it, padded with spaces so that the data begin at a multiple of 8. NULL: no memory. */
static char *make_header(const struct dlm_st_item *items, size_t n, size_t *len)
{
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t at = 0;
    bool good = root != NULL;
    for (size_t i = 0; i < n && good; i++) {
        const struct dlm_st_item *it = &items[i];
        size_t bytes = elements(it) * (it->type == DLM_ST_F32 ? 4 : 2);
        json_t *shape = json_array();
        for (unsigned k = 0; k < it->rank && good; k++)
            good = json_array_append_new(shape, json_integer((json_int_t)it->shape[k])) == 0;
        json_t *v = json_pack("{s:s, s:o, s:[I, I]}", "dtype", it->type == DLM_ST_F32 ? "F32" : it->type == DLM_ST_BF16 ? "BF16" : "I16", "shape", shape, "data_offsets",
                              (json_int_t)at, (json_int_t)(at + bytes));
        good = good && v && json_object_set_new(root, it->name, v) == 0;
        at += bytes;
    }
    char *text = good ? json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL, *out = NULL;
    json_decref(root);
    if (text) {
        size_t used = strlen(text), padded = (used + 7) & ~(size_t)7;
        out = malloc(8 + padded);
        if (out) {
            uint64_t word = padded;
            memcpy(out, &word, 8);
            memcpy(out + 8, text, used);
            memset(out + 8 + used, ' ', padded - used);
            *len = 8 + padded;
        }
    }
    free(text);
    return out;
}

/* Item i, which has no data of its own, piece by piece through `piece` (DLM_ST_PIECE). 0, or what `give` failed with; *good: that it could be written. */
static int put_pieces(FILE *to, const struct dlm_st_item *items, size_t i, dlm_st_give *give, void *of, float *piece, bool *good, struct dlm_error *err)
{
    const size_t n = elements(&items[i]);
    for (size_t at = 0; at < n && *good; at += DLM_ST_PIECE) {
        const size_t some = n - at < DLM_ST_PIECE ? n - at : DLM_ST_PIECE;
        int rc = give(of, i, at, some, piece, err);
        if (rc)
            return rc;
        *good = !put_tensor(to, piece, some, items[i].type);
    }
    return 0;
}

int dlm_st_write_from(const char *path, const struct dlm_st_item *items, size_t n, dlm_st_give *give, void *of, struct dlm_error *err)
{
    size_t len = 0;
    char *header = make_header(items, n, &len);
    float *piece = give ? malloc(DLM_ST_PIECE * sizeof *piece) : NULL;
    if (!header || (give && !piece)) {
        free(header);
        free(piece);
        return dlm_fail(err, DLM_ENOMEM, "no memory to write '%s'", path);
    }
    FILE *to = fopen(path, "we");
    if (!to) {
        free(header);
        free(piece);
        return dlm_fail_errno(err, DLM_EIO, "cannot create '%s'", path);
    }
    errno = 0;
    bool good = fwrite(header, 1, len, to) == len;
    free(header);
    int rc = 0;
    for (size_t i = 0; i < n && good && !rc; i++) {
        if (items[i].data)
            good = !put_tensor(to, items[i].data, elements(&items[i]), items[i].type);
        else
            rc = put_pieces(to, items, i, give, of, piece, &good, err);
    }
    free(piece);
    good = good && !rc && !fflush(to) && !fsync(fileno(to));
    int saved = good ? 0 : errno ? errno : EIO;
    struct stat st;
    bool regular = !fstat(fileno(to), &st) && S_ISREG(st.st_mode); /* a device stays */
    if (fclose(to) && !saved)
        saved = errno;
    if (!saved)
        return 0;
    if (regular)
        unlink(path);
    errno = saved;
    return rc ? rc : dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
}

int dlm_st_write(const char *path, const struct dlm_st_item *items, size_t n, struct dlm_error *err)
{
    return dlm_st_write_from(path, items, n, NULL, NULL, err);
}
