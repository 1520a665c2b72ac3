/* The analyses of a study, in their order; see analyses.h. */
#include "law/analyses.h"

#include "law/sizes.h"
#include "law/subset.h"
#include "law/view.h"

#include <stdlib.h>

struct work {
    const struct dlm_study *whole; /* annealed runs included */
    const struct dlm_report_how *how;
    struct dlm_folder *folder;
    struct dlm_findings *found;
    struct dlm_notes *notes;
    size_t kept; /* notes before the analysis in hand */
};

static void say(struct work *r, const char *what)
{
    if (r->how->say)
        r->how->say(r->how->say_ctx, what);
    r->kept = r->notes->n;
}

/* What an analysis lacks is no failure of the study: name it in place of what else it said, and go on. */
static int allow(struct work *r, const char *analysis, int rc, struct dlm_error *err)
{
    if (rc != DLM_EDATA) {
        r->kept = r->notes->n;
        return rc;
    }
    struct dlm_error why = *err;
    dlm_notes_cut(r->notes, r->kept);
    *err = (struct dlm_error){{0}};
    return dlm_notes_add(&r->found->missing, err, "%s: %s", analysis, why.msg);
}

static int do_curves(struct work *r, struct dlm_error *err)
{
    struct dlm_output out;
    say(r, "curves");
    int rc = dlm_curve_find(r->found->study, r->how->smooth, "flops", &r->how->estimate.budgets, NULL, &r->found->curves,
                            r->notes, err);
    if (rc)
        return allow(r, "curve", rc, err);
    rc = dlm_folder_open(r->folder, "curve.tsv", &out, err);
    return rc ? rc : dlm_folder_close(&out, dlm_curve_write(&r->found->curves, r->found->study, out.file, "curve.tsv", err), err);
}

static int do_isoflop(struct work *r, struct dlm_error *err)
{
    struct dlm_study w;
    struct dlm_output out;
    struct dlm_figure f;
    struct dlm_isoflop *all = &r->found->profiles;
    say(r, "iso-FLOP profiles");
    int rc = dlm_subset_take(r->found->study, DLM_NEED_SIZES | DLM_NEED_PARAMS, &w, err);
    if (rc) {
        dlm_subset_release(&w);
        return allow(r, "isoflop", rc, err);
    }
    for (size_t g = 0; g < w.n && !rc; g++) {
        struct dlm_study one = dlm_subset_group(&w, g);
        struct dlm_isoflop found;
        const int lacks = dlm_isoflop_find(&one, &r->how->estimate, false, &found, r->notes, err);
        rc = allow(r, "isoflop", lacks, err);
        if (lacks)
            continue;
        struct dlm_isoflop_row *more = realloc(all->rows, (all->n + found.n + 1) * sizeof *more);
        if (more) {
            all->rows = more;
            for (size_t i = 0; i < found.n; i++)
                more[all->n++] = found.rows[i];
        } else {
            rc = dlm_fail(err, DLM_ENOMEM, "out of memory");
        }
        dlm_isoflop_release(&found);
        char file[48];
        snprintf(file, sizeof file, "isoflop-%zu.svg", g + 1);
        if (!rc)
            rc = dlm_folder_draw(r->folder, &f, dlm_view_isoflop(&f, &w.groups[g], &r->how->estimate, err), file, "isoflop.tsv",
                                 "Iso-FLOP profiles: the best loss of each size at each budget, and the parabola's lowest point",
                                 err);
    }
    if (!rc && all->n) {
        rc = dlm_folder_open(r->folder, "isoflop.tsv", &out, err);
        if (!rc)
            rc = dlm_folder_close(&out, dlm_isoflop_write(all, &w, out.file, "isoflop.tsv", err), err);
        if (!rc)
            rc = dlm_sizes_fit(&w, all, &r->how->estimate, &r->found->sizes, r->notes, err);
        if (!rc)
            rc = dlm_folder_laws(r->folder, "sizes.tsv", &r->found->sizes, err);
        static const struct {
            int what;
            const char *file, *title;
        } drawn[] = {{DLM_ISOFLOP_SIZE, "size.svg", "Best size against compute"},
                     {DLM_ISOFLOP_TOKENS, "tokens.svg", "Best number of tokens against compute"},
                     {DLM_ISOFLOP_PARAMS, "params.svg", "Best number of parameters against compute"},
                     {DLM_ISOFLOP_LOSS, "loss-best.svg", "Loss of the best size against compute"}};
        for (size_t k = 0; k < sizeof drawn / sizeof *drawn && !rc; k++)
            rc = dlm_folder_draw(r->folder, &f, dlm_view_sizes(&f, r->found->study, all, drawn[k].what, &r->found->sizes, err),
                                 drawn[k].file, "sizes.tsv", drawn[k].title, err);
    }
    dlm_subset_release(&w);
    for (size_t i = 0; i < all->n; i++) /* their groups were of the rows just released */
        all->rows[i].group = NULL;
    return rc;
}

static int do_surface(struct work *r, struct dlm_error *err)
{
    struct dlm_study w;
    say(r, "surfaces");
    int rc = dlm_subset_take(r->found->study, DLM_NEED_SIZES, &w, err);
    rc = rc ? allow(r, "surface", rc, err) : 0;
    for (size_t g = 0; g < w.n && !rc; g++) {
        struct dlm_study one = dlm_subset_group(&w, g);
        rc = allow(r, "surface", dlm_estimate_surface(&one, &r->how->estimate, false, &r->found->surface, r->notes, err), err);
    }
    dlm_subset_release(&w);
    return rc ? rc : dlm_folder_laws(r->folder, "surface.tsv", &r->found->surface, err);
}

static int do_loss(struct work *r, bool by_tokens, struct dlm_error *err)
{
    struct dlm_study w;
    struct dlm_figure f;
    struct dlm_laws *l = by_tokens ? &r->found->by_tokens : &r->found->loss;
    const char *tsv = by_tokens ? "loss-tokens.tsv" : "loss-compute.tsv";
    say(r, by_tokens ? "loss against tokens" : "loss against compute");
    int rc = dlm_subset_take(r->found->study, by_tokens ? DLM_BY_TOKENS : 0, &w, err);
    const bool any = !rc;
    rc = rc ? allow(r, by_tokens ? "loss by tokens" : "loss", rc, err) : 0;
    for (size_t g = 0; g < w.n && !rc; g++) {
        struct dlm_study one = dlm_subset_group(&w, g);
        rc = allow(r, by_tokens ? "loss by tokens" : "loss",
                   dlm_estimate_loss(&one, &r->how->estimate, by_tokens, l, r->notes, err), err);
    }
    if (!rc)
        rc = dlm_folder_laws(r->folder, tsv, l, err);
    if (!rc && any)
        rc = dlm_folder_draw(r->folder, &f, dlm_view_loss(&f, &w, l, by_tokens ? "tokens" : "flops", err),
                             by_tokens ? "loss-tokens.svg" : "loss-compute.svg", tsv,
                             by_tokens ? "Loss against training tokens, with the law of the lowest curves"
                                       : "Loss against training compute, with the law of the frontier",
                             err);
    dlm_subset_release(&w);
    return rc;
}

static int do_optima(struct work *r, enum dlm_optimum_of of, struct dlm_error *err)
{
    const bool batch = of == DLM_OPTIMUM_BATCH;
    const char *name = batch ? "batch" : "lr", *tsv = batch ? "batch.tsv" : "lr.tsv";
    const char *law = batch ? "batch-law.tsv" : "lr-law.tsv";
    struct dlm_optima *o = batch ? &r->found->batches : &r->found->rates;
    struct dlm_laws *l = batch ? &r->found->batch : &r->found->lr;
    struct dlm_study w;
    struct dlm_output out;
    struct dlm_figure f;
    const struct dlm_optimum_how how = {.estimate = r->how->estimate, .levels = r->how->levels, .smooth = r->how->smooth};
    say(r, batch ? "best batch" : "best learning rate");
    int rc = dlm_subset_take(r->found->study, DLM_NEED_SIZES | DLM_NEED_BATCH | DLM_BY_TOKENS | (batch ? 0 : DLM_NEED_LR), &w,
                             err);
    if (!rc)
        rc = dlm_optimum_find(&w, &how, of, o, l, r->notes, err);
    if (rc) {
        dlm_subset_release(&w);
        return allow(r, name, rc, err);
    }
    rc = dlm_folder_open(r->folder, tsv, &out, err);
    if (!rc)
        rc = dlm_folder_close(&out, dlm_optimum_write(o, &w, out.file, tsv, err), err);
    if (!rc)
        rc = dlm_folder_laws(r->folder, law, l, err);
    if (!rc)
        rc = dlm_folder_draw(r->folder, &f, dlm_view_optima(&f, r->found->study, o, l, err), batch ? "batch.svg" : "lr.svg", tsv,
                             batch ? "Best batch against the tokens that reach a loss" : "Best learning rate against batch", err);
    for (size_t g = 0; g < w.n && !rc; g++) {
        char file[48];
        snprintf(file, sizeof file, "%s-parabolas-%zu.svg", name, g + 1);
        rc = dlm_folder_draw(r->folder, &f, dlm_view_parabolas(&f, o, w.groups[g].name, err), file, tsv,
                             batch ? "Tokens that each batch needs for a loss, and the parabolas' lowest points"
                                   : "Loss of each learning rate at the longest horizon, and the parabolas' lowest points",
                             err);
    }
    dlm_optimum_release(o);
    dlm_subset_release(&w);
    return rc;
}

static int do_isoloss(struct work *r, struct dlm_error *err)
{
    struct dlm_study w;
    struct dlm_output out;
    struct dlm_figure f;
    say(r, "iso-loss curves");
    int rc = dlm_subset_take(r->found->study, DLM_NEED_SIZES | DLM_NEED_BATCH | DLM_BY_TOKENS, &w, err);
    if (!rc)
        rc = dlm_isoloss_find(&w, &r->how->estimate, &r->how->levels, r->how->smooth, &r->found->isoloss, &r->found->critical,
                              r->notes, err);
    if (rc) {
        dlm_subset_release(&w);
        return allow(r, "isoloss", rc, err);
    }
    rc = dlm_folder_open(r->folder, "isoloss.tsv", &out, err);
    if (!rc)
        rc = dlm_folder_close(&out, dlm_isoloss_write(&r->found->isoloss, &w, out.file, "isoloss.tsv", err), err);
    if (!rc)
        rc = dlm_folder_laws(r->folder, "critical.tsv", &r->found->critical, err);
    for (size_t g = 0; g < w.n && !rc; g++) {
        char file[48];
        snprintf(file, sizeof file, "isoloss-%zu.svg", g + 1);
        rc = dlm_folder_draw(r->folder, &f, dlm_view_isoloss(&f, &r->found->isoloss, w.groups[g].name, err), file, "isoloss.tsv",
                             "Iso-loss curves: the steps that each batch needs", err);
    }
    dlm_isoloss_release(&r->found->isoloss);
    dlm_subset_release(&w);
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

static int do_epochs(struct work *r, struct dlm_study *w, struct dlm_error *err)
{
    struct dlm_figure f;
    say(r, "repeated data");
    int rc = dlm_subset_take(r->found->study, DLM_NEED_SIZES | DLM_NEED_PARAMS | DLM_NEED_UNIQUE | DLM_BY_TOKENS, w, err);
    if (!rc && !any_repeats(w))
        rc = dlm_fail(err, DLM_EDATA, "no run sees its tokens more than once");
    if (!rc) {
        rc = dlm_epochs_find(w, &r->how->estimate, DLM_EPOCHS_SATURATING, &r->found->bound, &r->found->epochs, r->notes, err);
        r->found->has_bound = !rc;
    }
    if (rc)
        return allow(r, "epochs", rc, err);
    rc = dlm_folder_laws(r->folder, "epochs.tsv", &r->found->epochs, err);
    return rc ? rc
              : dlm_folder_draw(r->folder, &f, dlm_view_bound(&f, r->found->study, &r->found->epochs, err), "bound.svg",
                                "epochs.tsv", "The least loss that unique tokens allow", err);
}

static int do_annealing(struct work *r, struct dlm_error *err)
{
    struct dlm_study w;
    if (!r->how->annealed)
        return 0;
    say(r, "annealing");
    int rc = dlm_subset_take(r->whole, DLM_NEED_SIZES | DLM_BY_TOKENS | DLM_ANNEALED, &w, err);
    if (!rc)
        rc = dlm_annealing_find(&w, &r->how->estimate, r->how->smooth, &r->found->annealing, &r->found->annealed, r->notes, err);
    rc = rc ? allow(r, "annealing", rc, err) : dlm_folder_laws(r->folder, "annealing.tsv", &r->found->annealed, err);
    dlm_subset_release(&w);
    return rc;
}

int dlm_analyses_do(const struct dlm_study *s, const struct dlm_report_how *how, struct dlm_folder *folder,
                    struct dlm_findings *found, struct dlm_notes *notes, struct dlm_error *err)
{
    struct work r = {s, how, folder, found, notes, 0};
    *found = (struct dlm_findings){.study = s, .level = how->estimate.bootstrap.level, .with_annealed = how->annealed};
    int rc = 0;
    if (how->annealed) {
        rc = dlm_subset_take(s, 0, &found->constant, err);
        found->study = &found->constant;
        if (rc == DLM_EDATA)
            rc = dlm_fail(err, DLM_EDATA, "all runs are annealed (--annealed): laws are fitted to those at a constant rate");
    }
    if (!rc)
        rc = do_curves(&r, err);
    if (!rc)
        rc = do_isoflop(&r, err);
    if (!rc)
        rc = do_surface(&r, err);
    if (!rc)
        rc = do_loss(&r, false, err);
    if (!rc)
        rc = do_loss(&r, true, err);
    if (!rc)
        rc = do_optima(&r, DLM_OPTIMUM_BATCH, err);
    if (!rc)
        rc = do_optima(&r, DLM_OPTIMUM_LR, err);
    if (!rc)
        rc = do_isoloss(&r, err);
    if (!rc)
        rc = do_epochs(&r, &found->repeated, err);
    return rc ? rc : do_annealing(&r, err);
}

void dlm_findings_release(struct dlm_findings *f)
{
    struct dlm_laws *const laws[] = {&f->loss, &f->by_tokens, &f->sizes,  &f->surface, &f->batch,
                                     &f->lr,   &f->critical,  &f->epochs, &f->annealed};
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
        dlm_laws_release(laws[i]);
    dlm_isoflop_release(&f->profiles);
    dlm_curves_release(&f->curves);
    dlm_epochs_release(&f->bound);
    dlm_annealing_release(&f->annealing);
    dlm_subset_release(&f->constant);
    dlm_subset_release(&f->repeated);
    dlm_notes_release(&f->missing);
}
