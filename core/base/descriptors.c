#include "core/base/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the next one would be: all below are in use. `limit` when there is none. */
static rlim_t next_free(rlim_t limit)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return limit;
    }
    (void)close(fd);
    return (rlim_t)fd;
}

static bool raise_to(struct rlimit *limit, rlim_t wanted)
{
    struct rlimit raised = *limit;
    raised.rlim_cur = wanted < limit->rlim_max ? wanted : limit->rlim_max;
    if (raised.rlim_cur <= limit->rlim_cur || setrlimit(RLIMIT_NOFILE, &raised) != 0) {
        return false;
    }
    *limit = raised;
    return true;
}

enum tessi_status tessi_descriptors_require(const char *what, uint32_t count, struct tessi_error *error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return TESSI_OK; /* Then whoever needs one hears of it. */
    }
    rlim_t used = next_free(limit.rlim_cur), needed = used + count + TESSI_DESCRIPTORS_RESERVE;
    if (needed <= limit.rlim_cur || (raise_to(&limit, needed + needed / 2) && needed <= limit.rlim_cur)) {
        return TESSI_OK;
    }
    return tessi_fail(error, TESSI_IO,
                      "%s needs %u file descriptors and some in reserve, and %llu of the %llu that this process may have "
                      "are in use: raise `ulimit -n`",
                      what, count, (unsigned long long)used, (unsigned long long)limit.rlim_cur);
}

void tessi_descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        (void)raise_to(&limit, limit.rlim_max);
    }
}

bool tessi_descriptors_exhausted(int newest)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)newest + TESSI_DESCRIPTORS_RESERVE >= limit.rlim_cur &&
           tessi_descriptors_require("a connection", 1, NULL) != TESSI_OK;
}

int tessi_descriptors_spare(void)
{
    return open("/", O_PATH | O_CLOEXEC);
}

int tessi_descriptors_accept(int listener, int flags, int *spare)
{
    int connection = accept4(listener, NULL, NULL, flags);
    if (connection < 0 && (errno == EMFILE || errno == ENFILE) && *spare >= 0) {
        (void)close(*spare);
        connection = accept4(listener, NULL, NULL, flags);
        if (connection >= 0) {
            (void)close(connection);
        }
        *spare = tessi_descriptors_spare();
        errno = EMFILE;
        return -1;
    }
    return connection;
}
