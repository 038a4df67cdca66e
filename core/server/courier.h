/* Questions that do not concern the machine: pages of the trace, why a task waits.
 *
 * The scheduler answers for itself and hands on what is for a worker, and the answer's way back. It holds a
 * question's number only, never more of a trace than the page in hand: the asker pulls page by page. None of it
 * is recorded, since it changes nothing. The trace of the scheduler itself is here too. */
#ifndef TESSI_SERVER_COURIER_H
#define TESSI_SERVER_COURIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/server/relay.h"

#define TESSI_COURIER_EVENTS 65536  /* records of the scheduler's own ring: 3 MiB */
#define TESSI_COURIER_QUESTIONS 256 /* on their way at a time; further ones are refused */

struct tessi_courier;

typedef void tessi_courier_send_fn(void *context, uint32_t peer, const void *bytes, size_t size);

/* The relay is borrowed and outlives the courier. */
struct tessi_courier *tessi_courier_create(const struct tessi_relay *relay, tessi_courier_send_fn *send, void *context);
void tessi_courier_destroy(struct tessi_courier *courier); /* NULL is allowed */

/* True: the message was a question or an answer and has been dealt with. Else it is the relay's. */
bool tessi_courier_take(struct tessi_courier *courier, int64_t now_ns, uint32_t peer, const void *bytes, size_t size);
/* Its questions are forgotten, those for it are answered with an error. */
void tessi_courier_gone(struct tessi_courier *courier, uint32_t peer);
/* Keep what the relay's last input gave for the trace. */
void tessi_courier_keep_notes(struct tessi_courier *courier);

/* The newest steals for `tessera status`, the newest first; NULL at the end. */
const struct tessi_trace_record *tessi_courier_steal(const struct tessi_courier *courier, size_t nth);

#endif
