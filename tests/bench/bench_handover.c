/* How long a worker takes to read a block that another worker of its host has made: the block is lent, mapped and
 * read in place.
 *
 * Two processes with the peer endpoints, stores and arenas of two workers, and nothing else of them. The owner makes
 * a window of blocks, each in memory that earlier ones have left; when the reader has released a block the owner frees
 * it and makes the next one. The reader asks for a block only once it has been made. Timed by the reader, for each block:
 * `read_us`, from the first byte to the last, and `handover_us`, from the request to the last byte. Every byte is
 * read and their sum is checked. `page_faults` are those of reading; `other_page_faults` those of the reader's
 * process between request and lease, which are the allocator's, and `owner_page_faults` all of the owner's
 * meanwhile. `bytes_copied` are those that either endpoint sent or received. The first rounds meet memory that was
 * never mapped; the very first is reported apart. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/bench/options.h"
#include "worker/peer/peer.h"

#define RUN_ID UINT64_C(0x7e55e7a)
#define ENDPOINT_BYTES 256
#define PATIENCE_NS (20 * TESSI_NS_PER_S)

enum { READER = 1, OWNER = 2, READY_MAX = 16 };

struct settings {
    int64_t block_bytes;
    int64_t window;
    int64_t warmups;
    int64_t rounds;
    const char *keys_dir;
};

struct node {
    const struct settings *settings;
    uint32_t id;
    int link; /* to the other process */
    struct tessi_net *net;
    struct tessi_poller *poller;
    struct tessi_store *store;
    struct tessi_peers *peers;
    const void *leased;   /* reader: what has just been lent */
    uint64_t read, freed; /* owner: blocks asked for, and given back */
};

struct tally { /* of the owner, over the measured rounds */
    uint64_t faults;
    uint64_t sent_bytes;
};

static void check(enum tessi_status status, const struct tessi_error *error)
{
    if (status != TESSI_OK) {
        bench_die("%s", error->text);
    }
}

static void link_write(const struct node *node, const void *bytes, size_t size)
{
    if (write(node->link, bytes, size) != (ssize_t)size) {
        bench_die("the other process is gone: %s", strerror(errno));
    }
}

static void link_read(const struct node *node, void *bytes, size_t size)
{
    if (recv(node->link, bytes, size, MSG_WAITALL) != (ssize_t)size) {
        bench_die("the other process is gone");
    }
}

static uint64_t page_faults(int whose)
{
    struct rusage usage;
    (void)getrusage(whose, &usage);
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

/* ——— a worker's ends ——— */

static struct tessi_task task_of(uint64_t round)
{
    return (struct tessi_task){1, 1, round};
}

static uint32_t handle_of(const struct node *node, uint64_t round)
{
    return (uint32_t)(round % (uint64_t)node->settings->window);
}

static void on_event(void *context, struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct node *node = context;
    if (event->kind == TESSI_FLOW_READY_LEASE) {
        if (data->bytes == NULL || data->byte_count != (uint64_t)node->settings->block_bytes) {
            bench_die("the block was not lent: this system shares no memory between processes");
        }
        node->leased = data->bytes;
    } else if (event->kind == TESSI_FLOW_READ) {
        struct tessi_block *block = tessi_store_block(node->store, handle_of(node, event->task.index), false);
        tessi_peers_lease(node->peers, event->peer, event->task, event->epoch, block);
        node->read++;
    } else if (event->kind == TESSI_FLOW_RELEASE) {
        tessi_store_free(node->store, handle_of(node, event->task.index));
        node->freed++;
    }
}

static void on_broken(void *context, enum tessi_status status, const char *text)
{
    (void)context;
    (void)status;
    bench_die("%s", text);
}

static void on_wake(void *context)
{
    struct node *node = context;
    tessi_poller_wake(node->poller);
}

static enum tessi_status on_make(void *context, const struct tessi_layer *layer, uint64_t index, void *out,
                                 struct tessi_error *error)
{
    (void)context;
    (void)layer;
    (void)index;
    (void)out;
    return tessi_fail(error, TESSI_UNSUPPORTED, "nothing is made again here");
}

static void node_open(struct node *node)
{
    struct tessi_error error;
    char mine[ENDPOINT_BYTES] = {0}, theirs[ENDPOINT_BYTES];
    check(tessi_net_create(node->settings->keys_dir, &node->net, &error), &error);
    check(tessi_poller_create(&node->poller, &error), &error);
    struct tessi_store_config store = {.memory_bytes =
                                           4 * (uint64_t)(node->settings->window * node->settings->block_bytes),
                                       .wake = on_wake,
                                       .make = on_make,
                                       .context = node};
    check(tessi_store_create(&store, &node->store, &error), &error);
    struct tessi_peers_config config = {.net = node->net,
                                        .poller = node->poller,
                                        .store = node->store,
                                        .listen = "tcp://127.0.0.1:0",
                                        .event = on_event,
                                        .broken = on_broken,
                                        .context = node};
    check(tessi_peers_create(&config, &node->peers, &error), &error);
    check(tessi_peers_begin(node->peers, RUN_ID, node->id, &error), &error);
    (void)snprintf(mine, sizeof mine, "%s", tessi_peers_endpoint(node->peers));
    link_write(node, mine, sizeof mine);
    link_read(node, theirs, sizeof theirs);
    theirs[sizeof theirs - 1] = 0;
    tessi_peers_up(node->peers, node->id == READER ? OWNER : READER, theirs, true);
}

static void node_close(struct node *node)
{
    tessi_peers_destroy(node->peers);
    tessi_store_destroy(node->store);
    tessi_poller_destroy(node->poller);
    tessi_net_destroy(node->net);
}

static void node_turn(struct node *node)
{
    struct tessi_ready ready[READY_MAX];
    bool called = !tessi_peers_sleep(node->peers);
    uint32_t count = tessi_poller_wait(node->poller, called ? 0 : PATIENCE_NS, ready, READY_MAX);
    if (count == 0 && !called) {
        bench_die("the other process does not answer");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct tessi_source *source = ready[i].owner;
        if (source != NULL) {
            source->ready(source, ready[i].events);
        }
    }
    (void)tessi_peers_hear(node->peers, tessi_clock_now());
    tessi_peers_work(node->peers, tessi_clock_now());
    tessi_peers_flush(node->peers);
}

/* ——— the owner ——— */

static uint64_t word_of(uint64_t round)
{
    return (round + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void block_make(struct node *node, uint64_t round)
{
    struct tessi_error error;
    uint32_t handle = handle_of(node, round);
    uint64_t bytes = (uint64_t)node->settings->block_bytes;
    check(tessi_store_alloc(node->store, handle, bytes, &error), &error);
    struct tessi_block *block = tessi_store_block(node->store, handle, false);
    check(tessi_block_commit(block, &error), &error);
    uint64_t *words = tessi_block_data(block);
    for (uint64_t i = 0; i < bytes / sizeof *words; i++) {
        words[i] = word_of(round);
    }
}

static void own(const struct settings *settings, int link)
{
    struct node node = {.settings = settings, .id = OWNER, .link = link};
    struct tally tally = {0, 0};
    uint64_t total = (uint64_t)(settings->warmups + settings->rounds), faults_before = 0;
    node_open(&node);
    for (uint64_t round = 0; round < total; round++) {
        if (round == (uint64_t)settings->warmups) {
            faults_before = page_faults(RUSAGE_SELF);
        }
        while (round >= node.freed + (uint64_t)settings->window) {
            node_turn(&node);
        }
        block_make(&node, round);
        link_write(&node, &round, sizeof round);
        while (node.read <= round) {
            node_turn(&node);
        }
    }
    tally.faults = page_faults(RUSAGE_SELF) - faults_before;
    while (node.freed < total) {
        node_turn(&node);
    }
    tally.sent_bytes = tessi_peers_gauges(node.peers).sent_bytes;
    link_write(&node, &tally, sizeof tally);
    char end;
    (void)!recv(link, &end, 1, 0); /* until the reader has gone */
    node_close(&node);
}

/* ——— the reader ——— */

struct round { /* one block, as the reader saw it */
    double read_us, handover_us;
    uint64_t read_faults, handover_faults;
};

typedef uint64_t pair __attribute__((vector_size(16)));

/* The sum of all words, with enough additions at a time that memory is the limit and not the processor. */
static uint64_t sum_of(const void *data, uint64_t bytes)
{
    const pair *at = data;
    pair a = {0}, b = {0}, c = {0}, d = {0};
    for (uint64_t i = 0; i + 4 <= bytes / sizeof *at; i += 4) {
        a += at[i];
        b += at[i + 1];
        c += at[i + 2];
        d += at[i + 3];
    }
    a += b + c + d;
    return a[0] + a[1];
}

static struct round round_run(struct node *node, uint64_t number)
{
    uint64_t made, bytes = (uint64_t)node->settings->block_bytes;
    link_read(node, &made, sizeof made);
    node->leased = NULL;
    uint64_t faults_asked = page_faults(RUSAGE_SELF);
    double asked = bench_seconds_now();
    tessi_peers_read(node->peers, OWNER, task_of(number), 1, true);
    tessi_peers_flush(node->peers);
    while (node->leased == NULL) {
        node_turn(node);
    }
    uint64_t faults_lent = page_faults(RUSAGE_SELF), faults_began = page_faults(RUSAGE_THREAD);
    double began = bench_seconds_now();
    uint64_t sum = sum_of(node->leased, bytes);
    double ended = bench_seconds_now();
    uint64_t faults_ended = page_faults(RUSAGE_THREAD);
    if (made != number || sum != bytes / sizeof sum * word_of(number)) {
        bench_die("block %llu does not hold what was written", (unsigned long long)number);
    }
    tessi_peers_release(node->peers, OWNER, task_of(number));
    tessi_peers_flush(node->peers);
    return (struct round){(ended - began) * 1e6, (ended - asked) * 1e6, faults_ended - faults_began,
                          faults_lent - faults_asked};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const struct round *rounds, uint64_t count, bool handover)
{
    double *values = calloc(count, sizeof *values);
    if (values == NULL) {
        bench_die("no memory");
    }
    for (uint64_t i = 0; i < count; i++) {
        values[i] = handover ? rounds[i].handover_us : rounds[i].read_us;
    }
    qsort(values, count, sizeof *values, compare);
    double median = count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    free(values);
    return median;
}

static void read_all(const struct settings *settings, int link)
{
    struct node node = {.settings = settings, .id = READER, .link = link};
    uint64_t warmups = (uint64_t)settings->warmups, count = (uint64_t)settings->rounds;
    struct round *rounds = calloc(warmups + count, sizeof *rounds);
    struct tally owner;
    uint64_t read_faults = 0, handover_faults = 0;
    if (rounds == NULL) {
        bench_die("no memory");
    }
    node_open(&node);
    for (uint64_t i = 0; i < warmups + count; i++) {
        rounds[i] = round_run(&node, i);
        read_faults += i >= warmups ? rounds[i].read_faults : 0;
        handover_faults += i >= warmups ? rounds[i].handover_faults : 0;
    }
    link_read(&node, &owner, sizeof owner);
    uint64_t copied = owner.sent_bytes + tessi_peers_gauges(node.peers).received_bytes;
    printf("{\"program\": \"bench_handover\", \"block\": %lld, \"window\": %lld, \"rounds\": %llu, \"read_us\": %.1f, "
           "\"handover_us\": %.1f, \"page_faults\": %llu, \"other_page_faults\": %llu, \"owner_page_faults\": %llu, "
           "\"bytes_copied\": %llu, "
           "\"first_read_us\": %.1f, \"first_page_faults\": %llu, \"encrypted\": %s}\n",
           (long long)settings->block_bytes, (long long)settings->window, (unsigned long long)count,
           median_of(rounds + warmups, count, false), median_of(rounds + warmups, count, true),
           (unsigned long long)read_faults, (unsigned long long)handover_faults, (unsigned long long)owner.faults,
           (unsigned long long)copied, rounds[0].read_us, (unsigned long long)rounds[0].read_faults,
           settings->keys_dir != NULL ? "true" : "false");
    (void)fflush(stdout);
    free(rounds);
    link_write(&node, "", 1);
    node_close(&node);
}

int main(int argc, char **argv)
{
    struct settings settings = {.block_bytes = INT64_C(8) << 20, .window = 3, .warmups = 50, .rounds = 500};
    const struct bench_option options[] = {
        {"--block", BENCH_BYTES, &settings.block_bytes, "of one block (8MiB)"},
        {"--window", BENCH_NUMBER, &settings.window, "blocks that exist at a time (3)"},
        {"--warmups", BENCH_NUMBER, &settings.warmups, "rounds before those that count (50)"},
        {"--rounds", BENCH_NUMBER, &settings.rounds, "that count (500)"},
        {"--keys", BENCH_TEXT, &settings.keys_dir, "encrypt the connection with these keys"},
    };
    bench_options_parse(argc, argv, "Times the hand-over of blocks between two workers of one host.", options,
                        sizeof options / sizeof options[0]);
    int links[2];
    if (settings.block_bytes % 256 != 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, links) != 0) {
        bench_die("blocks must be multiples of 256 bytes, or there is no socket pair: %s", strerror(errno));
    }
    pid_t child = fork();
    if (child == 0) {
        (void)close(links[0]);
        own(&settings, links[1]);
        _exit(0);
    }
    (void)close(links[1]);
    if (child < 0) {
        bench_die("no second process: %s", strerror(errno));
    }
    read_all(&settings, links[0]);
    int outcome;
    (void)waitpid(child, &outcome, 0);
    return outcome == 0 ? 0 : 1;
}
