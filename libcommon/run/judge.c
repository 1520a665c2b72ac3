/* Running a judge under limits. */
#include "run/judge.h"

#include "base/progress.h"
#include "base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *dlm_verdict_name(enum dlm_verdict v)
{
    static const char *const names[] = {"right", "wrong", "timeout", "killed"};
    return names[v];
}

/* A shell that limits itself and then becomes the judge's; where the system's own limit is lower, that one holds. $0 is the command. */
static int start(const struct dlm_judge *j, int in, int nowhere, pid_t *child, struct dlm_error *err)
{
    char script[256];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    snprintf(script, sizeof script, "ulimit -c 0 2>/dev/null || :; ulimit -t %llu 2>/dev/null || :; ulimit -v %llu 2>/dev/null || :; exec /bin/sh -c \"$0\"",
             (unsigned long long)ceil(j->seconds), (unsigned long long)((j->memory + 1023) / 1024));
    char *const arguments[] = {"sh", "-c", script, (char *)j->command, NULL};
    errno = posix_spawn_file_actions_init(&files);
    if (errno)
        return dlm_fail_errno(err, DLM_EIO, "cannot run the judge");
    if ((errno = posix_spawnattr_init(&how))) {
        posix_spawn_file_actions_destroy(&files);
        return dlm_fail_errno(err, DLM_EIO, "cannot run the judge");
    }
    int why = posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP);
    why = why ? why : posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    why = why ? why : posix_spawn_file_actions_adddup2(&files, nowhere, STDOUT_FILENO);
    if (!j->loud)
        why = why ? why : posix_spawn_file_actions_adddup2(&files, nowhere, STDERR_FILENO);
    why = why ? why : posix_spawn(child, "/bin/sh", &files, &how, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    errno = why;
    return why ? dlm_fail_errno(err, DLM_EIO, "cannot run the judge") : 0;
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
    pid_t child;
    int rc = start(j, in, nowhere, &child, err);
    if (rc)
        return rc;
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
