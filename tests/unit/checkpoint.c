/* Checkpoints: what is saved is read back; whatever fails, and wherever a kill falls, the latest complete one stays readable. */
#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the system, with faults ------------------------------------------------------------------------------------------------- */

static int calls_until_kill = -1; /* the call of this number is never made: the process is gone */
static int rename_fails_at = -1;  /* this rename fails */
static bool no_exchange, no_links;

static void step(void)
{
    if (calls_until_kill >= 0 && calls_until_kill-- == 0)
        _exit(42);
}

/* These stand before the C library's own. */
int rename(const char *from, const char *to)
{
    step();
    if (rename_fails_at >= 0 && rename_fails_at-- == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    step();
    if (no_exchange) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int link(const char *from, const char *to)
{
    step();
    if (no_links) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int mkdir(const char *path, mode_t mode)
{
    step();
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int unlinkat(int fd, const char *path, int flags)
{
    step();
    return (int)syscall(SYS_unlinkat, fd, path, flags);
}

int rmdir(const char *path)
{
    step();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int fsync(int fd)
{
    step(); /* and the disk is spared */
    struct stat st;
    return fstat(fd, &st);
}

/* --- a small model ----------------------------------------------------------------------------------------------------------- */

static char dir[] = "/tmp/dlm-checkpoint-XXXXXX";
static char ckpt[64], kept[64];
static struct dlm_config config;
static struct dlm_layout layout;
static float *weights, *mu, *nu, *a, *b;
static const char tokenizer[] = "{\"version\": \"1.0\"}", metrics[] = "run\tkind\nx\ttrain\n";

/* Contents that depend on `version` alone. */
static struct dlm_checkpoint_write contents(int version)
{
    static char state[64];
    for (size_t i = 0; i < layout.n; i++)
        for (size_t j = 0; j < layout.tensors[i].n; j++) {
            size_t at = layout.tensors[i].offset + j;
            weights[at] = sinf((float)(at + 1) * (float)(version + 1));
            mu[at] = weights[at] * 0.1f;
            nu[at] = weights[at] * weights[at];
        }
    snprintf(state, sizeof state, "{\"step\": %d}", version);
    return (struct dlm_checkpoint_write){.config = &config, .layout = &layout, .weights = weights, .mu = mu, .nu = nu, .tokenizer = tokenizer,
                                         .tokenizer_len = sizeof tokenizer - 1, .state = state, .metrics = metrics,
                                         .metrics_len = sizeof metrics - 1};
}

/* As training does: what is there is kept first. */
static int save(int version, const char *keep_as, struct dlm_error *err)
{
    struct dlm_checkpoint_write w = contents(version);
    *err = (struct dlm_error){""};
    int rc = keep_as && dlm_checkpoint_exists(ckpt) ? dlm_checkpoint_keep(ckpt, keep_as, err) : 0;
    return rc ? rc : dlm_checkpoint_save(ckpt, &w, err);
}

/* The version that `path` holds, every byte of it, or -1. */
static int version_of(const char *path)
{
    struct dlm_error err;
    char *text;
    size_t len;
    int version = -1;
    if (dlm_checkpoint_text(path, "state.json", &text, &len, &err))
        return -1;
    if (sscanf(text, "{\"step\": %d}", &version) != 1)
        version = -1;
    free(text);
    struct dlm_config c;
    if (version < 0 || dlm_checkpoint_config(path, &c, &err) || c.width != config.width || dlm_checkpoint_weights(path, &layout, a, &err))
        return -1;
    (void)contents(version);
    if (memcmp(a, weights, layout.total * sizeof *a) || dlm_checkpoint_moments(path, &layout, NULL, NULL, a, b, &err))
        return -1;
    return memcmp(a, mu, layout.total * sizeof *a) || memcmp(b, nu, layout.total * sizeof *b) ? -1 : version;
}

/* Entries of a directory. */
static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void wipe(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char inner[400];
    if (!d) {
        unlink(path);
        return;
    }
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
            snprintf(inner, sizeof inner, "%.100s/%s", path, e->d_name);
            if (unlink(inner))
                wipe(inner);
        }
    closedir(d);
    rmdir(path);
}

static void fresh(void)
{
    wipe(dir);
    if (mkdir(dir, 0700))
        abort();
    no_exchange = no_links = false;
    calls_until_kill = rename_fails_at = -1;
}

static const char *file(const char *base, const char *name)
{
    static char path[2][160];
    static int which;
    which = !which;
    snprintf(path[which], sizeof *path, "%.64s/%.80s", base, name);
    return path[which];
}

/* --- tests ------------------------------------------------------------------------------------------------------------------- */

static void test_save(bool exchange)
{
    const char *how = exchange ? "exchanged" : "renamed twice";
    struct dlm_error err;
    struct stat x, y;
    fresh();
    no_exchange = !exchange;
    tap_ok(!dlm_checkpoint_exists(ckpt), "nothing there yet (%s)", how);
    tap_ok(!save(1, NULL, &err) && dlm_checkpoint_exists(ckpt) && version_of(ckpt) == 1, "saved and read back to the bit: %s", err.msg);
    tap_ok(entries(dir) == 1 && entries(ckpt) == 6, "six files, nothing beside");
    char *text = NULL;
    size_t len = 0;
    tap_ok(!dlm_checkpoint_text(ckpt, "tokenizer.json", &text, &len, &err) && len == sizeof tokenizer - 1 && !strcmp(text, tokenizer), "texts are as given");
    free(text);
    FILE *f = fopen(file(ckpt, "notes.txt"), "w");
    if (!f || fclose(f))
        abort();
    tap_ok(!save(2, kept, &err) && version_of(ckpt) == 2 && version_of(kept) == 1, "replaced and kept: %s", err.msg);
    tap_ok(entries(dir) == 2 && !access(file(ckpt, "notes.txt"), F_OK), "a file that is not ours stays");
    tap_ok(!dlm_checkpoint_keep(ckpt, kept, &err) && !stat(file(ckpt, "model.safetensors"), &x) && !stat(file(kept, "model.safetensors"), &y) &&
               x.st_ino == y.st_ino && x.st_nlink == 2, "the kept one shares the bytes");
    tap_ok(!save(3, NULL, &err) && version_of(ckpt) == 3 && version_of(kept) == 2 && entries(dir) == 2, "and stays as it was");
    no_links = true;
    tap_ok(!save(4, kept, &err) && version_of(ckpt) == 4 && version_of(kept) == 3 && entries(dir) == 2, "without hard links it is copied: %s", err.msg);
    tap_ok(!stat(file(kept, "model.safetensors"), &y) && y.st_nlink == 1, "indeed");
    tap_ok(!dlm_checkpoint_remove(kept, &err) && entries(dir) == 1 && !dlm_checkpoint_remove(kept, &err), "a kept one is removed");
    tap_ok(dlm_checkpoint_remove(ckpt, &err) == DLM_EIO && !access(file(ckpt, "notes.txt"), F_OK), "but never a person's file: %s", err.msg);
}

static void test_prune(void)
{
    static const char *const suffixes[] = {".5", ".40", ".300", ".x", ".40x"};
    struct dlm_error err;
    char path[80];
    fresh();
    if (save(1, NULL, &err))
        abort();
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s%s", ckpt, suffixes[i]);
        if (dlm_checkpoint_keep(ckpt, path, &err))
            abort();
    }
    tap_ok(!dlm_checkpoint_prune(ckpt, 3, &err) && entries(dir) == 6, "three of three are kept: %s", err.msg);
    tap_ok(!dlm_checkpoint_prune(ckpt, 2, &err) && entries(dir) == 5, "two of three");
    snprintf(path, sizeof path, "%s.5", ckpt);
    tap_ok(access(path, F_OK) && version_of(ckpt) == 1, "the lowest number went");
    tap_ok(!dlm_checkpoint_prune(ckpt, 0, &err) && entries(dir) == 3, "names that are no number stay");
}

static void test_bf16(void)
{
    struct dlm_error err;
    struct dlm_config c;
    struct dlm_checkpoint_write w = contents(1);
    fresh();
    w.bf16 = true;
    tap_ok(!dlm_checkpoint_save(ckpt, &w, &err), "saved in bf16");
    double worst = 0;
    if (!dlm_checkpoint_weights(ckpt, &layout, a, &err))
        for (size_t i = 0; i < layout.total; i++)
            worst = fmax(worst, weights[i] ? fabs(a[i] / weights[i] - 1) : a[i] != 0);
    tap_ok(worst > 0 && worst <= 0x1p-8, "read back to eight bits");
    struct stat x;
    tap_ok(!stat(file(ckpt, "model.safetensors"), &x) && x.st_size < (off_t)(layout.total * 3), "in half the bytes");
    float *whole = calloc(layout.total, sizeof *whole);
    if (!whole)
        abort();
    tap_ok(!dlm_checkpoint_config(ckpt, &c, &err), "with config");
    tap_ok(!dlm_checkpoint_weights(ckpt, &layout, whole, &err) && !dlm_checkpoint_moments(ckpt, &layout, whole, NULL, a, b, &err) &&
               !memcmp(whole, weights, layout.total * sizeof *whole) && !memcmp(a, mu, layout.total * sizeof *a) && !memcmp(b, nu, layout.total * sizeof *b),
           "the optimizer's file makes weights and moments whole again, to the bit");
    tap_ok(dlm_checkpoint_moments(ckpt, &layout, whole, NULL, a, b, &err) == DLM_EDATA && strstr(err.msg, "completes a BF16 tensor"), "but not weights that are whole: %s",
           err.msg);
    tap_ok(dlm_checkpoint_moments(ckpt, &layout, NULL, NULL, a, b, &err) == DLM_EDATA && strstr(err.msg, ".low' has no place"), "nobody asked for the rest: %s", err.msg);
    struct dlm_st_file f;
    const struct dlm_st_entry *e;
    bool types = !dlm_st_open(&f, file(ckpt, "optimizer.safetensors"), &err);
    for (size_t i = 0; types && i < layout.n; i++) {
        static const char *const suffix[] = {".mu", ".nu", ".low"};
        for (int k = 0; k < 3; k++) {
            char name[100];
            snprintf(name, sizeof name, "%s%s", layout.tensors[i].name, suffix[k]);
            e = dlm_st_find(&f, name);
            types = types && e && e->type == (k < 2 ? DLM_ST_F32 : DLM_ST_I16) && e->n == layout.tensors[i].n;
        }
    }
    tap_ok(types && f.n == 3 * layout.n, "moments are F32, what was rounded off is I16");
    dlm_st_close(&f);
    w.bf16 = false;
    tap_ok(!dlm_checkpoint_save(ckpt, &w, &err) && !dlm_checkpoint_weights(ckpt, &layout, whole, &err) &&
               dlm_checkpoint_moments(ckpt, &layout, whole, NULL, a, b, &err) == DLM_EDATA && strstr(err.msg, ".low' is missing"),
           "a float32 checkpoint has no such rest: %s", err.msg);
    float *raw = calloc(layout.total, sizeof *raw), *back = calloc(layout.total, sizeof *back);
    if (!raw || !back)
        abort();
    for (size_t i = 0; i < layout.n; i++)
        for (size_t j = 0; j < layout.tensors[i].n; j++)
            raw[layout.tensors[i].offset + j] = weights[layout.tensors[i].offset + j] * 1.1f + 1;
    for (int half = 0; half < 2; half++) {
        w.bf16 = half;
        w.raw = raw;
        bool read = !dlm_checkpoint_save(ckpt, &w, &err) && !dlm_checkpoint_weights(ckpt, &layout, whole, &err) &&
                    !dlm_checkpoint_moments(ckpt, &layout, half ? whole : NULL, back, a, b, &err);
        tap_ok(read && !memcmp(whole, weights, layout.total * sizeof *whole) && !memcmp(back, raw, layout.total * sizeof *raw) &&
                   !memcmp(a, mu, layout.total * sizeof *a) && !memcmp(b, nu, layout.total * sizeof *b),
               "weights, raw weights and moments, %s: %s", half ? "bf16" : "f32", err.msg);
        tap_ok(dlm_checkpoint_moments(ckpt, &layout, half ? whole : NULL, NULL, a, b, &err) == DLM_EDATA, "raw weights that nobody asked for: %s", err.msg);
    }
    free(raw), free(back);
    free(whole);
    w = contents(1);
    w.mu = w.nu = NULL;
    w.state = w.metrics = w.tokenizer = NULL;
    tap_ok(!dlm_checkpoint_save(ckpt, &w, &err) && entries(ckpt) == 2, "weights and shape alone are two files");
    tap_ok(dlm_checkpoint_moments(ckpt, &layout, NULL, NULL, a, b, &err) == DLM_EIO, "moments that are not there: %s", err.msg);
    char *text;
    size_t len;
    tap_ok(dlm_checkpoint_text(ckpt, "state.json", &text, &len, &err) == DLM_EIO, "nor a state: %s", err.msg);
}

/* A disk that fills at any point: files may not grow beyond `limit`. */
/* --- arrays that are given and taken in pieces ------------------------------------------------------------------------------- */

struct held {
    float *array[4]; /* by enum dlm_checkpoint_array */
    size_t n, most, calls, fail_at;
};

static int held_give(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, float *to, struct dlm_error *err)
{
    struct held *h = of;
    if (h->calls++ == h->fail_at)
        return dlm_fail(err, DLM_EIO, "no answer");
    h->most = n > h->most ? n : h->most;
    memcpy(to, h->array[array] + at, n * sizeof *to);
    return 0;
}

static int held_take(void *of, enum dlm_checkpoint_array array, size_t at, size_t n, const float *from, struct dlm_error *err)
{
    struct held *h = of;
    if (h->calls++ == h->fail_at)
        return dlm_fail(err, DLM_EIO, "no room");
    memcpy(h->array[array] + at, from, n * sizeof *from);
    return 0;
}

static struct held held_new(size_t n)
{
    struct held h = {.n = n, .fail_at = SIZE_MAX};
    for (int i = 0; i < 4; i++)
        if (!(h.array[i] = calloc(n, sizeof(float))))
            abort();
    return h;
}

static void held_free(struct held *h)
{
    for (int i = 0; i < 4; i++)
        free(h->array[i]);
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *s = f && !fstat(fileno(f), &st) ? malloc((size_t)st.st_size + 1) : NULL;
    *n = s ? fread(s, 1, (size_t)st.st_size, f) : 0;
    if (f)
        fclose(f);
    return s;
}

static void test_store(void)
{
    struct dlm_error err = {""};
    struct dlm_config c;
    struct dlm_layout l;
    dlm_config_default(&c, 8, 1, 1, 0, 140000, 16); /* two tensors of more than a piece */
    fresh();
    if (dlm_layout_init(&l, &c, &err))
        abort();
    struct held from = held_new(l.total), to = held_new(l.total);
    const struct dlm_checkpoint_store give = {&from, held_give, held_take}, take = {&to, held_give, held_take};
    for (size_t i = 0; i < l.n; i++)
        for (size_t j = l.tensors[i].offset; j < l.tensors[i].offset + l.tensors[i].n; j++) {
            from.array[DLM_ARRAY_WEIGHTS][j] = sinf((float)j);
            from.array[DLM_ARRAY_RAW][j] = cosf((float)j);
            from.array[DLM_ARRAY_MU][j] = (float)(j % 129) - 64; /* bf16 numbers */
            from.array[DLM_ARRAY_NU][j] = (float)(j % 257);
        }
    for (int half = 0; half < 2; half++) {
        struct dlm_checkpoint_write w = {.config = &c, .layout = &l, .weights = from.array[DLM_ARRAY_WEIGHTS], .raw = from.array[DLM_ARRAY_RAW],
                                         .mu = from.array[DLM_ARRAY_MU], .nu = from.array[DLM_ARRAY_NU], .bf16 = half};
        size_t n[4];
        int rc = dlm_checkpoint_save(ckpt, &w, &err);
        char *a0 = slurp(file(ckpt, "model.safetensors"), &n[0]), *a1 = slurp(file(ckpt, "optimizer.safetensors"), &n[1]);
        w = (struct dlm_checkpoint_write){.config = &c, .layout = &l, .store = &give, .has_raw = true, .bf16 = half};
        rc = rc ? rc : dlm_checkpoint_save(ckpt, &w, &err);
        char *b0 = slurp(file(ckpt, "model.safetensors"), &n[2]), *b1 = slurp(file(ckpt, "optimizer.safetensors"), &n[3]);
        tap_ok(!rc && n[0] && n[0] == n[2] && n[1] == n[3] && !memcmp(a0, b0, n[0]) && !memcmp(a1, b1, n[1]) && from.most == DLM_ST_PIECE,
               "given in pieces, a checkpoint has the same bytes (%s)", half ? "bf16" : "f32");
        free(a0), free(a1), free(b0), free(b1);
        for (int i = 0; i < 4; i++)
            memset(to.array[i], 0, l.total * sizeof(float));
        rc = dlm_checkpoint_load(ckpt, &l, &take, true, half, true, &err);
        bool same = !rc;
        for (int i = 0; i < 4; i++)
            same = same && !memcmp(from.array[i], to.array[i], l.total * sizeof(float));
        tap_ok(same, "and is taken back to the bit");
    }
    struct dlm_checkpoint_write w = {.config = &c, .layout = &l, .store = &give, .short_moments = dlm_layout_find(&l, DLM_TENSOR_FINAL_NORM, 0)->offset};
    struct stat x;
    int rc = dlm_checkpoint_save(ckpt, &w, &err);
    tap_ok(!rc && !stat(file(ckpt, "optimizer.safetensors"), &x) && x.st_size < (off_t)(l.total * 5), "short moments take half the bytes");
    const size_t last = dlm_layout_find(&l, DLM_TENSOR_FINAL_NORM, 0)->offset;
    from.array[DLM_ARRAY_MU][last] = 1 + 0x1p-20f; /* the others keep every bit */
    rc = rc ? rc : dlm_checkpoint_save(ckpt, &w, &err);
    memset(to.array[DLM_ARRAY_MU], 0, l.total * sizeof(float));
    rc = rc ? rc : dlm_checkpoint_load(ckpt, &l, &take, true, false, false, &err);
    tap_ok(!rc && !memcmp(from.array[DLM_ARRAY_MU], to.array[DLM_ARRAY_MU], l.total * sizeof(float)) &&
               !memcmp(from.array[DLM_ARRAY_NU], to.array[DLM_ARRAY_NU], l.total * sizeof(float)), "and come back");
    from.calls = 0;
    from.fail_at = l.n; /* past the first two large tensors */
    rc = dlm_checkpoint_save(ckpt, &w, &err);
    tap_ok(rc == DLM_EIO && !strcmp(err.msg, "no answer") && entries(dir) == 1, "what cannot be given is an error: %s", err.msg);
    to.calls = 0;
    to.fail_at = 5;
    tap_ok(dlm_checkpoint_load(ckpt, &l, &take, true, false, false, &err) == DLM_EIO && !strcmp(err.msg, "no room"), "so is what cannot be taken; the old one stands");
    held_free(&from);
    held_free(&to);
    dlm_layout_release(&l);
}

static void test_full_disk(void)
{
    struct dlm_error err;
    struct stat x;
    fresh();
    if (save(1, NULL, &err) || stat(file(ckpt, "optimizer.safetensors"), &x))
        abort();
    int bad = 0, failed = 0;
    for (off_t limit = 0; limit < x.st_size; limit += limit < 2000 ? 100 : 3000) {
        pid_t child = fork();
        if (!child) {
            signal(SIGXFSZ, SIG_IGN);
            struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
            setrlimit(RLIMIT_FSIZE, &r);
            int rc = save(2, NULL, &err);
            _exit(rc == DLM_EIO && strstr(err.msg, "File too large") ? 0 : 1);
        }
        int status;
        waitpid(child, &status, 0);
        failed += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        bad += !WIFEXITED(status) || WEXITSTATUS(status) || version_of(ckpt) != 1 || entries(dir) != 1;
    }
    tap_ok(!bad && failed > 20, "%d full disks: told, the old one intact, nothing beside", failed);
}

static void test_failing_renames(void)
{
    struct dlm_error err;
    for (int exchange = 0; exchange < 2; exchange++)
        for (int at = 0; at < 2 + !exchange; at++) {
            fresh();
            if (save(1, NULL, &err))
                abort();
            no_exchange = !exchange;
            rename_fails_at = at; /* the first is that of the kept copy */
            int rc = save(2, kept, &err);
            if (exchange && at == 1)
                tap_ok(!rc && version_of(ckpt) == 2, "no second rename where directories are exchanged");
            else
                tap_ok(rc == DLM_EIO && version_of(ckpt) == 1 && entries(dir) == 1 + (at > 0), "rename %d fails: %s", at, err.msg);
        }
}

/* Killed before the n-th call that changes the disk, for every n. */
static void test_kills(bool exchange, bool with_old)
{
    struct dlm_error err;
    int n = 0, bad = 0, seen[4] = {0};
    for (bool done = false; !done && n < 400; n++) {
        fresh();
        if (with_old && save(1, NULL, &err))
            abort();
        no_exchange = !exchange;
        pid_t child = fork();
        if (!child) {
            calls_until_kill = n;
            _exit(save(2, kept, &err) ? 1 : 0);
        }
        int status;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != 42))
            bad++;
        done = WEXITSTATUS(status) == 0;
        int version = version_of(ckpt); /* a reader that changes nothing */
        bool there = dlm_checkpoint_exists(ckpt);
        bad += there != (version >= 0) || version_of(ckpt) != version || (with_old && !there);
        bad += there && (access(ckpt, F_OK) || (!with_old && version != 2)); /* and by now it bears its own name */
        seen[version < 0 ? 0 : version]++;
        bad += done && version != 2;
        int k = version_of(kept);
        bad += k != -1 && (k != 1 || !with_old);
        /* The next save cleans up. */
        bad += save(3, kept, &err) || version_of(ckpt) != 3 || version_of(kept) != version || entries(dir) != 1 + (version >= 0);
    }
    tap_ok(!bad && n < 400 && seen[2] && (with_old ? seen[1] && !seen[0] : seen[0]),
           "killed at any of %d points (%s, %s before): %d times none, %d the old one, %d the new one; the next save works", n,
           exchange ? "exchange" : "renames", with_old ? "one" : "none", seen[0], seen[1], seen[2]);
}

/* One save, and a second killed before call `k`; whether that was between the two renames. */
static bool leave_gap(int k)
{
    struct dlm_error err;
    char old[96];
    snprintf(old, sizeof old, "%s.old", ckpt);
    fresh();
    if (save(1, NULL, &err))
        abort();
    no_exchange = true;
    if (fork() == 0) {
        calls_until_kill = k;
        _exit(save(2, NULL, &err) ? 1 : 0);
    }
    wait(NULL);
    return access(ckpt, F_OK) && !access(old, F_OK);
}

/* Killed between the two renames, and the save after that killed anywhere, without anyone having recovered in between. */
static void test_kills_twice(void)
{
    struct dlm_error err;
    int n = 0, bad = 0, gap_at = 0;
    while (gap_at < 400 && !leave_gap(gap_at))
        gap_at++;
    for (bool done = false; !done && n < 400; n++) {
        bad += !leave_gap(gap_at);
        bad += version_of(ckpt) != 2;
        pid_t child = fork();
        if (!child) {
            calls_until_kill = n;
            _exit(save(3, NULL, &err) ? 1 : 0);
        }
        int status, version;
        waitpid(child, &status, 0);
        done = WEXITSTATUS(status) == 0;
        version = version_of(ckpt);
        bad += version != 2 && version != 3;
        bad += save(4, NULL, &err) || version_of(ckpt) != 4 || entries(dir) != 1;
    }
    tap_ok(!bad && gap_at < 400 && n < 400, "killed between two renames, then again at any of %d points: the latest complete one is read", n);
}

static void test_places(void)
{
    struct dlm_error err;
    struct dlm_checkpoint_write w = contents(5);
    char path[96];
    fresh();
    snprintf(path, sizeof path, "%s///", ckpt);
    tap_ok(!dlm_checkpoint_save(path, &w, &err) && version_of(ckpt) == 5 && version_of(path) == 5, "slashes at the end do not matter");
    snprintf(path, sizeof path, "%s/link", dir);
    if (symlink("m.ckpt", path))
        abort();
    w = contents(6);
    struct stat st;
    tap_ok(!dlm_checkpoint_save(path, &w, &err) && version_of(ckpt) == 6 && !lstat(path, &st) && S_ISLNK(st.st_mode) && entries(dir) == 2,
           "a link to a checkpoint stays a link");
    fresh();
    FILE *f = fopen(ckpt, "w");
    if (!f || fclose(f))
        abort();
    tap_ok(save(1, NULL, &err) == DLM_EIO && entries(dir) == 1, "a file of that name: %s", err.msg);
    fresh();
    snprintf(path, sizeof path, "%s.new", ckpt);
    if (mkdir(path, 0700) || !(f = fopen(file(path, "thesis.txt"), "w")) || fclose(f))
        abort();
    tap_ok(save(1, NULL, &err) == DLM_EIO && !access(file(path, "thesis.txt"), F_OK), "a person's directory CKPT.new: %s", err.msg);
    tap_ok(dlm_checkpoint_save("/nonexistent/x", &w, &err) == DLM_EIO, "no such directory: %s", err.msg);
    tap_ok(dlm_checkpoint_save("..", &w, &err) == DLM_EUSAGE, "no name: %s", err.msg);
    struct dlm_config c;
    fresh();
    tap_ok(dlm_checkpoint_config(ckpt, &c, &err) == DLM_EIO && strstr(err.msg, ckpt), "no checkpoint: %s", err.msg);
    if (mkdir(ckpt, 0700))
        abort();
    tap_ok(!dlm_checkpoint_exists(ckpt) && dlm_checkpoint_config(ckpt, &c, &err) == DLM_EIO, "an empty directory: %s", err.msg);
    tap_ok(!save(1, NULL, &err) && version_of(ckpt) == 1, "which may become a checkpoint");
}

/* Write `items` as the model of the checkpoint. */
static int reread(const struct dlm_st_item *items, size_t n, struct dlm_error *err)
{
    if (dlm_st_write(file(ckpt, "model.safetensors"), items, n, err))
        abort();
    *err = (struct dlm_error){""};
    return dlm_checkpoint_weights(ckpt, &layout, a, err);
}

static void test_tensors(void)
{
    struct dlm_error err;
    fresh();
    if (save(1, NULL, &err))
        abort();
    size_t n = layout.n;
    struct dlm_st_item *items = calloc(n + 1, sizeof *items);
    for (size_t i = 0; i < n; i++)
        items[i] = (struct dlm_st_item){layout.tensors[i].name, DLM_ST_F32, layout.tensors[i].rank, layout.tensors[i].shape, weights + layout.tensors[i].offset};
    tap_ok(!reread(items, n, &err), "the plain case: %s", err.msg);
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        struct dlm_st_item last = items[i];
        items[i] = items[n - 1];
        bad += reread(items, n - 1, &err) != DLM_EDATA || !strstr(err.msg, last.name) || !strstr(err.msg, "model.safetensors");
        items[i] = last;
    }
    tap_ok(!bad, "any tensor missing: %s", err.msg);
    const size_t odd[] = {3}, flat[] = {layout.tensors[0].n}, turned[] = {config.mlp, config.width};
    items[n] = (struct dlm_st_item){"model.rotary.inv_freq", DLM_ST_F32, 1, odd, weights};
    tap_ok(reread(items, n + 1, &err) == DLM_EDATA && strstr(err.msg, "inv_freq"), "one too many: %s", err.msg);
    struct dlm_st_item good = items[0];
    items[0].rank = 1;
    items[0].shape = flat;
    tap_ok(reread(items, n, &err) == DLM_EDATA && strstr(err.msg, good.name), "another rank: %s", err.msg);
    items[0] = good;
    size_t down = 0;
    while (layout.tensors[down].kind != DLM_TENSOR_DOWN)
        down++;
    good = items[down];
    items[down].shape = turned;
    tap_ok(reread(items, n, &err) == DLM_EDATA && strstr(err.msg, good.name), "another shape: %s", err.msg);
    items[down] = good;
    for (int i = 0; i < 2; i++) {
        weights[layout.tensors[3].offset + 1] = i ? INFINITY : NAN;
        tap_ok(reread(items, n, &err) == DLM_EDATA && strstr(err.msg, layout.tensors[3].name), "not finite: %s", err.msg);
    }
    (void)contents(1);
    free(items);

    nu[layout.tensors[2].offset] = -1;
    struct dlm_checkpoint_write w = {.config = &config, .layout = &layout, .weights = weights, .mu = mu, .nu = nu};
    tap_ok(!dlm_checkpoint_save(ckpt, &w, &err) && dlm_checkpoint_moments(ckpt, &layout, NULL, NULL, a, b, &err) == DLM_EDATA &&
           strstr(err.msg, layout.tensors[2].name), "a negative second moment: %s", err.msg);
    if (truncate(file(ckpt, "model.safetensors"), 5000))
        abort();
    tap_ok(dlm_checkpoint_weights(ckpt, &layout, a, &err) == DLM_EDATA && strstr(err.msg, "model.safetensors"), "cut off: %s", err.msg);
    unlink(file(ckpt, "model.safetensors"));
    tap_ok(dlm_checkpoint_weights(ckpt, &layout, a, &err) == DLM_EIO && strstr(err.msg, "model.safetensors"), "gone: %s", err.msg);
}

/* Two shards, tensor by tensor in turn, and an index; `index` may override its text. */
static int sharded(const char *from, const char *to, size_t skip, struct dlm_error *err)
{
    struct dlm_st_item *items = calloc(2 * layout.n, sizeof *items);
    size_t n[2] = {0, 0};
    FILE *f = fopen(file(ckpt, "model.safetensors.index.json"), "w");
    if (!f || !items)
        abort();
    fprintf(f, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (size_t i = 0; i < layout.n; i++) {
        const struct dlm_tensor *t = &layout.tensors[i];
        if (i != skip)
            items[(i % 2) * layout.n + n[i % 2]++] = (struct dlm_st_item){t->name, DLM_ST_F32, t->rank, t->shape, weights + t->offset};
        char line[256], *at;
        snprintf(line, sizeof line, "%s\"%s\": \"model-0000%zu-of-00002.safetensors\"", i ? ", " : "", t->name, i % 2 + 1);
        if (i == 4 && from && (at = strstr(line, from))) {
            char rest[256];
            strcpy(rest, at + strlen(from));
            strcpy(at, to);
            strcat(line, rest);
        }
        fputs(line, f);
    }
    fputs("}}", f);
    if (fclose(f) || dlm_st_write(file(ckpt, "model-00001-of-00002.safetensors"), items, n[0], err) ||
        dlm_st_write(file(ckpt, "model-00002-of-00002.safetensors"), items + layout.n, n[1], err))
        abort();
    free(items);
    memset(a, 1, layout.total * sizeof *a);
    return dlm_checkpoint_weights(ckpt, &layout, a, err);
}

static void test_shards(void)
{
    struct dlm_error err;
    fresh();
    if (save(1, NULL, &err))
        abort();
    unlink(file(ckpt, "model.safetensors"));
    tap_ok(!sharded(NULL, NULL, SIZE_MAX, &err) && !memcmp(a, weights, layout.total * sizeof *a), "a checkpoint in two shards: %s", err.msg);
    tap_ok(dlm_checkpoint_exists(ckpt) && version_of(ckpt) == 1, "is a checkpoint");
    tap_ok(sharded(NULL, NULL, 4, &err) == DLM_EDATA && strstr(err.msg, layout.tensors[4].name), "a shard without a tensor: %s", err.msg);
    tap_ok(sharded("0001-of", "0002-of", SIZE_MAX, &err) == DLM_EDATA && strstr(err.msg, layout.tensors[4].name), "a tensor in another shard: %s", err.msg);
    tap_ok(sharded("model-00001", "../model-00001", SIZE_MAX, &err) == DLM_EDATA && strstr(err.msg, "index"), "a shard elsewhere: %s", err.msg);
    tap_ok(sharded("model-00001", "model-00007", SIZE_MAX, &err) == DLM_EIO && strstr(err.msg, "00007"), "a shard that is not there: %s", err.msg);
    tap_ok(sharded(layout.tensors[4].name, "model.nothing", SIZE_MAX, &err) == DLM_EDATA, "a tensor that is nowhere: %s", err.msg);
    tap_ok(sharded(layout.tensors[4].name, layout.tensors[5].name, SIZE_MAX, &err) == DLM_EDATA, "a tensor placed twice: %s", err.msg);
    tap_ok(!sharded(NULL, NULL, SIZE_MAX, &err) && !save(2, NULL, &err) && version_of(ckpt) == 2 && entries(ckpt) == 6, "a save replaces the shards");
}

int main(void)
{
    struct dlm_error err;
    tap_seed();
    dlm_config_default(&config, 16, 2, 2, 0, 11, 6);
    if (!mkdtemp(dir) || dlm_layout_init(&layout, &config, &err))
        return 1;
    snprintf(ckpt, sizeof ckpt, "%s/m.ckpt", dir);
    snprintf(kept, sizeof kept, "%s/m.ckpt.7", dir);
    float **arrays[] = {&weights, &mu, &nu, &a, &b};
    for (int i = 0; i < 5; i++)
        if (!(*arrays[i] = calloc(layout.total, sizeof(float))))
            return 1;
    test_save(true);
    test_save(false);
    test_prune();
    test_bf16();
    test_store();
    test_full_disk();
    test_failing_renames();
    test_kills(true, true);
    test_kills(true, false);
    test_kills(false, true);
    test_kills(false, false);
    test_kills_twice();
    test_places();
    test_tensors();
    test_shards();
    wipe(dir);
    for (int i = 0; i < 5; i++)
        free(*arrays[i]);
    dlm_layout_release(&layout);
    return tap_end();
}
