#include "core/server/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/digest.h"
#include "core/wire/message.h"

#define RECORD_MAGIC "TESSREC3"

struct file_header {
    char magic[8];
    uint32_t protocol;
    uint32_t max_deaths;
    uint64_t run_id;
    uint32_t assigned_per_slot;
    uint32_t assigned_per_step;
    uint32_t block_cost;
    uint32_t exchange_room;
    int64_t window_ns;
    int64_t worker_silence_ns;
    int64_t client_silence_ns;
    int64_t wait_workers_ns;
    uint32_t lineage_max;
    uint32_t workers_last;
    uint64_t lookups_per_step;
    uint64_t memory_bytes;
    char family[TESSI_NAME_MAX];
    uint64_t check; /* digest of all before it */
};
/* Whatever configures the machine belongs into the header. */
_Static_assert(sizeof(struct tessi_sched_config) == 6 * sizeof(int64_t) + 32 + TESSI_NAME_MAX,
               "a setting of the scheduler is missing in the header of records");

struct entry_header {
    uint32_t kind;
    uint32_t peer;
    int64_t now_ns;
    uint64_t size;
    uint64_t bytes_digest;
    uint64_t check; /* digest of all before it: so damage is told from a record that was cut short */
};

struct tessi_recorder {
    int fd;
    char *path;
    bool has_digest; /* of the last input, not yet written */
    uint64_t digest;
};

static enum tessi_status write_all(struct tessi_recorder *recorder, struct iovec *parts, int count,
                                   struct tessi_error *error)
{
    while (count > 0) {
        if (parts->iov_len == 0) {
            parts++;
            count--;
            continue;
        }
        ssize_t wrote = writev(recorder->fd, parts, count);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            return tessi_fail(error, TESSI_IO,
                              "%s: cannot write the record: %s; free some space or choose another file", recorder->path,
                              strerror(errno));
        }
        for (size_t left = (size_t)wrote; left > 0;) {
            size_t part = left < parts->iov_len ? left : parts->iov_len;
            parts->iov_base = (uint8_t *)parts->iov_base + part;
            parts->iov_len -= part;
            left -= part;
            if (parts->iov_len == 0) {
                parts++;
                count--;
            }
        }
    }
    return TESSI_OK;
}

enum tessi_status tessi_recorder_open(const char *path, const struct tessi_sched_config *config, uint64_t run_id,
                                      struct tessi_recorder **recorder, struct tessi_error *error)
{
    struct file_header header = {.protocol = TESSI_PROTOCOL_VERSION,
                                 .max_deaths = config->max_deaths,
                                 .lineage_max = config->lineage_max,
                                 .workers_last = config->workers_last,
                                 .run_id = run_id,
                                 .assigned_per_slot = config->assigned_per_slot,
                                 .assigned_per_step = config->assigned_per_step,
                                 .block_cost = config->block_cost,
                                 .exchange_room = config->exchange_room,
                                 .window_ns = config->window_ns,
                                 .worker_silence_ns = config->worker_silence_ns,
                                 .client_silence_ns = config->client_silence_ns,
                                 .wait_workers_ns = config->wait_workers_ns,
                                 .lookups_per_step = config->lookups_per_step,
                                 .memory_bytes = config->memory_bytes};
    memcpy(header.magic, RECORD_MAGIC, sizeof header.magic);
    memcpy(header.family, config->family, sizeof header.family);
    header.check = tessi_digest_bytes(&header, offsetof(struct file_header, check));
    *recorder = NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return tessi_fail(error, TESSI_IO,
                          "%s: cannot create the record: %s; name a file in a folder that you may write", path,
                          strerror(errno));
    }
    struct tessi_recorder *result = tessi_zalloc(sizeof *result);
    result->fd = fd;
    result->path = tessi_strdup(path);
    enum tessi_status status = write_all(result, &(struct iovec){&header, sizeof header}, 1, error);
    if (status != TESSI_OK) {
        tessi_recorder_close(result);
        return status;
    }
    *recorder = result;
    return TESSI_OK;
}

enum tessi_status tessi_recorder_input(struct tessi_recorder *recorder, enum tessi_record_kind kind, uint32_t peer,
                                       int64_t now_ns, const void *bytes, size_t size, struct tessi_error *error)
{
    if (recorder->fd < 0) {
        return TESSI_OK;
    }
    struct entry_header header = {(uint32_t)kind, peer, now_ns, size, tessi_digest_bytes(bytes, size), 0};
    header.check = tessi_digest_bytes(&header, offsetof(struct entry_header, check));
    struct iovec parts[3] = {{&recorder->digest, recorder->has_digest ? sizeof recorder->digest : 0},
                             {&header, sizeof header},
                             {(void *)(uintptr_t)bytes, size}};
    recorder->has_digest = false;
    enum tessi_status status = write_all(recorder, parts, 3, error);
    if (status != TESSI_OK) {
        close(recorder->fd);
        recorder->fd = -1;
    }
    return status;
}

void tessi_recorder_digest(struct tessi_recorder *recorder, uint64_t digest)
{
    recorder->digest = digest;
    recorder->has_digest = true;
}

void tessi_recorder_close(struct tessi_recorder *recorder)
{
    if (recorder == NULL) {
        return;
    }
    if (recorder->fd >= 0) {
        if (recorder->has_digest) {
            struct iovec part = {&recorder->digest, sizeof recorder->digest};
            (void)write_all(recorder, &part, 1, NULL); /* Without it the last input is not compared. */
        }
        close(recorder->fd);
    }
    tessi_free(recorder->path);
    tessi_free(recorder);
}

struct tessi_record_reader {
    FILE *file;
    char *path;
    uint8_t *bytes;
    size_t capacity;
    uint64_t entries;
};

static enum tessi_status read_header(struct tessi_record_reader *reader, struct tessi_sched_config *config,
                                     uint64_t *run_id, struct tessi_error *error)
{
    struct file_header header;
    if (fread(&header, sizeof header, 1, reader->file) != 1 ||
        memcmp(header.magic, RECORD_MAGIC, sizeof header.magic) != 0 || header.run_id == 0) {
        return tessi_fail(error, TESSI_FORMAT, "%s: not a record; make one with `tessera scheduler --record FILE`",
                          reader->path);
    }
    if (header.check != tessi_digest_bytes(&header, offsetof(struct file_header, check))) {
        return tessi_fail(error, TESSI_FORMAT, "%s: the head of the record is damaged; record the run again",
                          reader->path);
    }
    if (header.protocol != TESSI_PROTOCOL_VERSION) {
        return tessi_fail(error, TESSI_VERSION,
                          "%s: recorded under protocol %u, this build speaks %d; replay it with the build that made it",
                          reader->path, header.protocol, TESSI_PROTOCOL_VERSION);
    }
    *config = (struct tessi_sched_config){.assigned_per_slot = header.assigned_per_slot,
                                          .assigned_per_step = header.assigned_per_step,
                                          .block_cost = header.block_cost,
                                          .exchange_room = header.exchange_room,
                                          .max_deaths = header.max_deaths};
    memcpy(config->family, header.family, sizeof config->family);
    config->family[sizeof config->family - 1] = 0;
    config->lineage_max = header.lineage_max;
    config->workers_last = header.workers_last;
    config->window_ns = header.window_ns;
    config->worker_silence_ns = header.worker_silence_ns;
    config->client_silence_ns = header.client_silence_ns;
    config->wait_workers_ns = header.wait_workers_ns;
    config->lookups_per_step = header.lookups_per_step;
    config->memory_bytes = header.memory_bytes;
    *run_id = header.run_id;
    return TESSI_OK;
}

enum tessi_status tessi_record_open(const char *path, struct tessi_record_reader **reader,
                                    struct tessi_sched_config *config, uint64_t *run_id, struct tessi_error *error)
{
    *reader = NULL;
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO,
                          "%s: cannot open the record: %s; check the name", path, strerror(errno));
    }
    struct tessi_record_reader *result = tessi_zalloc(sizeof *result);
    result->file = file;
    result->path = tessi_strdup(path);
    enum tessi_status status = read_header(result, config, run_id, error);
    if (status != TESSI_OK) {
        tessi_record_close(result);
        return status;
    }
    *reader = result;
    return TESSI_OK;
}

static bool header_valid(const struct entry_header *header)
{
    return header->check == tessi_digest_bytes(header, offsetof(struct entry_header, check)) &&
           header->size <= TESSI_MESSAGE_MAX && header->now_ns >= 0 &&
           (header->kind == TESSI_RECORD_MESSAGE || header->kind == TESSI_RECORD_HISTORY ||
            (header->size == 0 && (header->kind == TESSI_RECORD_GONE || header->kind == TESSI_RECORD_TICK)));
}

static enum tessi_status damaged(const struct tessi_record_reader *reader, struct tessi_error *error)
{
    return tessi_fail(error, TESSI_FORMAT, "%s: entry %" PRIu64 " is damaged; record the run again", reader->path,
                      reader->entries);
}

enum tessi_status tessi_record_next(struct tessi_record_reader *reader, struct tessi_record_entry *entry,
                                    struct tessi_error *error)
{
    struct entry_header header;
    if (fread(&header, sizeof header, 1, reader->file) != 1) {
        return TESSI_CLOSED;
    }
    reader->entries++;
    if (!header_valid(&header)) {
        return damaged(reader, error);
    }
    size_t size = (size_t)header.size;
    tessi_grow(&reader->bytes, &reader->capacity, size > 0 ? size : 1, 1);
    if (size > 0 && fread(reader->bytes, size, 1, reader->file) != 1) {
        return TESSI_CLOSED;
    }
    if (tessi_digest_bytes(reader->bytes, size) != header.bytes_digest) {
        return damaged(reader, error);
    }
    *entry = (struct tessi_record_entry){.kind = (enum tessi_record_kind)header.kind,
                                         .peer = header.peer,
                                         .now_ns = header.now_ns,
                                         .bytes = reader->bytes,
                                         .size = size};
    entry->has_digest = fread(&entry->digest, sizeof entry->digest, 1, reader->file) == 1;
    return TESSI_OK;
}

void tessi_record_close(struct tessi_record_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    fclose(reader->file);
    tessi_free(reader->path);
    tessi_free(reader->bytes);
    tessi_free(reader);
}
