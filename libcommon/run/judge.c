/* Running a judge under limits. */
#include "run/judge.h"

#include "base/progress.h"
#include "base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *dlm_verdict_name(enum dlm_verdict v)
{
    static const char *const names[] = {"right", "wrong", "timeout", "killed"};
    return names[v];
}

static void limit(int what, uint64_t most)
{
    const struct rlimit r = {most, most};
    setrlimit((__rlimit_resource_t)what, &r); /* where the system's own limit is lower, that one holds */
}

/* The child: nothing here but calls that are safe between fork and exec. */
_Noreturn static void become(const struct dlm_judge *j, int in, int nowhere)
{
    setpgid(0, 0);
    dup2(in, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    if (!j->loud)
        dup2(nowhere, STDERR_FILENO);
    limit(RLIMIT_CPU, (uint64_t)ceil(j->seconds));
    limit(RLIMIT_AS, j->memory);
    limit(RLIMIT_CORE, 0);
    execl("/bin/sh", "sh", "-c", j->command, (char *)NULL);
    _exit(127);
}

/* Wait for the child, asking ever more seldom, until the deadline. 1: it has ended; 0: it has not; < 0: stopped. */
static int await(pid_t child, double deadline, int *status, struct dlm_error *err)
{
    for (long nap = 200000;; nap = nap < 10000000 ? 2 * nap : nap) {
        const pid_t got = waitpid(child, status, WNOHANG);
        if (got == child)
            return 1;
        if (got < 0 && errno != EINTR)
            return dlm_fail_errno(err, DLM_EIO, "cannot wait for the judge");
        if (dlm_stop_signal())
            return dlm_fail(err, DLM_ESTOPPED, "stopped");
        if (dlm_progress_now() > deadline)
            return 0;
        const struct timespec t = {.tv_nsec = nap};
        nanosleep(&t, NULL);
    }
}

static int judge(const struct dlm_judge *j, int in, int nowhere, enum dlm_verdict *out, struct dlm_error *err)
{
    int status = 0;
    const pid_t child = fork();
    if (child < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot run the judge");
    if (!child)
        become(j, in, nowhere);
    setpgid(child, child); /* here too, so that the group is there whoever comes first */
    const int ended = await(child, dlm_progress_now() + j->seconds, &status, err);
    kill(-child, SIGKILL);
    if (ended <= 0)
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
    if (ended < 0)
        return ended;
    if (ended && WIFEXITED(status) && (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127))
        return dlm_fail(err, DLM_EIO, "the judge '%s' cannot be run: its shell ended with status %d", j->command, WEXITSTATUS(status));
    *out = !ended || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) ? DLM_JUDGE_LATE
           : WIFSIGNALED(status)                                         ? DLM_JUDGE_KILLED
           : WEXITSTATUS(status) == 0                                     ? DLM_JUDGE_RIGHT
                                                                          : DLM_JUDGE_WRONG;
    return 0;
}

int dlm_judge_run(const struct dlm_judge *j, const char *item, size_t n, enum dlm_verdict *out, struct dlm_error *err)
{
    FILE *f = tmpfile(); /* not a pipe: a judge that does not read must not stop us */
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int rc = 0;
    if (!f || nowhere < 0 || fwrite(item, 1, n, f) != n || putc('\n', f) == EOF || fflush(f) || lseek(fileno(f), 0, SEEK_SET) < 0)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write an item for the judge");
    if (!rc)
        rc = judge(j, fileno(f), nowhere, out, err);
    if (f)
        fclose(f);
    if (nowhere >= 0)
        close(nowhere);
    return rc;
}
