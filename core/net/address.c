#include "core/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/assert.h"

static enum tessi_status copy_name(const char *whole, const char *name, struct tessi_address *address,
                                   struct tessi_error *error)
{
    size_t limit =
        address->scheme == TESSI_SCHEME_IPC ? sizeof((struct sockaddr_un *)0)->sun_path - 1 : sizeof address->host - 1;
    size_t length = strlen(name);
    if (length == 0) {
        return tessi_fail(error, TESSI_INVALID, "address '%.200s': the name after :// is missing", whole);
    }
    if (length > limit) {
        return tessi_fail(error, TESSI_INVALID, "address '%.200s': the name is too long (at most %zu characters)",
                          whole, limit);
    }
    memcpy(address->host, name, length + 1);
    return TESSI_OK;
}

static bool host_is_valid(const char *host, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = host[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_letter && c != '-' && c != '.' && c != '_') {
            return false;
        }
    }
    return length > 0;
}

static enum tessi_status parse_port(const char *whole, const char *text, enum tessi_address_use use, uint16_t *port,
                                    struct tessi_error *error)
{
    uint32_t value = 0;
    bool good = text[0] != '\0' && strlen(text) <= 5;
    for (const char *p = text; good && *p != '\0'; p++) {
        good = *p >= '0' && *p <= '9';
        value = value * 10 + (uint32_t)(*p - '0');
    }
    if (!good || value > UINT16_MAX) {
        return tessi_fail(error, TESSI_INVALID, "address '%.200s': the port '%.20s' is not a number from %d to 65535",
                          whole, text, use == TESSI_ADDRESS_LISTEN ? 0 : 1);
    }
    if (value == 0 && use == TESSI_ADDRESS_CONNECT) {
        return tessi_fail(
            error, TESSI_INVALID,
            "address '%.200s': port 0 means any free port, which is for listening only: give the real one", whole);
    }
    *port = (uint16_t)value;
    return TESSI_OK;
}

/* `rest` starts behind '['. */
static enum tessi_status parse_ipv6(const char *whole, const char *rest, enum tessi_address_use use,
                                    struct tessi_address *address, struct tessi_error *error)
{
    const char *end = strchr(rest, ']');
    size_t length = end == NULL ? 0 : (size_t)(end - rest);
    if (length == 0 || length >= sizeof address->host || (end[1] != '\0' && end[1] != ':')) {
        return tessi_fail(error, TESSI_INVALID, "address '%.200s': write an IPv6 address as tcp://[::1]:%d", whole,
                          TESSI_PORT_DEFAULT);
    }
    memcpy(address->host, rest, length);
    address->host[length] = '\0';
    address->is_ipv6 = true;
    struct in6_addr binary;
    char plain[TESSI_HOST_MAX];
    memcpy(plain, address->host, length + 1);
    plain[strcspn(plain, "%")] = '\0'; /* A scope such as fe80::1%eth0 is the resolver's matter. */
    if (inet_pton(AF_INET6, plain, &binary) != 1) {
        return tessi_fail(error, TESSI_INVALID, "address '%.200s': '%s' is not an IPv6 address", whole, address->host);
    }
    return end[1] == ':' ? parse_port(whole, end + 2, use, &address->port, error) : TESSI_OK;
}

static enum tessi_status parse_tcp(const char *whole, const char *rest, enum tessi_address_use use,
                                   struct tessi_address *address, struct tessi_error *error)
{
    address->port = TESSI_PORT_DEFAULT;
    if (rest[0] == '[') {
        return parse_ipv6(whole, rest + 1, use, address, error);
    }
    const char *colon = strchr(rest, ':');
    if (colon != NULL && strchr(colon + 1, ':') != NULL) {
        return tessi_fail(error, TESSI_INVALID,
                          "address '%.200s': put an IPv6 address in brackets, as in tcp://[::1]:%d", whole,
                          TESSI_PORT_DEFAULT);
    }
    size_t length = colon == NULL ? strlen(rest) : (size_t)(colon - rest);
    bool is_star = length == 1 && rest[0] == '*';
    if (length >= sizeof address->host || (!is_star && !host_is_valid(rest, length))) {
        return tessi_fail(error, TESSI_INVALID,
                          "address '%.200s': the host is missing or has characters that no host name has: write "
                          "tcp://host:port, for example tcp://127.0.0.1:%d",
                          whole, TESSI_PORT_DEFAULT);
    }
    if (is_star && use == TESSI_ADDRESS_CONNECT) {
        return tessi_fail(error, TESSI_INVALID,
                          "address '%.200s': * means all interfaces, which is for listening only: name the host",
                          whole);
    }
    if (colon == NULL && strspn(rest, "0123456789") == length) {
        return tessi_fail(error, TESSI_INVALID,
                          "address '%.200s': a port without its host: write tcp://127.0.0.1:%.5s, or tcp://*:%.5s to "
                          "listen on all interfaces",
                          whole, rest, rest);
    }
    memcpy(address->host, rest, length);
    address->host[length] = '\0';
    return colon == NULL ? TESSI_OK : parse_port(whole, colon + 1, use, &address->port, error);
}

enum tessi_status tessi_address_parse(const char *text, enum tessi_address_use use, struct tessi_address *address,
                                      struct tessi_error *error)
{
    *address = (struct tessi_address){0};
    const char *separator = strstr(text, "://");
    if (separator == NULL) {
        return parse_tcp(text, text, use, address, error);
    }
    size_t length = (size_t)(separator - text);
    const char *rest = separator + 3;
    if (length == 3 && strncmp(text, "tcp", 3) == 0) {
        return parse_tcp(text, rest, use, address, error);
    }
    if (length == 3 && strncmp(text, "ipc", 3) == 0) {
        address->scheme = TESSI_SCHEME_IPC;
        return copy_name(text, rest, address, error);
    }
    if (length == 6 && strncmp(text, "inproc", 6) == 0) {
        address->scheme = TESSI_SCHEME_INPROC;
        return copy_name(text, rest, address, error);
    }
    return tessi_fail(error, TESSI_INVALID,
                      "address '%.200s': only tcp:// (or ipc:// and inproc://) is understood: write tcp://host:port",
                      text);
}

void tessi_address_format(const struct tessi_address *address, char *text, size_t text_size)
{
    int n = -1;
    switch (address->scheme) {
    case TESSI_SCHEME_TCP:
        n = snprintf(text, text_size, address->is_ipv6 ? "tcp://[%s]:%u" : "tcp://%s:%u", address->host,
                     (unsigned)address->port);
        break;
    case TESSI_SCHEME_IPC:
        n = snprintf(text, text_size, "ipc://%s", address->host);
        break;
    case TESSI_SCHEME_INPROC:
        n = snprintf(text, text_size, "inproc://%s", address->host);
        break;
    }
    TESS_ASSERT(n >= 0 && (size_t)n < text_size);
}

bool tessi_address_is_loopback(const struct tessi_address *address)
{
    if (address->scheme != TESSI_SCHEME_TCP) {
        return true;
    }
    struct in6_addr six;
    struct in_addr four;
    if (address->is_ipv6) {
        return inet_pton(AF_INET6, address->host, &six) == 1 &&
               (IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127));
    }
    return strcmp(address->host, "localhost") == 0 ||
           (inet_pton(AF_INET, address->host, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127);
}

static bool is_near_four(uint32_t address)
{
    return address >> 24 == 10 || address >> 20 == 0xac1 || address >> 16 == 0xc0a8 || address >> 16 == 0xa9fe;
}

bool tessi_address_is_near(const struct tessi_address *address)
{
    struct in6_addr six;
    struct in_addr four;
    if (tessi_address_is_loopback(address)) {
        return true;
    }
    if (!address->is_ipv6) {
        return inet_pton(AF_INET, address->host, &four) == 1 && is_near_four(ntohl(four.s_addr));
    }
    if (inet_pton(AF_INET6, address->host, &six) != 1) {
        return false;
    }
    if (IN6_IS_ADDR_V4MAPPED(&six)) {
        memcpy(&four, &six.s6_addr[12], sizeof four);
        return is_near_four(ntohl(four.s_addr));
    }
    return IN6_IS_ADDR_LINKLOCAL(&six) || (six.s6_addr[0] & 0xfe) == 0xfc;
}

bool tessi_address_is_wildcard(const struct tessi_address *address)
{
    if (address->scheme != TESSI_SCHEME_TCP) {
        return false;
    }
    struct in6_addr six;
    if (address->is_ipv6) {
        return inet_pton(AF_INET6, address->host, &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
    }
    struct in_addr four;
    return strcmp(address->host, "*") == 0 ||
           (inet_pton(AF_INET, address->host, &four) == 1 && four.s_addr == htonl(INADDR_ANY));
}

enum tessi_status tessi_address_resolve(const struct tessi_address *address, struct sockaddr_storage *socket_address,
                                        socklen_t *length, struct tessi_error *error)
{
    TESS_ASSERT(address->scheme == TESSI_SCHEME_TCP);
    const char *host = strcmp(address->host, "*") == 0 ? "0.0.0.0" : address->host;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)address->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    hints.ai_family = address->is_ipv6 ? AF_INET6 : AF_INET;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0 && !address->is_ipv6) {
        hints.ai_family = AF_INET6;
        rc = getaddrinfo(host, port, &hints, &found) == 0 ? 0 : rc;
    }
    if (rc != 0) {
        return tessi_fail(error, TESSI_NOT_FOUND,
                          "cannot resolve the host '%s': %s; check the name, or give its number", address->host,
                          gai_strerror(rc));
    }
    TESS_ASSERT(found->ai_addrlen <= sizeof *socket_address);
    memset(socket_address, 0, sizeof *socket_address);
    memcpy(socket_address, found->ai_addr, found->ai_addrlen);
    *length = found->ai_addrlen;
    freeaddrinfo(found);
    return TESSI_OK;
}

void tessi_address_from_socket(const struct sockaddr_storage *socket_address, struct tessi_address *address)
{
    *address = (struct tessi_address){.scheme = TESSI_SCHEME_TCP};
    char port[8];
    socklen_t length = socket_address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int rc = getnameinfo((const struct sockaddr *)socket_address, length, address->host, sizeof address->host, port,
                         sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    TESS_ASSERT(rc == 0);
    address->is_ipv6 = socket_address->ss_family == AF_INET6;
    in_port_t number = address->is_ipv6 ? ((const struct sockaddr_in6 *)socket_address)->sin6_port
                                        : ((const struct sockaddr_in *)socket_address)->sin_port;
    address->port = ntohs(number);
}

enum tessi_status tessi_address_source(const struct tessi_address *remote, struct tessi_address *local,
                                       struct tessi_error *error)
{
    struct sockaddr_storage socket_address;
    socklen_t length = 0;
    enum tessi_status status = TESSI_OK;
    *local = (struct tessi_address){.scheme = TESSI_SCHEME_TCP};
    if (remote->scheme != TESSI_SCHEME_TCP) {
        memcpy(local->host, "127.0.0.1", sizeof "127.0.0.1");
        return TESSI_OK;
    }
    int fd = -1;
    TESSI_TRY(tessi_address_resolve(remote, &socket_address, &length, error));
    /* Connecting a datagram socket chooses the route and sends nothing. */
    fd = socket(socket_address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&socket_address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&socket_address, &length) != 0) {
        TESSI_TRY(tessi_fail(error, TESSI_UNREACHABLE, "this machine has no route to %s: %s; name the listening host",
                             remote->host, strerror(errno)));
    }
    tessi_address_from_socket(&socket_address, local);
    local->port = 0;
cleanup:
    if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}
