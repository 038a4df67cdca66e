/* What a virtual worker asks of others, what it answers, and the way of the bytes through their cards. */
#include "core/base/assert.h"
#include "tests/sim/tool/worker.h"

void tool_locate(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    block->state = TOOL_LOCATING;
    tessi_spans_push(&worker->locates, tool_span_of(block, 0));
    tool_has_news(cluster, worker);
}

void tool_request(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    if (block->owner == TOOL_NONE) {
        tool_locate(cluster, worker, number);
        return;
    }
    block->state = TOOL_ASKED;
    block->ticket++;
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_READ, block->owner, number,
                  block->ticket);
}

static void transfer(struct tool_cluster *cluster, struct tool_worker *from, uint32_t reader)
{
    const struct tool_block *block = tool_block_at(cluster, reader);
    struct tool_worker *to = &cluster->workers[block->worker];
    int64_t takes_ns = (int64_t)((double)block->bytes / cluster->options.bytes_per_ns);
    int64_t begins_ns = from->sends_until_ns > cluster->now_ns ? from->sends_until_ns : cluster->now_ns;
    int64_t reaches_ns = begins_ns + cluster->options.latency_ns;
    from->sends_until_ns = begins_ns + takes_ns;
    reaches_ns = to->receives_until_ns > reaches_ns ? to->receives_until_ns : reaches_ns;
    to->receives_until_ns = reaches_ns + takes_ns;
    from->served_bytes += block->bytes;
    tool_schedule(cluster, to->receives_until_ns, TOOL_DATA, to->number, reader, block->ticket);
}

static void answer(struct tool_cluster *cluster, struct tool_worker *owner, uint32_t reader)
{
    const struct tool_block *block = tool_block_at(cluster, reader);
    if (block->bytes <= TOOL_INLINE_BYTES) {
        transfer(cluster, owner, reader);
    } else {
        tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_OFFER, block->worker, reader,
                      block->ticket);
    }
}

static void send_to_scheduler(struct tool_cluster *cluster, uint32_t reader)
{
    const struct tool_block *block = tool_block_at(cluster, reader);
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_ASK, block->worker, reader,
                  block->ticket);
}

void tool_end_readers(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, bool here)
{
    uint32_t at = tool_block_at(cluster, number)->readers;
    tool_block_at(cluster, number)->readers = TOOL_NONE;
    while (at != TOOL_NONE) {
        struct tool_link link = *tool_link_at(cluster, at);
        tool_pool_give(&cluster->links, at);
        if (tool_block_at(cluster, link.a)->ticket == link.b) {
            if (here) {
                answer(cluster, worker, link.a);
            } else {
                send_to_scheduler(cluster, link.a);
            }
        }
        at = link.next;
    }
}

/* What the owner knows of the block that a reader asks it for, if anything. */
static struct tool_block *asked_for(const struct tool_cluster *cluster, const struct tool_event *event)
{
    const struct tool_block *wanted = tool_block_at(cluster, event->a);
    uint32_t number = tool_find(&cluster->workers[event->worker], wanted->layer, wanted->index);
    return number == TESSI_MAP_NONE ? NULL : tool_block_at(cluster, number);
}

static void on_read(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_block *block = asked_for(cluster, event);
    if (block != NULL && tool_is_here(block)) {
        answer(cluster, &cluster->workers[event->worker], event->a);
    } else if (block != NULL && block->state == TOOL_PLANNED) {
        uint32_t link = tool_pool_take(&cluster->links);
        *tool_link_at(cluster, link) = (struct tool_link){block->readers, event->a, event->b};
        block->readers = link;
    } else {
        send_to_scheduler(cluster, event->a);
    }
}

static void on_pull(struct tool_cluster *cluster, const struct tool_event *event)
{
    const struct tool_block *block = asked_for(cluster, event);
    if (block != NULL && tool_is_here(block)) {
        transfer(cluster, &cluster->workers[event->worker], event->a);
    } else {
        send_to_scheduler(cluster, event->a);
    }
}

void tool_want(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint64_t place)
{
    struct tool_block *block = tool_block_at(cluster, number);
    block->want = place < block->want ? place : block->want;
    if (block->state == TOOL_OFFERED) {
        tool_queue_push(&worker->pulls, (struct tool_entry){block->want, number, block->ticket});
    } else if (block->state == TOOL_ABSENT) {
        tool_request(cluster, worker, number);
    }
}

static void on_data(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
    } else { /* small ones come unasked: room is made where there is some to make */
        (void)tool_room(cluster, worker, block->bytes);
        tool_take_bytes(cluster, worker, block->bytes);
    }
    block = tool_block_at(cluster, number);
    worker->fetched_bytes += block->bytes;
    block->state = TOOL_COPY;
    tessi_spans_push(&worker->report.copied, tool_span_of(block, 0));
    tool_has_news(cluster, worker);
    tool_enlist(cluster, worker, number);
    tool_wake(cluster, worker, number);
    tool_end_readers(cluster, worker, number, true);
}

static void on_ask(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
        worker->used_bytes -= block->bytes;
    }
    if (block->uses == 0) {
        tool_block_free(cluster, worker, number);
    } else {
        tool_locate(cluster, worker, number);
    }
}

static void on_offer(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    block->state = TOOL_OFFERED;
    if (block->pins > 0) {
        tool_queue_push(&worker->pulls, (struct tool_entry){block->want, number, block->ticket});
    }
}

void tool_worker_event(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_worker *worker = &cluster->workers[event->worker];
    enum tool_event_kind kind = (enum tool_event_kind)event->kind;
    if (kind == TOOL_REPORT_DUE) {
        tool_send_report(cluster, worker);
        return;
    }
    if (kind == TOOL_STEP_END) {
        tool_step_ended(cluster, worker, event);
        return;
    }
    if (tool_block_at(cluster, event->a)->ticket != event->b) {
        return; /* nobody waits for it any more */
    }
    if (kind == TOOL_READ) {
        on_read(cluster, event);
    } else if (kind == TOOL_PULL) {
        on_pull(cluster, event);
    } else if (kind == TOOL_OFFER) {
        on_offer(cluster, worker, event->a);
        tool_advance(cluster, worker);
    } else if (kind == TOOL_DATA) {
        on_data(cluster, worker, event->a);
        tool_advance(cluster, worker);
    } else {
        TESS_ASSERT(kind == TOOL_ASK);
        on_ask(cluster, worker, event->a);
    }
}
