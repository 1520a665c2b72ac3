/* A whole study as a directory; see report.h. */
#include "law/report.h"

#include "base/output.h"
#include "base/stop.h"
#include "law/annealing.h"
#include "law/epochs.h"
#include "law/plot.h"
#include "law/predict.h"
#include "law/sizes.h"
#include "law/view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char marker[] = "dlm-fitlaw study: the files of this report";

/* --- numbers --------------------------------------------------------------------------------------------------------------------- */

struct dlm_prediction dlm_report_difference(const struct dlm_prediction *a, const struct dlm_prediction *b)
{
    double d = a->value - b->value;
    return (struct dlm_prediction){d, d - sqrt(pow(a->value - a->lo, 2) + pow(b->hi - b->value, 2)),
                                   d + sqrt(pow(a->hi - a->value, 2) + pow(b->value - b->lo, 2))};
}

static struct dlm_prediction logs(const struct dlm_prediction *p)
{
    return (struct dlm_prediction){log(p->value), p->lo > 0 ? log(p->lo) : NAN, log(p->hi)};
}

struct dlm_prediction dlm_report_ratio(const struct dlm_prediction *a, const struct dlm_prediction *b)
{
    struct dlm_prediction la = logs(a), lb = logs(b), d = dlm_report_difference(&la, &lb);
    return (struct dlm_prediction){exp(d.value), exp(d.lo), exp(d.hi)};
}

/* --- the directory --------------------------------------------------------------------------------------------------------------- */

/* Read the names of an earlier report; false: dir is none. *names is to be freed. */
static bool earlier(const char *dir, char **names)
{
    char *path = NULL, line[512];
    bool ours = false;
    *names = NULL;
    size_t size;
    FILE *to = open_memstream(names, &size);
    FILE *f = asprintf(&path, "%s/files.txt", dir) < 0 ? NULL : fopen(path, "re");
    free(path);
    if (f && to && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        ours = !strcmp(line, marker);
        while (ours && fgets(line, sizeof line, f))
            fputs(line, to);
    }
    if (f)
        fclose(f);
    if (to)
        fclose(to);
    return ours && *names;
}

static bool is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    if (!d)
        return false;
    while (readdir(d))
        n++;
    closedir(d);
    return n <= 2;
}

int dlm_report_check(const char *dir, struct dlm_error *err)
{
    struct stat st;
    char *names = NULL;
    if (stat(dir, &st))
        return errno == ENOENT ? 0 : dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir);
    if (!S_ISDIR(st.st_mode))
        return dlm_fail(err, DLM_EIO, "cannot write '%s': it is no directory", dir);
    bool fine = earlier(dir, &names) || is_empty(dir);
    free(names);
    return fine ? 0 : dlm_fail(err, DLM_EIO, "'%s' exists and is no earlier report: choose another --output, or remove it", dir);
}

/* Remove a directory of plain files that is ours alone. */
static void remove_all(const char *dir)
{
    DIR *d = opendir(dir);
    if (d) {
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                unlinkat(dirfd(d), e->d_name, 0);
        closedir(d);
    }
    rmdir(dir);
}

/* Put `made` at `dir`; what stood there and was no file of the report moves along. */
static int put_in_place(const char *made, const char *dir, struct dlm_error *err)
{
    struct stat st;
    char *names = NULL;
    if (stat(dir, &st)) /* also fails where a directory on the way is missing: rename says so */
        return rename(made, dir) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir) : 0;
    int rc = dlm_report_check(dir, err);
    if (rc)
        return rc;
    bool ours = earlier(dir, &names);
    if (renameat2(AT_FDCWD, made, AT_FDCWD, dir, RENAME_EXCHANGE)) {
        free(names);
        return dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir);
    }
    /* now `made` is the old one */
    DIR *d = opendir(made);
    for (char *name = ours ? strtok(names, "\n") : NULL; name; name = strtok(NULL, "\n"))
        if (d && !strchr(name, '/') && strcmp(name, "."))
            unlinkat(dirfd(d), name, 0);
    int to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (struct dirent *e; d && to >= 0 && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && faccessat(to, e->d_name, F_OK, AT_SYMLINK_NOFOLLOW))
            renameat(dirfd(d), e->d_name, to, e->d_name);
    if (to >= 0)
        close(to);
    if (d)
        closedir(d);
    free(names);
    if (rmdir(made))
        return dlm_fail_errno(err, DLM_EIO, "the report is in place, but the earlier one is left at '%s'", made);
    return 0;
}

/* --- the report in the making ---------------------------------------------------------------------------------------------------- */

struct figure_entry {
    char file[48], tsv[48], title[160];
};

struct report {
    const struct dlm_study *whole; /* read against compute, */
    const struct dlm_study *flops; /* and that without annealed runs, which follow another law */
    const struct dlm_report_how *how;
    struct dlm_notes *notes;
    char *dir; /* where it is made */
    FILE *text; /* report.txt */
    char *files; /* of the report, one a line */
    size_t files_size;
    FILE *list;
    struct figure_entry *figures;
    size_t n_figures;
    struct dlm_notes missing; /* analyses that could not be done, and why */
    bool no_gnuplot;
    struct dlm_laws loss, by_tokens, sizes, surface, batch, lr, critical, epochs, annealed;
    struct dlm_isoflop profiles;
    struct dlm_optima batches, rates;
    struct dlm_isoloss isoloss;
    struct dlm_epochs bound;
    struct dlm_annealing annealing;
    struct dlm_curves curves;
    bool has_bound;
};

static void say(const struct report *r, const char *what)
{
    if (r->how->say)
        r->how->say(r->how->say_ctx, what);
}

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

/* Open a file of the report. */
static int open_file(struct report *r, const char *name, struct dlm_output *out, struct dlm_error *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", r->dir, name) < 0)
        return no_memory(err);
    int rc = dlm_output_open(out, path, err);
    free(path);
    if (!rc)
        fprintf(r->list, "%s\n", name);
    return rc;
}

static int close_file(struct dlm_output *out, int rc, struct dlm_error *err)
{
    if (!rc)
        return dlm_output_commit(out, err);
    dlm_output_abort(out);
    return rc;
}

/* What an analysis lacks is no failure of the study: name it and go on. */
static int allow(struct report *r, const char *analysis, int rc, struct dlm_error *err)
{
    if (rc != DLM_EDATA)
        return rc;
    struct dlm_error why = *err;
    *err = (struct dlm_error){{0}};
    return dlm_notes_add(&r->missing, err, "%s: %s", analysis, why.msg);
}

static int write_laws(struct report *r, const char *name, const struct dlm_laws *l, struct dlm_error *err)
{
    struct dlm_output out;
    if (!l->n)
        return 0;
    int rc = open_file(r, name, &out, err);
    return rc ? rc : close_file(&out, dlm_laws_write(l, out.file, name, err), err);
}

/* Draw a figure and note where its numbers stand. `rc`: whether it could be filled. */
static int draw(struct report *r, struct dlm_figure *f, int rc, const char *file, const char *tsv, const char *title,
                struct dlm_error *err)
{
    struct dlm_output out;
    if (rc == DLM_EDATA) { /* nothing to show; the analysis has said why */
        *err = (struct dlm_error){{0}};
        rc = 0;
    } else if (!rc && !r->no_gnuplot) {
        rc = open_file(r, file, &out, err);
        if (!rc)
            rc = close_file(&out, dlm_plot_draw(f, DLM_PLOT_SVG, out.file, err), err);
        struct figure_entry *more = rc ? NULL : realloc(r->figures, (r->n_figures + 1) * sizeof *more);
        if (!rc && !more)
            rc = no_memory(err);
        if (!rc) {
            r->figures = more;
            struct figure_entry *e = &more[r->n_figures++];
            snprintf(e->file, sizeof e->file, "%s", file);
            snprintf(e->tsv, sizeof e->tsv, "%s", tsv);
            snprintf(e->title, sizeof e->title, "%s", title);
        }
    }
    dlm_figure_release(f);
    return rc;
}

/* --- the rows, as each analysis needs them --------------------------------------------------------------------------------------- */

enum { NEED_SIZES = 1, NEED_PARAMS = 2, NEED_BATCH = 4, NEED_LR = 8, NEED_UNIQUE = 16, BY_TOKENS = 32, ANNEALED = 64 };

struct rows {
    struct dlm_study study;
};

static void release_rows(struct rows *w)
{
    free(w->study.groups);
    free(w->study.runs);
    free(w->study.points);
}

/* The points that have all that is needed; names are borrowed. DLM_EDATA with what is missing where there is none. */
static int derive(const struct dlm_study *s, unsigned need, struct rows *w, struct dlm_error *err)
{
    struct dlm_study *o = &w->study;
    *o = *s;
    o->n = o->n_runs = o->n_points = 0;
    o->groups = calloc(s->n + 1, sizeof *o->groups);
    o->runs = calloc(s->n_runs + 1, sizeof *o->runs);
    o->points = malloc((s->n_points + 1) * sizeof *o->points);
    if (!o->groups || !o->runs || !o->points)
        return no_memory(err);
    const char *lacks = NULL;
    for (size_t g = 0; g < s->n; g++) {
        struct dlm_group *og = &o->groups[o->n];
        *og = (struct dlm_group){s->groups[g].name, &o->runs[o->n_runs], 0, 0};
        for (size_t i = 0; i < s->groups[g].n; i++) {
            const struct dlm_run *from = &s->groups[g].runs[i];
            struct dlm_run *to = &o->runs[o->n_runs];
            if (from->points[from->n - 1].marked && !(need & ANNEALED))
                continue;
            *to = *from;
            to->points = &o->points[o->n_points];
            to->n = 0;
            for (size_t k = 0; k < from->n; k++) {
                struct dlm_point p = from->points[k];
                const char *bad = (need & (NEED_SIZES | BY_TOKENS)) && !(p.tokens > 0) ? "tokens"
                                  : (need & NEED_SIZES) && !(p.flops_tok > 0)          ? "flops_tok"
                                  : (need & NEED_PARAMS) && !(p.params > 0)            ? "params"
                                  : (need & NEED_BATCH) && !(p.batch_tok > 0)          ? "batch_tok"
                                  : (need & NEED_LR) && !(p.lr > 0)                    ? "lr"
                                  : (need & NEED_UNIQUE) && !(p.unique_tokens > 0)     ? "unique_tokens"
                                                                                       : NULL;
                if (bad) {
                    lacks = bad;
                    continue;
                }
                if (need & BY_TOKENS)
                    p.x = p.tokens;
                to->points[to->n++] = p;
            }
            if (!to->n)
                continue;
            o->n_points += to->n;
            og->n_points += to->n;
            og->n++;
            o->n_runs++;
        }
        o->n += og->n > 0;
    }
    return o->n ? 0 : dlm_fail(err, DLM_EDATA, "no row has %s", lacks ? lacks : "what is needed");
}

static struct dlm_study alone(const struct dlm_study *s, size_t g)
{
    struct dlm_study one = *s;
    one.groups = &s->groups[g];
    one.n = 1;
    return one;
}

/* --- the analyses, in their order ------------------------------------------------------------------------------------------------ */

static int do_curves(struct report *r, struct dlm_error *err)
{
    struct dlm_output out;
    say(r, "curves");
    int rc = dlm_curve_find(r->flops, r->how->smooth, "flops", &r->how->estimate.budgets, NULL, &r->curves, r->notes, err);
    if (rc)
        return allow(r, "curve", rc, err);
    rc = open_file(r, "curve.tsv", &out, err);
    return rc ? rc : close_file(&out, dlm_curve_write(&r->curves, r->flops, out.file, "curve.tsv", err), err);
}

static int do_isoflop(struct report *r, struct dlm_error *err)
{
    struct rows w;
    struct dlm_output out;
    struct dlm_figure f;
    struct dlm_isoflop *all = &r->profiles;
    say(r, "iso-FLOP profiles");
    int rc = derive(r->flops, NEED_SIZES | NEED_PARAMS, &w, err);
    if (rc) {
        release_rows(&w);
        return allow(r, "isoflop", rc, err);
    }
    for (size_t g = 0; g < w.study.n && !rc; g++) {
        struct dlm_study one = alone(&w.study, g);
        struct dlm_isoflop found;
        rc = dlm_isoflop_find(&one, &r->how->estimate, false, &found, r->notes, err);
        if (rc) {
            rc = allow(r, "isoflop", rc, err);
            continue;
        }
        struct dlm_isoflop_row *more = realloc(all->rows, (all->n + found.n + 1) * sizeof *more);
        if (more) {
            all->rows = more;
            for (size_t i = 0; i < found.n; i++)
                more[all->n++] = found.rows[i];
        } else {
            rc = no_memory(err);
        }
        dlm_isoflop_release(&found);
        char file[48];
        snprintf(file, sizeof file, "isoflop-%zu.svg", g + 1);
        if (!rc)
            rc = draw(r, &f, dlm_view_isoflop(&f, &w.study.groups[g], &r->how->estimate, err), file, "isoflop.tsv",
                      "Iso-FLOP profiles: the best loss of each size at each budget, and the parabola's lowest point", err);
    }
    if (!rc && all->n) {
        rc = open_file(r, "isoflop.tsv", &out, err);
        if (!rc)
            rc = close_file(&out, dlm_isoflop_write(all, &w.study, out.file, "isoflop.tsv", err), err);
        if (!rc)
            rc = dlm_sizes_fit(&w.study, all, &r->how->estimate, &r->sizes, r->notes, err);
        if (!rc)
            rc = write_laws(r, "sizes.tsv", &r->sizes, err);
        static const struct {
            int what;
            const char *file, *title;
        } drawn[] = {{DLM_ISOFLOP_SIZE, "size.svg", "Best size against compute"},
                     {DLM_ISOFLOP_TOKENS, "tokens.svg", "Best number of tokens against compute"},
                     {DLM_ISOFLOP_PARAMS, "params.svg", "Best number of parameters against compute"},
                     {DLM_ISOFLOP_LOSS, "loss-best.svg", "Loss of the best size against compute"}};
        for (size_t k = 0; k < sizeof drawn / sizeof *drawn && !rc; k++)
            rc = draw(r, &f, dlm_view_sizes(&f, r->flops, all, drawn[k].what, &r->sizes, err), drawn[k].file, "sizes.tsv",
                      drawn[k].title, err);
    }
    release_rows(&w);
    for (size_t i = 0; i < all->n; i++) /* their groups were of the rows just released */
        all->rows[i].group = NULL;
    return rc;
}

static int do_surface(struct report *r, struct dlm_error *err)
{
    struct rows w;
    say(r, "surfaces");
    int rc = derive(r->flops, NEED_SIZES, &w, err);
    rc = rc ? allow(r, "surface", rc, err) : 0;
    for (size_t g = 0; g < w.study.n && !rc; g++) {
        struct dlm_study one = alone(&w.study, g);
        rc = allow(r, "surface", dlm_estimate_surface(&one, &r->how->estimate, false, &r->surface, r->notes, err), err);
    }
    release_rows(&w);
    return rc ? rc : write_laws(r, "surface.tsv", &r->surface, err);
}

static int do_loss(struct report *r, bool by_tokens, struct dlm_error *err)
{
    struct rows w;
    struct dlm_figure f;
    struct dlm_laws *l = by_tokens ? &r->by_tokens : &r->loss;
    const char *tsv = by_tokens ? "loss-tokens.tsv" : "loss-compute.tsv";
    say(r, by_tokens ? "loss against tokens" : "loss against compute");
    int rc = derive(r->flops, by_tokens ? BY_TOKENS : 0, &w, err);
    const bool any = !rc;
    rc = rc ? allow(r, by_tokens ? "loss by tokens" : "loss", rc, err) : 0;
    for (size_t g = 0; g < w.study.n && !rc; g++) {
        struct dlm_study one = alone(&w.study, g);
        rc = allow(r, by_tokens ? "loss by tokens" : "loss",
                   dlm_estimate_loss(&one, &r->how->estimate, by_tokens, l, r->notes, err), err);
    }
    if (!rc)
        rc = write_laws(r, tsv, l, err);
    if (!rc && any)
        rc = draw(r, &f, dlm_view_loss(&f, &w.study, l, by_tokens ? "tokens" : "flops", err),
                  by_tokens ? "loss-tokens.svg" : "loss-compute.svg", tsv,
                  by_tokens ? "Loss against training tokens, with the law of the lowest curves"
                            : "Loss against training compute, with the law of the frontier",
                  err);
    release_rows(&w);
    return rc;
}

static int do_optima(struct report *r, enum dlm_optimum_of of, struct dlm_error *err)
{
    const bool batch = of == DLM_OPTIMUM_BATCH;
    const char *name = batch ? "batch" : "lr", *tsv = batch ? "batch.tsv" : "lr.tsv";
    const char *law = batch ? "batch-law.tsv" : "lr-law.tsv";
    struct dlm_optima *o = batch ? &r->batches : &r->rates;
    struct dlm_laws *l = batch ? &r->batch : &r->lr;
    struct rows w;
    struct dlm_output out;
    struct dlm_figure f;
    const struct dlm_optimum_how how = {.estimate = r->how->estimate, .levels = r->how->levels, .smooth = r->how->smooth};
    say(r, batch ? "best batch" : "best learning rate");
    int rc = derive(r->flops, NEED_SIZES | NEED_BATCH | BY_TOKENS | (batch ? 0 : NEED_LR), &w, err);
    if (!rc)
        rc = dlm_optimum_find(&w.study, &how, of, o, l, r->notes, err);
    if (rc) {
        release_rows(&w);
        return allow(r, name, rc, err);
    }
    rc = open_file(r, tsv, &out, err);
    if (!rc)
        rc = close_file(&out, dlm_optimum_write(o, &w.study, out.file, tsv, err), err);
    if (!rc)
        rc = write_laws(r, law, l, err);
    if (!rc)
        rc = draw(r, &f, dlm_view_optima(&f, r->flops, o, l, err), batch ? "batch.svg" : "lr.svg", tsv,
                  batch ? "Best batch against the tokens that reach a loss" : "Best learning rate against batch", err);
    for (size_t g = 0; g < w.study.n && !rc; g++) {
        char file[48];
        snprintf(file, sizeof file, "%s-parabolas-%zu.svg", name, g + 1);
        rc = draw(r, &f, dlm_view_parabolas(&f, o, w.study.groups[g].name, err), file, tsv,
                  batch ? "Tokens that each batch needs for a loss, and the parabolas' lowest points"
                        : "Loss of each learning rate at the longest horizon, and the parabolas' lowest points",
                  err);
    }
    dlm_optimum_release(o);
    release_rows(&w);
    return rc;
}

static int do_isoloss(struct report *r, struct dlm_error *err)
{
    struct rows w;
    struct dlm_output out;
    struct dlm_figure f;
    say(r, "iso-loss curves");
    int rc = derive(r->flops, NEED_SIZES | NEED_BATCH | BY_TOKENS, &w, err);
    if (!rc)
        rc = dlm_isoloss_find(&w.study, &r->how->estimate, &r->how->levels, r->how->smooth, &r->isoloss,
                              &r->critical, r->notes, err);
    if (rc) {
        release_rows(&w);
        return allow(r, "isoloss", rc, err);
    }
    rc = open_file(r, "isoloss.tsv", &out, err);
    if (!rc)
        rc = close_file(&out, dlm_isoloss_write(&r->isoloss, &w.study, out.file, "isoloss.tsv", err), err);
    if (!rc)
        rc = write_laws(r, "critical.tsv", &r->critical, err);
    for (size_t g = 0; g < w.study.n && !rc; g++) {
        char file[48];
        snprintf(file, sizeof file, "isoloss-%zu.svg", g + 1);
        rc = draw(r, &f, dlm_view_isoloss(&f, &r->isoloss, w.study.groups[g].name, err), file, "isoloss.tsv",
                  "Iso-loss curves: the steps that each batch needs", err);
    }
    dlm_isoloss_release(&r->isoloss);
    release_rows(&w);
    return rc;
}

static bool any_repeats(const struct dlm_study *s)
{
    for (size_t g = 0; g < s->n; g++)
        for (size_t i = 0; i < s->groups[g].n; i++)
            for (size_t k = 0; k < s->groups[g].runs[i].n; k++)
                if (s->groups[g].runs[i].points[k].tokens > 1.001 * s->groups[g].runs[i].points[k].unique_tokens)
                    return true;
    return false;
}

static int do_epochs(struct report *r, struct rows *w, struct dlm_error *err)
{
    struct dlm_figure f;
    say(r, "repeated data");
    int rc = derive(r->flops, NEED_SIZES | NEED_PARAMS | NEED_UNIQUE | BY_TOKENS, w, err);
    if (!rc && !any_repeats(&w->study))
        rc = dlm_fail(err, DLM_EDATA, "no run sees its tokens more than once");
    if (!rc) {
        rc = dlm_epochs_find(&w->study, &r->how->estimate, DLM_EPOCHS_SATURATING, &r->bound, &r->epochs, r->notes, err);
        r->has_bound = !rc;
    }
    if (rc)
        return allow(r, "epochs", rc, err);
    rc = write_laws(r, "epochs.tsv", &r->epochs, err);
    return rc ? rc
              : draw(r, &f, dlm_view_bound(&f, r->flops, &r->epochs, err), "bound.svg", "epochs.tsv",
                     "The least loss that unique tokens allow", err);
}

static int do_annealing(struct report *r, struct dlm_error *err)
{
    struct rows w;
    if (!r->how->annealed)
        return 0;
    say(r, "annealing");
    int rc = derive(r->whole, NEED_SIZES | BY_TOKENS | ANNEALED, &w, err);
    if (!rc)
        rc = dlm_annealing_find(&w.study, &r->how->estimate, r->how->smooth, &r->annealing, &r->annealed, r->notes, err);
    rc = rc ? allow(r, "annealing", rc, err) : write_laws(r, "annealing.tsv", &r->annealed, err);
    release_rows(&w);
    return rc;
}

/* --- the answers ----------------------------------------------------------------------------------------------------------------- */

static const char undetermined[] = "not determined by these runs";

/* A number with its interval, in words where it has none or one too wide to say anything: a factor of 25 from end to end
 * for a ratio or a size; wider than twice itself for an exponent. */
static void put_value(struct report *r, const struct dlm_prediction *p, bool exponent, const char *format)
{
    char v[32], lo[32], hi[32];
    bool known = isfinite(p->value) && isfinite(p->lo) && isfinite(p->hi);
    bool wide = known && (exponent ? p->hi - p->lo > 2 * fabs(p->value) || p->lo <= 1.01e-4 || p->hi >= 9.9
                                   : p->value > 0 && p->lo > 0 && p->hi / p->lo > 25);
    if (!known || wide) {
        fputs(undetermined, r->text);
        if (wide) {
            snprintf(lo, sizeof lo, format, p->lo);
            snprintf(hi, sizeof hi, format, p->hi);
            fprintf(r->text, " (%s to %s)", lo, hi);
        } else if (isfinite(p->value)) {
            snprintf(v, sizeof v, format, p->value);
            fprintf(r->text, " (best fit %s, no interval)", v);
        }
        return;
    }
    snprintf(v, sizeof v, format, p->value);
    snprintf(lo, sizeof lo, format, p->lo);
    snprintf(hi, sizeof hi, format, p->hi);
    fprintf(r->text, "%s [%s, %s]", v, lo, hi);
}

static bool term(const struct dlm_laws *l, const char *law, const char *group, const char *name, const char *y, const char *x,
                 struct dlm_prediction *p)
{
    const struct dlm_law_row *row = dlm_laws_find(l, law, group, name, y, x);
    *p = row ? (struct dlm_prediction){row->value, row->lo, row->hi} : (struct dlm_prediction){NAN, NAN, NAN};
    return row != NULL;
}

static bool is_ar(const char *group)
{
    const char *end = strrchr(group, '/');
    return !strcmp(group, "ar") || (end && !strcmp(end + 1, "ar"));
}

static bool begins(const char *group, const char *noise)
{
    size_t n = strlen(noise);
    return !strncmp(group, noise, n) && (!group[n] || group[n] == '/');
}

/* The group that others are compared with: masked diffusion, else the first that is not autoregressive. */
static const char *reference(const struct report *r)
{
    const struct dlm_study *s = r->flops;
    for (size_t g = 0; g < s->n; g++)
        if (begins(s->groups[g].name, "masked"))
            return s->groups[g].name;
    for (size_t g = 0; g < s->n; g++)
        if (!is_ar(s->groups[g].name))
            return s->groups[g].name;
    return s->n ? s->groups[0].name : "";
}

static void put_heading(struct report *r, const char *title, const char *from)
{
    fprintf(r->text, "\n%s\n", title);
    if (from)
        fprintf(r->text, "  (from %s)\n", from);
}

static void put_term(struct report *r, const struct dlm_laws *l, const char *law, const char *group, const char *name,
                     const char *y, const char *x, const char *what)
{
    struct dlm_prediction p;
    term(l, law, group, name, y, x, &p);
    fprintf(r->text, "  %-24s %-34s ", group, what);
    put_value(r, &p, true, "%.4f");
    fputc('\n', r->text);
}

static void answer_steepness(struct report *r)
{
    put_heading(r, "1. How steep does each noise type's loss fall, with compute and with data?",
                "loss-compute.tsv, loss-tokens.tsv, sizes.tsv");
    for (size_t g = 0; g < r->flops->n; g++) {
        const char *group = r->flops->groups[g].name;
        struct dlm_prediction k;
        put_term(r, &r->loss, "loss", group, "beta", NULL, "flops", "beta of L = A C^-beta + B:");
        put_term(r, &r->by_tokens, "loss", group, "beta", NULL, "tokens", "beta of L = A D^-beta + B:");
        term(&r->sizes, "power", group, "k", "loss", "flops", &k);
        k = (struct dlm_prediction){-k.value, -k.hi, -k.lo};
        fprintf(r->text, "  %-24s %-34s ", group, "k of L* = A C^-k, within the data:");
        put_value(r, &k, true, "%.4f");
        fputc('\n', r->text);
    }
}

/* The highest compute that the laws of both groups were fitted at. */
static double common_compute(const struct dlm_laws *l, const char *law, const char *y, const char *a, const char *b)
{
    const struct dlm_law_row *pa = dlm_laws_find(l, law, a, "x_max", y, "flops");
    const struct dlm_law_row *pb = dlm_laws_find(l, law, b, "x_max", y, "flops");
    return pa && pb ? fmin(pa->value, pb->value) : NAN;
}

static bool value_at(const struct dlm_laws *l, const char *law, const char *group, const char *y, double c,
                     struct dlm_prediction *p)
{
    const struct dlm_law_row *row = dlm_laws_find(l, law, group, "x_max", y, "flops");
    *p = (struct dlm_prediction){NAN, NAN, NAN};
    return row && c > 0 && dlm_laws_predict(l, law, group, row->y, "flops", c, p);
}

static void put_comparison(struct report *r, const struct dlm_laws *l, const char *law, const char *y, const char *a,
                           const char *b, const char *what)
{
    struct dlm_prediction pa, pb, ratio = {NAN, NAN, NAN};
    double c = common_compute(l, law, y, a, b);
    if (value_at(l, law, a, y, c, &pa) && value_at(l, law, b, y, c, &pb))
        ratio = dlm_report_ratio(&pa, &pb);
    fprintf(r->text, "  %s over %s, %s", a, b, what);
    if (c > 0)
        fprintf(r->text, " at C = %.2e", c);
    fputs(": ", r->text);
    put_value(r, &ratio, false, "%.4f");
    if (isfinite(ratio.lo))
        fputs(ratio.lo > 1 ? "  more" : ratio.hi < 1 ? "  less" : "  (no difference is seen)", r->text);
    fputc('\n', r->text);
}

/* The compute at which a group's law comes down to `loss`, within ten times of its data: where the law does, and where its
 * limits do. False: it does not. */
static bool compute_of(const struct dlm_laws *l, const char *law, const char *group, const char *y, double loss,
                       struct dlm_prediction *c)
{
    enum { STEPS = 400 };
    const bool surface = !strcmp(law, "surface");
    const char *of = surface ? NULL : y, *x_of = surface ? NULL : "flops"; /* a surface is against size and tokens */
    const struct dlm_law_row *from = dlm_laws_find(l, law, group, surface ? "C_min" : "x_min", of, x_of),
                             *to = dlm_laws_find(l, law, group, surface ? "C_max" : "x_max", of, x_of);
    double at[3] = {NAN, NAN, NAN}, last = NAN, before[3] = {NAN, NAN, NAN};
    if (!from || !to)
        return false;
    for (int i = 0; i <= STEPS; i++) {
        struct dlm_prediction p;
        const double x = 0.1 * from->value * pow(100 * to->value / from->value, (double)i / STEPS);
        if (!dlm_laws_predict(l, law, group, y, "flops", x, &p))
            continue;
        const double now[3] = {p.value, p.lo, p.hi};
        for (int k = 0; k < 3; k++) {
            if (isnan(at[k]) && before[k] > loss && now[k] <= loss)
                at[k] = last * pow(x / last, log(before[k] / loss) / log(before[k] / now[k]));
            before[k] = now[k];
        }
        last = x;
    }
    *c = (struct dlm_prediction){at[0], at[1], at[2]};
    return isfinite(at[0]);
}

/* Tokens of the best split at that compute, on the surface or by the power laws of the optima; the errors of the two laws add as
 * if they were independent. */
static bool tokens_of(const struct report *r, bool surface, const char *group, const struct dlm_prediction *c,
                      struct dlm_prediction *d)
{
    struct dlm_prediction p;
    double k;
    if (surface) {
        double v[DLM_FIT_TERMS];
        struct dlm_prediction m;
        if (!dlm_predict_surface(&r->surface, group, false, v, NULL) ||
            !dlm_laws_predict(&r->surface, "surface", group, "flops_tok", "flops", c->value, &m))
            return false;
        p = (struct dlm_prediction){c->value / m.value, c->value / m.hi, c->value / m.lo};
        k = v[2] / (v[2] + v[4]); /* D* = C/M* grows as C^(alpha/(alpha + beta)) */
    } else {
        struct dlm_prediction exponent;
        if (!term(&r->sizes, "power", group, "k", "tokens", "flops", &exponent) ||
            !value_at(&r->sizes, "power", group, "tokens", c->value, &p))
            return false;
        k = exponent.value;
    }
    *d = (struct dlm_prediction){p.value, p.value * exp(-hypot(log(p.value / p.lo), k * log(c->value / c->lo))),
                                 p.value * exp(hypot(log(p.hi / p.value), k * log(c->hi / c->value)))};
    return isfinite(p.value);
}

static void put_ratio(struct report *r, const char *what, const struct dlm_prediction *a, const struct dlm_prediction *b)
{
    struct dlm_prediction ratio = dlm_report_ratio(a, b);
    fprintf(r->text, ", %s: ", what);
    put_value(r, &ratio, false, "%.4f");
    if (isfinite(ratio.lo) && isfinite(ratio.hi))
        fputs(ratio.lo > 1 ? "  more" : ratio.hi < 1 ? "  less" : "  (no difference is seen)", r->text);
    fputc('\n', r->text);
}

/* What two groups need for one loss: that of the worse one at the highest compute that both were fitted at, so that the laws are
 * asked within their data. */
static void put_equal_loss(struct report *r, const char *a, const char *b)
{
    const struct dlm_laws *l = &r->surface; /* where both have one: a power law of the loss has no level that it comes down to */
    const char *law = "surface";
    struct dlm_prediction loss, of_b, ca, cb, da, db;
    const struct dlm_law_row *end_a = dlm_laws_find(l, law, a, "C_max", NULL, NULL);
    const struct dlm_law_row *end_b = dlm_laws_find(l, law, b, "C_max", NULL, NULL);
    double c = end_a && end_b ? fmin(end_a->value, end_b->value) : NAN;
    bool known = c > 0 && dlm_laws_predict(l, law, a, "loss", "flops", c, &loss) &&
                 dlm_laws_predict(l, law, b, "loss", "flops", c, &of_b);
    if (!known) {
        l = &r->sizes;
        law = "power";
        c = common_compute(l, law, "loss", a, b);
        known = value_at(l, law, a, "loss", c, &loss) && value_at(l, law, b, "loss", c, &of_b);
    }
    loss.value = known ? fmax(loss.value, of_b.value) : NAN;
    if (!known || !compute_of(l, law, a, "loss", loss.value, &ca) || !compute_of(l, law, b, "loss", loss.value, &cb)) {
        fprintf(r->text, "  %s over %s, compute and tokens for an equal loss: %s\n", a, b, undetermined);
        return;
    }
    const bool surface = l == &r->surface;
    const char *by = surface ? "on the surfaces" : "by the power laws of the optima";
    fprintf(r->text, "  %s over %s, for a loss of %.4f %s", a, b, loss.value, by);
    put_ratio(r, "compute", &ca, &cb);
    fprintf(r->text, "  %s over %s, for a loss of %.4f %s", a, b, loss.value, by);
    if (tokens_of(r, surface, a, &ca, &da) && tokens_of(r, surface, b, &cb, &db))
        put_ratio(r, "tokens of the best split", &da, &db);
    else
        fprintf(r->text, ", tokens: %s\n", undetermined);
}

static void answer_sizes(struct report *r, const char *ref)
{
    const struct dlm_study *s = r->flops;
    put_heading(r, "2. Which needs more parameters, which more data?", "sizes.tsv");
    for (size_t g = 0; g < s->n; g++) {
        put_term(r, &r->sizes, "power", s->groups[g].name, "k", "flops_tok", "flops", "M* (FLOPs per token) grows as C^k:");
        put_term(r, &r->sizes, "power", s->groups[g].name, "k", "params", "flops", "P* (parameters) grows as C^k:");
        put_term(r, &r->sizes, "power", s->groups[g].name, "k", "tokens", "flops", "D* (tokens) grows as C^k:");
    }
    for (size_t g = 0; g < s->n; g++) {
        const char *group = s->groups[g].name;
        struct dlm_prediction a, b, d = {NAN, NAN, NAN};
        if (!strcmp(group, ref))
            continue;
        if (term(&r->sizes, "power", group, "k", "flops_tok", "flops", &a) &&
            term(&r->sizes, "power", ref, "k", "flops_tok", "flops", &b))
            d = dlm_report_difference(&a, &b);
        fprintf(r->text, "  %s less %s, exponent of M*: ", group, ref);
        if (isfinite(d.lo))
            fprintf(r->text, "%+.4f [%+.4f, %+.4f]%s\n", d.value, d.lo, d.hi,
                    d.lo > 0 ? "  more parameters" : d.hi < 0 ? "  more data" : "  (no difference is seen)");
        else
            fprintf(r->text, "%s\n", undetermined);
    }
}

static void answer_tokens(struct report *r, const char *ref)
{
    const struct dlm_study *s = r->flops;
    put_heading(r, "3. What tokens does each noise type need for equal loss at equal compute?",
                "sizes.tsv, surface.tsv");
    if (s->n < 2)
        fprintf(r->text, "  %s: there is one group alone\n", undetermined);
    for (size_t g = 0; g < s->n; g++)
        if (strcmp(s->groups[g].name, ref)) {
            put_comparison(r, &r->sizes, "power", "tokens", s->groups[g].name, ref, "tokens of the best split");
            put_comparison(r, &r->sizes, "power", "loss", s->groups[g].name, ref, "loss of the best split");
            put_equal_loss(r, s->groups[g].name, ref);
        }
}

static void answer_ar(struct report *r)
{
    const struct dlm_study *s = r->flops;
    const char *ar = NULL;
    put_heading(r, "4. How far is the autoregressive baseline?", "loss-compute.tsv, surface.tsv");
    for (size_t g = 0; g < s->n && !ar; g++)
        ar = is_ar(s->groups[g].name) ? s->groups[g].name : NULL;
    if (!ar)
        fprintf(r->text, "  %s: none of them is autoregressive (dlm-train --objective ar)\n", undetermined);
    for (size_t g = 0; g < s->n && ar; g++)
        if (!is_ar(s->groups[g].name)) {
            put_comparison(r, &r->loss, "loss", NULL, s->groups[g].name, ar, "loss");
            put_equal_loss(r, s->groups[g].name, ar);
        }
}

static void answer_batch(struct report *r)
{
    const struct dlm_study *s = r->flops;
    put_heading(r, "5. Where does batch size leave the linear rule (twice the batch, half the steps)?",
                "critical.tsv, batch-law.tsv");
    for (size_t g = 0; g < s->n; g++) {
        const char *group = s->groups[g].name;
        const struct dlm_law_row *low = dlm_laws_find(&r->critical, "power", group, "x_min", "batch_crit", "loss");
        struct dlm_prediction p = {NAN, NAN, NAN};
        if (low && !dlm_laws_predict(&r->critical, "power", group, "batch_crit", "loss", low->value, &p))
            p = (struct dlm_prediction){NAN, NAN, NAN};
        fprintf(r->text, "  %s: critical batch", group);
        if (low)
            fprintf(r->text, " at a loss of %.3f", low->value);
        fputs(", tokens per step: ", r->text);
        put_value(r, &p, false, "%.3g");
        fputc('\n', r->text);
        put_term(r, &r->batch, "power", group, "k", "batch_tok", "tokens", "the best batch grows as D^k:");
    }
}

static void answer_crossover(struct report *r)
{
    put_heading(r, "6. Where, in unique tokens, does one noise type overtake another?", r->has_bound ? "epochs.tsv" : NULL);
    if (!r->has_bound || !r->bound.n_crossovers)
        fprintf(r->text, "  %s: %s\n", undetermined,
                r->flops->n < 2 ? "there is one group alone" : "they do not show what repeated tokens are worth");
    for (size_t i = 0; r->has_bound && i < r->bound.n_crossovers; i++) {
        const struct dlm_crossover *c = &r->bound.crossovers[i];
        fprintf(r->text, "  %s and %s: ", c->first->name, c->second->name);
        struct dlm_prediction p = {c->at, c->in.lo, c->in.hi};
        if (isnan(c->at) && c->better && c->determined)
            fprintf(r->text, "no crossing is seen; %s is the better one throughout\n", c->better->name);
        else if (isnan(c->at) && c->better)
            fprintf(r->text, "%s (no crossing is seen, but the resamples differ)\n", undetermined);
        else if (isnan(c->at) || !c->determined)
            fprintf(r->text, "%s\n", undetermined);
        else if (p.hi > 25 * p.lo)
            fprintf(r->text, "%s is better first, but up to where is not determined: %.3g to %.3g unique tokens\n", c->first->name,
                    p.lo, p.hi);
        else {
            fprintf(r->text, "%s is better below ", c->first->name);
            put_value(r, &p, false, "%.3g");
            fputs(" unique tokens\n", r->text);
        }
    }
}

/* FLOPs per joule: the geometric mean over runs, with the error of that mean. */
static void answer_joules(struct report *r)
{
    const struct dlm_study *s = r->flops;
    bool any = false;
    put_heading(r, "7. What does a joule buy?", "the column joules, sizes.tsv");
    for (size_t g = 0; g < s->n; g++) {
        double sum = 0, square = 0;
        size_t n = 0;
        for (size_t i = 0; i < s->groups[g].n; i++) {
            const struct dlm_run *run = &s->groups[g].runs[i];
            const struct dlm_point *p = &run->points[run->n - 1];
            if (p->joules > 0) {
                double v = log(p->x / p->joules);
                sum += v;
                square += v * v;
                n++;
            }
        }
        if (!n)
            continue;
        any = true;
        double mean = sum / (double)n, se = n > 1 ? sqrt(fmax(square - sum * mean, 0) / (double)(n - 1) / (double)n) : NAN;
        struct dlm_prediction p = {exp(mean), exp(mean - 1.96 * se), exp(mean + 1.96 * se)}, k;
        fprintf(r->text, "  %s: FLOPs per joule, mean of %zu runs: ", s->groups[g].name, n);
        put_value(r, &p, false, "%.4g");
        term(&r->sizes, "power", s->groups[g].name, "k", "loss", "flops", &k);
        struct dlm_prediction twice = {pow(2, k.value), pow(2, k.lo), pow(2, k.hi)};
        fputs("\n    twice the energy, well spent, multiplies the loss by ", r->text);
        put_value(r, &twice, false, "%.4f");
        fputc('\n', r->text);
    }
    if (!any)
        fprintf(r->text, "  %s: no row has joules\n", undetermined);
}

static void answer_annealing(struct report *r)
{
    static const struct {
        int axis;
        const char *name;
    } optima[] = {{DLM_ANNEALING_SIZE, "size"}, {DLM_ANNEALING_BATCH, "batch"}, {DLM_ANNEALING_LR, "learning rate"}};
    if (!r->how->annealed)
        return;
    put_heading(r, "8. What does annealing do?", "annealing.tsv");
    if (!r->annealing.n)
        fprintf(r->text, "  %s: no annealed run has a partner at a constant rate\n", undetermined);
    for (size_t i = 0; i < r->annealing.n; i++) {
        const struct dlm_annealing_row *row = &r->annealing.rows[i];
        struct dlm_prediction p = {row->factor, row->in.lo, row->in.hi};
        fprintf(r->text, "  %s: it multiplies the loss of %zu runs by ", row->name, row->pairs);
        put_value(r, &p, false, "%.5f");
        for (size_t k = 0; k < sizeof optima / sizeof *optima; k++) {
            const double slope = row->slope[optima[k].axis];
            const struct dlm_interval in = row->slope_in[optima[k].axis];
            fprintf(r->text, "\n    does it move the best %s? ", optima[k].name);
            if (isnan(slope) || isnan(in.lo))
                fputs(undetermined, r->text);
            else
                fprintf(r->text, "%s: slope of the factor %+.2g [%+.2g, %+.2g]",
                        in.lo <= 0 && in.hi >= 0 ? "not as far as these runs tell"
                        : slope < 0              ? "up"
                                                 : "down",
                        slope, in.lo, in.hi);
        }
        fputc('\n', r->text);
    }
}

static void put_notes(struct report *r, const char *title, const struct dlm_notes *n)
{
    if (n->n)
        fprintf(r->text, "\n%s\n", title);
    for (size_t i = 0; i < n->n; i++)
        fprintf(r->text, "  %s\n", n->at[i]);
}

static int write_text(struct report *r, struct dlm_error *err)
{
    struct dlm_output out;
    const struct dlm_study *s = r->flops;
    const struct dlm_bootstrap *b = &r->how->estimate.bootstrap;
    int rc = open_file(r, "report.txt", &out, err);
    if (rc)
        return rc;
    const char *ref = reference(r);
    errno = 0;
    r->text = out.file;
    fprintf(r->text, "A scaling study: %s of %zu %s in %zu group%s, %zu points\n\n", s->fitted, s->n_runs,
            s->has_runs ? "runs" : "rows", s->n, s->n == 1 ? "" : "s", s->n_points);
    for (size_t g = 0; g < s->n; g++)
        fprintf(r->text, "  %-24s %zu runs, %zu points\n", s->groups[g].name, s->groups[g].n, s->groups[g].n_points);
    fprintf(r->text,
            "\nIntervals in brackets hold at the level %g; %llu resamples of runs, seed %llu. Between groups, whose runs differ, errors\n"
            "are independent: the limits of a difference add as squares (Zou and Donner 2008), those of a ratio in logarithms.\n",
            b->level, (unsigned long long)b->n, (unsigned long long)b->seed);
    put_notes(r, "Not done, and what is missing", &r->missing);
    put_notes(r, "Read with care", r->notes);
    if (r->n_figures)
        fputs("\nFigures, and the tables that hold their numbers\n", r->text);
    for (size_t i = 0; i < r->n_figures; i++)
        fprintf(r->text, "  %-22s %-18s %s\n", r->figures[i].file, r->figures[i].tsv, r->figures[i].title);
    if (r->no_gnuplot)
        fputs("\nThere are no figures: gnuplot is not installed.\n", r->text);
    fputs("\n\fAnswers\n", r->text); /* a page of their own, the last */
    answer_steepness(r);
    answer_sizes(r, ref);
    answer_tokens(r, ref);
    answer_ar(r);
    answer_batch(r);
    answer_crossover(r);
    answer_joules(r);
    answer_annealing(r);
    if (ferror(out.file))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write 'report.txt'");
    return close_file(&out, rc, err);
}

/* --- the same as a page ---------------------------------------------------------------------------------------------------------- */

static void put_escaped(const char *p, FILE *to)
{
    for (; *p; p++)
        if (*p != '\f')
            fprintf(to, *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : *p == '&' ? "&amp;" : "%c", *p);
}

/* The report's text: what is not indented is a title, a heading or, where it is long, a paragraph; the rest stands as it is. */
static int copy_report(const struct report *r, FILE *to, struct dlm_error *err)
{
    char *path, *line = NULL;
    size_t room = 0, n = 0;
    bool pre = false, paragraph = false;
    if (asprintf(&path, "%s/report.txt", r->dir) < 0)
        return no_memory(err);
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open 'report.txt'");
    for (; getline(&line, &room, f) >= 0; n++) {
        line[strcspn(line, "\n")] = 0;
        const char *text = line + (*line == '\f');
        const bool plain = *text && *text != ' ', goes_on = plain && paragraph;
        if (!*text && !pre)
            continue;
        if (pre && plain)
            fputs("</pre>\n", to);
        if (plain) {
            const char *tag = !n ? "h1" : strlen(text) > 85 || goes_on ? "p" : "h2";
            fprintf(to, "<%s>", tag);
            put_escaped(text, to);
            fprintf(to, "</%s>\n", tag);
            paragraph = *tag == 'p';
        } else {
            if (!pre)
                fputs("<pre>", to);
            put_escaped(text, to);
            fputc('\n', to);
            paragraph = false;
        }
        pre = !plain;
    }
    if (pre)
        fputs("</pre>\n", to);
    free(line);
    fclose(f);
    return 0;
}

/* Copy an SVG of the report without what stands before its root. Its ids get a prefix, since several stand in one page. */
static int copy_figure(const struct report *r, const char *name, size_t number, FILE *to, struct dlm_error *err)
{
    static const char *const ids[] = {"id=\"", "url(#", "href=\"#", "href='#", "id='"};
    char *path, *line = NULL;
    size_t room = 0;
    bool begun = false;
    if (asprintf(&path, "%s/%s", r->dir, name) < 0)
        return no_memory(err);
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", name);
    while (getline(&line, &room, f) >= 0) {
        char *p = begun ? line : strstr(line, "<svg");
        begun |= p != NULL;
        while (p && *p) {
            size_t n = 0;
            for (size_t i = 0; i < sizeof ids / sizeof *ids && !n; i++)
                if (!strncmp(p, ids[i], strlen(ids[i])))
                    n = strlen(ids[i]);
            if (n)
                fprintf(to, "%.*sf%zu-", (int)n, p, number);
            else
                fputc(*p, to);
            p += n ? n : 1;
        }
    }
    free(line);
    fclose(f);
    return 0;
}

static int write_page(struct report *r, struct dlm_error *err)
{
    struct dlm_output out;
    int rc = open_file(r, "report.html", &out, err);
    if (rc)
        return rc;
    errno = 0;
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>A scaling study</title>\n<style>body{max-width:62em;"
          "margin:2em auto;padding:0 1em;font-family:sans-serif;color:#222}h1{font-size:140%}h2{font-size:110%;margin:1.6em 0 .4em}"
          "p{margin:.2em 0}pre{white-space:pre-wrap;font-size:85%;line-height:1.45;margin:.3em 0}"
          "figure{margin:2.5em auto;max-width:46em}figcaption{font-size:90%;margin-top:.4em}svg{width:100%;height:auto}"
          "</style></head><body>\n",
          out.file);
    rc = copy_report(r, out.file, err);
    for (size_t i = 0; i < r->n_figures && !rc; i++) {
        fputs("<figure>", out.file);
        rc = copy_figure(r, r->figures[i].file, i + 1, out.file, err);
        fprintf(out.file, "<figcaption>%s (%s)</figcaption></figure>\n", r->figures[i].title, r->figures[i].tsv);
    }
    fputs("</body></html>\n", out.file);
    if (!rc && ferror(out.file))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write 'report.html'");
    return close_file(&out, rc, err);
}

static int write_files(struct report *r, struct dlm_error *err)
{
    struct dlm_output out;
    int rc = open_file(r, "files.txt", &out, err);
    if (rc)
        return rc;
    if (fflush(r->list))
        rc = no_memory(err);
    else
        fprintf(out.file, "%s\n%s", marker, r->files);
    return close_file(&out, rc, err);
}

static bool found_gnuplot(void)
{
    const char *path = getenv("PATH");
    char name[4096];
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        if (n && n < sizeof name - 16) {
            snprintf(name, sizeof name, "%.*s/gnuplot", (int)n, p);
            if (!access(name, X_OK))
                return true;
        }
        p += n + (p[n] == ':');
    }
    return false;
}

static int make_all(struct report *r, struct dlm_error *err)
{
    struct rows repeated = {0};
    int rc = do_curves(r, err);
    if (!rc)
        rc = do_isoflop(r, err);
    if (!rc)
        rc = do_surface(r, err);
    if (!rc)
        rc = do_loss(r, false, err);
    if (!rc)
        rc = do_loss(r, true, err);
    if (!rc)
        rc = do_optima(r, DLM_OPTIMUM_BATCH, err);
    if (!rc)
        rc = do_optima(r, DLM_OPTIMUM_LR, err);
    if (!rc)
        rc = do_isoloss(r, err);
    if (!rc)
        rc = do_epochs(r, &repeated, err);
    if (!rc)
        rc = do_annealing(r, err);
    say(r, "report");
    if (!rc)
        rc = write_text(r, err);
    if (!rc)
        rc = write_page(r, err);
    if (!rc)
        rc = write_files(r, err);
    release_rows(&repeated);
    if (!rc && dlm_stop_signal())
        rc = dlm_fail(err, DLM_ESTOPPED, "stopped");
    return rc;
}

int dlm_report_make(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_notes *notes, struct dlm_error *err)
{
    struct rows constant = {0};
    struct report r = {.whole = s, .flops = s, .how = how, .notes = notes, .no_gnuplot = !found_gnuplot()};
    char *dir = strdup(how->dir);
    int rc = dir ? dlm_report_check(how->dir, err) : no_memory(err);
    if (!rc && how->annealed) {
        rc = derive(s, 0, &constant, err);
        r.flops = &constant.study;
        if (rc == DLM_EDATA)
            rc = dlm_fail(err, DLM_EDATA, "all runs are annealed (--annealed): laws are fitted to those at a constant rate");
    }
    while (!rc && strlen(dir) > 1 && dir[strlen(dir) - 1] == '/')
        dir[strlen(dir) - 1] = 0;
    if (!rc && asprintf(&r.dir, "%s.tmp-XXXXXX", dir) < 0) {
        r.dir = NULL;
        rc = no_memory(err);
    }
    if (!rc && !(r.list = open_memstream(&r.files, &r.files_size)))
        rc = no_memory(err);
    if (!rc && !mkdtemp(r.dir)) {
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir);
        free(r.dir);
        r.dir = NULL;
    }
    if (!rc) {
        mode_t mask = umask(0);
        umask(mask);
        chmod(r.dir, 0777 & ~mask);
        rc = make_all(&r, err);
        if (!rc)
            rc = dlm_output_sync_dir(r.dir, err);
        if (!rc)
            rc = put_in_place(r.dir, dir, err);
        else
            remove_all(r.dir);
    }
    if (!rc && r.no_gnuplot)
        rc = dlm_notes_add(notes, err, "no figures: gnuplot is not installed");
    if (!rc && r.missing.n)
        rc = dlm_notes_add(notes, err, "%zu analyses could not be done: report.txt says what they lack", r.missing.n);
    if (r.list)
        fclose(r.list);
    free(r.files);
    free(r.figures);
    free(r.dir);
    free(dir);
    struct dlm_laws *const laws[] = {&r.loss, &r.by_tokens, &r.sizes, &r.surface, &r.batch, &r.lr, &r.critical, &r.epochs, &r.annealed};
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
        dlm_laws_release(laws[i]);
    dlm_isoflop_release(&r.profiles);
    dlm_curves_release(&r.curves);
    dlm_epochs_release(&r.bound);
    dlm_annealing_release(&r.annealing);
    if (how->annealed)
        release_rows(&constant);
    dlm_notes_release(&r.missing);
    return rc;
}
