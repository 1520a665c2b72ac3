/* Checkpoint directories: written aside, exchanged, recovered (dlm-checkpoint(5)).
 *
 * The order of a save, each step synced before the next:
 *
 *     remove CKPT.old and CKPT.new of an earlier kill · write CKPT.new · link CKPT.STEP · CKPT.new ⇄ CKPT · remove CKPT.new, now the old one
 *
 * Where the file system cannot exchange, the fourth step is CKPT → CKPT.old, CKPT.new → CKPT. CKPT.old exists only from there to the end, so
 * "no CKPT, but a CKPT.old" proves that CKPT.new is complete: that is what recovery reads. A CKPT.new alone proves nothing and is ignored.
 * Files that are not ours and lie in CKPT move along to the new directory; nothing of a person's is ever removed.
 */
#include "model/checkpoint.h"

#include "base/number.h"
#include "base/output.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- names ------------------------------------------------------------------------------------------------------------------- */

static const char *const files[] = {"config.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json", "state.json", "metrics.tsv"};
enum { FILES = sizeof files / sizeof *files };

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* Also the shards of a published checkpoint, which a new model.safetensors replaces. */
static bool is_ours(const char *name)
{
    for (int i = 0; i < FILES; i++)
        if (!strcmp(name, files[i]))
            return true;
    return !strncmp(name, "model", 5) && (ends_in(name, ".safetensors") || ends_in(name, ".safetensors.index.json"));
}

/* DIR/FILE or NAME.SUFFIX; the caller frees it. */
static char *join(const char *a, const char *between, const char *b)
{
    char *s = NULL;
    return asprintf(&s, "%s%s%s", a, between, b) < 0 ? NULL : s;
}

static int no_memory(struct dlm_error *err, const char *what)
{
    return dlm_fail(err, DLM_ENOMEM, "no memory for checkpoint '%s'", what);
}

static bool is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool present(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

/* The three names of a checkpoint. */
struct names {
    char *at, *new, *old; /* CKPT, CKPT.new, CKPT.old; owned */
};

static void names_release(struct names *n)
{
    free(n->at);
    free(n->new);
    free(n->old);
}

static int names_init(struct names *n, const char *ckpt, struct dlm_error *err)
{
    *n = (struct names){0};
    struct stat st;
    n->at = strdup(ckpt);
    if (!n->at)
        return no_memory(err, ckpt);
    for (size_t len = strlen(n->at); len > 1 && n->at[len - 1] == '/'; len--)
        n->at[len - 1] = 0;
    if (!lstat(n->at, &st) && S_ISLNK(st.st_mode) && is_dir(n->at)) { /* exchange the directory, not the link to it */
        char *real = realpath(n->at, NULL);
        if (real) {
            free(n->at);
            n->at = real;
        }
    }
    const char *last = strrchr(n->at, '/') ? strrchr(n->at, '/') + 1 : n->at;
    if (!*last || !strcmp(last, ".") || !strcmp(last, "..")) {
        names_release(n);
        return dlm_fail(err, DLM_EUSAGE, "'%s' cannot be the name of a checkpoint: it has no name to write another one beside", ckpt);
    }
    n->new = join(n->at, ".", "new");
    n->old = join(n->at, ".", "old");
    if (n->new && n->old)
        return 0;
    names_release(n);
    return no_memory(err, ckpt);
}

static int sync_parent(const char *path, struct dlm_error *err)
{
    char *parent = strdup(path);
    if (!parent)
        return no_memory(err, path);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    int rc = dlm_output_sync_dir(slash ? parent : ".", err);
    free(parent);
    return rc;
}

/* --- removing ---------------------------------------------------------------------------------------------------------------- */

/* Remove the checkpoint directory `dir`: our files are unlinked, others move into `heir` (NULL: they stay, and the directory with them, which
 * is an error). Absent is fine. */
static int retire(const char *dir, const char *heir, struct dlm_error *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : dlm_fail_errno(err, DLM_EIO, "cannot remove '%s'", dir);
    int heir_fd = heir ? open(heir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool again; /* readdir may miss entries while others go away */
    do {
        again = false;
        rewinddir(d);
        struct dirent *e;
        while ((e = readdir(d))) {
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
                continue;
            if (is_ours(e->d_name))
                again |= !unlinkat(dirfd(d), e->d_name, 0);
            else if (heir_fd >= 0 && faccessat(heir_fd, e->d_name, F_OK, AT_SYMLINK_NOFOLLOW))
                again |= !renameat(dirfd(d), e->d_name, heir_fd, e->d_name);
        }
    } while (again);
    closedir(d);
    if (heir_fd >= 0)
        close(heir_fd);
    return rmdir(dir) ? dlm_fail_errno(err, DLM_EIO, "cannot remove '%s'", dir) : 0;
}

int dlm_checkpoint_remove(const char *ckpt, struct dlm_error *err)
{
    return retire(ckpt, NULL, err);
}

/* --- finding ----------------------------------------------------------------------------------------------------------------- */

static bool has_file(const char *dir, const char *file)
{
    char *path = join(dir, "/", file);
    bool there = path && !access(path, F_OK);
    free(path);
    return there;
}

static bool is_checkpoint(const char *dir)
{
    return is_dir(dir) && has_file(dir, "config.json") && (has_file(dir, "model.safetensors") || has_file(dir, "model.safetensors.index.json"));
}

/* Where the latest complete checkpoint lies: CKPT itself but for a kill between two renames. */
static const char *where(const struct names *n)
{
    if (present(n->at) || !is_checkpoint(n->old))
        return n->at;
    return is_checkpoint(n->new) ? n->new : n->old;
}

/* Finish by renaming what a kill interrupted. */
static int recover(const struct names *n, struct dlm_error *err)
{
    const char *from = where(n);
    if (from == n->at)
        return 0;
    if (rename(from, n->at)) {
        int saved = errno;
        if (!is_checkpoint(n->at)) { /* another process may have been faster */
            errno = saved;
            return dlm_fail_errno(err, DLM_EIO, "cannot rename '%s' to '%s'", from, n->at);
        }
    }
    return sync_parent(n->at, err);
}

bool dlm_checkpoint_exists(const char *ckpt)
{
    struct dlm_error err;
    struct names n;
    if (names_init(&n, ckpt, &err))
        return is_checkpoint(ckpt); /* a name such as `.` can be read, though not written */
    (void)recover(&n, &err); /* where renaming is not allowed, reading still finds it */
    bool there = is_checkpoint(where(&n));
    names_release(&n);
    return there;
}

/* --- writing ----------------------------------------------------------------------------------------------------------------- */

static int write_text(const char *dir, const char *file, const char *text, size_t len, struct dlm_error *err)
{
    char *path = join(dir, "/", file);
    if (!path)
        return no_memory(err, dir);
    int rc = 0, fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot create '%s'", path);
    for (size_t at = 0; !rc && at < len;) {
        ssize_t k = write(fd, text + at, len - at < (size_t)1 << 30 ? len - at : (size_t)1 << 30);
        if (k > 0)
            at += (size_t)k;
        else if (k == 0 || errno != EINTR)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
    }
    if (!rc && fsync(fd))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
    if (fd >= 0 && close(fd) && !rc)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", path);
    free(path);
    return rc;
}

/* One array in a tensor file: where it comes from, the suffix on its tensors' names, their type. */
struct column {
    const float *data; /* NULL: from the store */
    enum dlm_checkpoint_array array;
    const char *suffix;
    enum dlm_st_type type;
    size_t short_below; /* tensors before this element are BF16 instead */
};

struct columns {
    const struct dlm_layout *layout;
    const struct dlm_checkpoint_store *store;
    const struct column *at;
    size_t n;
};

static int give_piece(void *of, size_t item, size_t at, size_t n, float *to, struct dlm_error *err)
{
    const struct columns *c = of;
    return c->store->give(c->store->of, c->at[item % c->n].array, c->layout->tensors[item / c->n].offset + at, n, to, err);
}

static int write_tensors(const char *dir, const char *file, struct columns *c, struct dlm_error *err)
{
    const size_t n = c->layout->n * c->n;
    struct dlm_st_item *items = calloc(n, sizeof *items);
    char (*name)[88] = calloc(n, sizeof *name);
    char *path = join(dir, "/", file);
    int rc = 0;
    if (!items || !name || !path)
        rc = no_memory(err, dir);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct dlm_tensor *t = &c->layout->tensors[i / c->n];
        const struct column *k = &c->at[i % c->n];
        snprintf(name[i], sizeof *name, "%s%s", t->name, k->suffix);
        items[i] = (struct dlm_st_item){name[i], t->offset < k->short_below ? DLM_ST_BF16 : k->type, t->rank, t->shape, k->data ? k->data + t->offset : NULL};
    }
    if (!rc)
        rc = dlm_st_write_from(path, items, n, c->store ? give_piece : NULL, c, err);
    free(items);
    free(name);
    free(path);
    return rc;
}

static int write_all(const char *dir, const struct dlm_checkpoint_write *w, struct dlm_error *err)
{
    char *config = dlm_config_format(w->config, w->bf16 ? "bfloat16" : "float32");
    if (!config)
        return no_memory(err, dir);
    int rc = write_text(dir, "config.json", config, strlen(config), err);
    free(config);
    if (!rc && w->tokenizer)
        rc = write_text(dir, "tokenizer.json", w->tokenizer, w->tokenizer_len, err);
    if (!rc && w->state)
        rc = write_text(dir, "state.json", w->state, strlen(w->state), err);
    if (!rc && w->metrics)
        rc = write_text(dir, "metrics.tsv", w->metrics, w->metrics_len, err);
    struct column at[4] = {{w->weights, DLM_ARRAY_WEIGHTS, "", w->bf16 ? DLM_ST_BF16 : DLM_ST_F32, 0}};
    struct columns c = {w->layout, w->store, at, 1};
    if (!rc)
        rc = write_tensors(dir, "model.safetensors", &c, err);
    if (!rc && (w->store || (w->mu && w->nu))) {
        at[0] = (struct column){w->mu, DLM_ARRAY_MU, ".mu", DLM_ST_F32, w->short_moments};
        at[1] = (struct column){w->nu, DLM_ARRAY_NU, ".nu", DLM_ST_F32, w->short_moments};
        c.n = 2;
        if (w->bf16)
            at[c.n++] = (struct column){w->weights, DLM_ARRAY_WEIGHTS, ".low", DLM_ST_I16, 0};
        if (w->raw || w->has_raw)
            at[c.n++] = (struct column){w->raw, DLM_ARRAY_RAW, ".raw", DLM_ST_F32, 0};
        rc = write_tensors(dir, "optimizer.safetensors", &c, err);
    }
    return rc ? rc : dlm_output_sync_dir(dir, err);
}

static int make_dir(const char *path, struct dlm_error *err)
{
    return mkdir(path, 0777) ? dlm_fail_errno(err, DLM_EIO, "cannot create directory '%s'", path) : 0;
}

/* `from` under the name `to`, in two directories: a hard link, or a copy where there are no links. */
static int link_file(const char *from_dir, const char *to_dir, const char *file, struct dlm_error *err)
{
    char *from = join(from_dir, "/", file), *to = join(to_dir, "/", file), *text = NULL;
    int rc = from && to ? 0 : no_memory(err, to_dir);
    if (!rc && link(from, to)) {
        FILE *f = errno == ENOSPC || errno == EDQUOT ? NULL : fopen(from, "re");
        if (!f)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot link '%s' to '%s'", from, to);
        int fd = rc ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        const size_t block = (size_t)1 << 20;
        text = malloc(block);
        if (!rc && (fd < 0 || !text))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot create '%s'", to);
        for (size_t k; !rc && (k = fread(text, 1, block, f)) > 0;)
            for (size_t at = 0; !rc && at < k;) {
                ssize_t put = write(fd, text + at, k - at);
                if (put > 0)
                    at += (size_t)put;
                else if (put == 0 || errno != EINTR)
                    rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", to);
            }
        if (!rc && (ferror(f) || fsync(fd)))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot copy '%s' to '%s'", from, to);
        if (fd >= 0 && close(fd) && !rc)
            rc = dlm_fail_errno(err, DLM_EIO, "cannot write '%s'", to);
        if (f)
            fclose(f);
    }
    free(from);
    free(to);
    free(text);
    return rc;
}

/* Put the complete directory n->new in the place of n->at; afterwards n->new is gone or, where `*leftover` says, the old one. */
static int put_in_place(const struct names *n, const char **leftover, struct dlm_error *err)
{
    *leftover = NULL;
    if (!present(n->at))
        return rename(n->new, n->at) ? dlm_fail_errno(err, DLM_EIO, "cannot rename '%s' to '%s'", n->new, n->at) : 0;
    if (!is_dir(n->at))
        return dlm_fail(err, DLM_EIO, "'%s' is in the way: not a directory", n->at);
    if (!renameat2(AT_FDCWD, n->new, AT_FDCWD, n->at, RENAME_EXCHANGE)) {
        *leftover = n->new;
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return dlm_fail_errno(err, DLM_EIO, "cannot exchange '%s' and '%s'", n->new, n->at);
    if (rename(n->at, n->old))
        return dlm_fail_errno(err, DLM_EIO, "cannot rename '%s' to '%s'", n->at, n->old);
    struct dlm_error ignored;
    (void)sync_parent(n->at, &ignored);
    if (rename(n->new, n->at)) {
        int saved = errno;
        if (!is_checkpoint(n->at)) { /* else another process has recovered meanwhile */
            errno = saved;
            int rc = dlm_fail_errno(err, DLM_EIO, "cannot rename '%s' to '%s'", n->new, n->at);
            return rename(n->old, n->at) ? dlm_fail_in(err, rc, "the checkpoint is now '%s'", n->old) : rc;
        }
    }
    *leftover = n->old;
    return 0;
}

/* A second name for the complete directory `from`. */
static int link_as(const char *from, const struct names *k, struct dlm_error *err)
{
    struct dlm_error ignored;
    const char *leftover = NULL;
    int rc = retire(k->new, NULL, err);
    if (!rc)
        rc = recover(k, err);
    if (!rc)
        rc = retire(k->old, k->at, err);
    if (!rc)
        rc = make_dir(k->new, err);
    if (rc)
        return rc;
    for (int i = 0; i < FILES && !rc; i++)
        if (has_file(from, files[i]))
            rc = link_file(from, k->new, files[i], err);
    if (!rc)
        rc = dlm_output_sync_dir(k->new, err);
    if (!rc)
        rc = put_in_place(k, &leftover, err);
    if (rc)
        (void)retire(k->new, NULL, &ignored);
    else if (leftover)
        (void)retire(leftover, k->at, &ignored);
    return rc;
}

int dlm_checkpoint_keep(const char *ckpt, const char *keep_as, struct dlm_error *err)
{
    struct names n, k;
    int rc = names_init(&n, ckpt, err);
    if (rc)
        return rc;
    rc = names_init(&k, keep_as, err);
    if (!rc) {
        rc = link_as(where(&n), &k, err);
        if (!rc)
            rc = sync_parent(k.at, err);
        names_release(&k);
    }
    names_release(&n);
    return rc;
}

static int by_step(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The steps of the checkpoints kept beside `at`, ascending; the caller frees *steps. */
static int kept_steps(const char *at, uint64_t **steps, size_t *n, struct dlm_error *err)
{
    *steps = NULL;
    *n = 0;
    const char *slash = strrchr(at, '/'), *base = slash ? slash + 1 : at;
    char *parent = slash ? strndup(at, (size_t)(slash - at) + 1) : strdup(".");
    DIR *d = parent ? opendir(parent) : NULL;
    int rc = !parent ? no_memory(err, at) : !d ? dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", parent) : 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        size_t len = strlen(base);
        uint64_t step, *more;
        if (strncmp(e->d_name, base, len) || e->d_name[len] != '.' || strspn(e->d_name + len + 1, "0123456789") != strlen(e->d_name + len + 1) ||
            !dlm_number_count(e->d_name + len + 1, &step))
            continue;
        more = realloc(*steps, (*n + 1) * sizeof *more);
        if (!more)
            rc = no_memory(err, at);
        else
            (*steps = more)[(*n)++] = step;
    }
    if (d)
        closedir(d);
    free(parent);
    if (*n)
        qsort(*steps, *n, sizeof **steps, by_step);
    return rc;
}

int dlm_checkpoint_prune(const char *ckpt, uint64_t most, struct dlm_error *err)
{
    struct names n;
    uint64_t *steps;
    size_t count;
    int rc = names_init(&n, ckpt, err);
    if (rc)
        return rc;
    rc = kept_steps(n.at, &steps, &count, err);
    for (size_t i = 0; !rc && i + most < count; i++) {
        char suffix[24];
        snprintf(suffix, sizeof suffix, ".%" PRIu64, steps[i]);
        char *path = join(n.at, suffix, "");
        rc = path ? dlm_checkpoint_remove(path, err) : no_memory(err, ckpt);
        free(path);
    }
    free(steps);
    names_release(&n);
    return rc;
}

static int save(const struct names *n, const struct dlm_checkpoint_write *w, struct dlm_error *err)
{
    struct dlm_error ignored;
    if (present(n->at) && !is_dir(n->at))
        return dlm_fail(err, DLM_EIO, "'%s' is in the way: not a directory", n->at);
    int rc = recover(n, err);
    if (!rc)
        rc = retire(n->old, n->at, err);
    if (!rc)
        rc = retire(n->new, n->at, err);
    if (!rc)
        rc = make_dir(n->new, err);
    if (rc)
        return rc;
    const char *leftover = NULL;
    rc = write_all(n->new, w, err);
    if (!rc)
        rc = put_in_place(n, &leftover, err);
    if (rc) {
        (void)retire(n->new, NULL, &ignored);
        return rc;
    }
    rc = sync_parent(n->at, err);
    if (leftover)
        (void)retire(leftover, n->at, &ignored); /* the new one is in place; what cannot go now, the next save removes */
    return rc;
}

int dlm_checkpoint_save(const char *ckpt, const struct dlm_checkpoint_write *w, struct dlm_error *err)
{
    struct names n;
    int rc = names_init(&n, ckpt, err);
    if (rc)
        return rc;
    rc = save(&n, w, err);
    names_release(&n);
    return rc;
}

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

/* The path of a file of the checkpoint; the caller frees it. */
static int file_of(const char *ckpt, const char *file, char **path, struct dlm_error *err)
{
    struct names n;
    struct dlm_error ignored;
    if (names_init(&n, ckpt, &ignored))
        *path = join(ckpt, "/", file);
    else {
        *path = join(where(&n), "/", file);
        names_release(&n);
    }
    return *path ? 0 : no_memory(err, ckpt);
}

/* A checkpoint that is not there at all is told as such, not by its first file. */
static int check_there(const char *ckpt, struct dlm_error *err)
{
    char *path;
    int rc = file_of(ckpt, "", &path, err);
    if (rc)
        return rc;
    struct stat st;
    if (stat(path, &st))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot open checkpoint '%s'", ckpt);
    free(path);
    return rc;
}

int dlm_checkpoint_config(const char *ckpt, struct dlm_config *c, struct dlm_error *err)
{
    char *path;
    int rc = check_there(ckpt, err);
    if (rc || (rc = file_of(ckpt, "config.json", &path, err)))
        return rc;
    rc = dlm_config_read(c, path, err);
    free(path);
    return rc;
}

/* Where the elements of tensor `i` of the layout go, and under what name a file holds them. */
struct wanted {
    const struct dlm_layout *layout;
    const char *suffix;
    float *to; /* NULL: only see that all is there, or it goes to the store */
    bool low;  /* what the rounding to bf16 took from the elements that stand there */
    const struct dlm_checkpoint_store *store;
    enum dlm_checkpoint_array array;
};

static int check_tensor(const struct dlm_st_file *f, const struct dlm_st_entry *e, const struct dlm_tensor *t, bool low, struct dlm_error *err)
{
    if (e->rank != t->rank || e->shape[0] != t->shape[0] || (t->rank == 2 && e->shape[1] != t->shape[1])) {
        char got[128] = "", want[64];
        size_t at = 0;
        for (unsigned i = 0; i < e->rank && at < sizeof got - 24; i++)
            at += (size_t)snprintf(got + at, sizeof got - at, "%s%zu", i ? ", " : "", e->shape[i]);
        snprintf(want, sizeof want, t->rank == 2 ? "%zu, %zu" : "%zu", t->shape[0], t->shape[1]);
        return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' has shape (%s), and config.json asks for (%s)", f->path, e->name, got, want);
    }
    if (low && e->type != DLM_ST_I16)
        return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' is not I16", f->path, e->name);
    if (!low && e->type != DLM_ST_F32 && e->type != DLM_ST_BF16)
        return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' is neither F32 nor BF16", f->path, e->name);
    return 0;
}

/* Elements [at, at + n) of a tensor into `to`, which holds them already where they are to be completed. */
static int read_part(const struct dlm_st_file *f, const struct dlm_st_entry *e, const struct wanted *w, size_t at, size_t n, float *to, struct dlm_error *err)
{
    bool not_negative = !strcmp(w->suffix, ".nu");
    int rc = w->low ? dlm_st_add_low_part(f, e, at, n, to, err) : dlm_st_read_part(f, e, at, n, to, err);
    for (size_t i = 0; !rc && i < n; i++)
        if (!isfinite(to[i]) || (not_negative && to[i] < 0))
            rc = dlm_fail(err, DLM_EDATA, "%s: element %zu of tensor '%s' is %g", f->path, at + i, e->name, (double)to[i]);
    return rc;
}

static int read_tensor(const struct dlm_st_file *f, const struct dlm_st_entry *e, const struct dlm_tensor *t, const struct wanted *w, struct dlm_error *err)
{
    if (!w->store)
        return read_part(f, e, w, 0, t->n, w->to + t->offset, err);
    const size_t most = t->n < DLM_ST_PIECE ? t->n : DLM_ST_PIECE;
    float *piece = malloc(most * sizeof *piece);
    int rc = piece ? 0 : no_memory(err, f->path);
    for (size_t at = 0; !rc && at < t->n; at += most) {
        const size_t n = t->n - at < most ? t->n - at : most;
        if (w->low)
            rc = w->store->give(w->store->of, w->array, t->offset + at, n, piece, err);
        rc = rc ? rc : read_part(f, e, w, at, n, piece, err);
        rc = rc ? rc : w->store->take(w->store->of, w->array, t->offset + at, n, piece, err);
    }
    free(piece);
    return rc;
}

/* Fill every wanted array from the open files, and refuse what they hold beyond it. `whole` names the set in errors. */
static int read_tensors(struct dlm_st_file *const *open_files, size_t n_files, const char *whole, const struct wanted *w, size_t n_wanted,
                        struct dlm_error *err)
{
    size_t held = 0;
    const struct dlm_layout *l = w->layout;
    for (size_t k = 0; k < n_wanted; k++)
        if (w[k].to && !w[k].low)
            memset(w[k].to, 0, l->total * sizeof *w[k].to);
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < n_wanted; k++) {
            const struct dlm_tensor *t = &l->tensors[i];
            char name[96];
            snprintf(name, sizeof name, "%s%s", t->name, w[k].suffix);
            const struct dlm_st_entry *e = NULL;
            size_t in = 0;
            for (size_t f = 0; f < n_files; f++) {
                const struct dlm_st_entry *found = dlm_st_find(open_files[f], name);
                if (found && e)
                    return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' is also in '%s'", open_files[f]->path, name, open_files[in]->path);
                if (found) {
                    e = found;
                    in = f;
                }
            }
            if (!e)
                return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' is missing", whole, name);
            int rc = check_tensor(open_files[in], e, t, w[k].low, err);
            if (!rc && (w[k].to || w[k].store))
                rc = read_tensor(open_files[in], e, t, &w[k], err);
            if (rc)
                return rc;
            held++;
        }
    /* Every wanted name was found once, so any further entry is one that nobody asked for. */
    size_t there = 0;
    for (size_t f = 0; f < n_files; f++)
        there += open_files[f]->n;
    if (there == held)
        return 0;
    for (size_t f = 0; f < n_files; f++)
        for (size_t j = 0; j < open_files[f]->n; j++) {
            const char *name = open_files[f]->entries[j].name;
            bool known = false;
            for (size_t i = 0; i < l->n && !known; i++) {
                size_t len = strlen(l->tensors[i].name);
                for (size_t k = 0; k < n_wanted && !known && !strncmp(name, l->tensors[i].name, len); k++)
                    known = !strcmp(name + len, w[k].suffix);
            }
            if (!known)
                return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' has no place in this model", open_files[f]->path, name);
        }
    return dlm_fail(err, DLM_EDATA, "%s: more tensors than the model has", whole);
}

static int read_one(const char *path, const struct wanted *w, size_t n_wanted, struct dlm_error *err)
{
    struct dlm_st_file f, *all[] = {&f};
    int rc = dlm_st_open(&f, path, err);
    if (rc)
        return rc;
    rc = read_tensors(all, 1, path, w, n_wanted, err);
    dlm_st_close(&f);
    return rc;
}

/* The shards that an index names, opened; each tensor of the index must lie in the shard it names, and the other way round. */
struct shards {
    struct dlm_st_file *files, **all;
    char **names;
    size_t n, most;
};

static int add_shard(struct shards *s, const char *dir, const char *index, const char *name, size_t *at, struct dlm_error *err)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->names[i], name)) {
            *at = i;
            return 0;
        }
    if (strchr(name, '/') || !ends_in(name, ".safetensors"))
        return dlm_fail(err, DLM_EDATA, "%s: '%s' is not the name of a shard", index, name);
    char *path = join(dir, "/", name);
    s->names[s->n] = strdup(name);
    int rc = path && s->names[s->n] ? dlm_st_open(&s->files[s->n], path, err) : no_memory(err, dir);
    if (rc) {
        free(s->names[s->n]);
        s->names[s->n] = NULL;
    } else {
        s->all[s->n] = &s->files[s->n];
        *at = s->n++;
    }
    free(path);
    return rc;
}

static int open_shards(struct shards *s, const char *dir, const char *index, json_t *root, struct dlm_error *err)
{
    json_t *map = json_object_get(root, "weight_map"), *v;
    const char *tensor;
    if (!json_is_object(map))
        return dlm_fail(err, DLM_EDATA, "%s: 'weight_map' is missing", index);
    s->most = json_object_size(map);
    s->files = calloc(s->most + 1, sizeof *s->files);
    s->all = calloc(s->most + 1, sizeof *s->all);
    s->names = calloc(s->most + 1, sizeof *s->names);
    if (!s->files || !s->all || !s->names)
        return no_memory(err, dir);
    json_object_foreach(map, tensor, v) {
        size_t at = 0;
        if (!json_is_string(v))
            return dlm_fail(err, DLM_EDATA, "%s: '%s' has no file name", index, tensor);
        int rc = add_shard(s, dir, index, json_string_value(v), &at, err);
        if (rc)
            return rc;
        if (!dlm_st_find(&s->files[at], tensor))
            return dlm_fail(err, DLM_EDATA, "%s: tensor '%s', which '%s' places there, is missing", s->files[at].path, tensor, index);
    }
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j < s->files[i].n; j++) {
            const char *name = s->files[i].entries[j].name, *place = json_string_value(json_object_get(map, name));
            if (!place || strcmp(place, s->names[i]))
                return dlm_fail(err, DLM_EDATA, "%s: tensor '%s' is not placed there by '%s'", s->files[i].path, name, index);
        }
    return 0;
}

static int read_sharded(const char *index, const struct wanted *w, struct dlm_error *err)
{
    json_error_t at;
    json_t *root = json_load_file(index, JSON_REJECT_DUPLICATES, &at);
    if (!root)
        return dlm_fail(err, DLM_EDATA, "%s: line %d: %s", index, at.line, at.text);
    char *dir = strdup(index);
    struct shards s = {0};
    int rc = dir ? 0 : no_memory(err, index);
    if (!rc) {
        *strrchr(dir, '/') = 0;
        rc = open_shards(&s, dir, index, root, err);
    }
    if (!rc)
        rc = read_tensors(s.all, s.n, index, w, 1, err);
    for (size_t i = 0; i < s.n; i++) {
        dlm_st_close(&s.files[i]);
        free(s.names[i]);
    }
    free(s.files);
    free(s.all);
    free(s.names);
    free(dir);
    json_decref(root);
    return rc;
}

static int weights(const char *ckpt, const struct dlm_layout *l, float *w, const struct dlm_checkpoint_store *store, struct dlm_error *err)
{
    char *path = NULL, *index = NULL;
    struct wanted want = {.layout = l, .suffix = "", .to = w, .store = store, .array = DLM_ARRAY_WEIGHTS};
    int rc = check_there(ckpt, err);
    if (!rc)
        rc = file_of(ckpt, "model.safetensors", &path, err);
    if (!rc)
        rc = file_of(ckpt, "model.safetensors.index.json", &index, err);
    if (!rc)
        rc = access(path, F_OK) && !access(index, F_OK) ? read_sharded(index, &want, err) : read_one(path, &want, 1, err);
    free(path);
    free(index);
    return rc;
}

int dlm_checkpoint_fits(const char *ckpt, const struct dlm_layout *l, struct dlm_error *err)
{
    return weights(ckpt, l, NULL, NULL, err);
}

int dlm_checkpoint_weights(const char *ckpt, const struct dlm_layout *l, float *w, struct dlm_error *err)
{
    return weights(ckpt, l, w, NULL, err);
}

static int optimizer_state(const char *ckpt, const struct wanted *want, size_t n, struct dlm_error *err)
{
    char *path;
    int rc = check_there(ckpt, err);
    if (rc || (rc = file_of(ckpt, "optimizer.safetensors", &path, err)))
        return rc;
    rc = read_one(path, want, n, err);
    free(path);
    return rc;
}

int dlm_checkpoint_moments(const char *ckpt, const struct dlm_layout *l, float *w, float *raw, float *mu, float *nu, struct dlm_error *err)
{
    struct wanted want[4] = {{.layout = l, .suffix = ".mu", .to = mu}, {.layout = l, .suffix = ".nu", .to = nu}};
    size_t n = 2;
    if (w)
        want[n++] = (struct wanted){.layout = l, .suffix = ".low", .to = w, .low = true};
    if (raw)
        want[n++] = (struct wanted){.layout = l, .suffix = ".raw", .to = raw};
    return optimizer_state(ckpt, want, n, err);
}

int dlm_checkpoint_load(const char *ckpt, const struct dlm_layout *l, const struct dlm_checkpoint_store *store, bool moments, bool low, bool raw,
                        struct dlm_error *err)
{
    struct wanted want[4] = {{.layout = l, .suffix = ".mu", .store = store, .array = DLM_ARRAY_MU},
                             {.layout = l, .suffix = ".nu", .store = store, .array = DLM_ARRAY_NU}};
    size_t n = 2;
    if (low)
        want[n++] = (struct wanted){.layout = l, .suffix = ".low", .low = true, .store = store, .array = DLM_ARRAY_WEIGHTS};
    if (raw)
        want[n++] = (struct wanted){.layout = l, .suffix = ".raw", .store = store, .array = DLM_ARRAY_RAW};
    int rc = weights(ckpt, l, NULL, store, err);
    return rc || !moments ? rc : optimizer_state(ckpt, want, n, err);
}

int dlm_checkpoint_text(const char *ckpt, const char *file, char **text, size_t *len, struct dlm_error *err)
{
    char *path, *s = NULL;
    size_t n = 0, room = 0;
    int rc = check_there(ckpt, err);
    if (rc || (rc = file_of(ckpt, file, &path, err)))
        return rc;
    struct stat st;
    FILE *f = fopen(path, "re");
    if (!f)
        rc = dlm_fail_errno(err, DLM_EIO, "cannot open '%s'", path);
    else if (fstat(fileno(f), &st))
        rc = dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
    else if (!S_ISREG(st.st_mode))
        rc = dlm_fail(err, DLM_EDATA, "%s: not a regular file", path);
    while (!rc) {
        if (room - n < 2) {
            room = room ? 2 * room : (size_t)st.st_size + 2;
            char *more = realloc(s, room);
            if (!more) {
                rc = no_memory(err, ckpt);
                break;
            }
            s = more;
        }
        size_t k = fread(s + n, 1, room - n - 1, f);
        n += k;
        if (k)
            continue;
        if (ferror(f))
            rc = dlm_fail_errno(err, DLM_EIO, "cannot read '%s'", path);
        break;
    }
    if (f)
        fclose(f);
    free(path);
    if (rc) {
        free(s);
        return rc;
    }
    s[n] = 0;
    *text = s;
    *len = n;
    return 0;
}
