/* make bench: what fitting laws costs, TSV on standard output: work, threads, fits or rows, seconds, as many a second.
 *
 *   reading    metric rows (400,000; DLM_BENCH_ROWS=1e7 for ten million) from a file in TMPDIR or /tmp: MB/s and the largest memory
 *   surface    240 points of 40 runs, five parameters, 4,000 resamples; where a python3 with scipy is found (DLM_BENCH_PYTHON, else
 *              python3), the same resamples by its BFGS (tests/bench/laws.py), a sample of them timed in this run and scaled
 *   analysis   26 fits of 5 groups, 10,000 resamples each: the kinds of method.md §7, through the functions that dlm-fitlaw calls,
 *              bands and intervals included
 *
 * The fastest of three (of two for the analysis): other work on the machine can only slow things down.
 */
#include "base/build.h"
#include "base/progress.h"
#include "base/rng.h"
#include "law/estimate.h"
#include "law/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GROUPS = 5, RUNS = 40, EACH = 6, BUDGETS = 25, REPEAT = 3 };

struct data {
    struct dlm_study s;
    struct dlm_group group[GROUPS];
    struct dlm_run run[GROUPS * RUNS];
    struct dlm_point point[GROUPS * RUNS * EACH];
};

static char by[] = "noise", run_name[] = "run", names[GROUPS][16] = {"masked", "low-uniform", "balanced", "high-uniform", "uniform"};
static int threads;
static struct dlm_rng rng;

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

/* `each` points of `runs` runs of the masked surface, y as it is or a power law of x with this exponent. */
static void make(struct data *d, size_t runs, size_t each, double k, bool loss)
{
    *d = (struct data){.s = {.n = GROUPS, .n_runs = GROUPS * runs, .n_points = GROUPS * runs * each, .by = by, .fitted = "loss",
                             .has_runs = true}};
    d->s.groups = d->group;
    d->s.runs = d->run;
    d->s.points = d->point;
    for (size_t g = 0; g < GROUPS; g++) {
        d->group[g] = (struct dlm_group){names[g], &d->run[g * runs], runs, runs * each};
        for (size_t i = 0; i < runs; i++) {
            double m = 2e8 * pow(2, (double)(i % 8)), e = 0.003 * dlm_rng_normal(&rng);
            struct dlm_run *r = &d->run[g * runs + i];
            *r = (struct dlm_run){.name = run_name, .points = &d->point[(g * runs + i) * each], .n = each, .params = m / 7,
                                  .flops_tok = m};
            for (size_t j = 0; j < each; j++) {
                double t = 2e9 * pow(2, (double)(i / 8)) * pow(1.5, (double)j), c = each > 1 ? m * t : 1e18 * pow(1.3, (double)i);
                double l = each > 1 ? 2.17 + 222 * pow(m, -.292) + 1920 * pow(t, -.367)
                           : loss   ? 2.3 + 2066 * pow(c, -.18)
                                    : pow(c / 1e19, k);
                r->points[j] = (struct dlm_point){.x = c, .y = l * exp(e + 0.001 * dlm_rng_normal(&rng)), .se = NAN, .flops = c,
                                                  .tokens = t, .params = m / 7, .flops_tok = m};
            }
        }
    }
}

static double seconds_of(int (*work)(const struct dlm_estimate *, struct dlm_laws *, struct dlm_notes *, struct dlm_error *),
                         uint64_t resamples, int repeat)
{
    double best = INFINITY;
    for (int i = 0; i < repeat; i++) {
        struct dlm_laws laws = {0};
        struct dlm_notes notes = {0};
        struct dlm_error err = {{0}};
        struct dlm_estimate how = {
            .huber = 1e-3, .bootstrap = {.n = resamples, .level = 0.95, .threads = threads, .kind = DLM_INTERVAL_BCA}, .budgets = {.n = 8}};
        double t = dlm_progress_now();
        if (work(&how, &laws, &notes, &err))
            die(err.msg);
        best = fmin(best, dlm_progress_now() - t);
        dlm_laws_release(&laws);
        dlm_notes_release(&notes);
    }
    return best;
}

static struct data surface, curve, optima[4];

static int fit_surface(const struct dlm_estimate *how, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    struct dlm_study one = surface.s;
    one.n = 1;
    return dlm_estimate_surface(&one, how, false, laws, notes, err);
}

/* L*, D*, M*, P* against C by parabolas and by the best observed, with both counts of FLOPs (16 power laws), B* and the learning
 * rate against tokens, batch and C (4), L* with an offset and D* with one (2), the loss law of the frontier and by tokens (2), the
 * surface in FLOPs per token and in params (2). */
static int fit_all(const struct dlm_estimate *how, struct dlm_laws *laws, struct dlm_notes *notes, struct dlm_error *err)
{
    int rc = 0;
    for (int i = 0; i < 20 && !rc; i++)
        rc = dlm_estimate_power(&optima[i % 4].s, how, "flops", "optimum", false, laws, notes, err);
    for (int i = 0; i < 2 && !rc; i++)
        rc = dlm_estimate_power(i ? &optima[1].s : &curve.s, how, "flops", "optimum", true, laws, notes, err);
    for (int i = 0; i < 2 && !rc; i++) /* by_tokens: the loss law without the sizes of the frontier, which are counted above */
        rc = dlm_estimate_loss(&curve.s, how, true, laws, notes, err);
    for (int i = 0; i < 2 && !rc; i++)
        rc = dlm_estimate_surface(&surface.s, how, i, laws, notes, err);
    return rc;
}

static void row(const char *work, uint64_t fits, double seconds, const char *more)
{
    printf("%s\t%d\t%llu\t%.3f\t%.0f\t%s\n", work, threads, (unsigned long long)fits, seconds, (double)fits / seconds, more);
    fflush(stdout);
}

/* SciPy's BFGS on the surface's points: seconds a fit, or 0 with a reason. */
static double by_scipy(const char *script, char *reason, size_t size)
{
    char path[] = "/tmp/dlm-bench-XXXXXX", command[1024], line[256] = "";
    const char *python = getenv("DLM_BENCH_PYTHON");
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        die("cannot make a temporary file");
    for (int i = 0; i < RUNS * EACH; i++)
        fprintf(f, "%d %.17g %.17g %.17g\n", i / EACH, log(surface.point[i].flops_tok), log(surface.point[i].tokens),
                log(surface.point[i].y));
    fclose(f);
    snprintf(command, sizeof command, "%s '%s' %s 2>&1", python && *python ? python : "python3", script, path);
    FILE *p = popen(command, "r");
    double each = 0;
    while (p && fgets(line, sizeof line, p))
        if (sscanf(line, "seconds_per_fit %lf", &each) == 1)
            break;
    if (p)
        pclose(p);
    unlink(path);
    line[strcspn(line, "\n")] = 0;
    snprintf(reason, size, "not compared with SciPy: %s", *line ? line : "python3 cannot be run");
    return each;
}

/* Rows as dlm-train writes them, one run after the other; the size of the file. */
static long write_rows(const char *path, long rows)
{
    FILE *f = fopen(path, "w");
    if (!f)
        die("cannot make a temporary file");
    fputs("run\tkind\tnoise\tobjective\tparams\tflops_tok\twidth\tlayers\tseq_len\tbatch_tok\tlr\tseed\tstep\ttokens\tunique_tokens\tflops"
          "\tloss\telbo\telbo_se\tkl\tis\tbpb\tgrad_norm\ttok_s\tmfu\tjoules\tseconds\tdtype\tdevice\n", f);
    for (long i = 0; i < rows; i++) {
        long run = i / 40000, step = 100 * (i % 40000 + 1);
        double m = 1.4e8 * pow(1.6, (double)(run % 8)), t = (double)step * 65536;
        double l = (2.17 + 222 * pow(m, -.292) + 1920 * pow(t, -.367)) * (1 + 0.01 * dlm_rng_uniform(&rng));
        fprintf(f, "masked-%ld\ttrain\tmasked\tdiffusion\t%.0f\t%.0f\t512\t8\t512\t65536\t0.3\t%ld\t%ld\t%.0f\t%.0f\t%.9g\t%.9g\t%.9g\tNA"
                   "\t%.6g\t%.6g\t%.6g\t0.1\t%.6g\tNA\tNA\t%.3f\tbf16\tcpu\n",
                run, m / 7, m, run, step, t, t, m * t, 1.2 * l, l, .8 * l, .2 * l, .34 * l, 2e5 + l, (double)step * .3);
    }
    long size = ftell(f);
    if (fclose(f))
        die("cannot write a temporary file");
    return size;
}

static void read_rows(void)
{
    const char *dir = getenv("TMPDIR"), *asked = getenv("DLM_BENCH_ROWS");
    const long rows = asked ? (long)strtod(asked, NULL) : 400000;
    char path[4096], more[256];
    snprintf(path, sizeof path, "%.4000s/dlm-bench-XXXXXX", dir && *dir ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0)
        die("cannot make a temporary file");
    close(fd);
    const long size = write_rows(path, rows);
    double best = INFINITY;
    struct dlm_error err = {{0}};
    for (int i = 0; i < REPEAT && !*err.msg; i++) {
        const char *const paths[] = {path};
        struct dlm_study s;
        double t = dlm_progress_now();
        if (dlm_study_read(&s, &(struct dlm_study_request){.paths = paths, .n_paths = 1, .x = "flops", .need_sizes = true}, &err))
            break;
        best = fmin(best, dlm_progress_now() - t);
        dlm_study_release(&s);
    }
    unlink(path);
    if (*err.msg)
        die(err.msg);
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    snprintf(more, sizeof more, "%.0f MB/s, %ld MB of memory at most", (double)size / best / 1e6, use.ru_maxrss / 1024);
    row("reading", (uint64_t)rows, best, more);
}

int main(int argc, char **argv)
{
    char more[512];
    const char *script = argc > 1 ? argv[1] : "tests/bench/laws.py";
    threads = dlm_build_cores();
    dlm_rng_init(&rng, 1, 0, DLM_RNG_TEST);
    make(&surface, RUNS, EACH, 0, false);
    make(&curve, BUDGETS, 1, 0, true);
    const double k[] = {-0.05, 0.43, 0.57, 0.62};
    for (int i = 0; i < 4; i++)
        make(&optima[i], BUDGETS, 1, k[i], false);
    puts("work\tthreads\tn\tseconds\tn_s\tnote");

    read_rows();
    double t = seconds_of(fit_surface, 4000, REPEAT), scipy = by_scipy(script, more, sizeof more);
    if (scipy > 0)
        snprintf(more, sizeof more, "SciPy's BFGS: %.3g s a fit, %.0f s for as many: %.0f times as long", scipy, 4000 * scipy,
                 4000 * scipy / t);
    row("surface", 4000, t, more);
    t = seconds_of(fit_all, 10000, 2);
    row("analysis", 10000ull * 26 * GROUPS, t, "26 fits of 5 groups");
    return 0;
}
