/* A figure drawn with characters.
 *
 * Each colour has a letter: small for measured points, large for laws and optima, with gaps beyond the data. Both axes are
 * logarithmic. Only ASCII, so that no terminal or mail needs more.
 */
#include "law/chart.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { WIDTH = 63, HEIGHT = 20, LABEL = 8 };

struct canvas {
    const struct dlm_figure *v;
    char at[HEIGHT][WIDTH + 1];
};

static int column(const struct dlm_figure *v, double x)
{
    return (int)floor(fmin(fmax(log(x / v->x0) / log(v->x1 / v->x0), -1), 2) * (WIDTH - 1) + 0.5);
}

static int row(const struct dlm_figure *v, double y)
{
    return (int)floor(fmin(fmax(log(v->y1 / y) / log(v->y1 / v->y0), -1), 2) * (HEIGHT - 1) + 0.5);
}

static void put(struct canvas *c, int x, int y, char mark)
{
    if (x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT)
        c->at[y][x] = mark;
}

/* A line through its points, with no holes where it is steep; a dashed one with two holes of three. */
static void draw_line(struct canvas *c, const struct dlm_series *s)
{
    const char mark = (char)('A' + s->colour % 26);
    for (size_t i = 0; i + 1 < s->n; i++) {
        int x0 = column(c->v, s->at[i][0]), x1 = column(c->v, s->at[i + 1][0]);
        double l0 = log(s->at[i][1]), l1 = log(s->at[i + 1][1]);
        int before = row(c->v, s->at[i][1]);
        for (int x = x0; x <= x1; x++) {
            double part = x1 > x0 ? (double)(x - x0) / (x1 - x0) : 1;
            int y = row(c->v, exp(l0 + part * (l1 - l0)));
            if (s->form == DLM_SERIES_DASHED && x % 3)
                continue;
            put(c, x, y, mark);
            for (int k = before + 1; s->form == DLM_SERIES_LINE && k < y; k++)
                put(c, x, k, mark);
            before = y;
        }
    }
}

/* Short and exact enough to read: 2.500, 1e18, 3.2e7. */
static int number(char *to, size_t size, double v)
{
    double power = log10(v);
    if (fabs(power - floor(power + 0.5)) < 1e-9 && (v >= 1e4 || v < 1e-2))
        return snprintf(to, size, "1e%d", (int)floor(power + 0.5));
    if (v < 1e4 && v >= 1e-2)
        return snprintf(to, size, v < 100 ? "%.3f" : "%.0f", v);
    const double ten = floor(power + 1e-9), digits = v / pow(10, ten); /* 2e5 as the powers of ten are 1e5 */
    return snprintf(to, size, fabs(digits - round(digits)) < 0.01 ? "%.0fe%d" : "%.1fe%d", digits, (int)ten);
}

static void draw_x_axis(const struct canvas *c, FILE *f)
{
    char line[LABEL + WIDTH + 16], text[32];
    double at[64];
    bool decades;
    size_t n = dlm_figure_ticks(c->v->x0, c->v->x1, at, sizeof at / sizeof *at, &decades);
    int end = 0;
    memset(line, ' ', sizeof line);
    fprintf(f, "%*s+", LABEL, "");
    for (int x = 0; x < WIDTH; x++) {
        bool tick = false;
        for (size_t i = 0; i < n; i++)
            tick |= column(c->v, at[i]) == x;
        fputc(tick ? '+' : '-', f);
    }
    fputc('\n', f);
    for (size_t i = 0; i < n; i++) {
        int len = number(text, sizeof text, at[i]), from = LABEL + 1 + column(c->v, at[i]) - len / 2;
        if (from > end && from + len < LABEL + WIDTH + 4) {
            memcpy(line + from, text, (size_t)len);
            end = from + len;
        }
    }
    fprintf(f, "%.*s\n", end, line);
}

int dlm_chart_draw(const struct dlm_figure *v, FILE *f, const char *name, struct dlm_error *err)
{
    struct canvas c = {.v = v};
    memset(c.at, ' ', sizeof c.at);
    for (int layer = 0; layer < 4; layer++) /* curves of runs, laws, points, optima */
        for (size_t i = 0; i < v->n; i++) {
            const struct dlm_series *s = &v->series[i];
            bool line = s->form == DLM_SERIES_LINE || s->form == DLM_SERIES_DASHED, best = s->form == DLM_SERIES_BEST;
            if (s->form == DLM_SERIES_BAND || (best ? 3 : line ? 1 : s->form == DLM_SERIES_POINTS ? 2 : 0) != layer)
                continue;
            for (size_t k = 0; k < s->n && !line; k++)
                put(&c, column(v, s->at[k][0]), row(v, s->at[k][1]), best ? '*' : (char)('a' + s->colour % 26));
            if (line)
                draw_line(&c, s);
        }
    errno = 0;
    if (*v->title)
        fprintf(f, "%*s  %s\n", LABEL, "", v->title);
    fprintf(f, "%*s  %s\n", LABEL, "", v->y_label);
    for (int y = 0; y < HEIGHT; y++) {
        char text[32];
        c.at[y][WIDTH] = 0;
        for (int x = WIDTH - 1; x >= 0 && c.at[y][x] == ' '; x--)
            c.at[y][x] = 0;
        number(text, sizeof text, v->y1 * pow(v->y0 / v->y1, (double)y / (HEIGHT - 1)));
        if (y % 4 == 0 || y == HEIGHT - 1)
            fprintf(f, "%*s +%s\n", LABEL - 1, text, c.at[y]);
        else
            fprintf(f, "%*s|%s\n", LABEL, "", c.at[y]);
    }
    draw_x_axis(&c, f);
    fprintf(f, "%*s  %s  (small: measured, large: law, dotted beyond)\n", LABEL, "", v->x_label);
    for (size_t i = 0; i < v->n; i++)
        if (v->series[i].label)
            fprintf(f, "%*c %s\n", LABEL, (char)('A' + v->series[i].colour % 26), v->series[i].label);
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}
