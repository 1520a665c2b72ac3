/* What the kernel tests share: a device, seeded inputs, bf16, and comparison scaled by magnitude × epsilon.
 *
 * The device is the CPU, or the first one of the CUDA module that DLM_TEST_MODULE names, emulated or not.
 */
#ifndef DLM_TESTS_KERNEL_CHECK_H
#define DLM_TESTS_KERNEL_CHECK_H

#include "kernels.h"
#include "philox.h"
#include "tap.h"

#include <dlfcn.h>
#include <string.h>

#define UNUSED __attribute__((unused))

static const struct dlm_kernels *K;
static struct dlm_device *D;
static uint64_t check_seed, check_drawn;

static UNUSED const struct dlm_kernels *check_kernels(void)
{
    const char *path = getenv("DLM_TEST_MODULE");
    if (!path)
        return dlm_kernels_cpu();
    void *module = dlopen(path, RTLD_NOW), *symbol = module ? dlsym(module, "dlm_kernels_cuda") : NULL;
    dlm_kernels_entry *entry;
    memcpy(&entry, &symbol, sizeof entry);
    if (!entry) {
        printf("Bail out! %s\n", dlerror());
        exit(1);
    }
    const struct dlm_kernels *k = entry(sizeof *k);
    if (!k) {
        printf("Bail out! %s is of another version\n", path);
        exit(1);
    }
    return k;
}

static UNUSED void check_open(int threads)
{
    char msg[200];
    K = check_kernels();
    D = K->open(0, threads, msg, sizeof msg);
    if (!D) {
        printf("Bail out! %s\n", msg);
        exit(1);
    }
    printf("# %s\n", K->describe(D));
}

static UNUSED void check_close(void)
{
    const char *failure = K->sync(D);
    tap_ok(!failure, "the device is well at the end%s%s", failure ? ": " : "", failure ? failure : "");
    K->close(D);
}

static UNUSED void *check_memory(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) {
        printf("Bail out! out of memory\n");
        exit(1);
    }
    return p;
}

static UNUSED uint32_t draw(void)
{
    uint64_t i = check_drawn++;
    return dlm_philox_at(check_seed, i / 4, 0, DLM_RNG_TEST).v[i % 4];
}

static UNUSED double uniform(void)
{
    return ((double)draw() + 0.5) / 4294967296.0;
}

static UNUSED double normal(void)
{
    double u = uniform(), v = uniform();
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static UNUSED uint16_t bf16_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t low = u & 0xffff;
    u >>= 16;
    if (low > 0x8000 || (low == 0x8000 && (u & 1)))
        u++;
    return (uint16_t)u;
}

static UNUSED float bf16_value(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* The value as a buffer of type t keeps it. */
static UNUSED double kept(double v, enum dlm_dtype t)
{
    float f = (float)v;
    return t == DLM_BF16 ? (double)bf16_value(bf16_of(f)) : (double)f;
}

/* n doubles that type t can hold, scale·N(0, 1) + mean. */
static UNUSED double *random_array(size_t n, double mean, double scale, enum dlm_dtype t)
{
    double *a = check_memory(n * sizeof *a);
    for (size_t i = 0; i < n; i++)
        a[i] = kept(mean + scale * normal(), t);
    return a;
}

/* On the device, with 64 bytes of a pattern behind it, which `take` looks at. */
struct buffer {
    dlm_ptr at;
    size_t n;
    enum dlm_dtype type;
};

static UNUSED struct buffer put(const double *values, size_t n, enum dlm_dtype t)
{
    size_t bytes = n * dlm_dtype_size(t);
    struct buffer b = {K->alloc(D, bytes + 64), n, t};
    char *host = check_memory(bytes + 64);
    for (size_t i = 0; values && i < n; i++) {
        if (t == DLM_BF16)
            ((uint16_t *)(void *)host)[i] = bf16_of((float)values[i]);
        else
            ((float *)(void *)host)[i] = (float)values[i];
    }
    memset(host + bytes, 0x5a, 64);
    K->upload(D, b.at, host, bytes + 64);
    free(host);
    return b;
}

/* Like put, of raw bytes. */
static UNUSED dlm_ptr put_bytes(const void *from, size_t bytes)
{
    dlm_ptr p = K->alloc(D, bytes);
    K->upload(D, p, from, bytes);
    return p;
}

static UNUSED double *take(struct buffer b)
{
    size_t bytes = b.n * dlm_dtype_size(b.type);
    char *host = check_memory(bytes + 64);
    double *values = check_memory(b.n * sizeof *values);
    K->download(D, host, b.at, bytes + 64);
    for (size_t i = 0; i < b.n; i++)
        values[i] = b.type == DLM_BF16 ? (double)bf16_value(((uint16_t *)(void *)host)[i]) : (double)((float *)(void *)host)[i];
    for (size_t i = 0; i < 64; i++)
        if (host[bytes + i] != 0x5a) {
            tap_ok(false, "a buffer of %zu elements was written beyond its end", b.n);
            break;
        }
    free(host);
    return values;
}

static UNUSED void drop(struct buffer b)
{
    K->free(D, b.at);
}

static UNUSED double unit_of(enum dlm_dtype t)
{
    return t == DLM_BF16 ? 1.0 / 256 : 1.0 / 16777216;
}

static UNUSED const char *type_name(enum dlm_dtype t)
{
    return t == DLM_BF16 ? "bf16" : "f32";
}

/* Every |got - want| within tolerance[i] (or `tolerance1` for all when there is no array). */
static UNUSED bool all_near(const double *got, const double *want, size_t n, const double *tolerance, double tolerance1)
{
    size_t worst = 0;
    double most = -1;
    for (size_t i = 0; i < n; i++) {
        double t = tolerance ? tolerance[i] : tolerance1, off = fabs(got[i] - want[i]) / (t > 0 ? t : 1e-300);
        if (got[i] == want[i])
            off = 0;
        if (!(off <= most)) { /* NaN counts as worst */
            most = off;
            worst = i;
        }
        if (off != off)
            break;
    }
    if (n && !(most <= 1))
        printf("# element %zu of %zu: %.9g, expected %.9g, %.3g times the tolerance\n", worst, n, got[worst], want[worst], most);
    return n == 0 || most <= 1;
}

static UNUSED double largest(const double *a, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabs(a[i]) > most ? fabs(a[i]) : most;
    return most;
}

#endif
