/* Events for the tests that drive the scheduler machine by hand. */
#ifndef TESTS_UNIT_SCHED_EVENTS_H
#define TESTS_UNIT_SCHED_EVENTS_H

#include <stdio.h>

#include "core/graph/layer.h"
#include "core/sched/sched.h"

/* The client submits the layers, which must pass the check, and wants those of the ids. Borrows both arrays. */
static inline struct tessi_sched_event submission(uint32_t client, struct tessi_layer **layers, size_t count,
                                                  const uint32_t *ids, size_t id_count)
{
    for (size_t i = 0; i < count; i++) {
        struct tessi_error error = {0};
        if (tessi_layer_check(layers[i], &error) != TESSI_OK) {
            fail_msg("%s", error.text);
        }
    }
    return (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                      .peer = client,
                                      .layers = layers,
                                      .layer_count = count,
                                      .ids = ids,
                                      .id_count = id_count};
}

/* A worker of one slot joins. */
static inline struct tessi_sched_event joining(uint32_t worker, uint64_t memory_bytes)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = worker};
    event.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = memory_bytes};
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    return event;
}

#endif
