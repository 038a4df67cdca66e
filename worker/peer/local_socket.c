#include "worker/peer/local_socket.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/digest.h"

union control { /* aligned room for the descriptors */
    struct cmsghdr header;
    char bytes[CMSG_SPACE(TESSI_LOCAL_DESCRIPTORS_MAX * sizeof(int))];
};

socklen_t tessi_local_name(const char *what, const char *address, struct sockaddr_un *name)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    uint64_t number = tessi_digest_bytes(address, strlen(address));
    /* The leading 0 makes the name abstract. */
    int n = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "tessera-%s-%016" PRIx64, what, number);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

bool tessi_local_same_user(int connection)
{
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == geteuid();
}

bool tessi_local_send(int connection, const void *bytes, size_t size, const int *descriptors, size_t count)
{
    TESS_ASSERT(count >= 1 && count <= TESSI_LOCAL_DESCRIPTORS_MAX);
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    union control control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
    return sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

ssize_t tessi_local_receive(int connection, void *bytes, size_t size, int flags, int *descriptors, size_t count)
{
    TESS_ASSERT(count >= 1 && count <= TESSI_LOCAL_DESCRIPTORS_MAX);
    struct iovec part = {bytes, size};
    union control control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do {
        n = recvmsg(connection, &message, flags | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    int got[TESSI_LOCAL_DESCRIPTORS_MAX];
    size_t got_count = 0;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        got_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(got, CMSG_DATA(header), got_count * sizeof(int));
    }
    for (size_t i = 0; i < count; i++) {
        descriptors[i] = got_count == count ? got[i] : -1;
    }
    for (size_t i = 0; i < got_count && got_count != count; i++) {
        (void)close(got[i]);
    }
    return n;
}
