/* A drawing of loss laws through gnuplot.
 *
 * The runs stand in light lines, each group's law in a strong one, dashed beyond its data, over the band of its interval. Names
 * of groups go into single-quoted strings with quotes doubled, in which gnuplot expands nothing.
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

enum { STEPS = 120, POINTS_OF_RUN = 300 };

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

/* One run as a curve, thinned evenly in log x. */
static void put_run(FILE *f, const struct dlm_view *v, const struct dlm_run *r)
{
    double last = 0, step = pow(v->x1 / v->x0, 1.0 / POINTS_OF_RUN);
    for (size_t i = 0; i < r->n; i++)
        if (r->points[i].x >= last * step || i + 1 == r->n) {
            last = r->points[i].x;
            fprintf(f, "%.9g %.9g\n", r->points[i].x, r->points[i].y);
        }
    fputs("\n", f);
}

int dlm_plot_script(const struct dlm_view *v, enum dlm_plot_format format, FILE *f, struct dlm_error *err)
{
    const struct dlm_study *s = v->study;
    bool any_band = false;
    errno = 0;
    switch (format) {
    case DLM_PLOT_SVG:
        fputs("set terminal svg size 960,640 dynamic background rgb 'white' font 'DejaVu Sans,14' linewidth 1\n", f);
        break;
    case DLM_PLOT_PNG:
        fputs("set terminal pngcairo size 1440,960 background rgb 'white' font 'DejaVu Sans,18' linewidth 1.5\n", f);
        break;
    case DLM_PLOT_PDF: fputs("set terminal pdfcairo size 24cm,16cm background rgb 'white' font 'DejaVu Sans,12'\n", f); break;
    }
    for (size_t g = 0; g < s->n; g++) {
        fprintf(f, "$runs%zu << EOD\n", g);
        for (size_t i = 0; i < s->groups[g].n; i++)
            put_run(f, v, &s->groups[g].runs[i]);
        fprintf(f, "EOD\n$law%zu << EOD\n", g);
        for (int i = 0; i <= STEPS; i++) { /* x, inside, beyond, lo, hi */
            struct dlm_prediction p;
            bool inside;
            double x = v->x0 * pow(v->x1 / v->x0, (double)i / STEPS);
            if (!dlm_view_law(v, g, x, &p, &inside))
                continue;
            fprintf(f, "%.9g ", x);
            fprintf(f, inside ? "%.9g NaN " : "NaN %.9g ", p.value);
            if (isfinite(p.lo) && isfinite(p.hi))
                fprintf(f, "%.9g %.9g\n", p.lo, p.hi);
            else
                fputs("NaN NaN\n", f);
            any_band |= isfinite(p.lo);
        }
        fputs("EOD\n", f);
    }
    fprintf(f,
            "set logscale xy\nset xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n"
            "set border 3 lc rgb '#555555' lw 1\nset tics nomirror out textcolor rgb '#333333'\n"
            "set grid xtics ytics lc rgb '#e6e6e6' lw 1 dt 1\nset format x '10^{%%T}'\n",
            v->x0, v->x1, v->y0, v->y1);
    /* Losses span less than a decade, so powers of ten would mark nothing: even steps, at least seven of them. */
    double step = 5;
    static const double steps[] = {5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && (v->y1 - v->y0) / step < 7; i++)
        step = steps[i];
    fputs("set format y '%g'\nset ytics (", f);
    for (int i = (int)ceil(v->y0 / step), n = 0; i * step <= v->y1 && n < 50; i++, n++)
        fprintf(f, "%s%.9g", n ? "," : "", i * step);
    fputs(")\n", f);
    fprintf(f, "set xlabel '%s' textcolor rgb '#333333'\nset ylabel '%s (nats per token)' textcolor rgb '#333333'\n",
            strcmp(v->x, "tokens") ? "training compute C (FLOPs)" : "training tokens D",
            strstr(s->fitted, "elbo") ? "ELBO" : "loss");
    fprintf(f,
            "set key above left Left reverse vertical maxrows %zu samplen 2 spacing 1.2 noenhanced textcolor rgb '#222222'\nset "
            "style fill transparent solid 0.15 noborder\nplot \\\n",
            s->n);
    for (size_t g = 0; g < s->n; g++) {
        const char *c = colours[g % (sizeof colours / sizeof *colours)];
        char caption[512];
        if (any_band)
            fprintf(f, "  $law%zu using 1:4:5 with filledcurves lc rgb '%s' notitle, \\\n", g, c);
        fprintf(f, "  $runs%zu using 1:2 with linespoints lc rgb '#a0%s' lw 1 pt 7 ps 0.25 notitle, \\\n", g, c + 1);
        fprintf(f, "  $law%zu using 1:3 with lines lc rgb '%s' dt (6,4) lw 1.5 notitle, \\\n", g, c);
        dlm_view_caption(v, g, caption, sizeof caption);
        fprintf(f, "  $law%zu using 1:2 with lines lc rgb '%s' lw 2.5 title ", g, c);
        quote(f, caption);
        fputs(g + 1 < s->n ? ", \\\n" : "\n", f);
    }
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

int dlm_plot_draw(const struct dlm_view *v, enum dlm_plot_format format, FILE *to, struct dlm_error *err)
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
