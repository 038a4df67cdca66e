/* Host memory and threads as a device; always there. A stream is a thread, its launches run on it. */
#ifndef TESSI_DEVICE_CPU_CPU_H
#define TESSI_DEVICE_CPU_CPU_H

#include "worker/device/device.h"

extern const struct tessi_device_kind tessi_device_cpu;

/* From `done` of a launch: who is about to be woken needs a processor, and streams take up all of them. When the entry
 * was short (others may wait for the next one) and run by the stream's own thread, that sleeps before the next one until
 * it is told to come back; nothing happens where processors are left or another stream has given way. Streams that wait
 * for its entries run them meanwhile. */
void tessi_cpu_give_way(struct tessi_stream *stream);
void tessi_cpu_come_back(struct tessi_stream *stream); /* from any thread; nothing if it is there */

#endif
