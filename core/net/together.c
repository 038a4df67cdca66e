#include "core/net/together.h"

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

static bool open_times(struct tessi_together_thread *thread)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", (long)thread->id);
    thread->times_fd = open(path, O_RDONLY | O_CLOEXEC);
    return thread->times_fd >= 0;
}

static void close_times(struct tessi_together_thread *thread)
{
    if (thread->times_fd >= 0) {
        (void)close(thread->times_fd);
        thread->times_fd = -1;
    }
}

static bool add_times(const struct tessi_together_thread *thread, struct tessi_company_sample *sample)
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

static bool prepare(struct tessi_together *together, struct tessi_net *net)
{
    together->is_prepared = true;
    together->loop = together->io = (struct tessi_together_thread){.times_fd = -1};
    together->loop.id = gettid();
    if (!open_times(&together->loop)) {
        return false;
    }
    if (net == NULL || atomic_exchange(&net->io_is_kept, true)) {
        return true; /* The loop alone. */
    }
    together->net = net;
    return find_io(net, &together->io.id) && open_times(&together->io);
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

static bool keep(struct tessi_together_thread *thread, int home)
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
static void let_go(struct tessi_together_thread *thread)
{
    cpu_set_t now;
    if (thread->is_kept && sched_getaffinity(thread->id, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 &&
        CPU_ISSET((size_t)thread->home, &now)) {
        (void)sched_setaffinity(thread->id, sizeof thread->allowed, &thread->allowed);
    }
    thread->is_kept = false;
}

static void let_both_go(struct tessi_together *together)
{
    let_go(&together->io);
    let_go(&together->loop);
}

static bool keep_both(struct tessi_together *together)
{
    cpu_set_t allowed;
    int home = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? choose_home(&allowed) : -1;
    bool kept = home >= 0 && CPU_COUNT(&allowed) > 1 && keep(&together->loop, home) &&
                (together->net == NULL || keep(&together->io, home));
    if (!kept) {
        let_both_go(together);
    }
    return kept;
}

void tessi_together_tend(struct tessi_together *together, struct tessi_net *net, int64_t now_ns)
{
    if (together->is_impossible || !tessi_company_wants(&together->company, now_ns, together->answers)) {
        return;
    }
    struct tessi_company_sample sample = {.now_ns = now_ns};
    bool possible = (together->is_prepared || prepare(together, net)) && together->loop.id == gettid() &&
                    add_times(&together->loop, &sample) && add_times(&together->io, &sample);
    if (possible && tessi_company_judge(&together->company, &sample, together->answers)) {
        if (together->company.together) {
            possible = keep_both(together);
        } else {
            let_both_go(together);
        }
    }
    if (!possible) {
        let_both_go(together);
        together->is_impossible = true;
    }
}

void tessi_together_part(struct tessi_together *together, int64_t now_ns)
{
    tessi_company_part(&together->company, now_ns);
    let_both_go(together);
}

void tessi_together_fini(struct tessi_together *together)
{
    if (!together->is_prepared) {
        return;
    }
    together->loop.is_kept = together->loop.is_kept && together->loop.id == gettid();
    let_both_go(together);
    close_times(&together->loop);
    close_times(&together->io);
    if (together->net != NULL) {
        atomic_store(&together->net->io_is_kept, false);
    }
    *together = (struct tessi_together){0};
}
