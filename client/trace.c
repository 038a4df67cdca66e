#include "client/trace.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ask.h"
#include "client/trace_json.h"
#include "core/base/alloc.h"
#include "core/base/temporary.h"
#include "core/base/clock.h"

#define PINGS 8 /* round trips to find out by how much a worker's clock differs */
#define WORKER_WAIT_NS (5 * TESSI_NS_PER_S)

struct collector {
    struct tessi_ask *ask;
    const struct tessi_trace_options *options;
    struct tessi_trace_counts *counts;
    struct tessi_trace_json json;
    uint32_t questions; /* asked so far */
};

__attribute__((format(printf, 2, 3))) static void say(const struct collector *collector, const char *format, ...)
{
    char text[512];
    if (collector->options->said == NULL) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    collector->options->said(collector->options->context, text);
}

static enum tessi_status send_question(struct collector *collector, uint32_t worker, uint32_t ring, uint64_t from,
                                       struct tessi_error *error)
{
    struct tessi_message message = {.type = TESSI_MSG_TRACE_REQUEST};
    message.as.trace_request.question = ++collector->questions;
    message.as.trace_request.worker = worker;
    message.as.trace_request.ring = ring;
    message.as.trace_request.from = from;
    return tessi_ask_send(collector->ask, &message, error);
}

/* The answer to the last question but `behind`; whatever else arrives is late and dropped. */
static enum tessi_status take_page(struct collector *collector, uint32_t behind, struct tessi_message *page,
                                   struct tessi_error *error)
{
    enum tessi_status status;
    while ((status = tessi_ask_receive(collector->ask, WORKER_WAIT_NS, page, error)) == TESSI_OK) {
        if (page->type == TESSI_MSG_TRACE_PAGE && page->as.trace_page.question == collector->questions - behind) {
            if (page->as.trace_page.error[0] == 0) {
                return TESSI_OK;
            }
            status = tessi_fail(error, TESSI_NOT_FOUND, "%s", page->as.trace_page.error);
            tessi_message_fini(page);
            return status;
        }
        tessi_message_fini(page);
    }
    return status;
}

/* Two processes on one machine read the same clock, so a difference that may be none is taken for none. */
static enum tessi_status measure_clock(struct collector *collector, uint32_t worker, uint32_t *rings,
                                       int64_t *offset_ns, struct tessi_error *error)
{
    int64_t delay_ns = INT64_MAX;
    enum tessi_status status = TESSI_OK;
    for (int i = 0; i < PINGS; i++) {
        struct tessi_message page;
        TESSI_TRY(send_question(collector, worker, 0, UINT64_MAX, error));
        TESSI_TRY(take_page(collector, 0, &page, error));
        const struct tessi_msg_trace_page *answer = &page.as.trace_page;
        *rings = answer->rings;
        if (answer->delay_ns < delay_ns) {
            delay_ns = answer->delay_ns;
            *offset_ns = answer->offset_ns;
        }
        tessi_message_fini(&page);
    }
    if (*offset_ns <= delay_ns / 2 + 1 && *offset_ns >= -delay_ns / 2 - 1) {
        *offset_ns = 0;
    }
cleanup:
    return status;
}

/* One ring up to what it held at the first look, page by page; the next page is on its way while one is written. */
static enum tessi_status copy_ring(struct collector *collector, uint32_t worker, uint32_t ring,
                                   struct tessi_error *error)
{
    uint64_t next = 0, limit = UINT64_MAX;
    enum tessi_status status;
    char *lanes = NULL;
    TESSI_TRY(send_question(collector, worker, ring, 0, error));
    while (next < limit) {
        struct tessi_message message;
        TESSI_TRY(take_page(collector, 0, &message, error));
        const struct tessi_msg_trace_page *page = &message.as.trace_page;
        uint64_t from = page->from, count = page->records.count;
        if (limit == UINT64_MAX) {
            limit = page->written;
            lanes = tessi_strdup(page->lanes);
            tessi_trace_json_ring(&collector->json, lanes);
        }
        bool misleads = from < next || count > UINT64_MAX - from;
        from = from < limit ? from : limit;
        collector->counts->overwritten += misleads ? 0 : from - next;
        next = from + count;
        if (count > 0 && next < limit && !misleads) {
            status = send_question(collector, worker, ring, next, error);
        }
        for (uint64_t i = 0; i < count && from + i < limit && !misleads; i++) {
            tessi_trace_json_record(&collector->json, &page->records.items[i]);
        }
        tessi_message_fini(&message);
        if (status != TESSI_OK || count == 0 || misleads) {
            break;
        }
    }
cleanup:
    tessi_free(lanes);
    tessi_trace_json_ring(&collector->json, "");
    return status;
}

static enum tessi_status copy_process(struct collector *collector, uint32_t worker, const char *name,
                                      struct tessi_error *error)
{
    uint32_t rings = 1;
    int64_t offset_ns = 0;
    enum tessi_status status;
    if (worker != 0) {
        TESSI_TRY(measure_clock(collector, worker, &rings, &offset_ns, error));
    }
    tessi_trace_json_process(&collector->json, worker != 0 ? worker : TESSI_TRACE_SCHEDULER_PID, name, offset_ns);
    /* The loop's ring last, so that slots come first in the file's rows. */
    for (uint32_t ring = 1; ring <= rings; ring++) {
        TESSI_TRY(copy_ring(collector, worker, ring % rings, error));
    }
cleanup:
    return status;
}

static enum tessi_status copy_workers(struct collector *collector, const cJSON *status_document,
                                      struct tessi_error *error)
{
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(status_document, "workers"), *worker;
    int total = cJSON_GetArraySize(workers);
    cJSON_ArrayForEach(worker, workers)
    {
        double id = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(worker, "id"));
        const char *known = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(worker, "name"));
        if (!(id >= 1 && id <= UINT32_MAX)) {
            continue;
        }
        char name[128];
        (void)snprintf(name, sizeof name, "%.64s (worker %.0f)", known != NULL ? known : "?", id);
        enum tessi_status status = copy_process(collector, (uint32_t)id, name, error);
        if (status == TESSI_LOST) {
            return status; /* the scheduler is gone */
        }
        collector->counts->workers++;
        if (status != TESSI_OK) {
            collector->counts->missing++;
            say(collector, "%s: %s; its events are not complete", name,
                status == TESSI_TIMEOUT ? "it does not answer" : error->text);
        } else {
            say(collector, "%s: %" PRIu32 " of %d workers", name, collector->counts->workers, total);
        }
    }
    return TESSI_OK;
}

static enum tessi_status collect(struct collector *collector, struct tessi_error *error)
{
    struct tessi_message question = {.type = TESSI_MSG_STATUS_REQUEST}, answer;
    enum tessi_status status = tessi_ask_one(collector->ask, &question, TESSI_MSG_STATUS_REPLY, &answer, error);
    if (status != TESSI_OK) {
        return status;
    }
    cJSON *document = cJSON_Parse(answer.as.status_reply.json);
    tessi_message_fini(&answer);
    /* The scheduler first: it says what the layers are. */
    status = copy_process(collector, 0, "scheduler", error);
    if (status == TESSI_OK) {
        status = copy_workers(collector, document, error);
    }
    cJSON_Delete(document);
    return status;
}

static enum tessi_status write_events(struct collector *collector, FILE *file, const char *path,
                                      struct tessi_error *error)
{
    tessi_trace_json_init(&collector->json, file, collector->options->queues);
    enum tessi_status status = collect(collector, error);
    if (status == TESSI_OK) {
        tessi_trace_json_end(&collector->json, collector->counts->overwritten);
        collector->counts->events = collector->json.events;
        if (fflush(file) != 0 || ferror(file)) {
            status = tessi_fail(error, TESSI_IO, "%s: it cannot be written: %s", path, strerror(errno));
        }
    }
    tessi_trace_json_fini(&collector->json);
    return status;
}

/* A pipe or a device is written as it is: a file of its name would take its place. */
static enum tessi_status write_special(struct collector *collector, const char *path, struct tessi_error *error)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return tessi_fail(error, TESSI_IO, "%s: it cannot be opened: %s", path, strerror(errno));
    }
    enum tessi_status status = write_events(collector, file, path, error);
    if (fclose(file) != 0 && status == TESSI_OK) {
        status = tessi_fail(error, TESSI_IO, "%s: it cannot be written: %s", path, strerror(errno));
    }
    return status;
}

static enum tessi_status write_file(struct collector *collector, const char *path, struct tessi_error *error)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        return tessi_fail(error, TESSI_IO, "%s: it is a folder: name a file in it", path);
    }
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return write_special(collector, path, error);
    }
    size_t size = strlen(path) + 32;
    char *temporary = tessi_alloc(size);
    int descriptor = tessi_temporary_create(path, 0666, temporary, size);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    enum tessi_status status = TESSI_OK;
    if (file == NULL) {
        status = tessi_fail(error, TESSI_IO, "%s cannot be written: %s: %s", path, temporary, strerror(errno));
        if (descriptor >= 0) {
            (void)unlink(temporary);
            (void)close(descriptor);
        }
    } else {
        status = write_events(collector, file, path, error);
        if (fclose(file) != 0 && status == TESSI_OK) {
            status = tessi_fail(error, TESSI_IO, "%s: it cannot be written: %s", path, strerror(errno));
        }
        if (status == TESSI_OK && rename(temporary, path) != 0) {
            status = tessi_fail(error, TESSI_IO, "%s: it cannot be replaced: %s", path, strerror(errno));
        }
        if (status != TESSI_OK) {
            (void)unlink(temporary);
        }
    }
    tessi_free(temporary);
    return status;
}

enum tessi_status tessi_trace_write(struct tessi_net *net, const char *address, const char *path,
                                    const struct tessi_trace_options *options, struct tessi_trace_counts *counts,
                                    struct tessi_error *error)
{
    struct collector collector = {.options = options, .counts = counts};
    *counts = (struct tessi_trace_counts){0};
    enum tessi_status status = tessi_ask_open(net, address, &collector.ask, error);
    if (status == TESSI_OK) {
        status = strcmp(path, "-") == 0 ? write_events(&collector, stdout, "standard output", error)
                                        : write_file(&collector, path, error);
    }
    tessi_ask_close(collector.ask);
    return status;
}
