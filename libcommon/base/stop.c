/* Stop signals: flags only. */
#include "base/stop.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stopped_by, usr1;

static void on_stop(int sig)
{
    stopped_by = sig;
}

static void on_usr1(int sig)
{
    (void)sig;
    usr1 = 1;
}

static void handle(int sig, void (*handler)(int), int flags)
{
    struct sigaction old, sa = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&sa.sa_mask);
    if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
        return;
    sigaction(sig, &sa, NULL);
}

void dlm_stop_install(void)
{
    /* No SA_RESTART: a read that waits on a pipe returns, and its loop sees the flag. */
    handle(SIGINT, on_stop, (int)SA_RESETHAND);
    handle(SIGTERM, on_stop, (int)SA_RESETHAND);
    handle(SIGHUP, on_stop, (int)SA_RESETHAND);
    handle(SIGUSR1, on_usr1, SA_RESTART);
}

int dlm_stop_signal(void)
{
    return stopped_by;
}

void dlm_stop_reraise(void)
{
    if (!stopped_by)
        return;
    signal(stopped_by, SIG_DFL);
    raise(stopped_by);
}

bool dlm_stop_take_usr1(void)
{
    if (!usr1)
        return false;
    usr1 = 0;
    return true;
}
