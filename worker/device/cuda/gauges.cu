/* What a device is doing, by NVML: looked for at run time, since it comes with the driver. */
#include "worker/device/cuda/internal.h"

#include <dlfcn.h>

#include <cstdio>

/* Of nvml.h, which is a package of its own. */
typedef struct nvmlDevice_st *nvml_device;
struct nvml_utilisation {
    unsigned int gpu, memory;
};
struct nvml_memory {
    unsigned long long total, free, used;
};

struct nvml {
    bool found;
    int (*by_bus)(const char *, nvml_device *);
    int (*utilisation)(nvml_device, nvml_utilisation *);
    int (*memory)(nvml_device, nvml_memory *);
    int (*power)(nvml_device, unsigned int *);
    int (*energy)(nvml_device, unsigned long long *);
};

template <typename F>
static bool symbol(void *handle, const char *name, F *function)
{
    *function = reinterpret_cast<F>(dlsym(handle, name));
    return *function != nullptr;
}

static nvml load_nvml()
{
    nvml library = {};
    int (*init)() = nullptr;
    void *handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    library.found = handle != nullptr && symbol(handle, "nvmlInit_v2", &init) &&
                    symbol(handle, "nvmlDeviceGetHandleByPciBusId_v2", &library.by_bus) &&
                    symbol(handle, "nvmlDeviceGetUtilizationRates", &library.utilisation) &&
                    symbol(handle, "nvmlDeviceGetMemoryInfo", &library.memory) &&
                    symbol(handle, "nvmlDeviceGetPowerUsage", &library.power) &&
                    symbol(handle, "nvmlDeviceGetTotalEnergyConsumption", &library.energy) && init() == 0;
    return library;
}

void tessi_cuda_gauges(const struct tessi_device *device, struct tessi_device_gauges *gauges)
{
    static const nvml library = load_nvml();
    nvml_device handle = nullptr;
    nvml_utilisation busy;
    nvml_memory memory;
    unsigned int milliwatts;
    unsigned long long millijoules;
    char bus[32];
    *gauges = {-1, -1, -1, -1};
    (void)snprintf(bus, sizeof bus, "%08x:%02x:%02x.0", (unsigned)device->properties.pciDomainID,
                   (unsigned)device->properties.pciBusID, (unsigned)device->properties.pciDeviceID);
    if (!library.found || library.by_bus(bus, &handle) != 0) {
        return;
    }
    if (library.utilisation(handle, &busy) == 0) {
        gauges->utilisation = busy.gpu / 100.0;
    }
    if (library.memory(handle, &memory) == 0) {
        gauges->memory_used_bytes = (int64_t)memory.used;
    }
    if (library.power(handle, &milliwatts) == 0) {
        gauges->watts = milliwatts / 1e3;
    }
    if (library.energy(handle, &millijoules) == 0) {
        gauges->joules = (double)millijoules / 1e3;
    }
}
