/* Keeps the thread of a poller and its network's ZeroMQ thread on one processor while that makes messages faster:
 * `colocation.h` judges, this measures and moves. Only these two threads are ever touched, and each gets back the
 * processors that it had. Where the system does not tell how long threads wait or refuses to move them, nothing is
 * done. */
#ifndef TESSI_NET_AFFINITY_H
#define TESSI_NET_AFFINITY_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/net/colocation.h"

struct tessi_net;

struct tessi_affinity_thread {
    pid_t id;
    int times_fd; /* its times, from the system; −1: not open */
    bool is_kept;
    int home;          /* while it is kept: where */
    cpu_set_t allowed; /* while it is kept: where else it may be */
};

/* A poller's, all zero at first. */
struct tessi_affinity {
    struct tessi_colocation colocation;
    struct tessi_affinity_thread loop, io;
    bool is_prepared, is_impossible;
    struct tessi_net *net; /* whose ZeroMQ thread `io` is; NULL: another poller of the same network keeps it */
    uint64_t answers;      /* turns of the loop that began with a sleep and sent something; counted by the poller */
};

/* Before the loop waits again, from its thread. */
void tessi_affinity_tend(struct tessi_affinity *affinity, struct tessi_net *net, int64_t now_ns);
/* From the loop's thread: part at once, and for some time. */
void tessi_affinity_part(struct tessi_affinity *affinity, int64_t now_ns);
/* The loop does not wait any more; from any thread, before the network ends. A loop that has ended in another thread
 * has taken its processors along. */
void tessi_affinity_fini(struct tessi_affinity *affinity);

#endif
