#include "core/base/file_identity.h"

#include <sys/stat.h>

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)((uint64_t)time->tv_sec * UINT64_C(1000000000) + (uint64_t)time->tv_nsec);
}

int tessi_file_identify(int file, struct tessi_file_identity *identity, bool *regular)
{
    struct stat about;
    if (fstat(file, &about) != 0) {
        return -1;
    }
    *regular = S_ISREG(about.st_mode);
    *identity = (struct tessi_file_identity){.bytes = (uint64_t)about.st_size,
                                             .inode = (uint64_t)about.st_ino,
                                             .modified_ns = nanoseconds(&about.st_mtim),
                                             .changed_ns = nanoseconds(&about.st_ctim)};
    return 0;
}

bool tessi_file_identity_equal(const struct tessi_file_identity *a, const struct tessi_file_identity *b)
{
    return a->bytes == b->bytes && a->inode == b->inode && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}
