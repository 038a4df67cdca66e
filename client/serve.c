/* Sending the client's own data to the workers that pull them. */
#include <stdatomic.h>
#include <string.h>

#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

#define SMALL_FRAME_BYTES (UINT64_C(16) << 10) /* when there is no memory for larger ones */

struct tessi_blob {
    atomic_uint refs;
    uint64_t bytes;
    _Alignas(16) uint8_t data[];
};

struct tessi_blob *tessi_blob_create(enum tessi_dtype dtype, const void *data, uint64_t bytes)
{
    struct tessi_blob *blob = bytes < SIZE_MAX - sizeof *blob ? tessi_try_alloc(sizeof *blob + (size_t)bytes) : NULL;
    if (blob != NULL) {
        atomic_init(&blob->refs, 1);
        blob->bytes = bytes;
        memcpy(blob->data, data, (size_t)bytes);
        tessi_dtype_admit(dtype, blob->data, (size_t)bytes);
    }
    return blob;
}

struct tessi_blob *tessi_blob_ref(struct tessi_blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void tessi_blob_unref(struct tessi_blob *blob)
{
    if (blob != NULL && atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) == 1) {
        tessi_free(blob);
    }
}

const void *tessi_blob_data(const struct tessi_blob *blob)
{
    return blob->data;
}

/* The lock is held. */
static struct tessi_served *find_served(struct tessi_link *link, uint32_t id)
{
    uint32_t position = tessi_map_get(&link->served_by_id, tessi_link_key(id));
    return position == TESSI_MAP_NONE ? NULL : &link->served[position];
}

void tessi_link_serve(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid, size_t element_bytes,
                      struct tessi_blob *blob)
{
    pthread_mutex_lock(&link->lock);
    tessi_grow(&link->served, &link->served_capacity, link->served_count + 1, sizeof *link->served);
    tessi_map_put(&link->served_by_id, tessi_link_key(id), (uint32_t)link->served_count);
    struct tessi_served *served = &link->served[link->served_count++];
    *served = (struct tessi_served){.id = id, .element_bytes = element_bytes, .blob = tessi_blob_ref(blob)};
    tessi_grid_copy(&served->grid, grid);
    pthread_mutex_unlock(&link->lock);
}

static void drop_served(struct tessi_link *link, struct tessi_served *served)
{
    tessi_grid_fini(&served->grid);
    tessi_blob_unref(served->blob);
    uint32_t id = served->id;
    *served = link->served[--link->served_count];
    tessi_map_put(&link->served_by_id, tessi_link_key(served->id), (uint32_t)(served - link->served));
    (void)tessi_map_remove(&link->served_by_id, tessi_link_key(id));
}

void tessi_serve_end(struct tessi_link *link, uint32_t id)
{
    struct tessi_served *served = find_served(link, id);
    if (served != NULL) {
        drop_served(link, served);
    }
}

void tessi_serve_refused(struct tessi_link *link, uint32_t request)
{
    for (size_t i = link->served_count; i-- > 0;) {
        if (link->served[i].request == request) {
            drop_served(link, &link->served[i]);
        }
    }
}

bool tessi_link_serves(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    bool serves = find_served(link, id) != NULL;
    pthread_mutex_unlock(&link->lock);
    return serves;
}

void tessi_link_unserve(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    tessi_serve_end(link, id);
    pthread_mutex_unlock(&link->lock);
}

void tessi_serve_fini(struct tessi_link *link)
{
    while (link->served_count > 0) {
        drop_served(link, &link->served[link->served_count - 1]);
    }
    tessi_free(link->served);
    tessi_map_fini(&link->served_by_id);
}

/* A pull of data that have been released is dropped: the scheduler has told or will tell the worker so. */
void tessi_serve_pull(struct tessi_remote *peer, struct tessi_task task)
{
    struct tessi_link *link = peer->link;
    pthread_mutex_lock(&link->lock);
    struct tessi_served *served = task.session == link->id ? find_served(link, task.layer) : NULL;
    struct tessi_serving *serving = NULL;
    if (served != NULL && task.index < tessi_grid_blocks(&served->grid)) {
        serving = tessi_zalloc(sizeof *serving);
        serving->task = task;
        serving->blob = tessi_blob_ref(served->blob);
        tessi_region_init(&serving->region, &served->grid, task.index, served->element_bytes);
    }
    pthread_mutex_unlock(&link->lock);
    if (serving == NULL) {
        return;
    }
    if (peer->serving_last != NULL) {
        peer->serving_last->next = serving;
    } else {
        peer->serving = serving;
    }
    peer->serving_last = serving;
    tessi_serve_flush(peer);
}

static void release_blob(void *data, void *hint)
{
    (void)data;
    tessi_blob_unref(hint);
}

static void release_copy(void *data, void *hint)
{
    (void)hint;
    tessi_free(data);
}

/* The next piece of the block: the blob's own memory where it is contiguous, else gathered once. */
static struct tessi_frame next_frame(const struct tessi_serving *serving)
{
    const struct tessi_region *region = &serving->region;
    uint64_t size = region->bytes - serving->sent;
    size = size < TESSI_FRAME_BYTES ? size : TESSI_FRAME_BYTES;
    uint64_t contiguous;
    uint64_t position = tessi_region_locate(region, serving->sent, &contiguous);
    if (contiguous >= size) {
        return tessi_frame_wrap(serving->blob->data + position, (size_t)size, release_blob,
                                tessi_blob_ref(serving->blob));
    }
    uint8_t *copy = tessi_try_alloc((size_t)size);
    if (copy == NULL) {
        size = size < SMALL_FRAME_BYTES ? size : SMALL_FRAME_BYTES;
        copy = tessi_alloc((size_t)size);
    }
    for (uint64_t done = 0; done < size;) {
        position = tessi_region_locate(region, serving->sent + done, &contiguous);
        uint64_t part = contiguous < size - done ? contiguous : size - done;
        memcpy(copy + done, serving->blob->data + position, (size_t)part);
        done += part;
    }
    return tessi_frame_wrap(copy, (size_t)size, release_copy, NULL);
}

static void end_first(struct tessi_remote *peer)
{
    struct tessi_serving *serving = peer->serving;
    peer->serving = serving->next;
    if (peer->serving == NULL) {
        peer->serving_last = NULL;
    }
    tessi_blob_unref(serving->blob);
    tessi_free(serving);
}

void tessi_serve_flush(struct tessi_remote *peer)
{
    while (peer->serving != NULL && tessi_outbound_flush(&peer->out, peer->client)) {
        struct tessi_serving *serving = peer->serving;
        struct tessi_frame frame = next_frame(serving);
        struct tessi_message block = {.type = TESSI_MSG_BLOCK, .run_id = peer->link->run_id};
        block.as.block.task = serving->task;
        block.as.block.offset = serving->sent;
        block.as.block.total = serving->region.bytes;
        serving->sent += frame.size;
        tessi_outbound_add(&peer->out, &block, &frame);
        if (serving->sent == serving->region.bytes) {
            end_first(peer);
        }
    }
    if (peer->client != NULL) {
        (void)tessi_outbound_flush(&peer->out, peer->client);
    }
}

void tessi_serve_drop(struct tessi_remote *peer)
{
    while (peer->serving != NULL) {
        end_first(peer);
    }
}
