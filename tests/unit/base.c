/* The base room: strict numbers, options, atomic outputs, random numbers. */
#include "tap.h"

#include "base/number.h"
#include "base/options.h"
#include "base/output.h"
#include "base/rng.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void numbers(void)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t value;
    } counts[] = {
        {"0", true, 0}, {"64", true, 64}, {"4K", true, 4000}, {"4Ki", true, 4096}, {"2M", true, 2000000}, {"1Gi", true, 1073741824},
        {"1e6", true, 1000000}, {"2.5M", true, 2500000}, {"18446744073709551615", true, UINT64_MAX}, {"18446744073709551616", false, 0},
        {"", false, 0}, {"-1", false, 0}, {"+1", false, 0}, {"2.5", false, 0}, {"4k", false, 0}, {"4Kb", false, 0}, {"0x10", false, 0}, {" 4", false, 0},
        {"4 ", false, 0}, {"1e", false, 0}, {"1e400", false, 0}, {"inf", false, 0}, {"nan", false, 0}, {"K", false, 0}, {".", false, 0},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t v = 0;
        bool good = dlm_number_count(counts[i].text, &v);
        tap_ok(good == counts[i].good && (!good || v == counts[i].value), "count '%s'", counts[i].text);
    }
    double v = 0;
    tap_ok(dlm_number_real("-2.5e-3", &v) && v == -2.5e-3, "real with sign and exponent");
    tap_ok(dlm_number_real("1e18", &v) && v == 1e18, "real 1e18");
    tap_ok(!dlm_number_real("1.5x", &v) && !dlm_number_real("--1", &v) && !dlm_number_real("1e999", &v), "no other reals");
    tap_ok(dlm_number_field("12.5\t", 4, &v) && v == 12.5, "a field of a line");
    tap_ok(!dlm_number_field("12K", 3, &v) && !dlm_number_field("NA", 2, &v) && !dlm_number_field("", 0, &v), "fields have no suffixes");
}

static void options(void)
{
    uint64_t n = 7;
    double x = 0.5;
    int c = 0;
    bool flag = false, given = false;
    const char *text = NULL;
    struct dlm_texts many = {0};
    const struct dlm_option table[] = {
        {"count", 'n', DLM_OPT_COUNT, "N", "a count", &n, 1, 100, NULL, &given}, {"real", 0, DLM_OPT_REAL, "X", "a real", &x, 0, 1, NULL, NULL},
        {"flag", 'f', DLM_OPT_FLAG, NULL, "a flag", &flag, 0, 0, NULL, NULL},    {"text", 't', DLM_OPT_TEXT, "T", "a text", &text, 0, 0, NULL, NULL},
        {"pick", 0, DLM_OPT_CHOICE, "P", "one", &c, 0, 0, "red|green", NULL},    {"many", 'm', DLM_OPT_TEXTS, "T", "many", &many, 0, 0, NULL, NULL},
        {"later", 0, DLM_OPT_LATER, "X", "", NULL, 0, 0, NULL, NULL},
    };
    const struct dlm_command cmd = {"t", "test", "x", table, sizeof table / sizeof *table, NULL};
    struct dlm_error err = {{0}};
    int first = 0;
    char *good[] = {"t", "a", "-n", "5", "--real=0.25", "b", "-ft", "--x", "--pick", "green", "-m1", "-m", "2", "--", "-n", NULL};
    int rc = dlm_options_parse(&cmd, 15, good, &first, &err);
    tap_ok(rc == 0 && n == 5 && x == 0.25 && flag && given && c == 1 && !strcmp(text, "--x") && many.n == 2, "options of every kind: %s", err.msg);
    tap_ok(first == 12 && !strcmp(good[12], "a") && !strcmp(good[13], "b") && !strcmp(good[14], "-n"), "operands are kept in order");
    static const struct {
        const char *argument, *says;
    } bad[] = {
        {"--count=101", "--count must be from 1 to 100"}, {"--count=5x", "--count takes a whole number"}, {"--real=nan", "--real takes a number"},
        {"--real=2", "--real must be from 0 to 1"},       {"--pick=blue", "--pick is one of red|green"},  {"--later=1", "--later is not available"},
        {"--nosuch", "unknown or ambiguous option '--nosuch'"}, {"-z", "unknown option '-z'"},             {"--flag=1", "--flag takes no argument"},
        {"--text", "option '--text' needs an argument"},   {"-t", "option '-t' needs an argument"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char word[64], *argv[] = {"t", word, NULL};
        snprintf(word, sizeof word, "%s", bad[i].argument);
        rc = dlm_options_parse(&cmd, 2, argv, &first, &err);
        tap_ok(rc == DLM_EUSAGE && strstr(err.msg, bad[i].says), "%s: %s", bad[i].argument, err.msg);
    }
    free(many.at);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void outputs(void)
{
    char dir[] = "/tmp/dlm-base-XXXXXX", path[64], text[16] = "";
    struct dlm_error err = {{0}};
    struct dlm_output out;
    if (!mkdtemp(dir)) {
        tap_ok(false, "a temporary directory");
        return;
    }
    snprintf(path, sizeof path, "%s/x", dir);
    tap_ok(dlm_output_open(&out, path, &err) == 0 && fputs("new", out.file) >= 0 && !exists(path), "nothing under the name before commit");
    tap_ok(dlm_output_commit(&out, &err) == 0 && exists(path), "all of it after");
    tap_ok(dlm_output_open(&out, path, &err) == 0 && fputs("newer", out.file) >= 0, "open again");
    dlm_output_abort_all();
    FILE *f = fopen(path, "r");
    tap_ok(f && fgets(text, sizeof text, f) && !strcmp(text, "new"), "abort leaves what was there");
    if (f)
        fclose(f);
    tap_ok(dlm_output_open(&out, "/dev/full", &err) == 0 && fputs("x", out.file) >= 0 && dlm_output_commit(&out, &err) == DLM_EIO &&
               strstr(err.msg, "/dev/full"), "a full disk is an error: %s", err.msg);
    tap_ok(dlm_output_open(&out, dir, &err) == DLM_EIO && strstr(err.msg, "Is a directory"), "a directory is refused");
    snprintf(path, sizeof path, "%s/no/x", dir);
    tap_ok(dlm_output_open(&out, path, &err) == DLM_EIO, "no such directory: %s", err.msg);
    snprintf(path, sizeof path, "%s/x", dir);
    unlink(path);
    tap_ok(rmdir(dir) == 0, "no temporary file is left");
}

static void random_numbers(void)
{
    /* Known answer: the first vectors of the generator's publication (key and counter zero; all ones). */
    dlm_philox_t w = dlm_philox(0, 0, 0, 0, 0);
    tap_ok(w.v[0] == 0x6627e8d5 && w.v[1] == 0xe169c58d && w.v[2] == 0xbc57ac4c && w.v[3] == 0x9b00dbd8, "philox4x32-10 of zeros");
    w = dlm_philox(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
    tap_ok(w.v[0] == 0x408f276d && w.v[1] == 0x41c83b0e && w.v[2] == 0xa20bc7c6 && w.v[3] == 0x6d5451fd, "philox4x32-10 of ones");
    struct dlm_rng r;
    dlm_rng_init(&r, tap_seed(), 1, DLM_RNG_TEST);
    double sum = 0, sum2 = 0, chi = 0;
    int bins[10] = {0}, n = 100000;
    for (int i = 0; i < n; i++) {
        double x = dlm_rng_normal(&r);
        sum += x;
        sum2 += x * x;
        bins[dlm_rng_below(&r, 10)]++;
    }
    for (int i = 0; i < 10; i++)
        chi += (bins[i] - n / 10.0) * (bins[i] - n / 10.0) / (n / 10.0);
    tap_near(sum / n, 0, 5 / sqrt(n), "mean of the normal");
    tap_near(sum2 / n, 1, 8 / sqrt(n), "variance of the normal");
    tap_near(chi, 9, 9 + 25, "chi-square of below(10)");
}

int main(void)
{
    numbers();
    options();
    outputs();
    random_numbers();
    return tap_end();
}
