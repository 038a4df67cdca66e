#include "worker/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "worker/kernel/blas.h"

#define PROBE_TIMEOUT_NS (3 * TESSI_NS_PER_S)

uint32_t tessi_settings_processor(uint32_t nth)
{
    cpu_set_t set;
    uint32_t seen = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (uint32_t i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &set) && seen++ == nth) {
                return i;
            }
        }
    }
    return 0;
}

/* ——— memory ——— */

static uint64_t file_number(const char *path)
{
    uint64_t number = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%" SCNu64, &number) != 1) {
            number = UINT64_MAX; /* "max" */
        }
        (void)fclose(file);
    }
    return number;
}

/* The smallest limit from `group` up to the root of its hierarchy. */
static uint64_t group_limit(const char *root, char *group, const char *name)
{
    uint64_t limit = UINT64_MAX;
    for (;;) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s%s/%s", root, group, name);
        uint64_t number = n > 0 && (size_t)n < sizeof path ? file_number(path) : UINT64_MAX;
        limit = number < limit ? number : limit;
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return limit;
        }
        *slash = 0;
    }
}

static uint64_t cgroup_memory(void)
{
    uint64_t limit = UINT64_MAX;
    char line[PATH_MAX + 64];
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        /* "0::/group" is version 2, "9:memory:/group" version 1. */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL) {
            continue;
        }
        *group++ = 0;
        controllers++;
        uint64_t found = UINT64_MAX;
        if (controllers[0] == 0) {
            found = group_limit("/sys/fs/cgroup", group, "memory.max");
        } else if (strstr(controllers, "memory") != NULL) {
            found = group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
        }
        limit = found < limit ? found : limit;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return limit;
}

uint64_t tessi_settings_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t physical = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_C(1) << 30;
    uint64_t limit = cgroup_memory();
    return limit < physical ? limit : physical;
}

/* ——— names ——— */

void tessi_settings_processor_name(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    text[0] = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            colon += 1 + strspn(colon + 1, " ");
            colon[strcspn(colon, "\n")] = 0;
            (void)snprintf(text, size, "%s", colon);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

void tessi_settings_name(char *text, size_t size)
{
    char host[48] = "";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == 0) {
        (void)snprintf(host, sizeof host, "worker");
    }
    host[sizeof host - 1] = 0;
    (void)snprintf(text, size, "%s-%ld", host, (long)getpid());
}

/* ——— numerics families ——— */

/* The number of the first family of the list that the library has, in a child process; `count` when it has none,
 * −1 when that could not be found out. */
static int probe(const char *const *list, uint32_t count)
{
    pid_t child = fork();
    if (child == 0) {
        int found = (int)count;
        if (tessi_blas_open(NULL, NULL) == TESSI_OK) {
            for (uint32_t i = 0; i < count; i++) {
                found = strcmp(tessi_blas_family(), list[i]) == 0 ? (int)i : found;
            }
        }
        _exit(found);
    }
    if (child < 0) {
        return -1;
    }
    int64_t limit_ns = tessi_clock_now() + PROBE_TIMEOUT_NS;
    int outcome = 0;
    for (;;) {
        pid_t ended = waitpid(child, &outcome, WNOHANG);
        if (ended == child) {
            bool told = WIFEXITED(outcome) && WEXITSTATUS(outcome) <= (int)count;
            return told ? WEXITSTATUS(outcome) : -1;
        }
        if ((ended < 0 && errno != EINTR) || tessi_clock_now() > limit_ns) {
            break;
        }
        struct timespec pause = {.tv_nsec = 1000000};
        (void)nanosleep(&pause, NULL);
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &outcome, 0);
    return -1;
}

static void append(char *text, size_t size, const char *name)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, size - used, "%s%s", used > 0 ? "," : "", name);
}

enum tessi_status tessi_settings_families(const char *core, bool only_us, char *text, size_t size,
                                          struct tessi_error *error)
{
    text[0] = 0;
    if (core != NULL || only_us) {
        enum tessi_status status = tessi_blas_open(core, error);
        if (status != TESSI_OK && core != NULL) {
            return status;
        }
        append(text, size, tessi_blas_numerics());
        return TESSI_OK;
    }
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    uint32_t count = tessi_blas_families(list);
    int best = probe(list, count);
    const char *before = "";
    for (uint32_t i = best < 0 ? 0 : (uint32_t)best; i < count; i++) {
        /* Kernel families with the same bits are neighbours in the list. */
        const char *numerics = tessi_blas_numerics_of(list[i]);
        if (strcmp(numerics, before) != 0) {
            append(text, size, numerics);
        }
        before = numerics;
    }
    append(text, size, "plain");
    return TESSI_OK;
}

/* ——— files named by clients ——— */

enum tessi_status tessi_settings_resolve(const char *folder, const char *option, const char *path, char **resolved,
                                         struct tessi_error *error)
{
    *resolved = NULL;
    char *root = NULL, *joined = NULL, *found = NULL;
    enum tessi_status status = TESSI_OK;
    if (folder != NULL && path[0] != '/') {
        size_t size = strlen(folder) + strlen(path) + 2;
        joined = tessi_alloc(size);
        (void)snprintf(joined, size, "%s/%s", folder, path);
    }
    found = realpath(joined != NULL ? joined : path, NULL);
    if (found == NULL) {
        status = tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO, "%s: %s", path, strerror(errno));
        goto cleanup;
    }
    if (folder != NULL) {
        root = realpath(folder, NULL);
        size_t length = root == NULL ? 0 : strlen(root);
        bool all = length == 1; /* "/" */
        if (root == NULL || strncmp(found, root, length) != 0 || (!all && found[length] != '/')) {
            status = tessi_fail(error, TESSI_AUTH,
                                "%s is not below this worker's %s directory %s: start the worker with "
                                "%s for the directory that holds it",
                                path, option, folder, option);
            goto cleanup;
        }
    }
    *resolved = tessi_strdup(found);
cleanup:
    free(root);
    free(found);
    tessi_free(joined);
    return status;
}
