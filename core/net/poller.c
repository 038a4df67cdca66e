#include "core/net/poller.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/net/affinity.h"
#include "core/net/endpoint.h"

enum { EVENTS_MAX = 64 };

/* What epoll returns: an endpoint's entry, a descriptor's, or the wake-up's (neither). */
struct entry {
    struct tessi_endpoint *endpoint;
    int fd; /* without endpoint, or the endpoint's `watch_fd` */
    void *owner;
    size_t position;  /* in `entries` */
    bool is_reported; /* in this round */
};

struct tessi_poller {
    int epoll_fd;
    int wake_fd;
    bool is_woken;
    struct entry wake;
    struct entry **entries;
    size_t entries_capacity;
    size_t entries_count;
    struct tessi_net *net; /* of the endpoints; NULL: there was none yet */
    struct tessi_affinity affinity;
    bool has_slept; /* in the last wait, until something came */
    uint64_t sends; /* of all endpoints, before the last wait */
    size_t turn;    /* where the next look begins, so that a small `capacity` starves nobody */
};

struct round {
    struct tessi_ready *ready;
    uint32_t capacity;
    uint32_t count;
    int64_t now_ns;
    int64_t next_ns; /* the earliest timer */
};

enum tessi_status tessi_poller_create(struct tessi_poller **poller_out, struct tessi_error *error)
{
    struct tessi_poller *poller = tessi_zalloc(sizeof *poller);
    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = &poller->wake};
    if (poller->epoll_fd < 0 || poller->wake_fd < 0 ||
        epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &interest) != 0) {
        enum tessi_status status =
            tessi_fail(error, TESSI_IO, "cannot create a poller: %s; raise `ulimit -n`", strerror(errno));
        tessi_poller_destroy(poller);
        *poller_out = NULL;
        return status;
    }
    *poller_out = poller;
    return TESSI_OK;
}

void tessi_poller_destroy(struct tessi_poller *poller)
{
    if (poller == NULL) {
        return;
    }
    tessi_affinity_fini(&poller->affinity);
    for (size_t i = 0; i < poller->entries_count; i++) {
        TESS_ASSERT(poller->entries[i]->endpoint == NULL);
        tessi_free(poller->entries[i]);
    }
    tessi_free(poller->entries);
    if (poller->wake_fd >= 0) {
        (void)close(poller->wake_fd);
    }
    if (poller->epoll_fd >= 0) {
        (void)close(poller->epoll_fd);
    }
    tessi_free(poller);
}

static struct entry *add_entry(struct tessi_poller *poller, void *owner)
{
    tessi_grow(&poller->entries, &poller->entries_capacity, poller->entries_count + 1, sizeof poller->entries[0]);
    struct entry *entry = tessi_zalloc(sizeof *entry);
    entry->fd = -1;
    entry->owner = owner;
    entry->position = poller->entries_count;
    poller->entries[poller->entries_count++] = entry;
    return entry;
}

static void remove_entry(struct tessi_poller *poller, struct entry *entry)
{
    TESS_ASSERT(entry->position < poller->entries_count && poller->entries[entry->position] == entry);
    struct entry *last = poller->entries[--poller->entries_count];
    last->position = entry->position;
    poller->entries[last->position] = last;
    tessi_free(entry);
}

static struct entry *find_watch(const struct tessi_poller *poller, const struct tessi_endpoint *endpoint)
{
    for (size_t i = 0; i < poller->entries_count; i++) {
        struct entry *entry = poller->entries[i];
        if (entry->endpoint == endpoint && entry->fd >= 0) {
            return entry;
        }
    }
    return NULL;
}

static bool add_watch(struct tessi_poller *poller, struct tessi_endpoint *endpoint, void *owner)
{
    if (endpoint->watch_fd < 0) {
        return true;
    }
    struct entry *entry = add_entry(poller, owner);
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = entry};
    entry->endpoint = endpoint;
    entry->fd = endpoint->watch_fd;
    if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, entry->fd, &interest) == 0) {
        return true;
    }
    remove_entry(poller, entry);
    return false;
}

static void remove_watch(struct tessi_poller *poller, const struct tessi_endpoint *endpoint)
{
    struct entry *entry = endpoint->watch_fd >= 0 ? find_watch(poller, endpoint) : NULL;
    if (entry != NULL) {
        (void)epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL);
        remove_entry(poller, entry);
    }
}

static enum tessi_status add_endpoint(struct tessi_poller *poller, struct tessi_endpoint *endpoint, void *owner,
                                      struct tessi_error *error)
{
    TESS_ASSERT(endpoint->epoll_fd < 0);
    struct entry *entry = add_entry(poller, owner);
    entry->endpoint = endpoint;
    endpoint->epoll_fd = poller->epoll_fd;
    poller->net = endpoint->net;
    endpoint->poller_entry = entry;
    /* A client whose last attempt could not even open a socket has only its end to tell. */
    if (!add_watch(poller, endpoint, owner) ||
        (endpoint->socket != NULL && !tessi_endpoint_watch(endpoint, poller->epoll_fd, entry))) {
        int cause = errno;
        remove_watch(poller, endpoint);
        endpoint->epoll_fd = -1;
        endpoint->poller_entry = NULL;
        remove_entry(poller, entry);
        return tessi_fail(error, TESSI_IO, "cannot wait for a socket: %s", strerror(cause));
    }
    return TESSI_OK;
}

static void remove_endpoint(struct tessi_poller *poller, struct tessi_endpoint *endpoint)
{
    TESS_ASSERT(endpoint->epoll_fd == poller->epoll_fd);
    struct entry *entry = endpoint->poller_entry;
    remove_watch(poller, endpoint);
    tessi_endpoint_unwatch(endpoint);
    remove_entry(poller, entry);
}

enum tessi_status tessi_poller_add_server(struct tessi_poller *poller, struct tessi_server *server, void *owner,
                                          struct tessi_error *error)
{
    return add_endpoint(poller, tessi_server_endpoint_of(server), owner, error);
}

enum tessi_status tessi_poller_add_client(struct tessi_poller *poller, struct tessi_client *client, void *owner,
                                          struct tessi_error *error)
{
    return add_endpoint(poller, tessi_client_endpoint_of(client), owner, error);
}

void tessi_poller_remove_server(struct tessi_poller *poller, struct tessi_server *server)
{
    remove_endpoint(poller, tessi_server_endpoint_of(server));
}

void tessi_poller_remove_client(struct tessi_poller *poller, struct tessi_client *client)
{
    remove_endpoint(poller, tessi_client_endpoint_of(client));
}

static struct entry *find_fd(const struct tessi_poller *poller, int fd)
{
    for (size_t i = 0; i < poller->entries_count; i++) {
        if (poller->entries[i]->endpoint == NULL && poller->entries[i]->fd == fd) {
            return poller->entries[i];
        }
    }
    return NULL;
}

enum tessi_status tessi_poller_add_fd(struct tessi_poller *poller, int fd, uint32_t events, void *owner,
                                      struct tessi_error *error)
{
    struct entry *entry = find_fd(poller, fd);
    bool is_new = entry == NULL;
    if (is_new) {
        entry = add_entry(poller, owner);
        entry->fd = fd;
    }
    struct epoll_event interest = {.data.ptr = entry};
    interest.events = ((events & TESSI_POLL_READ) != 0 ? (uint32_t)EPOLLIN : 0) |
                      ((events & TESSI_POLL_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0);
    if (epoll_ctl(poller->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &interest) != 0) {
        int cause = errno;
        if (is_new) {
            remove_entry(poller, entry);
        }
        return tessi_fail(error, TESSI_IO, "cannot wait for descriptor %d: %s", fd, strerror(cause));
    }
    entry->owner = owner;
    return TESSI_OK;
}

void tessi_poller_remove_fd(struct tessi_poller *poller, int fd)
{
    struct entry *entry = find_fd(poller, fd);
    if (entry != NULL) {
        (void)epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        remove_entry(poller, entry);
    }
}

static void report(struct round *round, void *owner, uint32_t events)
{
    TESS_ASSERT(round->count < round->capacity);
    round->ready[round->count++] = (struct tessi_ready){.owner = owner, .events = events};
}

/* What an endpoint has to report now. Its marks are cleared only when there is room for the report. */
static void look_at(struct entry *entry, struct round *round)
{
    struct tessi_endpoint *endpoint = entry->endpoint;
    uint32_t events = 0;
    if (round->count == round->capacity) {
        round->next_ns = round->now_ns;
        return;
    }
    if (endpoint->retry_ns != TESSI_NEVER && (endpoint->is_signalled || round->now_ns >= endpoint->retry_ns)) {
        events |= TESSI_POLL_WRITE;
        endpoint->retry_ns = TESSI_NEVER;
    }
    if (endpoint->is_pending || endpoint->is_stirred || round->now_ns >= endpoint->timer_ns) {
        events |= TESSI_POLL_READ;
    } else if (endpoint->is_touched || !endpoint->is_monitor_quiet || endpoint->is_signalled) {
        if (tessi_endpoint_has_input(endpoint, endpoint->is_signalled)) {
            events |= TESSI_POLL_READ;
        } else {
            endpoint->is_touched = false;
        }
    }
    /* What is reported stays marked until a look finds nothing: the owner may not have taken all. */
    endpoint->is_touched = endpoint->is_touched || (events & TESSI_POLL_READ) != 0;
    endpoint->is_signalled = false;
    if (events != 0) {
        entry->is_reported = true;
        report(round, entry->owner, events);
    }
}

static void look_at_all(struct tessi_poller *poller, struct round *round)
{
    size_t first = poller->turn;
    for (size_t i = 0; i < poller->entries_count; i++) {
        size_t position = first + i < poller->entries_count ? first + i : first + i - poller->entries_count;
        struct entry *entry = poller->entries[position];
        struct tessi_endpoint *endpoint = entry->endpoint;
        if (endpoint == NULL || entry->fd >= 0 || entry->is_reported) {
            continue;
        }
        bool is_due = round->now_ns >= endpoint->retry_ns || round->now_ns >= endpoint->timer_ns;
        bool is_used = endpoint->is_touched || !endpoint->is_monitor_quiet || endpoint->is_stirred;
        if (is_used || endpoint->is_signalled || endpoint->is_pending || is_due) {
            look_at(entry, round);
        }
        int64_t next_ns = endpoint->retry_ns < endpoint->timer_ns ? endpoint->retry_ns : endpoint->timer_ns;
        if (!entry->is_reported && next_ns < round->next_ns) {
            round->next_ns = next_ns;
        }
    }
}

/* epoll with nanoseconds, where the kernel has it (5.11). */
static int wait_events(struct tessi_poller *poller, struct epoll_event *events, int64_t wait_ns)
{
    struct timespec wait = {.tv_sec = wait_ns / TESSI_NS_PER_S, .tv_nsec = wait_ns % TESSI_NS_PER_S};
    int n = epoll_pwait2(poller->epoll_fd, events, EVENTS_MAX, wait_ns == TESSI_NEVER ? NULL : &wait, NULL);
    if (n < 0 && errno == ENOSYS) {
        int64_t wait_ms = wait_ns == TESSI_NEVER ? -1 : wait_ns / TESSI_NS_PER_MS + (wait_ns % TESSI_NS_PER_MS != 0);
        n = epoll_wait(poller->epoll_fd, events, EVENTS_MAX, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms);
    }
    return n;
}

static void take_wake(struct tessi_poller *poller, struct round *round)
{
    uint64_t count = 0;
    while (read(poller->wake_fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
    poller->is_woken = true;
    if (round->count < round->capacity) {
        poller->is_woken = false;
        report(round, NULL, TESSI_POLL_WAKE);
    }
}

static void take_events(struct tessi_poller *poller, const struct epoll_event *events, int count, struct round *round)
{
    for (int i = 0; i < count; i++) {
        struct entry *entry = events[i].data.ptr;
        if (entry == &poller->wake) {
            take_wake(poller, round);
        } else if (entry->endpoint != NULL) {
            entry->endpoint->is_signalled |= entry->fd < 0;
            entry->endpoint->is_stirred |= entry->fd >= 0;
        } else if (round->count < round->capacity) {
            uint32_t ready = (events[i].events & ~(uint32_t)EPOLLOUT) != 0 ? TESSI_POLL_READ : 0;
            ready |= (events[i].events & (uint32_t)EPOLLOUT) != 0 ? TESSI_POLL_WRITE : 0;
            report(round, entry->owner, ready);
        }
    }
}

uint32_t tessi_poller_wait(struct tessi_poller *poller, int64_t timeout_ns, struct tessi_ready *ready,
                           uint32_t capacity)
{
    TESS_ASSERT(capacity > 0 && timeout_ns >= 0);
    struct epoll_event events[EVENTS_MAX];
    struct round round = {.ready = ready, .capacity = capacity, .now_ns = tessi_clock_now()};
    int64_t until_ns = timeout_ns > TESSI_NEVER - round.now_ns ? TESSI_NEVER : round.now_ns + timeout_ns;
    uint64_t sends = 0;
    poller->turn = poller->turn + 1 < poller->entries_count ? poller->turn + 1 : 0;
    for (size_t i = 0; i < poller->entries_count; i++) {
        poller->entries[i]->is_reported = false;
        bool is_endpoint = poller->entries[i]->endpoint != NULL && poller->entries[i]->fd < 0;
        sends += is_endpoint ? poller->entries[i]->endpoint->sends : 0;
    }
    poller->affinity.answers += poller->has_slept && sends != poller->sends ? 1 : 0;
    poller->has_slept = false;
    poller->sends = sends;
    tessi_affinity_tend(&poller->affinity, poller->net, round.now_ns);
    for (;;) {
        round.next_ns = until_ns;
        look_at_all(poller, &round);
        if (poller->is_woken && round.count < round.capacity) {
            poller->is_woken = false;
            report(&round, NULL, TESSI_POLL_WAKE);
        }
        int64_t wait_ns = round.next_ns == TESSI_NEVER ? TESSI_NEVER : round.next_ns - round.now_ns;
        wait_ns = round.count > 0 || wait_ns < 0 ? 0 : wait_ns;
        int n = wait_events(poller, events, wait_ns);
        if (n < 0) {
            TESS_ASSERT(errno == EINTR);
            return round.count;
        }
        poller->has_slept = poller->has_slept || (wait_ns > 0 && n > 0);
        take_events(poller, events, n, &round);
        round.now_ns = tessi_clock_now();
        if (n > 0) {
            look_at_all(poller, &round);
        }
        if (round.count > 0 || (round.now_ns >= until_ns)) {
            return round.count;
        }
    }
}

void tessi_poller_keep_apart(struct tessi_poller *poller)
{
    tessi_affinity_part(&poller->affinity, tessi_clock_now());
}

void tessi_poller_wake(struct tessi_poller *poller)
{
    uint64_t one = 1;
    ssize_t rc;
    do {
        rc = write(poller->wake_fd, &one, sizeof one);
    } while (rc < 0 && errno == EINTR);
    TESS_ASSERT(rc == (ssize_t)sizeof one || errno == EAGAIN); /* EAGAIN: already more than awake. */
}
