/* Opening a back end by name. */
#include "run/device.h"

#include "base/build.h"
#include "base/number.h"
#include "run/launch.h"
#include "run/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The table of the CUDA module, or NULL and why; *absent: it was never installed. It is loaded once and stays. */
static const struct dlm_kernels *cuda_kernels(bool *absent, char *why, size_t why_size)
{
    static const struct dlm_kernels *kernels;
    *absent = false;
    if (kernels)
        return kernels;
    void *module = dlm_module_open("dlm-cuda.so", false, absent, why, why_size);
    if (!module)
        return NULL;
    dlm_kernels_entry *entry;
    void *symbol = dlsym(module, "dlm_kernels_cuda");
    memcpy(&entry, &symbol, sizeof entry); /* a pointer to a function from one to data, as POSIX has it */
    if (entry)
        kernels = entry(sizeof *kernels);
    if (!kernels)
        snprintf(why, why_size, "the module dlm-cuda.so is of another version of this program");
    return kernels;
}

/* Whether to look for a GPU when nobody asked: the module brings libraries of half a gigabyte, which a machine without a driver need not read. */
static bool driver_there(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    return driver != NULL; /* kept: the module uses it, too */
}

/* GPU `index`, or where that is below 0 the one of this process. */
static bool open_cuda(struct dlm_backend *out, long index, bool *absent, char *why, size_t why_size)
{
    const struct dlm_kernels *k = cuda_kernels(absent, why, why_size);
    if (!k)
        return false;
    int count = k->count(), rank = dlm_launch_local();
    out->k = k;
    out->dev = k->open(index >= 0 ? (int)index : count > 0 && rank > 0 ? rank % count : 0, 0, why, why_size);
    return out->dev != NULL;
}

int dlm_device_open(struct dlm_backend *out, const char *device, int threads, struct dlm_error *err)
{
    static char fallback[600]; /* what one process has to say of it does not change */
    char msg[512] = "";
    bool absent;
    const bool chosen = device != NULL, any = !device || !strcmp(device, "auto"), cuda = !any && !strncmp(device, "cuda", 4) && (!device[4] || device[4] == ':');
    *out = (struct dlm_backend){0};
    if (cuda) {
        uint64_t index = 0;
        if (device[4] && (!dlm_number_count(device + 5, &index) || index > INT_MAX))
            return dlm_fail(err, DLM_EUSAGE, "--device takes auto, cpu, cuda or cuda:N, not '%s'", device);
        if (open_cuda(out, device[4] ? (long)index : -1, &absent, msg, sizeof msg))
            return 0;
        *out = (struct dlm_backend){0};
        if (absent)
            return dlm_fail(err, DLM_EIO, "--device %s: the module dlm-cuda.so is not installed: %s", device, msg);
        return dlm_fail(err, DLM_EIO, "--device %s: %s", device, msg);
    }
    if (!any && strcmp(device, "cpu"))
        return dlm_fail(err, DLM_EUSAGE, "--device takes auto, cpu, cuda or cuda:N, not '%s'", device);
    if (any) {
        absent = true;
        if ((chosen || driver_there()) && open_cuda(out, -1, &absent, msg, sizeof msg))
            return 0;
        *out = (struct dlm_backend){0};
        if (chosen && !absent) {
            snprintf(fallback, sizeof fallback, "computing on the CPU: %s", msg);
            out->fallback = fallback;
        }
    }
    out->k = dlm_kernels_cpu();
    out->dev = out->k->open(0, threads > 0 ? threads : dlm_build_cores(), msg, sizeof msg);
    if (!out->dev)
        return dlm_fail(err, DLM_EIO, "cannot open device '%s': %s", out->k->name, msg);
    return 0;
}

void dlm_device_close(struct dlm_backend *b)
{
    if (b->dev)
        b->k->close(b->dev);
    *b = (struct dlm_backend){0};
}

enum dlm_dtype dlm_device_dtype(const struct dlm_backend *b, int dtype_option, bool fast)
{
    if (dtype_option == DLM_DTYPE_F32)
        return DLM_F32;
    if (dtype_option == DLM_DTYPE_BF16)
        return DLM_BF16;
    return fast && b->k->native(b->dev, DLM_BF16) ? DLM_BF16 : DLM_F32;
}

const char *dlm_device_dtype_name(enum dlm_dtype t)
{
    return t == DLM_BF16 ? "bf16" : "f32";
}

void dlm_device_libraries(char *to, size_t size)
{
    struct dlm_backend b;
    struct dlm_error ignored;
    to[0] = 0;
    if (dlm_device_open(&b, "cpu", 0, &ignored))
        return;
    snprintf(to, size, "%s", b.k->describe(b.dev));
    dlm_device_close(&b);
}
