/* The reader of tables: columns by name, headers again, NA, repeated rows, and every bad input by name, line and column. */
#include "metric/table.h"
#include "tap.h"

#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/dlm-table-XXXXXX", path[2][64];

static void put(int i, const char *text)
{
    snprintf(path[i], sizeof path[i], "%s/%d.tsv", dir, i);
    FILE *f = fopen(path[i], "w");
    if (!f || fputs(text, f) == EOF || fclose(f))
        printf("Bail out! cannot write %s\n", path[i]);
}

/* The sum of column b over all rows, or the error. */
static int sum_b(int files, double *sum, uint64_t *rows, struct dlm_error *err)
{
    struct dlm_table *t;
    const char *const names[] = {path[0], path[1]};
    int rc = dlm_table_new(&t, names, (size_t)files, err), b = -1;
    *sum = 0;
    if (!rc)
        rc = (b = dlm_table_want(t, "b", true, err)) < 0 ? b : 0;
    while (!rc && (rc = dlm_table_next(t, err)) == 1) {
        double v;
        rc = dlm_table_number(t, b, &v, err);
        if (!isnan(v))
            *sum += v;
    }
    *rows = dlm_table_rows(t);
    dlm_table_free(t);
    return rc;
}

static void good(const char *text, double want, uint64_t rows, const char *what)
{
    struct dlm_error err = {{0}};
    double sum;
    uint64_t n;
    put(0, text);
    int rc = sum_b(1, &sum, &n, &err);
    tap_ok(!rc && sum == want && n == rows, "%s (sum %g of %llu rows) %s", what, sum, (unsigned long long)n, err.msg);
}

static void bad(const char *text, const char *want, const char *what)
{
    struct dlm_error err = {{0}};
    double sum;
    uint64_t n;
    put(0, text);
    int rc = sum_b(1, &sum, &n, &err);
    tap_ok(rc == DLM_EDATA && strstr(err.msg, want) && strstr(err.msg, path[0]), "%s: %s", what, err.msg);
}

int main(void)
{
    struct dlm_error err = {{0}};
    double sum;
    uint64_t n;
    if (!mkdtemp(dir))
        return 1;
    good("a\tb\n1\t2\n3\t4\n", 6, 2, "columns by name");
    good("a\tb\n1\t2\na\tb\n3\t4\n", 6, 2, "a header again");
    good("a\tb\tc\n1\t2\tx\nb\ta\tc\n4\t3\tx\n", 6, 2, "a header again in another order");
    good("a\tb\n1\t2\na\tb\tc\n3\t4\tz\n", 6, 2, "a header again with another column");
    good("a\tb\n1\tNA\n3\t\n5\t7\n", 7, 3, "NA and empty fields are not measured");
    good("a\tb\r\n1\t2\r\n", 2, 1, "lines that end as on DOS");
    good("a\tb\n1\t2\n3\t4", 6, 2, "no newline at the end");
    good("a\tb\n", 0, 0, "a header alone");
    good("run\tkind\tstep\tloss\tb\nx\tval\t1\t2.5\t1\nx\tval\t1\t2.50\t1\nx\ttrain\t1\t2.6\t1\ny\tval\t1\t2.7\t1\n", 3, 3,
         "rows equal in run, kind, step and loss count once");
    good("run\tkind\tstep\tloss\tb\nx\tval\tNA\t2.5\t1\nx\tval\tNA\t2.6\t1\n", 2, 2, "rows without a step are not compared");
    bad("run\tkind\tstep\tloss\tb\nx\tval\t1\t2.5\t1\nx\tval\t1\t2.6\t1\n", "line 3, column 'loss': 2.6, but line 2",
        "equal but for the loss");
    bad("", "is empty", "empty input");
    bad("a\tc\n1\t2\n", "line 1: the header has no column 'b'", "a missing column");
    bad("a\tb\n1\t2\n3\n", "line 3: 1 field where the header has 2", "a short row");
    bad("a\tb\n1\t2\t3\n", "line 2: 3 fields where the header has 2", "a long row");
    bad("a\tb\n1\t2\n\n3\t4\n", "line 3: 1 field where", "an empty line");
    bad("a\tb\n1\t2x\n", "line 2, column 'b': '2x' is not a number", "text where a number belongs");
    bad("a\tb\n1\tnan\n", "'nan' is not a number", "nan");
    bad("a\tb\n1\tinf\n", "'inf' is not a number", "inf");
    bad("a\tb\n1\t0x10\n", "'0x10' is not a number", "hexadecimal");
    bad("a\tb\n1\t 2\n", "' 2' is not a number", "a space before a number");
    bad("b\tb\n1\t2\n", "column 'b' is named twice", "a column named twice");

    put(0, "a\tb\n1\t2\n");
    put(1, "b\tz\n40\tq\n");
    tap_ok(!sum_b(2, &sum, &n, &err) && sum == 42 && n == 2, "two files of different columns");
    put(1, "a\tb\n1\tq\n");
    tap_ok(sum_b(2, &sum, &n, &err) == DLM_EDATA && strstr(err.msg, path[1]) && strstr(err.msg, "line 2"),
           "lines count within each file: %s", err.msg);
    FILE *f = fopen(path[0], "w");
    for (int i = 0; f && i < 3 << 20; i++)
        fputc('x', f);
    fclose(f);
    tap_ok(sum_b(1, &sum, &n, &err) == DLM_EDATA && strstr(err.msg, "longer than"), "a line without end: %s", err.msg);
    f = fopen(path[0], "w");
    fwrite("a\tb\n1\t2\0\n", 1, 10, f);
    fclose(f);
    tap_ok(sum_b(1, &sum, &n, &err) == DLM_EDATA && strstr(err.msg, "NUL"), "a NUL byte: %s", err.msg);
    unlink(path[0]);
    tap_ok(sum_b(1, &sum, &n, &err) == DLM_EIO && strstr(err.msg, "No such file"), "no file: %s", err.msg);
    strcpy(path[0], dir);
    tap_ok(sum_b(1, &sum, &n, &err) == DLM_EIO && strstr(err.msg, "Is a directory"), "a directory: %s", err.msg);

    put(0, "");
    f = fopen(path[0], "w"); /* enough rows that the table of rows seen grows several times */
    fputs("run\tkind\tstep\tloss\tb\n", f);
    for (int twice = 0; twice < 2; twice++)
        for (int i = 0; i < 5000; i++)
            fprintf(f, "r\ttrain\t%d\t%d.5\t1\n", i, i);
    fclose(f);
    tap_ok(!sum_b(1, &sum, &n, &err) && sum == 5000, "5000 rows twice count once: %g %s", sum, err.msg);
    unlink(path[0]);
    unlink(path[1]);
    rmdir(dir);
    return tap_end();
}
