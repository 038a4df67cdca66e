/* Unix sockets between the workers of one host: names that follow from a worker's address, so that nothing has to be
 * agreed on, and descriptors passed over them between processes of the same user. */
#ifndef TESSI_PEER_LOCAL_SOCKET_H
#define TESSI_PEER_LOCAL_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define TESSI_LOCAL_DESCRIPTORS_MAX 2

/* The abstract name of what a worker offers: there is no file, and it is gone with its owner. `what` is a short word. */
socklen_t tessi_local_name(const char *what, const char *address, struct sockaddr_un *name);

/* Whether the other end of a connection runs as the same user. */
bool tessi_local_same_user(int connection);

/* One message of bytes with so many descriptors, which stay the caller's; never waits. False when it did not go. */
bool tessi_local_send(int connection, const void *bytes, size_t size, const int *descriptors, size_t count);

/* One message; what recvmsg says of its bytes, `flags` being its own. Exactly `count` descriptors become the caller's;
 * when others came, none is kept and all are -1. */
ssize_t tessi_local_receive(int connection, void *bytes, size_t size, int flags, int *descriptors, size_t count);

#endif
