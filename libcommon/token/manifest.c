/* manifest.tsv, read and written. */
#include "token/manifest.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *dlm_manifest_split(int split)
{
    return split ? "val" : "train";
}

void dlm_manifest_file(char name[DLM_MANIFEST_NAME_MAX], int split, uint32_t number)
{
    snprintf(name, DLM_MANIFEST_NAME_MAX, "%s-%05" PRIu32 ".tok.zst", dlm_manifest_split(split), number);
}

void dlm_manifest_release(struct dlm_manifest *m)
{
    free(m->rows);
    *m = (struct dlm_manifest){0};
}

int dlm_manifest_add(struct dlm_manifest *m, const struct dlm_manifest_row *row, struct dlm_error *err)
{
    if (m->n == m->cap) {
        size_t more = m->cap ? 2 * m->cap : 16;
        struct dlm_manifest_row *p = realloc(m->rows, more * sizeof *p);
        if (!p)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        m->rows = p;
        m->cap = more;
    }
    m->rows[m->n++] = *row;
    return 0;
}

enum { ROW_MAX = 160 };

static int print_row(char to[ROW_MAX], const struct dlm_manifest_row *r)
{
    char file[DLM_MANIFEST_NAME_MAX];
    dlm_manifest_file(file, r->split, r->number);
    return snprintf(to, ROW_MAX, "%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%016" PRIx64 "\n", dlm_manifest_split(r->split), file,
                    r->sequences, r->tokens, r->bytes, r->checksum);
}

int dlm_manifest_print(const struct dlm_manifest *m, char **text, size_t *len, struct dlm_error *err)
{
    size_t n = sizeof DLM_MANIFEST_COLUMNS;
    char *p = malloc(n + m->n * ROW_MAX + 1);
    if (!p)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    memcpy(p, DLM_MANIFEST_COLUMNS "\n", n);
    for (size_t i = 0; i < m->n; i++)
        n += (size_t)print_row(p + n, &m->rows[i]);
    p[n] = 0;
    *text = p;
    *len = n;
    return 0;
}

/* The number that a field spells out, in base 10 or 16. */
static bool number(const char *field, size_t len, int base, uint64_t *v)
{
    char digits[24];
    if (!len || len >= sizeof digits || strspn(field, base == 16 ? "0123456789abcdef" : "0123456789") < len)
        return false;
    memcpy(digits, field, len);
    digits[len] = 0;
    *v = strtoull(digits, NULL, base);
    return true; /* one that overflows does not print again as it was */
}

/* How much of a field an error quotes. */
static int shown(size_t width)
{
    return width < 60 ? (int)width : 60;
}

static int parse_line(struct dlm_manifest *m, const char *line, size_t len, const char *name, size_t line_no, struct dlm_error *err)
{
    static const char *const columns[6] = {"split", "file", "sequences", "tokens", "bytes", "checksum"};
    const char *field[7];
    size_t width[7], n = 0;
    for (size_t at = 0; at <= len && n < 7; at += width[n++] + 1) {
        const char *tab = memchr(line + at, '\t', len - at);
        field[n] = line + at;
        width[n] = tab ? (size_t)(tab - field[n]) : len - at;
    }
    if (n != 6)
        return dlm_fail(err, DLM_EDATA, "'%s' line %zu: %s 6 columns", name, line_no, n < 6 ? "fewer than" : "more than");
    struct dlm_manifest_row r = {.split = width[0] == 3 && !memcmp(field[0], "val", 3)};
    if (!r.split && !(width[0] == 5 && !memcmp(field[0], "train", 5)))
        return dlm_fail(err, DLM_EDATA, "'%s' line %zu: split is train or val, not '%.*s'", name, line_no, shown(width[0]), field[0]);
    const struct dlm_manifest_row *last = m->n ? &m->rows[m->n - 1] : NULL;
    if (last && last->split > r.split)
        return dlm_fail(err, DLM_EDATA, "'%s' line %zu: train shards stand before val shards", name, line_no);
    r.number = last && last->split == r.split ? last->number + 1 : 0;
    uint64_t *const to[6] = {NULL, NULL, &r.sequences, &r.tokens, &r.bytes, &r.checksum};
    for (int i = 2; i < 6; i++)
        if (!number(field[i], width[i], i == 5 ? 16 : 10, to[i]))
            return dlm_fail(err, DLM_EDATA, "'%s' line %zu: %s is not a number: '%.*s'", name, line_no, columns[i], shown(width[i]),
                            field[i]);
    char file[DLM_MANIFEST_NAME_MAX], again[ROW_MAX];
    dlm_manifest_file(file, r.split, r.number);
    if (width[1] != strlen(file) || memcmp(field[1], file, width[1]))
        return dlm_fail(err, DLM_EDATA, "'%s' line %zu: the file is '%s' here, not '%.*s'", name, line_no, file, shown(width[1]),
                        field[1]);
    if (print_row(again, &r) != (int)len + 1 || memcmp(again, line, len))
        return dlm_fail(err, DLM_EDATA, "'%s' line %zu: a number is not written as it is printed", name, line_no);
    return dlm_manifest_add(m, &r, err);
}

int dlm_manifest_parse(struct dlm_manifest *m, const char *text, size_t len, const char *name, struct dlm_error *err)
{
    *m = (struct dlm_manifest){0};
    static const char head[] = DLM_MANIFEST_COLUMNS "\n";
    size_t at = sizeof head - 1, line_no = 1;
    if (len < at || memcmp(text, head, at))
        return dlm_fail(err, DLM_EDATA, "'%s' line 1: the columns are not those of a shard set's manifest", name);
    int rc = 0;
    while (!rc && at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        line_no++;
        if (!end)
            rc = dlm_fail(err, DLM_EDATA, "'%s' line %zu: the line has no end", name, line_no);
        else
            rc = parse_line(m, text + at, (size_t)(end - text) - at, name, line_no, err);
        if (!rc)
            at = (size_t)(end - text) + 1;
    }
    if (!rc && (!m->n || m->rows[0].split))
        rc = dlm_fail(err, DLM_EDATA, "'%s' names no train shard", name);
    if (rc)
        dlm_manifest_release(m);
    return rc;
}
