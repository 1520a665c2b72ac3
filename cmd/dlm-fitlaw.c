/* dlm-fitlaw: scaling laws from the metrics of many runs: fits, predictions, drawings. */
#include "frame.h"

#include "base/build.h"
#include "base/number.h"
#include "base/output.h"
#include "base/progress.h"
#include "law/annealing.h"
#include "law/chart.h"
#include "law/configuration.h"
#include "law/curve.h"
#include "law/databound.h"
#include "law/epochs.h"
#include "law/estimate.h"
#include "law/filter.h"
#include "law/folder.h"
#include "law/isoflop.h"
#include "law/isoloss.h"
#include "law/optimum.h"
#include "law/plot.h"
#include "law/predict.h"
#include "law/published.h"
#include "law/recipe.h"
#include "law/report.h"
#include "law/sizes.h"
#include "law/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct dlm_common common;
static const char *x_column, *y_column, *group, *where, *budgets = "8", *compute, *losses = "8";
static struct dlm_configure plan = {
    .seq_len = 2048, .vocab_size = 131072, .devices = 8, .lr = NAN, .peak = 989e12, .mfu = .4, .unique = INFINITY};
static int recipe;
static bool recipe_given, unique_given, noise_given, batch_given, lr_given, seq_len_given, vocab_given, devices_given, peak_given,
    mfu_given;
static struct dlm_texts law_files;
static uint64_t resamples = 1000;
static double level = 0.95, huber = 1e-3;
static int interval = DLM_INTERVAL_BCA, by, smooth, drawing;
static bool drawing_given;
static const char *annealed;
static int form;
static bool annealed_given, form_given, optima, optima_given, best_batch, best_batch_given, critical, critical_given,
    losses_given, smooth_given, paper_filter, paper_filter_given;
static bool skip_bad, skip_bad_given, interval_given;
static bool offset, raw, x_given, y_given, offset_given, raw_given, by_given, budgets_given, law_given, compute_given,
    group_given, where_given, bootstrap_given, level_given, huber_given;

/* clang-format off */
static const struct dlm_option options[] = {
    {NULL, 0, DLM_OPT_GROUP, NULL, "Rows:", NULL, 0, 0, NULL, NULL},
    {"group",     0,   DLM_OPT_TEXT,   "COLS", "fit each value of these columns by itself (noise,objective)", &group, 0, 0, NULL,
     &group_given},
    {"where",     0,   DLM_OPT_TEXT,   "EXPR", "keep the rows that meet it: 'step>5000 && elbo<4'", &where, 0, 0, NULL,
     &where_given},
    {"paper-filter", 0, DLM_OPT_FLAG,  NULL,
     "keep 5e17 to 2e20 FLOPs, 5,000 < steps <= 80,000, loss < 4, batch < 1024 sequences", &paper_filter, 0, 0, NULL,
     &paper_filter_given},
    {"skip-bad",  0,   DLM_OPT_FLAG,   NULL,   "pass over rows that cannot be read, and say how many", &skip_bad, 0, 0, NULL,
     &skip_bad_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Curves:", NULL, 0, 0, NULL, NULL},
    {"smooth",    0,   DLM_OPT_CHOICE, "HOW",  "curves by local lines, or each by C + B t^-b (local)", &smooth, 0, 0,
     "local|power", &smooth_given},
    {"losses",    0,   DLM_OPT_TEXT,   "LIST", "curve, batch, isoloss: N levels of loss, HIGH:LOW:N, or with commas between (8)",
     &losses, 0, 0, NULL, &losses_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Fits:", NULL, 0, 0, NULL, NULL},
    {"x-column",  'x', DLM_OPT_TEXT,   "COL",  "power: fit against this column; surface: params or flops_tok (flops_tok)",
     &x_column, 0, 0, NULL, &x_given},
    {"y-column",  'y', DLM_OPT_TEXT,   "COL",  "power: fit this column", &y_column, 0, 0, NULL, &y_given},
    {"offset",    0,   DLM_OPT_FLAG,   NULL,   "power: y = A x^k + E", &offset, 0, 0, NULL, &offset_given},
    {"raw",       0,   DLM_OPT_FLAG,   NULL,   "isoflop: take the best size, not a parabola's lowest point", &raw, 0, 0, NULL,
     &raw_given},
    {"by",        0,   DLM_OPT_CHOICE, "COL",  "curve, loss, plot: against flops or tokens (flops)", &by, 0, 0, "flops|tokens",
     &by_given},
    {"budgets",   0,   DLM_OPT_TEXT,   "N",    "curve, isoflop, loss, lr, plot: N budgets, log-spaced, or LOW:HIGH:N (8)",
     &budgets, 0, 0, NULL, &budgets_given},
    {"optima",    0,   DLM_OPT_FLAG,   NULL,   "batch, lr: write the optima themselves, not their law", &optima, 0, 0, NULL,
     &optima_given},
    {"best-batch", 0,  DLM_OPT_FLAG,   NULL,   "lr: only at the batch that is best at its size and tokens", &best_batch, 0, 0,
     NULL, &best_batch_given},
    {"critical",  0,   DLM_OPT_FLAG,   NULL,   "isoloss: write the law of the critical batch, not the curves", &critical, 0, 0,
     NULL, &critical_given},
    {"form",      0,   DLM_OPT_CHOICE, "NAME", "epochs: what repeated tokens are worth (saturating)", &form, 0, 0,
     "saturating|stretched", &form_given},
    {"annealed",  0,   DLM_OPT_TEXT,   "EXPR", "annealing, study: runs whose last row meets this are annealed", &annealed, 0, 0,
     NULL, &annealed_given},
    {"bootstrap", 0,   DLM_OPT_COUNT,  "N",    "resamples for the intervals; 0: none (1000)", &resamples, 0, 10e6, NULL,
     &bootstrap_given},
    {"interval",  0,   DLM_OPT_CHOICE, "KIND",
     "percentiles, bias-corrected and accelerated, or Student's; not for batch, lr, isoloss (bca; epochs student)", &interval,
     0, 0, "percentile|bca|student", &interval_given},
    {"level",     0,   DLM_OPT_REAL,   "P",    "level of the intervals (0.95)", &level, 0.01, 0.9999, NULL, &level_given},
    {"huber",     0,   DLM_OPT_REAL,   "D",    "residual of log y beyond which errors count linearly (1e-3)", &huber, 1e-9, 1e3,
     NULL, &huber_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Drawings:", NULL, 0, 0, NULL, NULL},
    {"what",      0,   DLM_OPT_CHOICE, "KIND",
     "plot: loss, curves, isoflop, sizes, tokens, batch, lr, batch-curves, lr-curves, isoloss or bound (loss)", &drawing, 0, 0,
     "loss|curves|isoflop|sizes|tokens|batch|lr|isoloss|bound|batch-curves|lr-curves", &drawing_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Predictions:", NULL, 0, 0, NULL, NULL},
    {"law",       'l', DLM_OPT_TEXTS,  "FILE", "laws of an earlier fit, or published ones by name; may be repeated",
     &law_files, 0, 0, NULL, &law_given},
    {"flops",     'C', DLM_OPT_TEXT,   "LIST", "budgets with commas between, in FLOPs", &compute, 0, 0, NULL,
     &compute_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "Plans:", NULL, 0, 0, NULL, NULL},
    {"format",    0,   DLM_OPT_CHOICE, "NAME", "tsv, dlm (a command line), megatron or deepspeed (tsv)", &recipe, 0, 0,
     "tsv|dlm|megatron|deepspeed", &recipe_given},
    {"tokens-available", 0, DLM_OPT_REAL, "U", "unique tokens at hand; more are trained on by repeating them",
     &plan.unique, 1, 1e30, NULL, &unique_given},
    {"noise",     0,   DLM_OPT_TEXT,   "NAME", "this noise type or group alone", &plan.noise, 0, 0, NULL, &noise_given},
    {"batch",     0,   DLM_OPT_COUNT,  "B",    "sequences a step (what the law says, rounded)", &plan.batch, 1, 1e9, NULL,
     &batch_given},
    {"lr",        0,   DLM_OPT_REAL,   "ETA",  "learning rate (what the law says of that batch)", &plan.lr, 1e-12, 1e6, NULL,
     &lr_given},
    {"seq-len",   0,   DLM_OPT_COUNT,  "N",    "tokens in a sequence (2048)", &plan.seq_len, 1, 1e9, NULL, &seq_len_given},
    {"vocab-size", 0,  DLM_OPT_COUNT,  "V",    "ids, for embeddings and head (131072)", &plan.vocab_size, 2, 4294967294.0, NULL,
     &vocab_given},
    {"devices",   0,   DLM_OPT_COUNT,  "N",    "devices; the batch divides by them (8)", &plan.devices, 1, 1e7, NULL,
     &devices_given},
    {"peak-flops", 0,  DLM_OPT_REAL,   "F",    "FLOP/s of a device (989e12: one H100, bf16)", &plan.peak, 1, 1e30, NULL,
     &peak_given},
    {"mfu",       0,   DLM_OPT_REAL,   "P",    "share of the peak that is reached (0.4)", &plan.mfu, 1e-6, 1, NULL, &mfu_given},
    {NULL, 0, DLM_OPT_GROUP, NULL, "All:", NULL, 0, 0, NULL, NULL},
    DLM_OPTIONS_COMMON(common),
};
/* clang-format on */

static const struct dlm_command command = {
    "dlm-fitlaw", "fit scaling laws to the metrics of runs, predict from them, draw them",
    "loss [--by flops|tokens] [FILE...]\nisoflop [--raw] [FILE...]\npower -x COL -y COL [--offset] [FILE...]\n"
    "surface [-x params|flops_tok] [FILE...]\ncurve [--by flops|tokens] [--losses LIST] [--smooth local|power] [FILE...]\n"
    "batch [--losses LIST] [--optima] [FILE...]\nlr [--budgets LOW:HIGH:N] [--best-batch] [--optima] [FILE...]\n"
    "isoloss [--losses LIST] [--critical] [FILE...]\n"
    "epochs [--form saturating|stretched] [FILE...]\nannealing --annealed EXPR [FILE...]\n"
    "predict -l LAW -C FLOPS[,...]\nplan -l LAW -C FLOPS[,...] [--format NAME] [--tokens-available U]\n"
    "databound -l LAW -C FLOPS[,...] --tokens-available U\nlaws [-l LAW]\n"
    "study [--annealed EXPR] [-o DIR] [FILE...]\n"
    "plot [--what KIND] [-l LAW] [-o FILE.svg|.png|.pdf] [FILE...]",
    options, sizeof options / sizeof *options, NULL};

/* What a task has in hand: filled by main() before `find`, by `find` before `write`. */
struct call {
    struct dlm_estimate how;
    struct dlm_study_request request; /* of the study, where the task reads one */
    struct dlm_study study;
    struct dlm_laws laws; /* those of --law, and those found */
    struct dlm_notes notes;
    struct dlm_levels levels; /* --losses */
    struct dlm_curves curves;
    struct dlm_isoflop profiles;
    struct dlm_optima optima;
    struct dlm_isoloss isoloss;
    struct dlm_epochs epochs;
    struct dlm_annealing annealing;
    struct dlm_figure figure;
    double *flops; /* --flops */
    size_t n_flops;
    enum dlm_plot_format format;
    bool drawn; /* plot: to a file, not with characters */
};

struct task {
    const char *name;
    const char *options; /* those it takes beside the common ones; another is misuse */
    const char *needs;   /* those it cannot do without */
    bool no_rows;        /* it reads no metrics */
    void (*begin)(struct call *); /* check its options, say what it asks of the rows; may be NULL */
    int (*find)(struct call *, struct dlm_error *); /* may be NULL */
    int (*write)(struct call *, FILE *, const char *name, struct dlm_error *); /* NULL: find has made a directory */
};

static void check(int rc, const struct dlm_error *err)
{
    if (rc == DLM_EUSAGE)
        dlm_frame_misuse(&command, "%s", err->msg);
    if (rc)
        dlm_frame_fail(&command, rc, err);
}

/* --- the tasks ----------------------------------------------------------------------------------------------------------- */

static int write_laws(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return dlm_laws_write(&c->laws, f, name, err);
}

static void begin_curve(struct call *c)
{
    c->request.x = by ? "tokens" : "flops";
    c->request.keep = true;
}

static int find_curve(struct call *c, struct dlm_error *err)
{
    return dlm_curve_find(&c->study, (enum dlm_smooth)smooth, c->request.x, &c->how.budgets, losses_given ? &c->levels : NULL,
                          &c->curves, &c->notes, err);
}

static int write_curve(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return dlm_curve_write(&c->curves, &c->study, f, name, err);
}

static void begin_power(struct call *c)
{
    c->request.x = x_column;
    c->request.y = y_column;
}

static int find_power(struct call *c, struct dlm_error *err)
{
    return dlm_estimate_power(&c->study, &c->how, x_column, y_column, offset, &c->laws, &c->notes, err);
}

static bool surface_of_params(void)
{
    return x_column && !strcmp(x_column, "params");
}

static void begin_surface(struct call *c)
{
    if (x_column && !surface_of_params() && strcmp(x_column, "flops_tok"))
        dlm_frame_misuse(&command, "--x-column of surface is params or flops_tok, not '%s'", x_column);
    c->request.need_sizes = true;
    c->request.need_params = surface_of_params();
}

static int find_surface(struct call *c, struct dlm_error *err)
{
    return dlm_estimate_surface(&c->study, &c->how, surface_of_params(), &c->laws, &c->notes, err);
}

static void begin_isoflop(struct call *c)
{
    c->request.need_sizes = c->request.need_params = true;
}

static int find_isoflop(struct call *c, struct dlm_error *err)
{
    return dlm_isoflop_find(&c->study, &c->how, raw, &c->profiles, &c->notes, err);
}

static int write_isoflop(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return dlm_isoflop_write(&c->profiles, &c->study, f, name, err);
}

static void begin_batches(struct call *c)
{
    c->request.x = "tokens";
    c->request.need_sizes = c->request.need_batch = true;
}

static void begin_rates(struct call *c)
{
    begin_batches(c);
    c->request.need_lr = true;
}

static int find_optima(struct call *c, enum dlm_optimum_of of, struct dlm_error *err)
{
    const struct dlm_optimum_how how = {
        .estimate = c->how, .levels = c->levels, .smooth = (enum dlm_smooth)smooth, .best_batch = best_batch};
    int rc = dlm_optimum_find(&c->study, &how, of, &c->optima, &c->laws, &c->notes, err);
    if (!rc && !optima && !c->laws.n)
        rc = dlm_fail(err, DLM_EDATA,
                      "no law: it needs at least 2 optima within the sampled values (--optima shows them), and should have five");
    return rc;
}

static int find_batch(struct call *c, struct dlm_error *err)
{
    return find_optima(c, DLM_OPTIMUM_BATCH, err);
}

static int find_lr(struct call *c, struct dlm_error *err)
{
    return find_optima(c, DLM_OPTIMUM_LR, err);
}

static int write_optima(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return optima ? dlm_optimum_write(&c->optima, &c->study, f, name, err) : write_laws(c, f, name, err);
}

static int find_isoloss(struct call *c, struct dlm_error *err)
{
    return dlm_isoloss_find(&c->study, &c->how, &c->levels, (enum dlm_smooth)smooth, &c->isoloss, &c->laws, &c->notes, err);
}

static int write_isoloss(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return critical ? write_laws(c, f, name, err) : dlm_isoloss_write(&c->isoloss, &c->study, f, name, err);
}

static void begin_epochs(struct call *c)
{
    c->request.x = "tokens";
    c->request.need_sizes = c->request.need_params = c->request.need_unique = true;
}

static int find_epochs(struct call *c, struct dlm_error *err)
{
    return dlm_epochs_find(&c->study, &c->how, (enum dlm_epochs_form)form, &c->epochs, &c->laws, &c->notes, err);
}

static void begin_annealing(struct call *c)
{
    c->request.x = "tokens";
    c->request.need_sizes = c->request.keep = true;
    c->request.mark = annealed;
}

static int find_annealing(struct call *c, struct dlm_error *err)
{
    return dlm_annealing_find(&c->study, &c->how, (enum dlm_smooth)smooth, &c->annealing, &c->laws, &c->notes, err);
}

static void begin_loss(struct call *c)
{
    c->request.x = by ? "tokens" : "flops";
}

static int find_loss(struct call *c, struct dlm_error *err)
{
    return dlm_estimate_loss(&c->study, &c->how, by, &c->laws, &c->notes, err);
}

/* The budgets of --flops. */
static void begin_budgets(struct call *c)
{
    for (const char *p = compute;; p++) {
        size_t len = strcspn(p, ",");
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)(len < 63 ? len : 63), p);
        double *more = realloc(c->flops, (c->n_flops + 1) * sizeof *more);
        if (!more)
            check(DLM_ENOMEM, &(struct dlm_error){"out of memory"});
        c->flops = more;
        if (!dlm_number_real(text, &more[c->n_flops]) || !(more[c->n_flops++] > 0))
            dlm_frame_misuse(&command, "--flops takes positive numbers with commas between, not '%s'", text);
        p += len;
        if (!*p)
            return;
    }
}

static int write_predict(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return dlm_predict_write(&c->laws, c->flops, c->n_flops, f, name, &c->notes, err);
}

static void begin_plan(struct call *c)
{
    begin_budgets(c);
    if (batch_given && plan.batch % plan.devices)
        dlm_frame_misuse(&command, "--batch %llu does not divide by %llu devices (--devices)", (unsigned long long)plan.batch,
                         (unsigned long long)plan.devices);
}

static int write_plan(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    struct dlm_configurations found;
    struct dlm_contests contests = {0};
    int rc = dlm_configure_all(&c->laws, c->flops, c->n_flops, &plan, &found, &c->notes, err);
    if (!rc && unique_given)
        rc = dlm_databound_compare(&c->laws, c->flops, c->n_flops, plan.unique, plan.noise, &contests, err);
    if (!rc && unique_given)
        rc = dlm_databound_tell(&contests, &c->notes, err);
    if (!rc)
        rc = dlm_recipe_write(&found, (enum dlm_recipe)recipe, f, name, &c->notes, err);
    dlm_databound_release(&contests);
    dlm_configurations_release(&found);
    return rc;
}

static int write_databound(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    struct dlm_contests contests;
    int rc = dlm_databound_compare(&c->laws, c->flops, c->n_flops, plan.unique, plan.noise, &contests, err);
    if (!rc)
        rc = dlm_databound_write(&contests, f, name, err);
    dlm_databound_release(&contests);
    return rc;
}

static int write_published(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return law_files.n ? dlm_laws_write(&c->laws, f, name, err) : dlm_published_list(f, name, err);
}

enum {
    DRAW_LOSS,
    DRAW_CURVES,
    DRAW_ISOFLOP,
    DRAW_SIZES,
    DRAW_TOKENS,
    DRAW_BATCH,
    DRAW_LR,
    DRAW_ISOLOSS,
    DRAW_BOUND,
    DRAW_BATCH_CURVES,
    DRAW_LR_CURVES
};

static void begin_plot(struct call *c)
{
    struct dlm_error err = {{0}};
    if (drawing != DRAW_LOSS && law_files.n)
        dlm_frame_misuse(&command, "--law belongs to plot --what loss");
    if (drawing == DRAW_ISOFLOP || drawing == DRAW_SIZES || drawing == DRAW_TOKENS)
        begin_isoflop(c);
    else if (drawing == DRAW_LR || drawing == DRAW_LR_CURVES)
        begin_rates(c);
    else if (drawing == DRAW_BOUND)
        begin_epochs(c);
    else if (drawing == DRAW_BATCH || drawing == DRAW_BATCH_CURVES || drawing == DRAW_ISOLOSS)
        begin_batches(c);
    else
        begin_loss(c);
    if (interval_given && (drawing == DRAW_CURVES || drawing == DRAW_BATCH || drawing == DRAW_LR || drawing == DRAW_ISOLOSS ||
                           drawing == DRAW_BATCH_CURVES || drawing == DRAW_LR_CURVES))
        dlm_frame_misuse(&command, "--interval does not belong to this drawing");
    c->drawn = common.output && strcmp(common.output, "-");
    if (c->drawn)
        check(dlm_plot_format_of(common.output, &c->format, &err), &err);
}

static int find_plot(struct call *c, struct dlm_error *err)
{
    int rc = 0;
    const bool one = drawing == DRAW_ISOFLOP || drawing == DRAW_ISOLOSS || drawing == DRAW_BATCH_CURVES ||
                     drawing == DRAW_LR_CURVES;
    if (one && c->study.n > 1)
        return dlm_fail(err, DLM_EDATA, "%zu groups: this drawing shows one; choose it with --where", c->study.n);
    switch (drawing) {
    case DRAW_CURVES: return dlm_view_curves(&c->figure, &c->study, c->request.x, err);
    case DRAW_ISOFLOP: return dlm_view_isoflop(&c->figure, &c->study.groups[0], &c->how, err);
    case DRAW_SIZES:
    case DRAW_TOKENS:
        rc = find_isoflop(c, err);
        if (!rc)
            rc = dlm_sizes_fit(&c->study, &c->profiles, &c->how, &c->laws, &c->notes, err);
        return rc ? rc
                  : dlm_view_sizes(&c->figure, &c->study, &c->profiles,
                                   drawing == DRAW_SIZES ? DLM_ISOFLOP_SIZE : DLM_ISOFLOP_TOKENS, &c->laws, err);
    case DRAW_BATCH:
    case DRAW_LR:
        rc = find_optima(c, drawing == DRAW_LR ? DLM_OPTIMUM_LR : DLM_OPTIMUM_BATCH, err);
        return rc ? rc : dlm_view_optima(&c->figure, &c->study, &c->optima, &c->laws, err);
    case DRAW_BATCH_CURVES:
    case DRAW_LR_CURVES: {
        const struct dlm_optimum_how how = {.estimate = c->how, .levels = c->levels, .smooth = (enum dlm_smooth)smooth};
        const enum dlm_optimum_of of = drawing == DRAW_LR_CURVES ? DLM_OPTIMUM_LR : DLM_OPTIMUM_BATCH;
        rc = dlm_optimum_find(&c->study, &how, of, &c->optima, &c->laws, &c->notes, err);
        return rc ? rc : dlm_view_parabolas(&c->figure, &c->optima, c->study.groups[0].name, err);
    }
    case DRAW_BOUND:
        rc = find_epochs(c, err);
        return rc ? rc : dlm_view_bound(&c->figure, &c->study, &c->laws, err);
    case DRAW_ISOLOSS:
        rc = find_isoloss(c, err);
        return rc ? rc : dlm_view_isoloss(&c->figure, &c->isoloss, c->study.groups[0].name, err);
    default:
        rc = law_files.n ? 0 : find_loss(c, err);
        return rc ? rc : dlm_view_loss(&c->figure, &c->study, &c->laws, by ? "tokens" : "flops", err);
    }
}

static int write_plot(struct call *c, FILE *f, const char *name, struct dlm_error *err)
{
    return c->drawn ? dlm_plot_draw(&c->figure, c->format, f, err) : dlm_chart_draw(&c->figure, f, name, err);
}

static const char *report_place(void)
{
    return common.output ? common.output : "study";
}

static void begin_study(struct call *c)
{
    struct dlm_error err = {{0}};
    c->request.keep = true;
    c->request.mark = annealed;
    if (!strcmp(report_place(), "-"))
        dlm_frame_misuse(&command, "--output of study is a directory");
    check(dlm_folder_check(report_place(), &err), &err);
}

static void say_stage(void *ctx, const char *what)
{
    (void)ctx;
    if (common.verbose && !common.quiet)
        dlm_frame_say(&command, "%s", what);
}

static int find_study(struct call *c, struct dlm_error *err)
{
    const struct dlm_report_how how = {.dir = report_place(),
                                       .estimate = c->how,
                                       .levels = c->levels,
                                       .smooth = (enum dlm_smooth)smooth,
                                       .annealed = annealed != NULL,
                                       .say = say_stage};
    return dlm_report_make(&c->study, &how, &c->notes, err);
}

#define ROWS "group where paper-filter skip-bad "
#define FITS ROWS "bootstrap level huber "

#define PLAN "law flops format tokens-available noise batch lr seq-len vocab-size devices peak-flops mfu"

/* clang-format off */
static const struct task tasks[] = {
    {"curve",   ROWS "by budgets losses smooth", "",       false, begin_curve,   find_curve,   write_curve},
    {"loss",    FITS "interval by budgets", "",                  false, begin_loss,    find_loss,    write_laws},
    {"isoflop", FITS "interval raw budgets", "",                  false, begin_isoflop, find_isoflop, write_isoflop},
    {"batch",   FITS "losses smooth optima", "",           false, begin_batches, find_batch,   write_optima},
    {"lr",      FITS "budgets smooth optima best-batch", "", false, begin_rates, find_lr,      write_optima},
    {"isoloss", FITS "losses smooth critical", "",         false, begin_batches, find_isoloss, write_isoloss},
    {"epochs",  FITS "interval form",      "",                  false, begin_epochs,  find_epochs,  write_laws},
    {"annealing", FITS "interval smooth annealed", "annealed",          false, begin_annealing, find_annealing, write_laws},
    {"power",   FITS "interval x-column y-column offset", "x-column y-column", false, begin_power, find_power, write_laws},
    {"surface", FITS "interval x-column",  "",                  false, begin_surface, find_surface, write_laws},
    {"predict", "law flops",               "law flops",         true,  begin_budgets, NULL,         write_predict},
    {"plan",    PLAN,                      "law flops",         true,  begin_plan,    NULL,         write_plan},
    {"databound", "law flops noise tokens-available", "law flops tokens-available", true, begin_budgets, NULL, write_databound},
    {"laws",    "law",                     "",                  true,  NULL,          NULL,         write_published},
    {"plot",    FITS "interval by budgets losses smooth what law", "", false, begin_plot,    find_plot,    write_plot},
    {"study",   FITS "interval budgets losses smooth annealed", "", false, begin_study,   find_study,   NULL},
};
/* clang-format on */
enum { TASKS = sizeof tasks / sizeof *tasks };

/* --- main ---------------------------------------------------------------------------------------------------------------- */

/* `power, surface or plot` */
static const char *task_names(void)
{
    static char text[512];
    size_t n = 0;
    for (int i = 0; i < TASKS; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", !i ? "" : i + 1 < TASKS ? ", " : " or ", tasks[i].name);
    return text;
}

static const struct task *find_task(const char *word)
{
    for (int i = 0; i < TASKS; i++)
        if (!strcmp(word, tasks[i].name))
            return &tasks[i];
    dlm_frame_misuse(&command, "'%s' is none of %s", word, task_names());
}

static bool lists(const char *words, const char *word)
{
    for (size_t n = strlen(word); *words; words += strcspn(words, " "), words += strspn(words, " "))
        if (!strncmp(words, word, n) && (words[n] == ' ' || !words[n]))
            return true;
    return false;
}

/* An option that the task would ignore is misuse, and so is one that it lacks. Every option but the common ones notes that it was
 * given. */
static void check_options(const struct task *task)
{
    if (resamples == 1)
        dlm_frame_misuse(&command, "--bootstrap 1: one resample tells no interval; give 0, or a hundred and more");
    for (size_t i = 0; i < command.n_options; i++) {
        const struct dlm_option *o = &options[i];
        if (!o->given || o->given == &common.seed_given)
            continue;
        if (*o->given && !lists(task->options, o->name))
            dlm_frame_misuse(&command, "--%s does not belong to '%s'", o->name, task->name);
        if (!*o->given && lists(task->needs, o->name))
            dlm_frame_misuse(&command, "%s needs --%s", task->name, o->name);
    }
}

/* Those of --law: files, and published laws by their names. */
static int read_laws(struct dlm_laws *l, struct dlm_notes *notes, struct dlm_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < law_files.n && !rc; i++) {
        const char *name = law_files.at[i];
        rc = dlm_published_named(name) ? dlm_published_fill(name, l, notes, err) : dlm_laws_read(l, &name, 1, err);
        if (rc == DLM_EIO && !strpbrk(name, "/.") && access(name, F_OK))
            rc = dlm_fail(err, rc, "there is no file '%s', and no published law of that name ('dlm-fitlaw laws' has them)", name);
    }
    return rc;
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
    if (s->skipped)
        dlm_frame_say(&command, "%zu bad row%s skipped; the first: %s", s->skipped, s->skipped == 1 ? " is" : "s are",
                      s->first_skipped);
    if (s->averaged)
        dlm_frame_say(&command, "%zu run%s more than %d rows: those within %d %% of each other in %s are averaged", s->averaged,
                      s->averaged == 1 ? " has" : "s have", DLM_STUDY_ROWS, 100 / DLM_STUDY_STEPS, "x");
    if (s->repeats && common.verbose)
        dlm_frame_say(&command, "%zu repeated rows count once", s->repeats);
}

int main(int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = dlm_frame_begin(&command, argc, argv);
    if (first == argc)
        dlm_frame_misuse(&command, "say what to do: %s", task_names());
    const struct task *task = find_task(argv[first++]);
    check_options(task);

    struct dlm_progress progress;
    struct call c = {.how = {.huber = huber,
                             .bootstrap = {.n = resamples,
                                           .seed = common.seed,
                                           .level = level,
                                           .kind = (enum dlm_interval_kind)interval,
                                           .asked = interval_given,
                                           .tick = tick,
                                           .tick_ctx = &progress,
                                           .threads = (int)(common.threads ? common.threads : (uint64_t)dlm_build_cores())}},
                     .request = {.paths = (const char *const *)argv + first,
                                 .n_paths = (size_t)(argc - first),
                                 .group = group,
                                 .where = where,
                                 .skip_bad = skip_bad,
                                 .x = "flops"}};
    check(dlm_budgets_parse(budgets, &c.how.budgets, &err), &err);
    check(dlm_levels_parse(losses, &c.levels, &err), &err);
    if (task->begin)
        task->begin(&c);
    if (paper_filter)
        c.request.keep = c.request.need_sizes = c.request.need_batch = true;
    if (!task->no_rows)
        check(dlm_study_read(&c.study, &c.request, &err), &err);
    if (paper_filter && !task->no_rows)
        check(dlm_filter_paper(&c.study, &c.notes, &err), &err);
    if (task->no_rows && first < argc)
        dlm_frame_misuse(&command, "%s reads the laws of --law, not '%s'", task->name, argv[first]);
    check(read_laws(&c.laws, &c.notes, &err), &err);

    dlm_progress_init(&progress, command.name, "resamples", 0, 0, (enum dlm_progress_mode)common.progress);
    int rc = task->find ? task->find(&c, &err) : 0;
    dlm_progress_release(&progress);
    check(rc, &err);

    if (task->write) {
        struct dlm_output out;
        check(dlm_output_open(&out, common.output, &err), &err);
        check(task->write(&c, out.file, dlm_output_name(&out), &err), &err);
        check(dlm_output_commit(&out, &err), &err);
    }
    if (!common.quiet && !task->no_rows)
        say_study(&c.study);
    for (size_t i = 0; i < c.notes.n && !common.quiet; i++)
        dlm_frame_say(&command, "%s", c.notes.at[i]);
    dlm_notes_release(&c.notes);
    dlm_curves_release(&c.curves);
    dlm_figure_release(&c.figure);
    dlm_levels_release(&c.levels);
    dlm_isoflop_release(&c.profiles);
    dlm_optimum_release(&c.optima);
    dlm_isoloss_release(&c.isoloss);
    dlm_epochs_release(&c.epochs);
    dlm_annealing_release(&c.annealing);
    dlm_laws_release(&c.laws);
    dlm_study_release(&c.study);
    free(c.flops);
    free(law_files.at);
    return dlm_frame_end(&command);
}
