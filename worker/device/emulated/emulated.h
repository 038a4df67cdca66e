/* A device on host memory, with limits, delays and faults as parameters: what is written for GPUs runs on it.
 *
 * Its memory is an address space of its own: what `alloc` returns cannot be read or written by the host (the pages
 * are protected; who tries dies of a signal), only by its kernels and copies. Kernels are those of worker/kernel, so the
 * bits are the CPU's. Streams are threads.
 *
 * The spec is a list "key=value,…", all optional; sizes and rates take KiB, MiB, GiB:
 *   count=1          devices of this kind in the machine
 *   memory=256MiB    of each device
 *   hidden=0         part of that memory that is told of but cannot be had, as if others had taken it
 *   copy=0           bytes a second of each copy stream; 0: as fast as memory
 *   latency=0        microseconds added to each launch and copy
 *   compute=1        launches take 1/compute of the time that the kernel takes, at least as long as it takes
 *   small=0          products of so many operations a task and other blocks of so many bytes are worth the way
 *   refuse=0         every so manieth allocation is refused
 *   starve=0         every so manieth launch finds no memory for its own use and does nothing
 *   break=0          after so many launches the device is lost
 *
 * What it is doing, for people, is made up from the time that its launches take: it draws 50 W, and 200 W more while
 * it works. */
#ifndef TESSI_DEVICE_EMULATED_EMULATED_H
#define TESSI_DEVICE_EMULATED_EMULATED_H

#include "worker/device/device.h"

extern const struct tessi_device_kind tessi_device_emulated;

#endif
