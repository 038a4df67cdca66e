/* Where pages of records lie: in rooms that all layers share, so that what is live lies together, each page within one
 * cache line. A page that is given back is the next to be taken. Rooms go when no page is left, but for one:
 * small submissions one after the other need it each time. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

#define PAGE_BYTES (PAGE_TASKS * sizeof(struct task_record))

_Static_assert(PAGE_BYTES == 64, "a page is a cache line");

void tessi_pages_init(struct page_rooms *rooms)
{
    *rooms = (struct page_rooms){0};
    for (uint32_t kind = 0; kind < PAGE_LIVE; kind++) {
        rooms->blank[kind] = tessi_alloc(sizeof(struct stretch) + STRETCH_PAGES * sizeof(uint32_t));
        for (uint32_t p = 0; p < STRETCH_PAGES; p++) {
            rooms->blank[kind]->pages[p] = kind;
        }
    }
}

static void add_room(struct page_rooms *rooms)
{
    void *memory = tessi_alloc((ROOM_PAGES + 1) * PAGE_BYTES);
    tessi_grow(&rooms->memory, &rooms->memory_capacity, rooms->count + 1, sizeof *rooms->memory);
    tessi_grow(&rooms->rooms, &rooms->capacity, rooms->count + 1, sizeof *rooms->rooms);
    rooms->memory[rooms->count] = memory;
    rooms->rooms[rooms->count++] = (struct task_record *)(((uintptr_t)memory + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
}

/* Of rooms without pages, all but so many go. */
static void leave_rooms(struct page_rooms *rooms, size_t left)
{
    TESS_ASSERT(rooms->used == 0);
    while (rooms->count > left) {
        tessi_free(rooms->memory[--rooms->count]);
    }
    rooms->free = rooms->begun = 0;
}

uint32_t tessi_pages_take(struct page_rooms *rooms)
{
    uint32_t number = rooms->free;
    if (number != 0) {
        rooms->free = page_at(rooms, number)->epoch;
    } else {
        TESS_ASSERT(rooms->begun < UINT32_MAX - PAGE_LIVE);
        number = PAGE_LIVE + rooms->begun++;
        if (rooms->begun > rooms->count * ROOM_PAGES) {
            add_room(rooms);
        }
    }
    rooms->used++;
    memset(page_at(rooms, number), 0, PAGE_BYTES);
    return number;
}

void tessi_pages_give(struct page_rooms *rooms, uint32_t number)
{
    page_at(rooms, number)->epoch = rooms->free;
    rooms->free = number;
    if (--rooms->used == 0) {
        leave_rooms(rooms, 1);
    }
}

void tessi_pages_fini(struct page_rooms *rooms)
{
    rooms->used = 0;
    leave_rooms(rooms, 0);
    tessi_free(rooms->memory);
    tessi_free(rooms->rooms);
    for (uint32_t kind = 0; kind < PAGE_LIVE; kind++) {
        tessi_free(rooms->blank[kind]);
    }
}

uint64_t tessi_pages_bytes(const struct page_rooms *rooms)
{
    return rooms->stretch_bytes + rooms->count * ROOM_PAGES * PAGE_BYTES;
}
