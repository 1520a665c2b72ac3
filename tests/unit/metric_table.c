/* The reader of tables: columns by name, headers again, NA, repeated rows, and every bad input by name, line and column. */
#include "metric/table.h"

#include "base/number.h"
#include "base/rng.h"
#include "metric/repeats.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>
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

/* Short decimals are read without strtod: the same bits for every one. */
static void check_numbers(struct dlm_rng *rng)
{
    static const char *const odd[] = {"0", "-0", "1.", ".5", "+3", "9007199254740992", "9007199254740993", "123456789012345678",
                                      "1234567890123456789", "18446744073709551617", "1e22", "1e23", "-1e-22", "1e-23", "4.35", "0.1e1", "1e-400", "7e0000003",
                                      "999999999999999999e-22", "0.000000000000000000001", "179769313486231570000e288"};
    int wrong = 0;
    char text[64];
    double v;
    for (int i = 0; i < 200000; i++) {
        uint64_t digits = (uint64_t)dlm_rng_next(rng) << 32 | dlm_rng_next(rng);
        digits >>= dlm_rng_below(rng, 60);
        int e = (int)dlm_rng_below(rng, 50) - 25;
        if (i % 3)
            snprintf(text, sizeof text, "%s%lluE%d", i % 5 ? "" : "-", (unsigned long long)digits, e);
        else
            snprintf(text, sizeof text, i % 2 ? "%.9g" : "%.15g", (double)digits * pow(10, e));
        wrong += !dlm_number_field(text, strlen(text), &v) || v != strtod(text, NULL);
    }
    tap_ok(!wrong, "%d of 200000 decimals are read otherwise than by strtod", wrong);
    wrong = 0;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        double want = strtod(odd[i], NULL);
        wrong += !dlm_number_field(odd[i], strlen(odd[i]), &v) || v != want || signbit(v) != signbit(want);
    }
    tap_ok(!wrong, "nor %d odd ones", wrong);
    static const char *const none[] = {"", "-", "+", ".", "e5", "1e", "1e+", "--1", "1 ", " 1", "1x", "1e5x", "0x1", "1,5", "1e999", "nan", "inf", "1.2.3"};
    wrong = 0;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        wrong += dlm_number_field(none[i], strlen(none[i]), &v);
    tap_ok(!wrong, "%d of those that are none are taken for numbers", wrong);
}

/* Against an array of every step: rising, repeated, late and mixed rows, more than memory holds. */
static void check_repeats(struct dlm_rng *rng)
{
    enum { CURVES = 6, STEPS = 400000 };
    struct dlm_repeats *r = dlm_repeats_new();
    float *loss = calloc((size_t)CURVES * STEPS, sizeof *loss);
    struct dlm_error err = {{0}};
    uint64_t asked = 0, wrong = 0;
    for (size_t c = 0; r && loss && c < CURVES; c++) {
        for (size_t i = 0; i < STEPS; i++) {
            size_t step = i, times = 1;
            if (c % 2 && !dlm_rng_below(rng, 50)) { /* go back, and read some again or some that were left out */
                step = dlm_rng_below(rng, i + 1);
                times = 1 + dlm_rng_below(rng, 20);
            } else if (c % 3 == 2 && i % 7 == 0) {
                continue;
            }
            for (; times && step < STEPS; times--, step++) {
                float *at = &loss[c * STEPS + step];
                struct dlm_seen before = {0}, row = {(double)step, dlm_rng_uniform(rng), step + 1};
                int rc = dlm_repeats_row(r, c, &row, &before, &err);
                wrong += rc != (*at == 0) || (!rc && ((float)before.loss != *at || before.step != row.step || before.place != step + 1));
                *at = *at == 0 ? (float)row.loss : *at;
                asked++;
            }
        }
    }
    tap_ok(r && loss && !wrong && asked > 2000000, "of %llu rows %llu are called new or repeated wrongly %s", (unsigned long long)asked,
           (unsigned long long)wrong, err.msg);
    dlm_repeats_free(r);
    free(loss);
}

/* Bad rows passed over. */
static void check_skipping(void)
{
    struct dlm_error err = {{0}};
    struct dlm_table *t;
    const char *first;
    double v, sum = 0;
    put(0, "a\tb\n1\t2\n1\n1\tx\n2\t3\t4\n1\t40\n");
    const char *const names[] = {path[0]};
    int rc = dlm_table_new(&t, names, 1, &err), b = dlm_table_want(t, "b", true, &err);
    dlm_table_skip_bad(t);
    while (!rc && (rc = dlm_table_next(t, &err)) == 1) {
        rc = dlm_table_skip(t, dlm_table_number(t, b, &v, &err), &err);
        sum += isnan(v) ? 0 : v;
    }
    uint64_t skipped = dlm_table_skipped(t, &first);
    tap_ok(!rc && sum == 42 && skipped == 3 && strstr(first, "line 3: 1 field where"), "three bad rows are passed over: %s",
           first);
    dlm_table_free(t);
}

int main(void)
{
    struct dlm_rng rng;
    dlm_rng_init(&rng, tap_seed(), 2, DLM_RNG_TEST);
    struct dlm_error err = {{0}};
    double sum;
    uint64_t n;
    if (!mkdtemp(dir))
        return 1;
    check_numbers(&rng);
    check_repeats(&rng);
    check_skipping();
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
    good("run\tlr\tb\nx\t0.3\t1\ny\t0.5\t1\nx\t3e-1\t1\nx\tNA\t1\n", 4, 4, "runs and their facts");
    bad("run\tlr\tb\nx\t0.3\t1\ny\t0.5\t1\nx\t0.5\t1\n", "line 4, column 'lr': 0.5, but line 2 of", "a run with two learning rates");
    bad("run\tkind\tstep\tloss\tb\nx\tval\tone\t2.5\t1\n", "line 2, column 'step': 'one' is not a number", "a step that is none");
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
