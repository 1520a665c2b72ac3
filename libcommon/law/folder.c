/* The directory that a report stands in; see folder.h. */
#include "law/folder.h"

#include "base/stop.h"
#include "law/plot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char marker[] = "dlm-fitlaw study: the files of this report";

/* Read the names of an earlier report; false: dir is none. *names is to be freed. */
static bool earlier(const char *dir, char **names)
{
    char *path = NULL, line[512];
    bool ours = false;
    *names = NULL;
    size_t size;
    FILE *to = open_memstream(names, &size);
    FILE *f = asprintf(&path, "%s/files.txt", dir) < 0 ? NULL : fopen(path, "re");
    free(path);
    if (f && to && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        ours = !strcmp(line, marker);
        while (ours && fgets(line, sizeof line, f))
            fputs(line, to);
    }
    if (f)
        fclose(f);
    if (to)
        fclose(to);
    return ours && *names;
}

static bool is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    if (!d)
        return false;
    while (readdir(d))
        n++;
    closedir(d);
    return n <= 2;
}

int dlm_folder_check(const char *dir, struct dlm_error *err)
{
    struct stat st;
    char *names = NULL;
    if (stat(dir, &st))
        return errno == ENOENT ? 0 : dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir);
    if (!S_ISDIR(st.st_mode))
        return dlm_fail(err, DLM_EIO, "cannot write '%s': it is no directory", dir);
    bool fine = earlier(dir, &names) || is_empty(dir);
    free(names);
    return fine ? 0 : dlm_fail(err, DLM_EIO, "'%s' exists and is no earlier report: choose another --output, or remove it", dir);
}

/* Put `made` at `dir`; what stood there and was no file of the report moves along. */
static int put_in_place(const char *made, const char *dir, struct dlm_error *err)
{
    struct stat st;
    char *names = NULL;
    if (stat(dir, &st)) /* also fails where a directory on the way is missing: rename says so */
        return rename(made, dir) ? dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir) : 0;
    int rc = dlm_folder_check(dir, err);
    if (rc)
        return rc;
    bool ours = earlier(dir, &names);
    if (renameat2(AT_FDCWD, made, AT_FDCWD, dir, RENAME_EXCHANGE)) {
        free(names);
        return dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", dir);
    }
    /* now `made` is the old one */
    DIR *d = opendir(made);
    for (char *name = ours ? strtok(names, "\n") : NULL; name; name = strtok(NULL, "\n"))
        if (d && !strchr(name, '/') && strcmp(name, "."))
            unlinkat(dirfd(d), name, 0);
    int to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (struct dirent *e; d && to >= 0 && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && faccessat(to, e->d_name, F_OK, AT_SYMLINK_NOFOLLOW))
            renameat(dirfd(d), e->d_name, to, e->d_name);
    if (to >= 0)
        close(to);
    if (d)
        closedir(d);
    free(names);
    if (rmdir(made))
        return dlm_fail_errno(err, DLM_EIO, "the report is in place, but the earlier one is left at '%s'", made);
    return 0;
}

static int no_memory(struct dlm_error *err)
{
    return dlm_fail(err, DLM_ENOMEM, "out of memory");
}

static bool found_gnuplot(void)
{
    const char *path = getenv("PATH");
    char name[4096];
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        if (n && n < sizeof name - 16) {
            snprintf(name, sizeof name, "%.*s/gnuplot", (int)n, p);
            if (!access(name, X_OK))
                return true;
        }
        p += n + (p[n] == ':');
    }
    return false;
}

int dlm_folder_begin(struct dlm_folder *o, const char *dir, struct dlm_error *err)
{
    *o = (struct dlm_folder){.dir = strdup(dir), .no_gnuplot = !found_gnuplot()};
    int rc = o->dir ? dlm_folder_check(dir, err) : no_memory(err);
    while (!rc && strlen(o->dir) > 1 && o->dir[strlen(o->dir) - 1] == '/')
        o->dir[strlen(o->dir) - 1] = 0;
    if (!rc && !(o->list = open_memstream(&o->names, &o->names_size)))
        rc = no_memory(err);
    if (!rc && !(o->made = dlm_output_make_dir(o->dir)))
        rc = dlm_fail_errno(err, errno == ENOMEM ? DLM_ENOMEM : DLM_EIO, "cannot write '%s'", o->dir);
    return rc;
}

int dlm_folder_open(struct dlm_folder *o, const char *name, struct dlm_output *out, struct dlm_error *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", o->made, name) < 0)
        return no_memory(err);
    int rc = dlm_output_open(out, path, err);
    free(path);
    if (!rc)
        fprintf(o->list, "%s\n", name);
    return rc;
}

int dlm_folder_close(struct dlm_output *out, int rc, struct dlm_error *err)
{
    if (!rc)
        return dlm_output_commit(out, err);
    dlm_output_abort(out);
    return rc;
}

int dlm_folder_laws(struct dlm_folder *o, const char *name, const struct dlm_laws *l, struct dlm_error *err)
{
    struct dlm_output out;
    if (!l->n)
        return 0;
    int rc = dlm_folder_open(o, name, &out, err);
    return rc ? rc : dlm_folder_close(&out, dlm_laws_write(l, out.file, name, err), err);
}

int dlm_folder_draw(struct dlm_folder *o, struct dlm_figure *f, int rc, const char *file, const char *tsv, const char *title,
                    struct dlm_error *err)
{
    struct dlm_output out;
    if (rc == DLM_EDATA) { /* nothing to show; the analysis has said why */
        *err = (struct dlm_error){{0}};
        rc = 0;
    } else if (!rc && !o->no_gnuplot) {
        rc = dlm_folder_open(o, file, &out, err);
        if (!rc)
            rc = dlm_folder_close(&out, dlm_plot_draw(f, DLM_PLOT_SVG, out.file, err), err);
        struct dlm_folder_figure *more = rc ? NULL : realloc(o->figures, (o->n_figures + 1) * sizeof *more);
        if (!rc && !more)
            rc = no_memory(err);
        if (!rc) {
            o->figures = more;
            struct dlm_folder_figure *e = &more[o->n_figures++];
            snprintf(e->file, sizeof e->file, "%s", file);
            snprintf(e->tsv, sizeof e->tsv, "%s", tsv);
            snprintf(e->title, sizeof e->title, "%s", title);
        }
    }
    dlm_figure_release(f);
    return rc;
}

static int write_names(struct dlm_folder *o, struct dlm_error *err)
{
    struct dlm_output out;
    int rc = dlm_folder_open(o, "files.txt", &out, err);
    if (rc)
        return rc;
    if (fflush(o->list))
        rc = no_memory(err);
    else
        fprintf(out.file, "%s\n%s", marker, o->names);
    return dlm_folder_close(&out, rc, err);
}

int dlm_folder_end(struct dlm_folder *o, int rc, struct dlm_error *err)
{
    if (!rc)
        rc = write_names(o, err);
    if (!rc && dlm_stop_signal())
        rc = dlm_fail(err, DLM_ESTOPPED, "stopped");
    if (!rc)
        rc = dlm_output_sync_dir(o->made, err);
    if (!rc)
        rc = put_in_place(o->made, o->dir, err);
    else if (o->made)
        dlm_output_remove_dir(o->made);
    if (o->list)
        fclose(o->list);
    free(o->names);
    free(o->figures);
    free(o->made);
    free(o->dir);
    return rc;
}
