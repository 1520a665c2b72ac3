/* dlm-fitlaw: scaling laws from the metrics of many runs: fits, predictions, drawings. */
#include "frame.h"

#include "base/build.h"
#include "base/number.h"
#include "base/output.h"
#include "base/progress.h"
#include "law/chart.h"
#include "law/estimate.h"
#include "law/isoflop.h"
#include "law/plot.h"
#include "law/predict.h"
#include "law/published.h"

#include <stdlib.h>
#include <string.h>

enum task { POWER, ISOFLOP, SURFACE, LOSS, PREDICT, PLOT, TASKS };
static const char *const tasks[TASKS] = {"power", "isoflop", "surface", "loss", "predict", "plot"};
static const char *const later[] = {"curve", "batch", "lr", "isoloss", "epochs", "study", "plan"};

static struct dlm_common common;
static const char *x_column, *y_column, *group, *where, *budgets = "8", *compute;
static struct dlm_texts law_files;
static uint64_t resamples = 1000;
static double level = 0.95, huber = 1e-3;
static int by;
static bool offset, raw, x_given, y_given, offset_given, raw_given, by_given, budgets_given, law_given, compute_given,
    group_given, where_given, bootstrap_given, level_given, huber_given;

/* clang-format off */
static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "Rows:", NULL, 0, 0, NULL, NULL},
    {"group",     0,   DLM_OPT_TEXT,   "COLS", "fit each value of these columns by itself (noise,objective)", &group, 0, 0, NULL,
     &group_given},
    {"where",     0,   DLM_OPT_TEXT,   "EXPR", "keep the rows that meet it: 'step>5000 && elbo<4'", &where, 0, 0, NULL,
     &where_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Fits:", NULL, 0, 0, NULL, NULL},
    {"x-column",  'x', DLM_OPT_TEXT,   "COL",  "power: fit against this column; surface: params or flops_tok (flops_tok)",
     &x_column, 0, 0, NULL, &x_given},
    {"y-column",  'y', DLM_OPT_TEXT,   "COL",  "power: fit this column", &y_column, 0, 0, NULL, &y_given},
    {"offset",    0,   DLM_OPT_FLAG,   NULL,   "power: y = A x^k + E", &offset, 0, 0, NULL, &offset_given},
    {"raw",       0,   DLM_OPT_FLAG,   NULL,   "isoflop: take the best size, not a parabola's lowest point", &raw, 0, 0, NULL,
     &raw_given},
    {"by",        0,   DLM_OPT_CHOICE, "COL",  "loss, plot: the law against flops or tokens (flops)", &by, 0, 0, "flops|tokens",
     &by_given},
    {"budgets",   0,   DLM_OPT_TEXT,   "N",    "isoflop, loss, plot: N budgets, log-spaced, or LOW:HIGH:N (8)", &budgets, 0, 0,
     NULL, &budgets_given},
    {"bootstrap", 0,   DLM_OPT_COUNT,  "N",    "resamples for the intervals; 0: none (1000)", &resamples, 0, 10e6, NULL,
     &bootstrap_given},
    {"level",     0,   DLM_OPT_REAL,   "P",    "level of the intervals (0.95)", &level, 0.01, 0.9999, NULL, &level_given},
    {"huber",     0,   DLM_OPT_REAL,   "D",    "residual of log y beyond which errors count linearly (1e-3)", &huber, 1e-9, 1e3,
     NULL, &huber_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Predictions:", NULL, 0, 0, NULL, NULL},
    {"law",       'l', DLM_OPT_TEXTS,  "FILE", "predict, plot: laws of an earlier fit, may be repeated; predict: or 'paper'",
     &law_files, 0, 0, NULL, &law_given},
    {"flops",     'C', DLM_OPT_TEXT,   "LIST", "predict: budgets with commas between, in FLOPs", &compute, 0, 0, NULL,
     &compute_given},
    {"format",    0,   DLM_OPT_LATER,  "NAME", "plan", NULL, 0, 0, NULL, NULL},
    {"tokens-available", 0, DLM_OPT_LATER, "N", "plan", NULL, 0, 0, NULL, NULL},
    {NULL, 0, DLM_OPT_GROUP, NULL, "All:", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    "dlm-fitlaw", "fit scaling laws to the metrics of runs, predict from them, draw them",
    "loss [--by flops|tokens] [FILE...]\nisoflop [--raw] [FILE...]\npower -x COL -y COL [--offset] [FILE...]\n"
    "surface [-x params|flops_tok] [FILE...]\npredict -l LAW -C FLOPS[,...]\nplot [-l LAW] [-o FILE.svg|.png|.pdf] [FILE...]",
    options, sizeof options / sizeof *options, NULL};

static void check(int rc, const struct dlm_error *err)
{
    if (rc == DLM_EUSAGE)
        dlm_frame_misuse(&command, "%s", err->msg);
    if (rc)
        dlm_frame_fail(&command, rc, err);
}

static enum task find_task(const char *word)
{
    for (int i = 0; i < TASKS; i++)
        if (!strcmp(word, tasks[i]))
            return (enum task)i;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (!strcmp(word, later[i]))
            dlm_frame_misuse(&command, "'%s' is not available in this version", word);
    dlm_frame_misuse(&command, "'%s' is none of loss, isoflop, power, surface, predict, plot", word);
}

/* An option that the task would ignore is misuse. */
static void check_options(enum task task)
{
    enum { FITS = 1 << POWER | 1 << ISOFLOP | 1 << SURFACE | 1 << LOSS | 1 << PLOT };
    const struct {
        bool given;
        const char *name;
        unsigned tasks;
    } use[] = {
        {x_given, "x-column", 1 << POWER | 1 << SURFACE},
        {y_given, "y-column", 1 << POWER},
        {offset_given, "offset", 1 << POWER},
        {raw_given, "raw", 1 << ISOFLOP},
        {by_given, "by", 1 << LOSS | 1 << PLOT},
        {budgets_given, "budgets", 1 << ISOFLOP | 1 << LOSS | 1 << PLOT},
        {law_given, "law", 1 << PREDICT | 1 << PLOT},
        {compute_given, "flops", 1 << PREDICT},
        {group_given, "group", FITS},
        {where_given, "where", FITS},
        {bootstrap_given, "bootstrap", FITS},
        {level_given, "level", FITS},
        {huber_given, "huber", FITS},
    };
    for (size_t i = 0; i < sizeof use / sizeof *use; i++)
        if (use[i].given && !(use[i].tasks >> task & 1))
            dlm_frame_misuse(&command, "--%s does not belong to '%s'", use[i].name, tasks[task]);
    if (task == POWER && !(x_given && y_given))
        dlm_frame_misuse(&command, "power needs --x-column and --y-column");
    if (task == SURFACE && x_given && strcmp(x_column, "params") && strcmp(x_column, "flops_tok"))
        dlm_frame_misuse(&command, "--x-column of surface is params or flops_tok, not '%s'", x_column);
    if (task == PREDICT && !(law_given && compute_given))
        dlm_frame_misuse(&command, "predict needs --law and --flops");
}

static double *read_budgets(size_t *n)
{
    double *c = NULL;
    *n = 0;
    for (const char *p = compute;; p++) {
        size_t len = strcspn(p, ",");
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)(len < 63 ? len : 63), p);
        if (!(c = realloc(c, (*n + 1) * sizeof *c)))
            check(DLM_ENOMEM, &(struct dlm_error){"out of memory"});
        if (!dlm_number_real(text, &c[*n]) || !(c[(*n)++] > 0))
            dlm_frame_misuse(&command, "--flops takes positive numbers with commas between, not '%s'", text);
        p += len;
        if (!*p)
            return c;
    }
}

static void tick(void *ctx, uint64_t done)
{
    dlm_progress_update(ctx, done, NULL);
}

static void say_study(const struct dlm_study *s)
{
    const char *more = s->n_val && s->n_train ? " and " : "";
    char val[64] = "", train[64] = "";
    if (s->n_val)
        snprintf(val, sizeof val, "%zu on their val rows", s->n_val);
    if (s->n_train)
        snprintf(train, sizeof train, "%zu on their train rows", s->n_train);
    dlm_frame_say(&command, "fitting %s of %zu %s (%zu points)%s%s%s%s", s->fitted, s->n_runs, s->has_runs ? "runs" : "rows",
                  s->n_points, s->has_runs ? ": " : "", s->has_runs ? val : "", s->has_runs ? more : "",
                  s->has_runs ? train : "");
    if (s->dropped)
        dlm_frame_say(&command, "%zu rows without all that is fitted are left out", s->dropped);
    if (s->repeats && common.verbose)
        dlm_frame_say(&command, "%zu repeated rows count once", s->repeats);
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    if (first == argc)
        dlm_frame_misuse(&command, "say what to do: loss, isoflop, power, surface, predict or plot");
    enum task task = find_task(argv[first++]);
    check_options(task);

    struct dlm_progress progress;
    struct dlm_estimate how = {.huber = huber,
                               .bootstrap = {.n = resamples,
                                             .seed = common.seed,
                                             .level = level,
                                             .tick = tick,
                                             .tick_ctx = &progress,
                                             .threads = (int)(common.threads ? common.threads : (uint64_t)dlm_build_cores())}};
    check(dlm_budgets_parse(budgets, &how.budgets, &err), &err);
    const bool params = task == SURFACE && x_given && !strcmp(x_column, "params");
    struct dlm_study_request request = {.paths = (const char *const *)argv + first,
                                        .n_paths = (size_t)(argc - first),
                                        .group = group,
                                        .where = where,
                                        .x = task == POWER ? x_column
                                             : by          ? "tokens"
                                                           : "flops",
                                        .y = task == POWER ? y_column : NULL,
                                        .need_sizes = task == ISOFLOP || task == SURFACE,
                                        .need_params = task == ISOFLOP || params};
    struct dlm_study study = {0};
    struct dlm_laws laws = {0};
    struct dlm_notes notes = {0};
    struct dlm_isoflop profiles = {0};
    struct dlm_view view;
    struct dlm_output out;
    enum dlm_plot_format format = DLM_PLOT_SVG;
    size_t n_flops = 0;
    double *flops = NULL;
    const bool drawn = task == PLOT && common.output && strcmp(common.output, "-");
    if (drawn)
        check(dlm_plot_format_of(common.output, &format, &err), &err);
    if (task == PREDICT) {
        if (first < argc)
            dlm_frame_misuse(&command, "predict reads the laws of --law, not '%s'", argv[first]);
        flops = read_budgets(&n_flops);
    } else {
        check(dlm_study_read(&study, &request, &err), &err);
    }
    if (law_given && law_files.n == 1 && dlm_published_named(law_files.at[0]) && task == PREDICT)
        check(dlm_published_fill(&laws, &err), &err);
    else if (law_given)
        check(dlm_laws_read(&laws, law_files.at, law_files.n, &err), &err);

    dlm_progress_init(&progress, command.name, "resamples", 0, 0, (enum dlm_progress_mode)common.progress);
    int rc = 0;
    if (task == POWER)
        rc = dlm_estimate_power(&study, &how, x_column, y_column, offset, &laws, &notes, &err);
    else if (task == SURFACE)
        rc = dlm_estimate_surface(&study, &how, params, &laws, &notes, &err);
    else if (task == ISOFLOP)
        rc = dlm_isoflop_find(&study, &how, raw, &profiles, &notes, &err);
    else if (task == LOSS || (task == PLOT && !law_given))
        rc = dlm_estimate_loss(&study, &how, by, &laws, &notes, &err);
    dlm_progress_release(&progress);
    if (!rc && task == PLOT)
        rc = dlm_view_init(&view, &study, &laws, by ? "tokens" : "flops", &err);
    check(rc, &err);

    check(dlm_output_open(&out, common.output, &err), &err);
    const char *name = dlm_output_name(&out);
    switch (task) {
    case ISOFLOP: rc = dlm_isoflop_write(&profiles, &study, out.file, name, &err); break;
    case PREDICT: rc = dlm_predict_write(&laws, flops, n_flops, out.file, name, &notes, &err); break;
    case PLOT: rc = drawn ? dlm_plot_draw(&view, format, out.file, &err) : dlm_chart_draw(&view, out.file, name, &err); break;
    default: rc = dlm_laws_write(&laws, out.file, name, &err); break;
    }
    check(rc, &err);
    check(dlm_output_commit(&out, &err), &err);
    if (!common.quiet && task != PREDICT)
        say_study(&study);
    for (size_t i = 0; i < notes.n && !common.quiet; i++)
        dlm_frame_say(&command, "%s", notes.at[i]);
    dlm_notes_release(&notes);
    dlm_isoflop_release(&profiles);
    dlm_laws_release(&laws);
    dlm_study_release(&study);
    free(flops);
    free(law_files.at);
    return dlm_frame_end(&command);
}
