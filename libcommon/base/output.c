/* Outputs that are whole or absent: temporary file, sync, rename. */
#include "base/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct dlm_output *open_outputs;

const char *dlm_output_name(const struct dlm_output *out)
{
    return out->path ? out->path : "standard output";
}

/* What the user lets new files and directories have of `mode`. */
static mode_t allowed(mode_t mode)
{
    mode_t mask = umask(0);
    umask(mask);
    return mode & ~mask;
}

static void unlink_from_list(struct dlm_output *out)
{
    for (struct dlm_output **p = &open_outputs; *p; p = &(*p)->next)
        if (*p == out) {
            *p = out->next;
            return;
        }
}

static void forget(struct dlm_output *out)
{
    unlink_from_list(out);
    free(out->path);
    free(out->temporary);
    *out = (struct dlm_output){0};
}

int dlm_output_open(struct dlm_output *out, const char *path, struct dlm_error *err)
{
    *out = (struct dlm_output){0};
    if (!path || !strcmp(path, "-")) {
        out->file = stdout;
        return 0;
    }
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return dlm_fail(err, DLM_EIO, "cannot write '%s': Is a directory", path);
    out->path = strdup(path);
    if (!out->path)
        return dlm_fail(err, DLM_ENOMEM, "out of memory");
    if (exists && !S_ISREG(st.st_mode)) {
        out->file = fopen(path, "wb");
    } else {
        size_t n = strlen(path);
        out->temporary = malloc(n + 16);
        if (!out->temporary) {
            forget(out);
            return dlm_fail(err, DLM_ENOMEM, "out of memory");
        }
        snprintf(out->temporary, n + 16, "%s.tmp-XXXXXX", path);
        int fd = mkostemp(out->temporary, O_CLOEXEC);
        if (fd >= 0) {
            fchmod(fd, exists ? st.st_mode & 07777 : allowed(0666));
            out->file = fdopen(fd, "wb");
            if (!out->file) {
                close(fd);
                unlink(out->temporary);
            }
        }
    }
    if (!out->file) {
        int rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
        forget(out);
        return rc;
    }
    out->next = open_outputs;
    open_outputs = out;
    return 0;
}

int dlm_output_open_binary(struct dlm_output *out, const char *path, struct dlm_error *err)
{
    if ((!path || !strcmp(path, "-")) && isatty(STDOUT_FILENO)) {
        *out = (struct dlm_output){0};
        return dlm_fail(err, DLM_EUSAGE, "a token stream is not written to a terminal: name a file with --output, or use a pipe");
    }
    return dlm_output_open(out, path, err);
}

int dlm_output_check_stdout(struct dlm_error *err)
{
    if (fflush(stdout))
        return dlm_fail_errno(err, DLM_EIO, "cannot write standard output");
    if (ferror(stdout))
        return dlm_fail(err, DLM_EIO, "cannot write standard output");
    return 0;
}

int dlm_output_commit(struct dlm_output *out, struct dlm_error *err)
{
    if (!out->file)
        return 0;
    if (!out->path) {
        out->file = NULL;
        return dlm_output_check_stdout(err);
    }
    int bad = ferror(out->file) ? EIO : 0;
    errno = 0;
    if (fflush(out->file))
        bad = errno;
    if (!bad && out->temporary && fsync(fileno(out->file)) && errno != EINVAL && errno != EROFS)
        bad = errno;
    if (fclose(out->file) && !bad)
        bad = errno;
    out->file = NULL;
    if (!bad && out->temporary && rename(out->temporary, out->path))
        bad = errno;
    int rc = 0;
    if (bad) {
        if (out->temporary)
            unlink(out->temporary);
        errno = bad;
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", out->path);
    }
    forget(out);
    return rc;
}

void dlm_output_abort(struct dlm_output *out)
{
    if (!out->file)
        return;
    if (out->path)
        fclose(out->file);
    if (out->temporary)
        unlink(out->temporary);
    forget(out);
}

void dlm_output_abort_all(void)
{
    while (open_outputs)
        dlm_output_abort(open_outputs);
}

int dlm_output_write_file(const char *path, const void *bytes, size_t n, struct dlm_error *err)
{
    struct dlm_output out;
    int rc = dlm_output_open(&out, path, err);
    if (rc)
        return rc;
    if (n && fwrite(bytes, 1, n, out.file) != n) {
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
        dlm_output_abort(&out);
        return rc;
    }
    return dlm_output_commit(&out, err);
}

char *dlm_output_make_dir(const char *path)
{
    char *dir;
    if (asprintf(&dir, "%s.tmp-XXXXXX", path) < 0) {
        errno = ENOMEM;
        return NULL;
    }
    if (!mkdtemp(dir)) {
        int why = errno;
        free(dir);
        errno = why;
        return NULL;
    }
    chmod(dir, allowed(0777));
    return dir;
}

void dlm_output_remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    if (d) {
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                unlinkat(dirfd(d), e->d_name, 0);
        closedir(d);
    }
    rmdir(dir);
}

int dlm_output_sync_dir(const char *path, struct dlm_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    int bad = fsync(fd) && errno != EINVAL && errno != EROFS ? errno : 0;
    close(fd);
    errno = bad;
    return bad ? dlm_fail_errno(err, DLM_EIO, "cannot sync '%s'", path) : 0;
}
