#include "worker/store/spill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/digest.h"

#define PREFIX "tessera-spill-"      /* a directory that is locked while its owner lives */
#define NEW_PREFIX "tessera-making-" /* one that its owner has not locked yet */
#define LOCK_NAME "lock"

enum {
    TMPFS = 0x01021994,
    ABANDONED_SECONDS = 600, /* making a directory takes no longer */
    HEAD_ALIGNMENT = 4096,
};

static const char magic[8] = "TESSPIL1";

/* The fixed part of a file's head; the digests of the pieces follow it. */
struct head {
    char magic[8];
    uint64_t bytes;
    uint64_t pieces;
    uint64_t digest; /* of the fields before it and of the piece digests */
};

enum job_kind { JOB_WRITE, JOB_READ, JOB_REMOVE, JOB_CALL };

struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t file;
    uint64_t total, offset, bytes;
    const void *from;
    void *to;
    tessi_spill_work_fn *work;
    tessi_spill_done_fn *done;
    void *context;
};

struct tessi_spill {
    char *base; /* what the user named */
    char *path;
    int dir_fd;
    int lock_fd;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    pthread_cond_t idle;
    struct job *first, **last;
    bool running; /* a job is with the thread */
    bool ending;
};

/* ——— files ——— */

/* Somebody has removed our directory, and all files with it: make it again. False with errno: that is not so, or cannot
 * be done. */
static bool directory_renew(struct tessi_spill *spill);

static uint64_t piece_count(uint64_t bytes)
{
    return bytes / TESSI_SPILL_PIECE_BYTES + (bytes % TESSI_SPILL_PIECE_BYTES != 0);
}

static uint64_t head_bytes(uint64_t pieces)
{
    uint64_t bytes = sizeof(struct head) + pieces * sizeof(uint64_t);
    return (bytes + HEAD_ALIGNMENT - 1) / HEAD_ALIGNMENT * HEAD_ALIGNMENT;
}

static uint64_t head_digest(const struct head *head, const uint64_t *digests)
{
    struct tessi_digest *digest = tessi_digest_create();
    tessi_digest_update(digest, head, offsetof(struct head, digest));
    tessi_digest_update(digest, digests, head->pieces * sizeof *digests);
    uint64_t value = tessi_digest_value(digest);
    tessi_digest_destroy(digest);
    return value;
}

static void file_name(uint64_t file, char name[32])
{
    (void)snprintf(name, 32, "%" PRIu64 ".block", file);
}

static enum tessi_status fail_file(const struct tessi_spill *spill, uint64_t file, const char *what,
                                   struct tessi_error *error)
{
    bool full = errno == ENOSPC || errno == EDQUOT;
    return tessi_fail(error,
                      full              ? TESSI_TOO_BIG
                      : errno == ENOENT ? TESSI_NOT_FOUND
                                        : TESSI_IO,
                      "spill file %s/%" PRIu64 ".block: cannot %s it: %s%s", spill->path, file, what, strerror(errno),
                      full ? "; free space there or choose another --spill DIR" : "; choose another --spill DIR");
}

static bool write_all(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        ssize_t n = pwrite(fd, at, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        at += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return true;
}

/* False with errno 0: the file ends before. */
static bool read_all(int fd, void *data, uint64_t bytes, uint64_t offset)
{
    uint8_t *at = data;
    while (bytes > 0) {
        ssize_t n = pread(fd, at, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            return false;
        }
        at += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return true;
}

static int file_open(const struct tessi_spill *spill, const char *name, int flags)
{
    if (spill->dir_fd < 0) { /* it has gone, and could not be made again */
        errno = ENOENT;
        return -1;
    }
    return openat(spill->dir_fd, name, flags, 0600);
}

static enum tessi_status write_file(struct tessi_spill *spill, const struct job *job, struct tessi_error *error)
{
    if (spill->path == NULL) {
        return tessi_fail(error, TESSI_UNSUPPORTED, "spilling is off, since there is no spill directory");
    }
    enum tessi_status status = TESSI_OK;
    char name[32];
    file_name(job->file, name);
    struct head head = {.bytes = job->bytes, .pieces = piece_count(job->bytes)};
    memcpy(head.magic, magic, sizeof magic);
    uint64_t start = head_bytes(head.pieces);
    uint64_t *digests = tessi_alloc((size_t)(head.pieces + 1) * sizeof *digests);
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int fd = file_open(spill, name, flags);
    if (fd < 0 && errno == ENOENT && directory_renew(spill)) {
        fd = file_open(spill, name, flags);
    }
    if (fd < 0) {
        status = fail_file(spill, job->file, "create", error);
        goto cleanup;
    }
    /* Asking for the space first finds a full disk before the work; not every file system can. */
    if (fallocate(fd, 0, 0, (off_t)(start + job->bytes)) != 0 && (errno == ENOSPC || errno == EDQUOT)) {
        status = fail_file(spill, job->file, "write", error);
        goto cleanup;
    }
    for (uint64_t piece = 0; piece < head.pieces; piece++) {
        uint64_t offset = piece * TESSI_SPILL_PIECE_BYTES;
        uint64_t bytes = job->bytes - offset < TESSI_SPILL_PIECE_BYTES ? job->bytes - offset : TESSI_SPILL_PIECE_BYTES;
        const uint8_t *data = (const uint8_t *)job->from + offset;
        digests[piece] = tessi_digest_bytes(data, bytes);
        if (!write_all(fd, data, bytes, start + offset)) {
            status = fail_file(spill, job->file, "write", error);
            goto cleanup;
        }
    }
    head.digest = head_digest(&head, digests);
    if (!write_all(fd, &head, sizeof head, 0) || !write_all(fd, digests, head.pieces * sizeof *digests, sizeof head)) {
        status = fail_file(spill, job->file, "write", error);
    }
cleanup:
    if (fd >= 0 && close(fd) != 0 && status == TESSI_OK) {
        status = fail_file(spill, job->file, "write", error);
    }
    if (status != TESSI_OK) {
        (void)unlinkat(spill->dir_fd, name, 0);
    }
    tessi_free(digests);
    return status;
}

static enum tessi_status fail_damaged(const struct tessi_spill *spill, const struct job *job, const char *what,
                                      struct tessi_error *error)
{
    if (errno != 0) {
        return fail_file(spill, job->file, "read", error);
    }
    return tessi_fail(error, TESSI_FORMAT,
                      "spill file %s/%" PRIu64 ".block is damaged (%s); the block is computed again", spill->path,
                      job->file, what);
}

static enum tessi_status read_file(struct tessi_spill *spill, const struct job *job, struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    char name[32];
    file_name(job->file, name);
    struct head head;
    uint64_t pieces = piece_count(job->total);
    uint64_t start = head_bytes(pieces);
    uint64_t *digests = tessi_alloc((size_t)(pieces + 1) * sizeof *digests);
    int fd = file_open(spill, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        status = fail_file(spill, job->file, "open", error);
        goto cleanup;
    }
    if (!read_all(fd, &head, sizeof head, 0)) {
        status = fail_damaged(spill, job, "its head is cut", error);
        goto cleanup;
    }
    errno = 0;
    if (memcmp(head.magic, magic, sizeof magic) != 0 || head.bytes != job->total || head.pieces != pieces) {
        status = fail_damaged(spill, job, "its head is another's", error);
        goto cleanup;
    }
    if (!read_all(fd, digests, pieces * sizeof *digests, sizeof head)) {
        status = fail_damaged(spill, job, "its head is cut", error);
        goto cleanup;
    }
    errno = 0;
    if (head_digest(&head, digests) != head.digest) {
        status = fail_damaged(spill, job, "its head does not match its checksum", error);
        goto cleanup;
    }
    for (uint64_t at = 0; at < job->bytes; at += TESSI_SPILL_PIECE_BYTES) {
        uint64_t bytes = job->bytes - at < TESSI_SPILL_PIECE_BYTES ? job->bytes - at : TESSI_SPILL_PIECE_BYTES;
        uint8_t *data = (uint8_t *)job->to + at;
        if (!read_all(fd, data, bytes, start + job->offset + at)) {
            status = fail_damaged(spill, job, "it is cut", error);
            goto cleanup;
        }
        errno = 0;
        if (tessi_digest_bytes(data, bytes) != digests[(job->offset + at) / TESSI_SPILL_PIECE_BYTES]) {
            status = fail_damaged(spill, job, "it does not match its checksum", error);
            goto cleanup;
        }
    }
cleanup:
    if (fd >= 0) {
        (void)close(fd);
    }
    tessi_free(digests);
    return status;
}

/* ——— the thread ——— */

static void job_run(struct tessi_spill *spill, struct job *job)
{
    struct tessi_error error = {TESSI_OK, ""};
    enum tessi_status status = TESSI_OK;
    char name[32];
    switch (job->kind) {
    case JOB_WRITE:
        status = write_file(spill, job, &error);
        break;
    case JOB_READ:
        status = read_file(spill, job, &error);
        break;
    case JOB_REMOVE:
        file_name(job->file, name);
        if (spill->path != NULL) {
            (void)unlinkat(spill->dir_fd, name, 0);
        }
        break;
    case JOB_CALL:
        status = job->work(job->context, &error);
        break;
    }
    if (job->done != NULL) {
        job->done(job->context, status, &error);
    }
    tessi_free(job);
}

static void *spill_thread(void *argument)
{
    struct tessi_spill *spill = argument;
    (void)pthread_mutex_lock(&spill->mutex);
    for (;;) {
        while (spill->first == NULL && !spill->ending) {
            (void)pthread_cond_wait(&spill->wanted, &spill->mutex);
        }
        struct job *job = spill->first;
        if (job == NULL) {
            break;
        }
        spill->first = job->next;
        if (spill->first == NULL) {
            spill->last = &spill->first;
        }
        spill->running = true;
        (void)pthread_mutex_unlock(&spill->mutex);
        job_run(spill, job);
        (void)pthread_mutex_lock(&spill->mutex);
        spill->running = false;
        if (spill->first == NULL) {
            (void)pthread_cond_broadcast(&spill->idle);
        }
    }
    (void)pthread_mutex_unlock(&spill->mutex);
    return NULL;
}

static void job_add(struct tessi_spill *spill, struct job job)
{
    struct job *copy = tessi_memdup(&job, sizeof job);
    copy->next = NULL;
    (void)pthread_mutex_lock(&spill->mutex);
    *spill->last = copy;
    spill->last = &copy->next;
    (void)pthread_cond_signal(&spill->wanted);
    (void)pthread_mutex_unlock(&spill->mutex);
}

/* ——— directories ——— */

/* Remove the plain files of a directory and the directory itself. */
static bool directory_remove(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    (void)closedir(dir);
    return unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

/* Whether the directory's owner is gone. */
static bool directory_is_dead(int parent, const char *name)
{
    struct stat info;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
        return false;
    }
    if (strncmp(name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0) {
        return time(NULL) - info.st_mtime > ABANDONED_SECONDS;
    }
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) {
        return false;
    }
    char path[NAME_MAX + sizeof "/" LOCK_NAME];
    (void)snprintf(path, sizeof path, "%s/" LOCK_NAME, name);
    int fd = openat(parent, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT; /* someone has begun to remove it, and may have died of it */
    }
    bool dead = flock(fd, LOCK_EX | LOCK_NB) == 0;
    (void)close(fd);
    return dead;
}

uint32_t tessi_spill_sweep(const char *path)
{
    uint32_t removed = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "tessera-", 8) == 0 && directory_is_dead(dirfd(dir), entry->d_name) &&
            directory_remove(dirfd(dir), entry->d_name)) {
            removed++;
        }
    }
    (void)closedir(dir);
    return removed;
}

/* Make the directory and lock it, then give it its name. */
static enum tessi_status directory_make(struct tessi_spill *spill, struct tessi_error *error)
{
    const char *own = spill->path + strlen(spill->base) + 1 + strlen(PREFIX);
    size_t size = strlen(spill->path) + sizeof NEW_PREFIX;
    char *making = tessi_alloc(size);
    (void)snprintf(making, size, "%s/" NEW_PREFIX "%s", spill->base, own);
    bool made = mkdir(making, 0700) == 0;
    if (made) {
        spill->dir_fd = open(making, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (spill->dir_fd >= 0) {
        spill->lock_fd = openat(spill->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    bool ready =
        spill->lock_fd >= 0 && flock(spill->lock_fd, LOCK_EX | LOCK_NB) == 0 && rename(making, spill->path) == 0;
    enum tessi_status status = TESSI_OK;
    if (!ready) {
        int why = errno;
        status = tessi_fail(error, TESSI_IO, "spill directory %s: cannot use it: %s; choose another --spill DIR",
                            spill->base, strerror(why));
        if (made) {
            (void)directory_remove(AT_FDCWD, making);
        }
        errno = why;
    }
    tessi_free(making);
    return status;
}

static enum tessi_status directory_create(struct tessi_spill *spill, const char *dir, struct tessi_error *error)
{
    uint64_t number = 0;
    /* Without entropy the process id alone tells directories of living processes apart. */
    (void)!getrandom(&number, sizeof number, GRND_NONBLOCK);
    size_t size = strlen(dir) + 80;
    spill->base = tessi_strdup(dir);
    spill->path = tessi_alloc(size);
    (void)snprintf(spill->path, size, "%s/" PREFIX "%ld-%016" PRIx64, dir, (long)getpid(), number);
    return directory_make(spill, error);
}

static void directory_close(struct tessi_spill *spill)
{
    if (spill->dir_fd >= 0) {
        (void)close(spill->dir_fd);
    }
    if (spill->lock_fd >= 0) {
        (void)close(spill->lock_fd);
    }
    spill->dir_fd = spill->lock_fd = -1;
}

static bool directory_renew(struct tessi_spill *spill)
{
    struct stat info;
    if (spill->dir_fd >= 0 && (fstat(spill->dir_fd, &info) != 0 || info.st_nlink > 0)) {
        errno = ENOENT;
        return false;
    }
    directory_close(spill);
    (void)mkdir(spill->base, 0700); /* it may have gone too */
    struct tessi_error error;
    bool made = directory_make(spill, &error) == TESSI_OK;
    if (!made) {
        int why = errno;
        directory_close(spill);
        errno = why;
    }
    return made;
}

enum tessi_status tessi_spill_create(const char *dir, struct tessi_spill **out, struct tessi_error *error)
{
    *out = NULL;
    struct tessi_spill *spill = tessi_zalloc(sizeof *spill);
    spill->dir_fd = spill->lock_fd = -1;
    spill->last = &spill->first;
    (void)pthread_mutex_init(&spill->mutex, NULL);
    (void)pthread_cond_init(&spill->wanted, NULL);
    (void)pthread_cond_init(&spill->idle, NULL);
    enum tessi_status status = TESSI_OK;
    if (dir != NULL) {
        (void)tessi_spill_sweep(dir);
        status = directory_create(spill, dir, error);
    }
    if (status == TESSI_OK) {
        int rc = pthread_create(&spill->thread, NULL, spill_thread, spill);
        if (rc == 0) {
            *out = spill;
            return TESSI_OK;
        }
        status = tessi_fail(error, TESSI_IO, "spill thread: cannot start it: %s", strerror(rc));
        if (dir != NULL) {
            (void)directory_remove(AT_FDCWD, spill->path);
        }
    }
    directory_close(spill);
    tessi_free(spill->base);
    tessi_free(spill->path);
    tessi_free(spill);
    return status;
}

void tessi_spill_destroy(struct tessi_spill *spill)
{
    if (spill == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&spill->mutex);
    spill->ending = true;
    (void)pthread_cond_signal(&spill->wanted);
    (void)pthread_mutex_unlock(&spill->mutex);
    (void)pthread_join(spill->thread, NULL);
    TESS_ASSERT(spill->first == NULL);
    if (spill->path != NULL) {
        (void)directory_remove(AT_FDCWD, spill->path);
        directory_close(spill);
    }
    (void)pthread_mutex_destroy(&spill->mutex);
    (void)pthread_cond_destroy(&spill->wanted);
    (void)pthread_cond_destroy(&spill->idle);
    tessi_free(spill->base);
    tessi_free(spill->path);
    tessi_free(spill);
}

void tessi_spill_write(struct tessi_spill *spill, uint64_t file, const void *data, uint64_t bytes,
                       tessi_spill_done_fn *done, void *context)
{
    job_add(
        spill,
        (struct job){.kind = JOB_WRITE, .file = file, .from = data, .bytes = bytes, .done = done, .context = context});
}

void tessi_spill_read(struct tessi_spill *spill, uint64_t file, uint64_t total, uint64_t offset, void *data,
                      uint64_t bytes, tessi_spill_done_fn *done, void *context)
{
    TESS_ASSERT(offset % TESSI_SPILL_PIECE_BYTES == 0 && offset <= total && bytes <= total - offset);
    TESS_ASSERT(bytes % TESSI_SPILL_PIECE_BYTES == 0 || offset + bytes == total);
    job_add(spill, (struct job){.kind = JOB_READ,
                                .file = file,
                                .total = total,
                                .offset = offset,
                                .to = data,
                                .bytes = bytes,
                                .done = done,
                                .context = context});
}

void tessi_spill_remove(struct tessi_spill *spill, uint64_t file)
{
    job_add(spill, (struct job){.kind = JOB_REMOVE, .file = file});
}

void tessi_spill_call(struct tessi_spill *spill, tessi_spill_work_fn *work, tessi_spill_done_fn *done, void *context)
{
    job_add(spill, (struct job){.kind = JOB_CALL, .work = work, .done = done, .context = context});
}

void tessi_spill_drain(struct tessi_spill *spill)
{
    (void)pthread_mutex_lock(&spill->mutex);
    while (spill->first != NULL || spill->running) {
        (void)pthread_cond_wait(&spill->idle, &spill->mutex);
    }
    (void)pthread_mutex_unlock(&spill->mutex);
}

const char *tessi_spill_path(const struct tessi_spill *spill)
{
    return spill->path;
}

uint64_t tessi_spill_free_bytes(const char *dir, bool *in_memory)
{
    struct statfs info;
    *in_memory = false;
    if (statfs(dir, &info) != 0) {
        return 0;
    }
    *in_memory = info.f_type == TMPFS;
    return (uint64_t)info.f_bavail * (uint64_t)info.f_bsize;
}
