/* The CPU device: opening, memory, copies, and the table itself. Not the arithmetic: that is one file an entry. */
#include "device.h"
#include "linear.h"

#include <errno.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Before each block stands its whole size. Blocks are mappings, so that memory is zero without being touched and costs nothing
 * until it is used; under the address sanitizer small ones come from the heap, whose red zones the sanitizer watches. */
enum { BEFORE = 64 };
#define HUGE_PAGE ((size_t)2 << 20)

static bool on_heap(size_t whole)
{
#if defined(__SANITIZE_ADDRESS__)
    return whole < (size_t)64 << 20;
#else
    (void)whole;
    return false;
#endif
}

static void *block_new(size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t whole = dlm_round_up(bytes + BEFORE, 64);
    char *p;
    if (on_heap(whole)) {
        p = aligned_alloc(64, whole);
        if (!p)
            return NULL;
        memset(p, 0, whole);
    } else {
        p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        if (whole >= 2 * HUGE_PAGE)
            (void)madvise(p, whole, MADV_HUGEPAGE); /* a wish; without it things are only slower */
    }
    memcpy(p, &whole, sizeof whole);
    return p + BEFORE;
}

static void block_free(void *block)
{
    if (!block)
        return;
    char *p = (char *)block - BEFORE;
    size_t whole;
    memcpy(&whole, p, sizeof whole);
    if (on_heap(whole))
        free(p);
    else
        munmap(p, whole);
}

void dlm_device_fail(struct dlm_device *dev, const char *fmt, ...)
{
    if (dlm_device_failed(dev))
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(dev->failure, sizeof dev->failure, fmt, ap);
    va_end(ap);
}

void *dlm_device_scratch(struct dlm_device *dev, size_t bytes)
{
    if (bytes <= dev->scratch_size && dev->scratch)
        return dev->scratch;
    block_free(dev->scratch);
    dev->scratch = block_new(bytes);
    dev->scratch_size = dev->scratch ? bytes : 0;
    if (!dev->scratch)
        dlm_device_fail(dev, "out of memory: %zu bytes of scratch", bytes);
    return dev->scratch;
}

static int device_count(void)
{
    return 1;
}

static struct dlm_device *device_open(int index, int threads, char *msg, size_t msg_size)
{
    if (index != 0) {
        snprintf(msg, msg_size, "no cpu device %d: there is only 0", index);
        return NULL;
    }
    if (threads < 1 || threads > 4096) {
        snprintf(msg, msg_size, "cannot use %d threads", threads);
        return NULL;
    }
    struct dlm_device *dev = calloc(1, sizeof *dev);
    if (!dev) {
        snprintf(msg, msg_size, "%s", strerror(ENOMEM));
        return NULL;
    }
    dev->threads = threads;
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
    char gemm[64] = "plain products";
#if DLM_ONEDNN
    if (!dlm_gemm_open(dev)) {
        snprintf(msg, msg_size, "%s", dev->failure);
        free(dev);
        return NULL;
    }
    dlm_gemm_describe(gemm, sizeof gemm);
#endif
    snprintf(dev->description, sizeof dev->description, "cpu, %d thread%s, %s", threads, threads == 1 ? "" : "s", gemm);
    return dev;
}

static void device_close(struct dlm_device *dev)
{
    if (!dev)
        return;
#if DLM_ONEDNN
    dlm_gemm_close(dev);
#endif
    block_free(dev->scratch);
    free(dev);
}

static const char *device_describe(struct dlm_device *dev)
{
    return dev->description;
}

static bool device_native(struct dlm_device *dev, enum dlm_dtype type)
{
    (void)dev;
    if (type == DLM_F32)
        return true;
#if DLM_ONEDNN && defined(__x86_64__)
    /* cpuid leaf 7: sub-leaf 1, eax bit 5 is avx512_bf16; sub-leaf 0, edx bit 22 is amx_bf16. The operating system must save the
     * registers, which __builtin_cpu_supports looks at. */
    uint32_t a, b, c, d;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512f"))
        return false;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
    if (a < 7)
        return false;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    if (d >> 22 & 1)
        return true;
    if (a < 1)
        return false;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(1));
    return a >> 5 & 1;
#else
    return false;
#endif
}

static dlm_ptr device_alloc(struct dlm_device *dev, size_t bytes)
{
    (void)dev;
    dlm_ptr p = {(uint64_t)(uintptr_t)block_new(bytes)};
    return p;
}

static void device_free(struct dlm_device *dev, dlm_ptr p)
{
    (void)dev;
    block_free(dlm_at(p));
}

static void device_upload(struct dlm_device *dev, dlm_ptr dst, const void *src, size_t bytes)
{
    if (!dlm_device_failed(dev) && bytes)
        memcpy(dlm_at(dst), src, bytes);
}

static void device_download(struct dlm_device *dev, void *dst, dlm_ptr src, size_t bytes)
{
    if (!dlm_device_failed(dev) && bytes)
        memcpy(dst, dlm_at(src), bytes);
}

static void device_copy(struct dlm_device *dev, dlm_ptr dst, dlm_ptr src, size_t bytes)
{
    if (!dlm_device_failed(dev) && bytes)
        memcpy(dlm_at(dst), dlm_at(src), bytes);
}

static void device_zero(struct dlm_device *dev, dlm_ptr dst, size_t bytes)
{
    if (dlm_device_failed(dev) || !bytes)
        return;
    char *p = dlm_at(dst);
    int parts = bytes < ((size_t)1 << 20) ? 1 : dev->threads;
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
    for (int i = 0; i < parts; i++)
        memset(p + dlm_slice(bytes, i, parts), 0, dlm_slice(bytes, i + 1, parts) - dlm_slice(bytes, i, parts));
}

static size_t device_available(struct dlm_device *dev)
{
    (void)dev;
    return 0; /* the host's memory */
}

static const char *device_sync(struct dlm_device *dev)
{
    return dlm_device_failed(dev) ? dev->failure : NULL;
}

static const struct dlm_kernels cpu = {
    .name = "cpu",
    .logit_bytes = (size_t)64 << 20,
    .logit_rows = 2,
    .count = device_count,
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .native = device_native,
    .alloc = device_alloc,
    .free = device_free,
    .upload = device_upload,
    .download = device_download,
    .copy = device_copy,
    .zero = device_zero,
    .available = device_available,
    .sync = device_sync,
#if DLM_ONEDNN
    .linear_pack_size = dlm_linear_onednn_pack_size,
    .linear_pack = dlm_linear_onednn_pack,
    .linear = dlm_linear_onednn,
    .linear_dx = dlm_linear_onednn_dx,
    .linear_dw = dlm_linear_onednn_dw,
    .linear_bf16 = dlm_linear_onednn_bf16,
    .linear_bf16_dx = dlm_linear_onednn_bf16_dx,
#else
    .linear_pack_size = dlm_linear_plain_pack_size,
    .linear_pack = dlm_linear_plain_pack,
    .linear = dlm_linear_plain,
    .linear_dx = dlm_linear_plain_dx,
    .linear_dw = dlm_linear_plain_dw,
    .linear_bf16 = dlm_linear_plain_bf16,
    .linear_bf16_dx = dlm_linear_plain_bf16_dx,
#endif
    .embed = dlm_cpu_embed,
    .embed_bf16 = dlm_cpu_embed_bf16,
    .embed_backward = dlm_cpu_embed_backward,
    .norm = dlm_cpu_norm,
    .norm_backward = dlm_cpu_norm_backward,
    .qk_rotary = dlm_cpu_qk_rotary,
    .qk_rotary_backward = dlm_cpu_qk_rotary_backward,
    .attention = dlm_cpu_attention,
    .attention_cached = dlm_cpu_attention_cached,
    .attention_backward = dlm_cpu_attention_backward,
    .bias_relu2 = dlm_cpu_bias_relu2,
    .bias_relu2_backward = dlm_cpu_bias_relu2_backward,
    .residual = dlm_cpu_residual,
    .residual_backward = dlm_cpu_residual_backward,
    .gather_rows = dlm_cpu_gather_rows,
    .scatter_rows = dlm_cpu_scatter_rows,
    .diffusion_loss = dlm_cpu_diffusion_loss,
    .cross_entropy = dlm_cpu_cross_entropy,
    .shares = dlm_cpu_shares,
    .draw = dlm_cpu_draw,
    .corrupt = dlm_cpu_corrupt,
    .laprop = dlm_cpu_laprop,
    .adamw = dlm_cpu_adamw,
    .laprop_split = dlm_cpu_laprop_split,
    .adamw_split = dlm_cpu_adamw_split,
    .accumulate = dlm_cpu_accumulate,
    .average = dlm_cpu_average,
    .sum_squares = dlm_cpu_sum_squares,
    .sum_squares_bf16 = dlm_cpu_sum_squares_bf16,
};

const struct dlm_kernels *dlm_kernels_cpu(void)
{
    return &cpu;
}
