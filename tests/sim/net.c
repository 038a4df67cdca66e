/* Time and network: events in order, links that keep the order of what they carry. */
#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/world.h"

const char *const sim_message_names[SIM_MESSAGES] = {
    [SIM_HELLO] = "HELLO",     [SIM_REPORT] = "REPORT",   [SIM_HEARTBEAT] = "HEARTBEAT",
    [SIM_LOCATE] = "LOCATE",   [SIM_GOODBYE] = "GOODBYE", [SIM_SUBMIT] = "SUBMIT",
    [SIM_LEAVE] = "LEAVE",     [SIM_RELEASE] = "RELEASE", [SIM_CANCEL] = "CANCEL",   [SIM_DETACH] = "DETACH",
    [SIM_ORDER] = "ORDER",
    [SIM_PEER_HELLO] = "PEER_HELLO", [SIM_READ] = "READ", [SIM_PULL] = "PULL",
    [SIM_GIVE_BACK] = "GIVE_BACK", [SIM_INLINE] = "INLINE", [SIM_LEASE] = "LEASE",
    [SIM_OFFER] = "OFFER",     [SIM_BLOCK] = "BLOCK",     [SIM_MOVED] = "MOVED",
    [SIM_ASK] = "ASK",         [SIM_REVOKE] = "REVOKE",   [SIM_GONE] = "GONE",
};

/* --- events --- */

void sim_schedule(struct sim_world *world, int64_t at_ns, struct sim_event event)
{
    uint32_t slot;
    TESS_ASSERT(at_ns >= world->now_ns);
    if (world->free_event_count > 0) {
        slot = world->free_events[--world->free_event_count];
    } else {
        tessi_grow(&world->events, &world->event_capacity, world->event_count + 1, sizeof *world->events);
        slot = (uint32_t)world->event_count++;
    }
    world->events[slot] = event;
    world->busy_events += !event.periodic;
    tessi_heap_push(&world->heap, (uint64_t)at_ns, world->sequence++, slot);
}

bool sim_next_event(struct sim_world *world, struct sim_event *event)
{
    if (tessi_heap_peek(&world->heap) == NULL) {
        return false;
    }
    struct tessi_heap_entry entry = tessi_heap_pop(&world->heap);
    *event = world->events[entry.value];
    world->events[entry.value] = (struct sim_event){0};
    tessi_grow(&world->free_events, &world->free_event_capacity, world->free_event_count + 1,
               sizeof *world->free_events);
    world->free_events[world->free_event_count++] = entry.value;
    world->now_ns = (int64_t)entry.first;
    if (!event->periodic) {
        world->busy_events--;
        world->busy_ns = world->now_ns;
    }
    return true;
}

/* --- messages --- */

struct sim_message *sim_message(enum sim_message_kind kind, uint32_t from, uint32_t to)
{
    struct sim_message *message = tessi_zalloc(sizeof *message);
    message->kind = kind;
    message->from = from;
    message->to = to;
    return message;
}

static void action_free(struct tessi_sched_action *action)
{
    for (size_t i = 0; i < action->layer_count; i++) {
        tessi_layer_destroy((struct tessi_layer *)(uintptr_t)action->layers[i]);
    }
    tessi_free((void *)(uintptr_t)action->layers);
    tessi_free((void *)(uintptr_t)action->ids);
    tessi_free((void *)(uintptr_t)action->spans);
    tessi_free((void *)(uintptr_t)action->where);
    tessi_free((void *)(uintptr_t)action->text);
    tessi_free((void *)(uintptr_t)action->info);
}

static const void *copied(const void *items, size_t count, size_t size)
{
    return count == 0 || items == NULL ? NULL : tessi_memdup(items, count * size);
}

void sim_action_copy(struct tessi_sched_action *to, const struct tessi_sched_action *from)
{
    *to = *from;
    struct tessi_layer **layers = from->layer_count == 0 ? NULL : tessi_zalloc(from->layer_count * sizeof *layers);
    for (size_t i = 0; i < from->layer_count; i++) {
        layers[i] = tessi_layer_copy(from->layers[i]);
    }
    to->layers = (const struct tessi_layer *const *)layers;
    to->ids = copied(from->ids, from->id_count, sizeof *from->ids);
    to->spans = copied(from->spans, from->span_count, sizeof *from->spans);
    to->where = copied(from->where, from->where_count, sizeof *from->where);
    to->text = tessi_strdup(from->text);
    to->info = copied(from->info, 1, sizeof *from->info);
}

void sim_message_free(struct sim_message *message)
{
    action_free(&message->action);
    tessi_report_fini(&message->report);
    tessi_spans_fini(&message->spans);
    tessi_free(message->ids);
    if (message->region != NULL && --message->region->refs == 0) {
        tessi_free(message->region);
    }
    tessi_free(message);
}

static void copy_spans(struct tessi_spans *to, const struct tessi_spans *from)
{
    *to = (struct tessi_spans){0};
    if (from->count > 0) {
        to->items = tessi_memdup(from->items, from->count * sizeof *from->items);
        to->count = to->capacity = from->count;
    }
}

static struct sim_message *message_copy(const struct sim_message *from)
{
    struct sim_message *copy = tessi_memdup(from, sizeof *from);
    TESS_ASSERT(from->region == NULL && from->ids == NULL);
    sim_action_copy(&copy->action, &from->action);
    copy_spans(&copy->spans, &from->spans);
    const struct tessi_report *report = &from->report;
    copy_spans(&copy->report.started, &report->started);
    copy_spans(&copy->report.done, &report->done);
    copy_spans(&copy->report.copied, &report->copied);
    copy_spans(&copy->report.dropped, &report->dropped);
    copy_spans(&copy->report.adopted, &report->adopted);
    copy_spans(&copy->report.missing, &report->missing);
    copy_spans(&copy->report.stolen, &report->stolen);
    copy_spans(&copy->report.kept, &report->kept);
    copy_spans(&copy->report.refused, &report->refused);
    copy_spans(&copy->report.starved, &report->starved);
    copy_spans(&copy->report.shed, &report->shed);
    copy->report.spill_error = report->spill_error != NULL ? tessi_strdup(report->spill_error) : NULL;
    copy->report.failures = (struct tessi_failure *)(uintptr_t)copied(report->failures, report->failure_count,
                                                                      sizeof *report->failures);
    copy->report.failure_capacity = report->failure_count;
    for (size_t f = 0; f < report->failure_count; f++) {
        copy->report.failures[f].text = tessi_strdup(report->failures[f].text);
    }
    copy->late = true;
    return copy;
}

/* --- links --- */

/* Two workers that read from each other have two connections, so requests one way and answers the
 * same way are not in order with each other. */
static struct sim_link *link_of(struct sim_world *world, const struct sim_message *message)
{
    uint64_t answer = message->kind >= SIM_INLINE && message->kind < SIM_GONE ? 1 : 0;
    bool to_client = message->to != SIM_SCHEDULER && sim_node(world, message->to)->is_client;
    bool from_client = message->from != SIM_SCHEDULER && sim_node(world, message->from)->is_client;
    answer = to_client ? 1 : from_client ? 0 : answer;
    struct tessi_map_key key = {(uint64_t)message->from << 32 | message->to, answer};
    uint32_t number = tessi_map_get(&world->link_of, key);
    if (number == TESSI_MAP_NONE) {
        tessi_grow(&world->links, &world->link_capacity, world->link_count + 1, sizeof *world->links);
        number = (uint32_t)world->link_count++;
        world->links[number] = (struct sim_link){message->from, message->to, 0, INT64_MAX};
        tessi_map_put(&world->link_of, key, number);
    }
    return &world->links[number];
}

bool sim_arrives(const struct sim_world *world, const struct sim_message *message)
{
    return message->kind == SIM_GONE ||
           link_of((struct sim_world *)(uintptr_t)world, message)->broken_ns >= world->now_ns;
}

static int64_t travel_ns(struct sim_world *world, const struct sim_message *message)
{
    const struct sim_options *options = &world->options;
    int64_t ns = random_scale(&world->random, options->latency_ns / 4 + 1, options->latency_ns * 4 + 2);
    bool central = message->from == SIM_SCHEDULER || message->to == SIM_SCHEDULER;
    if (central && options->spike_percent > 0 && random_chance(&world->random, options->spike_percent)) {
        ns += random_between(&world->random, 0, options->spike_ns);
    }
    return ns + (int64_t)((double)message->bytes / options->bytes_per_ns);
}

static bool may_come_twice(const struct sim_message *message)
{
    switch (message->kind) {
    case SIM_REPORT:
    case SIM_LOCATE:
    case SIM_READ:
    case SIM_MOVED:
    case SIM_ASK:
        return true;
    case SIM_ORDER:
        return message->action.kind == TESSI_SCHED_LOCATION;
    case SIM_HELLO:
    case SIM_HEARTBEAT:
    case SIM_GOODBYE:
    case SIM_LEAVE:
    case SIM_SUBMIT:
    case SIM_RELEASE:
    case SIM_CANCEL:
    case SIM_DETACH:
    case SIM_PEER_HELLO:
    case SIM_PULL:
    case SIM_GIVE_BACK:
    case SIM_INLINE:
    case SIM_LEASE:
    case SIM_OFFER:
    case SIM_BLOCK:
    case SIM_REVOKE:
    case SIM_GONE:
    case SIM_MESSAGES:
        return false;
    }
    return false;
}

static void deliver_at(struct sim_world *world, int64_t at_ns, struct sim_message *message)
{
    if (message->to == SIM_SCHEDULER) {
        sim_node(world, message->from)->to_scheduler++;
    } else if (message->from == SIM_SCHEDULER) {
        sim_node(world, message->to)->from_scheduler++;
    }
    sim_schedule(world, at_ns, (struct sim_event){.kind = SIM_DELIVER,
                                                  .node = message->to,
                                                  .periodic = message->kind == SIM_HEARTBEAT,
                                                  .message = message});
}

void sim_send(struct sim_world *world, struct sim_message *message)
{
    int64_t travel = travel_ns(world, message);
    struct sim_link *link = link_of(world, message);
    int64_t at_ns = world->now_ns + travel;
    at_ns = at_ns > link->last_ns ? at_ns : link->last_ns;
    link->last_ns = at_ns;
    if (may_come_twice(message) && random_chance(&world->random, world->options.duplicate_percent)) {
        int64_t late_ns = at_ns + random_scale(&world->random, 1000, 200 * SIM_MS);
        deliver_at(world, late_ns, message_copy(message));
    }
    deliver_at(world, at_ns, message);
}

static int64_t broken_already(const struct sim_world *world, size_t before, uint32_t from, uint32_t to)
{
    for (size_t l = 0; l < before; l++) {
        if (world->links[l].from == from && world->links[l].to == to) {
            return world->links[l].broken_ns;
        }
    }
    return INT64_MAX;
}

/* Whoever was connected notices at a time of its own, unless the machine just fell silent. */
void sim_break_links(struct sim_world *world, const struct sim_node *node, bool silent)
{
    size_t count = world->link_count;
    for (size_t l = 0; l < count; l++) {
        struct sim_link *link = &world->links[l];
        if (link->from != node->id || link->broken_ns != INT64_MAX) {
            continue;
        }
        link->broken_ns = broken_already(world, l, node->id, link->to);
        if (link->broken_ns != INT64_MAX) {
            continue;
        }
        link->broken_ns = world->now_ns + random_scale(&world->random, 1000, 100 * SIM_MS);
        bool noticed = link->to == SIM_SCHEDULER || world->options.peers_notice || node->is_client;
        if (noticed && !silent) {
            deliver_at(world, link->broken_ns + 1, sim_message(SIM_GONE, node->id, link->to));
        }
    }
}

/* --- memory that outlives its owner --- */

struct sim_region *sim_region_create(struct sim_world *world, uint64_t bytes)
{
    struct sim_region *region = tessi_zalloc(sizeof *region);
    region->bytes = bytes;
    region->refs = 1;
    region->value = random_next(&world->random);
    return region;
}

void sim_region_drop(struct sim_world *world, struct sim_region *region)
{
    (void)world;
    if (region != NULL && --region->refs == 0) {
        tessi_free(region);
    }
}
