#include "worker/peer/arena_share.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/descriptors.h"
#include "worker/peer/local_socket.h"

enum { ANSWER_SECONDS = 1 };

static const char answer_magic[8] = "TESSARN1";

struct tessi_share {
    int descriptor; /* borrowed */
    int listener;
    int ending; /* eventfd */
    int spare;  /* descriptor, see core/base/descriptors.h */
    pthread_t thread;
};

struct tessi_mapping {
    const uint8_t *base;
    uint64_t size;
};

/* ——— the owner ——— */

static void *share_thread(void *argument)
{
    struct tessi_share *share = argument;
    struct pollfd waits[2] = {{.fd = share->listener, .events = POLLIN}, {.fd = share->ending, .events = POLLIN}};
    for (;;) {
        if (poll(waits, 2, -1) < 0 && errno != EINTR) {
            return NULL;
        }
        if (waits[1].revents != 0) {
            return NULL;
        }
        int connection = tessi_descriptors_accept(share->listener, SOCK_CLOEXEC, &share->spare);
        if (connection >= 0) {
            if (tessi_local_same_user(connection)) {
                (void)tessi_local_send(connection, answer_magic, sizeof answer_magic, &share->descriptor, 1);
            }
            (void)close(connection);
        }
    }
}

enum tessi_status tessi_share_open(const char *address, int descriptor, struct tessi_share **out,
                                   struct tessi_error *error)
{
    *out = NULL;
    struct tessi_share *share = tessi_zalloc(sizeof *share);
    struct sockaddr_un name;
    socklen_t size = tessi_local_name("arena", address, &name);
    share->descriptor = descriptor;
    share->ending = eventfd(0, EFD_CLOEXEC);
    share->spare = tessi_descriptors_spare();
    share->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (share->ending >= 0 && share->listener >= 0 && bind(share->listener, (struct sockaddr *)&name, size) == 0 &&
        listen(share->listener, 64) == 0) {
        int rc = pthread_create(&share->thread, NULL, share_thread, share);
        if (rc == 0) {
            *out = share;
            return TESSI_OK;
        }
        errno = rc;
    }
    enum tessi_status status =
        tessi_fail(error, TESSI_IO, "sharing memory with the workers of this host: %s", strerror(errno));
    if (share->listener >= 0) {
        (void)close(share->listener);
    }
    if (share->ending >= 0) {
        (void)close(share->ending);
    }
    if (share->spare >= 0) {
        (void)close(share->spare);
    }
    tessi_free(share);
    return status;
}

void tessi_share_close(struct tessi_share *share)
{
    if (share == NULL) {
        return;
    }
    uint64_t one = 1;
    (void)!write(share->ending, &one, sizeof one);
    (void)pthread_join(share->thread, NULL);
    (void)close(share->listener);
    (void)close(share->ending);
    if (share->spare >= 0) {
        (void)close(share->spare);
    }
    tessi_free(share);
}

/* ——— a reader ——— */

static enum tessi_status descriptor_receive(int connection, int *descriptor, struct tessi_error *error)
{
    char magic[sizeof answer_magic];
    ssize_t n = tessi_local_receive(connection, magic, sizeof magic, 0, descriptor, 1);
    if (n < 0) {
        return tessi_fail(error, TESSI_UNREACHABLE, "memory of a neighbour: it does not answer: %s", strerror(errno));
    }
    if (n != sizeof magic || memcmp(magic, answer_magic, sizeof magic) != 0 || *descriptor < 0) {
        return tessi_fail(error, n == 0 ? TESSI_AUTH : TESSI_PROTOCOL, "memory of a neighbour: %s",
                          n == 0 ? "it refuses this user" : "it answers something else");
    }
    return TESSI_OK;
}

static enum tessi_status descriptor_map(int descriptor, struct tessi_mapping **out, struct tessi_error *error)
{
    struct stat info;
    int seals = fcntl(descriptor, F_GET_SEALS);
    if (fstat(descriptor, &info) != 0 || info.st_size <= 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return tessi_fail(error, TESSI_PROTOCOL, "memory of a neighbour: it is no sealed memory file");
    }
    void *base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED | MAP_NORESERVE, descriptor, 0);
    if (base == MAP_FAILED) {
        return tessi_fail(error, TESSI_NOMEM, "memory of a neighbour: cannot map it: %s", strerror(errno));
    }
    (void)madvise(base, (size_t)info.st_size, MADV_DONTDUMP);
    *out = tessi_alloc(sizeof **out);
    **out = (struct tessi_mapping){base, (uint64_t)info.st_size};
    return TESSI_OK;
}

enum tessi_status tessi_mapping_open(const char *address, struct tessi_mapping **mapping, struct tessi_error *error)
{
    *mapping = NULL;
    enum tessi_status status;
    int descriptor = -1;
    struct sockaddr_un name;
    socklen_t size = tessi_local_name("arena", address, &name);
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0) {
        return tessi_fail(error, TESSI_IO, "memory of a neighbour: %s", strerror(errno));
    }
    (void)setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(connection, (struct sockaddr *)&name, size) != 0) {
        status = tessi_fail(error, TESSI_UNREACHABLE, "memory of a neighbour at %s: %s", address, strerror(errno));
        goto cleanup;
    }
    if (!tessi_local_same_user(connection)) {
        status = tessi_fail(error, TESSI_AUTH, "memory of a neighbour at %s: it belongs to another user", address);
        goto cleanup;
    }
    TESSI_TRY(descriptor_receive(connection, &descriptor, error));
    TESSI_TRY(descriptor_map(descriptor, mapping, error));
cleanup:
    (void)close(connection);
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return status;
}

void tessi_mapping_close(struct tessi_mapping *mapping)
{
    if (mapping != NULL) {
        (void)munmap((void *)(uintptr_t)mapping->base, mapping->size);
        tessi_free(mapping);
    }
}

const void *tessi_mapping_at(const struct tessi_mapping *mapping, uint64_t offset, uint64_t bytes)
{
    if (offset > mapping->size || bytes > mapping->size - offset) {
        return NULL;
    }
    return mapping->base + offset;
}
