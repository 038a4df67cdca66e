#include "worker/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "core/base/host.h"
#include "core/base/log.h"
#include "core/base/relax.h"
#include "worker/internal.h"
#include "worker/settings.h"
#include "worker/store/spill.h"

enum {
    READY_MAX = 64,
    TURNS_MAX = 16, /* of work that the loop finds for itself, before it looks at its messages again */
    ATTEND_LOOKS = 16, /* between two looks at the clock */
    VAIN_SHARE = 16
};
#define DESCRIPTORS 96 /* its own, spill files, and connections to some neighbours */
#define ATTEND_NS INT64_C(50000) /* what two wake-ups take */
#define ATTEND_AFTER_NS INT64_C(1000000)
#define VAIN_MAX_NS INT64_C(100000000) /* looking in vain that is paid back later */
#define ABSENCE_MAX_NS INT64_C(15000000000) /* half of the time after which ZeroMQ gives a silent connection up */
#define ABSENCE_HEARTBEATS 2.5               /* half of those after which the scheduler gives a worker up */

void tessi_worker_end(struct tessi_worker *worker, enum tessi_status status, const char *format, ...)
{
    if (worker->phase == WORKER_OVER) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(worker->error.text, sizeof worker->error.text, format, arguments);
    va_end(arguments);
    worker->error.status = status;
    worker->status = status;
    worker->phase = WORKER_OVER;
}

uint64_t tessi_worker_default_memory(void)
{
    return tessi_settings_memory() / 10 * 6;
}

/* ——— what happens to the worker ——— */

static void on_peer_event(void *context, struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct tessi_worker *worker = context;
    if (worker->phase == WORKER_WORKING) {
        if (event->kind == TESSI_FLOW_DATA) {
            tessi_trace_note(worker->trace, TESSI_TRACE_FETCH, event->task, data->byte_count, event->peer,
                             data->begun_ns, tessi_clock_now());
        }
        tessi_worker_step(worker, event, data);
    }
}

static void on_broken(void *context, enum tessi_status status, const char *text)
{
    tessi_worker_end(context, status, "%s", text);
}

static void on_unreadable(void *context, struct tessi_task task, const char *text)
{
    tessi_worker_on_unreadable(context, task, text);
}

static void on_store_wake(void *context)
{
    struct tessi_worker *worker = context;
    tessi_poller_wake(worker->poller);
}

static enum tessi_status on_make(void *context, const struct tessi_layer *layer, uint64_t index, void *out,
                                 struct tessi_error *error)
{
    struct tessi_worker *worker = context;
    return tessi_slots_make(worker->slots, layer, index, out, error);
}

static void on_stop(struct tessi_source *source, uint32_t events)
{
    struct tessi_worker *worker = (struct tessi_worker *)((char *)source - offsetof(struct tessi_worker, stop_source));
    (void)events;
    tessi_worker_leave(worker);
}

/* ——— create ——— */

static void copy_config(struct tessi_worker *worker, const struct tessi_worker_config *config)
{
    worker->config = *config;
    worker->config.scheduler = tessi_strdup(config->scheduler);
    worker->config.keys_dir = tessi_strdup(config->keys_dir);
    worker->config.spill_dir = tessi_strdup(config->spill_dir);
    worker->config.data_dir = tessi_strdup(config->data_dir);
    worker->config.write_dir = tessi_strdup(config->write_dir);
    worker->config.blas_core = tessi_strdup(config->blas_core);
    worker->config.listen_host = tessi_strdup(config->listen_host);
    worker->config.gpus = tessi_strdup(config->gpus);
    worker->config.gpu_memory = tessi_strdup(config->gpu_memory);
    worker->config.name = worker->config.host_id = worker->config.resources = NULL;
}

static void free_config(struct tessi_worker_config *config)
{
    const char *texts[] = {config->scheduler, config->keys_dir,    config->spill_dir, config->data_dir,
                           config->blas_core, config->listen_host, config->gpus,      config->gpu_memory,
                           config->write_dir};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        tessi_free((void *)(uintptr_t)texts[i]);
    }
}

static enum tessi_status take_names(struct tessi_worker *worker, const struct tessi_worker_config *config,
                                    struct tessi_error *error)
{
    const char *given[] = {config->name, config->host_id};
    char *kept[] = {worker->name, worker->host_id};
    for (size_t i = 0; i < 2; i++) {
        if (given[i] != NULL && (given[i][0] == 0 || strlen(given[i]) > TESSI_WIRE_NAME_MAX)) {
            return tessi_fail(error, TESSI_INVALID, "%s '%.80s': give 1 to %d bytes",
                              i == 0 ? "worker name" : "host id", given[i], TESSI_WIRE_NAME_MAX);
        }
        if (given[i] != NULL) {
            (void)snprintf(kept[i], TESSI_WIRE_NAME_MAX + 1, "%s", given[i]);
        }
    }
    if (config->name == NULL) {
        tessi_settings_name(worker->name, sizeof worker->name);
    }
    if (config->host_id == NULL) {
        tessi_host_id(worker->host_id, sizeof worker->host_id);
    }
    const char *folders[] = {config->data_dir, config->write_dir};
    for (size_t i = 0; i < 2; i++) {
        struct stat info = {0};
        bool there = folders[i] == NULL || stat(folders[i], &info) == 0;
        if (folders[i] != NULL && (!there || !S_ISDIR(info.st_mode))) {
            return tessi_fail(error, TESSI_INVALID, "%s %s: %s", i == 0 ? "--data" : "--write", folders[i],
                              there ? "this is no directory" : strerror(errno));
        }
    }
    return TESSI_OK;
}

/* Where to spill, and how much. Memory that is disguised as a disk is taken only when somebody asks for it. */
static void choose_spill(struct tessi_worker *worker)
{
    const struct tessi_worker_config *config = &worker->config;
    const char *fallback = getenv("TMPDIR");
    const char **dir = &worker->spill_dir;
    bool in_memory;
    if (config->no_spill) {
        return;
    }
    *dir = config->spill_dir != NULL ? config->spill_dir : fallback != NULL && fallback[0] != 0 ? fallback : "/tmp";
    uint64_t free_bytes = tessi_spill_free_bytes(*dir, &in_memory);
    worker->spill_bytes = config->spill_bytes > 0 ? config->spill_bytes : free_bytes / 2;
    if (in_memory && config->spill_dir == NULL && config->spill_bytes == 0) {
        tessi_log_event(TESSI_LOG_INFO, "spilling_off", "dir=%s reason=" TESSI_LOG_TEXT, *dir,
                        "it is in memory; --spill-dir chooses another");
        worker->spill_bytes = 0;
        *dir = NULL;
    }
}

static enum tessi_status open_store(struct tessi_worker *worker, struct tessi_error *error)
{
    struct tessi_store_config store = {.memory_bytes = worker->memory_bytes,
                                       .spill_dir = worker->spill_dir,
                                       .anonymous = worker->scheduler.scheme == TESSI_SCHEME_INPROC,
                                       .wake = on_store_wake,
                                       .make = on_make,
                                       .context = worker};
    return tessi_store_create(&store, &worker->store, error);
}

static void on_gpus_wake(void *context)
{
    on_store_wake(context);
}

/* Products on such devices have bits of their own, so a worker that has them offers its best kernels with them, and
 * then its kernels without, as many as the name has room for. */
static void offer_gpus(struct tessi_worker *worker)
{
    char with[sizeof worker->families];
    size_t first = strcspn(worker->kernels, ",");
    int n = snprintf(with, sizeof with, "%.*s+%s", (int)first, worker->kernels, tessi_gpus_numerics(worker->gpus));
    TESS_ASSERT(n > 0 && (size_t)n < sizeof with);
    const char *rest = worker->kernels;
    while (*rest != 0) {
        size_t length = strcspn(rest, ",");
        size_t used = strlen(with);
        if (used + 1 + length < sizeof with) {
            (void)snprintf(with + used, sizeof with - used, ",%.*s", (int)length, rest);
        }
        rest += length + (rest[length] == ',' ? 1 : 0);
    }
    memcpy(worker->families, with, sizeof with);
}

static enum tessi_status find_gpus(struct tessi_worker *worker, struct tessi_error *error)
{
    struct tessi_gpus_config config = {.gpus = worker->config.gpus,
                                       .memory = worker->config.gpu_memory,
                                       .wake = on_gpus_wake,
                                       .context = worker};
    struct tessi_error reason = {0};
    memcpy(worker->families, worker->kernels, sizeof worker->families);
    enum tessi_status status = tessi_gpus_find(&config, &worker->gpus, &reason);
    if (status != TESSI_OK) {
        return tessi_fail(error, status, "%s", reason.text);
    }
    if (worker->gpus != NULL) {
        offer_gpus(worker);
    } else {
        tessi_log_event(TESSI_LOG_INFO, "gpus_none", "reason=" TESSI_LOG_TEXT, reason.text);
    }
    return TESSI_OK;
}

static enum tessi_status create_parts(struct tessi_worker *worker, const struct tessi_worker_config *config,
                                      struct tessi_error *error)
{
    enum tessi_status status;
    if (config->scheduler == NULL) {
        return tessi_fail(error, TESSI_INVALID, "a worker needs the address of its scheduler: tcp://host:port");
    }
    TESSI_TRY(tessi_address_parse(config->scheduler, TESSI_ADDRESS_CONNECT, &worker->scheduler, error));
    TESSI_TRY(take_names(worker, config, error));
    TESSI_TRY(tessi_resources_parse(config->resources != NULL ? config->resources : "", &worker->resources, error));
    tessi_settings_processor_name(worker->processor, sizeof worker->processor);
    bool inproc = worker->scheduler.scheme == TESSI_SCHEME_INPROC;
    TESSI_TRY(tessi_settings_families(config->blas_core, inproc, worker->kernels, sizeof worker->kernels, error));
    TESSI_TRY(find_gpus(worker, error));
    worker->processors = tessi_processors();
    worker->threads = config->threads > 0 ? config->threads : worker->processors;
    worker->memory_bytes = config->memory_bytes > 0 ? config->memory_bytes : tessi_worker_default_memory();
    choose_spill(worker);
    worker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->stop_fd < 0) {
        return tessi_fail(error, TESSI_IO, "event descriptor: %s", strerror(errno));
    }
    if (config->net == NULL) {
        TESSI_TRY(tessi_net_create(config->keys_dir, &worker->own_net, error));
    }
    worker->net = config->net != NULL ? config->net : worker->own_net;
    TESSI_TRY(tessi_poller_create(&worker->poller, error));
    worker->stop_source.ready = on_stop;
    TESSI_TRY(tessi_poller_add_fd(worker->poller, worker->stop_fd, TESSI_POLL_READ, &worker->stop_source, error));
    TESSI_TRY(open_store(worker, error));
cleanup:
    return status;
}

enum tessi_status tessi_worker_create(const struct tessi_worker_config *config, struct tessi_worker **out,
                                      struct tessi_error *error)
{
    struct tessi_worker *worker = tessi_zalloc(sizeof *worker);
    worker->stop_fd = -1;
    copy_config(worker, config);
    enum tessi_status status = tessi_descriptors_require("a worker", DESCRIPTORS, error);
    status = status == TESSI_OK ? create_parts(worker, config, error) : status;
    if (status != TESSI_OK) {
        tessi_worker_destroy(worker);
        worker = NULL;
    }
    *out = worker;
    return status;
}

/* ——— run ——— */

/* The address to listen at, and the host that others are told (NULL: the one we listen at). */
static enum tessi_status choose_address(const struct tessi_worker *worker, struct tessi_address *listen,
                                        struct tessi_address *told, struct tessi_error *error)
{
    static atomic_uint numbers;
    enum tessi_status status = TESSI_OK;
    *listen = (struct tessi_address){.scheme = TESSI_SCHEME_TCP};
    if (worker->scheduler.scheme == TESSI_SCHEME_INPROC) {
        listen->scheme = TESSI_SCHEME_INPROC;
        (void)snprintf(listen->host, sizeof listen->host, "tessera-worker-%u", atomic_fetch_add(&numbers, 1));
    } else if (worker->config.listen_host != NULL) {
        char text[TESSI_ENDPOINT_MAX];
        bool bare = strchr(worker->config.listen_host, ':') != NULL && worker->config.listen_host[0] != '[';
        (void)snprintf(text, sizeof text, bare ? "tcp://[%s]:0" : "tcp://%s:0", worker->config.listen_host);
        TESSI_TRY(tessi_address_parse(text, TESSI_ADDRESS_LISTEN, listen, error));
    } else if (worker->scheduler.scheme == TESSI_SCHEME_IPC) {
        (void)snprintf(listen->host, sizeof listen->host, "127.0.0.1");
    } else {
        TESSI_TRY(tessi_address_source(&worker->scheduler, listen, error));
    }
    *told = *listen;
    if (tessi_address_is_wildcard(listen) && worker->scheduler.scheme == TESSI_SCHEME_TCP) {
        TESSI_TRY(tessi_address_source(&worker->scheduler, told, error));
    }
cleanup:
    return status;
}

static enum tessi_status open_peers(struct tessi_worker *worker, struct tessi_error *error)
{
    struct tessi_address listen, told, bound;
    char text[TESSI_ENDPOINT_MAX];
    enum tessi_status status;
    TESSI_TRY(choose_address(worker, &listen, &told, error));
    tessi_address_format(&listen, text, sizeof text);
    struct tessi_peers_config config = {.net = worker->net,
                                        .poller = worker->poller,
                                        .store = worker->store,
                                        .listen = text,
                                        .event = on_peer_event,
                                        .broken = on_broken,
                                        .unreadable = on_unreadable,
                                        .context = worker};
    TESSI_TRY(tessi_peers_create(&config, &worker->peers, error));
    TESSI_TRY(tessi_address_parse(tessi_peers_endpoint(worker->peers), TESSI_ADDRESS_LISTEN, &bound, error));
    told.port = bound.port;
    tessi_address_format(&told, text, sizeof text);
    if (strlen(text) > TESSI_WIRE_ADDRESS_MAX) {
        return tessi_fail(error, TESSI_INVALID, "listening address %s is too long", text);
    }
    memcpy(worker->address, text, strlen(text) + 1);
cleanup:
    return status;
}

/* How long the loop may wait. */
static int64_t time_left(const struct tessi_worker *worker)
{
    int64_t until_ns = worker->welcome_limit_ns;
    if (worker->phase == WORKER_WORKING) {
        until_ns = tessi_worker_tell_deadline(worker);
        int64_t peers_ns = tessi_peers_deadline(worker->peers);
        until_ns = peers_ns < until_ns ? peers_ns : until_ns;
        int64_t leave_ns = tessi_worker_leave_deadline(worker);
        until_ns = leave_ns < until_ns ? leave_ns : until_ns;
        until_ns = worker->spill_again_ns != 0 && worker->spill_again_ns < until_ns ? worker->spill_again_ns : until_ns;
    }
    return until_ns > worker->now_ns ? until_ns - worker->now_ns : 0;
}

/* A worker that was stopped for long may have been given up without knowing it yet, and with it the
 * leases on memory that its steps read: nobody must see what they make of it. */
static void check_absence(struct tessi_worker *worker, int64_t absent_ns)
{
    double given_up_ns = ABSENCE_HEARTBEATS * (double)worker->heartbeat_ns;
    double limit_ns = given_up_ns < (double)ABSENCE_MAX_NS ? given_up_ns : (double)ABSENCE_MAX_NS;
    if ((double)absent_ns > limit_ns && worker->phase == WORKER_WORKING &&
        worker->scheduler.scheme == TESSI_SCHEME_TCP) {
        tessi_worker_say_goodbye(worker);
        tessi_worker_give_up_membership(worker, TESSI_CLOSED,
                                        "it was stopped for %.0f s and cannot trust what it borrowed before",
                                        (double)absent_ns / 1e9);
    }
}

/* Take what has ended, say what follows, and run a short step here when the slot for it sleeps. */
static void work(struct tessi_worker *worker)
{
    bool again = true;
    for (int turn = 0; again && worker->phase == WORKER_WORKING; turn++) {
        (void)tessi_peers_hear(worker->peers, worker->now_ns);
        tessi_worker_take_outcomes(worker);
        tessi_peers_work(worker->peers, worker->now_ns);
        tessi_peers_flush(worker->peers);
        if (turn == TURNS_MAX) {
            tessi_poller_wake(worker->poller);
            return;
        }
        again = worker->phase == WORKER_WORKING && tessi_slots_help(worker->slots);
    }
}

/* A neighbour that has just spoken is likely to speak again soon, and to be woken takes longer than all else that
 * happens to a small block. So the loop looks at the lines for a moment before it sleeps, while this host has a
 * processor for it: its workers share them. Looking in vain may take a sixteenth of the time, so that it ends when
 * nothing comes any more or somebody else uses the processors. Loops that wake each other tend to be kept on one
 * processor; one of them leaves it. */
static void attend_lines(struct tessi_worker *worker)
{
    uint32_t share = worker->processors / (1 + tessi_peers_neighbours(worker->peers));
    int64_t used_ns = tessi_peers_lines_used(worker->peers);
    if (used_ns == INT64_MIN || worker->now_ns - used_ns > ATTEND_AFTER_NS || tessi_slots_busy(worker->slots) >= share) {
        tessi_processor_let_go(&worker->stay, worker->now_ns, true);
        return;
    }
    int64_t begun_ns = tessi_clock_now(), now_ns = begun_ns;
    tessi_poller_keep_apart(worker->poller);
    tessi_processor_let_go(&worker->stay, begun_ns, false);
    if (tessi_peers_crowded(worker->peers)) {
        (void)tessi_processor_leave(&worker->stay, begun_ns);
    }
    if (worker->vain_until_ns - begun_ns > VAIN_MAX_NS) {
        return;
    }
    while (now_ns - begun_ns < ATTEND_NS) {
        for (int i = 0; i < ATTEND_LOOKS; i++) {
            if (tessi_peers_called(worker->peers)) {
                return;
            }
            tessi_relax();
        }
        if (tessi_slots_call(worker->slots)) {
            return;
        }
        now_ns = tessi_clock_now();
    }
    int64_t from_ns = worker->vain_until_ns > begun_ns ? worker->vain_until_ns : begun_ns;
    worker->vain_until_ns = from_ns + VAIN_SHARE * (now_ns - begun_ns);
}

static void loop_once(struct tessi_worker *worker)
{
    struct tessi_ready ready[READY_MAX];
    int64_t before_ns = worker->now_ns, left_ns = time_left(worker);
    if (worker->phase == WORKER_WORKING) {
        attend_lines(worker);
        if (tessi_slots_busy(worker->slots) > 0) {
            tessi_poller_keep_apart(worker->poller); /* a slot may want the processor that they would share */
        }
        left_ns = tessi_peers_sleep(worker->peers) ? left_ns : 0;
    }
    uint32_t count = tessi_poller_wait(worker->poller, left_ns, ready, READY_MAX);
    worker->now_ns = tessi_clock_now();
    check_absence(worker, worker->now_ns - before_ns - left_ns);
    for (uint32_t i = 0; i < count && worker->phase != WORKER_OVER; i++) {
        struct tessi_source *source = ready[i].owner;
        if (source != NULL) {
            source->ready(source, ready[i].events);
        }
    }
    if (worker->phase == WORKER_JOINING && worker->now_ns >= worker->welcome_limit_ns) {
        tessi_worker_give_up_membership(worker, TESSI_TIMEOUT,
                                        "the scheduler at %s accepts connections but does not answer",
                                        worker->config.scheduler);
    }
    if (worker->phase == WORKER_WORKING) {
        work(worker);
    }
    if (worker->phase == WORKER_WORKING) {
        tessi_worker_tell(worker);
        tessi_worker_go_when_free(worker);
    }
    if (worker->slots != NULL) {
        tessi_slots_rest(worker->slots, worker->flow != NULL && tessi_flow_awaited(worker->flow));
    }
}

static void close_link(struct tessi_worker *worker)
{
    if (worker->link != NULL) {
        tessi_poller_remove_client(worker->poller, worker->link);
        tessi_client_close(worker->link);
        worker->link = NULL;
    }
}

/* A step that waits in a slot's queue for one that is held back would wait for ever. */
static void cancel_held_steps(struct tessi_worker *worker)
{
    struct tessi_deferred_action late;
    if (worker->deferred == NULL || worker->slots == NULL) {
        return;
    }
    tessi_deferred_give_up(worker->deferred);
    while (tessi_deferred_next(worker->deferred, &late)) {
        if (late.action.kind == TESSI_FLOW_RUN && late.action.slot < worker->threads) {
            tessi_slots_run(worker->slots, &late.action, worker->store, true);
        }
        if (late.block != NULL) {
            tessi_block_unref(late.block);
        }
    }
}

/* All that belongs to one membership. Steps and transfers that run use blocks and the flow's layers, so they end
 * first. */
static void end_membership(struct tessi_worker *worker)
{
    if (worker->poller != NULL) { /* else the worker could not be made */
        tessi_poller_keep_apart(worker->poller);
    }
    tessi_processor_let_go(&worker->stay, 0, true); /* threads that are made next inherit where this one may be */
    close_link(worker);
    cancel_held_steps(worker);
    if (worker->slots != NULL) {
        tessi_slots_stop(worker->slots);
    }
    if (worker->gpus != NULL) {
        tessi_gpus_stop(worker->gpus);
    }
    tessi_deferred_destroy(worker->deferred);
    tessi_peers_destroy(worker->peers);
    tessi_store_destroy(worker->store);
    tessi_slots_destroy(worker->slots);
    tessi_gpus_destroy(worker->gpus);
    tessi_free(worker->cancelled);
    tessi_trace_destroy(worker->trace);
    if (worker->flow != NULL) {
        tessi_flow_destroy(worker->flow);
    }
    worker->trace = NULL;
    worker->gpus = NULL;
    worker->deferred = NULL;
    worker->cancelled = NULL;
    worker->cancelled_count = worker->cancelled_capacity = 0;
    worker->no_devices = false;
    worker->devices_told = 0;
    worker->devices_told_ns = 0;
    worker->peers = NULL;
    worker->store = NULL;
    worker->slots = NULL;
    worker->flow = NULL;
}

/* As it was when it had just been made. */
static enum tessi_status begin_again(struct tessi_worker *worker, struct tessi_error *error)
{
    end_membership(worker);
    tessi_buffer_clear(&worker->unsent);
    worker->link_full = false;
    worker->run_id = 0;
    worker->id = 0;
    worker->gauges = (struct tessi_report){0};
    worker->locates.count = 0;
    worker->question_count = 0;
    worker->reported_ns = 0;
    worker->phase = WORKER_JOINING;
    worker->status = TESSI_OK;
    worker->again = false;
    enum tessi_status status = find_gpus(worker, error);
    return status == TESSI_OK ? open_store(worker, error) : status;
}

/* From hello to the end. */
static enum tessi_status be_member(struct tessi_worker *worker, struct tessi_error *error)
{
    enum tessi_status status;
    worker->now_ns = tessi_clock_now();
    TESSI_TRY(open_peers(worker, error));
    TESSI_TRY(tessi_worker_join(worker, error));
    while (worker->phase != WORKER_OVER) {
        loop_once(worker);
    }
    status = worker->status;
    if (status != TESSI_OK) {
        (void)tessi_fail(error, status, "%s", worker->error.text);
    }
cleanup:
    close_link(worker); /* what was said last leaves now, not when the last step has ended */
    return status;
}

enum tessi_status tessi_worker_run(struct tessi_worker *worker, struct tessi_error *error)
{
    enum tessi_status status = be_member(worker, error);
    while (status != TESSI_OK && tessi_worker_pause_to_rejoin(worker)) {
        status = begin_again(worker, error);
        if (status == TESSI_OK) {
            status = be_member(worker, error);
        }
    }
    return worker->stopped ? TESSI_OK : status;
}

void tessi_worker_stop(struct tessi_worker *worker)
{
    int saved = errno;
    uint64_t one = 1;
    (void)!write(worker->stop_fd, &one, sizeof one);
    errno = saved;
}

void tessi_worker_destroy(struct tessi_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    end_membership(worker);
    if (worker->stop_fd >= 0) {
        if (worker->poller != NULL) {
            tessi_poller_remove_fd(worker->poller, worker->stop_fd);
        }
        (void)close(worker->stop_fd);
    }
    tessi_poller_destroy(worker->poller);
    tessi_net_destroy(worker->own_net);
    tessi_spans_fini(&worker->locates);
    tessi_buffer_fini(&worker->unsent);
    tessi_free(worker->actions.items);
    tessi_worker_forget_questions(worker);
    free_config(&worker->config);
    tessi_free(worker);
}
