/* Work that is kept for a worker but not assigned yet: spans in a heap, what had an owner first, then lowest order. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/order/order.h"
#include "core/sched/workers/workers.h"

void tessi_backlog_init(struct backlog *backlog)
{
    *backlog = (struct backlog){0};
}

uint64_t tessi_backlog_bytes(const struct backlog *backlog)
{
    return backlog->capacity * (sizeof *backlog->entries + sizeof *backlog->spans + sizeof *backlog->places);
}

void tessi_backlog_fini(struct backlog *backlog)
{
    tessi_free(backlog->entries);
    tessi_free(backlog->spans);
    tessi_free(backlog->places);
}

/* A heap of its own: an entry of core/base/heap.h, with its place, has more than twice the bytes.
 * Keys that are equal are settled by the layer, never by which was inserted first. */
static bool before(const struct backlog *backlog, const struct backlog_entry *a, const struct backlog_entry *b)
{
    uint64_t key = backlog_key(a), other = backlog_key(b);
    if (key != other) {
        return key < other;
    }
    return backlog->spans[a->handle].layer->layer->id < backlog->spans[b->handle].layer->layer->id;
}

static void set_entry(struct backlog *backlog, size_t i, struct backlog_entry entry)
{
    backlog->entries[i] = entry;
    backlog->places[entry.handle] = (uint32_t)i + 1;
}

static void sift_up(struct backlog *backlog, size_t i)
{
    struct backlog_entry entry = backlog->entries[i];
    while (i > 0 && before(backlog, &entry, &backlog->entries[(i - 1) / 2])) {
        set_entry(backlog, i, backlog->entries[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set_entry(backlog, i, entry);
}

static void sift_down(struct backlog *backlog, size_t i)
{
    struct backlog_entry entry = backlog->entries[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= backlog->count) {
            break;
        }
        if (child + 1 < backlog->count && before(backlog, &backlog->entries[child + 1], &backlog->entries[child])) {
            child++;
        }
        if (!before(backlog, &backlog->entries[child], &entry)) {
            break;
        }
        set_entry(backlog, i, backlog->entries[child]);
        i = child;
    }
    set_entry(backlog, i, entry);
}

static void sift(struct backlog *backlog, uint32_t handle)
{
    sift_up(backlog, backlog->places[handle] - 1);
    sift_down(backlog, backlog->places[handle] - 1);
}

static struct backlog_entry entry_of(const struct kept_span *span, uint32_t handle, uint64_t order)
{
    uint64_t key = order | (span->again ? 0 : BACKLOG_FRESH);
    return (struct backlog_entry){(uint32_t)key, (uint32_t)(key >> 32), handle};
}

/* By an eighth: where tasks wait one by one, this is most of what the scheduler has. */
static uint32_t new_handle(struct backlog *backlog)
{
    uint32_t handle = backlog->free;
    if (handle != 0) {
        backlog->free = (uint32_t)backlog->spans[handle - 1].first;
        return handle - 1;
    }
    if (backlog->begun == backlog->capacity) {
        TESS_ASSERT(backlog->begun < UINT32_MAX / 2);
        backlog->capacity += backlog->capacity / 8 + 8;
        backlog->entries = tessi_realloc(backlog->entries, backlog->capacity * sizeof *backlog->entries);
        backlog->spans = tessi_realloc(backlog->spans, backlog->capacity * sizeof *backlog->spans);
        backlog->places = tessi_realloc(backlog->places, backlog->capacity * sizeof *backlog->places);
    }
    return (uint32_t)backlog->begun++;
}

struct backlog *tessi_backlog_made(struct lane *lane, uint32_t worker)
{
    if (worker == NO_WORKER) {
        return &lane->orphans;
    }
    size_t known = lane->capacity;
    tessi_grow(&lane->backlogs, &lane->capacity, (size_t)worker + 1, sizeof *lane->backlogs);
    for (size_t i = known; i < lane->capacity; i++) {
        tessi_backlog_init(&lane->backlogs[i]);
    }
    return &lane->backlogs[worker];
}

static void count_backlog(struct tessi_sched *sched, uint32_t index, struct sched_layer *layer, uint64_t count,
                          bool added)
{
    if (index == NO_WORKER) {
        return;
    }
    struct worker *worker = sched->workers[index];
    tessi_load_changed(sched, worker);
    struct layer_on_worker *on = on_worker(layer, index);
    struct load *load = &worker->load[kind_at(worker, layer->lane)];
    double time_ns = (double)count * layer->estimate_ns;
    if (added) {
        on->backlog += count;
        worker->backlog += count;
        load->backlog += count;
        load->backlog_ns += time_ns;
    } else {
        TESS_ASSERT(on->backlog >= count && worker->backlog >= count && load->backlog >= count);
        on->backlog -= count;
        worker->backlog -= count;
        load->backlog -= count;
        load->backlog_ns = load->backlog == 0 ? 0 : load->backlog_ns - time_ns;
    }
    if (layer->lane->demand.count > 0) {
        TESS_ASSERT(added || (worker->demanding_backlog >= count && load->demanding_backlog >= count));
        TESS_ASSERT(added || sched->demanding_backlog >= count);
        worker->demanding_backlog = added ? worker->demanding_backlog + count : worker->demanding_backlog - count;
        load->demanding_backlog = added ? load->demanding_backlog + count : load->demanding_backlog - count;
        load->demanding_ns = load->demanding_backlog == 0 ? 0 : load->demanding_ns + (added ? time_ns : -time_ns);
        sched->demanding_backlog = added ? sched->demanding_backlog + count : sched->demanding_backlog - count;
    }
}

static void insert(struct backlog *backlog, struct backlog_span span)
{
    TESS_ASSERT(span.first < SPAN_FIRST_MAX && span.count <= SPAN_COUNT_MAX);
    uint32_t handle = new_handle(backlog);
    struct kept_span *kept = &backlog->spans[handle];
    *kept = (struct kept_span){.layer = span.layer,
                               .first = span.first & (SPAN_FIRST_MAX - 1),
                               .count = span.count & SPAN_COUNT_MAX,
                               .again = span.again};
    span.layer->span_count++;
    span.layer->span_handle = handle;
    backlog->entries[backlog->count] = entry_of(kept, handle, tessi_order_of(span.layer, span.first));
    sift_up(backlog, backlog->count++);
}

static void forget(struct backlog *backlog, uint32_t handle)
{
    TESS_ASSERT(handle < backlog->begun && backlog->places[handle] > 0 && backlog->spans[handle].layer->span_count > 0);
    size_t i = backlog->places[handle] - 1;
    backlog->places[handle] = 0;
    backlog->spans[handle].layer->span_count--;
    backlog->spans[handle] = (struct kept_span){.first = backlog->free};
    backlog->free = handle + 1;
    backlog->count--;
    if (i != backlog->count) {
        set_entry(backlog, i, backlog->entries[backlog->count]);
        sift(backlog, backlog->entries[i].handle);
    }
}

#define BACKLOG_KEPT 1024u /* handles that an empty one keeps room for */

/* What much room was made for is not kept. */
static void trim(struct tessi_sched *sched, struct backlog *backlog)
{
    if (backlog->count == 0 && backlog->capacity > BACKLOG_KEPT) {
        sched->backlog_bytes -= tessi_backlog_bytes(backlog);
        tessi_backlog_fini(backlog);
        tessi_backlog_init(backlog);
    }
}

void tessi_backlog_advance(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker, uint32_t handle,
                           uint64_t count, uint64_t order)
{
    struct kept_span *span = &backlog->spans[handle];
    TESS_ASSERT(handle < backlog->begun && backlog->places[handle] > 0 && count <= span->count);
    uint64_t left = span->count - count;
    count_backlog(sched, worker, span->layer, count, false);
    if (left == 0) {
        forget(backlog, handle);
        trim(sched, backlog);
    } else if (count > 0) {
        span->first = (span->first + count) & (SPAN_FIRST_MAX - 1);
        span->count = left & SPAN_COUNT_MAX;
        backlog->entries[backlog->places[handle] - 1] = entry_of(span, handle, order);
        sift(backlog, handle);
    }
}

/* How many tasks follow `first` in the global order as they do in the grid. On the stem all do. Elsewhere the order cannot
 * go back along a row; from one row to the next it does where the consumer reads the grid transposed. */
static uint64_t run_in_order(const struct sched_layer *layer, uint64_t first, uint64_t count)
{
    const struct tessi_grid *grid = &layer->layer->grid;
    uint64_t row = grid->ndim == 0 ? 1 : grid->axis[grid->ndim - 1].count;
    const struct sched_layer *at = layer->order_at;
    if (at->order_stem && at->order_split == NULL) {
        return count;
    }
    for (uint64_t next = (first / row + 1) * row; next < first + count; next += row) {
        if (tessi_order_of(layer, next) < tessi_order_of(layer, next - 1)) {
            return next - first;
        }
    }
    return count;
}

/* A span is kept by the place of its first task, so it must not hold an older one. */
static void insert_in_order(struct backlog *backlog, struct backlog_span span)
{
    while (span.count > 0) {
        uint64_t most = span.count < SPAN_COUNT_MAX ? span.count : SPAN_COUNT_MAX;
        uint64_t run = run_in_order(span.layer, span.first, most);
        insert(backlog, (struct backlog_span){span.layer, span.first, run, span.again});
        span.first += run;
        span.count -= run;
    }
}

void tessi_backlog_put(struct tessi_sched *sched, uint32_t worker, struct backlog_span span)
{
    TESS_ASSERT(span.count > 0 && span.first < span.layer->tasks && span.count <= span.layer->tasks - span.first);
    struct backlog *backlog = backlog_of(span.layer->lane, worker);
    uint64_t before = tessi_backlog_bytes(backlog);
    insert_in_order(backlog, span);
    sched->backlog_bytes += tessi_backlog_bytes(backlog) - before;
    count_backlog(sched, worker, span.layer, span.count, true);
    if (worker != NO_WORKER) {
        tessi_hungry_mark(sched, sched->workers[worker]);
    }
}

void tessi_backlog_push(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t first,
                        uint64_t count)
{
    tessi_backlog_put(sched, worker, (struct backlog_span){layer, first, count, false});
}

struct backlog_span tessi_backlog_take(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker,
                                       uint32_t handle)
{
    struct backlog_span span = backlog_span(backlog, handle);
    forget(backlog, handle);
    trim(sched, backlog);
    count_backlog(sched, worker, span.layer, span.count, false);
    return span;
}

static void purge(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker, const struct sched_layer *layer)
{
    size_t count = 0;
    uint32_t last = layer->span_handle;
    if (layer->span_count == 1 && last < backlog->begun && backlog->places[last] > 0 &&
        backlog->spans[last].layer == layer) { /* most layers have one */
        (void)tessi_backlog_take(sched, backlog, worker, last);
    }
    if (layer->span_count == 0) {
        return;
    }
    uint32_t *handles = tessi_alloc((backlog->count + 1) * sizeof *handles);
    for (size_t i = 0; i < backlog->count; i++) { /* removal moves entries, so they are gathered first */
        uint32_t handle = backlog->entries[i].handle;
        if (backlog->spans[handle].layer == layer) {
            handles[count++] = handle;
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)tessi_backlog_take(sched, backlog, worker, handles[i]);
    }
    tessi_free(handles);
}

void tessi_backlog_purge(struct tessi_sched *sched, const struct sched_layer *layer)
{
    struct lane *lane = layer->lane;
    for (uint32_t w = 0; w < lane->capacity; w++) {
        if (w < layer->on_capacity && layer->on[w].backlog > 0) {
            purge(sched, &lane->backlogs[w], w, layer);
            tessi_hungry_mark(sched, sched->workers[w]); /* what stood behind it may be next */
        }
    }
    purge(sched, &lane->orphans, NO_WORKER, layer);
    TESS_ASSERT(layer->span_count == 0);
}

void tessi_backlog_purge_session(struct tessi_sched *sched, struct session *session)
{
    for (size_t l = 0; l < session->lane_count; l++) {
        struct lane *lane = session->lanes[l];
        for (uint32_t w = 0; w <= lane->capacity; w++) { /* the last one: the orphans */
            uint32_t worker = w < lane->capacity ? w : NO_WORKER;
            struct backlog *backlog = backlog_of(lane, worker);
            if (backlog->count > 0 && worker != NO_WORKER) {
                tessi_hungry_mark(sched, sched->workers[worker]); /* what stands behind it may be next */
            }
            while (backlog->count > 0) { /* from the end: nothing has to be moved */
                (void)tessi_backlog_take(sched, backlog, worker, backlog->entries[backlog->count - 1].handle);
            }
        }
    }
}

/* Take the layer's spans out of one backlog of its lane, appended to `spans`. */
static void extract(struct tessi_sched *sched, struct sched_layer *layer, uint32_t worker,
                    struct backlog_span **spans, size_t *count, size_t *capacity)
{
    struct backlog *backlog = backlog_of(layer->lane, worker);
    size_t first = *count;
    for (size_t i = 0; i < backlog->count; i++) {
        uint32_t handle = backlog->entries[i].handle;
        if (backlog->spans[handle].layer == layer) {
            tessi_grow(spans, capacity, *count + 1, sizeof **spans);
            (*spans)[(*count)++] = (struct backlog_span){.layer = layer, .first = handle};
        }
    }
    for (size_t i = first; i < *count; i++) {
        (*spans)[i] = tessi_backlog_take(sched, backlog, worker, (uint32_t)(*spans)[i].first);
    }
}

/* What waits of the layer waits in another lane from now on, for the same workers. */
void tessi_backlog_move(struct tessi_sched *sched, struct sched_layer *layer, struct lane *lane)
{
    struct lane *from = layer->lane;
    struct backlog_span *spans = NULL;
    size_t count = 0, capacity = 0;
    if (from == lane) {
        return;
    }
    for (uint32_t w = 0; w <= from->capacity; w++) { /* the last one: the orphans */
        uint32_t worker = w < from->capacity ? w : NO_WORKER;
        if (worker != NO_WORKER && (w >= layer->on_capacity || layer->on[w].backlog == 0)) {
            continue;
        }
        count = 0;
        layer->lane = from;
        extract(sched, layer, worker, &spans, &count, &capacity);
        layer->lane = lane;
        for (size_t i = 0; i < count; i++) {
            tessi_backlog_put(sched, worker, spans[i]);
        }
    }
    layer->lane = lane;
    tessi_free(spans);
}

