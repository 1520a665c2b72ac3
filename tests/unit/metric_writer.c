/* Rows of metrics: constant field count whatever they hold, NA where nothing was measured, numbers that come back equal. */
#include "metric/metric.h"
#include "tap.h"

#include <string.h>

static size_t count(const char *s, char c)
{
    size_t n = 0;
    for (; *s; s++)
        n += *s == c;
    return n;
}

int main(void)
{
    struct dlm_error err = {{0}};
    char *header = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&header, &size);
    tap_ok(f && !dlm_metric_write_header(f, "x", &err), "the header is written");
    fclose(f);
    tap_ok(!strncmp(header, "run\tkind\tnoise\tobjective\tparams\tflops_tok\twidth\t", 47), "it begins as specified");
    tap_ok(strstr(header, "\tjoules\tseconds\tdtype\tdevice\n") != NULL, "and ends as specified");
    size_t tabs = count(header, '\t');
    tap_ok(tabs == 28, "it has 29 columns");

    struct dlm_metric m = {.run = "a\tb\nc",
                           .kind = "train",
                           .noise = "",
                           .params = 123456789012345,
                           .step = UINT64_MAX,
                           .loss = NAN,
                           .elbo = INFINITY,
                           .flops = 1.23456789e18,
                           .kl = -0.25};
    char *row = dlm_metric_format(&m);
    tap_ok(row && count(row, '\t') == tabs && count(row, '\n') == 1,
           "a tab and a newline in a name change neither fields nor lines");
    tap_ok(!strncmp(row, "a b c\ttrain\tNA\tNA\t123456789012345\t", 33),
           "empty and absent texts are NA, whole numbers exact: %.40s", row);
    const char *at = row;
    for (int i = 0; i < 12; i++)
        at = strchr(at, '\t') + 1;
    tap_ok(!strncmp(at, "NA\t", 3), "UINT64_MAX is NA");
    for (int i = 0; i < 3; i++)
        at = strchr(at, '\t') + 1;
    tap_ok(!strncmp(at, "1.23456789e+18\tNA\tNA\t", 21), "nine digits; NaN and infinity are NA");
    free(row);
    char *long_name = malloc(100001);
    memset(long_name, 'x', 100000);
    long_name[100000] = 0;
    m.run = long_name;
    row = dlm_metric_format(&m);
    tap_ok(row && strlen(row) > 100000 && count(row, '\t') == tabs, "a name of any length fits");
    free(row);
    free(long_name);
    m.run = "x";
    free(header);

    f = fopen("/dev/full", "w");
    if (f) {
        tap_ok(dlm_metric_write(f, "full.tsv", &m, &err) == DLM_EIO && strstr(err.msg, "full.tsv"), "a full disk is an error: %s",
               err.msg);
        fclose(f);
    } else {
        tap_skip(1, "no /dev/full");
    }
    return tap_end();
}
