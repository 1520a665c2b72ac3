/* Opening a back end by name. */
#include "run/device.h"

#include "base/build.h"
#include "base/number.h"

#include <stdio.h>
#include <string.h>

int dlm_device_open(struct dlm_backend *out, const char *device, int threads, struct dlm_error *err)
{
    *out = (struct dlm_backend){0};
    if (device && !strncmp(device, "cuda", 4) && (!device[4] || device[4] == ':')) {
        uint64_t index;
        if (device[4] && !dlm_number_count(device + 5, &index))
            return dlm_fail(err, DLM_EUSAGE, "--device takes auto, cpu, cuda or cuda:N, not '%s'", device);
        return dlm_fail(err, DLM_EIO, "--device %s: this build has no CUDA back end", device);
    }
    if (device && strcmp(device, "auto") && strcmp(device, "cpu"))
        return dlm_fail(err, DLM_EUSAGE, "--device takes auto, cpu, cuda or cuda:N, not '%s'", device);
    char msg[256] = "";
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
