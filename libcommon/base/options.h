/* One table of options per command.
 *
 * The table yields the getopt_long array, `--help` and the names in error messages, so the three cannot differ. Values
 * are checked as they are read; an option of the interface that is not there yet has kind DLM_OPT_LATER and is refused by
 * name. Options may be given anywhere among the operands, `--` ends them, a single `-` is an operand.
 */
#ifndef DLM_BASE_OPTIONS_H
#define DLM_BASE_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum dlm_opt_kind {
    DLM_OPT_FLAG,   /* to: bool, set true */
    DLM_OPT_TEXT,   /* to: const char *, points into argv */
    DLM_OPT_COUNT,  /* to: uint64_t, in [min, max] */
    DLM_OPT_REAL,   /* to: double, in [min, max] */
    DLM_OPT_CHOICE, /* to: int, index into `choices`, a |-separated list */
    DLM_OPT_TEXTS,  /* to: struct dlm_texts, may be repeated */
    DLM_OPT_LATER,  /* known, not there yet: refused by name; takes an argument when `arg` is set */
    DLM_OPT_GROUP,  /* no option: `help` is a heading in --help */
};

struct dlm_texts {
    const char **at; /* owned, grows with realloc, never freed before exit */
    size_t n;
};

struct dlm_option {
    const char *name; /* long name, without dashes */
    int letter;       /* short form or 0 */
    enum dlm_opt_kind kind;
    const char *arg;  /* name of the argument in --help; NULL for a flag */
    const char *help; /* one line; defaults in parentheses */
    void *to;
    double min, max;     /* COUNT and REAL; both 0 means no bound (COUNT: any, REAL: any finite) */
    const char *choices; /* CHOICE */
    bool *given;         /* set true when the option was there; may be NULL */
};

struct dlm_command {
    const char *name;     /* "dlm-train" */
    const char *purpose;  /* one line */
    const char *synopsis; /* lines of usage after the name, separated by \n */
    const struct dlm_option *options;
    size_t n_options;
    void (*libraries)(char *to, size_t size); /* the libraries it computes with, one line, for --version; NULL: libc alone */
};

enum { DLM_OPTIONS_HELP = 1, DLM_OPTIONS_VERSION = 2 };

/* Parse argv. On 0, *first is the index of the first operand in the permuted argv. DLM_EUSAGE names the option. Returns
 * DLM_OPTIONS_HELP or DLM_OPTIONS_VERSION when these were asked for. */
int dlm_options_parse(const struct dlm_command *cmd, int argc, char **argv, int *first, struct dlm_error *err);

/* The text of --help. */
void dlm_options_print_help(const struct dlm_command *cmd, FILE *to);

/* The options that every command shares, as initialisers; `o` is a struct dlm_common. */
struct dlm_common {
    bool quiet;
    bool verbose;
    uint64_t threads; /* 0: the cores this process may use */
    const char *output;
    uint64_t seed;
    bool seed_given;
    int progress; /* enum dlm_progress_mode: auto, always, never */
};

/* Those of a command that computes with a model, too. */
struct dlm_compute_options {
    const char *device;     /* auto, cpu, cuda, cuda:N */
    int dtype;              /* 0 auto, 1 f32, 2 bf16 */
    const char *checkpoint; /* may be NULL */
};

/* clang-format off */
#define DLM_OPTIONS_COMMON(o) \
    {"output",   'o', DLM_OPT_TEXT,   "PATH", "write there instead of standard output; - is standard output", &(o).output, 0, 0, NULL, NULL}, \
    {"seed",     's', DLM_OPT_COUNT,  "N",    "seed of every random number (0)", &(o).seed, 0, 0, NULL, &(o).seed_given}, \
    {"threads",  'j', DLM_OPT_COUNT,  "N",    "threads (the cores this process may use)", &(o).threads, 1, 4096, NULL, NULL}, \
    {"progress", 0,   DLM_OPT_CHOICE, "WHEN", "show progress: auto, always, never (auto)", &(o).progress, 0, 0, "auto|always|never", NULL}, \
    {"quiet",    'q', DLM_OPT_FLAG,   NULL,   "say nothing but errors", &(o).quiet, 0, 0, NULL, NULL}, \
    {"verbose",  'v', DLM_OPT_FLAG,   NULL,   "say more", &(o).verbose, 0, 0, NULL, NULL}, \
    {"help",     'h', DLM_OPT_FLAG,   NULL,   "print this and exit", NULL, 0, 0, NULL, NULL}, \
    {"version",  0,   DLM_OPT_FLAG,   NULL,   "print version, compiler, flags and libraries, and exit", NULL, 0, 0, NULL, NULL}
#define DLM_OPTIONS_COMPUTE(o) \
    {"checkpoint", 'c', DLM_OPT_TEXT,   "DIR",  "the model", &(o).checkpoint, 0, 0, NULL, NULL}, \
    DLM_OPTIONS_DEVICE(o)
#define DLM_OPTIONS_DEVICE(o) \
    {"device",     0,   DLM_OPT_TEXT,   "NAME", "auto, cpu, cuda or cuda:N (auto)", &(o).device, 0, 0, NULL, NULL}, \
    {"dtype",      0,   DLM_OPT_CHOICE, "TYPE", "matrix products in auto, f32 or bf16 (auto)", &(o).dtype, 0, 0, "auto|f32|bf16", NULL}
/* clang-format on */

#endif
