#include "core/net/affinity.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/net/endpoint.h"

/* ——— measuring ——— */

static bool open_times(struct tessi_affinity_thread *thread)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", (long)thread->id);
    thread->times_fd = open(path, O_RDONLY | O_CLOEXEC);
    return thread->times_fd >= 0;
}

static void close_times(struct tessi_affinity_thread *thread)
{
    if (thread->times_fd >= 0) {
        (void)close(thread->times_fd);
        thread->times_fd = -1;
    }
}

static bool add_times(const struct tessi_affinity_thread *thread, struct tessi_colocation_sample *sample)
{
    char text[96];
    int64_t busy_ns, delayed_ns;
    if (thread->times_fd < 0) {
        return true;
    }
    ssize_t size = pread(thread->times_fd, text, sizeof text - 1, 0);
    if (size <= 0) {
        return false;
    }
    text[size] = 0;
    if (sscanf(text, "%" SCNd64 " %" SCNd64, &busy_ns, &delayed_ns) != 2) {
        return false;
    }
    sample->busy_ns += busy_ns;
    sample->delayed_ns += delayed_ns;
    return true;
}

/* ZeroMQ does not say which thread is its own, but lets us choose what its name begins with. */
static bool find_io(struct tessi_net *net, pid_t *id)
{
    char path[64], name[32], wanted[32];
    size_t found = 0;
    DIR *tasks = opendir("/proc/self/task");
    (void)snprintf(wanted, sizeof wanted, "%u/ZMQbg/IO/0\n", net->number);
    for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
        long task = strtol(entry->d_name, NULL, 10);
        (void)snprintf(path, sizeof path, "/proc/self/task/%ld/comm", task);
        int fd = task > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t size = fd >= 0 ? read(fd, name, sizeof name - 1) : 0;
        if (fd >= 0) {
            (void)close(fd);
        }
        name[size > 0 ? size : 0] = 0;
        if (strcmp(name, wanted) == 0) {
            *id = (pid_t)task;
            found++;
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return found == 1;
}

static bool prepare(struct tessi_affinity *affinity, struct tessi_net *net)
{
    affinity->is_prepared = true;
    affinity->loop = affinity->io = (struct tessi_affinity_thread){.times_fd = -1};
    affinity->loop.id = gettid();
    if (!open_times(&affinity->loop)) {
        return false;
    }
    if (net == NULL || atomic_exchange(&net->io_is_kept, true)) {
        return true; /* The loop alone. */
    }
    affinity->net = net;
    return find_io(net, &affinity->io.id) && open_times(&affinity->io);
}

/* ——— moving ——— */

/* The last, since slots that are pinned begin at the first; the same for all processes that may be in the same places,
 * so that those of one host that speak with each other meet. */
static int choose_home(const cpu_set_t *allowed)
{
    for (int i = CPU_SETSIZE - 1; i >= 0; i--) {
        if (CPU_ISSET((size_t)i, allowed)) {
            return i;
        }
    }
    return -1;
}

static bool keep(struct tessi_affinity_thread *thread, int home)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)home, &one);
    thread->home = home;
    thread->is_kept = sched_getaffinity(thread->id, sizeof thread->allowed, &thread->allowed) == 0 &&
                      CPU_ISSET((size_t)home, &thread->allowed) && sched_setaffinity(thread->id, sizeof one, &one) == 0;
    return thread->is_kept;
}

/* Unless somebody else has moved it since. */
static void let_go(struct tessi_affinity_thread *thread)
{
    cpu_set_t now;
    if (thread->is_kept && sched_getaffinity(thread->id, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 &&
        CPU_ISSET((size_t)thread->home, &now)) {
        (void)sched_setaffinity(thread->id, sizeof thread->allowed, &thread->allowed);
    }
    thread->is_kept = false;
}

static void let_both_go(struct tessi_affinity *affinity)
{
    let_go(&affinity->io);
    let_go(&affinity->loop);
}

static bool keep_both(struct tessi_affinity *affinity)
{
    cpu_set_t allowed;
    int home = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? choose_home(&allowed) : -1;
    bool kept = home >= 0 && CPU_COUNT(&allowed) > 1 && keep(&affinity->loop, home) &&
                (affinity->net == NULL || keep(&affinity->io, home));
    if (!kept) {
        let_both_go(affinity);
    }
    return kept;
}

void tessi_affinity_tend(struct tessi_affinity *affinity, struct tessi_net *net, int64_t now_ns)
{
    if (affinity->is_impossible || !tessi_colocation_wants(&affinity->colocation, now_ns, affinity->answers)) {
        return;
    }
    struct tessi_colocation_sample sample = {.now_ns = now_ns};
    bool possible = (affinity->is_prepared || prepare(affinity, net)) && affinity->loop.id == gettid() &&
                    add_times(&affinity->loop, &sample) && add_times(&affinity->io, &sample);
    if (possible && tessi_colocation_judge(&affinity->colocation, &sample, affinity->answers)) {
        if (affinity->colocation.colocated) {
            possible = keep_both(affinity);
        } else {
            let_both_go(affinity);
        }
    }
    if (!possible) {
        let_both_go(affinity);
        affinity->is_impossible = true;
    }
}

void tessi_affinity_part(struct tessi_affinity *affinity, int64_t now_ns)
{
    tessi_colocation_part(&affinity->colocation, now_ns);
    let_both_go(affinity);
}

void tessi_affinity_fini(struct tessi_affinity *affinity)
{
    if (!affinity->is_prepared) {
        return;
    }
    affinity->loop.is_kept = affinity->loop.is_kept && affinity->loop.id == gettid();
    let_both_go(affinity);
    close_times(&affinity->loop);
    close_times(&affinity->io);
    if (affinity->net != NULL) {
        atomic_store(&affinity->net->io_is_kept, false);
    }
    *affinity = (struct tessi_affinity){0};
}
