/* A figure drawn through gnuplot.
 *
 * Measured curves stand in light lines, laws in strong ones, dashed beyond their data, over the bands of their intervals. Labels
 * go into single-quoted strings with quotes doubled, in which gnuplot expands nothing.
 */
#include "law/plot.h"

#include "base/stop.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { POINTS_OF_RUN = 300 };

/* Okabe and Ito's colours, told apart by everyone. */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31"};

int dlm_plot_format_of(const char *path, enum dlm_plot_format *format, struct dlm_error *err)
{
    static const char *const suffix[] = {".svg", ".png", ".pdf"};
    size_t n = strlen(path);
    for (int i = 0; i < 3; i++)
        if (n > 4 && !strcmp(path + n - 4, suffix[i])) {
            *format = (enum dlm_plot_format)i;
            return 0;
        }
    return dlm_fail(err, DLM_EUSAGE, "--output of plot ends in .svg, .png or .pdf, not '%s'", path);
}

static void quote(FILE *f, const char *s)
{
    fputc('\'', f);
    for (; *s; s++) {
        if (*s == '\'')
            fputc('\'', f);
        fputc((unsigned char)*s < ' ' ? ' ' : *s, f);
    }
    fputc('\'', f);
}

/* Axes, their marks and names. */
static void put_window(FILE *f, const struct dlm_figure *v)
{
    double at[64];
    for (int axis = 0; axis < 2; axis++) {
        char a = axis ? 'y' : 'x';
        bool decades;
        double low = axis ? v->y0 : v->x0, high = axis ? v->y1 : v->x1;
        size_t n = dlm_figure_ticks(low, high, at, sizeof at / sizeof *at, &decades);
        fprintf(f, "set %crange [%.9g:%.9g]\nset %ctics (", a, low, high, a);
        for (size_t i = 0; i < n; i++) {
            char text[32];
            double power = floor(log10(at[i]) + 1e-9), mantissa = at[i] / pow(10, power);
            snprintf(text, sizeof text, "%.6g", mantissa);
            if (power > -3 && power < 4) /* plain, or as a power of ten */
                fprintf(f, "%s'%.6g' %.9g", i ? "," : "", at[i], at[i]);
            else
                fprintf(f, "%s'%s%s10^{%g}' %.9g", i ? "," : "", strcmp(text, "1") ? text : "", strcmp(text, "1") ? "×" : "",
                        power, at[i]);
        }
        fputs(")\n", f);
    }
    fputs("set xlabel ", f);
    quote(f, v->x_label);
    fputs(" textcolor rgb '#333333'\nset ylabel ", f);
    quote(f, v->y_label);
    fputs(" textcolor rgb '#333333'\n", f);
    if (*v->title) {
        fputs("set title ", f);
        quote(f, v->title);
        fputs(" noenhanced textcolor rgb '#222222'\n", f);
    }
}

/* The points of a series, a curve of very many thinned evenly in log x. */
static void put_points(FILE *f, const struct dlm_figure *v, const struct dlm_series *s)
{
    double last = 0, step = pow(v->x1 / v->x0, 1.0 / POINTS_OF_RUN);
    for (size_t i = 0; i < s->n; i++) {
        const double *p = s->at[i];
        if (s->form == DLM_SERIES_RUN && p[0] < last * step && p[0] > last && i + 1 < s->n)
            continue;
        if (s->form == DLM_SERIES_RUN && p[0] < last) /* another run begins */
            fputs("\n", f);
        last = p[0];
        fprintf(f, "%.9g %.9g ", p[0], p[1]);
        if (isnan(p[2]))
            fprintf(f, s->form == DLM_SERIES_BAND ? "NaN NaN\n" : "%.9g %.9g\n", p[1], p[1]);
        else
            fprintf(f, "%.9g %.9g\n", p[2], p[3]);
    }
}

static bool has_intervals(const struct dlm_series *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (!isnan(s->at[i][2]))
            return true;
    return false;
}

int dlm_plot_script(const struct dlm_figure *v, enum dlm_plot_format format, FILE *f, struct dlm_error *err)
{
    size_t labels = 0, longest = 0, drawn = 0;
    errno = 0;
    switch (format) {
    case DLM_PLOT_SVG:
        fputs("set terminal svg size 960,640 dynamic background rgb 'white' font 'DejaVu Sans,14' linewidth 1\n", f);
        break;
    case DLM_PLOT_PNG:
        fputs("set terminal pngcairo size 1440,960 background rgb 'white' font 'DejaVu Sans,18' linewidth 1.5 pointscale 2.5 dashlength 2\n", f);
        break;
    case DLM_PLOT_PDF: fputs("set terminal pdfcairo size 18cm,12cm background rgb 'white' font 'DejaVu Sans,12' linewidth 1.2 dashlength 2\n", f); break;
    }
    fputs("set encoding utf8\n", f);
    for (size_t i = 0; i < v->n; i++) {
        fprintf(f, "$s%zu << EOD\n", i);
        put_points(f, v, &v->series[i]);
        fputs("EOD\n", f);
        if (v->series[i].label) {
            size_t len = strlen(v->series[i].label);
            labels++;
            longest = len > longest ? len : longest;
        }
    }
    fputs("set logscale xy\nset border 3 lc rgb '#555555' lw 1\nset tics nomirror out textcolor rgb '#333333'\n"
          "set grid xtics ytics lc rgb '#e6e6e6' lw 1 dt 1\n",
          f);
    put_window(f, v);
    /* above the drawing, where it hides nothing: short labels side by side */
    size_t columns = longest <= 12 ? 5 : longest <= 26 ? 3 : longest <= 45 ? 2 : 1;
    fprintf(f,
            "set key above left Left reverse horizontal maxcols %zu samplen 2 spacing 1.2 noenhanced textcolor rgb '#222222'\n"
            "set style fill transparent solid 0.15 noborder\nplot \\\n",
            columns);
    for (size_t i = 0; i < v->n; i++) {
        const struct dlm_series *s = &v->series[i];
        const char *c = colours[s->colour % (sizeof colours / sizeof *colours)];
        if (!s->n)
            continue;
        if (drawn++)
            fputs(", \\\n", f);
        fprintf(f, "  $s%zu using ", i);
        switch (s->form) {
        case DLM_SERIES_BAND: fprintf(f, "1:3:4 with filledcurves lc rgb '%s'", c); break;
        case DLM_SERIES_RUN: fprintf(f, "1:2 with linespoints lc rgb '#a0%s' lw 1 pt 7 ps 0.25", c + 1); break;
        case DLM_SERIES_LINE: fprintf(f, "1:2 with lines lc rgb '%s' lw 2.5", c); break;
        case DLM_SERIES_DASHED: fprintf(f, "1:2 with lines lc rgb '%s' dt (6,4) lw 1.5", c); break;
        case DLM_SERIES_POINTS:
            if (has_intervals(s))
                fprintf(f, "1:2:3:4 with yerrorbars lc rgb '%s' lw 1.2 pt 7 ps 0.7", c);
            else
                fprintf(f, "1:2 with points lc rgb '%s' pt 7 ps 1", c);
            break;
        case DLM_SERIES_BEST: fprintf(f, "1:2 with points lc rgb '%s' lw 2 pt 6 ps 1.8", c); break;
        }
        if (s->label) {
            fputs(" title ", f);
            quote(f, s->label);
        } else {
            fputs(" notitle", f);
        }
    }
    fputs("\n", f);
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write the program for gnuplot") : 0;
}

static int run_gnuplot(FILE *script, FILE *said, FILE *to, struct dlm_error *err)
{
    posix_spawn_file_actions_t actions;
    char *const argv[] = {(char *)"gnuplot", NULL};
    pid_t pid;
    int status;
    if (posix_spawn_file_actions_init(&actions))
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    posix_spawn_file_actions_adddup2(&actions, fileno(script), 0);
    posix_spawn_file_actions_adddup2(&actions, fileno(to), 1);
    posix_spawn_file_actions_adddup2(&actions, fileno(said), 2);
    errno = posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ);
    int bad = errno;
    posix_spawn_file_actions_destroy(&actions);
    errno = bad;
    if (bad)
        return dlm_fail_errno(err, DLM_EIO, "cannot run gnuplot (without --output, plot draws with characters and needs none)");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return dlm_fail_errno(err, DLM_EIO, "cannot wait for gnuplot");
    if (dlm_stop_signal())
        return dlm_fail(err, DLM_ESTOPPED, "stopped");
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        char line[256] = "";
        rewind(said);
        while (fgets(line, sizeof line, said) && strspn(line, " \t\r\n^") == strlen(line))
            continue;
        line[strcspn(line, "\n")] = 0;
        return dlm_fail(err, DLM_EIO, "gnuplot failed: %s", line);
    }
    return 0;
}

int dlm_plot_draw(const struct dlm_figure *v, enum dlm_plot_format format, FILE *to, struct dlm_error *err)
{
    FILE *script = tmpfile(), *said = tmpfile();
    int rc;
    if (!script || !said) {
        rc = dlm_fail_errno(err, DLM_EIO, "cannot make a temporary file");
    } else if (!(rc = dlm_plot_script(v, format, script, err))) {
        if (fflush(script) || fseek(script, 0, SEEK_SET) || fflush(to))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write the program for gnuplot");
        else
            rc = run_gnuplot(script, said, to, err);
    }
    if (script)
        fclose(script);
    if (said)
        fclose(said);
    return rc;
}
