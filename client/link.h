/* The connection to a cluster: an I/O thread that owns the sockets to the scheduler and to the workers whose
 * blocks are read or who read the client's data.
 *
 * The caller's thread hands over packed messages and transfers and sleeps on a condition; what the scheduler
 * says about each layer is kept in a table under one lock. All functions may be called from any thread. */
#ifndef TESSI_CLIENT_LINK_H
#define TESSI_CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/array/shape.h"
#include "core/base/status.h"
#include "core/graph/layer.h"
#include "core/wire/message.h"

struct tessi_link;
struct tessi_net;

struct tessi_link_config {
    struct tessi_net *net; /* borrowed, outlives the link */
    const char *address;   /* of the scheduler */
    const char *name;      /* of this client, for the scheduler's status */
    uint32_t timeout_ms;   /* to connect and to be welcomed */
};

enum tessi_status tessi_link_open(const struct tessi_link_config *config, struct tessi_link **link,
                                  struct tessi_error *error);
/* Says goodbye: the scheduler drops what the session holds. NULL is allowed. */
void tessi_link_close(struct tessi_link *link);

uint32_t tessi_link_id(const struct tessi_link *link); /* the session's */
/* Bytes of memory of the smallest worker that was there when the link was opened; 0: there was none. */
uint64_t tessi_link_least_memory(const struct tessi_link *link);

/* Why the connection has ended; OK while it lives. */
enum tessi_status tessi_link_check(struct tessi_link *link, struct tessi_error *error);

/* Layers are borrowed. The wanted ones are known to tessi_link_wait until they are released. */
enum tessi_status tessi_link_submit(struct tessi_link *link, struct tessi_layer *const *layers, size_t layer_count,
                                    const uint32_t *wanted, size_t wanted_count, struct tessi_error *error);
/* A submission in several messages, in turn. Where one part is refused, so are all that come after it, with its reason. */
struct tessi_link_part {
    uint32_t first; /* number of the first part, from tessi_link_requests */
    uint32_t part;  /* 0, 1, … */
    struct tessi_layer *const *layers;
    size_t layer_count;
    const uint32_t *wanted;
    size_t wanted_count;
};
uint32_t tessi_link_requests(struct tessi_link *link, uint32_t parts);
enum tessi_status tessi_link_submit_part(struct tessi_link *link, const struct tessi_link_part *part,
                                         struct tessi_error *error);
void tessi_link_release(struct tessi_link *link, const uint32_t *ids, size_t count); /* NULL link is allowed */
/* The same of one that can be made again; false: the scheduler has said that it cannot, and it stays. */
bool tessi_link_let_go(struct tessi_link *link, uint32_t id);
/* What is submitted from now on leaves with the next transfer, so that nothing is pushed before somebody takes it. */
void tessi_link_hold(struct tessi_link *link, bool held);
/* Of a layer whose blocks have been fetched: the scheduler may not have been told yet that they are made. */
void tessi_link_release_when_done(struct tessi_link *link, uint32_t id);
/* Wait until the scheduler has been told so of all of those; returns its measure of the last one. */
int64_t tessi_link_settle(struct tessi_link *link);
void tessi_link_cancel(struct tessi_link *link, uint32_t id);
/* The scheduler may forget what the layer is made from, when it is complete. */
void tessi_link_detach(struct tessi_link *link, uint32_t id);
/* A layer that cannot be made again, and that this session holds, whether it had been released or not: it is to be
 * released (once more). 0: there is no other. */
uint32_t tessi_link_next_detached(struct tessi_link *link);

/* OK while the layer is computed or held, else how it failed, in words too. */
enum tessi_status tessi_link_layer_failure(struct tessi_link *link, uint32_t id, struct tessi_error *error);
enum tessi_status tessi_link_layer_status(struct tessi_link *link, uint32_t id);

/* Called about every change of a layer that is waited for, on the thread that waits, without the lock. */
typedef void tessi_link_progress_fn(void *context, uint64_t done, uint64_t total, bool finished);

/* Wait until a wanted layer is complete. `elapsed_ns` is the scheduler's measure. TIMEOUT after `timeout_ns`
 * (INT64_MAX: never); else how the layer or the connection failed. */
enum tessi_status tessi_link_wait(struct tessi_link *link, uint32_t id, int64_t timeout_ns,
                                  tessi_link_progress_fn *progress, void *context, int64_t *elapsed_ns,
                                  struct tessi_error *error);

/* Takes `size` bytes of block `index` from byte `offset` on; called on the I/O thread, pieces in any order.
 * A failure ends the transfer. */
typedef enum tessi_status tessi_piece_fn(void *context, uint64_t index, uint64_t offset, const void *data,
                                         uint64_t size, struct tessi_error *error);

/* Fetch all blocks of a layer that was submitted from the workers that hold them or are to make them; returns when the
 * last piece was taken, or when the layer has failed. */
enum tessi_status tessi_link_fetch(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                   size_t element_bytes, tessi_piece_fn *piece, void *context,
                                   struct tessi_error *error);

/* The same for a layer that was submitted with `push`. */
enum tessi_status tessi_link_fetch_pushed(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                          size_t element_bytes, tessi_piece_fn *piece, void *context,
                                          struct tessi_error *error);

/* Counters as the scheduler last told them, and the number of workers now. */
void tessi_link_counts(struct tessi_link *link, struct tessi_session_counts *counts, uint32_t *workers);

/* Whether there are workers, and all say that they write files for clients. */
bool tessi_link_workers_write(struct tessi_link *link);

/* The scheduler's status document; the caller frees it. */
enum tessi_status tessi_link_status_document(struct tessi_link *link, char **json, struct tessi_error *error);

/* ——— data that workers pull from this client ——— */

/* A copy of the user's elements, counted: the I/O thread may be sending from it. */
struct tessi_blob;
/* A copy of the elements, as tessi_dtype_admit lets them in; NULL when there is no memory. */
struct tessi_blob *tessi_blob_create(enum tessi_dtype dtype, const void *data, uint64_t bytes);
struct tessi_blob *tessi_blob_ref(struct tessi_blob *blob);
void tessi_blob_unref(struct tessi_blob *blob); /* NULL is allowed */
const void *tessi_blob_data(const struct tessi_blob *blob);

/* Answer pulls of the RECEIVE layer `id` from the blob, which holds the array of that grid in C order. */
void tessi_link_serve(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid, size_t element_bytes,
                      struct tessi_blob *blob);
void tessi_link_unserve(struct tessi_link *link, uint32_t id);
/* Until that, or until the scheduler has said that the layer is gone. */
bool tessi_link_serves(struct tessi_link *link, uint32_t id);

#endif
