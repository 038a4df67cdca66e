#include "worker/device/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/version.h"

/* A loaded library is the process's, so what was found is too; written once under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool tried;
static const struct tessi_device_kind *found;
static struct tessi_error reason;

static void *open_beside(const char *file, const char *relative, char *path, size_t size)
{
    const char *slash = strrchr(file, '/');
    int n = slash == NULL ? 0 : snprintf(path, size, "%.*s/%s", (int)(slash - file), file, relative);
    if (n <= 0 || (size_t)n >= size || access(path, R_OK) != 0) {
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        (void)tessi_fail(&reason, TESSI_NOT_FOUND, "the CUDA plugin cannot be loaded: %.400s", dlerror());
    }
    return handle;
}

static void *open_plugin(char *path, size_t size)
{
    static const char *const places[] = {"tessera/cuda.so", "../lib/tessera/cuda.so", "../../lib/tessera/cuda.so"};
    char self[PATH_MAX];
    Dl_info info;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    const char *library = dladdr(&tried, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "";
    (void)tessi_fail(&reason, TESSI_NOT_FOUND, "the CUDA plugin (lib/tessera/cuda.so) is not part of this installation");
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        void *handle = open_beside(library, places[i], path, size);
        handle = handle != NULL ? handle : open_beside(self, places[i], path, size);
        if (handle != NULL) {
            return handle;
        }
    }
    return NULL;
}

static void load(void)
{
    char path[PATH_MAX] = "";
    tessi_plugin_fn *plugin = NULL;
    /* Without a driver the plugin is of no use, and its libraries are large. */
    if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == NULL) {
        (void)tessi_fail(&reason, TESSI_NOT_FOUND,
                         "no NVIDIA driver (libcuda.so.1) is installed, so there are no GPUs to use");
        return;
    }
    void *handle = open_plugin(path, sizeof path);
    if (handle == NULL) {
        return;
    }
    /* ISO C has no conversion from an object pointer to a function's; POSIX promises the bytes agree. */
    void *address = dlsym(handle, TESSI_PLUGIN_SYMBOL);
    memcpy(&plugin, &address, sizeof plugin);
    found = plugin != NULL ? plugin(TESSI_VERSION, sizeof(struct tessi_device_kind)) : NULL;
    if (found == NULL) {
        (void)tessi_fail(&reason, TESSI_UNSUPPORTED,
                         "%.300s belongs to another version of Tessera: install both together", path);
        (void)dlclose(handle);
    }
}

const struct tessi_device_kind *tessi_device_cuda(struct tessi_error *error)
{
    (void)pthread_mutex_lock(&lock);
    if (!tried) {
        tried = true;
        load();
    }
    if (found == NULL && error != NULL) {
        *error = reason;
    }
    (void)pthread_mutex_unlock(&lock);
    return found;
}
