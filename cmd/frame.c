/* The frame of every main(). */
#include "frame.h"

#include "base/build.h"
#include "base/output.h"
#include "base/stop.h"

#include <signal.h>
#include <stdlib.h>

int dlm_frame_begin(const struct dlm_command *cmd, int argc, char **argv)
{
    struct dlm_error err = {{0}};
    int first = 0, rc = dlm_options_parse(cmd, argc, argv, &first, &err);
    if (rc == DLM_OPTIONS_HELP || rc == DLM_OPTIONS_VERSION) {
        if (rc == DLM_OPTIONS_HELP) {
            dlm_options_print_help(cmd, stdout);
        } else {
            printf("%s (dlm) %s\nbuilt with %s\n", cmd->name, dlm_build_version(), dlm_build_flags());
            char libraries[256] = "";
            if (cmd->libraries)
                cmd->libraries(libraries, sizeof libraries);
            if (libraries[0])
                printf("with %s\n", libraries);
        }
        exit(dlm_frame_end(cmd));
    }
    if (rc == DLM_EUSAGE)
        dlm_frame_misuse(cmd, "%s", err.msg);
    if (rc)
        dlm_frame_fail(cmd, rc, &err);
    dlm_stop_install();
    return first;
}

static void print(const struct dlm_command *cmd, const char *fmt, va_list ap)
{
    fflush(stdout);
    fprintf(stderr, "%s: ", cmd->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

void dlm_frame_fail(const struct dlm_command *cmd, int code, const struct dlm_error *err)
{
    dlm_output_abort_all();
    if (code == DLM_ESTOPPED)
        dlm_stop_reraise();
    if (code == DLM_EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", cmd->name, err->msg[0] ? err->msg : "failed");
    exit(dlm_err_exit_status(code));
}

void dlm_frame_misuse(const struct dlm_command *cmd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(cmd, fmt, ap);
    va_end(ap);
    exit(2);
}

void dlm_frame_say(const struct dlm_command *cmd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(cmd, fmt, ap);
    va_end(ap);
}

int dlm_frame_end(const struct dlm_command *cmd)
{
    struct dlm_error err = {{0}};
    int rc = dlm_output_check_stdout(&err);
    if (rc)
        dlm_frame_fail(cmd, rc, &err);
    return 0;
}
