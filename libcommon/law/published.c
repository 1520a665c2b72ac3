/* Laws that others have published; see published.h.
 *
 * `paper` (arXiv 2512.10858): tables 6 and 7, and from the notebooks of its authors' repository the intercepts of the batch and
 * learning-rate laws (batch in tokens), the two parametric surfaces, and the two-sigma intervals of the exponents of M*, which
 * pivot at the middle of the fitted range, 1e19 FLOPs. P* is printed with too few digits to use: it comes from M* through the
 * published shapes, M = 6·P + 12·L·d·N. The pooled slopes of batch and learning rate have no published intercept and are not here.
 * The others are what their publications print, with no intervals, and with the range of their data where that is printed too.
 */
#include "law/published.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* --- the paper ------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *noise;
    double loss[2], tokens[2], size[2]; /* A, k against C */
    double batch[2], lr[2];             /* ln A, k: batch against tokens, learning rate against batch */
    double below, above;                /* two sigma about the exponent of size */
} paper[] = {
    {"masked", {27.21883, -0.04961}, {56.78711, 0.43371}, {0.01761, 0.56629}, {-4.449, 0.7759}, {-4.569, 0.3295}, -0.022, 0.019},
    {"low-uniform",
     {29.12047, -0.05088},
     {15.31607, 0.46459},
     {0.06529, 0.53541},
     {-4.837, 0.7916},
     {-4.135, 0.2924},
     -0.012,
     0.014},
    {"balanced",
     {29.84096, -0.05124},
     {14.45680, 0.46642},
     {0.06918, 0.53358},
     {-5.845, 0.8373},
     {-5.016, 0.3653},
     -0.014,
     0.015},
    {"high-uniform",
     {30.19375, -0.05141},
     {81.86373, 0.42701},
     {0.01222, 0.57298},
     {-6.398, 0.8607},
     {-5.047, 0.3628},
     -0.023,
     0.027},
    {"uniform",
     {31.26171, -0.05219},
     {161.92545, 0.41121},
     {0.00618, 0.58879},
     {-6.792, 0.8787},
     {-4.933, 0.3554},
     -0.019,
     0.018},
};

static const struct {
    double params, layers, width;
} shapes[] = {{25.2e6, 8, 512},    {49.2e6, 10, 640},   {85.1e6, 12, 768},  {201.6e6, 16, 1024},
              {566.7e6, 20, 1536}, {2.152e9, 19, 3072}, {8.666e9, 34, 4608}};

/* --- all ------------------------------------------------------------------------------------------------------------------------- */

/* One term of a law: a row of the law file. */
struct term {
    const char *of, *group, *law, *y, *x, *term; /* of: the published law */
    double value;
};

#define CHINCHILLA "chinchilla", "none/chinchilla"
#define QUOKKA     "quokka", "masked/quokka"
#define DEEPSEEK   "deepseek", "none/deepseek"
#define LLAMA3     "llama3", "none/llama3"

static const struct term terms[] = {
    {"paper", "masked", "surface", "loss", "flops_tok", "E", 2.17},
    {"paper", "masked", "surface", "loss", "flops_tok", "a", 222},
    {"paper", "masked", "surface", "loss", "flops_tok", "alpha", .292},
    {"paper", "masked", "surface", "loss", "flops_tok", "b", 1920},
    {"paper", "masked", "surface", "loss", "flops_tok", "beta", .367},
    {"paper", "uniform", "surface", "loss", "flops_tok", "E", 2.19},
    {"paper", "uniform", "surface", "loss", "flops_tok", "a", 294},
    {"paper", "uniform", "surface", "loss", "flops_tok", "alpha", .305},
    {"paper", "uniform", "surface", "loss", "flops_tok", "b", 1340},
    {"paper", "uniform", "surface", "loss", "flops_tok", "beta", .346},

    {CHINCHILLA, "compute", "flops", "params", "k", 6},
    {CHINCHILLA, "surface", "loss", "params", "E", 1.69},
    {CHINCHILLA, "surface", "loss", "params", "a", 406.4},
    {CHINCHILLA, "surface", "loss", "params", "alpha", .34},
    {CHINCHILLA, "surface", "loss", "params", "b", 410.7},
    {CHINCHILLA, "surface", "loss", "params", "beta", .28},
    {CHINCHILLA, "surface", "loss", "params", "C_min", 6e18},
    {CHINCHILLA, "surface", "loss", "params", "C_max", 3e21},

    {QUOKKA, "compute", "flops", "params", "k", 6},
    {QUOKKA, "power", "params", "flops", "A", .0216},
    {QUOKKA, "power", "params", "flops", "k", .514},
    {QUOKKA, "power", "tokens", "flops", "A", 7.7},
    {QUOKKA, "power", "tokens", "flops", "k", .486},
    {QUOKKA, "surface", "loss", "params", "E", 2.413},
    {QUOKKA, "surface", "loss", "params", "a", 798.6},
    {QUOKKA, "surface", "loss", "params", "alpha", .379},
    {QUOKKA, "surface", "loss", "params", "b", 4604.9},
    {QUOKKA, "surface", "loss", "params", "beta", .378},
    /* L = a/P^alpha + b/D'^beta, D' = U·e^p·exp(-((e-1)/(R·U^0.39/P^0.55))^q) after e > 1 passes over U tokens (epochs.h) */
    {QUOKKA, "epochs.stretched", "loss", "tokens", "E", 0},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "a", 1535.23},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "alpha", .42},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "b", 54.21},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "beta", .13},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "R", 254.35},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "p", 1.49},
    {QUOKKA, "epochs.stretched", "loss", "tokens", "q", .40},

    {DEEPSEEK, "compute", "flops", "flops_tok", "k", 1},
    {DEEPSEEK, "power", "flops_tok", "flops", "A", .1715},
    {DEEPSEEK, "power", "flops_tok", "flops", "k", .5243},
    {DEEPSEEK, "power", "flops_tok", "flops", "x_min", 1e17},
    {DEEPSEEK, "power", "flops_tok", "flops", "x_max", 3e20},
    {DEEPSEEK, "power", "tokens", "flops", "A", 5.8316},
    {DEEPSEEK, "power", "tokens", "flops", "k", .4757},

    {LLAMA3, "compute", "flops", "params", "k", 6},
    {LLAMA3, "power", "params", "flops", "A", .6},
    {LLAMA3, "power", "params", "flops", "k", .463},
    {LLAMA3, "power", "params", "flops", "x_min", 6e18},
    {LLAMA3, "power", "params", "flops", "x_max", 1e22},
    {LLAMA3, "power", "tokens", "flops", "A", .299},
    {LLAMA3, "power", "tokens", "flops", "k", .537},
};

static const struct {
    const char *name, *compute, *has, *source, *note;
} laws[] = {
    {"paper", "M*D", "size, tokens, batch, learning rate and loss of five noise types; surfaces of masked and uniform",
     "von Ruette et al., arXiv 2512.10858 (gidd-2512.10858)",
     "paper: its losses belong to its tokenizer (131,072 ids, 4.2278 bytes a token) and data; compare noise types, not values"},
    {"chinchilla", "6*P*D", "a surface of autoregressive models (approach 3: its best size grows as C^0.452)",
     "Hoffmann et al., arXiv 2203.15556",
     "chinchilla: approach 3, whose best size grows as C^0.452 (approach 2 has 0.49 and no printed coefficient); its losses belong "
     "to its tokenizer and data"},
    {"quokka", "6*P*D", "size, tokens, a surface, and losses on repeated data of masked diffusion", "Quokka, arXiv 2510.03280",
     "quokka: sizes by its power laws, losses by its surface at these sizes; they belong to its tokenizer and data"},
    {"deepseek", "M*D", "size and tokens of autoregressive models", "DeepSeek LLM, arXiv 2401.02954",
     "deepseek: the best size belongs to its data"},
    {"llama3", "6*P*D", "size and tokens of autoregressive models", "Llama 3, arXiv 2407.21783",
     "llama3: its printed coefficients give 6*P*D = 1.08*C; the best size belongs to its data"},
};
enum { LAWS = sizeof laws / sizeof *laws };

static int named(const char *name)
{
    if (!strcmp(name, "gidd-2512.10858"))
        return 0;
    for (int i = 0; i < LAWS; i++)
        if (!strcmp(name, laws[i].name))
            return i;
    return -1;
}

bool dlm_published_named(const char *name)
{
    return named(name) >= 0;
}

static int add(struct dlm_laws *l, const char *law, const char *group, const char *y, const char *x, const char *term, double value,
               double lo, double hi, struct dlm_error *err)
{
    return dlm_laws_add(l,
                        &(struct dlm_law_row){(char *)law, (char *)group, (char *)term, (char *)y, (char *)x,
                                              strchr(group, '/') ? "noise,law" : "noise", value, lo, hi, NAN, NAN, NAN, NAN},
                        err);
}

static int add_power(struct dlm_laws *l, const char *noise, const char *y, const char *x, double a, double k, double low,
                     double high, struct dlm_error *err)
{
    int rc = add(l, "power", noise, y, x, "A", a, NAN, NAN, err);
    if (!rc)
        rc = add(l, "power", noise, y, x, "k", k, NAN, NAN, err);
    if (!rc)
        rc = add(l, "power", noise, y, x, "x_min", low, NAN, NAN, err);
    return rc ? rc : add(l, "power", noise, y, x, "x_max", high, NAN, NAN, err);
}

/* M* with its interval: exact at three points, as an exponent about a pivot is a straight line in logarithms on each side. D*
 * mirrors it. */
static int add_band(struct dlm_laws *l, size_t i, struct dlm_error *err)
{
    const double pivot = 1e19, at[] = {1e15, 1e19, 1e27};
    for (size_t j = 0; j < 3; j++) {
        char term[32];
        snprintf(term, sizeof term, "%g", at[j]);
        double m = paper[i].size[0] * pow(at[j], paper[i].size[1]), d = paper[i].tokens[0] * pow(at[j], paper[i].tokens[1]);
        double a = pow(at[j] / pivot, paper[i].below), b = pow(at[j] / pivot, paper[i].above), lo = fmin(a, b), hi = fmax(a, b);
        int rc = add(l, "power.band", paper[i].noise, "flops_tok", "flops", term, m, m * lo, m * hi, err);
        if (!rc)
            rc = add(l, "power.band", paper[i].noise, "tokens", "flops", term, d, d / hi, d / lo, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int fill_paper(struct dlm_laws *l, struct dlm_error *err)
{
    const double low = 5e17, high = 2e20; /* the paper's range of C */
    int rc = 0;
    for (size_t i = 0; i < sizeof paper / sizeof *paper && !rc; i++) {
        const char *noise = paper[i].noise;
        double d0 = paper[i].tokens[0] * pow(low, paper[i].tokens[1]), d1 = paper[i].tokens[0] * pow(high, paper[i].tokens[1]);
        double b0 = 8 * 2048, b1 = 512 * 2048;
        rc = add(l, "compute", noise, "flops", "flops_tok", "k", 1, NAN, NAN, err);
        if (!rc)
            rc = add_power(l, noise, "loss", "flops", paper[i].loss[0], paper[i].loss[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "flops_tok", "flops", paper[i].size[0], paper[i].size[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "tokens", "flops", paper[i].tokens[0], paper[i].tokens[1], low, high, err);
        if (!rc)
            rc = add_power(l, noise, "batch_tok", "tokens", exp(paper[i].batch[0]), paper[i].batch[1], d0, d1, err);
        if (!rc)
            rc = add_power(l, noise, "lr", "batch_tok", exp(paper[i].lr[0]), paper[i].lr[1], b0, b1, err);
        if (!rc) /* cooling over the last fifth takes 2.45 % ± 0.138 % off the loss */
            rc = add(l, "annealing", noise, "loss", "NA", "factor", 1 / 1.0245, 1 / (1.0245 + .00138), 1 / (1.0245 - .00138), err);
        if (!rc)
            rc = add_band(l, i, err);
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes && !rc; j++) { /* a law that is a table */
            char term[32];
            snprintf(term, sizeof term, "%.9g", 6 * shapes[j].params + 12 * shapes[j].layers * shapes[j].width * 2048);
            rc = add(l, "shape.band", noise, "params", "flops_tok", term, shapes[j].params, shapes[j].params, shapes[j].params,
                     err);
        }
    }
    return rc;
}

int dlm_published_fill(const char *name, struct dlm_laws *l, struct dlm_notes *notes, struct dlm_error *err)
{
    int i = named(name), rc = i < 0 ? dlm_fail(err, DLM_EUSAGE, "'%s' is no published law", name) : 0;
    if (!rc && !i)
        rc = fill_paper(l, err);
    for (size_t j = 0; j < sizeof terms / sizeof *terms && !rc; j++)
        if (!strcmp(terms[j].of, laws[i].name))
            rc = add(l, terms[j].law, terms[j].group, terms[j].y, terms[j].x, terms[j].term, terms[j].value, NAN, NAN, err);
    return rc ? rc : dlm_notes_add(notes, err, "%s", laws[i].note);
}

int dlm_published_list(FILE *f, const char *name, struct dlm_error *err)
{
    errno = 0;
    fputs("name\tcompute\thas\tsource\n", f);
    for (int i = 0; i < LAWS; i++)
        fprintf(f, "%s\t%s\t%s\t%s\n", laws[i].name, laws[i].compute, laws[i].has, laws[i].source);
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}
