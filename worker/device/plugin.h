/* The CUDA plugin, found at run time: lib/tessera/cuda.so beside the program or the library. */
#ifndef TESSI_DEVICE_PLUGIN_H
#define TESSI_DEVICE_PLUGIN_H

#include "worker/device/device.h"

/* The plugin's one symbol. NULL when it was built for another version of this program. */
#define TESSI_PLUGIN_SYMBOL "tessi_cuda_plugin"
typedef const struct tessi_device_kind *tessi_plugin_fn(const char *version, size_t kind_bytes);

/* NULL when there is no plugin or it does not fit; `error` says why. Loaded once and never unloaded. Any thread. */
const struct tessi_device_kind *tessi_device_cuda(struct tessi_error *error);

#endif
