/* One table of options per command, read by getopt_long. */
#include "base/options.h"

#include "base/number.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_LONG = 1000, MAX_OPTIONS = 128 };

static bool takes_argument(const struct dlm_option *o)
{
    return o->kind == DLM_OPT_LATER ? o->arg != NULL : o->kind != DLM_OPT_FLAG;
}

static int choice(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (int i = 0;; i++) {
        size_t n = strcspn(list, "|");
        if (n == len && !memcmp(list, word, n))
            return i;
        if (!list[n])
            return -1;
        list += n + 1;
    }
}

static int store(const struct dlm_option *o, const char *arg, struct dlm_error *err)
{
    bool bounded = o->min != 0 || o->max != 0;
    switch (o->kind) {
    case DLM_OPT_FLAG: *(bool *)o->to = true; break;
    case DLM_OPT_TEXT: *(const char **)o->to = arg; break;
    case DLM_OPT_TEXTS: {
        struct dlm_texts *t = o->to;
        const char **more = realloc(t->at, (t->n + 1) * sizeof *more);
        if (!more)
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        t->at = more;
        t->at[t->n++] = arg;
        break;
    }
    case DLM_OPT_COUNT: {
        uint64_t v;
        if (!dlm_number_count(arg, &v))
            return dlm_fail(err, DLM_EUSAGE, "--%s takes a whole number, not '%s'", o->name, arg);
        if (bounded && ((double)v < o->min || (double)v > o->max))
            return dlm_fail(err, DLM_EUSAGE, "--%s must be from %.15g to %.15g, not '%s'", o->name, o->min, o->max, arg);
        *(uint64_t *)o->to = v;
        break;
    }
    case DLM_OPT_REAL: {
        double v;
        if (!dlm_number_real(arg, &v))
            return dlm_fail(err, DLM_EUSAGE, "--%s takes a number, not '%s'", o->name, arg);
        if (bounded && !(v >= o->min && v <= o->max))
            return dlm_fail(err, DLM_EUSAGE, "--%s must be from %g to %g, not '%s'", o->name, o->min, o->max, arg);
        *(double *)o->to = v;
        break;
    }
    case DLM_OPT_CHOICE: {
        int v = choice(o->choices, arg);
        if (v < 0)
            return dlm_fail(err, DLM_EUSAGE, "--%s is one of %s, not '%s'", o->name, o->choices, arg);
        *(int *)o->to = v;
        break;
    }
    case DLM_OPT_LATER: return dlm_fail(err, DLM_EUSAGE, "--%s is not available in this version", o->name);
    case DLM_OPT_GROUP: assert(0);
    }
    if (o->given)
        *o->given = true;
    return 0;
}

int dlm_options_parse(const struct dlm_command *cmd, int argc, char **argv, int *first, struct dlm_error *err)
{
    struct option longs[MAX_OPTIONS + 1] = {{0}};
    char shorts[2 * MAX_OPTIONS + 2] = ":";
    size_t n = 0, s = 1;
    assert(cmd->n_options <= MAX_OPTIONS);
    for (size_t i = 0; i < cmd->n_options; i++) {
        const struct dlm_option *o = &cmd->options[i];
        if (o->kind == DLM_OPT_GROUP)
            continue;
        longs[n++] = (struct option){o->name, takes_argument(o), NULL, FIRST_LONG + (int)i};
        if (o->letter) {
            shorts[s++] = (char)o->letter;
            if (takes_argument(o))
                shorts[s++] = ':';
        }
    }
    shorts[s] = 0;
    opterr = 0;
    optind = 0; /* glibc: a full restart */
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == '?' || c == ':') {
            const char *word = argv[optind - 1];
            bool is_long = !strncmp(word, "--", 2);
            if (c == ':')
                return is_long ? dlm_fail(err, DLM_EUSAGE, "option '%s' needs an argument", word)
                               : dlm_fail(err, DLM_EUSAGE, "option '-%c' needs an argument", optopt);
            if (optopt >= FIRST_LONG)
                return dlm_fail(err, DLM_EUSAGE, "--%s takes no argument", cmd->options[optopt - FIRST_LONG].name);
            return optopt ? dlm_fail(err, DLM_EUSAGE, "unknown option '-%c'", optopt)
                          : dlm_fail(err, DLM_EUSAGE, "unknown or ambiguous option '%s'", word);
        }
        const struct dlm_option *o = NULL;
        if (c >= FIRST_LONG)
            o = &cmd->options[c - FIRST_LONG];
        else
            for (size_t i = 0; i < cmd->n_options && !o; i++)
                if (cmd->options[i].letter == c)
                    o = &cmd->options[i];
        assert(o);
        if (!strcmp(o->name, "help"))
            return DLM_OPTIONS_HELP;
        if (!strcmp(o->name, "version"))
            return DLM_OPTIONS_VERSION;
        int rc = store(o, optarg, err);
        if (rc)
            return rc;
    }
    *first = optind;
    return 0;
}

void dlm_options_print_help(const struct dlm_command *cmd, FILE *to)
{
    fprintf(to, "%s: %s\n\n", cmd->name, cmd->purpose);
    const char *lead = "usage:";
    for (const char *line = cmd->synopsis; *line;) {
        size_t n = strcspn(line, "\n");
        fprintf(to, "%-6s %s %.*s\n", lead, cmd->name, (int)n, line);
        lead = "";
        line += n + (line[n] == '\n');
    }
    for (size_t i = 0; i < cmd->n_options; i++) {
        const struct dlm_option *o = &cmd->options[i];
        if (o->kind == DLM_OPT_GROUP) {
            fprintf(to, "\n%s\n", o->help);
            continue;
        }
        if (o->kind == DLM_OPT_LATER)
            continue;
        char left[64];
        int w = o->letter ? snprintf(left, sizeof left, "  -%c, --%s", o->letter, o->name)
                          : snprintf(left, sizeof left, "      --%s", o->name);
        if (o->arg && w < (int)sizeof left)
            snprintf(left + w, sizeof left - (size_t)w, " %s", o->arg);
        if (strlen(left) > 29)
            fprintf(to, "%s\n%30s%s\n", left, "", o->help);
        else
            fprintf(to, "%-30s%s\n", left, o->help);
    }
}
