#include "core/server/members.h"

#include <string.h>

#include "core/base/alloc.h"

void tessi_members_add(struct tessi_members *members, uint32_t peer, const struct tessi_worker_info *info)
{
    tessi_grow(&members->items, &members->capacity, members->count + 1, sizeof *members->items);
    struct tessi_member *member = &members->items[members->count++];
    *member = (struct tessi_member){.peer = peer};
    memcpy(member->name, info->name, sizeof member->name);
    memcpy(member->address, info->address, sizeof member->address);
}

const struct tessi_member *tessi_members_find(const struct tessi_members *members, uint32_t peer)
{
    static const struct tessi_member nobody;
    for (size_t i = 0; i < members->count; i++) {
        if (members->items[i].peer == peer) {
            return &members->items[i];
        }
    }
    return &nobody;
}

void tessi_members_remove(struct tessi_members *members, uint32_t peer)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->items[i].peer == peer) {
            members->items[i] = members->items[--members->count];
            return;
        }
    }
}

void tessi_members_fini(struct tessi_members *members)
{
    tessi_free(members->items);
    *members = (struct tessi_members){0};
}
