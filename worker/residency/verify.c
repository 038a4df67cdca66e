/* The invariants. */
#include "worker/residency/internal.h"

static void verify_lists(const struct tessi_residency *r)
{
    for (uint32_t list = 0; list < LISTS; list++) {
        uint32_t before = NONE;
        for (uint32_t id = r->lists[list].first; id != NONE; id = record_at(r, id)->next) {
            TESS_ASSERT(record_at(r, id)->list == (enum list)list && record_at(r, id)->prev == before);
            before = id;
        }
        TESS_ASSERT(r->lists[list].last == before);
    }
}

void tessi_residency_verify(const struct tessi_residency *r)
{
    uint64_t used = 0, accumulating = 0, leaving_bytes = 0;
    uint32_t needed = 0, pins = 0, coming = 0, leaving = 0, references = 0, pinned = 0, waiting = 0, launched = 0;
    for (uint32_t i = 0; i < r->records.count; i++) {
        const struct record *record = record_at(r, i);
        if (!record->live) {
            continue;
        }
        used += record->state != ABSENT ? record->charge : 0;
        accumulating += record->accumulating ? record->charge : 0;
        leaving += record->state == LEAVING ? 1 : 0;
        leaving_bytes += record->state == LEAVING && record->evict ? record->charge : 0;
        needed += record->needed;
        pins += record->pins;
        coming += record->copying ? 1 : 0;
        bool memory = record->state == CLEAN || record->state == DIRTY;
        bool removable = record->pins == 0 && !record->copying && !record->doomed && memory;
        TESS_ASSERT((record->list != KEPT) == removable);
        TESS_ASSERT(record->doomed || r->by_handle[record->handle] == i);
        TESS_ASSERT(record->state != CLAIMED || (r->claim != NONE && r->claim_asked > 0));
        TESS_ASSERT(!record->wanted || record->state == LEAVING);
    }
    for (uint32_t i = 0; i < r->steps.count; i++) {
        const struct step *step = step_at(r, i);
        references += step->state == STEP_WAITING ? step->in_count + 1 : 0;
        waiting += step->state == STEP_WAITING ? 1 : 0;
        launched += step->state == STEP_LAUNCHED ? 1 : 0;
        pinned += step->state == STEP_CLAIMING || step->state == STEP_LAUNCHED ? step->in_count + 1 : 0;
    }
    TESS_ASSERT(used == r->used_bytes && accumulating == r->accumulating_bytes);
    TESS_ASSERT(leaving_bytes == r->leaving_bytes && leaving == r->leaving && coming == r->coming);
    TESS_ASSERT(needed == references && pins == pinned && waiting == r->waiting && launched == r->launched);
    TESS_ASSERT(r->launched <= r->depth_peak);
    TESS_ASSERT(r->used_bytes <= r->config.memory_bytes);
    /* Whatever waits has a reason that will end. */
    bool moves = r->launched > 0 || r->coming > 0 || r->leaving > 0 || r->claim_asked > 0;
    bool probed = r->capacity_bytes < r->config.memory_bytes && r->probes < r->config.patience &&
                  r->starved < r->config.patience; /* a probe will move it */
    TESS_ASSERT(moves || probed || (r->waiting == 0 && r->claim == NONE));
    verify_lists(r);
}
