/* Who the workers are, for the log: a peer's number means nothing to people, and the machine forgets a worker before
 * anybody can ask for its name. */
#ifndef TESSI_SERVER_MEMBERS_H
#define TESSI_SERVER_MEMBERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/sched/sched.h"

struct tessi_member {
    uint32_t peer;
    char name[TESSI_NAME_MAX];
    char address[TESSI_ADDRESS_MAX]; /* where its peers reach it */
};

struct tessi_members { /* all zero is empty */
    struct tessi_member *items;
    size_t count, capacity;
};

void tessi_members_add(struct tessi_members *members, uint32_t peer, const struct tessi_worker_info *info);
/* "" in all texts of one that is not there; valid until members come or go. */
const struct tessi_member *tessi_members_find(const struct tessi_members *members, uint32_t peer);
void tessi_members_remove(struct tessi_members *members, uint32_t peer); /* unknown ones are allowed */
void tessi_members_fini(struct tessi_members *members);

#endif
