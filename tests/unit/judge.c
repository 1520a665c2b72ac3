/* Judges: verdicts, limits, and that nothing of them is left behind. */
#include "run/judge.h"
#include "tap.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static struct dlm_error err;

static int verdict_of(const char *command, double seconds, const char *item)
{
    const struct dlm_judge j = {.command = command, .seconds = seconds, .memory = (uint64_t)1 << 30};
    enum dlm_verdict v;
    int rc = dlm_judge_run(&j, item, strlen(item), &v, &err);
    return rc ? rc : (int)v;
}

/* Is this process gone, or at most waiting to be collected? */
static bool gone(int pid)
{
    for (int k = 0; k < 500; k++) {
        char path[64], state = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "r");
        bool read = f && fscanf(f, "%*d %*s %c", &state) == 1;
        if (f)
            fclose(f);
        if (!read || state == 'Z' || state == 'X')
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static int number_in(const char *path)
{
    FILE *f = fopen(path, "r");
    int n = -1;
    if (f && fscanf(f, "%d", &n) != 1)
        n = -1;
    if (f)
        fclose(f);
    return n;
}

int main(void)
{
    char dir[] = "/tmp/dlm-judge-XXXXXX", command[512], path[64];
    if (!mkdtemp(dir))
        return 1;
    tap_ok(verdict_of("exit 0", 10, "{}") == DLM_JUDGE_RIGHT, "status 0 is right");
    tap_ok(verdict_of("exit 1", 10, "{}") == DLM_JUDGE_WRONG && verdict_of("exit 9", 10, "{}") == DLM_JUDGE_WRONG, "any other is wrong");
    tap_ok(verdict_of("read -r line && [ \"$line\" = '{\"a\":1}' ] && ! read -r more", 10, "{\"a\":1}") == DLM_JUDGE_RIGHT, "the item is one line on standard input");
    static char large[1 << 20];
    memset(large, 'x', sizeof large - 1);
    tap_ok(verdict_of("exit 0", 10, large) == DLM_JUDGE_RIGHT, "a judge need not read");
    tap_ok(verdict_of("[ $(wc -c) = 1048576 ]", 10, large) == DLM_JUDGE_RIGHT, "or may read much");
    tap_ok(verdict_of("echo loud; echo louder >&2", 10, "{}") == DLM_JUDGE_RIGHT, "what it says is not heard");
    tap_ok(verdict_of("kill -SEGV $$", 10, "{}") == DLM_JUDGE_KILLED, "killed by a signal");
    tap_ok(verdict_of("no-such-judge", 10, "{}") == DLM_EIO && strstr(err.msg, "no-such-judge"), "no such command: %s", err.msg);
    tap_ok(verdict_of("sleep 1000", 0.05, "{}") == DLM_JUDGE_LATE, "one that sleeps is late");
    tap_ok(verdict_of("while :; do :; done", 0.05, "{}") == DLM_JUDGE_LATE, "so is one that works");

    snprintf(path, sizeof path, "%s/pid", dir);
    snprintf(command, sizeof command, "sleep 1000 & echo $! >%s; wait", path);
    tap_ok(verdict_of(command, 0.2, "{}") == DLM_JUDGE_LATE && gone(number_in(path)), "its children go with it when it is late");
    snprintf(command, sizeof command, "sleep 1000 & echo $! >%s; exit 0", path);
    tap_ok(verdict_of(command, 10, "{}") == DLM_JUDGE_RIGHT && gone(number_in(path)), "and when it has ended");
    snprintf(command, sizeof command, "ulimit -v >%s", path);
    tap_ok(verdict_of(command, 10, "{}") == DLM_JUDGE_RIGHT && number_in(path) == 1 << 20, "memory is limited");
    snprintf(command, sizeof command, "ulimit -t >%s", path);
    tap_ok(verdict_of(command, 2.5, "{}") == DLM_JUDGE_RIGHT && number_in(path) == 3, "so is processor time");
    unlink(path);
    rmdir(dir);
    return tap_end();
}
