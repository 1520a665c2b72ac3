/* The GPU's own energy counter, by NVML, which is loaded when it is asked for: it comes with the driver. */
#include "device.cuh"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __CUDACC__
/* As NVML documents them; a machine that builds this need not have its header. */
typedef int nvml_init(void);
typedef int nvml_handle(const char *bus, void **device);
typedef int nvml_energy(void *device, unsigned long long *millijoules);

static void *handle_of(const struct dlm_device *dev, nvml_energy **read)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), *device = NULL, *symbol[3] = {NULL, NULL, NULL};
    static const char *const names[3] = {"nvmlInit_v2", "nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetTotalEnergyConsumption"};
    char bus[32];
    for (int i = 0; library && i < 3; i++)
        symbol[i] = dlsym(library, names[i]);
    if (!symbol[0] || !symbol[1] || !symbol[2] || cudaDeviceGetPCIBusId(bus, sizeof bus, dev->index) != cudaSuccess) {
        cudaGetLastError(); /* it says nothing of any kernel */
        return NULL;
    }
    *read = reinterpret_cast<nvml_energy *>(symbol[2]);
    if (reinterpret_cast<nvml_init *>(symbol[0])() || reinterpret_cast<nvml_handle *>(symbol[1])(bus, &device))
        return NULL;
    return device;
}

double dlm_cuda_joules(struct dlm_device *dev)
{
    unsigned long long millijoules;
    if (!dev->meter_known) {
        dev->meter = handle_of(dev, &dev->meter_read);
        dev->meter_known = true;
    }
    return dev->meter && !dev->meter_read(dev->meter, &millijoules) ? 1e-3 * (double)millijoules : NAN;
}
#else
double dlm_cuda_joules(struct dlm_device *)
{
    static double counted;
    const char *each = getenv("DLM_EMULATE_JOULES"); /* that pass between two readings */
    return each ? counted += atof(each) : NAN;
}
#endif
