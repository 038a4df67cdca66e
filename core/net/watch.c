#include "core/net/watch.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

enum {
    EVENTS_MAX = 64,
    LOOK_NS = 10 * 1000 * 1000, /* between two looks at what moves; longer when much does */
    LOOK_EACH_NS = 100 * 1000,  /* so that looking takes a hundredth of the time */
    IDLE_BYTES_PER_S = 64,      /* heartbeats and their answers, which are never given out */
    FRAME_BYTES = 9,            /* before a frame; 2 before a short one, which is no matter */
    ENCRYPTION_BYTES = 33,
};

struct watched { /* by descriptor */
    bool is_open;
    bool is_known;  /* something was given out */
    bool is_moving; /* listed in `moving` */
    bool is_cut;
    /* At the last look: */
    bool is_stuck; /* nothing was given out since the one before */
    bool was_much; /* it held too much: more than a message, unless that had just come whole */
    uint32_t serial;
    uint64_t cookie; /* the kernel's name of it, never used again; 0: it is not TCP's */
    int64_t since_ns;
    uint64_t taken; /* bytes that were given out */
    uint64_t seen_taken, seen_received, held;
};

struct stranger {
    int fd;
    uint32_t serial;
};

struct tessi_watch {
    struct tessi_watch_limits limits;
    struct tessi_watch_gauges gauges;
    int epoll_fd;
    struct watched *all;
    size_t capacity;
    int *moving;
    size_t moving_count, moving_capacity;
    struct stranger *strangers; /* in the order in which they came; some are none any more */
    size_t stranger_first, stranger_end, stranger_capacity;
    uint32_t serials;
    bool was_over; /* all together held too much at the last look */
};

enum tessi_status tessi_watch_create(const struct tessi_watch_limits *limits, struct tessi_watch **watch_out,
                                     struct tessi_error *error)
{
    *watch_out = NULL;
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        return tessi_fail(error, TESSI_IO, "cannot watch connections: %s; raise `ulimit -n`", strerror(errno));
    }
    struct tessi_watch *watch = tessi_zalloc(sizeof *watch);
    watch->limits = *limits;
    watch->epoll_fd = fd;
    *watch_out = watch;
    return TESSI_OK;
}

void tessi_watch_destroy(struct tessi_watch *watch)
{
    if (watch != NULL) {
        (void)close(watch->epoll_fd);
        tessi_free(watch->all);
        tessi_free(watch->moving);
        tessi_free(watch->strangers);
        tessi_free(watch);
    }
}

int tessi_watch_fd(const struct tessi_watch *watch)
{
    return watch->epoll_fd;
}

static struct watched *at(struct tessi_watch *watch, int fd)
{
    bool is_there = fd >= 0 && (size_t)fd < watch->capacity && watch->all[fd].is_open;
    return is_there ? &watch->all[fd] : NULL;
}

/* Its next byte, once. */
static void await_move(struct tessi_watch *watch, int fd)
{
    struct epoll_event interest = {.events = (uint32_t)EPOLLIN | (uint32_t)EPOLLONESHOT, .data.fd = fd};
    if (epoll_ctl(watch->epoll_fd, EPOLL_CTL_MOD, fd, &interest) != 0 && errno == ENOENT) {
        (void)epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, fd, &interest); /* It may have been closed already. */
    }
}

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

/* False: it is not TCP's, or gone. */
static bool received_of(int fd, uint64_t *bytes)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) {
        return false;
    }
    *bytes = info.tcpi_bytes_received;
    return true;
}

static bool is_stranger(const struct watched *watched)
{
    return watched->is_open && !watched->is_known && !watched->is_cut;
}

/* What the kernel keeps is bounded by itself. */
static uint64_t without_kernels(int fd, uint64_t held)
{
    int unread = 0;
    bool known = ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0;
    return !known ? held : held > (uint64_t)unread ? held - (uint64_t)unread : 0;
}

static void cut(struct tessi_watch *watch, int fd, struct watched *watched)
{
    if (!watched->is_cut && cookie_of(fd) == watched->cookie) {
        watch->gauges.strangers -= is_stranger(watched) ? 1 : 0;
        watched->is_cut = true;
        watch->gauges.cut++;
        /* Resets the connection and forgets what the kernel has received, which ZeroMQ would read first otherwise. */
        const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        if (connect(fd, &nobody, sizeof nobody) != 0) {
            (void)shutdown(fd, SHUT_RDWR);
        }
    }
}

void tessi_watch_cut(struct tessi_watch *watch, int fd)
{
    struct watched *watched = at(watch, fd);
    if (watched != NULL) {
        cut(watch, fd, watched);
    }
}

/* ——— strangers ——— */

static void add_stranger(struct tessi_watch *watch, int fd, uint32_t serial)
{
    if (watch->stranger_first > 0 && watch->stranger_end == watch->stranger_capacity) {
        watch->stranger_end -= watch->stranger_first;
        memmove(watch->strangers, watch->strangers + watch->stranger_first,
                watch->stranger_end * sizeof watch->strangers[0]);
        watch->stranger_first = 0;
    }
    tessi_grow(&watch->strangers, &watch->stranger_capacity, watch->stranger_end + 1, sizeof watch->strangers[0]);
    watch->strangers[watch->stranger_end++] = (struct stranger){fd, serial};
    watch->gauges.strangers++;
}

/* Those that are none any more leave with those before them. */
static void bound_strangers(struct tessi_watch *watch)
{
    while (watch->stranger_first < watch->stranger_end) {
        struct stranger first = watch->strangers[watch->stranger_first];
        struct watched *watched = at(watch, first.fd);
        bool is_one = watched != NULL && watched->serial == first.serial && is_stranger(watched);
        if (is_one && watch->gauges.strangers <= watch->limits.strangers) {
            return;
        }
        if (is_one) {
            cut(watch, first.fd, watched);
        }
        watch->stranger_first++;
    }
    watch->stranger_first = watch->stranger_end = 0;
}

void tessi_watch_begin(struct tessi_watch *watch, int fd, int64_t now_ns)
{
    TESS_ASSERT(fd >= 0);
    tessi_watch_end(watch, fd);
    size_t before = watch->capacity;
    tessi_grow(&watch->all, &watch->capacity, (size_t)fd + 1, sizeof watch->all[0]);
    memset(watch->all + before, 0, (watch->capacity - before) * sizeof watch->all[0]);
    bool was_moving = watch->all[fd].is_moving;
    watch->all[fd] = (struct watched){.is_open = true,
                                      .is_moving = was_moving,
                                      .serial = ++watch->serials,
                                      .cookie = cookie_of(fd),
                                      .since_ns = now_ns};
    add_stranger(watch, fd, watch->serials);
    bound_strangers(watch);
    if (watch->all[fd].cookie != 0) {
        await_move(watch, fd);
    }
}

void tessi_watch_end(struct tessi_watch *watch, int fd)
{
    struct watched *watched = at(watch, fd);
    if (watched != NULL) {
        watch->gauges.strangers -= is_stranger(watched) ? 1 : 0;
        watch->gauges.held_bytes -= watched->held;
        *watched = (struct watched){.is_moving = watched->is_moving};
    }
}

void tessi_watch_took(struct tessi_watch *watch, int fd, uint64_t bytes, uint64_t frames, bool first)
{
    struct watched *watched = at(watch, fd);
    if (watched == NULL) {
        return;
    }
    uint64_t around = watch->limits.is_encrypted ? FRAME_BYTES + ENCRYPTION_BYTES : FRAME_BYTES;
    watched->taken += bytes + frames * around;
    if (first && !watched->is_known) {
        watch->gauges.strangers -= is_stranger(watched) ? 1 : 0;
        watched->is_known = true;
    }
}

/* ——— looking ——— */

static void set_held(struct tessi_watch *watch, struct watched *watched, uint64_t held)
{
    watch->gauges.held_bytes += held - watched->held;
    watched->held = held;
}

/* False: it rests. What is held counts against a connection when it was too much at the last look already, and nothing of
 * it was given out since: else it has come whole, and faster than it was taken. A stranger waits to be answered. */
static bool measure(struct tessi_watch *watch, int fd, struct watched *watched, int64_t now_ns)
{
    uint64_t received = 0;
    if (!received_of(fd, &received)) {
        return false;
    }
    watched->taken = watched->taken < received ? watched->taken : received;
    uint64_t idle = (uint64_t)((now_ns - watched->since_ns) / TESSI_NS_PER_S) * IDLE_BYTES_PER_S;
    uint64_t held = received - watched->taken;
    uint64_t most = watched->is_known ? watch->limits.message_bytes : watch->limits.first_bytes;
    held = held > idle ? held - idle : 0;
    held = held > most ? without_kernels(fd, held) : held;
    bool moves = received != watched->seen_received;
    bool is_much = held > most;
    bool is_stuck = watched->taken == watched->seen_taken;
    watched->is_stuck = is_stuck;
    if (is_much && is_stuck && (watched->was_much || !watched->is_known)) {
        cut(watch, fd, watched);
    }
    watched->was_much = is_much;
    set_held(watch, watched, held);
    watched->seen_received = received;
    watched->seen_taken = watched->taken;
    return (moves || is_much) && !watched->is_cut;
}

/* The one that holds most of all goes. */
static void bound_all(struct tessi_watch *watch)
{
    size_t most = watch->capacity;
    for (size_t fd = 0; fd < watch->capacity; fd++) {
        const struct watched *watched = &watch->all[fd];
        bool counts = watched->is_open && !watched->is_cut && watched->is_stuck;
        if (counts && (most == watch->capacity || watched->held > watch->all[most].held)) {
            most = fd;
        }
    }
    if (most < watch->capacity) {
        cut(watch, (int)most, &watch->all[most]);
    }
}

static void take_moves(struct tessi_watch *watch)
{
    struct epoll_event events[EVENTS_MAX];
    int count;
    do {
        count = epoll_wait(watch->epoll_fd, events, EVENTS_MAX, 0);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            struct watched *watched = at(watch, fd);
            if (watched != NULL && !watched->is_moving && watched->cookie != 0) {
                watched->is_moving = true;
                tessi_grow(&watch->moving, &watch->moving_capacity, watch->moving_count + 1, sizeof watch->moving[0]);
                watch->moving[watch->moving_count++] = fd;
            }
        }
    } while (count == EVENTS_MAX);
}

int64_t tessi_watch_look(struct tessi_watch *watch, int64_t now_ns)
{
    size_t kept = 0;
    take_moves(watch);
    for (size_t i = 0; i < watch->moving_count; i++) {
        int fd = watch->moving[i];
        struct watched *watched = &watch->all[fd];
        if (watched->is_open && measure(watch, fd, watched, now_ns)) {
            watch->moving[kept++] = fd;
            continue;
        }
        watched->is_moving = false;
        if (watched->is_open && !watched->is_cut) {
            await_move(watch, fd);
        }
    }
    watch->moving_count = kept;
    bool is_over = watch->gauges.held_bytes > watch->limits.all_bytes;
    if (is_over && watch->was_over) {
        bound_all(watch);
    }
    watch->was_over = is_over;
    int64_t pause_ns = (int64_t)kept * LOOK_EACH_NS;
    return kept == 0 ? INT64_MAX : now_ns + (pause_ns > LOOK_NS ? pause_ns : LOOK_NS);
}

struct tessi_watch_gauges tessi_watch_gauges(const struct tessi_watch *watch)
{
    return watch->gauges;
}
