/* The record of a live run: everything that went into the driver, and a digest of what came out.
 *
 * The file is a header (magic, protocol, run id, configuration) and one entry for each input, in the
 * byte order of the host. An input is written before it is taken, its digest with the next one, so the
 * input that ended a crashed scheduler is the last in the file, without a digest. */
#ifndef TESSI_SERVER_RECORD_H
#define TESSI_SERVER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/sched/sched.h"
#include "core/wire/buffer.h"

enum tessi_record_kind {
    TESSI_RECORD_MESSAGE = 1, /* bytes of a peer */
    TESSI_RECORD_GONE = 2,    /* a peer's connection ended */
    TESSI_RECORD_TICK = 3,
    TESSI_RECORD_HISTORY = 4, /* run times of earlier schedulers, before anything else */
};

struct tessi_record_entry {
    enum tessi_record_kind kind;
    uint32_t peer;
    int64_t now_ns;
    const uint8_t *bytes; /* MESSAGE, HISTORY; lives until the next entry */
    size_t size;
    bool has_digest;
    uint64_t digest;
};

struct tessi_recorder;

/* An existing file is replaced. IO: the text names the file and why. */
TESSI_MUST_USE enum tessi_status tessi_recorder_open(const char *path, const struct tessi_sched_config *config,
                                                     uint64_t run_id, struct tessi_recorder **recorder,
                                                     struct tessi_error *error);
/* The input that is about to be taken. IO, once: the record has ended (a full disk); later calls do nothing. */
TESSI_MUST_USE enum tessi_status tessi_recorder_input(struct tessi_recorder *recorder, enum tessi_record_kind kind,
                                                      uint32_t peer, int64_t now_ns, const void *bytes, size_t size,
                                                      struct tessi_error *error);
void tessi_recorder_digest(struct tessi_recorder *recorder, uint64_t digest); /* of what that input gave */
void tessi_recorder_close(struct tessi_recorder *recorder);                   /* NULL is allowed */

struct tessi_record_reader;

/* NOT_FOUND, IO; FORMAT: no record; VERSION: of another build's protocol. */
TESSI_MUST_USE enum tessi_status tessi_record_open(const char *path, struct tessi_record_reader **reader,
                                                   struct tessi_sched_config *config, uint64_t *run_id,
                                                   struct tessi_error *error);
/* The next entry; CLOSED at the end (also when the last entry was cut short); FORMAT: damaged. */
TESSI_MUST_USE enum tessi_status tessi_record_next(struct tessi_record_reader *reader, struct tessi_record_entry *entry,
                                                   struct tessi_error *error);
void tessi_record_close(struct tessi_record_reader *reader);

#endif
