/* Host memory and threads as a device; always there. A stream is a thread, its launches run on it. */
#ifndef TESSI_DEVICE_CPU_CPU_H
#define TESSI_DEVICE_CPU_CPU_H

#include "worker/device/device.h"

extern const struct tessi_device_kind tessi_device_cpu;

#endif
