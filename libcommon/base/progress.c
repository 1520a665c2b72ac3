/* One line of progress on standard error. */
#include "base/progress.h"

#include "base/stop.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

double dlm_progress_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

void dlm_progress_init(struct dlm_progress *p, const char *name, const char *unit, uint64_t total, uint64_t done,
                       enum dlm_progress_mode mode)
{
    *p = (struct dlm_progress){.name = name, .unit = unit, .total = total, .begun_at = done};
    p->t0 = dlm_progress_now();
    p->terminal = isatty(STDERR_FILENO);
    p->on = mode == DLM_PROGRESS_ALWAYS || (mode == DLM_PROGRESS_AUTO && p->terminal);
}

static void scaled(char *to, size_t size, double v)
{
    static const char *const names[] = {"", "K", "M", "G", "T"};
    int i = 0;
    while (v >= 1000 && i < 4) {
        v /= 1000;
        i++;
    }
    snprintf(to, size, v < 10 && i ? "%.2f%s" : v < 100 && i ? "%.1f%s" : "%.0f%s", v, names[i]);
}

void dlm_progress_update(struct dlm_progress *p, uint64_t done, const char *note)
{
    bool asked = dlm_stop_take_usr1();
    double now = dlm_progress_now();
    bool last = p->total && done >= p->total;
    if (!asked && (!p->on || (now - p->t_last < (p->terminal ? 0.2 : 5) && !last)))
        return;
    p->t_last = now;
    double elapsed = now - p->t0, rate = elapsed > 0 ? (double)(done - p->begun_at) / elapsed : 0;
    char a[32], r[32], left[48] = "";
    scaled(a, sizeof a, (double)done);
    scaled(r, sizeof r, rate);
    if (p->total && rate > 0) {
        unsigned s = done < p->total ? (unsigned)((double)(p->total - done) / rate + 0.5) : 0;
        snprintf(left, sizeof left, " %3.0f%% %u:%02u left", 100.0 * (double)done / (double)p->total, s / 60, s % 60);
    }
    bool redraw = p->terminal && p->on && !asked;
    fprintf(stderr, "%s%s: %s %s, %s/s%s%s%s%s", p->terminal ? "\r\033[K" : "", p->name, a, p->unit, r, left,
            note ? ", " : "", note ? note : "", redraw ? "" : "\n");
    fflush(stderr);
    p->shown = redraw;
}

void dlm_progress_release(struct dlm_progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
