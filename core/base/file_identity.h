/* Which file it is and in which state: what a reader compares before and after it reads, wherever it runs. */
#ifndef TESSI_BASE_FILE_IDENTITY_H
#define TESSI_BASE_FILE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct tessi_file_identity {
    uint64_t bytes;
    uint64_t inode;
    int64_t modified_ns; /* since 1970 */
    int64_t changed_ns;  /* of the inode: no program can set this back */
};

/* Of an open file, -1 with errno when it cannot be told; `regular`: it is a plain file. */
int tessi_file_identify(int file, struct tessi_file_identity *identity, bool *regular);

bool tessi_file_identity_equal(const struct tessi_file_identity *a, const struct tessi_file_identity *b);

#endif
