/* Conditions on rows: what they mean, and what is refused. */
#include "law/where.h"
#include "tap.h"

#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/dlm-where-XXXXXX";

static int test(const char *expression, struct dlm_error *err)
{
    const char *const names[] = {path};
    struct dlm_table *t;
    struct dlm_where *w = NULL;
    int rc = dlm_table_new(&t, names, 1, err);
    if (!rc)
        rc = dlm_where_new(&w, expression, t, err);
    if (!rc && (rc = dlm_table_next(t, err)) == 1)
        rc = dlm_where_test(w, err);
    dlm_where_free(w);
    dlm_table_free(t);
    return rc;
}

int main(void)
{
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f)
        return 1;
    fputs("noise\tstep\telbo\tbpb\tflops\nmasked\t6000\t3.5\tNA\t5e17\n", f);
    fclose(f);
    static const struct {
        const char *expression;
        int want;
    } cases[] = {
        {"step>5000 && elbo<4", 1},
        {"step>5000&&elbo<3", 0},
        {"step>7K || elbo<4", 1},
        {"!(step>5K)", 0},
        {"! step<5K && 1", 1},
        {"noise==\"masked\"", 1},
        {"noise = 'uniform'", 0},
        {"noise!='uniform'", 1},
        {"noise<\"n\"", 1},
        {"\"masked\"==noise", 1},
        {"step == 6000", 1},
        {"step/1000 - 2*3 == 0", 1},
        {"2+3*4==14", 1},
        {"(2+3)*4==20", 1},
        {"2^3^2==512", 1},
        {"-2^2==4", 0},
        {"10-3-2==5", 1},
        {"flops>=5e17", 1},
        {"flops>5e17", 0},
        {"flops<1e+18", 1},
        {"bpb<1", 0},
        {"bpb>=1", 0},
        {"bpb!=1", 0},
        {"bpb==\"NA\"", 1},
        {"!(bpb<1)", 1},
        {"1 || bpb<\"x\" ", 1},
        {"elbo", 1},
        {"elbo-3.5", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dlm_error err = {{0}};
        int got = test(cases[i].expression, &err);
        tap_ok(got == cases[i].want, "%s is %d %s", cases[i].expression, got, err.msg);
    }
    static const struct {
        const char *expression, *want;
        int code;
    } wrong[] = {
        {"", "missing", DLM_EUSAGE},
        {"step >", "missing", DLM_EUSAGE},
        {"step > 5 5", "not understood", DLM_EUSAGE},
        {"(step", "')'", DLM_EUSAGE},
        {"noise == \"x", "closing quote", DLM_EUSAGE},
        {"5x > 1", "no such number", DLM_EUSAGE},
        {"\"x\"", "only be compared", DLM_EUSAGE},
        {"step & 1", "not understood", DLM_EUSAGE},
        {"\"x\" < 1", "compared with a number", DLM_EUSAGE},
        {"width > 1", "no column 'width'", DLM_EDATA},
        {"noise > 1", "line 2, column 'noise': 'masked' is not a number", DLM_EDATA},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlm_error err = {{0}};
        int got = test(wrong[i].expression, &err);
        tap_ok(got == wrong[i].code && strstr(err.msg, wrong[i].want), "%s: %s", wrong[i].expression, err.msg);
    }
    char deep[4001];
    memset(deep, '(', 4000);
    deep[4000] = 0;
    struct dlm_error err = {{0}};
    tap_ok(test(deep, &err) == DLM_EUSAGE, "4000 parentheses are refused");
    memset(deep, '!', 4000);
    tap_ok(test(deep, &err) == DLM_EUSAGE, "4000 negations are refused");
    memset(deep, '-', 4000);
    tap_ok(test(deep, &err) == DLM_EUSAGE, "4000 signs are refused");
    for (int i = 0; i < 4000; i++)
        deep[i] = i % 2 ? '+' : '1';
    tap_ok(test(deep, &err) == DLM_EUSAGE, "2000 terms are refused");
    unlink(path);
    return tap_end();
}
