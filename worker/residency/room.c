/* Records, the ledger, and taking memory back. */
#include <string.h>

#include "worker/residency/internal.h"

/* ——— lists ——— */

static void list_remove(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    if (record->list == KEPT) {
        return;
    }
    struct ends *ends = &r->lists[record->list];
    if (record->prev != NONE) {
        record_at(r, record->prev)->next = record->next;
    } else {
        ends->first = record->next;
    }
    if (record->next != NONE) {
        record_at(r, record->next)->prev = record->prev;
    } else {
        ends->last = record->prev;
    }
    record->list = KEPT;
}

static void list_append(struct tessi_residency *r, uint32_t id, enum list list)
{
    struct record *record = record_at(r, id);
    struct ends *ends = &r->lists[list];
    record->list = list;
    record->prev = ends->last;
    record->next = NONE;
    if (ends->last != NONE) {
        record_at(r, ends->last)->next = id;
    } else {
        ends->first = id;
    }
    ends->last = id;
}

static bool releasable(const struct record *record)
{
    return record->pins == 0 && !record->copying && (record->state == CLEAN || record->state == DIRTY);
}

static enum list classify(const struct record *record)
{
    if (!releasable(record) || record->doomed) {
        return KEPT;
    }
    if (record->accumulating) {
        return record->state == CLEAN ? CLEAN_NEEDED : ACCUMULATORS;
    }
    if (record->state == CLEAN) {
        return record->needed > 0 ? CLEAN_NEEDED : CLEAN_IDLE;
    }
    return record->needed > 0 ? DIRTY_NEEDED : DIRTY_IDLE;
}

/* ——— records ——— */

uint32_t tessi_residency_find(const struct tessi_residency *r, uint32_t handle)
{
    return handle < r->handle_count ? r->by_handle[handle] : NONE;
}

uint32_t tessi_residency_record(struct tessi_residency *r, uint32_t handle, uint64_t bytes)
{
    uint32_t id = tessi_residency_find(r, handle);
    if (id != NONE) {
        TESS_ASSERT(record_at(r, id)->bytes == bytes);
        return id;
    }
    id = tessi_residency_pool_take(&r->records, sizeof(struct record));
    uint64_t granules = (bytes + TESSI_RESIDENCY_GRANULE - 1) / TESSI_RESIDENCY_GRANULE;
    *record_at(r, id) = (struct record){.handle = handle,
                                        .bytes = bytes,
                                        .charge = (granules > 0 ? granules : 1) * TESSI_RESIDENCY_GRANULE,
                                        .list = KEPT,
                                        .step_first = NONE,
                                        .step_last = NONE,
                                        .live = true};
    tessi_grow(&r->by_handle, &r->handle_capacity, (size_t)handle + 1, sizeof *r->by_handle);
    while (r->handle_count <= handle) {
        r->by_handle[r->handle_count++] = NONE;
    }
    r->by_handle[handle] = id;
    r->stats.blocks++;
    return id;
}

void tessi_residency_settle(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    if (record->doomed && releasable(record)) {
        tessi_residency_release(r, id);
        return;
    }
    enum list list = classify(record);
    if (list != record->list) {
        list_remove(r, id);
        if (list != KEPT) {
            list_append(r, id, list);
        }
    }
    if (record->state == ABSENT && record->needed == 0 && record->pins == 0 && !record->accumulating) {
        if (!record->doomed) {
            r->by_handle[record->handle] = NONE;
        }
        record->live = false;
        r->stats.blocks--;
        tessi_residency_pool_give(&r->records, id);
    }
}

void tessi_residency_release(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    TESS_ASSERT(releasable(record));
    struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_FREE);
    action->block = id;
    action->bytes = record->charge;
    r->used_bytes -= record->charge;
    record->state = ABSENT;
    tessi_residency_settle(r, id);
}

void tessi_residency_write_back(struct tessi_residency *r, uint32_t id, bool evict)
{
    struct record *record = record_at(r, id);
    TESS_ASSERT(record->state == DIRTY && !record->doomed);
    struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_COPY_OUT);
    action->block = id;
    action->handle = record->handle;
    action->bytes = record->bytes;
    r->stats.copied_out_bytes += record->bytes;
    record->state = LEAVING;
    record->evict = evict;
    r->leaving_bytes += evict ? record->charge : 0;
    r->leaving++;
    tessi_residency_settle(r, id);
}

void tessi_residency_end_accumulating(struct tessi_residency *r, struct record *record)
{
    if (record->accumulating) {
        record->accumulating = false;
        r->accumulating_bytes -= record->charge;
    }
}

/* ——— room ——— */

enum room tessi_residency_make_room(struct tessi_residency *r, uint64_t bytes)
{
    while (r->used_bytes + bytes > r->capacity_bytes) {
        if (r->lists[CLEAN_IDLE].first != NONE) {
            r->stats.evictions++;
            tessi_residency_release(r, r->lists[CLEAN_IDLE].first);
        } else if (r->used_bytes + bytes <= r->capacity_bytes + r->leaving_bytes) {
            return ROOM_LATER;
        } else if (r->lists[DIRTY_IDLE].first != NONE) {
            tessi_residency_write_back(r, r->lists[DIRTY_IDLE].first, true);
        } else if (r->lists[CLEAN_NEEDED].first != NONE) {
            r->stats.evictions++;
            tessi_residency_release(r, r->lists[CLEAN_NEEDED].first);
        } else if (r->lists[DIRTY_NEEDED].first != NONE) {
            tessi_residency_write_back(r, r->lists[DIRTY_NEEDED].first, true);
        } else if (r->launched > 0 || r->leaving > 0 || r->coming > 0) {
            return ROOM_LATER;
        } else if (r->lists[ACCUMULATORS].first != NONE) {
            tessi_residency_write_back(r, r->lists[ACCUMULATORS].first, true);
        } else {
            return ROOM_NEVER;
        }
    }
    return ROOM;
}
