/* The deterministic middle of the scheduler process: bytes in, bytes out.
 *
 * It knows who is connected (worker, client, stranger), judges each message before the machine sees it,
 * steps the machine and packs its actions. It reads no clock and opens nothing, so that feeding it the
 * same inputs again gives the same output bytes: that is what a record is replayed against.
 *
 * Every input clears the outbox and fills it anew. */
#ifndef TESSI_SERVER_DRIVER_H
#define TESSI_SERVER_DRIVER_H

#include "core/sched/sched.h"
#include "core/server/translate.h"
#include "core/wire/buffer.h"

struct tessi_outgoing {
    uint32_t peer;
    enum tessi_msg_type type;
    size_t offset; /* in the outbox's bytes */
    size_t size;
};

struct tessi_outbox {
    struct tessi_outgoing *items;
    size_t count;
    size_t capacity;
    struct tessi_buffer bytes;
    int64_t wake_ns; /* give a tick at this time at the latest; INT64_MAX: never */
};

enum tessi_driver_result {
    TESSI_DRIVER_TAKEN,
    TESSI_DRIVER_DROPPED, /* malformed, stale or out of place; `why` says what */
    TESSI_DRIVER_STATUS,  /* the peer asks for the status, which is the caller's to tell */
};

struct tessi_driver_counters {
    uint64_t malformed; /* not a message, or one that breaks the rules */
    uint64_t stale;     /* of another run of the scheduler, or from a peer that was ended */
    uint64_t misplaced; /* such a peer may not send this */
    uint64_t refused;   /* hellos turned down: version, settings */
    uint64_t messages;  /* taken */
};

struct tessi_driver;

/* `run_id` is random, not 0. */
struct tessi_driver *tessi_driver_create(const struct tessi_sched_config *config, uint64_t run_id);
void tessi_driver_destroy(struct tessi_driver *driver);

/* Begin with the run times that an earlier scheduler has learnt; before any other input. FORMAT: damaged; nothing of it
 * was taken. */
enum tessi_status tessi_driver_history(struct tessi_driver *driver, const void *bytes, size_t size,
                                       struct tessi_error *error);

/* A message of `peer`; its id was never used before by another connection. `why` is filled when it is dropped. */
enum tessi_driver_result tessi_driver_receive(struct tessi_driver *driver, int64_t now_ns, uint32_t peer,
                                              const void *bytes, size_t size, struct tessi_error *why);
/* A message of `peer` is among the next few: a hint, of which nothing is to be seen in what follows. */
void tessi_driver_expect(struct tessi_driver *driver, uint32_t peer);
void tessi_driver_gone(struct tessi_driver *driver, int64_t now_ns, uint32_t peer); /* its connection has ended */
void tessi_driver_tick(struct tessi_driver *driver, int64_t now_ns);
/* Fill the outbox with SHUTDOWN to every worker and client. */
void tessi_driver_shutdown(struct tessi_driver *driver, const char *text);

const struct tessi_outbox *tessi_driver_outbox(const struct tessi_driver *driver); /* until the next input */
uint64_t tessi_outbox_digest(const struct tessi_outbox *outbox);

/* What the last input gave for the trace; until the next one. */
const struct tessi_trace_record *tessi_driver_notes(const struct tessi_driver *driver, size_t *count);

enum tessi_role tessi_driver_role(const struct tessi_driver *driver, uint32_t peer);
const struct tessi_sched *tessi_driver_sched(const struct tessi_driver *driver);
const struct tessi_driver_counters *tessi_driver_counters(const struct tessi_driver *driver);
uint64_t tessi_driver_run_id(const struct tessi_driver *driver);

#endif
