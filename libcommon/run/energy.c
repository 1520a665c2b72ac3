/* Energy since a meter was opened, from RAPL's counters in sysfs; see energy.h. Not the joules column: who asks when, and on how many machines, is train's.
 *
 *     energy of a package = Σ over readings of (now - last), or (range - last + now) where now < last
 *
 * The files are opened anew for every reading, a few a minute at most, so that one that goes away is noticed. Sums are whole microjoules, hence exact.
 */
#include "run/energy.h"

#include "base/number.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME = 32, TEXT = 64 };

struct dlm_energy_counter {
    char zone[NAME];
    uint64_t range; /* µJ at most; 0: unknown */
    uint64_t last;  /* µJ at the last reading */
};

/* A file's one line; false: it cannot be read, or is longer than any of these. */
static bool read_line(const char *root, const char *zone, const char *file, char text[TEXT])
{
    char *path;
    if (asprintf(&path, "%s/%s/%s", root, zone, file) < 0)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, TEXT);
    close(fd);
    if (n <= 0 || n == TEXT)
        return false;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    return true;
}

static bool read_count(const char *root, const char *zone, const char *file, uint64_t *to)
{
    char text[TEXT];
    return read_line(root, zone, file, text) && dlm_number_count(text, to);
}

/* `intel-rapl:N`, which AMD's are called too; neither `intel-rapl:N:M`, a part of one, nor `intel-rapl-mmio:N`, the same by another path. */
static bool is_top_zone(const char *name)
{
    static const char prefix[] = "intel-rapl:";
    if (strncmp(name, prefix, sizeof prefix - 1) || strlen(name) >= NAME)
        return false;
    const char *digits = name + sizeof prefix - 1;
    return *digits && !digits[strspn(digits, "0123456789")];
}

/* Top zones are packages, but for the platform (psys), which holds them. */
static bool is_package(const char *root, const char *zone)
{
    char text[TEXT];
    return is_top_zone(zone) && (!read_line(root, zone, "name", text) || !strncmp(text, "package", 7));
}

static bool add_counter(struct dlm_energy *e, const char *zone)
{
    struct dlm_energy_counter *more = reallocarray(e->counters, e->n + 1, sizeof *more);
    if (!more)
        return false;
    e->counters = more;
    struct dlm_energy_counter *c = &more[e->n++];
    *c = (struct dlm_energy_counter){.range = 0};
    memcpy(c->zone, zone, strlen(zone) + 1);
    if (!read_count(e->root, zone, "max_energy_range_uj", &c->range))
        c->range = 0;
    return read_count(e->root, zone, "energy_uj", &c->last);
}

void dlm_energy_open(struct dlm_energy *e)
{
    const char *root = getenv("DLM_POWERCAP");
    *e = (struct dlm_energy){.root = strdup(root && *root ? root : "/sys/class/powercap")};
    DIR *d = e->root ? opendir(e->root) : NULL;
    bool whole = d != NULL;
    for (struct dirent *f; whole && (f = readdir(d));)
        whole = !is_package(e->root, f->d_name) || add_counter(e, f->d_name);
    if (d)
        closedir(d);
    if (!whole || !e->n)
        dlm_energy_close(e);
}

/* µJ since the last reading. A counter that went back although its range is unknown, or beyond what it can hold, is lost. */
static bool advance(struct dlm_energy *e, struct dlm_energy_counter *c)
{
    uint64_t now;
    if (!read_count(e->root, c->zone, "energy_uj", &now))
        return false;
    if (now < c->last && c->last > c->range)
        return false;
    e->counted += now < c->last ? c->range - c->last + now : now - c->last;
    c->last = now;
    return true;
}

double dlm_energy_joules(struct dlm_energy *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (!advance(e, &e->counters[i])) {
            dlm_energy_close(e);
            break;
        }
    return e->root ? (double)e->counted * 1e-6 : NAN;
}

void dlm_energy_close(struct dlm_energy *e)
{
    free(e->root);
    free(e->counters);
    *e = (struct dlm_energy){.root = NULL};
}
