#include "worker/peer/line.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/peer/local_socket.h"

#define RING_BYTES ((uint64_t)64 << 10)
#define PENDING_MAX 64 /* lines left by those who have not said hello yet; the oldest go */

struct ring { /* one way; all of it is shared */
    _Alignas(64) atomic_uint_fast64_t written; /* bytes ever; by who sends */
    atomic_uint sender_waits;                  /* for room; cleared by who rings for it */
    atomic_uint sender_processor;              /* where it ran when it sent last */
    _Alignas(64) atomic_uint_fast64_t read;    /* bytes ever; by who receives */
    atomic_uint receiver_sleeps;               /* cleared by who rings */
    _Alignas(64) uint8_t bytes[RING_BYTES];
};

struct shared {
    atomic_uint taken_up;
    struct ring rings[2]; /* [0]: from who left it */
};

struct tessi_line {
    struct shared *shared;
    struct ring *out, *in;
    uint64_t written, read; /* our own counts are not read back from memory that others can write */
    int bell;               /* of the other end; -1: not known yet */
    int post;               /* connection to the other's post, until the bell has come over it; -1 */
    bool is_broken;
    uint8_t message[TESSI_LINE_HEADER_MAX + TESSI_LINE_PAYLOAD_MAX]; /* received, out of the other's reach */
};

struct hail { /* what comes with a line */
    char magic[8];
    uint64_t nonce;
    uint32_t id;
    uint32_t spare;
};

struct pending {
    struct hail hail;
    int connection, memory, bell;
};

struct tessi_line_post {
    int listener;
    int bell;
    struct pending pending[PENDING_MAX];
    size_t pending_count;
};

static const char hail_magic[8] = "TESSLIN1";

/* ——— the post ——— */

static void close_one(int *descriptor)
{
    if (*descriptor >= 0) {
        (void)close(*descriptor);
        *descriptor = -1;
    }
}

enum tessi_status tessi_line_post_open(const char *address, struct tessi_line_post **out, struct tessi_error *error)
{
    struct sockaddr_un name;
    socklen_t size = tessi_local_name("line", address, &name);
    struct tessi_line_post *post = tessi_zalloc(sizeof *post);
    post->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    post->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (post->bell >= 0 && post->listener >= 0 && bind(post->listener, (struct sockaddr *)&name, size) == 0 &&
        listen(post->listener, PENDING_MAX) == 0) {
        *out = post;
        return TESSI_OK;
    }
    enum tessi_status status =
        tessi_fail(error, TESSI_IO, "lines to the workers of this host: %s", strerror(errno));
    tessi_line_post_close(post);
    *out = NULL;
    return status;
}

static void pending_close(struct pending *pending)
{
    close_one(&pending->connection);
    close_one(&pending->memory);
    close_one(&pending->bell);
}

void tessi_line_post_close(struct tessi_line_post *post)
{
    if (post == NULL) {
        return;
    }
    for (size_t i = 0; i < post->pending_count; i++) {
        pending_close(&post->pending[i]);
    }
    close_one(&post->listener);
    close_one(&post->bell);
    tessi_free(post);
}

int tessi_line_post_bell(const struct tessi_line_post *post)
{
    return post->bell;
}

void tessi_line_post_answer_bell(struct tessi_line_post *post)
{
    uint64_t count;
    (void)!read(post->bell, &count, sizeof count);
}

/* A hail with exactly `count` descriptors, or nothing. */
static bool hail_receive(int connection, struct hail *hail, int *descriptors, size_t count)
{
    ssize_t n = tessi_local_receive(connection, hail, sizeof *hail, MSG_DONTWAIT, descriptors, count);
    if (n == (ssize_t)sizeof *hail && memcmp(hail->magic, hail_magic, sizeof hail_magic) == 0 && descriptors[0] >= 0) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        close_one(&descriptors[i]);
    }
    return false;
}

/* ——— a line ——— */

static struct shared *map(int memory)
{
    struct stat info;
    int seals = fcntl(memory, F_GET_SEALS);
    if (fstat(memory, &info) != 0 || info.st_size != (off_t)sizeof(struct shared) || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0) {
        return NULL;
    }
    void *base = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    return base == MAP_FAILED ? NULL : base;
}

static struct tessi_line *line_over(int memory, unsigned own_ring)
{
    struct shared *shared = map(memory);
    if (shared == NULL) {
        return NULL;
    }
    struct tessi_line *line = tessi_zalloc(sizeof *line);
    line->shared = shared;
    line->out = &shared->rings[own_ring];
    line->in = &shared->rings[1 - own_ring];
    line->bell = line->post = -1;
    return line;
}

struct tessi_line *tessi_line_leave(struct tessi_line_post *post, const char *address, uint32_t id, uint64_t nonce)
{
    struct tessi_line *line = NULL;
    struct sockaddr_un name;
    socklen_t size = tessi_local_name("line", address, &name);
    int memory = memfd_create("tessera-line", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct hail hail = {.nonce = nonce, .id = id};
    memcpy(hail.magic, hail_magic, sizeof hail_magic);
    const int gifts[2] = {memory, post->bell};
    if (memory >= 0 && connection >= 0 && posix_fallocate(memory, 0, (off_t)sizeof(struct shared)) == 0 &&
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 &&
        connect(connection, (struct sockaddr *)&name, size) == 0 && tessi_local_same_user(connection) &&
        tessi_local_send(connection, &hail, sizeof hail, gifts, 2)) {
        line = line_over(memory, 0);
    }
    if (line != NULL) {
        line->post = connection;
        connection = -1;
    }
    close_one(&connection);
    close_one(&memory);
    return line;
}

bool tessi_line_settle(struct tessi_line *line)
{
    struct hail hail;
    bool taken = atomic_load(&line->shared->taken_up) != 0 && hail_receive(line->post, &hail, &line->bell, 1);
    close_one(&line->post);
    return taken;
}

static void pending_remove(struct tessi_line_post *post, size_t at)
{
    post->pending_count--;
    memmove(&post->pending[at], &post->pending[at + 1], (post->pending_count - at) * sizeof post->pending[0]);
}

/* Whatever has been left at the post so far. */
static void collect(struct tessi_line_post *post)
{
    int connection;
    while ((connection = accept4(post->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct pending pending = {.connection = connection, .memory = -1, .bell = -1};
        int gifts[2];
        if (!tessi_local_same_user(connection) || !hail_receive(connection, &pending.hail, gifts, 2)) {
            pending_close(&pending);
            continue;
        }
        pending.memory = gifts[0];
        pending.bell = gifts[1];
        if (post->pending_count == PENDING_MAX) {
            pending_close(&post->pending[0]);
            pending_remove(post, 0);
        }
        post->pending[post->pending_count++] = pending;
    }
}

static struct tessi_line *take_up(struct tessi_line_post *post, struct pending *pending)
{
    struct tessi_line *line = line_over(pending->memory, 1);
    if (line == NULL || !tessi_local_send(pending->connection, &pending->hail, sizeof pending->hail, &post->bell, 1)) {
        tessi_line_close(line);
        return NULL;
    }
    line->bell = pending->bell;
    pending->bell = -1;
    atomic_store(&line->shared->taken_up, 1);
    return line;
}

struct tessi_line *tessi_line_take(struct tessi_line_post *post, uint32_t id, uint64_t nonce)
{
    struct tessi_line *line = NULL;
    collect(post);
    /* The newest one of this peer counts; older ones are of connections that came to nothing. */
    for (size_t i = post->pending_count; i-- > 0;) {
        struct pending *pending = &post->pending[i];
        if (pending->hail.id == id && pending->hail.nonce == nonce) {
            line = line == NULL ? take_up(post, pending) : line;
            pending_close(pending);
            pending_remove(post, i);
        }
    }
    return line;
}

void tessi_line_close(struct tessi_line *line)
{
    if (line != NULL) {
        close_one(&line->bell);
        close_one(&line->post);
        (void)munmap(line->shared, sizeof *line->shared);
        tessi_free(line);
    }
}

/* ——— messages ——— */

static void ring_bell(const struct tessi_line *line)
{
    uint64_t one = 1;
    (void)!write(line->bell, &one, sizeof one); /* EAGAIN: it rings already */
}

static uint64_t padded(uint64_t size)
{
    return (size + 7) & ~UINT64_C(7);
}

static void put(struct tessi_line *line, uint64_t at, const void *from, size_t size)
{
    uint64_t place = at % RING_BYTES, first = RING_BYTES - place < size ? RING_BYTES - place : size;
    memcpy(line->out->bytes + place, from, first);
    memcpy(line->out->bytes, (const uint8_t *)from + first, size - first);
}

static void get(const struct tessi_line *line, uint64_t at, void *to, size_t size)
{
    uint64_t place = at % RING_BYTES, first = RING_BYTES - place < size ? RING_BYTES - place : size;
    memcpy(to, line->in->bytes + place, first);
    memcpy((uint8_t *)to + first, line->in->bytes, size - first);
}

static bool has_room(struct tessi_line *line, uint64_t need)
{
    uint64_t used = line->written - atomic_load(&line->out->read);
    if (used > RING_BYTES) {
        line->is_broken = true;
        return false;
    }
    return RING_BYTES - used >= need;
}

bool tessi_line_send(struct tessi_line *line, const struct tessi_line_message *message)
{
    TESS_ASSERT(message->header_size <= TESSI_LINE_HEADER_MAX && message->payload_size <= TESSI_LINE_PAYLOAD_MAX);
    uint32_t sizes[2] = {(uint32_t)message->header_size, (uint32_t)message->payload_size + (message->payload != NULL)};
    uint64_t need = padded(sizeof sizes + message->header_size + message->payload_size);
    if (line->is_broken) {
        return false;
    }
    if (!has_room(line, need)) {
        atomic_store(&line->out->sender_waits, 1);
        /* The other end may have read between the two looks, and found nobody waiting. */
        if (!has_room(line, need)) {
            return false;
        }
        atomic_store(&line->out->sender_waits, 0);
    }
    put(line, line->written, sizes, sizeof sizes);
    put(line, line->written + sizeof sizes, message->header, message->header_size);
    if (message->payload_size > 0) {
        put(line, line->written + sizeof sizes + message->header_size, message->payload, message->payload_size);
    }
    line->written += need;
    int processor = sched_getcpu();
    atomic_store_explicit(&line->out->sender_processor, (unsigned)processor, memory_order_relaxed);
    atomic_store(&line->out->written, line->written);
    if (atomic_load(&line->out->receiver_sleeps) != 0 && atomic_exchange(&line->out->receiver_sleeps, 0) != 0) {
        ring_bell(line);
    }
    return true;
}

bool tessi_line_receive(struct tessi_line *line, struct tessi_line_message *message)
{
    uint32_t sizes[2];
    if (atomic_load_explicit(&line->in->receiver_sleeps, memory_order_relaxed) != 0) {
        atomic_store_explicit(&line->in->receiver_sleeps, 0, memory_order_relaxed);
    }
    uint64_t there = atomic_load(&line->in->written) - line->read;
    if (there == 0 || line->is_broken) {
        return false;
    }
    line->is_broken = there > RING_BYTES || there < sizeof sizes;
    if (!line->is_broken) {
        get(line, line->read, sizes, sizeof sizes);
        bool has_payload = sizes[1] > 0;
        sizes[1] -= has_payload ? 1 : 0;
        line->is_broken = sizes[0] > TESSI_LINE_HEADER_MAX || sizes[1] > TESSI_LINE_PAYLOAD_MAX ||
                          padded(sizeof sizes + sizes[0] + sizes[1]) > there;
        *message = (struct tessi_line_message){line->message, has_payload ? line->message + sizes[0] : NULL, sizes[0],
                                             sizes[1]};
    }
    if (line->is_broken) {
        return false;
    }
    get(line, line->read + sizeof sizes, line->message, sizes[0] + sizes[1]);
    line->read += padded(sizeof sizes + sizes[0] + sizes[1]);
    atomic_store(&line->in->read, line->read);
    if (atomic_load(&line->in->sender_waits) != 0 && line->bell >= 0 &&
        atomic_exchange(&line->in->sender_waits, 0) != 0) {
        ring_bell(line);
    }
    return true;
}

bool tessi_line_broken(const struct tessi_line *line)
{
    return line->is_broken;
}

bool tessi_line_shares_processor(const struct tessi_line *line)
{
    int processor = sched_getcpu();
    return processor >= 0 &&
           atomic_load_explicit(&line->in->sender_processor, memory_order_relaxed) == (unsigned)processor;
}

bool tessi_line_calls(const struct tessi_line *line)
{
    return !line->is_broken && atomic_load(&line->in->written) != line->read;
}

void tessi_line_sleep(struct tessi_line *line)
{
    atomic_store(&line->in->receiver_sleeps, 1);
}
