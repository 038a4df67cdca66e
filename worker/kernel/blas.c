#include "worker/kernel/blas.h"

#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Of cblas.h; a system header need not be there, since the library is found at run time. */
#define WHY_BYTES 256 /* of a text */

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                      const float *b, int ldb, float beta, float *c, int ldc);
typedef void dgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                      const double *b, int ldb, double beta, double *c, int ldc);
typedef void xgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, const void *alpha, const void *a,
                      int lda, const void *b, int ldb, const void *beta, void *c, int ldc);

struct library {
    void *handle; /* NULL: plain */
    const char *family;
    sgemm_fn *sgemm;
    dgemm_fn *dgemm;
    xgemm_fn *cgemm;
    xgemm_fn *zgemm;
};

/* The one process-wide state of the kernels: a loaded library cannot have two families. It is
 * written once under the lock and never changes after `ready`. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(bool) ready;
static struct library loaded;

static const char plain[] = "plain";

/* Families as OpenBLAS names them, best first; the numerics name says whose bits they share. */
static const struct {
    const char *name;
    const char *numerics;
} families[] = {
    {"sapphirerapids", "sapphirerapids"}, {"cooperlake", "skylakex"},       {"skylakex", "skylakex"},
    {"zen", "zen"},                       {"haswell", "haswell"},           {"sandybridge", "sandybridge"},
    {"nehalem", "nehalem"},               {"prescott", "prescott"},
};
enum { FAMILY_COUNT = sizeof families / sizeof families[0] };
_Static_assert(FAMILY_COUNT <= TESSI_BLAS_FAMILIES_MAX, "the caller's list has room for every family");

#if defined(__x86_64__)
/* The tile registers of AMX need leave of the operating system, which bits 17 and 18 of XCR0 show. */
static bool tiles_enabled(void)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) {
        return false;
    }
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & (3u << 17)) == (3u << 17);
}

static bool runs(const char *family)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & (1u << 22)) != 0 && (d & (1u << 24)) != 0 &&
               tiles_enabled();
    bool skylakex = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    bool haswell = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (strcmp(family, "sapphirerapids") == 0) {
        return amx && skylakex && __builtin_cpu_supports("avx512bf16");
    }
    if (strcmp(family, "cooperlake") == 0) {
        return skylakex && __builtin_cpu_supports("avx512bf16");
    }
    if (strcmp(family, "skylakex") == 0) {
        return skylakex;
    }
    if (strcmp(family, "zen") == 0) {
        return haswell && __builtin_cpu_is("amd");
    }
    if (strcmp(family, "haswell") == 0) {
        return haswell;
    }
    if (strcmp(family, "sandybridge") == 0) {
        return __builtin_cpu_supports("avx");
    }
    if (strcmp(family, "nehalem") == 0) {
        return __builtin_cpu_supports("sse4.2");
    }
    return strcmp(family, "prescott") == 0 && __builtin_cpu_supports("sse3");
}
#else
static bool runs(const char *family)
{
    (void)family;
    return false;
}
#endif

uint32_t tessi_blas_families(const char *list[TESSI_BLAS_FAMILIES_MAX])
{
    uint32_t count = 0;
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (runs(families[i].name)) {
            list[count++] = families[i].name;
        }
    }
    return count;
}

const char *tessi_blas_numerics_of(const char *family)
{
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i].name, family) == 0) {
            return families[i].numerics;
        }
    }
    return family;
}

/* Environment variables that OpenBLAS reads when it is loaded, and what it shall see. */
struct variable {
    const char *name;
    const char *value; /* NULL: unset */
    char *saved;
};

static void environment_set(struct variable *variables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        variables[i].saved = tessi_strdup(getenv(variables[i].name));
        if (variables[i].value != NULL) {
            (void)setenv(variables[i].name, variables[i].value, 1);
        } else {
            (void)unsetenv(variables[i].name);
        }
    }
}

static void environment_restore(struct variable *variables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (variables[i].saved != NULL) {
            (void)setenv(variables[i].name, variables[i].saved, 1);
            tessi_free(variables[i].saved);
        } else {
            (void)unsetenv(variables[i].name);
        }
    }
}

/* `why`: of the first that is there and cannot be loaded. */
static void *open_library(const char *path, char why[WHY_BYTES])
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *text = handle == NULL ? dlerror() : NULL;
    bool absent = text != NULL && strncmp(text, path, strlen(path)) == 0 && strstr(text, "No such file") != NULL;
    if (text != NULL && !absent && why[0] == 0) {
        (void)snprintf(why, WHY_BYTES, "%s", text);
    }
    return handle;
}

static void *open_beside(const char *file, const char *relative, char why[WHY_BYTES])
{
    char path[PATH_MAX];
    const char *slash = strrchr(file, '/');
    if (slash == NULL) {
        return NULL;
    }
    int n = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - file), file, relative);
    return n > 0 && (size_t)n < sizeof path ? open_library(path, why) : NULL;
}

/* A library beside ours (a relocated bundle) goes before the system's; there, the one with
 * threads of its own goes before the OpenMP one, whose runtime we do not want. */
static void *open_any(char why[WHY_BYTES])
{
    static const char *const beside[] = {"libopenblas.so.0", "../lib/libopenblas.so.0", "../lib/tessera/libopenblas.so.0"};
    static const char *const system[] = {
#if defined(__x86_64__)
        "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0",
#elif defined(__aarch64__)
        "/usr/lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0",
#endif
        "libopenblasp.so.0", "libopenblas.so.0", "libopenblas.so",
    };
    char self[PATH_MAX];
    Dl_info info;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    const char *library = dladdr(plain, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "";
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        void *handle = open_beside(library, beside[i], why);
        handle = handle != NULL ? handle : open_beside(self, beside[i], why);
        if (handle != NULL) {
            return handle;
        }
    }
    for (size_t i = 0; i < sizeof system / sizeof system[0]; i++) {
        void *handle = open_library(system[i], why);
        if (handle != NULL) {
            return handle;
        }
    }
    return NULL;
}

static void lower(char *text)
{
    for (; *text != '\0'; text++) {
        *text = (char)tolower((unsigned char)*text);
    }
}

/* ISO C has no conversion from an object pointer to a function's; POSIX promises the bytes agree. */
static bool symbol(void *handle, const char *name, void *function)
{
    void *address = dlsym(handle, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static bool bind(struct library *library, void *handle, const char *family)
{
    void (*set_threads)(int);
    *library = (struct library){.handle = handle, .family = family};
    if (!symbol(handle, "openblas_set_num_threads", &set_threads) ||
        !symbol(handle, "cblas_sgemm", &library->sgemm) || !symbol(handle, "cblas_dgemm", &library->dgemm) ||
        !symbol(handle, "cblas_cgemm", &library->cgemm) || !symbol(handle, "cblas_zgemm", &library->zgemm)) {
        return false;
    }
    set_threads(1);
    return true;
}

/* Load the library with one family. NOT_FOUND: no library; UNSUPPORTED: it lacks the family. */
static enum tessi_status load(const char *family, struct library *library, struct tessi_error *error)
{
    struct variable environment[] = {
        {"OPENBLAS_CORETYPE", family, NULL}, {"OPENBLAS_L2_SIZE", NULL, NULL}, {"OPENBLAS_NUM_THREADS", "1", NULL}};
    environment_set(environment, 3);
    char why[WHY_BYTES] = "";
    void *handle = open_any(why);
    environment_restore(environment, 3);
    if (handle == NULL && why[0] != 0) {
        return tessi_fail(error, TESSI_NOT_FOUND,
                          "OpenBLAS is there and cannot be loaded: %s; see whether the address space is limited (ulimit "
                          "-v), or a library that it needs is missing; matrix products are slow without it",
                          why);
    }
    if (handle == NULL) {
        return tessi_fail(error, TESSI_NOT_FOUND,
                          "OpenBLAS (libopenblas.so.0) was not found: install it (Debian: libopenblas0-pthread), or put it "
                          "beside the library; matrix products are slow without it");
    }
    char core[64] = "a library without openblas_get_corename";
    char *(*get_core)(void);
    if (symbol(handle, "openblas_get_corename", &get_core)) {
        (void)snprintf(core, sizeof core, "%s", get_core());
        lower(core);
    }
    if (strcmp(core, family) != 0 || !bind(library, handle, family)) {
        (void)dlclose(handle);
        return tessi_fail(error, TESSI_UNSUPPORTED,
                          "this OpenBLAS has no kernels of family '%s' (it took '%s'): choose another family", family, core);
    }
    return TESSI_OK;
}

static enum tessi_status open_best(struct library *library, struct tessi_error *error)
{
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    uint32_t count = tessi_blas_families(list);
    enum tessi_status status = TESSI_UNSUPPORTED;
    for (uint32_t i = 0; i < count && status == TESSI_UNSUPPORTED; i++) {
        status = load(list[i], library, error);
    }
    if (status == TESSI_OK) {
        return TESSI_OK;
    }
    *library = (struct library){.family = plain};
    if (status == TESSI_NOT_FOUND) {
        return status;
    }
    return tessi_fail(error, TESSI_NOT_FOUND,
                      "OpenBLAS has kernels of no family that this processor runs: matrix products use plain loops");
}

static enum tessi_status open_family(const char *family, struct library *library, struct tessi_error *error)
{
    if (strcmp(family, plain) == 0) {
        *library = (struct library){.family = plain};
        return TESSI_OK;
    }
    char known[256] = "plain";
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    uint32_t count = tessi_blas_families(list);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(family, list[i]) == 0) {
            return load(list[i], library, error);
        }
        size_t used = strlen(known);
        (void)snprintf(known + used, sizeof known - used, ", %s", list[i]);
    }
    return tessi_fail(error, TESSI_INVALID, "this processor cannot run BLAS kernels of family '%s': it runs %s", family,
                      known);
}

enum tessi_status tessi_blas_open(const char *family, struct tessi_error *error)
{
    char *wanted = tessi_strdup(family);
    enum tessi_status status = TESSI_OK;
    if (wanted != NULL) {
        lower(wanted);
    }
    (void)pthread_mutex_lock(&open_lock);
    if (!ready) {
        struct library library;
        status = wanted == NULL ? open_best(&library, error) : open_family(wanted, &library, error);
        if (status == TESSI_OK || wanted == NULL) {
            loaded = library;
            ready = true;
        }
    } else if (wanted != NULL && strcmp(wanted, loaded.family) != 0) {
        status = tessi_fail(error, TESSI_BUSY,
                            "BLAS kernels of family '%s' are loaded already: start another process for family '%s'",
                            loaded.family, wanted);
    }
    (void)pthread_mutex_unlock(&open_lock);
    tessi_free(wanted);
    return status;
}

static const struct library *library_get(void)
{
    if (!ready) {
        (void)tessi_blas_open(NULL, NULL); /* plain loops when it fails */
    }
    return &loaded;
}

const char *tessi_blas_family(void)
{
    return library_get()->family;
}

const char *tessi_blas_numerics(void)
{
    return tessi_blas_numerics_of(tessi_blas_family());
}

bool tessi_blas_gemm(const struct tessi_gemm *gemm)
{
    const struct library *library = library_get();
    if (library->handle == NULL) {
        return false;
    }
    int ta = gemm->transpose_a ? TRANS : NO_TRANS;
    int tb = gemm->transpose_b ? TRANS : NO_TRANS;
    int m = (int)gemm->m;
    int n = (int)gemm->n;
    int k = (int)gemm->k;
    int lda = (int)gemm->lda;
    int ldb = (int)gemm->ldb;
    int ldc = (int)gemm->ldc;
    const float one32[2] = {1, 0};
    const float add32[2] = {gemm->add ? 1 : 0, 0};
    const double one64[2] = {1, 0};
    const double add64[2] = {gemm->add ? 1 : 0, 0};
    if (gemm->dtype == TESSI_F64) {
        library->dgemm(ROW_MAJOR, ta, tb, m, n, k, 1, gemm->a, lda, gemm->b, ldb, add64[0], gemm->c, ldc);
    } else if (gemm->dtype == TESSI_F32) {
        library->sgemm(ROW_MAJOR, ta, tb, m, n, k, 1, gemm->a, lda, gemm->b, ldb, add32[0], gemm->c, ldc);
    } else if (gemm->dtype == TESSI_C128) {
        library->zgemm(ROW_MAJOR, ta, tb, m, n, k, one64, gemm->a, lda, gemm->b, ldb, add64, gemm->c, ldc);
    } else if (gemm->dtype == TESSI_C64) {
        library->cgemm(ROW_MAJOR, ta, tb, m, n, k, one32, gemm->a, lda, gemm->b, ldb, add32, gemm->c, ldc);
    } else {
        return false;
    }
    return true;
}
