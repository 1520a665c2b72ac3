/* The energy meter on directories made to look like /sys/class/powercap: which counters are summed, how a counter's turn is taken, and that what
 * cannot be read whole is no number. */
#include "run/energy.h"
#include "tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void must(bool done, const char *what)
{
    if (!done) {
        printf("Bail out! %s\n", what);
        exit(1);
    }
}

static int drop(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

/* A directory with nothing in it. */
static void fresh(void)
{
    nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
    must(!mkdir(root, 0700) && !chmod(root, 0755), root); /* whatever the umask */
}

static void put(const char *zone, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, zone);
    mkdir(path, 0700);
    chmod(path, 0755);
    snprintf(path, sizeof path, "%s/%s/%s", root, zone, file);
    FILE *f = fopen(path, "w");
    must(f && fputs(text, f) >= 0 && !fclose(f), path);
}

static void put_count(const char *zone, const char *file, uint64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)n);
    put(zone, file, text);
}

static void set(const char *zone, uint64_t microjoules)
{
    put_count(zone, "energy_uj", microjoules);
}

static void make_zone(const char *zone, const char *name, uint64_t range, uint64_t microjoules)
{
    put(zone, "name", name);
    put_count(zone, "max_energy_range_uj", range);
    set(zone, microjoules);
}

static void take_away(const char *zone, const char *file)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", root, zone, file);
    must(!remove(path), path);
}

/* No meter when opened, and none later. */
static void expect_none(const char *what)
{
    struct dlm_energy e;
    dlm_energy_open(&e);
    double first = dlm_energy_joules(&e), second = dlm_energy_joules(&e);
    tap_ok(isnan(first) && isnan(second), "%s: no meter (%g, %g)", what, first, second);
    dlm_energy_close(&e);
}

static void check_one_socket(void)
{
    struct dlm_energy e;
    fresh();
    make_zone("intel-rapl:0", "package-0\n", 262143328850, 5000000);
    dlm_energy_open(&e);
    tap_near(dlm_energy_joules(&e), 0, 0, "one package: nothing counted yet");
    set("intel-rapl:0", 7500000);
    tap_near(dlm_energy_joules(&e), 2.5, 1e-12, "one package: joules since opened, not since the machine started");
    tap_near(dlm_energy_joules(&e), 2.5, 1e-12, "one package: asking again adds nothing");
    set("intel-rapl:0", 7500001);
    tap_near(dlm_energy_joules(&e), 2.500001, 1e-12, "one package: a microjoule more");
    dlm_energy_close(&e);
    tap_ok(isnan(dlm_energy_joules(&e)), "a closed meter counts nothing");
    dlm_energy_close(&e);
    dlm_energy_open(&e);
    set("intel-rapl:0", 8500001);
    tap_near(dlm_energy_joules(&e), 1, 1e-12, "opened again it begins at 0");
    dlm_energy_close(&e);
}

static void check_which(void)
{
    struct dlm_energy e;
    fresh();
    make_zone("intel-rapl:0", "package-0\n", 262143328850, 1000);
    make_zone("intel-rapl:1", "package-1\n", 262143328850, 2000000);
    dlm_energy_open(&e);
    set("intel-rapl:0", 1001000);
    set("intel-rapl:1", 12000000);
    tap_near(dlm_energy_joules(&e), 11, 1e-12, "two packages are summed");
    dlm_energy_close(&e);

    /* Everything else that the kernel shows beside them. */
    static const struct {
        const char *zone, *name, *what;
    } others[] = {{"intel-rapl:0:0", "core\n", "the cores of a package"},
                  {"intel-rapl:1:1", "dram\n", "the memory of a package"},
                  {"intel-rapl:2", "psys\n", "the platform"},
                  {"intel-rapl-mmio:0", "package-0\n", "the same package by another path"},
                  {"intel-rapl", "package-0\n", "the control type"},
                  {"intel-rapl:", "package-0\n", "a zone without number"},
                  {"intel-rapl:9x", "package-9\n", "a number that is none"},
                  {"intel-rapl:00000000000000000000000000", "package-0\n", "a name longer than any"},
                  {"dtpm", "package-0\n", "another control type"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        make_zone(others[i].zone, others[i].name, 262143328850, 0);
        dlm_energy_open(&e);
        set(others[i].zone, 500000000);
        set("intel-rapl:0", 1001000 + (i + 1) * 1000000);
        tap_near(dlm_energy_joules(&e), 1, 1e-12, "%s is not counted", others[i].what);
        dlm_energy_close(&e);
    }

    fresh();
    put_count("intel-rapl:3", "max_energy_range_uj", 1000000);
    set("intel-rapl:3", 0);
    make_zone("intel-rapl:12", "package-1-die-1\n", 262143328850, 0);
    dlm_energy_open(&e);
    set("intel-rapl:3", 250000);
    set("intel-rapl:12", 500000);
    tap_near(dlm_energy_joules(&e), 0.75, 1e-12, "a zone without a name and a die of a package are counted");
    dlm_energy_close(&e);
}

static void check_turns(void)
{
    struct dlm_energy e;
    fresh();
    make_zone("intel-rapl:0", "package-0\n", 10000000, 9000000);
    make_zone("intel-rapl:1", "package-1\n", 20000000, 1000000);
    dlm_energy_open(&e);
    set("intel-rapl:0", 500000);
    set("intel-rapl:1", 2000000);
    tap_near(dlm_energy_joules(&e), 2.5, 1e-12, "a reading below the last has turned once, in that package alone");
    set("intel-rapl:0", 400000);
    tap_near(dlm_energy_joules(&e), 12.4, 1e-12, "and again");
    set("intel-rapl:1", 1999999);
    tap_near(dlm_energy_joules(&e), 32.399999, 1e-12, "each by its own range");
    set("intel-rapl:0", 10000000);
    tap_near(dlm_energy_joules(&e), 41.999999, 1e-12, "up to the last microjoule of the range");
    set("intel-rapl:0", 0);
    tap_near(dlm_energy_joules(&e), 41.999999, 1e-12, "from the end of the range to 0 nothing is added");
    dlm_energy_close(&e);

    /* More than a double's integers in the sum of a large counter, without loss. */
    fresh();
    make_zone("intel-rapl:0", "package-0\n", UINT64_MAX, UINT64_MAX - 1000000);
    dlm_energy_open(&e);
    set("intel-rapl:0", UINT64_MAX);
    tap_near(dlm_energy_joules(&e), 1, 1e-12, "counters of 64 bits are subtracted as whole numbers");
    dlm_energy_close(&e);

    /* Without a range a turn cannot be undone: what came before stands, then there is no number. */
    static const char *const ranges[] = {NULL, "", "much\n", "0\n", "100000\n"};
    static const char *const names[] = {"missing", "empty", "no number", "0", "less than the counter holds"};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        fresh();
        put("intel-rapl:0", "name", "package-0\n");
        if (ranges[i])
            put("intel-rapl:0", "max_energy_range_uj", ranges[i]);
        set("intel-rapl:0", 1000000);
        dlm_energy_open(&e);
        set("intel-rapl:0", 3000000);
        tap_near(dlm_energy_joules(&e), 2, 1e-12, "range %s: counted while it grows", names[i]);
        set("intel-rapl:0", 2000000);
        tap_ok(isnan(dlm_energy_joules(&e)), "range %s: no number once it turned", names[i]);
        set("intel-rapl:0", 4000000);
        tap_ok(isnan(dlm_energy_joules(&e)), "range %s: nor later", names[i]);
        dlm_energy_close(&e);
    }
}

static void check_unreadable(void)
{
    struct dlm_energy e;
    static const char *const bad[] = {"", "\n", "-5\n", "12 34\n", "0x10\n", "many\n", "18446744073709551616\n",
                                      "00000000000000000000000000000000000000000000000000000000000000001\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char what[128];
        fresh();
        make_zone("intel-rapl:0", "package-0\n", 1000000, 0);
        put("intel-rapl:0", "energy_uj", bad[i]);
        snprintf(what, sizeof what, "a counter that reads '%.*s'", (int)strcspn(bad[i], "\n"), bad[i]);
        expect_none(what);
    }
    fresh();
    make_zone("intel-rapl:0", "package-0\n", 1000000, 0);
    make_zone("intel-rapl:1", "package-1\n", 1000000, 0);
    take_away("intel-rapl:1", "energy_uj");
    expect_none("one of two packages has no counter");
    char path[256];
    snprintf(path, sizeof path, "%s/intel-rapl:1/energy_uj", root);
    must(!mkdir(path, 0700), path);
    expect_none("one of two counters is no file");

    /* Root may read everything, so it is nobody who tries. */
    fresh();
    make_zone("intel-rapl:0", "package-0\n", 1000000, 0);
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", root);
    must(!chmod(path, 0), path);
    const uid_t self = geteuid();
    if (self || !seteuid(65534)) {
        expect_none("a counter that may not be read");
        must(!seteuid(self), "seteuid");
    } else {
        tap_skip(1, "cannot become another user");
    }

    fresh();
    make_zone("intel-rapl:0", "package-0\n", 1000000, 0);
    put("intel-rapl:0", "energy_uj", "");
    dlm_energy_open(&e);
    set("intel-rapl:0", 300000);
    tap_ok(isnan(dlm_energy_joules(&e)), "a counter that could not be read when opened is not taken up later");
    dlm_energy_close(&e);

    fresh();
    make_zone("intel-rapl:0", "package-0\n", 1000000, 0);
    make_zone("intel-rapl:1", "package-1\n", 1000000, 0);
    dlm_energy_open(&e);
    set("intel-rapl:0", 300000);
    tap_near(dlm_energy_joules(&e), 0.3, 1e-12, "a counter is there");
    take_away("intel-rapl:1", "energy_uj");
    tap_ok(isnan(dlm_energy_joules(&e)), "it goes away: no number, though the other one counts on");
    set("intel-rapl:1", 900000);
    tap_ok(isnan(dlm_energy_joules(&e)), "nor when it comes back, since what it missed is unknown");
    dlm_energy_close(&e);
}

static void check_nothing(void)
{
    fresh();
    expect_none("an empty directory");
    make_zone("intel-rapl:0:0", "core\n", 1000000, 0);
    make_zone("intel-rapl-mmio:0", "package-0\n", 1000000, 0);
    expect_none("no package");
    nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
    expect_none("no directory");
    struct dlm_energy zero = {0};
    tap_ok(isnan(dlm_energy_joules(&zero)), "a meter never opened counts nothing");
    dlm_energy_close(&zero);

    /* What this machine has, whatever it is. */
    struct dlm_energy e;
    unsetenv("DLM_POWERCAP");
    dlm_energy_open(&e);
    double first = dlm_energy_joules(&e), second = dlm_energy_joules(&e);
    tap_ok(isnan(first) ? isnan(second) : first >= 0 && second >= first, "this machine: %g J, then %g J", first, second);
    dlm_energy_close(&e);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/energy.XXXXXX");
    must(mkdtemp(root) != NULL, root);
    setenv("DLM_POWERCAP", root, 1);
    check_one_socket();
    check_which();
    check_turns();
    check_unreadable();
    check_nothing();
    int next = open("/", O_RDONLY);
    tap_ok(next >= 0 && next < 32, "no file is left open (%d)", next);
    return tap_end();
}
