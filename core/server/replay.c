#include "core/server/replay.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/server/driver.h"
#include "core/server/record.h"

static const char *describe(const struct tessi_record_entry *entry, char *text, size_t size)
{
    enum tessi_msg_type type;
    uint64_t run_id;
    switch (entry->kind) {
    case TESSI_RECORD_MESSAGE:
        snprintf(text, size, "%s from peer %u",
                 tessi_message_peek(entry->bytes, entry->size, &type, &run_id) ? tessi_message_name(type) : "garbage",
                 entry->peer);
        break;
    case TESSI_RECORD_GONE:
        snprintf(text, size, "peer %u gone", entry->peer);
        break;
    case TESSI_RECORD_TICK:
        snprintf(text, size, "a tick");
        break;
    case TESSI_RECORD_HISTORY:
        snprintf(text, size, "a history of run times");
        break;
    }
    return text;
}

static void take(struct tessi_driver *driver, const struct tessi_record_entry *entry)
{
    struct tessi_error why = {0};
    switch (entry->kind) {
    case TESSI_RECORD_MESSAGE:
        (void)tessi_driver_receive(driver, entry->now_ns, entry->peer, entry->bytes, entry->size, &why);
        return;
    case TESSI_RECORD_GONE:
        tessi_driver_gone(driver, entry->now_ns, entry->peer);
        return;
    case TESSI_RECORD_TICK:
        tessi_driver_tick(driver, entry->now_ns);
        return;
    case TESSI_RECORD_HISTORY:
        (void)tessi_driver_history(driver, entry->bytes, entry->size, &why); /* a live run goes on without it, too */
        return;
    }
}

static enum tessi_status replay_entries(const char *path, struct tessi_record_reader *reader,
                                        struct tessi_driver *driver, struct tessi_replay_counts *counts,
                                        struct tessi_error *error)
{
    struct tessi_record_entry entry;
    enum tessi_status status;
    int64_t first_ns = 0, last_ns = 0;
    while ((status = tessi_record_next(reader, &entry, error)) == TESSI_OK) {
        if (entry.now_ns < last_ns) { /* The machine may rely on it, so a damaged file must not reach it. */
            return tessi_fail(error, TESSI_FORMAT, "%s: time goes back at step %" PRIu64 "; record the run again", path,
                              counts->steps + 1);
        }
        first_ns = counts->steps == 0 ? entry.now_ns : first_ns;
        last_ns = entry.now_ns;
        take(driver, &entry);
        const struct tessi_outbox *outbox = tessi_driver_outbox(driver);
        counts->steps++;
        counts->messages += entry.kind == TESSI_RECORD_MESSAGE;
        counts->actions += outbox->count;
        counts->covered_ns = last_ns - first_ns;
        if (entry.has_digest && tessi_outbox_digest(outbox) != entry.digest) {
            char text[128];
            return tessi_fail(error, TESSI_FAILED,
                              "%s: step %" PRIu64 " (%s, %.6f s after the first) gives other actions than in the live "
                              "run; the scheduler is not a function of its inputs there, or this is another build",
                              path, counts->steps, describe(&entry, text, sizeof text),
                              (double)counts->covered_ns / 1e9);
        }
        counts->compared += entry.has_digest;
    }
    return status == TESSI_CLOSED ? TESSI_OK : status;
}

enum tessi_status tessi_replay(const char *path, struct tessi_replay_counts *counts, struct tessi_error *error)
{
    struct tessi_record_reader *reader;
    struct tessi_sched_config config;
    uint64_t run_id;
    *counts = (struct tessi_replay_counts){0};
    enum tessi_status status = tessi_record_open(path, &reader, &config, &run_id, error);
    if (status != TESSI_OK) {
        return status;
    }
    struct tessi_driver *driver = tessi_driver_create(&config, run_id);
    status = replay_entries(path, reader, driver, counts, error);
    tessi_driver_destroy(driver);
    tessi_record_close(reader);
    return status;
}
