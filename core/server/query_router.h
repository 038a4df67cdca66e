/* Questions that do not concern the machine: pages of the trace, why a task waits.
 *
 * The scheduler answers for itself and hands on what is for a worker, and the answer's way back. It holds a
 * question's number only, never more of a trace than the page in hand: the asker pulls page by page. None of it
 * is recorded, since it changes nothing. The trace of the scheduler itself is here too. */
#ifndef TESSI_SERVER_QUERY_ROUTER_H
#define TESSI_SERVER_QUERY_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/server/driver.h"

#define TESSI_ROUTER_EVENTS 65536  /* records of the scheduler's own ring: 3 MiB */
#define TESSI_ROUTER_QUESTIONS 256 /* on their way at a time; further ones are refused */

struct tessi_router;

typedef void tessi_router_send_fn(void *context, uint32_t peer, const void *bytes, size_t size);

/* The driver is borrowed and outlives the router. */
struct tessi_router *tessi_router_create(const struct tessi_driver *driver, tessi_router_send_fn *send, void *context);
void tessi_router_destroy(struct tessi_router *router); /* NULL is allowed */

/* True: the message was a question or an answer and has been dealt with. Else it is the driver's. */
bool tessi_router_take(struct tessi_router *router, int64_t now_ns, uint32_t peer, const void *bytes, size_t size);
/* Its questions are forgotten, those for it are answered with an error. */
void tessi_router_gone(struct tessi_router *router, uint32_t peer);
/* Keep what the driver's last input gave for the trace. */
void tessi_router_keep_notes(struct tessi_router *router);

/* The newest steals for `tessera status`, the newest first; NULL at the end. */
const struct tessi_trace_record *tessi_router_steal(const struct tessi_router *router, size_t nth);

#endif
