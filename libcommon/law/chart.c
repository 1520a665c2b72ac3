/* A drawing of loss laws with characters.
 *
 * Each group has a letter: small for the points of its runs, large for its law, with gaps beyond the data. Both axes are
 * logarithmic. Only ASCII, so that no terminal or mail needs more.
 */
#include "law/chart.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { WIDTH = 63, HEIGHT = 20, LABEL = 8 };

struct canvas {
    const struct dlm_view *v;
    char at[HEIGHT][WIDTH + 1];
};

static int column(const struct dlm_view *v, double x)
{
    return (int)floor(log(x / v->x0) / log(v->x1 / v->x0) * (WIDTH - 1) + 0.5);
}

static int row(const struct dlm_view *v, double y)
{
    return (int)floor(log(v->y1 / y) / log(v->y1 / v->y0) * (HEIGHT - 1) + 0.5);
}

static void put(struct canvas *c, int x, int y, char mark)
{
    if (x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT)
        c->at[y][x] = mark;
}

static void draw_law(struct canvas *c, size_t g)
{
    int before = -1;
    for (int x = 0; x < WIDTH; x++) {
        struct dlm_prediction p;
        bool inside;
        double at = c->v->x0 * pow(c->v->x1 / c->v->x0, (double)x / (WIDTH - 1));
        if (!dlm_view_law(c->v, g, at, &p, &inside) || (!inside && x % 3))
            continue;
        int y = row(c->v, p.value);
        char mark = (char)('A' + g % 26);
        put(c, x, y, mark);
        for (int k = before + 1; inside && before >= 0 && k < y; k++) /* no holes where the curve is steep */
            put(c, x, k, mark);
        before = inside ? y : -1;
    }
}

/* Marks below the axis at powers of ten, or at the ends where there is none. */
static void draw_x_axis(const struct canvas *c, FILE *f)
{
    char line[LABEL + WIDTH + 16], text[16];
    memset(line, ' ', sizeof line);
    int end = 0, first = (int)ceil(log10(c->v->x0)), last = (int)floor(log10(c->v->x1)), step = (last - first) / 8 + 1;
    fprintf(f, "%*s+", LABEL, "");
    for (int x = 0; x < WIDTH; x++) {
        bool tick = false;
        for (int d = first; d <= last; d += step)
            tick |= column(c->v, pow(10, d)) == x;
        fputc(tick ? '+' : '-', f);
    }
    fputc('\n', f);
    for (int d = first; d <= last; d += step) {
        int n = snprintf(text, sizeof text, "1e%d", d), at = LABEL + 1 + column(c->v, pow(10, d)) - n / 2;
        if (at > end && at + n < (int)sizeof line) {
            memcpy(line + at, text, (size_t)n);
            end = at + n;
        }
    }
    if (first > last) {
        end = snprintf(line, sizeof line, "%*s%-*.3g%.3g", LABEL + 1, "", WIDTH - 8, c->v->x0, c->v->x1);
    }
    fprintf(f, "%.*s\n", end, line);
}

int dlm_chart_draw(const struct dlm_view *v, FILE *f, const char *name, struct dlm_error *err)
{
    struct canvas c = {.v = v};
    const struct dlm_study *s = v->study;
    memset(c.at, ' ', sizeof c.at);
    for (size_t g = 0; g < s->n; g++)
        for (size_t i = 0; i < s->groups[g].n; i++)
            for (size_t k = 0; k < s->groups[g].runs[i].n; k++) {
                const struct dlm_point *p = &s->groups[g].runs[i].points[k];
                put(&c, column(v, p->x), row(v, p->y), (char)('a' + g % 26));
            }
    for (size_t g = 0; g < s->n; g++)
        draw_law(&c, g);
    errno = 0;
    fprintf(f, "%*s  %s, nats per token\n", LABEL, "", s->fitted);
    for (int y = 0; y < HEIGHT; y++) {
        c.at[y][WIDTH] = 0;
        for (int x = WIDTH - 1; x >= 0 && c.at[y][x] == ' '; x--)
            c.at[y][x] = 0;
        if (y % 4 == 0 || y == HEIGHT - 1)
            fprintf(f, "%*.3f +%s\n", LABEL - 1, v->y1 * pow(v->y0 / v->y1, (double)y / (HEIGHT - 1)), c.at[y]);
        else
            fprintf(f, "%*s|%s\n", LABEL, "", c.at[y]);
    }
    draw_x_axis(&c, f);
    fprintf(f, "%*s  %s  (small letters: runs, large: law, dotted beyond)\n", LABEL, "",
            strcmp(v->x, "tokens") ? "C, training FLOPs" : "D, training tokens");
    for (size_t g = 0; g < s->n; g++) {
        char caption[512];
        dlm_view_caption(v, g, caption, sizeof caption);
        fprintf(f, "%*c %s\n", LABEL, (char)('A' + g % 26), caption);
    }
    return ferror(f) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", name) : 0;
}
